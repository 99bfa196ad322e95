//! The only place of this crate that reads the clock for a protocol object.

use std::time::Duration;

use overlay::time::{Instant, Now, WallTime};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Both clocks, now.
///
/// Monotonic time is `CLOCK_BOOTTIME`: it counts through suspend, so that a closed lid is seen as time that passed.
pub fn now() -> Now {
    Now {
        instant: Instant::from_micros(micros(clock_gettime(ClockId::Boottime))),
        wall: WallTime::from_unix_micros(micros(clock_gettime(ClockId::Realtime))),
    }
}

/// How long the machine has been suspended since it booted; it grows in steps.
pub fn suspended() -> Duration {
    let running = micros(clock_gettime(ClockId::Monotonic));
    Duration::from_micros(micros(clock_gettime(ClockId::Boottime)).saturating_sub(running))
}

fn micros(time: Timespec) -> u64 {
    let whole = u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000);
    whole.saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_never_goes_back() {
        let earlier = now();
        let later = now();
        assert!(later.instant >= earlier.instant);
        assert!(earlier.instant > Instant::ZERO && earlier.wall.as_unix_secs() > 0);
    }
}
