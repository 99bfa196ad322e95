//! A root's beacon: signed proof that it lives.
//!
//! Signed anew every 5 s and flooded. Whether its holder may hold the root is said by the [titles](super::titles). `term` and `seq` order
//! the beacons of one holder only.
//!
//! How old a beacon is its signer cannot say, and whoever passes it on may lie about. So a node notes when it heard the highest number of each holder first:
//! no copy of that one, and none of a lower number, is newer than that.
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

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::address::TreeId;
use crate::id::{CheckSignatures, Identity, NodeId, OverlayId, SIGNATURE_BYTES};
use crate::time::Instant;

/// Length of a beacon, in bytes.
pub const BEACON_BYTES: usize = 81 + SIGNATURE_BYTES;

const SIGNED_TEXT: &[u8] = b"muses-beacon-v1\0";
/// A copy that came a longer way than the first one is at most so much later than it; until then it is as new as it says.
const LONGER_WAY: Duration = Duration::from_secs(2);

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

    /// The number of the beacon in `bytes`, as it says; nothing is checked.
    pub fn claimed_number(bytes: &[u8]) -> Option<(u64, u64)> {
        let (term, rest) = bytes.get(65..)?.split_first_chunk::<8>()?;
        let (seq, _) = rest.split_first_chunk::<8>()?;
        Some((u64::from_be_bytes(*term), u64::from_be_bytes(*seq)))
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

/// The beacon with the highest number of each who may hold the root of one tree, and when it was heard first.
#[derive(Debug, Default)]
pub(crate) struct Latest(BTreeMap<NodeId, (Arc<Beacon>, Instant)>);

impl Latest {
    /// The beacon of `holder` with this number, if no other one has a higher number. Its holder signs each number once.
    pub fn with_number(&self, holder: &NodeId, number: (u64, u64)) -> Option<Arc<Beacon>> {
        let (known, _) = self.0.get(holder)?;
        (known.number() == number).then(|| Arc::clone(known))
    }

    /// Whether a higher number of `holder` was heard so long ago.
    pub fn is_past(&self, holder: &NodeId, number: (u64, u64), ago: Duration, now: Instant) -> bool {
        self.0.get(holder).is_some_and(|(known, first)| known.number() > number && now.since(*first) >= ago)
    }

    /// When `beacon` was fresh, of which somebody says that it was at `told`.
    pub fn dated(&mut self, beacon: &Arc<Beacon>, told: Instant, now: Instant) -> Instant {
        match self.0.get(&beacon.holder) {
            Some((known, first)) if known.number() >= beacon.number() => {
                if told <= *first + LONGER_WAY {
                    told
                } else {
                    *first
                }
            }
            _ => {
                self.0.insert(beacon.holder, (Arc::clone(beacon), now));
                told
            }
        }
    }

    /// Forgets those who may not hold the root any more.
    pub fn keep(&mut self, may_hold: impl Fn(&NodeId) -> bool) {
        self.0.retain(|holder, _| may_hold(holder));
    }
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
        assert_eq!(Beacon::claimed_number(beacon.as_bytes()), Some((7, 8)));
        assert_eq!(Beacon::verify(beacon.as_bytes(), &OverlayId::from_bytes([8; 32]), &CheckEach), None);
        for index in 0..beacon.as_bytes().len() {
            let mut bytes = beacon.as_bytes().to_vec();
            bytes[index] ^= 1;
            assert_eq!(Beacon::verify(&bytes, &overlay, &CheckEach), None, "byte {index}");
            assert_eq!(Beacon::verify(&bytes[..index], &overlay, &CheckEach), None);
        }
    }

    #[test]
    fn no_copy_is_newer_than_the_first_one_and_no_lower_number_than_the_highest() {
        let key = Identity::from_secret(&[1; 32]);
        let beacon = |seq| Arc::new(Beacon::sign(&key, &OverlayId::from_bytes([9; 32]), TreeId::ALL[2], 7, seq));
        let at = |s| Instant::ZERO + Duration::from_secs(s);
        let mut latest = Latest::default();
        assert_eq!(latest.dated(&beacon(8), at(9), at(10)), at(9));
        assert_eq!(latest.dated(&beacon(8), at(11), at(11)), at(11), "by a longer way");
        assert_eq!(latest.dated(&beacon(8), at(30), at(30)), at(10));
        assert_eq!(latest.dated(&beacon(8), at(3), at(30)), at(3));
        assert_eq!(latest.dated(&beacon(7), at(31), at(31)), at(10));
        assert_eq!(latest.dated(&beacon(9), at(32), at(32)), at(32));
        assert_eq!(latest.with_number(&key.id(), (7, 9)), Some(beacon(9)));
        assert_eq!(latest.with_number(&key.id(), (7, 8)), None);
        let past = |number, now| latest.is_past(&key.id(), number, Duration::from_secs(5), at(now));
        assert!(past((7, 8), 37) && !past((7, 8), 36) && !past((7, 9), 37));
        latest.keep(|holder| *holder != key.id());
        assert_eq!(latest.with_number(&key.id(), (7, 9)), None);
    }
}
