//! Distance in the hyperbolic plane between vertices of the {inf, q} tiling's dual tree, from their words.
//!
//! A tree of degree at most q is embedded by regular ideal polygons: every edge has the length `s = 2 acosh(1 / sin(pi / q))`, and the
//! q edges of a vertex leave it at equal angles, `2 pi / q` apart, the parent's in direction 0. This is CLOAK's addressing: Cassagnes,
//! Tiendrebeogo, Bromberg and Magoni, "Overlay Addressing and Routing System Based on Hyperbolic Geometry", ISCC 2011, pp. 294-301.
//!
//! Points of the Poincaré disk in f64 crowd at its rim and break greedy forwarding at depth 24, 11, 8, 6, 3 for q = 4, 8, 16, 32, 256. So
//! no point is ever computed. A vertex is described relative to the last common ancestor of the two words, by its distance r from there,
//! kept as `L = ln cosh r`, and its direction `th` there. What a child sees, its parent sees through their edge, which leaves the parent
//! in direction `phi` and the child in direction 0:
//!
//! ```text
//! T   = sqrt(1 - e^-2L)                                             which is tanh r
//! L'  = L + ln(cosh s - T sinh s cos th)                            law of cosines
//! th' = phi - atan2(T sin th, sinh s - T cosh s cos th)
//! ```
//!
//! and the distance of two such vertices by the law of cosines, in a form that loses nothing to cancellation: with
//! `e = e^-2L` and `T = sqrt(1 - e)` of each,
//!
//! ```text
//! ln cosh d = L1 + L2 + ln((e1 + e2 - e1 e2) / (1 + T1 T2) + 2 T1 T2 sin^2((th1 - th2) / 2))
//! ```
//!
//! Against 3,200-bit arithmetic (`tests/hyperbolic.rs`), for 1,650 pairs of words to depth 200 for each q, the largest error of
//! `ln cosh d` was 3.9e-11 for q up to 8, 7.4e-10 up to 64 and 1.4e-8 for 256. Forwarding's epsilon is 1e-3.
//!
//! Forwarding compares thousands of distances for one packet, and has a faster form, [`Frames`]: a vertex seen from an ancestor is a point of the
//! hyperboloid, `(cosh r, sinh r cos th, sinh r sin th)`; the step from child to parent is a fixed matrix for each ordinal, and of two points that
//! see each other past their last common ancestor `cosh d` is the Minkowski product, without a logarithm. It overflows beyond a
//! depth that depends on q ([`Plane::frames`] says so).
//!
//! Everything transcendental comes from `libm`, so that two platforms choose the same next hop.

use core::f64::consts::PI;

use crate::address::Address;
use crate::genesis::Q_RANGE;

/// The plane with its tiling.
#[derive(Clone, Debug)]
pub struct Plane {
    q: u16,
    edge: f64,
    cosh_edge: f64,
    sinh_edge: f64,
    /// For each ordinal: cosine and sine of its direction.
    directions: Vec<[f64; 2]>,
    /// The longest word whose frames do not overflow.
    fast_depth: usize,
}

/// A point of the hyperboloid: cosh r, and sinh r by its direction; and, where [`Plane::bound`] has been there, what is at least between it and whatever is on
/// the other side of the edge above the vertex from which it is seen, as [`Frames::exp_distance`] gives distances.
type Point = [f64; 4];

/// Where the vertex at the end of a word is, seen from each vertex on the way to it: the point at index k is seen from k levels above.
#[derive(Clone, Debug, Default)]
pub struct Frames(Vec<Point>);

/// Points are kept multiplied by 2^-500, and their product by 2^-1000, so that distances use the exponents below 0, too. That is exact.
const POINT_UNIT: f64 = f64::from_bits((1023 - 500) << 52);
const PRODUCT_UNIT: f64 = POINT_UNIT * POINT_UNIT;
const PRODUCTS_IN_ONE: f64 = 1.0 / PRODUCT_UNIT;

/// How exact bounds are taken to be.
const BOUND_PRECISION: f64 = 1e-6;

/// The distance of which [`Frames::exp_distance`] is this.
pub fn distance_of(exp_distance: f64) -> f64 {
    libm::log(exp_distance) - libm::log(PRODUCT_UNIT)
}

impl Frames {
    /// e^d, times 2^-1000, of the distance of the vertices of `word` and of `other`, of which these and `others` are the frames.
    pub fn exp_distance(&self, word: &[u8], others: &Self, other: &[u8]) -> f64 {
        let common = common_letters(word, other);
        self.exp_distance_above(word.len() - common, others, other.len() - common)
    }

    /// At least what [`Frames::exp_distance_above`] gives for a vertex that lies so many levels below where the ways meet, whichever it is; these frames
    /// have to be [`Plane::bound`].
    pub fn exp_distance_bound(&self, levels: usize, others_levels: usize) -> f64 {
        // From an ancestor, or to one, no edge has to be crossed that is known.
        let beyond = levels.checked_sub(1).filter(|_| others_levels > 0);
        beyond.and_then(|beyond| self.0.get(beyond)).map_or(0.0, |point| point[3])
    }

    /// The same when it is known how many levels above the two vertices their ways meet.
    pub fn exp_distance_above(&self, levels: usize, others: &Self, other_levels: usize) -> f64 {
        let (Some(a), Some(b)) = (self.0.get(levels), others.0.get(other_levels)) else { return f64::INFINITY };
        let product = a[0] * b[0] - a[1] * b[1] - a[2] * b[2];
        // e^acosh(x), where the 1 does not count for large x.
        if product > 1e8 * PRODUCT_UNIT {
            return 2.0 * product;
        }
        let cosh = (product * PRODUCTS_IN_ONE).max(1.0);
        (cosh + libm::sqrt(cosh * cosh - 1.0)) * PRODUCT_UNIT
    }
}

/// How many letters both words begin with.
fn common_letters(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// A word that is compared with many others: its first letters are at hand in one number.
#[derive(Clone, Copy, Debug)]
pub struct Letters<'a> {
    word: &'a [u8],
    head: u64,
}

impl<'a> Letters<'a> {
    /// Of this word.
    pub fn of(word: &'a [u8]) -> Self {
        let first = word.get(..size_of::<u64>()).unwrap_or(word);
        // Shifted rather than copied: a number that was written byte by byte is slow to read.
        let head = first.iter().rev().fold(0, |head, letter| head << u8::BITS | u64::from(*letter));
        Self { word, head }
    }

    /// How many letters there are.
    pub const fn len(&self) -> usize {
        self.word.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.word.is_empty()
    }

    /// How many letters both words begin with.
    pub fn common(&self, other: &Self) -> usize {
        let differ = self.head ^ other.head;
        if differ == 0 {
            return common_letters(self.word, other.word);
        }
        let same = differ.trailing_zeros() / u8::BITS;
        usize::try_from(same).unwrap_or(usize::MAX).min(self.len()).min(other.len())
    }
}

/// The first letters of a word, apart from it: enough to compare most words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    letters: u64,
    len: u8,
}

impl Head {
    /// Of this word.
    pub fn of(word: &[u8]) -> Self {
        Self { letters: Letters::of(word).head, len: u8::try_from(word.len()).unwrap_or(u8::MAX) }
    }

    /// How many letters the word has: where its vertex is below the root.
    pub fn depth(&self) -> usize {
        usize::from(self.len)
    }

    /// How many letters both words begin with; none when their first letters do not tell.
    pub fn common(&self, other: &Letters<'_>) -> Option<usize> {
        let shorter = self.depth().min(other.len());
        let differ = self.letters ^ other.head;
        if differ == 0 {
            return Some(shorter).filter(|shorter| *shorter <= size_of::<u64>());
        }
        let same = differ.trailing_zeros() / u8::BITS;
        Some(usize::try_from(same).unwrap_or(usize::MAX).min(shorter))
    }
}

/// A vertex seen from an ancestor.
#[derive(Clone, Copy)]
struct Seen {
    /// ln cosh of its distance.
    l: f64,
    /// Its direction, in radians from the ancestor's parent.
    direction: f64,
}

/// ln of the greatest f64, with some room.
const LN_MAX: f64 = 700.0;

impl Plane {
    /// The {inf, q} tiling; none when q is outside of 3 to 256.
    pub fn new(q: u16) -> Option<Self> {
        Q_RANGE.contains(&q).then(|| {
            // cosh(s / 2) = 1 / sin(pi / q), so cosh s = 2 / sin^2 - 1 and sinh s = 2 cos / sin^2.
            let (sin, cos) = (libm::sin(PI / f64::from(q)), libm::cos(PI / f64::from(q)));
            let edge = 2.0 * libm::acosh(1.0 / sin);
            let (cosh_edge, sinh_edge) = (2.0 / (sin * sin) - 1.0, 2.0 * cos / (sin * sin));
            let directions = (0..q - 1)
                .filter_map(|ordinal| u8::try_from(ordinal).ok())
                .map(|ordinal| angle(q, ordinal))
                .map(|phi| [libm::cos(phi), libm::sin(phi)])
                .collect();
            // Two points are multiplied, which take half of what an f64 holds above 1 and half of what it holds below each.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // small and positive
            let fast_depth = (LN_MAX / edge) as usize;
            Self { q, edge, cosh_edge, sinh_edge, directions, fast_depth }
        })
    }

    /// Fills `frames` with what is seen of the vertex of `word`; false when it is too deep, and [`Plane::distance`] has to do.
    pub fn frames(&self, word: &[u8], frames: &mut Frames) -> bool {
        self.frames_below(word, 0, frames)
    }

    /// The same, but only from the end of the first `above` letters and below: what is needed for others that begin with these letters, too.
    pub fn frames_below(&self, word: &[u8], above: usize, frames: &mut Frames) -> bool {
        frames.0.clear();
        if word.len() > self.fast_depth {
            return false;
        }
        let (cosh, sinh) = (self.cosh_edge, self.sinh_edge);
        let mut point = [POINT_UNIT, 0.0, 0.0, 0.0];
        frames.0.push(point);
        for ordinal in word.get(above..).unwrap_or_default().iter().rev() {
            let Some([cos, sin]) = self.directions.get(usize::from(*ordinal)) else { return false };
            // What the child sees, as its parent sees it: the child looks at its parent in direction 0, the parent at the child in that of the
            // ordinal. So turn by half a circle, go one edge, turn by that.
            let [x, y, z, _] = point;
            let (ahead, aside) = (cosh * x - sinh * y, sinh * x - cosh * y);
            point = [ahead, cos * aside + sin * z, sin * aside - cos * z, 0.0];
            frames.0.push(point);
        }
        true
    }

    /// Adds to frames what is needed for [`Frames::exp_distance_bound`].
    ///
    /// The bisector of an edge parts the tiling: what is below the edge lies on one side of it, everything else on the other. So a way between vertices below two
    /// children of one vertex crosses two bisectors that do not cross each other, and is at least as long as the distances of its ends from these together. That of a vertex
    /// at cosh r, sinh r from the lower end of an edge is h with sinh h = cosh r sinh(s/2) - (sinh r, along the edge) cosh(s/2), where s is the length of an edge; and nothing
    /// below an edge is nearer than s/2 to its bisector.
    pub fn bound(&self, frames: &mut Frames) {
        let half = self.edge / 2.0;
        let (cosh, sinh, least) = (libm::cosh(half), libm::sinh(half), libm::exp(half));
        for point in &mut frames.0 {
            let sinh_h = point[0] * sinh - point[1] * cosh;
            // A difference of great numbers may be nothing but rounding.
            let is_sure = sinh_h > point[0] * cosh * BOUND_PRECISION;
            let exp_h = if is_sure { (2.0 * sinh_h).max(least * POINT_UNIT) } else { least * POINT_UNIT };
            point[3] = exp_h * least * POINT_UNIT * (1.0 - BOUND_PRECISION);
        }
    }

    /// q of the tiling.
    pub const fn q(&self) -> u16 {
        self.q
    }

    /// The length of every edge.
    pub const fn edge_length(&self) -> f64 {
        self.edge
    }

    /// The hyperbolic distance of two vertices, 0 for one and the same.
    pub fn distance(&self, a: &Address, b: &Address) -> f64 {
        let l = self.ln_cosh_distance(a, b);
        // acosh(e^l), stable for small and for large l.
        l + libm::log1p(libm::sqrt(-libm::expm1(-2.0 * l)))
    }

    /// ln cosh of that distance.
    pub fn ln_cosh_distance(&self, a: &Address, b: &Address) -> f64 {
        let (a, b) = (a.as_slice(), b.as_slice());
        let common = common_letters(a, b);
        match (self.seen(a.get(common..).unwrap_or_default()), self.seen(b.get(common..).unwrap_or_default())) {
            (None, None) => 0.0,
            (Some(one), None) | (None, Some(one)) => one.l,
            (Some(one), Some(other)) => combine(one, other),
        }
    }

    /// The vertex at the end of `path`, seen from where it begins; none when it is that vertex itself.
    fn seen(&self, path: &[u8]) -> Option<Seen> {
        path.iter().rev().fold(None, |below, &ordinal| {
            let phi = angle(self.q, ordinal);
            // A child sees its parent in direction 0; a vertex below the child is stepped through their common edge.
            Some(
                below.map_or_else(
                    || Seen { l: libm::log(self.cosh_edge), direction: phi },
                    |below| self.step(below, phi),
                ),
            )
        })
    }

    fn step(&self, below: Seen, phi: f64) -> Seen {
        let t = libm::sqrt(-libm::expm1(-2.0 * below.l));
        let (sin, cos) = (libm::sin(below.direction), libm::cos(below.direction));
        let l = below.l + libm::log(self.cosh_edge - t * self.sinh_edge * cos);
        let turn = libm::atan2(t * sin, self.sinh_edge - t * self.cosh_edge * cos);
        Seen { l, direction: phi - turn }
    }
}

/// The direction, 1 to q - 1, of child `ordinal`: the first opposite the parent, the next ones beside it in turn. With children laid
/// from the parent's side outwards paths get 7 to 8 points of stretch longer.
pub fn direction(q: u16, ordinal: u8) -> u16 {
    let aside = u16::from(ordinal).div_ceil(2);
    let middle = q / 2;
    if ordinal.is_multiple_of(2) { middle.saturating_sub(aside).max(1) } else { (middle + aside).min(q - 1) }
}

/// The direction of child `ordinal`, in radians.
fn angle(q: u16, ordinal: u8) -> f64 {
    2.0 * PI * f64::from(direction(q, ordinal)) / f64::from(q)
}

fn combine(one: Seen, other: Seen) -> f64 {
    let (e1, e2) = (libm::exp(-2.0 * one.l), libm::exp(-2.0 * other.l));
    let t = libm::sqrt(1.0 - e1) * libm::sqrt(1.0 - e2);
    let half = libm::sin((one.direction - other.direction) / 2.0);
    // With both directions equal and both far away the sum could underflow to 0; ln cosh d is never negative.
    let inner = (e1 + e2 - e1 * e2) / (1.0 + t) + 2.0 * t * half * half;
    (one.l + other.l + libm::log(inner)).max(0.0)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn word(rng: &mut Rng, q: u16, depth: usize) -> Address {
        let word: Vec<u8> = (0..depth).map(|_| rng.below(u64::from(q) - 1) as u8).collect();
        Address::from_ordinals(&word).unwrap()
    }

    #[test]
    fn the_fast_form_agrees_with_the_other() {
        let mut rng = Rng::from_seed([5; 32]);
        for q in [3u16, 4, 16, 32, 64, 256] {
            let plane = Plane::new(q).unwrap();
            let deep = plane.fast_depth;
            assert!(deep >= 60, "q = {q}: {deep}");
            for _ in 0..2000 {
                let depth = |rng: &mut Rng| rng.index(deep.min(255) + 1);
                let (a, b) = (depth(&mut rng), depth(&mut rng));
                let (a, mut b) = (word(&mut rng, q, a), word(&mut rng, q, b));
                if rng.below(2) == 0 {
                    let common = rng.index(a.depth().min(b.depth()) + 1);
                    let tail = &b.as_slice()[common..];
                    b = Address::from_ordinals(&[&a.as_slice()[..common], tail].concat()).unwrap();
                }
                let (mut of_a, mut of_b) = (Frames::default(), Frames::default());
                assert!(plane.frames(a.as_slice(), &mut of_a) && plane.frames(b.as_slice(), &mut of_b));
                let fast = distance_of(of_a.exp_distance(a.as_slice(), &of_b, b.as_slice()));
                let slow = plane.distance(&a, &b);
                assert!((fast - slow).abs() < 1e-6 + 1e-9 * slow, "q = {q}: {fast} {slow} {a} {b}");
            }
            assert!(!plane.frames(&vec![0; deep + 1], &mut Frames::default()));
        }
    }

    #[test]
    fn no_distance_is_below_its_bound_and_for_most_the_bound_says_something() {
        let mut rng = Rng::from_seed([6; 32]);
        for q in [3u16, 4, 16, 64, 256] {
            let plane = Plane::new(q).unwrap();
            let mut telling = 0;
            for round in 0..4000 {
                let depth = |rng: &mut Rng| rng.index(40.min(plane.fast_depth / 2));
                let (a, b) = (depth(&mut rng), depth(&mut rng));
                // The last rounds go along the sides of the tiling's cells, where vertices are nearest.
                let letters = |rng: &mut Rng, depth| match round {
                    0..2000 => word(rng, q, depth),
                    _ => {
                        let side = u8::try_from(q - 2 - u16::from(rng.below(2) == 0 && q > 3)).unwrap();
                        Address::from_ordinals(&vec![side; depth]).unwrap()
                    }
                };
                let (a, b) = (letters(&mut rng, a), letters(&mut rng, b));
                let (mut of_a, mut of_b) = (Frames::default(), Frames::default());
                assert!(plane.frames(a.as_slice(), &mut of_a) && plane.frames(b.as_slice(), &mut of_b));
                plane.bound(&mut of_b);
                let common = common_letters(a.as_slice(), b.as_slice());
                let (levels_a, levels_b) = (a.depth() - common, b.depth() - common);
                let distance = of_a.exp_distance_above(levels_a, &of_b, levels_b);
                let bound = of_b.exp_distance_bound(levels_b, levels_a);
                assert!(bound <= distance, "q = {q}: {a} {b}");
                telling += usize::from(distance_of(bound) > distance_of(distance) / 2.0);
            }
            assert!(telling > 500, "q = {q}: {telling}");
        }
    }

    #[test]
    fn the_first_letters_tell_what_all_of_them_do_or_nothing() {
        let mut rng = Rng::from_seed([7; 32]);
        let mut unknown = 0;
        for _ in 0..20_000 {
            let letters = |rng: &mut Rng| (0..rng.index(12)).map(|_| rng.below(2) as u8).collect::<Vec<_>>();
            let (mut a, mut b) = (letters(&mut rng), letters(&mut rng));
            if rng.below(2) == 0 {
                (a, b) = ([vec![0; 7], a].concat(), [vec![0; 7], b].concat());
            }
            match Head::of(&a).common(&Letters::of(&b)) {
                Some(common) => assert_eq!(common, common_letters(&a, &b), "{a:?} {b:?}"),
                None => unknown += 1,
            }
        }
        assert!((1000..10_000).contains(&unknown), "{unknown}");
    }

    #[test]
    fn directions_are_all_different_and_start_opposite_the_parent() {
        for q in [3u16, 4, 7, 32, 256] {
            let all: Vec<u16> = (0..q - 1).map(|ordinal| direction(q, u8::try_from(ordinal).unwrap())).collect();
            let mut sorted = all.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (1..q).collect::<Vec<_>>(), "q = {q}");
            assert_eq!(all[0], q / 2);
        }
        assert_eq!((0..7).map(|ordinal| direction(8, ordinal)).collect::<Vec<_>>(), [4, 5, 3, 6, 2, 7, 1]);
    }

    #[test]
    fn edges_have_the_edge_length_at_any_depth_and_the_distance_is_symmetric() {
        let mut rng = Rng::from_seed([1; 32]);
        for q in [3, 4, 16, 32, 256] {
            let plane = Plane::new(q).unwrap();
            for depth in [0, 1, 5, 100, 200] {
                let vertex = word(&mut rng, q, depth);
                let child = vertex.child(0).unwrap();
                assert!((plane.distance(&vertex, &child) - plane.edge_length()).abs() < 1e-9);
                assert!(plane.distance(&vertex, &vertex).abs() < 1e-12);
                let other = word(&mut rng, q, 50);
                assert!((plane.distance(&vertex, &other) - plane.distance(&other, &vertex)).abs() < 1e-9);
            }
        }
        assert!(Plane::new(2).is_none() && Plane::new(257).is_none());
    }

    /// The gain per step is what forwarding's epsilon relies on.
    #[test]
    fn the_next_vertex_on_the_way_is_nearer_by_more_than_a_thousandth() {
        let mut rng = Rng::from_seed([2; 32]);
        for q in [3, 4, 8, 32, 256] {
            let plane = Plane::new(q).unwrap();
            for _ in 0..300 {
                let from_depth = rng.below(40) as usize;
                let to_depth = rng.below(40) as usize;
                let (from, to) = (word(&mut rng, q, from_depth), word(&mut rng, q, to_depth));
                let next = match from.is_prefix_of(&to) {
                    true if from == to => continue,
                    true => from.child(to.as_slice()[from.depth()]).unwrap(),
                    false => from.parent().unwrap(),
                };
                let gain = plane.distance(&from, &to) - plane.distance(&next, &to);
                assert!(gain > 1e-3, "q = {q}: {gain} from {from} to {to}");
            }
        }
    }
}
