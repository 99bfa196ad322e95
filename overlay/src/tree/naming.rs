//! The founder names the roots of the other trees, and the heirs of all.
//!
//! Distinct roots make the trees different, so that one node's death breaks one tree at its top. They are early members, and stay
//! what they are as long as they live: another root gives every node another address. (Measured on graphs of 10,000 and 100,000 nodes: roots among
//! the first members, and random ones, gave the same stretch within a hundredth.)

use core::time::Duration;
use std::collections::BTreeSet;

use super::titles::{Heir, MAX_HEIR_ADDRESSES, Titles};
use crate::address::{FIRST_TREE, TreeId};
use crate::id::NodeId;
use crate::links::Link;
use crate::overlay::{Overlay, Timer};
use crate::record::next_seq;
use crate::standing::Standing;
use crate::time::{Instant, Now};

/// How long the founder waits when its children change: several changes make new titles once.
const HEIRS_SETTLE: Duration = Duration::from_secs(1);
/// A root that was not heard for this long is replaced by the heir that holds its place.
const ROOT_PATIENCE: Duration = Duration::from_secs(60);
/// Heirs named from among the children.
const CHILD_HEIRS: usize = 8;
/// Heirs of a tree other than the first, after its root and before the founder.
const HEIRS_PER_TREE: usize = 6;
/// Members elsewhere who may hold these roots when all those before them, the founder included, are out of reach: in an overlay that falls into two parts, the
/// founder's neighbours and so all other heirs may be in one of them. (Of 34 overlays of 100 nodes of `ov:3` cut in two at random it happened to one, and
/// those in its other part had no tree for as long.) In the first tree there are none: whoever followed one there would give up the place that its
/// parent keeps for it.
pub(crate) const FAR_HEIRS: usize = 8;
/// Most of these that are named on one neighbour's word.
const FAR_HEIRS_OF_ONE: usize = 2;

/// Since when a root is expected to sign beacons.
pub(crate) type Named = [Option<(NodeId, Instant)>; crate::address::MAX_TREES];

impl Overlay {
    /// The founder has a new child, or an old one again: should it die now, that one is to know its title.
    pub(crate) fn name_heirs_soon(&mut self, now: Now) {
        if self.names_heirs() {
            self.timers.set_no_later(Timer::Titles, now.instant + HEIRS_SETTLE);
        }
    }

    pub(crate) fn names_heirs(&self) -> bool {
        self.founder() == Some(self.id) && self.trees[FIRST_TREE].is_root()
    }

    /// Signs new titles if they would differ from the latest.
    pub(crate) fn name_heirs(&mut self, now: Now) {
        let (true, Some(overlay)) = (self.names_heirs(), self.overlay_id()) else { return };
        self.survey_again(now);
        if self.links.live_len() == 0 && !self.names_alone(now) {
            return;
        }
        let candidates = self.candidates();
        let mut heirs: Vec<Heir> = self.child_heirs();
        let firsts: Vec<NodeId> = heirs.iter().map(|heir| heir.id).collect();
        let missed = self.missed_heirs(CHILD_HEIRS.saturating_sub(firsts.len()));
        heirs.extend(missed);
        let mut lists = vec![heirs.iter().map(|heir| heir.id).collect()];
        let trees = self.genesis.as_ref().map_or(1, |genesis| genesis.genesis().trees);
        for tree in TreeId::ALL.into_iter().filter(|tree| *tree != FIRST_TREE && tree.get() < trees) {
            let taken: Vec<NodeId> =
                lists.iter().skip(1).filter_map(|list: &Vec<NodeId>| list.first().copied()).collect();
            let Some(root) = self.root_to_name(tree, &taken, &candidates, now) else {
                lists.push(Vec::new());
                continue;
            };
            let rotated = firsts.iter().cycle().skip(tree.index()).take(firsts.len()).filter(|id| **id != root.id);
            let mut list = vec![root.id];
            list.extend(rotated.copied().take(HEIRS_PER_TREE));
            list.push(self.id);
            heirs.push(root);
            lists.push(list);
        }
        heirs.push(Heir { id: self.id, addresses: self.listen.iter().take(MAX_HEIR_ADDRESSES).cloned().collect() });
        // The first tree has none.
        let far = if trees > 1 { self.far_heirs(&heirs, now) } else { Vec::new() };
        for (tree, list) in lists.iter_mut().enumerate().skip(1).filter(|(_, list)| !list.is_empty()) {
            list.extend(far.iter().cycle().skip(tree).take(far.len()));
        }
        heirs.extend(far.into_iter().map(|id| Heir { id, addresses: Vec::new() }));
        let mut seen = BTreeSet::new();
        heirs.retain(|heir| seen.insert(heir.id));
        let index = |id: &NodeId| {
            let at = heirs.iter().position(|heir| heir.id == *id);
            at.and_then(|at| u8::try_from(at).ok())
        };
        let lists: Vec<Vec<u8>> = lists.iter().map(|list| list.iter().filter_map(index).collect()).collect();
        let old = self.trees.titles.as_ref();
        if old.is_none_or(|old| old.heirs != heirs || old.lists != lists) {
            let seq = next_seq(old.map_or(0, |old| old.seq), now);
            let titles = Titles::sign(&self.identity, &overlay, seq, heirs, lists);
            self.learn_titles(titles, now);
        }
    }

    /// Whether a founder without a link has titles to sign: its first ones, or without a root that has left in good order. What it does not hear says nothing of anybody else,
    /// because its own network may be gone: all keep their titles, and roots are waited for anew when it hears of somebody again.
    fn names_alone(&mut self, now: Now) -> bool {
        let Some(titles) = &self.trees.titles else { return true };
        let roots = TreeId::ALL.map(|tree| titles.list(tree).next().filter(|_| tree != FIRST_TREE).map(|heir| heir.id));
        for (named, root) in self.named.iter_mut().zip(roots) {
            *named = root.map(|id| (id, now.instant)).or(*named);
        }
        roots.iter().flatten().any(|root| self.parted.contains(root))
    }

    /// The root that `tree` has, if it lives; or the heir that minds it; or a member that holds no other root.
    fn root_to_name(&mut self, tree: TreeId, taken: &[NodeId], candidates: &[Heir], now: Now) -> Option<Heir> {
        if let Some(wanted) = self.wanted_root(tree).filter(|wanted| !taken.contains(&wanted.id)) {
            self.named[tree.index()] = Some((wanted.id, now.instant));
            return Some(wanted);
        }
        let titles = self.trees.titles.as_ref();
        let current = titles.and_then(|titles| titles.list(tree).next()).filter(|heir| !taken.contains(&heir.id));
        let alone = self.links.live_len() == 0;
        let forgotten = |heir: &&Heir| alone && self.parted.contains(&heir.id);
        let current = current.filter(|heir| !self.witness.is_guilty(&heir.id) && !forgotten(heir)).cloned();
        let heard = self.trees[tree].heard.as_ref().map(|heard| (heard.beacon.holder, heard.at));
        if let Some(current) = current {
            let alive = heard.filter(|(holder, _)| *holder == current.id).map(|(_, at)| at);
            let named = self.named[tree.index()].filter(|(id, _)| *id == current.id).map(|(_, at)| at);
            // After a restart of the founder: from now on.
            let since = alive.max(named).unwrap_or(now.instant);
            self.named[tree.index()] = Some((current.id, since));
            if now.instant.since(since) < ROOT_PATIENCE {
                let known = candidates.iter().find(|heir| heir.id == current.id);
                return Some(known.cloned().unwrap_or(current));
            }
        }
        let minding = heard.filter(|(_, at)| now.instant.since(*at) < ROOT_PATIENCE).map(|(holder, _)| holder);
        let minding = minding.filter(|holder| !self.is_far_heir(tree, holder));
        let free = |heir: &&Heir| heir.id != self.id && !taken.contains(&heir.id);
        let of_id = |id: NodeId| candidates.iter().filter(free).find(|heir| heir.id == id);
        let gone = self.named[tree.index()].map(|(id, _)| id);
        let next =
            minding.and_then(of_id).or_else(|| candidates.iter().filter(free).find(|heir| Some(heir.id) != gone));
        let next = next.cloned()?;
        self.named[tree.index()] = Some((next.id, now.instant));
        Some(next)
    }

    /// A neighbour left in good order. Of a root that did the heirs mind the tree, so that whoever is in it stays where he is until it is back; a founder who
    /// is left alone has nobody to wait with, and would look for records in trees that are not there.
    pub(crate) fn note_parted(&mut self, peer: NodeId, now: Now) {
        if !self.names_heirs() {
            return;
        }
        let titles = self.trees.titles.as_ref();
        let roots: BTreeSet<NodeId> =
            TreeId::ALL.into_iter().filter_map(|tree| Some(titles?.list(tree).next()?.id)).collect();
        self.parted.insert(peer);
        self.parted.retain(|parted| roots.contains(parted));
        self.name_heirs_soon(now);
    }

    /// Those that the latest survey chose; and while there are too few of them, whom neighbours know. They stay until others are chosen, so that titles change
    /// seldom. Nobody has to dial them: who comes to follow one of these is in its part of the overlay.
    fn far_heirs(&mut self, heirs: &[Heir], now: Now) -> Vec<NodeId> {
        let mut known: BTreeSet<NodeId> = heirs.iter().map(|heir| heir.id).collect();
        let (witness, revoked) = (&self.witness, &self.revoked);
        let mut may = |id: &NodeId| !witness.is_guilty(id) && revoked.get(id).is_none() && known.insert(*id);
        let mut far = self.survey.elsewhere(now.instant);
        far.retain(&mut may);
        for link in self.links.live() {
            // A neighbour may have made them up.
            let told = link.two_hop.iter().map(|known| known.id).filter(&mut may).take(FAR_HEIRS_OF_ONE);
            far.extend(told);
        }
        far.truncate(FAR_HEIRS);
        self.survey.keep_elsewhere(&far);
        far
    }

    fn may_hold_a_root(&self, link: &Link) -> bool {
        link.standing == Standing::Relay && !self.witness.is_guilty(&link.peer)
    }

    /// The oldest children.
    fn child_heirs(&self) -> Vec<Heir> {
        let steady = self.children_here(FIRST_TREE).filter(|(link, _)| self.may_hold_a_root(link));
        steady.map(|(link, _)| Heir::of(link.peer, &link.addresses)).take(CHILD_HEIRS).collect()
    }

    /// At most so many who were heirs of the first tree, are not here and have their slots still. They may be here in a moment: a founder that comes back, or was started again, would
    /// take their titles from all but the first of its children, and when it is gone again at once, those are who is to take its place.
    fn missed_heirs(&self, most: usize) -> Vec<Heir> {
        let slots = &self.trees[FIRST_TREE].slots;
        let is_missed = |heir: &&Heir| {
            let silent = self.links.to(&heir.id).is_none_or(|link| link.place.is_none());
            let barred = self.witness.is_guilty(&heir.id) || self.is_revoked(&heir.id);
            silent && !barred && slots.slot_of(&heir.id).is_some()
        };
        let titles = self.trees.titles.iter();
        titles.flat_map(|titles| titles.list(FIRST_TREE)).filter(is_missed).take(most).cloned().collect()
    }

    /// Who may be a root: children, other neighbours, and neighbours of those.
    fn candidates(&self) -> Vec<Heir> {
        let children = self.child_heirs();
        let near = self
            .links
            .live()
            .filter(|link| link.place.is_some() && self.may_hold_a_root(link))
            .map(|l| Heir::of(l.peer, &l.addresses));
        let further = self.links.live().flat_map(|link| &link.two_hop).filter(|known| known.id != self.id);
        let further = further
            .filter(|known| !self.witness.is_guilty(&known.id))
            .map(|known| Heir { id: known.id, addresses: self.dialer.addresses_of(&known.id) });
        children.into_iter().chain(near).chain(further).collect()
    }
}

impl Heir {
    fn of(id: NodeId, addresses: &[multiaddr::Multiaddr]) -> Self {
        Self { id, addresses: addresses.iter().take(MAX_HEIR_ADDRESSES).cloned().collect() }
    }
}
