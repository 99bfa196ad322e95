//! Who holds the root of each tree: beacons are heard, judged and passed on; heirs take over and step down.

use core::time::Duration;
use std::sync::Arc;

use super::beacon::Beacon;
use super::titles::Titles;
use super::{Heard, Role};
use crate::address::{Address, FIRST_TREE, TreeId};
use crate::dial::Source;
use crate::error::FrameError;
use crate::event::Event;
use crate::grant::GrantChain;
use crate::id::NodeId;
use crate::io::{Command, LinkId};
use crate::overlay::{KEY_TITLES, Overlay, Timer};
use crate::time::{Instant, Now, micros};
use crate::wire::link::{BeaconFrame, Frame};

/// How long the root of another tree than the first waits before it signs again, after it was away.
const ROOT_LISTENS: Duration = Duration::from_millis(500);
/// Children are told every beacon of a root; other neighbours, who only want to know whom they could ask for a place, one in so many.
const TOLD_TO_ALL: u64 = 3;

impl Overlay {
    /// This node holds the root of `tree` from now on. In the first tree a child of the founder does so beside its own place: nobody gets another
    /// address by that.
    pub(crate) fn become_root(&mut self, tree: TreeId, now: Now) {
        self.dialer.touch();
        self.trees.lines_changed();
        let minds = self.can_mind(tree);
        let state = &mut self.trees[tree];
        let place = state.address.clone().filter(|_| minds).unwrap_or_else(Address::root);
        (state.role, state.minds) = (Role::Root, minds);
        state.asking = None;
        state.orphan_since = None;
        if !minds {
            state.grant = None;
            state.chain = GrantChain::default();
        }
        // Also where the clock was set back since this node's last term, which others remember.
        state.term = state.term.saturating_add(1).max(now.wall.as_unix_micros()).max(self.seq_floor);
        for timer in [Timer::Stale(tree), Timer::Ask(tree), Timer::Takeover(tree)] {
            self.timers.cancel(timer);
        }
        self.sign_beacon(tree, now);
        self.take_place(tree, place, now);
        self.pass_beacon_on(tree, None, now);
        self.name_heirs_soon(now);
    }

    pub(crate) fn beacon_timer(&mut self, tree: TreeId, now: Now) {
        if !self.trees[tree].is_root() {
            return;
        }
        if self.own_rank(tree).is_some() {
            self.sign_beacon(tree, now);
            self.pass_next_on(tree, None, now);
            self.name_heirs(now);
        } else {
            // The founder lives, and has left this node out of its list.
            self.detach(tree, 0, now);
            self.seek_parent(now);
        }
    }

    fn sign_beacon(&mut self, tree: TreeId, now: Now) {
        let (Some(overlay), Some(_)) = (self.overlay_id(), self.own_rank(tree)) else { return };
        let state = &mut self.trees[tree];
        state.beacon_seq = state.beacon_seq.saturating_add(1);
        let beacon = Arc::new(Beacon::sign(&self.identity, &overlay, tree, state.term, state.beacon_seq));
        let at = state.latest.dated(&beacon, now.instant, now.instant);
        state.heard = Some(Heard { beacon, at });
        self.announce_root(tree);
        self.timers.set(Timer::Beacon(tree), now.instant + self.config.timing.beacon);
    }

    /// Who founded the overlay, once that is known.
    pub fn founder(&self) -> Option<NodeId> {
        self.genesis.as_ref().map(|genesis| genesis.genesis().founder)
    }

    /// How good `holder`'s title to the root of `tree` is; 0 is the best, none is no title.
    pub(crate) fn rank_of(&self, tree: TreeId, holder: &NodeId) -> Option<usize> {
        if self.witness.is_guilty(holder) {
            return None;
        }
        if tree == FIRST_TREE && self.founder() == Some(*holder) {
            return Some(0);
        }
        self.trees.titles.as_ref().and_then(|titles| titles.rank_of(tree, holder))
    }

    /// Whether `id` may hold the root of `tree` only where the founder and those before it are not.
    pub(crate) fn is_far_heir(&self, tree: TreeId, id: &NodeId) -> bool {
        let titles = self.trees.titles.as_ref().zip(self.founder());
        titles.is_some_and(|(titles, founder)| titles.is_far(tree, &founder, id))
    }

    fn own_rank(&self, tree: TreeId) -> Option<usize> {
        self.rank_of(tree, &self.id)
    }

    /// Whether `holder` may hold the root, and does by what `peer` or this node has heard, or somebody minds it for the founder.
    pub(crate) fn titled(&self, tree: TreeId, peer: &NodeId, holder: &NodeId) -> bool {
        let told = self.links.to(peer).and_then(|link| link.beacon_of(tree)).map(|heard| heard.beacon.holder);
        let minded = |minder: NodeId| {
            tree == FIRST_TREE && self.founder() == Some(*holder) && self.rank_of(tree, &minder).is_some()
        };
        let heard = [told, self.trees[tree].holder()].into_iter().flatten().any(|by| by == *holder || minded(by));
        self.rank_of(tree, holder).is_some() && heard
    }

    /// Sends the latest beacon, with its age, to one neighbour; a detached node has none to tell of.
    pub(crate) fn send_beacon_to(&mut self, tree: TreeId, peer: &NodeId, now: Now) {
        let Some(id) = self.links.to(peer).map(|link| link.id) else { return };
        let state = &self.trees[tree];
        let Some(heard) = state.heard.as_ref().filter(|_| state.is_attached()) else { return };
        let age_ms = u32::try_from(now.instant.since(heard.at).as_millis()).unwrap_or(u32::MAX);
        let frame = BeaconFrame { age_ms, beacon: heard.beacon.as_bytes().to_vec() };
        self.send_titles_to(peer, now);
        self.send_frame(id, &Frame::Beacon(frame), now);
    }

    pub(crate) fn pass_beacon_on(&mut self, tree: TreeId, except: Option<NodeId>, now: Now) {
        for peer in self.links.peers() {
            if except != Some(peer) {
                self.send_beacon_to(tree, &peer, now);
            }
        }
    }

    /// Passes on a beacon of a root that the neighbours have heard of before.
    fn pass_next_on(&mut self, tree: TreeId, except: Option<NodeId>, now: Now) {
        let number = self.trees[tree].heard.as_ref().map_or(0, |heard| heard.beacon.seq);
        if number.is_multiple_of(TOLD_TO_ALL) {
            self.pass_beacon_on(tree, except, now);
            return;
        }
        for peer in self.links.peers() {
            if self.trees[tree].is_child(&peer) {
                self.send_beacon_to(tree, &peer, now);
            }
        }
    }

    /// Sends the titles to a neighbour that may not have them. A detached node does, too: an heir that was restarted may know of its
    /// title only from that.
    pub(crate) fn send_titles_to(&mut self, peer: &NodeId, now: Now) {
        let Some(titles) = &self.trees.titles else { return };
        let (seq, bytes) = (titles.seq, titles.as_bytes().to_vec());
        let Some(id) = self.links.to(peer).map(|link| link.id) else { return };
        if let Some(link) = self.links.link_mut(id).filter(|link| link.titles_seq < seq) {
            link.titles_seq = seq;
            self.send_frame(id, &Frame::Titles(bytes), now);
        }
    }

    pub(crate) fn handle_titles(&mut self, id: LinkId, bytes: &[u8], now: Now) -> Result<(), FrameError> {
        let (Some(overlay), Some(founder)) = (self.overlay_id(), self.founder()) else { return Ok(()) };
        let seq = Titles::claimed_seq(bytes).ok_or(FrameError::Forged)?;
        let own = self.trees.titles.as_ref().map_or(0, |own| own.seq);
        let news = seq > own || self.trees.titles.is_none();
        if news && !self.may_check(id, 1, now) {
            return Ok(());
        }
        // Old ones are not worth a check, whoever signed them; they say that the peer has no newer ones.
        let titles = match news.then(|| Titles::verify(bytes, &overlay, &founder)) {
            None => None,
            Some(titles) => Some(titles.ok_or(FrameError::Forged)?),
        };
        if let Some(link) = self.links.link_mut(id) {
            link.titles_seq = link.titles_seq.max(seq);
        }
        if let Some(titles) = titles {
            self.learn_titles(titles, now);
        }
        Ok(())
    }

    /// Newer titles count from now on, here and for the neighbours.
    pub(crate) fn learn_titles(&mut self, titles: Titles, now: Now) {
        if self.trees.titles.as_ref().is_some_and(|own| own.seq >= titles.seq) {
            return;
        }
        for heir in titles.heirs.iter().filter(|heir| heir.id != self.id) {
            for address in &heir.addresses {
                self.dialer.learn(address, Some(heir.id), Source::Heir);
            }
        }
        self.commands
            .push_back(Command::Persist { key: KEY_TITLES.to_owned(), bytes: titles.as_bytes().to_vec().into() });
        let ranks = TreeId::ALL.map(|tree| self.own_rank(tree));
        self.trees.titles = Some(titles);
        for tree in TreeId::ALL {
            let mut latest = core::mem::take(&mut self.trees[tree].latest);
            latest.keep(|holder| self.rank_of(tree, holder).is_some());
            self.trees[tree].latest = latest;
        }
        self.trees.lines_changed();
        for peer in self.links.peers() {
            self.send_titles_to(&peer, now);
        }
        for (tree, before) in TreeId::ALL.into_iter().zip(ranks) {
            self.judge_own_title(tree, before, now);
        }
        self.rebind_all_soon(now);
        self.seek_parent(now);
    }

    /// After new titles: this node may hold a root now, or not any more, or the tree is none any more.
    fn judge_own_title(&mut self, tree: TreeId, before: Option<usize>, now: Now) {
        let in_use = self.trees.in_use().any(|used| used == tree);
        match (self.trees[tree].role, self.own_rank(tree)) {
            (Role::Root, Some(_)) => {}
            (Role::Child { .. }, Some(0)) if tree != FIRST_TREE && before != Some(0) => self.become_root(tree, now),
            (Role::Detached, Some(_)) => self.root_lost(tree, now),
            (Role::Root, None) => self.detach(tree, 0, now),
            _ if !in_use => self.detach(tree, 0, now),
            _ => {}
        }
    }

    pub(crate) fn handle_beacon(&mut self, id: LinkId, frame: &BeaconFrame, now: Now) -> Result<(), FrameError> {
        let (Some(overlay), Some(peer)) = (self.overlay_id(), self.links.link(id).map(|link| link.peer)) else {
            return Ok(());
        };
        let (tree, holder) = Beacon::claim(&frame.beacon).ok_or(FrameError::Malformed)?;
        // Somebody whose title this node cannot check is not believed, and not a forger either: titles change. Nor is work done for it.
        let Some(rank) = self.rank_of(tree, &holder) else { return Ok(()) };
        let number = Beacon::claimed_number(&frame.beacon).ok_or(FrameError::Malformed)?;
        let older = |old: &Heard| old.beacon.holder == holder && old.beacon.number() > number;
        let told = self.links.link(id).and_then(|link| link.beacon_of(tree));
        // An old one says nothing: all have heard the next one by now.
        let past = self.trees[tree].latest.is_past(&holder, number, self.config.timing.beacon, now.instant);
        if past || told.is_some_and(older) {
            return Ok(());
        }
        // The same beacon comes over every link; its signature is checked once.
        let beacon = match self.trees[tree].latest.with_number(&holder, number) {
            Some(beacon) => beacon,
            None if !self.may_check(id, 1, now) => return Ok(()),
            None => Arc::new(Beacon::verify(&frame.beacon, &overlay, self.checks.as_ref()).ok_or(FrameError::Forged)?),
        };
        let age = u64::from(frame.age_ms).saturating_mul(1000);
        let told = Instant::from_micros(now.instant.as_micros().saturating_sub(age));
        let at = self.trees[tree].latest.dated(&beacon, told, now.instant);
        let heard = Heard { beacon, at };
        if let Some(link) = self.links.link_mut(id) {
            link.beacons[tree.index()] = Some(heard.clone());
        }
        self.judge_beacon(peer, heard, rank, now);
        Ok(())
    }

    fn judge_beacon(&mut self, peer: NodeId, heard: Heard, rank: usize, now: Now) {
        let tree = heard.beacon.tree;
        let fresh = now.instant.since(heard.at) < self.config.timing.beacon_fresh;
        match self.trees[tree].role {
            Role::Detached => {
                self.note_minder(&heard, now);
                self.seek_parent(now);
            }
            Role::Root => {
                if fresh && self.own_rank(tree).is_none_or(|own| rank < own) {
                    // Its holder comes first: this node was only minding the root.
                    self.stop_minding(tree, &heard.beacon.holder, now);
                    self.detach(tree, 0, now);
                    self.seek_parent(now);
                }
            }
            Role::Child { parent, stale } if parent == peer => {
                let (beacon, old) = (&heard.beacon, self.trees[tree].heard.as_ref().map(|old| &old.beacon));
                let known = old.filter(|old| old.holder == beacon.holder);
                if !stale && fresh && known.is_none_or(|old| old.number() < beacon.number()) {
                    let same_term = known.is_some_and(|old| old.term == beacon.term);
                    self.accept_beacon(heard, now);
                    if same_term {
                        self.pass_next_on(tree, Some(peer), now);
                    } else {
                        self.pass_beacon_on(tree, Some(peer), now);
                    }
                }
            }
            Role::Child { .. } => {
                // Who follows another root than this node does is not below it, even if it still holds a slot here.
                let better = self.trees[tree].holder().is_none_or(|own| {
                    heard.beacon.holder != own && self.rank_of(tree, &own).is_none_or(|own| rank < own)
                });
                // Below one who minds the root for that holder a node has its place by that holder: they settle it among themselves.
                let minded = self.trees[tree].chain.root() == Some(heard.beacon.holder);
                if fresh && better && !minded && self.trees[tree].asking.is_none() {
                    self.ask(tree, peer, now);
                }
            }
        }
    }

    /// After a new parent was found: what it heard counts.
    pub(crate) fn adopt_beacon_of(&mut self, tree: TreeId, peer: &NodeId, now: Now) {
        if let Some(heard) = self.links.to(peer).and_then(|link| link.beacon_of(tree)).cloned() {
            self.accept_beacon(heard, now);
        }
    }

    fn accept_beacon(&mut self, heard: Heard, now: Now) {
        let tree = heard.beacon.tree;
        self.trees[tree].heard = Some(heard);
        self.announce_root(tree);
        self.timers.set(Timer::Stale(tree), now.instant + self.config.timing.beacon_stale);
    }

    fn announce_root(&mut self, tree: TreeId) {
        let state = &mut self.trees[tree];
        let Some(holder) = state.holder().filter(|holder| Some(*holder) != state.announced_root) else { return };
        let before = state.announced_root.replace(holder);
        if before.is_some() && tree == FIRST_TREE {
            self.events.push_back(Event::RootChanged(holder));
        }
    }

    /// The way to the root is lost: an heir begins to wait, the best-ranked one the shortest.
    pub(crate) fn root_lost(&mut self, tree: TreeId, now: Now) {
        let since = *self.trees[tree].detached_since.get_or_insert(now.instant);
        let timing = &self.config.timing;
        let at = match self.own_rank(tree) {
            None => return,
            Some(0) if tree == FIRST_TREE => since,
            // Whoever minds the root by now has to be heard first.
            Some(0) => now.instant + ROOT_LISTENS,
            Some(rank) => {
                let later = u32::try_from(rank.saturating_sub(1)).unwrap_or(u32::MAX);
                since + timing.takeover + timing.takeover_step.saturating_mul(later)
            }
        };
        self.timers.set(Timer::Takeover(tree), at);
    }

    /// The wait is over. An heir that hears of a root, or that is alone, does not become one; nor does the root of another tree than
    /// the first, when an heir minds it: giving it back would give everybody another address once more.
    pub(crate) fn takeover_timer(&mut self, tree: TreeId, now: Now) {
        // Titles that arrived during the wait may have taken this node's away.
        let (false, Some(rank)) = (self.trees[tree].is_attached(), self.own_rank(tree)) else { return };
        let (limit, since) = (self.config.timing.beacon_fresh, self.trees[tree].detached_since.unwrap_or_default());
        let rooted = |heard: &Heard| {
            // An heir far away that was quicker keeps no nearer one from it: it would gain the root by that.
            let holder = &heard.beacon.holder;
            let counts = self.rank_of(tree, holder).is_some_and(|of| of < rank || !self.is_far_heir(tree, holder));
            counts && now.instant.since(heard.at) < limit && heard.at > since
        };
        let others_rooted = self.links.live().any(|link| link.beacon_of(tree).is_some_and(rooted));
        let pinned = rank == 0 && tree == FIRST_TREE;
        if pinned || (self.links.live_len() > 0 && !others_rooted) {
            self.become_root(tree, now);
        } else {
            self.timers.set(Timer::Takeover(tree), now.instant + self.config.timing.takeover_step);
        }
    }

    /// How long ago the first tree's root was heard, in microseconds.
    pub(crate) fn root_age_us(&self, now: Now) -> Option<u64> {
        self.trees[FIRST_TREE].heard.as_ref().map(|heard| micros(now.instant.since(heard.at)))
    }
}
