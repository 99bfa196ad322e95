//! How much may be in flight.
//!
//! The path is a chain of TCP links: it hardly loses, it queues. So the controller heeds ECN marks and a grown round
//! trip first, and loss last. It is window-based; over short paths pacing is left to the links' own back-pressure, over long ones see `flow/pace.rs`.

use core::time::Duration;

use overlay::time::Instant;

/// The window never falls below this, in bytes: two of the longest packets.
pub const MIN_WINDOW_BYTES: u64 = 128 * 1024;
/// Window of a new or resumed session, in bytes.
pub const INITIAL_WINDOW_BYTES: u64 = 256 * 1024;
/// The window never grows above this, in bytes.
pub const MAX_WINDOW_BYTES: u64 = 16 * 1024 * 1024;
/// Least queueing delay that counts as congestion; below lies noise of schedulers.
const MIN_QUEUE_TARGET: Duration = Duration::from_millis(25);
/// How long a lowest round trip is believed.
const BASE_RTT_LIFETIME: Duration = Duration::from_secs(20);

/// A window that grows while round trips stay short.
#[derive(Clone, Debug)]
pub struct Congestion {
    window_bytes: u64,
    slow_start: bool,
    /// No second cut before a packet sent after this moment is acknowledged: one cut for each round trip.
    cut_at: Instant,
    base: BaseRtt,
    ecn_count: u64,
}

/// Lowest round trip of this and the previous period, so that an old one is forgotten in time.
#[derive(Clone, Debug)]
struct BaseRtt {
    current: Duration,
    previous: Duration,
    since: Instant,
}

/// What an acknowledgement tells the controller.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// Bytes newly acknowledged.
    pub bytes: u64,
    /// When the newest of them was sent.
    pub sent_at: Instant,
    /// The round trip of the newest, if it was measured.
    pub rtt: Option<Duration>,
    /// The peer's count of ECN marks.
    pub ecn_count: u64,
    /// Whether the window was what limited the sender; an unused window must not grow (RFC 9002, section 7.8).
    pub window_limited: bool,
}

impl Congestion {
    /// A controller for a path of which nothing is known.
    pub fn new(now: Instant) -> Self {
        Self {
            window_bytes: INITIAL_WINDOW_BYTES,
            slow_start: true,
            cut_at: Instant::ZERO,
            base: BaseRtt { current: Duration::MAX, previous: Duration::MAX, since: now },
            ecn_count: 0,
        }
    }

    /// The window, in bytes.
    pub fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    /// Whether nothing has shown yet how much the path carries.
    pub fn is_in_slow_start(&self) -> bool {
        self.slow_start
    }

    /// Packets were acknowledged.
    pub fn on_ack(&mut self, acked: Acked, now: Instant) {
        if let Some(rtt) = acked.rtt {
            self.base.sample(rtt, now);
        }
        if acked.ecn_count > self.ecn_count {
            self.ecn_count = acked.ecn_count;
            self.cut(acked.sent_at, now, 4, 5);
            return;
        }
        if acked.rtt.is_some_and(|rtt| self.base.is_queueing(rtt)) {
            self.cut(acked.sent_at, now, 7, 8);
            return;
        }
        if !acked.window_limited || acked.sent_at < self.cut_at {
            return;
        }
        let grown = if self.slow_start {
            acked.bytes
        } else {
            // An eighth of the window for each round trip: a queue shows within a few of them.
            acked.bytes / 8
        };
        self.window_bytes = self.window_bytes.saturating_add(grown).min(MAX_WINDOW_BYTES);
    }

    /// Packets were lost, the newest of them sent at `sent_at`.
    pub fn on_loss(&mut self, sent_at: Instant, now: Instant) {
        self.cut(sent_at, now, 7, 10);
    }

    fn cut(&mut self, sent_at: Instant, now: Instant, times: u64, over: u64) {
        if sent_at < self.cut_at {
            return;
        }
        self.cut_at = now;
        self.slow_start = false;
        self.window_bytes = (self.window_bytes.saturating_mul(times) / over).max(MIN_WINDOW_BYTES);
    }
}

impl BaseRtt {
    fn sample(&mut self, rtt: Duration, now: Instant) {
        if now.since(self.since) > BASE_RTT_LIFETIME {
            self.previous = self.current;
            self.current = Duration::MAX;
            self.since = now;
        }
        self.current = self.current.min(rtt);
    }

    fn is_queueing(&self, rtt: Duration) -> bool {
        let base = self.current.min(self.previous);
        rtt.saturating_sub(base) > MIN_QUEUE_TARGET.max(base / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(at_ms: u64, rtt_ms: u64, ecn_count: u64) -> (Acked, Instant) {
        let now = Instant::from_micros(at_ms * 1000);
        let sent_at = Instant::from_micros((at_ms - rtt_ms) * 1000);
        let rtt = Some(Duration::from_millis(rtt_ms));
        (Acked { bytes: 32 * 1024, sent_at, rtt, ecn_count, window_limited: true }, now)
    }

    #[test]
    fn grows_then_heeds_marks_delay_and_loss_once_a_round_trip() {
        let mut c = Congestion::new(Instant::ZERO);
        for at in 100..140 {
            let (acked, now) = ack(at, 10, 0);
            c.on_ack(acked, now);
        }
        assert_eq!(c.window_bytes(), INITIAL_WINDOW_BYTES + 40 * 32 * 1024);
        let before = c.window_bytes();
        let (acked, now) = ack(150, 10, 1);
        c.on_ack(acked, now);
        assert_eq!(c.window_bytes(), before * 4 / 5);
        c.on_loss(Instant::from_micros(149_000), now);
        assert_eq!(c.window_bytes(), before * 4 / 5, "same round trip");
        let (acked, now) = ack(400, 100, 1);
        c.on_ack(acked, now);
        assert_eq!(c.window_bytes(), before * 4 / 5 * 7 / 8);
        for at in 1..100 {
            c.on_loss(Instant::from_micros(at * 1_000_000), Instant::from_micros(at * 1_000_000));
        }
        assert_eq!(c.window_bytes(), MIN_WINDOW_BYTES);
    }
}
