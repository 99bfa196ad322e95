//! Noise_IK_25519_ChaChaPoly_SHA256 (The Noise Protocol Framework, revision 34), this pattern and nothing else.
//!
//! ```text
//! <- s
//! -> e, es, s, ss
//! <- e, ee, se
//! ```

use zeroize::Zeroizing;

use crate::content::take;
use crate::dh::{KeyPair, PublicKey, PublicKeyOps, Secret};
use crate::kdf::{self, AeadKey, Kdf, Key, TAG_BYTES};

/// Exactly 32 bytes, so it is the first hash as it stands (section 5.2).
const PROTOCOL_NAME: &[u8; 32] = b"Noise_IK_25519_ChaChaPoly_SHA256";

/// What the first message is longer than its payload: e, sealed s, tag.
pub(crate) const FIRST_OVERHEAD_BYTES: usize = 32 + 32 + TAG_BYTES + TAG_BYTES;

/// Why a message was not accepted or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoiseError {
    /// Too short.
    Malformed,
    /// A DH result was all zeros.
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
    ephemeral: Secret,
}

/// Writes the first message.
pub(crate) fn write_first(
    prologue: &[u8],
    local: &KeyPair,
    remote: &PublicKey,
    ephemeral: Secret,
    payload: &[u8],
    ops: &mut PublicKeyOps,
) -> Result<(SentFirst, Vec<u8>), NoiseError> {
    let mut state = Symmetric::new(prologue);
    state.mix_hash(remote);
    let e = ephemeral.public(ops);
    state.mix_hash(&e);
    state.mix_dh(&ephemeral, remote, ops)?;
    let mut message = e.to_vec();
    message.extend(state.encrypt(&local.public)?);
    state.mix_dh(&local.secret, remote, ops)?;
    message.extend(state.encrypt(payload)?);
    Ok((SentFirst { state, ephemeral }, message))
}

impl SentFirst {
    /// Reads the second message. A forged one leaves this state as it was.
    pub(crate) fn read_second(
        &self,
        local: &KeyPair,
        message: &[u8],
        ops: &mut PublicKeyOps,
    ) -> Result<(Vec<u8>, Split), NoiseError> {
        let mut rest = message;
        let e: PublicKey = take(&mut rest).ok_or(NoiseError::Malformed)?;
        let mut state = self.state.clone();
        state.mix_hash(&e);
        state.mix_dh(&self.ephemeral, &e, ops)?;
        state.mix_dh(&local.secret, &e, ops)?;
        let payload = state.decrypt(rest)?;
        Ok((payload, state.split()))
    }
}

/// B, having read the first message.
pub(crate) struct ReadFirst {
    state: Symmetric,
    remote_ephemeral: PublicKey,
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
    let sealed_static: [u8; 32 + TAG_BYTES] = take(&mut rest).ok_or(NoiseError::Malformed)?;
    let mut state = Symmetric::new(prologue);
    state.mix_hash(&local.public);
    state.mix_hash(&remote_ephemeral);
    state.mix_dh(&local.secret, &remote_ephemeral, ops)?;
    let remote: PublicKey = state.decrypt(&sealed_static)?.try_into().map_err(|_| NoiseError::Malformed)?;
    state.mix_dh(&local.secret, &remote, ops)?;
    let payload = state.decrypt(rest)?;
    Ok((ReadFirst { state, remote_ephemeral, remote }, payload))
}

impl ReadFirst {
    /// Writes the second message.
    pub(crate) fn write_second(
        self,
        ephemeral: Secret,
        payload: &[u8],
        ops: &mut PublicKeyOps,
    ) -> Result<(Vec<u8>, Split), NoiseError> {
        let Self { mut state, remote_ephemeral, remote } = self;
        let e = ephemeral.public(ops);
        state.mix_hash(&e);
        state.mix_dh(&ephemeral, &remote_ephemeral, ops)?;
        state.mix_dh(&ephemeral, &remote, ops)?;
        let mut message = e.to_vec();
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
    fn new(prologue: &[u8]) -> Self {
        let mut state = Self {
            chaining: Zeroizing::new(*PROTOCOL_NAME),
            hash: *PROTOCOL_NAME,
            key: Zeroizing::new([0; 32]),
            nonce: 0,
        };
        state.mix_hash(prologue);
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = kdf::sha256(&[&self.hash, data]);
    }

    fn mix_dh(&mut self, ours: &Secret, theirs: &PublicKey, ops: &mut PublicKeyOps) -> Result<(), NoiseError> {
        let shared = ours.agree(theirs, ops).ok_or(NoiseError::WeakKey)?;
        (self.chaining, self.key) = hkdf_pair(&self.chaining, shared.as_slice());
        self.nonce = 0;
        Ok(())
    }

    fn encrypt(&mut self, plain: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let sealed = AeadKey::new(&self.key).seal_vec(self.nonce, &self.hash, plain).ok_or(NoiseError::Malformed)?;
        self.nonce = self.nonce.saturating_add(1);
        self.mix_hash(&sealed);
        Ok(sealed)
    }

    fn decrypt(&mut self, sealed: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let plain =
            AeadKey::new(&self.key).open_vec(self.nonce, &self.hash, sealed).ok_or(NoiseError::Unauthenticated)?;
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
mod tests;
