//! What can be asked of an overlay.

use multiaddr::Multiaddr;

use crate::address::{FIRST_TREE, Place, TreeId};
use crate::id::NodeId;
use crate::links::{Link, TwoHop};
use crate::overlay::{Origin, Overlay};
use crate::time::{Instant, Now};

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets passed on for others.
    pub forwarded: u64,
    /// Packets that were for this node.
    pub delivered: u64,
    /// Walks of the record table that were begun, carried or answered here.
    pub walks: u64,
    /// Packets that this node sent.
    pub sent: u64,
    /// Packets dropped because no neighbour was closer to their destination.
    pub dropped_no_route: u64,
    /// Packets dropped because they had crossed too many links.
    pub dropped_ttl: u64,
    /// Frames dropped at a full queue, and packets whose header grew too long on the way.
    pub dropped_full: u64,
    /// Frames dropped because their link had used up its budget of signatures to check.
    pub dropped_unchecked: u64,
    /// Packets dropped because they came in this node's own name.
    pub dropped_forged: u64,
    /// Frames that were malformed, oversized, out of place or forged; each closed its link.
    pub bad_frames: u64,
    /// Links closed for such a frame, a wrong overlay or a wrong version.
    pub bad_links: u64,
}

impl Counters {
    /// Packets and frames that were dropped, for whatever reason.
    pub const fn dropped(&self) -> u64 {
        self.dropped_no_route
            .saturating_add(self.dropped_ttl)
            .saturating_add(self.dropped_full)
            .saturating_add(self.dropped_unchecked)
            .saturating_add(self.dropped_forged)
    }
}

/// What [`Overlay::state_bytes`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateBytes {
    /// What neighbours told of themselves and of their neighbours.
    pub neighbours: usize,
    /// Grants, children and tables.
    pub trees: usize,
    /// Addresses that may be dialled.
    pub known_addresses: usize,
    /// Records kept for others, at their greatest length.
    pub records: usize,
}

impl StateBytes {
    /// What forwarding and repair need: everything but the records.
    pub const fn without_records(&self) -> usize {
        self.neighbours + self.trees + self.known_addresses
    }
}

/// What a neighbour is to this node in the first tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourRole {
    /// Nearer to the root by one.
    Parent,
    /// It got its place from this node.
    Child,
    /// Neither.
    Shortcut,
}

/// One neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Who.
    pub id: NodeId,
    /// What it is to this node.
    pub role: NeighbourRole,
    /// Where it is in the overlay, as it told.
    pub place: Option<Place>,
    /// The other end of the link.
    pub remote: Multiaddr,
    /// Where it listens, as it told.
    pub addresses: Vec<Multiaddr>,
    /// Since when the link is up.
    pub up_at: Instant,
    /// The latest round trip time of a probe, in microseconds.
    pub rtt_us: Option<u64>,
}

/// A node that is no neighbour, as a neighbour told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquaintance {
    /// Who.
    pub id: NodeId,
    /// Where it is.
    pub place: Place,
    /// The neighbour that told.
    pub via: NodeId,
}

impl Overlay {
    /// This node's id.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// How it came into its overlay; none before [`Overlay::start`].
    pub const fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// The parent in the first tree.
    pub const fn parent(&self) -> Option<NodeId> {
        self.parent_in(FIRST_TREE)
    }

    /// The parent in `tree`.
    pub const fn parent_in(&self, tree: TreeId) -> Option<NodeId> {
        self.trees.tree(tree).parent()
    }

    /// Who holds the root of `tree`, as far as this node knows.
    pub fn root_of(&self, tree: TreeId) -> Option<NodeId> {
        self.trees[tree].holder()
    }

    /// Who holds the root of the first tree, as far as this node knows, and how long ago that was heard in microseconds.
    pub fn root(&self, now: Now) -> Option<(NodeId, u64)> {
        let heard = self.trees[FIRST_TREE].heard.as_ref()?;
        Some((heard.beacon.holder, self.root_age_us(now).unwrap_or_default()))
    }

    /// The live neighbours, by id.
    pub fn neighbours(&self) -> Vec<Neighbour> {
        self.links
            .live()
            .map(|link| Neighbour {
                id: link.peer,
                role: self.role_in(FIRST_TREE, &link.peer),
                place: link.place.clone(),
                remote: link.remote.clone(),
                addresses: link.addresses.clone(),
                up_at: link.up_at,
                rtt_us: link.rtt_us,
            })
            .collect()
    }

    /// What `peer` is to this node in `tree`.
    pub fn role_in(&self, tree: TreeId, peer: &NodeId) -> NeighbourRole {
        if self.trees[tree].parent() == Some(*peer) {
            NeighbourRole::Parent
        } else if self.trees[tree].slots.slot_of(peer).is_some() {
            NeighbourRole::Child
        } else {
            NeighbourRole::Shortcut
        }
    }

    /// What the neighbours told of theirs; a node that several told of comes several times.
    pub fn acquaintances(&self) -> impl Iterator<Item = Acquaintance> {
        self.links.live().flat_map(|link| {
            link.two_hop.iter().map(|far| Acquaintance { id: far.id, place: far.place.clone(), via: link.peer })
        })
    }

    /// The trees that have a root, and the first one.
    pub fn trees_in_use(&self) -> impl Iterator<Item = TreeId> {
        self.trees.in_use()
    }

    /// How many nodes the root of the first tree counts.
    pub fn size(&self) -> u32 {
        self.trees[FIRST_TREE].size
    }

    /// What was counted since the start.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// The record table's own counters.
    pub const fn dht_counters(&self) -> crate::dht::Counters {
        self.dht.counters()
    }

    /// Records kept here.
    pub fn records(&self) -> usize {
        self.dht.stored()
    }

    /// Replicas of which this node is the binder.
    pub fn replicas(&self) -> usize {
        self.dht.held().len()
    }

    /// Bytes that this node keeps of its neighbours, its trees and for others, about: what grows with them, not what every node has.
    pub fn state_bytes(&self) -> StateBytes {
        let links = self.links.live().map(|link| {
            let addresses = link.addresses.iter().map(|address| address.len()).sum::<usize>();
            size_of::<Link>() + link.two_hop.len() * size_of::<TwoHop>() + addresses
        });
        let trees = TreeId::ALL.into_iter().map(|tree| self.trees[tree].state_bytes());
        StateBytes {
            neighbours: links.sum::<usize>() + self.links.beyond_bytes(),
            trees: trees.sum(),
            known_addresses: self.dialer.state_bytes(),
            records: self.dht.stored() * crate::record::MAX_RECORD_BYTES,
        }
    }

    /// Where this node listens.
    pub fn listen_addresses(&self) -> &[Multiaddr] {
        &self.listen
    }
}
