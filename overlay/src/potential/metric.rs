//! Distances from a target, as a search asks for them.

use super::goals::Goal;
use super::scale::Scale;
use crate::address::Address;
use crate::hyperbolic::{FramedSeen, Frames, Plane, Seen, common_letters, exp_of_distance};

/// How a search measures distances from a goal.
pub(super) trait Metric {
    /// A vertex, as far as distances from it are concerned.
    type Seen;

    /// How the distances are held.
    fn scale(&self) -> &Scale;

    /// The vertex so many letters down on the way to the target.
    fn above(&self, goal: &Goal<'_>, level: usize) -> Option<Self::Seen>;

    /// The child of a vertex, not on the way to the target; none where there is no such child.
    fn child(&self, of: &Self::Seen, letter: u8) -> Option<Self::Seen>;

    /// From a vertex to the target.
    fn distance(&self, from: &Self::Seen) -> f64;

    /// From an address to the target, or something above `limit` where it is above that; none where there is no such vertex.
    fn between(&mut self, address: &Address, goal: &Goal<'_>, limit: f64) -> Option<f64>;
}

/// By frames, as exponentials.
pub(super) struct Framed<'a> {
    plane: &'a Plane,
    scale: Scale,
    /// Room for those of one address.
    frames: Frames,
}

impl<'a> Framed<'a> {
    pub fn new(plane: &'a Plane) -> Self {
        Self { plane, scale: Scale::exponential(plane), frames: Frames::default() }
    }
}

impl Metric for Framed<'_> {
    type Seen = FramedSeen;

    fn scale(&self) -> &Scale {
        &self.scale
    }

    fn above(&self, goal: &Goal<'_>, level: usize) -> Option<FramedSeen> {
        let levels = goal.address.depth().checked_sub(level)?;
        goal.frames.as_ref()?.framed_from_above(levels)
    }

    fn child(&self, of: &FramedSeen, letter: u8) -> Option<FramedSeen> {
        self.plane.framed_from_child(of, letter)
    }

    fn distance(&self, from: &FramedSeen) -> f64 {
        from.exp_distance()
    }

    fn between(&mut self, address: &Address, goal: &Goal<'_>, limit: f64) -> Option<f64> {
        let (word, target) = (address.as_slice(), goal.address.as_slice());
        if !self.plane.is_vertex(word) {
            return None;
        }
        // A vertex that is too deep is farther away than those above it.
        let held = word.get(..self.plane.fast_depth()).unwrap_or(word);
        let common = common_letters(held, target);
        let fits = self.plane.frames_below(held, common, &mut self.frames);
        let distance =
            self.frames.exp_distance_above(held.len() - common, goal.frames.as_ref()?, target.len() - common);
        let is_exact = fits && (held.len() == word.len() || distance > limit);
        Some(if is_exact { distance } else { exp_of_distance(self.plane.distance(address, goal.address)) })
    }
}

/// As they are, however great.
pub(super) struct Plain<'a> {
    plane: &'a Plane,
    scale: Scale,
}

impl<'a> Plain<'a> {
    pub fn new(plane: &'a Plane) -> Self {
        Self { plane, scale: Scale::linear(plane) }
    }
}

impl Metric for Plain<'_> {
    /// None where the target itself is.
    type Seen = Option<Seen>;

    fn scale(&self) -> &Scale {
        &self.scale
    }

    fn above(&self, goal: &Goal<'_>, level: usize) -> Option<Option<Seen>> {
        let word = goal.address.as_slice();
        let seen = goal.seen.get_or_init(|| self.plane.seen_on_the_way(word));
        seen.get(word.len().checked_sub(level)?).copied()
    }

    fn child(&self, of: &Option<Seen>, letter: u8) -> Option<Option<Seen>> {
        self.plane.is_vertex(&[letter]).then(|| Some(self.plane.seen_from_child(*of, letter)))
    }

    fn distance(&self, from: &Option<Seen>) -> f64 {
        from.map_or(0.0, |seen| seen.distance())
    }

    fn between(&mut self, address: &Address, goal: &Goal<'_>, _: f64) -> Option<f64> {
        self.plane.is_vertex(address.as_slice()).then(|| self.plane.distance(address, goal.address))
    }
}
