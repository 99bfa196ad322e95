//! Where a packet wants to go: pairs of a tree and a target in it.

use core::cell::OnceCell;

use smallvec::SmallVec;

use super::TARGETS;
use super::scale::Scale;
use crate::address::{Address, MAX_TREES, TreeId};
use crate::hyperbolic::{Frames, Plane, Seen};
use crate::wire::packet::Header;

/// One (tree, target) pair.
pub(super) struct Goal<'a> {
    pub tree: TreeId,
    pub address: &'a Address,
    pub pair: usize,
    /// The target stands for the destination, at the price of kappa.
    by_hint: bool,
    /// None when it is too deep for the fast form.
    pub frames: Option<Frames>,
    /// What [`Plane::seen_on_the_way`] says of it, where it had to be found out.
    pub seen: OnceCell<Vec<Option<Seen>>>,
}

impl Goal<'_> {
    /// What somebody is worth at this distance.
    pub fn price(&self, distance: f64, scale: &Scale) -> f64 {
        if self.by_hint { scale.dearer(distance) } else { distance }
    }
}

/// The pairs of a packet, without those whose hint was struck, and without words that lead nowhere.
pub(super) fn goals<'a>(plane: &Plane, header: &'a Header) -> Vec<Goal<'a>> {
    let targets = core::iter::once(&header.target).chain(&header.hints).take(TARGETS).enumerate();
    let live = targets.filter(|(number, _)| *number == 0 || header.strikes >> (number - 1) & 1 == 0);
    live.flat_map(|(number, target)| {
        let vertices = target.iter().filter(|(_, address)| plane.is_vertex(address.as_slice()));
        vertices.map(move |(tree, address)| {
            let mut frames = Frames::default();
            let fits = plane.frames(address.as_slice(), &mut frames);
            Goal {
                tree,
                address,
                pair: pair(tree, number),
                by_hint: number > 0,
                frames: fits.then_some(frames),
                seen: OnceCell::new(),
            }
        })
    })
    .collect()
}

/// Whether one of these is too deep for frames.
pub(super) fn is_any_deep(goals: &[Goal<'_>]) -> bool {
    goals.iter().any(|goal| goal.frames.is_none())
}

/// The goals that are still tried, by tree.
pub(super) struct ByTree<'a>([SmallVec<[&'a Goal<'a>; TARGETS]>; MAX_TREES]);

impl<'a> ByTree<'a> {
    pub fn of(goals: &'a [Goal<'a>], mask: u32) -> Self {
        let tried = |goal: &&Goal<'_>| mask >> goal.pair & 1 == 1;
        let in_tree = |tree: TreeId| goals.iter().filter(move |goal| goal.tree == tree).filter(tried);
        Self(TreeId::ALL.map(|tree| in_tree(tree).collect()))
    }

    /// Those of each tree that there are some in.
    pub fn tried(&self) -> impl Iterator<Item = (TreeId, &[&'a Goal<'a>])> {
        TreeId::ALL
            .into_iter()
            .zip(&self.0)
            .map(|(tree, goals)| (tree, goals.as_slice()))
            .filter(|(_, goals)| !goals.is_empty())
    }
}

fn pair(tree: TreeId, target: usize) -> usize {
    tree.index() * TARGETS + target
}
