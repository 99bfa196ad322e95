//! What the two sides of a resume tell each other of what they have.

use crate::ack::Ranges;
use crate::frame::Ack;

/// Ranges that fit into a Re-Hello.
pub(super) const MAX_RECEIVED_RANGES: usize = 24;

/// What an end says it received: of which epoch, which packets, and whether it lost its streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub tag: u64,
    pub restarted: bool,
    /// The path of that epoch is alive, as far as the end knows: what was under way may still arrive.
    pub alive: bool,
    pub ranges: Ranges,
}

impl Received {
    /// The same in at most `most` bytes: the oldest ranges are left out, and what they hold is sent again.
    pub fn to_bytes_within(&self, most: usize) -> Vec<u8> {
        let mut short = self.clone();
        let mut bytes = short.to_bytes();
        while bytes.len() > most && !short.ranges.is_empty() {
            short.ranges.keep_highest(short.ranges.len().saturating_sub(1));
            bytes = short.to_bytes();
        }
        bytes
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.tag.to_be_bytes().to_vec();
        out.push(u8::from(self.restarted) | u8::from(self.alive) << 1);
        if !self.ranges.is_empty() {
            Ack { ranges: self.ranges.clone(), delay_us: 0, ecn_count: 0 }.encode(&mut out);
        }
        out
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first_chunk()?;
        let (flags, mut rest) = rest.split_first()?;
        let ranges = if rest.is_empty() { Ranges::default() } else { Ack::decode(&mut rest).ok()?.ranges };
        Some(Self { tag: u64::from_be_bytes(*tag), restarted: flags & 1 != 0, alive: flags & 2 != 0, ranges })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_round_trips_and_stays_small() {
        let mut ranges = Ranges::default();
        for i in 0..MAX_RECEIVED_RANGES as u64 {
            ranges.insert(1_000_000_000 + i * 70_000, 1_000_000_000 + i * 70_000 + 20_000);
        }
        let received = Received { tag: 7, restarted: true, alive: true, ranges };
        let bytes = received.to_bytes();
        assert!(bytes.len() <= crate::resume::MAX_RECEIVED_BYTES, "{}", bytes.len());
        assert_eq!(Received::from_bytes(&bytes), Some(received.clone()));
        assert_eq!(received.to_bytes_within(bytes.len()), bytes);
        for most in 9..bytes.len() {
            let short = received.to_bytes_within(most);
            let kept = Received::from_bytes(&short).map(|kept| (kept.tag, kept.restarted, kept.ranges.largest()));
            let newest = if short.len() == 9 { None } else { received.ranges.largest() };
            assert!(short.len() <= most && kept == Some((7, true, newest)), "{most}");
        }
        let empty = Received { tag: 7, restarted: false, alive: true, ranges: Ranges::default() };
        assert_eq!(Received::from_bytes(&empty.to_bytes()), Some(empty));
        assert_eq!(Received::from_bytes(&[0; 5]), None);
    }
}
