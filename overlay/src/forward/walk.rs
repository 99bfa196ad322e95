//! Walks of the record table: in one tree to a vertex on the way that the walk's key takes down from the root, and from there on down by
//! weighted rendezvous. Who knows the tables above it sends a walk straight to the first vertex that it cannot decide for; others send it up to the root,
//! and so does a relay from which no way leads to that vertex.

use super::Routed;
use super::detour::absent_bit;
use crate::address::{Address, AddressSet, FIRST_TREE, Place, TreeId};
use crate::dht::{Choice, Walk, choose};
use crate::id::NodeId;
use crate::io::LinkId;
use crate::overlay::Overlay;
use crate::record::RecordKey;
use crate::time::Now;
use crate::wire::packet::{Header, Kind};

/// How a walk goes on.
enum Direction {
    /// Down from here.
    Down,
    /// Over this link, if there is one, to where it turns.
    On(Option<LinkId>),
}

impl Overlay {
    /// Begins a walk here.
    pub(crate) fn start_walk(&mut self, key: RecordKey, replica: u8, body: &[u8], now: Now) {
        let Some(place) = self.trees.place.clone() else { return };
        let tree = self.tree_of_replica(replica);
        let mut header = Header::walk(self.id, place, key, replica, tree);
        // The tables still lead to a node that leaves; its parent has just been told, so its walks go up.
        let vertex = if self.leaving { None } else { self.vertex_of(tree, &key, replica) };
        match vertex {
            Some(vertex) if self.trees[tree].address.as_ref() == Some(&vertex) => header.down = true,
            Some(vertex) => header.target = AddressSet::of(tree, vertex),
            // Not all tables above are known yet.
            None => {}
        }
        self.walk(Routed::compose(header, body), None, now);
    }

    /// Each replica is kept in a tree of its own, where there are enough: a founder that hears of nobody has the first tree alone, whoever else holds roots.
    pub(crate) fn tree_of_replica(&self, replica: u8) -> TreeId {
        let own = TreeId::new(replica);
        if self.names_heirs() && self.links.live_len() == 0 {
            return FIRST_TREE;
        }
        self.trees.in_use().find(|tree| Some(*tree) == own).unwrap_or(FIRST_TREE)
    }

    /// The tree and the vertex where this node thinks that the walk of a look-up turns downwards; none while it does not know all tables above it.
    pub fn walk_turns_at(&self, key: &RecordKey, replica: u8) -> Option<(TreeId, Address)> {
        let tree = self.tree_of_replica(replica);
        Some((tree, self.vertex_of(tree, key, replica)?))
    }

    /// Where the walk of a look-up goes on that has turned downwards and is at this node.
    pub fn walk_goes_on(&self, key: &RecordKey, replica: u8) -> Option<Choice> {
        let tree = self.tree_of_replica(replica);
        let address = self.trees[tree].address.as_ref()?;
        Some(choose(key, replica, address, self.own_weight(), &self.dht_children(tree)))
    }

    pub(crate) fn send_reply(&mut self, to: NodeId, place: Place, body: &[u8], now: Now) {
        self.send_packet(Kind::DhtReply, to, place, body, None, now);
    }

    /// One step. A walk that meets a gap is lost; who sent it asks again.
    pub(crate) fn walk(&mut self, mut packet: Routed, came_from: Option<LinkId>, now: Now) {
        if came_from.is_some() && packet.header.ttl == 0 {
            self.counters.dropped_ttl += 1;
            return;
        }
        let Some(tree) = packet.header.tree() else { return };
        self.counters.walks += 1;
        if self.trees[tree].minds {
            self.turn_at_the_minded_root(tree, &mut packet);
        }
        match self.direction(tree, &mut packet) {
            Direction::Down => self.walk_down(tree, packet, came_from, now),
            Direction::On(link) => self.step(packet, link, came_from, now),
        }
    }

    /// Whether the walk turns downwards here, or which link leads to the vertex where it does.
    fn direction(&mut self, tree: TreeId, packet: &mut Routed) -> Direction {
        let header = &mut packet.header;
        let own = self.trees[tree].address.clone();
        let arrived = match (header.target.in_tree(tree), &own) {
            (Some(target), Some(own)) => target == own,
            _ => self.trees[tree].is_root(),
        };
        if header.down || arrived {
            return Direction::Down;
        }
        let Some(target) = header.target.in_tree(tree).cloned() else { return Direction::On(self.link_up(tree)) };
        if let Some(link) = self.choose_link(header, None) {
            return Direction::On(Some(link));
        }
        if self.trees[tree].minds || own.is_some_and(|own| own.is_prefix_of(&target)) {
            // The vertex is gone: who is above it by its address, or minds the root, knows best what is there instead.
            return Direction::Down;
        }
        aim_at(None, tree, packet);
        Direction::On(self.link_up(tree))
    }

    fn link_up(&self, tree: TreeId) -> Option<LinkId> {
        let parent = self.trees[tree].parent()?;
        self.links.to(&parent).map(|link| link.id)
    }

    /// A walk to the root goes on to the vertex that the founder would have chosen, by the table that it told last; this node answers for the founder
    /// itself, also where no way led to such a vertex.
    fn turn_at_the_minded_root(&self, tree: TreeId, packet: &mut Routed) {
        let header = &packet.header;
        if header.down || header.target.in_tree(tree).is_some_and(|target| target.depth() > 0) {
            return;
        }
        let (key, replica) = (header.dst, header.replica());
        let known = self.trees[tree].lineage.first().and_then(Option::as_ref);
        let known = known.filter(|_| !has_missed_its_vertex(header, tree));
        let chosen = known.and_then(|table| table.choose(&key, replica, Address::root().as_slice()));
        let vertex = chosen.and_then(|slot| Address::root().child_in(slot, self.q()));
        if let Some(vertex) = vertex.or_else(|| self.trees[tree].address.clone()) {
            aim_at(Some(vertex), tree, packet);
        }
    }

    fn walk_down(&mut self, tree: TreeId, mut packet: Routed, came_from: Option<LinkId>, now: Now) {
        let header = &mut packet.header;
        header.down = true;
        let (key, replica) = (header.dst, header.replica());
        let Some(address) = &self.trees[tree].address else { return };
        match choose(&key, replica, address, self.own_weight(), &self.dht_children(tree)) {
            Choice::Here => {
                let (from, return_place, hops) = (header.src, header.return_place.clone(), header.hops());
                let walk = Walk { from, return_place, key, replica, hops };
                let (links, dropped) = (&mut self.links, &mut self.counters.dropped_unchecked);
                let may_check = || {
                    let may = came_from.is_none_or(|link| links.may_check_record(link, now));
                    *dropped += u64::from(!may);
                    may
                };
                self.dht.handle_at_binder(walk, packet.payload(), now, may_check);
            }
            Choice::Child(child) => {
                let link = self.links.to(&child).map(|link| link.id);
                self.step(packet, link, came_from, now);
            }
        }
    }

    fn step(&mut self, mut packet: Routed, link: Option<LinkId>, came_from: Option<LinkId>, now: Now) {
        let Some(link) = link else {
            self.counters.dropped_no_route += 1;
            return;
        };
        let header = &mut packet.header;
        header.ttl = header.ttl.saturating_sub(1);
        let waits = self.waits(header, came_from);
        let Some(bytes) = packet.into_bytes() else {
            self.counters.dropped_full += 1;
            return;
        };
        if came_from.is_some() {
            self.counters.forwarded += 1;
        }
        self.enqueue_packet(link, waits, bytes, now);
    }
}

/// Sends a walk to this vertex, or to the root, which knows who is there, when there is no way to the one that it made for: dead nodes are around
/// that, and nobody here is nearer.
fn aim_at(vertex: Option<Address>, tree: TreeId, packet: &mut Routed) {
    let header = &mut packet.header;
    header.try_all_ways();
    if vertex.is_none() {
        header.strikes = absent_bit(tree);
    }
    header.target = vertex.map(|vertex| AddressSet::of(tree, vertex)).unwrap_or_default();
    packet.resized = true;
}

/// Whether the walk goes to the root because no way led to the vertex that it made for.
const fn has_missed_its_vertex(header: &Header, tree: TreeId) -> bool {
    header.strikes & absent_bit(tree) != 0
}
