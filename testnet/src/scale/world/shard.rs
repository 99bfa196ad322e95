//! A part of the nodes, which one thread lets happen what happens to them.
//!
//! A link takes at least [`LEAST_LATENCY`](super::LEAST_LATENCY). So what happens within a span of that length at one node cannot matter to another one within it, and
//! parts of the nodes go through it side by side. What they cause is put in one order afterwards that does not depend on how the nodes are
//! divided: the same seed gives the same trace on any number of threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use overlay::Overlay;
use overlay::event::Event;
use overlay::id::{Identity, NodeId};
use overlay::io::{Command, Lane, LinkId, Transmit};
use overlay::time::{Instant, Now};
use overlay::wire::link::{Frame, Heartbeat};
use overlay::wire::packet::{Header, Kind};

use super::agenda::{Agenda, Happening};

/// Room of a lane: more than a run sends.
const ROOM_BYTES: usize = 1 << 50;

/// What a node does to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conduct {
    /// Its part.
    #[default]
    Honest,
    /// It passes nothing on.
    Blackhole,
    /// It does not answer for the records that it keeps.
    SilentBinder,
    /// It says that it keeps what it is given, throws it away, and answers that there is no such record.
    LyingBinder,
    /// It says that everybody is below it, so that records and their seekers come, and passes nothing on.
    MaliciousParent,
}

/// The size of its subtrees that a malicious parent tells.
const CLAIMED_SIZE: u32 = 1 << 30;

impl Conduct {
    /// What becomes of a frame that the honest code of `own` would send; none when it does not go.
    fn sent(self, frame: Vec<u8>, own: &NodeId) -> Option<Vec<u8>> {
        if self == Self::Honest || self == Self::LyingBinder {
            return Some(frame);
        }
        let Ok((Header { src, kind, .. }, _)) = Header::decode(&frame) else {
            return Some(if self == Self::MaliciousParent { boasting(frame) } else { frame });
        };
        let goes = match self {
            Self::Honest | Self::LyingBinder => true,
            Self::Blackhole | Self::MaliciousParent => src == *own,
            Self::SilentBinder => src != *own || kind != Kind::DhtReply,
        };
        goes.then_some(frame)
    }
}

/// A heartbeat that tells of more than there is.
fn boasting(frame: Vec<u8>) -> Vec<u8> {
    match Frame::decode(&frame) {
        Ok(Frame::Heartbeat(heartbeat)) => {
            Frame::Heartbeat(Heartbeat { sizes: heartbeat.sizes.map(|_| CLAIMED_SIZE), ..heartbeat }).encode()
        }
        _ => frame,
    }
}

/// One node.
pub struct Node {
    /// Its protocol; none while it is dead.
    pub overlay: Option<Overlay>,
    /// Who it is.
    pub id: NodeId,
    /// What it does to others.
    pub conduct: Conduct,
    /// How often it has started.
    pub(super) starts: u32,
    pub(super) identity: Identity,
    /// When its next timer is due, as an agenda has it.
    armed: Option<Instant>,
    /// What it has caused so far.
    caused: u64,
}

impl Node {
    pub(super) fn new(identity: Identity) -> Self {
        Self { overlay: None, id: identity.id(), conduct: Conduct::Honest, starts: 0, identity, armed: None, caused: 0 }
    }

    pub(super) fn die(&mut self) {
        self.overlay = None;
        self.armed = None;
    }
}

/// One end of a link.
pub struct End {
    pub(super) node: usize,
    /// Who is at the other end.
    pub(super) peer: NodeId,
    pub(super) other: u64,
    pub(super) latency: Duration,
    pub(super) open: AtomicBool,
}

impl End {
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether it was open.
    pub(super) fn close(&self) -> bool {
        self.open.swap(false, Ordering::Relaxed)
    }
}

/// What a node causes elsewhere or later: when and by whom it was caused, and the how manieth thing of that node it is.
pub struct Outcome {
    by: (Instant, usize, u64),
    pub(super) what: Effect,
}

/// What it is.
pub enum Effect {
    /// This happens.
    Happens(Instant, Happening),
    /// A fact that the node told.
    Told(usize, Event),
}

/// Some of the nodes: those whose number is `index` modulo `of`.
pub struct Shard {
    index: usize,
    of: usize,
    nodes: Vec<Node>,
    /// What happens to them in the span.
    agenda: Agenda,
    /// What they caused.
    outcomes: Vec<Outcome>,
}

impl Shard {
    /// Number `index` of `of`, with room for its part of `nodes`.
    pub(super) fn new(index: usize, of: usize, nodes: usize) -> Self {
        Self {
            index,
            of,
            nodes: Vec::with_capacity(nodes.div_ceil(of)),
            agenda: Agenda::default(),
            outcomes: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, node: Node) {
        self.nodes.push(node);
    }

    pub(super) fn node(&self, number: usize) -> &Node {
        &self.nodes[number / self.of]
    }

    pub(super) fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number / self.of]
    }

    pub(super) fn happens(&mut self, at: Instant, what: Happening) {
        self.agenda.push(at, what);
    }

    pub(super) fn take_outcomes(&mut self, all: &mut Vec<Outcome>) {
        all.append(&mut self.outcomes);
    }

    /// Lets everything happen that does by the end of the span.
    pub(super) fn run(&mut self, ends: &[End], clock: Now, until: Instant) {
        while let Some(entry) = self.agenda.pop_until(until) {
            let now = clock.after(entry.at.since(clock.instant));
            self.happen(entry.what, entry.at, ends, now, until);
        }
    }

    fn happen(&mut self, what: Happening, due: Instant, ends: &[End], now: Now, until: Instant) {
        let node = match &what {
            Happening::Timer(node) => *node,
            Happening::DialFailed { from, .. } => *from,
            Happening::Up { link, .. } | Happening::Down { link } | Happening::Frame { link, .. } => {
                ends[at(*link)].node
            }
            Happening::Start(_) | Happening::Dialled { .. } => return,
        };
        debug_assert_eq!(node % self.of, self.index, "another shard's node");
        let Some(overlay) = self.nodes[node / self.of].overlay.as_mut() else { return };
        match what {
            Happening::Timer(_) => {
                let armed = &mut self.nodes[node / self.of].armed;
                // An earlier one was set since, or what was set was held back for a while.
                if armed.is_none_or(|armed| armed > due) {
                    return;
                }
                *armed = None;
                let Some(overlay) = self.nodes[node / self.of].overlay.as_mut() else { return };
                overlay.handle_timeout(now);
            }
            Happening::DialFailed { address, .. } => overlay.handle_dial_failed(&address, now),
            Happening::Up { link, remote, initiator } => {
                let end = &ends[at(link)];
                if !end.is_open() {
                    return;
                }
                let peer = end.peer;
                overlay.handle_link_up(LinkId(link), peer, remote, initiator, now);
                for lane in [Lane::Control, Lane::Data] {
                    overlay.handle_link_room(LinkId(link), lane, ROOM_BYTES, now);
                }
            }
            Happening::Down { link } => {
                if !ends[at(link)].close() {
                    return;
                }
                overlay.handle_link_down(LinkId(link), now);
            }
            Happening::Frame { link, lane, bytes } => {
                if !ends[at(link)].is_open() {
                    return;
                }
                // What a node says of a bad frame is in its counters.
                let _ = overlay.handle_frame(LinkId(link), lane, bytes, now);
            }
            Happening::Start(_) | Happening::Dialled { .. } => {}
        }
        let node_at = node / self.of;
        if self.nodes[node_at].conduct == Conduct::LyingBinder
            && let Some(overlay) = self.nodes[node_at].overlay.as_mut()
        {
            overlay.forget_records();
        }
        self.drain(node, ends, now, until);
    }

    /// Does what the node wants, until it wants nothing more.
    pub(super) fn drain(&mut self, number: usize, ends: &[End], now: Now, until: Instant) {
        loop {
            let Some(overlay) = self.nodes[number / self.of].overlay.as_mut() else { return };
            if let Some(Transmit { link, lane, bytes }) = overlay.poll_transmit() {
                let end = &ends[at(link.0)];
                let arrival = now.instant + end.latency;
                let node = &self.nodes[number / self.of];
                if let Some(bytes) = node.conduct.sent(bytes, &node.id) {
                    let frame = Happening::Frame { link: end.other, lane, bytes };
                    self.cause(number, now, Effect::Happens(arrival, frame));
                }
            } else if let Some(event) = overlay.poll_event() {
                self.cause(number, now, Effect::Told(number, event));
            } else if let Some(command) = overlay.poll_command() {
                match command {
                    Command::Dial(address) => {
                        let at = now.instant + super::LEAST_LATENCY;
                        self.cause(number, now, Effect::Happens(at, Happening::Dialled { from: number, address }));
                    }
                    Command::Close(link, _) => {
                        let end = &ends[at(link.0)];
                        let (there, arrival) = (end.other, now.instant + end.latency);
                        self.cause_here(number, now, now.instant, until, Happening::Down { link: link.0 });
                        self.cause(number, now, Effect::Happens(arrival, Happening::Down { link: there }));
                    }
                    Command::Persist { key, .. } => overlay.handle_persisted(&key, now),
                }
            } else {
                break;
            }
        }
        self.arm(number, now, until);
    }

    fn arm(&mut self, number: usize, now: Now, until: Instant) {
        let node = &mut self.nodes[number / self.of];
        let due = node.overlay.as_ref().and_then(Overlay::poll_timeout).map(|(due, _)| due);
        let Some(due) = due.map(|due| due.max(now.instant)) else { return };
        if node.armed.is_none_or(|armed| due < armed) {
            node.armed = Some(due);
            self.cause_here(number, now, due, until, Happening::Timer(number));
        }
    }

    /// Something happens to the same node, within the span or later.
    fn cause_here(&mut self, number: usize, now: Now, at: Instant, until: Instant, what: Happening) {
        if at <= until {
            self.agenda.push(at, what);
        } else {
            self.cause(number, now, Effect::Happens(at, what));
        }
    }

    fn cause(&mut self, number: usize, now: Now, what: Effect) {
        let caused = &mut self.nodes[number / self.of].caused;
        *caused += 1;
        self.outcomes.push(Outcome { by: (now.instant, number, *caused), what });
    }
}

/// Puts what several shards caused in the one order.
pub fn sort(outcomes: &mut [Outcome]) {
    outcomes.sort_unstable_by_key(|outcome| outcome.by);
}

/// The place of a link's end in the list.
pub fn at(link: u64) -> usize {
    usize::try_from(link).unwrap_or(usize::MAX)
}
