//! How distances are compared, and what is added to them.

use super::EPSILON;
use crate::hyperbolic::{Plane, distance_of};

/// Price of going by a hint or an advertised link, in edges.
const KAPPA_EDGES: f64 = 0.75;
/// Whoever is worth so much more than another, in units of the plane, is not chosen, whatever their links carry: far more than [`EPSILON`].
const OF_NO_USE: f64 = 0.1;

/// Edge length times [`KAPPA_EDGES`].
fn kappa(plane: &Plane) -> f64 {
    KAPPA_EDGES * plane.edge_length()
}

/// How distances are held while they are compared: as they are, or as their exponentials, which cost no logarithm each.
pub(super) struct Scale {
    exponential: bool,
    /// Adds kappa.
    kappa: f64,
    /// Takes epsilon away.
    epsilon: f64,
    /// Adds [`OF_NO_USE`].
    of_no_use: f64,
}

impl Scale {
    /// As they are.
    pub fn linear(plane: &Plane) -> Self {
        Self { exponential: false, kappa: kappa(plane), epsilon: -EPSILON, of_no_use: OF_NO_USE }
    }

    /// As their exponentials, of the unit that frames have.
    pub fn exponential(plane: &Plane) -> Self {
        let Self { kappa, epsilon, of_no_use, .. } = Self::linear(plane);
        let [kappa, epsilon, of_no_use] = [kappa, epsilon, of_no_use].map(libm::exp);
        Self { exponential: true, kappa, epsilon, of_no_use }
    }

    fn shift(&self, value: f64, by: f64) -> f64 {
        if self.exponential { value * by } else { value + by }
    }

    /// `value` and the price of going by a hint or an advertised link.
    pub fn dearer(&self, value: f64) -> f64 {
        self.shift(value, self.kappa)
    }

    /// Who is worth more is not chosen when somebody is worth `value`.
    pub fn limit(&self, value: f64) -> f64 {
        self.shift(value, self.of_no_use)
    }

    /// Whether `value` is less than `other` by more than epsilon.
    pub fn gains(&self, value: f64, other: f64) -> bool {
        value < self.shift(other, self.epsilon)
    }

    /// Back to a distance.
    pub fn distance(&self, value: f64) -> f64 {
        if self.exponential { distance_of(value) } else { value }
    }
}
