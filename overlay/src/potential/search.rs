//! Who around a node is near to what a packet seeks, without looking at everybody.
//!
//! Every step on the way between two vertices in a tree leads nearer to where it goes: that is what the plane is there for. So all that is below a vertex is farther away than
//! the vertex itself from a target that is not, and all beside the way from the root to the target farther than where it leaves that way. The search goes from the target's
//! vertex upwards, at each vertex first to whoever is there, then into the branches beside the way, which are parts of the sorted addresses; it leaves
//! out each branch that begins farther away than the best found so far, and ends where the way itself is. (Branch and bound, over the tree of the addresses' words.)

use smallvec::SmallVec;

use super::goals::{ByTree, Goal};
use super::index::{Entry, Which, Who};
use super::metric::Metric;
use super::{Best, Known, Surroundings};
use crate::address::TreeId;
use crate::hyperbolic::Head;
use crate::id::NodeId;
use crate::io::LinkId;

/// A neighbour that may be chosen.
struct Found<'a> {
    id: &'a NodeId,
    link: LinkId,
    load_bytes: usize,
    worth: f64,
    pair: usize,
}

/// What was found so far.
pub(super) struct Search<'a, S, M> {
    around: &'a S,
    metric: M,
    /// Who is worth more is of no use.
    limit: f64,
    found: SmallVec<[Found<'a>; 8]>,
}

impl<'a, S: Surroundings, M: Metric> Search<'a, S, M> {
    pub fn new(around: &'a S, metric: M) -> Self {
        Self { around, metric, limit: f64::INFINITY, found: SmallVec::new() }
    }

    /// The neighbour that is worth most; none when nobody is worth anything.
    pub fn best(mut self, goals: &ByTree<'_>, destination: &NodeId) -> Option<Best> {
        let index = self.around.index();
        for (tree, goals) in goals.tried() {
            goals.iter().for_each(|goal| self.near(tree, index.in_tree(tree), goal));
        }
        // Whoever has a link to the destination, though it has many others that count for more.
        for who in index.named(destination) {
            let Some(known) = self.around.known(who) else { continue };
            for (tree, goals) in goals.tried() {
                goals.iter().for_each(|goal| self.by_word(tree, who, &known, goal));
            }
        }
        self.choice()
    }

    fn near(&mut self, tree: TreeId, entries: &'a [Entry], goal: &Goal<'_>) {
        // By letters in common with the target.
        let mut beside: SmallVec<[[&'a [Entry]; 2]; Head::LETTERS]> = SmallVec::new();
        let mut rest = entries;
        for (level, letter) in goal.address.as_slice().iter().take(Head::LETTERS).enumerate() {
            let (before, after) = rest.split_at(rest.partition_point(|entry| entry.head.letter(level) < Some(*letter)));
            let (same, after) =
                after.split_at(after.partition_point(|entry| entry.head.letter(level) == Some(*letter)));
            beside.push([before, after]);
            rest = same;
        }
        if let Some(seen) = self.metric.above(goal, beside.len()) {
            self.at_and_below(tree, rest, beside.len(), &seen, goal);
        }
        for (level, beside) in beside.iter().enumerate().rev() {
            let seen = self.metric.above(goal, level);
            let Some(seen) = seen.filter(|seen| !self.is_of_no_use(seen, goal)) else { break };
            beside.iter().for_each(|entries| self.at_and_below(tree, entries, level, &seen, goal));
        }
    }

    /// Whether all that is not nearer than the vertex from which the target is `seen` is of no use.
    fn is_of_no_use(&self, seen: &M::Seen, goal: &Goal<'_>) -> bool {
        goal.price(self.metric.distance(seen), self.metric.scale()) > self.limit
    }

    /// Entries at or below a vertex, which has so many letters, and from which the target is `seen`.
    fn at_and_below(&mut self, tree: TreeId, entries: &[Entry], level: usize, seen: &M::Seen, goal: &Goal<'_>) {
        let (here, mut below) = entries.split_at(leading(entries, |entry| entry.head.depth() == level));
        if !here.is_empty() {
            let distance = self.metric.distance(seen);
            here.iter().for_each(|entry| self.by_distance(entry.who, distance, goal));
        }
        if level == Head::LETTERS {
            for entry in below {
                if let Some(known) = self.around.known(entry.who) {
                    self.by_word(tree, entry.who, &known, goal);
                }
            }
            return;
        }
        while let Some(letter) = below.first().and_then(|entry| entry.head.letter(level)) {
            let (branch, rest) = below.split_at(leading(below, |entry| entry.head.letter(level) == Some(letter)));
            below = rest;
            if let Some(seen) = self.metric.child(seen, letter)
                && !self.is_of_no_use(&seen, goal)
            {
                self.at_and_below(tree, branch, level + 1, &seen, goal);
            }
        }
    }

    /// Somebody who is known to be so far from the target.
    fn by_distance(&mut self, who: Who, distance: f64, goal: &Goal<'_>) {
        if self.worth(who, distance, goal) <= self.limit
            && let Some(known) = self.around.known(who)
        {
            self.consider(who, &known, goal, distance);
        }
    }

    fn by_word(&mut self, tree: TreeId, who: Who, known: &Known<'a>, goal: &Goal<'_>) {
        if let Some(address) = known.addresses.in_tree(tree)
            && let Some(distance) = self.metric.between(address, goal, self.limit)
        {
            self.consider(who, known, goal, distance);
        }
    }

    /// What a neighbour is worth with an address at this distance from the goal.
    fn worth(&self, who: Who, distance: f64, goal: &Goal<'_>) -> f64 {
        let phi = goal.price(distance, self.metric.scale());
        if matches!(who.which, Which::Beyond(_)) { self.metric.scale().dearer(phi) } else { phi }
    }

    fn consider(&mut self, who: Who, known: &Known<'a>, goal: &Goal<'_>, distance: f64) {
        let (worth, pair) = (self.worth(who, distance, goal), goal.pair);
        if worth > self.limit {
            return;
        }
        self.limit = self.limit.min(self.metric.scale().limit(worth));
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
    fn choice(mut self) -> Option<Best> {
        let scale = self.metric.scale();
        self.found.sort_unstable_by_key(|found| found.id);
        let better = |new: &Found<'_>, old: &Found<'_>| {
            scale.gains(new.worth, old.worth) || (!scale.gains(old.worth, new.worth) && new.load_bytes < old.load_bytes)
        };
        let best = self.found.iter().reduce(|old, new| if better(new, old) { new } else { old })?;
        Some(Best { worth: scale.distance(best.worth), pair: best.pair, link: best.link })
    }
}

/// How many entries it is true for, where it is for none after the first that it is not true for.
fn leading(entries: &[Entry], is_one: impl Fn(&Entry) -> bool) -> usize {
    /// Mostly it is a few.
    const FEW: usize = 8;
    let few = entries.iter().take(FEW).take_while(|entry| is_one(entry)).count();
    if few < FEW { few } else { entries.partition_point(is_one) }
}
