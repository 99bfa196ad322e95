//! Where a node is, and what is needed to speak with it.

use multiaddr::Multiaddr;

use super::layout::{Reader, put_bytes};
use crate::address::{MAX_PLACE_BYTES, Place};
use crate::id::NodeId;

/// Longest certificate in a record, in bytes.
pub const MAX_CERT_BYTES: usize = 256;
/// Most hints in a record.
pub const MAX_HINTS: usize = 4;
/// Most multiaddrs in a record.
pub const MAX_MULTIADDRS: usize = 4;
/// Flag: the node carries no traffic and stores no records of others.
pub const FLAG_LEAF: u8 = 1;

const MAX_MULTIADDR_BYTES: usize = 128;

/// A neighbour of the record's node: packets that come near it reach the node as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hint {
    /// The neighbour.
    pub id: NodeId,
    /// Where it is.
    pub place: Place,
}

/// What a node tells everybody about itself.
///
/// Each new place makes a new record, with its number; a record that only tells of other neighbours has a higher number than its place, so that
/// nobody takes it for a move. Body: flags (1 byte); place and certificate, each with its length in two bytes; the number of hints (1), each
/// an id (32) and a place; the number of multiaddrs (1), each with its length in two bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRecord {
    /// The node, which signs.
    pub id: NodeId,
    /// The record's number, that of the place or higher.
    pub seq: u64,
    /// Where it is.
    pub place: Place,
    /// The certificate of its static key agreement key, opaque here.
    pub static_cert: Vec<u8>,
    /// Some of its neighbours.
    pub hints: Vec<Hint>,
    /// Where anybody may dial it; empty unless it is public.
    pub multiaddrs: Vec<Multiaddr>,
    /// [`FLAG_LEAF`]; unknown bits are kept and mean nothing.
    pub flags: u8,
    /// How long the record counts, in seconds.
    pub lifetime_s: u32,
}

impl NodeRecord {
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        out.push(self.flags);
        put_bytes(out, &self.place.to_bytes(), MAX_PLACE_BYTES)?;
        put_bytes(out, &self.static_cert, MAX_CERT_BYTES)?;
        let hints = self.hints.get(..self.hints.len().min(MAX_HINTS))?;
        out.push(u8::try_from(hints.len()).ok()?);
        for hint in hints {
            out.extend_from_slice(hint.id.as_bytes());
            put_bytes(out, &hint.place.to_bytes(), MAX_PLACE_BYTES)?;
        }
        let multiaddrs = self.multiaddrs.get(..self.multiaddrs.len().min(MAX_MULTIADDRS))?;
        out.push(u8::try_from(multiaddrs.len()).ok()?);
        for multiaddr in multiaddrs {
            put_bytes(out, multiaddr.as_ref(), MAX_MULTIADDR_BYTES)?;
        }
        Some(())
    }

    pub(super) fn read(id: NodeId, seq: u64, lifetime_s: u32, reader: &mut Reader<'_>) -> Option<Self> {
        let flags = reader.u8()?;
        let place = read_place(reader).filter(|place| place.seq <= seq)?;
        let static_cert = reader.bytes(MAX_CERT_BYTES)?.to_vec();
        let mut hints = Vec::new();
        for _ in 0..read_count(reader, MAX_HINTS)? {
            let id = NodeId::from_bytes(reader.array()?);
            hints.push(Hint { id, place: read_place(reader)? });
        }
        let mut multiaddrs = Vec::new();
        for _ in 0..read_count(reader, MAX_MULTIADDRS)? {
            multiaddrs.push(Multiaddr::try_from(reader.bytes(MAX_MULTIADDR_BYTES)?.to_vec()).ok()?);
        }
        Some(Self { id, seq, place, static_cert, hints, multiaddrs, flags, lifetime_s })
    }
}

fn read_place(reader: &mut Reader<'_>) -> Option<Place> {
    Place::from_bytes(reader.bytes(MAX_PLACE_BYTES)?).ok()
}

fn read_count(reader: &mut Reader<'_>, limit: usize) -> Option<u8> {
    reader.u8().filter(|count| usize::from(*count) <= limit)
}
