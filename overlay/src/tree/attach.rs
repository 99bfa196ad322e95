//! Finding a parent, following it, and losing it.

use core::time::Duration;

use crate::dial::Source;
use crate::error::FrameError;
use crate::event::Event;
use crate::grant::{Grant, GrantChain};
use crate::id::NodeId;
use crate::io::LinkId;
use crate::overlay::{Overlay, Timer};
use crate::time::Now;
use crate::tree::Role;
use crate::wire::link::Frame;

/// A node that found nobody looks again after this, when nothing happened before.
const SEEK_AGAIN: Duration = Duration::from_secs(1);
/// What a descendant waits longer for each level between it and the break, so that the upper ones mend first.
const LEVEL_WAIT: Duration = Duration::from_millis(500);

impl Overlay {
    /// Asks the best neighbour for a place, if this node needs one and nobody was asked yet.
    pub(crate) fn seek_parent(&mut self, now: Now) {
        if self.tree.role != Role::Detached || self.tree.asking.is_some() || self.genesis.is_none() || self.leaving {
            return;
        }
        self.timers.set_no_later(Timer::Seek, now.instant + SEEK_AGAIN);
        if let Some(parent) = self.best_parent(now) {
            self.ask(parent, now);
        }
    }

    /// The shallowest neighbour that answers and has heard the best-ranked root lately; the latest parent may be one level deeper, because it
    /// gives the old place back. Those with a slot here come last: they may be below this node, and would refuse, or may have left it.
    fn best_parent(&self, now: Now) -> Option<NodeId> {
        let last = self.tree.last_parent;
        self.links
            .live()
            .filter(|link| link.probe_sent.is_none())
            .filter(|link| self.tree.refused.get(&link.peer).is_none_or(|until| *until <= now.instant))
            .filter_map(|link| {
                let heard = link.beacon.as_ref()?;
                let fresh = now.instant.since(heard.at) < self.config.timing.beacon_fresh;
                let depth = link.place.as_ref()?.addresses.iter().map(|(_, address)| address.depth()).min()?;
                let cost = 2 * depth + if last == Some(link.peer) { 0 } else { 3 };
                let has_slot = self.slots.slot_of(&link.peer).is_some();
                fresh.then_some((heard.rank, has_slot, cost, link.peer))
            })
            .min()
            .map(|(_, _, _, peer)| peer)
    }

    /// Takes the place that `grant` gives below the vertex at the end of `chain`.
    pub(crate) fn follow(&mut self, peer: NodeId, grant: Grant, chain: GrantChain, now: Now) -> Result<(), FrameError> {
        let holder = chain.root().unwrap_or(peer);
        let titled = self.titled(&peer, &holder);
        let q = self.genesis.as_ref().map_or(0, |genesis| genesis.genesis().q);
        if !titled || chain.contains(&self.id) || holder == self.id {
            // Not false, but not to be followed: the peer's beacon may be on its way, or the way leads back here.
            self.tree.refused.insert(peer, now.instant + self.config.timing.ask_timeout);
            if self.tree.parent() == Some(peer) {
                self.detach(0, now);
                self.seek_parent(now);
            }
            return Ok(());
        }
        let chain = chain.extended(grant.clone());
        let address = chain.verify(&holder, &self.id, q).map_err(|_| FrameError::Forged)?;
        let before = self.tree.role;
        if let Some(old) = self.tree.grant.as_ref().map(|old| old.parent).filter(|old| *old != peer)
            && let Some(id) = self.links.to(&old).map(|link| link.id)
        {
            self.send_frame(id, &Frame::Release, now);
        }
        self.tree.role = Role::Child { parent: peer, stale: false };
        self.tree.last_parent = Some(peer);
        self.tree.grant = Some(grant);
        let same_chain = self.tree.chain == chain;
        self.tree.chain = chain;
        self.tree.refused.clear();
        self.adopt_beacon_of(&peer, now);
        // A slot that this node gave to its new parent, at a time when that was below it, is void.
        self.child_released(peer, now);
        if let Some((id, addresses)) = self.links.to(&peer).map(|link| (link.id, link.addresses.clone())) {
            for address in addresses {
                self.dialer.learn(&address, Some(peer), Source::Parent);
            }
            self.arm_link(id, now);
        }
        let same_place = self.tree.place.is_some() && self.tree.address == address && same_chain;
        let was_child_of_peer = matches!(before, Role::Child { parent, .. } if parent == peer);
        if same_place && was_child_of_peer {
            self.tree.detached_since = None;
            self.timers.cancel(Timer::Takeover);
            if matches!(before, Role::Child { stale: true, .. }) {
                self.tell_children_the_chain(now);
            }
        } else {
            self.take_place(address, before == Role::Detached, now);
        }
        Ok(())
    }

    /// The way to the root is lost here (`levels` 0) or so many levels above.
    pub(crate) fn detach(&mut self, levels: u8, now: Now) {
        if self.tree.role == Role::Detached {
            return;
        }
        self.tree.role = Role::Detached;
        self.tree.asking = None;
        self.timers.cancel(Timer::Ask);
        self.timers.cancel(Timer::Stale);
        self.timers.cancel(Timer::Beacon);
        self.root_lost(now);
        self.events.push_back(Event::Detached);
        self.tell_children_detached(levels.saturating_add(1), now);
        self.timers.set(Timer::Seek, now.instant + SEEK_AGAIN);
    }

    /// The parent says that it, or one above it, lost the root. It gets some time to mend that.
    pub(crate) fn handle_detached(&mut self, id: LinkId, levels: u8, now: Now) {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return };
        if self.tree.role == (Role::Child { parent: peer, stale: false }) {
            self.tree.role = Role::Child { parent: peer, stale: true };
            let wait = self.config.timing.parent_silent + LEVEL_WAIT.saturating_mul(u32::from(levels));
            self.timers.set(Timer::Stale, now.instant + wait);
            self.root_lost(now);
            self.tell_children_detached(levels.saturating_add(1), now);
        }
        if let Some(link) = self.links.link_mut(id) {
            link.beacon = None;
        }
    }

    /// The parent did not mend it, or sends no beacons: another parent is needed.
    pub(crate) fn stale_timer(&mut self, now: Now) {
        if let Some(parent) = self.tree.parent() {
            self.tree.refused.insert(parent, now.instant + self.config.timing.ask_timeout);
            self.detach(0, now);
            self.probe_all(now);
            self.seek_parent(now);
        }
    }

    pub(crate) fn ask_timer(&mut self, now: Now) {
        if let Some(peer) = self.tree.asking.take() {
            self.tree.refused.insert(peer, now.instant + self.config.timing.ask_timeout.saturating_mul(2));
            if self.tree.parent() == Some(peer) {
                self.detach(0, now);
            }
            self.seek_parent(now);
        }
    }
}
