//! The table of links, and what each neighbour told of itself.
//!
//! A link is *greeting* until both hellos agree, then *live*, and *closing* after a goodbye. One node may have several links to
//! one peer for a moment; `live` names the one in use.

mod alive;
mod beside;
mod beyond;
mod budget;
mod dispatch;
mod enrol;
mod greet;
mod outgoing;
mod room;
pub(crate) mod twin;

pub(crate) use beyond::Ahead;
use budget::Budget;

use std::collections::{BTreeMap, VecDeque};

use multiaddr::Multiaddr;

use crate::address::{AddressSet, MAX_TREES, Place, TreeId};
use crate::dht::Weight;
use crate::id::NodeId;
use crate::io::{CloseReason, Lane, LinkId, Transmit};
use crate::queue::LinkQueue;
use crate::standing::Standing;
use crate::time::Instant;
use crate::tree::Heard;
use crate::tree::lines::LinesSent;

/// Lost neighbours that are remembered.
const MAX_LOST: usize = 64;

/// How far a link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// The peer's hello is awaited.
    Greeting,
    /// The hellos agree, and one side is no member yet: see `enrol`.
    Guest,
    /// A guest has told his secret and waits.
    Asked,
    /// Usable.
    Live,
    /// Usable, but another one to the same peer is in use, until the peer has closed one of them.
    Spare,
    /// A goodbye is on its way; the link is closed for this reason at this time.
    Closing(CloseReason, Instant),
}

/// A neighbour of a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TwoHop {
    pub id: NodeId,
    pub place: Place,
}

/// One link and what its peer told.
pub(crate) struct Link {
    pub id: LinkId,
    pub peer: NodeId,
    pub remote: Multiaddr,
    pub initiator: bool,
    pub state: LinkState,
    pub up_at: Instant,
    pub heard_at: Instant,
    /// When the first data went since the peer was heard last.
    pub unanswered_since: Option<Instant>,
    /// When a heartbeat or probe was sent last.
    pub beat_at: Instant,
    /// When the open probe was sent.
    pub probe_sent: Option<Instant>,
    /// The peer was dialled beside this link, because that probe was not answered.
    pub copied: bool,
    /// Own and the peer's attachment numbers, as in the hellos of this link.
    pub own_seq: u64,
    pub peer_seq: u64,
    pub addresses: Vec<Multiaddr>,
    /// What the peer showed before its hello.
    pub membership: Vec<u8>,
    pub place: Option<Place>,
    pub standing: Standing,
    /// By tree: the size of the peer's subtree, and that as a weight.
    pub subtree: [u32; MAX_TREES],
    pub weight: [Weight; MAX_TREES],
    pub two_hop: Vec<TwoHop>,
    /// Places of dead nodes that the peer holds beside its own.
    pub held: Vec<AddressSet>,
    /// By tree: what the peer heard of the root.
    pub beacons: [Option<Heard>; MAX_TREES],
    /// By tree: the size of this node's subtree, as the peer was told.
    pub sizes_sent: [u32; MAX_TREES],
    /// As its parent: what it was told of those above.
    pub lines_sent: Option<LinesSent>,
    /// The hash of the latest advert to it.
    pub advert_sent: Option<u64>,
    /// The titles that the peer is known to have.
    pub titles_seq: u64,
    pub rtt_us: Option<u64>,
    pub queue: LinkQueue,
    /// It is in the list of those on which a frame may wait.
    pub is_ready: bool,
    /// Signatures that may be checked for it.
    pub budget: Budget,
    /// For records in packets, which may be from anybody: these do not take what repairs need.
    pub record_budget: Budget,
    /// It is beyond the usual number of links, and is closed then.
    pub stays_until: Option<Instant>,
}

impl Link {
    /// A link that has just come up.
    pub fn new(id: LinkId, peer: NodeId, remote: Multiaddr, initiator: bool, own_seq: u64, now: Instant) -> Self {
        Self {
            id,
            peer,
            remote,
            initiator,
            state: LinkState::Greeting,
            up_at: now,
            heard_at: now,
            unanswered_since: None,
            beat_at: now,
            probe_sent: None,
            copied: false,
            own_seq,
            peer_seq: 0,
            addresses: Vec::new(),
            membership: Vec::new(),
            place: None,
            standing: Standing::Relay,
            subtree: [1; MAX_TREES],
            weight: [Weight::ONE; MAX_TREES],
            two_hop: Vec::new(),
            held: Vec::new(),
            beacons: [const { None }; MAX_TREES],
            sizes_sent: [1; MAX_TREES],
            lines_sent: None,
            advert_sent: None,
            titles_seq: 0,
            rtt_us: None,
            queue: LinkQueue::default(),
            is_ready: false,
            budget: Budget::full(now),
            record_budget: Budget::full(now),
            stays_until: None,
        }
    }

    /// Where the peer can be dialled, as that was done before or as it says; none for one that listens nowhere.
    pub fn dialable(&self) -> Option<Multiaddr> {
        let address = if self.initiator { Some(&self.remote) } else { self.addresses.first() };
        address.and_then(|address| crate::dial::at_peer(address, self.peer))
    }

    /// The beacon of `tree` that the peer passed on last.
    pub const fn beacon_of(&self, tree: TreeId) -> Option<&Heard> {
        self.beacons[tree.index()].as_ref()
    }

    /// Orders the links to one peer, the same way at both ends: the newer attachment first, then the one that the
    /// smaller id began.
    fn preference(&self, own: &NodeId) -> (u64, bool) {
        let begun_by_smaller = (*own < self.peer) == self.initiator;
        (self.own_seq.saturating_add(self.peer_seq), begun_by_smaller)
    }
}

/// All links.
#[derive(Default)]
pub(crate) struct Links {
    /// In boxes, as other large values here: a map has room for eleven of them in each of its leaves, and most nodes have a few.
    by_id: BTreeMap<LinkId, Box<Link>>,
    live: BTreeMap<NodeId, LinkId>,
    /// Links on which a frame may wait, in the order of their turns.
    ready: VecDeque<LinkId>,
    /// Neighbours that were lost lately: others may still tell that they lead to them.
    lost: VecDeque<NodeId>,
    beyond: beyond::Horizon,
}

impl Links {
    pub fn insert(&mut self, link: Link) {
        self.by_id.insert(link.id, Box::new(link));
    }

    pub fn remove(&mut self, id: LinkId) -> Option<Box<Link>> {
        let link = self.by_id.remove(&id)?;
        self.take_out_of_use(id, &link.peer);
        Some(link)
    }

    pub fn link(&self, id: LinkId) -> Option<&Link> {
        self.by_id.get(&id).map(Box::as_ref)
    }

    pub fn link_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.by_id.get_mut(&id).map(Box::as_mut)
    }

    /// The live link to `peer`.
    pub fn to(&self, peer: &NodeId) -> Option<&Link> {
        self.live.get(peer).and_then(|id| self.link(*id))
    }

    pub fn is_live(&self, peer: &NodeId) -> bool {
        self.live.contains_key(peer)
    }

    /// Whether this neighbour was lost lately, and is not back.
    pub fn is_lost(&self, peer: &NodeId) -> bool {
        self.lost.contains(peer)
    }

    /// The neighbour is lost.
    pub fn note_lost(&mut self, peer: NodeId) {
        self.note_back(&peer);
        if self.lost.len() >= MAX_LOST {
            self.lost.pop_front();
        }
        self.lost.push_back(peer);
    }

    /// The neighbour is there again, or somebody knows that it is.
    pub fn note_back(&mut self, peer: &NodeId) {
        self.lost.retain(|lost| lost != peer);
    }

    /// Makes `id` the link in use to its peer.
    pub fn set_live(&mut self, id: LinkId) {
        self.beyond_changed(id);
        if let Some(link) = self.by_id.get_mut(&id) {
            link.state = LinkState::Live;
            if let Some(before) = self.live.insert(link.peer, id) {
                self.beyond_changed(before);
            }
        }
    }

    /// The live links, by peer.
    pub fn live(&self) -> impl Iterator<Item = &Link> {
        self.live.values().filter_map(|id| self.link(*id))
    }

    /// The links that are live or may become so.
    pub fn begun(&self) -> impl Iterator<Item = &Link> {
        self.by_id.values().map(Box::as_ref).filter(|link| !matches!(link.state, LinkState::Closing(..)))
    }

    /// A link that can take the place of the one in use to `peer`.
    pub fn spare(&self, peer: &NodeId) -> Option<LinkId> {
        self.by_id.values().find(|link| link.peer == *peer && link.state == LinkState::Spare).map(|link| link.id)
    }

    /// The peers with a live link.
    pub fn peers(&self) -> Vec<NodeId> {
        self.live.keys().copied().collect()
    }

    /// All links, in any state.
    pub fn ids(&self) -> Vec<LinkId> {
        self.by_id.keys().copied().collect()
    }

    /// How many links there are, in any state.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many neighbours there are.
    pub fn live_len(&self) -> usize {
        self.live.len()
    }

    /// A frame came into the queue of this link, or room.
    pub fn make_ready(&mut self, id: LinkId) {
        if let Some(link) = self.by_id.get_mut(&id)
            && !core::mem::replace(&mut link.is_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// The next frame of a link with room, each link in its turn.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        while let Some(id) = self.ready.pop_front() {
            let Some(link) = self.by_id.get_mut(&id) else { continue };
            if let Some(transmit) = pop(id, link, now) {
                self.ready.push_back(id);
                return Some(transmit);
            }
            link.is_ready = false;
        }
        None
    }
}

fn pop(id: LinkId, link: &mut Link, now: Instant) -> Option<Transmit> {
    let (lane, bytes) = link.queue.pop(now)?;
    if lane == Lane::Data && link.unanswered_since.is_none() {
        link.unanswered_since = Some(now);
    }
    Some(Transmit { link: id, lane, bytes })
}

impl Links {
    /// Takes `id` out of use; it stays in the table until the driver says that it is down.
    pub fn retire(&mut self, id: LinkId, state: LinkState) {
        if let Some(link) = self.by_id.get_mut(&id) {
            link.state = state;
            let peer = link.peer;
            self.take_out_of_use(id, &peer);
        }
    }

    fn take_out_of_use(&mut self, id: LinkId, peer: &NodeId) {
        if self.live.get(peer) == Some(&id) {
            self.live.remove(peer);
            self.beyond_changed(id);
        }
    }

    /// What the peer told over one link holds for the next one to it.
    pub fn inherit(&mut self, from: LinkId, to: LinkId) {
        self.beyond_changed(to);
        let Some(old) = self.by_id.get(&from) else { return };
        let (place, two_hop, beacons) = (old.place.clone(), old.two_hop.clone(), old.beacons.clone());
        let (subtree, weight, held, standing) = (old.subtree, old.weight, old.held.clone(), old.standing);
        let (budgets, stays_until) = ((old.budget, old.record_budget), old.stays_until);
        if let Some(new) = self.by_id.get_mut(&to) {
            (new.place, new.two_hop, new.beacons, new.subtree, new.weight) = (place, two_hop, beacons, subtree, weight);
            // Who dials again and again has no more signatures checked, and stays no longer, by that.
            (new.held, new.standing, new.stays_until) = (held, standing, stays_until);
            (new.budget, new.record_budget) = budgets;
        }
    }
}
