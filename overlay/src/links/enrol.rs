//! Who is let into a closed overlay, link by link.
//!
//! A member shows its membership right before its hello; without one the link does not open. A guest says in its hello that it has an
//! invite of the peer, and the link waits: the guest, once the peer has shown to be a member of the overlay sought, tells the
//! secret; whoever knows the invites decides by [`Overlay::admit`]; the answer is the guest's own membership. Until then a link
//! carries nothing else, and the guest belongs to no overlay.

use core::time::Duration;

use super::LinkState;
use crate::error::FrameError;
use crate::event::Event;
use crate::genesis::SignedGenesis;
use crate::id::NodeId;
use crate::io::{CloseReason, Command, LinkId};
use crate::membership::{Admission, Membership, Rank, Secret};
use crate::overlay::{KEY_GENESIS, KEY_MEMBERSHIP, Overlay, Timer};
use crate::time::Now;
use crate::wire::link::{FLAG_ENROLS, Frame, Hello};

/// How long a link may wait for an enrolment.
pub(super) const ENROL_TIMEOUT: Duration = Duration::from_secs(20);

impl Overlay {
    /// What this node may do in its overlay; none in an open one, and for who is no member.
    pub fn rank(&self) -> Option<Rank> {
        let genesis = self.genesis.as_ref().filter(|genesis| !genesis.genesis().open)?;
        if genesis.genesis().founder == self.id {
            return Some(Rank::Founder);
        }
        self.membership.as_ref().map(Membership::rank)
    }

    /// Whether only members may be in this node's overlay.
    pub fn is_closed(&self) -> bool {
        self.genesis.as_ref().is_some_and(|genesis| !genesis.genesis().open)
    }

    /// Whether this node's overlay is for members, and it is none yet.
    pub(super) fn lacks_membership(&self) -> bool {
        self.is_closed() && self.rank().is_none()
    }

    /// The answer to [`Event::GuestAsks`]: what the secret is worth. The link may be gone by now, which is no fault.
    ///
    /// A rank that this node cannot give is refused.
    pub fn admit(&mut self, link: LinkId, guest: NodeId, admission: Admission, now: Now) {
        if self.links.link(link).is_some_and(|link| link.peer == guest && link.state == LinkState::Asked) {
            match self.membership_for(guest, admission) {
                Some(membership) => {
                    self.send_frame(link, &Frame::Enrolled(membership.as_bytes().to_vec()), now);
                    self.open_link(link, now);
                }
                None => self.part(link, CloseReason::NotInvited, now),
            }
        }
        self.settle_down(now);
    }

    fn membership_for(&self, guest: NodeId, admission: Admission) -> Option<Membership> {
        let may_invite = match admission {
            Admission::Refused => return None,
            Admission::Member => false,
            Admission::Inviter => true,
        };
        let genesis = self.genesis.as_ref()?;
        Membership::issue(&self.identity, self.membership.as_ref(), genesis, guest, may_invite).ok()
    }

    /// Before each hello.
    pub(super) fn show_membership(&mut self, id: LinkId, now: Now) {
        if let Some(membership) = &self.membership {
            let shown = Frame::Member(membership.as_bytes().to_vec());
            self.send_frame(id, &shown, now);
        }
    }

    /// The peer's membership, to be judged with its hello.
    pub(super) fn handle_member(&mut self, id: LinkId, membership: Vec<u8>) {
        if let Some(link) = self.links.link_mut(id).filter(|link| link.state == LinkState::Greeting) {
            link.membership = membership;
        }
    }

    /// What the hello's flags say: whether this node is a guest of `peer`.
    pub(super) fn hello_flags(&self, peer: &NodeId) -> u32 {
        let invited = self.config.enrolment.as_ref().is_some_and(|invite| invite.inviter == *peer);
        let inside = self.genesis.is_some() && !self.lacks_membership();
        if invited && !inside { FLAG_ENROLS } else { 0 }
    }

    /// Whether the link may open, as far as membership goes. If not, it waits for the guest or is about to be closed.
    pub(super) fn is_welcome(&mut self, id: LinkId, hello: &Hello, now: Now) -> bool {
        let (Some(genesis), Some(link)) = (self.genesis.as_ref(), self.links.link(id)) else { return true };
        if genesis.genesis().open || self.shows_membership(id, genesis) {
            return true;
        }
        let may_admit = self.rank().is_some_and(|rank| rank >= Rank::Inviter);
        if hello.flags & FLAG_ENROLS != 0 && may_admit && link.state == LinkState::Greeting {
            self.links.retire(id, LinkState::Guest);
            self.arm_link(id, now);
        } else {
            self.part(id, CloseReason::NotMember, now);
        }
        false
    }

    fn shows_membership(&self, id: LinkId, genesis: &SignedGenesis) -> bool {
        self.links.link(id).is_some_and(|link| {
            genesis.genesis().founder == link.peer
                || Membership::verify(&link.membership, genesis, &link.peer, self.checks.as_ref()).is_ok()
        })
    }

    /// The peer is in a closed overlay, and this node in none: it tells the secret, if it has an invite of this peer.
    pub(super) fn come_as_guest(&mut self, id: LinkId, genesis: SignedGenesis, now: Now) {
        let Some(link) = self.links.link(id) else { return };
        let (peer, state) = (link.peer, link.state);
        if self.guest_of.is_some() {
            // One way to the inviter is enough; more of his addresses may have answered.
            self.drop_link(id, CloseReason::Replaced, now);
            return;
        }
        let invite = self.config.enrolment.as_ref();
        match invite.filter(|invite| invite.inviter == peer).map(|invite| invite.secret) {
            Some(secret) if state == LinkState::Greeting && self.shows_membership(id, &genesis) => {
                self.links.retire(id, LinkState::Guest);
                self.guest_of = Some((id, genesis));
                self.send_frame(id, &Frame::Enrol(secret.0), now);
                self.arm_link(id, now);
            }
            // The inviter alone can help who has an invite; others are of no interest yet.
            _ => {
                if invite.is_none() {
                    self.events.push_back(Event::NoMember { peer, overlay: genesis.overlay_id() });
                }
                self.dialer.useless(peer, &mut self.rng, now.instant);
                self.drop_link(id, CloseReason::Leaving, now);
            }
        }
    }

    /// A guest tells his secret.
    pub(super) fn handle_enrol(&mut self, id: LinkId, secret: [u8; 16], now: Now) -> Result<(), FrameError> {
        let link = self.links.link_mut(id).ok_or(FrameError::UnknownLink)?;
        if self.guest_of.as_ref().is_some_and(|(of, _)| *of == id) {
            return Err(FrameError::OutOfPlace);
        }
        link.state = LinkState::Asked;
        self.events.push_back(Event::GuestAsks { link: id, peer: link.peer, secret: Secret(secret) });
        self.arm_link(id, now);
        Ok(())
    }

    /// The inviter has admitted this node.
    pub(super) fn handle_enrolled(&mut self, id: LinkId, membership: &[u8], now: Now) -> Result<(), FrameError> {
        let (_, genesis) = self.guest_of.take_if(|(of, _)| *of == id).ok_or(FrameError::OutOfPlace)?;
        let membership =
            Membership::verify(membership, &genesis, &self.id, self.checks.as_ref()).map_err(|_| FrameError::Forged)?;
        for (key, bytes) in [(KEY_GENESIS, genesis.as_bytes()), (KEY_MEMBERSHIP, membership.as_bytes())] {
            self.commands.push_back(Command::Persist { key: key.to_owned(), bytes: bytes.to_vec().into() });
        }
        self.membership = Some(membership);
        self.adopt_genesis(genesis);
        // Whoever else there is has shown no membership; it is dialled again.
        for other in self.links.ids() {
            if other != id {
                self.drop_link(other, CloseReason::Leaving, now);
            }
        }
        self.open_link(id, now);
        Ok(())
    }

    /// The link is gone, and with it what was asked over it.
    pub(super) fn forget_enrolment(&mut self, id: LinkId) {
        self.timers.cancel(Timer::Link(id));
        if self.guest_of.as_ref().is_some_and(|(of, _)| *of == id) {
            self.guest_of = None;
        }
    }
}
