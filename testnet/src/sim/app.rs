//! Applications of the simulation, and the checker: every byte has to arrive once and in order.

use std::ops::Range;

use node::stack::ConnId;

/// A transfer between two nodes: both ends send `bytes` bytes of a known pattern and check what they receive.
#[derive(Debug)]
pub struct Transfer {
    /// The node that opens the connection and the one that accepts it.
    pub nodes: [usize; 2],
    /// The connection as each end knows it.
    pub conns: [Option<ConnId>; 2],
    /// Bytes in each direction.
    pub bytes: u64,
    /// Bytes that each end gave to its stack.
    pub sent: [u64; 2],
    /// Bytes that each end took from its stack.
    pub received: [u64; 2],
    /// Whether each end saw the other's end of stream.
    pub ended: [bool; 2],
    /// Bytes that were not the expected ones.
    pub wrong: u64,
    /// A connection that failed: never acceptable.
    pub failed: Option<String>,
}

impl Transfer {
    /// A transfer that has not started.
    pub fn new(nodes: [usize; 2], bytes: u64) -> Self {
        Self {
            nodes,
            conns: [None; 2],
            bytes,
            sent: [0; 2],
            received: [0; 2],
            ended: [false; 2],
            wrong: 0,
            failed: None,
        }
    }

    /// The next bytes that `end` wants to send, at most `max`, of the first `produced` ones.
    pub fn next_bytes(&self, number: usize, end: usize, max: usize, produced: u64) -> Vec<u8> {
        let from = self.sent[end];
        let to = self.bytes.min(produced).min(from.saturating_add(max as u64));
        pattern(number, end, from..to)
    }

    /// Checks bytes that `end` received.
    pub fn check(&mut self, number: usize, end: usize, bytes: &[u8]) {
        let from = self.received[end];
        let room = self.bytes.saturating_sub(from).min(bytes.len() as u64);
        let (within, beyond) = bytes.split_at(usize::try_from(room).unwrap_or(bytes.len()));
        let expected = pattern(number, 1 - end, from..from + room);
        let wrong = within.iter().zip(&expected).filter(|(byte, expected)| byte != expected).count();
        self.wrong += wrong as u64 + beyond.len() as u64;
        self.received[end] += bytes.len() as u64;
    }

    /// Whether every byte arrived in both directions, once and in order, and both ends were told so.
    pub fn exact(&self) -> bool {
        self.wrong == 0 && self.failed.is_none() && self.ended == [true; 2] && self.received == [self.bytes; 2]
    }

    /// One line on how far it came.
    pub fn describe(&self, number: usize) -> String {
        format!(
            "transfer {number} from node {} to node {}: received {:?} of {}, ended {:?}, {} wrong, failure {:?}",
            self.nodes[0], self.nodes[1], self.received, self.bytes, self.ended, self.wrong, self.failed
        )
    }
}

/// The bytes that `end` of transfer `number` sends at `offsets`: neighbours, transfers and directions differ, so that a
/// lost, repeated or swapped byte shows. Eight at a time, because a run makes and checks many millions of them.
fn pattern(number: usize, end: usize, offsets: Range<u64>) -> Vec<u8> {
    let base = ((number as u64) << 1 | end as u64) << 40;
    let words = offsets.start / WORD..offsets.end.div_ceil(WORD);
    let (skipped, wanted) = (offsets.start % WORD, offsets.end.saturating_sub(offsets.start));
    let mut bytes = Vec::with_capacity(usize::try_from(wanted + 2 * WORD).unwrap_or(0));
    for word in words {
        bytes.extend_from_slice(&mix(base.wrapping_add(word)).to_be_bytes());
    }
    bytes.drain(..usize::try_from(skipped).unwrap_or(0).min(bytes.len()));
    bytes.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
    bytes
}

/// Bytes of the pattern that are made at once.
const WORD: u64 = u64::BITS as u64 / 8;

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): every bit of the word shows in all of its bytes.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_one_however_it_is_cut() {
        let whole = pattern(1, 0, 0..100);
        for from in 0..100_u64 {
            for to in from..=100 {
                let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
                assert_eq!(pattern(1, 0, from..to), &whole[range]);
            }
        }
        assert_ne!(whole, pattern(1, 1, 0..100));
        assert_ne!(whole, pattern(0, 0, 0..100));
    }

    #[test]
    fn the_checker_sees_a_swapped_and_a_missing_byte() {
        let mut good = Transfer::new([0, 1], 100);
        let bytes = good.next_bytes(0, 1, 100, u64::MAX);
        good.check(0, 0, &bytes);
        assert_eq!((good.wrong, good.received[0]), (0, 100));
        let mut swapped = bytes.clone();
        swapped.swap(3, 4);
        let mut bad = Transfer::new([0, 1], 100);
        bad.check(0, 0, &swapped);
        assert_eq!(bad.wrong, 2);
        let mut missing = Transfer::new([0, 1], 100);
        missing.check(0, 0, &bytes[1..]);
        assert!(missing.wrong > 90);
    }
}
