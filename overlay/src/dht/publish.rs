//! Own records: put to all their binders, and kept there.

use core::time::Duration;
use std::collections::BTreeMap;

use super::requests::Purpose;
use super::store::is_ahead;
use super::wire::{Answer, Refusal, Request};
use super::{Dht, Event, REPLICAS, Timer};
use crate::id::NodeId;
use crate::record::{Query, RecordError, RecordKey, SignedRecord};
use crate::time::{Instant, Now};

/// Most records that a node publishes.
pub const MAX_OWN_RECORDS: usize = 64;
/// Time to the second try of a Put; doubles for each further one.
const FIRST_RETRY: Duration = Duration::from_millis(400);
/// Most tries in a row; the next refresh starts anew.
const MAX_TRIES: u32 = 6;

/// A revocation counts as published when so many binders keep it: that is in time of trouble, and one is enough for a look-up to find it.
const REVOKED_AT: u32 = 2;
/// Any other record when so many keep it and the others are silent or refuse it: one that is wrong, or lies, is not to be waited for. So many also say
/// whose a name is.
const KEPT_AT: u32 = 2;
/// Of binders that are silent for so many tries nothing is expected any more.
const TRIES_TO_HEAR: u32 = 3;
/// So many binders know a number of this node's far ahead of its clock before that is believed to be behind. One alone may have kept it since a clock was
/// wrong.
const CLOCK_WITNESSES: u32 = 2;
/// What is taken back is put so often, for a walk may be lost.
const TAKE_BACK_PUTS: u32 = 3;
/// Time to the second of these; doubles for the next one.
const TAKE_BACK_RETRY: Duration = Duration::from_millis(400);
/// Most records that are being taken back; of further ones each is put once.
const MAX_TAKEN_BACK: usize = 64;

/// A bit for each replica.
const ALL: u8 = (1 << REPLICAS) - 1;

#[derive(Default)]
pub(super) struct Publisher {
    own: BTreeMap<RecordKey, Own>,
    /// What takes a record back, and how often it was put.
    taken_back: BTreeMap<RecordKey, (SignedRecord, u32)>,
}

struct Own {
    record: SignedRecord,
    tries: u32,
    last_try: Option<Instant>,
    /// Bit i: the binder of replica i has answered in this round, whatever it said.
    settled: u8,
    /// Bit i: the binder of replica i keeps this version.
    stored: u8,
    /// Bit i: the binder of replica i does not take this version. It is asked again.
    refused: u8,
    /// Bit i: the binder of replica i keeps a record of this node with a higher number.
    outdone: u8,
    /// Bit i: the binder of replica i keeps another node's claim of the name.
    taken: u8,
    /// That of the lowest such replica.
    rival: Option<SignedRecord>,
    /// Bit i: the binder of replica i is who claims what it keeps. Nobody is a witness in his own cause.
    by_claimant: u8,
    /// The name is another node's: this claim is not put again before the next refresh. Each further Put could be the first to reach a new binder, which
    /// would then turn down whoever had the name before.
    yielded: bool,
    /// This version was reported as published.
    reported: bool,
    /// It was reported that a binder's clock is far behind this version's number.
    ahead: bool,
    /// Signer and number of the last incumbent reported, so that each is reported once.
    incumbent: Option<(NodeId, u64)>,
}

impl Own {
    fn new(record: SignedRecord) -> Self {
        Self {
            record,
            tries: 0,
            last_try: None,
            settled: 0,
            stored: 0,
            refused: 0,
            outdone: 0,
            taken: 0,
            rival: None,
            by_claimant: 0,
            yielded: false,
            reported: false,
            ahead: false,
            incumbent: None,
        }
    }

    /// The binder of this replica, `from`, has answered.
    fn note(&mut self, from: NodeId, replica: u8, stored: bool, rival: Option<SignedRecord>) {
        let bit = 1 << replica;
        self.settled |= bit;
        self.refused &= !bit;
        let keeps = rival.as_ref().unwrap_or(&self.record).signer();
        self.by_claimant = if keeps == from { self.by_claimant | bit } else { self.by_claimant & !bit };
        self.stored = if stored { self.stored | bit } else { self.stored & !bit };
        self.taken = if rival.is_some() { self.taken | bit } else { self.taken & !bit };
        if rival.is_some() && self.taken.trailing_zeros() == u32::from(replica) {
            self.rival = rival;
        }
    }

    /// Whether as many keep this version as ever will, as far as can be told.
    fn is_kept(&self) -> bool {
        let heard_of_all = self.stored | self.refused | self.outdone == ALL;
        let enough = if self.record.is_revocation() { REVOKED_AT } else { KEPT_AT };
        let waits = !self.record.is_revocation() && !heard_of_all && self.tries < TRIES_TO_HEAR;
        self.stored == ALL || (self.taken == 0 && self.stored.count_ones() >= enough && !waits)
    }
}

impl Dht {
    /// Puts an own record to all its binders, now and then again; it replaces one of the same key and a lower number.
    ///
    /// # Errors
    /// [`RecordError::NotOwn`] for another node's record, unless it is a revocation, which anybody may spread; [`RecordError::TooLong`] when there are [`MAX_OWN_RECORDS`] already.
    pub fn publish(&mut self, record: SignedRecord, now: Now) -> Result<(), RecordError> {
        if record.signer() != self.id && !record.is_revocation() {
            return Err(RecordError::NotOwn);
        }
        let key = *record.key();
        match self.publisher.own.get(&key) {
            Some(own) if own.record.seq() >= record.seq() => {
                if own.reported && own.record == record {
                    self.events.push_back(Event::Published { query: record.query(), seq: record.seq() });
                }
                return Ok(());
            }
            None if self.publisher.own.len() >= MAX_OWN_RECORDS => return Err(RecordError::TooLong),
            _ => {}
        }
        self.publisher.taken_back.remove(&key);
        self.publisher.own.insert(key, Own::new(record));
        self.put_unsettled(&key, now);
        Ok(())
    }

    /// Notes that a name which this node wants is another's, who is reported: nothing is put before it is found to be free.
    pub(crate) fn wait_for(&mut self, record: SignedRecord, incumbent: SignedRecord) {
        let key = *record.key();
        let room = self.publisher.own.len() < MAX_OWN_RECORDS || self.publisher.own.contains_key(&key);
        if room && incumbent.key() == &key {
            self.publisher.own.insert(key, Own { yielded: true, ..Own::new(record) });
            self.report_incumbent(incumbent);
        }
    }

    /// Tries with this version of a claim whether the name is free by now. Who has it was reported already.
    pub(crate) fn renew(&mut self, record: SignedRecord, now: Now) {
        let key = *record.key();
        let Some(own) = self.publisher.own.get_mut(&key).filter(|own| own.record.seq() < record.seq()) else { return };
        let incumbent = own.incumbent;
        self.publisher.taken_back.remove(&key);
        *own = Own { incumbent, ..Own::new(record) };
        self.put_unsettled(&key, now);
    }

    /// Puts a record to all its binders once. Nobody hears how that went.
    pub fn put_once(&mut self, record: &SignedRecord) {
        for replica in 0..REPLICAS {
            let nonce = u64::from_le_bytes(self.rng.bytes());
            let (remaining_s, bytes) = (record.lifetime_s(), record.as_bytes().to_vec());
            self.walk(*record.key(), replica, &Request::Put { nonce, remaining_s, record: bytes });
        }
    }

    /// Has binders forget a record by `over`, which takes its place and is over at once. A binder that did not hear of it would bring the record back to the
    /// others, by the next look-up.
    pub fn take_back(&mut self, over: SignedRecord, now: Now) {
        let (key, known) = (*over.key(), &mut self.publisher.taken_back);
        self.timers.cancel(Timer::TakeBack(key));
        if known.len() < MAX_TAKEN_BACK || known.contains_key(&key) {
            known.insert(key, (over, 0));
            self.take_back_timer(&key, now);
        } else {
            self.put_once(&over);
        }
    }

    pub(super) fn take_back_timer(&mut self, key: &RecordKey, now: Now) {
        let Some((over, mut puts)) = self.publisher.taken_back.remove(key) else { return };
        self.put_once(&over);
        let span = TAKE_BACK_RETRY.saturating_mul(1 << puts);
        puts += 1;
        if puts < TAKE_BACK_PUTS {
            self.publisher.taken_back.insert(*key, (over, puts));
            self.timers.set(Timer::TakeBack(*key), now.instant + span);
        }
    }

    /// Stops publishing what answers `query`; binders forget it when its lifetime is over. What was put, if anything was.
    pub fn withdraw(&mut self, query: &Query) -> Option<SignedRecord> {
        let key = query.key();
        self.timers.cancel(Timer::Publish(key));
        self.publisher.own.remove(&key).filter(|own| own.last_try.is_some()).map(|own| own.record)
    }

    /// The own record that answers `query`.
    pub fn own_record(&self, key: &RecordKey) -> Option<&SignedRecord> {
        self.publisher.own.get(key).map(|own| &own.record)
    }

    /// The same, unless it is a claim that another node's stands against.
    pub(crate) fn undisputed_own_record(&self, key: &RecordKey) -> Option<&SignedRecord> {
        let own = self.publisher.own.get(key)?;
        own.incumbent.is_none_or(|(signer, _)| signer == self.id).then_some(&own.record)
    }

    pub(super) fn schedule_refresh(&mut self, now: Instant) {
        let span = self.rng.jitter(self.refresh);
        self.timers.set(Timer::Refresh, now + span);
    }

    pub(super) fn refresh(&mut self, now: Now) {
        // It shrank for a moment only, as after a start of the founder: if all put their records at once then, that would be a flood.
        if let Some((due, refresh)) = self.moved_forward.take()
            && refresh < self.refresh / 2
            && now.instant < due
        {
            return self.timers.set(Timer::Refresh, due);
        }
        self.store.expire(now.instant);
        // What was taken back has a higher number than the claim: it is signed again.
        let yielded = self.publisher.own.values().filter(|own| own.yielded);
        self.events.extend(yielded.map(|own| Event::Renew { record: own.record.clone() }));
        self.republish_all(now);
        self.schedule_refresh(now.instant);
    }

    pub(super) fn republish_all(&mut self, now: Now) {
        let keys: Vec<RecordKey> = self.publisher.own.keys().copied().collect();
        for key in keys {
            let Some(own) = self.publisher.own.get_mut(&key) else { continue };
            // A record published in the same breath is under way already.
            if own.last_try != Some(now.instant) {
                (own.tries, own.settled, own.refused) = (0, 0, 0);
                self.put_unsettled(&key, now);
            }
        }
    }

    /// Some binders have not answered yet, or have to be asked again.
    pub(super) fn publish_timer(&mut self, key: &RecordKey, now: Now) {
        if self.publisher.own.get(key).is_some_and(|own| own.tries >= TRIES_TO_HEAR) {
            self.weigh_claim(key);
            self.report_if_kept(key);
        }
        self.put_unsettled(key, now);
    }

    fn put_unsettled(&mut self, key: &RecordKey, now: Now) {
        let own = self.publisher.own.get_mut(key).filter(|own| own.tries < MAX_TRIES && !own.yielded);
        let Some(own) = own else { return };
        let unsettled: Vec<u8> = (0..REPLICAS).filter(|replica| own.settled & (1 << replica) == 0).collect();
        if unsettled.is_empty() {
            return;
        }
        let backoff = FIRST_RETRY.saturating_mul(1 << own.tries);
        own.tries += 1;
        own.last_try = Some(now.instant);
        let (seq, remaining_s, record) = (own.record.seq(), own.record.lifetime_s(), own.record.as_bytes().to_vec());
        for replica in unsettled {
            let nonce = self.requests.open(Purpose::Publish { key: *key, seq, replica }, &mut self.rng);
            self.walk(*key, replica, &Request::Put { nonce, remaining_s, record: record.clone() });
        }
        let span = self.rng.jitter(backoff);
        self.timers.set(Timer::Publish(*key), now.instant + span);
    }

    pub(super) fn settle_put(
        &mut self,
        from: NodeId,
        key: &RecordKey,
        seq: u64,
        replica: u8,
        answer: &Answer,
        now: Now,
    ) {
        if self.publisher.own.get(key).is_none_or(|own| own.record.seq() != seq) {
            return;
        }
        let (stored, rival) = match answer {
            Answer::Stored => (true, None),
            Answer::Conflict { record } => match self.valid_record(key, record) {
                // There is another one of the same node: it says the same.
                Some(incumbent) if incumbent.is_revocation() && seq == incumbent.seq() => (true, None),
                Some(incumbent) if incumbent.signer() == self.id => {
                    self.outdone(key, replica, incumbent, now);
                    (false, None)
                }
                Some(incumbent) => (false, Some(incumbent)),
                None => return,
            },
            // Another binder may stand here soon; this one may have room or the right time.
            Answer::Refused(refusal) => return self.refused(key, replica, *refusal),
            Answer::Found { .. } | Answer::Missing => return,
        };
        let Some(own) = self.publisher.own.get_mut(key) else { return };
        own.note(from, replica, stored, rival);
        if own.stored == ALL {
            own.incumbent = None;
        }
        let all_answered = own.settled == ALL;
        self.report_if_kept(key);
        if all_answered {
            self.weigh_claim(key);
        }
    }

    fn report_if_kept(&mut self, key: &RecordKey) {
        let Some(own) = self.publisher.own.get_mut(key).filter(|own| own.is_kept() && !own.reported) else { return };
        own.reported = true;
        self.events.push_back(Event::Published { query: own.record.query(), seq: own.record.seq() });
    }

    fn refused(&mut self, key: &RecordKey, replica: u8, refusal: Refusal) {
        let Some(own) = self.publisher.own.get_mut(key) else { return };
        own.refused |= 1 << replica;
        if refusal == Refusal::Ahead && !own.ahead {
            own.ahead = true;
            self.events.push_back(Event::Ahead { query: own.record.query() });
        }
        self.report_if_kept(key);
    }

    /// A binder keeps what this node's key signed with a higher number.
    fn outdone(&mut self, key: &RecordKey, replica: u8, incumbent: SignedRecord, now: Now) {
        let Some(own) = self.publisher.own.get_mut(key) else { return };
        own.outdone |= 1 << replica;
        if !is_ahead(incumbent.seq(), now) || own.outdone.count_ones() >= CLOCK_WITNESSES {
            self.report_incumbent(incumbent);
        }
    }

    /// All binders have answered, or those that have not will not. A name that most of them keep for this node is its own: the others have not heard of it yet,
    /// and are asked again. Otherwise it is another node's. Who claims the name is not counted among them: a newcomer that is its own binder has not heard of
    /// anybody. Of two with as many binders the earlier claim counts.
    fn weigh_claim(&mut self, key: &RecordKey) {
        let Some(own) = self.publisher.own.get_mut(key) else { return };
        let Some(rival) = own.rival.clone().filter(|_| own.taken != 0) else {
            if own.settled == ALL {
                self.timers.cancel(Timer::Publish(*key));
            }
            return;
        };
        let age = |record: &SignedRecord| (record.seq(), record.signer());
        let earlier = age(&own.record) < age(&rival);
        let witnesses = |binders: u8| (binders & !own.by_claimant).count_ones();
        if (witnesses(own.stored), earlier) > (witnesses(own.taken), !earlier) {
            own.settled &= !own.taken;
            return;
        }
        own.yielded = true;
        self.timers.cancel(Timer::Publish(*key));
        let left = (own.stored != 0).then(|| own.record.clone());
        own.stored = 0;
        self.report_incumbent(rival);
        self.events.extend(left.map(|record| Event::Yielded { record }));
    }

    fn report_incumbent(&mut self, incumbent: SignedRecord) {
        let own_id = self.id;
        let Some(own) = self.publisher.own.get_mut(incumbent.key()) else { return };
        let which = (incumbent.signer(), incumbent.seq());
        // A binder that sends an older record of our own back is wrong, and proves nothing.
        let means_something = incumbent.signer() != own_id || incumbent.seq() >= own.record.seq();
        if means_something && own.incumbent != Some(which) {
            own.incumbent = Some(which);
            self.events.push_back(if incumbent.signer() == own_id {
                Event::Superseded { record: incumbent }
            } else {
                Event::NameConflict { incumbent }
            });
        }
    }
}
