//! Depth first, where greedy forwarding gets no nearer: around dead nodes, before the trees are repaired.
//!
//! The packet carries the nodes that it has visited since it got stuck, each as the first four bytes of its id, at most [`VISITS`] of them. A node
//! sends it to the neighbour nearest to the target that it has not visited; one that has none sends it back to the node that it came from, and is marked
//! as left. As soon as a neighbour is nearer than where it got stuck, the packet goes on greedily and the list is empty again: `last` falls strictly
//! over all of that. Only packets that are small enough for the longer header go this way.

use super::Routed;
use crate::address::{AddressSet, TreeId};
use crate::id::NodeId;
use crate::io::LinkId;
use crate::overlay::Overlay;
use crate::potential::{nearest, pair_of_target};
use crate::wire::packet::{Header, MAX_DETOUR};

/// Nodes that are visited around one obstacle, before the packet gives up the way that led to it. (On graphs of 10,000 nodes with 30 % dead,
/// 8 delivered more packets than 4, 16 or 32.)
const VISITS: usize = 8;
const _: () = assert!(VISITS < MAX_DETOUR);
/// Longest packet that may make a detour, in bytes, without the detour.
const MAX_DETOUR_PACKET_BYTES: usize = 2048;
/// Set in the first byte of a visited node that was left again.
const LEFT: u8 = 0x80;
/// The bit of the strikes that says that nobody is at the target's address in the first tree; those of the others follow.
const ABSENT_BIT: usize = 4;

/// A node in the list of visited ones.
const fn mark_of(id: &NodeId) -> [u8; 4] {
    let [a, b, c, d, ..] = *id.as_bytes();
    [a & !LEFT, b, c, d]
}

const fn is_mark_of(mark: &[u8; 4], id: &NodeId) -> bool {
    let [a, b, c, d] = *mark;
    let own = mark_of(id);
    a & !LEFT == own[0] && b == own[1] && c == own[2] && d == own[3]
}

/// Whether a packet may go depth first.
pub(super) const fn may_detour(packet: &Routed) -> bool {
    packet.len() <= MAX_DETOUR_PACKET_BYTES
}

impl Overlay {
    /// The next link of a small packet: greedily where that gets nearer, else around what is in the way, and only when that fails by giving up
    /// the pair of tree and target that looked best.
    pub(super) fn around(&mut self, header: &mut Header, way: Option<&[u8]>) -> Option<LinkId> {
        let (mask, last) = (header.mask, header.last);
        let greedy = self.choose_link(header, way);
        if greedy.is_some() && header.mask == mask {
            header.detour.clear();
            return greedy;
        }
        if is_absent(header) {
            return greedy;
        }
        let given_up = core::mem::replace(&mut header.mask, mask);
        let anew = core::mem::replace(&mut header.last, last);
        if let Some(link) = self.detour(header) {
            return Some(link);
        }
        (header.mask, header.last) = (given_up, anew);
        header.detour.clear();
        greedy
    }

    /// The next link on the way around; none when all ways are tried, or too many.
    fn detour(&mut self, header: &mut Header) -> Option<LinkId> {
        if !header.detour.iter().any(|mark| is_mark_of(mark, &self.id)) {
            header.detour.push(mark_of(&self.id));
        }
        if header.detour.len() > VISITS {
            return None;
        }
        self.links.look_beyond();
        self.unvisited(header).or_else(|| self.way_back(header))
    }

    /// The nearest neighbour that was not visited.
    fn unvisited(&self, header: &Header) -> Option<LinkId> {
        let visited = |id: &NodeId| header.detour.iter().any(|mark| is_mark_of(mark, id));
        // Who leads only to visited nodes leads nowhere.
        let ahead = self.ahead(header, |id| visited(id) || self.links.is_lost(id));
        nearest(self.plane.as_ref()?, header, &ahead)
    }

    /// Back to where the packet came from, which is the latest visited node that was not left.
    fn way_back(&self, header: &mut Header) -> Option<LinkId> {
        if let Some(own) = header.detour.iter_mut().find(|mark| is_mark_of(mark, &self.id)) {
            own[0] |= LEFT;
        }
        let mark = header.detour.iter().rev().find(|mark| mark[0] & LEFT == 0)?;
        self.links.live().find(|link| is_mark_of(mark, &link.peer)).map(|link| link.id)
    }

    /// The parent that an address of the target names knows best that nobody is there: that tree is not tried any more.
    pub(crate) fn strike_absent(&self, header: &mut Header) {
        if self.links.is_live(&header.to()) {
            return;
        }
        for tree in TreeId::ALL {
            if self.owns_the_place_of(&header.target, tree) && header.strikes & absent_bit(tree) == 0 {
                header.strikes |= absent_bit(tree);
                header.mask &= !(1 << pair_of_target(tree));
                header.last = f64::INFINITY;
            }
        }
    }

    /// Whether this node is the parent that the target's address in `tree` names.
    fn owns_the_place_of(&self, target: &AddressSet, tree: TreeId) -> bool {
        let own = self.trees[tree].address.as_ref();
        own.zip(target.in_tree(tree)).is_some_and(|(own, address)| own.slot_of(address, self.q()).is_some())
    }
}

/// Whether nobody is at any address of the target.
pub(crate) fn is_absent(header: &Header) -> bool {
    !header.target.is_empty() && header.target.iter().all(|(tree, _)| header.strikes & absent_bit(tree) != 0)
}

pub(super) const fn absent_bit(tree: TreeId) -> u8 {
    1 << (ABSENT_BIT + tree.index())
}
