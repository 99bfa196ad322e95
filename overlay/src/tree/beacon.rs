//! The root's beacon: signed proof that it lives, and who comes after it.
//!
//! The root is pinned by the genesis record; it is never elected. Its beacon, signed anew every 5 s and flooded, lists its heirs.
//! An heir may hold the root when all before it are gone; it then signs beacons of its own and shows the founder's latest one as
//! its title. Rank is list order, the founder first. `term` and `seq` order the beacons of one holder only.
//!
//! Signed bytes, big endian, after the text `"muses-beacon-v1\0"`: overlay id (32), holder (32), term (8), seq (8), number of heirs (1), and
//! for each heir its id (32), number of multiaddrs (1), each with its length (1). The signature (64) follows.

use multiaddr::Multiaddr;

use crate::id::{Identity, NodeId, OverlayId, SIGNATURE_BYTES};
use crate::wire::link::{MAX_ADDRESS_BYTES, from_wire, to_wire};

/// Most heirs in a beacon.
pub const MAX_HEIRS: usize = 8;
/// Most multiaddrs of one heir.
pub const MAX_HEIR_ADDRESSES: usize = 2;
/// Longest beacon with its signature, in bytes.
pub const MAX_BEACON_BYTES: usize = 4096;

const SIGNED_TEXT: &[u8] = b"muses-beacon-v1\0";

/// A node that may hold the root when those before it cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heir {
    /// Who.
    pub id: NodeId,
    /// Where it listens.
    pub addresses: Vec<Multiaddr>,
}

/// A beacon whose signature was made or checked here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// Who holds the root.
    pub holder: NodeId,
    /// Which of its times as the holder.
    pub term: u64,
    /// Which beacon of the term.
    pub seq: u64,
    /// Who comes after it, best first.
    pub heirs: Vec<Heir>,
    bytes: Vec<u8>,
}

impl Beacon {
    /// Signs a beacon.
    pub fn sign(identity: &Identity, overlay: &OverlayId, term: u64, seq: u64, heirs: Vec<Heir>) -> Self {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(overlay.as_bytes());
        bytes.extend_from_slice(identity.id().as_bytes());
        bytes.extend_from_slice(&term.to_be_bytes());
        bytes.extend_from_slice(&seq.to_be_bytes());
        let heirs: Vec<_> = heirs.into_iter().take(MAX_HEIRS).collect();
        push_len(&mut bytes, heirs.len());
        for heir in &heirs {
            bytes.extend_from_slice(heir.id.as_bytes());
            let addresses = to_wire(&heir.addresses, MAX_HEIR_ADDRESSES);
            push_len(&mut bytes, addresses.len());
            for address in addresses {
                push_len(&mut bytes, address.len());
                bytes.extend_from_slice(&address);
            }
        }
        let signature = identity.sign(&[SIGNED_TEXT, &bytes].concat());
        bytes.extend_from_slice(&signature);
        Self { holder: identity.id(), term, seq, heirs, bytes }
    }

    /// The beacon of `overlay` in `bytes`, if its holder signed it. Whether that holder has a title is the caller's question.
    pub fn verify(bytes: &[u8], overlay: &OverlayId) -> Option<Self> {
        if bytes.len() > MAX_BEACON_BYTES {
            return None;
        }
        let (body, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>()?;
        let mut rest = body;
        if take::<32>(&mut rest)? != *overlay.as_bytes() {
            return None;
        }
        let holder = NodeId::from_bytes(take(&mut rest)?);
        if !holder.verify(&[SIGNED_TEXT, body].concat(), signature) {
            return None;
        }
        let term = u64::from_be_bytes(take(&mut rest)?);
        let seq = u64::from_be_bytes(take(&mut rest)?);
        let [count] = take(&mut rest)?;
        let mut heirs = Vec::new();
        for _ in 0..count {
            let id = NodeId::from_bytes(take(&mut rest)?);
            let [addresses] = take(&mut rest)?;
            let addresses: Option<Vec<Vec<u8>>> = (0..addresses).map(|_| take_address(&mut rest)).collect();
            heirs.push(Heir { id, addresses: from_wire(&addresses?) });
        }
        let bounded = rest.is_empty() && heirs.len() <= MAX_HEIRS;
        bounded.then(|| Self { holder, term, seq, heirs, bytes: bytes.to_vec() })
    }

    /// The signed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The order of the beacons of one holder.
    pub const fn number(&self) -> (u64, u64) {
        (self.term, self.seq)
    }

    /// Where `id` stands in the succession that this beacon of the founder lays down: 0 for the founder itself.
    pub fn rank_of(&self, id: &NodeId) -> Option<usize> {
        if *id == self.holder {
            return Some(0);
        }
        self.heirs.iter().position(|heir| heir.id == *id).map(|index| index + 1)
    }
}

fn push_len(bytes: &mut Vec<u8>, len: usize) {
    bytes.push(u8::try_from(len).unwrap_or(u8::MAX));
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_address(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let [len] = take(rest)?;
    let len = usize::from(len);
    if len > MAX_ADDRESS_BYTES {
        return None;
    }
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_binds_every_byte() {
        let key = Identity::from_secret(&[1; 32]);
        let overlay = OverlayId::from_bytes([9; 32]);
        let heir = Heir { id: NodeId::from_bytes([4; 32]), addresses: vec!["/ip4/1.2.3.4/tcp/5".parse().unwrap()] };
        let beacon = Beacon::sign(&key, &overlay, 7, 8, vec![heir.clone()]);
        assert_eq!(Beacon::verify(beacon.as_bytes(), &overlay), Some(beacon.clone()));
        assert_eq!(Beacon::verify(beacon.as_bytes(), &OverlayId::from_bytes([8; 32])), None);
        for index in 0..beacon.as_bytes().len() {
            let mut bytes = beacon.as_bytes().to_vec();
            bytes[index] ^= 1;
            assert_eq!(Beacon::verify(&bytes, &overlay), None, "byte {index}");
            assert_eq!(Beacon::verify(&bytes[..index], &overlay), None);
        }
        assert_eq!(beacon.rank_of(&key.id()), Some(0));
        assert_eq!(beacon.rank_of(&heir.id), Some(1));
        assert_eq!(beacon.rank_of(&NodeId::from_bytes([5; 32])), None);
    }
}
