//! The next-hop cache: the packets of one stream all ask the same.

use crate::io::LinkId;
use crate::wire::packet::Header;

/// Most decisions that are remembered.
const MAX_ROUTES: usize = 1024;

/// A decision: what the header was, and what became of it.
#[derive(Debug)]
struct Route {
    /// The [`Routes::generation`] in which it was taken.
    generation: u64,
    dst: [u8; 32],
    dst_seq: u64,
    last: f64,
    mask: u32,
    strikes: u8,
    /// The target's addresses and its hints, as they were in the packet.
    way: Box<[u8]>,
    link: LinkId,
    next_last: f64,
    next_mask: u32,
    next_strikes: u8,
}

/// Decisions already taken: the packets of one stream all ask the same. They hold as long as no neighbour changes, nor what is
/// known of one, nor this node's own place.
#[derive(Debug, Default)]
pub struct Routes {
    slots: Vec<Option<Box<Route>>>,
    generation: u64,
}

impl Routes {
    /// A neighbour, or what is known of it, may have changed, or this node's own place.
    pub const fn clear(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Links may be loaded otherwise by now; and nobody's packets may have come for a while.
    pub fn forget(&mut self) {
        self.slots = Vec::new();
    }

    /// The link, and the header changed as it was then. `way` is all of the packet that says where to it goes.
    pub fn find(&self, header: &mut Header, way: &[u8]) -> Option<LinkId> {
        let route = self.slots.get(slot(header))?.as_ref()?;
        let same = route.generation == self.generation
            && route.dst == header.dst
            && route.dst_seq == header.dst_seq
            && route.last.to_bits() == header.last.to_bits()
            && route.mask == header.mask
            && route.strikes == header.strikes
            && *route.way == *way;
        if !same {
            return None;
        }
        (header.last, header.mask, header.strikes) = (route.next_last, route.next_mask, route.next_strikes);
        Some(route.link)
    }

    /// Remembers what became of `before`, instead of another decision that may have had its place.
    pub fn learn(&mut self, before: Before, header: &Header, way: &[u8], link: LinkId) {
        if self.slots.is_empty() {
            self.slots.resize_with(MAX_ROUTES, || None);
        }
        let Before { slot, last, mask, strikes } = before;
        if let Some(entry) = self.slots.get_mut(slot) {
            *entry = Some(Box::new(Route {
                generation: self.generation,
                dst: header.dst,
                dst_seq: header.dst_seq,
                last,
                mask,
                strikes,
                way: way.into(),
                link,
                next_last: header.last,
                next_mask: header.mask,
                next_strikes: header.strikes,
            }));
        }
    }
}

/// Where the decision for this header is kept.
fn slot(header: &Header) -> usize {
    let [a, b, c, d, e, f, g, h, ..] = header.dst;
    let mixed =
        (u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ header.last.to_bits()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 32).unwrap_or(0) % MAX_ROUTES
}

/// What a decision changes in the header, as it was before.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    slot: usize,
    last: f64,
    mask: u32,
    strikes: u8,
}

impl Before {
    /// The part of `header` that a decision will change.
    pub fn of(header: &Header) -> Self {
        Self { slot: slot(header), last: header.last, mask: header.mask, strikes: header.strikes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Address, AddressSet, Place};
    use crate::id::NodeId;
    use crate::wire::packet::Kind;

    #[test]
    fn finds_what_was_decided_for_the_same_packet_only() {
        let place = Place { addresses: AddressSet::single(Address::root()), seq: 1 };
        let ids = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
        let before = Header::new(Kind::Data, ids[0], place.clone(), ids[1], place, 0);
        let after = Header { last: 12.5, mask: 7, strikes: 2, ..before.clone() };
        let mut routes = Routes::default();
        routes.learn(Before::of(&before), &after, b"there", LinkId(3));
        let find = |routes: &Routes, mut header: Header, way: &[u8]| routes.find(&mut header, way).map(|_| header);
        assert_eq!(find(&routes, before.clone(), b"there"), Some(after));
        assert_eq!(find(&routes, before.clone(), b"where"), None);
        assert_eq!(find(&routes, before.clone(), b"there,"), None);
        let others = [
            Header { dst: [3; 32], ..before.clone() },
            Header { dst_seq: 2, ..before.clone() },
            Header { last: 12.5, ..before.clone() },
            Header { mask: 7, ..before.clone() },
            Header { strikes: 1, ..before.clone() },
        ];
        others.into_iter().for_each(|header| assert_eq!(find(&routes, header, b"there"), None));
        routes.clear();
        assert_eq!(find(&routes, before, b"there"), None);
    }
}
