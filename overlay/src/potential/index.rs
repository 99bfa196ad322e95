//! The addresses around a node by tree, sorted, so that those that begin alike are beside each other.

use crate::address::{AddressSet, MAX_TREES, TreeId};
use crate::hyperbolic::Head;
use crate::id::NodeId;

/// Whose address it is, as a node knows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Who {
    /// The neighbour, by a number that the node has given it.
    pub neighbour: u32,
    /// Its own address, or another one that it told.
    pub which: Which,
}

/// What a neighbour told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Which {
    /// Where it is.
    Itself,
    /// Where it stands in for a dead node, by number.
    Held(u8),
    /// Where somebody is to whom it has a link, by number.
    Beyond(u8),
}

/// An address, as far as most decisions need it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Entry {
    pub head: Head,
    pub who: Who,
}

/// All that is known around a node.
#[derive(Clone, Debug, Default)]
pub struct Index {
    trees: [Vec<Entry>; MAX_TREES],
    /// Who is known at second hand and not by an address, by the first bytes of the id.
    named: Vec<(u64, Who)>,
}

/// The first bytes of an id: whose are others is another node.
fn tag(id: &NodeId) -> u64 {
    id.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

impl Index {
    /// Takes out what these neighbours told.
    pub fn forget(&mut self, gone: impl Fn(u32) -> bool) {
        for entries in &mut self.trees {
            entries.retain(|entry| !gone(entry.who.neighbour));
        }
        self.named.retain(|(_, who)| !gone(who.neighbour));
    }

    /// Adds addresses; [`Index::sort`] has to follow.
    pub fn add(&mut self, who: Who, addresses: &AddressSet) {
        for (tree, address) in addresses.iter() {
            self.trees[tree.index()].push(Entry { head: Head::of(address.as_slice()), who });
        }
    }

    /// Adds the name of somebody beyond a neighbour, who is found as a destination only; [`Index::sort`] has to follow.
    pub fn name(&mut self, who: Who, id: &NodeId) {
        self.named.push((tag(id), who));
    }

    /// Puts what was added in its place.
    pub fn sort(&mut self) {
        // A sort that makes use of what is sorted already.
        for entries in &mut self.trees {
            entries.sort();
            entries.shrink_to(entries.len() + entries.len() / 4);
        }
        self.named.sort();
        self.named.shrink_to(self.named.len() + self.named.len() / 4);
    }

    /// Bytes of all that is in it.
    pub fn bytes(&self) -> usize {
        let addresses: usize = self.trees.iter().map(Vec::len).sum();
        addresses * size_of::<Entry>() + self.named.len() * size_of::<(u64, Who)>()
    }

    /// Who may be `id`, among those known at second hand.
    pub(super) fn named(&self, id: &NodeId) -> impl Iterator<Item = Who> {
        let sought = tag(id);
        let from = self.named.partition_point(|(tag, _)| *tag < sought);
        self.named.iter().skip(from).take_while(move |(tag, _)| *tag == sought).map(|(_, who)| *who)
    }

    pub(super) fn in_tree(&self, tree: TreeId) -> &[Entry] {
        &self.trees[tree.index()]
    }

    /// All that is in it, told in other words: to compare two.
    pub fn listed<T: Ord>(&self, told: impl Fn(Who) -> T) -> Vec<(Option<TreeId>, u64, T)> {
        let addresses = TreeId::ALL
            .into_iter()
            .zip(&self.trees)
            .flat_map(|(tree, entries)| entries.iter().map(move |entry| (Some(tree), entry.head.number(), entry.who)));
        let named = self.named.iter().map(|(tag, who)| (None, *tag, *who));
        let mut all: Vec<_> = addresses.chain(named).map(|(tree, key, who)| (tree, key, told(who))).collect();
        all.sort();
        all
    }
}
