//! Many overlays under virtual time: what their drivers would do, without sockets.
//!
//! Links have a latency and no limit of rate; a disk is written at once. No node is told anything that a real one would not be.

mod agenda;
mod shard;
mod trouble;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use multiaddr::{Multiaddr, Protocol};
use overlay::Overlay;
use overlay::config::{Config, Only};
use overlay::event::Event;
use overlay::id::{CheckEach, CheckSignatures, Identity};
use overlay::rng::Rng;
use overlay::time::{Instant, Now, WallTime};
use rayon::iter::{IntoParallelRefMutIterator as _, ParallelIterator as _};
use sha2::{Digest as _, Sha256};

use super::graph::Graph;
use agenda::{Agenda, Entry, Happening};
pub use shard::{Conduct, Node};
use shard::{Effect, End, Outcome, Shard, at};
use trouble::Gaps;
pub use trouble::draw;

use crate::memo::Memo;

/// Latency of a link: from this, and up to [`LATENCY_SPREAD_US`] or more beyond it.
const LATENCY_US: u64 = 1000;
const LATENCY_SPREAD_US: u64 = 1000;
/// Nothing that happens at one node matters to another one earlier than that.
const LEAST_LATENCY: Duration = Duration::from_micros(LATENCY_US);
/// Wall time at the start of every run: 2026-01-01.
const EPOCH_WALL_US: u64 = 1_767_225_600_000_000;
/// Links that a node may have beyond those of the graph, where it stands in for a dead neighbour.
const REPAIR_LINKS: usize = 64;
/// Spans with fewer events than this are not worth a second thread.
const WORTH_THREADS: usize = 64;

/// What links take beyond [`LEAST_LATENCY`]: anything up to this, evenly.
#[derive(Clone, Copy, Debug)]
pub struct Latency(Duration);

impl Latency {
    /// With this mean beyond what all links take.
    pub fn with_mean(mean: Duration) -> Self {
        Self(mean.saturating_mul(2).max(Duration::from_micros(LATENCY_SPREAD_US)))
    }

    fn of_a_link(self, rng: &mut Rng) -> Duration {
        Duration::from_micros(rng.below(u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// A run's network.
pub struct World {
    /// What time it is.
    pub now: Now,
    /// Frames that arrived so far.
    pub frames: u64,
    /// Facts that nodes told, in order; whoever measures takes them.
    pub events: Vec<(usize, Event)>,
    /// Only routed packets go on; what neighbours say to each other waits.
    pub frozen: bool,
    graph: Graph,
    config: Config,
    checks: Arc<dyn CheckSignatures>,
    shards: Vec<Shard>,
    ends: Vec<End>,
    /// The ends at each node, closed ones too.
    ends_of: Vec<Vec<u64>>,
    gaps: Gaps,
    latency: Latency,
    agenda: Agenda,
    held: Vec<Entry>,
    outcomes: Vec<Outcome>,
    rng: Rng,
    digest: Sha256,
}

impl World {
    /// A network of nobody yet: who may link to whom is in `graph`, everything else about a node in `config`. The result does not depend on
    /// the number of threads.
    pub fn new(graph: Graph, config: Config, rng: Rng, memo: bool, threads: usize, latency: Latency) -> Self {
        let now = Now { instant: Instant::from_micros(1_000_000), wall: WallTime::from_unix_micros(EPOCH_WALL_US) };
        let threads = threads.max(1);
        let shard = |index| Shard::new(index, threads, graph.len());
        let mut shards: Vec<Shard> = (0..threads).map(shard).collect();
        for number in 0..graph.len() {
            shards[number % threads].add(Node::new(identity(number)));
        }
        Self {
            now,
            frames: 0,
            events: Vec::new(),
            frozen: false,
            ends_of: vec![Vec::new(); graph.len()],
            graph,
            config,
            checks: if memo { Arc::new(Memo::default()) } else { Arc::new(CheckEach) },
            shards,
            ends: Vec::new(),
            gaps: Gaps::default(),
            latency,
            agenda: Agenda::default(),
            held: Vec::new(),
            outcomes: Vec::new(),
            rng,
            digest: Sha256::new(),
        }
    }

    /// Who may link to whom.
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// How many nodes there are, dead ones too.
    pub fn len(&self) -> usize {
        self.graph.len()
    }

    /// A node.
    pub fn node(&self, number: usize) -> &Node {
        self.shards[number % self.shards.len()].node(number)
    }

    /// All nodes, dead ones too.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        (0..self.len()).map(|number| self.node(number))
    }

    /// Starts `node` after `wait`.
    pub fn start(&mut self, node: usize, wait: Duration) {
        self.agenda.push(self.now.instant + wait, Happening::Start(node));
    }

    /// Calls a verb of a node's overlay, and does what it then wants.
    pub fn with<R>(&mut self, number: usize, call: impl FnOnce(&mut Overlay, Now) -> R) -> Option<R> {
        let (now, threads) = (self.now, self.shards.len());
        let shard = &mut self.shards[number % threads];
        let result = call(shard.node_mut(number).overlay.as_mut()?, now);
        shard.drain(number, &self.ends, now, Instant::ZERO);
        self.collect();
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
        for entry in std::mem::take(&mut self.held) {
            self.agenda.push(entry.at.max(self.now.instant), entry.what);
        }
    }

    /// Lets a span of less than [`LEAST_LATENCY`] happen. False when nothing happens until `end`.
    fn step(&mut self, end: Instant) -> bool {
        let Some(first) = self.agenda.next_at().filter(|first| *first <= end) else { return false };
        // Where much is held back, what is not has to be told from it one by one.
        let last = if self.frozen { first } else { first + (LEAST_LATENCY - Duration::from_micros(1)) };
        let last = last.min(end).max(self.now.instant);
        let mut many = 0;
        while let Some(entry) = self.agenda.pop_until(last) {
            many += 1;
            if self.frozen && !is_routed(&entry.what) {
                self.held.push(entry);
            } else {
                self.distribute(entry, last);
            }
        }
        let (ends, clock) = (&self.ends, self.now);
        if many < WORTH_THREADS {
            self.shards.iter_mut().for_each(|shard| shard.run(ends, clock, last));
        } else {
            self.shards.par_iter_mut().for_each(|shard| shard.run(ends, clock, last));
        }
        self.collect();
        self.now = self.now.after(last.since(self.now.instant));
        true
    }

    /// Gives an entry to the shard that it is for; what concerns more than one node is done here.
    fn distribute(&mut self, Entry { at: due, what, .. }: Entry, until: Instant) {
        let due = due.max(self.now.instant);
        let node = match &what {
            Happening::Start(node) => return self.begin(*node, due, until),
            Happening::Dialled { from, address } => match self.dialled(*from, address, due) {
                true => return,
                false => *from,
            },
            Happening::Timer(node) | Happening::DialFailed { from: node, .. } => *node,
            Happening::Up { link, .. } | Happening::Down { link } => self.ends[at(*link)].node,
            Happening::Frame { link, bytes, .. } => {
                self.frames += 1;
                self.digest.update(due.as_micros().to_le_bytes());
                self.digest.update(link.to_le_bytes());
                self.digest.update(bytes);
                self.ends[at(*link)].node
            }
        };
        let what = match what {
            Happening::Dialled { from, address } => Happening::DialFailed { from, address },
            other => other,
        };
        let threads = self.shards.len();
        self.shards[node % threads].happens(due, what);
    }

    /// What nodes caused becomes part of the one agenda.
    fn collect(&mut self) {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        self.shards.iter_mut().for_each(|shard| shard.take_outcomes(&mut outcomes));
        shard::sort(&mut outcomes);
        for outcome in outcomes.drain(..) {
            match outcome.what {
                Effect::Happens(at, what) => self.agenda.push(at, what),
                Effect::Told(node, event) => self.events.push((node, event)),
            }
        }
        self.outcomes = outcomes;
    }

    fn begin(&mut self, number: usize, due: Instant, until: Instant) {
        let now = self.now.after(due.since(self.now.instant));
        let near = self.graph.neighbours(number);
        // Who comes back does not remember anything, but is told of all whom it may link to.
        let back = self.node(number).starts > 0;
        let earlier = near.iter().filter(|other| back || (**other as usize) < number);
        let config = Config {
            joins: earlier.map(|other| address_of(*other as usize)).collect(),
            only: near.iter().map(|other| Only::Id(self.node(*other as usize).id)).collect(),
            max_links: near.len() + REPAIR_LINKS,
            ..self.config.clone()
        };
        let mut overlay = Overlay::new(config, self.node(number).identity.clone(), self.rng.bytes(), now);
        overlay.set_signature_checks(Arc::clone(&self.checks));
        overlay.handle_listen_addresses(vec![address_of(number)], now);
        // The configuration is sensible, so that founding cannot fail.
        let _ = overlay.start(now);
        overlay.publish_node(vec![7; 100], now);
        let threads = self.shards.len();
        let shard = &mut self.shards[number % threads];
        let node = shard.node_mut(number);
        node.starts += 1;
        node.overlay = Some(overlay);
        shard.drain(number, &self.ends, now, until);
    }

    /// Whether somebody answers.
    fn dialled(&mut self, from: usize, address: &Multiaddr, due: Instant) -> bool {
        let alive = |world: &Self, number: usize| number < world.len() && world.node(number).overlay.is_some();
        let answers = |to: &usize| alive(self, *to) && alive(self, from) && self.reaches(from, *to);
        let Some(to) = index_of(address).filter(answers) else { return false };
        let link = self.ends.len() as u64;
        let latency = LEAST_LATENCY + self.latency.of_a_link(&mut self.rng);
        for (node, other, peer) in [(from, link + 1, to), (to, link, from)] {
            let peer = self.node(peer).id;
            self.ends_of[node].push(self.ends.len() as u64);
            self.ends.push(End { node, peer, other, latency, open: AtomicBool::new(true) });
        }
        self.agenda.push(due + latency, Happening::Up { link, remote: address.clone(), initiator: true });
        self.agenda.push(due + latency, Happening::Up { link: link + 1, remote: address_of(from), initiator: false });
        true
    }
}

/// In a frozen world, packets and the loss of links go on.
fn is_routed(what: &Happening) -> bool {
    match what {
        Happening::Frame { bytes, .. } => bytes.first().is_some_and(|first| first & 0x80 == 0),
        Happening::Down { .. } => true,
        _ => false,
    }
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
