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
//! Forwarding compares many distances for one packet, and has a faster form, [`Frames`]: a vertex seen from an ancestor is a point of the
//! hyperboloid, `(cosh r, sinh r cos th, sinh r sin th)`; the step from child to parent is a fixed matrix for each ordinal, and so is the one from parent to child,
//! which is taken only away from the vertex that is seen. `cosh d` is the first part of such a point, or of two points that
//! see each other past their last common ancestor the Minkowski product, without a logarithm. It overflows beyond a
//! depth that depends on q ([`Plane::frames`] says so).
//!
//! Everything transcendental comes from `libm`, so that two platforms choose the same next hop.

mod letters;

use core::f64::consts::PI;

use crate::address::Address;
use crate::genesis::Q_RANGE;
pub use letters::{Head, common_letters};

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

/// A point of the hyperboloid: cosh r, and sinh r by its direction.
type Point = [f64; 3];

/// Where the vertex at the end of a word is, seen from each vertex on the way to it: the point at index k is seen from k levels above.
#[derive(Clone, Debug, Default)]
pub struct Frames(Vec<Point>);

/// The point at which a vertex is, as another one sees it: cosh r, and sinh r by its direction, each times 2^-1000.
#[derive(Clone, Copy, Debug)]
pub struct FramedSeen([f64; 3]);

impl FramedSeen {
    /// e^d, times 2^-1000, of the distance of the two.
    pub fn exp_distance(&self) -> f64 {
        exp_of_cosh(self.0[0])
    }
}

/// e^acosh(x), both times 2^-1000.
fn exp_of_cosh(product: f64) -> f64 {
    // The 1 does not count for large x.
    if product > 1e8 * PRODUCT_UNIT {
        return 2.0 * product;
    }
    let cosh = (product * PRODUCTS_IN_ONE).max(1.0);
    (cosh + libm::sqrt(cosh * cosh - 1.0)) * PRODUCT_UNIT
}

/// Points are kept multiplied by 2^-500, and their product by 2^-1000, so that distances use the exponents below 0, too. That is exact.
const POINT_UNIT: f64 = f64::from_bits((1023 - 500) << 52);
const PRODUCT_UNIT: f64 = POINT_UNIT * POINT_UNIT;
const PRODUCTS_IN_ONE: f64 = 1.0 / PRODUCT_UNIT;

/// The distance of which [`Frames::exp_distance_above`] is this.
pub fn distance_of(exp_distance: f64) -> f64 {
    libm::log(exp_distance) - libm::log(PRODUCT_UNIT)
}

/// The same as [`Frames::exp_distance_above`] of this distance.
pub fn exp_of_distance(distance: f64) -> f64 {
    libm::exp(distance + libm::log(PRODUCT_UNIT))
}

impl Frames {
    /// e^d, times 2^-1000, of the distance of two vertices, the ways to which part so many levels above each.
    pub fn exp_distance_above(&self, levels: usize, others: &Self, other_levels: usize) -> f64 {
        let (Some(a), Some(b)) = (self.0.get(levels), others.0.get(other_levels)) else { return f64::INFINITY };
        exp_of_cosh(a[0] * b[0] - a[1] * b[1] - a[2] * b[2])
    }

    /// The vertex as it is seen from so many levels above.
    pub fn framed_from_above(&self, levels: usize) -> Option<FramedSeen> {
        self.0.get(levels).map(|point| FramedSeen(point.map(|part| part * POINT_UNIT)))
    }
}

/// A vertex as another one sees it, however far away.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// ln cosh of its distance.
    l: f64,
    /// Its direction, in radians from the other one's parent.
    direction: f64,
}

impl Seen {
    /// The distance of the two.
    pub fn distance(&self) -> f64 {
        // acosh(e^l), stable for small and for large l.
        self.l + libm::log1p(libm::sqrt(-libm::expm1(-2.0 * self.l)))
    }
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
        let mut point = [POINT_UNIT, 0.0, 0.0];
        frames.0.push(point);
        for ordinal in word.get(above..).unwrap_or_default().iter().rev() {
            let Some([cos, sin]) = self.directions.get(usize::from(*ordinal)) else { return false };
            // What the child sees, as its parent sees it: the child looks at its parent in direction 0, the parent at the child in that of the
            // ordinal. So turn by half a circle, go one edge, turn by that.
            let [x, y, z] = point;
            let (ahead, aside) = (cosh * x - sinh * y, sinh * x - cosh * y);
            point = [ahead, cos * aside + sin * z, sin * aside - cos * z];
            frames.0.push(point);
        }
        true
    }

    /// The same vertex as it is seen from a child of where it is `seen` from, for one that is not below that child; none where there is no such child.
    pub fn framed_from_child(&self, seen: &FramedSeen, ordinal: u8) -> Option<FramedSeen> {
        let [cos, sin] = *self.directions.get(usize::from(ordinal))?;
        let FramedSeen([x, y, z]) = *seen;
        // What [`Plane::frames_below`] does, back: turn, go one edge, turn by half a circle. Each of these is its own inverse.
        let (ahead, aside) = (cos * y + sin * z, sin * y - cos * z);
        let (cosh, sinh) = (self.cosh_edge, self.sinh_edge);
        Some(FramedSeen([cosh * x - sinh * ahead, sinh * x - cosh * ahead, aside]))
    }

    /// Whether a word leads to a vertex: each of its letters is one of the q - 1 children.
    pub fn is_vertex(&self, word: &[u8]) -> bool {
        word.iter().all(|ordinal| usize::from(*ordinal) < self.directions.len())
    }

    /// The longest word that has frames.
    pub const fn fast_depth(&self) -> usize {
        self.fast_depth
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
        Seen { l: self.ln_cosh_distance(a, b), direction: 0.0 }.distance()
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
        path.iter().rev().fold(None, |below, ordinal| Some(self.seen_from_parent(below, *ordinal)))
    }

    /// The vertex of `word`, seen from each vertex on the way to it: what is at index k is seen from k levels above, and at 0 is nothing.
    pub fn seen_on_the_way(&self, word: &[u8]) -> Vec<Option<Seen>> {
        let up = word.iter().rev().scan(None, |below, ordinal| {
            *below = Some(self.seen_from_parent(*below, *ordinal));
            Some(*below)
        });
        core::iter::once(None).chain(up).collect()
    }

    /// What child `ordinal` sees, or is, as its parent sees it.
    fn seen_from_parent(&self, below: Option<Seen>, ordinal: u8) -> Seen {
        // A child sees its parent in direction 0.
        self.seen_over_edge(below, 0.0, angle(self.q, ordinal))
    }

    /// What a parent sees, or is, as its child `ordinal` sees it; it is not below that child.
    pub fn seen_from_child(&self, above: Option<Seen>, ordinal: u8) -> Seen {
        self.seen_over_edge(above, angle(self.q, ordinal), 0.0)
    }

    /// What a vertex sees, or is, as the one at the other end of an edge sees it, which leaves the one in direction `there` and the other one in direction `back`.
    fn seen_over_edge(&self, seen: Option<Seen>, there: f64, back: f64) -> Seen {
        let Some(seen) = seen else { return Seen { l: libm::log(self.cosh_edge), direction: back } };
        let t = libm::sqrt(-libm::expm1(-2.0 * seen.l));
        let aside = seen.direction - there;
        let (sin, cos) = (libm::sin(aside), libm::cos(aside));
        let l = seen.l + libm::log(self.cosh_edge - t * self.sinh_edge * cos);
        let turn = libm::atan2(t * sin, self.sinh_edge - t * self.cosh_edge * cos);
        Seen { l, direction: back - turn }
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
mod tests;
