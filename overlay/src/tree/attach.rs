//! Finding a parent in each tree, following it, and losing it.

use core::time::Duration;

use crate::address::{FIRST_TREE, TreeId};
use crate::dial::Source;
use crate::error::FrameError;
use crate::event::Event;
use crate::grant::{Grant, GrantChain, MAX_CHAIN};
use crate::id::NodeId;
use crate::io::LinkId;
use crate::links::Link;
use crate::overlay::{Overlay, Timer};
use crate::standing::Standing;
use crate::time::{Instant, Now};
use crate::tree::Role;
use crate::wire::link::{Detached, Frame};

/// A node that found nobody looks again after this, when nothing happened before.
const SEEK_AGAIN: Duration = Duration::from_secs(1);
/// How long a node that never had a place waits for more neighbours to choose its parents from.
const JOIN_WAITS: Duration = Duration::from_millis(250);
/// A neighbour that would be a better parent than those who answer has twice its usual round trip to answer its probe, and at most this.
const ANSWER_WAITS: Duration = Duration::from_millis(250);
/// What a parent costs that is not the latest one, in half levels.
const OTHER_PARENT_COST: usize = 3;
/// What a parent costs for each other tree in which it is the parent, too, in half levels.
const SHARED_PARENT_COST: usize = 4;
/// The same where the tree is deep.
const DEEP_SHARED_PARENT_COST: usize = 1;
/// A parent so many edges below the root, or more, is where the tree is deep.
const DEEP_PARENT_EDGES: usize = 12;
/// What a parent costs that moves often, or to which the link was lost again and again: it is the last resort.
const SHAKY_PARENT_COST: usize = 1000;
/// What a descendant waits longer for each level between it and the break, so that the upper ones mend first.
const LEVEL_WAIT: Duration = Duration::from_millis(500);

/// A neighbour that may become the parent.
struct Candidate<'a> {
    link: &'a Link,
    /// Of the root that it has heard of; 0 is the best.
    rank: usize,
    /// Edges between it and that root.
    depth: usize,
}

impl Overlay {
    /// Asks the best neighbour for a place, in each tree in which this node needs one and nobody was asked yet.
    pub(crate) fn seek_parent(&mut self, now: Now) {
        for tree in self.trees.in_use() {
            self.seek_parent_in(tree, now);
        }
    }

    fn seek_parent_in(&mut self, tree: TreeId, now: Now) {
        let state = &self.trees[tree];
        if state.role != Role::Detached || state.asking.is_some() || self.genesis.is_none() || self.leaving {
            return;
        }
        self.timers.set_no_later(Timer::Seek, now.instant + SEEK_AGAIN);
        if self.timers.get(Timer::Takeover(tree)).is_none() {
            self.root_lost(tree, now);
        }
        if let Some(ancestor) = self.ancestor_to_ask(tree, now) {
            self.ask(tree, ancestor, now);
            return;
        }
        if self.waits_for_adoption(tree, now) || self.waits_for_parent(tree, now) || self.expects_neighbours(tree, now)
        {
            return;
        }
        if self.waits_for_answer(tree, now) {
            return;
        }
        self.stop_waiting(tree, now);
        if let Some(parent) = self.best_parent(tree, now).or_else(|| self.full_parent(tree)) {
            self.ask(tree, parent, now);
        }
    }

    /// A newcomer dials several addresses, and the first to answer is seldom the shallowest: nobody waits for a newcomer yet, and where it
    /// takes its place now, it and all below it stay.
    fn expects_neighbours(&mut self, tree: TreeId, now: Now) -> bool {
        let Some(first) = self.links.live().map(|link| link.up_at).min() else { return true };
        let (until, newcomer) = (first + JOIN_WAITS, self.trees[tree].address.is_none() && !self.returns);
        let unplaced = |link: &Link| link.place.as_ref().is_none_or(|place| place.addresses.in_tree(tree).is_none());
        let silent = |link: &Link| unplaced(link) || link.beacon_of(tree).is_none();
        let to_come = self.dialer.dials() > 0 || self.links.begun().any(silent);
        if !newcomer || !to_come || until <= now.instant {
            return false;
        }
        self.timers.set_no_later(Timer::Seek, until);
        true
    }

    /// When a parent is lost all neighbours are probed, and the nearest would be asked, whatever it costs, for it answers first.
    fn waits_for_answer(&mut self, tree: TreeId, now: Now) -> bool {
        let Some(best) = self.possible_parents(tree, now).map(|candidate| self.rated(tree, &candidate, now)).min()
        else {
            return false;
        };
        let better = self.neighbours_with_places(tree, now).filter(|other| self.rated(tree, other, now) < best);
        let until = better.filter_map(|other| answers_by(other.link)).filter(|until| *until > now.instant).max();
        if let Some(until) = until {
            self.timers.set_no_later(Timer::Seek, until);
        }
        until.is_some()
    }

    /// The cheapest neighbour that answers and has heard the best-ranked root lately.
    fn best_parent(&self, tree: TreeId, now: Now) -> Option<NodeId> {
        let rated = self.possible_parents(tree, now).map(|candidate| self.rated(tree, &candidate, now));
        rated.min().map(|(.., peer)| peer)
    }

    /// The least is the best parent. Those with a slot here come last: they may be below this node, and would refuse, or may have left it.
    fn rated(&self, tree: TreeId, candidate: &Candidate<'_>, now: Now) -> (usize, bool, usize, NodeId) {
        let Candidate { link, rank, depth } = *candidate;
        let has_slot = self.trees[tree].slots.slot_of(&link.peer).is_some();
        (rank, has_slot, self.cost_of(tree, link, depth, now), link.peer)
    }

    /// Whether this node knows no other neighbour than this one that could give it a place in `tree`: one that leads to as good a root, is no more of a last resort, has not
    /// refused a moment ago, and is not below it.
    pub(crate) fn knows_no_other_parent(&self, tree: TreeId, peer: &NodeId, now: Now) -> bool {
        let state = &self.trees[tree];
        let asked = self.links.to(peer);
        let is_shaky = asked.is_some_and(|link| self.is_shaky(link, now));
        let heard = asked.and_then(|link| link.beacon_of(tree));
        let rank = heard.and_then(|heard| self.rank_of(tree, &heard.beacon.holder)).unwrap_or(usize::MAX);
        let is_as_good = |other: Candidate<'_>| {
            other.link.peer != *peer
                && other.rank <= rank
                && (is_shaky || !self.is_shaky(other.link, now))
                && state.slots.slot_of(&other.link.peer).is_none()
        };
        !self.possible_parents(tree, now).any(is_as_good)
    }

    /// When all others have refused: who has places left for such a node alone.
    fn full_parent(&mut self, tree: TreeId) -> Option<NodeId> {
        self.trees[tree].full.take().filter(|peer| self.links.is_live(peer))
    }

    /// Those that can be asked now: they answer.
    fn possible_parents(&self, tree: TreeId, now: Now) -> impl Iterator<Item = Candidate<'_>> {
        self.neighbours_with_places(tree, now).filter(|candidate| candidate.link.probe_sent.is_none())
    }

    /// The neighbours that can give places, did not refuse a moment ago, and have heard of a root lately.
    fn neighbours_with_places(&self, tree: TreeId, now: Now) -> impl Iterator<Item = Candidate<'_>> {
        let state = &self.trees[tree];
        self.links
            .live()
            .filter(|link| link.standing != Standing::Leaf)
            .filter(|link| !self.witness.is_guilty(&link.peer))
            .filter(move |link| state.refused.get(&link.peer).is_none_or(|until| *until <= now.instant))
            .filter_map(move |link| {
                let depth = link.place.as_ref()?.addresses.in_tree(tree)?.depth();
                let heard = link.beacon_of(tree)?;
                let is_fresh = now.instant.since(heard.at) < self.config.timing.beacon_fresh;
                let rank = self.rank_of(tree, &heard.beacon.holder).filter(|_| is_fresh)?;
                (depth < MAX_CHAIN).then_some(Candidate { link, rank, depth })
            })
    }

    /// Whether it moves often, or the link to it was lost again and again.
    fn is_shaky(&self, link: &Link, now: Now) -> bool {
        link.standing != Standing::Relay || self.penalties.is_held_down(&link.peer, now.instant)
    }

    /// What it costs to have this neighbour as the parent, in half levels. The latest parent may be one level deeper than others, because it gives the
    /// old place back. One that is the parent in another tree counts as two levels deeper for each: with four different parents stretch on
    /// ov:3 with 10,000 nodes is 1.064 instead of 1.095, and 98.6 instead of 97.5 % are delivered when 30 % of the nodes are dead. In a deep tree such detours
    /// would add up from level to level (random geometric graphs in a model: 1.138 instead of 1.122): there it decides only between equals.
    fn cost_of(&self, tree: TreeId, link: &Link, depth: usize, now: Now) -> usize {
        let other_parent = if self.trees[tree].last_parent == Some(link.peer) { 0 } else { OTHER_PARENT_COST };
        let shaky = if self.is_shaky(link, now) { SHAKY_PARENT_COST } else { 0 };
        let shared = if depth < DEEP_PARENT_EDGES { SHARED_PARENT_COST } else { DEEP_SHARED_PARENT_COST };
        2 * depth + other_parent + shaky + shared * self.trees.times_parent(&link.peer, tree)
    }

    /// Takes the place that `grant` gives below the vertex at the end of `chain`.
    pub(crate) fn follow(
        &mut self,
        tree: TreeId,
        peer: NodeId,
        grant: Grant,
        chain: GrantChain,
        now: Now,
    ) -> Result<(), FrameError> {
        // The first grant is the root's own, also where somebody minds the root for it.
        let holder = chain.root().unwrap_or(grant.parent);
        if !self.titled(tree, &peer, &holder) || chain.contains(&self.id) || holder == self.id {
            // Not false, but not to be followed: the peer's beacon may be on its way, or the way leads back here.
            self.turn_down(tree, peer, now);
            return Ok(());
        }
        let chain = chain.extended(grant.clone());
        let (Some(id), own) = (self.links.to(&peer).map(|link| link.id), self.id) else { return Ok(()) };
        let Some(address) = self.place_by(id, &chain, (tree, &holder, &own), now)? else {
            self.turn_down(tree, peer, now);
            return Ok(());
        };
        let (before, holder_before) = (self.trees[tree].role, self.trees[tree].holder());
        if let Some(old) = self.trees[tree].grant.as_ref().map(|old| old.parent).filter(|old| *old != peer)
            && let Some(id) = self.links.to(&old).map(|link| link.id)
        {
            self.send_frame(id, &Frame::Release(tree), now);
        }
        self.dialer.touch();
        let told = self.trees.place.as_ref().is_some_and(|place| place.addresses.in_tree(tree) == Some(&address));
        let state = &mut self.trees[tree];
        state.role = Role::Child { parent: peer, stale: false };
        let new_parent = state.last_parent.replace(grant.parent) != Some(grant.parent);
        self.trees.lines_changed();
        let state = &mut self.trees[tree];
        state.orphan_since = None;
        state.grant = Some(grant);
        let same_place = state.address.as_ref() == Some(&address) && state.chain == chain;
        if !same_place {
            // The new ones are told after the grants.
            state.lineage.clear();
        }
        state.chain = chain;
        state.refused.clear();
        state.full = None;
        if new_parent {
            self.store_parents();
        }
        self.adopt_beacon_of(tree, &peer, now);
        // A slot that this node gave to its new parent, at a time when that was below it, is void.
        self.child_released(tree, peer, now);
        if let Some((id, addresses)) = self.links.to(&peer).map(|link| (link.id, link.addresses.clone())) {
            for address in addresses {
                self.dialer.learn(&address, Some(peer), Source::Parent);
            }
            self.arm_link(id, now);
        }
        let was_child_of_peer = matches!(before, Role::Child { parent, .. } if parent == peer);
        // Who is adopted, or is back at its parent, is where it was: nobody has to be told.
        let where_it_was = tree == FIRST_TREE && before == Role::Detached && told && self.present;
        if same_place && (was_child_of_peer || where_it_was) {
            self.trees[tree].detached_since = None;
            self.timers.cancel(Timer::Takeover(tree));
            if before != (Role::Child { parent: peer, stale: false }) {
                self.tell_children_the_chain(tree, now);
            }
        } else {
            self.take_place(tree, address, now);
        }
        let mended = matches!(before, Role::Detached | Role::Child { stale: true, .. });
        if mended || self.trees[tree].holder() != holder_before {
            // Those beyond may wait for just that: they are to hear of a root before its next beacon.
            self.pass_beacon_on(tree, Some(peer), now);
        }
        Ok(())
    }

    /// The place that `peer` gives is not taken.
    pub(crate) fn turn_down(&mut self, tree: TreeId, peer: NodeId, now: Now) {
        self.trees[tree].refused.insert(peer, now.instant + self.config.timing.ask_timeout);
        if self.trees[tree].parent() == Some(peer) {
            self.detach(tree, 0, now);
            self.seek_parent_in(tree, now);
        }
    }

    /// The way to the root of `tree` is lost here (`levels` 0) or so many levels above.
    pub(crate) fn detach(&mut self, tree: TreeId, levels: u8, now: Now) {
        if self.trees[tree].role == Role::Detached {
            return;
        }
        self.dialer.touch();
        self.trees.lines_changed();
        if let Some(founder) = self.founder() {
            self.stop_minding(tree, &founder, now);
        }
        self.trees[tree].role = Role::Detached;
        self.trees[tree].asking = None;
        for timer in [Timer::Ask(tree), Timer::Stale(tree), Timer::Beacon(tree)] {
            self.timers.cancel(timer);
        }
        self.root_lost(tree, now);
        if self.trees.all_detached() && core::mem::take(&mut self.present) {
            self.events.push_back(Event::Detached);
        }
        self.tell_children_detached(tree, levels.saturating_add(1), now);
        self.timers.set(Timer::Seek, now.instant + SEEK_AGAIN);
    }

    /// The parent says that it, or one above it, lost the root. It gets some time to mend that.
    pub(crate) fn handle_detached(&mut self, id: LinkId, detached: Detached, now: Now) {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return };
        let Detached { tree, levels } = detached;
        if self.trees[tree].role == (Role::Child { parent: peer, stale: false }) {
            self.dialer.touch();
            self.trees[tree].role = Role::Child { parent: peer, stale: true };
            let patience = self.patience(tree).unwrap_or(self.config.timing.parent_silent);
            let wait = patience + LEVEL_WAIT.saturating_mul(u32::from(levels));
            self.timers.set(Timer::Stale(tree), now.instant + wait);
            self.root_lost(tree, now);
            self.tell_children_detached(tree, levels.saturating_add(1), now);
        }
        if let Some(link) = self.links.link_mut(id) {
            link.beacons[tree.index()] = None;
        }
    }

    /// The parent did not mend it, or sends no beacons: another parent is needed.
    pub(crate) fn stale_timer(&mut self, tree: TreeId, now: Now) {
        if let Some(parent) = self.trees[tree].parent() {
            self.trees[tree].refused.insert(parent, now.instant + self.config.timing.ask_timeout);
            self.detach(tree, 0, now);
            self.probe_all(now);
            self.seek_parent(now);
        }
    }

    pub(crate) fn ask_timer(&mut self, tree: TreeId, now: Now) {
        if let Some(peer) = self.trees[tree].asking.take() {
            let until = now.instant + self.config.timing.ask_timeout.saturating_mul(2);
            self.trees[tree].refused.insert(peer, until);
            if self.trees[tree].parent() == Some(peer) {
                self.detach(tree, 0, now);
            }
            self.seek_parent(now);
        }
    }
}

/// By when the peer answers the probe that is open, if it lives.
fn answers_by(link: &Link) -> Option<Instant> {
    let usual = link.rtt_us.map_or(ANSWER_WAITS, |us| Duration::from_micros(us.saturating_mul(2)).min(ANSWER_WAITS));
    link.probe_sent.map(|sent| sent + usual)
}
