//! Titles: who may hold the root of each tree, in which order.
//!
//! The first root is pinned by the genesis record and never elected: electing the smallest key, for instance, would let anyone grind
//! a key and capture the root. The founder signs, and numbers, a list for each tree. A node's *rank* is its position there, and the node of best rank
//! whose beacon is fresh holds the root. In the first tree the founder itself has rank 0, before the list.
//!
//! Signed bytes, big endian, after the text `"muses-titles-v1\0"`: overlay id (32), seq (8), number of heirs (1), and for each heir its
//! id (32), number of multiaddrs (1), each with its length (1); number of trees (1), and for each tree the length of its list (1) and the heirs on
//! it by number (1 each). The founder's signature (64) follows.

use multiaddr::Multiaddr;

use crate::address::{FIRST_TREE, MAX_TREES, TreeId};
use crate::id::{Identity, NodeId, OverlayId, SIGNATURE_BYTES};
use crate::wire::link::{MAX_ADDRESS_BYTES, from_wire, to_wire};

/// Most heirs of all trees together.
pub const MAX_HEIRS: usize = 20;
/// Most multiaddrs of one heir.
pub const MAX_HEIR_ADDRESSES: usize = 2;
/// Longest titles with their signature, in bytes.
pub const MAX_TITLES_BYTES: usize = 4096;

const SIGNED_TEXT: &[u8] = b"muses-titles-v1\0";

/// A node that may hold a root when those before it cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heir {
    /// Who.
    pub id: NodeId,
    /// Where it listens.
    pub addresses: Vec<Multiaddr>,
}

/// Titles whose signature was made or checked here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Titles {
    /// Of two titles the one with the higher number counts.
    pub seq: u64,
    /// Everybody who is on a list.
    pub heirs: Vec<Heir>,
    /// For each tree the heirs by their index, best first. A tree that is not there has no root.
    pub lists: Vec<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Titles {
    /// Signs titles; what exceeds a limit is left out.
    pub fn sign(identity: &Identity, overlay: &OverlayId, seq: u64, heirs: Vec<Heir>, lists: Vec<Vec<u8>>) -> Self {
        let heirs: Vec<_> = heirs.into_iter().take(MAX_HEIRS).collect();
        let known = |index: &u8| usize::from(*index) < heirs.len();
        let lists: Vec<Vec<u8>> = lists
            .into_iter()
            .take(MAX_TREES)
            .map(|list| list.into_iter().filter(known).take(MAX_HEIRS).collect())
            .collect();
        let mut bytes = Vec::new();
        bytes.extend_from_slice(overlay.as_bytes());
        bytes.extend_from_slice(&seq.to_be_bytes());
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
        push_len(&mut bytes, lists.len());
        for list in &lists {
            push_len(&mut bytes, list.len());
            bytes.extend_from_slice(list);
        }
        let signature = identity.sign(&[SIGNED_TEXT, &bytes].concat());
        bytes.extend_from_slice(&signature);
        Self { seq, heirs, lists, bytes }
    }

    /// The titles of `overlay` in `bytes`, if `founder` signed them.
    pub fn verify(bytes: &[u8], overlay: &OverlayId, founder: &NodeId) -> Option<Self> {
        if bytes.len() > MAX_TITLES_BYTES {
            return None;
        }
        let (body, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>()?;
        let mut rest = body;
        if take::<32>(&mut rest)? != *overlay.as_bytes() || !founder.verify(&[SIGNED_TEXT, body].concat(), signature) {
            return None;
        }
        let seq = u64::from_be_bytes(take(&mut rest)?);
        let [count] = take(&mut rest)?;
        let mut heirs = Vec::new();
        for _ in 0..count {
            let id = NodeId::from_bytes(take(&mut rest)?);
            let [addresses] = take(&mut rest)?;
            let addresses: Option<Vec<Vec<u8>>> = (0..addresses).map(|_| take_address(&mut rest)).collect();
            heirs.push(Heir { id, addresses: from_wire(&addresses?) });
        }
        let [trees] = take(&mut rest)?;
        let mut lists = Vec::new();
        for _ in 0..trees {
            let [length] = take(&mut rest)?;
            let list: Option<Vec<u8>> = (0..length).map(|_| take::<1>(&mut rest).map(|[index]| index)).collect();
            lists.push(list?);
        }
        let known = lists.iter().flatten().all(|index| usize::from(*index) < heirs.len());
        let bounded = rest.is_empty() && heirs.len() <= MAX_HEIRS && lists.len() <= MAX_TREES;
        (known && bounded).then(|| Self { seq, heirs, lists, bytes: bytes.to_vec() })
    }

    /// The number of the titles in `bytes`, as they say; nothing is checked.
    pub fn claimed_seq(bytes: &[u8]) -> Option<u64> {
        bytes.get(32..)?.first_chunk().copied().map(u64::from_be_bytes)
    }

    /// The signed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether `id` stands behind the founder on the list of `tree`: it may hold the root only where nobody else is.
    pub fn is_far(&self, tree: TreeId, founder: &NodeId, id: &NodeId) -> bool {
        self.list(tree).skip_while(|heir| heir.id != *founder).skip(1).any(|heir| heir.id == *id)
    }

    /// Where `id` stands in `tree`; 0 is the best. In [`FIRST_TREE`] the founder comes before the list.
    pub fn rank_of(&self, tree: TreeId, id: &NodeId) -> Option<usize> {
        let before = usize::from(tree == FIRST_TREE);
        self.list(tree).position(|heir| heir.id == *id).map(|position| position + before)
    }

    /// The list of `tree`, best first.
    pub fn list(&self, tree: TreeId) -> impl Iterator<Item = &Heir> {
        self.lists.get(tree.index()).into_iter().flatten().filter_map(|index| self.heirs.get(usize::from(*index)))
    }
}

fn push_len(out: &mut Vec<u8>, len: usize) {
    out.push(u8::try_from(len).unwrap_or(u8::MAX));
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_address(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let [length] = take(rest)?;
    let (address, tail) = rest.split_at_checked(usize::from(length))?;
    *rest = tail;
    (address.len() <= MAX_ADDRESS_BYTES).then(|| address.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_binds_every_byte() {
        let key = Identity::from_secret(&[1; 32]);
        let overlay = OverlayId::from_bytes([9; 32]);
        let heir =
            |n: u8| Heir { id: NodeId::from_bytes([n; 32]), addresses: vec!["/ip4/1.2.3.4/tcp/5".parse().unwrap()] };
        let titles = Titles::sign(&key, &overlay, 7, vec![heir(4), heir(5)], vec![vec![0, 1], vec![1, 9]]);
        assert_eq!(titles.lists, [vec![0, 1], vec![1]]);
        assert_eq!(Titles::verify(titles.as_bytes(), &overlay, &key.id()), Some(titles.clone()));
        assert_eq!(Titles::claimed_seq(titles.as_bytes()), Some(7));
        assert_eq!(Titles::verify(titles.as_bytes(), &overlay, &heir(4).id), None);
        assert_eq!(Titles::verify(titles.as_bytes(), &OverlayId::from_bytes([8; 32]), &key.id()), None);
        for index in 0..titles.as_bytes().len() {
            let mut bytes = titles.as_bytes().to_vec();
            bytes[index] ^= 1;
            assert_eq!(Titles::verify(&bytes, &overlay, &key.id()), None, "byte {index}");
            assert_eq!(Titles::verify(&bytes[..index], &overlay, &key.id()), None);
        }
        let [first, second, third, _] = TreeId::ALL;
        assert_eq!(titles.rank_of(first, &heir(4).id), Some(1));
        assert_eq!(titles.rank_of(first, &heir(5).id), Some(2));
        assert_eq!(titles.rank_of(second, &heir(5).id), Some(0));
        assert_eq!(titles.rank_of(second, &heir(4).id), None);
        assert_eq!(titles.rank_of(third, &heir(4).id), None);
    }

    #[test]
    fn who_stands_behind_the_founder_is_far() {
        let key = Identity::from_secret(&[1; 32]);
        let heir = |id| Heir { id, addresses: Vec::new() };
        let [near, far, founder] = [NodeId::from_bytes([4; 32]), NodeId::from_bytes([5; 32]), key.id()];
        let heirs = [near, founder, far].map(heir).into();
        let titles = Titles::sign(&key, &OverlayId::from_bytes([9; 32]), 7, heirs, vec![vec![0], vec![0, 1, 2]]);
        let [first, second, ..] = TreeId::ALL;
        let is_far = |tree, id| titles.is_far(tree, &founder, &id);
        assert_eq!([near, founder, far].map(|id| is_far(second, id)), [false, false, true]);
        assert_eq!([near, founder, far].map(|id| is_far(first, id)), [false; 3], "that list is without the founder");
    }
}
