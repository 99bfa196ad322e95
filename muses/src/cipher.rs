//! Which AEAD protects a session's packets.
//!
//! Handshakes and resumes know one suite. Of packets there may be many GiB, so for these the ends agree on what both of their machines do
//! fast: AES-256-GCM where both have instructions for it (measured with `ring` on one core of the bench machine beside other work, 60 KiB, both in one run: 9.2 GB/s),
//! ChaCha20-Poly1305 otherwise (2.2 GB/s), as TLS 1.3 clients and servers do. Each says so in the [params](crate::handshake) of its Hello, which are sealed and
//! part of the handshake's hash: nobody on the way can read or change that, so there is no downgrade. It stays so for the session's life.
//!
//! Keys never serve two ciphers: they are derived under other labels. A packet's number is its nonce and never repeats under a
//! key in either; that AES-GCM forgives a repetition less changes nothing, as neither forgives it. The limits of RFC 9001, appendix B, are
//! kept by far: a key steps after 1 GiB, and [`BYTES_PER_KEY_MAX`](crate::packet::BYTES_PER_KEY_MAX) stops one that cannot.

use overlay::codec::{Decode, Encode};
use ring::aead::{AES_256_GCM, Algorithm, CHACHA20_POLY1305};

/// Bit 0 of the first byte of [params](crate::handshake::params): this machine has instructions for AES and GHASH. Other bits are not looked at, and no byte is none.
const FAST_AES: u8 = 1;

/// An AEAD with 32 bytes of key, a 96-bit nonce and a tag of 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Cipher {
    /// RFC 8439. Fast without special instructions, and constant in time everywhere.
    ChaCha20Poly1305,
    /// NIST SP 800-38D.
    Aes256Gcm,
}

impl Cipher {
    /// What an end says of its machine.
    pub(crate) const fn flags(fast_aes: bool) -> u8 {
        if fast_aes { FAST_AES } else { 0 }
    }

    /// What two ends that said so use.
    pub(crate) fn agreed(ours: &[u8], theirs: &[u8]) -> Self {
        let fast = |params: &[u8]| params.first().is_some_and(|first| first & FAST_AES != 0);
        if fast(ours) && fast(theirs) { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }

    /// The labels of the keys of packets from A, and from B.
    pub(crate) const fn labels(self) -> [&'static str; 2] {
        match self {
            Self::ChaCha20Poly1305 => ["packets a", "packets b"],
            Self::Aes256Gcm => ["packets a aes-256-gcm", "packets b aes-256-gcm"],
        }
    }

    pub(crate) fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_is_for_two_who_both_do_it_fast() {
        let [yes, no] = [true, false].map(|fast| [Cipher::flags(fast)]);
        let (yes, no) = (yes.as_slice(), no.as_slice());
        assert_eq!(Cipher::agreed(yes, yes), Cipher::Aes256Gcm);
        for (ours, theirs) in [(yes, no), (no, yes), (no, no), (yes, &[])] {
            assert_eq!(Cipher::agreed(ours, theirs), Cipher::ChaCha20Poly1305);
        }
        // Later versions may say more.
        assert_eq!(Cipher::agreed(yes, &[0xff, 7]), Cipher::Aes256Gcm);
        assert_eq!(Cipher::agreed(yes, &[0xfe]), Cipher::ChaCha20Poly1305);
    }
}
