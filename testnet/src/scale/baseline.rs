//! Baselines: routing as others do it, over the same links between the same pairs.
//!
//! These are models that see the whole network, unlike the overlay that they are compared with.

use overlay::address::{Address, AddressSet, TreeId};
use overlay::hyperbolic::Plane;
use overlay::rng::Rng;

use super::graph::Graph;
use super::world::World;

/// Price of going by a hint or an advertised link, in edges of the tree.
const KAPPA_EDGES: f64 = 0.75;
/// Links that a node tells a neighbour of.
const ADVERTISED: usize = 16;
/// Neighbours of the target that the source knows.
const HINTS: usize = 4;
/// Children per vertex plus one, in CLOAK as published.
const CLOAK_Q: u16 = 4;
/// Steps after which a packet is lost.
const MAX_HOPS: u32 = 1000;
const EPSILON: f64 = 1e-9;

/// A static network: links and addresses.
pub struct Baseline<'a> {
    graph: &'a Graph,
    addresses: Vec<AddressSet>,
    /// By node: of which of its links it tells.
    told: Vec<Vec<u32>>,
    /// None for distance along the trees.
    plane: Option<Plane>,
    hints: usize,
}

impl<'a> Baseline<'a> {
    /// The addresses of `world`, and distance along the trees; otherwise the overlay's own rule.
    pub fn tree_metric(world: &'a World) -> Self {
        let place = |number| world.node(number).overlay.as_ref().and_then(|overlay| overlay.place().cloned());
        let addresses = (0..world.len()).map(|number| place(number).unwrap_or_default().addresses).collect();
        Self::new(world.graph(), addresses, None, ADVERTISED, HINTS)
    }

    /// CLOAK as published (Cassagnes et al., ISCC 2011): who joins takes the first free place at any neighbour, in one tree with q = 4; a node knows
    /// its neighbours' addresses. A joiner whose neighbours are all full has no address.
    pub fn cloak(graph: &'a Graph, rng: &mut Rng) -> Self {
        let mut addresses = vec![AddressSet::default(); graph.len()];
        let mut children = vec![0u8; graph.len()];
        if let Some(root) = addresses.first_mut() {
            *root = AddressSet::single(Address::root());
        }
        for node in 1..graph.len() {
            let free = |other: &u32| {
                let other = *other as usize;
                other < node && u16::from(children[other]) + 1 < CLOAK_Q && !addresses[other].is_empty()
            };
            let open: Vec<u32> = graph.neighbours(node).iter().copied().filter(free).collect();
            if open.is_empty() {
                continue;
            }
            let parent = open[rng.index(open.len())] as usize;
            let child = addresses[parent].in_tree(TreeId::ALL[0]).and_then(|address| address.child(children[parent]));
            if let Some(child) = child {
                children[parent] += 1;
                addresses[node] = AddressSet::single(child);
            }
        }
        Self::new(graph, addresses, Plane::new(CLOAK_Q), 0, 0)
    }

    fn new(
        graph: &'a Graph,
        addresses: Vec<AddressSet>,
        plane: Option<Plane>,
        advertised: usize,
        hints: usize,
    ) -> Self {
        let shallow = |count: usize| {
            (0..graph.len())
                .map(|node| {
                    let mut near = graph.neighbours(node).to_vec();
                    near.sort_by_key(|other| (addresses[*other as usize].least_depth(), *other));
                    near.truncate(count);
                    near
                })
                .collect()
        };
        let told = shallow(advertised);
        Self { graph, told, plane, hints, addresses }
    }

    /// Where each node is.
    pub fn addresses(&self) -> &[AddressSet] {
        &self.addresses
    }

    /// The plane of the addresses; none where distance is that along the trees.
    pub const fn plane(&self) -> Option<&Plane> {
        self.plane.as_ref()
    }

    /// Links that a packet crosses; none when it is lost.
    pub fn route(&self, source: usize, target: usize) -> Option<u32> {
        let goals = self.goals(target);
        let mut mask = vec![true; goals.len()];
        let (mut at, mut last) = (source, f64::INFINITY);
        for hops in 0..MAX_HOPS {
            if at == target {
                return Some(hops);
            }
            let near = self.graph.neighbours(at);
            if near.iter().any(|next| *next as usize == target) {
                return Some(hops + 1);
            }
            at = loop {
                let worth =
                    |next: &u32| self.worth(*next as usize, &goals, &mask).map(|(worth, goal)| (worth, goal, *next));
                let best = near.iter().filter_map(worth).min_by(|a, b| a.0.total_cmp(&b.0))?;
                if best.0 < last - EPSILON {
                    last = best.0;
                    break best.2 as usize;
                }
                mask[best.1] = false;
                last = f64::INFINITY;
            };
        }
        None
    }

    /// Tree and address of the target and of its hints, with their prices.
    fn goals(&self, target: usize) -> Vec<(TreeId, &Address, f64)> {
        let mut near = self.graph.neighbours(target).to_vec();
        near.sort_by_key(|other| (self.addresses[*other as usize].least_depth(), *other));
        let hints = near.into_iter().take(self.hints).map(|hint| (hint as usize, self.kappa()));
        let all = std::iter::once((target, 0.0)).chain(hints);
        all.flat_map(|(node, price)| self.addresses[node].iter().map(move |(tree, address)| (tree, address, price)))
            .collect()
    }

    fn worth(&self, node: usize, goals: &[(TreeId, &Address, f64)], mask: &[bool]) -> Option<(f64, usize)> {
        let own = self.potential(node, goals, mask);
        let told = self.told[node].iter().filter_map(|beyond| self.potential(*beyond as usize, goals, mask));
        let told = told.map(|(worth, goal)| (worth + self.kappa(), goal));
        own.into_iter().chain(told).min_by(|a, b| a.0.total_cmp(&b.0))
    }

    fn potential(&self, node: usize, goals: &[(TreeId, &Address, f64)], mask: &[bool]) -> Option<(f64, usize)> {
        let of_goal = |(number, (tree, address, price)): (usize, &(TreeId, &Address, f64))| {
            let from = self.addresses[node].in_tree(*tree)?;
            mask[number].then(|| (self.distance(from, address) + price, number))
        };
        goals.iter().enumerate().filter_map(of_goal).min_by(|a, b| a.0.total_cmp(&b.0))
    }

    fn distance(&self, from: &Address, to: &Address) -> f64 {
        self.plane.as_ref().map_or_else(|| from.tree_distance(to) as f64, |plane| plane.distance(from, to))
    }

    fn kappa(&self) -> f64 {
        KAPPA_EDGES * self.plane.as_ref().map_or(1.0, Plane::edge_length)
    }
}
