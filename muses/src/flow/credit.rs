//! How much each end may send ahead of the other's readers.

use overlay::time::Instant;

use super::{Flow, Outbox};
use crate::config::FIRST_SEND_BUFFER_BYTES;
use crate::event::StreamKey;
use crate::stream::Signal;

impl Flow {
    pub(super) fn renew_session_credit(&mut self) {
        let window = self.window.bytes();
        let target = self.consumed_bytes.saturating_add(window);
        if target.saturating_sub(self.receive_limit) >= window / 4 {
            self.max_data = Signal::Due;
        }
    }

    pub(super) fn session_credit(&self) -> u64 {
        self.send_limit.saturating_sub(self.sent_bytes)
    }

    /// How much a stream may hold of what was written but not acknowledged.
    pub(super) fn send_buffer_bytes(&self) -> u64 {
        let most = self.config.send_buffer_bytes;
        self.congestion.window_bytes().saturating_mul(2).max(FIRST_SEND_BUFFER_BYTES).min(most)
    }

    /// Windows that are made use of grow.
    pub(super) fn look_at_reader(&mut self, key: StreamKey, now: Instant, out: &Outbox) {
        let round_trip = self.recovery.rtt.smoothed();
        if self.window.look(self.consumed_bytes, round_trip, now, &out.pool) {
            self.renew_session_credit();
        }
        if let Some(stream) = self.streams.get_mut(&key)
            && stream.recv.look(round_trip, now, &out.pool)
            && stream.recv.credit_due().is_some()
        {
            stream.credit = Signal::Due;
            self.enqueue(key);
        }
    }
}
