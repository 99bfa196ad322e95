//! Who around a node is near to what a packet seeks, without looking at everybody.
//!
//! Every step on the way between two vertices in a tree leads nearer to where it goes: that is what the plane is there for. So all that is below a vertex is farther away than
//! the vertex itself from a target that is not, and all beside the way from the root to the target farther than where it leaves that way. The search goes from the target's
//! vertex upwards, at each vertex first to whoever is there, then into the branches beside the way, which are parts of the sorted addresses; it leaves
//! out each branch that begins farther away than the best found so far, and ends where the way itself is. (Branch and bound, over the tree of the addresses' words.)

use smallvec::SmallVec;

use super::goals::{ByTree, Goal};
use super::index::{Entry, Which, Who};
use super::scale::Scale;
use super::{Best, Known, Surroundings};
use crate::address::TreeId;
use crate::hyperbolic::{Frames, Head, Plane, SeenFrom, common_letters, exp_of_distance};
use crate::id::NodeId;
use crate::io::LinkId;

/// A target in its tree.
struct Sought<'a> {
    tree: TreeId,
    goal: &'a Goal<'a>,
    frames: &'a Frames,
}

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

    /// On the exponential scale; none where a target is too deep for that.
    pub fn fast(mut self, goals: &ByTree<'_>, destination: &NodeId) -> Option<Option<Best>> {
        let index = self.around.index();
        for (tree, goals) in goals.tried() {
            for goal in goals {
                self.near(index.in_tree(tree), &Sought { tree, goal, frames: goal.frames.as_ref()? });
            }
        }
        for who in index.named(destination) {
            let Some(known) = self.around.known(who) else { continue };
            for (tree, goals) in goals.tried() {
                for goal in goals {
                    self.by_word(who, &known, &Sought { tree, goal, frames: goal.frames.as_ref()? });
                }
            }
        }
        Some(self.best())
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

    fn near(&mut self, entries: &'a [Entry], sought: &Sought<'_>) {
        let word = sought.goal.address.as_slice();
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
        // The target as the vertex so many letters down on the way to it sees it.
        let seen = |level: usize| sought.frames.seen_from_above(word.len().saturating_sub(level));
        if let Some(seen) = seen(beside.len()) {
            self.at_and_below(rest, beside.len(), &seen, sought);
        }
        for (level, beside) in beside.iter().enumerate().rev() {
            let Some(seen) = seen(level).filter(|seen| !self.is_of_no_use(seen, sought.goal)) else { break };
            beside.iter().for_each(|entries| self.at_and_below(entries, level, &seen, sought));
        }
    }

    /// Whether all that is not nearer than the vertex by which the target is `seen` is of no use.
    fn is_of_no_use(&self, seen: &SeenFrom, goal: &Goal<'_>) -> bool {
        goal.price(seen.exp_distance(), self.scale) > self.limit
    }

    /// Entries at or below a vertex, which has so many letters, and by which the target is `seen`.
    fn at_and_below(&mut self, entries: &[Entry], level: usize, seen: &SeenFrom, sought: &Sought<'_>) {
        let (here, mut below) = entries.split_at(leading(entries, |entry| entry.head.depth() == level));
        for entry in here {
            self.by_point(entry.who, seen, sought.goal);
        }
        if level == Head::LETTERS {
            for entry in below {
                if let Some(known) = self.around.known(entry.who) {
                    self.by_word(entry.who, &known, sought);
                }
            }
            return;
        }
        while let Some(letter) = below.first().and_then(|entry| entry.head.letter(level)) {
            let (branch, rest) = below.split_at(leading(below, |entry| entry.head.letter(level) == Some(letter)));
            below = rest;
            // No vertex has such a child where there is none.
            if let Some(seen) = self.plane.seen_from_child(seen, letter)
                && !self.is_of_no_use(&seen, sought.goal)
            {
                self.at_and_below(branch, level + 1, &seen, sought);
            }
        }
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

    fn by_word(&mut self, who: Who, known: &Known<'a>, sought: &Sought<'_>) {
        let Sought { tree, goal, frames } = *sought;
        let Some(address) = known.addresses.in_tree(tree) else { return };
        let (word, target) = (address.as_slice(), goal.address.as_slice());
        let common = common_letters(word, target);
        let distance = if self.plane.frames_below(word, common, &mut self.frames) {
            self.frames.exp_distance_above(word.len() - common, frames, target.len() - common)
        } else {
            exp_of_distance(self.plane.distance(address, goal.address))
        };
        self.consider(who, known, goal, distance);
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
