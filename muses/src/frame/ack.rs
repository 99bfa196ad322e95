//! Acknowledgements as they travel.

use super::{MAX_ACK_RANGES, MalformedFrame, put_varint, take_varint};
use crate::ack::Ranges;

/// Which packets were received.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ack {
    /// Packet numbers; never empty on the wire.
    pub ranges: Ranges,
    /// How long the receiver held back the acknowledgement of the largest, in microseconds.
    pub delay_us: u64,
    /// How many packets with an ECN mark arrived in this epoch.
    pub ecn_count: u64,
}

impl Ack {
    /// Appends delay, marks and the highest ranges.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.delay_us);
        put_varint(out, self.ecn_count);
        encode_ranges(&self.ranges, out);
    }

    /// The ack at the front of `input`, which moves on behind it.
    ///
    /// # Errors
    /// [`MalformedFrame`] when it is cut off, goes below zero or has too many ranges.
    pub fn decode(input: &mut &[u8]) -> Result<Self, MalformedFrame> {
        let delay_us = take_varint(input)?;
        let ecn_count = take_varint(input)?;
        Ok(Self { ranges: decode_ranges(input)?, delay_us, ecn_count })
    }
}

/// Appends the highest ranges: count of further ranges, largest, length of its range, then gaps and lengths downwards (RFC 9000,
/// section 19.3).
pub(super) fn encode_ranges(ranges: &Ranges, out: &mut Vec<u8>) {
    let count = ranges.len().min(MAX_ACK_RANGES);
    put_varint(out, count.saturating_sub(1).try_into().unwrap_or(0));
    let mut below = None;
    for range in ranges.descending().take(count) {
        match below {
            None => put_varint(out, *range.end()),
            // Ranges are never adjacent, so at least one number is missing between two of them.
            Some(start) => put_varint(out, u64::saturating_sub(start, *range.end()).saturating_sub(2)),
        }
        put_varint(out, range.end() - range.start());
        below = Some(*range.start());
    }
}

pub(super) fn decode_ranges(input: &mut &[u8]) -> Result<Ranges, MalformedFrame> {
    let more = take_varint(input)?;
    if more >= MAX_ACK_RANGES as u64 {
        return Err(MalformedFrame);
    }
    let mut ranges = Ranges::default();
    let mut end = take_varint(input)?;
    for left in (0..=more).rev() {
        let start = end.checked_sub(take_varint(input)?).ok_or(MalformedFrame)?;
        ranges.insert(start, end);
        if left > 0 {
            let gap = take_varint(input)?.saturating_add(2);
            end = start.checked_sub(gap).ok_or(MalformedFrame)?;
        }
    }
    Ok(ranges)
}
