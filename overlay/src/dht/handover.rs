//! Stored records follow their binders when the tree changes: each walks again, and stays where the walk ends.

use core::time::Duration;
use std::collections::VecDeque;

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

#[derive(Default)]
pub(super) struct Handover {
    last_batch: Option<Instant>,
    queue: VecDeque<(RecordKey, u8)>,
}

impl Dht {
    pub(super) fn request_handover(&mut self, moved: impl IntoIterator<Item = (RecordKey, u8)>, now: Now) {
        for record in moved {
            if !self.handover.queue.contains(&record) {
                self.handover.queue.push_back(record);
            }
        }
        if !self.handover.queue.is_empty() {
            let last = self.handover.last_batch;
            let earliest = last.map_or(now.instant, |last| last + HANDOVER_INTERVAL).max(now.instant);
            self.timers.set_no_later(Timer::Handover, earliest);
        }
    }

    pub(super) fn hand_over_batch(&mut self, now: Now) {
        self.walk_stored(HANDOVER_BATCH, now);
        self.handover.last_batch = Some(now.instant);
        if !self.handover.queue.is_empty() {
            self.timers.set(Timer::Handover, now.instant + HANDOVER_INTERVAL);
        }
    }

    pub(super) fn hand_over_all(&mut self, now: Now) {
        self.handover.queue = self.store.held().collect();
        self.walk_stored(LEAVE_BATCH, now);
    }

    /// The new binder answered; a walk that ended here again changes nothing.
    pub(super) fn settle_handover(&mut self, from: NodeId, key: &RecordKey, replica: u8, answer: &Answer, now: Now) {
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
            let Some((key, replica)) = self.handover.queue.pop_front() else { return };
            let Some((record, remaining_s)) = self.store.record(&key, now.instant) else { continue };
            let record = record.as_bytes().to_vec();
            let nonce = self.requests.open(Purpose::Handover { key, replica }, &mut self.rng);
            self.walk(key, replica, &Request::Put { nonce, remaining_s, record });
        }
    }
}
