//! The forwarding rule: greedy in hyperbolic distance, strictly decreasing, made better by knowing a little more.
//!
//! For a node v, the *potential* is the least of the distances from v to the target over all trees, where a hint (a neighbour of
//! the target) may stand for the target at a price of kappa = 0.75 edges. A neighbour is worth its own potential or, at the price of kappa,
//! that of the best link it advertised: so a node sees two hops. The packet goes to the neighbour that is worth most if that is
//! strictly less than what the packet carries as `last`. Otherwise the (tree, target) pair that looked best is cleared from the
//! packet's mask and `last` begins anew. It cannot loop: `last` falls strictly between changes of the mask, which only shrinks.
//! On an intact tree it arrives: each node but the target has a tree neighbour that is strictly better.
//!
//! Greedy forwarding over hyperbolic coordinates is CLOAK's (Cassagnes, Tiendrebeogo, Bromberg and Magoni, ISCC 2011).

use crate::address::{Address, AddressSet, MAX_TREES, TreeId};
use crate::hyperbolic::{Frames, Letters, Plane, distance_of};
use crate::id::NodeId;
use crate::io::LinkId;
use crate::wire::packet::{Header, MAX_HINTS};

/// Price of going by a hint or an advertised link, in edges.
const KAPPA_EDGES: f64 = 0.75;
/// A step has to gain at least this, in units of the plane: above the error of the distances, below the least gain of a tree step.
const EPSILON: f64 = 1e-3;
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
    pub adverts: Vec<&'a AddressSet>,
    /// Bytes that wait on the link: decides between equals.
    pub load_bytes: usize,
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
        let fast = goals.iter().all(|goal| goal.frames.is_some())
            && neighbours.iter().flat_map(NeighbourView::candidates).all(|at| plane.reaches(at));
        let scale = if fast { Scale::exponential(plane) } else { Scale::linear(plane) };
        let mut frames = Frames::default();
        loop {
            let tried = ByTree::of(&goals, mask);
            let phi = |at: &AddressSet| match fast {
                true => potential_fast(plane, &tried, at, &scale, &mut frames),
                false => potential(plane, &tried, at, &scale),
            };
            let Some(best) = best_neighbour(neighbours, phi, &scale) else { break None };
            let worth = scale.distance(best.worth);
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

/// Edge length times [`KAPPA_EDGES`].
fn kappa(plane: &Plane) -> f64 {
    KAPPA_EDGES * plane.edge_length()
}

/// One (tree, target) pair.
struct Goal<'a> {
    tree: TreeId,
    address: &'a Address,
    pair: usize,
    /// The target stands for the destination, at the price of kappa.
    by_hint: bool,
    /// None when it is too deep for the fast form.
    frames: Option<Frames>,
}

/// The pairs of a packet, without those whose hint was struck.
fn goals<'a>(plane: &Plane, header: &'a Header) -> Vec<Goal<'a>> {
    let targets = core::iter::once(&header.target).chain(&header.hints).take(TARGETS).enumerate();
    let live = targets.filter(|(number, _)| *number == 0 || header.strikes >> (number - 1) & 1 == 0);
    live.flat_map(|(number, target)| {
        target.iter().map(move |(tree, address)| {
            let mut frames = Frames::default();
            let fits = plane.frames(address.as_slice(), &mut frames);
            Goal { tree, address, pair: pair(tree, number), by_hint: number > 0, frames: fits.then_some(frames) }
        })
    })
    .collect()
}

/// The goals that are still tried, by tree.
struct ByTree<'a>([Vec<Tried<'a>>; MAX_TREES]);

#[derive(Clone, Copy)]
struct Tried<'a> {
    goal: &'a Goal<'a>,
    letters: Letters<'a>,
    by_hint: bool,
}

impl<'a> ByTree<'a> {
    fn of(goals: &'a [Goal<'a>], mask: u32) -> Self {
        let tried = |goal: &&Goal<'_>| mask >> goal.pair & 1 == 1;
        let in_tree = |tree: TreeId| goals.iter().filter(move |goal| goal.tree == tree).filter(tried);
        let ready =
            |goal: &'a Goal<'a>| Tried { goal, letters: Letters::of(goal.address.as_slice()), by_hint: goal.by_hint };
        Self(TreeId::ALL.map(|tree| in_tree(tree).map(ready).collect()))
    }

    fn in_tree(&self, tree: TreeId) -> &[Tried<'a>] {
        &self.0[tree.index()]
    }
}

/// How distances are held while they are compared: as they are, or as their exponentials, which cost no logarithm each.
struct Scale {
    exponential: bool,
    /// Adds kappa.
    kappa: f64,
    /// Takes epsilon away.
    epsilon: f64,
}

impl Scale {
    fn linear(plane: &Plane) -> Self {
        Self { exponential: false, kappa: kappa(plane), epsilon: -EPSILON }
    }

    fn exponential(plane: &Plane) -> Self {
        Self { exponential: true, kappa: libm::exp(kappa(plane)), epsilon: libm::exp(-EPSILON) }
    }

    fn shift(&self, value: f64, by: f64) -> f64 {
        if self.exponential { value * by } else { value + by }
    }

    /// `value` and the price of going by a hint or an advertised link.
    fn dearer(&self, value: f64) -> f64 {
        self.shift(value, self.kappa)
    }

    /// Whether `value` is less than `other` by more than epsilon.
    fn gains(&self, value: f64, other: f64) -> bool {
        value < self.shift(other, self.epsilon)
    }

    /// Back to a distance.
    fn distance(&self, value: f64) -> f64 {
        if self.exponential { distance_of(value) } else { value }
    }
}

struct Best {
    worth: f64,
    pair: usize,
    link: LinkId,
}

/// The neighbour of least m(v), where `potential` gives phi and the pair that it comes from.
fn best_neighbour(
    neighbours: &[NeighbourView<'_>],
    mut potential: impl FnMut(&AddressSet) -> Option<(f64, usize)>,
    scale: &Scale,
) -> Option<Best> {
    let mut best: Option<(Best, usize)> = None;
    for neighbour in neighbours {
        let mut least = potential(neighbour.addresses);
        for held in neighbour.held {
            least = [least, potential(held)].into_iter().flatten().min_by(|a, b| a.0.total_cmp(&b.0));
        }
        for beyond in &neighbour.adverts {
            let Some((phi, pair)) = potential(beyond) else { continue };
            let worth = scale.dearer(phi);
            if least.is_none_or(|(best, _)| worth < best) {
                least = Some((worth, pair));
            }
        }
        let Some((worth, pair)) = least else { continue };
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

/// The same on the exponential scale.
fn potential_fast(
    plane: &Plane,
    goals: &ByTree<'_>,
    at: &AddressSet,
    scale: &Scale,
    frames: &mut Frames,
) -> Option<(f64, usize)> {
    let mut least: Option<(f64, usize)> = None;
    for (tree, from) in at.iter() {
        let (word, goals) = (from.as_slice(), goals.in_tree(tree));
        let letters = Letters::of(word);
        let mut common = [0; TARGETS];
        let mut above = word.len();
        for (common, tried) in common.iter_mut().zip(goals) {
            *common = letters.common(&tried.letters);
            above = above.min(*common);
        }
        if goals.is_empty() || !plane.frames_below(word, above, frames) {
            continue;
        }
        for (common, tried) in common.into_iter().zip(goals) {
            let Some(of_goal) = &tried.goal.frames else { continue };
            let distance = frames.exp_distance_above(word.len() - common, of_goal, tried.letters.len() - common);
            let phi = if tried.by_hint { scale.dearer(distance) } else { distance };
            if least.is_none_or(|(best, _)| phi < best) {
                least = Some((phi, tried.goal.pair));
            }
        }
    }
    least
}

impl NeighbourView<'_> {
    /// Its own place, and those that it told of.
    fn candidates(&self) -> impl Iterator<Item = &AddressSet> {
        core::iter::once(self.addresses).chain(self.held).chain(self.adverts.iter().copied())
    }
}

fn pair(tree: TreeId, target: usize) -> usize {
    tree.index() * TARGETS + target
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use crate::address::Place;
    use crate::rng::Rng;
    use crate::wire::packet::Kind;

    fn random_tree(nodes: usize, q: u64, rng: &mut Rng) -> Vec<Address> {
        let mut tree = vec![Address::root()];
        let mut children = vec![0u8];
        while tree.len() < nodes {
            let parent = rng.below(tree.len() as u64) as usize;
            if u64::from(children[parent]) + 1 < q {
                let child = tree[parent].child(children[parent]).unwrap();
                children[parent] += 1;
                tree.push(child);
                children.push(0);
            }
        }
        tree
    }

    fn id(node: usize) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(node as u64).to_le_bytes());
        NodeId::from_bytes(bytes)
    }

    /// Carries a packet hop by hop; the number of links crossed, or none.
    fn route(plane: &Plane, tree: &[Address], links: &[Vec<usize>], from: usize, to: usize) -> Option<usize> {
        let sets: Vec<AddressSet> = tree.iter().map(|address| AddressSet::single(address.clone())).collect();
        let place = |node: usize| Place { addresses: sets[node].clone(), seq: 1 };
        let mut header = Header::new(Kind::Data, id(from), place(from), id(to), place(to), 0);
        let mut at = from;
        let mut last_seen = f64::INFINITY;
        for hops in 0..500 {
            if at == to {
                return Some(hops);
            }
            let neighbours: Vec<_> = links[at]
                .iter()
                .map(|&n| NeighbourView {
                    link: LinkId(n as u64),
                    id: id(n),
                    addresses: &sets[n],
                    held: &[],
                    adverts: links[n].iter().take(16).map(|&x| &sets[x]).collect(),
                    load_bytes: 0,
                })
                .collect();
            let mask = header.mask;
            let link = next_hop(plane, &mut header, &neighbours)?;
            assert!(header.mask != mask || header.last < last_seen, "last did not fall");
            last_seen = header.last;
            at = link.0 as usize;
        }
        None
    }

    #[test]
    fn arrives_on_every_intact_tree_with_and_without_shortcuts() {
        for (seed, q) in [(1, 3), (2, 4), (3, 8), (4, 32), (5, 256)] {
            let mut rng = Rng::from_seed([seed; 32]);
            let plane = Plane::new(u16::try_from(q).unwrap()).unwrap();
            let tree = random_tree(200, q, &mut rng);
            for extra in [0, 100] {
                let mut links: Vec<Vec<usize>> = vec![Vec::new(); tree.len()];
                for (node, address) in tree.iter().enumerate().skip(1) {
                    let parent = tree.iter().position(|other| Some(other) == address.parent().as_ref()).unwrap();
                    links[node].push(parent);
                    links[parent].push(node);
                }
                for _ in 0..extra {
                    let (a, b) = (rng.below(200) as usize, rng.below(200) as usize);
                    if a != b && !links[a].contains(&b) {
                        links[a].push(b);
                        links[b].push(a);
                    }
                }
                for _ in 0..300 {
                    let (from, to) = (rng.below(200) as usize, rng.below(200) as usize);
                    let hops = route(&plane, &tree, &links, from, to);
                    assert!(hops.is_some(), "q {q}: stuck from {:?} to {:?}", tree[from], tree[to]);
                    if extra == 0 {
                        assert_eq!(hops, Some(tree[from].tree_distance(&tree[to])));
                    }
                }
            }
        }
    }

    #[test]
    fn gives_up_when_no_neighbour_is_of_use() {
        let plane = Plane::new(8).unwrap();
        let place = |text: &str| Place { addresses: AddressSet::single(text.parse().unwrap()), seq: 1 };
        let mut header = Header::new(Kind::Data, id(1), place("/0"), id(2), place("/1"), 0);
        assert_eq!(next_hop(&plane, &mut header, &[]), None);
        let far = AddressSet::single("/0/0/0".parse().unwrap());
        let neighbour =
            NeighbourView { link: LinkId(1), id: id(3), addresses: &far, held: &[], adverts: vec![], load_bytes: 0 };
        // From the source anything goes; from the next node nothing that is not nearer.
        assert_eq!(next_hop(&plane, &mut header, std::slice::from_ref(&neighbour)), Some(LinkId(1)));
        header.last = 0.5;
        header.mask = 1;
        assert_eq!(next_hop(&plane, &mut header, &[neighbour]), None);
        assert_eq!(header.mask, 0);
    }
}
