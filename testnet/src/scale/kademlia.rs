//! A baseline for look-ups: a Kademlia (Maymounkov and Mazières, IPTPS 2002) with the parameters of `libp2p-kad`.
//!
//! A model: a request takes no time, a dead node is noticed by whoever asks it, and a bucket that holds a dead node takes a new one instead, as
//! libp2p's does with a peer that is disconnected. Records are put to the k closest nodes at each start of their node, and by each
//! keeper once an hour. There are no hints, no links to keep, and any two nodes reach each other: what it is compared with has none of that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use overlay::rng::Rng;
use overlay::time::Instant;

use super::churn::{Comings, Lookups, SETTLED};

/// Contacts in a bucket, and keepers of a record (`K_VALUE`).
const K: usize = 20;
/// Requests under way at a time in one look-up (`ALPHA_VALUE`).
const ALPHA: usize = 3;
/// How often a keeper puts a record again (`replication_interval`).
const REPLICATION: Duration = Duration::from_hours(1);
/// Buckets that a node fills with look-ups of random keys when it starts.
const REFRESHED: usize = 4;
/// Longer than any look-up.
const MAX_REQUESTS: usize = 200;

type Key = [u8; 32];

#[derive(Default)]
struct Node {
    alive: bool,
    since: Instant,
    /// By length of the common prefix, in bits.
    buckets: BTreeMap<u32, Vec<usize>>,
    /// By owner: which run of it the record is of.
    records: HashMap<usize, u32>,
    /// How often it has started.
    run: u32,
}

/// A network of them.
pub struct Kademlia {
    keys: Vec<Key>,
    nodes: Vec<Node>,
}

/// What a look-up found.
struct Found {
    closest: Vec<usize>,
    run: Option<u32>,
    hops: u32,
}

impl Kademlia {
    /// So many nodes that know each other well, and all records where they belong.
    pub fn new(count: usize, rng: &mut Rng) -> Self {
        let keys: Vec<Key> = (0..count).map(|_| rng.bytes()).collect();
        let mut kademlia = Self { keys, nodes: (0..count).map(|_| Node { alive: true, ..Node::default() }).collect() };
        let mut sorted: Vec<usize> = (0..count).collect();
        sorted.sort_by_key(|node| kademlia.keys[*node]);
        for (place, &node) in sorted.iter().enumerate() {
            // The neighbours by key fill the far buckets, random nodes the near ones.
            let around = place.saturating_sub(2 * K)..(place + 2 * K).min(count);
            let random: Vec<usize> = (0..40 * K).map(|_| rng.index(count)).collect();
            for &other in sorted[around].iter().chain(&random) {
                kademlia.learn(node, other);
            }
        }
        for node in 0..count {
            kademlia.publish(node, rng.index(count));
        }
        kademlia
    }

    /// So many look-ups where nothing fails; how these ended, and the steps that one took in the mean.
    pub fn look_up(&mut self, lookups: usize, rng: &mut Rng) -> (Lookups, Option<f64>) {
        let (mut result, mut hops) = (Lookups::default(), 0);
        for _ in 0..lookups {
            hops += self.look_up_one(Instant::ZERO + SETTLED, &mut result, rng);
        }
        (result, mean(result, hops))
    }

    /// Nodes come and go, with so many look-ups meanwhile; how these ended, and the steps that one took in the mean.
    pub fn churn(&mut self, median_s: f64, span: Duration, lookups: usize, rng: &mut Rng) -> (Lookups, Option<f64>) {
        let count = self.nodes.len();
        let mut now = Instant::from_micros(1);
        let mut comings = Comings::new(count, median_s, now, rng);
        let mut due: BTreeSet<(Instant, usize)> =
            (0..count).map(|node| (now + rng.jitter(REPLICATION.saturating_mul(2)), node)).collect();
        let (mut result, mut hops, steps) = (Lookups::default(), 0u64, span.as_secs().max(1));
        for step in 0..steps {
            now = now + Duration::from_secs(1);
            let alive: Vec<bool> = self.nodes.iter().map(|node| node.alive).collect();
            for node in comings.due(now, |node| alive[node], rng) {
                self.change(node, now, rng);
            }
            while let Some(&(at, node)) = due.first().filter(|(at, _)| *at <= now) {
                due.remove(&(at, node));
                due.insert((now + REPLICATION, node));
                self.replicate(node);
            }
            let asked = lookups as u64 * (step + 1) / steps - lookups as u64 * step / steps;
            for _ in 0..asked {
                hops += self.look_up_one(now, &mut result, rng);
            }
        }
        (result, mean(result, hops))
    }

    /// One node looks another one up, if both have been there for a while; the steps that took.
    fn look_up_one(&mut self, now: Instant, result: &mut Lookups, rng: &mut Rng) -> u64 {
        let count = self.nodes.len();
        let (source, target) = (rng.index(count), rng.index(count));
        let settled = |node: &Node| node.alive && now.since(node.since) >= SETTLED;
        if source == target || !settled(&self.nodes[source]) || !settled(&self.nodes[target]) {
            return 0;
        }
        let found = self.find(source, &self.keys[target].clone(), Some(target));
        result.asked += 1;
        if let Some(run) = found.run {
            result.found += 1;
            result.stale += usize::from(run != self.nodes[target].run);
        }
        u64::from(found.hops)
    }

    fn change(&mut self, node: usize, now: Instant, rng: &mut Rng) {
        let starts = !self.nodes[node].alive;
        self.nodes[node] = Node { alive: starts, since: now, run: self.nodes[node].run + 1, ..Node::default() };
        if !starts {
            return;
        }
        let alive: Vec<usize> =
            (0..8).map(|_| rng.index(self.nodes.len())).filter(|other| self.nodes[*other].alive).collect();
        let Some(&bootstrap) = alive.first().filter(|first| **first != node) else { return };
        self.learn(node, bootstrap);
        self.find(node, &self.keys[node].clone(), None);
        for _ in 0..REFRESHED {
            self.find(node, &rng.bytes(), None);
        }
        self.publish(node, node);
    }

    /// Puts the record of `owner`, by `from`, to the nodes closest to its key.
    fn publish(&mut self, owner: usize, from: usize) {
        let run = self.nodes[owner].run;
        self.put(owner, run, from);
    }

    fn put(&mut self, owner: usize, run: u32, from: usize) {
        let key = self.keys[owner];
        for keeper in self.find(from, &key, None).closest {
            let kept = self.nodes[keeper].records.entry(owner).or_insert(run);
            *kept = (*kept).max(run);
        }
    }

    fn replicate(&mut self, node: usize) {
        if !self.nodes[node].alive {
            return;
        }
        let mut records: Vec<(usize, u32)> =
            self.nodes[node].records.iter().map(|(owner, run)| (*owner, *run)).collect();
        records.sort_unstable();
        for (owner, run) in records {
            self.put(owner, run, node);
        }
    }

    /// Looks for the nodes closest to `key`, or for the record of `owner`, which the first one that has it ends.
    fn find(&mut self, source: usize, key: &Key, owner: Option<usize>) -> Found {
        let mut asked = BTreeSet::from([source]);
        let mut known: BTreeMap<Key, (usize, u32)> = BTreeMap::new();
        for contact in self.closest(source, key) {
            known.insert(distance(&self.keys[contact], key), (contact, 1));
        }
        let mut found = Found { closest: Vec::new(), run: None, hops: 0 };
        while asked.len() < MAX_REQUESTS {
            let next: Vec<(usize, u32)> =
                known.values().take(K).filter(|(node, _)| !asked.contains(node)).take(ALPHA).copied().collect();
            if next.is_empty() {
                break;
            }
            for (node, hops) in next {
                asked.insert(node);
                if !self.nodes[node].alive {
                    known.remove(&distance(&self.keys[node], key));
                    continue;
                }
                found.hops = found.hops.max(hops);
                self.learn(node, source);
                self.learn(source, node);
                if let Some(run) = owner.and_then(|owner| self.nodes[node].records.get(&owner)) {
                    found.run = Some(*run);
                    return found;
                }
                for contact in self.closest(node, key) {
                    known.entry(distance(&self.keys[contact], key)).or_insert((contact, hops + 1));
                }
            }
        }
        found.closest = known.values().take(K).map(|(node, _)| *node).filter(|node| self.nodes[*node].alive).collect();
        found
    }

    /// The closest contacts to `key` that `node` has.
    fn closest(&self, node: usize, key: &Key) -> Vec<usize> {
        let mut all: Vec<usize> = self.nodes[node].buckets.values().flatten().copied().collect();
        all.sort_by_key(|contact| distance(&self.keys[*contact], key));
        all.truncate(K);
        all
    }

    /// `node` has met `other`.
    fn learn(&mut self, node: usize, other: usize) {
        if node == other {
            return;
        }
        let bits = common_bits(&self.keys[node], &self.keys[other]);
        let bucket = self.nodes[node].buckets.get(&bits).cloned().unwrap_or_default();
        if bucket.contains(&other) {
            return;
        }
        let gone = bucket.iter().position(|contact| !self.nodes[*contact].alive);
        let bucket = self.nodes[node].buckets.entry(bits).or_default();
        match gone {
            _ if bucket.len() < K => bucket.push(other),
            Some(gone) => bucket[gone] = other,
            None => {}
        }
    }
}

fn mean(lookups: Lookups, hops: u64) -> Option<f64> {
    (lookups.asked > 0).then(|| hops as f64 / lookups.asked as f64)
}

fn distance(a: &Key, b: &Key) -> Key {
    std::array::from_fn(|at| a[at] ^ b[at])
}

fn common_bits(a: &Key, b: &Key) -> u32 {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let differ = a.get(same).zip(b.get(same)).map_or(0, |(a, b)| (a ^ b).leading_zeros());
    u32::try_from(same).unwrap_or(u32::MAX).saturating_mul(u8::BITS).saturating_add(differ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_churn_every_look_up_finds_the_newest_record() {
        let mut rng = Rng::from_seed([1; 32]);
        let mut kademlia = Kademlia::new(300, &mut rng);
        let churned = kademlia.churn(1e12, Duration::from_secs(120), 500, &mut rng);
        for (lookups, hops) in [churned, kademlia.look_up(500, &mut rng)] {
            assert!(lookups.asked > 200 && lookups.found == lookups.asked && lookups.stale == 0, "{lookups:?}");
            assert!((1.0..5.0).contains(&hops.unwrap()), "{hops:?}");
        }
    }

    #[test]
    fn common_bits_are_counted_over_bytes() {
        let (a, mut b) = ([0; 32], [0; 32]);
        b[1] = 0x10;
        assert_eq!(common_bits(&a, &b), 11);
    }
}
