//! The records that this node keeps for others.

use core::time::Duration;
use std::collections::BTreeMap;

use super::wire::Refusal;
use crate::id::NodeId;
use crate::record::{RecordKey, SignedRecord};
use crate::time::{Instant, Now};

/// Most records that a binder keeps: with their decoded form about 8 MB.
pub const MAX_STORED_RECORDS: usize = 4096;
/// Most names of one node that a binder keeps, so that one key cannot squat them all.
pub const MAX_CLAIMS_PER_NODE: usize = 32;
/// How far a record's number may be ahead of the wall clock, in microseconds: a day.
const MAX_AHEAD_US: u64 = 24 * 60 * 60 * 1_000_000;
/// How long a record that another binder took over is kept, in case that one goes.
const AFTERLIFE: Duration = Duration::from_secs(60);

/// What became of a Put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum PutOutcome {
    Stored,
    /// This one stays instead.
    Kept(SignedRecord),
    Refused(Refusal),
}

#[derive(Default)]
pub(super) struct Store {
    entries: BTreeMap<RecordKey, Entry>,
    /// There is something else in it than when [`Store::take_changed`] was asked.
    changed: bool,
}

/// A record as it is written to disk: itself, the second of the Unix epoch at which it expires, and the replicas of which this node is the binder.
pub(super) type Written = (Vec<u8>, u64, u8);

struct Entry {
    record: SignedRecord,
    /// Lifetimes are counted down here, with a clock that nobody sets.
    expires: Instant,
    /// Bit i: this node is the binder of replica i.
    replicas: u8,
}

impl Store {
    /// Keeps `record` as the binder of `replica`, for `remaining_s` or its signed lifetime, if it is the one to keep.
    ///
    /// The number orders the records of one signer; the same record again renews the lifetime. An unexpired claim of a name
    /// beats one by another node.
    pub(super) fn put(&mut self, replica: u8, record: SignedRecord, remaining_s: u32, now: Now) -> PutOutcome {
        if !record.is_revocation() && is_ahead(record.seq(), now) {
            return PutOutcome::Refused(Refusal::Ahead);
        }
        let remaining = Duration::from_secs(remaining_s.min(record.lifetime_s()).into());
        let expires = now.instant + remaining;
        let bit = replica_bit(replica);
        if let Some(entry) = self.entries.get_mut(record.key()).filter(|entry| entry.expires > now.instant) {
            if entry.record == record {
                entry.expires = entry.expires.max(expires);
            } else if entry.record.signer() == record.signer() && newness(&entry.record, now) < newness(&record, now) {
                entry.record = record;
                entry.expires = expires;
                self.changed = true;
            } else {
                return PutOutcome::Kept(entry.record.clone());
            }
            entry.replicas |= bit;
            return PutOutcome::Stored;
        }
        if !self.has_room_for(&record, now.instant) {
            return PutOutcome::Refused(Refusal::Full);
        }
        self.entries.insert(*record.key(), Entry { record, expires, replicas: bit });
        self.changed = true;
        PutOutcome::Stored
    }

    /// Whether there is another record in it than at the last call. That one was renewed or has expired is none.
    pub(super) fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    /// What this node is the binder of, to be written to disk.
    pub(super) fn written(&self, now: Now) -> Vec<Written> {
        let held = self.entries.values().filter(|entry| entry.replicas != 0 && entry.expires > now.instant);
        let expires =
            |entry: &Entry| now.wall.as_unix_secs().saturating_add(entry.expires.since(now.instant).as_secs());
        held.map(|entry| (entry.record.as_bytes().to_vec(), expires(entry), entry.replicas)).collect()
    }

    /// Keeps what an earlier run had, until a newer one comes.
    pub(super) fn restore(&mut self, record: SignedRecord, expires_unix_s: u64, replicas: u8, now: Now) {
        // Of a time when clocks were wrong; or this one is, and then nothing is known of what has expired.
        if !record.is_revocation() && is_ahead(record.seq(), now) {
            return;
        }
        let remaining_s = expires_unix_s.saturating_sub(now.wall.as_unix_secs()).min(record.lifetime_s().into());
        if remaining_s > 0 && !self.entries.contains_key(record.key()) && self.has_room_for(&record, now.instant) {
            let expires = now.instant + Duration::from_secs(remaining_s);
            self.entries.insert(*record.key(), Entry { record, expires, replicas });
        }
    }

    /// The unexpired record under `key`, and what is left of its lifetime in seconds.
    pub(super) fn record(&self, key: &RecordKey, now: Instant) -> Option<(&SignedRecord, u32)> {
        let entry = self.entries.get(key).filter(|entry| entry.expires > now)?;
        let remaining_s = u32::try_from(entry.expires.since(now).as_secs()).unwrap_or(u32::MAX);
        Some((&entry.record, remaining_s.max(1)))
    }

    /// Notes that another node is the binder of `replica` now.
    pub(super) fn pass_on(&mut self, key: &RecordKey, replica: u8, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.replicas &= !replica_bit(replica);
            if entry.replicas == 0 {
                self.changed = true;
                entry.expires = entry.expires.min(now + AFTERLIFE);
            }
        }
    }

    /// What this node is the binder of.
    pub(super) fn held(&self) -> impl Iterator<Item = (RecordKey, u8)> + '_ {
        self.entries.iter().flat_map(|(key, entry)| {
            (0..super::REPLICAS)
                .filter(|replica| entry.replicas & replica_bit(*replica) != 0)
                .map(|replica| (*key, replica))
        })
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.expires > now);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn has_room_for(&mut self, record: &SignedRecord, now: Instant) -> bool {
        if self.entries.len() >= MAX_STORED_RECORDS {
            self.expire(now);
        }
        if self.entries.len() >= MAX_STORED_RECORDS {
            self.forget_a_copy();
        }
        self.entries.len() < MAX_STORED_RECORDS
            && (record.claim().is_none() || self.claims_of(&record.signer()) < MAX_CLAIMS_PER_NODE)
    }

    /// Makes room by one of those that another binder took over.
    fn forget_a_copy(&mut self) {
        let copies = self.entries.iter().filter(|(_, entry)| entry.replicas == 0);
        let first = copies.min_by_key(|(_, entry)| entry.expires).map(|(key, _)| *key);
        first.and_then(|key| self.entries.remove(&key));
    }

    fn claims_of(&self, id: &NodeId) -> usize {
        let of_id = |entry: &&Entry| entry.record.claim().is_some_and(|claim| claim.id == *id);
        self.entries.values().filter(of_id).count()
    }
}

/// Whether nobody with the right time keeps a record of this number.
pub(crate) const fn is_ahead(seq: u64, now: Now) -> bool {
    seq > now.wall.as_unix_micros().saturating_add(MAX_AHEAD_US)
}

/// The order of one signer's records. What only a wrong clock numbers so high stands behind what its node says when the clock is right.
pub(super) fn newness(record: &SignedRecord, now: Now) -> (bool, u64) {
    (record.is_revocation() || !is_ahead(record.seq(), now), record.seq())
}

const fn replica_bit(replica: u8) -> u8 {
    1 << (replica % super::REPLICAS)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{WALL_US, claim, identity, node_record, now_at};
    use super::*;

    #[test]
    fn what_is_written_is_there_again_for_as_long_as_it_had_left() {
        let (mut store, now) = (Store::default(), now_at(1_000));
        let (node, name) = (node_record(1, 5), claim(2, "bob", 5));
        store.put(0, node.clone(), 60, now);
        store.put(2, node.clone(), 60, now);
        store.put(1, name.clone(), 30, now);
        assert!(store.take_changed() && !store.take_changed());
        store.put(0, node.clone(), 60, now);
        assert!(!store.take_changed(), "it was renewed");
        store.pass_on(name.key(), 1, now.instant);
        let written = store.written(now);
        assert_eq!(written.iter().map(|(_, _, replicas)| *replicas).collect::<Vec<_>>(), [0b101], "one is another's");

        let mut again = Store::default();
        let later = now_at(1_000 + 20_000_000);
        for (bytes, expires_unix_s, replicas) in written {
            again.restore(SignedRecord::verify(&bytes).unwrap(), expires_unix_s, replicas, later);
        }
        assert_eq!(again.record(node.key(), later.instant), Some((&node, 40)));
        assert_eq!(again.held().collect::<Vec<_>>(), [(*node.key(), 0), (*node.key(), 2)]);
        again.restore(node, later.wall.as_unix_secs() + 10, 1, later);
        again.restore(name, later.wall.as_unix_secs(), 1, later);
        assert_eq!(again.len(), 1, "expired, or there already");
        let mut wrong = Store::default();
        let tomorrow = WALL_US + MAX_AHEAD_US + 60_000_000;
        wrong.restore(node_record(3, tomorrow), u64::MAX, 1, later);
        assert_eq!(wrong.len(), 0, "numbered by a clock that is far ahead");
    }

    #[test]
    fn the_newest_of_one_signer_stays_and_the_incumbent_comes_back() {
        let (mut store, now) = (Store::default(), now_at(1_000));
        let (old, new) = (node_record(1, 5), node_record(1, 6));
        assert_eq!(store.put(0, old.clone(), 60, now), PutOutcome::Stored);
        assert_eq!(store.put(0, old.clone(), 60, now), PutOutcome::Stored);
        assert_eq!(store.put(1, new.clone(), 60, now), PutOutcome::Stored);
        assert_eq!(store.put(0, old.clone(), 60, now), PutOutcome::Kept(new.clone()));
        assert_eq!(store.record(new.key(), now.instant), Some((&new, 60)));
        assert_eq!(store.held().map(|(_, replica)| replica).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_revocation_beats_every_number_and_stays() {
        let (mut store, now) = (Store::default(), now_at(1_000));
        let (node, newer) = (node_record(1, 5), node_record(1, 900));
        let revocation = SignedRecord::revoke(&identity(1));
        assert_eq!(store.put(0, node, 60, now), PutOutcome::Stored);
        assert_eq!(store.put(0, revocation.clone(), 60, now), PutOutcome::Stored);
        assert_eq!(store.put(0, newer, 60, now), PutOutcome::Kept(revocation.clone()));
        assert_eq!(store.record(revocation.key(), now.instant), Some((&revocation, 60)));
        // The same again renews its lifetime, as with any record.
        let later = now.after(Duration::from_secs(30));
        assert_eq!(store.put(0, revocation.clone(), 60, later), PutOutcome::Stored);
        assert_eq!(store.record(revocation.key(), later.instant), Some((&revocation, 60)));
    }

    #[test]
    fn a_name_stays_with_its_incumbent_until_it_expires() {
        let (mut store, now) = (Store::default(), now_at(1_000));
        let (first, second) = (claim(1, "alice", 900), claim(2, "alice", 999));
        assert_eq!(store.put(0, first.clone(), 60, now), PutOutcome::Stored);
        assert_eq!(store.put(0, second.clone(), 60, now), PutOutcome::Kept(first));
        let later = now.after(Duration::from_secs(61));
        assert_eq!(store.put(0, second, 60, later), PutOutcome::Stored);
    }

    #[test]
    fn lifetimes_count_down_and_are_never_longer_than_signed() {
        let (mut store, now) = (Store::default(), now_at(1_000));
        let record = node_record(1, 5);
        store.put(0, record.clone(), u32::MAX, now);
        let later = now.after(Duration::from_secs(100)).instant;
        let left = record.lifetime_s() - 100;
        assert_eq!(store.record(record.key(), later), Some((&record, left)));
        store.pass_on(record.key(), 0, later);
        assert_eq!(store.record(record.key(), later).map(|(_, left)| left), Some(60));
        assert_eq!(store.held().count(), 0);
        store.expire(later + Duration::from_secs(60));
        assert_eq!(store.len(), 0);
    }

    #[test]
    fn numbers_far_ahead_are_refused() {
        let (mut store, now) = (Store::default(), now_at(1_000));
        let day_us = 86_400_000_000;
        let wall = now.wall.as_unix_micros();
        assert_eq!(store.put(0, node_record(1, wall + day_us + 1), 60, now), PutOutcome::Refused(Refusal::Ahead));
        assert_eq!(store.put(0, node_record(1, wall + day_us), 60, now), PutOutcome::Stored);
    }

    #[test]
    fn what_others_took_over_makes_room() {
        let (mut store, now) = (Store::default(), now_at(1_000));
        for n in 0..u32::try_from(MAX_STORED_RECORDS).unwrap() {
            assert_eq!(store.put(0, node_record(n, 5), 60, now), PutOutcome::Stored);
        }
        assert_eq!(store.put(0, node_record(9_000, 5), 60, now), PutOutcome::Refused(Refusal::Full));
        store.pass_on(node_record(7, 5).key(), 0, now.instant);
        assert_eq!(store.put(0, node_record(9_000, 5), 60, now), PutOutcome::Stored);
        assert_eq!(store.record(node_record(7, 5).key(), now.instant), None);
        assert_eq!(store.len(), MAX_STORED_RECORDS);
    }

    #[test]
    fn one_key_cannot_take_all_names() {
        let (mut store, now) = (Store::default(), now_at(1_000));
        for n in 0..MAX_CLAIMS_PER_NODE {
            assert_eq!(store.put(0, claim(1, &format!("name-{n}"), 1), 60, now), PutOutcome::Stored);
        }
        assert_eq!(store.put(0, claim(1, "one-more", 1), 60, now), PutOutcome::Refused(Refusal::Full));
        assert_eq!(store.put(0, claim(2, "one-more", 1), 60, now), PutOutcome::Stored);
        assert_eq!(identity(1).id(), claim(1, "x", 1).signer());
    }
}
