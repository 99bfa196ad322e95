//! Stored records follow their binders when the tree changes: each walks again, and stays where the walk ends.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::requests::Purpose;
use super::wire::{Answer, Request};
use super::{Dht, Timer};
use crate::id::NodeId;
use crate::record::RecordKey;
use crate::time::{Instant, Now};

/// Time between two batches of walks.
pub(crate) const HANDOVER_INTERVAL: Duration = Duration::from_secs(2);
/// Most walks in a batch.
const HANDOVER_BATCH: usize = 128;
/// Most walks when a node leaves: it has no time for more.
const LEAVE_BATCH: usize = 1024;

/// Most walks of one record that nobody answers; when its tables change it walks again, or when its owner puts it.
const MAX_WALKS: u32 = 3;

#[derive(Default)]
pub(super) struct Handover {
    last_batch: Option<Instant>,
    queue: VecDeque<(RecordKey, u8)>,
    /// What is in the queue.
    queued: BTreeSet<(RecordKey, u8)>,
    /// What walked and had no answer yet, and how often it did.
    unanswered: BTreeMap<(RecordKey, u8), u32>,
}

impl Handover {
    fn push(&mut self, record: (RecordKey, u8)) {
        if self.queued.insert(record) {
            self.queue.push_back(record);
        }
    }

    fn pop(&mut self) -> Option<(RecordKey, u8)> {
        let record = self.queue.pop_front()?;
        self.queued.remove(&record);
        Some(record)
    }

    /// A batch ago or longer these walked: the walk was lost, or its answer.
    fn walk_unanswered_again(&mut self) {
        self.unanswered.retain(|_, walks| *walks < MAX_WALKS);
        for record in self.unanswered.keys().copied().collect::<Vec<_>>() {
            self.push(record);
        }
    }

    fn is_busy(&self) -> bool {
        !(self.queue.is_empty() && self.unanswered.is_empty())
    }
}

impl Dht {
    pub(super) fn request_handover(&mut self, moved: impl IntoIterator<Item = (RecordKey, u8)>, now: Now) {
        moved.into_iter().for_each(|record| self.handover.push(record));
        if !self.handover.queue.is_empty() {
            let last = self.handover.last_batch;
            let earliest = last.map_or(now.instant, |last| last + HANDOVER_INTERVAL).max(now.instant);
            self.timers.set_no_later(Timer::Handover, earliest);
        }
    }

    pub(super) fn hand_over_batch(&mut self, now: Now) {
        self.handover.walk_unanswered_again();
        self.walk_stored(HANDOVER_BATCH, now);
        self.handover.last_batch = Some(now.instant);
        if self.handover.is_busy() {
            self.timers.set(Timer::Handover, now.instant + HANDOVER_INTERVAL);
        }
    }

    pub(super) fn hand_over_all(&mut self, now: Now) {
        self.handover = Handover { last_batch: self.handover.last_batch, ..Handover::default() };
        self.store.held().for_each(|record| self.handover.push(record));
        self.walk_stored(LEAVE_BATCH, now);
    }

    /// The new binder answered; a walk that ended here again changes nothing.
    pub(super) fn settle_handover(&mut self, from: NodeId, key: &RecordKey, replica: u8, answer: &Answer, now: Now) {
        self.handover.unanswered.remove(&(*key, replica));
        if from == self.id {
            return;
        }
        let taken = match answer {
            Answer::Stored => true,
            Answer::Conflict { record } => self.valid_record(key, record).is_some(),
            Answer::Refused(_) | Answer::Found { .. } | Answer::Missing => false,
        };
        if taken {
            self.counters.handed_over += 1;
            self.store.pass_on(key, replica, now.instant);
        }
    }

    fn walk_stored(&mut self, limit: usize, now: Now) {
        for _ in 0..limit {
            let Some((key, replica)) = self.handover.pop() else { return };
            let Some((record, remaining_s)) = self.store.record(&key, now.instant) else {
                self.handover.unanswered.remove(&(key, replica));
                continue;
            };
            let record = record.as_bytes().to_vec();
            let nonce = self.requests.open(Purpose::Handover { key, replica }, &mut self.rng);
            *self.handover.unanswered.entry((key, replica)).or_default() += 1;
            self.walk(key, replica, &Request::Put { nonce, remaining_s, record });
        }
    }
}
