//! How much may arrive ahead of a reader: as much as the path and the reader make use of, and no more.
//!
//! A window that is too small limits the sender to one of it in a round trip; one that is too large only holds what a slow reader leaves lying. So it begins
//! small and doubles when half of it was read within two round trips, as QUIC implementations do (RFC 9000, section 4.2, leaves it to them). What all
//! windows of a node have grown by comes from one pool: many fast streams share it, and none of them takes more when it is empty.
//!
//! A session's window is for all its streams, and what one reader leaves lying must not keep another one waiting. So what lies there does not count against it,
//! up to a limit, and as long as the pool has something.

use core::time::Duration;

use overlay::time::Instant;

use crate::config::LONG_ROUND_TRIP;
use crate::pool::{Part, Pool};

/// Applications read in batches, and systems let them wait: a round trip counts as no less than this.
const LEAST_ROUND_TRIP: Duration = Duration::from_millis(5);
/// Over a path that is not [long](LONG_ROUND_TRIP) a window grows to so many times what it began with, and no further: that is enough there, and buffers of the
/// system on the way to a reader make it look fast at first.
const SHORT_PATH_TIMES: u64 = 4;
/// What all windows of an endpoint grow by together, at most, in bytes.
pub const MAX_GROWTH_BYTES: u64 = 256 * 1024 * 1024;

/// What lies there unread does not count against a session's window up to so many times the most that this may be,
const LYING_TIMES: u64 = 2;
/// and is taken from the pool in pieces of so many bytes.
const LYING_PIECE_BYTES: u64 = 256 * 1024;

/// The credit that a reader means to keep open.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: u64,
    first_bytes: u64,
    most_bytes: u64,
    growth: Vec<Part>,
    /// For what lies there unread.
    lying: Vec<Part>,
    /// When this look at the reader began, and what it had read then.
    since: Instant,
    read_then: u64,
}

impl Window {
    /// One of `bytes`, which grows to `most_bytes`.
    pub fn new(bytes: u64, most_bytes: u64) -> Self {
        let bytes = bytes.min(most_bytes);
        Self {
            bytes,
            first_bytes: bytes,
            most_bytes,
            growth: Vec::new(),
            lying: Vec::new(),
            since: Instant::ZERO,
            read_then: 0,
        }
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What may arrive in all, when so many bytes have arrived, and so many of them were read.
    pub fn limit(&self, received: u64, read: u64) -> u64 {
        read.saturating_add(self.bytes).saturating_add(received.saturating_sub(read).min(self.lying_bytes()))
    }

    /// What is taken for what lies there unread, in bytes.
    pub fn lying_bytes(&self) -> u64 {
        u64::try_from(self.lying.len()).unwrap_or(u64::MAX).saturating_mul(LYING_PIECE_BYTES)
    }

    /// So much lies there unread now.
    pub fn leave(&mut self, unread: u64, pool: &Pool) {
        let wanted = unread.min(self.most_bytes.saturating_mul(LYING_TIMES)).div_ceil(LYING_PIECE_BYTES);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        self.lying.truncate(wanted);
        while self.lying.len() < wanted {
            let Some(piece) = pool.take(LYING_PIECE_BYTES) else { return };
            self.lying.push(piece);
        }
    }

    /// Something arrived at `now`, and the reader has `read` so much so far; whether the window grew.
    pub fn look(&mut self, read: u64, round_trip: Duration, now: Instant, pool: &Pool) -> bool {
        let soon = now.since(self.since) < 2 * round_trip.max(LEAST_ROUND_TRIP);
        let used = read.saturating_sub(self.read_then) >= self.bytes / 2;
        if soon && !used {
            return false;
        }
        (self.since, self.read_then) = (now, read);
        let enough = self.first_bytes.saturating_mul(SHORT_PATH_TIMES);
        let most = if round_trip < LONG_ROUND_TRIP { self.most_bytes.min(enough) } else { self.most_bytes };
        let more = self.bytes.min(most.saturating_sub(self.bytes));
        let growth = (soon && more > 0).then(|| pool.take(more)).flatten();
        self.bytes = self.bytes.saturating_add(growth.as_ref().map_or(0, Part::bytes));
        let grew = growth.is_some();
        self.growth.extend(growth);
        grew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A reader of so many bytes a second; what its window is in the end.
    fn after_reading(bytes_per_ms: u64, round_trip_ms: u64, pool: &Pool) -> Window {
        let mut window = Window::new(MIB, 64 * MIB);
        for ms in 1..20_000 {
            let now = Instant::from_micros(1000 * ms);
            window.look(bytes_per_ms * ms, Duration::from_millis(round_trip_ms), now, pool);
        }
        window
    }

    #[test]
    fn it_is_a_few_times_what_is_under_way() {
        let pool = Pool::of(MAX_GROWTH_BYTES);
        for (bytes_per_ms, round_trip_ms) in [(100_000, 100), (20_000, 400), (500_000, 20)] {
            let under_way = bytes_per_ms * round_trip_ms;
            let window = after_reading(bytes_per_ms, round_trip_ms, &pool).bytes();
            assert!((2 * under_way..=8 * under_way).contains(&window), "{window} for {under_way}");
        }
        assert_eq!(after_reading(1_000, 100, &pool).bytes(), MIB, "a slow one");
        assert_eq!(after_reading(1_000_000, 19, &pool).bytes(), 4 * MIB, "a fast one that is near");
        assert_eq!(after_reading(1_000_000, 500, &pool).bytes(), 64 * MIB, "no more than it may");
    }

    #[test]
    fn all_windows_share_one_pool_and_give_back_what_they_took() {
        let pool = Pool::of(MAX_GROWTH_BYTES);
        let fast = || after_reading(1_000_000, 500, &pool);
        let windows: Vec<_> = (0..8).map(|_| fast()).collect();
        let grown: u64 = windows.iter().map(|window| window.bytes() - MIB).sum();
        assert!(grown <= MAX_GROWTH_BYTES && grown > MAX_GROWTH_BYTES - 64 * MIB, "{grown}");
        assert!(windows.iter().all(|window| window.bytes() >= MIB));
        drop(windows);
        assert_eq!(pool.taken(), 0);
        assert_eq!(fast().bytes(), 64 * MIB);
    }
}
