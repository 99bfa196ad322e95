//! The record that founds an overlay and names it.
//!
//! Signed bytes, big endian, after the text `"muses-genesis-v1\0"`:
//!
//! | offset | length | what |
//! | --- | --- | --- |
//! | 0 | 1 | version, 1 |
//! | 1 | 32 | the founder's [`NodeId`]: the root of the first tree, for ever |
//! | 33 | 2 | q of the {inf, q} tiling, 3 to 256 |
//! | 35 | 1 | number of trees |
//! | 36 | 8 | when, in seconds since the Unix epoch |
//! | 44 | 1 | 1 for an open overlay, 0 for one that needs a membership certificate |
//! | 45 | 64 | Ed25519 signature by the founder |

use crate::address::MAX_TREES;
use crate::id::{Identity, NodeId, OverlayId, SIGNATURE_BYTES};

/// Least and greatest q of the tiling.
pub const Q_RANGE: core::ops::RangeInclusive<u16> = 3..=256;

const SIGNED_TEXT: &[u8] = b"muses-genesis-v1\0";
const VERSION: u8 = 1;
const BODY_BYTES: usize = 45;
const GENESIS_BYTES: usize = BODY_BYTES + SIGNATURE_BYTES;

/// What is fixed for the life of an overlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Genesis {
    /// Who founded it.
    pub founder: NodeId,
    /// q of the {inf, q} tiling: a vertex has at most q - 1 children.
    pub q: u16,
    /// How many trees there are.
    pub trees: u8,
    /// When it was founded, in seconds since the Unix epoch, by the founder's clock.
    pub created_unix_s: u64,
    /// Whether everybody may join.
    pub open: bool,
}

/// Bytes that are no genesis record of a version that we know, or whose signature is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid genesis record")]
pub struct GenesisError;

/// A genesis record whose signature was made or checked here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedGenesis {
    genesis: Genesis,
    bytes: Vec<u8>,
}

impl SignedGenesis {
    /// Founds an overlay.
    ///
    /// # Errors
    /// [`GenesisError`] when q or the number of trees is out of range, or `identity` is not the founder.
    pub fn sign(identity: &Identity, genesis: Genesis) -> Result<Self, GenesisError> {
        if genesis.founder != identity.id() || !genesis.is_sensible() {
            return Err(GenesisError);
        }
        let mut bytes = genesis.to_bytes();
        let signature = identity.sign(&[SIGNED_TEXT, &bytes].concat());
        bytes.extend_from_slice(&signature);
        Ok(Self { genesis, bytes })
    }

    /// The record in `bytes`, if its signature is right.
    ///
    /// # Errors
    /// [`GenesisError`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GenesisError> {
        let bytes: &[u8; GENESIS_BYTES] = bytes.try_into().map_err(|_| GenesisError)?;
        let (body, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(GenesisError)?;
        let genesis = Genesis::read(body).filter(Genesis::is_sensible).ok_or(GenesisError)?;
        if !genesis.founder.verify(&[SIGNED_TEXT, body].concat(), signature) {
            return Err(GenesisError);
        }
        Ok(Self { genesis, bytes: bytes.to_vec() })
    }

    /// The record with its signature.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The overlay's id: the hash of the signed record.
    pub fn overlay_id(&self) -> OverlayId {
        OverlayId::of_genesis(&self.bytes)
    }
}

impl Genesis {
    fn is_sensible(&self) -> bool {
        Q_RANGE.contains(&self.q) && (1..=MAX_TREES).contains(&usize::from(self.trees))
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(GENESIS_BYTES);
        out.push(VERSION);
        out.extend_from_slice(self.founder.as_bytes());
        out.extend_from_slice(&self.q.to_be_bytes());
        out.push(self.trees);
        out.extend_from_slice(&self.created_unix_s.to_be_bytes());
        out.push(u8::from(self.open));
        out
    }

    fn read(body: &[u8]) -> Option<Self> {
        let (&version, rest) = body.split_first()?;
        let (founder, rest) = rest.split_first_chunk::<32>()?;
        let (q, rest) = rest.split_first_chunk::<2>()?;
        let (&trees, rest) = rest.split_first()?;
        let (created, rest) = rest.split_first_chunk::<8>()?;
        let open = match rest {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        (version == VERSION).then(|| Self {
            founder: NodeId::from_bytes(*founder),
            q: u16::from_be_bytes(*q),
            trees,
            created_unix_s: u64::from_be_bytes(*created),
            open,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Identity, Genesis) {
        let founder = Identity::from_secret(&[3; 32]);
        let genesis = Genesis { founder: founder.id(), q: 32, trees: 1, created_unix_s: 1_767_225_600, open: true };
        (founder, genesis)
    }

    #[test]
    fn round_trips_and_names_the_overlay() {
        let (founder, genesis) = sample();
        let signed = SignedGenesis::sign(&founder, genesis).unwrap();
        assert_eq!(SignedGenesis::from_bytes(signed.as_bytes()), Ok(signed.clone()));
        // Golden: Ed25519 signatures are deterministic, so the overlay id is.
        assert_eq!(signed.overlay_id().to_string(), "3HSXuDQrYLiUZZCBBqsZQxwWV7FaR1Rs2PEjWMvCAiMh");
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let (founder, genesis) = sample();
        let good = SignedGenesis::sign(&founder, genesis).unwrap();
        for at in 0..good.as_bytes().len() {
            let mut bad = good.as_bytes().to_vec();
            bad[at] ^= 1;
            assert!(SignedGenesis::from_bytes(&bad).is_err(), "byte {at}");
        }
        assert!(SignedGenesis::from_bytes(&good.as_bytes()[1..]).is_err());
        assert!(SignedGenesis::sign(&founder, Genesis { q: 2, ..genesis }).is_err());
        assert!(SignedGenesis::sign(&Identity::from_secret(&[4; 32]), genesis).is_err());
    }
}
