//! This node's part in the tree: its parent and place, its children, and who holds the root.

mod attach;
pub(crate) mod beacon;
mod kin;
mod place;
pub(crate) mod slots;
mod succession;

use std::collections::BTreeMap;

use crate::address::{Address, Place};
use crate::grant::{Grant, GrantChain};
use crate::id::NodeId;
use crate::time::{Instant, Now};
use crate::wire::link::Contact;
use beacon::Beacon;

/// How this node is connected to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Not at all.
    Detached,
    /// It holds the root.
    Root,
    /// By a parent; `stale` when that one, or one above it, has lost the root.
    Child { parent: NodeId, stale: bool },
}

/// A beacon, how good its holder's title is (0 is the founder), and when it was fresh.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub beacon: Beacon,
    pub rank: usize,
    pub at: Instant,
}

/// The state.
pub(crate) struct Tree {
    pub role: Role,
    /// The grant by which the parent gave the place, and the chain from the root down to this node.
    pub grant: Option<Grant>,
    pub chain: GrantChain,
    /// The latest place: kept while detached, since others still forward by it.
    pub place: Option<Place>,
    pub address: Address,
    pub detached_since: Option<Instant>,
    pub last_parent: Option<NodeId>,
    /// Whom this node has asked for a place, and waits for.
    pub asking: Option<NodeId>,
    /// Neighbours that refused, and until when they are not asked again.
    pub refused: BTreeMap<NodeId, Instant>,
    /// The parent's ancestors, as it told.
    pub ancestors: Vec<Contact>,
    /// The best beacon, and the founder's latest one, which lists the heirs.
    pub heard: Option<Heard>,
    pub founders: Option<Beacon>,
    /// The own term and number, while this node holds the root.
    pub term: u64,
    pub beacon_seq: u64,
    /// Whom a beacon said that the root is, at the last event.
    pub announced_root: Option<NodeId>,
    /// Changes with what this node or one above it says to walks; and the parent's, as last heard.
    pub placement: u64,
    pub placement_above: u64,
    /// Children that asked while no epoch was reserved.
    pub waiting: Vec<NodeId>,
}

impl Tree {
    /// Nowhere yet.
    pub fn new(now: Now) -> Self {
        Self {
            role: Role::Detached,
            grant: None,
            chain: GrantChain::default(),
            place: None,
            address: Address::root(),
            detached_since: None,
            last_parent: None,
            asking: None,
            refused: BTreeMap::new(),
            ancestors: Vec::new(),
            heard: None,
            founders: None,
            term: 0,
            beacon_seq: 0,
            announced_root: None,
            // A restart is a change, too: never a number from before it.
            placement: now.wall.as_unix_micros(),
            placement_above: 0,
            waiting: Vec::new(),
        }
    }

    /// The parent, if there is one.
    pub const fn parent(&self) -> Option<NodeId> {
        match self.role {
            Role::Child { parent, .. } => Some(parent),
            Role::Detached | Role::Root => None,
        }
    }

    /// Whether there is an unbroken way to the root, as far as this node knows.
    pub const fn is_attached(&self) -> bool {
        matches!(self.role, Role::Root | Role::Child { stale: false, .. })
    }
}
