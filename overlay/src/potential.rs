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
use crate::hyperbolic::Plane;
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
    loop {
        let best = best_neighbour(plane, header, neighbours)?;
        if best.worth < header.last - EPSILON {
            header.last = best.worth;
            return Some(best.link);
        }
        header.mask &= !(1 << best.pair);
        header.last = f64::INFINITY;
    }
}

/// Edge length times [`KAPPA_EDGES`].
fn kappa(plane: &Plane) -> f64 {
    KAPPA_EDGES * plane.edge_length()
}

struct Best {
    worth: f64,
    pair: usize,
    link: LinkId,
}

fn best_neighbour(plane: &Plane, header: &Header, neighbours: &[NeighbourView<'_>]) -> Option<Best> {
    let mut best: Option<(Best, usize)> = None;
    for neighbour in neighbours {
        let Some((worth, pair)) = worth(plane, header, neighbour) else { continue };
        let better = best.as_ref().is_none_or(|(old, load)| {
            worth < old.worth - EPSILON || (worth < old.worth + EPSILON && neighbour.load_bytes < *load)
        });
        if better {
            best = Some((Best { worth, pair, link: neighbour.link }, neighbour.load_bytes));
        }
    }
    best.map(|(best, _)| best)
}

/// m(v) of a neighbour, and the pair it comes from.
fn worth(plane: &Plane, header: &Header, neighbour: &NeighbourView<'_>) -> Option<(f64, usize)> {
    let own = potential(plane, header, neighbour.addresses);
    let beyond = neighbour.adverts.iter().filter_map(|addresses| potential(plane, header, addresses));
    let beyond = beyond.map(|(phi, pair)| (phi + kappa(plane), pair));
    own.into_iter().chain(beyond).min_by(|a, b| a.0.total_cmp(&b.0))
}

/// phi(v): the least distance over the pairs that the packet still tries, and that pair.
fn potential(plane: &Plane, header: &Header, at: &AddressSet) -> Option<(f64, usize)> {
    let targets = core::iter::once(&header.target).chain(&header.hints).take(TARGETS).enumerate();
    let mut least: Option<(f64, usize)> = None;
    for (number, target) in targets {
        let price = if number == 0 { 0.0 } else { kappa(plane) };
        if number > 0 && header.strikes >> (number - 1) & 1 == 1 {
            continue;
        }
        for (tree, goal) in target.iter() {
            let pair = pair(tree, number);
            let Some(from) = at.in_tree(tree).filter(|_| header.mask >> pair & 1 == 1) else { continue };
            let phi = distance(plane, from, goal) + price;
            if least.is_none_or(|(best, _)| phi < best) {
                least = Some((phi, pair));
            }
        }
    }
    least
}

fn distance(plane: &Plane, a: &Address, b: &Address) -> f64 {
    plane.distance(a, b)
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
        let neighbour = NeighbourView { link: LinkId(1), id: id(3), addresses: &far, adverts: vec![], load_bytes: 0 };
        // From the source anything goes; from the next node nothing that is not nearer.
        assert_eq!(next_hop(&plane, &mut header, std::slice::from_ref(&neighbour)), Some(LinkId(1)));
        header.last = 0.5;
        header.mask = 1;
        assert_eq!(next_hop(&plane, &mut header, &[neighbour]), None);
        assert_eq!(header.mask, 0);
    }
}
