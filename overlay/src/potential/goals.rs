//! Where a packet wants to go: pairs of a tree and a target in it.

use smallvec::SmallVec;

use super::TARGETS;
use super::scale::Scale;
use crate::address::{Address, MAX_TREES, TreeId};
use crate::hyperbolic::{Frames, Letters, Plane};
use crate::wire::packet::Header;

/// One (tree, target) pair.
pub(super) struct Goal<'a> {
    pub tree: TreeId,
    pub address: &'a Address,
    pub pair: usize,
    /// The target stands for the destination, at the price of kappa.
    pub by_hint: bool,
    /// None when it is too deep for the fast form.
    pub frames: Option<Frames>,
}

/// The pairs of a packet, without those whose hint was struck.
pub(super) fn goals<'a>(plane: &Plane, header: &'a Header) -> Vec<Goal<'a>> {
    let targets = core::iter::once(&header.target).chain(&header.hints).take(TARGETS).enumerate();
    let live = targets.filter(|(number, _)| *number == 0 || header.strikes >> (number - 1) & 1 == 0);
    live.flat_map(|(number, target)| {
        target.iter().map(move |(tree, address)| {
            let mut frames = Frames::default();
            let fits = plane.frames(address.as_slice(), &mut frames);
            plane.bound(&mut frames);
            Goal { tree, address, pair: pair(tree, number), by_hint: number > 0, frames: fits.then_some(frames) }
        })
    })
    .collect()
}

/// The goals that are still tried, by tree.
pub(super) struct ByTree<'a>([SmallVec<[Tried<'a>; TARGETS]>; MAX_TREES]);

/// One of them.
#[derive(Clone, Copy)]
pub(super) struct Tried<'a> {
    pub goal: &'a Goal<'a>,
    pub letters: Letters<'a>,
    pub by_hint: bool,
}

impl Tried<'_> {
    /// A lower bound of what an address of `len` letters is worth of which `common` are those of the goal.
    pub fn bound(&self, common: usize, len: usize, scale: &Scale) -> f64 {
        let frames = self.goal.frames.as_ref();
        let bound = frames.map_or(0.0, |frames| frames.exp_distance_bound(self.letters.len() - common, len - common));
        if self.by_hint { scale.dearer(bound) } else { bound }
    }
}

impl<'a> ByTree<'a> {
    pub fn of(goals: &'a [Goal<'a>], mask: u32) -> Self {
        let tried = |goal: &&Goal<'_>| mask >> goal.pair & 1 == 1;
        let in_tree = |tree: TreeId| goals.iter().filter(move |goal| goal.tree == tree).filter(tried);
        let ready =
            |goal: &'a Goal<'a>| Tried { goal, letters: Letters::of(goal.address.as_slice()), by_hint: goal.by_hint };
        Self(TreeId::ALL.map(|tree| in_tree(tree).map(ready).collect()))
    }

    /// Those of each tree that there are some in.
    pub fn tried(&self) -> impl Iterator<Item = (TreeId, &[Tried<'a>])> {
        TreeId::ALL
            .into_iter()
            .zip(&self.0)
            .map(|(tree, goals)| (tree, goals.as_slice()))
            .filter(|(_, goals)| !goals.is_empty())
    }

    pub fn in_tree(&self, tree: TreeId) -> &[Tried<'a>] {
        &self.0[tree.index()]
    }
}

fn pair(tree: TreeId, target: usize) -> usize {
    tree.index() * TARGETS + target
}
