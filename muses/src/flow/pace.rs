//! A window is spread over its round trip instead of leaving at once (RFC 9002, section 7.7).
//!
//! Over a long path acknowledgements come as packets left: a burst stays one, for ever, and each time the window grows its end meets a queue, whose mark
//! cuts the window long before the path is full. Over a short one a window is a few milliseconds of data, and timers would cost more than the queue.

use core::time::Duration;

use overlay::time::{Instant, micros};

use super::Flow;
use crate::config::LONG_ROUND_TRIP;

/// Smaller windows, in bytes, are not paced: all of it at once is not much of a burst.
const PACED_WINDOW_BYTES: u64 = 512 * 1024;
/// So much of what the path carries may leave at once.
const BURST: Duration = Duration::from_millis(5);

/// How far what has left is ahead of an even pace.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// When it would all have left.
    even_at: Instant,
}

impl Pace {
    /// When the next packet may leave.
    fn next_at(self) -> Instant {
        Instant::from_micros(self.even_at.as_micros().saturating_sub(micros(BURST)))
    }

    /// `bytes` left at `now`, over a path with this round trip, by a sender that means to have `per_round_trip` bytes leave in one.
    fn sent(&mut self, bytes: u64, now: Instant, round_trip: Duration, per_round_trip: u64) {
        if round_trip >= LONG_ROUND_TRIP && per_round_trip >= PACED_WINDOW_BYTES {
            let span_us = micros(round_trip).saturating_mul(bytes) / per_round_trip.max(1);
            self.even_at = self.even_at.max(now) + Duration::from_micros(span_us);
        }
    }
}

impl Flow {
    /// When there is something to send for which there is room, but not before this time.
    pub(super) fn pace_timeout(&self, now: Instant) -> Option<Instant> {
        (self.has_room() && self.has_work() && self.is_early(now)).then(|| self.pace.next_at())
    }

    /// Whether so much has left that the rest has to wait; probes do not.
    pub(super) fn is_early(&self, now: Instant) -> bool {
        self.exempt == 0 && now < self.pace.next_at()
    }

    pub(super) fn keep_pace(&mut self, bytes: u64, now: Instant) {
        // A little faster than the window needs: what was late is made up for.
        let window = self.congestion.window_bytes();
        let per_round_trip = if self.congestion.is_in_slow_start() { window * 2 } else { window + window / 4 };
        self.pace.sent(bytes, now, self.round_trip(), per_round_trip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many packets of 50,000 bytes leave within a second, and how many of these at once, where a window of 1 MB is meant to leave in a round trip.
    fn packets(round_trip: Duration) -> (usize, usize) {
        let (mut pace, mut all, mut at_once) = (Pace::default(), 0, 0);
        for ms in 1..1001 {
            let now = Instant::from_micros(1000 * ms);
            let mut some = 0;
            while some < 100 && now >= pace.next_at() {
                pace.sent(50_000, now, round_trip, 1_000_000);
                some += 1;
            }
            (all, at_once) = (all + some, at_once.max(some));
        }
        (all, at_once)
    }

    #[test]
    fn a_window_leaves_in_a_round_trip_and_hardly_anything_at_once() {
        assert_eq!(packets(Duration::from_millis(100)), (201, 2));
        assert_eq!(packets(Duration::from_millis(20)).1, 6);
        assert_eq!(packets(Duration::from_millis(19)).1, 100, "nothing waits on short paths");
    }
}
