//! Many overlays under virtual time: what their drivers would do, without sockets.
//!
//! Links have a latency and no limit of rate; a disk is written at once. No node is told anything that a real one would not be.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use multiaddr::{Multiaddr, Protocol};
use overlay::Overlay;
use overlay::config::{Config, Only};
use overlay::event::Event;
use overlay::id::{CheckEach, CheckSignatures, Identity, NodeId};
use overlay::io::{Command, Lane, LinkId, Transmit};
use overlay::rng::Rng;
use overlay::time::{Instant, Now, WallTime};
use sha2::{Digest as _, Sha256};

use super::graph::Graph;
use super::memo::Memo;

/// Room of a lane: more than a run sends.
const ROOM_BYTES: usize = 1 << 50;
/// Latency of a link: from this, and up to [`LATENCY_SPREAD_US`] more.
const LATENCY_US: u64 = 200;
const LATENCY_SPREAD_US: u64 = 800;
/// Wall time at the start of every run: 2026-01-01.
const EPOCH_WALL_US: u64 = 1_767_225_600_000_000;

/// One node.
pub struct Node {
    /// Its protocol; none while it is dead.
    pub overlay: Option<Overlay>,
    /// Who it is.
    pub id: NodeId,
    identity: Identity,
    /// When its next timer is due, as the agenda has it.
    armed: Option<Instant>,
}

/// One end of a link.
struct End {
    node: usize,
    other: u64,
    latency: Duration,
    open: bool,
}

enum Happening {
    Start(usize),
    Timer(usize),
    Dialled { from: usize, address: Multiaddr },
    Up { link: u64, remote: Multiaddr, initiator: bool },
    Down { link: u64 },
    Frame { link: u64, lane: Lane, bytes: Vec<u8> },
}

/// An entry of the agenda; ordered by time, then by when it was made.
struct Entry {
    at: Instant,
    order: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A run's network.
pub struct World {
    /// All nodes, dead ones too.
    pub nodes: Vec<Node>,
    /// What time it is.
    pub now: Now,
    /// Frames delivered so far.
    pub frames: u64,
    /// Facts that nodes told, in order; whoever measures takes them.
    pub events: Vec<(usize, Event)>,
    /// Only routed packets go on; what neighbours say to each other waits.
    pub frozen: bool,
    graph: Graph,
    config: Config,
    checks: Arc<dyn CheckSignatures>,
    ends: Vec<End>,
    agenda: BinaryHeap<Reverse<Entry>>,
    held: Vec<Entry>,
    order: u64,
    rng: Rng,
    digest: Sha256,
}

impl World {
    /// A network of nobody yet: who may link to whom is in `graph`, everything else about a node in `config`.
    pub fn new(graph: Graph, config: Config, rng: Rng, memo: bool) -> Self {
        let now = Now { instant: Instant::from_micros(1_000_000), wall: WallTime::from_unix_micros(EPOCH_WALL_US) };
        let nodes = (0..graph.len()).map(|n| {
            let identity = identity(n);
            Node { overlay: None, id: identity.id(), identity, armed: None }
        });
        Self {
            nodes: nodes.collect(),
            now,
            frames: 0,
            events: Vec::new(),
            frozen: false,
            graph,
            config,
            checks: if memo { Arc::new(Memo::default()) } else { Arc::new(CheckEach) },
            ends: Vec::new(),
            agenda: BinaryHeap::new(),
            held: Vec::new(),
            order: 0,
            rng,
            digest: Sha256::new(),
        }
    }

    /// Who may link to whom.
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Starts `node` after `wait`.
    pub fn start(&mut self, node: usize, wait: Duration) {
        self.after(wait, Happening::Start(node));
    }

    /// The node is gone at once, and its neighbours are told.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].overlay = None;
        self.nodes[node].armed = None;
        let of_node: Vec<u64> =
            (0..).zip(&self.ends).filter(|(_, end)| end.open && end.node == node).map(|(n, _)| n).collect();
        for link in of_node {
            let other = self.ends[at(link)].other;
            self.ends[at(link)].open = false;
            self.after(Duration::ZERO, Happening::Down { link: other });
        }
    }

    /// Calls a verb of a node's overlay, and does what it then wants.
    pub fn with<R>(&mut self, node: usize, call: impl FnOnce(&mut Overlay, Now) -> R) -> Option<R> {
        let now = self.now;
        let result = call(self.nodes[node].overlay.as_mut()?, now);
        self.drain(node);
        Some(result)
    }

    /// Lets `span` pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now.instant + span;
        while self.step(end) {}
        self.now = self.now.after(end.since(self.now.instant));
    }

    /// Lets time pass until `done`, at most `span`; whether it was done.
    pub fn run_until(&mut self, span: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now.instant + span;
        while !done(self) {
            if !self.step(end) {
                return done(self);
            }
        }
        true
    }

    /// Of all frames that arrived so far: when, where, what.
    pub fn digest(&self) -> String {
        self.digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What was held back while the world was frozen goes on.
    pub fn thaw(&mut self) {
        self.frozen = false;
        for mut entry in std::mem::take(&mut self.held) {
            entry.at = entry.at.max(self.now.instant);
            self.agenda.push(Reverse(entry));
        }
    }

    fn after(&mut self, wait: Duration, what: Happening) {
        self.order += 1;
        self.agenda.push(Reverse(Entry { at: self.now.instant + wait, order: self.order, what }));
    }

    fn step(&mut self, end: Instant) -> bool {
        if self.agenda.peek().is_none_or(|Reverse(entry)| entry.at > end) {
            return false;
        }
        let Some(Reverse(entry)) = self.agenda.pop() else { return false };
        self.now = self.now.after(entry.at.since(self.now.instant));
        if self.frozen && !self.is_routed(&entry.what) {
            self.held.push(entry);
        } else {
            self.happen(entry.what, entry.at);
        }
        true
    }

    /// In a frozen world, packets and the loss of links go on.
    fn is_routed(&self, what: &Happening) -> bool {
        match what {
            Happening::Frame { bytes, .. } => bytes.first().is_some_and(|first| first & 0x80 == 0),
            Happening::Down { .. } => true,
            _ => false,
        }
    }

    fn happen(&mut self, what: Happening, due: Instant) {
        match what {
            Happening::Start(node) => self.begin(node),
            Happening::Timer(node) => {
                if self.nodes[node].armed == Some(due) {
                    self.nodes[node].armed = None;
                    self.with(node, Overlay::handle_timeout);
                }
            }
            Happening::Dialled { from, address } => self.dialled(from, address),
            Happening::Up { link, remote, initiator } => {
                let (node, other) = (self.ends[at(link)].node, self.ends[at(link)].other);
                let peer = self.nodes[self.ends[at(other)].node].id;
                if self.ends[at(link)].open {
                    self.with(node, |overlay, now| {
                        overlay.handle_link_up(LinkId(link), peer, remote, initiator, now);
                        for lane in [Lane::Control, Lane::Data] {
                            overlay.handle_link_room(LinkId(link), lane, ROOM_BYTES, now);
                        }
                    });
                }
            }
            Happening::Down { link } => {
                if std::mem::replace(&mut self.ends[at(link)].open, false) {
                    let node = self.ends[at(link)].node;
                    self.with(node, |overlay, now| overlay.handle_link_down(LinkId(link), now));
                }
            }
            Happening::Frame { link, lane, bytes } => {
                let end = &self.ends[at(link)];
                if !end.open {
                    return;
                }
                let node = end.node;
                self.frames += 1;
                self.digest.update(self.now.instant.as_micros().to_le_bytes());
                self.digest.update(link.to_le_bytes());
                self.digest.update(&bytes);
                self.with(node, |overlay, now| overlay.handle_frame(LinkId(link), lane, bytes, now));
            }
        }
    }

    fn begin(&mut self, node: usize) {
        let near = self.graph.neighbours(node);
        let earlier = near.iter().filter(|other| (**other as usize) < node);
        let config = Config {
            joins: earlier.map(|other| address_of(*other as usize)).collect(),
            only: near.iter().map(|other| Only::Id(self.nodes[*other as usize].id)).collect(),
            max_links: near.len() + 8,
            ..self.config.clone()
        };
        let mut overlay = Overlay::new(config, self.nodes[node].identity.clone(), self.rng.bytes(), self.now);
        overlay.set_signature_checks(Arc::clone(&self.checks));
        overlay.handle_listen_addresses(vec![address_of(node)], self.now);
        // The configuration is sensible, so that founding cannot fail.
        let _ = overlay.start(self.now);
        overlay.publish_node(vec![7; 100], self.now);
        self.nodes[node].overlay = Some(overlay);
        self.drain(node);
    }

    fn dialled(&mut self, from: usize, address: Multiaddr) {
        let to = index_of(&address).filter(|to| self.nodes.get(*to).is_some_and(|node| node.overlay.is_some()));
        let Some(to) = to.filter(|_| self.nodes[from].overlay.is_some()) else {
            self.with(from, |overlay, now| overlay.handle_dial_failed(&address, now));
            return;
        };
        let link = self.ends.len() as u64;
        let latency = Duration::from_micros(LATENCY_US + self.rng.below(LATENCY_SPREAD_US));
        self.ends.push(End { node: from, other: link + 1, latency, open: true });
        self.ends.push(End { node: to, other: link, latency, open: true });
        self.after(latency, Happening::Up { link, remote: address, initiator: true });
        self.after(latency, Happening::Up { link: link + 1, remote: address_of(from), initiator: false });
    }

    fn drain(&mut self, node: usize) {
        loop {
            let Some(overlay) = self.nodes[node].overlay.as_mut() else { return };
            let mut quiet = true;
            while let Some(transmit) = overlay.poll_transmit() {
                let Transmit { link, lane, bytes } = transmit;
                let end = &self.ends[at(link.0)];
                self.order += 1;
                let what = Happening::Frame { link: end.other, lane, bytes };
                let entry = Entry { at: self.now.instant + end.latency, order: self.order, what };
                self.agenda.push(Reverse(entry));
                quiet = false;
            }
            while let Some(event) = overlay.poll_event() {
                self.events.push((node, event));
            }
            while let Some(command) = overlay.poll_command() {
                quiet = false;
                match command {
                    Command::Dial(address) => {
                        self.order += 1;
                        let what = Happening::Dialled { from: node, address };
                        let at = self.now.instant + Duration::from_micros(LATENCY_US);
                        self.agenda.push(Reverse(Entry { at, order: self.order, what }));
                    }
                    Command::Close(link, _) => {
                        for (link, wait) in
                            [(link.0, Duration::ZERO), (self.ends[at(link.0)].other, self.ends[at(link.0)].latency)]
                        {
                            self.order += 1;
                            let what = Happening::Down { link };
                            let at = self.now.instant + wait;
                            self.agenda.push(Reverse(Entry { at, order: self.order, what }));
                        }
                    }
                    Command::Persist { key, .. } => overlay.handle_persisted(&key, self.now),
                }
            }
            if quiet {
                break;
            }
        }
        self.arm(node);
    }

    fn arm(&mut self, node: usize) {
        let due = self.nodes[node].overlay.as_ref().and_then(Overlay::poll_timeout).map(|(due, _)| due);
        let Some(due) = due.map(|due| due.max(self.now.instant)) else { return };
        if self.nodes[node].armed.is_none_or(|armed| due < armed) {
            self.nodes[node].armed = Some(due);
            self.order += 1;
            self.agenda.push(Reverse(Entry { at: due, order: self.order, what: Happening::Timer(node) }));
        }
    }
}

fn at(link: u64) -> usize {
    usize::try_from(link).unwrap_or(usize::MAX)
}

fn identity(node: usize) -> Identity {
    let mut secret = [0x5c; 32];
    secret[..8].copy_from_slice(&(node as u64).to_be_bytes());
    Identity::from_secret(&secret)
}

/// Where a node listens: its number is the address.
fn address_of(node: usize) -> Multiaddr {
    let ip = Ipv4Addr::from_bits(u32::try_from(node).unwrap_or(u32::MAX).wrapping_add(1 << 24));
    Multiaddr::empty().with(Protocol::Ip4(ip)).with(Protocol::Tcp(4001))
}

fn index_of(address: &Multiaddr) -> Option<usize> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => usize::try_from(ip.to_bits().checked_sub(1 << 24)?).ok(),
        _ => None,
    }
}
