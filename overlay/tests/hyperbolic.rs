//! The plane's distances against exact geometry in arbitrary precision.
//!
//! The reference shares nothing with [`overlay::hyperbolic`] but [`direction`]. It gives every vertex its frame in SL(2, R), multiplied
//! up from the root edge by edge. Turning to a child's direction `2 pi k / q`, going along the edge and turning to look back at the
//! parent is, with `c = cos(pi k / q)`, `n = sin(pi k / q)` and `E = e^(s/2) = (1 + cos(pi / q)) / sin(pi / q)`,
//!
//! ```text
//!     |  c  n | | E    0  | |  0  1 |   | -n/E   c E |
//!     | -n  c | | 0   1/E | | -1  0 | = | -c/E  -n E |
//! ```
//!
//! and `cosh d(a, b)` is half the sum of the squared entries of `inverse(frame a) frame b`: no logarithm, no common ancestor.
//!
//! Largest error of ln cosh d over four seeds, 1,650 pairs for each q: 3.9e-11 for q up to 8, 7.4e-10 up to 64, 1.4e-8 for 256.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, missing_docs)]

use dashu_float::FBig;
use overlay::address::Address;
use overlay::hyperbolic::{Plane, direction};
use overlay::rng::Rng;

/// Bits of every number of the reference. Entries cancel down from at most `e^((ra + rb) / 2)`, which is 2,940 bits for two vertices at
/// [`DEEPEST`] and q = 256, where an edge is 10.2 long.
const BITS: usize = 3_200;
/// Bits that the reference's logarithm is taken with.
const LN_BITS: usize = 128;
/// Longest word, in edges.
const DEEPEST: u64 = 200;
const PAIRS_PER_Q: usize = 150;
/// What ln cosh d may be wrong by: ten thousand times less than forwarding's epsilon.
const TOLERANCE: f64 = 1e-7;

#[test]
fn ln_cosh_distance_is_exact_to_depth_200() {
    let mut rng = Rng::from_seed([7; 32]);
    for q in [3, 4, 5, 7, 8, 16, 32, 64, 256] {
        let (plane, exact) = (Plane::new(q).unwrap(), Exact::new(q));
        let mut worst = (0.0, String::new());
        for _ in 0..PAIRS_PER_Q {
            let (a, b) = pair(&mut rng, q);
            let error = (plane.ln_cosh_distance(&a, &b) - exact.ln_cosh_distance(&a, &b)).abs();
            assert!(error < TOLERANCE, "q = {q}: ln cosh d wrong by {error:e} from {a} to {b}");
            if error > worst.0 {
                worst = (error, format!("depths {} and {}, {} edges apart", a.depth(), b.depth(), a.tree_distance(&b)));
            }
        }
        println!("q = {q}: at most {:e} ({})", worst.0, worst.1);
    }
}

/// The reference proves itself where the answer is known: one edge, `cosh s = 2 / sin^2(pi / q) - 1`, however deep.
#[test]
fn the_reference_knows_an_edge() {
    let mut rng = Rng::from_seed([8; 32]);
    for q in [3_u16, 32, 256] {
        let sin = (core::f64::consts::PI / f64::from(q)).sin();
        let vertex = Address::from_ordinals(&walk(&mut rng, q, 150)).unwrap();
        let edge = Exact::new(q).ln_cosh_distance(&vertex, &vertex.child(0).unwrap());
        assert!((edge - (2.0 / (sin * sin) - 1.0).ln()).abs() < 1e-12, "q = {q}");
    }
}

/// Two words to depth [`DEEPEST`], half of them with a prefix in common.
fn pair(rng: &mut Rng, q: u16) -> (Address, Address) {
    let prefix = if rng.below(2) == 0 { Vec::new() } else { walk_below(rng, q, DEEPEST) };
    let mut words = [prefix.clone(), prefix];
    // Neighbours among the children of one vertex, whose outermost descendants meet at one point of the circle at infinity.
    if rng.below(3) == 0 {
        let k = 1 + rng.below(u64::from(q) - 2) as u16;
        for (word, k) in words.iter_mut().zip([k, k + 1]) {
            word.push(ordinal_of(q, k));
        }
    }
    let words = words.map(|mut word| {
        let room = DEEPEST.saturating_sub(word.len() as u64);
        word.extend(walk_below(rng, q, room + 1));
        Address::from_ordinals(&word).unwrap()
    });
    words.into()
}

fn walk_below(rng: &mut Rng, q: u16, edges: u64) -> Vec<u8> {
    let edges = rng.below(edges) as usize;
    walk(rng, q, edges)
}

/// A word of one of four kinds: any ordinals, first children as in a grown overlay, along a side of the tree, or along it for a while.
fn walk(rng: &mut Rng, q: u16, edges: usize) -> Vec<u8> {
    let kind = rng.below(4);
    let side = ordinal_of(q, if rng.below(2) == 0 { 1 } else { q - 1 });
    let along = if kind == 2 { edges } else { rng.index(edges + 1) };
    (0..edges)
        .map(|at| match kind {
            1 => rng.below(u64::from(q - 1).min(3)) as u8,
            2 | 3 if at < along => side,
            _ => rng.below(u64::from(q) - 1) as u8,
        })
        .collect()
}

fn ordinal_of(q: u16, k: u16) -> u8 {
    (0..=u8::MAX).find(|ordinal| direction(q, *ordinal) == k).unwrap()
}

type Matrix = [FBig; 4];

struct Exact {
    /// By direction of the child; the parent's direction 0 is not used.
    edges: Vec<Matrix>,
    q: u16,
}

impl Exact {
    fn new(q: u16) -> Self {
        // The sine and the cosine of `k` parts of half a turn cut into q.
        let sin_cos = |k: u16| exact(k.into()).sin_cos_unit(2 * usize::from(q));
        let (sin, cos) = sin_cos(1);
        let grow = &(exact(1) + cos) / &sin;
        let shrink = &exact(1) / &grow;
        let edges = (0..q)
            .map(|k| {
                let (n, c) = sin_cos(k);
                [-(&n * &shrink), &c * &grow, -(&c * &shrink), -(&n * &grow)]
            })
            .collect();
        Self { edges, q }
    }

    fn ln_cosh_distance(&self, a: &Address, b: &Address) -> f64 {
        let [p, q, r, s] = self.frame(a);
        // A frame's determinant is 1.
        let way = product(&[s, -q, -r, p], &self.frame(b));
        let twice = way.iter().fold(exact(0), |sum, entry| sum + entry.sqr());
        (twice / exact(2)).with_precision(LN_BITS).value().ln().to_f64().value()
    }

    fn frame(&self, vertex: &Address) -> Matrix {
        let root = [exact(1), exact(0), exact(0), exact(1)];
        vertex
            .as_slice()
            .iter()
            .fold(root, |frame, &ordinal| product(&frame, &self.edges[usize::from(direction(self.q, ordinal))]))
    }
}

fn product([a, b, c, d]: &Matrix, [e, f, g, h]: &Matrix) -> Matrix {
    [a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h]
}

fn exact(number: u32) -> FBig {
    FBig::from(number).with_precision(BITS).value()
}
