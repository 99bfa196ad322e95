//! How times are spread.

use serde::Serialize;

use crate::report::median;

/// From so many values on, the 99th percentile is one of them and not just the largest.
const MIN_FOR_P99: usize = 100;

/// How a number of times are spread, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub p50: f64,
    /// The 99th percentile, when there are at least 100 values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// The largest.
    pub max: f64,
    /// How many.
    pub n: usize,
}

impl Spread {
    /// Of these; none of nothing.
    pub fn of(values_s: &[f64]) -> Option<Self> {
        let mut sorted = values_s.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (n, max) = (sorted.len(), *sorted.last()?);
        // Nearest rank: the smallest value that 99 in 100 do not exceed.
        let p99 = sorted.get((n * 99).div_ceil(100).saturating_sub(1)).copied().filter(|_| n >= MIN_FOR_P99);
        Some(Self { p50: median(sorted)?, p99, max, n })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_a_p99_only_of_a_hundred() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(Spread::of(&values), Some(Spread { p50: 50.0, p99: Some(99.0), max: 100.0, n: 100 }));
        assert_eq!(Spread::of(&values[..99]).unwrap().p99, None);
        assert_eq!(Spread::of(&[0.5]), Some(Spread { p50: 0.5, p99: None, max: 0.5, n: 1 }));
        assert_eq!(Spread::of(&[]), None);
        let json = serde_json::to_string(&Spread::of(&[0.5]).unwrap()).unwrap();
        assert_eq!(json, "{\"p50\":0.5,\"max\":0.5,\"n\":1}");
    }
}
