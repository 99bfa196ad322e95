//! Lookups: two replicas at once, the others soon after, the newest valid record of the first two answers.
//!
//! A node signs where it is, so one answer says who it is and only may be old. A name is whose most binders say it is, and what the first look-up says is
//! kept: that ends when two agree and nobody differs, or when no more answers can come.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::BTreeMap;

use super::requests::Purpose;
use super::store::newness;
use super::wire::{Answer, Request};
use super::{Dht, Event, REPLICAS, Timer};
use crate::id::NodeId;
use crate::record::{Query, RecordKey, SignedRecord};
use crate::time::{Instant, Now};

/// Most lookups at a time; further ones end unanswered at once.
pub const MAX_LOOKUPS: usize = 256;
/// Most records whose newest number is remembered; the one used longest ago is forgotten first.
const MAX_SEEN: usize = 1024;
/// Replicas asked at once.
const FIRST_PAIR: u8 = 2;
/// Answers that are enough to judge by.
const ENOUGH_ANSWERS: usize = 2;
/// Binders that have to agree on whose a name is before the others are not waited for.
const NAME_WITNESSES: usize = 2;
/// A lookup of the same begun so long ago is not waited for: it may end before there is an answer to be had.
const JOINS_WITHIN: Duration = Duration::from_secs(1);
/// Spread of a retry, so that lookups begun together do not stay together.
const RETRY_SPREAD: Duration = Duration::from_millis(20);

/// A lookup, numbered by [`Dht::lookup`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LookupId(pub u64);

/// How a lookup ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LookupResult {
    /// With this record: signed, of the key asked for, and no older than any seen before.
    Found(SignedRecord),
    /// No binder has it: all of them answered, or at the deadline at least two had.
    Missing,
    /// Fewer than two binders answered in time, or those that did say by as many voices that a name is one node's and another's; or too many lookups are open.
    Unanswered,
}

#[derive(Default)]
pub(super) struct Lookups {
    next: u64,
    open: BTreeMap<LookupId, Lookup>,
    seen: BTreeMap<RecordKey, Seen>,
}

struct Lookup {
    query: Query,
    key: RecordKey,
    begun: Instant,
    /// Lookups of the same that were begun soon after, and end with it.
    others: Vec<LookupId>,
    /// By replica.
    asked: [bool; REPLICAS as usize],
    answers: [Option<Heard>; REPLICAS as usize],
    in_grace: bool,
}

/// A binder's answer to a lookup.
enum Heard {
    /// What it keeps, and for how many seconds more; whether it claims that itself, and so is no witness.
    Found { record: Box<SignedRecord>, remaining_s: u32, by_claimant: bool },
    /// Nothing, or something older than what was seen before.
    Nothing,
}

/// The newest record of a key that a lookup ended with.
struct Seen {
    record: SignedRecord,
    fresh_until: Instant,
    used: Instant,
}

impl Dht {
    /// Looks for the record that answers `query`; [`Event::LookupFinished`] follows, within the deadline.
    ///
    /// Own records, and unless `fresh` those found in the last seconds, are answered at once. Ask for a fresh one when what the
    /// last one said does not work.
    pub fn lookup(&mut self, query: Query, fresh: bool, now: Now) -> LookupId {
        let id = LookupId(self.lookups.next);
        self.lookups.next += 1;
        let key = query.key();
        if let Some(record) = self.known(&key, fresh, now.instant) {
            self.report(id, query, LookupResult::Found(record));
        } else if self.waits_with_another(id, &key, fresh, now.instant) {
            // One that asks already answers both.
        } else if self.lookups.open.len() >= MAX_LOOKUPS {
            self.report(id, query, LookupResult::Unanswered);
        } else {
            let (asked, answers, others) = ([false; 4], [const { None }; 4], vec![]);
            let lookup = Lookup { query, key, begun: now.instant, others, asked, answers, in_grace: false };
            self.lookups.open.insert(id, lookup);
            for replica in 0..FIRST_PAIR {
                self.ask(id, replica);
            }
            self.timers.set(Timer::SecondPair(id), now.instant + self.config.second_pair_after);
            self.schedule_retry(id, now);
            self.timers.set(Timer::Deadline(id), now.instant + self.config.deadline);
        }
        id
    }

    /// Whether a lookup of the same is open, with which this one ends then. A fresh one does not do with what was answered before it was begun.
    fn waits_with_another(&mut self, id: LookupId, key: &RecordKey, fresh: bool, now: Instant) -> bool {
        let same = |lookup: &&mut Lookup| {
            let news = !fresh || lookup.answers.iter().all(Option::is_none);
            let recent = now.since(lookup.begun) < JOINS_WITHIN;
            lookup.key == *key && news && recent && lookup.others.len() < MAX_LOOKUPS
        };
        let Some(lookup) = self.lookups.open.values_mut().find(same) else { return false };
        lookup.others.push(id);
        true
    }

    pub(super) fn ask_second_pair(&mut self, id: LookupId, now: Now) {
        self.timers.cancel(Timer::SecondPair(id));
        let Some(lookup) = self.lookups.open.get(&id) else { return };
        let unasked: Vec<u8> = (0..REPLICAS).zip(&lookup.asked).filter(|(_, asked)| !**asked).map(|(r, _)| r).collect();
        for replica in unasked {
            self.ask(id, replica);
        }
        self.finish_if_done(id, now);
    }

    pub(super) fn ask_again(&mut self, id: LookupId, now: Now) {
        let Some(lookup) = self.lookups.open.get(&id) else { return };
        let silent: Vec<u8> = (0..REPLICAS).zip(&lookup.answers).filter(|(_, a)| a.is_none()).map(|(r, _)| r).collect();
        for replica in silent {
            self.ask(id, replica);
        }
        self.schedule_retry(id, now);
    }

    pub(super) fn ask_open_lookups_again(&mut self, now: Now) {
        let ids: Vec<LookupId> = self.lookups.open.keys().copied().collect();
        for id in ids {
            self.ask_again(id, now);
        }
    }

    pub(super) fn end_grace(&mut self, id: LookupId, now: Now) {
        let Some(lookup) = self.lookups.open.get(&id).filter(|lookup| lookup.has_found()) else { return };
        if lookup.asks_whose_name() && !self.is_agreed(lookup, now) {
            // One binder alone does not say whose it is, however fast it is.
            return self.ask_second_pair(id, now);
        }
        self.finish(id, now);
    }

    pub(super) fn end_lookup_at_deadline(&mut self, id: LookupId, now: Now) {
        self.finish(id, now);
    }

    pub(super) fn settle_get(&mut self, id: LookupId, from: NodeId, replica: u8, answer: Answer, now: Now) {
        let Some(lookup) = self.lookups.open.get(&id) else { return };
        let key = lookup.key;
        let heard = match answer {
            Answer::Found { remaining_s, record } => {
                // A forgery is no answer: the replica is asked again, the others go on.
                let Some(record) = self.valid_record(&key, &record) else { return };
                if self.is_stale(&record, now) {
                    self.counters.stale_records += 1;
                    Heard::Nothing
                } else {
                    let by_claimant = record.claim().is_some() && record.signer() == from;
                    Heard::Found { record: Box::new(record), remaining_s, by_claimant }
                }
            }
            Answer::Missing => Heard::Nothing,
            Answer::Stored | Answer::Conflict { .. } | Answer::Refused(_) => return,
        };
        let found = matches!(heard, Heard::Found { .. });
        let Some(lookup) = self.lookups.open.get_mut(&id) else { return };
        if let Some(slot) = lookup.answers.get_mut(usize::from(replica)) {
            *slot = Some(heard);
        }
        if found && !lookup.in_grace {
            lookup.in_grace = true;
            self.timers.set(Timer::Grace(id), now.instant + self.config.grace);
        }
        self.finish_if_done(id, now);
    }

    fn finish_if_done(&mut self, id: LookupId, now: Now) {
        let Some(lookup) = self.lookups.open.get(&id) else { return };
        let answers = lookup.count_answers();
        if answers == usize::from(REPLICAS) || (answers >= ENOUGH_ANSWERS && self.is_agreed(lookup, now)) {
            self.finish(id, now);
        } else if answers >= ENOUGH_ANSWERS && lookup.asked.contains(&false) {
            self.ask_second_pair(id, now);
        }
    }

    /// Whether enough of those that answered say the same, and nobody something else.
    fn is_agreed(&self, lookup: &Lookup, now: Now) -> bool {
        let Some((record, remaining_s)) = lookup.choice(None, now) else { return false };
        let is_known = self.known_signer(&lookup.key) == Some(record.signer());
        let needed = if lookup.asks_whose_name() && !is_known { NAME_WITNESSES } else { 1 };
        lookup.rival_of(Some((record, remaining_s))).is_none() && lookup.witnesses(record.signer()) >= needed
    }

    /// Who signed what was found under `key` before.
    fn known_signer(&self, key: &RecordKey) -> Option<NodeId> {
        self.lookups.seen.get(key).map(|seen| seen.record.signer())
    }

    fn finish(&mut self, id: LookupId, now: Now) {
        for timer in [Timer::SecondPair(id), Timer::Grace(id), Timer::Retry(id), Timer::Deadline(id)] {
            self.timers.cancel(timer);
        }
        let Some(lookup) = self.lookups.open.remove(&id) else { return };
        let result = self.judge(&lookup, now);
        for id in lookup.others {
            self.report(id, lookup.query.clone(), result.clone());
        }
        self.report(id, lookup.query, result);
    }

    fn judge(&mut self, lookup: &Lookup, now: Now) -> LookupResult {
        let known_signer = self.known_signer(&lookup.key);
        let Some((record, remaining_s)) = lookup.choice(known_signer, now) else {
            let enough = lookup.count_answers() >= ENOUGH_ANSWERS;
            return if enough { LookupResult::Missing } else { LookupResult::Unanswered };
        };
        let rival = lookup.rival_of(Some((record, remaining_s))).cloned();
        let is_known = known_signer == Some(record.signer());
        let undecided = !is_known && lookup.is_undecided(record.signer());
        if let Some(incumbent) = rival {
            self.events.push_back(Event::NameConflict { incumbent });
        }
        if undecided {
            return LookupResult::Unanswered;
        }
        self.repair(lookup, record, remaining_s, now);
        self.remember(record.clone(), now.instant);
        LookupResult::Found(record.clone())
    }

    /// Puts the found record to binders that answered with an older one or none.
    fn repair(&mut self, lookup: &Lookup, record: &SignedRecord, remaining_s: u32, now: Now) {
        for (replica, heard) in (0..REPLICAS).zip(&lookup.answers) {
            let behind = match heard {
                Some(Heard::Found { record: other, .. }) => {
                    other.signer() == record.signer() && newness(other, now) < newness(record, now)
                }
                Some(Heard::Nothing) => true,
                None => false,
            };
            if behind {
                // Nobody waits for the answer.
                let nonce = u64::from_le_bytes(self.rng.bytes());
                let record = record.as_bytes().to_vec();
                self.walk(lookup.key, replica, &Request::Put { nonce, remaining_s, record });
            }
        }
    }

    fn ask(&mut self, id: LookupId, replica: u8) {
        let Some(lookup) = self.lookups.open.get_mut(&id) else { return };
        let key = lookup.key;
        if let Some(asked) = lookup.asked.get_mut(usize::from(replica)) {
            *asked = true;
        }
        let nonce = self.requests.open(Purpose::Get { lookup: id, replica }, &mut self.rng);
        self.walk(key, replica, &Request::Get { nonce });
    }

    fn schedule_retry(&mut self, id: LookupId, now: Now) {
        let at = now.instant + self.config.retry + self.rng.jitter(RETRY_SPREAD);
        self.timers.set(Timer::Retry(id), at);
    }

    fn known(&mut self, key: &RecordKey, fresh: bool, now: Instant) -> Option<SignedRecord> {
        // A name that another node holds is not answered with the own claim.
        if let Some(own) = self.undisputed_own_record(key) {
            return Some(own.clone());
        }
        let seen = self.lookups.seen.get_mut(key).filter(|seen| !fresh && seen.fresh_until > now)?;
        seen.used = now;
        Some(seen.record.clone())
    }

    /// The newest record of `key` that a look-up found, however long ago.
    pub fn seen(&self, key: &RecordKey) -> Option<&SignedRecord> {
        self.lookups.seen.get(key).map(|seen| &seen.record)
    }

    fn is_stale(&self, record: &SignedRecord, now: Now) -> bool {
        let seen = self.lookups.seen.get(record.key()).map(|seen| &seen.record);
        seen.is_some_and(|seen| seen.signer() == record.signer() && newness(seen, now) > newness(record, now))
    }

    fn remember(&mut self, record: SignedRecord, now: Instant) {
        let seen = &mut self.lookups.seen;
        if seen.len() >= MAX_SEEN && !seen.contains_key(record.key()) {
            let oldest = seen.iter().min_by_key(|(_, seen)| seen.used).map(|(key, _)| *key);
            oldest.and_then(|key| seen.remove(&key));
        }
        let fresh_until = now + self.config.cache;
        seen.insert(*record.key(), Seen { record, fresh_until, used: now });
    }

    fn report(&mut self, id: LookupId, query: Query, result: LookupResult) {
        self.events.push_back(Event::LookupFinished { id, query, result });
    }
}

impl Lookup {
    fn found(&self) -> impl Iterator<Item = (&SignedRecord, u32)> {
        self.answers.iter().filter_map(|heard| match heard {
            Some(Heard::Found { record, remaining_s, .. }) => Some((record.as_ref(), *remaining_s)),
            _ => None,
        })
    }

    fn has_found(&self) -> bool {
        self.found().next().is_some()
    }

    const fn asks_whose_name(&self) -> bool {
        matches!(self.query, Query::Name(_))
    }

    fn count_answers(&self) -> usize {
        self.answers.iter().flatten().count()
    }

    /// Binders that keep a record of this signer and do not claim that themselves: nobody is a witness in his own cause.
    fn witnesses(&self, signer: NodeId) -> usize {
        let counts = |heard: &&Heard| matches!(heard, Heard::Found { record, by_claimant: false, .. } if record.signer() == signer);
        self.answers.iter().flatten().filter(counts).count()
    }

    /// The newest record of one signer: the one known from before, or else the one that most binders name who do not claim the name themselves, or else the
    /// one whose claim is the earliest.
    fn choice(&self, known_signer: Option<NodeId>, now: Now) -> Option<(&SignedRecord, u32)> {
        let of = |id: NodeId| self.found().filter(move |(record, _)| record.signer() == id);
        let rank = |record: &SignedRecord| (Reverse(self.witnesses(record.signer())), record.seq(), record.signer());
        let known = known_signer.filter(|id| of(*id).next().is_some());
        let signer =
            known.or_else(|| self.found().min_by_key(|(record, _)| rank(record)).map(|(record, _)| record.signer()))?;
        of(signer).max_by_key(|(record, _)| newness(record, now))
    }

    fn rival_of(&self, chosen: Option<(&SignedRecord, u32)>) -> Option<&SignedRecord> {
        let (chosen, _) = chosen?;
        self.found().map(|(record, _)| record).find(|record| record.signer() != chosen.signer())
    }

    /// Whether another signer has as many witnesses, and binders that have not answered could say which one is right. The number in a claim, which decides
    /// when all have answered, is whatever its signer wrote.
    fn is_undecided(&self, chosen: NodeId) -> bool {
        let witnesses = self.witnesses(chosen);
        let rivals = || self.found().map(|(record, _)| record.signer()).filter(|signer| *signer != chosen);
        self.count_answers() < usize::from(REPLICAS) && rivals().any(|rival| self.witnesses(rival) >= witnesses)
    }
}
