//! A network of overlays under virtual time: what a driver does, without sockets or a clock.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

pub mod faults;
mod questions;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use multiaddr::Multiaddr;
use overlay::Overlay;
use overlay::address::{FIRST_TREE, Place, TreeId};
use overlay::config::Config;
use overlay::dht::LookupResult;
use overlay::event::{Delivery, Event};
use overlay::id::{Identity, NodeId};
use overlay::io::{Command, Lane, LinkId, Snapshot, Transmit};
use overlay::overlay::Outgoing;
use overlay::record::Query;
use overlay::rng::Rng;
use overlay::time::{Instant, Now, WallTime};
use overlay::wire::link::{Hello, LINK_VERSION};
use sha2::{Digest as _, Sha256};

/// Room that the driver grants to a lane at first.
const ROOM_BYTES: usize = 256 * 1024;
const WALL_US: u64 = 1_700_000_000_000_000;

pub struct Node {
    pub overlay: Option<Overlay>,
    pub identity: Identity,
    pub address: Multiaddr,
    /// Other addresses at which it can be reached, too.
    pub aliases: Vec<Multiaddr>,
    pub network: bool,
    pub disk: Snapshot,
    pub events: Vec<(Instant, Event)>,
    /// Dials that it began.
    pub dials: usize,
    runs: u32,
}

impl Node {
    fn is_at(&self, address: &Multiaddr) -> bool {
        let address = &without_peer(address);
        self.address == *address || self.aliases.contains(address)
    }
}

struct End {
    node: usize,
    peer: usize,
    other: LinkId,
}

/// What becomes of a frame on its way: from whom, to whom, and the bytes that arrive.
pub type Tap = Box<dyn FnMut(usize, usize, Vec<u8>) -> Vec<u8>>;

enum What {
    Dialled { from: usize, address: Multiaddr },
    Up { node: usize, link: LinkId, peer: NodeId, remote: Multiaddr, initiator: bool },
    Down { link: LinkId },
    Frame { link: LinkId, lane: Lane, bytes: Vec<u8>, back: LinkId },
    Room { link: LinkId, lane: Lane, bytes: usize },
    Persisted { node: usize, run: u32, key: String, bytes: Vec<u8> },
}

pub struct Net {
    pub nodes: Vec<Node>,
    pub now: Now,
    ends: BTreeMap<LinkId, End>,
    queue: BTreeMap<(Instant, u64), What>,
    /// When the last frame of a lane arrives: lanes keep their order.
    arrivals: BTreeMap<(LinkId, Lane), Instant>,
    next: u64,
    rng: Rng,
    digest: Sha256,
    pub frames: u64,
    /// When the other end of a link hears that it was closed. Less than a frame takes where another link's frames are overtaken.
    pub close_takes: Duration,
    /// Gives nobody a place, and looks as if it would.
    pub refuser: Option<usize>,
    /// Hears all frames, and may change them.
    pub tap: Option<Tap>,
}

pub fn identity(n: usize) -> Identity {
    let mut secret = [0x33; 32];
    secret[..8].copy_from_slice(&(n as u64).to_be_bytes());
    Identity::from_secret(&secret)
}

/// Nobody here answers in another's name.
fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, multiaddr::Protocol::P2p(_))).collect()
}

/// What somebody says first who knows of no overlay.
pub fn strangers_hello() -> Hello {
    let (genesis, addresses) = (Vec::new(), Vec::new());
    Hello { version: LINK_VERSION, genesis, expected: None, attach_seq: 1, addresses, flags: 0 }
}

pub fn address(n: usize) -> Multiaddr {
    format!("/ip4/10.0.{}.{}/tcp/4001", n / 250, n % 250 + 1).parse().unwrap()
}

impl Net {
    pub fn new(seed: u8) -> Self {
        let now = Now { instant: Instant::from_micros(1_000_000), wall: WallTime::from_unix_micros(WALL_US) };
        Self {
            nodes: Vec::new(),
            now,
            ends: BTreeMap::new(),
            queue: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            next: 1,
            rng: Rng::from_seed([seed; 32]),
            digest: Sha256::new(),
            frames: 0,
            close_takes: Duration::from_millis(5),
            refuser: None,
            tap: None,
        }
    }

    /// Adds a node and starts it.
    pub fn add(&mut self, config: Config) -> usize {
        self.add_as(identity(self.nodes.len()), config)
    }

    /// The same with a key of its own.
    pub fn add_as(&mut self, identity: Identity, config: Config) -> usize {
        let n = self.nodes.len();
        self.nodes.push(Node {
            overlay: None,
            identity,
            address: address(n),
            aliases: Vec::new(),
            network: true,
            disk: Snapshot::new(),
            events: Vec::new(),
            dials: 0,
            runs: 0,
        });
        self.start(n, config);
        n
    }

    pub fn start(&mut self, n: usize, config: Config) {
        let seed = self.rng.bytes();
        let now = self.now;
        let node = &mut self.nodes[n];
        node.runs += 1;
        let mut overlay = Overlay::new(config, node.identity.clone(), seed, now);
        overlay.restore(&node.disk, now).unwrap();
        overlay.handle_listen_addresses(vec![node.address.clone()], now);
        overlay.start(now).unwrap();
        overlay.publish_node(vec![7; 100], now);
        node.overlay = Some(overlay);
        self.drain(n);
    }

    pub fn joining(&self, through: &[usize]) -> Config {
        Config { joins: through.iter().map(|n| self.nodes[*n].address.clone()).collect(), ..Config::default() }
    }

    /// A founder and `count - 1` nodes that join through random earlier ones, some time apart.
    pub fn grow(seed: u8, count: usize) -> Self {
        let mut net = Self::new(seed);
        net.add(Config::default());
        for n in 1..count {
            let through = net.rng.below(n as u64) as usize;
            let config = net.joining(&[through]);
            net.add(config);
            net.run(Duration::from_millis(100));
        }
        net.run(Duration::from_secs(10));
        net
    }

    pub fn node(&self, n: usize) -> &Overlay {
        self.nodes[n].overlay.as_ref().unwrap()
    }

    pub fn id(&self, n: usize) -> NodeId {
        self.nodes[n].identity.id()
    }

    pub fn index(&self, id: NodeId) -> usize {
        (0..self.nodes.len()).find(|n| self.id(*n) == id).unwrap()
    }

    pub fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].overlay.is_some()).collect()
    }

    /// Calls a verb of a node's overlay and does what it then wants.
    pub fn with<R>(&mut self, n: usize, f: impl FnOnce(&mut Overlay, Now) -> R) -> R {
        let now = self.now;
        let result = f(self.nodes[n].overlay.as_mut().unwrap(), now);
        self.drain(n);
        result
    }

    pub fn run(&mut self, span: Duration) {
        let end = self.now.instant + span;
        while self.step(end) {}
        let rest = end.since(self.now.instant);
        self.now = self.now.after(rest);
    }

    /// Runs until `done`, at most for `span`; whether it was done.
    pub fn run_until(&mut self, span: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now.instant + span;
        while !done(self) {
            if !self.step(end) {
                return done(self);
            }
        }
        true
    }

    fn step(&mut self, end: Instant) -> bool {
        let event = self.queue.first_key_value().map(|((at, _), _)| *at);
        let timer = self
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(n, node)| Some((node.overlay.as_ref()?.poll_timeout()?.0, n)))
            .min();
        let next = [event, timer.map(|(at, _)| at)].into_iter().flatten().min();
        let Some(at) = next.filter(|at| *at <= end) else { return false };
        self.now = self.now.after(at.since(self.now.instant));
        if event == Some(at) {
            let (_, what) = self.queue.pop_first().unwrap();
            self.happen(what);
        } else if let Some((_, n)) = timer {
            self.with(n, Overlay::handle_timeout);
        }
        true
    }

    fn at(&mut self, after: Duration, what: What) {
        self.next += 1;
        self.queue.insert((self.now.instant + after, self.next), what);
    }

    fn happen(&mut self, what: What) {
        let now = self.now;
        match what {
            What::Dialled { from, address } => self.dialled(from, address),
            What::Up { node, link, peer, remote, initiator } => {
                if self.nodes[node].overlay.is_some() && self.ends.contains_key(&link) {
                    self.with(node, |overlay, now| {
                        overlay.handle_link_up(link, peer, remote, initiator, now);
                        for lane in [Lane::Control, Lane::Data] {
                            overlay.handle_link_room(link, lane, ROOM_BYTES, now);
                        }
                    });
                }
            }
            What::Down { link } => {
                if let Some(end) = self.ends.remove(&link)
                    && self.nodes[end.node].overlay.is_some()
                {
                    self.with(end.node, |overlay, now| overlay.handle_link_down(link, now));
                }
            }
            What::Frame { link, lane, bytes, back } => {
                let Some(end) = self.ends.get(&link) else { return };
                let (node, peer) = (end.node, end.peer);
                if self.nodes[node].overlay.is_none() || !self.nodes[node].network || !self.nodes[peer].network {
                    return;
                }
                let room = bytes.len();
                let bytes = match &mut self.tap {
                    Some(tap) => tap(peer, node, bytes),
                    None => bytes,
                };
                if self.refuser == Some(node)
                    && let Ok(overlay::wire::link::Frame::Ask(ask)) = overlay::wire::link::Frame::decode(&bytes)
                {
                    use overlay::wire::link::{Frame, Refuse, RefuseReason};
                    let refuse = Refuse { tree: ask.tree, why: RefuseReason::Detached, others: Vec::new() };
                    let bytes = Frame::Refuse(refuse).encode();
                    return self.at(Duration::from_millis(1), What::Frame { link: back, lane, bytes, back: link });
                }
                self.frames += 1;
                self.digest.update(format!("{:?} {node} {link:?} {lane:?} ", now.instant));
                self.digest.update(&bytes);
                let done = self.with(node, |overlay, now| overlay.handle_frame(link, lane, bytes, now));
                if let Err(error) = done {
                    assert_eq!(error, overlay::error::FrameError::UnknownLink, "honest nodes send proper frames");
                }
                self.at(Duration::from_millis(1), What::Room { link: back, lane, bytes: room });
            }
            What::Room { link, lane, bytes } => {
                if let Some(node) = self.ends.get(&link).map(|end| end.node)
                    && self.nodes[node].overlay.is_some()
                {
                    self.with(node, |overlay, now| overlay.handle_link_room(link, lane, bytes, now));
                }
            }
            What::Persisted { node, run, key, bytes } => {
                if self.nodes[node].runs == run && self.nodes[node].overlay.is_some() {
                    self.nodes[node].disk.insert(key.clone(), bytes.into());
                    self.with(node, |overlay, now| overlay.handle_persisted(&key, now));
                }
            }
        }
    }

    fn dialled(&mut self, from: usize, address: Multiaddr) {
        let to = (0..self.nodes.len())
            .find(|n| self.nodes[*n].is_at(&address) && self.nodes[*n].overlay.is_some() && self.nodes[*n].network);
        let Some(to) = to.filter(|_| self.nodes[from].network) else {
            if self.nodes[from].overlay.is_some() {
                self.with(from, |overlay, now| overlay.handle_dial_failed(&address, now));
            }
            return;
        };
        if self.nodes[from].overlay.is_none() {
            return;
        }
        let (a, b) = (LinkId(self.next + 1), LinkId(self.next + 2));
        self.next += 2;
        self.ends.insert(a, End { node: from, peer: to, other: b });
        self.ends.insert(b, End { node: to, peer: from, other: a });
        let (from_id, to_id) = (self.id(from), self.id(to));
        let host = self.nodes[from].address.iter().next().unwrap();
        let remote = Multiaddr::empty().with(host).with(multiaddr::Protocol::Tcp(50_000));
        self.at(
            Duration::from_millis(1),
            What::Up { node: from, link: a, peer: to_id, remote: address, initiator: true },
        );
        self.at(Duration::from_millis(2), What::Up { node: to, link: b, peer: from_id, remote, initiator: false });
    }

    fn drain(&mut self, n: usize) {
        loop {
            let node = &mut self.nodes[n];
            let Some(overlay) = node.overlay.as_mut() else { return };
            if let Some(transmit) = overlay.poll_transmit() {
                self.carry(transmit);
                continue;
            }
            if let Some(event) = overlay.poll_event() {
                self.digest.update(format!("{:?} {n} {event:?}", self.now.instant));
                node.events.push((self.now.instant, event));
                continue;
            }
            let run = node.runs;
            match overlay.poll_command() {
                Some(Command::Dial(address)) => {
                    self.nodes[n].dials += 1;
                    let wait = Duration::from_millis(2 + self.rng.below(20));
                    self.at(wait, What::Dialled { from: n, address });
                }
                Some(Command::Close(link, _)) => {
                    if let Some(end) = self.ends.get(&link) {
                        let other = end.other;
                        let audible = self.nodes[n].network && self.nodes[end.peer].network;
                        self.at(Duration::ZERO, What::Down { link });
                        if audible {
                            self.at(self.close_takes, What::Down { link: other });
                        }
                    }
                }
                Some(Command::Persist { key, bytes }) => {
                    self.at(Duration::from_millis(3), What::Persisted { node: n, run, key, bytes: bytes.to_vec() });
                }
                None => return,
            }
        }
    }

    fn carry(&mut self, transmit: Transmit) {
        let Transmit { link, lane, bytes } = transmit;
        assert!(bytes.len() <= lane.max_frame_bytes());
        let Some(end) = self.ends.get(&link) else { return };
        let to = end.other;
        let latency = Duration::from_micros(1000 + self.rng.below(4000));
        let last = self.arrivals.get(&(link, lane)).copied().unwrap_or_default();
        let at = (self.now.instant + latency).max(last + Duration::from_micros(1));
        self.arrivals.insert((link, lane), at);
        self.next += 1;
        self.queue.insert((at, self.next), What::Frame { link: to, lane, bytes, back: link });
    }

    pub fn digest(&self) -> String {
        self.digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
