//! What an end says of itself in its Hello: sealed, and part of the handshake's hash.
//!
//! ```text
//! params     flags (1), life (8)                                                  more may follow; what is missing is 0
//! ```
//!
//! The flags are those of [`cipher`](crate::cipher). A life is the time at which this run of the endpoint began. Handshakes are not stored, so an end that says another, later
//! life than before has lost those that it answered in the one before: that tells a peer that starts anew from one that began at the same time as we.
//! Where its clock was set back meanwhile it looks like one that began at the same time, and is met when the older handshake is given up. Whoever completes a handshake
//! learns when the other's run began.

use crate::cipher::Cipher;

/// Bytes of the params of this version.
pub const PARAMS_BYTES: usize = 1 + 8;

/// The params of an end.
pub(crate) fn params(fast_aes: bool, life: Life) -> [u8; PARAMS_BYTES] {
    let mut out = [0; PARAMS_BYTES];
    let [flags, rest @ ..] = &mut out;
    *flags = Cipher::flags(fast_aes);
    *rest = life.0.to_be_bytes();
    out
}

/// When a run of an endpoint began, in microseconds since 1970; 0 for whoever does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Life(pub u64);

impl Life {
    /// What params say of it.
    pub fn of(params: &[u8]) -> Self {
        let rest = params.split_first().and_then(|(_, rest)| rest.first_chunk());
        Self(rest.map_or(0, |life| u64::from_be_bytes(*life)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read() {
        for fast in [true, false] {
            let said = params(fast, Life(0x0102_0304_0506_0708));
            assert_eq!(said, [u8::from(fast), 1, 2, 3, 4, 5, 6, 7, 8]);
            assert_eq!(Life::of(&said), Life(0x0102_0304_0506_0708));
            assert_eq!(Life::of(&[&said[..], &[9]].concat()), Life::of(&said), "more may follow");
        }
        for short in [&[][..], &[1], &[1, 2, 3, 4, 5, 6, 7, 8]] {
            assert_eq!(Life::of(short), Life(0));
        }
    }
}
