//! A part of the nodes, which one thread lets happen what happens to them.
//!
//! A link takes at least [`LEAST_LATENCY`]. So what happens within a span of that length at one node cannot matter to another one within it, and
//! parts of the nodes go through it side by side. What happens at one time happens in the order of its causes, which does not depend on how the nodes
//! are divided: the same seed gives the same trace on any number of threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use overlay::Overlay;
use overlay::config::{Config, Only};
use overlay::event::Event;
use overlay::id::{CheckSignatures, Identity, NodeId};
use overlay::io::{Command, Lane, LinkId, Transmit};
use overlay::time::{Instant, Now};
use sha2::{Digest as _, Sha256};

use super::agenda::{Agenda, Cause, Entry, Happening};
use super::conduct::Conduct;
use super::{LEAST_LATENCY, address_of};
use crate::scale::graph::Graph;

/// Room of a lane: more than a run sends.
const ROOM_BYTES: usize = 1 << 50;
/// Links that a node may have beyond those of the graph, where it stands in for a dead neighbour.
const REPAIR_LINKS: usize = 64;

/// One node.
pub struct Node {
    /// Its protocol; none while it is dead.
    pub overlay: Option<Overlay>,
    /// Who it is.
    pub id: NodeId,
    /// What it does to others.
    pub conduct: Conduct,
    identity: Identity,
    /// How often it has started.
    starts: u32,
    /// When its next timer is due, as the agenda has it.
    armed: Option<Instant>,
    /// What it has caused so far.
    caused: u64,
    /// Of all frames that arrived at it: when, where, what.
    digest: Sha256,
}

impl Node {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            overlay: None,
            id: identity.id(),
            conduct: Conduct::Honest,
            identity,
            starts: 0,
            armed: None,
            caused: 0,
            digest: Sha256::new(),
        }
    }

    pub(super) fn die(&mut self) {
        self.overlay = None;
        self.armed = None;
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest.clone().finalize().into()
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

/// What nodes start with; nothing of it changes.
pub struct Setting {
    /// Who may link to whom.
    pub(super) graph: Graph,
    /// Everything else about a node.
    pub(super) config: Config,
    pub(super) checks: Arc<dyn CheckSignatures>,
    /// By number.
    pub(super) ids: Vec<NodeId>,
    /// Where the nodes' own randomness comes from.
    pub(super) seed: [u8; 32],
}

/// A span of time less than [`LEAST_LATENCY`], and what does not change within it.
#[derive(Clone, Copy)]
pub struct Span<'a> {
    pub(super) setting: &'a Setting,
    pub(super) ends: &'a [End],
    /// What time it is when it begins.
    pub(super) from: Now,
    /// When it ends.
    pub(super) until: Instant,
    /// Only routed packets and the loss of links happen.
    pub(super) frozen: bool,
}

/// Some of the nodes: those whose number is `index` modulo `of`.
pub struct Shard {
    index: usize,
    of: usize,
    nodes: Vec<Node>,
    /// What is going to happen to them.
    agenda: Agenda,
    /// What would have happened to them while the world was frozen.
    held: Vec<Entry>,
    /// What they caused at nodes of other shards, by shard.
    elsewhere: Vec<Vec<Entry>>,
    /// Whom they dialled.
    dialled: Vec<Entry>,
    /// What they told.
    told: Vec<(Cause, Event)>,
    /// Frames that arrived at them.
    frames: u64,
}

impl Shard {
    /// Number `index` of `of`, with room for its part of `nodes`.
    pub(super) fn new(index: usize, of: usize, nodes: usize) -> Self {
        Self {
            index,
            of,
            nodes: Vec::with_capacity(nodes.div_ceil(of)),
            agenda: Agenda::default(),
            held: Vec::new(),
            elsewhere: (0..of).map(|_| Vec::new()).collect(),
            dialled: Vec::new(),
            told: Vec::new(),
            frames: 0,
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

    /// Something is going to happen to one of these nodes.
    pub(super) fn push(&mut self, entry: Entry) {
        self.agenda.push(entry);
    }

    /// When the next thing happens to one of them.
    pub(super) fn next_at(&mut self) -> Option<Instant> {
        self.agenda.next_at()
    }

    /// What they caused at the nodes of shard `of`, which gives back room for more.
    pub(super) fn swap_elsewhere(&mut self, of: usize, room: &mut Vec<Entry>) {
        std::mem::swap(&mut self.elsewhere[of], room);
    }

    /// Whom they dialled since this was last asked.
    pub(super) fn take_dialled(&mut self) -> impl Iterator<Item = Entry> {
        self.dialled.drain(..)
    }

    /// What they told since this was last asked.
    pub(super) fn take_told(&mut self) -> impl Iterator<Item = (Cause, Event)> {
        self.told.drain(..)
    }

    /// Frames that arrived at them.
    pub(super) const fn frames(&self) -> u64 {
        self.frames
    }

    /// What was held back happens now.
    pub(super) fn thaw(&mut self, now: Instant) {
        for entry in std::mem::take(&mut self.held) {
            self.agenda.push(Entry { at: entry.at.max(now), ..entry });
        }
    }

    /// Lets everything happen that does within the span; how much that was.
    pub(super) fn run(&mut self, span: Span) -> usize {
        let mut many = 0;
        while let Some(entry) = self.agenda.pop_until(span.until) {
            many += 1;
            if span.frozen && !is_routed(&entry.what) {
                self.held.push(entry);
            } else {
                self.happen(entry, span);
            }
        }
        many
    }

    fn happen(&mut self, entry: Entry, span: Span) {
        let now = span.from.after(entry.at.since(span.from.instant));
        let Span { ends, .. } = span;
        let number = subject(&entry.what, ends);
        debug_assert_eq!(number % self.of, self.index, "another shard's node");
        let node = &mut self.nodes[number / self.of];
        if let Happening::Start(_) = entry.what {
            begin(node, number, span.setting, now);
        } else {
            if let Happening::Frame { link, bytes, .. } = &entry.what {
                self.frames += 1;
                node.digest.update(now.instant.as_micros().to_le_bytes());
                node.digest.update(link.to_le_bytes());
                node.digest.update(bytes);
            }
            let Some(overlay) = node.overlay.as_mut() else { return };
            if !happen_to(overlay, &mut node.armed, entry, ends, now) {
                return;
            }
            if node.conduct == Conduct::LyingBinder {
                overlay.forget_records();
            }
        }
        self.drain(number, ends, now);
    }

    /// Does what the node wants, until it wants nothing more.
    pub(super) fn drain(&mut self, number: usize, ends: &[End], now: Now) {
        loop {
            let Some(overlay) = self.nodes[number / self.of].overlay.as_mut() else { return };
            if let Some(Transmit { link, lane, bytes }) = overlay.poll_transmit() {
                let end = &ends[at(link.0)];
                let node = &self.nodes[number / self.of];
                if let Some(bytes) = node.conduct.sent(bytes, &node.id) {
                    let what = Happening::Frame { link: end.other, lane, bytes };
                    self.cause_at(ends[at(end.other)].node, number, now, now.instant + end.latency, what);
                }
            } else if let Some(event) = overlay.poll_event() {
                let cause = self.cause(number, now);
                self.told.push((cause, event));
            } else if let Some(command) = overlay.poll_command() {
                match command {
                    Command::Dial(address) => {
                        let what = Happening::Dialled { from: number, address };
                        let cause = self.cause(number, now);
                        self.dialled.push(Entry { at: now.instant + LEAST_LATENCY, cause, what });
                    }
                    Command::Close(link, _) => {
                        let end = &ends[at(link.0)];
                        let other = ends[at(end.other)].node;
                        self.cause_at(number, number, now, now.instant, Happening::Down { link: link.0 });
                        let arrival = now.instant + end.latency;
                        self.cause_at(other, number, now, arrival, Happening::Down { link: end.other });
                    }
                    Command::Persist { key, .. } => overlay.handle_persisted(&key, now),
                }
            } else {
                break;
            }
        }
        self.arm(number, now);
    }

    fn arm(&mut self, number: usize, now: Now) {
        let node = &mut self.nodes[number / self.of];
        let due = node.overlay.as_ref().and_then(Overlay::poll_timeout).map(|(due, _)| due);
        let Some(due) = due.map(|due| due.max(now.instant)) else { return };
        if node.armed.is_none_or(|armed| due < armed) {
            node.armed = Some(due);
            self.cause_at(number, number, now, due, Happening::Timer(number));
        }
    }

    /// One more thing that this node causes.
    fn cause(&mut self, by: usize, now: Now) -> Cause {
        let caused = &mut self.nodes[by / self.of].caused;
        *caused += 1;
        (now.instant, by, *caused)
    }

    /// Node `by` causes something that happens to node `to`.
    fn cause_at(&mut self, to: usize, by: usize, now: Now, at: Instant, what: Happening) {
        let cause = self.cause(by, now);
        let entry = Entry { at, cause, what };
        match to % self.of {
            shard if shard == self.index => self.agenda.push(entry),
            shard => self.elsewhere[shard].push(entry),
        }
    }
}

/// The node to which it happens.
fn subject(what: &Happening, ends: &[End]) -> usize {
    match what {
        Happening::Start(node) | Happening::Timer(node) => *node,
        Happening::Dialled { from, .. } | Happening::DialFailed { from, .. } => *from,
        Happening::Up { link, .. } | Happening::Down { link } | Happening::Frame { link, .. } => ends[at(*link)].node,
    }
}

/// In a frozen world, packets and the loss of links go on.
pub(super) fn is_routed(what: &Happening) -> bool {
    match what {
        Happening::Frame { bytes, .. } => bytes.first().is_some_and(|first| first & 0x80 == 0),
        Happening::Down { .. } => true,
        _ => false,
    }
}

/// Tells a node that lives; whether there was something to tell.
fn happen_to(overlay: &mut Overlay, armed: &mut Option<Instant>, entry: Entry, ends: &[End], now: Now) -> bool {
    match entry.what {
        Happening::Timer(_) => {
            // An earlier one was set since, or what was set was held back for a while.
            if armed.is_none_or(|armed| armed > entry.at) {
                return false;
            }
            *armed = None;
            overlay.handle_timeout(now);
        }
        Happening::DialFailed { address, .. } => overlay.handle_dial_failed(&address, now),
        Happening::Up { link, remote, initiator } => {
            let end = &ends[at(link)];
            if !end.is_open() {
                return false;
            }
            overlay.handle_link_up(LinkId(link), end.peer, remote, initiator, now);
            for lane in [Lane::Control, Lane::Data] {
                overlay.handle_link_room(LinkId(link), lane, ROOM_BYTES, now);
            }
        }
        Happening::Down { link } => {
            if !ends[at(link)].close() {
                return false;
            }
            overlay.handle_link_down(LinkId(link), now);
        }
        Happening::Frame { link, lane, bytes } => {
            if !ends[at(link)].is_open() {
                return false;
            }
            // What a node says of a bad frame is in its counters.
            let _ = overlay.handle_frame(LinkId(link), lane, bytes, now);
        }
        Happening::Start(_) | Happening::Dialled { .. } => return false,
    }
    true
}

/// A node starts, for the first time or again.
fn begin(node: &mut Node, number: usize, setting: &Setting, now: Now) {
    let near = setting.graph.neighbours(number);
    // Who comes back does not remember anything, but is told of all whom it may link to.
    let back = node.starts > 0;
    let earlier = near.iter().filter(|other| back || (**other as usize) < number);
    let config = Config {
        joins: earlier.map(|other| address_of(*other as usize)).collect(),
        only: near.iter().map(|other| Only::Id(setting.ids[*other as usize])).collect(),
        max_links: near.len() + REPAIR_LINKS,
        ..setting.config.clone()
    };
    node.starts += 1;
    let seed = Sha256::new().chain_update(setting.seed).chain_update(node.id.as_bytes());
    let seed = seed.chain_update(node.starts.to_le_bytes()).finalize().into();
    let mut overlay = Overlay::new(config, node.identity.clone(), seed, now);
    overlay.set_signature_checks(Arc::clone(&setting.checks));
    overlay.handle_listen_addresses(vec![address_of(number)], now);
    // The configuration is sensible, so that founding cannot fail.
    let _ = overlay.start(now);
    overlay.publish_node(vec![7; 100], now);
    node.overlay = Some(overlay);
}

/// The place of a link's end in the list.
pub fn at(link: u64) -> usize {
    usize::try_from(link).unwrap_or(usize::MAX)
}
