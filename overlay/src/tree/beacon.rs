//! A root's beacon: signed proof that it lives.
//!
//! Signed anew every 5 s and flooded. Whether its holder may hold the root is said by the [titles](super::titles). `term` and `seq` order
//! the beacons of one holder only.
//!
//! Signed bytes, big endian, after the text `"muses-beacon-v1\0"`:
//!
//! | offset | length | what |
//! | --- | --- | --- |
//! | 0 | 32 | overlay id |
//! | 32 | 1 | tree |
//! | 33 | 32 | the holder, who signs |
//! | 65 | 8 | term: which of its times as the holder |
//! | 73 | 8 | seq: which beacon of the term |
//! | 81 | 64 | Ed25519 signature |

use crate::address::TreeId;
use crate::id::{CheckSignatures, Identity, NodeId, OverlayId, SIGNATURE_BYTES};

/// Length of a beacon, in bytes.
pub const BEACON_BYTES: usize = 81 + SIGNATURE_BYTES;

const SIGNED_TEXT: &[u8] = b"muses-beacon-v1\0";

/// A beacon whose signature was made or checked here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// Of which tree.
    pub tree: TreeId,
    /// Who holds the root.
    pub holder: NodeId,
    /// Which of its times as the holder.
    pub term: u64,
    /// Which beacon of the term.
    pub seq: u64,
    bytes: [u8; BEACON_BYTES],
}

impl Beacon {
    /// Signs a beacon.
    pub fn sign(identity: &Identity, overlay: &OverlayId, tree: TreeId, term: u64, seq: u64) -> Self {
        let holder = identity.id();
        let mut body = Vec::with_capacity(BEACON_BYTES);
        body.extend_from_slice(overlay.as_bytes());
        body.push(tree.get());
        body.extend_from_slice(holder.as_bytes());
        body.extend_from_slice(&term.to_be_bytes());
        body.extend_from_slice(&seq.to_be_bytes());
        let signature = identity.sign(&[SIGNED_TEXT, &body].concat());
        let mut bytes = [0; BEACON_BYTES];
        bytes.iter_mut().zip(body.iter().chain(&signature)).for_each(|(to, from)| *to = *from);
        Self { tree, holder, term, seq, bytes }
    }

    /// The beacon of `overlay` in `bytes`, if its holder signed it. Whether that holder has a title is the caller's question.
    pub fn verify(bytes: &[u8], overlay: &OverlayId, checks: &dyn CheckSignatures) -> Option<Self> {
        let bytes: &[u8; BEACON_BYTES] = bytes.try_into().ok()?;
        let (body, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>()?;
        let (of, rest) = body.split_first_chunk::<32>()?;
        let (&tree, rest) = rest.split_first()?;
        let (holder, rest) = rest.split_first_chunk::<32>()?;
        let (term, rest) = rest.split_first_chunk::<8>()?;
        let (seq, _) = rest.split_first_chunk::<8>()?;
        let (tree, holder) = (TreeId::new(tree)?, NodeId::from_bytes(*holder));
        if of != overlay.as_bytes() || !checks.check(&holder, &[SIGNED_TEXT, body].concat(), signature) {
            return None;
        }
        let (term, seq) = (u64::from_be_bytes(*term), u64::from_be_bytes(*seq));
        Some(Self { tree, holder, term, seq, bytes: *bytes })
    }

    /// Of which tree the beacon in `bytes` says to be, and whose; nothing is checked.
    pub fn claim(bytes: &[u8]) -> Option<(TreeId, NodeId)> {
        let (&tree, rest) = bytes.get(32..)?.split_first()?;
        let (holder, _) = rest.split_first_chunk::<32>()?;
        Some((TreeId::new(tree)?, NodeId::from_bytes(*holder)))
    }

    /// The signed bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The order of the beacons of one holder.
    pub const fn number(&self) -> (u64, u64) {
        (self.term, self.seq)
    }
}

/// The end of the signature: no two beacons are likely to have the same.
pub fn mark_of(bytes: &[u8]) -> u64 {
    bytes.last_chunk().map_or(0, |mark| u64::from_le_bytes(*mark))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CheckEach;

    #[test]
    fn round_trips_and_binds_every_byte() {
        let key = Identity::from_secret(&[1; 32]);
        let overlay = OverlayId::from_bytes([9; 32]);
        let beacon = Beacon::sign(&key, &overlay, TreeId::ALL[2], 7, 8);
        assert_eq!(Beacon::verify(beacon.as_bytes(), &overlay, &CheckEach), Some(beacon.clone()));
        assert_eq!(Beacon::claim(beacon.as_bytes()), Some((TreeId::ALL[2], key.id())));
        assert_eq!(Beacon::verify(beacon.as_bytes(), &OverlayId::from_bytes([8; 32]), &CheckEach), None);
        for index in 0..beacon.as_bytes().len() {
            let mut bytes = beacon.as_bytes().to_vec();
            bytes[index] ^= 1;
            assert_eq!(Beacon::verify(&bytes, &overlay, &CheckEach), None, "byte {index}");
            assert_eq!(Beacon::verify(&bytes[..index], &overlay, &CheckEach), None);
        }
    }
}
