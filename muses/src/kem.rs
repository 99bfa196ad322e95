//! ML-KEM-768 (FIPS 203): what keeps a recorded handshake closed to a quantum computer. Counted like all public-key work.

use ml_kem::kem::{Decapsulate as _, KeyExport as _};
use ml_kem::{DecapsulationKey, EncapsulationKey, MlKem768};
use overlay::rng::Rng;
use zeroize::{Zeroize as _, Zeroizing};

use crate::dh::PublicKeyOps;
use crate::kdf::Key;

/// Length of an encapsulation key: Noise's `e1`.
pub(crate) const KEM_KEY_BYTES: usize = 1184;

/// Length of a ciphertext: Noise's `ekem1`.
pub(crate) const CIPHERTEXT_BYTES: usize = 1088;

/// An encapsulation key, encoded (FIPS 203, 7.2).
pub(crate) type KemKey = [u8; KEM_KEY_BYTES];

/// A ciphertext (FIPS 203, 7.2).
pub(crate) type Ciphertext = [u8; CIPHERTEXT_BYTES];

/// The decapsulation key of one handshake. Zeroized when dropped.
pub(crate) struct KemSecret(DecapsulationKey<MlKem768>);

/// The random bytes that one encapsulation takes. Zeroized when dropped; never to be used twice.
pub(crate) struct KemCoins(Zeroizing<[u8; 32]>);

impl KemSecret {
    /// A fresh key.
    pub(crate) fn generate(rng: &mut Rng, ops: &mut PublicKeyOps) -> Self {
        Self::from_seed(&Zeroizing::new(rng.bytes()), ops)
    }

    /// The key of this seed, d . z in FIPS 203.
    pub(crate) fn from_seed(seed: &[u8; 64], ops: &mut PublicKeyOps) -> Self {
        ops.add_one();
        let mut seed = (*seed).into();
        let secret = Self(DecapsulationKey::from_seed(seed));
        seed.zeroize();
        secret
    }

    /// The encapsulation key to give to the peer.
    pub(crate) fn public(&self) -> KemKey {
        self.0.encapsulation_key().to_bytes().into()
    }

    /// The secret in `ciphertext`. One that was not made for this key yields a secret that nobody knows (FIPS 203, 6.3).
    pub(crate) fn open(&self, ciphertext: &Ciphertext, ops: &mut PublicKeyOps) -> Key {
        ops.add_one();
        let mut shared = self.0.decapsulate(&(*ciphertext).into());
        let key = Zeroizing::new(shared.into());
        shared.zeroize();
        key
    }
}

impl KemCoins {
    /// Fresh ones.
    pub(crate) fn generate(rng: &mut Rng) -> Self {
        Self::from_bytes(&Zeroizing::new(rng.bytes()))
    }

    /// These.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// A secret, and the ciphertext that brings it to the holder of `key`; `None` when that is no key (FIPS 203, 7.2: a coefficient out
    /// of range).
    pub(crate) fn encapsulate(self, key: &KemKey, ops: &mut PublicKeyOps) -> Option<(Ciphertext, Key)> {
        ops.add_one();
        let key = EncapsulationKey::<MlKem768>::new(&(*key).into()).ok()?;
        let mut coins = (*self.0).into();
        let (ciphertext, mut shared) = key.encapsulate_deterministic(&coins);
        coins.zeroize();
        let secret = Zeroizing::new(shared.into());
        shared.zeroize();
        Some((ciphertext.into(), secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(bytes: &[u8]) -> String {
        crate::kdf::sha256(&[bytes])[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn both_ends_agree_and_every_operation_counts() {
        let mut ops = PublicKeyOps::default();
        let secret = KemSecret::from_seed(&[1; 64], &mut ops);
        let (ciphertext, theirs) = KemCoins::from_bytes(&[2; 32]).encapsulate(&secret.public(), &mut ops).unwrap();
        assert_eq!(secret.open(&ciphertext, &mut ops), theirs);
        assert_eq!(ops.total(), 3);
        let mut other = ciphertext;
        other[7] ^= 1;
        assert_ne!(secret.open(&other, &mut ops), theirs);
    }

    #[test]
    fn a_key_out_of_range_is_refused() {
        let mut ops = PublicKeyOps::default();
        let mut key = KemSecret::from_seed(&[1; 64], &mut ops).public();
        // The first coefficient becomes 4095, beyond q = 3329.
        (key[0], key[1]) = (0xff, key[1] | 0x0f);
        assert!(KemCoins::from_bytes(&[2; 32]).encapsulate(&key, &mut ops).is_none());
    }

    #[test]
    fn the_crate_is_the_published_standard() {
        // The example of draft-ietf-lamps-kyber-certificates, appendix C: seed and public key.
        let seed = core::array::from_fn(|i| u8::try_from(i).unwrap());
        let secret = KemSecret::from_seed(&seed, &mut PublicKeyOps::default());
        assert_eq!(digest(&secret.public()), "0b7934c83125c788");
    }
}
