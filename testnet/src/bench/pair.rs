//! The same thing done both ways, and how they compare.

use std::time::Duration;

use serde::Serialize;

use crate::report::median;

/// The same thing done both ways, one right after the other, so that what else the machine does hits both alike.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pair {
    /// By the chain of plain relays, in seconds.
    pub baseline_s: f64,
    /// Through the overlay, in seconds.
    pub ours_s: f64,
}

impl Pair {
    /// What took so long each way.
    pub fn new(baseline: Duration, ours: Duration) -> Self {
        Self { baseline_s: baseline.as_secs_f64(), ours_s: ours.as_secs_f64() }
    }
}

/// The median of our speed over the baseline's, taken pair by pair.
pub fn ratio(pairs: &[Pair]) -> Option<f64> {
    median(pairs.iter().map(|pair| pair.baseline_s / pair.ours_s))
}

/// The median of what ours takes more than the baseline, taken pair by pair, in microseconds; below 0 when it takes less.
pub fn excess_us(pairs: &[Pair]) -> Option<f64> {
    median(pairs.iter().map(|pair| (pair.ours_s - pair.baseline_s) * 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(baseline_s: f64, ours_s: f64) -> Pair {
        Pair { baseline_s, ours_s }
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        // The second pair met a busy machine; of the medians of both sides the ratio would be 0.25.
        let pairs = [pair(1.0, 2.0), pair(4.0, 8.0), pair(1.0, 4.0)];
        assert_eq!(ratio(&pairs), Some(0.5));
        assert_eq!(excess_us(&pairs), Some(3e6));
        assert_eq!(excess_us(&[pair(0.5, 0.25)]), Some(-250_000.0));
        assert_eq!((ratio(&[]), excess_us(&[])), (None, None));
    }
}
