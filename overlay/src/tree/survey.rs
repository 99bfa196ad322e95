//! Where the members are, as the founder sees it: for roots that are far apart.
//!
//! Paths are short when the trees are different. In most overlays any roots make them so. Where links follow geography they do not: the first
//! members, of which the founder names the roots, are neighbours then, and all trees look the same. (Random geometric graph of 1000 nodes: stretch
//! 1.33 with such roots, 1.41 with one tree.) So the founder asks for random keys, and notes who answers and where: a sample of all members.
//! If that shows places far from each other, deep in the first tree, and the roots are not, it names others.
//!
//! Only answers to its own questions count, but who answers may lie about where it is: the sample guides the choice of roots and proves nothing.

use core::time::Duration;
use std::collections::BTreeMap;

use super::titles::Heir;
use crate::address::{Address, FIRST_TREE, MAX_TREES, Place, TreeId};
use crate::id::NodeId;
use crate::overlay::{Overlay, Timer};
use crate::time::{Instant, Now};

/// Members of whom a sample says something.
const ENOUGH: usize = 24;
/// Most of them that are noted.
const MAX_SAMPLES: usize = 64;
/// For how long one is.
const FRESH: Duration = Duration::from_mins(2);
/// Keys asked for at one time.
const KEYS_AT_ONCE: usize = 8;
/// How often, until there are enough answers, and afterwards.
const ASK_AGAIN: Duration = Duration::from_secs(2);
const SURVEY_AGAIN: Duration = Duration::from_mins(1);
/// Fewer members than this have no geography.
const LEAST_SIZE: u32 = 64;
/// Roots are far apart when there are so many edges of the first tree between any two of them, the founder included.
const FAR_EDGES: usize = 12;
/// Others are named when they are so many times as far apart as those there are: everybody gets other addresses by that.
const WORTH_IT: usize = 2;

/// What the founder found out.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    samples: BTreeMap<NodeId, (Address, Instant)>,
    /// How many members there were when it began.
    size: u32,
    /// By tree: whom to name, until that is done.
    wanted: [Option<NodeId>; MAX_TREES],
    /// By tree: where the root was that a survey chose, in the first tree.
    chosen: [Option<Address>; MAX_TREES],
}

impl Survey {
    fn note(&mut self, id: NodeId, at: Address, now: Instant) {
        self.forget_old(now);
        if self.samples.len() < MAX_SAMPLES || self.samples.contains_key(&id) {
            self.samples.insert(id, (at, now));
        }
    }

    fn has_enough(&mut self, now: Instant) -> bool {
        self.forget_old(now);
        self.samples.len() >= ENOUGH
    }

    fn forget_old(&mut self, now: Instant) {
        self.samples.retain(|_, (_, heard)| now.since(*heard) < FRESH);
    }

    /// So many members that are far from the root and from each other, and how far.
    fn far_apart(&self, count: usize) -> (Vec<(NodeId, Address)>, usize) {
        let mut picked: Vec<(NodeId, Address)> = Vec::new();
        let mut spread = usize::MAX;
        for _ in 0..count {
            let gap = |at: &Address| {
                picked.iter().map(|(_, other)| other.tree_distance(at)).chain([at.depth()]).min().unwrap_or(0)
            };
            let Some((id, (at, _))) = self.samples.iter().max_by_key(|(id, (at, _))| (gap(at), **id)) else { break };
            spread = spread.min(gap(at));
            picked.push((*id, at.clone()));
        }
        (picked, spread)
    }
}

/// The least distance between any two of these places and the root.
fn spread_of(places: &[Address]) -> usize {
    let gap = |(number, at): (usize, &Address)| {
        let others = places.iter().take(number).map(|other| other.tree_distance(at));
        others.chain([at.depth()]).min().unwrap_or(0)
    };
    places.iter().enumerate().map(gap).min().unwrap_or(usize::MAX)
}

impl Overlay {
    /// The founder asks around.
    pub(crate) fn survey_timer(&mut self, now: Now) {
        if !self.names_heirs() {
            return;
        }
        let asks = self.subtree_size(FIRST_TREE) >= LEAST_SIZE && !self.survey.has_enough(now.instant);
        if asks {
            (0..KEYS_AT_ONCE).for_each(|_| self.dht.ask_anybody());
        }
        self.timers.set(Timer::Survey, now.instant + if asks { ASK_AGAIN } else { SURVEY_AGAIN });
    }

    /// Where members are says little about an overlay that has doubled since.
    pub(crate) fn survey_again(&mut self, now: Now) {
        let size = self.subtree_size(FIRST_TREE);
        if size >= LEAST_SIZE.max(self.survey.size.saturating_mul(2)) {
            self.survey.size = size;
            self.survey.samples.clear();
            self.timers.set_no_later(Timer::Survey, now.instant + ASK_AGAIN);
        }
    }

    /// Somebody answered from this place.
    pub(crate) fn note_member(&mut self, id: NodeId, place: &Place, now: Now) {
        if !self.names_heirs() || self.witness.is_guilty(&id) || id == self.id {
            return;
        }
        if let Some(at) = place.addresses.in_tree(FIRST_TREE) {
            self.survey.note(id, at.clone(), now.instant);
        }
    }

    /// Decides whether other roots than those there are would be much farther apart.
    pub(crate) fn judge_roots(&mut self, now: Now) {
        let trees = self.genesis.as_ref().map_or(1, |genesis| genesis.genesis().trees);
        let others: Vec<TreeId> =
            TreeId::ALL.into_iter().filter(|tree| *tree != FIRST_TREE && tree.get() < trees).collect();
        if others.is_empty() || !self.survey.has_enough(now.instant) {
            return;
        }
        let (picked, spread) = self.survey.far_apart(others.len());
        let present: Vec<Address> =
            others.iter().map(|tree| self.survey.chosen[tree.index()].clone().unwrap_or_else(Address::root)).collect();
        if picked.len() < others.len() || spread < FAR_EDGES || spread < WORTH_IT * spread_of(&present) {
            return;
        }
        for (tree, (id, at)) in others.into_iter().zip(picked) {
            self.survey.wanted[tree.index()] = Some(id);
            self.survey.chosen[tree.index()] = Some(at);
        }
    }

    /// Whom the latest survey wants as the root of `tree`; once.
    pub(crate) fn wanted_root(&mut self, tree: TreeId) -> Option<Heir> {
        let id = self.survey.wanted[tree.index()].take()?;
        Some(Heir { id, addresses: self.dialer.addresses_of(&id) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey_of(places: &[&str]) -> Survey {
        let mut survey = Survey::default();
        for (n, text) in (0u8..).zip(places) {
            survey.note(NodeId::from_bytes([n; 32]), text.parse().unwrap(), Instant::ZERO);
        }
        survey
    }

    #[test]
    fn those_far_from_each_other_are_picked() {
        let survey = survey_of(&["/0", "/0/1/1/1", "/0/1/1/2", "/1/1/1", "/2/2"]);
        let (picked, spread) = survey.far_apart(3);
        let texts: Vec<String> = picked.iter().map(|(_, at)| at.to_string()).collect();
        assert_eq!(texts, ["/0/1/1/2", "/1/1/1", "/2/2"]);
        assert_eq!(spread, 2);
        let places: Vec<Address> = picked.into_iter().map(|(_, at)| at).collect();
        assert_eq!(spread_of(&places), 2);
        assert_eq!(spread_of(&[Address::root()]), 0);
    }

    #[test]
    fn answers_grow_old_and_are_bounded() {
        let mut survey = survey_of(&["/0"]);
        for n in 0..=255 {
            survey.note(NodeId::from_bytes([n; 32]), Address::root(), Instant::ZERO + FRESH);
        }
        assert_eq!(survey.samples.len(), MAX_SAMPLES);
        assert!(survey.has_enough(Instant::ZERO + FRESH) && !survey.has_enough(Instant::ZERO + FRESH * 2));
    }
}
