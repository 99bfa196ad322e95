//! Walks of the record table: up the parent links to the root, then down by weighted rendezvous.

use super::Routed;
use crate::address::Place;
use crate::dht::{Choice, choose};
use crate::id::NodeId;
use crate::io::{Lane, LinkId};
use crate::overlay::Overlay;
use crate::record::RecordKey;
use crate::time::Now;
use crate::wire::packet::{Header, Kind};

impl Overlay {
    /// Begins a walk here.
    pub(crate) fn start_walk(&mut self, key: RecordKey, replica: u8, body: &[u8], now: Now) {
        let Some(own) = self.tree.place.clone() else { return };
        let header = Header::walk(self.id, own, key, replica);
        self.walk(Routed::compose(header, body), None, now);
    }

    pub(crate) fn send_reply(&mut self, to: NodeId, place: Place, body: &[u8], now: Now) {
        self.send_packet(Kind::DhtReply, to, place, body, None, now);
    }

    /// One step. A walk that meets a gap is lost; who sent it asks again.
    pub(crate) fn walk(&mut self, mut packet: Routed, came_from: Option<LinkId>, now: Now) {
        let header = &mut packet.header;
        if came_from.is_some() && header.ttl == 0 {
            self.counters.dropped_ttl += 1;
            return;
        }
        header.down |= self.is_root();
        let next = if header.down {
            let (key, replica) = (header.dst, header.replica());
            match choose(&key, replica, &self.tree.address, self.own_weight(), &self.dht_children()) {
                Choice::Here => {
                    let (from, back) = (header.src, header.return_place.clone());
                    self.dht.handle_at_binder(from, back, key, replica, packet.payload(), now);
                    return;
                }
                Choice::Child(child) => Some(child),
            }
        } else {
            self.tree.parent()
        };
        let Some(link) = next.and_then(|next| self.links.to(&next)).map(|link| link.id) else {
            self.counters.dropped_no_route += 1;
            return;
        };
        header.ttl = header.ttl.saturating_sub(1);
        if came_from.is_some() {
            self.counters.forwarded += 1;
        }
        self.enqueue(link, Lane::Control, 0, packet.into_bytes(), now);
    }
}
