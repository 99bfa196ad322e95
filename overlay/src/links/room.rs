//! Links beyond the usual number: room for orphans, and for nobody else.
//!
//! A node that misses a child, or the founder, takes more links than it is configured to, for those who were below (see the first tree's adoption). Who they are
//! shows only when they ask, so anybody gets a link; but whoever has no place by this node soon has to go again, and meanwhile is given none that an orphan has not.

use core::time::Duration;

use crate::address::FIRST_TREE;
use crate::error::FrameError;
use crate::grant::GrantChain;
use crate::io::{CloseReason, LinkId};
use crate::overlay::Overlay;
use crate::time::Now;

/// So long a link stays beyond the usual number. An orphan asks with its first frame behind the greeting.
const STAYS: Duration = Duration::from_secs(3);

impl Overlay {
    /// A link is about to come into use: whether it will be beyond the usual number, and until when it may then.
    pub(super) fn limit_stay(&mut self, id: LinkId, now: Now) {
        let beyond = self.links.live_len() >= self.config.max_links;
        if let Some(link) = self.links.link_mut(id).filter(|_| beyond) {
            link.stays_until = Some(now.instant + STAYS);
        }
    }

    /// Whether this link is beyond the usual number still.
    pub(crate) fn is_beyond_limit(&self, id: LinkId) -> bool {
        self.links.link(id).is_some_and(|link| link.stays_until.is_some())
    }

    /// The link stays: its peer has a place by this node.
    pub(crate) fn let_stay(&mut self, id: LinkId) {
        if let Some(link) = self.links.link_mut(id) {
            link.stays_until = None;
        }
    }

    /// Closes the link if its time is over; whether it did.
    pub(super) fn end_stay(&mut self, id: LinkId, now: Now) -> bool {
        let Some(link) = self.links.link(id) else { return false };
        let peer = link.peer;
        if link.stays_until.is_none_or(|until| until > now.instant) {
            return false;
        }
        if self.trees.is_kin(&peer) || self.links.live_len() <= self.config.max_links {
            self.let_stay(id);
            return false;
        }
        if self.misses_founder() {
            // Orphans gather at an heir before it can adopt them.
            self.limit_stay(id, now);
            return false;
        }
        self.part(id, CloseReason::Full, now);
        true
    }

    /// The peer shows the chain of its place, and is not adopted yet: where it is below a child that is missed, and may be back, it stays until that is decided.
    pub(crate) fn await_adoption(&mut self, id: LinkId, chain: &GrantChain, now: Now) -> Result<(), FrameError> {
        let Some(link) = self.links.link(id).filter(|link| link.stays_until.is_some()) else { return Ok(()) };
        let (peer, state) = (link.peer, &self.trees[FIRST_TREE]);
        let root = state.chain.root().unwrap_or(self.id);
        let below = chain.grants().strip_prefix(state.chain.grants()).and_then(<[_]>::split_first);
        let missed = below.is_some_and(|(first, rest)| {
            !rest.is_empty() && first.parent == self.id && state.slots.missed_since(first).is_some()
        });
        if missed && self.place_by(id, chain, (FIRST_TREE, &root, &peer), now)?.is_some() {
            let timing = &self.config.timing;
            let until = now.instant + timing.takeover + timing.ask_timeout;
            if let Some(link) = self.links.link_mut(id) {
                link.stays_until = Some(until);
            }
        }
        Ok(())
    }
}
