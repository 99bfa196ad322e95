//! Which vertex keeps a record: weighted rendezvous hashing down the tree.
//!
//! From the root down each vertex picks itself (weight 1) or one of its children (weight: the size of
//! the child's subtree) by the greatest `-w / ln(u)`, where `u` in (0, 1) is a hash of the key, the replica, the vertex's place
//! and the candidate. That gives each candidate its share of the keys, so every node of the tree gets the same number; and when one
//! candidate's weight changes or it goes, only keys that move to or from it move.

use sha2::{Digest as _, Sha256};

use crate::address::Address;
use crate::id::NodeId;
use crate::record::RecordKey;

/// How many binders keep each record.
///
/// With one tree they are four walks down the same tree, each with its own salt; in a small overlay some of them coincide.
pub const REPLICAS: u8 = 4;

const HASHED_TEXT: &[u8] = b"muses-place-v1";
const STEP: f64 = 1.25;
/// Highest level of a weight: 1.25^99 is about 4e9 nodes.
const MAX_LEVEL: u8 = 100;
/// A weight follows the size only when it is more than this many steps off. Half a step would be plain rounding.
const HYSTERESIS_STEPS: f64 = 0.75;

/// The size of a subtree, in steps of 25 %: keys move only when it changed noticeably.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Weight(u8);

impl Weight {
    /// Takes no records.
    pub const NONE: Self = Self(0);
    /// One node.
    pub const ONE: Self = Self(1);

    /// The weight nearest to `size` nodes that store records.
    pub fn of(size: u64) -> Self {
        if size == 0 {
            return Self::NONE;
        }
        let level = 1.0 + libm::round(steps(size));
        // In range by the clamp, and a whole number by the rounding.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Self(level.clamp(1.0, f64::from(MAX_LEVEL)) as u8)
    }

    /// This weight while it is near enough to `size`, or the one nearest to it: a size that wavers about a step moves no keys.
    #[must_use]
    pub fn follow(self, size: u64) -> Self {
        let near = size > 0 && self.0 > 0 && libm::fabs(steps(size) - (f64::from(self.0) - 1.0)) <= HYSTERESIS_STEPS;
        if near { self } else { Self::of(size) }
    }

    /// The number of its step, as it travels; 0 for [`Weight::NONE`].
    pub const fn level(self) -> u8 {
        self.0
    }

    /// The weight of this step; the greatest one for steps beyond that.
    pub const fn from_level(level: u8) -> Self {
        Self(if level < MAX_LEVEL { level } else { MAX_LEVEL })
    }

    /// As a number of nodes; 0 for [`Weight::NONE`].
    pub fn value(self) -> f64 {
        // By multiplication, so that all platforms get the same bits.
        if self.0 == 0 { 0.0 } else { (1..self.0).fold(1.0, |value, _| value * STEP) }
    }
}

/// A child that can be reached now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Child {
    /// Who it is.
    pub id: NodeId,
    /// Its slot below the vertex.
    pub slot: u16,
    /// The size of its subtree.
    pub weight: Weight,
}

/// What a vertex chooses from, as it tells those below it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// Its own weight: [`Weight::ONE`], or [`Weight::NONE`] when it stores nothing.
    pub own: Weight,
    /// Its children by slot, in rising order.
    pub children: Vec<(u16, Weight)>,
}

impl Table {
    /// The slot of the child to which the vertex with `address` sends a walk for `key` and `replica`; none for itself.
    pub fn choose(&self, key: &RecordKey, replica: u8, address: &[u8]) -> Option<u16> {
        choose_slot(key, replica, address, self.own, self.children.iter().copied())
    }
}

/// Where a walk goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// It ends: this vertex is the binder.
    Here,
    /// Down to this child.
    Child(NodeId),
}

/// The next step of a walk for `key` and `replica` that goes down and has reached the vertex with `address`.
///
/// `own` is [`Weight::ONE`], or [`Weight::NONE`] for a vertex that stores nothing (a leaf by configuration, or one that leaves).
/// Children without a live link are left out by the caller. Without any candidate the walk ends here all the same.
/// The order of `children` does not matter.
pub fn choose(key: &RecordKey, replica: u8, address: &Address, own: Weight, children: &[Child]) -> Choice {
    let slots = children.iter().map(|child| (child.slot, child.weight));
    let slot = choose_slot(key, replica, address.as_slice(), own, slots);
    let child = children.iter().find(|child| Some(child.slot) == slot);
    child.map_or(Choice::Here, |child| Choice::Child(child.id))
}

fn choose_slot(
    key: &RecordKey,
    replica: u8,
    address: &[u8],
    own: Weight,
    children: impl Iterator<Item = (u16, Weight)>,
) -> Option<u16> {
    let here = prefix(key, replica, address);
    let mut best = (score(&here, None, own), None);
    for (slot, weight) in children {
        let score = score(&here, Some(slot), weight);
        let tie = score == best.0 && best.1.is_some_and(|least| slot < least);
        if score > best.0 || tie {
            best = (score, Some(slot));
        }
    }
    best.1
}

fn steps(size: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)] // a weight needs no more than a few digits
    let size = size as f64;
    libm::log(size) / libm::log(STEP)
}

fn prefix(key: &RecordKey, replica: u8, word: &[u8]) -> Sha256 {
    let len = u16::try_from(word.len()).unwrap_or(u16::MAX);
    Sha256::new()
        .chain_update(HASHED_TEXT)
        .chain_update(key)
        .chain_update([replica])
        .chain_update(len.to_be_bytes())
        .chain_update(word)
}

/// `child` is none for the vertex itself.
fn score(here: &Sha256, child: Option<u16>, weight: Weight) -> f64 {
    if weight == Weight::NONE {
        return 0.0;
    }
    let [high, low] = child.unwrap_or(0).to_be_bytes();
    let candidate = [u8::from(child.is_some()), high, low];
    let hash: [u8; 32] = here.clone().chain_update(candidate).finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    let bits = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 12;
    #[allow(clippy::cast_precision_loss)] // 52 bits fit
    let u = (bits as f64 + 0.5) / 4_503_599_627_370_496.0;
    -weight.value() / libm::log(u)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn children(weights: &[u64]) -> Vec<Child> {
        let child = |(slot, size): (u8, &u64)| Child {
            id: NodeId::from_bytes([slot; 32]),
            slot: slot.into(),
            weight: Weight::of(*size),
        };
        (0..).zip(weights).map(child).collect()
    }

    #[test]
    fn weights_round_and_resist_wavering() {
        assert_eq!(Weight::of(0), Weight::NONE);
        assert_eq!(Weight::of(1), Weight::ONE);
        assert_eq!(Weight::NONE.follow(1), Weight::ONE);
        assert_eq!(Weight::ONE.follow(0), Weight::NONE);
        for size in [1, 2, 3, 10, 1000, 123_456, 4_000_000_000] {
            let ratio = Weight::of(size).value() / size as f64;
            assert!((0.87..1.17).contains(&ratio), "{size}: {ratio}");
        }
        let weight = Weight::of(100);
        assert_eq!(weight.follow(112), weight);
        assert_ne!(weight.follow(200), weight);
        assert_eq!(Weight::of(u64::MAX), Weight(MAX_LEVEL));
    }

    #[test]
    fn shares_match_the_weights_and_order_does_not_matter() {
        let all = children(&[1, 10, 5, 0]);
        let reversed: Vec<_> = all.iter().rev().copied().collect();
        let mut counts = [0u32; 5];
        for n in 0u32..8000 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            let choice = choose(&key, 1, &Address::root(), Weight::ONE, &all);
            assert_eq!(choice, choose(&key, 1, &Address::root(), Weight::ONE, &reversed));
            match choice {
                Choice::Here => counts[4] += 1,
                Choice::Child(id) => counts[usize::from(id.as_bytes()[0])] += 1,
            }
        }
        let total: f64 = 2.0 + Weight::of(10).value() + Weight::of(5).value();
        let share = |weight: Weight| 8000.0 * weight.value() / total;
        for (count, size) in counts.iter().zip([1, 10, 5, 0, 1]) {
            let expected = share(Weight::of(size));
            assert!((f64::from(*count) - expected).abs() < 0.1 * expected + 40.0, "{counts:?}");
        }
        assert_eq!(counts[3], 0);
    }

    #[test]
    fn losing_a_child_moves_only_its_keys() {
        let all = children(&[3, 3, 3]);
        let fewer = &all[..2];
        for n in 0u8..200 {
            let before = choose(&[n; 32], 0, &Address::root(), Weight::ONE, &all);
            if before != Choice::Child(all[2].id) {
                assert_eq!(before, choose(&[n; 32], 0, &Address::root(), Weight::ONE, fewer));
            }
        }
    }

    #[test]
    fn a_vertex_without_candidates_is_the_binder() {
        assert_eq!(choose(&[7; 32], 0, &Address::root(), Weight::NONE, &children(&[0])), Choice::Here);
    }

    /// The choice is part of the protocol: all nodes have to make the same one.
    #[test]
    fn golden_choices() {
        let all = children(&[1, 2, 4, 8]);
        let picks: Vec<u8> = (0..16)
            .map(|n| match choose(&[n; 32], n % REPLICAS, &Address::root(), Weight::ONE, &all) {
                Choice::Here => 255,
                Choice::Child(id) => id.as_bytes()[0],
            })
            .collect();
        assert_eq!(picks, GOLDEN);
    }

    const GOLDEN: [u8; 16] = [2, 3, 1, 2, 3, 3, 0, 2, 2, 255, 3, 255, 1, 3, 1, 3];
}
