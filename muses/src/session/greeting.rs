//! The handshake as the initiator's session sees it: Hello until Hello, Finished until Finished.

use overlay::time::Instant;

use super::{Bound, Bucket, Endpoint, Phase, Retry, Session};
use crate::config::{ANSWERS, HALF_OPEN_LIFETIME, HELLO_FIRST_WAIT};
use crate::event::{Arrival, Event, Path, SessionLabel};
use crate::frame::Token;
use crate::handshake::params::Life;
use crate::handshake::{Initiator, PendingFinished};
use crate::kdf;
use crate::keys::Role;

pub(crate) struct Greeting {
    pub(super) initiator: Initiator,
    pub(super) hello: Vec<u8>,
    /// Our path when it was sent first, which is where the peer's answer goes.
    local: Option<Path>,
    pub(super) retry: Retry,
    pub(super) deadline: Instant,
    /// The Hello was not sent out of turn since the timer sent it last.
    pub(super) may_hurry: bool,
}

/// B's Finished, for when A's comes again.
pub(crate) struct LastWord {
    /// Digest of A's Finished.
    asked: [u8; 32],
    packet: Vec<u8>,
    again: Bucket,
}

impl LastWord {
    /// `packet` answers A's `finished`.
    pub fn new(finished: &[u8], packet: Vec<u8>, now: Instant) -> Self {
        Self { asked: kdf::sha256(&[finished]), packet, again: Bucket::new(&ANSWERS, now) }
    }

    /// B's Finished.
    pub fn packet(&self) -> &[u8] {
        &self.packet
    }
}

/// A, until B's Finished is there.
pub(super) struct Confirming {
    pub(super) finished: Vec<u8>,
    pub(super) pending: PendingFinished,
    /// Of the peer, as its Hello says.
    pub(super) life: Life,
    pub(super) retry: Retry,
    /// `None` once a packet of the peer showed that it has the session.
    pub(super) deadline: Option<Instant>,
    /// After that first packet: how long Finished is sent again for the sake of B's alone.
    pub(super) until: Instant,
}

impl Session {
    /// Sends Hello A.
    pub fn greet(&mut self, initiator: Initiator, hello: Vec<u8>, end: &mut Endpoint, now: Instant) {
        let deadline = match self.phase {
            Phase::Resolving { deadline } => deadline,
            Phase::Greeting(ref greeting) => greeting.deadline,
            Phase::Bound(_) => now + end.config.handshake_timeout,
        };
        end.send(self.peer, &self.path, 0, hello.clone());
        let retry = Retry::new(HELLO_FIRST_WAIT, &mut end.rng, now);
        let local = end.local.clone();
        self.phase = Phase::Greeting(Box::new(Greeting { initiator, hello, local, retry, deadline, may_hurry: true }));
    }

    /// The peer is under load and works only for who shows this cookie: sends Hello again with it at once, but not more often out of turn
    /// than in turn.
    pub fn handle_cookie(&mut self, packet: &[u8], end: &mut Endpoint, now: Instant) {
        let Phase::Greeting(greeting) = &mut self.phase else { return };
        let Ok(cookie) = greeting.initiator.handle_cookie(&greeting.hello, packet) else {
            end.counters.forged += 1;
            return;
        };
        if end.cookies.of(&self.peer, now) == Some(&cookie) {
            // It is on the Hello already.
            return;
        }
        cookie.stamp(&mut greeting.hello);
        end.cookies.keep(self.peer, cookie, now);
        if core::mem::take(&mut greeting.may_hurry) {
            let hello = greeting.hello.clone();
            end.send(self.peer, &self.path, 0, hello);
        }
    }

    /// Hello B arrived: there are keys, and data may follow Finished at once.
    pub fn handle_hello(&mut self, from: &Arrival, packet: &[u8], end: &mut Endpoint, now: Instant) -> bool {
        let Phase::Greeting(greeting) = &mut self.phase else { return false };
        let Ok(answered) = greeting.initiator.handle_hello(&end.keys, packet, &mut end.ops) else {
            end.counters.forged += 1;
            return false;
        };
        let mut bound = Bound::new(answered.established.secrets, None, now);
        bound.stale = end.local != greeting.local;
        bound.keys = Some((answered.established.sealer, answered.established.opener));
        end.send(self.peer, &self.path, bound.flow_label, answered.finished.clone());
        bound.confirming = Some(Box::new(Confirming {
            finished: answered.finished,
            pending: answered.pending,
            life: Life::of(&answered.established.peer_params),
            retry: Retry::new(HELLO_FIRST_WAIT, &mut end.rng, now),
            deadline: Some(now + HALF_OPEN_LIFETIME),
            until: now + end.config.handshake_timeout,
        }));
        self.phase = Phase::Bound(Box::new(bound));
        self.flow.set_initiator(true);
        self.flow.set_suspended(false, now, &mut end.out);
        self.flow.set_reach(&end.reach, true);
        self.hear_of(&from.return_path, end);
        let session = self.label().unwrap_or(SessionLabel([0; 16]));
        end.out.events.push_back(Event::SessionEstablished { peer: self.peer, session });
        true
    }

    /// Finished B arrived.
    pub fn handle_finished(&mut self, packet: &[u8], end: &mut Endpoint, now: Instant) {
        let Some(bound) = self.bound_mut() else { return };
        let Some(confirming) = &bound.confirming else { return };
        if confirming.pending.handle_finished(packet, &mut bound.secrets).is_err() {
            end.counters.forged += 1;
            return;
        }
        let is_first = bound.confirming.take().is_some_and(|confirming| confirming.deadline.is_some());
        if is_first {
            self.ask_where_sought(end);
        }
        self.persist(end);
        self.wake(end, now);
    }

    /// Who answered the handshake says its reset token in a packet, too, until that has arrived: see [`Frame::ResetToken`](crate::frame::Frame::ResetToken).
    pub(super) fn say_token(&mut self, end: &Endpoint) {
        let Some(bound) = self.bound_ref().filter(|bound| bound.secrets.role() == Role::Responder) else { return };
        let token = end.keys.reset_token(bound.secrets.label());
        self.flow.say_token(Token(*token));
    }

    /// The peer's reset token, if it said it: with that, its Finished is not needed any more.
    pub(super) fn hear_token(&mut self, end: &mut Endpoint, now: Instant) {
        let Some(Token(token)) = self.flow.heard_token.take().as_deref().cloned() else { return };
        let Some(bound) = self.bound_mut().filter(|bound| bound.secrets.peer_token.is_none()) else { return };
        bound.secrets.peer_token = Some(token);
        bound.confirming = None;
        self.persist(end);
        self.wake(end, now);
    }

    /// A's Finished came again: B's once more, if it is the same, and not too often.
    pub fn finished_again(&mut self, packet: &[u8], now: Instant) -> Option<Vec<u8>> {
        let last_word = self.bound_mut()?.last_word.as_mut();
        let last_word = last_word.filter(|last_word| last_word.asked == kdf::sha256(&[packet]))?;
        last_word.again.take(now).then(|| last_word.packet.clone())
    }

    /// Sends Hello again at once: this node has a new place, or the peer a new path.
    pub fn greet_again(&mut self, end: &mut Endpoint, now: Instant) {
        if let Phase::Greeting(greeting) = &mut self.phase {
            greeting.retry = Retry::new(HELLO_FIRST_WAIT, &mut end.rng, now);
            let hello = greeting.hello.clone();
            end.send(self.peer, &self.path, 0, hello);
        }
    }
}
