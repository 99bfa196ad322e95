//! Which grants were checked before: of a chain that is shown, only the others cost anything.

use super::equivocation::Witness;
use crate::address::{Address, TreeId};
use crate::error::FrameError;
use crate::grant::{Grant, GrantChain, GrantError};
use crate::id::NodeId;
use crate::io::LinkId;
use crate::overlay::Overlay;
use crate::time::Now;

impl Overlay {
    /// The address that `chain`, shown over this link, gives to `node` below `root`; none when it is not to be followed: it cannot be told, or somebody in it
    /// lies, or the link has used up its checks.
    ///
    /// # Errors
    /// [`FrameError::Forged`] when it is no chain to that node, or a signature is wrong.
    pub(crate) fn place_by(
        &mut self,
        id: LinkId,
        chain: &GrantChain,
        (tree, root, node): (TreeId, &NodeId, &NodeId),
        now: Now,
    ) -> Result<Option<Address>, FrameError> {
        let address = match chain.leads_to(root, node, tree, self.q()) {
            Ok(address) => address,
            // Nobody could be told of that place.
            Err(GrantError::Long) => return Ok(None),
            Err(_) => return Err(FrameError::Forged),
        };
        let own = &self.trees[tree].chain;
        if chain != own {
            let unproven = unproven(chain, own, &self.witness);
            // A change costs something even where all of it was seen before: everybody below is told.
            if !self.may_check(id, unproven.len().max(1), now) {
                return Ok(None);
            }
            if !unproven.iter().all(|grant| grant.is_signed(self.checks.as_ref())) {
                return Err(FrameError::Forged);
            }
        }
        Ok(self.chain_is_honest(chain, now).then_some(address))
    }
}

/// The grants of `chain` that are neither in the same place of this node's `own` chain nor remembered otherwise.
fn unproven<'a>(chain: &'a GrantChain, own: &GrantChain, witness: &Witness) -> Vec<&'a Grant> {
    let proven = |at: usize, grant: &Grant| own.grants().get(at) == Some(grant) || witness.has_seen(grant);
    chain.grants().iter().enumerate().filter(|(at, grant)| !proven(*at, grant)).map(|(_, grant)| grant).collect()
}
