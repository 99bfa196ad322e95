//! How much each end may send ahead of the other's readers.

use core::time::Duration;

use overlay::time::Instant;

use super::{Flow, Outbox};
use crate::config::{FIRST_SEND_BUFFER_BYTES, LEAST_SEND_BUFFER_BYTES, LONG_ROUND_TRIP, SESSION_SEND_BUFFER_BYTES};
use crate::event::StreamKey;
use crate::stream::Signal;
use crate::window::Pool;

impl Flow {
    /// Something arrived, or was read or thrown away.
    pub(super) fn renew_session_credit(&mut self, pool: &Pool) {
        self.window.leave(self.received_bytes.saturating_sub(self.consumed_bytes), pool);
        self.tell_session_credit();
    }

    /// The peer is told what it may send, if that is worth it.
    pub(super) fn tell_session_credit(&mut self) {
        if self.session_limit().saturating_sub(self.receive_limit) >= self.window.bytes() / 4 {
            self.max_data = Signal::Due;
        }
    }

    /// What the peer may send in all.
    pub(super) fn session_limit(&self) -> u64 {
        self.receive_limit.max(self.window.limit(self.received_bytes, self.consumed_bytes))
    }

    pub(super) fn session_credit(&self) -> u64 {
        self.send_limit.saturating_sub(self.sent_bytes)
    }

    /// How much a stream may hold of what was written but not acknowledged. Over a short path twice the congestion window, of up to 16 MiB, was slower: it leaves the
    /// processor's caches (0.39 and 0.47 of a plain chain's throughput over one link, where 2 MiB had 0.53 and 0.54, in two pairs of runs).
    pub(super) fn send_buffer_bytes(&self) -> u64 {
        let is_long = self.round_trip() >= LONG_ROUND_TRIP;
        let wanted = if is_long { self.congestion.window_bytes().saturating_mul(2) } else { 0 };
        let streams = u64::try_from(self.streams.len()).unwrap_or(u64::MAX).max(1);
        let share = (SESSION_SEND_BUFFER_BYTES / streams).max(LEAST_SEND_BUFFER_BYTES);
        wanted.max(FIRST_SEND_BUFFER_BYTES).min(share).min(self.config.send_buffer_bytes)
    }

    /// How long the path is; none at all before that is known, so that nothing grows or is held back for a guess.
    pub(super) fn round_trip(&self) -> Duration {
        self.recovery.rtt.measured().unwrap_or_default()
    }

    /// Windows that are made use of grow.
    pub(super) fn look_at_reader(&mut self, key: StreamKey, now: Instant, out: &Outbox) {
        let round_trip = self.round_trip();
        self.window.look(self.consumed_bytes, round_trip, now, &out.pool);
        self.renew_session_credit(&out.pool);
        if let Some(stream) = self.streams.get_mut(&key)
            && stream.recv.look(round_trip, now, &out.pool)
            && stream.recv.credit_due().is_some()
        {
            stream.credit = Signal::Due;
            self.enqueue(key);
        }
    }
}
