//! Noise_IKhfs_25519+MLKEM768_ChaChaPoly_SHA256, this pattern and nothing else: The Noise Protocol Framework, revision 34, with its extension
//! *KEM-based Hybrid Forward Secrecy*, revision 1.
//!
//! ```text
//! <- s
//! -> e, es, e1, s, ss
//! <- e, ee, ekem1, se
//! ```
//!
//! Without `e1` and `ekem1` it is Noise_IK, whose published vectors the same steps pass; with them it speaks to `snow` byte for byte, both in the
//! tests. The KEM's secret is mixed in like a DH's, between `ee` and `se`: who breaks X25519 some day has the static keys of the past but not this.

use zeroize::Zeroizing;

use crate::cipher::Cipher;
use crate::content::take;
use crate::dh::{KeyPair, PublicKey, PublicKeyOps, Secret};
use crate::kdf::{self, AeadKey, Kdf, Key, TAG_BYTES};
use crate::kem::{CIPHERTEXT_BYTES, Ciphertext, KEM_KEY_BYTES, KemCoins, KemKey, KemSecret};

/// Longer than a hash, so it is hashed to begin with (section 5.2).
const PROTOCOL_NAME: &[u8] = b"Noise_IKhfs_25519+MLKEM768_ChaChaPoly_SHA256";

/// What the first message is longer than its payload: e, sealed e1, sealed s, tag.
pub(crate) const FIRST_OVERHEAD_BYTES: usize = 32 + KEM_KEY_BYTES + TAG_BYTES + 32 + TAG_BYTES + TAG_BYTES;

/// What the second message is longer than its payload: e, sealed ekem1, tag.
pub(crate) const SECOND_OVERHEAD_BYTES: usize = 32 + CIPHERTEXT_BYTES + TAG_BYTES + TAG_BYTES;

/// What A makes for one handshake.
pub(crate) struct EphemeralA {
    pub(crate) dh: Secret,
    pub(crate) kem: KemSecret,
}

/// What B makes for one handshake.
pub(crate) struct EphemeralB {
    pub(crate) dh: Secret,
    pub(crate) kem: KemCoins,
}

/// Why a message was not accepted or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoiseError {
    /// Too short.
    Malformed,
    /// A DH result was all zeros, or e1 is no key.
    WeakKey,
    /// A tag was wrong.
    Unauthenticated,
}

/// What both sides hold after the second message.
pub(crate) struct Split {
    /// The key for what A sends.
    pub(crate) first: Key,
    /// The key for what B sends.
    pub(crate) second: Key,
    /// The transcript's hash.
    pub(crate) hash: [u8; 32],
}

/// A, waiting for the second message.
pub(crate) struct SentFirst {
    state: Symmetric,
    /// The static key that the first message named, whatever this node's is by now.
    local: Secret,
    ephemeral: EphemeralA,
}

/// Writes the first message.
pub(crate) fn write_first(
    prologue: &[u8],
    local: &KeyPair,
    remote: &PublicKey,
    ephemeral: EphemeralA,
    payload: &[u8],
    ops: &mut PublicKeyOps,
) -> Result<(SentFirst, Vec<u8>), NoiseError> {
    let mut state = Symmetric::new(PROTOCOL_NAME, prologue);
    state.mix_hash(remote);
    let e = ephemeral.dh.public(ops);
    state.mix_hash(&e);
    state.mix_dh(&ephemeral.dh, remote, ops)?;
    let mut message = e.to_vec();
    message.extend(state.encrypt(&ephemeral.kem.public())?);
    message.extend(state.encrypt(&local.public)?);
    state.mix_dh(&local.secret, remote, ops)?;
    message.extend(state.encrypt(payload)?);
    Ok((SentFirst { state, local: local.secret.clone(), ephemeral }, message))
}

impl SentFirst {
    /// Reads the second message. A forged one leaves this state as it was.
    pub(crate) fn read_second(&self, message: &[u8], ops: &mut PublicKeyOps) -> Result<(Vec<u8>, Split), NoiseError> {
        let mut rest = message;
        let e: PublicKey = take(&mut rest).ok_or(NoiseError::Malformed)?;
        let sealed: [u8; CIPHERTEXT_BYTES + TAG_BYTES] = take(&mut rest).ok_or(NoiseError::Malformed)?;
        let mut state = self.state.clone();
        state.mix_hash(&e);
        state.mix_dh(&self.ephemeral.dh, &e, ops)?;
        let ekem1: Ciphertext = state.decrypt(&sealed)?.try_into().map_err(|_| NoiseError::Malformed)?;
        state.mix_key(&self.ephemeral.kem.open(&ekem1, ops));
        state.mix_dh(&self.local, &e, ops)?;
        let payload = state.decrypt(rest)?;
        Ok((payload, state.split()))
    }
}

/// B, having read the first message.
pub(crate) struct ReadFirst {
    state: Symmetric,
    remote_ephemeral: PublicKey,
    e1: Box<KemKey>,
    /// A's static key: proven to be A's only by the second message being answered, as in any IK handshake.
    pub(crate) remote: PublicKey,
}

/// Reads the first message: its payload, and what is needed to answer it.
pub(crate) fn read_first(
    prologue: &[u8],
    local: &KeyPair,
    message: &[u8],
    ops: &mut PublicKeyOps,
) -> Result<(ReadFirst, Vec<u8>), NoiseError> {
    let mut rest = message;
    let remote_ephemeral: PublicKey = take(&mut rest).ok_or(NoiseError::Malformed)?;
    let sealed_e1: [u8; KEM_KEY_BYTES + TAG_BYTES] = take(&mut rest).ok_or(NoiseError::Malformed)?;
    let sealed_static: [u8; 32 + TAG_BYTES] = take(&mut rest).ok_or(NoiseError::Malformed)?;
    let mut state = Symmetric::new(PROTOCOL_NAME, prologue);
    state.mix_hash(&local.public);
    state.mix_hash(&remote_ephemeral);
    state.mix_dh(&local.secret, &remote_ephemeral, ops)?;
    let e1 = state.decrypt(&sealed_e1)?.try_into().map_err(|_| NoiseError::Malformed)?;
    let remote: PublicKey = state.decrypt(&sealed_static)?.try_into().map_err(|_| NoiseError::Malformed)?;
    state.mix_dh(&local.secret, &remote, ops)?;
    let payload = state.decrypt(rest)?;
    Ok((ReadFirst { state, remote_ephemeral, e1, remote }, payload))
}

impl ReadFirst {
    /// Writes the second message.
    pub(crate) fn write_second(
        self,
        ephemeral: EphemeralB,
        payload: &[u8],
        ops: &mut PublicKeyOps,
    ) -> Result<(Vec<u8>, Split), NoiseError> {
        let Self { mut state, remote_ephemeral, e1, remote } = self;
        let e = ephemeral.dh.public(ops);
        state.mix_hash(&e);
        state.mix_dh(&ephemeral.dh, &remote_ephemeral, ops)?;
        let (ekem1, shared) = ephemeral.kem.encapsulate(&e1, ops).ok_or(NoiseError::WeakKey)?;
        let mut message = e.to_vec();
        message.extend(state.encrypt(&ekem1)?);
        state.mix_key(&shared);
        state.mix_dh(&ephemeral.dh, &remote, ops)?;
        message.extend(state.encrypt(payload)?);
        Ok((message, state.split()))
    }
}

/// SymmetricState (section 5.2) with its CipherState; the key is there from the first DH on, before which IK encrypts nothing.
#[derive(Clone)]
struct Symmetric {
    chaining: Key,
    hash: [u8; 32],
    key: Key,
    nonce: u64,
}

impl Symmetric {
    fn new(name: &[u8], prologue: &[u8]) -> Self {
        // A name of just the hash's length stands for itself; none is shorter.
        let hash = name.try_into().unwrap_or_else(|_| kdf::sha256(&[name]));
        let mut state = Self { chaining: Zeroizing::new(hash), hash, key: Zeroizing::new([0; 32]), nonce: 0 };
        state.mix_hash(prologue);
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = kdf::sha256(&[&self.hash, data]);
    }

    fn mix_dh(&mut self, ours: &Secret, theirs: &PublicKey, ops: &mut PublicKeyOps) -> Result<(), NoiseError> {
        self.mix_key(&ours.agree(theirs, ops).ok_or(NoiseError::WeakKey)?);
        Ok(())
    }

    fn mix_key(&mut self, shared: &Key) {
        (self.chaining, self.key) = hkdf_pair(&self.chaining, shared.as_slice());
        self.nonce = 0;
    }

    fn encrypt(&mut self, plain: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let sealed = AeadKey::new(Cipher::ChaCha20Poly1305, &self.key)
            .seal_vec(self.nonce, &self.hash, plain)
            .ok_or(NoiseError::Malformed)?;
        self.nonce = self.nonce.saturating_add(1);
        self.mix_hash(&sealed);
        Ok(sealed)
    }

    fn decrypt(&mut self, sealed: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let plain = AeadKey::new(Cipher::ChaCha20Poly1305, &self.key)
            .open_vec(self.nonce, &self.hash, sealed)
            .ok_or(NoiseError::Unauthenticated)?;
        self.nonce = self.nonce.saturating_add(1);
        self.mix_hash(sealed);
        Ok(plain)
    }

    fn split(self) -> Split {
        let (first, second) = hkdf_pair(&self.chaining, &[]);
        Split { first, second, hash: self.hash }
    }
}

/// Noise's HKDF with two outputs (section 4.3), which is RFC 5869 with an empty info.
fn hkdf_pair(chaining: &[u8; 32], input: &[u8]) -> (Key, Key) {
    let both: Zeroizing<[u8; 64]> = Kdf::extract(chaining, input).expand_raw(&[]);
    let (mut first, mut second) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
    let (low, high) = both.split_at(32);
    first.copy_from_slice(low);
    second.copy_from_slice(high);
    (first, second)
}

#[cfg(test)]
#[path = "noise_tests.rs"]
pub(crate) mod tests;
