//! The only source of randomness: a generator that the driver seeds once.

use core::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A deterministic generator: the same seed gives the same run.
///
/// ChaCha with 12 rounds, so that its output is fit for keys when the seed is.
pub struct Rng(ChaCha12Rng);

impl Rng {
    /// A generator from 32 bytes of entropy (from the system in a node, from the run's seed in the simulator).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// A generator that is independent of this one's later output.
    pub fn fork(&mut self) -> Self {
        Self::from_seed(self.bytes())
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.0.fill_bytes(&mut out);
        out
    }

    /// A number in `0..bound`; 0 when `bound` is 0. The bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// An index into something of length `len`; 0 when that is empty.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// A span between half of `span` and `span`: jitter for periodic work and backoff.
    pub fn jitter(&mut self, span: Duration) -> Duration {
        let micros = crate::time::micros(span);
        Duration::from_micros(micros / 2 + self.below(micros / 2 + 1))
    }
}

impl core::fmt::Debug for Rng {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Rng(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_in_bounds_and_repeats() {
        let mut a = Rng::from_seed([7; 32]);
        let mut b = Rng::from_seed([7; 32]);
        for bound in [0, 1, 2, 3, 1000, u64::MAX] {
            let x = a.below(bound);
            assert_eq!(x, b.below(bound));
            assert!(x < bound.max(1));
        }
        let span = Duration::from_secs(2);
        let j = a.jitter(span);
        assert!(j >= span / 2 && j <= span);
    }
}
