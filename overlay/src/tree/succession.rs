//! Who holds the root: beacons are heard, judged and passed on; heirs take over and step down.

use core::time::Duration;

use super::beacon::{Beacon, Heir, MAX_HEIRS};
use super::{Heard, Role};
use crate::address::Address;
use crate::dial::Source;
use crate::error::FrameError;
use crate::event::Event;
use crate::grant::GrantChain;
use crate::id::NodeId;
use crate::io::LinkId;
use crate::links::Link;
use crate::overlay::{Overlay, Timer};
use crate::time::{Instant, Now, micros};
use crate::wire::link::{BeaconFrame, Frame};

/// How long the root waits with its next beacon when its children change: several changes make one beacon.
const HEIRS_SETTLE: Duration = Duration::from_secs(1);

impl Overlay {
    /// This node holds the root from now on.
    pub(crate) fn become_root(&mut self, now: Now) {
        let was_detached = self.tree.role == Role::Detached;
        self.tree.role = Role::Root;
        self.tree.asking = None;
        self.tree.grant = None;
        self.tree.chain = GrantChain::default();
        self.tree.term = self.tree.term.saturating_add(1).max(now.wall.as_unix_micros());
        for timer in [Timer::Stale, Timer::Ask, Timer::Seek, Timer::Takeover] {
            self.timers.cancel(timer);
        }
        self.sign_beacon(now);
        self.take_place(Address::root(), was_detached, now);
        self.pass_beacon_on(None, now);
    }

    pub(crate) fn beacon_timer(&mut self, now: Now) {
        if !self.is_root() {
            return;
        }
        if self.own_rank().is_some() {
            self.sign_beacon(now);
            self.pass_beacon_on(None, now);
        } else {
            // The founder lives, and has left this node out of its list of heirs.
            self.detach(0, now);
            self.seek_parent(now);
        }
    }

    /// The root has a new child, or an old one again: should the root die now, that one is to know its title.
    pub(crate) fn beacon_soon(&mut self, now: Now) {
        if self.is_root() {
            self.timers.set_no_later(Timer::Beacon, now.instant + HEIRS_SETTLE);
        }
    }

    fn sign_beacon(&mut self, now: Now) {
        let (Some(overlay), Some(rank)) = (self.overlay_id(), self.own_rank()) else { return };
        let heirs = if rank == 0 { self.heirs() } else { Vec::new() };
        self.tree.beacon_seq = self.tree.beacon_seq.saturating_add(1);
        let beacon = Beacon::sign(&self.identity, &overlay, self.tree.term, self.tree.beacon_seq, heirs);
        if rank == 0 {
            self.tree.founders = Some(beacon.clone());
        }
        self.tree.heard = Some(Heard { beacon, rank, at: now.instant });
        self.announce_root();
        self.timers.set(Timer::Beacon, now.instant + self.config.timing.beacon);
    }

    /// The founder's oldest children.
    fn heirs(&self) -> Vec<Heir> {
        let heir = |link: &Link| Heir { id: link.peer, addresses: link.addresses.iter().take(2).cloned().collect() };
        self.children_here().map(|(link, _)| heir(link)).take(MAX_HEIRS).collect()
    }

    fn founder(&self) -> Option<NodeId> {
        self.genesis.as_ref().map(|genesis| genesis.genesis().founder)
    }

    fn rank_of(&self, holder: &NodeId) -> Option<usize> {
        if self.founder() == Some(*holder) {
            return Some(0);
        }
        self.tree.founders.as_ref().and_then(|beacon| beacon.rank_of(holder))
    }

    fn own_rank(&self) -> Option<usize> {
        self.rank_of(&self.id)
    }

    /// Whether `holder` may hold the root, by what `peer` or this node has heard.
    pub(crate) fn titled(&self, peer: &NodeId, holder: &NodeId) -> bool {
        let told = self.links.to(peer).and_then(|link| link.beacon.as_ref());
        let by_peer = told.is_some_and(|heard| heard.beacon.holder == *holder);
        by_peer || self.tree.heard.as_ref().is_some_and(|heard| heard.beacon.holder == *holder)
    }

    /// Sends the latest beacon, with its age, to one neighbour. A detached node has no root to tell of, but still the founder's last
    /// list of heirs, as old as it can be said: an heir that was restarted may know of its title only from that.
    pub(crate) fn send_beacon_to(&mut self, peer: &NodeId, now: Now) {
        let Some(id) = self.links.to(peer).map(|link| link.id) else { return };
        if !self.tree.is_attached() {
            if let Some(founders) = &self.tree.founders {
                let frame = BeaconFrame { age_ms: u32::MAX, beacon: founders.as_bytes().to_vec(), proof: Vec::new() };
                self.send_frame(id, &Frame::Beacon(frame), now);
            }
            return;
        }
        let Some(heard) = &self.tree.heard else { return };
        let proof = match &self.tree.founders {
            Some(founders) if heard.rank > 0 => founders.as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let age_ms = u32::try_from(now.instant.since(heard.at).as_millis()).unwrap_or(u32::MAX);
        let frame = BeaconFrame { age_ms, beacon: heard.beacon.as_bytes().to_vec(), proof };
        self.send_frame(id, &Frame::Beacon(frame), now);
    }

    fn pass_beacon_on(&mut self, except: Option<NodeId>, now: Now) {
        for peer in self.links.peers() {
            if except != Some(peer) {
                self.send_beacon_to(&peer, now);
            }
        }
    }

    pub(crate) fn handle_beacon(&mut self, id: LinkId, frame: &BeaconFrame, now: Now) -> Result<(), FrameError> {
        let (Some(overlay), Some(peer)) = (self.overlay_id(), self.links.link(id).map(|link| link.peer)) else {
            return Ok(());
        };
        if !frame.proof.is_empty() {
            let known = self.tree.founders.as_ref().is_some_and(|founders| founders.as_bytes() == frame.proof);
            if !known {
                let proof = Beacon::verify(&frame.proof, &overlay).ok_or(FrameError::Forged)?;
                self.learn_founders(proof);
            }
        }
        let known = self.tree.heard.as_ref().filter(|heard| heard.beacon.as_bytes() == frame.beacon);
        let beacon = match known {
            Some(heard) => heard.beacon.clone(),
            None => Beacon::verify(&frame.beacon, &overlay).ok_or(FrameError::Forged)?,
        };
        self.learn_founders(beacon.clone());
        if self.tree.role == Role::Detached && self.timers.get(Timer::Takeover).is_none() {
            self.root_lost(now);
        }
        // Somebody whose title this node cannot check is not believed, and not a forger either: lists of heirs change.
        let Some(rank) = self.rank_of(&beacon.holder) else { return Ok(()) };
        let age = u64::from(frame.age_ms).saturating_mul(1000);
        let at = Instant::from_micros(now.instant.as_micros().saturating_sub(age));
        let heard = Heard { beacon, rank, at };
        if let Some(link) = self.links.link_mut(id) {
            let older = link.beacon.as_ref().is_some_and(|old| {
                old.beacon.holder == heard.beacon.holder && old.beacon.number() > heard.beacon.number()
            });
            if older {
                return Ok(());
            }
            link.beacon = Some(heard.clone());
        }
        self.judge_beacon(peer, heard, now);
        Ok(())
    }

    fn judge_beacon(&mut self, peer: NodeId, heard: Heard, now: Now) {
        let fresh = now.instant.since(heard.at) < self.config.timing.beacon_fresh;
        match self.tree.role {
            Role::Detached => self.seek_parent(now),
            Role::Root => {
                let own_rank = self.own_rank().unwrap_or(usize::MAX);
                if fresh && heard.rank < own_rank {
                    // Its holder comes first: this node was only minding the root.
                    self.detach(0, now);
                    self.seek_parent(now);
                }
            }
            Role::Child { parent, stale } if parent == peer => {
                let newer = self.tree.heard.as_ref().is_none_or(|old| {
                    old.beacon.holder != heard.beacon.holder || old.beacon.number() < heard.beacon.number()
                });
                if newer && !stale {
                    self.accept_beacon(heard, now);
                    self.pass_beacon_on(Some(peer), now);
                }
            }
            Role::Child { .. } => {
                // Who follows another root than this node does is not below it, even if it still holds a slot here.
                let other = |own: &Heard| heard.beacon.holder != own.beacon.holder && heard.rank < own.rank;
                let better = self.tree.heard.as_ref().is_none_or(other);
                if fresh && better && self.tree.asking.is_none() {
                    self.ask(peer, now);
                }
            }
        }
    }

    /// After a new parent was found: what it heard counts.
    pub(crate) fn adopt_beacon_of(&mut self, peer: &NodeId, now: Now) {
        if let Some(heard) = self.links.to(peer).and_then(|link| link.beacon.clone()) {
            self.accept_beacon(heard, now);
        }
    }

    fn accept_beacon(&mut self, heard: Heard, now: Now) {
        for heir in heard.beacon.heirs.iter().filter(|heir| heir.id != self.id) {
            for address in &heir.addresses {
                self.dialer.learn(address, Some(heir.id), Source::Ancestor);
            }
        }
        self.tree.heard = Some(heard);
        self.announce_root();
        self.timers.set(Timer::Stale, now.instant + self.config.timing.beacon_stale);
    }

    fn learn_founders(&mut self, beacon: Beacon) {
        let newer = self.tree.founders.as_ref().is_none_or(|old| old.number() < beacon.number());
        if self.founder() == Some(beacon.holder) && newer {
            self.tree.founders = Some(beacon);
        }
    }

    fn announce_root(&mut self) {
        let holder = self.tree.heard.as_ref().map(|heard| heard.beacon.holder);
        if let Some(holder) = holder.filter(|_| holder != self.tree.announced_root) {
            if self.tree.announced_root.is_some() {
                self.events.push_back(Event::RootChanged(holder));
            }
            self.tree.announced_root = Some(holder);
        }
    }

    /// The way to the root is lost: an heir begins to wait, the best-ranked one the shortest.
    pub(crate) fn root_lost(&mut self, now: Now) {
        let since = *self.tree.detached_since.get_or_insert(now.instant);
        if let Some(rank) = self.own_rank() {
            let later = u32::try_from(rank.saturating_sub(1)).unwrap_or(u32::MAX);
            let wait = self.config.timing.takeover + self.config.timing.takeover_step.saturating_mul(later);
            self.timers.set(Timer::Takeover, since + if rank == 0 { Duration::ZERO } else { wait });
        }
    }

    /// The wait is over. An heir that hears of a root, or that is alone, does not become one.
    pub(crate) fn takeover_timer(&mut self, now: Now) {
        // A list of heirs that arrived during the wait may have taken the title away.
        let (false, Some(rank)) = (self.tree.is_attached(), self.own_rank()) else { return };
        let limit = self.config.timing.beacon_fresh;
        let rooted = |heard: &Heard| {
            now.instant.since(heard.at) < limit && heard.at > self.tree.detached_since.unwrap_or_default()
        };
        let others_rooted = self.links.live().any(|link| link.beacon.as_ref().is_some_and(rooted));
        if rank == 0 || (self.links.live_len() > 0 && !others_rooted) {
            self.become_root(now);
        } else {
            self.timers.set(Timer::Takeover, now.instant + self.config.timing.takeover_step);
        }
    }

    /// How long ago the root was heard, in microseconds.
    pub(crate) fn root_age_us(&self, now: Now) -> Option<u64> {
        self.tree.heard.as_ref().map(|heard| micros(now.instant.since(heard.at)))
    }
}
