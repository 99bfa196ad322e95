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

/// A machine that slept for so long may wake up somewhere else.
const MIN_SUSPEND: Duration = Duration::from_secs(1);

/// Notices that the machine was suspended, by what [`suspended`] says from time to time.
pub(crate) struct Wakes {
    /// What it said when the machine was last seen to wake up, or at first.
    known: Duration,
}

impl Wakes {
    /// The machine had been suspended for so long when the node began.
    pub(crate) fn new(suspended: Duration) -> Self {
        Self { known: suspended }
    }

    /// Whether it has slept for more than [`MIN_SUSPEND`], at once or in parts, since it last had.
    pub(crate) fn has_woken(&mut self, suspended: Duration) -> bool {
        let slept = suspended.saturating_sub(self.known) > MIN_SUSPEND;
        if slept {
            self.known = suspended;
        }
        slept
    }
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

    #[test]
    fn a_sleep_is_noticed_once_and_reading_two_clocks_is_none() {
        let ms = Duration::from_millis;
        let mut wakes = Wakes::new(ms(5_000));
        // The clocks are read one after the other, and this process may have to wait in between: no drift adds up.
        let drifts = (0..1000).map(|turn| ms(5_000 + turn % 100));
        assert!(drifts.into_iter().all(|suspended| !wakes.has_woken(suspended)));
        assert!(!wakes.has_woken(ms(6_000)), "a second, and no more");
        assert!(wakes.has_woken(ms(6_001)));
        assert!(!wakes.has_woken(ms(6_001)) && !wakes.has_woken(ms(7_001)));
        assert!(!wakes.has_woken(ms(0)), "it cannot become less, and if it does, nobody slept");
        assert!(wakes.has_woken(ms(7_002)));
        assert!(wakes.has_woken(ms(100_000_000)));
    }

    /// How long the machine of this test seems to have slept.
    const SLEPT_S: u64 = 1_000_000;

    /// In a namespace where `CLOCK_BOOTTIME` alone is ahead, as after a long sleep: this test runs itself there.
    #[test]
    fn time_goes_on_while_the_machine_sleeps() {
        const INSIDE: &str = "MUSES_TEST_HAS_SLEPT";
        if std::env::var_os(INSIDE).is_some() {
            return on_a_machine_that_has_slept();
        }
        let name = "clock::tests::time_goes_on_while_the_machine_sleeps";
        let offset = SLEPT_S.to_string();
        let unshare = || {
            let mut unshare = std::process::Command::new("unshare");
            unshare.args(["--time", "--boottime", &offset, "--fork", "--"]);
            unshare
        };
        if !unshare().arg("true").output().is_ok_and(|output| output.status.success()) {
            println!("skipped: needs root and `unshare --time` (Linux 5.6, util-linux 2.36), for a clock of its own");
            return;
        }
        let mut unshare = unshare();
        unshare.arg(std::env::current_exe().unwrap()).args(["--exact", name]).env(INSIDE, "1");
        let output = unshare.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    fn on_a_machine_that_has_slept() {
        let slept = Duration::from_secs(SLEPT_S);
        let running = micros(clock_gettime(ClockId::Monotonic));
        assert!(suspended() >= slept);
        assert!(now().instant >= Instant::from_micros(running) + slept);
    }
}
