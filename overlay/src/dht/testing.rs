//! Records, clocks, and a small network for tests: walks are carried over a real tree by [`choose`].

use core::time::Duration;
use std::collections::BTreeMap;

use super::{Child, Choice, Config, Dht, DhtTransmit, Event, LookupId, LookupResult, Query, Walk, Weight, choose};
use crate::address::{Address, AddressSet, Place};
use crate::id::{Identity, NodeId};
use crate::record::{NameClaim, NodeRecord, Record, RecordKey, SignedRecord};
use crate::rng::Rng;
use crate::time::{Instant, Now, WallTime};

/// Wall time at the start of each test, in microseconds.
pub(super) const WALL_US: u64 = 1_700_000_000_000_000;

pub(super) fn now_at(micros: u64) -> Now {
    Now { instant: Instant::from_micros(micros), wall: WallTime::from_unix_micros(WALL_US + micros) }
}

pub(super) fn identity(n: u32) -> Identity {
    let mut secret = [9; 32];
    secret[..4].copy_from_slice(&n.to_be_bytes());
    Identity::from_secret(&secret)
}

pub(super) fn place(address: Address, seq: u64) -> Place {
    Place { addresses: AddressSet::single(address), seq }
}

pub(super) fn node_record_at(n: u32, address: Address, seq: u64) -> SignedRecord {
    let key = identity(n);
    let node = NodeRecord {
        seq,
        id: key.id(),
        place: place(address, seq),
        static_cert: vec![0xc0; 100],
        hints: vec![],
        multiaddrs: vec![],
        flags: 0,
        lifetime_s: 3600,
    };
    SignedRecord::sign(&key, Record::Node(node)).unwrap()
}

pub(super) fn node_record(n: u32, seq: u64) -> SignedRecord {
    node_record_at(n, Address::root(), seq)
}

pub(super) fn claim(n: u32, name: &str, seq: u64) -> SignedRecord {
    let key = identity(n);
    let claim = NameClaim { name: name.parse().unwrap(), id: key.id(), seq, lifetime_s: 3600 };
    SignedRecord::sign(&key, Record::Name(claim)).unwrap()
}

/// What a node does with the walks that end at it.
#[derive(Clone, Copy)]
pub(super) enum Manner {
    Honest,
    /// Answers with what a test put there, to everybody.
    Hostile(fn(&[u8]) -> Vec<u8>),
    /// Answers nothing.
    Silent,
}

pub(super) struct Member {
    id: NodeId,
    pub(super) dht: Dht,
    pub(super) alive: bool,
    pub(super) manner: Manner,
    pub(super) address: Address,
    parent: Option<usize>,
    children: Vec<usize>,
    pub(super) events: Vec<Event>,
}

/// A tree of nodes; walks and replies take 10 ms, and vanish when they meet a dead node.
pub(super) struct Net {
    pub(super) members: Vec<Member>,
    pub(super) now: Now,
    by_id: BTreeMap<NodeId, usize>,
    sizes: Vec<u64>,
    flying: BTreeMap<(Instant, u64), Flight>,
    flights: u64,
}

struct Flight {
    from: usize,
    to: usize,
    what: DhtTransmit,
}

const LATENCY: Duration = Duration::from_millis(10);

impl Net {
    /// `count` nodes, each below a random earlier one.
    pub(super) fn new(count: u32, seed: u8) -> Self {
        let now = now_at(1_000_000);
        let mut rng = Rng::from_seed([seed; 32]);
        let mut members: Vec<Member> = Vec::new();
        let mut by_id = BTreeMap::new();
        for n in 0..count {
            let id = identity(n).id();
            let index = members.len();
            let parent = (index > 0).then(|| usize::try_from(rng.below(index as u64)).unwrap());
            let address = parent.map_or_else(Address::root, |parent| {
                let slot = u8::try_from(members[parent].children.len()).unwrap();
                members[parent].children.push(index);
                members[parent].address.child(slot).unwrap()
            });
            let dht = Dht::new(Config::default(), id, rng.bytes(), now);
            let (children, events) = (vec![], vec![]);
            members.push(Member { id, dht, alive: true, manner: Manner::Honest, address, parent, children, events });
            by_id.insert(id, index);
        }
        let mut net = Self { members, now, by_id, sizes: vec![], flying: BTreeMap::new(), flights: 0 };
        net.weigh();
        net
    }

    /// Takes a node and all below it away.
    pub(super) fn kill(&mut self, index: usize) {
        self.members[index].alive = false;
        for child in self.members[index].children.clone() {
            self.kill(child);
        }
    }

    /// Brings a node back, as it was.
    pub(super) fn revive(&mut self, index: usize) {
        self.members[index].alive = true;
        for child in self.members[index].children.clone() {
            self.revive(child);
        }
    }

    /// Sizes are counted anew, and everybody is told that placement changed.
    pub(super) fn settle(&mut self) {
        self.weigh();
        for member in self.members.iter_mut().filter(|member| member.alive) {
            let held = member.dht.held();
            member.dht.handle_placement_change(held, self.now);
        }
    }

    pub(super) fn binder(&self, key: &RecordKey, replica: u8) -> usize {
        let mut at = 0;
        loop {
            match choose(key, replica, &self.members[at].address, Weight::ONE, &self.live_children(at)) {
                Choice::Here => return at,
                Choice::Child(id) => at = self.by_id[&id],
            }
        }
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        loop {
            self.collect();
            let timers =
                self.members.iter().filter(|member| member.alive).filter_map(|member| member.dht.poll_timeout());
            let next_timer = timers.map(|(at, _)| at).min();
            let next_flight = self.flying.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = next_timer.into_iter().chain(next_flight).min().filter(|at| *at <= end.instant) else {
                break;
            };
            self.now = self.now.after(at.since(self.now.instant));
            if let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now.instant) {
                let flight = entry.remove();
                self.land(flight);
            }
            for member in self.members.iter_mut().filter(|member| member.alive) {
                member.dht.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    /// Looks `query` up at a node, and says how it ended and how long it took.
    pub(super) fn look_up(&mut self, at: usize, query: Query, fresh: bool) -> (LookupResult, Duration) {
        let begun = self.now.instant;
        let id = self.members[at].dht.lookup(query, fresh, self.now);
        for _ in 0..6000 {
            self.collect();
            if let Some(result) = self.result_of(at, id) {
                return (result, self.now.instant.since(begun));
            }
            self.run(Duration::from_millis(1));
        }
        panic!("the lookup did not end");
    }

    fn result_of(&self, at: usize, wanted: LookupId) -> Option<LookupResult> {
        self.members[at].events.iter().find_map(|event| match event {
            Event::LookupFinished { id, result, .. } if *id == wanted => Some(result.clone()),
            _ => None,
        })
    }

    pub(super) fn weigh(&mut self) {
        self.sizes = vec![0; self.members.len()];
        for index in (0..self.members.len()).rev().filter(|index| self.members[*index].alive) {
            let below: u64 = self.members[index].children.iter().map(|child| self.sizes[*child]).sum();
            self.sizes[index] = 1 + below;
        }
    }

    fn live_children(&self, at: usize) -> Vec<Child> {
        let children = self.members[at].children.iter().filter(|child| self.members[**child].alive);
        let child = |index: &usize| {
            let member = &self.members[*index];
            let slot = *member.address.as_slice().last().unwrap();
            Child { id: member.id, slot: slot.into(), weight: Weight::of(self.sizes[*index]) }
        };
        children.map(child).collect()
    }

    /// Whether a walk from `index` gets to the root.
    pub(super) fn is_attached(&self, index: usize) -> bool {
        self.members[index].alive && self.members[index].parent.is_none_or(|parent| self.is_attached(parent))
    }

    fn collect(&mut self) {
        for from in 0..self.members.len() {
            while let Some(event) = self.members[from].dht.poll_event() {
                self.members[from].events.push(event);
            }
            while let Some(what) = self.members[from].dht.poll_transmit() {
                if !self.is_attached(from) {
                    continue;
                }
                let to = match &what {
                    DhtTransmit::Walk { key, replica, .. } => self.binder(key, *replica),
                    DhtTransmit::Reply { to, .. } => self.by_id[to],
                };
                self.flights += 1;
                self.flying.insert((self.now.instant + LATENCY, self.flights), Flight { from, to, what });
            }
        }
    }

    fn land(&mut self, Flight { from, to, what }: Flight) {
        let sender = self.members[from].id;
        let return_place = place(self.members[from].address.clone(), 1);
        let member = &mut self.members[to];
        match (what, member.manner) {
            _ if !member.alive => {}
            (DhtTransmit::Walk { .. }, Manner::Silent) => {}
            (DhtTransmit::Walk { body, .. }, Manner::Hostile(answer)) => {
                let reply = answer(&body);
                self.members[from].dht.handle_reply(sender, &reply, self.now);
            }
            (DhtTransmit::Walk { key, replica, body }, Manner::Honest) => {
                member.dht.handle_at_binder(
                    Walk { from: sender, return_place, key, replica, hops: 0 },
                    &body,
                    self.now,
                    || true,
                );
            }
            (DhtTransmit::Reply { body, .. }, _) => member.dht.handle_reply(sender, &body, self.now),
        }
    }
}
