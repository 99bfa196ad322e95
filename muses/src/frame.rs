//! What stands inside a protected packet: a sequence of frames, laid out by hand.
//!
//! A frame is a type byte and its fields; integers are variable-length as in RFC 9000, section 16. A frame that this
//! version does not know makes the whole packet invalid: versions are agreed in the handshake, never guessed here.

mod ack;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::ack::Ranges;
use crate::event::ResetReason;

pub use ack::Ack;
use ack::{decode_ranges, encode_ranges};

/// Longest service name, in bytes.
pub const MAX_SERVICE_BYTES: usize = 64;
/// Names of services that are the node's own business begin so; no person can give such a name.
pub const INTERNAL: char = '~';
/// Longest word about where an end can be dialled, in bytes.
pub const MAX_REACH_BYTES: usize = 512;
/// Of a [`Frame::Challenge`], in bytes.
pub const CHALLENGE_BYTES: usize = 8;
/// Most ranges in one ack frame; older ones are left out, which costs at worst a needless retransmission.
pub const MAX_ACK_RANGES: usize = 32;
/// Largest number that a frame carries (RFC 9000, section 16).
pub const MAX_VARINT: u64 = (1 << 62) - 1;
/// Bytes that a stream frame takes besides its data, at most.
pub const MAX_STREAM_HEADER_BYTES: usize = 1 + 8 + 8 + 4;
/// Bytes that an ack frame takes, at most.
pub const MAX_ACK_BYTES: usize = 1 + 8 + 8 + 1 + 8 + 16 * MAX_ACK_RANGES;

const PADDING: u8 = 0x00;
const PING: u8 = 0x01;
const ACK: u8 = 0x02;
const MAX_DATA: u8 = 0x03;
const MAX_STREAM_DATA: u8 = 0x04;
const OPEN: u8 = 0x05;
const ACCEPT: u8 = 0x06;
const RESET_STREAM: u8 = 0x07;
const STREAM: u8 = 0x08;
const STREAM_FIN: u8 = 0x09;
const REACH: u8 = 0x0a;
const REFRESH: u8 = 0x0b;
const LATE_ACK: u8 = 0x0c;
const CHALLENGE: u8 = 0x0d;
const RESPONSE: u8 = 0x0e;
const RESET_TOKEN: u8 = 0x0f;

/// One frame; data is borrowed from the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Nothing; fills a packet.
    Padding,
    /// Asks for an acknowledgement.
    Ping,
    /// What was received.
    Ack(Ack),
    /// Credit of the whole session: so many bytes may be sent over all streams since it began.
    MaxData(u64),
    /// Credit of a stream: so many bytes may be sent on it since it began.
    MaxStreamData {
        /// Which stream.
        stream: u64,
        /// The lowest offset that must not be sent.
        limit: u64,
    },
    /// A new stream, and what it is for.
    Open {
        /// Its id: even from the side that began the handshake, odd from the other.
        stream: u64,
        /// Port, 0 when the service alone names the target.
        port: u16,
        /// Name of the service.
        service: &'a str,
    },
    /// The answer to `Open`: the service took the stream.
    Accept {
        /// Which stream.
        stream: u64,
    },
    /// The stream is over in both directions; what was not yet delivered is lost.
    ResetStream {
        /// Which stream.
        stream: u64,
        /// Why.
        reason: ResetReason,
        /// How many bytes its sender had sent on it, so that both ends count the same credit (RFC 9000, section 4.5).
        final_offset: u64,
    },
    /// Bytes of a stream.
    Stream {
        /// Which stream.
        stream: u64,
        /// Offset of the first byte.
        offset: u64,
        /// Whether the stream ends after `data`.
        fin: bool,
        /// The bytes.
        data: &'a [u8],
    },
    /// Where its sender can be dialled, in bytes that mean nothing here; empty when it does not say. The latest counts.
    Reach {
        /// Numbers what an end says, upwards.
        number: u64,
        /// At most [`MAX_REACH_BYTES`].
        reach: &'a [u8],
    },
    /// A step of mixing a fresh secret into the resume secret.
    Refresh(Refresh),
    /// What was received of the epoch before, whose packets had numbers of their own.
    LateAck {
        /// Names that epoch.
        tag: u64,
        /// Packet numbers; never empty on the wire.
        ranges: Ranges,
    },
    /// Asks whether the peer is where this was sent (RFC 9000, section 8.2).
    Challenge([u8; CHALLENGE_BYTES]),
    /// It is: nobody else could read what was asked.
    Response([u8; CHALLENGE_BYTES]),
    /// What will prove, should its sender ever have lost the session, that it says so itself. The handshake's last message has it too, which a relay can know
    /// and keep back; this it cannot tell from data.
    ResetToken(Token),
}

/// A secret in a frame, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Token(pub [u8; 32]);

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The steps of a refresh, of which each answers the one before. `generation` is of the resume secret that it begins from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// A fresh X25519 key.
    Propose {
        /// Which resume secret.
        generation: u32,
        /// The key.
        key: [u8; 32],
    },
    /// Another one.
    Answer {
        /// Which resume secret.
        generation: u32,
        /// The key.
        key: [u8; 32],
    },
    /// Who proposed has the new secret.
    Confirm {
        /// Which resume secret was replaced.
        generation: u32,
    },
    /// Who answered has it too.
    Done {
        /// Which resume secret was replaced.
        generation: u32,
    },
}

/// Why the inside of an authenticated packet is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame")]
pub struct MalformedFrame;

impl Frame<'_> {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Padding => out.push(PADDING),
            Self::Ping => out.push(PING),
            Self::Ack(ack) => {
                out.push(ACK);
                ack.encode(out);
            }
            Self::LateAck { tag, ranges } => {
                out.push(LATE_ACK);
                out.extend_from_slice(&tag.to_be_bytes());
                encode_ranges(ranges, out);
            }
            Self::MaxData(limit) => {
                out.push(MAX_DATA);
                put_varint(out, *limit);
            }
            Self::MaxStreamData { stream, limit } => {
                out.push(MAX_STREAM_DATA);
                put_varint(out, *stream);
                put_varint(out, *limit);
            }
            Self::Open { stream, port, service } => {
                out.push(OPEN);
                put_varint(out, *stream);
                out.extend_from_slice(&port.to_be_bytes());
                put_bytes(out, service.as_bytes());
            }
            Self::Accept { stream } => {
                out.push(ACCEPT);
                put_varint(out, *stream);
            }
            Self::ResetStream { stream, reason, final_offset } => {
                out.push(RESET_STREAM);
                put_varint(out, *stream);
                out.push(reason.to_byte());
                put_varint(out, *final_offset);
            }
            Self::Stream { stream, offset, fin, data } => {
                Self::encode_stream_header(out, *stream, *offset, *fin, data.len());
                out.extend_from_slice(data);
            }
            Self::Reach { number, reach } => {
                out.push(REACH);
                put_varint(out, *number);
                put_bytes(out, reach);
            }
            Self::Refresh(refresh) => {
                out.push(REFRESH);
                refresh.encode(out);
            }
            Self::Challenge(token) => {
                out.push(CHALLENGE);
                out.extend_from_slice(token);
            }
            Self::Response(token) => {
                out.push(RESPONSE);
                out.extend_from_slice(token);
            }
            Self::ResetToken(token) => {
                out.push(RESET_TOKEN);
                out.extend_from_slice(&token.0);
            }
        }
    }

    /// Appends the head of a stream frame, behind which `len` bytes of data have to follow.
    pub fn encode_stream_header(out: &mut Vec<u8>, stream: u64, offset: u64, fin: bool, len: usize) {
        out.push(if fin { STREAM_FIN } else { STREAM });
        put_varint(out, stream);
        put_varint(out, offset);
        put_varint(out, len as u64);
    }
}

impl Refresh {
    /// Appends the step's number, the generation, and the key if there is one.
    fn encode(&self, out: &mut Vec<u8>) {
        let (step, generation, key) = match self {
            Self::Propose { generation, key } => (0, generation, Some(key)),
            Self::Answer { generation, key } => (1, generation, Some(key)),
            Self::Confirm { generation } => (2, generation, None),
            Self::Done { generation } => (3, generation, None),
        };
        out.push(step);
        put_varint(out, u64::from(*generation));
        out.extend_from_slice(key.map_or(&[], |key| key.as_slice()));
    }

    fn decode(input: &mut &[u8]) -> Result<Self, MalformedFrame> {
        let step = take_byte(input)?;
        let generation = u32::try_from(take_varint(input)?).map_err(|_| MalformedFrame)?;
        Ok(match step {
            0 => Self::Propose { generation, key: take_array(input)? },
            1 => Self::Answer { generation, key: take_array(input)? },
            2 => Self::Confirm { generation },
            3 => Self::Done { generation },
            _ => return Err(MalformedFrame),
        })
    }
}

/// The frames of a packet, one after the other; ends after the first error.
#[derive(Debug)]
pub struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    /// The frames in `payload`.
    pub fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    fn frame(&mut self) -> Result<Frame<'a>, MalformedFrame> {
        let input = &mut self.0;
        Ok(match take_byte(input)? {
            PADDING => Frame::Padding,
            PING => Frame::Ping,
            ACK => Frame::Ack(Ack::decode(input)?),
            LATE_ACK => {
                let tag = u64::from_be_bytes(take_array(input)?);
                Frame::LateAck { tag, ranges: decode_ranges(input)? }
            }
            MAX_DATA => Frame::MaxData(take_varint(input)?),
            MAX_STREAM_DATA => Frame::MaxStreamData { stream: take_varint(input)?, limit: take_varint(input)? },
            OPEN => {
                let stream = take_varint(input)?;
                let port = u16::from_be_bytes(take_array(input)?);
                let service = take_bytes(input)?;
                if service.len() > MAX_SERVICE_BYTES {
                    return Err(MalformedFrame);
                }
                Frame::Open { stream, port, service: core::str::from_utf8(service).map_err(|_| MalformedFrame)? }
            }
            ACCEPT => Frame::Accept { stream: take_varint(input)? },
            RESET_STREAM => {
                let stream = take_varint(input)?;
                let reason = ResetReason::from_byte(take_byte(input)?);
                Frame::ResetStream { stream, reason, final_offset: take_varint(input)? }
            }
            kind @ (STREAM | STREAM_FIN) => {
                let (stream, offset) = (take_varint(input)?, take_varint(input)?);
                Frame::Stream { stream, offset, fin: kind == STREAM_FIN, data: take_bytes(input)? }
            }
            REACH => {
                let (number, reach) = (take_varint(input)?, take_bytes(input)?);
                if reach.len() > MAX_REACH_BYTES {
                    return Err(MalformedFrame);
                }
                Frame::Reach { number, reach }
            }
            REFRESH => Frame::Refresh(Refresh::decode(input)?),
            CHALLENGE => Frame::Challenge(take_array(input)?),
            RESPONSE => Frame::Response(take_array(input)?),
            RESET_TOKEN => Frame::ResetToken(Token(take_array(input)?)),
            _ => return Err(MalformedFrame),
        })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, MalformedFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let frame = self.frame();
        if frame.is_err() {
            self.0 = &[];
        }
        Some(frame)
    }
}

/// Appends a variable-length integer; values above [`MAX_VARINT`] are cut to it.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    let value = value.min(MAX_VARINT);
    let bytes = value.to_be_bytes();
    match value {
        0..=0x3f => out.extend(bytes.last()),
        0x40..=0x3fff => out.extend(((value | 0x4000) << 48).to_be_bytes().first_chunk::<2>().into_iter().flatten()),
        0x4000..=0x3fff_ffff => {
            out.extend(((value | 0x8000_0000) << 32).to_be_bytes().first_chunk::<4>().into_iter().flatten());
        }
        _ => out.extend((value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// The integer at the front of `input`.
pub(crate) fn take_varint(input: &mut &[u8]) -> Result<u64, MalformedFrame> {
    let first = *input.first().ok_or(MalformedFrame)?;
    let len = 1usize << (first >> 6);
    let (bytes, rest) = input.split_at_checked(len).ok_or(MalformedFrame)?;
    *input = rest;
    let value = bytes.iter().skip(1).fold(u64::from(first & 0x3f), |sum, byte| sum << 8 | u64::from(*byte));
    Ok(value)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], MalformedFrame> {
    let len = usize::try_from(take_varint(input)?).map_err(|_| MalformedFrame)?;
    let (bytes, rest) = input.split_at_checked(len).ok_or(MalformedFrame)?;
    *input = rest;
    Ok(bytes)
}

fn take_byte(input: &mut &[u8]) -> Result<u8, MalformedFrame> {
    take_array(input).map(|[byte]| byte)
}

fn take_array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], MalformedFrame> {
    let (array, rest) = input.split_first_chunk().ok_or(MalformedFrame)?;
    *input = rest;
    Ok(*array)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(list: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        for &(start, end) in list {
            ranges.insert(start, end);
        }
        ranges
    }

    #[test]
    fn golden_bytes_and_round_trip() {
        let frames = [
            Frame::Padding,
            Frame::Ping,
            Frame::Ack(Ack { ranges: ranges(&[(0, 3), (5, 5), (9, 300)]), delay_us: 5000, ecn_count: 2 }),
            Frame::MaxData(1 << 40),
            Frame::MaxStreamData { stream: 2, limit: 70_000 },
            Frame::Open { stream: 4, port: 80, service: "www" },
            Frame::Accept { stream: 4 },
            Frame::ResetStream { stream: 7, reason: ResetReason::Refused, final_offset: 5 },
            Frame::Stream { stream: 4, offset: 64, fin: true, data: b"hi" },
            Frame::Reach { number: 3, reach: b"me" },
            Frame::Refresh(Refresh::Answer { generation: 64, key: [7; 32] }),
            Frame::Refresh(Refresh::Done { generation: 1 }),
            Frame::LateAck { tag: 9, ranges: ranges(&[(2, 4)]) },
            Frame::Challenge([1; CHALLENGE_BYTES]),
            Frame::Response([2; CHALLENGE_BYTES]),
            Frame::ResetToken(Token([3; 32])),
        ];
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0001025388\
             0202412c4123020000 0303c000010000000000040280011170 050400500377777706040707010509044040026869\
             0a03026d65 0b014040"
                .replace(' ', "")
                + &"07".repeat(32)
                + "0b0301"
                + "0c0000000000000009000402"
                + "0d01010101010101010e0202020202020202"
                + "0f"
                + &"03".repeat(32)
        );
        let back: Vec<_> = Frames::new(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(back, frames);
    }

    proptest! {
        #[test]
        fn varints_round_trip(value in 0..=MAX_VARINT, shift in 0u32..62) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut input = bytes.as_slice();
            prop_assert_eq!(take_varint(&mut input), Ok(value));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let count = Frames::new(&bytes).count();
            prop_assert!(count <= bytes.len());
        }

        #[test]
        fn acks_round_trip(list in prop::collection::vec((0u64..5000, 0u64..20), 1..30)) {
            let list: Vec<_> = list.into_iter().map(|(start, len)| (start, start + len)).collect();
            let ack = Ack { ranges: ranges(&list), delay_us: 1, ecn_count: 0 };
            let mut bytes = Vec::new();
            ack.encode(&mut bytes);
            prop_assert!(bytes.len() <= MAX_ACK_BYTES);
            prop_assert_eq!(Ack::decode(&mut bytes.as_slice()), Ok(ack));
        }
    }
}
