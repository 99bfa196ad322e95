//! Handshakes as the endpoint sees them: who begins, who answers, and what the result replaces.

use overlay::id::NodeId;
use overlay::time::{Instant, Now};

use super::{Sessions, Timer};
use crate::cert::IdCert;
use crate::config::{HALF_OPEN_LIFETIME, HELLO_BURST, HELLO_INTERVAL, RESET_BURST, RESET_INTERVAL};
use crate::content::{HandshakeId, Label};
use crate::event::{Arrival, HandshakeFailure, ResetReason, Resolved, SessionLabel};
use crate::handshake::{Established, Initiator, Offer, Responder};
use crate::session::{Phase, ReHelloOutcome, Session};

/// No ports and no params today: services are named in the streams.
const OFFER: Offer<'static> = Offer { port: 0, params: &[] };

/// A handshake that waits for Finished A.
pub(super) struct HalfOpen {
    responder: Responder,
    reply: Vec<u8>,
    since: Instant,
}

impl Sessions {
    /// The peer was found: sends Hello A.
    pub(super) fn greet(&mut self, peer: NodeId, resolved: Resolved, now: Now) {
        let end = &mut self.end;
        let started = IdCert::verify(&resolved.cert, peer, now.wall, &mut end.ops)
            .ok()
            .and_then(|cert| Initiator::start(&end.keys, peer, &cert, OFFER, &mut end.rng, &mut end.ops).ok());
        let Some((initiator, hello)) = started else { return self.fail(peer, HandshakeFailure::Certificate) };
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.path = resolved.path;
            session.greet(initiator, hello, &mut self.end, now.instant);
        }
    }

    pub(super) fn on_hello1(&mut self, arrival: &Arrival, packet: &[u8], now: Now) {
        let (from, own) = (arrival.from, self.end.keys.id());
        let Some(id) = HandshakeId::of(packet).filter(|_| from != own) else {
            self.end.counters.unknown += 1;
            return;
        };
        // Both began at once: the lower id's handshake wins, and the higher side answers it.
        if own < from && self.sessions.get(&from).is_some_and(Session::is_greeting) {
            return;
        }
        if let Some(half) = self.half_open.get(&(from, id)) {
            let reply = half.reply.clone();
            return self.end.send(from, &arrival.return_path, 0, reply);
        }
        if !self.hello_budget.take(HELLO_BURST, HELLO_INTERVAL, now.instant) {
            self.end.counters.limited += 1;
            return;
        }
        let end = &mut self.end;
        let answered = Responder::handle_hello(&end.keys, packet, from, OFFER, &mut end.rng, &mut end.ops, now.wall);
        let Ok((responder, reply)) = answered else {
            end.counters.forged += 1;
            return;
        };
        end.send(from, &arrival.return_path, 0, reply.clone());
        self.bound_half_open();
        self.half_open.insert((from, id), HalfOpen { responder, reply, since: now.instant });
        self.timers.set_no_later(Timer::HalfOpen, now.instant + HALF_OPEN_LIFETIME);
    }

    pub(super) fn on_hello2(&mut self, arrival: &Arrival, packet: &[u8]) {
        let Some(session) = self.sessions.get_mut(&arrival.from) else { return };
        if session.handle_hello(arrival, packet, &mut self.end, self.now) {
            self.labels.extend(session.label().map(|label| (label, arrival.from)));
        }
    }

    pub(super) fn on_finished_a(&mut self, arrival: &Arrival, packet: &[u8]) {
        let from = arrival.from;
        let Some(id) = HandshakeId::of(packet) else { return };
        if let Some(half) = self.half_open.get_mut(&(from, id)) {
            let Ok((finished, established)) = half.responder.handle_finished(packet) else {
                self.end.counters.forged += 1;
                return;
            };
            self.half_open.remove(&(from, id));
            return self.install(arrival, id, finished, established);
        }
        // Our Finished was lost: the same again.
        let Some(session) = self.sessions.get(&from) else { return };
        if let Some((known, finished)) = session.bound_ref().and_then(|bound| bound.finished.clone())
            && known == id
        {
            self.end.send(from, &arrival.return_path, 0, finished);
        }
    }

    pub(super) fn on_re_hello(&mut self, arrival: &Arrival, packet: &[u8]) {
        let Some(Label(label)) = Label::of(packet) else { return };
        let known = self.labels.get(&SessionLabel(label)) == Some(&arrival.from);
        let session = self.sessions.get_mut(&arrival.from).filter(|_| known);
        let outcome = session
            .map_or(ReHelloOutcome::Stale, |session| session.handle_re_hello(arrival, packet, &mut self.end, self.now));
        if outcome == ReHelloOutcome::Done {
            return;
        }
        self.end.counters.unknown += 1;
        if self.reset_budget.take(RESET_BURST, RESET_INTERVAL, self.now)
            && let Some(reset) = self.end.keys.reset(arrival.from, packet)
        {
            self.end.send(arrival.from, &arrival.return_path, 0, reset);
        }
    }

    /// The peer cannot resume: its word is authentic, so the session is over, and what was not sent yet begins anew.
    pub(super) fn on_reset(&mut self, peer: NodeId, packet: &[u8]) {
        let Some(session) = self.sessions.get(&peer) else { return };
        if !session.is_reset_by(packet) {
            self.end.counters.forged += 1;
            return;
        }
        let Some(mut old) = self.sessions.remove(&peer) else { return };
        let mut fresh = Session::resolving(peer, &mut self.end, self.now);
        old.flow.move_unsent_streams(&mut fresh.flow);
        old.flow.reset_all(ResetReason::Restarted, &mut self.end.out);
        self.forget(&old);
        if fresh.flow.stream_count() > 0 {
            self.sessions.insert(peer, fresh);
        }
    }

    pub(super) fn on_half_open_timeout(&mut self) {
        let now = self.now;
        self.half_open.retain(|_, half| now.since(half.since) < HALF_OPEN_LIFETIME);
        if let Some(oldest) = self.half_open.values().map(|half| half.since).min() {
            self.timers.set(Timer::HalfOpen, oldest + HALF_OPEN_LIFETIME);
        }
    }

    /// The peer finished its handshake: its session takes the place of whatever there was.
    fn install(&mut self, arrival: &Arrival, id: HandshakeId, finished: Vec<u8>, established: Established) {
        let (from, own) = (arrival.from, self.end.keys.id());
        let crossed = self.sessions.get(&from).is_some_and(Session::is_confirming);
        if crossed && own < from {
            return;
        }
        if !self.sessions.contains_key(&from) && !self.make_room() {
            self.end.counters.limited += 1;
            return;
        }
        let old = self.sessions.remove(&from);
        let (path, now) = (arrival.return_path.clone(), self.now);
        let mut session = Session::bound(from, path, established, &mut self.end, now);
        if let Some(mut old) = old {
            if crossed {
                old.flow.rewind_streams();
            }
            old.flow.move_unsent_streams(&mut session.flow);
            old.flow.reset_all(ResetReason::Restarted, &mut self.end.out);
            self.forget(&old);
        }
        if let Phase::Bound(bound) = &mut session.phase {
            bound.finished = Some((id, finished.clone()));
        }
        self.end.send(from, &arrival.return_path, 0, finished);
        self.labels.extend(session.label().map(|label| (label, from)));
        self.sessions.insert(from, session);
    }

    /// Makes room for one more half-open handshake by giving up the oldest.
    fn bound_half_open(&mut self) {
        while self.half_open.len() >= self.end.config.max_half_open.max(1) {
            let oldest = self.half_open.iter().min_by_key(|(_, half)| half.since).map(|(key, _)| *key);
            let Some(oldest) = oldest else { return };
            self.half_open.remove(&oldest);
        }
    }
}
