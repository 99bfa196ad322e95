//! What is going to happen, in the order in which it will.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use multiaddr::Multiaddr;
use overlay::io::Lane;
use overlay::time::Instant;

/// Something that happens to one node.
pub enum Happening {
    /// It starts.
    Start(usize),
    /// Its timer may be due.
    Timer(usize),
    /// It has dialled an address.
    Dialled { from: usize, address: Multiaddr },
    /// Nobody was there.
    DialFailed { from: usize, address: Multiaddr },
    /// A link is up at this end.
    Up { link: u64, remote: Multiaddr, initiator: bool },
    /// A link is down at this end.
    Down { link: u64 },
    /// A frame arrives at this end.
    Frame { link: u64, lane: Lane, bytes: Vec<u8> },
}

/// When something was caused, by which node, and the how manieth thing of that node it is. No two are the same, and none depends on how the
/// nodes are divided among threads.
pub type Cause = (Instant, usize, u64);

/// An entry of an agenda.
pub struct Entry {
    /// When.
    pub at: Instant,
    /// Orders what happens at one time.
    pub cause: Cause,
    /// What.
    pub what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.cause) == (other.at, other.cause)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.cause).cmp(&(other.at, other.cause))
    }
}

/// Entries are kept in spans of this length, in microseconds, until the time is near: to keep all of them in order, of which there are some for each
/// node, would be a good part of the work.
const SPAN_US: u64 = 1000;

/// Entries by time, then by what caused them.
#[derive(Default)]
pub struct Agenda {
    /// What happens in the spans up to `near`, in order.
    soon: BinaryHeap<Reverse<Entry>>,
    /// The number of the latest span of which that is so.
    near: u64,
    /// What happens in the spans after it.
    later: BTreeMap<u64, Vec<Reverse<Entry>>>,
}

impl Agenda {
    /// Adds something.
    pub fn push(&mut self, entry: Entry) {
        match entry.at.as_micros() / SPAN_US {
            span if span <= self.near => self.soon.push(Reverse(entry)),
            span => self.later.entry(span).or_default().push(Reverse(entry)),
        }
    }

    /// When the next thing happens.
    pub fn next_at(&mut self) -> Option<Instant> {
        if self.soon.is_empty()
            && let Some((span, entries)) = self.later.pop_first()
        {
            (self.near, self.soon) = (span, entries.into());
        }
        self.soon.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next thing, if it happens by `until`.
    pub fn pop_until(&mut self, until: Instant) -> Option<Entry> {
        if self.next_at()? > until {
            return None;
        }
        self.soon.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use overlay::rng::Rng;

    use super::*;

    #[test]
    fn everything_happens_in_order_and_what_is_added_late_in_its_turn() {
        let mut rng = Rng::from_seed([1; 32]);
        let mut agenda = Agenda::default();
        let (mut added, mut happened) = (0, Vec::new());
        let mut now = 0;
        while added < 3000 {
            for _ in 0..rng.index(20) {
                let at = now + [0, 1, 400, 5000, 90_000][rng.index(5)] + rng.below(3);
                let cause = (Instant::from_micros(now), 0, added);
                agenda.push(Entry { at: Instant::from_micros(at), cause, what: Happening::Timer(0) });
                added += 1;
            }
            now += rng.below(2000);
            while let Some(entry) = agenda.pop_until(Instant::from_micros(now)) {
                assert!(entry.at <= Instant::from_micros(now));
                happened.push((entry.at, entry.cause));
            }
            assert!(agenda.next_at().is_none_or(|next| next > Instant::from_micros(now)));
        }
        while let Some(entry) = agenda.pop_until(Instant::from_micros(u64::MAX)) {
            happened.push((entry.at, entry.cause));
        }
        assert_eq!(happened.len() as u64, added);
        assert!(happened.is_sorted(), "not in order");
    }
}
