//! The forwarding rule: greedy in hyperbolic distance, strictly decreasing, made better by knowing a little more.
//!
//! For a node v, the *potential* is the least of the distances from v to the target over all trees, where a hint (a neighbour of
//! the target) may stand for the target at a price of kappa = 0.75 edges. A neighbour is worth its own potential or, at the price of kappa,
//! that of the best link it advertised: so a node sees two hops. The packet goes to the neighbour that is worth most if that is
//! strictly less than what the packet carries as `last`. Otherwise the (tree, target) pair that looked best is cleared from the
//! packet's mask and `last` begins anew. It cannot loop: `last` falls strictly between changes of the mask, which only shrinks.
//! On an intact tree it arrives: each node but the target has a tree neighbour that is strictly better.
//!
//! Only few of those around are ever looked at: their addresses are sorted ([`Index`]), and most branches of a tree are farther away than the best that was
//! found. So a decision takes not much more time with thousands of neighbours than with a few. That changes no choice.
//!
//! Greedy forwarding over hyperbolic coordinates is CLOAK's (Cassagnes, Tiendrebeogo, Bromberg and Magoni, ISCC 2011).

mod goals;
mod index;
mod metric;
mod scale;
mod search;

use crate::address::{AddressSet, MAX_TREES, TreeId};
use crate::hyperbolic::Plane;
use crate::id::NodeId;
use crate::io::LinkId;
use crate::wire::packet::{Header, MAX_HINTS};
use goals::{ByTree, Goal, goals, is_any_deep};
pub use index::{Index, Which, Who};
use metric::{Framed, Plain};
use search::Search;

/// A step has to gain at least this, in units of the plane: above the error of the distances, below the least gain of a tree step.
const EPSILON: f64 = 1e-3;
/// Targets of a packet: the destination and its hints.
const TARGETS: usize = 1 + MAX_HINTS;

const _: () = assert!(MAX_TREES * TARGETS <= 32, "one bit of the mask for each pair");

/// What a node that forwards knows of those around it.
pub trait Surroundings {
    /// Their addresses.
    fn index(&self) -> &Index;

    /// Whose one of these is; none for one that the packet is not to go by.
    fn known(&self, who: Who) -> Option<Known<'_>>;
}

/// What a neighbour is known by.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The link to it.
    pub link: LinkId,
    /// Who it is.
    pub id: &'a NodeId,
    /// Where it is, or somebody of whom it told.
    pub addresses: &'a AddressSet,
    /// Bytes that wait on the link: decides between equals.
    pub load_bytes: usize,
}

/// Chooses the link on which the packet with `header` goes on, and writes into the header what the choice changed: `last`, and
/// the mask when pairs had to be given up. None when nobody around is of use: the packet cannot be delivered from here.
/// A neighbour that is the destination gets the packet without being asked for it here.
pub fn next_hop<S: Surroundings>(plane: &Plane, header: &mut Header, around: &S) -> Option<LinkId> {
    let (mut mask, mut last) = (header.mask, header.last);
    let chosen = {
        let goals = goals(plane, header);
        loop {
            let Some(best) = best_around(plane, around, &goals, mask, &header.to()) else { break None };
            if best.worth < last - EPSILON {
                last = best.worth;
                break Some(best.link);
            }
            mask &= !(1 << best.pair);
            last = f64::INFINITY;
        }
    };
    (header.mask, header.last) = (mask, last);
    chosen
}

fn best_around<S: Surroundings>(
    plane: &Plane,
    around: &S,
    goals: &[Goal<'_>],
    mask: u32,
    destination: &NodeId,
) -> Option<Best> {
    let tried = ByTree::of(goals, mask);
    if !is_any_deep(goals) {
        let best = Search::new(around, Framed::new(plane)).best(&tried, destination)?;
        // What overflows cannot be compared.
        if best.worth.is_finite() {
            return Some(best);
        }
    }
    Search::new(around, Plain::new(plane)).best(&tried, destination)
}

/// The neighbour that is worth most, nearer or not: for the depth first search around what is dead.
pub fn nearest<S: Surroundings>(plane: &Plane, header: &Header, around: &S) -> Option<LinkId> {
    let mut fresh = Header { last: f64::INFINITY, ..header.clone() };
    next_hop(plane, &mut fresh, around)
}

/// The bit of the mask that stands for the target's own address in `tree`.
pub const fn pair_of_target(tree: TreeId) -> usize {
    tree.index() * TARGETS
}

struct Best {
    /// As a distance.
    worth: f64,
    pair: usize,
    link: LinkId,
}

#[cfg(test)]
mod tests;
