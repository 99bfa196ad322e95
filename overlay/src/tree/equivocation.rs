//! Parents that give one place to two children under one epoch: seen, proved to others, and not built on any more.
//!
//! An honest parent's epochs of one slot rise strictly, over crashes too, and over the loss of what it had stored: see [`slots`](super::slots). So two grants with one parent, tree, slot and epoch but different children prove by
//! themselves that the parent lies, to anybody. A node compares the grants of the chains that it verifies, and passes a proof that is new to it on to
//! its neighbours. Whoever is guilty is nobody's parent and holds no root; it may still be below others.

use std::collections::BTreeMap;

use crate::address::TreeId;
use crate::error::FrameError;
use crate::grant::{Grant, GrantChain};
use crate::id::{CheckSignatures, NodeId};
use crate::io::LinkId;
use crate::overlay::Overlay;
use crate::time::Now;
use crate::wire::link::{Frame, Proof};

/// Grants that are remembered for comparison; beyond that, those of the least ids are forgotten.
const MAX_SEEN: usize = 512;
/// Guilty nodes that are remembered. Whoever spends so many identities to be found guilty himself makes a node blind for further ones: its state stays
/// bounded, and it is where it was without proofs.
pub(crate) const MAX_GUILTY: usize = 32;

/// Signatures that a proof has.
const SIGNATURES_OF_A_PROOF: usize = 2;

/// What may be given once only.
type Once = (NodeId, TreeId, u16, u64);

const fn place_of(grant: &Grant) -> Once {
    (grant.parent, grant.tree, grant.slot, grant.epoch)
}

/// What a node has seen of others' grants.
#[derive(Default)]
pub(crate) struct Witness {
    seen: BTreeMap<Once, Box<Grant>>,
    guilty: BTreeMap<NodeId, Proof>,
}

impl Witness {
    /// A grant that contradicts this one; if there is none, it is remembered.
    fn contradicts(&mut self, grant: &Grant) -> Option<Grant> {
        let place = place_of(grant);
        match self.seen.get(&place) {
            Some(known) => (known.child != grant.child).then(|| Grant::clone(known)),
            None => {
                if self.seen.len() >= MAX_SEEN {
                    self.seen.pop_first();
                }
                self.seen.insert(place, Box::new(grant.clone()));
                None
            }
        }
    }

    /// Whether this very grant was seen before: all that are seen have been checked.
    pub fn has_seen(&self, grant: &Grant) -> bool {
        self.seen.get(&place_of(grant)).is_some_and(|seen| **seen == *grant)
    }

    /// Whether this node was proved to lie.
    pub fn is_guilty(&self, id: &NodeId) -> bool {
        !self.guilty.is_empty() && self.guilty.contains_key(id)
    }

    /// Whether a place by these grants depends on somebody who lies.
    pub fn taints(&self, chain: &GrantChain) -> bool {
        chain.grants().iter().any(|grant| self.is_guilty(&grant.parent))
    }
}

/// Who is said to have signed the grants of a proof; nothing is checked.
fn accused(proof: &Proof) -> Option<NodeId> {
    Some(Grant::from_bytes(&proof.one).ok()?.parent)
}

/// Who signed both grants of a proof, if it is one.
fn convicts(proof: &Proof, checks: &dyn CheckSignatures) -> Option<NodeId> {
    let (one, other) = (Grant::from_bytes(&proof.one).ok()?, Grant::from_bytes(&proof.other).ok()?);
    let same_place = place_of(&one) == place_of(&other) && one.child != other.child;
    (same_place && one.is_signed(checks) && other.is_signed(checks)).then_some(one.parent)
}

impl Overlay {
    /// The signatures of `chain` are right: whether nobody in it has given one place twice.
    pub(crate) fn chain_is_honest(&mut self, chain: &GrantChain, now: Now) -> bool {
        for grant in chain.grants() {
            if let Some(other) = self.witness.contradicts(grant) {
                let proof = Proof { one: grant.to_bytes(), other: other.to_bytes() };
                self.convict(grant.parent, proof, None, now);
            }
        }
        !self.witness.taints(chain)
    }

    pub(crate) fn handle_proof(&mut self, id: LinkId, proof: Proof, now: Now) -> Result<(), FrameError> {
        // Whoever is guilty can prove it again and again, and differently each time.
        let known = accused(&proof).is_some_and(|accused| self.witness.is_guilty(&accused));
        if known || self.witness.guilty.len() >= MAX_GUILTY || !self.may_check(id, SIGNATURES_OF_A_PROOF, now) {
            return Ok(());
        }
        let guilty = convicts(&proof, self.checks.as_ref()).ok_or(FrameError::Forged)?;
        let from = self.links.link(id).map(|link| link.peer);
        self.convict(guilty, proof, from, now);
        Ok(())
    }

    fn convict(&mut self, guilty: NodeId, proof: Proof, from: Option<NodeId>, now: Now) {
        if self.witness.is_guilty(&guilty) || self.witness.guilty.len() >= MAX_GUILTY || guilty == self.id {
            return;
        }
        self.witness.guilty.insert(guilty, proof.clone());
        for peer in self.links.peers().into_iter().filter(|peer| Some(*peer) != from) {
            if let Some(id) = self.links.to(&peer).map(|link| link.id) {
                self.send_frame(id, &Frame::Proof(proof.clone()), now);
            }
        }
        for tree in TreeId::ALL {
            let state = &mut self.trees[tree];
            if state.holder() == Some(guilty) {
                state.heard = None;
            }
            let placed = self.trees[tree].parent().is_some() || self.trees[tree].minds;
            if placed && self.witness.taints(&self.trees[tree].chain) {
                self.detach(tree, 0, now);
                // Nobody has it back from an adopter.
                self.trees[tree].orphan_since = None;
            }
        }
        self.name_heirs_soon(now);
        self.seek_parent(now);
    }

    /// A new neighbour is told of all who are guilty.
    pub(crate) fn send_proofs_to(&mut self, id: LinkId, now: Now) {
        for proof in self.witness.guilty.values().cloned().collect::<Vec<_>>() {
            self.send_frame(id, &Frame::Proof(proof), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::FIRST_TREE;
    use crate::id::{CheckEach, Identity};

    fn grant(parent: u8, child: u8, slot: u16, epoch: u64) -> Grant {
        Grant::sign(
            &Identity::from_secret(&[parent; 32]),
            NodeId::from_bytes([child; 32]),
            FIRST_TREE,
            slot,
            epoch,
            600,
        )
    }

    #[test]
    fn one_place_given_twice_is_a_proof_and_nothing_else_is() {
        let proof = |one: &Grant, other: &Grant| Proof { one: one.to_bytes(), other: other.to_bytes() };
        let one = grant(1, 2, 3, 4);
        let guilty = Some(Identity::from_secret(&[1; 32]).id());
        assert_eq!(convicts(&proof(&one, &grant(1, 9, 3, 4)), &CheckEach), guilty);
        for honest in [grant(1, 2, 3, 4), grant(1, 9, 3, 5), grant(1, 9, 2, 4), grant(7, 9, 3, 4)] {
            assert_eq!(convicts(&proof(&one, &honest), &CheckEach), None);
        }
        let mut forged = grant(1, 9, 3, 4).to_bytes();
        if let Some(last) = forged.last_mut() {
            *last ^= 1;
        }
        assert_eq!(convicts(&Proof { one: one.to_bytes(), other: forged }, &CheckEach), None);
    }

    #[test]
    fn grants_are_compared_with_those_seen_before() {
        let mut witness = Witness::default();
        assert_eq!(witness.contradicts(&grant(1, 2, 3, 4)), None);
        assert_eq!(witness.contradicts(&grant(1, 2, 3, 4)), None);
        assert_eq!(witness.contradicts(&grant(1, 5, 3, 5)), None, "given again, later");
        assert_eq!(witness.contradicts(&grant(1, 5, 3, 4)), Some(grant(1, 2, 3, 4)));
    }

    #[test]
    fn not_everything_is_remembered() {
        let mut witness = Witness::default();
        for epoch in 0..2 * MAX_SEEN as u64 {
            witness.contradicts(&grant(1, 2, 3, epoch));
        }
        assert_eq!(witness.seen.len(), MAX_SEEN);
    }
}
