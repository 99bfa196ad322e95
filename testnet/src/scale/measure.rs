//! What is measured: pairs that look each other up and send a packet.

use std::collections::BTreeMap;
use std::time::Duration;

use overlay::address::{Address, FIRST_TREE, Place};
use overlay::dht::LookupResult;
use overlay::event::{Event, LookupId};
use overlay::overlay::Outgoing;
use overlay::record::Query;
use overlay::rng::Rng;
use rayon::iter::{IntoParallelRefMutIterator as _, ParallelIterator as _};

use super::graph::Graph;
use super::world::{World, draw};

/// Pairs under way at one time: so many, or one for so many nodes. What a large network says to itself meanwhile would be most of the work.
const BATCH: usize = 1000;
const NODES_PER_PAIR: usize = 10;
/// Targets of one source: its shortest paths are searched once.
const TARGETS_PER_SOURCE: usize = 40;
/// Longer than any look-up.
const LOOKUP_LIMIT: Duration = Duration::from_secs(7);
/// Longer than any packet lives.
const PACKET_LIMIT: Duration = Duration::from_secs(2);
/// The same in a frozen world, where all are sent at once: time goes on for those who are to begin with repairs afterwards.
const FROZEN_LIMIT: Duration = Duration::from_millis(500);

/// One packet's way.
struct Pair {
    source: usize,
    target: usize,
    place: Option<Place>,
    asked: Option<LookupId>,
    hops: Option<u16>,
    shortest: u32,
}

/// All of them.
pub struct Pairs {
    pairs: Vec<Pair>,
    /// The share of all forwarding that the busiest node did.
    pub busiest_share: Option<f64>,
    /// See [`super::Outcome::load_shares`].
    pub load_shares: Option<[(f64, f64); 5]>,
}

/// Shares of the nodes for which it is said how much they forward.
const LOAD_OF: [f64; 5] = [0.001, 0.01, 0.1, 0.5, 1.0];

fn load_shares(mut done: Vec<u64>) -> Option<[(f64, f64); 5]> {
    done.sort_unstable_by(|a, b| b.cmp(a));
    let all = done.iter().sum::<u64>() as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of the nodes")]
    let first = |share: f64| done.iter().take((done.len() as f64 * share).ceil() as usize).sum::<u64>() as f64;
    (all > 0.0).then(|| LOAD_OF.map(|share| (share, first(share) / all)))
}

impl Pairs {
    /// Random pairs, which look each other up.
    pub fn look_up(world: &mut World, count: usize, rng: &mut Rng) -> Self {
        let mut pairs = choose(world, count, rng);
        for batch in pairs.chunks_mut(batch(world)) {
            look_up(world, batch);
        }
        Self { pairs, busiest_share: None, load_shares: None }
    }

    /// The pairs alone, for a baseline that `routes` one: links crossed, if it arrives.
    pub fn route(graph: &Graph, count: usize, rng: &mut Rng, routes: impl Fn(usize, usize) -> Option<u32>) -> Self {
        let mut pairs = choose_of(graph.len(), count, rng);
        let mut known: Option<(usize, Vec<u32>)> = None;
        for pair in &mut pairs {
            if known.as_ref().is_none_or(|(source, _)| *source != pair.source) {
                known = Some((pair.source, graph.distances(pair.source, |_, _| true)));
            }
            pair.shortest = known.as_ref().map_or(u32::MAX, |(_, distances)| distances[pair.target]);
            pair.hops = routes(pair.source, pair.target).and_then(|hops| u16::try_from(hops).ok());
        }
        Self { pairs, busiest_share: None, load_shares: None }
    }

    /// Their packets are sent.
    pub fn send(self, world: &mut World) -> Self {
        let mut pairs = self.pairs;
        shortest_paths(world, &mut pairs);
        let before = forwarded(world);
        let at_once = if world.frozen { pairs.len().max(1) } else { batch(world) };
        for batch in pairs.chunks_mut(at_once) {
            send(world, batch);
        }
        let after = forwarded(world);
        let done: Vec<u64> = before.iter().zip(&after).map(|(before, after)| after.saturating_sub(*before)).collect();
        let all: u64 = done.iter().sum();
        let busiest_share = done.iter().max().filter(|_| all > 0).map(|most| *most as f64 / all as f64);
        Self { pairs, busiest_share, load_shares: load_shares(done) }
    }

    /// Pairs that are connected, as far as is known once they were to send. To one that was not found nothing is sent: that does not arrive either.
    fn connected(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(|pair| pair.shortest != u32::MAX)
    }

    fn arrived(&self) -> impl Iterator<Item = (f64, f64)> {
        self.connected().filter_map(|pair| Some((f64::from(pair.hops?), f64::from(pair.shortest))))
    }

    pub fn success(&self) -> Option<f64> {
        mean(self.connected().map(|pair| f64::from(u8::from(pair.hops.is_some()))))
    }

    /// Of the pairs that are connected, those that were found.
    pub fn found(&self) -> Option<f64> {
        mean(self.connected().map(|pair| f64::from(u8::from(pair.place.is_some()))))
    }

    /// How many of them asked.
    pub fn lookups_asked(&self) -> Option<usize> {
        Some(self.pairs.len()).filter(|asked| *asked > 0)
    }

    pub fn lookup_success(&self) -> Option<f64> {
        mean(self.pairs.iter().map(|pair| f64::from(u8::from(pair.place.is_some()))))
    }

    pub fn hops_mean(&self) -> Option<f64> {
        mean(self.arrived().map(|(hops, _)| hops))
    }

    pub fn shortest_mean(&self) -> Option<f64> {
        mean(self.arrived().map(|(_, shortest)| shortest))
    }

    pub fn stretch_mean(&self) -> Option<f64> {
        mean(self.arrived().map(|(hops, shortest)| hops / shortest))
    }

    pub fn stretch_p95(&self) -> Option<f64> {
        let mut all: Vec<f64> = self.arrived().map(|(hops, shortest)| hops / shortest).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() * 95 / 100).copied()
    }
}

/// Pairs of nodes that are alive, and in one part of a network that fell apart.
fn choose(world: &World, count: usize, rng: &mut Rng) -> Vec<Pair> {
    let mut pairs = choose_of(world.len(), count, rng);
    let alive = |node: usize| world.node(node).overlay.is_some();
    pairs.retain(|pair| alive(pair.source) && alive(pair.target) && world.are_together(pair.source, pair.target));
    pairs
}

fn choose_of(nodes: usize, count: usize, rng: &mut Rng) -> Vec<Pair> {
    let mut pairs = Vec::with_capacity(count);
    let mut source = 0;
    while pairs.len() < count && nodes > 1 {
        if pairs.len() % TARGETS_PER_SOURCE == 0 {
            source = rng.index(nodes);
        }
        let target = rng.index(nodes);
        if target != source {
            pairs.push(Pair { source, target, place: None, asked: None, hops: None, shortest: u32::MAX });
        }
    }
    pairs
}

fn look_up(world: &mut World, batch: &mut [Pair]) {
    let mut open = BTreeMap::new();
    for (number, pair) in batch.iter_mut().enumerate() {
        let query = Query::Node(world.node(pair.target).id);
        pair.asked = world.with(pair.source, |overlay, now| overlay.lookup(query, true, now));
        if let Some(id) = pair.asked {
            open.insert((pair.source, id), number);
        }
    }
    world.run_until(LOOKUP_LIMIT, |world| {
        for (node, event) in std::mem::take(&mut world.events) {
            let Event::LookupFinished { id, result, .. } = event else { continue };
            let Some(number) = open.remove(&(node, id)) else { continue };
            if let LookupResult::Found(record) = result {
                batch[number].place = record.node().map(|node| node.place.clone());
            }
        }
        open.is_empty()
    });
}

/// Lets a share of all nodes die at once; how many died.
pub fn kill(world: &mut World, share: f64, rng: &mut Rng) -> usize {
    let victims = some_of(world, share, rng);
    for victim in &victims {
        world.kill(*victim);
    }
    world.run(Duration::from_millis(10));
    victims.iter().filter(|victim| world.node(**victim).overlay.is_none()).count()
}

/// A share of the nodes, at random.
pub fn some_of(world: &World, share: f64, rng: &mut Rng) -> Vec<usize> {
    draw((0..world.len()).collect(), share, rng)
}

/// The addresses in the first tree, by node; none for the dead.
pub fn first_addresses(world: &World) -> Vec<Option<Address>> {
    let of = |node: &super::world::Node| node.overlay.as_ref()?.place()?.addresses.in_tree(FIRST_TREE).cloned();
    world.nodes().map(of).collect()
}

/// How many nodes that are alive, and are none of the `movers`, have another address now than then.
pub fn readdressed(world: &World, before: &[Option<Address>], movers: &[usize]) -> usize {
    let now = first_addresses(world);
    let stayed = |node: &usize| world.node(*node).overlay.is_some() && !movers.contains(node);
    (0..world.len()).filter(stayed).filter(|node| before[*node] != now[*node]).count()
}

fn batch(world: &World) -> usize {
    (world.len() / NODES_PER_PAIR).max(BATCH)
}

fn shortest_paths(world: &World, pairs: &mut [Pair]) {
    let alive: Vec<bool> = world.nodes().map(|node| node.overlay.is_some()).collect();
    let usable = |from: usize, to: usize| alive[to] && world.reaches(from, to);
    let mut of_sources: Vec<&mut [Pair]> = pairs.chunk_by_mut(|a, b| a.source == b.source).collect();
    of_sources.par_iter_mut().filter(|pairs| alive[pairs[0].source]).for_each(|pairs| {
        let distances = world.graph().distances(pairs[0].source, usable);
        pairs.iter_mut().for_each(|pair| pair.shortest = distances[pair.target]);
    });
}

fn send(world: &mut World, batch: &mut [Pair]) {
    let mut open = BTreeMap::new();
    for (number, pair) in batch.iter().enumerate().filter(|(_, pair)| pair.shortest != u32::MAX) {
        let Some(place) = pair.place.clone() else { continue };
        let payload = (number as u64).to_be_bytes().to_vec();
        let outgoing = Outgoing { to: world.node(pair.target).id, place, flow: 1, payload: payload.clone() };
        world.with(pair.source, |overlay, now| overlay.send(outgoing, now));
        open.insert((pair.target, payload), number);
    }
    let limit = if world.frozen { FROZEN_LIMIT } else { PACKET_LIMIT };
    world.run_until(limit, |world| {
        for (node, event) in std::mem::take(&mut world.events) {
            let Event::Received(delivery) = event else { continue };
            if let Some(number) = open.remove(&(node, delivery.payload)) {
                batch[number].hops = Some(delivery.hops);
            }
        }
        open.is_empty()
    });
}

fn forwarded(world: &World) -> Vec<u64> {
    let of = |node: &super::world::Node| node.overlay.as_ref().map_or(0, |overlay| overlay.counters().forwarded);
    world.nodes().map(of).collect()
}

/// Bytes of a node's addresses as a record carries them.
pub fn address_bytes_mean(world: &World) -> Option<f64> {
    let places = world.nodes().filter_map(|node| node.overlay.as_ref()?.place());
    mean(places.map(|place| (place.to_bytes().len() - size_of::<u64>()) as f64))
}

/// Bytes of state in a node, mean and 99th percentile.
pub fn state_bytes(world: &World) -> (Option<f64>, Option<f64>) {
    let of = |node: &super::world::Node| Some(node.overlay.as_ref()?.state_bytes().without_records() as f64);
    let mut all: Vec<f64> = world.nodes().filter_map(of).collect();
    all.sort_by(f64::total_cmp);
    (mean(all.iter().copied()), all.get(all.len() * 99 / 100).copied())
}

/// By node: look-ups answered, the links that these had crossed, walks carried.
pub fn walks(world: &World) -> Vec<[u64; 3]> {
    let of = |node: &super::world::Node| {
        node.overlay.as_ref().map_or([0; 3], |overlay| {
            let dht = overlay.dht_counters();
            [dht.answered_gets, dht.get_hops, overlay.counters().walks]
        })
    };
    world.nodes().map(of).collect()
}

/// Of the look-ups between two such counts: links that a walk crossed in the mean, and the share that the busiest node carried.
pub fn walk_figures(before: &[[u64; 3]], after: &[[u64; 3]]) -> (Option<f64>, Option<f64>) {
    let grown =
        |what: usize| before.iter().zip(after).map(move |(before, after)| after[what].saturating_sub(before[what]));
    let answered = grown(0).sum::<u64>() as f64;
    let busiest = grown(2).max().unwrap_or(0) as f64;
    if answered == 0.0 {
        (None, None)
    } else {
        (Some(grown(1).sum::<u64>() as f64 / answered), Some(busiest / answered))
    }
}

/// Replicas of the fullest binder over the mean.
pub fn dht_max_over_mean(world: &World) -> Option<f64> {
    let kept: Vec<f64> = world.nodes().filter_map(|node| Some(node.overlay.as_ref()?.replicas() as f64)).collect();
    let most = kept.iter().copied().fold(0.0, f64::max);
    mean(kept.iter().copied()).filter(|mean| *mean > 0.0).map(|mean| most / mean)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0usize, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / count as f64)
}
