//! Many overlays under virtual time: what their drivers would do, without sockets.
//!
//! Links have a latency and no limit of rate; a disk is written at once. No node is told anything that a real one would not be.

mod agenda;
mod conduct;
mod shard;
mod trouble;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use multiaddr::{Multiaddr, Protocol};
use overlay::Overlay;
use overlay::config::Config;
use overlay::event::Event;
use overlay::id::{CheckEach, CheckSignatures, Identity};
use overlay::rng::Rng;
use overlay::time::{Instant, Now, WallTime};
use rayon::iter::{IntoParallelRefMutIterator as _, ParallelIterator as _};
use sha2::{Digest as _, Sha256};

use super::graph::Graph;
use agenda::{Agenda, Entry, Happening};
pub use conduct::Conduct;
pub use shard::Node;
use shard::{End, Setting, Shard, Span};
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
/// Parts of the nodes for each thread: which of them have more to do in a span than others changes, and whoever is done takes another.
const SHARDS_PER_THREAD: usize = 4;
/// Where fewer things happen in a span than this, a second thread is not worth it.
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
    /// Facts that nodes told, in order; whoever measures takes them.
    pub events: Vec<(usize, Event)>,
    /// Only routed packets go on; what neighbours say to each other waits.
    pub frozen: bool,
    setting: Setting,
    shards: Vec<Shard>,
    ends: Vec<End>,
    /// The ends at each node, closed ones too.
    ends_of: Vec<Vec<u64>>,
    gaps: Gaps,
    latency: Latency,
    /// Dials, which concern two nodes.
    dials: Agenda,
    /// Those that wait until the world goes on.
    held: Vec<Entry>,
    /// What nobody's node caused so far.
    caused: u64,
    /// How much happened in the span before.
    many: usize,
    rng: Rng,
}

impl World {
    /// A network of nobody yet: who may link to whom is in `graph`, everything else about a node in `config`. The result does not depend on
    /// the number of threads.
    pub fn new(graph: Graph, config: Config, mut rng: Rng, memo: bool, threads: usize, latency: Latency) -> Self {
        let now = Now { instant: Instant::from_micros(1_000_000), wall: WallTime::from_unix_micros(EPOCH_WALL_US) };
        let nodes = graph.len();
        let of = if threads <= 1 { 1 } else { threads * SHARDS_PER_THREAD };
        let mut shards: Vec<Shard> = (0..of).map(|index| Shard::new(index, of, nodes)).collect();
        let mut ids = Vec::with_capacity(nodes);
        for number in 0..nodes {
            let node = Node::new(identity(number));
            ids.push(node.id);
            shards[number % of].add(node);
        }
        let checks: Arc<dyn CheckSignatures> = if memo { Arc::new(Memo::default()) } else { Arc::new(CheckEach) };
        Self {
            now,
            events: Vec::new(),
            frozen: false,
            setting: Setting { graph, config, checks, ids, seed: rng.bytes() },
            shards,
            ends: Vec::new(),
            ends_of: vec![Vec::new(); nodes],
            gaps: Gaps::default(),
            latency,
            dials: Agenda::default(),
            held: Vec::new(),
            caused: 0,
            many: 0,
            rng,
        }
    }

    /// Who may link to whom.
    pub const fn graph(&self) -> &Graph {
        &self.setting.graph
    }

    /// How many nodes there are, dead ones too.
    pub fn len(&self) -> usize {
        self.graph().len()
    }

    /// A node.
    pub fn node(&self, number: usize) -> &Node {
        self.shards[number % self.shards.len()].node(number)
    }

    /// The same, to change it.
    fn node_mut(&mut self, number: usize) -> &mut Node {
        self.shard_of(number).node_mut(number)
    }

    fn shard_of(&mut self, number: usize) -> &mut Shard {
        let of = self.shards.len();
        &mut self.shards[number % of]
    }

    /// All nodes, dead ones too.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        (0..self.len()).map(|number| self.node(number))
    }

    /// Frames that arrived so far.
    pub fn frames(&self) -> u64 {
        self.shards.iter().map(Shard::frames).sum()
    }

    /// Starts `node` after `wait`.
    pub fn start(&mut self, node: usize, wait: Duration) {
        self.put(node, self.now.instant + wait, Happening::Start(node));
    }

    /// Calls a verb of a node's overlay, and does what it then wants.
    pub fn with<R>(&mut self, number: usize, call: impl FnOnce(&mut Overlay, Now) -> R) -> Option<R> {
        let (now, of) = (self.now, self.shards.len());
        let shard = &mut self.shards[number % of];
        let result = call(shard.node_mut(number).overlay.as_mut()?, now);
        shard.drain(number, &self.ends, now);
        self.exchange();
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

    /// Of all frames that arrived so far: at whom, when, over which link, what.
    pub fn digest(&self) -> String {
        let all = self.nodes().fold(Sha256::new(), |all, node| all.chain_update(node.digest()));
        all.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What was held back while the world was frozen goes on.
    pub fn thaw(&mut self) {
        self.frozen = false;
        let now = self.now.instant;
        self.shards.iter_mut().for_each(|shard| shard.thaw(now));
        for entry in std::mem::take(&mut self.held) {
            self.dials.push(Entry { at: entry.at.max(now), ..entry });
        }
    }

    /// Lets a span of less than [`LEAST_LATENCY`] happen. False when nothing happens until `end`.
    fn step(&mut self, end: Instant) -> bool {
        let first = self.shards.iter_mut().filter_map(Shard::next_at).chain(self.dials.next_at()).min();
        let Some(first) = first.filter(|first| *first <= end) else { return false };
        let until = (first + (LEAST_LATENCY - Duration::from_micros(1))).min(end).max(self.now.instant);
        while let Some(dial) = self.dials.pop_until(until) {
            if self.frozen {
                self.held.push(dial);
            } else {
                self.dial(dial);
            }
        }
        let span = Span { setting: &self.setting, ends: &self.ends, from: self.now, until, frozen: self.frozen };
        self.many = if self.many < WORTH_THREADS {
            self.shards.iter_mut().map(|shard| shard.run(span)).sum()
        } else {
            self.shards.par_iter_mut().map(|shard| shard.run(span)).sum()
        };
        self.exchange();
        self.now = self.now.after(until.since(self.now.instant));
        true
    }

    /// What nodes caused gets to whom it concerns.
    fn exchange(&mut self) {
        let mut told = Vec::new();
        for shard in &mut self.shards {
            shard.take_dialled().for_each(|dial| self.dials.push(dial));
            told.extend(shard.take_told());
        }
        told.sort_unstable_by_key(|(cause, _)| *cause);
        self.events.extend(told.into_iter().map(|((_, node, _), event)| (node, event)));
        let mut some = Vec::new();
        for from in 0..self.shards.len() {
            for to in 0..self.shards.len() {
                self.shards[from].swap_elsewhere(to, &mut some);
                some.drain(..).for_each(|entry| self.shards[to].push(entry));
                self.shards[from].swap_elsewhere(to, &mut some);
            }
        }
    }

    /// Something that no node causes is going to happen to one.
    fn put(&mut self, node: usize, at: Instant, what: Happening) {
        self.caused += 1;
        let cause = (self.now.instant, usize::MAX, self.caused);
        self.shard_of(node).push(Entry { at, cause, what });
    }

    /// A link comes up if somebody answers.
    fn dial(&mut self, entry: Entry) {
        let Happening::Dialled { from, address } = entry.what else { return };
        let alive = |number: usize| number < self.len() && self.node(number).overlay.is_some();
        let answers = |to: &usize| alive(*to) && alive(from) && self.reaches(from, *to);
        let due = entry.at.max(self.now.instant);
        let Some(to) = index_of(&address).filter(answers) else {
            return self.put(from, due, Happening::DialFailed { from, address });
        };
        let link = self.ends.len() as u64;
        let latency = LEAST_LATENCY + self.latency.of_a_link(&mut self.rng);
        for (node, other, peer) in [(from, link + 1, to), (to, link, from)] {
            let peer = self.node(peer).id;
            self.ends_of[node].push(self.ends.len() as u64);
            self.ends.push(End { node, peer, other, latency, open: AtomicBool::new(true) });
        }
        self.put(from, due + latency, Happening::Up { link, remote: address, initiator: true });
        self.put(to, due + latency, Happening::Up { link: link + 1, remote: address_of(from), initiator: false });
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
