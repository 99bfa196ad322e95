//! Place adoption: when a node dies, nobody below it gets another address.
//!
//! The nearest ancestor that lives holds the place of the dead node beside its own, and the orphans link to it. Their grants and addresses stay as
//! they are: the chain from the root still goes through the dead node, only the link does not. An ancestor knows from its own slots that it gave
//! that place away, to whom and under which epoch, and adopts only after it has missed the holder for T2; so nobody can be adopted away.
//!
//! The orphans show the chain of their place. Of two that show one place the higher epoch counts. A holder that comes back gets its place
//! back: its children are told to return. One that does not is given up with its lease; then its children, one at a time, look for
//! other parents, and only they get other addresses.
//!
//! When the founder dies, its best-ranked child by the titles signs beacons in its stead, and holds the root's place in the same way: grants still begin
//! with the founder's, and the founder's other children link to that heir. It gives all back when it hears the founder.
//!
//! Nobody stands in for a node that was revoked, where either end knows of it, nor for one that has left: what was below it gets other places.
//!
//! This is for the first tree. In the others an orphan finds another parent at once, and its subtree follows to the new prefix.

use core::time::Duration;
use std::collections::BTreeSet;

use super::{Heard, Role};
use crate::address::{Address, FIRST_TREE, TreeId};
use crate::dial::Source;
use crate::error::FrameError;
use crate::grant::{Grant, GrantChain};
use crate::id::NodeId;
use crate::io::LinkId;
use crate::overlay::{Overlay, Timer};
use crate::time::{Instant, Now};
use crate::wire::link::{Chain, Contact, Frame, Granted, MAX_HELD, Refuse, RefuseReason, to_wire};

/// Most children of dead nodes that one node adopts; it accepts so many links beside those that it has otherwise, for a moment from anybody. (With 30 % of 10,000 nodes of ba:2
/// dead at once, a founder with 832 links, four times those that it has otherwise, turned orphans away.)
const MAX_ADOPTED: u32 = 1024;
/// Who stands in for the founder adopts this part of the overlay, 1 over it, if that is more. (With the founder among those dead 192 orphans of
/// that graph found the first heir full.)
const FOUNDERS_SHARE: u32 = 4;
/// But no more than this.
const MAX_ADOPTED_FOR_FOUNDER: u32 = 8192;
/// An orphan that was not adopted within this looks for another parent: a little more than T2.
const ADOPTION_WAITS: Duration = Duration::from_secs(14);
/// How long an orphan waits for one ancestor to answer before it dials the next one, too.
const NEXT_ANCESTOR: Duration = Duration::from_secs(1);
/// How long a node that comes back waits for its old parent, after its last new link.
const PARENT_WAITS: Duration = Duration::from_secs(3);
/// The most that this takes, however many links follow: all below it wait, too. Since it has lost its place, or has been linked to anybody again.
const PARENT_WAITS_AT_MOST: Duration = Duration::from_secs(10);
/// What is below an orphan waits this much longer.
const BELOW_WAITS: Duration = Duration::from_secs(3);
/// How long the founder's orphan waits to be adopted after it has heard that somebody minds the root: word of that comes by any neighbour, and the
/// heir may have many to adopt.
const MINDER_ADOPTS: Duration = Duration::from_secs(3);

/// A child of a dead node that this node stands in for.
#[derive(Clone, Debug)]
pub(crate) struct Adopted {
    pub child: NodeId,
    /// From the one by which this node, or the founder for which it minds the root, gave the dead node its place down to the child's own.
    grants: Vec<Grant>,
    /// The first one is the founder's, who is dead.
    of_root: bool,
}

impl Adopted {
    /// The child's own grant, by which two that claim one place are told apart.
    fn grant(&self) -> Option<&Grant> {
        self.grants.last()
    }

    /// The dead nodes between, nearest first.
    fn holders(&self) -> impl Iterator<Item = &NodeId> {
        let between = self.grants.len().saturating_sub(1);
        let founder = self.grants.first().filter(|_| self.of_root).map(|grant| &grant.parent);
        founder.into_iter().chain(self.grants.iter().take(between).map(|grant| &grant.child))
    }

    /// The child's parent's chain, below `own`.
    fn chain_below(&self, own: &GrantChain) -> GrantChain {
        let between = self.grants.len().saturating_sub(1);
        let above = if self.of_root { GrantChain::default() } else { own.clone() };
        self.grants.iter().take(between).cloned().fold(above, GrantChain::extended)
    }
}

impl Overlay {
    /// The parent is gone; whether its place is likely to be adopted.
    pub(crate) fn note_orphaned(&mut self, tree: TreeId, now: Now) {
        // It is found by its places in the other trees meanwhile, or has nobody to be found by.
        let others = self.trees.in_use().count() > 1;
        let void = self.passes_revoked(&self.trees[tree].chain);
        if tree == FIRST_TREE && others && !void && !self.trees[tree].ancestors.is_empty() {
            self.trees[tree].orphan_since = Some(now.instant);
        }
    }

    /// Whether somebody whose grant is in `chain` was revoked. The founder's count still: an heir minds the root for it, dead or revoked, and all
    /// others begin with them.
    fn passes_revoked(&self, chain: &GrantChain) -> bool {
        let mut givers = chain.grants().iter().map(|grant| grant.parent).filter(|giver| Some(*giver) != self.founder());
        givers.any(|giver| self.is_revoked(&giver))
    }

    /// Whether the place at the end of `chain`, which an orphan shows, is none any more: one above it was revoked, or has left this node. Nobody
    /// will hold it, so that the orphan is to have another place rather than to wait.
    pub(crate) fn is_void(&self, chain: &GrantChain) -> bool {
        let state = &self.trees[FIRST_TREE];
        let below = chain.grants().strip_prefix(state.chain.grants()).and_then(<[Grant]>::first);
        let left = below.is_some_and(|first| first.parent == self.id && state.slots.slot_of(&first.child).is_none());
        left || self.passes_revoked(chain)
    }

    /// `revoked` was, so that what it gave is worth nothing: nobody is adopted in its place, and no orphan waits for that.
    pub(crate) fn void_places_below(&mut self, revoked: &NodeId, now: Now) {
        if self.founder() == Some(*revoked) {
            return;
        }
        self.dismiss_below(revoked, RefuseReason::Detached, None, now);
        let state = &mut self.trees[FIRST_TREE];
        if !state.chain.grants().iter().any(|grant| grant.parent == *revoked) {
            return;
        }
        state.orphan_since = None;
        if state.parent().is_some_and(|parent| state.stands_in(&parent)) {
            self.detach(FIRST_TREE, 0, now);
        }
        self.seek_parent(now);
    }

    /// Whether to find no other parent yet.
    pub(crate) fn waits_for_adoption(&self, tree: TreeId, now: Now) -> bool {
        // The first heirs may be dead, too; but who hears that one minds the root, and was not adopted, cannot reach it.
        let for_heirs = (self.is_alone_below(tree) && !self.is_passed_over(now)) || self.ancestor_waits(tree);
        let heirs = if for_heirs { self.heirs_wait() } else { Duration::ZERO };
        self.trees[tree].orphan_since.is_some_and(|since| now.instant.since(since) < ADOPTION_WAITS + heirs)
    }

    /// How much later than the first heir of the first tree the last one takes over.
    fn heirs_wait(&self) -> Duration {
        let heirs = self.trees.titles.as_ref().map_or(0, |titles| titles.list(FIRST_TREE).count());
        self.config.timing.takeover_step.saturating_mul(u32::try_from(heirs).unwrap_or(u32::MAX))
    }

    /// Whether none of the ancestors can be reached, the founder included: only who minds the root can adopt.
    fn is_alone_below(&self, tree: TreeId) -> bool {
        self.trees[tree].chain.grants().iter().all(|grant| !self.links.is_live(&grant.parent))
    }

    /// Whether an ancestor is there that has no way to the root itself: it adopts as soon as it was adopted.
    fn ancestor_waits(&self, tree: TreeId) -> bool {
        let since = self.trees[tree].orphan_since.unwrap_or_default();
        let mut above = self.trees[tree].chain.grants().iter().filter_map(|grant| self.links.to(&grant.parent));
        above.any(|link| link.beacon_of(tree).is_none_or(|heard| heard.at <= since))
    }

    /// Whether somebody has minded the root for a while, and did not adopt this orphan.
    fn is_passed_over(&self, now: Now) -> bool {
        let state = &self.trees[FIRST_TREE];
        let heard = state.minder_heard.filter(|heard| *heard >= state.orphan_since.unwrap_or_default());
        heard.is_some_and(|heard| now.instant.since(heard) >= MINDER_ADOPTS)
    }

    /// An orphan hears, the first time, that somebody minds the root.
    pub(crate) fn note_minder(&mut self, heard: &Heard, now: Now) {
        let minds = heard.beacon.tree == FIRST_TREE && Some(heard.beacon.holder) != self.founder();
        let state = &mut self.trees[FIRST_TREE];
        let Some(since) = state.orphan_since.filter(|since| minds && heard.at > *since) else { return };
        if state.minder_heard.is_none_or(|before| before < since) {
            state.minder_heard = Some(now.instant);
        }
    }

    /// Whether a node that comes back, and has had children, waits for its old parent: with the old place they all keep theirs. It is found by its
    /// places in the other trees meanwhile.
    pub(crate) fn waits_for_parent(&self, tree: TreeId, now: Now) -> bool {
        let state = &self.trees[tree];
        let elsewhere = self.trees.in_use().count() > 1;
        let ready = |parent| self.links.to(&parent).is_some_and(|link| link.beacon_of(tree).is_some());
        let missed = state.last_parent.is_some_and(|parent| !ready(parent));
        let ups = || self.links.live().map(|link| link.up_at);
        let (Some(first), Some(last), true) = (ups().min(), ups().max(), missed) else { return false };
        let since = first.max(state.detached_since.unwrap_or_default());
        let lately = now.instant.since(last) < PARENT_WAITS && now.instant.since(since) < PARENT_WAITS_AT_MOST;
        tree == FIRST_TREE && elsewhere && lately && !state.slots.is_empty()
    }

    /// Most links that this node accepts now: orphans have to find room where a child is missed, or the founder.
    pub(crate) fn most_links(&self) -> usize {
        let (first, most) = (&self.trees[FIRST_TREE], self.config.max_links);
        let repairs = first.minds || first.slots.misses_any() || self.misses_founder();
        if repairs { most.saturating_add(self.most_adopted()) } else { most }
    }

    fn most_adopted(&self) -> usize {
        let first = &self.trees[FIRST_TREE];
        let most = if first.minds || self.misses_founder() { most_for_founder(first.size) } else { MAX_ADOPTED };
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Whether this is an heir that has lost the founder: orphans gather at it before it minds the root.
    pub(crate) fn misses_founder(&self) -> bool {
        let first = &self.trees[FIRST_TREE];
        let titled = || self.founder() != Some(self.id) && self.rank_of(FIRST_TREE, &self.id).is_some();
        first.orphan_since.is_some() && titled()
    }

    /// How long a node whose parent waits to be adopted is patient; none where nobody adopts.
    pub(crate) fn patience(&self, tree: TreeId) -> Option<Duration> {
        // Whatever happens to its places in the other trees meanwhile is mended sooner.
        let elsewhere = self.trees.in_use().count() > 1 && self.links.live_len() > 0;
        (tree == FIRST_TREE && elsewhere).then_some(ADOPTION_WAITS + BELOW_WAITS + self.heirs_wait())
    }

    /// Whom an orphan asks: its parent, if that is back, or else the nearest ancestor to which it has a link.
    pub(crate) fn ancestor_to_ask(&self, tree: TreeId, now: Now) -> Option<NodeId> {
        self.trees[tree].orphan_since?;
        let asks = |id: &NodeId| {
            let there =
                self.links.to(id).is_some_and(|link| link.probe_sent.is_none() && link.beacon_of(tree).is_some());
            there && !self.is_refused(tree, id, now)
        };
        self.adopters(tree).find(asks)
    }

    /// An orphan has waited for long enough: whoever could adopt it and does not is asked for any place from now on, as all others are.
    pub(crate) fn stop_waiting(&mut self, tree: TreeId, now: Now) {
        // Where nobody has refused yet an ancestor may only be late.
        if self.adopters(tree).any(|id| self.is_refused(tree, &id, now)) {
            self.trees[tree].orphan_since = None;
        }
    }

    /// The parent, those above it, nearest first, and whoever minds the root.
    fn adopters(&self, tree: TreeId) -> impl Iterator<Item = NodeId> {
        let heirs = self.trees.titles.iter().flat_map(move |titles| titles.list(tree)).map(|heir| heir.id);
        let above = self.trees[tree].chain.grants().iter().rev().map(|grant| grant.parent);
        above.chain(heirs.filter(move |heir| self.is_minding(tree, heir)))
    }

    fn is_refused(&self, tree: TreeId, peer: &NodeId, now: Now) -> bool {
        self.trees[tree].refused.get(peer).is_some_and(|until| *until > now.instant)
    }

    /// Whether this neighbour says that it holds the root of the first tree, and is not the founder.
    pub(crate) fn is_minding(&self, tree: TreeId, peer: &NodeId) -> bool {
        let told = self.links.to(peer).and_then(|link| link.beacon_of(tree));
        let holds = told.is_some_and(|heard| heard.beacon.holder == *peer);
        tree == FIRST_TREE && holds && self.founder() != Some(*peer) && self.rank_of(tree, peer).is_some()
    }

    /// Who may hold the root of the first tree when the founder dies, for a child of it.
    pub(crate) fn heirs_below(&self, child: &NodeId) -> Vec<Contact> {
        let heirs = self.trees.titles.iter().flat_map(|titles| titles.list(FIRST_TREE));
        let others = heirs.filter(|heir| heir.id != *child && heir.id != self.id);
        others.map(|heir| Contact { id: heir.id, addresses: to_wire(&heir.addresses, 2) }).collect()
    }

    /// Whether this node can hold the root beside its own place: it is the founder's child, and what the founder gave is worth something.
    pub(crate) fn can_mind(&self, tree: TreeId) -> bool {
        let state = &self.trees[tree];
        let below_founder = matches!(state.chain.grants(), [grant] if Some(grant.parent) == self.founder());
        tree == FIRST_TREE && below_founder && self.founder() != Some(self.id) && !self.witness.taints(&state.chain)
    }

    /// The root is `holder`'s again, or at least not this node's any more: the founder's children go back to it. It gives the slots of those who do not to others.
    pub(crate) fn stop_minding(&mut self, tree: TreeId, holder: &NodeId, now: Now) {
        if !core::mem::take(&mut self.trees[tree].minds) {
            return;
        }
        let of_root: Vec<NodeId> =
            self.trees[tree].adopted.iter().filter(|adopted| adopted.of_root).map(|adopted| adopted.child).collect();
        for child in of_root {
            self.dismiss(&child, RefuseReason::Returned, Some(*holder), now);
        }
        self.trees[tree].orphan_since = Some(now.instant);
    }

    /// Whom an orphan dials: the parent, which may be back, and the nearest ancestor that can be reached; a further one only when the nearer ones have
    /// failed, or do not answer for a while. Otherwise all orphans of a large failure would call the root.
    pub(crate) fn ancestors_to_dial(&self, now: Now) -> Vec<NodeId> {
        let state = &self.trees[FIRST_TREE];
        let waited = state.orphan_since.map_or(Duration::ZERO, |since| now.instant.since(since));
        let mut all: Vec<NodeId> = state.grant.iter().map(|grant| grant.parent).collect();
        let mut patience = Duration::ZERO;
        for contact in &state.ancestors {
            let nearer_failed = all.iter().skip(1).all(|id| self.dialer.is_failing(id));
            if self.links.is_live(&contact.id) || !(nearer_failed || waited >= patience) {
                break;
            }
            all.push(contact.id);
            patience += NEXT_ANCESTOR;
        }
        all
    }

    /// `peer` shows the chain of its place, which this node did not give it.
    pub(crate) fn handle_orphan(&mut self, id: LinkId, chain: &GrantChain, now: Now) -> Result<(), FrameError> {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return Ok(()) };
        let Some((grants, of_root)) = self.adoptable(&peer, chain, now) else {
            self.await_adoption(id, chain, now)?;
            self.refuse(FIRST_TREE, id, RefuseReason::Detached, now);
            return Ok(());
        };
        let root = self.trees[FIRST_TREE].chain.root().unwrap_or(self.id);
        if self.place_by(id, chain, (FIRST_TREE, &root, &peer), now)?.is_none() {
            self.refuse(FIRST_TREE, id, RefuseReason::Detached, now);
            return Ok(());
        }
        let adopted = Adopted { child: peer, grants, of_root };
        let rival = self.trees[FIRST_TREE].adopted.iter().find(|other| other.has_place_of(&adopted)).cloned();
        if let Some(rival) = rival.filter(|rival| rival.child != peer) {
            if rival.grant().map(|grant| grant.epoch) >= adopted.grant().map(|grant| grant.epoch) {
                self.refuse(FIRST_TREE, id, RefuseReason::Full, now);
                return Ok(());
            }
            self.dismiss(&rival.child, RefuseReason::Full, None, now);
        }
        self.trees[FIRST_TREE].adopted.retain(|other| other.child != peer);
        // A slot of its own here, which it left for that place at some time, would have it told another chain.
        self.child_released(FIRST_TREE, peer, now);
        let frame = Frame::Grant(Granted {
            grant: adopted.grant().map(Grant::to_bytes).unwrap_or_default(),
            chain: adopted.chain_below(&self.trees[FIRST_TREE].chain).to_bytes(),
        });
        self.trees[FIRST_TREE].adopted.push(adopted);
        self.let_stay(id);
        self.send_beacon_to(FIRST_TREE, &peer, now);
        self.send_frame(id, &frame, now);
        self.tell_lineage(FIRST_TREE, id, now);
        self.lines_unknown(id);
        self.arm_link(id, now);
        self.dialer.touch();
        self.advertise_soon(now);
        // What this node held for others below the one that is back, that holds itself.
        self.give_back(&peer, now);
        Ok(())
    }

    /// The grants below this node's own place, or below the root that it minds, if all that hold the places between are dead.
    fn adoptable(&self, peer: &NodeId, chain: &GrantChain, now: Now) -> Option<(Vec<Grant>, bool)> {
        let state = &self.trees[FIRST_TREE];
        let room = state.adopted.len() < self.most_adopted() && !state.chain.contains(peer);
        if !room || !state.is_attached() || self.leaving || self.refuses_as_leaf().is_some() {
            return None;
        }
        let Some(below) = chain.grants().strip_prefix(state.chain.grants()) else {
            // Who minds the root has missed the founder for long enough.
            let founders = state.minds && chain.root() == self.founder();
            let dead = chain.grants().iter().all(|grant| !self.links.is_live(&grant.parent));
            return (founders && dead).then(|| (chain.grants().to_vec(), true));
        };
        let (first, rest) = below.split_first()?;
        let since = state.slots.missed_since(first)?;
        let missed = now.instant.since(since) >= self.config.timing.takeover;
        let dead = below.iter().take(rest.len()).all(|grant| !self.links.is_live(&grant.child));
        (missed && dead && first.parent == self.id && !rest.is_empty()).then(|| (below.to_vec(), false))
    }

    /// A holder is back: its children return to it.
    pub(crate) fn give_back(&mut self, holder: &NodeId, now: Now) {
        self.dismiss_below(holder, RefuseReason::Returned, Some(*holder), now);
    }

    /// This node does not stand in for `dead` any more.
    fn dismiss_below(&mut self, dead: &NodeId, why: RefuseReason, holder: Option<NodeId>, now: Now) {
        let adopted = &self.trees[FIRST_TREE].adopted;
        let below: Vec<NodeId> = adopted.iter().filter(|a| a.holders().any(|id| id == dead)).map(|a| a.child).collect();
        for child in below {
            self.dismiss(&child, why, holder, now);
        }
    }

    /// This node does not stand in for the child's parent any more.
    fn dismiss(&mut self, child: &NodeId, why: RefuseReason, holder: Option<NodeId>, now: Now) {
        self.trees[FIRST_TREE].adopted.retain(|adopted| adopted.child != *child);
        let holder = holder.and_then(|holder| self.links.to(&holder));
        let others = holder.map(|link| Contact { id: link.peer, addresses: to_wire(&link.addresses, 2) });
        if let Some(id) = self.links.to(child).map(|link| link.id) {
            let refuse = Refuse { tree: FIRST_TREE, why, others: others.into_iter().collect() };
            self.send_frame(id, &Frame::Refuse(refuse), now);
        }
        self.advertise_soon(now);
    }

    /// The adopter says that the holder of the place above is back.
    pub(crate) fn return_to_parent(&mut self, tree: TreeId, others: &[Contact], now: Now) {
        self.learn_contacts(others, Source::Parent);
        self.detach(tree, 0, now);
        self.trees[tree].orphan_since = Some(now.instant);
    }

    /// An adopted child's link is gone: it comes back with its chain, or to its own parent.
    pub(crate) fn adopted_lost(&mut self, peer: &NodeId) {
        self.trees[FIRST_TREE].adopted.retain(|adopted| adopted.child != *peer);
    }

    /// The places of the dead that this node holds.
    pub(crate) fn held(&self) -> Vec<Address> {
        let state = &self.trees[FIRST_TREE];
        let Some(own) = state.address.as_ref().filter(|_| state.is_attached()) else { return Vec::new() };
        let mut held = BTreeSet::new();
        if state.minds {
            held.insert(Address::root());
        }
        for adopted in &state.adopted {
            let mut at = if adopted.of_root { Address::root() } else { own.clone() };
            for grant in adopted.grants.iter().take(adopted.grants.len().saturating_sub(1)) {
                // This node's own place may have become longer since.
                let Some(below) = at.child_in(grant.slot, self.q()).filter(Address::can_be_told) else { break };
                held.insert(below.clone());
                at = below;
            }
        }
        held.into_iter().take(MAX_HELD).collect()
    }

    /// Tells adopted children where the place is now that their chain begins with.
    pub(crate) fn tell_adopted_the_chain(&mut self, now: Now) {
        let state = &self.trees[FIRST_TREE];
        let all: Vec<(NodeId, GrantChain)> =
            state.adopted.iter().map(|adopted| (adopted.child, adopted.chain_below(&state.chain))).collect();
        for (child, chain) in all {
            self.send_beacon_to(FIRST_TREE, &child, now);
            if let Some(id) = self.links.to(&child).map(|link| link.id) {
                self.send_frame(id, &Frame::Chain(Chain { tree: FIRST_TREE, chain: chain.to_bytes() }), now);
                self.tell_lineage(FIRST_TREE, id, now);
            }
        }
    }

    /// Leases have run out: the slots of holders that have adopted children are kept, and one of these has to look for another parent.
    pub(crate) fn compact(&mut self, before: Instant, now: Now) {
        let state = &self.trees[FIRST_TREE];
        let given_up = |adopted: &&Adopted| {
            let since = adopted.grants.first().and_then(|grant| state.slots.missed_since(grant));
            !adopted.of_root && since.is_none_or(|since| since <= before)
        };
        if let Some(child) = state.adopted.iter().find(given_up).map(|adopted| adopted.child) {
            self.dismiss(&child, RefuseReason::Detached, None, now);
            self.timers.set_no_later(Timer::Lease, now.instant + ADOPTION_WAITS);
        }
    }

    /// The slots whose holders' places this node holds.
    pub(crate) fn slots_held(&self, tree: TreeId) -> BTreeSet<u16> {
        let first = |adopted: &Adopted| adopted.grants.first().map(|grant| grant.slot);
        self.trees[tree].adopted.iter().filter(|adopted| !adopted.of_root).filter_map(first).collect()
    }

    /// Whether the place that `grant` names, by the chain of an adopter, is this node's own.
    pub(crate) fn is_adoption(&self, tree: TreeId, peer: &NodeId, grant: &Grant, chain: &GrantChain) -> bool {
        let state = &self.trees[tree];
        let minds = chain.root().unwrap_or(grant.parent) != *peer && self.rank_of(tree, peer).is_some();
        let ancestor = minds || chain.grants().iter().any(|above| above.parent == *peer);
        tree == FIRST_TREE && state.role == Role::Detached && state.grant.as_ref() == Some(grant) && ancestor
    }
}

impl Adopted {
    fn has_place_of(&self, other: &Self) -> bool {
        let way = |adopted: &Self| {
            let slots: Vec<u16> = adopted.grants.iter().map(|grant| grant.slot).collect();
            (adopted.of_root, slots)
        };
        way(self) == way(other)
    }
}

/// How many children of others are adopted in the place of the founder of so many nodes.
fn most_for_founder(size: u32) -> u32 {
    (size / FOUNDERS_SHARE).clamp(MAX_ADOPTED, MAX_ADOPTED_FOR_FOUNDER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_founders_orphans_within_limits() {
        assert_eq!([10, 4000, 10_000, 100_000].map(most_for_founder), [1024, 1024, 2500, 8192]);
    }
}
