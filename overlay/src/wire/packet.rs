//! Routed packets: the routing header, laid out by hand so that a relay changes what it must in place.
//!
//! Big endian. A packet is the whole frame on the data lane.
//!
//! | offset | length | field |
//! | --- | --- | --- |
//! | 0 | 1 | version and kind: `0x10 | kind` |
//! | 1 | 1 | flags: bit 0 congestion was met (ECN), bit 1 the walk goes down |
//! | 2 | 2 | TTL: links that may still be crossed; first `64 + 4 * (source depth + target depth)` |
//! | 4 | 4 | flow label: packets of one flow share queues fairly with others |
//! | 8 | 8 | `last`: the potential of the node that forwarded last (IEEE 754), +inf at the source |
//! | 16 | 4 | mask of (tree, target) pairs that are still tried, all ones at the source |
//! | 20 | 1 | strikes: bits 0 to 3 hints that turned out dead, bits 4 to 7 trees in which nobody is at the target's address, or a walk found no way to its vertex |
//! | 21 | 32 | destination id; of a DHT walk, the record key |
//! | 53 | 8 | seq of the destination's place; of a walk, its tree and the replica in the last two bytes |
//! | 61 | 32 | source id |
//! | 93 | | target addresses, as an address set; in a walk the vertex where it turns downwards, empty for the root |
//! | | | hints: their number (one byte), then address sets |
//! | | | return place: seq and addresses of the source |
//! | | | detour: number (one byte) of nodes visited depth first, 4 bytes each |
//! | | | payload |
//!
//! Nothing of it is authenticated: end-to-end protection covers what a session puts into the payload (paper, section II.C.1).

use crate::address::{AddressSet, Place, TreeId};
use crate::id::NodeId;

/// Longest header, in bytes: fixed part, target, hints, return place, a full detour.
pub const MAX_HEADER_BYTES: usize = 2048;
/// Most hints in a packet.
pub const MAX_HINTS: usize = 4;
/// Most visited nodes in a detour.
pub const MAX_DETOUR: usize = 32;
/// Smallest first TTL.
pub const BASE_TTL: u16 = 64;
/// What each edge of the two addresses adds to it.
pub const TTL_PER_EDGE: u16 = 4;

const VERSION: u8 = 0x10;
const FLAG_ECN: u8 = 1;
const FLAG_DOWN: u8 = 2;
const AT_FLAGS: usize = 1;
const AT_TTL: usize = 2;
const AT_LAST: usize = 8;
const AT_MASK: usize = 16;
const AT_STRIKES: usize = 20;
/// Bytes of the header up to the first one whose place depends on what is before it.
pub const FIXED_BYTES: usize = 93;

/// What a packet carries. The numbers are on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A payload of the layer above.
    Data,
    /// To the source of a packet that could not be forwarded; the payload says why.
    Unreachable,
    /// To a former parent: where its child is now, as a signed record.
    Moved,
    /// A request on its way to the binder of a record key.
    DhtWalk,
    /// A binder's answer.
    DhtReply,
    /// Please send the payload back.
    EchoRequest,
    /// Here it is.
    EchoReply,
}

const KINDS: [Kind; 7] =
    [Kind::Data, Kind::Unreachable, Kind::Moved, Kind::DhtWalk, Kind::DhtReply, Kind::EchoRequest, Kind::EchoReply];

/// Bytes that are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed packet")]
pub struct PacketError;

/// A decoded routing header.
#[derive(Clone, PartialEq, Debug)]
pub struct Header {
    /// What it carries.
    pub kind: Kind,
    /// Whether a relay was congested.
    pub ecn: bool,
    /// Whether a DHT walk has turned downwards.
    pub down: bool,
    /// Links that may still be crossed.
    pub ttl: u16,
    /// Packets of one flow share it.
    pub flow: u32,
    /// Potential of the node that forwarded last; +inf where any neighbour may be taken.
    pub last: f64,
    /// (tree, target) pairs that are still tried.
    pub mask: u32,
    /// Hints that are not used any more, and trees in which nobody is at the target's address, or a walk found no way to its vertex.
    pub strikes: u8,
    /// The destination's id, or a walk's record key.
    pub dst: [u8; 32],
    /// Seq of the destination's place, or a walk's tree and replica.
    pub dst_seq: u64,
    /// The source.
    pub src: NodeId,
    /// The destination's addresses.
    pub target: AddressSet,
    /// Addresses of neighbours of the destination.
    pub hints: Vec<AddressSet>,
    /// Where the source is.
    pub return_place: Place,
    /// The first bytes of the nodes that a depth first detour visited.
    pub detour: Vec<[u8; 4]>,
}

impl Header {
    /// The header of a packet that starts at `src`, at `return_place`, for `to` at `place`.
    pub fn new(kind: Kind, src: NodeId, return_place: Place, to: NodeId, place: Place, flow: u32) -> Self {
        Self {
            kind,
            ecn: false,
            down: false,
            ttl: first_ttl(&return_place.addresses, &place.addresses),
            flow,
            last: f64::INFINITY,
            mask: u32::MAX,
            strikes: 0,
            dst: *to.as_bytes(),
            dst_seq: place.seq,
            src,
            target: place.addresses,
            hints: Vec::new(),
            return_place,
            detour: Vec::new(),
        }
    }

    /// The header of a walk in `tree` to the binder of `key` and `replica`.
    pub fn walk(src: NodeId, return_place: Place, key: [u8; 32], replica: u8, tree: TreeId) -> Self {
        let seq = u64::from(u16::from_be_bytes([tree.get(), replica]));
        let anywhere = Place { addresses: AddressSet::default(), seq };
        Self::new(Kind::DhtWalk, src, return_place, NodeId::from_bytes(key), anywhere, 0)
    }

    /// The destination.
    pub const fn to(&self) -> NodeId {
        NodeId::from_bytes(self.dst)
    }

    /// The replica of a walk.
    pub const fn replica(&self) -> u8 {
        let [.., replica] = self.dst_seq.to_be_bytes();
        replica
    }

    /// The tree of a walk.
    pub const fn tree(&self) -> Option<TreeId> {
        let [.., tree, _] = self.dst_seq.to_be_bytes();
        TreeId::new(tree)
    }

    /// Links crossed so far, from the TTL spent: the first TTL follows from the addresses that the header still has.
    pub fn hops(&self) -> u16 {
        // A walk's target is where it turns, which was found out later.
        let walk = (self.kind == Kind::DhtWalk).then(AddressSet::default);
        let target = walk.as_ref().unwrap_or(&self.target);
        first_ttl(&self.return_place.addresses, target).saturating_sub(self.ttl)
    }

    /// Sends the packet on to another place of its destination: all ways there count again, and the links crossed so far still do.
    pub fn turn_to(&mut self, place: &Place, hints: &[AddressSet]) {
        let hops = self.hops();
        self.target = place.addresses.clone();
        self.dst_seq = place.seq;
        self.hints = hints.to_vec();
        self.ttl = first_ttl(&self.return_place.addresses, &self.target).saturating_sub(hops);
        self.try_all_ways();
        self.detour.clear();
    }

    /// Any neighbour may be the next one again, on the way to any target.
    pub const fn try_all_ways(&mut self) {
        (self.last, self.mask, self.strikes) = (f64::INFINITY, u32::MAX, 0);
    }

    /// The packet with this header and `payload`.
    pub fn with_payload(&self, payload: &[u8]) -> Vec<u8> {
        self.encode(payload).0
    }

    /// The packet with this header and `payload`, and where in it the addresses end that it goes by; they begin at [`FIXED_BYTES`].
    pub(crate) fn encode(&self, payload: &[u8]) -> (Vec<u8>, usize) {
        let mut out = Vec::with_capacity(FIXED_BYTES + 64 + payload.len());
        out.push(VERSION | self.kind.code());
        out.push((u8::from(self.ecn) * FLAG_ECN) | (u8::from(self.down) * FLAG_DOWN));
        out.extend_from_slice(&self.ttl.to_be_bytes());
        out.extend_from_slice(&self.flow.to_be_bytes());
        out.extend_from_slice(&self.last.to_be_bytes());
        out.extend_from_slice(&self.mask.to_be_bytes());
        out.push(self.strikes);
        out.extend_from_slice(&self.dst);
        out.extend_from_slice(&self.dst_seq.to_be_bytes());
        out.extend_from_slice(self.src.as_bytes());
        self.target.encode_into(&mut out);
        let hints = &self.hints[..self.hints.len().min(MAX_HINTS)];
        out.push(u8::try_from(hints.len()).unwrap_or(0));
        hints.iter().for_each(|hint| hint.encode_into(&mut out));
        let way_ends_at = out.len();
        out.extend_from_slice(&self.return_place.to_bytes());
        let detour = &self.detour[..self.detour.len().min(MAX_DETOUR)];
        out.push(u8::try_from(detour.len()).unwrap_or(0));
        detour.iter().for_each(|node| out.extend_from_slice(node));
        out.extend_from_slice(payload);
        (out, way_ends_at)
    }

    /// The header of `packet` and where its payload begins.
    ///
    /// # Errors
    /// [`PacketError`] when it ends too soon, or has a field out of range.
    pub fn decode(packet: &[u8]) -> Result<(Self, usize), PacketError> {
        Self::decode_parts(packet).map(|(header, _, payload_at)| (header, payload_at))
    }

    /// The header of `packet`, where the addresses end that it goes by, and where its payload begins.
    pub(crate) fn decode_parts(packet: &[u8]) -> Result<(Self, usize, usize), PacketError> {
        let mut rest = packet.get(FIXED_BYTES..).ok_or(PacketError)?;
        let kind = packet.first().and_then(|byte| Kind::from_byte(*byte)).ok_or(PacketError)?;
        let flags = *packet.get(AT_FLAGS).ok_or(PacketError)?;
        if flags & !(FLAG_ECN | FLAG_DOWN) != 0 {
            return Err(PacketError);
        }
        let last = f64::from_be_bytes(field(packet, AT_LAST)?);
        if last.is_nan() || last < 0.0 {
            return Err(PacketError);
        }
        let target = AddressSet::decode(&mut rest).map_err(|_| PacketError)?;
        let hints = take_counted(&mut rest, MAX_HINTS, |rest| AddressSet::decode(rest).ok())?;
        let way_ends_at = packet.len() - rest.len();
        let return_place = Place::decode(&mut rest).map_err(|_| PacketError)?;
        let detour = take_counted(&mut rest, MAX_DETOUR, |rest| {
            let (node, after) = rest.split_first_chunk::<4>()?;
            *rest = after;
            Some(*node)
        })?;
        let payload_at = packet.len() - rest.len();
        let header = Self {
            kind,
            ecn: flags & FLAG_ECN != 0,
            down: flags & FLAG_DOWN != 0,
            ttl: u16::from_be_bytes(field(packet, AT_TTL)?),
            flow: u32::from_be_bytes(field(packet, 4)?),
            last,
            mask: u32::from_be_bytes(field(packet, AT_MASK)?),
            strikes: *packet.get(AT_STRIKES).ok_or(PacketError)?,
            dst: field(packet, 21)?,
            dst_seq: u64::from_be_bytes(field(packet, 53)?),
            src: NodeId::from_bytes(field(packet, 61)?),
            target,
            hints,
            return_place,
            detour,
        };
        if payload_at > MAX_HEADER_BYTES { Err(PacketError) } else { Ok((header, way_ends_at, payload_at)) }
    }

    /// Writes back into `packet`, whose header this is, what a relay may change: ECN, direction, TTL, last, mask, strikes.
    pub fn update(&self, packet: &mut [u8]) {
        let Some((fixed, _)) = packet.split_first_chunk_mut::<FIXED_BYTES>() else { return };
        fixed[AT_FLAGS] = (u8::from(self.ecn) * FLAG_ECN) | (u8::from(self.down) * FLAG_DOWN);
        fixed[AT_TTL..AT_TTL + 2].copy_from_slice(&self.ttl.to_be_bytes());
        fixed[AT_LAST..AT_LAST + 8].copy_from_slice(&self.last.to_be_bytes());
        fixed[AT_MASK..AT_MASK + 4].copy_from_slice(&self.mask.to_be_bytes());
        fixed[AT_STRIKES] = self.strikes;
    }
}

/// Marks `packet` as having met congestion.
pub fn mark_ecn(packet: &mut [u8]) {
    if let Some(flags) = packet.get_mut(AT_FLAGS) {
        *flags |= FLAG_ECN;
    }
}

/// The first TTL of a packet between these places.
fn first_ttl(source: &AddressSet, target: &AddressSet) -> u16 {
    let depth = u16::try_from(source.total_depth().saturating_add(target.total_depth())).unwrap_or(u16::MAX);
    BASE_TTL.saturating_add(TTL_PER_EDGE.saturating_mul(depth))
}

impl Kind {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Unreachable => 1,
            Self::Moved => 2,
            Self::DhtWalk => 3,
            Self::DhtReply => 4,
            Self::EchoRequest => 5,
            Self::EchoReply => 6,
        }
    }

    /// The kind in a packet's first byte.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        (byte & 0xf0 == VERSION).then(|| KINDS.get(usize::from(byte & 0x0f)).copied()).flatten()
    }
}

fn field<const N: usize>(packet: &[u8], at: usize) -> Result<[u8; N], PacketError> {
    packet.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(PacketError)
}

fn take_counted<T>(
    rest: &mut &[u8],
    most: usize,
    mut take: impl FnMut(&mut &[u8]) -> Option<T>,
) -> Result<Vec<T>, PacketError> {
    let (&count, after) = rest.split_first().ok_or(PacketError)?;
    *rest = after;
    if usize::from(count) > most {
        return Err(PacketError);
    }
    (0..count).map(|_| take(rest).ok_or(PacketError)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::Address;

    fn place(text: &str, seq: u64) -> Place {
        Place { addresses: AddressSet::single(text.parse().unwrap()), seq }
    }

    fn sample() -> Header {
        let (src, dst) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        Header::new(Kind::Data, src, place("/0/1", 7), dst, place("/2", 9), 0xdead_beef)
    }

    #[test]
    fn golden_vector() {
        let text: String = sample().with_payload(b"hi").iter().map(|byte| format!("{byte:02x}")).collect();
        let (dst, src) = ("02".repeat(32), "01".repeat(32));
        let golden = format!(
            "1000004cdeadbeef7ff0000000000000ffffffff00{dst}0000000000000009{src}\
             01000160000000000000000007010002a0006869"
        );
        assert_eq!(text, golden.replace(' ', ""));
    }

    #[test]
    fn hops_are_the_ttl_spent_and_updates_are_in_place() {
        let mut packet = sample().with_payload(b"payload");
        let (mut header, at) = Header::decode(&packet).unwrap();
        assert_eq!(&packet[at..], b"payload");
        assert_eq!((header.ttl, header.hops()), (76, 0));
        header.ttl -= 3;
        header.last = 1.5;
        header.mask = 5;
        header.strikes = 1;
        header.down = true;
        header.update(&mut packet);
        mark_ecn(&mut packet);
        let (again, _) = Header::decode(&packet).unwrap();
        assert_eq!(again, Header { ecn: true, ..header });
        assert_eq!(again.hops(), 3);
    }

    #[test]
    fn truncated_packets_and_bad_fields_are_refused() {
        let mut header = sample();
        header.hints = vec![AddressSet::single(Address::root()); 2];
        header.detour = vec![[1, 2, 3, 4]];
        let packet = header.with_payload(b"");
        assert_eq!(Header::decode(&packet).unwrap().0, header);
        for end in 0..packet.len() {
            assert!(Header::decode(&packet[..end]).is_err(), "cut at {end}");
        }
        for (at, byte) in [(0, 0x17), (0, 0x20), (1, 4), (8, 0xff), (93, 9)] {
            let mut bad = packet.clone();
            bad[at] = byte;
            assert!(Header::decode(&bad).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), kind in 0u8..8) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION | kind;
            }
            if let Ok((header, at)) = Header::decode(&bytes) {
                prop_assert!(at <= bytes.len());
                let _ = header.hops();
            }
        }
    }
}
