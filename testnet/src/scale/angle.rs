//! CLOAK's DHT as published, to compare with: a key is an angle of the unit circle, and the node whose address is nearest to that point of the
//! disk's rim keeps it.
//!
//! A vertex is the centre of a regular ideal polygon with q sides, and a child lies beyond each side but the parent's. The bisector of a vertex and its child is
//! the side between them: whatever point of the rim lies beyond it is nearer to the child. So the nearest node is found by going from the root to the child in
//! whose sector the angle lies, for as long as there is one there.

use std::collections::BTreeMap;
use std::f64::consts::{PI, TAU};

use overlay::address::{Address, FIRST_TREE};
use overlay::hyperbolic::{Plane, direction};
use overlay::rng::Rng;

use super::baseline::Baseline;

/// Who keeps which part of the rim.
struct Rim {
    q: u16,
    cosh_edge: f64,
    sinh_edge: f64,
    by_address: BTreeMap<Address, usize>,
}

impl Rim {
    /// The node that keeps the key of this angle, in radians from the root's direction 0. Beyond some twenty levels only rounding says which child: by then
    /// sectors are smaller than an f64 tells apart.
    fn keeper(&self, mut angle: f64) -> Option<usize> {
        let mut at = Address::root();
        let mut keeper = *self.by_address.get(&at)?;
        while let Some((ordinal, child)) = self.child_towards(&at, angle) {
            let Some(node) = self.by_address.get(&child) else { break };
            let turned = angle - self.angle_of(ordinal);
            // The same point of the rim, as the child sees it, for which its parent is in direction 0.
            let aside = -turned.sin();
            angle = aside.atan2(self.sinh_edge - self.cosh_edge * turned.cos());
            (at, keeper) = (child, *node);
        }
        Some(keeper)
    }

    /// The child in whose sector this angle lies.
    fn child_towards(&self, at: &Address, angle: f64) -> Option<(u8, Address)> {
        let sector = (angle.rem_euclid(TAU) * f64::from(self.q) / TAU).round();
        let mut ordinals = (0..self.q - 1).filter_map(|ordinal| u8::try_from(ordinal).ok());
        let ordinal = ordinals.find(|ordinal| f64::from(direction(self.q, *ordinal)) == sector)?;
        Some((ordinal, at.child(ordinal)?))
    }

    fn angle_of(&self, ordinal: u8) -> f64 {
        TAU * f64::from(direction(self.q, ordinal)) / f64::from(self.q)
    }

    /// The angle of a random key. A root has no child in direction 0, where others have their parent, and would keep all of that sector: keys are spread over the
    /// rest of the rim.
    fn key(&self, rng: &mut Rng) -> f64 {
        let side = PI / f64::from(self.q);
        let share = (rng.below(1 << 53) as f64 + 0.5) / (1u64 << 53) as f64;
        side + share * (TAU - 2.0 * side)
    }
}

/// Keys kept by the fullest node over the mean of all nodes, with or without an address, for so many keys; none where nobody has an address in the hyperbolic plane.
pub fn dht_max_over_mean(baseline: &Baseline<'_>, keys: usize, rng: &mut Rng) -> Option<f64> {
    let rim = rim(baseline)?;
    let mut kept = vec![0u32; baseline.addresses().len()];
    for _ in 0..keys {
        kept[rim.keeper(rim.key(rng))?] += 1;
    }
    let most = kept.iter().max().copied().map(f64::from)?;
    (keys > 0).then(|| most * kept.len() as f64 / keys as f64)
}

fn rim(baseline: &Baseline<'_>) -> Option<Rim> {
    let plane: &Plane = baseline.plane()?;
    let addresses = baseline.addresses().iter().enumerate();
    let by_address = addresses.filter_map(|(node, set)| Some((set.in_tree(FIRST_TREE)?.clone(), node))).collect();
    let edge = plane.edge_length();
    Some(Rim { q: plane.q(), cosh_edge: edge.cosh(), sinh_edge: edge.sinh(), by_address })
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;
    use crate::scale::graph::{Graph, Kind};

    fn graph(nodes: usize, rng: &mut Rng) -> Graph {
        Graph::new(Kind::from_str("ov:3").unwrap(), nodes, rng)
    }

    /// How far beyond the root, or before it, the horocycle at `angle` through the vertex at the end of a word is, by other arithmetic: its point of the hyperboloid.
    fn horocycle(rim: &Rim, word: &[u8], angle: f64) -> f64 {
        let mut point = [1.0, 0.0, 0.0];
        for ordinal in word.iter().rev() {
            let (sin, cos) = rim.angle_of(*ordinal).sin_cos();
            let [x, y, z] = point;
            // One edge away from the parent, which is in direction 0; then as the parent sees it.
            let (ahead, aside) = (rim.sinh_edge * x - rim.cosh_edge * y, -z);
            point = [rim.cosh_edge * x - rim.sinh_edge * y, cos * ahead - sin * aside, sin * ahead + cos * aside];
        }
        (point[0] - point[1] * angle.cos() - point[2] * angle.sin()).ln()
    }

    #[test]
    fn the_node_nearest_to_the_point_of_the_rim_keeps_its_key() {
        let mut rng = Rng::from_seed([3; 32]);
        let graph = graph(30, &mut rng);
        let rim = rim(&Baseline::cloak(&graph, &mut rng)).unwrap();
        let mut keepers = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let key = rim.key(&mut rng);
            let distance = |(address, node): (&Address, &usize)| (horocycle(&rim, address.as_slice(), key), *node);
            let nearest = rim.by_address.iter().map(distance).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            assert_eq!(rim.keeper(key), Some(nearest.1), "{key}");
            keepers.insert(nearest.1);
        }
        assert!(keepers.len() > 5, "{keepers:?}");
    }

    #[test]
    fn alone_a_node_keeps_all_and_of_many_none_keeps_a_quarter() {
        let mut rng = Rng::from_seed([4; 32]);
        let mut of = |nodes| {
            let graph = graph(nodes, &mut rng);
            dht_max_over_mean(&Baseline::cloak(&graph, &mut rng), 4000, &mut rng).unwrap()
        };
        assert!((of(1) - 1.0).abs() < 1e-9);
        let many = of(1000);
        // Ours keeps to 2.
        assert!((5.0..240.0).contains(&many), "{many}");
    }
}
