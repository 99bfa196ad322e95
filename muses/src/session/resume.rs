//! Suspension, and the way back: Re-Hello, answer, first packet.

use overlay::time::Instant;

use super::offers::{Offer, Offers, Source, YIELD};
use super::received::{MAX_RECEIVED_RANGES, Received};
use super::{Bound, Endpoint, Retry, Session};
use crate::config::{
    OLD_KEY_LIFETIME, OLD_SECRET_LIFETIME, REHELLO_FIRST_WAIT, REHELLO_MAX_WAIT, REHELLOS_PER_RESOLVE,
    UNPROVEN_RESET_WAIT,
};
use crate::event::{Arrival, Event, Path};
use crate::flow::EpochTags;
use crate::keys::Agreed;
use crate::packet::Opened;
use crate::resume::{Proposal, ReHello, ResumeError};

/// Places at which the peer is asked at a time: of more, the one asked first is forgotten.
const MAX_ASKED: usize = 3;
/// A path is in doubt once a Re-Hello was sent over it so often.
const TRIES_IN_VAIN: u32 = 2;

/// A Re-Hello under way.
pub(super) struct Attempt {
    /// None while this end yields to the peer's.
    asked: Vec<Asked>,
    pub(super) retry: Retry,
    sent_at: Instant,
    tries: u32,
    /// Our path as the Re-Hellos have it.
    local: Path,
}

/// A Re-Hello that goes to one place alone, so that its answer proves that the peer is there: the peer itself may lie about where it is.
struct Asked {
    at: Path,
    proposal: Proposal,
    /// Whether it says that our streams were lost: the peer acts on that, even if it learns meanwhile that it knew.
    restarted: bool,
}

/// How a Re-Hello was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReHelloOutcome {
    /// Answered or dropped.
    Done,
    /// Truly from the peer, but no secret is shared: to be answered by a Reset.
    Stale,
}

impl Session {
    /// The path failed.
    pub fn suspend(&mut self, end: &mut Endpoint, now: Instant) {
        let peer = self.peer;
        let Some(bound) = self.bound_mut().filter(|bound| bound.suspended.is_none()) else { return };
        bound.suspended = Some(now);
        end.out.events.push_back(Event::SessionSuspended { peer });
        self.flow.set_suspended(true, now, &mut end.out);
    }

    /// This node is nowhere: nothing can be sent.
    pub fn detach(&mut self, end: &mut Endpoint, now: Instant) {
        self.suspend(end, now);
        if let Some(bound) = self.bound_mut() {
            bound.attempt = None;
            bound.stale = true;
        }
    }

    /// This node has a new place: the peer has to know at once, unless there is nothing to carry.
    pub fn attach(&mut self, end: &mut Endpoint, now: Instant) {
        if let Some(bound) = self.bound_mut() {
            bound.stale = true;
            bound.attempt = None;
            self.wake(end, now);
        } else {
            self.greet_again(end, now);
            self.resolve(end, now);
        }
    }

    /// Begins an attempt if the session is needed and the peer may not know our path, or we not its.
    pub fn wake(&mut self, end: &mut Endpoint, now: Instant) {
        let needed = self.flow.stream_count() > 0;
        let confirming = self.is_confirming();
        let (peer, path) = (self.peer, self.sought_path().clone());
        let Some(bound) = self.bound_mut() else { return };
        if confirming {
            if let Some(confirming) = &mut bound.confirming {
                confirming.retry = Retry::new(crate::config::HELLO_FIRST_WAIT, &mut end.rng, now);
                end.send(peer, &path, bound.flow_label, confirming.finished.clone());
            }
            return;
        }
        if (needed || bound.restarted) && (bound.stale || bound.suspended.is_some()) && bound.attempt.is_none() {
            self.attempt(end, now);
        }
    }

    /// Sends a Re-Hello at once.
    pub fn attempt(&mut self, end: &mut Endpoint, now: Instant) {
        let Some(local) = end.local.clone() else { return };
        let Some(asked) = self.re_hello(&local, end) else { return };
        let peer = self.peer;
        let Some(bound) = self.bound_mut() else { return };
        end.send(peer, &asked.at, bound.flow_label, asked.proposal.packet().to_vec());
        let retry = Retry::new(REHELLO_FIRST_WAIT, &mut end.rng, now);
        bound.attempt = Some(Box::new(Attempt { asked: vec![asked], retry, sent_at: now, tries: 1, local }));
    }

    /// A Re-Hello for where the peer is to be asked now; this end is at `local`.
    fn re_hello(&self, local: &Path, end: &mut Endpoint) -> Option<Asked> {
        let received = self.received();
        let secrets = &self.bound_ref()?.secrets;
        let proposal = Proposal::new(secrets, &received.to_bytes(), &local.0, &mut end.rng).ok()?;
        Some(Asked { at: self.sought_path().clone(), proposal, restarted: received.restarted })
    }

    /// Sends the Re-Hello again at once, or a first one, and begins its waits anew.
    pub fn attempt_again(&mut self, end: &mut Endpoint, now: Instant) {
        let attempt = self.bound_mut().and_then(|bound| bound.attempt.as_deref_mut());
        if let Some(attempt) = attempt.filter(|attempt| !attempt.asked.is_empty()) {
            attempt.retry = Retry::new(REHELLO_FIRST_WAIT, &mut end.rng, now);
            attempt.tries = attempt.tries.saturating_add(1);
            self.say_again(end);
        } else {
            self.attempt(end, now);
        }
    }

    /// Sends the Re-Hello under way once more: to a place where the peer was not asked before, another one.
    fn say_again(&mut self, end: &mut Endpoint) {
        let (peer, at) = (self.peer, self.sought_path().clone());
        let attempt = self.bound_ref().and_then(|bound| bound.attempt.as_deref());
        let Some(attempt) = attempt else { return };
        let is_known = attempt.asked.iter().any(|asked| asked.at == at);
        let local = attempt.local.clone();
        let another = if is_known { None } else { self.re_hello(&local, end) };
        let Some(bound) = self.bound_mut() else { return };
        let Some(attempt) = bound.attempt.as_deref_mut() else { return };
        attempt.asked.extend(another);
        if attempt.asked.len() > MAX_ASKED {
            attempt.asked.remove(0);
        }
        if let Some(asked) = attempt.asked.iter().find(|asked| asked.at == at) {
            end.send(peer, &at, bound.flow_label, asked.proposal.packet().to_vec());
        }
    }

    /// Sends the Re-Hello again if it says where this node is, so that an answer that is on its way already will do; or else another one.
    pub(super) fn attempt_from_here(&mut self, end: &mut Endpoint, now: Instant) {
        let attempt = self.bound_ref().and_then(|bound| bound.attempt.as_ref());
        if attempt.is_some_and(|attempt| end.local.as_ref() == Some(&attempt.local)) {
            self.attempt_again(end, now);
        } else {
            self.attempt(end, now);
        }
    }

    /// Whether the peer is silent: a Re-Hello is on its way, or what was sent has not been acknowledged in time.
    pub fn waits_for_answer(&self) -> bool {
        let Some(bound) = self.bound_ref() else { return false };
        match bound.suspended {
            Some(_) => bound.attempt.as_ref().is_some_and(|attempt| !attempt.asked.is_empty()),
            None => self.flow.recovery.probes() > 0,
        }
    }

    /// The peer was found at `path`, says its record. It is asked there, but data goes there only once it answered.
    pub fn found_at(&mut self, path: Path, end: &mut Endpoint, now: Instant) {
        let confirming = self.is_confirming();
        let patience = self.flow.answer_timeout() * 2;
        let Some(bound) = self.bound_ref() else { return };
        // A live path is proven, a look-up is not; but a peer that does not answer a Re-Hello may have moved while nothing was sent to it.
        let asks_in_vain = bound
            .attempt
            .as_ref()
            .is_some_and(|attempt| attempt.tries >= TRIES_IN_VAIN && now.since(attempt.sent_at) >= patience);
        let proven = bound.suspended.is_none() && !confirming && !asks_in_vain;
        if proven || *self.sought_path() == path {
            return;
        }
        self.sought = Some(path).filter(|path| *path != self.path);
        if confirming {
            self.wake(end, now);
        } else {
            self.attempt_from_here(end, now);
        }
    }

    pub(super) fn on_attempt_timeout(&mut self, end: &mut Endpoint, now: Instant) {
        // One that was reset here needs the peer no more than one that nobody has taken.
        let carries = self.flow.is_in_use();
        let Some(bound) = self.bound_mut() else { return };
        let Some(attempt) = bound.attempt.as_mut().filter(|attempt| attempt.retry.at <= now) else { return };
        if !carries && attempt.retry.wait >= REHELLO_MAX_WAIT {
            // Whoever needs the session next asks anew, be it the peer.
            bound.attempt = None;
            return;
        }
        attempt.retry.again(REHELLO_MAX_WAIT, &mut end.rng, now);
        attempt.tries = attempt.tries.saturating_add(1);
        let look_up = attempt.tries % REHELLOS_PER_RESOLVE == 2;
        if attempt.asked.is_empty() {
            self.attempt(end, now);
        } else {
            self.say_again(end);
        }
        if look_up {
            self.resolve(end, now);
        }
    }

    /// The peer's Re-Hello arrived.
    pub fn handle_re_hello(
        &mut self,
        from: &Arrival,
        packet: &[u8],
        end: &mut Endpoint,
        now: Instant,
    ) -> ReHelloOutcome {
        let ours = self.received();
        let (peer, own) = (self.peer, end.keys.id());
        let Some(bound) = self.bound_mut() else { return ReHelloOutcome::Done };
        let hello = match ReHello::verify(&bound.secrets, packet) {
            Ok(hello) => hello,
            Err(ResumeError::Stale) => return ReHelloOutcome::Stale,
            Err(_) => {
                end.counters.forged += 1;
                return ReHelloOutcome::Done;
            }
        };
        let Some(local) = end.local.clone() else { return ReHelloOutcome::Done };
        let path = if hello.path.is_empty() { from.return_path.clone() } else { Path(hello.path.clone()) };
        let source = Source::new(from.via, &path);
        let offers = bound.offers.get_or_insert_with(|| Box::new(Offers::new(now)));
        offers.expire(now);
        if !offers.may_answer(source, now) {
            end.counters.limited += 1;
            return ReHelloOutcome::Done;
        }
        let flow_label = bound.flow_label;
        if let Some(offer) = offers.known(hello.na(), now) {
            end.send(peer, &offer.path, flow_label, offer.answer.clone());
            return ReHelloOutcome::Done;
        }
        if !offers.may_offer(now) {
            end.counters.limited += 1;
            return ReHelloOutcome::Done;
        }
        let received = Received::from_bytes(&hello.received);
        let na = *hello.na();
        let said = ours.to_bytes_within(hello.room_for_received());
        let Ok((answer, agreed)) = hello.answer(&mut bound.secrets, &said, &mut end.rng) else {
            return ReHelloOutcome::Done;
        };
        end.send(peer, &path, flow_label, answer.clone());
        let restarted = ours.restarted;
        offers.push(Offer { na, source, answer, agreed, path, received, local, restarted, at: now });
        // Re-Hellos crossed: the lower id's wins. The lower keeps its own all the same, because it cannot know whether
        // that one arrives.
        if peer < own
            && let Some(attempt) = bound.attempt.as_mut().filter(|attempt| !attempt.asked.is_empty())
            && offers.may_yield(now)
        {
            attempt.asked = Vec::new();
            attempt.retry.at = now + YIELD;
        }
        ReHelloOutcome::Done
    }

    /// The answer to our Re-Hello arrived: the peer lives, and the path works both ways.
    pub fn handle_answer(&mut self, from: &Arrival, packet: &[u8], end: &mut Endpoint, now: Instant) {
        let Some(bound) = self.bound_mut() else { return };
        let Some(attempt) = bound.attempt.as_deref_mut().filter(|attempt| !attempt.asked.is_empty()) else { return };
        let answered = attempt.asked.iter_mut().find_map(|asked| {
            let (answer, agreed) = asked.proposal.handle_answer(&bound.secrets, packet).ok()?;
            Some((answer, agreed, asked.at.clone(), asked.restarted))
        });
        let Some((answer, agreed, at, said_restarted)) = answered else {
            end.counters.forged += 1;
            return;
        };
        let sample = (attempt.tries == 1).then(|| now.since(attempt.sent_at));
        bound.stale = end.local.as_ref() != Some(&attempt.local);
        // What our Re-Hello said holds until the peer shows that it has acted on it.
        bound.restarted |= said_restarted;
        bound.attempt = None;
        bound.offers.iter_mut().for_each(|offers| offers.clear());
        let received = Received::from_bytes(&answer.received);
        let restarted = bound.restarted || received.as_ref().is_some_and(|received| received.restarted);
        // Whoever lost its streams, both begin anew: should the peer not hear of this epoch, and not begin anew for it, the next Re-Hello has to say so.
        bound.restarted = restarted;
        let alive = !restarted && received.as_ref().is_some_and(|received| received.alive);
        let late = bound.adopt(agreed, alive, now);
        (bound.forget_at, bound.unsure_until) = (None, None);
        let acked = received.filter(|received| received.tag == bound.send_tag).map(|received| received.ranges);
        let tag = tag(packet);
        bound.send_tag = tag;
        bound.next_receive_tag = tag;
        self.flow.restart_sending(acked.as_ref(), late, now, &mut end.out);
        if restarted {
            self.flow.forget_streams(now, &mut end.out);
        }
        if let Some(sample) = sample {
            self.flow.recovery.rtt.restart(sample);
        }
        self.interrupt_refresh(now);
        // Where the Re-Hello went the peer can be reached, be it through somebody who knows where it is now.
        self.is_at(at);
        self.hear_of(&from.return_path, end);
        self.go_on(end, now);
    }

    /// Whether `packet` is the peer's word that it cannot resume this session.
    ///
    /// What proves it came with the peer's Finished. If that never arrived, while data did, nothing can prove it; then it is believed after a silence of
    /// [`UNPROVEN_RESET_WAIT`], for otherwise a peer that lost the session would be out of reach for ever.
    pub fn is_reset_by(&self, packet: &[u8], now: Instant) -> bool {
        self.bound_ref().is_some_and(|bound| {
            let asked = bound.attempt.iter().flat_map(|attempt| &attempt.asked);
            let silent = bound.suspended.is_some_and(|since| now.since(since) >= UNPROVEN_RESET_WAIT);
            let unprovable = silent && bound.secrets.peer_token.is_none();
            asked.into_iter().any(|Asked { proposal, .. }| {
                proposal.is_reset(&bound.secrets, packet)
                    || (unprovable && proposal.may_be_reset(&bound.secrets, packet))
            })
        })
    }

    /// A packet under the present epoch arrived.
    pub(super) fn on_current_epoch(&mut self, end: &mut Endpoint, now: Instant) {
        let Some(bound) = self.bound_mut() else { return };
        let (mut is_first, mut wake) = (false, false);
        if let Some(confirming) = &mut bound.confirming {
            is_first = confirming.deadline.take().is_some();
            wake = is_first && bound.stale;
        }
        // Only who sent the Re-Hello waits for that: it learns here that the peer has adopted the epoch. What a refresh leads to is settled by its own frames.
        if bound.unsure_until.is_some_and(|until| until <= now) {
            // The peer did not go on with any other answer.
            bound.unsure_until = None;
            bound.secrets.settle();
            bound.forget_at = Some(now + OLD_SECRET_LIFETIME);
            self.persist(end);
        } else if bound.receive_tag != bound.next_receive_tag && bound.secrets.settle() {
            bound.restarted = false;
            bound.receive_tag = bound.next_receive_tag;
            bound.forget_at = Some(now + OLD_SECRET_LIFETIME);
            self.flow.restart_receiving();
            self.persist(end);
        }
        if is_first {
            self.ask_where_sought(end);
        }
        if wake {
            self.wake(end, now);
        }
    }

    /// Opens a packet that may be the first under an epoch that we offered; if it is, the peer's new path is proven.
    pub(super) fn open_offered(&mut self, packet: &[u8], end: &mut Endpoint, now: Instant) -> Option<Opened> {
        let bound = self.bound_mut()?;
        let (offer, opened) = bound.offers.as_mut()?.open(packet)?;
        bound.attempt = None;
        let restarted = offer.restarted || offer.received.as_ref().is_some_and(|received| received.restarted);
        let alive = !restarted && offer.received.as_ref().is_some_and(|received| received.alive);
        let late = bound.adopt(offer.agreed, alive, now);
        // It may have gone on with what it was offered later, and not come back: then the rungs that lead there are still needed.
        bound.unsure_until = bound.offers.as_ref().and_then(|offers| offers.decided_at());
        bound.forget_at = bound.unsure_until.is_none().then_some(now + OLD_SECRET_LIFETIME);
        if bound.unsure_until.is_some() {
            bound.secrets.unsettle();
        }
        let acked = offer.received.filter(|received| received.tag == bound.send_tag).map(|received| received.ranges);
        let tag = tag(&offer.answer);
        (bound.send_tag, bound.receive_tag, bound.next_receive_tag) = (tag, tag, tag);
        bound.restarted = false;
        // The peer has shown that it has the session, if not in its Finished.
        bound.confirming = bound.confirming.take().filter(|_| bound.secrets.peer_token.is_none());
        bound.confirming.iter_mut().for_each(|confirming| confirming.deadline = None);
        bound.stale = end.local.as_ref() != Some(&offer.local);
        self.is_at(offer.path);
        self.flow.restart_sending(acked.as_ref(), late, now, &mut end.out);
        if restarted {
            self.flow.forget_streams(now, &mut end.out);
        }
        self.flow.restart_receiving();
        self.interrupt_refresh(now);
        self.go_on(end, now);
        self.wake(end, now);
        Some(opened)
    }

    /// Something was acknowledged: if the session was suspended for silence alone, the path is alive after all.
    pub(super) fn on_progress(&mut self, end: &mut Endpoint, now: Instant) {
        let attached = end.local.is_some();
        let Some(bound) = self.bound_mut() else { return };
        if bound.suspended.is_some() && attached && !bound.stale {
            if !bound.refresh.wants_epoch() {
                bound.attempt = None;
            }
            self.sought = None;
            self.go_on(end, now);
        }
    }

    /// Live again, or still.
    fn go_on(&mut self, end: &mut Endpoint, now: Instant) {
        let peer = self.peer;
        let Some(bound) = self.bound_mut() else { return };
        let outage = bound.suspended.take().map(|since| now.since(since)).unwrap_or_default();
        end.out.events.push_back(Event::SessionResumed { peer, outage });
        self.resumes += 1;
        self.flow.set_suspended(false, now, &mut end.out);
        self.flow.set_reach(&end.reach, true);
        self.flow.ping();
        self.persist(end);
    }

    fn received(&self) -> Received {
        let mut ranges = self.flow.received().clone();
        ranges.keep_highest(MAX_RECEIVED_RANGES);
        let bound = self.bound_ref();
        let (tag, restarted) = bound.map(|bound| (bound.receive_tag, bound.restarted)).unwrap_or_default();
        Received { tag, restarted, alive: bound.is_some_and(|bound| bound.suspended.is_none()), ranges }
    }
}

impl Bound {
    /// Goes on with the keys that a resume agreed on. What opens the packets of the epoch before is kept for a while, and its names are returned, if its
    /// path is `alive` by the peer's word and by what this end knows, and both ends have sent in it.
    fn adopt(&mut self, agreed: Agreed, alive: bool, now: Instant) -> Option<EpochTags> {
        let before = self.keys.replace(self.secrets.adopt(agreed));
        self.key_used_since = None;
        let alive = alive && self.suspended.is_none() && self.receive_tag == self.next_receive_tag;
        self.late = before.filter(|_| alive).map(|(_, opener)| Box::new((opener, now + OLD_KEY_LIFETIME)));
        self.late.is_some().then_some(EpochTags { sent: self.send_tag, received: self.receive_tag })
    }
}

/// Names an epoch by the end of the answer that led to it: a MAC, which both ends know and which no other epoch shares.
fn tag(answer: &[u8]) -> u64 {
    answer.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
