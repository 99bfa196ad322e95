//! Protected packets, and where they go.

use overlay::time::Instant;

use super::{Endpoint, Phase, Session};
use crate::config::{MAX_KEY_AGE, OLD_KEY_LIFETIME};
use crate::error::Violation;
use crate::event::{Arrival, Outgoing, Path};
use crate::packet::{self, HEADER_BYTES, OpenError};

/// The next number that is left out is one of so many; the one after that is chosen when the peer is heard again.
const SKIP_WITHIN: u64 = 128;

impl Session {
    /// A protected packet arrived.
    pub fn handle_protected(&mut self, from: &Arrival, packet: &mut [u8], end: &mut Endpoint, now: Instant) {
        let Some(bound) = self.bound_mut() else { return };
        // What is forged under one key may be proper under that of an offer; a packet cannot be opened in place twice.
        bound.offers.take_if(|offers| offers.kept_until() <= now);
        bound.offers.iter_mut().for_each(|offers| offers.expire(now));
        let may_be_offered = bound.offers.as_ref().is_some_and(|offers| offers.are_open());
        let offered = may_be_offered.then(|| packet.to_vec());
        let current = bound.keys.as_mut().map(|(_, opener)| opener.open_in_place(packet));
        let offered_frames;
        let (seq, frames) = if let Some(Ok(seq)) = current {
            self.on_current_epoch(end, now);
            (seq, frames_in(packet))
        } else if let Some(seq) = bound.late.as_mut().and_then(|late| late.0.open_in_place(packet).ok()) {
            if self.flow.handle_late(seq, frames_in(packet), now, &mut end.out).is_err() {
                end.counters.violations += 1;
            }
            return;
        } else if let Some(opened) = offered.and_then(|packet| self.open_offered(&packet, end, now)) {
            offered_frames = opened.frames;
            (opened.seq, offered_frames.as_slice())
        } else {
            end.counters.forged += 1;
            if current == Some(Err(OpenError::Exhausted)) && !self.is_suspended() {
                // No packet will ever be opened under this key again; a resume brings another.
                self.suspend(end, now);
                self.attempt(end, now);
            }
            return;
        };
        if let Some(bound) = self.bound_mut()
            && bound.forget_key_at.is_none()
            && bound.keys.as_ref().is_some_and(|(_, opener)| opener.has_previous())
        {
            bound.forget_key_at = Some(now + OLD_KEY_LIFETIME);
        }
        self.hops = Some(from.hops);
        match self.flow.handle(seq, frames, from.ecn, now, &mut end.out) {
            Ok(true) => self.on_progress(end, now),
            Ok(false) => {}
            Err(why) => {
                end.counters.violations += 1;
                if why == Violation::Guess {
                    self.doubt(end, now);
                }
            }
        }
        if let Some((sealer, _)) = self.bound_ref().and_then(|bound| bound.keys.as_ref())
            && !self.flow.recovery.will_skip()
        {
            let next = sealer.next_seq().saturating_add(1);
            self.flow.recovery.plan_skip(next.saturating_add(end.rng.below(SKIP_WITHIN)));
        }
        if self.flow.take_proof()
            && let Some(path) = self.unproven.take()
        {
            self.is_at(path);
        }
        self.hear_token(end, now);
        self.hear_refresh(end, now);
    }

    /// The peer says that it has what it cannot have: it may have left, and have somebody else flooded. Nothing goes on before it has answered from where it is.
    fn doubt(&mut self, end: &mut Endpoint, now: Instant) {
        if self.is_suspended() {
            return;
        }
        self.suspend(end, now);
        if let Some(bound) = self.bound_mut() {
            bound.stale = true;
        }
        self.attempt(end, now);
    }

    /// A routing header says that the peer is there.
    pub(super) fn hear_of(&mut self, path: &Path, end: &mut Endpoint) {
        self.unproven = Some(path).filter(|path| !path.0.is_empty() && **path != self.path).cloned();
        if self.unproven.is_some() {
            self.flow.begin_probe(end.rng.bytes());
        } else {
            self.flow.drop_probe();
        }
    }

    /// The peer, which was greeted, has the session: if it moved meanwhile, it is asked whether it is where it was sought.
    pub(super) fn ask_where_sought(&mut self, end: &mut Endpoint) {
        if let Some(at) = self.sought.take() {
            self.hear_of(&at, end);
        }
    }

    /// The peer has shown that it is there.
    pub(super) fn is_at(&mut self, path: Path) {
        self.flow.drop_probe();
        (self.sought, self.unproven) = (None, None);
        self.path = path;
    }

    /// The next protected packet.
    pub fn poll(&mut self, now: Instant) -> Option<Outgoing> {
        let Phase::Bound(bound) = &mut self.phase else { return None };
        let (sealer, _) = bound.keys.as_mut()?;
        if self.flow.recovery.skips(sealer.next_seq()) {
            sealer.skip();
        }
        // The peer accepts one step at a time, so the last one has to have been acknowledged.
        let old = bound.key_used_since.is_some_and(|since| now.since(since) >= MAX_KEY_AGE);
        if (old || sealer.wants_step()) && self.flow.recovery.largest_acked() >= Some(sealer.step_first_seq()) {
            sealer.step();
            bound.key_used_since = None;
        }
        let (payload, path) = match &self.unproven {
            Some(unproven) if self.flow.probe_is_due() => {
                (self.flow.poll_probe(sealer.next_seq(), HEADER_BYTES, now), unproven)
            }
            _ => (self.flow.poll(sealer.next_seq(), HEADER_BYTES, now), &self.path),
        };
        let mut payload = payload?;
        // Numbers do not run out: a resume comes long before 2^32 packets, and without one the flow just falls silent.
        sealer.seal_in_place(&mut payload).ok()?;
        bound.key_used_since.get_or_insert(now);
        Some(Outgoing { to: self.peer, path: path.clone(), flow: bound.flow_label, payload })
    }

    /// Whether [`Session::poll`] may have something.
    pub fn wants_to_send(&self, now: Instant) -> bool {
        let can_seal = self.bound_ref().is_some_and(|bound| bound.keys.is_some());
        can_seal && (self.flow.wants_to_send(now) || self.flow.probe_is_due())
    }
}

/// What an opened packet held.
fn frames_in(packet: &[u8]) -> &[u8] {
    packet::ciphertext(packet).and_then(|range| packet.get(range)).unwrap_or_default()
}
