//! What the encryption of one link costs: Noise's cipher, on this machine.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::usage::cpu_s;
use crate::wait::{Result, Trouble};

/// Bytes sealed at once: about what a Noise message holds.
const PIECE_BYTES: usize = 60 * 1024;
const GIB: f64 = (1_u64 << 30) as f64;

/// CPU seconds for sealing one GiB once, of so many bytes that are sealed.
///
/// # Errors
/// When the cipher fails.
pub fn cpu_s_per_gib(bytes: u64) -> Result<f64> {
    let failed = |_| Trouble::new("ChaCha20-Poly1305 fails");
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).map_err(failed)?);
    let mut piece = vec![0x55; PIECE_BYTES];
    let pieces = bytes / PIECE_BYTES as u64;
    let before_s = cpu_s(std::process::id())?;
    for number in 0..pieces {
        let mut nonce = [0; NONCE_LEN];
        nonce[4..].copy_from_slice(&number.to_le_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let _tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut piece).map_err(failed)?;
    }
    let sealed_gib = (pieces * PIECE_BYTES as u64) as f64 / GIB;
    Ok((cpu_s(std::process::id())? - before_s) / sealed_gib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_costs_something() {
        assert!(cpu_s_per_gib(256 << 20).unwrap() > 0.0);
    }
}
