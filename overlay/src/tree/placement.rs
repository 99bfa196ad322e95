//! Where records belong, as far as that depends on the trees.
//!
//! A vertex tells those below it what it chooses binders from: its *table*. So each node knows the tables of all vertices between it and
//! the root, and can say by itself whether a record that it keeps still belongs here, and where a walk leaves its own way to the root:
//! most walks neither pass the root nor have to be repeated when something changes elsewhere.

use core::time::Duration;

use crate::address::{Address, MAX_TREES, TreeId};
use crate::dht::{Child, Table, Weight};
use crate::io::LinkId;
use crate::links::Link;
use crate::overlay::{Overlay, Timer};
use crate::record::RecordKey;
use crate::standing::Standing;
use crate::time::Now;
use crate::wire::link::{Frame, TableFrame};

/// How long a vertex collects changes of its table before it tells them; the more are below it, the longer.
const TABLE_SETTLES: Duration = Duration::from_millis(500);
/// What each node below adds to that.
const TABLE_SETTLES_PER_NODE: Duration = Duration::from_millis(1);
/// The longest.
const MAX_TABLE_SETTLES: Duration = Duration::from_secs(10);
/// A subtree that grew or shrank by this part (1 over it) is worth a word at once.
const TELLING_SHARE: u32 = 4;
/// Records are looked through no more often than this.
const REBIND_INTERVAL: Duration = Duration::from_secs(2);

impl Overlay {
    /// The table of this vertex may have changed.
    pub(crate) fn placement_changed(&mut self, tree: TreeId, now: Now) {
        let wait = TABLE_SETTLES.saturating_add(TABLE_SETTLES_PER_NODE.saturating_mul(self.trees[tree].counted));
        self.timers.set_no_later(Timer::Placement(tree), now.instant + wait.min(MAX_TABLE_SETTLES));
        self.table_changed(tree, self.trees[tree].level(), now);
        self.sizes_changed(now);
    }

    /// Tells the children this vertex's table, if it changed.
    pub(crate) fn placement_timer(&mut self, tree: TreeId, now: Now) {
        let table = self.own_table(tree);
        let depth = self.trees[tree].level();
        if self.trees[tree].told_table != table {
            self.trees[tree].told_table = table.clone();
            self.tell_table(tree, depth, &table, now);
        }
    }

    fn tell_table(&mut self, tree: TreeId, depth: usize, table: &Table, now: Now) {
        let Some(frame) = frame_of(tree, depth, table) else { return };
        // Also those that have not advertised yet where they are now: a table that comes right behind a new place is told only once.
        for child in self.trees[tree].all_children() {
            if let Some(id) = self.links.to(&child).map(|link| link.id) {
                self.send_frame(id, &frame, now);
            }
        }
    }

    /// Tells a child all tables above it.
    pub(crate) fn tell_lineage(&mut self, tree: TreeId, child: LinkId, now: Now) {
        let state = &self.trees[tree];
        let depth = state.level();
        let above = state.lineage.iter().enumerate().take(depth);
        let own = (depth, Some(&state.told_table));
        let all = above.map(|(depth, table)| (depth, table.as_ref())).chain([own]);
        let frames: Vec<Frame> = all.filter_map(|(depth, table)| frame_of(tree, depth, table?)).collect();
        for frame in frames {
            self.send_frame(child, &frame, now);
        }
    }

    pub(crate) fn handle_table(&mut self, id: LinkId, frame: TableFrame, now: Now) {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return };
        let TableFrame { tree, depth, own, children } = frame;
        let depth = usize::from(depth);
        let state = &mut self.trees[tree];
        if state.parent() != Some(peer) || depth >= state.level() {
            return;
        }
        let mut children: Vec<_> =
            children.into_iter().map(|(slot, level)| (slot, Weight::from_level(level))).collect();
        children.sort_unstable();
        let table = Table { own: Weight::from_level(own), children };
        if state.lineage.len() <= depth {
            state.lineage.resize(depth + 1, None);
        }
        let Some(known) = state.lineage.get_mut(depth) else { return };
        if known.as_ref() != Some(&table) {
            *known = Some(table.clone());
            self.tell_table(tree, depth, &table, now);
            self.table_changed(tree, depth, now);
        }
    }

    fn table_changed(&mut self, tree: TreeId, depth: usize, now: Now) {
        self.trees[tree].changed |= bit_of(depth);
        self.rebind_soon(now);
    }

    /// The own address changed, or the number of trees: any record may belong elsewhere.
    pub(crate) fn rebind_all_soon(&mut self, now: Now) {
        for tree in TreeId::ALL {
            self.trees[tree].changed = u128::MAX;
        }
        self.rebind_soon(now);
    }

    fn rebind_soon(&mut self, now: Now) {
        let earliest = self.rebound_at.map_or(now.instant, |at| at + REBIND_INTERVAL);
        self.timers.set_no_later(Timer::Rebind, earliest.max(now.instant));
    }

    /// Looks for records that belong elsewhere, by the tables that changed.
    pub(crate) fn rebind(&mut self, now: Now) {
        self.rebound_at = Some(now.instant);
        let own_tables = TreeId::ALL.map(|tree| self.own_table(tree));
        let moved: Vec<_> = self
            .dht
            .held()
            .into_iter()
            .filter(|(key, replica)| {
                let tree = self.tree_of_replica(*replica);
                own_tables.get(tree.index()).is_some_and(|own| !self.stays(tree, key, *replica, own))
            })
            .collect();
        for tree in TreeId::ALL {
            self.trees[tree].changed = 0;
        }
        self.dht.handle_placement_change(moved, now);
    }

    /// Whether the tables that changed still lead a walk for this record here. One that is not known says nothing.
    fn stays(&self, tree: TreeId, key: &RecordKey, replica: u8, own_table: &Table) -> bool {
        let state = &self.trees[tree];
        if !state.is_attached() {
            return true;
        }
        let (mut at, q) = (Address::root(), self.q());
        let own_level = state.level();
        let slots = state.chain.grants().iter().map(|grant| Some(grant.slot)).chain([None]);
        for (level, slot) in slots.enumerate() {
            let table =
                if level == own_level { Some(own_table) } else { state.lineage.get(level).and_then(Option::as_ref) };
            let changed = state.changed & bit_of(level) != 0;
            if changed && table.is_some_and(|table| table.choose(key, replica, at.as_slice()) != slot) {
                return false;
            }
            let Some(next) = slot.and_then(|slot| at.child_in(slot, q)) else { return true };
            at = next;
        }
        true
    }

    /// The deepest vertex on the way of a walk that this node can name: its own, or where the way leaves that to the root. None while it
    /// does not know all tables above it.
    pub(crate) fn vertex_of(&self, tree: TreeId, key: &RecordKey, replica: u8) -> Option<Address> {
        let state = &self.trees[tree];
        if !state.is_attached() {
            return None;
        }
        let (mut at, q) = (Address::root(), self.q());
        for (level, grant) in state.chain.grants().iter().enumerate() {
            match state.lineage.get(level)?.as_ref()?.choose(key, replica, at.as_slice()) {
                Some(chosen) if chosen == grant.slot => at = at.child_in(chosen, q)?,
                Some(chosen) => return at.child_in(chosen, q),
                None => return Some(at),
            }
        }
        Some(at)
    }

    fn own_table(&self, tree: TreeId) -> Table {
        let mut children: Vec<_> =
            self.children_here(tree).map(|(link, slot)| (slot, link.weight[tree.index()])).collect();
        children.sort_unstable();
        Table { own: self.own_weight(), children }
    }

    /// The size of the subtree here, this node included; 0 where it takes no records.
    pub(crate) fn subtree_size(&self, tree: TreeId) -> u32 {
        if self.leaving {
            return 0;
        }
        let own = u32::from(self.standing() == Standing::Relay);
        self.children_here(tree).map(|(link, _)| link.subtree[tree.index()]).fold(own, u32::saturating_add)
    }

    /// The same in each tree, as it was counted last.
    pub(crate) fn subtree_sizes(&self) -> [u32; MAX_TREES] {
        TreeId::ALL.map(|tree| self.trees[tree].counted)
    }

    /// A neighbour told how large its subtrees are.
    pub(crate) fn subtrees_told(&mut self, id: LinkId, sizes: [u32; MAX_TREES], now: Now) {
        let Some(link) = self.links.link_mut(id).filter(|link| link.subtree != sizes) else { return };
        let peer = link.peer;
        link.subtree = sizes;
        for tree in TreeId::ALL {
            let Some(link) = self.links.link_mut(id) else { break };
            let weight = &mut link.weight[tree.index()];
            let new = weight.follow(u64::from(link.subtree[tree.index()]));
            let reweighed = core::mem::replace(weight, new) != new;
            if reweighed && self.trees[tree].slots.slot_of(&peer).is_some() {
                self.placement_changed(tree, now);
            }
        }
        self.sizes_changed(now);
    }

    /// They are counted soon, and parents are told, if it matters.
    fn sizes_changed(&mut self, now: Now) {
        self.timers.set_no_later(Timer::Sizes, now.instant + self.config.timing.advert_delay);
    }

    /// Counts, and tells those parents that know something far from true; the others hear of it with the next heartbeat.
    pub(crate) fn tell_sizes(&mut self, now: Now) {
        self.timers.cancel(Timer::Sizes);
        for tree in TreeId::ALL {
            self.trees[tree].counted = self.subtree_size(tree);
        }
        let sizes = self.subtree_sizes();
        let far = |link: &Link| {
            TreeId::ALL.into_iter().any(|tree| {
                let (now, told) = (sizes[tree.index()], link.sizes_sent[tree.index()]);
                self.trees[tree].parent() == Some(link.peer) && now.abs_diff(told) >= (told / TELLING_SHARE).max(1)
            })
        };
        let parents: Vec<LinkId> = self.links.live().filter(|link| far(link)).map(|link| link.id).collect();
        for parent in parents {
            self.send_heartbeat(parent, now);
        }
    }

    /// The children that can take a walk.
    pub(crate) fn dht_children(&self, tree: TreeId) -> Vec<Child> {
        let child = |(link, slot): (&Link, u16)| Child { id: link.peer, slot, weight: link.weight[tree.index()] };
        self.children_here(tree).map(child).collect()
    }

    /// The weight with which this node takes records itself.
    pub(crate) fn own_weight(&self) -> Weight {
        let keeps = !self.leaving && self.standing() == Standing::Relay;
        if keeps { Weight::ONE } else { Weight::NONE }
    }

    /// The size of the overlay by the first tree, for whom it matters how many there are.
    pub(crate) fn size_heard(&mut self, tree: TreeId, size: u32, now: Now) {
        self.trees[tree].size = size;
        if tree == crate::address::FIRST_TREE {
            self.dht.set_overlay_size(size, now);
        }
    }
}

/// Chains of grants are shorter than a mask is long.
fn bit_of(depth: usize) -> u128 {
    const { assert!(crate::grant::MAX_CHAIN < 127, "a bit for each depth") };
    u32::try_from(depth).ok().and_then(|depth| 1u128.checked_shl(depth)).unwrap_or(0)
}

fn frame_of(tree: TreeId, depth: usize, table: &Table) -> Option<Frame> {
    let children = table.children.iter().map(|(slot, weight)| (*slot, weight.level())).collect();
    Some(Frame::Table(TableFrame { tree, depth: u8::try_from(depth).ok()?, own: table.own.level(), children }))
}
