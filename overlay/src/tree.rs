//! This node's part in each tree: its parent and place, its children, and who holds the root.

mod adoption;
mod attach;
pub(crate) mod beacon;
pub(crate) mod equivocation;
mod kin;
pub(crate) mod lines;
pub(crate) mod naming;
mod place;
mod placement;
mod proven;
pub(crate) mod slots;
mod succession;
pub(crate) mod survey;
pub(crate) mod titles;

use core::ops::{Index, IndexMut};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::address::{Address, FIRST_TREE, MAX_TREES, Place, TreeId};
use crate::dht::Table;
use crate::grant::{Grant, GrantChain};
use crate::id::NodeId;
use crate::time::Instant;
use crate::wire::link::Contact;
use adoption::Adopted;
use beacon::{Beacon, Latest};
use slots::Slots;
use titles::Titles;

/// How this node is connected to a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Not at all.
    Detached,
    /// It holds the root.
    Root,
    /// By a parent; `stale` when that one, or one above it, has lost the root.
    Child { parent: NodeId, stale: bool },
}

/// A beacon and when it was fresh. All links over which the same one came share it.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub beacon: Arc<Beacon>,
    pub at: Instant,
}

/// A child that waits for its grant.
pub(crate) struct Waiting {
    pub child: NodeId,
    /// This node's earlier grant, which it has shown.
    pub wanted: Option<Grant>,
    /// It knows no other neighbour to ask.
    pub no_other: bool,
}

/// The state in one tree.
pub(crate) struct Tree {
    pub role: Role,
    /// The grant by which the parent gave the place, and the chain from the root down to this node.
    pub grant: Option<Grant>,
    pub chain: GrantChain,
    /// The latest address: kept while detached, since others still forward by it. None before the first.
    pub address: Option<Address>,
    pub detached_since: Option<Instant>,
    pub last_parent: Option<NodeId>,
    /// Whom this node has asked for a place, and waits for.
    pub asking: Option<NodeId>,
    /// Whether it was told that this node knows no other to ask.
    pub asked_no_other: bool,
    /// A neighbour that has places left only for such nodes: it is asked again when all others have refused.
    pub full: Option<NodeId>,
    /// Neighbours that refused, and until when they are not asked again.
    pub refused: BTreeMap<NodeId, Instant>,
    /// The parent's ancestors, as it told.
    pub ancestors: Vec<Contact>,
    /// The beacon of the root that this node follows.
    pub heard: Option<Heard>,
    /// What was heard of all who may hold the root.
    pub latest: Latest,
    /// The own term and number, while this node holds the root.
    pub term: u64,
    pub beacon_seq: u64,
    /// Whom a beacon said that the root is, at the last event.
    pub announced_root: Option<NodeId>,
    /// What each ancestor from the root down to the parent chooses binders from, by level, as far as it is known.
    pub lineage: Vec<Option<Table>>,
    /// The levels at which a table, the own one included, changed since the records were looked through: bit by level.
    pub changed: u128,
    /// The own table, as the children know it.
    pub told_table: Table,
    /// How many nodes are here and below, as they were counted last: a hub cannot count for every heartbeat.
    pub counted: u32,
    /// How many nodes there are in the tree, as the root counts them.
    pub size: u32,
    /// How many there were when the children were told last.
    pub told_size: u32,
    /// Since when this node waits to be adopted by an ancestor; see [`adoption`].
    pub orphan_since: Option<Instant>,
    /// When it first heard, as an orphan, that somebody minds the root.
    pub minder_heard: Option<Instant>,
    /// It holds the root in the place of the founder, which is dead, beside its own place below that. Its role is [`Role::Root`] then.
    pub minds: bool,
    /// Children of dead nodes that this node stands in for.
    pub adopted: Vec<Adopted>,
    /// Children that asked while no epoch was reserved.
    pub waiting: Vec<Waiting>,
    /// The places below this one.
    pub slots: Slots,
}

impl Tree {
    fn new(tree: TreeId) -> Self {
        Self {
            role: Role::Detached,
            grant: None,
            chain: GrantChain::default(),
            address: None,
            detached_since: None,
            last_parent: None,
            asking: None,
            asked_no_other: false,
            full: None,
            refused: BTreeMap::new(),
            ancestors: Vec::new(),
            heard: None,
            latest: Latest::default(),
            term: 0,
            beacon_seq: 0,
            announced_root: None,
            lineage: Vec::new(),
            changed: 0,
            told_table: Table::default(),
            counted: 1,
            size: 1,
            told_size: 1,
            orphan_since: None,
            minder_heard: None,
            minds: false,
            adopted: Vec::new(),
            waiting: Vec::new(),
            slots: Slots::new(tree),
        }
    }

    /// The parent, if there is one.
    pub const fn parent(&self) -> Option<NodeId> {
        match self.role {
            Role::Child { parent, .. } => Some(parent),
            Role::Detached | Role::Root => None,
        }
    }

    /// Whether `peer` has its place by this node, of its own or in the place of a dead one.
    pub fn is_child(&self, peer: &NodeId) -> bool {
        self.slots.slot_of(peer).is_some() || self.adopted.iter().any(|adopted| adopted.child == *peer)
    }

    /// All who have their places by this node, those in the place of a dead one last.
    pub fn all_children(&self) -> Vec<NodeId> {
        let adopted = self.adopted.iter().map(|adopted| adopted.child);
        self.slots.children().into_iter().map(|(child, _)| child).chain(adopted).collect()
    }

    /// Whether `peer` is the parent in the place of a dead one.
    pub fn stands_in(&self, peer: &NodeId) -> bool {
        self.parent() == Some(*peer) && self.grant.as_ref().is_some_and(|grant| grant.parent != *peer)
    }

    /// Whether there is an unbroken way to the root, as far as this node knows.
    pub const fn is_attached(&self) -> bool {
        matches!(self.role, Role::Root | Role::Child { stale: false, .. })
    }

    /// How many grants there are between the root and this node: ancestors, whatever the length of the address.
    pub fn level(&self) -> usize {
        self.chain.grants().len()
    }

    /// Bytes of grants, children and tables, about.
    pub fn state_bytes(&self) -> usize {
        let grants = size_of_val(self.chain.grants());
        let table = |table: &Table| size_of::<Table>() + size_of_val(table.children.as_slice());
        let tables = self.lineage.iter().flatten().map(table).sum::<usize>();
        grants + tables + self.slots.state_bytes()
    }

    /// Whether this node holds the root.
    pub const fn is_root(&self) -> bool {
        matches!(self.role, Role::Root)
    }

    /// Who holds the root that this node follows.
    pub fn holder(&self) -> Option<NodeId> {
        self.heard.as_ref().map(|heard| heard.beacon.holder)
    }
}

/// All trees, and what they have in common.
pub(crate) struct Trees {
    by_id: [Tree; MAX_TREES],
    /// The latest place: kept while detached.
    pub place: Option<Place>,
    /// An address changed since that place was made.
    pub place_is_old: bool,
    /// The founder's latest word on who may hold the roots.
    pub titles: Option<Titles>,
    /// Counts the changes of what heartbeats tell children.
    pub lines_version: u64,
}

impl Trees {
    /// Nowhere yet.
    pub fn new() -> Self {
        Self { by_id: TreeId::ALL.map(Tree::new), place: None, place_is_old: false, titles: None, lines_version: 0 }
    }

    /// The trees that have a root by the titles, and the first one.
    pub fn in_use(&self) -> impl Iterator<Item = TreeId> + use<> {
        let named = TreeId::ALL.map(|tree| {
            let listed = self.titles.as_ref().is_some_and(|titles| titles.list(tree).next().is_some());
            (tree == FIRST_TREE || listed).then_some(tree)
        });
        named.into_iter().flatten()
    }

    /// The state in `tree`.
    pub const fn tree(&self, tree: TreeId) -> &Tree {
        &self.by_id[tree.index()]
    }

    /// Whether this node has lost the root of every tree.
    pub fn all_detached(&self) -> bool {
        self.by_id.iter().all(|tree| tree.role == Role::Detached)
    }

    /// Whether `peer` is this node's parent or holds a slot below it, in any tree.
    pub fn is_kin(&self, peer: &NodeId) -> bool {
        self.by_id.iter().any(|tree| tree.parent() == Some(*peer) || tree.is_child(peer))
    }

    /// Whether `peer` holds a slot below this node, in any tree.
    pub fn is_child(&self, peer: &NodeId) -> bool {
        self.by_id.iter().any(|tree| tree.is_child(peer))
    }

    /// In how many trees beside `except` the peer is the parent, or is asked to be.
    pub fn times_parent(&self, peer: &NodeId, except: TreeId) -> usize {
        let others = TreeId::ALL.into_iter().filter(|tree| *tree != except);
        others.filter(|tree| self[*tree].asking.or(self[*tree].parent()) == Some(*peer)).count()
    }
}

impl Index<TreeId> for Trees {
    type Output = Tree;

    fn index(&self, tree: TreeId) -> &Tree {
        self.tree(tree)
    }
}

impl IndexMut<TreeId> for Trees {
    fn index_mut(&mut self, tree: TreeId) -> &mut Tree {
        &mut self.by_id[tree.index()]
    }
}
