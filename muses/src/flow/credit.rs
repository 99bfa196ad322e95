//! How much each end may send ahead of the other's readers.

use core::time::Duration;

use overlay::time::Instant;

use super::{Flow, Outbox};
use crate::config::{FIRST_SEND_BUFFER_BYTES, LONG_ROUND_TRIP};
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

    /// How much a stream may hold of what was written but not acknowledged. Over a short path twice the congestion window, of up to 16 MiB, was slower: it leaves the
    /// processor's caches (0.39 and 0.47 of a plain chain's throughput over one link, where 2 MiB had 0.53 and 0.54, in two pairs of runs).
    pub(super) fn send_buffer_bytes(&self) -> u64 {
        let is_long = self.round_trip() >= LONG_ROUND_TRIP;
        let wanted = if is_long { self.congestion.window_bytes().saturating_mul(2) } else { 0 };
        wanted.max(FIRST_SEND_BUFFER_BYTES).min(self.config.send_buffer_bytes)
    }

    /// How long the path is; none at all before that is known, so that nothing grows or is held back for a guess.
    pub(super) fn round_trip(&self) -> Duration {
        self.recovery.rtt.measured().unwrap_or_default()
    }

    /// Windows that are made use of grow.
    pub(super) fn look_at_reader(&mut self, key: StreamKey, now: Instant, out: &Outbox) {
        let round_trip = self.round_trip();
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
