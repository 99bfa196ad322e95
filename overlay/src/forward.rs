//! Routed packets: sent, passed on, delivered, or reported as unreachable.
//!
//! Which neighbour is next is decided by [`crate::potential`]; this is what surrounds it.

mod detour;
mod echo;
mod pointers;
mod walk;

use core::time::Duration;

use crate::address::{AddressSet, Place};
use crate::error::{FrameError, SendError};
use crate::event::{Delivery, Event, UnreachableReason};
use crate::id::NodeId;
use crate::io::{Lane, LinkId};
use crate::links::{Ahead, Link};
use crate::overlay::{Outgoing, Overlay, Timer};
use crate::potential::next_hop;
use crate::record::{Query, SignedRecord};
use crate::routes::Before;
use crate::standing::Standing;
use crate::time::Now;
use crate::wire::packet::{FIXED_BYTES, Header, Kind, MAX_HEADER_BYTES};

use detour::{is_absent, may_detour};
pub(crate) use echo::Echoes;
pub(crate) use pointers::Pointers;

/// How much of an echo's payload an Unreachable brings back.
pub(crate) const ECHO_TOKEN_BYTES: usize = 10;
/// How long decisions are remembered at most: links may be loaded otherwise by then.
const ROUTES_KEPT: Duration = Duration::from_secs(1);

/// A packet and its decoded header; what a relay changes in the header reaches the bytes when the packet goes out.
pub(crate) struct Routed {
    pub header: Header,
    bytes: Vec<u8>,
    way_ends_at: usize,
    payload_at: usize,
    /// Its header is not as long as it came: it had a list of visited nodes, or has another destination.
    resized: bool,
}

impl Routed {
    pub fn compose(header: Header, payload: &[u8]) -> Self {
        let (bytes, way_ends_at) = header.encode(payload);
        let payload_at = bytes.len().saturating_sub(payload.len());
        Self { header, bytes, way_ends_at, payload_at, resized: false }
    }

    fn parse(bytes: Vec<u8>) -> Result<Self, FrameError> {
        let (header, way_ends_at, payload_at) = Header::decode_parts(&bytes).map_err(|_| FrameError::Malformed)?;
        let resized = !header.detour.is_empty();
        Ok(Self { header, bytes, way_ends_at, payload_at, resized })
    }

    pub fn payload(&self) -> &[u8] {
        self.bytes.get(self.payload_at..).unwrap_or_default()
    }

    /// The header, and the bytes that say where to the packet goes if others are like it: data comes in streams, everything else once.
    fn header_and_way(&mut self) -> (&mut Header, Option<&[u8]>) {
        let repeats = self.header.kind == Kind::Data && !self.resized;
        let way = repeats.then(|| self.bytes.get(FIXED_BYTES..self.way_ends_at)).flatten();
        (&mut self.header, way)
    }

    /// The packet as it goes on; none when its header has grown beyond what the next node takes. That one would close the link for it, and whoever
    /// made the header so long would have parted two honest nodes.
    pub fn into_bytes(mut self) -> Option<Vec<u8>> {
        if self.resized || !self.header.detour.is_empty() {
            // The header's length has changed, or may have.
            let payload = self.payload();
            let bytes = self.header.with_payload(payload);
            let fits = bytes.len().saturating_sub(payload.len()) <= MAX_HEADER_BYTES
                && bytes.len() <= lane_of(self.header.kind).max_frame_bytes();
            return fits.then_some(bytes);
        }
        self.header.update(&mut self.bytes);
        Some(self.bytes)
    }

    /// Length as it came, in bytes.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    fn into_payload(mut self) -> Vec<u8> {
        self.bytes.split_off(self.payload_at.min(self.bytes.len()))
    }
}

/// Bulk goes on the data lane; everything else must not wait behind it.
pub(crate) const fn lane_of(kind: Kind) -> Lane {
    match kind {
        Kind::Data => Lane::Data,
        _ => Lane::Control,
    }
}

impl Overlay {
    pub(crate) fn send_data(&mut self, outgoing: Outgoing, now: Now) -> Result<(), SendError> {
        // Whoever has lost all parents, but not all neighbours, still reaches others by these.
        let reaches = self.present || self.links.live_len() > 0;
        let Some(own) = self.trees.place.clone().filter(|_| reaches) else { return Err(SendError::Detached) };
        let Outgoing { to, place, flow, payload } = outgoing;
        let mut header = Header::new(Kind::Data, self.id, own, to, place, flow);
        header.hints = self.hints_of(&to, header.dst_seq);
        let packet = Routed::compose(header, &payload);
        if packet.bytes.len() > Lane::Data.max_frame_bytes() {
            return Err(SendError::TooLong);
        }
        self.counters.sent += 1;
        self.route(packet, None, now).map_err(|_| SendError::NoRoute)
    }

    /// Where neighbours of `to` are, if the record that says so is of the place that it is thought to be at.
    fn hints_of(&self, to: &NodeId, seq: u64) -> Vec<AddressSet> {
        let record = self.dht.seen(&Query::Node(*to).key()).and_then(SignedRecord::node);
        let hints = record.filter(|record| record.place.seq == seq).map_or(&[][..], |record| &record.hints);
        hints.iter().map(|hint| hint.place.addresses.clone()).collect()
    }

    /// Sends something of the overlay's own to a node at a place.
    pub(crate) fn send_packet(
        &mut self,
        kind: Kind,
        to: NodeId,
        place: Place,
        payload: &[u8],
        ttl: Option<u16>,
        now: Now,
    ) {
        let Some(own) = self.trees.place.clone() else { return };
        let mut header = Header::new(kind, self.id, own.clone(), to, place, 0);
        header.ttl = ttl.unwrap_or(header.ttl);
        if let Err((packet, why)) = self.route(Routed::compose(header, payload), None, now)
            && kind == Kind::EchoRequest
        {
            self.echo_unreachable(packet.payload(), self.id, &own, why, now);
        }
    }

    pub(crate) fn handle_packet(&mut self, id: LinkId, lane: Lane, bytes: Vec<u8>, now: Now) -> Result<(), FrameError> {
        let packet = Routed::parse(bytes)?;
        if lane_of(packet.header.kind) != lane {
            return Err(FrameError::OutOfPlace);
        }
        if self.is_forged(&packet.header) {
            self.counters.dropped_forged += 1;
            return Ok(());
        }
        self.hear_place(id, &packet.header, now);
        if packet.header.to() != self.id && self.standing() == Standing::Leaf {
            self.counters.dropped_no_route += 1;
            self.report_unreachable(&packet, UnreachableReason::NoRoute, now);
        } else if packet.header.kind == Kind::DhtWalk {
            self.walk(packet, Some(id), now);
        } else if let Err((packet, why)) = self.route(packet, Some(id), now) {
            self.report_unreachable(&packet, why, now);
        }
        Ok(())
    }

    /// Whether the packet comes in this node's own name, and was not sent by it: that comes back on a detour, and says where this node is or was. Passed on
    /// by this node, it would be believed what it says of it.
    fn is_forged(&self, header: &Header) -> bool {
        let is_own = |own: &Place| header.return_place.seq < own.seq || header.return_place == *own;
        header.src == self.id && !self.trees.place.as_ref().is_some_and(is_own)
    }

    /// Delivers a packet or passes it on, or gives it back with the reason why not.
    fn route(
        &mut self,
        mut packet: Routed,
        came_from: Option<LinkId>,
        now: Now,
    ) -> Result<(), (Box<Routed>, UnreachableReason)> {
        if packet.header.to() == self.id {
            self.deliver(packet, came_from, now);
            return Ok(());
        }
        self.redirect(&mut packet);
        let header = &mut packet.header;
        if came_from.is_some() && header.ttl == 0 {
            self.counters.dropped_ttl += 1;
            return Err((Box::new(packet), UnreachableReason::Ttl));
        }
        self.strike_absent(header);
        let small = may_detour(&packet);
        let (header, way) = packet.header_and_way();
        let link = if small { self.around(header, way) } else { self.choose_link(header, way) };
        let header = &mut packet.header;
        let Some(link) = link else {
            self.counters.dropped_no_route += 1;
            let why = if is_absent(header) { UnreachableReason::Absent } else { UnreachableReason::NoRoute };
            return Err((Box::new(packet), why));
        };
        header.ttl = header.ttl.saturating_sub(1);
        let waits = self.waits(header, came_from);
        let Some(bytes) = packet.into_bytes() else {
            self.counters.dropped_full += 1;
            return Ok(());
        };
        if came_from.is_some() {
            self.counters.forwarded += 1;
        }
        self.enqueue_packet(link, waits, bytes, now);
        Ok(())
    }

    /// The link on which a packet goes on. Where others like it may follow, `way` is what [`Routes::find`] knows them by.
    ///
    /// [`Routes::find`]: crate::routes::Routes::find
    pub(crate) fn choose_link(&mut self, header: &mut Header, way: Option<&[u8]>) -> Option<LinkId> {
        if let Some(link) = way.and_then(|way| self.routes.find(header, way)) {
            return Some(link);
        }
        if let Some(direct) = self.links.to(&header.to()).filter(|link| is_where_it_is_sought(link, header.dst_seq)) {
            header.last = 0.0;
            return Some(direct.id);
        }
        let before = Before::of(header);
        self.strike_hints(header);
        self.links.look_beyond();
        let ahead = self.ahead(header, |id| *id == self.id || self.links.is_lost(id));
        let link = next_hop(self.plane.as_ref()?, header, &ahead)?;
        if let Some(way) = way {
            self.routes.learn(before, header, way, link);
            self.timers.set_no_later(Timer::Routes, self.clock.instant + ROUTES_KEPT);
        }
        Some(link)
    }

    /// Those around this node for a packet with this header, but for whom `avoided` names. What is known of them has to be at hand: see
    /// `Links::look_beyond`.
    fn ahead<F: Fn(&NodeId) -> bool>(&self, header: &Header, avoided: F) -> Ahead<'_, F> {
        Ahead { links: &self.links, to: header.to(), seq: header.dst_seq, avoided }
    }

    /// A hint that leads here, or to a child that is gone, and so does not lead on is not followed any more.
    fn strike_hints(&self, header: &mut Header) {
        if header.hints.is_empty() || self.links.is_live(&header.to()) {
            return;
        }
        for (number, hint) in header.hints.iter().enumerate() {
            let struck = header.strikes >> number & 1 == 1;
            if !struck && self.is_end_of(hint) {
                header.strikes |= 1 << number;
                header.last = f64::INFINITY;
            }
        }
    }

    /// Whether this node is at one of these addresses, or the parent of one at which nobody is.
    fn is_end_of(&self, hint: &AddressSet) -> bool {
        hint.iter().any(|(tree, address)| {
            let Some(own) = &self.trees[tree].address else { return false };
            let child = own.slot_of(address, self.q()).is_some();
            let is_there =
                |link: &Link| link.place.as_ref().and_then(|place| place.addresses.in_tree(tree)) == Some(address);
            own == address || (child && !self.links.live().any(is_there))
        })
    }

    fn deliver(&mut self, packet: Routed, came_from: Option<LinkId>, now: Now) {
        self.counters.delivered += 1;
        match packet.header.kind {
            Kind::Data => {
                let header = &packet.header;
                let (from, return_place) = (header.src, header.return_place.clone());
                let (ecn, hops) = (header.ecn, header.hops());
                let via = came_from.and_then(|id| self.links.link(id)).map(|link| link.peer);
                let payload = packet.into_payload();
                self.events.push_back(Event::Received(Delivery { from, return_place, via, ecn, hops, payload }));
            }
            Kind::Unreachable => self.handle_unreachable(&packet, now),
            Kind::DhtReply => {
                if self.dht.is_from_anybody(packet.payload()) {
                    self.note_member(packet.header.src, &packet.header.return_place, now);
                }
                self.dht.handle_reply(packet.header.src, packet.payload(), now);
            }
            Kind::EchoRequest => self.answer_echo(&packet, now),
            Kind::EchoReply => self.handle_echo_reply(&packet, now),
            Kind::Moved => self.handle_moved(came_from, packet.header.src, packet.payload(), now),
            Kind::DhtWalk => {}
        }
    }

    /// Sends word back to where the packet came from; never about such a word itself.
    fn report_unreachable(&mut self, packet: &Routed, why: UnreachableReason, now: Now) {
        let header = &packet.header;
        if header.kind == Kind::Unreachable {
            return;
        }
        let mut payload = vec![why.code(), packet.bytes.first().copied().unwrap_or_default()];
        payload.extend_from_slice(&header.dst);
        payload.extend(packet.payload().iter().take(ECHO_TOKEN_BYTES));
        self.send_packet(Kind::Unreachable, header.src, header.return_place.clone(), &payload, None, now);
    }

    /// Body: reason (1), first byte of the packet (1), its destination (32), and the first bytes of its payload.
    fn handle_unreachable(&mut self, packet: &Routed, now: Now) {
        let Some(([why, kind], rest)) = packet.payload().split_first_chunk::<2>() else { return };
        let Some((to, token)) = rest.split_first_chunk::<32>() else { return };
        let (Some(why), Some(kind)) = (UnreachableReason::from_code(*why), Kind::from_byte(*kind)) else { return };
        match kind {
            Kind::Data => self.events.push_back(Event::Unreachable { to: NodeId::from_bytes(*to), why }),
            Kind::EchoRequest => {
                self.echo_unreachable(token, packet.header.src, &packet.header.return_place, why, now);
            }
            _ => {}
        }
    }
}

/// Whether what is known of a neighbour is not older than what the sender of a packet to it knew, under this number: that would lead to where it was.
fn is_where_it_is_sought(link: &Link, seq: u64) -> bool {
    link.place.as_ref().is_some_and(|place| place.seq >= seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    #[test]
    fn packets_of_a_stream_have_a_way_to_be_known_by_unless_it_was_changed() {
        let place =
            |ordinal| Place { addresses: AddressSet::single(Address::from_ordinals(&[ordinal]).unwrap()), seq: 1 };
        let ids = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
        let mut header = Header::new(Kind::Data, ids[0], place(1), ids[1], place(2), 0);
        header.hints = vec![place(3).addresses, place(4).addresses];
        let mut way = Vec::new();
        header.target.encode_into(&mut way);
        way.push(2);
        header.hints.iter().for_each(|hint| hint.encode_into(&mut way));

        let mut composed = Routed::compose(header.clone(), b"payload");
        assert_eq!(composed.header_and_way().1, Some(&way[..]));
        let mut parsed = Routed::parse(header.with_payload(b"payload")).unwrap();
        assert_eq!(parsed.header_and_way().1, Some(&way[..]));
        parsed.header.turn_to(&place(5), &[]);
        parsed.resized = true;
        assert_eq!(parsed.header_and_way().1, None);

        header.detour = vec![[1; 4]];
        assert_eq!(Routed::parse(header.with_payload(b"")).unwrap().header_and_way().1, None);
        (header.kind, header.detour) = (Kind::EchoRequest, Vec::new());
        assert_eq!(Routed::parse(header.with_payload(b"")).unwrap().header_and_way().1, None);
    }
}
