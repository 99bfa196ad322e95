//! Grants: a parent's signature that a child has a place below it. The chain of them from the root is the address.
//!
//! A grant names no address, so that a subtree that moves re-signs nothing: its prefix changes, its grants stay. Signed bytes,
//! big endian, after the text `"muses-grant-v1\0"`:
//!
//! | offset | length | what |
//! | --- | --- | --- |
//! | 0 | 32 | the parent's [`NodeId`], who signs |
//! | 32 | 32 | the child's |
//! | 64 | 1 | tree |
//! | 65 | 2 | slot: which of the parent's children it is; see [`Address::child_in`] |
//! | 67 | 8 | epoch: rises with every grant of a slot, from the wall time in microseconds at the parent's start on; of two grants of one slot the higher counts |
//! | 75 | 4 | lease: seconds for which the slot is kept when the child's link is lost |
//! | 79 | 64 | Ed25519 signature |

use crate::address::{Address, MAX_DEPTH, TreeId};
use crate::id::{CheckSignatures, Identity, NodeId, SIGNATURE_BYTES, Signature};

/// Length of a grant, in bytes.
pub const GRANT_BYTES: usize = 79 + SIGNATURE_BYTES;
/// Most children of a node in one tree.
pub const MAX_SLOTS: u16 = 1024;
/// Of these, at least so many are for whoever asks, and those that its own vertex has places for. The further ones are for who knows no other way into the tree: of
/// a hub with some thousand links nothing would be left for them, and the deeper its extensions reach, the longer are addresses and ways. (Seed 1, 10,000 nodes:
/// hyperbolic random graph, stretch 1.017 instead of 1.051, and nobody is left without a place; `ba:2` 1.025 instead of 1.022.)
pub const MIN_OPEN_SLOTS: u16 = 62;
/// Longest chain that travels, in grants: what a control frame carries.
pub const MAX_CHAIN: usize = 100;

const SIGNED_TEXT: &[u8] = b"muses-grant-v1\0";

/// One parent's promise to one child.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Who granted.
    pub parent: NodeId,
    /// To whom.
    pub child: NodeId,
    /// In which tree.
    pub tree: TreeId,
    /// Which of the parent's children it is.
    pub slot: u16,
    /// Orders the grants of one slot. It is no time: a parent counts on from that of its start.
    pub epoch: u64,
    /// How long the slot is kept without a link, in seconds.
    pub lease_s: u32,
    signature: Signature,
}

/// Why a grant or a chain is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not laid out as a grant or chain.
    #[error("malformed grant")]
    Malformed,
    /// A signature is wrong.
    #[error("a grant's signature is wrong")]
    Signature,
    /// The chain has a gap, too large a slot, another tree, a node below itself, or does not lead from the root to the node.
    #[error("the grants do not form a chain")]
    Chain,
    /// The chain has more than [`MAX_CHAIN`] grants, or its address cannot be told. Nobody lies by that: a prefix may have become longer.
    #[error("the place is too long to be told")]
    Long,
}

impl Grant {
    /// Grants `slot` of `tree` to `child`.
    pub fn sign(identity: &Identity, child: NodeId, tree: TreeId, slot: u16, epoch: u64, lease_s: u32) -> Self {
        let mut grant =
            Self { parent: identity.id(), child, tree, slot, epoch, lease_s, signature: [0; SIGNATURE_BYTES] };
        grant.signature = identity.sign(&grant.signed_bytes());
        grant
    }

    /// Whether the parent signed it.
    pub fn is_signed(&self, checks: &dyn CheckSignatures) -> bool {
        checks.check(&self.parent, &self.signed_bytes(), &self.signature)
    }

    /// The grant as it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(GRANT_BYTES);
        self.write(&mut out);
        out
    }

    /// The grant in `bytes`; its signature is not checked yet.
    ///
    /// # Errors
    /// [`GrantError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, GrantError> {
        match Self::read(bytes) {
            Some((grant, [])) => Ok(grant),
            _ => Err(GrantError::Malformed),
        }
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = SIGNED_TEXT.to_vec();
        self.write_body(&mut out);
        out
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.parent.as_bytes());
        out.extend_from_slice(self.child.as_bytes());
        out.push(self.tree.get());
        out.extend_from_slice(&self.slot.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.lease_s.to_be_bytes());
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.write_body(out);
        out.extend_from_slice(&self.signature);
    }

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (parent, rest) = bytes.split_first_chunk::<32>()?;
        let (child, rest) = rest.split_first_chunk::<32>()?;
        let (tree, rest) = rest.split_first()?;
        let (slot, rest) = rest.split_first_chunk::<2>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (lease_s, rest) = rest.split_first_chunk::<4>()?;
        let (signature, rest) = rest.split_first_chunk::<SIGNATURE_BYTES>()?;
        let grant = Self {
            parent: NodeId::from_bytes(*parent),
            child: NodeId::from_bytes(*child),
            tree: TreeId::new(*tree)?,
            slot: u16::from_be_bytes(*slot),
            epoch: u64::from_be_bytes(*epoch),
            lease_s: u32::from_be_bytes(*lease_s),
            signature: *signature,
        };
        Some((grant, rest))
    }
}

/// The grants from the root to a node, the root's first. Empty for the root itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GrantChain(Vec<Grant>);

impl GrantChain {
    /// The chain with one grant more at its end.
    #[must_use]
    pub fn extended(mut self, grant: Grant) -> Self {
        self.0.push(grant);
        self
    }

    /// The grants, the root's first.
    pub fn grants(&self) -> &[Grant] {
        &self.0
    }

    /// Who granted first; none when the chain is empty.
    pub fn root(&self) -> Option<NodeId> {
        self.0.first().map(|grant| grant.parent)
    }

    /// Whether `id` is on the way: following such a chain would close a loop.
    pub fn contains(&self, id: &NodeId) -> bool {
        self.0.iter().any(|grant| grant.parent == *id || grant.child == *id)
    }

    /// The address that the chain gives to `node` below `root` in `tree`, of at most `q - 1` children a vertex.
    ///
    /// # Errors
    /// [`GrantError`] when a signature is wrong, the grants do not lead from `root` to `node`, or the place is too long.
    pub fn verify(
        &self,
        root: &NodeId,
        node: &NodeId,
        tree: TreeId,
        q: u16,
        checks: &dyn CheckSignatures,
    ) -> Result<Address, GrantError> {
        let address = self.leads_to(root, node, tree, q)?;
        if self.0.iter().all(|grant| grant.is_signed(checks)) { Ok(address) } else { Err(GrantError::Signature) }
    }

    /// The same without a look at the signatures.
    ///
    /// # Errors
    /// [`GrantError`] when the grants do not lead from `root` to `node`, or the place is too long.
    pub fn leads_to(&self, root: &NodeId, node: &NodeId, tree: TreeId, q: u16) -> Result<Address, GrantError> {
        let mut at = *root;
        for grant in &self.0 {
            let follows = grant.parent == at && grant.child != at;
            if !follows || grant.tree != tree || grant.slot >= MAX_SLOTS {
                return Err(GrantError::Chain);
            }
            at = grant.child;
        }
        if at != *node {
            return Err(GrantError::Chain);
        }
        if self.0.len() > MAX_CHAIN {
            return Err(GrantError::Long);
        }
        let below = |above: Address, grant: &Grant| above.child_in(grant.slot, q).filter(Address::can_be_told);
        self.0.iter().try_fold(Address::root(), below).ok_or(GrantError::Long)
    }

    /// The chain as it travels: its grants one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len().saturating_mul(GRANT_BYTES));
        self.0.iter().for_each(|grant| grant.write(&mut out));
        out
    }

    /// The chain in `bytes`; nothing of it is verified yet.
    ///
    /// # Errors
    /// [`GrantError::Malformed`], also for more than [`MAX_CHAIN`] grants.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, GrantError> {
        const { assert!(MAX_CHAIN <= MAX_DEPTH, "a chain fits an address") };
        if bytes.len() > MAX_CHAIN * GRANT_BYTES {
            return Err(GrantError::Malformed);
        }
        let mut grants = Vec::new();
        while !bytes.is_empty() {
            let (grant, rest) = Grant::read(bytes).ok_or(GrantError::Malformed)?;
            grants.push(grant);
            bytes = rest;
        }
        Ok(Self(grants))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::FIRST_TREE;
    use crate::id::CheckEach;

    fn chain() -> (Vec<Identity>, GrantChain) {
        let keys: Vec<_> = (1..=4).map(|n| Identity::from_secret(&[n; 32])).collect();
        let slots = [3, 0, 7];
        let grants = keys
            .windows(2)
            .zip(slots)
            .map(|(pair, slot)| Grant::sign(&pair[0], pair[1].id(), FIRST_TREE, slot, 5, 600));
        let chain = grants.fold(GrantChain::default(), GrantChain::extended);
        (keys, chain)
    }

    #[test]
    fn a_chain_is_an_address() {
        let (keys, chain) = chain();
        let address = chain.verify(&keys[0].id(), &keys[3].id(), FIRST_TREE, 32, &CheckEach).unwrap();
        assert_eq!(address.to_string(), "/3/0/7");
        assert_eq!(GrantChain::from_bytes(&chain.to_bytes()), Ok(chain.clone()));
        assert_eq!(
            GrantChain::default().verify(&keys[0].id(), &keys[0].id(), FIRST_TREE, 32, &CheckEach),
            Ok(Address::root())
        );
        assert!(chain.contains(&keys[2].id()));
        assert!(!chain.contains(&NodeId::from_bytes([9; 32])));
    }

    #[test]
    fn gaps_wrong_ends_large_slots_and_forgeries_are_refused() {
        let (keys, chain) = chain();
        let (root, node) = (keys[0].id(), keys[3].id());
        assert_eq!(chain.verify(&keys[1].id(), &node, FIRST_TREE, 32, &CheckEach), Err(GrantError::Chain));
        assert_eq!(chain.verify(&root, &keys[2].id(), FIRST_TREE, 32, &CheckEach), Err(GrantError::Chain));
        assert_eq!(chain.verify(&root, &node, FIRST_TREE, 8, &CheckEach).unwrap().to_string(), "/3/0/6/1");
        let many = Grant::sign(&keys[0], keys[1].id(), FIRST_TREE, MAX_SLOTS, 5, 600);
        let many = GrantChain::default().extended(many);
        assert_eq!(many.verify(&root, &keys[1].id(), FIRST_TREE, 32, &CheckEach), Err(GrantError::Chain));
        assert_eq!(chain.verify(&root, &node, TreeId::ALL[1], 32, &CheckEach), Err(GrantError::Chain));
        let own = Grant::sign(&keys[3], node, FIRST_TREE, 0, 5, 600);
        assert_eq!(
            chain.clone().extended(own).verify(&root, &node, FIRST_TREE, 32, &CheckEach),
            Err(GrantError::Chain)
        );
        let mut gap = chain.clone();
        gap.0.remove(1);
        assert_eq!(gap.verify(&root, &node, FIRST_TREE, 32, &CheckEach), Err(GrantError::Chain));
        let bytes = chain.to_bytes();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x40;
            let verified =
                GrantChain::from_bytes(&bad).and_then(|c| c.verify(&root, &node, FIRST_TREE, 256, &CheckEach));
            assert!(verified.is_err(), "byte {at}");
        }
        assert!(GrantChain::from_bytes(&bytes[1..]).is_err());
        assert!(GrantChain::from_bytes(&[0; GRANT_BYTES * (MAX_CHAIN + 1)]).is_err());
    }

    #[test]
    fn what_is_too_long_to_be_told_is_no_place() {
        let keys: Vec<_> =
            (1..=MAX_CHAIN + 2).map(|n| Identity::from_secret(&[u8::try_from(n).unwrap(); 32])).collect();
        let leads = |length: usize, slot: u16, q: u16| {
            let grants = keys.windows(2).take(length);
            let grants = grants.map(|pair| Grant::sign(&pair[0], pair[1].id(), FIRST_TREE, slot, 5, 600));
            let chain = grants.fold(GrantChain::default(), GrantChain::extended);
            chain.verify(&keys[0].id(), &keys[length].id(), FIRST_TREE, q, &CheckEach)
        };
        assert!(leads(MAX_CHAIN, 0, 64).is_ok() && leads(MAX_CHAIN, 1, 64).is_ok());
        assert_eq!(leads(MAX_CHAIN + 1, 0, 64), Err(GrantError::Long));
        assert!(leads(2, MAX_SLOTS - 1, 64).is_ok());
        assert_eq!(leads(3, MAX_SLOTS - 1, 64), Err(GrantError::Long));
        assert_eq!(leads(1, MAX_SLOTS - 1, 3), Err(GrantError::Long), "deeper than an address can be");
    }
}
