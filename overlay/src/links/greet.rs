//! Links come up, greet, replace each other and go.

use multiaddr::Multiaddr;

use super::{Link, LinkState};
use crate::address::TreeId;
use crate::dial::Source;
use crate::error::FrameError;
use crate::event::Event;
use crate::genesis::SignedGenesis;
use crate::id::{NodeId, OverlayId};
use crate::io::{CloseReason, Command, LinkId};
use crate::overlay::{KEY_GENESIS, Overlay, Timer};
use crate::time::Now;
use crate::wire::link::{
    Contact, Frame, Goodbye, GoodbyeReason, Hello, LINK_VERSION, MAX_ADDRESSES, MAX_OTHERS, from_wire, to_wire,
};

/// What two hellos come to.
enum Agreement {
    /// One overlay, or none that is known yet.
    Same,
    /// The peer is in this closed one, and this node in none.
    Closed(SignedGenesis),
    /// The peer is in another overlay, which it may have named.
    Other(Option<OverlayId>),
    /// The peer is in one, and dialled this node, which is in none and was not told to join that one.
    Unasked,
}

impl Overlay {
    pub(crate) fn link_came_up(&mut self, id: LinkId, peer: NodeId, remote: Multiaddr, initiator: bool, now: Now) {
        if initiator {
            self.dialer.connected(&remote, peer);
        }
        let link = Link::new(id, peer, remote, initiator, self.attach_seq, now.instant);
        self.links.insert(link);
        self.dialer.touch();
        if peer == self.id {
            self.close(id, CloseReason::Replaced);
            return;
        }
        if self.leaving {
            // Who dials because it has lost this node is not to take it for one that is back.
            self.part(id, CloseReason::Leaving, now);
            return;
        }
        self.say_hello(id, now);
        self.timers.set(Timer::Link(id), now.instant + self.config.timing.hello_timeout);
    }

    pub(crate) fn link_went_down(&mut self, id: LinkId, now: Now) {
        self.forget_enrolment(id);
        let Some(link) = self.links.remove(id) else { return };
        self.routes.clear();
        self.dialer.touch();
        if matches!(link.state, LinkState::Live | LinkState::Spare) {
            self.note_link_gone(link.up_at, now);
        }
        match link.state {
            LinkState::Live if !self.links.is_live(&link.peer) => match self.links.spare(&link.peer) {
                Some(spare) => {
                    self.make_live(spare, now);
                    self.link_replaced(link.peer, now);
                }
                None => self.neighbour_lost(link.peer, now),
            },
            LinkState::Greeting | LinkState::Guest | LinkState::Asked => {
                self.dialer.useless(link.peer, &mut self.rng, now.instant)
            }
            _ => {}
        }
    }

    /// Closes at once; the peer is lost as a neighbour without waiting for the driver.
    pub(crate) fn close(&mut self, id: LinkId, reason: CloseReason) {
        if self.links.link(id).is_some() {
            self.commands.push_back(Command::Close(id, reason));
        }
        if matches!(reason, CloseReason::Malformed | CloseReason::WrongOverlay | CloseReason::Version) {
            self.counters.bad_links += 1;
        }
    }

    /// Closes, and treats the link as down from now on.
    pub(crate) fn drop_link(&mut self, id: LinkId, reason: CloseReason, now: Now) {
        self.close(id, reason);
        self.link_went_down(id, now);
    }

    /// Tells the peer why, and closes when that had time to arrive.
    pub(crate) fn part(&mut self, id: LinkId, reason: CloseReason, now: Now) {
        let why = match reason {
            CloseReason::WrongOverlay => GoodbyeReason::WrongOverlay,
            CloseReason::NotAllowed => GoodbyeReason::NotAllowed,
            CloseReason::NotMember => GoodbyeReason::NotMember,
            CloseReason::NotInvited => GoodbyeReason::NotInvited,
            CloseReason::Revoked => GoodbyeReason::Revoked,
            CloseReason::Version => GoodbyeReason::Version,
            CloseReason::Full => GoodbyeReason::Full,
            CloseReason::Leaving => GoodbyeReason::Leaving,
            CloseReason::Replaced | CloseReason::Malformed | CloseReason::Silent => GoodbyeReason::Replaced,
        };
        let others = if reason == CloseReason::Full { self.others() } else { Vec::new() };
        let Some(link) = self.links.link(id) else { return };
        let (peer, was_live) = (link.peer, link.state == LinkState::Live);
        if let Some(revocation) = self.revoked.get(&peer).filter(|_| reason == CloseReason::Revoked) {
            let proof = Frame::Revoked(revocation.as_bytes().to_vec());
            self.send_frame(id, &proof, now);
        }
        self.send_frame(id, &Frame::Goodbye(Goodbye { why, others }), now);
        let at = now.instant + self.config.timing.leave;
        self.routes.clear();
        self.dialer.touch();
        self.links.retire(id, LinkState::Closing(reason, at));
        self.timers.set(Timer::Link(id), at);
        if matches!(reason, CloseReason::WrongOverlay | CloseReason::Version) {
            self.counters.bad_links += 1;
        }
        if reason == CloseReason::WrongOverlay {
            self.dialer.foreign(peer);
        }
        if reason != CloseReason::Leaving {
            self.dialer.useless(peer, &mut self.rng, now.instant);
            self.events.push_back(Event::Refused { peer, reason, by_peer: false });
        }
        if was_live && !self.links.is_live(&peer) && reason != CloseReason::Leaving {
            self.neighbour_lost(peer, now);
        }
    }

    pub(crate) fn say_hello(&mut self, id: LinkId, now: Now) {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return };
        self.show_membership(id, now);
        let hello = Hello {
            version: LINK_VERSION,
            genesis: self.genesis.as_ref().map(|genesis| genesis.as_bytes().to_vec()).unwrap_or_default(),
            expected: self.config.expected,
            attach_seq: self.attach_seq,
            addresses: to_wire(&self.listen, MAX_ADDRESSES),
            flags: self.hello_flags(&peer),
        };
        // Said again on a live link (a new listening address) it does not count for the choice between links.
        if let Some(link) = self.links.link_mut(id).filter(|link| link.state == LinkState::Greeting) {
            link.own_seq = self.attach_seq;
        }
        self.send_frame(id, &Frame::Hello(hello), now);
    }

    pub(crate) fn handle_hello(&mut self, id: LinkId, hello: Hello, now: Now) -> Result<(), FrameError> {
        if hello.version != LINK_VERSION {
            self.part(id, CloseReason::Version, now);
            return Ok(());
        }
        if self.links.link(id).is_some_and(|link| self.is_revoked(&link.peer)) {
            self.part(id, CloseReason::Revoked, now);
            return Ok(());
        }
        match self.agree_on_overlay(id, &hello, now)? {
            Agreement::Same => {}
            Agreement::Closed(genesis) => {
                self.note_addresses(id, &hello);
                self.come_as_guest(id, genesis, now);
                return Ok(());
            }
            Agreement::Other(theirs) => {
                let Some((peer, dialled)) = self.links.link(id).map(|link| (link.peer, link.initiator)) else {
                    return Ok(());
                };
                self.events.push_back(Event::WrongOverlay { peer, theirs, ours: self.overlay_id(), dialled });
                self.part(id, CloseReason::WrongOverlay, now);
                return Ok(());
            }
            Agreement::Unasked => {
                self.part(id, CloseReason::NotAllowed, now);
                return Ok(());
            }
        }
        let allowed = self.note_addresses(id, &hello);
        let Some(state) = self.links.link(id).map(|link| link.state) else { return Ok(()) };
        match state {
            LinkState::Live | LinkState::Spare => {}
            _ if !allowed => self.part(id, CloseReason::NotAllowed, now),
            _ if self.is_welcome(id, &hello, now) => self.open_link(id, now),
            _ => {}
        }
        Ok(())
    }

    /// Takes over what the hello says of its sender; whether `links.only` lets this node have a link to it.
    fn note_addresses(&mut self, id: LinkId, hello: &Hello) -> bool {
        let addresses = from_wire(&hello.addresses);
        let Some(link) = self.links.link_mut(id) else { return false };
        // A link that came in has some port of the peer's system; what the peer says of its ports counts at the same host only.
        let host = link.remote.iter().next();
        let claimed = addresses.iter().filter(|address| address.iter().next() == host);
        let allowed = self.config.allows(&link.peer, &link.remote)
            || claimed.into_iter().any(|a| self.config.allows(&link.peer, a));
        link.addresses = addresses;
        if !matches!(link.state, LinkState::Live | LinkState::Spare) {
            link.peer_seq = hello.attach_seq;
        }
        allowed
    }

    /// The peer may be a neighbour: it becomes one, if there is room.
    pub(super) fn open_link(&mut self, id: LinkId, now: Now) {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return };
        if let Some(older) = self.links.to(&peer).map(|link| link.id) {
            self.settle(older, id, now);
        } else if self.links.live_len() >= self.most_links() && !self.trees.is_child(&peer) {
            self.part(id, CloseReason::Full, now);
        } else {
            if !self.trees.is_child(&peer) {
                self.limit_stay(id, now);
            }
            self.make_live(id, now);
            self.events.push_back(Event::LinkLive { peer });
            self.neighbour_gained(peer, now);
        }
    }

    /// Two links to one peer: both ends keep the same one.
    fn settle(&mut self, older: LinkId, newer: LinkId, now: Now) {
        let (Some(a), Some(b)) = (self.links.link(older), self.links.link(newer)) else { return };
        let (old, new) = (a.preference(&self.id), b.preference(&self.id));
        let peer = a.peer;
        if new == old {
            // Both were begun by the same side, which closes the newer one; the other side waits for that.
            if b.initiator {
                self.links.retire(newer, LinkState::Closing(CloseReason::Replaced, now.instant));
                self.close(newer, CloseReason::Replaced);
            } else {
                self.links.retire(newer, LinkState::Spare);
            }
        } else if new > old {
            self.links.inherit(older, newer);
            self.make_live(newer, now);
            // The peer may not have read our hello yet. Closed now, its end of the old link could be gone before it knows the new one, and
            // this node would be lost to it: so both ends wait.
            self.replace(older, now);
            self.link_replaced(peer, now);
            self.events.push_back(Event::LinkRenewed { peer });
        } else {
            self.replace(newer, now);
        }
    }

    /// Another link takes the place of this one, which closes when both ends had time to know that. Who has the other one needs no telling; a twin has not, and
    /// hears from this that there are two of it.
    fn replace(&mut self, id: LinkId, now: Now) {
        let goodbye = Goodbye { why: GoodbyeReason::Replaced, others: Vec::new() };
        self.send_frame(id, &Frame::Goodbye(goodbye), now);
        self.links.retire(id, LinkState::Closing(CloseReason::Replaced, now.instant + self.config.timing.leave));
        self.arm_link(id, now);
    }

    fn make_live(&mut self, id: LinkId, now: Now) {
        self.routes.clear();
        self.dialer.touch();
        self.links.set_live(id);
        self.moves.linked();
        self.arm_link(id, now);
        let Some(link) = self.links.link(id) else { return };
        let peer = link.peer;
        self.parted.remove(&peer);
        for address in &link.addresses {
            self.dialer.learn(address, Some(peer), Source::Neighbour);
        }
    }

    /// The first open overlay that a fresh joiner hears of is pinned.
    fn agree_on_overlay(&mut self, id: LinkId, hello: &Hello, now: Now) -> Result<Agreement, FrameError> {
        let outside = self.lacks_membership();
        let theirs = match hello.genesis.as_slice() {
            [] => None,
            bytes if !outside && self.genesis.as_ref().is_some_and(|own| own.as_bytes() == bytes) => {
                return Ok(Agreement::Same);
            }
            bytes => Some(SignedGenesis::from_bytes(bytes).map_err(|_| FrameError::Forged)?),
        };
        let ours = self.overlay_id().or(self.config.expected.filter(|_| theirs.is_some()));
        let dialled = self.links.link(id).is_some_and(|link| link.initiator);
        Ok(match (ours, theirs) {
            // Which overlay to join, this node's user says: not whoever dials it first.
            (None, Some(_)) if !dialled => Agreement::Unasked,
            (Some(ours), Some(theirs)) if theirs.overlay_id() != ours => Agreement::Other(Some(theirs.overlay_id())),
            (Some(ours), None) if hello.expected.is_some_and(|expected| expected != ours) => {
                Agreement::Other(hello.expected)
            }
            (_, Some(theirs)) if !theirs.genesis().open => Agreement::Closed(theirs),
            (_, Some(theirs)) => {
                self.commands.push_back(Command::Persist {
                    key: KEY_GENESIS.to_owned(),
                    bytes: theirs.as_bytes().to_vec().into(),
                });
                self.adopt_genesis(theirs);
                for other in self.links.ids() {
                    if other != id {
                        self.say_hello(other, now);
                    }
                }
                Agreement::Same
            }
            _ => Agreement::Same,
        })
    }

    pub(crate) fn handle_goodbye(&mut self, id: LinkId, goodbye: &Goodbye, now: Now) {
        let Some(peer) = self.links.link(id).map(|link| link.peer) else { return };
        self.learn_contacts(&goodbye.others, Source::Hearsay);
        let reason = match goodbye.why {
            GoodbyeReason::WrongOverlay => CloseReason::WrongOverlay,
            GoodbyeReason::NotAllowed => CloseReason::NotAllowed,
            GoodbyeReason::NotMember => CloseReason::NotMember,
            GoodbyeReason::NotInvited => CloseReason::NotInvited,
            GoodbyeReason::Revoked => CloseReason::Revoked,
            // The sender closes it.
            GoodbyeReason::Replaced => return self.suspect_twin(id, peer, now),
            GoodbyeReason::Version => CloseReason::Version,
            GoodbyeReason::Full => CloseReason::Full,
            GoodbyeReason::Leaving => CloseReason::Leaving,
        };
        if goodbye.why == GoodbyeReason::Leaving {
            for tree in TreeId::ALL {
                self.child_released(tree, peer, now);
            }
            self.note_parted(peer, now);
        } else {
            if reason == CloseReason::WrongOverlay {
                self.dialer.foreign(peer);
            }
            self.events.push_back(Event::Refused { peer, reason, by_peer: true });
        }
        self.dialer.useless(peer, &mut self.rng, now.instant);
        self.drop_link(id, CloseReason::Leaving, now);
    }

    /// Neighbours to name to one that has to try elsewhere.
    pub(crate) fn others(&self) -> Vec<Contact> {
        self.links
            .live()
            .filter(|link| link.place.is_some() && !link.addresses.is_empty())
            .take(MAX_OTHERS)
            .map(|link| Contact { id: link.peer, addresses: to_wire(&link.addresses, 2) })
            .collect()
    }

    pub(crate) fn learn_contacts(&mut self, contacts: &[Contact], source: Source) {
        for contact in contacts.iter().filter(|contact| contact.id != self.id) {
            for address in from_wire(&contact.addresses) {
                self.dialer.learn(&address, Some(contact.id), source);
            }
        }
    }
}
