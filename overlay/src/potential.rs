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

use smallvec::SmallVec;

use crate::address::{Address, AddressSet, MAX_TREES, TreeId};
use crate::hyperbolic::{Frames, Head, Letters, Plane, distance_of};
use crate::id::NodeId;
use crate::io::LinkId;
use crate::wire::packet::{Header, MAX_HINTS};

/// Price of going by a hint or an advertised link, in edges.
const KAPPA_EDGES: f64 = 0.75;
/// A step has to gain at least this, in units of the plane: above the error of the distances, below the least gain of a tree step.
const EPSILON: f64 = 1e-3;
/// Whoever is worth so much more than another is not chosen, whatever their links carry: far more than [`EPSILON`].
const OF_NO_USE: f64 = 0.1;
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
            plane.bound(&mut frames);
            Goal { tree, address, pair: pair(tree, number), by_hint: number > 0, frames: fits.then_some(frames) }
        })
    })
    .collect()
}

/// The goals that are still tried, by tree.
struct ByTree<'a>([SmallVec<[Tried<'a>; TARGETS]>; MAX_TREES]);

#[derive(Clone, Copy)]
struct Tried<'a> {
    goal: &'a Goal<'a>,
    letters: Letters<'a>,
    by_hint: bool,
}

impl Tried<'_> {
    /// At least what an address of `len` letters is worth of which `common` are those of the goal.
    fn bound(&self, common: usize, len: usize, scale: &Scale) -> f64 {
        let frames = self.goal.frames.as_ref();
        let bound = frames.map_or(0.0, |frames| frames.exp_distance_bound(self.letters.len() - common, len - common));
        if self.by_hint { scale.dearer(bound) } else { bound }
    }
}

impl<'a> ByTree<'a> {
    fn of(goals: &'a [Goal<'a>], mask: u32) -> Self {
        let tried = |goal: &&Goal<'_>| mask >> goal.pair & 1 == 1;
        let in_tree = |tree: TreeId| goals.iter().filter(move |goal| goal.tree == tree).filter(tried);
        let ready =
            |goal: &'a Goal<'a>| Tried { goal, letters: Letters::of(goal.address.as_slice()), by_hint: goal.by_hint };
        Self(TreeId::ALL.map(|tree| in_tree(tree).map(ready).collect()))
    }

    /// Those of each tree that there are some in.
    fn tried(&self) -> impl Iterator<Item = (TreeId, &[Tried<'a>])> {
        TreeId::ALL
            .into_iter()
            .zip(&self.0)
            .map(|(tree, goals)| (tree, goals.as_slice()))
            .filter(|(_, goals)| !goals.is_empty())
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
    /// Takes kappa away.
    less_kappa: f64,
    /// Takes epsilon away.
    epsilon: f64,
    /// Adds [`OF_NO_USE`].
    of_no_use: f64,
}

impl Scale {
    fn linear(plane: &Plane) -> Self {
        let kappa = kappa(plane);
        Self { exponential: false, kappa, less_kappa: -kappa, epsilon: -EPSILON, of_no_use: OF_NO_USE }
    }

    fn exponential(plane: &Plane) -> Self {
        let Self { kappa, less_kappa, epsilon, of_no_use, .. } = Self::linear(plane);
        let [kappa, less_kappa, epsilon, of_no_use] = [kappa, less_kappa, epsilon, of_no_use].map(libm::exp);
        Self { exponential: true, kappa, less_kappa, epsilon, of_no_use }
    }

    fn shift(&self, value: f64, by: f64) -> f64 {
        if self.exponential { value * by } else { value + by }
    }

    /// `value` and the price of going by a hint or an advertised link.
    fn dearer(&self, value: f64) -> f64 {
        self.shift(value, self.kappa)
    }

    /// `value` without that price.
    fn cheaper(&self, value: f64) -> f64 {
        self.shift(value, self.less_kappa)
    }

    /// Who is worth more is not chosen when somebody is worth `value`.
    fn limit(&self, value: f64) -> f64 {
        self.shift(value, self.of_no_use)
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
    goals
        .iter()
        .any(|tried| head.common(&tried.letters).is_none_or(|common| tried.bound(common, head.depth(), scale) < limit))
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
                    adverts: links[n].iter().take(16).map(|&x| (&sets[x]).into()).collect(),
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

    /// What is left out because it cannot be of use changes nothing: the choice is that of comparing all with all.
    #[test]
    fn chooses_as_if_all_were_compared() {
        let mut rng = Rng::from_seed([9; 32]);
        let mut given_up = 0;
        for q in [4, 16, 64] {
            let plane = Plane::new(q).unwrap();
            let linear = Scale::linear(&plane);
            let trees: Vec<_> = (0..MAX_TREES).map(|_| random_tree(300, u64::from(q), &mut rng)).collect();
            let set = |rng: &mut Rng| {
                let mut set = AddressSet::default();
                for (tree, vertices) in TreeId::ALL.into_iter().zip(&trees) {
                    if rng.below(5) > 0 {
                        set.insert(tree, vertices[rng.index(vertices.len())].clone());
                    }
                }
                set
            };
            for round in 0..500 {
                let sets: Vec<Vec<AddressSet>> = (0..8).map(|_| (0..9).map(|_| set(&mut rng)).collect()).collect();
                let heads: Vec<Vec<Heads>> =
                    sets.iter().map(|sets| sets[2..].iter().map(Heads::of).collect()).collect();
                let loads: Vec<usize> = sets.iter().map(|_| rng.index(3) * 1000).collect();
                let neighbours: Vec<_> = sets
                    .iter()
                    .zip(&heads)
                    .zip(loads)
                    .enumerate()
                    .map(|(number, ((sets, heads), load_bytes))| NeighbourView {
                        link: LinkId(number as u64),
                        id: id(1000 + number),
                        addresses: &sets[0],
                        held: &sets[1..2],
                        adverts: sets[2..]
                            .iter()
                            .zip(heads)
                            .map(|(addresses, heads)| Beyond { addresses, heads: Some(heads) })
                            .collect(),
                        load_bytes,
                    })
                    .collect();
                let place = Place { addresses: set(&mut rng), seq: 1 };
                let mut header = Header::new(Kind::Data, id(1), place.clone(), id(2), place, 0);
                header.hints = (0..4).map(|_| set(&mut rng)).collect();
                // Some packets have come far: for these nobody is of use, until a pair has been given up.
                header.last = if round % 2 == 0 { f64::INFINITY } else { rng.index(20) as f64 };
                let goals = goals(&plane, &header);
                let (mut mask, mut last) = (header.mask, header.last);
                let expected = loop {
                    let tried = ByTree::of(&goals, mask);
                    let all = |at: &Beyond<'_>, _| potential(&plane, &tried, at.addresses, &linear);
                    let Some(best) = best_neighbour(&neighbours, all, &linear) else { break None };
                    if best.worth < last - EPSILON {
                        break Some(best.link);
                    }
                    (mask, last) = (mask & !(1 << best.pair), f64::INFINITY);
                    given_up += 1;
                };
                drop(goals);
                assert_eq!(next_hop(&plane, &mut header, &neighbours), expected, "q = {q}");
                assert_eq!(header.mask, mask);
            }
        }
        assert!(given_up > 100);
    }

    #[test]
    fn gives_up_when_no_neighbour_is_of_use() {
        let plane = Plane::new(8).unwrap();
        let place = |text: &str| Place { addresses: AddressSet::single(text.parse().unwrap()), seq: 1 };
        let mut header = Header::new(Kind::Data, id(1), place("/0"), id(2), place("/1"), 0);
        assert_eq!(next_hop(&plane, &mut header, &[]), None);
        let far = AddressSet::single("/0/0/0".parse().unwrap());
        let neighbour = NeighbourView {
            link: LinkId(1),
            id: id(3),
            addresses: &far,
            held: &[],
            adverts: SmallVec::new(),
            load_bytes: 0,
        };
        // From the source anything goes; from the next node nothing that is not nearer.
        assert_eq!(next_hop(&plane, &mut header, std::slice::from_ref(&neighbour)), Some(LinkId(1)));
        header.last = 0.5;
        header.mask = 1;
        assert_eq!(next_hop(&plane, &mut header, &[neighbour]), None);
        assert_eq!(header.mask, 0);
    }
}
