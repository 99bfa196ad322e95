//! What is going to happen, in the order in which it will.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

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

/// An entry of an agenda.
pub struct Entry {
    /// When.
    pub at: Instant,
    /// Orders what happens at one time.
    pub order: u64,
    /// What.
    pub what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
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
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Entries by time, then by when they were made.
#[derive(Default)]
pub struct Agenda {
    heap: BinaryHeap<Reverse<Entry>>,
    made: u64,
}

impl Agenda {
    /// Adds something.
    pub fn push(&mut self, at: Instant, what: Happening) {
        self.made += 1;
        self.heap.push(Reverse(Entry { at, order: self.made, what }));
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next thing, if it happens by `until`.
    pub fn pop_until(&mut self, until: Instant) -> Option<Entry> {
        if self.next_at()? > until {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
