//! Walks of the record table: in one tree up the parent links to the root, then down by weighted rendezvous.

use super::Routed;
use crate::address::{FIRST_TREE, Place, TreeId};
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
        let Some(own) = self.trees.place.clone() else { return };
        let header = Header::walk(self.id, own, key, replica, self.tree_of_replica(replica));
        self.walk(Routed::compose(header, body), None, now);
    }

    /// Each replica is kept in a tree of its own, where there are enough.
    fn tree_of_replica(&self, replica: u8) -> TreeId {
        let own = TreeId::new(replica);
        self.trees.in_use().find(|tree| Some(*tree) == own).unwrap_or(FIRST_TREE)
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
        let Some(tree) = header.tree() else { return };
        let state = &self.trees[tree];
        header.down |= state.is_root();
        let next = if header.down {
            let (key, replica) = (header.dst, header.replica());
            let Some(address) = &state.address else { return };
            match choose(&key, replica, address, self.own_weight(), &self.dht_children(tree)) {
                Choice::Here => {
                    let (from, back) = (header.src, header.return_place.clone());
                    self.dht.handle_at_binder(from, back, key, replica, packet.payload(), now);
                    return;
                }
                Choice::Child(child) => Some(child),
            }
        } else {
            state.parent()
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
