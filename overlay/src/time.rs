//! The protocol's own clock values.
//!
//! Nothing in this crate reads a clock. The driver passes [`Now`] as the last argument of every `handle_*`;
//! the simulator passes numbers of its own, so a run prints and replays.

use core::fmt;
use core::time::Duration;

/// A point of monotonic time, in microseconds since an arbitrary origin.
///
/// It counts through suspend (`CLOCK_BOOTTIME`), so that a closed lid is seen as time that passed.
/// All arithmetic saturates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The origin of the clock.
    pub const ZERO: Self = Self(0);
    /// Later than every instant that a driver can pass: "never".
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// The instant `micros` microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long `self` is after `earlier`; zero when it is not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// `self + span`, at most [`Instant::FAR_FUTURE`].
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        self.after(span)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A best guess of wall time, in microseconds since the Unix epoch; used for record numbers and lifetimes, never for timers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct WallTime(u64);

impl WallTime {
    /// The wall time `micros` microseconds after the Unix epoch.
    pub const fn from_unix_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_unix_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub const fn as_unix_secs(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// What a driver knows of the time when something happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic time: all timers.
    pub instant: Instant,
    /// Wall time: sequence numbers and lifetimes of signed objects.
    pub wall: WallTime,
}

impl Now {
    /// Both clocks moved on by `span`.
    pub fn after(self, span: Duration) -> Self {
        Self { instant: self.instant + span, wall: WallTime(self.wall.0.saturating_add(micros(span))) }
    }
}

/// `span` in whole microseconds, at most `u64::MAX`.
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Instant::FAR_FUTURE + Duration::from_secs(1), Instant::FAR_FUTURE);
        assert_eq!(Instant::ZERO.since(Instant::from_micros(7)), Duration::ZERO);
        assert_eq!(Instant::ZERO + Duration::MAX, Instant::FAR_FUTURE);
    }

    #[test]
    fn debug_prints_seconds() {
        assert_eq!(format!("{:?}", Instant::from_micros(1_500_000)), "1.500000s");
    }
}
