//! X25519 and Ed25519, and the count of all public-key work: only this module and `kem` do any.
//!
//! A resume must not touch a public key. [`PublicKeyOps`] makes that a fact to read off instead of a promise.

use overlay::id::{Identity, NodeId, Signature};
use overlay::rng::Rng;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// An X25519 public key.
pub type PublicKey = [u8; 32];

/// How many operations with public keys were done: X25519 products (key generation included), Ed25519 signatures made and checked,
/// ML-KEM keys made, secrets encapsulated and decapsulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicKeyOps {
    total: u64,
}

impl PublicKeyOps {
    /// The count so far.
    pub const fn total(&self) -> u64 {
        self.total
    }

    pub(crate) fn add_one(&mut self) {
        self.total = self.total.saturating_add(1);
    }
}

/// An X25519 secret key, static or ephemeral. Zeroized when dropped.
#[derive(Clone)]
pub struct Secret(StaticSecret);

impl Secret {
    /// The secret key of these 32 bytes (clamped when used, RFC 7748).
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(StaticSecret::from(*bytes))
    }

    /// A fresh one.
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_bytes(&Zeroizing::new(rng.bytes()))
    }

    /// The public key that belongs to it.
    pub fn public(&self, ops: &mut PublicKeyOps) -> PublicKey {
        ops.add_one();
        x25519_dalek::PublicKey::from(&self.0).to_bytes()
    }

    /// The secret shared with the holder of `theirs`; `None` when it is all zeros, which only a key of small order
    /// brings about (RFC 7748, 6.1).
    pub fn agree(&self, theirs: &PublicKey, ops: &mut PublicKeyOps) -> Option<Zeroizing<[u8; 32]>> {
        ops.add_one();
        let shared = self.0.diffie_hellman(&x25519_dalek::PublicKey::from(*theirs));
        shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
    }
}

/// A secret key with its public key, which is worked out once.
pub struct KeyPair {
    pub(crate) secret: Secret,
    /// The public half.
    pub public: PublicKey,
}

impl KeyPair {
    /// The pair of this secret key.
    pub fn new(secret: Secret, ops: &mut PublicKeyOps) -> Self {
        let public = secret.public(ops);
        Self { secret, public }
    }
}

/// Signs `message`.
pub fn sign(identity: &Identity, message: &[u8], ops: &mut PublicKeyOps) -> Signature {
    ops.add_one();
    identity.sign(message)
}

/// Whether `signer` signed `message`.
pub fn verify(signer: NodeId, message: &[u8], signature: &Signature, ops: &mut PublicKeyOps) -> bool {
    ops.add_one();
    signer.verify(message, signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_agree_and_every_operation_counts() {
        let mut ops = PublicKeyOps::default();
        let (a, b) = (Secret::from_bytes(&[1; 32]), Secret::from_bytes(&[2; 32]));
        let (pa, pb) = (a.public(&mut ops), b.public(&mut ops));
        assert_eq!(a.agree(&pb, &mut ops), b.agree(&pa, &mut ops));
        assert_eq!(ops.total(), 4);
        let identity = Identity::from_secret(&[3; 32]);
        let signature = sign(&identity, b"x", &mut ops);
        assert!(verify(identity.id(), b"x", &signature, &mut ops));
        assert_eq!(ops.total(), 6);
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        let mut one = [0; 32];
        one[0] = 1;
        let secret = Secret::from_bytes(&[1; 32]);
        let mut ops = PublicKeyOps::default();
        assert!(secret.agree(&[0; 32], &mut ops).is_none());
        assert!(secret.agree(&one, &mut ops).is_none());
    }
}
