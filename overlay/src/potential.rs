//! The forwarding rule: greedy in hyperbolic distance, strictly decreasing, made better by knowing a little more.
//!
//! For a node v, the *potential* is the least of the distances from v to the target over all trees, where a hint (a neighbour of
//! the target) may stand for the target at a price of kappa = 0.75 edges. A neighbour is worth its own potential or, at the price of kappa,
//! that of the best link it advertised: so a node sees two hops. The packet goes to the neighbour that is worth most if that is
//! strictly less than what the packet carries as `last`. Otherwise the (tree, target) pair that looked best is cleared from the
//! packet's mask and `last` begins anew. It cannot loop: `last` falls strictly between changes of the mask, which only shrinks.
//! On an intact tree it arrives: each node but the target has a tree neighbour that is strictly better.
//!
//! Most of those two hops away are of no use, which is seen without working their distances out ([`Frames::exp_distance_bound`]), and mostly by the
//! first letters of their addresses alone ([`Heads`]). That changes no choice.
//!
//! Greedy forwarding over hyperbolic coordinates is CLOAK's (Cassagnes, Tiendrebeogo, Bromberg and Magoni, ISCC 2011).

mod goals;
mod scale;

use smallvec::SmallVec;

use crate::address::{Address, AddressSet, MAX_TREES, TreeId};
use crate::hyperbolic::{Frames, Head, Letters, Plane};
use crate::id::NodeId;
use crate::io::LinkId;
use crate::wire::packet::{Header, MAX_HINTS};
use goals::{ByTree, Tried, goals};
use scale::Scale;

/// A step has to gain at least this, in units of the plane: above the error of the distances, below the least gain of a tree step.
const EPSILON: f64 = 1e-3;
/// Adverts of one neighbour that are kept in place.
const USUAL_ADVERTS: usize = 16;
/// Links of most nodes.
const USUAL_LINKS: usize = 16;
/// Targets of a packet: the destination and its hints.
const TARGETS: usize = 1 + MAX_HINTS;

const _: () = assert!(MAX_TREES * TARGETS <= 32, "one bit of the mask for each pair");

/// A live neighbour, as a forwarding node knows it.
#[derive(Clone, Debug)]
pub struct NeighbourView<'a> {
    /// The link to it.
    pub link: LinkId,
    /// Who it is.
    pub id: NodeId,
    /// Where it is.
    pub addresses: &'a AddressSet,
    /// Where it stands in for dead nodes.
    pub held: &'a [AddressSet],
    /// Where those are to whom it says it has links.
    pub adverts: SmallVec<[Beyond<'a>; USUAL_ADVERTS]>,
    /// Bytes that wait on the link: decides between equals.
    pub load_bytes: usize,
}

/// Somebody to whom a neighbour says it has a link.
#[derive(Clone, Copy, Debug)]
pub struct Beyond<'a> {
    /// Where it is.
    pub addresses: &'a AddressSet,
    /// How these begin, where that is at hand: most are of no use, and then they themselves need not be read.
    pub heads: Option<&'a Heads>,
}

impl<'a> From<&'a AddressSet> for Beyond<'a> {
    fn from(addresses: &'a AddressSet) -> Self {
        Self { addresses, heads: None }
    }
}

/// How the addresses of a set begin; none in trees without one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heads([Option<Head>; MAX_TREES]);

impl Heads {
    /// Of this set.
    pub fn of(addresses: &AddressSet) -> Self {
        Self(TreeId::ALL.map(|tree| addresses.in_tree(tree).map(|address| Head::of(address.as_slice()))))
    }
}

/// Chooses the link on which the packet with `header` goes on, and writes into the header what the choice changed: `last`, and
/// the mask when pairs had to be given up. None when no neighbour is of use: the packet cannot be delivered from here.
pub fn next_hop(plane: &Plane, header: &mut Header, neighbours: &[NeighbourView<'_>]) -> Option<LinkId> {
    let destination = header.to();
    if let Some(direct) = neighbours.iter().find(|neighbour| neighbour.id == destination) {
        header.last = 0.0;
        return Some(direct.link);
    }
    let (mut mask, mut last) = (header.mask, header.last);
    let chosen = {
        let goals = goals(plane, header);
        let mut fast = goals.iter().all(|goal| goal.frames.is_some()).then(|| Fast::new(plane));
        let linear = Scale::linear(plane);
        loop {
            let tried = ByTree::of(&goals, mask);
            let by_frames = fast.as_mut().and_then(|fast| fast.best_neighbour(&tried, neighbours).ok());
            if by_frames.is_none() {
                fast = None;
            }
            let best = by_frames.unwrap_or_else(|| {
                best_neighbour(neighbours, |at, _| potential(plane, &tried, at.addresses, &linear), &linear)
            });
            let Some(best) = best else { break None };
            let worth = fast.as_ref().map_or(&linear, |fast| &fast.scale).distance(best.worth);
            if worth < last - EPSILON {
                last = worth;
                break Some(best.link);
            }
            mask &= !(1 << best.pair);
            last = f64::INFINITY;
        }
    };
    (header.mask, header.last) = (mask, last);
    chosen
}

/// The neighbour that is worth most, nearer or not: for the depth first search around what is dead.
pub fn nearest(plane: &Plane, header: &Header, neighbours: &[NeighbourView<'_>]) -> Option<LinkId> {
    let mut fresh = Header { last: f64::INFINITY, ..header.clone() };
    next_hop(plane, &mut fresh, neighbours)
}

/// The bit of the mask that stands for the target's own address in `tree`.
pub const fn pair_of_target(tree: TreeId) -> usize {
    tree.index() * TARGETS
}

struct Best {
    worth: f64,
    pair: usize,
    link: LinkId,
}

/// The neighbour of least m(v), where `potential` gives phi and the pair that it comes from, or anything for whom it finds to be worth more than the limit that it is
/// given.
fn best_neighbour(
    neighbours: &[NeighbourView<'_>],
    mut potential: impl FnMut(&Beyond<'_>, f64) -> Option<(f64, usize)>,
    scale: &Scale,
) -> Option<Best> {
    // First all by themselves: then most of those beyond them are seen to be of no use without looking closely.
    let mut limit = f64::INFINITY;
    let alone: SmallVec<[_; USUAL_LINKS]> = neighbours
        .iter()
        .map(|neighbour| {
            let here = core::iter::once(neighbour.addresses).chain(neighbour.held);
            let least = here.filter_map(|at| potential(&at.into(), limit)).min_by(|a, b| a.0.total_cmp(&b.0));
            limit = least.map_or(limit, |(worth, _)| limit.min(scale.limit(worth)));
            least
        })
        .collect();
    let mut best: Option<(Best, usize)> = None;
    for (neighbour, mut least) in neighbours.iter().zip(alone) {
        for beyond in &neighbour.adverts {
            let wanted = least.map_or(limit, |(worth, _)| limit.min(worth));
            let Some((phi, pair)) = potential(beyond, scale.cheaper(wanted)) else { continue };
            let worth = scale.dearer(phi);
            if least.is_none_or(|(best, _)| worth < best) {
                least = Some((worth, pair));
            }
        }
        let Some((worth, pair)) = least else { continue };
        limit = limit.min(scale.limit(worth));
        let better = best.as_ref().is_none_or(|(old, load)| {
            scale.gains(worth, old.worth) || (!scale.gains(old.worth, worth) && neighbour.load_bytes < *load)
        });
        if better {
            best = Some((Best { worth, pair, link: neighbour.link }, neighbour.load_bytes));
        }
    }
    best.map(|(best, _)| best)
}

/// phi(v): the least distance over the pairs that the packet still tries, and that pair.
fn potential(plane: &Plane, goals: &ByTree<'_>, at: &AddressSet, scale: &Scale) -> Option<(f64, usize)> {
    let pairs = at.iter().flat_map(|(tree, from)| goals.in_tree(tree).iter().map(move |goal| (from, goal)));
    let of_pair = |(from, tried): (&Address, &Tried<'_>)| {
        let distance = plane.distance(from, tried.goal.address);
        (if tried.by_hint { scale.dearer(distance) } else { distance }, tried.goal.pair)
    };
    pairs.map(of_pair).min_by(|a, b| a.0.total_cmp(&b.0))
}

/// Distances on the exponential scale, by frames.
struct Fast<'a> {
    plane: &'a Plane,
    scale: Scale,
    /// Room for those of one address.
    frames: Frames,
}

/// An address is too deep for frames.
struct TooDeep;

impl<'a> Fast<'a> {
    fn new(plane: &'a Plane) -> Self {
        Self { plane, scale: Scale::exponential(plane), frames: Frames::default() }
    }

    fn best_neighbour(
        &mut self,
        goals: &ByTree<'_>,
        neighbours: &[NeighbourView<'_>],
    ) -> Result<Option<Best>, TooDeep> {
        let Self { plane, scale, frames } = self;
        let mut deep = false;
        let phi = |at: &Beyond<'_>, limit| {
            potential_fast(plane, goals, at, limit, scale, frames).unwrap_or_else(|TooDeep| {
                deep = true;
                None
            })
        };
        let best = best_neighbour(neighbours, phi, scale);
        if deep { Err(TooDeep) } else { Ok(best) }
    }
}

/// Whether any of the goals in its tree may be nearer to an address that begins like this than `limit`.
fn may_be_near(head: Head, goals: &[Tried<'_>], limit: f64, scale: &Scale) -> bool {
    goals.iter().any(|tried| {
        head.common(&tried.letters.head).is_none_or(|common| tried.bound(common, head.depth(), scale) < limit)
    })
}

/// phi(v) where that may be below `limit`.
fn potential_fast(
    plane: &Plane,
    goals: &ByTree<'_>,
    at: &Beyond<'_>,
    limit: f64,
    scale: &Scale,
    frames: &mut Frames,
) -> Result<Option<(f64, usize)>, TooDeep> {
    let mut least: Option<(f64, usize)> = None;
    for (tree, goals) in goals.tried() {
        if at
            .heads
            .is_some_and(|Heads(heads)| heads[tree.index()].is_none_or(|head| !may_be_near(head, goals, limit, scale)))
        {
            continue;
        }
        let Some(from) = at.addresses.in_tree(tree) else { continue };
        let word = from.as_slice();
        let letters = Letters::of(word);
        let mut common = [None; TARGETS];
        let mut above = None;
        for (common, tried) in common.iter_mut().zip(goals) {
            let same = letters.common(&tried.letters);
            if tried.bound(same, word.len(), scale) < limit {
                *common = Some(same);
                above = Some(above.map_or(same, |above: usize| above.min(same)));
            }
        }
        let Some(above) = above else { continue };
        if !plane.frames_below(word, above, frames) {
            return Err(TooDeep);
        }
        for (common, tried) in common.into_iter().zip(goals) {
            let (Some(common), Some(of_goal)) = (common, &tried.goal.frames) else { continue };
            let distance = frames.exp_distance_above(word.len() - common, of_goal, tried.letters.len() - common);
            let phi = if tried.by_hint { scale.dearer(distance) } else { distance };
            if least.is_none_or(|(best, _)| phi < best) {
                least = Some((phi, tried.goal.pair));
            }
        }
    }
    Ok(least)
}

#[cfg(test)]
mod tests;
