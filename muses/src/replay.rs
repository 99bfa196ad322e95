//! The window that lets every packet number through once (RFC 6479).

const WORD_BITS: u64 = 64;

/// How far behind the highest number seen a packet may still arrive.
pub const WINDOW_PACKETS: u64 = 8192;

/// One word more than the window: the word that holds the top is only partly filled.
const WORDS: u64 = WINDOW_PACKETS / WORD_BITS + 1;

/// Which packet numbers were seen. Ask with [`ReplayWindow::is_fresh`] first, and [`mark`](ReplayWindow::mark) only after the
/// packet was authenticated: so no forged number moves the window.
#[derive(Clone, Default)]
pub struct ReplayWindow {
    /// As many as were needed so far, at most [`WORDS`]: most sessions never see many packets. What is missing is zero.
    words: Vec<u64>,
    /// One more than the highest number seen.
    next: u64,
}

impl ReplayWindow {
    /// Whether `number` was neither seen nor left behind.
    pub fn is_fresh(&self, number: u64) -> bool {
        if number >= self.next {
            return true;
        }
        if self.next - number > WINDOW_PACKETS {
            return false;
        }
        self.words.get(slot(number)).is_none_or(|word| word & bit(number) == 0)
    }

    /// Marks `number` as seen, moving the window up if it is the highest. Returns whether it was fresh.
    pub fn mark(&mut self, number: u64) -> bool {
        if !self.is_fresh(number) {
            return false;
        }
        if number >= self.next {
            // The words that come into use between the old top and the new one are stale: clear them, each at most once.
            let old_top = self.next.checked_sub(1).map_or(0, |top| top / WORD_BITS);
            let entered = (number / WORD_BITS).saturating_sub(old_top).min(WORDS);
            for step in 0..entered {
                if let Some(word) = self.words.get_mut(slot(number.saturating_sub(step.saturating_mul(WORD_BITS)))) {
                    *word = 0;
                }
            }
            self.next = number.saturating_add(1);
        }
        self.grow_to(slot(number));
        if let Some(word) = self.words.get_mut(slot(number)) {
            *word |= bit(number);
        }
        true
    }

    fn grow_to(&mut self, slot: usize) {
        if slot >= self.words.len() {
            let most = usize::try_from(WORDS).unwrap_or(usize::MAX);
            self.words.resize(slot.saturating_add(1).next_power_of_two().min(most), 0);
        }
    }
}

fn slot(number: u64) -> usize {
    usize::try_from(number / WORD_BITS % WORDS).unwrap_or(0)
}

fn bit(number: u64) -> u64 {
    1 << (number % WORD_BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use overlay::rng::Rng;
    use proptest::prelude::*;

    use super::*;

    /// What the window has to do, with a set that forgets nothing.
    #[derive(Default)]
    struct Reference {
        seen: BTreeSet<u64>,
    }

    impl Reference {
        fn mark(&mut self, number: u64) -> bool {
            let in_window = self.seen.last().is_none_or(|top| number > *top || top - number < WINDOW_PACKETS);
            in_window && self.seen.insert(number)
        }
    }

    fn numbers() -> impl Strategy<Value = Vec<u64>> {
        let near = prop_oneof![0..200u64, 0..20_000u64, 8_100..8_400u64, 0..(1u64 << 40)];
        (prop_oneof![Just(0u64), Just(1 << 61), 0..(1u64 << 62)], prop::collection::vec(near, 1..400))
            .prop_map(|(base, steps)| steps.into_iter().map(|step| base + step).collect())
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(numbers in numbers()) {
            let mut window = ReplayWindow::default();
            let mut reference = Reference::default();
            for number in numbers {
                prop_assert_eq!(window.is_fresh(number), window.clone().mark(number));
                prop_assert_eq!(window.mark(number), reference.mark(number), "{}", number);
            }
        }

        #[test]
        fn agrees_with_a_set_on_walks(steps in prop::collection::vec((-9_000i64..9_000, 1usize..4), 1..300)) {
            let mut window = ReplayWindow::default();
            let mut reference = Reference::default();
            let mut at = 100_000i64;
            for (step, times) in steps {
                at = (at + step).max(0);
                for _ in 0..times {
                    prop_assert_eq!(window.mark(at.unsigned_abs()), reference.mark(at.unsigned_abs()));
                }
            }
        }
    }

    /// So many arrivals of a lossy, reordering network with somebody on it who repeats packets; returns how many were let through.
    fn agrees_with_a_set_for(arrivals: u64, seed: u8) -> u64 {
        let mut rng = Rng::from_seed([seed; 32]);
        let (mut window, mut reference) = (ReplayWindow::default(), Reference::default());
        let mut fresh = 0;
        let mut top = 0u64;
        for arrival in 0..arrivals {
            let number = match rng.below(20) {
                // In order; a little too early; late, or a replay, within the window and beyond it; and after a long loss.
                0..=9 => top + 1,
                10..=12 => top + rng.below(4),
                13..=17 => top.saturating_sub(rng.below(200)),
                18 => top.saturating_sub(rng.below(2 * WINDOW_PACKETS)),
                _ => match rng.below(1000) {
                    0 => top + rng.below(1 << 30),
                    1..=9 => top + rng.below(2 * WINDOW_PACKETS),
                    _ => top,
                },
            };
            top = top.max(number);
            let expected = reference.mark(number);
            assert_eq!(window.is_fresh(number), expected, "{arrival}: {number}");
            assert_eq!(window.mark(number), expected, "{arrival}: {number}");
            fresh += u64::from(expected);
            // What the window refuses for its age alone need not be remembered.
            while reference.seen.first().is_some_and(|oldest| top - oldest >= WINDOW_PACKETS) {
                reference.seen.pop_first();
            }
        }
        fresh
    }

    #[test]
    fn agrees_with_a_set_on_a_bad_network() {
        let fresh = agrees_with_a_set_for(100_000, 1);
        assert!((20_000..90_000).contains(&fresh), "{fresh}: both answers are frequent");
    }

    #[test]
    #[ignore = "10^7 arrivals; for the night"]
    fn agrees_with_a_set_on_a_bad_network_for_long() {
        assert!(agrees_with_a_set_for(10_000_000, 2) > 1_000_000);
    }

    #[test]
    fn the_edge_is_exact() {
        let mut window = ReplayWindow::default();
        assert!(window.mark(WINDOW_PACKETS));
        assert!(!window.is_fresh(0));
        assert!(window.mark(1));
        assert!(!window.mark(1));
    }
}
