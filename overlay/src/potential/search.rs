//! Who around a node is near to what a packet seeks, without looking at everybody.
//!
//! From the target's vertex upwards, at each vertex on the way to the root: first whoever is there, then the branches beside the way. A branch is a part of the sorted
//! addresses, and all of it lies beyond the bisector of the edge above it; where that is farther away than the best found so far, none of it is looked at, and where the edge
//! on the way itself is, nothing farther up. (Branch and bound, over the tree of the addresses' words.)

use smallvec::SmallVec;

use super::goals::{ByTree, Goal};
use super::index::{Entry, Which, Who};
use super::scale::Scale;
use super::{Best, Known, Surroundings};
use crate::address::TreeId;
use crate::hyperbolic::{Frames, Head, Plane, SeenFrom, common_letters};
use crate::id::NodeId;
use crate::io::LinkId;

/// An address is too deep for frames.
pub(super) struct TooDeep;

/// A neighbour that may be chosen.
struct Found<'a> {
    id: &'a NodeId,
    link: LinkId,
    load_bytes: usize,
    worth: f64,
    pair: usize,
}

/// What was found so far.
pub(super) struct Search<'a, S> {
    plane: &'a Plane,
    around: &'a S,
    scale: &'a Scale,
    /// Who is worth more is of no use.
    limit: f64,
    found: SmallVec<[Found<'a>; 8]>,
    /// Room for those of one address.
    frames: Frames,
}

impl<'a, S: Surroundings> Search<'a, S> {
    pub fn new(plane: &'a Plane, around: &'a S, scale: &'a Scale) -> Self {
        Self { plane, around, scale, limit: f64::INFINITY, found: SmallVec::new(), frames: Frames::default() }
    }

    /// By frames, on the exponential scale.
    pub fn fast(mut self, goals: &ByTree<'_>, destination: &NodeId) -> Result<Option<Best>, TooDeep> {
        for (tree, goals) in goals.tried() {
            let entries = self.around.index().in_tree(tree);
            goals.iter().try_for_each(|goal| self.near(tree, entries, goal))?;
        }
        for who in self.around.index().named(destination) {
            let Some(known) = self.around.known(who) else { continue };
            for (tree, goals) in goals.tried() {
                goals.iter().try_for_each(|goal| self.by_word(tree, who, &known, goal))?;
            }
        }
        Ok(self.best())
    }

    /// By comparing all with all, however deep they are.
    pub fn slow(mut self, goals: &ByTree<'_>, destination: &NodeId) -> Option<Best> {
        let index = self.around.index();
        for (tree, goals) in goals.tried() {
            for who in index.in_tree(tree).iter().map(|entry| entry.who).chain(index.named(destination)) {
                let Some(known) = self.around.known(who) else { continue };
                let Some(address) = known.addresses.in_tree(tree) else { continue };
                for goal in goals {
                    self.consider(who, &known, goal, self.plane.distance(address, goal.address));
                }
            }
        }
        self.best()
    }

    fn near(&mut self, tree: TreeId, entries: &'a [Entry], goal: &Goal<'_>) -> Result<(), TooDeep> {
        let word = goal.address.as_slice();
        // By letters in common with the target.
        let mut beside: SmallVec<[[&'a [Entry]; 2]; Head::LETTERS]> = SmallVec::new();
        let mut rest = entries;
        for (level, letter) in word.iter().take(Head::LETTERS).enumerate() {
            let (before, after) = rest.split_at(rest.partition_point(|entry| entry.head.letter(level) < Some(*letter)));
            let (same, after) =
                after.split_at(after.partition_point(|entry| entry.head.letter(level) == Some(*letter)));
            beside.push([before, after]);
            rest = same;
        }
        self.at_and_below(tree, rest, beside.len(), &self.seen(goal, beside.len())?, goal)?;
        for (level, beside) in beside.iter().enumerate().rev() {
            if self.is_of_no_use(goal.least_above(level), goal) {
                break;
            }
            let seen = self.seen(goal, level)?;
            beside.iter().try_for_each(|entries| self.at_and_below(tree, entries, level, &seen, goal))?;
        }
        Ok(())
    }

    /// The target as the vertex `level` letters down on the way to it sees it.
    fn seen(&self, goal: &Goal<'_>, level: usize) -> Result<SeenFrom, TooDeep> {
        let frames = goal.frames.as_ref().ok_or(TooDeep)?;
        goal.address.depth().checked_sub(level).and_then(|levels| frames.seen_from_above(levels)).ok_or(TooDeep)
    }

    /// Whether all with this lower bound of the distance to a goal are of no use.
    fn is_of_no_use(&self, bound: f64, goal: &Goal<'_>) -> bool {
        goal.price(bound, self.scale) > self.limit
    }

    /// Entries at or below a vertex, which has so many letters, and by which the target is `seen`.
    fn at_and_below(
        &mut self,
        tree: TreeId,
        entries: &[Entry],
        level: usize,
        seen: &SeenFrom,
        goal: &Goal<'_>,
    ) -> Result<(), TooDeep> {
        let (here, mut below) = entries.split_at(leading(entries, |entry| entry.head.depth() == level));
        for entry in here {
            self.by_point(entry.who, seen, goal);
        }
        if level == Head::LETTERS {
            return below.iter().try_for_each(|entry| match self.around.known(entry.who) {
                Some(known) => self.by_word(tree, entry.who, &known, goal),
                None => Ok(()),
            });
        }
        while let Some(letter) = below.first().and_then(|entry| entry.head.letter(level)) {
            let (branch, rest) = below.split_at(leading(below, |entry| entry.head.letter(level) == Some(letter)));
            below = rest;
            let Some(seen) = self.plane.seen_from_child(seen, letter) else { continue };
            if !self.is_of_no_use(self.plane.exp_distance_below(&seen), goal) {
                self.at_and_below(tree, branch, level + 1, &seen, goal)?;
            }
        }
        Ok(())
    }

    /// Somebody at the vertex by which the target is `seen`.
    fn by_point(&mut self, who: Who, seen: &SeenFrom, goal: &Goal<'_>) {
        let distance = seen.exp_distance();
        if self.worth(who, distance, goal) <= self.limit
            && let Some(known) = self.around.known(who)
        {
            self.consider(who, &known, goal, distance);
        }
    }

    fn by_word(&mut self, tree: TreeId, who: Who, known: &Known<'a>, goal: &Goal<'_>) -> Result<(), TooDeep> {
        let Some(address) = known.addresses.in_tree(tree) else { return Ok(()) };
        let (word, target) = (address.as_slice(), goal.address.as_slice());
        let common = common_letters(word, target);
        let of_goal = goal.frames.as_ref().ok_or(TooDeep)?;
        if !self.plane.frames_below(word, common, &mut self.frames) {
            return Err(TooDeep);
        }
        let distance = self.frames.exp_distance_above(word.len() - common, of_goal, target.len() - common);
        self.consider(who, known, goal, distance);
        Ok(())
    }

    /// What a neighbour is worth with an address at this distance from the goal.
    fn worth(&self, who: Who, distance: f64, goal: &Goal<'_>) -> f64 {
        let phi = goal.price(distance, self.scale);
        if matches!(who.which, Which::Beyond(_)) { self.scale.dearer(phi) } else { phi }
    }

    fn consider(&mut self, who: Who, known: &Known<'a>, goal: &Goal<'_>, distance: f64) {
        let (worth, pair) = (self.worth(who, distance, goal), goal.pair);
        self.limit = self.limit.min(self.scale.limit(worth));
        match self.found.iter_mut().find(|found| found.link == known.link) {
            Some(found) if (found.worth, found.pair) <= (worth, pair) => {}
            Some(found) => (found.worth, found.pair) = (worth, pair),
            None => {
                let Known { id, link, load_bytes, .. } = *known;
                self.found.push(Found { id, link, load_bytes, worth, pair });
            }
        }
    }

    /// The neighbour that is worth most, and of such as are worth the same the one whose link has least to carry.
    fn best(mut self) -> Option<Best> {
        self.found.sort_unstable_by_key(|found| found.id);
        let better = |new: &Found<'_>, old: &Found<'_>| {
            self.scale.gains(new.worth, old.worth)
                || (!self.scale.gains(old.worth, new.worth) && new.load_bytes < old.load_bytes)
        };
        let best = self.found.iter().reduce(|old, new| if better(new, old) { new } else { old })?;
        Some(Best { worth: best.worth, pair: best.pair, link: best.link })
    }
}

/// How many entries it is true for, where it is for none after the first that it is not true for.
fn leading(entries: &[Entry], is_one: impl Fn(&Entry) -> bool) -> usize {
    /// Mostly it is a few.
    const FEW: usize = 8;
    let few = entries.iter().take(FEW).take_while(|entry| is_one(entry)).count();
    if few < FEW { few } else { entries.partition_point(is_one) }
}
