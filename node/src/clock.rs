//! The only place of this crate that reads the clock for a protocol object.

use std::time::{Duration, SystemTime};

use overlay::time::{Instant, Now, WallTime};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Both clocks, now.
///
/// Monotonic time is `CLOCK_BOOTTIME`: it counts through suspend, so that a closed lid is seen as time that passed.
pub fn now() -> Now {
    Now {
        instant: Instant::from_micros(micros(clock_gettime(ClockId::Boottime))),
        wall: WallTime::from_unix_micros(wall_us()),
    }
}

/// How long the machine has been suspended since it booted; it grows in steps.
pub fn suspended() -> Duration {
    let running = micros(clock_gettime(ClockId::Monotonic));
    Duration::from_micros(micros(clock_gettime(ClockId::Boottime)).saturating_sub(running))
}

/// Zero before the Unix epoch. Asked of the C library, which `faketime` can make tell another date: that is how a wrong clock is tested.
fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
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
