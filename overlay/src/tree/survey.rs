//! Where the members are, as the founder sees it: for roots that are near to all of them.
//!
//! Paths are short when the trees are different. In most overlays any roots make them so. Where links follow geography they do not: the first
//! members, of which the founder names the roots, are neighbours then, and all trees look the same. (Random geometric graph of 1000 nodes: stretch
//! 1.33 with such roots, 1.41 with one tree.) So the founder asks for random keys, and notes who answers and where: a sample of all members.
//! If that shows that other roots would be nearer to the members, it names those.
//!
//! Near, not far apart: roots in the corners of a plane see everybody in the same direction. Of 10,000 nodes in a square, routed in a model of these
//! trees with three seeds and true distances, those farthest apart of a sample of 64 gave a stretch of 1.113 in the mean, random ones 1.108, and those from which the mean way to the next
//! root is shortest (the k-median of the sample) 1.073. True distances nobody knows. The shortest way along a tree is one that is too long, except from the roots that
//! there are, so that others hardly ever look better (1.096 and 1.114, two seeds); what two depths differ by is one that is too short (triangle inequality, as
//! Goldberg and Harrelson use landmarks, SODA 2005). In the middle of the two the same model has 1.078 and 1.082, and then is content (the overlay itself, one seed: 1.106 instead of 1.113).
//!
//! The same sample gives heirs that are far from the founder: see `naming`.
//!
//! Only answers to its own questions count, but who answers may lie about where it is, and who is in the way of many answers about who it is: the sample guides the
//! choice of roots and proves nothing. So others are named seldom.

use core::time::Duration;
use std::collections::BTreeMap;

use super::naming::FAR_HEIRS;
use super::titles::Heir;
use crate::address::{AddressSet, FIRST_TREE, MAX_TREES, Place, TreeId};
use crate::id::NodeId;
use crate::overlay::{Overlay, Timer};
use crate::rng::Rng;
use crate::time::{Instant, Now};

/// Members of whom a sample says whether there is geography, and most of them that are noted: so many show where roots should be.
const ENOUGH: usize = 24;
const MAX_SAMPLES: usize = 128;
/// For how long one is.
const FRESH: Duration = Duration::from_mins(2);
/// Keys asked for at one time.
const KEYS_AT_ONCE: usize = 16;
/// How often, until there are enough answers.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// After other roots were named, it is seen by their trees how well that was done.
const SECOND_LOOK: Duration = Duration::from_secs(10);
/// Otherwise, while the overlay does not grow.
const SURVEY_AGAIN: Duration = Duration::from_mins(10);
/// Other roots are named so often for one size of the overlay, at the first and at the second look, and once in [`SURVEY_AGAIN`] from then on: a member to which most
/// questions come can have the founder see what it likes, and everybody gets other addresses each time.
const NAMED_AT_ONCE: u32 = 2;
/// An overlay that has grown to so much, in percent, of what it was at the latest survey is looked at again while it grows,
const DOUBLED_PERCENT: u32 = 200;
/// and, because where the last ones joined is the rim, when it has grown to so much and then stays as it is
/// (random geometric graph of 10,000 nodes in a model, one seed, when the latest survey was of 69 % of them: stretch 1.071 instead of 1.133;
/// in the simulator, where all come within seconds, it made no difference),
const GROWN_PERCENT: u32 = 115;
/// for so long,
const STEADY: Duration = Duration::from_secs(8);
/// within this share of its size, in percent.
const STEADY_PERCENT: u32 = 5;
/// Fewer members than this have no geography.
const LEAST_SIZE: u32 = 64;
/// Members are so many edges from the next root in the mean where there is geography.
const DEEP_EDGES: usize = 6;
/// What a way counts, in half edges, between two that are in no common tree; a sum over all samples stays a number.
const NO_WAY_HALVES: usize = usize::MAX / MAX_SAMPLES / 2;
/// Others are named when the way to them is at most so much, in percent, of that to the roots there are: everybody gets other addresses by that.
const WORTH_IT_PERCENT: usize = 85;
/// Other members are named as heirs far away when the overlay has grown much, or after so long: some of them may have left.
const FAR_HEIRS_KEPT: Duration = Duration::from_hours(1);
/// They were named on neighbours' words, and not chosen of so many members: the next survey chooses.
const BY_NEIGHBOURS: u32 = 0;
/// How often each root is looked at again when the others were chosen.
const SWEEPS: usize = 4;

/// What the founder found out.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    samples: BTreeMap<NodeId, (AddressSet, Instant)>,
    /// How many members there were when it began.
    size: u32,
    /// How many there have been, but for a few, since when.
    steady: Option<(u32, Instant)>,
    /// By tree: whom to name, until that is done.
    wanted: [Option<NodeId>; MAX_TREES],
    /// How often others were named since it began, and when last.
    named: (u32, Instant),
    /// Whom to name as heirs far away.
    elsewhere: Vec<NodeId>,
    /// Since when, and of how many members they were chosen.
    chosen: Option<(Instant, u32)>,
}

impl Survey {
    fn note(&mut self, id: NodeId, at: AddressSet, now: Instant) {
        self.forget_old(now);
        if self.samples.len() < MAX_SAMPLES || self.samples.contains_key(&id) {
            self.samples.insert(id, (at, now));
        }
    }

    /// Whether something can be said of an overlay with `size` members: of a flat one few answers show that it is flat.
    fn has_enough(&mut self, size: u32, now: Instant) -> bool {
        self.forget_old(now);
        let half = usize::try_from(size / 2).unwrap_or(usize::MAX);
        self.samples.len() >= if self.is_deep() { half.clamp(ENOUGH, MAX_SAMPLES) } else { ENOUGH }
    }

    /// Whether another survey is due now that there are `size` members.
    fn is_outgrown(&mut self, size: u32, now: Instant) -> bool {
        let grown_to = |percent: u32| u64::from(size) * 100 >= u64::from(self.size) * u64::from(percent);
        let (doubled, grown) = (grown_to(DOUBLED_PERCENT), grown_to(GROWN_PERCENT));
        let since = match self.steady {
            Some((about, since)) if size.abs_diff(about) <= about / (100 / STEADY_PERCENT) => since,
            _ => {
                self.steady = Some((size, now));
                now
            }
        };
        doubled || (grown && now.since(since) >= STEADY)
    }

    /// Whether other roots may be named now.
    fn may_name(&self, now: Instant) -> bool {
        let (often, last) = self.named;
        often < NAMED_AT_ONCE || now.since(last) >= SURVEY_AGAIN
    }

    fn forget_old(&mut self, now: Instant) {
        self.samples.retain(|_, (_, heard)| now.since(*heard) < FRESH);
    }

    /// The heirs far away that were chosen last; none when that is long ago.
    pub(super) fn elsewhere(&mut self, now: Instant) -> Vec<NodeId> {
        let since = self.chosen.get_or_insert((now, BY_NEIGHBOURS)).0;
        if now.since(since) >= FAR_HEIRS_KEPT {
            self.chosen = None;
            self.elsewhere.clear();
        }
        self.elsewhere.clone()
    }

    pub(super) fn keep_elsewhere(&mut self, far: &[NodeId]) {
        self.elsewhere = far.to_vec();
    }

    /// Chooses heirs far away of the sample, if it is time; whether it was. By chance, and not by keys, which could be made to fit.
    fn choose_elsewhere(&mut self, rng: &mut Rng, now: Instant) -> bool {
        let lasts = |(at, size)| now.since(at) < FAR_HEIRS_KEPT && size == self.size;
        if self.chosen.is_some_and(lasts) || self.samples.is_empty() {
            return false;
        }
        let mut ids: Vec<NodeId> = self.samples.keys().copied().collect();
        self.elsewhere = (0..ids.len().min(FAR_HEIRS)).map(|_| ids.swap_remove(rng.index(ids.len()))).collect();
        self.chosen = Some((now, self.size));
        true
    }

    /// The sum of all ways to the next of the roots that there are: that is the least depth.
    fn present_edges(&self) -> usize {
        self.samples.values().map(|(at, _)| at.least_depth().unwrap_or(0)).sum()
    }

    fn is_deep(&self) -> bool {
        self.present_edges() >= DEEP_EDGES * self.samples.len().max(1)
    }

    /// So many members that would be roots near to all, beside the founder at `here`, and the sum of all ways to the next of them, in half edges. They are chosen one
    /// after the other, and then each again, given the others (Teitz and Bart's vertex substitution, Operations Research 16, 1968).
    fn nearest_to_all(&self, count: usize, here: &AddressSet) -> (Vec<NodeId>, usize) {
        let places: Vec<(&NodeId, &AddressSet)> = self.samples.iter().map(|(id, (at, _))| (id, at)).collect();
        let founder: Vec<usize> = places.iter().map(|(_, at)| half_edges_between(here, at)).collect();
        let of =
            |(_, from): &(&NodeId, &AddressSet)| places.iter().map(|(_, at)| half_edges_between(from, at)).collect();
        let ways: Vec<Vec<usize>> = places.iter().map(of).collect();
        let mut picked: Vec<usize> = Vec::new();
        for turn in 0..count * (1 + SWEEPS) {
            if picked.len() == count {
                picked.remove(0);
            }
            let next = |member: usize| picked.iter().map(|root| ways[*root][member]).chain([founder[member]]).min();
            let others: Vec<usize> = (0..places.len()).map(|member| next(member).unwrap_or(0)).collect();
            let sum = |root: &usize| others.iter().zip(&ways[*root]).map(|(a, b)| *a.min(b)).sum::<usize>();
            let free = (0..places.len()).filter(|candidate| !picked.contains(candidate));
            let Some(best) = free.min_by_key(sum) else { break };
            picked.push(best);
            if turn + 1 == count * (1 + SWEEPS) {
                return (picked.into_iter().map(|root| *places[root].0).collect(), sum(&best));
            }
        }
        (Vec::new(), usize::MAX)
    }
}

/// How far it is between two members, in half edges: in the middle of the most and the least that it can be.
fn half_edges_between(a: &AddressSet, b: &AddressSet) -> usize {
    let mut bounds: Option<(usize, usize)> = None;
    for (from, to) in a.iter().filter_map(|(tree, from)| Some((from, b.in_tree(tree)?))) {
        let (most, least) = (from.tree_distance(to), from.depth().abs_diff(to.depth()));
        bounds = Some(bounds.map_or((most, least), |(lowest, highest)| (lowest.min(most), highest.max(least))));
    }
    bounds.map_or(NO_WAY_HALVES, |(most, least)| most.saturating_add(least))
}

impl Overlay {
    /// The founder asks around, until it can judge.
    pub(crate) fn survey_timer(&mut self, now: Now) {
        if !self.names_heirs() {
            return;
        }
        let size = self.subtree_size(FIRST_TREE);
        let wait = if size < LEAST_SIZE {
            SURVEY_AGAIN
        } else if self.survey.has_enough(size, now.instant) {
            let others_wanted = self.judge_roots(now);
            let others_elsewhere = self.survey.choose_elsewhere(&mut self.rng, now.instant);
            self.survey.samples.clear();
            if others_wanted || others_elsewhere {
                self.name_heirs(now);
            }
            if others_wanted { SECOND_LOOK } else { SURVEY_AGAIN }
        } else {
            (0..KEYS_AT_ONCE).for_each(|_| self.dht.ask_anybody());
            ASK_AGAIN
        };
        self.timers.set(Timer::Survey, now.instant + wait);
    }

    /// Where members were says little about an overlay that has grown much since.
    pub(crate) fn survey_again(&mut self, now: Now) {
        let size = self.subtree_size(FIRST_TREE);
        if size >= LEAST_SIZE && self.survey.is_outgrown(size, now.instant) {
            self.survey.size = size;
            self.survey.named.0 = 0;
            self.survey.samples.clear();
            self.timers.set_no_later(Timer::Survey, now.instant + ASK_AGAIN);
        }
    }

    /// Somebody answered from this place.
    pub(crate) fn note_member(&mut self, id: NodeId, place: &Place, now: Now) {
        if self.names_heirs() && !self.witness.is_guilty(&id) && id != self.id {
            self.survey.note(id, place.addresses.clone(), now.instant);
        }
    }

    /// Decides whether other roots than those there are would be much nearer to the members.
    fn judge_roots(&mut self, now: Now) -> bool {
        let trees = self.genesis.as_ref().map_or(1, |genesis| genesis.genesis().trees);
        let others: Vec<TreeId> =
            TreeId::ALL.into_iter().filter(|tree| *tree != FIRST_TREE && tree.get() < trees).collect();
        let Some(here) = self.place().map(|place| place.addresses.clone()) else { return false };
        if others.is_empty() || !self.survey.is_deep() || !self.survey.may_name(now.instant) {
            return false;
        }
        let (picked, halves) = self.survey.nearest_to_all(others.len(), &here);
        let present = 2 * self.survey.present_edges();
        if picked.len() < others.len() || halves.saturating_mul(100) > present * WORTH_IT_PERCENT {
            return false;
        }
        for (tree, id) in others.into_iter().zip(picked) {
            self.survey.wanted[tree.index()] = Some(id);
        }
        self.survey.named = (self.survey.named.0.saturating_add(1), now.instant);
        true
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
    use crate::config::Config;
    use crate::id::Identity;

    fn at(text: &str) -> AddressSet {
        AddressSet::single(text.parse().unwrap())
    }

    fn survey_of(places: &[&str]) -> Survey {
        let mut survey = Survey::default();
        for (n, text) in (0u8..).zip(places) {
            survey.note(NodeId::from_bytes([n; 32]), at(text), Instant::ZERO);
        }
        survey
    }

    #[test]
    fn those_in_the_middle_of_others_are_picked() {
        // Three villages, and the founder's.
        let survey = survey_of(&[
            "/0", "/1/1/1", "/1/1/1/0", "/1/1/1/1", "/2/2/2", "/2/2/2/0", "/2/2/2/1", "/3/3/3", "/3/3/3/0", "/3/3/3/1",
        ]);
        let (mut picked, halves) = survey.nearest_to_all(3, &at("/"));
        picked.sort_unstable();
        assert_eq!(picked, [1, 4, 7].map(|n| NodeId::from_bytes([n; 32])));
        assert_eq!(halves, 2 * 7, "one to the founder, and twice one in each village");
        assert_eq!(survey.present_edges(), 1 + 3 * (3 + 4 + 4));
    }

    #[test]
    fn a_way_is_between_the_shortest_along_a_tree_and_what_two_depths_differ_by() {
        let mut near = at("/1/1/1");
        near.insert(TreeId::ALL[1], "/0".parse().unwrap());
        let mut root = at("/0/0");
        root.insert(TreeId::ALL[1], "/".parse().unwrap());
        assert_eq!(half_edges_between(&root, &near), 1 + 1, "from a root both are the depth");
        assert_eq!(half_edges_between(&root, &at("/1/1/1")), 5 + 1);
        near.insert(TreeId::ALL[1], "/0/1/2/3".parse().unwrap());
        assert_eq!(half_edges_between(&root, &near), 4 + 4, "another tree knows better that it is far");
    }

    #[test]
    fn answers_grow_old_and_are_bounded() {
        let mut survey = survey_of(&["/0"]);
        for n in 0..=255 {
            survey.note(NodeId::from_bytes([n; 32]), at("/"), Instant::ZERO + FRESH);
        }
        assert_eq!(survey.samples.len(), MAX_SAMPLES);
        assert!(survey.has_enough(1000, Instant::ZERO + FRESH) && !survey.has_enough(1000, Instant::ZERO + FRESH * 2));
    }

    #[test]
    fn what_has_grown_is_looked_at_again_when_it_stands_still_and_when_it_has_doubled() {
        let mut survey = Survey { size: 1000, ..Survey::default() };
        let at = |s| Instant::ZERO + Duration::from_secs(s);
        assert!(survey.is_outgrown(2000, at(0)));
        assert!(!survey.is_outgrown(1300, at(5)) && !survey.is_outgrown(1400, at(10)), "it grows");
        assert!(!survey.is_outgrown(1410, at(15)) && survey.is_outgrown(1390, at(20)), "it stands still");
        survey.size = 1390;
        assert!(!survey.is_outgrown(1400, at(100)), "it has not grown");
    }

    #[test]
    fn a_few_answers_show_that_an_overlay_is_flat_but_not_where_roots_should_be() {
        let flat: Vec<String> = (0..ENOUGH).map(|n| format!("/{n}")).collect();
        let deep: Vec<String> = (0..ENOUGH).map(|n| format!("/{n}/0/0/0/0/0/0")).collect();
        let survey = |texts: &[String]| survey_of(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(survey(&flat).has_enough(1000, Instant::ZERO));
        assert!(!survey(&deep).has_enough(1000, Instant::ZERO));
        assert!(survey(&deep).has_enough(40, Instant::ZERO), "more than half of all");
    }

    #[test]
    fn the_first_survey_after_an_hour_chooses_heirs_far_away() {
        let places: Vec<String> = (0..ENOUGH).map(|n| format!("/{n}")).collect();
        let mut survey = survey_of(&places.iter().map(String::as_str).collect::<Vec<_>>());
        survey.size = 100;
        let mut rng = Rng::from_seed([1; 32]);
        let later = |minutes| Instant::ZERO + Duration::from_mins(minutes);
        assert!(survey.elsewhere(later(0)).is_empty());
        assert!(survey.choose_elsewhere(&mut rng, later(1)) && !survey.choose_elsewhere(&mut rng, later(60)));
        assert_eq!(survey.elsewhere(later(60)).len(), FAR_HEIRS);
        // Titles are looked at far more often than surveys are made.
        assert!(survey.elsewhere(later(61)).is_empty() && survey.elsewhere(later(62)).is_empty());
        assert!(survey.choose_elsewhere(&mut rng, later(63)));
    }

    /// Each look shows other villages, far from the roots that there are.
    #[test]
    fn who_makes_up_all_answers_has_other_roots_named_seldom() {
        let later = |s| Now { instant: Instant::ZERO + Duration::from_secs(s), ..Now::default() };
        let mut founder = Overlay::new(Config::default(), Identity::from_secret(&[9; 32]), [1; 32], later(0));
        founder.start(later(0)).unwrap();
        let mut look = |s: u64| {
            founder.survey.samples.clear();
            for n in 0..12u8 {
                let text = format!("/{}/1/1/1/1/1/1/1/1/{n}", n % 3);
                founder.survey.note(NodeId::from_bytes([n; 32]), at(&text), later(s).instant);
            }
            founder.judge_roots(later(s))
        };
        assert_eq!((0..60).filter(|n| look(n * 10)).count(), 2);
        assert_eq!((60..120).filter(|n| look(n * 10)).count(), 1);
    }
}
