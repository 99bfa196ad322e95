//! Who is who: node ids, the overlay's id, and the key that proves them.

use core::fmt;
use core::str::FromStr;

use bincode::{Decode, Encode};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

/// Length of an Ed25519 signature, in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// An Ed25519 signature.
pub type Signature = [u8; SIGNATURE_BYTES];

/// A node's permanent identity (CLOAK *name*): its Ed25519 public key.
///
/// Shown and parsed as the libp2p `PeerId` of that key (`12D3KooW...`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct NodeId([u8; 32]);

/// An identity multihash of a protobuf `PublicKey { type: Ed25519, data: 32 bytes }`
/// (libp2p spec, *peer ids*): what stands before the key in a `PeerId`.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl NodeId {
    /// The id made of these public key bytes. Whether they are a point on the curve shows when a signature is checked.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The binary `PeerId` (38 bytes).
    pub fn to_peer_id_bytes(&self) -> Vec<u8> {
        [PEER_ID_PREFIX.as_slice(), &self.0].concat()
    }

    /// The id in a binary `PeerId`; `None` when that is not an inlined Ed25519 key.
    pub fn from_peer_id_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.strip_prefix(&PEER_ID_PREFIX)?.try_into().ok().map(Self)
    }

    /// Whether `signature` over `message` was made with this id's key (RFC 8032, strict: no small-order keys).
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }

    /// The last characters of the id: enough to tell nodes apart in a log.
    pub fn short(&self) -> String {
        let text = self.to_string();
        text.get(text.len().saturating_sub(8)..).unwrap_or_default().to_owned()
    }
}

/// Checks signatures. A simulator of many nodes in one process may remember the answers; it must not skip a check.
pub trait CheckSignatures: Send + Sync {
    /// Whether `signature` over `message` was made with the key of `signer`.
    fn check(&self, signer: &NodeId, message: &[u8], signature: &Signature) -> bool;
}

/// Checks each signature as it comes.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckEach;

impl CheckSignatures for CheckEach {
    fn check(&self, signer: &NodeId, message: &[u8], signature: &Signature) -> bool {
        signer.verify(message, signature)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.to_peer_id_bytes()).into_string())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId(..{})", self.short())
    }
}

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {0}")]
pub struct ParseIdError(&'static str);

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WHAT: ParseIdError = ParseIdError("node id (expected 12D3KooW...)");
        let bytes = bs58::decode(text).into_vec().map_err(|_| WHAT)?;
        Self::from_peer_id_bytes(&bytes).ok_or(WHAT)
    }
}

/// The overlay's identity: the SHA-256 of its signed genesis record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct OverlayId([u8; 32]);

impl OverlayId {
    /// The id of the overlay whose encoded, signed genesis is `genesis`.
    pub fn of_genesis(genesis: &[u8]) -> Self {
        Self(Sha256::digest(genesis).into())
    }

    /// The id's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id made of these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for OverlayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.0).into_string())
    }
}

impl fmt::Debug for OverlayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OverlayId({self})")
    }
}

impl FromStr for OverlayId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WHAT: ParseIdError = ParseIdError("overlay id");
        let bytes = bs58::decode(text).into_vec().map_err(|_| WHAT)?;
        bytes.try_into().map(Self).map_err(|_| WHAT)
    }
}

/// A node's Ed25519 key pair. Dropped memory is zeroized; it has no `Debug` of its secret.
#[derive(Clone)]
pub struct Identity(SigningKey);

impl Identity {
    /// The key pair of this 32-byte secret seed (RFC 8032).
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The id that this key proves.
    pub fn id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    /// A secret of this node for one more use, which `label` names: it stays the same as long as the identity does, and tells nothing of it.
    pub fn derive_secret(&self, label: &str) -> [u8; 32] {
        // Every label begins alike and the seed has a fixed length, so that no two inputs run together.
        Sha256::new()
            .chain_update(b"muses-derived-secret-v1\0")
            .chain_update(self.0.as_bytes())
            .chain_update(label.as_bytes())
            .finalize()
            .into()
    }

    /// Signs `message`. Every message in this project starts with a text that names its kind.
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_the_peer_id_and_round_trips() {
        let id = Identity::from_secret(&[1; 32]).id();
        let text = id.to_string();
        assert!(text.starts_with("12D3KooW"), "{text}");
        assert_eq!(text.parse::<NodeId>(), Ok(id));
        assert!("12D3KooWnonsense".parse::<NodeId>().is_err());
        assert!("".parse::<NodeId>().is_err());
    }

    #[test]
    fn derived_secrets_depend_on_identity_and_label() {
        let [a, b] = [[3; 32], [4; 32]].map(|secret| Identity::from_secret(&secret));
        assert_eq!(a.derive_secret("one"), Identity::from_secret(&[3; 32]).derive_secret("one"));
        assert_ne!(a.derive_secret("one"), a.derive_secret("two"));
        assert_ne!(a.derive_secret("one"), b.derive_secret("one"));
    }

    #[test]
    fn signatures_bind_the_message() {
        let key = Identity::from_secret(&[2; 32]);
        let signature = key.sign(b"muses-test-v1 hello");
        assert!(key.id().verify(b"muses-test-v1 hello", &signature));
        assert!(!key.id().verify(b"muses-test-v1 hellp", &signature));
    }
}
