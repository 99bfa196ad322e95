//! Parent and child: Ask, Grant, Refuse, Chain, Release, heartbeats; and what follows when a neighbour comes or goes.

use crate::dial::Source;
use crate::error::FrameError;
use crate::event::Event;
use crate::grant::{Grant, GrantChain, MAX_CHAIN};
use crate::id::NodeId;
use crate::io::Command;
use crate::io::LinkId;
use crate::overlay::{KEY_SLOTS, Overlay, Timer};
use crate::time::{Instant, Now};
use crate::tree::Role;
use crate::tree::slots::Allotment;
use crate::wire::link::{Ask, Contact, Frame, Granted, Heartbeat, MAX_ANCESTORS, Refuse, RefuseReason, to_wire};

impl Overlay {
    /// Whether `peer` is this node's parent or a child of it.
    pub(crate) fn is_kin(&self, peer: &NodeId) -> bool {
        self.tree.parent() == Some(*peer) || self.slots.slot_of(peer).is_some()
    }

    /// A neighbour became live.
    pub(crate) fn neighbour_gained(&mut self, peer: NodeId, now: Now) {
        self.slots.returned(&peer);
        self.link_replaced(peer, now);
        self.advertise_soon(now);
    }

    /// A link to a neighbour came into use: it may know nothing of this node.
    pub(crate) fn link_replaced(&mut self, peer: NodeId, now: Now) {
        self.advertise_to(&peer, now);
        self.send_beacon_to(&peer, now);
        if self.slots.slot_of(&peer).is_some() && self.tree.is_attached() && !self.tree.chain.contains(&peer) {
            // Also where it has asked already: both ends may have had different links in use, and the answer went into the one
            // that the peer had closed.
            self.give_place(peer, now);
            if let Some(id) = self.links.to(&peer).map(|link| link.id) {
                self.send_frame(id, &Frame::Chain(self.tree.chain.to_bytes()), now);
            }
        }
        if self.tree.parent() == Some(peer) {
            // A parent that was restarted, or gave the slot away, says so in its answer.
            self.ask(peer, now);
        }
        self.seek_parent(now);
    }

    /// A neighbour's last live link is gone.
    pub(crate) fn neighbour_lost(&mut self, peer: NodeId, now: Now) {
        self.events.push_back(Event::LinkLost { peer });
        self.attach_seq = crate::record::next_seq(self.attach_seq, now);
        if self.slots.slot_of(&peer).is_some() {
            self.slots.lost(&peer, now.instant);
            self.timers.set_no_later(Timer::Lease, now.instant + self.config.timing.lease);
            self.placement_changed(now);
        }
        if self.tree.asking == Some(peer) {
            self.tree.asking = None;
            self.timers.cancel(Timer::Ask);
        }
        if self.tree.parent() == Some(peer) {
            self.detach(0, now);
            // Whoever else is gone with the parent is found out now, not at the next probe.
            self.probe_all(now);
        }
        self.advertise_soon(now);
        self.seek_parent(now);
    }

    pub(crate) fn ask(&mut self, peer: NodeId, now: Now) {
        let Some(id) = self.links.to(&peer).map(|link| link.id) else { return };
        let previous = match &self.tree.grant {
            Some(grant) if grant.parent == peer => grant.to_bytes(),
            _ => Vec::new(),
        };
        self.tree.asking = Some(peer);
        self.timers.set(Timer::Ask, now.instant + self.config.timing.ask_timeout);
        self.send_frame(id, &Frame::Ask(Ask { tree: 0, previous }), now);
    }

    pub(crate) fn handle_ask(&mut self, id: LinkId, ask: &Ask, now: Now) {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return };
        let refusal = if ask.tree != 0 {
            Some(RefuseReason::Tree)
        } else if !self.tree.is_attached() || self.leaving {
            Some(RefuseReason::Detached)
        } else if self.tree.chain.contains(&peer) {
            Some(RefuseReason::Loop)
        } else if self.tree.address.depth() >= MAX_CHAIN {
            Some(RefuseReason::Depth)
        } else {
            None
        };
        match refusal {
            Some(why) => self.refuse(id, why, now),
            None => self.give_place(peer, now),
        }
    }

    fn refuse(&mut self, id: LinkId, why: RefuseReason, now: Now) {
        let others = self.others();
        self.send_frame(id, &Frame::Refuse(Refuse { tree: 0, why, others }), now);
    }

    fn give_place(&mut self, peer: NodeId, now: Now) {
        let Some(id) = self.links.to(&peer).map(|link| link.id) else { return };
        let Some(slots) = self.genesis.as_ref().map(|genesis| genesis.genesis().q.saturating_sub(1)) else { return };
        let lease_s = u32::try_from(self.config.timing.lease.as_secs()).unwrap_or(u32::MAX);
        let known = self.slots.slot_of(&peer).is_some();
        match self.slots.allot(&self.identity, peer, slots, lease_s) {
            Allotment::Granted(grant) => {
                let chain = self.tree.chain.to_bytes();
                self.send_beacon_to(&peer, now);
                self.send_frame(id, &Frame::Grant(Granted { grant: grant.to_bytes(), chain }), now);
                self.arm_link(id, now);
                self.beacon_soon(now);
                if !known {
                    self.placement_changed(now);
                    self.advertise_soon(now);
                }
            }
            Allotment::Wait => {
                if !self.tree.waiting.contains(&peer) {
                    self.tree.waiting.push(peer);
                }
            }
            Allotment::Full => self.refuse(id, RefuseReason::Full, now),
        }
        self.store_slots();
    }

    /// Writes the slots if they changed.
    pub(crate) fn store_slots(&mut self) {
        if let Some(bytes) = self.slots.take_unsaved() {
            self.commands.push_back(Command::Persist { key: KEY_SLOTS.to_owned(), bytes });
        }
    }

    /// A block of epochs is on disk: those who waited for it get their places.
    pub(crate) fn slots_stored(&mut self, now: Now) {
        self.slots.stored();
        for peer in core::mem::take(&mut self.tree.waiting) {
            if self.tree.is_attached() && !self.tree.chain.contains(&peer) {
                self.give_place(peer, now);
            }
        }
    }

    pub(crate) fn handle_grant(&mut self, id: LinkId, granted: &Granted, now: Now) -> Result<(), FrameError> {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return Ok(()) };
        if self.tree.asking != Some(peer) {
            return Ok(());
        }
        let grant = Grant::from_bytes(&granted.grant).map_err(|_| FrameError::Malformed)?;
        let chain = GrantChain::from_bytes(&granted.chain).map_err(|_| FrameError::Malformed)?;
        self.tree.asking = None;
        self.timers.cancel(Timer::Ask);
        if grant.parent != peer || grant.child != self.id {
            return Err(FrameError::Forged);
        }
        self.follow(peer, grant, chain, now)
    }

    /// The parent's own place changed.
    pub(crate) fn handle_chain(&mut self, id: LinkId, chain: &[u8], now: Now) -> Result<(), FrameError> {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return Ok(()) };
        let chain = GrantChain::from_bytes(chain).map_err(|_| FrameError::Malformed)?;
        match (self.tree.parent() == Some(peer), self.tree.grant.clone()) {
            (true, Some(grant)) => self.follow(peer, grant, chain, now),
            _ => Ok(()),
        }
    }

    pub(crate) fn handle_refuse(&mut self, id: LinkId, refuse: &Refuse, now: Now) {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return };
        self.learn_contacts(&refuse.others, Source::Hearsay);
        if self.tree.asking != Some(peer) {
            return;
        }
        self.tree.asking = None;
        self.timers.cancel(Timer::Ask);
        self.tree.refused.insert(peer, now.instant + self.config.timing.ask_timeout);
        if self.tree.parent() == Some(peer) {
            self.detach(0, now);
        }
        self.seek_parent(now);
    }

    /// A child leaves, or found another parent.
    pub(crate) fn child_released(&mut self, child: NodeId, now: Now) {
        if self.slots.release(&child) {
            self.store_slots();
            self.placement_changed(now);
            self.advertise_soon(now);
        }
    }

    pub(crate) fn handle_heartbeat(&mut self, id: LinkId, heartbeat: Heartbeat, now: Now) {
        let from_parent = self.links.link(id).is_some_and(|link| self.tree.parent() == Some(link.peer));
        if from_parent {
            self.learn_contacts(&heartbeat.ancestors, Source::Ancestor);
            self.tree.ancestors = heartbeat.ancestors;
            self.placement_changed_above(heartbeat.placement, now);
        }
    }

    /// This node's parent and that one's ancestors: where a child may go when this node dies.
    pub(crate) fn ancestors_for_children(&self) -> Vec<Contact> {
        let parent = self.tree.parent().and_then(|parent| self.links.to(&parent));
        let parent = parent.map(|link| Contact { id: link.peer, addresses: to_wire(&link.addresses, 2) });
        parent.into_iter().chain(self.tree.ancestors.iter().cloned()).take(MAX_ANCESTORS).collect()
    }

    pub(crate) fn tell_children_the_chain(&mut self, now: Now) {
        let frame = Frame::Chain(self.tree.chain.to_bytes());
        for (child, _) in self.slots.children() {
            self.send_beacon_to(&child, now);
            if let Some(id) = self.links.to(&child).map(|link| link.id) {
                self.send_frame(id, &frame, now);
            }
        }
    }

    pub(crate) fn tell_children_detached(&mut self, levels: u8, now: Now) {
        for (child, _) in self.slots.children() {
            if let Some(id) = self.links.to(&child).map(|link| link.id) {
                self.send_frame(id, &Frame::Detached(levels), now);
            }
        }
    }

    pub(crate) fn lease_timer(&mut self, now: Now) {
        let lease = self.config.timing.lease;
        let before = now.instant.as_micros().saturating_sub(crate::time::micros(lease));
        if let Some(lost) = self.slots.expire(Instant::from_micros(before)) {
            self.timers.set(Timer::Lease, lost + lease);
        }
        self.store_slots();
        self.placement_changed(now);
    }

    /// Whether the role lets children count on this node.
    pub(crate) const fn is_root(&self) -> bool {
        matches!(self.tree.role, Role::Root)
    }
}
