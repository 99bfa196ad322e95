//! How much each end may send ahead of the other's readers.

use core::time::Duration;

use overlay::time::Instant;

use super::{Flow, Outbox};
use crate::config::{
    FIRST_SEND_BUFFER_BYTES, INITIAL_SESSION_CREDIT_BYTES, LEAST_SEND_BUFFER_BYTES, LONG_ROUND_TRIP,
    PRESSED_SEND_BUFFER_BYTES, SESSION_SEND_BUFFER_BYTES,
};
use crate::event::StreamKey;
use crate::pool::Pool;
use crate::stream::Signal;

/// More than the longest word to a service of the node that anybody may use, and less than anybody notices who sends a file.
const MIN_READ_BYTES: u64 = 64 * 1024;

/// How much streams may hold of what was written.
pub(super) struct SendBuffer {
    /// What each may, as far as its session goes.
    own: u64,
    /// What the session may hold beside what it holds.
    room: u64,
}

impl SendBuffer {
    /// Of a stream that holds so much, in bytes.
    pub fn of(&self, held: u64) -> u64 {
        self.own.min(held.saturating_add(self.room).max(PRESSED_SEND_BUFFER_BYTES))
    }
}

impl Flow {
    /// Something arrived, or was read or thrown away.
    pub(crate) fn renew_session_credit(&mut self, pool: &Pool) {
        let unread = self.received_bytes.saturating_sub(self.consumed_bytes);
        // What nobody here reads takes nothing new of what all sessions have: a stranger could take all of it, and go. What lies there goes on counting.
        let is_read = self.in_use > 0 && self.was_in_use;
        self.window.leave(if is_read { unread } else { unread.min(self.window.lying_bytes()) }, pool);
        self.tell_session_credit();
    }

    /// The peer is told what it may send, if that is worth it.
    pub(super) fn tell_session_credit(&mut self) {
        let window = if self.is_taken() { self.window.bytes() } else { INITIAL_SESSION_CREDIT_BYTES };
        if self.session_limit().saturating_sub(self.receive_limit) >= window / 4 {
            self.max_data = Signal::Due;
        }
    }

    /// What the peer may send in all.
    pub(super) fn session_limit(&self) -> u64 {
        if !self.is_taken() {
            return self.receive_limit.max(self.consumed_bytes.saturating_add(INITIAL_SESSION_CREDIT_BYTES));
        }
        self.receive_limit.max(self.window.limit(self.received_bytes, self.consumed_bytes))
    }

    /// Whether an application here has or had one of its streams. Until then the peer may be anybody, of whom there may be many. A service of the node
    /// itself counts once more was read of it than the words of those that anybody may ask.
    pub(super) fn is_taken(&self) -> bool {
        self.was_in_use || self.read_bytes >= MIN_READ_BYTES
    }

    pub(super) fn session_credit(&self) -> u64 {
        self.send_limit.saturating_sub(self.sent_bytes)
    }

    /// How much each stream may hold of what was written but not acknowledged. Over a short path twice the congestion window, of up to 16 MiB, was slower: it leaves the
    /// processor's caches (0.39 and 0.47 of a plain chain's throughput over one link, where 2 MiB had 0.53 and 0.54, in two pairs of runs).
    pub(super) fn send_buffer(&self) -> SendBuffer {
        let is_long = self.round_trip() >= LONG_ROUND_TRIP;
        let wanted = if is_long { self.congestion.window_bytes().saturating_mul(2) } else { 0 };
        let streams = u64::try_from(self.streams.len()).unwrap_or(u64::MAX).max(1);
        let share = (SESSION_SEND_BUFFER_BYTES / streams).max(LEAST_SEND_BUFFER_BYTES);
        let own = wanted.max(FIRST_SEND_BUFFER_BYTES).min(share).min(self.config.send_buffer_bytes);
        SendBuffer { own, room: self.held.room() }
    }

    /// How long the path is; none at all before that is known, so that nothing grows or is held back for a guess.
    pub(super) fn round_trip(&self) -> Duration {
        self.recovery.rtt.measured().unwrap_or_default()
    }

    /// Windows that are made use of grow.
    pub(super) fn look_at_reader(&mut self, key: StreamKey, now: Instant, out: &Outbox) {
        let round_trip = self.round_trip();
        // What is thrown away was read by nobody: a stranger could have all windows' memory by streams that he resets.
        self.window.look(self.read_bytes, round_trip, now, &out.growth);
        self.renew_session_credit(&out.growth);
        if let Some(stream) = self.streams.get_mut(&key)
            && stream.why_reset.is_none()
            && stream.recv.look(round_trip, now, &out.growth)
            && stream.recv.credit_due().is_some()
        {
            stream.credit = Signal::Due;
            self.enqueue(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use overlay::id::NodeId;

    use super::*;
    use crate::config::{Config, FIRST_SEND_BUFFER_BYTES};
    use crate::event::ResetReason;
    use crate::held::{SESSION_HELD_BYTES, Share};

    const CHUNK: usize = 16 * 1024;

    fn flow(out: &Outbox) -> Flow {
        Flow::new(NodeId::from_bytes([2; 32]), Config::default().into(), Share::of(&out.held), Instant::ZERO)
    }

    /// What a stream takes of an application that always has more to say.
    fn fill(flow: &mut Flow, key: StreamKey) -> u64 {
        flow.open(key, "files", 0);
        let mut taken = 0;
        while let more @ 1.. = flow.write(key, &[7; CHUNK], false) {
            taken += more as u64;
        }
        taken
    }

    /// One session has what it had before there was this bound; many that read nothing have no more than it, and leave the last one its own.
    #[test]
    fn what_all_sessions_hold_is_bounded() {
        const MOST: u64 = 16 << 20;
        const STREAMS: u64 = 8;
        let mut out = Outbox::new(&Config { max_held_bytes: MOST, ..Config::default() });
        assert_eq!(fill(&mut flow(&out), StreamKey(0)), FIRST_SEND_BUFFER_BYTES);
        let mut flows: Vec<Flow> = (0..100).map(|_| flow(&out)).collect();
        for flow in &mut flows {
            let taken: Vec<_> = (0..STREAMS).map(|key| fill(flow, StreamKey(key))).collect();
            assert!(taken.iter().all(|taken| *taken >= PRESSED_SEND_BUFFER_BYTES), "{taken:?}");
            assert!(taken.iter().sum::<u64>() >= SESSION_HELD_BYTES, "{taken:?}");
        }
        let own = 100 * (SESSION_HELD_BYTES + STREAMS * PRESSED_SEND_BUFFER_BYTES);
        assert!((MOST..=MOST + own).contains(&out.held.taken()), "{}", out.held.taken());
        let by_streams: u64 = flows.iter().flat_map(|flow| flow.streams.values()).map(|s| s.send.held_bytes()).sum();
        assert_eq!(out.held.taken(), by_streams);
        for flow in flows.iter_mut().skip(50) {
            flow.reset_all(ResetReason::Application, &mut out);
        }
        flows.truncate(50);
        let by_streams: u64 = flows.iter().flat_map(|flow| flow.streams.values()).map(|s| s.send.held_bytes()).sum();
        assert_eq!(out.held.taken(), by_streams);
        drop(flows);
        assert_eq!(out.held.taken(), 0);
    }
}
