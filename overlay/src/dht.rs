//! The distributed table of signed records: who is where, and whom a name means.
//!
//! A record is kept by its *binders*, one for each of [`REPLICAS`] salts. A request travels to the binder as a *walk*: to the
//! first vertex that the asker cannot decide for by the tables that it knows, or to the root, then down by [`choose`] at each vertex until that
//! says [`Choice::Here`]. The binder answers straight to the return place in the walk. [`Dht`] is the part of one node: it makes walks and
//! replies, and is told what arrives.
//!
//! What the overlay, which embeds it, does:
//!
//! - It carries each [`DhtTransmit::Walk`] to its binder, from this node on: if this node is the root, or the walk is on its way
//!   down, by [`choose`]. Where a walk ends, also on the node where it began, it calls [`Dht::handle_at_binder`].
//! - It sends each [`DhtTransmit::Reply`] to its place, and calls [`Dht::handle_reply`] at the other end.
//! - Both may be lost at any time, for instance when there is no place: everything is asked again.
//! - It calls [`Dht::publish`] with a new node record when the place changed, then [`Dht::handle_place_change`]; and
//!   [`Dht::handle_placement_change`] when what `choose` depends on changed, here or at a vertex above: children, weights, addresses;
//!   it knows, and tells, which records are concerned.
//! - To leave, it first sees to it that walks do not end here any more (own weight [`Weight::NONE`] and the parent told), then
//!   calls [`Dht::leave`] and sends what comes out.
//!
//! Nothing that a peer says is believed unless a signature proves it: a binder can at most withhold, or repeat what is old.
//! Against that stand the replicas, and the newest number seen of each record ([`LookupResult::Missing`] is better than stale).

mod handover;
mod lookup;
mod placement;
mod publish;
mod requests;
mod store;
mod wire;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) use handover::HANDOVER_INTERVAL;
pub use lookup::{LookupId, LookupResult, MAX_LOOKUPS};
pub use placement::{Child, Choice, REPLICAS, Table, Weight, choose};
pub use publish::MAX_OWN_RECORDS;
pub(crate) use store::is_ahead;
pub use store::{MAX_CLAIMS_PER_NODE, MAX_STORED_RECORDS};
pub use wire::{MAX_BODY_BYTES, Refusal};

pub use crate::record::Query;

use crate::address::Place;
use crate::codec;
use crate::id::{CheckEach, CheckSignatures, NodeId};
use crate::record::{MAX_RECORD_BYTES, RecordKey, SignedRecord};
use crate::rng::Rng;
use crate::time::{Instant, Now};
use crate::timer::Timers;
use handover::Handover;
use lookup::Lookups;
use publish::Publisher;
use requests::{Purpose, Requests};
use store::{PutOutcome, Store};
use wire::{Answer, Reply, Request};

/// All nodes together put their records again no more often than once in this time.
const REFRESH_PER_NODE: Duration = Duration::from_millis(30);
/// Longest stored form of the records that are kept for others, in bytes.
const STORED_LIMIT_BYTES: usize = MAX_STORED_RECORDS * (MAX_RECORD_BYTES + 32);
/// Longest time until a node puts its records again: far less than they count.
const MAX_REFRESH: Duration = Duration::from_hours(6);
/// Most walks and replies that wait to be taken; further ones are dropped.
pub const MAX_QUEUED_TRANSMITS: usize = 4096;

/// The times that somebody may want to change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// How often own records are put again at least, for the case that a binder dies; more rarely in a large overlay.
    pub refresh: Duration,
    /// When the second pair of replicas is asked.
    pub second_pair_after: Duration,
    /// How long a first record waits for a newer one from another binder.
    pub grace: Duration,
    /// After what time without an answer a replica is asked again.
    pub retry: Duration,
    /// When a lookup ends in any case.
    pub deadline: Duration,
    /// How long a found record answers the next lookups.
    pub cache: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(30),
            second_pair_after: Duration::from_millis(150),
            grace: Duration::from_millis(80),
            retry: Duration::from_secs(1),
            deadline: Duration::from_secs(5),
            cache: Duration::from_secs(10),
        }
    }
}

/// Something to be carried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DhtTransmit {
    /// To the binder of `key` and `replica`, with this node's id and place as the return address.
    Walk {
        /// Where to.
        key: RecordKey,
        /// Under which salt, below [`REPLICAS`].
        replica: u8,
        /// At most [`MAX_BODY_BYTES`].
        body: Vec<u8>,
    },
    /// To the node that sent a walk.
    Reply {
        /// Which node.
        to: NodeId,
        /// Where it was when it sent.
        place: Place,
        /// At most [`MAX_BODY_BYTES`].
        body: Vec<u8>,
    },
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A lookup is over.
    LookupFinished {
        /// Which one.
        id: LookupId,
        /// What was asked.
        query: Query,
        /// The outcome.
        result: LookupResult,
    },
    /// All binders keep this version of an own record, or enough of them do and the others are silent or refuse it.
    Published {
        /// What it answers.
        query: Query,
        /// Its number.
        seq: u64,
    },
    /// The own claim of a name is refused: another node's stands. Or a lookup saw claims by several nodes.
    NameConflict {
        /// The claim that stands, or one of those seen.
        incumbent: SignedRecord,
    },
    /// The own claim of a name is another node's to have, but some binders keep it: they should forget it.
    Yielded {
        /// The claim.
        record: SignedRecord,
    },
    /// A claim that yielded is to be tried again: sign it anew, with a higher number (`Dht::renew`).
    Renew {
        /// The claim.
        record: SignedRecord,
    },
    /// A binder does not keep this version of an own record: it is numbered more than a day ahead of the binder's clock, so one of the two clocks is
    /// wrong. Said once for each version; others may keep it.
    Ahead {
        /// What it answers.
        query: Query,
    },
    /// Binders know a newer record signed with this node's key (from before a restart): sign a new one, numbered above it.
    Superseded {
        /// The newer record.
        record: SignedRecord,
    },
}

/// A timer of [`Dht`]: why it wants to be called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// Put an own record again to binders that have not answered.
    Publish(RecordKey),
    /// Put again what takes a record back.
    TakeBack(RecordKey),
    /// Put all own records again, and forget what expired.
    Refresh,
    /// Walk stored records to their binders.
    Handover,
    /// Ask the second pair of replicas.
    SecondPair(LookupId),
    /// A lookup waited long enough for a newer record.
    Grace(LookupId),
    /// Ask silent replicas again.
    Retry(LookupId),
    /// A lookup ends.
    Deadline(LookupId),
}

/// A walk that has arrived at a binder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walk {
    /// Who began it, as it says.
    pub from: NodeId,
    /// Where that was then.
    pub return_place: Place,
    /// Of which record.
    pub key: RecordKey,
    /// Under which salt.
    pub replica: u8,
    /// Links that it crossed.
    pub hops: u16,
}

/// How often something happened that should not, or only rarely.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Bodies that could not be decoded, or with a replica out of range.
    pub malformed: u64,
    /// Records with a wrong signature or of another key, in requests or replies.
    pub invalid_records: u64,
    /// Valid records older than one seen before.
    pub stale_records: u64,
    /// Replies that nobody waits for.
    pub unexpected_replies: u64,
    /// Transmits dropped because the queue was full.
    pub dropped_transmits: u64,
    /// Puts refused.
    pub refused_puts: u64,
    /// Requests answered.
    pub answered_requests: u64,
    /// Of those, look-ups.
    pub answered_gets: u64,
    /// Links that these look-ups had crossed, together.
    pub get_hops: u64,
    /// Records that another binder took over.
    pub handed_over: u64,
}

/// One node's part of the table.
pub struct Dht {
    config: Config,
    /// How often own records are put again, for an overlay of this size.
    refresh: Duration,
    /// When they would be put next, had the overlay not been said to have shrunk; and how often an overlay of that size puts them.
    moved_forward: Option<(Instant, Duration)>,
    checks: Arc<dyn CheckSignatures>,
    id: NodeId,
    rng: Rng,
    store: Store,
    publisher: Publisher,
    handover: Handover,
    lookups: Lookups,
    requests: Requests,
    timers: Timers<Timer>,
    transmits: VecDeque<DhtTransmit>,
    events: VecDeque<Event>,
    counters: Counters,
}

impl Dht {
    /// The part of node `id`, with nothing in it.
    pub fn new(config: Config, id: NodeId, seed: [u8; 32], now: Now) -> Self {
        let mut dht = Self {
            refresh: config.refresh,
            moved_forward: None,
            checks: Arc::new(CheckEach),
            config,
            id,
            rng: Rng::from_seed(seed),
            store: Store::default(),
            publisher: Publisher::default(),
            handover: Handover::default(),
            lookups: Lookups::default(),
            requests: Requests::default(),
            timers: Timers::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        };
        dht.schedule_refresh(now.instant);
        dht
    }

    /// Whether other records are kept for others than at the last call.
    pub fn take_changed(&mut self) -> bool {
        self.store.take_changed()
    }

    /// The records that are kept for others, for [`Dht::restore`].
    pub fn written(&self, now: Now) -> Option<Vec<u8>> {
        codec::encode(&self.store.written(now)).ok()
    }

    /// Takes over what an earlier run kept. What is no record any more is left out: its owner puts it again.
    pub fn restore(&mut self, stored: &[u8], now: Now) {
        let written = codec::decode::<Vec<store::Written>, STORED_LIMIT_BYTES>(stored).unwrap_or_default();
        for (bytes, expires_unix_s, replicas) in written {
            if let Ok(record) = SignedRecord::verify_with(&bytes, self.checks.as_ref()) {
                self.store.restore(record, expires_unix_s, replicas, now);
            }
        }
    }

    /// A walk ended here: `from` asks, and waits for an answer at `return_place`. What it brings is dropped if its signature has to be checked, and
    /// `may_check` says no.
    pub fn handle_at_binder(&mut self, walk: Walk, body: &[u8], now: Now, may_check: impl FnOnce() -> bool) {
        let Walk { from, return_place, key, replica, hops } = walk;
        let request = wire::decode_request(body).ok().filter(|_| replica < REPLICAS);
        let Some(request) = request else {
            self.counters.malformed += 1;
            return;
        };
        let reply = match request {
            Request::Get { nonce } => {
                self.counters.answered_gets += 1;
                self.counters.get_hops += u64::from(hops);
                Reply { nonce, answer: self.answer_get(&key, now) }
            }
            Request::Put { nonce, remaining_s, record } => {
                // The one that is kept was checked.
                let kept = self.store.record(&key, now.instant).map(|(kept, _)| kept);
                let kept = kept.filter(|kept| kept.as_bytes() == record).cloned();
                if kept.is_none() && !may_check() {
                    return;
                }
                let record = kept.or_else(|| self.valid_record(&key, &record));
                Reply { nonce, answer: self.answer_put(replica, remaining_s, record, now) }
            }
        };
        self.counters.answered_requests += 1;
        if from == self.id {
            self.accept_reply(from, reply, now);
        } else if let Ok(body) = codec::encode(&reply) {
            self.queue(DhtTransmit::Reply { to: from, place: return_place, body });
        }
    }

    /// A reply arrived, as it says from `from`.
    pub fn handle_reply(&mut self, from: NodeId, body: &[u8], now: Now) {
        match wire::decode_reply(body) {
            Ok(reply) => self.accept_reply(from, reply, now),
            Err(_) => self.counters.malformed += 1,
        }
    }

    /// Whether this is the answer to an open [`Dht::ask_anybody`]; nobody else may say where members are.
    pub fn is_from_anybody(&self, body: &[u8]) -> bool {
        wire::decode_reply(body).is_ok_and(|reply| self.requests.purpose(reply.nonce) == Some(Purpose::Anybody))
    }

    /// This node has a new place, or a place again: puts its records and asks open lookups at once. Call after
    /// [`Dht::publish`] of the new node record.
    pub fn handle_place_change(&mut self, now: Now) {
        self.republish_all(now);
        self.ask_open_lookups_again(now);
    }

    /// What this node is the binder of: key and replica of each.
    pub fn held(&self) -> Vec<(RecordKey, u8)> {
        self.store.held().collect()
    }

    /// These records, of [`Dht::held`], belong elsewhere now: they walk to their binders, bounded in rate.
    pub fn handle_placement_change(&mut self, moved: impl IntoIterator<Item = (RecordKey, u8)>, now: Now) {
        self.request_handover(moved, now);
    }

    /// Has signatures checked in another way.
    pub fn set_signature_checks(&mut self, checks: Arc<dyn CheckSignatures>) {
        self.checks = checks;
    }

    /// So many nodes are in the overlay, as far as this one knows: the more there are, the rarer each puts its records again.
    pub fn set_overlay_size(&mut self, nodes: u32, now: Now) {
        let before = self.refresh;
        self.refresh = self.config.refresh.max(REFRESH_PER_NODE.saturating_mul(nodes)).min(MAX_REFRESH);
        // What was said of the size was wrong, or most have left, and what they kept is lost: nobody waits for hours.
        if self.refresh < before / 2 {
            let sooner = now.instant + self.rng.jitter(self.refresh);
            if let Some(due) = self.timers.get(Timer::Refresh).filter(|due| sooner < *due) {
                let due = self.moved_forward.map_or(due, |(due, _)| due);
                self.moved_forward = Some((due, self.refresh));
                self.timers.set(Timer::Refresh, sooner);
            }
        }
    }

    /// Asks for a random key: who answers is a random member.
    pub fn ask_anybody(&mut self) {
        let key: RecordKey = self.rng.bytes();
        let nonce = self.requests.open(Purpose::Anybody, &mut self.rng);
        self.walk(key, 0, &Request::Get { nonce });
    }

    /// Hands over what is stored, at once.
    pub fn leave(&mut self, now: Now) {
        self.hand_over_all(now);
    }

    /// Does what is due; calls that come early do nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_expired(now.instant) {
            match timer {
                Timer::Publish(key) => self.publish_timer(&key, now),
                Timer::TakeBack(key) => self.take_back_timer(&key, now),
                Timer::Refresh => self.refresh(now),
                Timer::Handover => self.hand_over_batch(now),
                Timer::SecondPair(id) => self.ask_second_pair(id, now),
                Timer::Grace(id) => self.end_grace(id, now),
                Timer::Retry(id) => self.ask_again(id, now),
                Timer::Deadline(id) => self.end_lookup_at_deadline(id, now),
            }
        }
    }

    /// The next walk or reply to carry.
    pub fn poll_transmit(&mut self) -> Option<DhtTransmit> {
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Dht::handle_timeout`] has to be called, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.timers.next()
    }

    /// How many records this node keeps for others (and itself, where it is its own binder).
    pub fn stored(&self) -> usize {
        self.store.len()
    }

    /// What was counted.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn answer_get(&self, key: &RecordKey, now: Now) -> Answer {
        self.store.record(key, now.instant).map_or(Answer::Missing, |(record, remaining_s)| Answer::Found {
            remaining_s,
            record: record.as_bytes().to_vec(),
        })
    }

    fn answer_put(&mut self, replica: u8, remaining_s: u32, record: Option<SignedRecord>, now: Now) -> Answer {
        let Some(record) = record else { return Answer::Refused(Refusal::Invalid) };
        match self.store.put(replica, record, remaining_s, now) {
            PutOutcome::Stored => Answer::Stored,
            PutOutcome::Kept(incumbent) => Answer::Conflict { record: incumbent.as_bytes().to_vec() },
            PutOutcome::Refused(refusal) => {
                self.counters.refused_puts += 1;
                Answer::Refused(refusal)
            }
        }
    }

    fn accept_reply(&mut self, from: NodeId, reply: Reply, now: Now) {
        match self.requests.take(reply.nonce) {
            Some(Purpose::Publish { key, seq, replica }) => {
                self.settle_put(from, &key, seq, replica, &reply.answer, now);
            }
            Some(Purpose::Handover { key, replica }) => self.settle_handover(from, &key, replica, &reply.answer, now),
            Some(Purpose::Anybody) => {}
            Some(Purpose::Get { lookup, replica }) => self.settle_get(lookup, from, replica, reply.answer, now),
            None => self.counters.unexpected_replies += 1,
        }
    }

    /// Forgets what is kept for others.
    pub fn forget_records(&mut self) {
        self.store = Store::default();
    }

    /// The record in `bytes`, if it is valid and belongs under `key`.
    fn valid_record(&mut self, key: &RecordKey, bytes: &[u8]) -> Option<SignedRecord> {
        let record = SignedRecord::verify_with(bytes, self.checks.as_ref()).ok().filter(|record| record.key() == key);
        if record.is_none() {
            self.counters.invalid_records += 1;
        }
        record
    }

    fn walk(&mut self, key: RecordKey, replica: u8, request: &Request) {
        if let Ok(body) = codec::encode(request) {
            self.queue(DhtTransmit::Walk { key, replica, body });
        }
    }

    fn queue(&mut self, transmit: DhtTransmit) {
        if self.transmits.len() < MAX_QUEUED_TRANSMITS {
            self.transmits.push_back(transmit);
        } else {
            self.counters.dropped_transmits += 1;
        }
    }
}

impl core::fmt::Debug for Dht {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Dht({:?}, {} stored)", self.id, self.store.len())
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
