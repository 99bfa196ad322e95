//! Forwarding pointers: who moves leaves word with the parents that it had, and these send on what still comes for its old place.
//!
//! The word is the node's own signed record, in a [`Kind::Moved`] packet, once it has a new place. A parent keeps it as long as it keeps the
//! slot. It cannot lead in circles: each pointer that a packet follows has a higher number than what the packet carried.

use std::collections::BTreeMap;

use super::Routed;
use crate::address::{Address, AddressSet, Place, TreeId};
use crate::id::NodeId;
use crate::io::LinkId;
use crate::overlay::Overlay;
use crate::record::{NodeRecord, Query, SignedRecord};
use crate::time::{Instant, Now};
use crate::wire::packet::Kind;

/// Most pointers that a node keeps; the next one to run out makes room.
const MAX_POINTERS: usize = 256;
/// Most former parents that are told of one move.
const MAX_TOLD: usize = 8;

/// Where a former child is now.
struct Pointer {
    place: Place,
    hints: Vec<AddressSet>,
    until: Instant,
}

/// Those of a node, and the parents that it has to leave word with itself.
#[derive(Default)]
pub(crate) struct Pointers {
    kept: BTreeMap<NodeId, Pointer>,
    /// Former parents and where they were.
    to_tell: BTreeMap<NodeId, AddressSet>,
}

impl Pointers {
    /// Whether this was news.
    fn keep(&mut self, record: &NodeRecord, until: Instant, now: Instant) -> bool {
        self.kept.retain(|_, pointer| pointer.until > now);
        if self.kept.get(&record.id).is_some_and(|known| known.place.seq >= record.place.seq) {
            return false;
        }
        if self.kept.len() >= MAX_POINTERS
            && let Some(oldest) = self.kept.iter().min_by_key(|(_, pointer)| pointer.until).map(|(id, _)| *id)
        {
            self.kept.remove(&oldest);
        }
        let hints = record.hints.iter().map(|hint| hint.place.addresses.clone()).collect();
        self.kept.insert(record.id, Pointer { place: record.place.clone(), hints, until });
        true
    }

    fn newer_than(&self, id: &NodeId, seq: u64, now: Instant) -> Option<&Pointer> {
        self.kept.get(id).filter(|pointer| pointer.place.seq > seq && pointer.until > now)
    }
}

impl Overlay {
    /// The parent in `tree` is lost: unless it takes this node back, packets for the old place end there.
    pub(crate) fn leave_word_with(&mut self, tree: TreeId, parent: NodeId) {
        let Some(at) = self.trees[tree].address.as_ref().and_then(Address::parent) else { return };
        let to_tell = &mut self.pointers.to_tell;
        if to_tell.len() < MAX_TOLD || to_tell.contains_key(&parent) {
            to_tell.entry(parent).or_default().insert(tree, at);
        }
    }

    /// The own record with a new place was signed: the parents of the old one are told.
    pub(crate) fn leave_word(&mut self, now: Now) {
        let record = self.dht.own_record(&Query::Node(self.id).key()).map(|record| record.as_bytes().to_vec());
        let (Some(record), false) = (record, self.pointers.to_tell.is_empty()) else { return };
        for (parent, addresses) in core::mem::take(&mut self.pointers.to_tell) {
            // Who is a neighbour again was told by an advert.
            if !self.links.is_live(&parent) {
                self.send_packet(Kind::Moved, parent, Place { addresses, seq: 0 }, &record, None, now);
            }
        }
    }

    /// A node says where it is now. It counts if that node has, or lately had, its place below this one.
    pub(super) fn handle_moved(&mut self, came_from: Option<LinkId>, from: NodeId, record: &[u8], now: Now) {
        let is_child = TreeId::ALL.into_iter().any(|tree| self.trees[tree].slots.slot_of(&from).is_some());
        // Who sent it is what it says so far.
        if is_child && came_from.is_some_and(|link| !self.links.may_check_record(link, now)) {
            self.counters.dropped_unchecked += 1;
            return;
        }
        let signed = is_child.then(|| SignedRecord::verify_with(record, self.checks.as_ref()).ok()).flatten();
        let Some(record) = signed.as_ref().and_then(SignedRecord::node).filter(|record| record.id == from) else {
            return;
        };
        // Said again, by whomever, it costs no probe and no route.
        if !self.pointers.keep(record, now.instant + self.config.timing.lease, now.instant) {
            return;
        }
        if let Some(id) = self.links.to(&from).map(|link| link.id) {
            // It may still look alive from here.
            self.probe(id, now);
            self.arm_link(id, now);
        }
        self.routes.clear();
    }

    /// A packet for a place that its destination has left goes on to where that is now.
    pub(super) fn redirect(&self, packet: &mut Routed) {
        let header = &packet.header;
        let (to, now) = (header.to(), self.clock.instant);
        let Some(pointer) = self.pointers.newer_than(&to, header.dst_seq, now) else { return };
        let told = self.links.to(&to).and_then(|link| link.place.as_ref());
        if told.is_none_or(|place| place.seq < pointer.place.seq) {
            packet.header.turn_to(&pointer.place, &pointer.hints);
            packet.resized = true;
        }
    }
}
