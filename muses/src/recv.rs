//! The receiving half of a stream: puts pieces in order and says how much more may come.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use overlay::time::Instant;

use crate::error::Violation;
use crate::pool::Pool;
use crate::window::Window;

/// Most pieces that wait behind a gap; the packet that brings one more is refused, and so comes again.
const MAX_FRAGMENTS: usize = 2048;
/// Credit is renewed after so many bytes at the latest, however wide the window is: whoever only receives notices that the peer is gone by
/// what it said itself and is not acknowledged.
const MAX_CREDIT_STEP_BYTES: u64 = 256 * 1024;
/// Pieces in order are joined up to this length: a piece takes memory beside its bytes, and a peer may send single ones.
const JOINED_BYTES: usize = 4096;

/// Bytes from `read` on: those before `next` in order, the others behind gaps.
#[derive(Debug)]
pub(crate) struct RecvHalf {
    ready: VecDeque<Vec<u8>>,
    /// How much of the first ready piece was read.
    skip: usize,
    gapped: BTreeMap<u64, Vec<u8>>,
    read: u64,
    next: u64,
    highest: u64,
    end: Option<u64>,
    limit: u64,
    window: Window,
}

impl RecvHalf {
    /// A half whose peer believes in `limit` bytes of credit, and which means to keep a `window` open.
    pub fn new(limit: u64, window: Window) -> Self {
        Self {
            ready: VecDeque::new(),
            skip: 0,
            gapped: BTreeMap::new(),
            read: 0,
            next: 0,
            highest: 0,
            end: None,
            limit,
            window,
        }
    }

    /// Checks a piece before anything changes; returns by how much it raises the highest offset.
    ///
    /// # Errors
    /// [`Violation`] when it exceeds the credit, contradicts the stream's end, or is one fragment too many.
    pub fn check(&self, offset: u64, len: usize, fin: bool) -> Result<u64, Violation> {
        let last = offset.checked_add(len as u64).ok_or(Violation::Credit)?;
        if last > self.limit {
            return Err(Violation::Credit);
        }
        if self.end.is_some_and(|end| last > end || (fin && last != end)) || (fin && last < self.highest) {
            return Err(Violation::FinalOffset);
        }
        if offset > self.next && self.gapped.len() >= MAX_FRAGMENTS {
            return Err(Violation::Fragments);
        }
        Ok(last.saturating_sub(self.highest))
    }

    /// Takes a piece that [`RecvHalf::check`] let pass.
    pub fn insert(&mut self, offset: u64, data: &[u8], fin: bool) {
        let last = offset.saturating_add(data.len() as u64);
        self.highest = self.highest.max(last);
        if fin {
            self.end = Some(last);
        }
        if offset <= self.next {
            self.append(offset, data);
            while let Some(entry) = self.gapped.first_entry()
                && *entry.key() <= self.next
            {
                let (offset, data) = entry.remove_entry();
                self.append(offset, &data);
            }
        } else {
            self.insert_gapped(offset, data);
        }
    }

    fn append(&mut self, offset: u64, data: &[u8]) {
        let known = usize::try_from(self.next.saturating_sub(offset)).unwrap_or(usize::MAX);
        let Some(new) = data.get(known..).filter(|new| !new.is_empty()) else { return };
        self.next = self.next.saturating_add(new.len() as u64);
        match self.ready.back_mut() {
            Some(last) if last.len() + new.len() <= JOINED_BYTES => last.extend_from_slice(new),
            _ => self.ready.push_back(new.to_vec()),
        }
    }

    /// Keeps only what no other fragment covers, so that the memory held never exceeds the credit given.
    fn insert_gapped(&mut self, offset: u64, data: &[u8]) {
        let (mut at, mut rest) = (offset, data);
        if let Some((&before, piece)) = self.gapped.range(..=at).next_back() {
            let covered = before.saturating_add(piece.len() as u64).saturating_sub(at);
            let covered = usize::try_from(covered).unwrap_or(usize::MAX).min(rest.len());
            rest = rest.get(covered..).unwrap_or_default();
            at = at.saturating_add(covered as u64);
        }
        // It lies in at most one more gap than there are fragments, which [`RecvHalf::check`] has counted.
        while !rest.is_empty() {
            let following = self.gapped.range(at..).next().map(|(&start, piece)| (start, piece.len()));
            let free = following.map_or(rest.len(), |(start, _)| {
                usize::try_from(start.saturating_sub(at)).unwrap_or(usize::MAX).min(rest.len())
            });
            let (now, later) = rest.split_at(free);
            if !now.is_empty() {
                self.gapped.insert(at, now.to_vec());
            }
            let covered = following.map_or(0, |(_, len)| len.min(later.len()));
            rest = later.get(covered..).unwrap_or_default();
            at = at.saturating_add((free + covered) as u64);
        }
    }

    /// At most `max` bytes in order; empty when there are none.
    pub fn read(&mut self, max: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < max
            && let Some(piece) = self.ready.front_mut()
        {
            let room = max - out.len();
            if self.skip == 0 && out.is_empty() && piece.len() <= room {
                // The usual case: a whole piece changes hands without a copy.
                out = core::mem::take(piece);
                self.ready.pop_front();
                if out.len() * 4 >= max {
                    break;
                }
                continue;
            }
            let rest = piece.get(self.skip..).unwrap_or_default();
            let take = rest.len().min(room);
            out.extend_from_slice(rest.get(..take).unwrap_or_default());
            self.skip += take;
            if self.skip >= piece.len() {
                self.ready.pop_front();
                self.skip = 0;
            }
        }
        self.read = self.read.saturating_add(out.len() as u64);
        out
    }

    /// Whether a piece at `offset` would wait behind a gap.
    pub fn would_wait(&self, offset: u64) -> bool {
        offset > self.next
    }

    /// How many pieces wait behind gaps.
    pub fn fragments(&self) -> usize {
        self.gapped.len()
    }

    /// Whether `read` would bring bytes or the end.
    pub fn is_readable(&self) -> bool {
        self.read < self.next || self.is_read_out()
    }

    /// Whether everything up to the end was read.
    pub fn is_read_out(&self) -> bool {
        self.end == Some(self.read)
    }

    /// What was seen but not read.
    pub fn unread(&self) -> u64 {
        self.highest.saturating_sub(self.read)
    }

    /// Whether the peer's end is known.
    pub fn has_end(&self) -> bool {
        self.end.is_some()
    }

    /// Something arrived at `now`: the window grows if the reader makes use of it.
    pub fn look(&mut self, round_trip: Duration, now: Instant, pool: &Pool) -> bool {
        self.window.look(self.read, round_trip, now, pool)
    }

    /// The limit to tell the peer now, when it is worth a frame.
    pub fn credit_due(&self) -> Option<u64> {
        let window = self.window.bytes();
        let target = self.read.saturating_add(window);
        let worth = target.saturating_sub(self.limit) >= (window / 4).min(MAX_CREDIT_STEP_BYTES);
        (worth && self.end.is_none()).then_some(target)
    }

    /// The limit that the peer was told.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The peer is being told `limit`.
    pub fn raise_limit(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Throws all bytes away and counts them as read.
    pub fn discard(&mut self) {
        self.ready.clear();
        self.gapped.clear();
        self.skip = 0;
        self.read = self.highest;
        self.next = self.highest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn order_and_overlap_do_not_matter(
            pieces in prop::collection::vec((0usize..900, 1usize..200), 1..60),
            max in 1usize..300,
        ) {
            let data: Vec<u8> = (0..1000u32).map(|i| (i % 239) as u8).collect();
            let mut half = RecvHalf::new(1000, Window::new(1000, 1000));
            let mut out = Vec::new();
            let all = pieces.iter().copied().chain((0..10).map(|i| (i * 100, 100)));
            for (offset, len) in all {
                let end = (offset + len).min(1000);
                half.check(offset as u64, end - offset, end == 1000).unwrap();
                half.insert(offset as u64, &data[offset..end], end == 1000);
                let held: usize = half.gapped.values().map(Vec::len).sum();
                prop_assert!(held <= 1000);
                out.extend(half.read(max));
            }
            while !half.is_read_out() {
                out.extend(half.read(max));
            }
            prop_assert_eq!(out, data);
        }
    }

    #[test]
    fn a_piece_over_many_gaps_is_kept_whole() {
        let data: Vec<u8> = (0..2 * MAX_FRAGMENTS).map(|i| u8::try_from(i % 239).unwrap()).collect();
        let mut half = RecvHalf::new(data.len() as u64, Window::new(data.len() as u64, data.len() as u64));
        let mut insert = |from: usize, to: usize| {
            half.check(from as u64, to - from, false).unwrap();
            half.insert(from as u64, &data[from..to], false);
        };
        (1..MAX_FRAGMENTS).for_each(|index| insert(2 * index, 2 * index + 1));
        insert(1, data.len());
        insert(0, 1);
        let read: Vec<u8> =
            core::iter::from_fn(|| Some(half.read(1000)).filter(|read| !read.is_empty())).flatten().collect();
        assert_eq!(read, data);
    }

    #[test]
    fn refuses_what_breaks_credit_or_end() {
        let mut half = RecvHalf::new(10, Window::new(10, 10));
        assert_eq!(half.check(5, 6, false), Err(Violation::Credit));
        assert_eq!(half.check(u64::MAX, 1, false), Err(Violation::Credit));
        assert_eq!(half.check(0, 4, true), Ok(4));
        half.insert(0, b"abcd", true);
        assert_eq!(half.check(0, 5, false), Err(Violation::FinalOffset));
        assert_eq!(half.check(0, 3, true), Err(Violation::FinalOffset));
        assert_eq!(half.read(100), b"abcd");
        assert!(half.is_read_out());
    }

    #[test]
    fn single_bytes_are_kept_together() {
        let mut half = RecvHalf::new(100_000, Window::new(100_000, 100_000));
        let data: Vec<u8> = (0..50_000u32).map(|i| (i % 251) as u8).collect();
        for (offset, byte) in data.iter().enumerate() {
            half.insert(offset as u64, &[*byte], false);
        }
        assert!(half.ready.len() <= data.len() / JOINED_BYTES + 1, "{} pieces", half.ready.len());
        let out: Vec<u8> =
            core::iter::from_fn(|| Some(half.read(777)).filter(|bytes| !bytes.is_empty())).flatten().collect();
        assert!(out == data);
    }

    #[test]
    fn credit_follows_the_reader() {
        let mut half = RecvHalf::new(100, Window::new(100, 100));
        half.insert(0, &[1; 100], false);
        assert_eq!(half.credit_due(), None);
        half.read(30);
        assert_eq!(half.credit_due(), Some(130));
        half.raise_limit(130);
        assert_eq!(half.credit_due(), None);
    }
}
