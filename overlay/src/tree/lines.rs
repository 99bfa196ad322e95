//! What a parent tells its children with its heartbeats: who is above it, and how large the tree is. Only what changed is told, because
//! heartbeats are what a node without traffic sends most.

use core::time::Duration;

use super::Trees;
use crate::address::{FIRST_TREE, TreeId};
use crate::dial::Source;
use crate::id::NodeId;
use crate::io::LinkId;
use crate::overlay::Overlay;
use crate::time::{Instant, Now};
use crate::wire::link::{Contact, Frame, Heartbeat, Line, MAX_ANCESTORS, to_wire};

/// Lines are told again after this, changed or not.
const LINES_REPEATED: Duration = Duration::from_secs(30);
/// A tree that grew or shrank by less than this part (1 over it) is as large as it was.
const SAME_SIZE: u32 = 8;

/// Which lines a peer was told, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinesSent {
    version: u64,
    at: Instant,
}

impl Trees {
    /// Children have to be told anew who is above them.
    pub(crate) const fn lines_changed(&mut self) {
        self.lines_version = self.lines_version.wrapping_add(1);
    }
}

impl Overlay {
    /// A peer has a place here from now on, and was told nothing of what is above it.
    pub(crate) fn lines_unknown(&mut self, id: LinkId) {
        if let Some(link) = self.links.link_mut(id) {
            link.lines_sent = None;
        }
    }

    pub(crate) fn send_heartbeat(&mut self, id: LinkId, now: Now) {
        self.note_sizes();
        let sizes = self.subtree_sizes();
        let version = self.trees.lines_version;
        let Some(link) = self.links.link_mut(id) else { return };
        link.beat_at = now.instant;
        link.sizes_sent = sizes;
        let told = |sent: LinesSent| sent.version == version && now.instant.since(sent.at) < LINES_REPEATED;
        let peer = link.peer;
        let lines = if link.lines_sent.is_some_and(told) {
            Vec::new()
        } else {
            link.lines_sent = Some(LinesSent { version, at: now.instant });
            self.lines_for(&peer)
        };
        self.send_frame(id, &Frame::Heartbeat(Heartbeat { lines, sizes }), now);
    }

    pub(crate) fn handle_heartbeat(&mut self, id: LinkId, heartbeat: Heartbeat, now: Now) {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return };
        self.subtrees_told(id, heartbeat.sizes, now);
        for line in heartbeat.lines {
            if self.trees[line.tree].parent() == Some(peer) {
                // Only in the first tree it is they who help an orphan.
                let why = if line.tree == FIRST_TREE { Source::Ancestor } else { Source::Neighbour };
                self.learn_contacts(&line.ancestors, why);
                if self.trees[line.tree].ancestors != line.ancestors {
                    self.trees[line.tree].ancestors = line.ancestors;
                    self.trees.lines_changed();
                }
                self.size_heard(line.tree, line.size, now);
            }
        }
    }

    /// Whether a tree is much larger or smaller than the children know.
    fn note_sizes(&mut self) {
        for tree in TreeId::ALL {
            let (size, told) = (self.size_of(tree), self.trees[tree].told_size);
            if size.abs_diff(told) > told / SAME_SIZE {
                self.trees[tree].told_size = size;
                self.trees.lines_changed();
            }
        }
    }

    fn size_of(&self, tree: TreeId) -> u32 {
        let state = &self.trees[tree];
        if state.is_root() && !state.minds { state.counted } else { state.size }
    }

    /// What `peer` has to know from its parent, in each tree in which that is this node.
    fn lines_for(&self, peer: &NodeId) -> Vec<Line> {
        let of = |tree: TreeId| {
            let state = &self.trees[tree];
            if !state.is_child(peer) {
                return None;
            }
            let parent = state.parent().and_then(|parent| self.links.to(&parent));
            let parent = parent.map(|link| Contact { id: link.peer, addresses: to_wire(&link.addresses, 2) });
            // Where a child may go when this node dies.
            let above = if state.is_root() { self.heirs_below(peer) } else { state.ancestors.clone() };
            let ancestors = parent.into_iter().chain(above).take(MAX_ANCESTORS).collect();
            Some(Line { tree, ancestors, size: self.size_of(tree) })
        };
        TreeId::ALL.into_iter().filter_map(of).collect()
    }
}
