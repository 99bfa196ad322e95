//! Sets of packet numbers and stream offsets, kept as ranges.

use core::ops::RangeInclusive;
use std::collections::BTreeMap;

/// A set of numbers as disjoint, non-adjacent ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// First number of a range to its last.
    by_start: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds every number of `start..=end`; nothing when `end < start`.
    pub fn insert(&mut self, start: u64, end: u64) {
        if end < start {
            return;
        }
        let (mut start, mut end) = (start, end);
        // A predecessor that overlaps or touches swallows the new range.
        if let Some((&before, &last)) = self.by_start.range(..=start).next_back()
            && last.saturating_add(1) >= start
        {
            start = before;
            end = end.max(last);
        }
        while let Some((&next, &last)) = self.by_start.range(start..=end.saturating_add(1)).next() {
            end = end.max(last);
            self.by_start.remove(&next);
        }
        self.by_start.insert(start, end);
    }

    /// Takes every number of `start..=end` out.
    pub fn remove(&mut self, start: u64, end: u64) {
        if end < start {
            return;
        }
        if let Some((&before, &last)) = self.by_start.range(..start).next_back()
            && last >= start
        {
            self.by_start.insert(before, start.saturating_sub(1));
            if last > end {
                self.by_start.insert(end.saturating_add(1), last);
            }
        }
        while let Some((&next, &last)) = self.by_start.range(start..=end).next() {
            self.by_start.remove(&next);
            if last > end {
                self.by_start.insert(end.saturating_add(1), last);
            }
        }
    }

    /// Whether `value` is in the set.
    pub fn contains(&self, value: u64) -> bool {
        self.by_start.range(..=value).next_back().is_some_and(|(_, &last)| last >= value)
    }

    /// The lowest range.
    pub fn first(&self) -> Option<(u64, u64)> {
        self.by_start.first_key_value().map(|(&start, &end)| (start, end))
    }

    /// The highest number.
    pub fn largest(&self) -> Option<u64> {
        self.by_start.last_key_value().map(|(_, &end)| end)
    }

    /// The lowest number that is not in the set.
    pub fn first_missing(&self) -> u64 {
        match self.first() {
            Some((0, end)) => end.saturating_add(1),
            _ => 0,
        }
    }

    /// Drops the lowest ranges until at most `count` are left.
    pub fn keep_highest(&mut self, count: usize) {
        while self.by_start.len() > count {
            self.by_start.pop_first();
        }
    }

    /// The ranges, highest first.
    pub fn descending(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.by_start.iter().rev().map(|(&start, &end)| start..=end)
    }

    /// The ranges, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        self.by_start.iter().map(|(&start, &end)| start..=end)
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// Empties the set.
    pub fn clear(&mut self) {
        self.by_start.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_reference_set(ops in prop::collection::vec((any::<bool>(), 0u64..60, 0u64..12), 0..60)) {
            let mut ranges = Ranges::default();
            let mut reference = BTreeSet::new();
            for (insert, start, len) in ops {
                if insert {
                    ranges.insert(start, start + len);
                    reference.extend(start..=start + len);
                } else {
                    ranges.remove(start, start + len);
                    reference.retain(|x| !(start..=start + len).contains(x));
                }
                let flat: Vec<u64> = ranges.iter().flatten().collect();
                prop_assert_eq!(&flat, &reference.iter().copied().collect::<Vec<_>>());
                let ends: Vec<_> = ranges.iter().collect();
                prop_assert!(ends.windows(2).all(|w| w[0].end() + 1 < *w[1].start()));
            }
        }
    }

    #[test]
    fn first_missing_counts_from_zero() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.first_missing(), 0);
        ranges.insert(0, 4);
        ranges.insert(6, 9);
        assert_eq!(ranges.first_missing(), 5);
        ranges.keep_highest(1);
        assert_eq!(ranges.first(), Some((6, 9)));
    }
}
