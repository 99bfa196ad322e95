//! The sending half of a stream: what the application wrote and the peer does not have yet.

use std::collections::VecDeque;

use crate::ack::Ranges;

/// Bytes are kept in pieces of this size, so that the place of an offset is a division.
const CHUNK_BYTES: usize = 16 * 1024;

/// Bytes from `freed` to `end`, of which those below `next` were sent at least once.
#[derive(Debug, Default)]
pub(crate) struct SendHalf {
    /// Full chunks but for the last; the first begins at `base`.
    chunks: VecDeque<Vec<u8>>,
    base: u64,
    /// Everything below was acknowledged.
    freed: u64,
    /// Acknowledged beyond `freed`.
    acked: Ranges,
    /// To be sent again.
    lost: Ranges,
    next: u64,
    end: u64,
    limit: u64,
    fin: Fin,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fin {
    #[default]
    Open,
    ToSend,
    Sent,
    Acked,
}

/// A piece to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub offset: u64,
    pub len: usize,
    pub fin: bool,
}

impl SendHalf {
    /// A half that may send up to offset `limit`.
    pub fn new(limit: u64) -> Self {
        Self { limit, ..Self::default() }
    }

    /// What is left of `half` after a reset: how much was sent, and none of the bytes.
    pub fn forgetting(half: &Self) -> Self {
        Self { next: half.next, end: half.next, freed: half.next, base: half.next, fin: Fin::Acked, ..Self::default() }
    }

    /// Nothing sent so far reached the peer.
    pub fn rewind(&mut self) {
        self.next = 0;
        self.lost.clear();
        self.limit = crate::config::INITIAL_STREAM_CREDIT_BYTES;
        if self.fin == Fin::Sent {
            self.fin = Fin::ToSend;
        }
    }

    /// Takes what fits of `data` when at most `capacity` bytes may be held; returns how much.
    pub fn write(&mut self, data: &[u8], capacity: u64) -> usize {
        if self.fin != Fin::Open {
            return 0;
        }
        let room = usize::try_from(capacity.saturating_sub(self.held_bytes())).unwrap_or(usize::MAX);
        let (mut rest, _) = data.split_at(room.min(data.len()));
        let taken = rest.len();
        while !rest.is_empty() {
            if self.chunks.back().is_none_or(|chunk| chunk.len() >= CHUNK_BYTES) {
                self.chunks.push_back(Vec::with_capacity(rest.len().min(CHUNK_BYTES)));
            }
            if let Some(chunk) = self.chunks.back_mut() {
                let (now, later) = rest.split_at(rest.len().min(CHUNK_BYTES - chunk.len()));
                chunk.extend_from_slice(now);
                rest = later;
            }
        }
        self.end = self.end.saturating_add(taken as u64);
        taken
    }

    /// Bytes written but not yet acknowledged.
    pub fn held_bytes(&self) -> u64 {
        self.end.saturating_sub(self.freed)
    }

    /// Nothing more will be written.
    pub fn finish(&mut self) {
        if self.fin == Fin::Open {
            self.fin = Fin::ToSend;
        }
    }

    /// Whether the peer has everything, the end included.
    pub fn is_done(&self) -> bool {
        self.fin == Fin::Acked && self.freed == self.end
    }

    /// How many bytes were ever sent.
    pub fn sent_bytes(&self) -> u64 {
        self.next
    }

    /// The peer lets us send below offset `limit`.
    pub fn raise_limit(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Whether something can be sent when the session gives credit for `session_credit` new bytes.
    pub fn has_work(&self, session_credit: u64) -> bool {
        !self.lost.is_empty()
            || (self.next < self.end.min(self.limit) && session_credit > 0)
            || (self.fin == Fin::ToSend && self.next == self.end)
    }

    /// The next piece of at most `max` bytes, lost bytes first; it counts as sent. Also how many of its bytes are new.
    pub fn take_piece(&mut self, max: usize, session_credit: u64) -> Option<(Piece, u64)> {
        if let Some((start, last)) = self.lost.first() {
            let last = last.min(start.saturating_add((max as u64).max(1) - 1));
            self.lost.remove(start, last);
            let len = usize::try_from(last - start + 1).unwrap_or(0);
            return Some((self.piece(start, len), 0));
        }
        let room = self.end.min(self.limit).saturating_sub(self.next).min(session_credit);
        let len = usize::try_from(room).unwrap_or(usize::MAX).min(max);
        if len == 0 && !(self.fin == Fin::ToSend && self.next == self.end) {
            return None;
        }
        let start = self.next;
        self.next = start.saturating_add(len as u64);
        Some((self.piece(start, len), len as u64))
    }

    fn piece(&mut self, offset: u64, len: usize) -> Piece {
        let fin = matches!(self.fin, Fin::ToSend | Fin::Sent) && offset.saturating_add(len as u64) == self.end;
        if fin {
            self.fin = Fin::Sent;
        }
        Piece { offset, len, fin }
    }

    /// Appends the bytes of `piece` to `out`.
    pub fn copy(&self, piece: Piece, out: &mut Vec<u8>) {
        let Ok(skip) = usize::try_from(piece.offset.saturating_sub(self.base)) else { return };
        let (mut index, mut within, mut left) = (skip / CHUNK_BYTES, skip % CHUNK_BYTES, piece.len);
        while left > 0 {
            let Some(bytes) = self.chunks.get(index).and_then(|chunk| chunk.get(within..)) else { return };
            let bytes = bytes.get(..left.min(bytes.len())).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            out.extend_from_slice(bytes);
            left -= bytes.len();
            (index, within) = (index + 1, 0);
        }
    }

    /// The peer has `piece`.
    pub fn on_acked(&mut self, piece: Piece) {
        if piece.fin {
            self.fin = Fin::Acked;
        }
        if piece.len > 0 {
            let last = piece.offset.saturating_add(piece.len as u64 - 1);
            self.lost.remove(piece.offset, last);
            self.acked.insert(piece.offset.max(self.freed), last);
        }
        if let Some((start, last)) = self.acked.first()
            && start <= self.freed
        {
            self.acked.remove(start, last);
            self.freed = last.saturating_add(1);
        }
        while self.base.saturating_add(CHUNK_BYTES as u64) <= self.freed && !self.chunks.is_empty() {
            self.chunks.pop_front();
            self.base = self.base.saturating_add(CHUNK_BYTES as u64);
        }
    }

    /// `piece` was lost on the way.
    pub fn on_lost(&mut self, piece: Piece) {
        if piece.fin && self.fin == Fin::Sent {
            self.fin = Fin::ToSend;
        }
        if piece.len == 0 {
            return;
        }
        let last = piece.offset.saturating_add(piece.len as u64 - 1);
        self.lost.insert(piece.offset.max(self.freed), last);
        for range in self.acked.iter() {
            if *range.start() > last {
                break;
            }
            self.lost.remove(*range.start(), *range.end());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(half: &SendHalf, piece: Piece) -> Vec<u8> {
        let mut out = Vec::new();
        half.copy(piece, &mut out);
        out
    }

    #[test]
    fn holds_no_more_than_its_capacity_and_frees_what_is_acked() {
        let mut half = SendHalf::new(u64::MAX);
        let data: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        assert_eq!(half.write(&data, 50_000), 50_000);
        assert_eq!(half.write(&data, 50_000), 0);
        let (piece, new) = half.take_piece(40_000, u64::MAX).unwrap();
        assert_eq!((new, bytes(&half, piece)), (40_000, data[..40_000].to_vec()));
        half.on_acked(piece);
        assert_eq!(half.chunks.len(), 2);
        assert_eq!(half.write(&data[50_000..], 50_000), 40_000);
        half.finish();
        assert!(!half.is_done());
        while let Some((piece, _)) = half.take_piece(7_000, u64::MAX) {
            assert_eq!(bytes(&half, piece), data[usize::try_from(piece.offset).unwrap()..][..piece.len]);
            half.on_acked(piece);
        }
        assert!(half.is_done());
    }

    #[test]
    fn credit_of_stream_and_session_hold_it_back() {
        let mut half = SendHalf::new(10);
        half.write(&[7; 30], 100);
        assert_eq!(half.take_piece(100, 4).unwrap().0.len, 4);
        assert_eq!(half.take_piece(100, 100).unwrap().0.len, 6);
        assert!(half.take_piece(100, 100).is_none() && !half.has_work(100));
        half.raise_limit(12);
        assert!(half.has_work(1) && !half.has_work(0));
    }

    proptest! {
        #[test]
        fn every_byte_arrives_whatever_is_lost(fates in prop::collection::vec(0u8..3, 1..200), max in 1usize..40_000) {
            let data: Vec<u8> = (0..90_000u32).map(|i| (i % 241) as u8).collect();
            let mut half = SendHalf::new(u64::MAX);
            half.write(&data, u64::MAX);
            half.finish();
            let (mut got, mut flying, mut fates) = (vec![None; data.len()], Vec::new(), fates.into_iter());
            loop {
                let Some((piece, _)) = half.take_piece(max, u64::MAX) else {
                    if flying.is_empty() { break; }
                    flying.drain(..).for_each(|piece| half.on_lost(piece));
                    continue;
                };
                let content = bytes(&half, piece);
                prop_assert_eq!(content.len(), piece.len);
                match fates.next().unwrap_or(0) {
                    0 => {
                        let start = usize::try_from(piece.offset).unwrap();
                        for (i, byte) in content.into_iter().enumerate() { got[start + i] = Some(byte); }
                        half.on_acked(piece);
                    }
                    1 => half.on_lost(piece),
                    _ => flying.push(piece),
                }
            }
            prop_assert!(half.is_done());
            prop_assert!(got.into_iter().eq(data.into_iter().map(Some)));
        }
    }
}
