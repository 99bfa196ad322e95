//! What follows when this node's place, or that of a neighbour, changes.

use core::time::Duration;

use crate::address::{Address, AddressSet, FIRST_TREE, Place};
use crate::dht::{Child, Weight};
use crate::dial::Source;
use crate::error::FrameError;
use crate::event::Event;
use crate::genesis::SignedGenesis;
use crate::hyperbolic::Plane;
use crate::id::NodeId;
use crate::io::LinkId;
use crate::links::{Link, TwoHop};
use crate::overlay::{Overlay, Timer};
use crate::record::{Hint, MAX_HINTS, NodeRecord, Record, SignedRecord, next_seq};
use crate::time::Now;
use crate::wire::link::{Advert, Advertised, Frame, MAX_ADVERTISED, from_wire, to_wire};
use crate::wire::packet::Header;

/// How long a node's record counts, in seconds.
const RECORD_LIFETIME_S: u32 = 24 * 60 * 60;
/// How long a vertex collects changes of where records belong before it tells its children.
const PLACEMENT_SETTLES: Duration = Duration::from_millis(500);

/// How new a place is; 0 before the first one.
fn seq(place: &Option<Place>) -> u64 {
    place.as_ref().map_or(0, |place| place.seq)
}

impl Overlay {
    /// This node is at `address` now.
    pub(crate) fn take_place(&mut self, address: Address, was_detached: bool, now: Now) {
        let seen = self.tree.place.as_ref().map_or(self.seq_floor, |place| place.seq);
        let place = Place { addresses: AddressSet::single(address.clone()), seq: next_seq(seen, now) };
        self.tree.address = address;
        self.tree.place = Some(place.clone());
        self.tree.detached_since = None;
        self.timers.cancel(Timer::Takeover);
        self.timers.cancel(Timer::Seek);
        let root = self.tree.heard.as_ref().map_or(self.id, |heard| heard.beacon.holder);
        match self.overlay_id() {
            Some(overlay) if was_detached => {
                self.events.push_back(Event::Joined { overlay, place, root });
            }
            _ => self.events.push_back(Event::PlaceChanged(place)),
        }
        self.store_known();
        self.slots.reserve();
        self.store_slots();
        self.advertise(now);
        self.tell_children_the_chain(now);
        self.publish_record(now);
        self.dht.handle_place_change(now);
        self.placement_changed(now);
    }

    /// Signs and publishes where this node is now.
    pub(crate) fn publish_record(&mut self, now: Now) {
        let (Some(place), Some(static_cert)) = (self.tree.place.clone(), self.static_cert.clone()) else { return };
        if self.tree.role == crate::tree::Role::Detached || self.leaving {
            return;
        }
        let mut near: Vec<_> = self.links.live().filter_map(|link| Some((link.place.clone()?, link.peer))).collect();
        near.sort_by_key(|(place, id)| (place.addresses.iter().map(|(_, a)| a.depth()).min(), *id));
        let hints = near.into_iter().take(MAX_HINTS).map(|(place, id)| Hint { id, place }).collect();
        let record = NodeRecord {
            id: self.id,
            place,
            static_cert,
            hints,
            multiaddrs: Vec::new(),
            flags: 0,
            lifetime_s: RECORD_LIFETIME_S,
        };
        if let Ok(signed) = SignedRecord::sign(&self.identity, Record::Node(record)) {
            // It is this node's own, so that only a full table of own records can refuse it; the old one stays then.
            let _ = self.dht.publish(signed, now);
        }
    }

    /// The size of the subtree here, this node included.
    pub(crate) fn subtree_size(&self) -> u32 {
        self.children_here().map(|(link, _)| link.subtree).fold(1, u32::saturating_add)
    }

    /// The children that can take a walk.
    pub(crate) fn dht_children(&self) -> Vec<Child> {
        self.children_here().map(|(link, slot)| Child { id: link.peer, slot, weight: link.weight }).collect()
    }

    /// Those who hold a slot, have a link and say that they are there: others left for another parent, or are not back yet.
    pub(crate) fn children_here(&self) -> impl Iterator<Item = (&Link, u8)> {
        self.slots.children().into_iter().filter_map(|(id, slot)| {
            let link = self.links.to(&id)?;
            let address = link.place.as_ref()?.addresses.in_tree(FIRST_TREE)?;
            let (last, above) = address.as_slice().split_last()?;
            (*last == slot && above == self.tree.address.as_slice()).then_some((link, slot))
        })
    }

    /// Tells all neighbours, at once.
    pub(crate) fn advertise(&mut self, now: Now) {
        self.timers.cancel(Timer::Advert);
        for peer in self.links.peers() {
            self.advertise_to(&peer, now);
        }
    }

    /// Tells all neighbours soon: several changes make one advert.
    pub(crate) fn advertise_soon(&mut self, now: Now) {
        self.timers.set_no_later(Timer::Advert, now.instant + self.config.timing.advert_delay);
    }

    pub(crate) fn advertise_to(&mut self, peer: &NodeId, now: Now) {
        let Some(id) = self.links.to(peer).map(|link| link.id) else { return };
        let mut others: Vec<_> = self.links.live().filter(|link| link.peer != *peer && link.place.is_some()).collect();
        // With more neighbours than fit, the parent and those highest in the tree say most about where this node leads.
        let depth =
            |place: &Option<Place>| place.as_ref().and_then(|p| p.addresses.iter().map(|(_, a)| a.depth()).min());
        others.sort_by_key(|link| (depth(&link.place), link.peer));
        let neighbours = others
            .into_iter()
            .take(MAX_ADVERTISED)
            .map(|link| Advertised {
                id: link.peer,
                place: link.place.as_ref().map(Place::to_bytes).unwrap_or_default(),
                addresses: to_wire(&link.addresses, 1),
            })
            .collect();
        let place = self.tree.place.as_ref().map(Place::to_bytes).unwrap_or_default();
        let weight = if self.leaving { 0 } else { self.subtree_size() };
        self.send_frame(id, &Frame::Advert(Advert { place, weight, neighbours }), now);
    }

    pub(crate) fn handle_advert(&mut self, id: LinkId, advert: Advert, now: Now) -> Result<(), FrameError> {
        let place = match advert.place.as_slice() {
            [] => None,
            bytes => Some(Place::from_bytes(bytes).map_err(|_| FrameError::Malformed)?),
        };
        let mut two_hop = Vec::with_capacity(advert.neighbours.len());
        for neighbour in advert.neighbours.iter().filter(|neighbour| neighbour.id != self.id) {
            let place = Place::from_bytes(&neighbour.place).map_err(|_| FrameError::Malformed)?;
            for address in from_wire(&neighbour.addresses) {
                self.dialer.learn(&address, Some(neighbour.id), Source::Hearsay);
            }
            two_hop.push(TwoHop { id: neighbour.id, place });
        }
        let Some(link) = self.links.link_mut(id) else { return Ok(()) };
        self.dialer.proven(link.peer);
        // A packet may have overtaken this advert.
        let place = if seq(&place) < seq(&link.place) { link.place.clone() } else { place };
        let moved = link.place != place;
        let first = link.place.is_none() && place.is_some();
        let grown = link.subtree != advert.weight;
        link.place = place;
        link.two_hop = two_hop;
        link.subtree = advert.weight;
        let weight = link.weight.follow(u64::from(advert.weight));
        let reweighed = core::mem::replace(&mut link.weight, weight) != weight;
        let is_child = self.slots.slot_of(&link.peer).is_some();
        if is_child && (reweighed || moved) {
            self.placement_changed(now);
        }
        if moved || (is_child && grown) {
            self.advertise_soon(now);
        }
        if first {
            self.seek_parent(now);
        }
        Ok(())
    }

    /// A packet straight from a neighbour, in the data lane, may overtake the advert of its place in the other one. A mover's first
    /// packet asks for an answer, which has to find it.
    pub(crate) fn hear_place(&mut self, id: LinkId, header: &Header, now: Now) {
        let Some(link) = self.links.link_mut(id) else { return };
        if header.src != link.peer || header.return_place.seq <= seq(&link.place) {
            return;
        }
        let first = link.place.is_none();
        link.place = Some(header.return_place.clone());
        let is_child = self.slots.slot_of(&header.src).is_some();
        self.routes.clear();
        self.advertise_soon(now);
        if is_child {
            self.placement_changed(now);
        }
        if first {
            self.seek_parent(now);
        }
    }

    /// Walks may end elsewhere from now on: because of this vertex, or of one above it.
    ///
    /// Whoever keeps a record cannot see that: the change may be many levels above. So it is told downwards.
    pub(crate) fn placement_changed(&mut self, now: Now) {
        self.tree.placement = self.tree.placement.wrapping_add(1);
        self.timers.set_no_later(Timer::Placement, now.instant + PLACEMENT_SETTLES);
        self.dht.handle_placement_change(now);
    }

    pub(crate) fn placement_changed_above(&mut self, version: u64, now: Now) {
        if core::mem::replace(&mut self.tree.placement_above, version) != version {
            self.placement_changed(now);
        }
    }

    pub(crate) fn placement_timer(&mut self, now: Now) {
        let children: Vec<_> = self.children_here().map(|(link, _)| link.id).collect();
        for id in children {
            self.send_heartbeat(id, now);
        }
    }

    pub(crate) fn adopt_genesis(&mut self, genesis: SignedGenesis) {
        self.plane = Plane::new(genesis.genesis().q);
        self.genesis = Some(genesis);
    }

    /// The weight with which this node takes records itself.
    pub(crate) const fn own_weight(&self) -> Weight {
        if self.leaving { Weight::NONE } else { Weight::ONE }
    }
}
