//! Parent and child: Ask, Grant, Refuse, Chain, Release, heartbeats; and what follows when a neighbour comes or goes.

use crate::address::{FIRST_TREE, TreeId};
use crate::dial::Source;
use crate::error::FrameError;
use crate::event::Event;
use crate::grant::{Grant, GrantChain, MAX_CHAIN, MAX_SLOTS, MIN_OPEN_SLOTS};
use crate::id::NodeId;
use crate::io::Command;
use crate::io::LinkId;
use crate::overlay::{Overlay, Timer, slots_key};
use crate::time::{Instant, Now};
use crate::tree::Waiting;
use crate::tree::slots::Allotment;
use crate::wire::link::{Ask, Chain, Detached, Frame, Granted, Refuse, RefuseReason};

impl Overlay {
    /// A neighbour became live.
    pub(crate) fn neighbour_gained(&mut self, peer: NodeId, now: Now) {
        self.links.note_back(&peer);
        self.penalties.returned(&peer, now.instant);
        for tree in TreeId::ALL {
            self.trees[tree].slots.returned(&peer);
        }
        self.give_back(&peer, now);
        if self.names_heirs() && self.links.live_len() == 1 {
            // What it put while it was alone has other binders now.
            self.rebind_all_soon(now);
            self.dht.handle_place_change(now);
        }
        self.link_replaced(peer, now);
        self.advertise_soon(now);
    }

    /// A link to a neighbour came into use: it may know nothing of this node.
    pub(crate) fn link_replaced(&mut self, peer: NodeId, now: Now) {
        self.advertise_to(&peer, now);
        self.send_titles_to(&peer, now);
        if let Some(id) = self.links.to(&peer).map(|link| link.id) {
            self.send_proofs_to(id, now);
        }
        for tree in self.trees.in_use() {
            self.send_beacon_to(tree, &peer, now);
            self.greet_kin(tree, peer, now);
        }
        self.seek_parent(now);
    }

    fn greet_kin(&mut self, tree: TreeId, peer: NodeId, now: Now) {
        let state = &self.trees[tree];
        let gives = state.is_attached() && self.refuses_as_leaf().is_none();
        if state.slots.slot_of(&peer).is_some() && gives && !state.chain.contains(&peer) {
            // Also where it has asked already: both ends may have had different links in use, and the answer went into the one
            // that the peer had closed.
            self.give_place(tree, Waiting { child: peer, wanted: None, no_other: false }, now);
            if let Some(id) = self.links.to(&peer).map(|link| link.id) {
                let chain = self.trees[tree].chain.to_bytes();
                self.send_frame(id, &Frame::Chain(Chain { tree, chain }), now);
            }
        }
        if self.trees[tree].parent() == Some(peer) {
            // A parent that was restarted, or gave the slot away, says so in its answer.
            self.ask(tree, peer, now);
        }
    }

    /// A neighbour's last live link is gone.
    pub(crate) fn neighbour_lost(&mut self, peer: NodeId, now: Now) {
        self.events.push_back(Event::LinkLost { peer });
        self.links.note_lost(peer);
        self.penalties.lost(peer, self.links.live_len() == 0, now.instant);
        self.attach_seq = crate::record::next_seq(self.attach_seq, now);
        let mut orphaned = false;
        let alone = self.links.live_len() == 0;
        for tree in TreeId::ALL {
            if alone && tree != FIRST_TREE && self.trees[tree].is_root() {
                // An heir will mind the tree; this node's own part of it is empty.
                self.detach(tree, 0, now);
            }
            if self.trees[tree].slots.slot_of(&peer).is_some() {
                self.trees[tree].slots.lost(&peer, now.instant);
                self.timers.set_no_later(Timer::Lease, now.instant + self.config.timing.lease);
                self.placement_changed(tree, now);
            }
            if self.trees[tree].asking == Some(peer) {
                self.trees[tree].asking = None;
                self.timers.cancel(Timer::Ask(tree));
            }
            if self.trees[tree].parent() == Some(peer) {
                self.leave_word_with(tree, peer);
                self.note_orphaned(tree, now);
                self.detach(tree, 0, now);
                orphaned = true;
            }
        }
        self.adopted_lost(&peer);
        if orphaned {
            // Whoever else is gone with the parent is found out now, not at the next probe.
            self.probe_all(now);
        }
        self.advertise_soon(now);
        self.hints_changed(now);
        self.seek_parent(now);
    }

    pub(crate) fn ask(&mut self, tree: TreeId, peer: NodeId, now: Now) {
        let Some(id) = self.links.to(&peer).map(|link| link.id) else { return };
        let state = &self.trees[tree];
        let gave = state.grant.as_ref().is_some_and(|grant| grant.parent == peer);
        let in_chain = state.chain.grants().iter().any(|grant| grant.parent == peer);
        let above = state.orphan_since.is_some() && (in_chain || self.is_minding(tree, &peer));
        let chain = if gave || above { state.chain.to_bytes() } else { Vec::new() };
        let no_other = self.knows_no_other_parent(tree, &peer, now);
        let state = &mut self.trees[tree];
        state.asking = Some(peer);
        state.asked_no_other = no_other;
        self.timers.set(Timer::Ask(tree), now.instant + self.config.timing.ask_timeout);
        self.send_frame(id, &Frame::Ask(Ask { tree, chain, no_other }), now);
    }

    pub(crate) fn handle_ask(&mut self, id: LinkId, ask: &Ask, now: Now) -> Result<(), FrameError> {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return Ok(()) };
        let chain = GrantChain::from_bytes(&ask.chain).map_err(|_| FrameError::Malformed)?;
        let last = chain.grants().last().filter(|grant| grant.tree == ask.tree && grant.child == peer);
        if let Some(last) = last
            && last.parent != self.id
            && ask.tree == FIRST_TREE
            && !self.is_void(&chain)
        {
            return self.handle_orphan(id, &chain, now);
        }
        // It may have been this node that forgot.
        let shown = last.filter(|grant| grant.parent == self.id);
        if shown.is_some() && !self.may_check(id, 1, now) {
            return Ok(());
        }
        let wanted = shown.filter(|grant| grant.is_signed(self.checks.as_ref())).cloned();
        let state = &self.trees[ask.tree];
        let refusal = if let Some(leaf) = self.refuses_as_leaf() {
            Some(leaf)
        } else if !state.is_attached() || self.leaving {
            Some(RefuseReason::Detached)
        } else if state.chain.contains(&peer) {
            Some(RefuseReason::Loop)
        } else if state.address.as_ref().is_none_or(|address| address.depth() >= MAX_CHAIN) {
            Some(RefuseReason::Depth)
        } else if self.is_beyond_limit(id) && wanted.is_none() && state.slots.slot_of(&peer).is_none() {
            // That room is for orphans.
            Some(RefuseReason::Full)
        } else {
            None
        };
        match refusal {
            Some(why) => self.refuse(ask.tree, id, why, now),
            None => self.give_place(ask.tree, Waiting { child: peer, wanted, no_other: ask.no_other }, now),
        }
        Ok(())
    }

    pub(crate) fn refuse(&mut self, tree: TreeId, id: LinkId, why: RefuseReason, now: Now) {
        let others = self.others();
        self.send_frame(id, &Frame::Refuse(Refuse { tree, why, others }), now);
    }

    fn give_place(&mut self, tree: TreeId, asks: Waiting, now: Now) {
        let peer = asks.child;
        let Some(id) = self.links.to(&peer).map(|link| link.id) else { return };
        let lease_s = u32::try_from(self.config.timing.lease.as_secs()).unwrap_or(u32::MAX);
        let q = self.q();
        let open_slots = q.saturating_sub(2).max(MIN_OPEN_SLOTS);
        let state = &mut self.trees[tree];
        let place = state.address.as_ref().filter(|_| state.level() < MAX_CHAIN);
        // A child's place has to be one that it can tell others of.
        let room = place.map_or(0, |place| place.slots_to_give(MAX_SLOTS, q));
        if room == 0 {
            self.refuse(tree, id, RefuseReason::Depth, now);
            return;
        }
        if state.slots.slot_of(&peer).is_some_and(|slot| slot >= room) {
            // It was, before this node's own place became longer.
            state.slots.release(&peer);
        }
        let known = state.slots.slot_of(&peer).is_some();
        let count = if asks.no_other { MAX_SLOTS } else { open_slots };
        let wanted = asks.wanted.as_ref().filter(|wanted| wanted.slot < room);
        match state.slots.allot(&self.identity, peer, wanted, count.min(room), lease_s) {
            Allotment::Granted(grant) => {
                // A child has one place here: the chain of a dead one's would contradict this grant.
                state.adopted.retain(|adopted| adopted.child != peer);
                let chain = state.chain.to_bytes();
                self.send_beacon_to(tree, &peer, now);
                self.send_frame(id, &Frame::Grant(Granted { grant: grant.to_bytes(), chain }), now);
                self.tell_lineage(tree, id, now);
                self.lines_unknown(id);
                self.arm_link(id, now);
                self.dialer.touch();
                self.name_heirs_soon(now);
                if !known {
                    self.placement_changed(tree, now);
                    self.advertise_soon(now);
                }
            }
            Allotment::Wait => {
                state.waiting.retain(|waiting| waiting.child != peer);
                state.waiting.push(asks);
            }
            Allotment::Full => self.refuse(tree, id, RefuseReason::Full, now),
        }
        self.store_slots(tree, now);
    }

    /// Writes the slots if they changed.
    pub(crate) fn store_slots(&mut self, tree: TreeId, now: Now) {
        if let Some(bytes) = self.trees[tree].slots.take_unsaved(now.wall) {
            self.commands.push_back(Command::Persist { key: slots_key(tree).to_owned(), bytes: bytes.into() });
        }
    }

    /// A block of epochs is on disk: those who waited for it get their places.
    pub(crate) fn slots_stored(&mut self, tree: TreeId, now: Now) {
        self.trees[tree].slots.stored();
        for asks in core::mem::take(&mut self.trees[tree].waiting) {
            if self.trees[tree].is_attached() && !self.trees[tree].chain.contains(&asks.child) {
                self.give_place(tree, asks, now);
            }
        }
    }

    pub(crate) fn handle_grant(&mut self, id: LinkId, granted: &Granted, now: Now) -> Result<(), FrameError> {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return Ok(()) };
        let grant = Grant::from_bytes(&granted.grant).map_err(|_| FrameError::Malformed)?;
        let chain = GrantChain::from_bytes(&granted.chain).map_err(|_| FrameError::Malformed)?;
        let tree = grant.tree;
        if self.trees[tree].asking != Some(peer) {
            self.return_unused(&grant, peer, now);
            self.settle_place(&grant, peer, now);
            return Ok(());
        }
        self.trees[tree].asking = None;
        self.timers.cancel(Timer::Ask(tree));
        if grant.child != self.id {
            return Err(FrameError::Forged);
        }
        if grant.parent != peer && !self.is_adoption(tree, &peer, &grant, &chain) {
            // Titles or places may have changed since it was asked.
            self.turn_down(tree, peer, now);
            self.seek_parent(now);
            return Ok(());
        }
        self.follow(tree, peer, grant, chain, now)
    }

    /// A grant that was not asked for, or came too late: a neighbour keeps a place for this node, which has another one by now.
    fn return_unused(&mut self, grant: &Grant, peer: NodeId, now: Now) {
        let state = &self.trees[grant.tree];
        let has_another = state.parent().is_some_and(|parent| parent != peer);
        // Who is adopted has its place by its parent's grant still.
        let holds_it = state.grant.as_ref().is_some_and(|held| held.parent == peer);
        if grant.child == self.id
            && grant.parent == peer
            && has_another
            && !holds_it
            && let Some(id) = self.links.to(&peer).map(|link| link.id)
        {
            self.send_frame(id, &Frame::Release(grant.tree), now);
        }
    }

    /// A neighbour was asked for any place, and then to adopt this node, and the first answer was taken. By the second one it has freed the place that it gave first, and would give it to
    /// another one, too.
    fn settle_place(&mut self, grant: &Grant, peer: NodeId, now: Now) {
        let state = &self.trees[grant.tree];
        let held_by_peer = state.grant.as_ref().is_some_and(|held| held.parent == peer);
        if grant.child == self.id && grant.parent != peer && state.parent() == Some(peer) && held_by_peer {
            self.ask(grant.tree, peer, now);
        }
    }

    /// The parent's own place changed.
    pub(crate) fn handle_chain(&mut self, id: LinkId, frame: &Chain, now: Now) -> Result<(), FrameError> {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return Ok(()) };
        let chain = GrantChain::from_bytes(&frame.chain).map_err(|_| FrameError::Malformed)?;
        let state = &self.trees[frame.tree];
        match (state.parent() == Some(peer), state.grant.clone()) {
            (true, Some(grant)) => self.follow(frame.tree, peer, grant, chain, now),
            _ => Ok(()),
        }
    }

    pub(crate) fn handle_refuse(&mut self, id: LinkId, refuse: &Refuse, now: Now) {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return };
        self.learn_contacts(&refuse.others, Source::Hearsay);
        if refuse.why == RefuseReason::Returned && self.trees[refuse.tree].parent() == Some(peer) {
            self.return_to_parent(refuse.tree, &refuse.others, now);
            self.seek_parent(now);
            return;
        }
        let dismissed = self.trees[refuse.tree].stands_in(&peer);
        let state = &mut self.trees[refuse.tree];
        if state.asking != Some(peer) && !dismissed {
            return;
        }
        state.asking = None;
        state.refused.insert(peer, now.instant + self.config.timing.ask_timeout);
        if refuse.why == RefuseReason::Full && !state.asked_no_other {
            state.full = Some(peer);
        }
        self.timers.cancel(Timer::Ask(refuse.tree));
        if self.trees[refuse.tree].parent() == Some(peer) {
            self.detach(refuse.tree, 0, now);
        }
        self.seek_parent(now);
    }

    /// A child found another parent.
    pub(crate) fn child_released(&mut self, tree: TreeId, child: NodeId, now: Now) {
        self.trees[tree].waiting.retain(|waiting| waiting.child != child);
        if self.trees[tree].slots.release(&child) {
            self.dialer.touch();
            self.store_slots(tree, now);
            self.placement_changed(tree, now);
            self.advertise_soon(now);
        }
    }

    pub(crate) fn tell_children_the_chain(&mut self, tree: TreeId, now: Now) {
        if tree == FIRST_TREE {
            self.tell_adopted_the_chain(now);
        }
        let frame = Frame::Chain(Chain { tree, chain: self.trees[tree].chain.to_bytes() });
        for (child, _) in self.trees[tree].slots.children() {
            self.send_beacon_to(tree, &child, now);
            if let Some(id) = self.links.to(&child).map(|link| link.id) {
                self.send_frame(id, &frame, now);
                self.tell_lineage(tree, id, now);
            }
        }
    }

    pub(crate) fn tell_children_detached(&mut self, tree: TreeId, levels: u8, now: Now) {
        for child in self.trees[tree].all_children() {
            if let Some(id) = self.links.to(&child).map(|link| link.id) {
                self.send_frame(id, &Frame::Detached(Detached { tree, levels }), now);
            }
        }
    }

    pub(crate) fn lease_timer(&mut self, now: Now) {
        let lease = self.config.timing.lease;
        let before = now.instant.as_micros().saturating_sub(crate::time::micros(lease));
        self.compact(Instant::from_micros(before), now);
        for tree in TreeId::ALL {
            let held = self.slots_held(tree);
            if let Some(lost) = self.trees[tree].slots.expire(Instant::from_micros(before), &held) {
                self.timers.set_no_later(Timer::Lease, lost + lease);
            }
            self.store_slots(tree, now);
            self.placement_changed(tree, now);
        }
    }
}
