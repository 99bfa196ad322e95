//! What follows when this node's place, or that of a neighbour, changes.

use core::hash::Hasher as _;
use core::time::Duration;
use std::hash::DefaultHasher;

use crate::address::{Address, AddressSet, FIRST_TREE, Place, TreeId};
use crate::dial::Source;
use crate::error::FrameError;
use crate::event::Event;
use crate::genesis::SignedGenesis;
use crate::hyperbolic::Plane;
use crate::id::NodeId;
use crate::io::LinkId;
use crate::links::{Link, TwoHop};
use crate::overlay::{Overlay, Timer};
use crate::queue::{Order, Subject};
use crate::record::{FLAG_LEAF, Hint, MAX_HINTS, NodeRecord, Query, Record, SignedRecord, next_seq};
use crate::standing::Standing;
use crate::time::Now;
use crate::tree::Role;
use crate::wire::link::{Advert, Advertised, Frame, MAX_ADVERTISED, from_wire, to_wire};
use crate::wire::packet::Header;

/// How long a node's record counts, in seconds.
const RECORD_LIFETIME_S: u32 = 24 * 60 * 60;
/// How long a node collects changes of its addresses before it tells of them, after the first.
const PLACE_SETTLES: Duration = Duration::from_millis(50);
/// How long the first address waits for those of the other trees, when they were asked for.
const FIRST_PLACE_WAITS: Duration = Duration::from_millis(5);
/// How long neighbours settle before the record tells of others.
const HINTS_SETTLE: Duration = Duration::from_secs(10);
/// How long an address is told on after the way to its root was lost.
const ADDRESS_KEPT: Duration = Duration::from_secs(15);

/// How new a place is; 0 before the first one.
fn seq(place: &Option<Place>) -> u64 {
    place.as_ref().map_or(0, |place| place.seq)
}

/// Tells one advert from the next; nobody gains from two with the same hash.
fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

impl Overlay {
    /// This node is at `address` of `tree` now.
    pub(crate) fn take_place(&mut self, tree: TreeId, address: Address, now: Now) {
        let state = &mut self.trees[tree];
        state.address = Some(address);
        state.detached_since = None;
        state.slots.reserve();
        self.routes.clear();
        self.timers.cancel(Timer::Takeover(tree));
        self.store_slots(tree, now);
        self.trees.place_is_old = true;
        let asking = TreeId::ALL.into_iter().any(|tree| self.trees[tree].asking.is_some());
        if !self.present && asking {
            // Its peers are to know all addresses from the first word on, if that takes no time.
            self.timers.set_no_later(Timer::Place, now.instant + FIRST_PLACE_WAITS);
        } else if !self.present || self.timers.get(Timer::Place).is_none() {
            self.renew_place(now);
        }
        self.tell_children_the_chain(tree, now);
        self.placement_changed(tree, now);
        self.trees[tree].changed = u128::MAX;
    }

    /// The neighbours changed: when others than before would be the hints, the record is to say so, some time later.
    pub(crate) fn hints_changed(&mut self, now: Now) {
        self.timers.set_no_later(Timer::Hints, now.instant + HINTS_SETTLE);
    }

    pub(crate) fn hints_timer(&mut self, now: Now) {
        let told: Vec<_> = self
            .dht
            .own_record(&Query::Node(self.id).key())
            .and_then(SignedRecord::node)
            .map_or_else(Vec::new, |record| {
                record.hints.iter().map(|hint| (hint.id, hint.place.addresses.clone())).collect()
            });
        let now_best: Vec<_> = self.hints().into_iter().map(|hint| (hint.id, hint.place.addresses)).collect();
        if !told.is_empty() && told != now_best {
            self.publish_record(now);
        }
    }

    /// Addresses that came in one by one are told together, except the first after none.
    pub(crate) fn place_timer(&mut self, now: Now) {
        if self.trees.place_is_old && !self.trees.all_detached() {
            self.renew_place(now);
        }
    }

    /// An address by which nothing can come for a while is not told any more.
    pub(crate) fn forget_lost_addresses(&mut self, now: Now) {
        let lost = |tree: &TreeId| {
            let state = &self.trees[*tree];
            let told = self.trees.place.as_ref().is_some_and(|place| place.addresses.in_tree(*tree).is_some());
            let since = state.detached_since.filter(|_| state.role == Role::Detached);
            told && since.is_some_and(|since| now.instant.since(since) >= ADDRESS_KEPT)
        };
        if TreeId::ALL.iter().any(lost) && !self.trees.all_detached() {
            self.renew_place(now);
        }
    }

    fn renew_place(&mut self, now: Now) {
        let seen = seq(&self.trees.place).max(self.seq_floor);
        let mut addresses = AddressSet::default();
        for tree in TreeId::ALL {
            let state = &self.trees[tree];
            if let Some(address) = state.address.clone().filter(|_| state.role != Role::Detached) {
                addresses.insert(tree, address);
            }
        }
        let place = Place { addresses, seq: next_seq(seen, now) };
        let before = self.trees.place.replace(place.clone());
        let still_there = before.is_some_and(|before| {
            before.addresses.iter().all(|(tree, address)| place.addresses.in_tree(tree) == Some(address))
        });
        self.trees.place_is_old = false;
        self.timers.set(Timer::Place, now.instant + PLACE_SETTLES);
        let root = self.trees[FIRST_TREE].holder().unwrap_or(self.id);
        match self.overlay_id() {
            Some(overlay) if !core::mem::replace(&mut self.present, true) => {
                self.events.push_back(Event::Joined { overlay, place, root });
            }
            _ if still_there => self.events.push_back(Event::PlaceRenewed(place)),
            _ => self.events.push_back(Event::PlaceChanged(place)),
        }
        self.store_known();
        self.advertise(now);
        self.publish_record(now);
        self.dht.handle_place_change(now);
        self.claims_may_begin(now);
    }

    /// Signs and publishes where this node is now.
    pub(crate) fn publish_record(&mut self, now: Now) {
        let (Some(place), Some(static_cert)) = (self.place().cloned(), self.static_cert.clone()) else { return };
        if self.leaving {
            return;
        }
        let hints = self.hints();
        self.seq_floor = if place.seq > self.seq_floor { place.seq } else { next_seq(self.seq_floor, now) };
        let record = NodeRecord {
            id: self.id,
            seq: self.seq_floor,
            place,
            static_cert,
            hints,
            multiaddrs: Vec::new(),
            flags: if self.standing() == Standing::Relay { 0 } else { FLAG_LEAF },
            lifetime_s: RECORD_LIFETIME_S,
        };
        if let Ok(signed) = SignedRecord::sign(&self.identity, Record::Node(record)) {
            // It is this node's own, so that only a full table of own records can refuse it; the old one stays then.
            let _ = self.dht.publish(signed, now);
            self.leave_word(now);
        }
    }

    /// The neighbours that are highest in the trees: a packet for this node may go by them.
    fn hints(&self) -> Vec<Hint> {
        let relays = self.links.live().filter(|link| link.standing == Standing::Relay);
        let mut near: Vec<_> = relays.filter_map(|link| Some((link.place.clone()?, link.peer))).collect();
        near.sort_by_key(|(place, id)| (place.addresses.least_depth(), *id));
        near.into_iter().take(MAX_HINTS).map(|(place, id)| Hint { id, place }).collect()
    }

    /// Those who hold a slot, have a link and say that they are there: others left for another parent, or are not back yet.
    pub(crate) fn children_here(&self, tree: TreeId) -> impl Iterator<Item = (&Link, u16)> {
        let state = &self.trees[tree];
        let q = self.q();
        state.slots.children().into_iter().filter_map(move |(id, slot)| {
            let link = self.links.to(&id)?;
            let address = link.place.as_ref()?.addresses.in_tree(tree)?;
            (state.address.as_ref()?.slot_of(address, q) == Some(slot)).then_some((link, slot))
        })
    }

    /// Tells all neighbours, at once.
    pub(crate) fn advertise(&mut self, now: Now) {
        self.timers.cancel(Timer::Advert);
        let highest = self.highest_neighbours();
        // A hub has many neighbours, and tells most of them the same.
        let to_most = self.advert_to(None, &highest);
        for peer in self.links.peers() {
            if highest.iter().any(|told| told.id == peer) {
                let bytes = self.advert_to(Some(&peer), &highest);
                self.send_advert(&peer, &bytes, now);
            } else {
                self.send_advert(&peer, &to_most, now);
            }
        }
    }

    /// Tells all neighbours soon: several changes make one advert.
    pub(crate) fn advertise_soon(&mut self, now: Now) {
        self.timers.set_no_later(Timer::Advert, now.instant + self.config.timing.advert_delay);
    }

    pub(crate) fn advertise_to(&mut self, peer: &NodeId, now: Now) {
        let bytes = self.advert_to(Some(peer), &self.highest_neighbours());
        self.send_advert(peer, &bytes, now);
    }

    /// With more neighbours than fit an advert, those highest in the trees say most about where this node leads. One more than fit: nobody is
    /// told of itself.
    fn highest_neighbours(&self) -> Vec<Advertised> {
        // Nobody is led on by a leaf, nor to what is beyond one.
        let leads_on = |link: &&Link| link.standing != Standing::Leaf && self.standing() != Standing::Leaf;
        let told = self.links.live().filter(leads_on).filter_map(|link| Some((link.place.as_ref()?, link)));
        let mut all: Vec<_> =
            told.map(|(place, link)| (place.addresses.least_depth(), link.peer, place, link)).collect();
        all.sort_unstable_by_key(|(depth, id, ..)| (*depth, *id));
        let advertised = |(_, id, place, link): (_, NodeId, &Place, &Link)| Advertised {
            id,
            place: place.to_bytes(),
            addresses: to_wire(&link.addresses, 1),
        };
        all.into_iter().take(MAX_ADVERTISED + 1).map(advertised).collect()
    }

    fn advert_to(&self, peer: Option<&NodeId>, highest: &[Advertised]) -> Vec<u8> {
        let others = highest.iter().filter(|told| Some(&told.id) != peer);
        let neighbours = others.take(MAX_ADVERTISED).cloned().collect();
        let place = self.trees.place.as_ref().map(Place::to_bytes).unwrap_or_default();
        let held = self.held().iter().map(Address::to_bytes).collect();
        Frame::Advert(Advert { place, held, neighbours, standing: self.standing() }).encode()
    }

    fn send_advert(&mut self, peer: &NodeId, bytes: &[u8], now: Now) {
        let Some(id) = self.links.to(peer).map(|link| link.id) else { return };
        // Much that happens here changes nothing that a neighbour is told.
        let hash = Some(hash_of(bytes));
        if let Some(link) = self.links.link_mut(id).filter(|link| link.advert_sent != hash) {
            link.advert_sent = hash;
            self.enqueue_frame(id, Order::Latest(Subject::Neighbourhood), bytes.to_vec(), now);
        }
    }

    pub(crate) fn handle_advert(&mut self, id: LinkId, advert: Advert, now: Now) -> Result<(), FrameError> {
        let place = match advert.place.as_slice() {
            [] => None,
            bytes => Some(Place::from_bytes(bytes).map_err(|_| FrameError::Malformed)?),
        };
        let mut two_hop = Vec::with_capacity(advert.neighbours.len());
        for neighbour in advert.neighbours.iter().filter(|neighbour| neighbour.id != self.id) {
            let place = Place::from_bytes(&neighbour.place).map_err(|_| FrameError::Malformed)?;
            let known = TwoHop { id: neighbour.id, place };
            // Where it listens was learnt with the same words.
            if !self.links.link(id).is_some_and(|link| link.two_hop.contains(&known)) {
                // News of it: it lives.
                self.links.note_back(&known.id);
                for address in from_wire(&neighbour.addresses) {
                    self.dialer.learn(&address, Some(neighbour.id), Source::Hearsay);
                }
            }
            two_hop.push(known);
        }
        let mut held = Vec::with_capacity(advert.held.len());
        for address in &advert.held {
            held.push(AddressSet::single(Address::from_bytes(address).map_err(|_| FrameError::Malformed)?));
        }
        let Some(link) = self.links.link_mut(id) else { return Ok(()) };
        self.dialer.proven(link.peer);
        // A packet may have overtaken this advert.
        let place = if seq(&place) < seq(&link.place) { link.place.clone() } else { place };
        let moved = link.place != place;
        let changed = moved || link.two_hop != two_hop || link.held != held || link.standing != advert.standing;
        if moved {
            self.timers.set_no_later(Timer::Hints, now.instant + HINTS_SETTLE);
        }
        let first = link.place.is_none() && place.is_some();
        link.standing = advert.standing;
        link.place = place;
        link.two_hop = two_hop;
        link.held = held;
        let peer = link.peer;
        if changed {
            self.routes.clear();
            self.links.beyond_changed(id);
        }
        if moved {
            for tree in TreeId::ALL {
                if self.trees[tree].slots.slot_of(&peer).is_some() {
                    self.placement_changed(tree, now);
                }
            }
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
        self.links.beyond_changed(id);
        self.routes.clear();
        self.advertise_soon(now);
        for tree in TreeId::ALL {
            if self.trees[tree].slots.slot_of(&header.src).is_some() {
                self.placement_changed(tree, now);
            }
        }
        if first {
            self.seek_parent(now);
        }
    }

    /// q of the tiling; 0 before the overlay is known.
    pub(crate) fn q(&self) -> u16 {
        self.genesis.as_ref().map_or(0, |genesis| genesis.genesis().q)
    }

    pub(crate) fn adopt_genesis(&mut self, genesis: SignedGenesis) {
        self.plane = Plane::new(genesis.genesis().q);
        self.genesis = Some(genesis);
    }
}
