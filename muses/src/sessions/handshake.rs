//! Handshakes as the endpoint sees them: who begins, who answers, and what the result replaces.

use std::collections::BTreeMap;

use overlay::id::NodeId;
use overlay::time::{Instant, Now};

use super::guard::Verdict;
use super::{Sessions, Timer};
use crate::cert::IdCert;
use crate::config::{ANSWERS, HALF_OPEN_LIFETIME};
use crate::content::{HandshakeId, Label};
use crate::event::{Arrival, Event, HandshakeFailure, Path, ResetReason, Resolved, SessionLabel};
use crate::handshake::params::Life;
use crate::handshake::{AddressedHello, Established, Initiator, Offer, Responder};
use crate::session::{Bucket, LastWord, Phase, ReHelloOutcome, Session};

/// The flow label of cookies: a flood's answers share one queue among themselves, and keep nothing else waiting.
const COOKIE_FLOW: u32 = 1;

/// No ports: services are named in the streams.
fn offer(params: &[u8]) -> Offer<'_> {
    Offer { port: 0, params }
}

/// A handshake that waits for Finished A.
pub(super) struct HalfOpen {
    responder: Responder,
    /// Digest of the Hello that opened it.
    hello: [u8; 32],
    reply: Vec<u8>,
    /// Where the reply went: who finishes the handshake has read it there.
    path: Path,
    /// It went elsewhere, too, so that this does not say where it was read.
    elsewhere: bool,
    /// Limits how often the reply goes out again.
    again: Bucket,
    via: Option<NodeId>,
    since: Instant,
}

impl Sessions {
    /// The peer was found: sends Hello A.
    pub(super) fn greet(&mut self, peer: NodeId, resolved: Resolved, now: Now) {
        let end = &mut self.end;
        let params = end.params();
        let started = IdCert::verify(&resolved.cert, peer, now.wall, &mut end.ops)
            .ok()
            .and_then(|cert| Initiator::start(&end.keys, peer, &cert, offer(&params), &mut end.rng, &mut end.ops).ok());
        let Some((initiator, mut hello)) = started else {
            // One that is under way to another place goes on.
            if self.is_resolving(&peer) {
                self.fail(peer, HandshakeFailure::Certificate);
            }
            return;
        };
        if let Some(cookie) = end.cookies.of(&peer, now.instant) {
            cookie.stamp(&mut hello);
        }
        if let Some(session) = self.sessions.get_mut(&peer) {
            session.path = resolved.path;
            session.greet(initiator, hello, &mut self.end, now.instant);
        }
    }

    pub(super) fn on_hello1(&mut self, arrival: &Arrival, packet: &[u8], now: Now) {
        let (from, end) = (arrival.from, &mut self.end);
        let own = end.keys.id();
        if let Some(via) = arrival.via
            && self.guard.counts_flood(via, now.instant)
        {
            end.out.events.push_back(Event::HelloFlood { via });
        }
        // Both began at once: the lower id's handshake wins, and the higher side answers it.
        if own < from && self.sessions.get(&from).is_some_and(|session| session.is_greeting()) {
            return;
        }
        let Some(hello) = AddressedHello::parse(&end.keys, packet).ok().filter(|_| from != own) else {
            end.counters.forged += 1;
            return;
        };
        let id = hello.id();
        if let Some(half) = self.half_open.get_mut(&(from, id)) {
            let reply = half.again(&hello, &arrival.return_path, now.instant);
            return self.end.answer(arrival, 0, reply);
        }
        match self.guard.judge(&hello, arrival, &mut end.rng, now.instant) {
            Verdict::Work => {}
            Verdict::Prove(cookie) => {
                end.counters.cookies += 1;
                let reply = cookie.reply(&hello, &mut end.rng);
                return end.answer(arrival, COOKIE_FLOW, reply);
            }
            Verdict::Drop => {
                end.counters.limited += 1;
                return;
            }
        }
        let digest = hello.digest();
        let params = end.params();
        let answered =
            Responder::handle_hello(&end.keys, &hello, from, offer(&params), &mut end.rng, &mut end.ops, now.wall);
        let Ok((responder, reply)) = answered else {
            end.counters.forged += 1;
            return;
        };
        end.send(from, &arrival.return_path, 0, reply.clone());
        self.bound_half_open();
        let again = Bucket::new(&ANSWERS, now.instant);
        let path = arrival.return_path.clone();
        let (via, since) = (arrival.via, now.instant);
        let half = HalfOpen { responder, hello: digest, reply, path, elsewhere: false, again, via, since };
        self.half_open.insert((from, id), half);
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
        let is_awaited = self.half_open.contains_key(&(from, id));
        let is_full = is_awaited && !self.sessions.contains_key(&from) && !self.has_room();
        if let Some(half) = self.half_open.get_mut(&(from, id)) {
            if is_full {
                // It comes again, and there may be room then: once it has been taken, it is used up.
                self.end.counters.limited += 1;
                return;
            }
            let Ok((finished, established)) = half.responder.handle_finished(packet) else {
                self.end.counters.forged += 1;
                return;
            };
            let Some(half) = self.half_open.remove(&(from, id)) else { return };
            let proven = Some(half.path).filter(|_| !half.elsewhere);
            let last_word = LastWord::new(packet, finished, self.now);
            return self.install(arrival, (proven, half.since), last_word, established);
        }
        // Our Finished was lost: the same again.
        let again = self.sessions.get_mut(&from).and_then(|session| session.finished_again(packet, self.now));
        self.end.answer(arrival, 0, again);
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
        if self.guard.may_reset(arrival.via, self.now)
            && let Some(reset) = self.end.keys.reset(arrival.from, packet)
        {
            self.end.send(arrival.from, &arrival.return_path, 0, reset);
        }
    }

    /// The peer cannot resume: its word is authentic, so the session is over, and what was not sent yet begins anew.
    pub(super) fn on_reset(&mut self, peer: NodeId, packet: &[u8]) {
        let Some(session) = self.sessions.get(&peer) else { return };
        if !session.is_reset_by(packet, self.now) {
            self.end.counters.forged += 1;
            return;
        }
        let Some(mut old) = self.sessions.remove(&peer) else { return };
        let mut fresh = Session::resolving(peer, &mut self.end, self.now);
        old.flow.move_unsent_streams(&mut fresh.flow);
        old.flow.reset_all(ResetReason::Restarted, &mut self.end.out);
        self.forget(&old);
        if fresh.flow.stream_count() > 0 {
            self.sessions.insert(peer, Box::new(fresh));
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
    ///
    /// It was answered at `since`, and has shown that it is at `proven`; if that is none, it has to where its Finished says it came from, before data goes there.
    fn install(
        &mut self,
        arrival: &Arrival,
        (proven, since): (Option<Path>, Instant),
        last_word: LastWord,
        established: Established,
    ) {
        let (from, own) = (arrival.from, self.end.keys.id());
        if self.sessions.get(&from).is_some_and(|session| session.succeeds_handshake_of(since)) {
            return;
        }
        // Who has a later life than when it answered us does not know that handshake any more: it did not begin at the same time, but anew.
        let life = Life::of(&established.peer_params);
        let confirming = self.sessions.get(&from).and_then(|session| session.confirming_with());
        let crossed = confirming.is_some_and(|known| life <= known);
        // A life that ended before our handshake began is over; a later one has an earlier number where the peer's clock was set back.
        let is_of_before = self.sessions.get(&from).is_some_and(|session| session.began_after(since));
        if crossed && (own < from || (is_of_before && confirming > Some(life))) {
            return;
        }
        if !self.sessions.contains_key(&from) && !self.make_room() {
            self.end.counters.limited += 1;
            return;
        }
        let old = self.sessions.remove(&from);
        let (is_proven, now) = (proven.is_some(), self.now);
        let path = proven.unwrap_or_else(|| arrival.return_path.clone());
        let mut session = Session::bound(from, path, established, &mut self.end, now);
        // A peer has one handshake at a time: what it began before this one it has given up.
        self.half_open.retain(|(peer, _), half| *peer != from || half.since >= since);
        if !is_proven {
            session.suspend(&mut self.end, now);
            session.attempt(&mut self.end, now);
        }
        let old = old.map(|mut old| {
            if crossed {
                old.flow.rewind_streams();
            }
            old.flow.move_unsent_streams(&mut session.flow);
            old.flow.reset_all(ResetReason::Restarted, &mut self.end.out);
            old
        });
        // It is worth storing if the old one was used.
        session.persist(&mut self.end);
        self.end.send(from, &arrival.return_path, 0, last_word.packet().to_vec());
        if let Phase::Bound(bound) = &mut session.phase {
            bound.last_word = Some(Box::new(last_word));
            bound.begun = since;
        }
        let label = session.label();
        self.sessions.insert(from, Box::new(session));
        old.iter().for_each(|old| self.forget(old));
        self.labels.extend(label.map(|label| (label, from)));
    }

    /// Makes room for one more half-open handshake: of the neighbour with the most of them, the oldest is given up. Whoever fills the
    /// table displaces what came the same way.
    fn bound_half_open(&mut self) {
        while self.half_open.len() >= self.end.config.max_half_open.max(1) {
            let mut counts = BTreeMap::<_, usize>::new();
            self.half_open.values().for_each(|half| *counts.entry(half.via).or_default() += 1);
            let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(via, _)| via);
            let theirs = self.half_open.iter().filter(|(_, half)| Some(half.via) == most);
            let Some(oldest) = theirs.min_by_key(|(_, half)| half.since).map(|(key, _)| *key) else { return };
            self.half_open.remove(&oldest);
        }
    }
}

impl HalfOpen {
    /// The reply once more, if this is the Hello that it answers and not a shorter or other one under its name.
    fn again(&mut self, hello: &AddressedHello<'_, '_>, path: &Path, now: Instant) -> Option<Vec<u8>> {
        let same = self.hello == hello.digest() && self.again.take(now);
        self.elsewhere |= same && *path != self.path;
        same.then(|| self.reply.clone())
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
pub(super) mod tests;
