//! The daily refresh: a fresh Diffie-Hellman secret is mixed into the resume secret, so that a session of a year heals from a theft.
//!
//! Packet keys and resume secrets are chains of hashes: whoever has stolen a rung of the ladder (see [`crate::keys`]) can follow it. After a refresh it
//! cannot. It goes on beside the data of a live session, never on the way back from an outage:
//!
//! ```text
//! A  Propose { generation, ephemeral key a }     A: who sent the first Hello, so that refreshes never cross
//! B  Answer  { generation, ephemeral key b }     next = HKDF(rung, DH(a, b), SessID . a . b)
//! A  Confirm { generation }                      A has climbed, and keeps the rung below
//! B  Done    { generation }                      B has climbed, too; the rung below is kept for 10 minutes
//! A  Re-Hello                                    the packet keys, too, come from the new rung
//! ```
//!
//! The frames are protected like any other, and lost ones travel again. A resume in the midst of it begins from whichever rung both have; the refresh
//! is then tried again. (A ratchet step as in Signal's double ratchet, paced by the day instead of the message.)

use core::time::Duration;

use overlay::time::Instant;

use super::{Endpoint, Session};
use crate::config::OLD_SECRET_LIFETIME;
use crate::dh::{PublicKey, Secret};
use crate::frame::Refresh as Step;
use crate::keys::{Role, Rung};

/// How often a session that carries something is refreshed.
pub const REFRESH_EVERY: Duration = Duration::from_hours(24);
/// A refresh leaves a resume alone for this long, and no two proposals of a peer are answered within it.
const PAUSE: Duration = Duration::from_secs(30);
/// A refresh that takes longer is begun anew.
const PATIENCE: Duration = Duration::from_mins(2);

/// How far the refresh of a session is.
pub(super) struct Refresh {
    due: Instant,
    stage: Stage,
    /// When a proposal was answered last: each costs public-key work.
    answered_at: Option<Instant>,
    /// A refresh is done, or in doubt, and only a resume brings the new rung into use.
    wants_epoch: bool,
    /// How many were done.
    pub done: u64,
}

enum Stage {
    Idle,
    /// We proposed.
    Proposed(Box<Proposed>),
    /// We proposed, and have climbed.
    Confirming {
        generation: u32,
        until: Instant,
    },
    /// We answered this proposal, and will climb to this rung.
    Answered(Box<Answered>),
}

struct Answered {
    generation: u32,
    proposal: PublicKey,
    own: PublicKey,
    next: Rung,
}

struct Proposed {
    generation: u32,
    secret: Secret,
    key: PublicKey,
    until: Instant,
}

impl Refresh {
    pub fn new(due: Instant) -> Self {
        Self { due, stage: Stage::Idle, answered_at: None, wants_epoch: false, done: 0 }
    }

    /// The packet keys are others, from whichever rung both ends had: what was under way is void.
    fn interrupt(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Idle) {
            self.stage = Stage::Idle;
            self.due = now;
        }
        self.due = self.due.max(now + PAUSE);
        self.wants_epoch = false;
    }

    /// Whether a Re-Hello under way is needed although the path is alive.
    pub fn wants_epoch(&self) -> bool {
        self.wants_epoch
    }

    /// Whether this end has climbed and the peer may not have.
    fn is_confirming(&self) -> bool {
        matches!(self.stage, Stage::Confirming { .. })
    }

    fn timeout(&self) -> Instant {
        match &self.stage {
            Stage::Idle | Stage::Answered(_) => self.due,
            Stage::Proposed(proposed) => proposed.until,
            Stage::Confirming { until, .. } => *until,
        }
    }
}

impl Session {
    /// How often a fresh secret was mixed in.
    pub fn refreshes(&self) -> u64 {
        self.bound_ref().map_or(0, |bound| bound.refresh.done)
    }

    /// When [`Session::on_refresh_timeout`] is due: only at the end that proposes, and while there is something to protect.
    pub(super) fn refresh_timeout(&self) -> Option<Instant> {
        let bound = self.bound_ref()?;
        let calm = bound.suspended.is_none() && bound.attempt.is_none() && bound.keys.is_some();
        let proposes = bound.secrets.role() == Role::Initiator && calm && self.flow.stream_count() > 0;
        proposes.then(|| bound.refresh.timeout())
    }

    pub(super) fn on_refresh_timeout(&mut self, end: &mut Endpoint, now: Instant) {
        if self.refresh_timeout().is_none_or(|at| now < at) {
            return;
        }
        let Some(bound) = self.bound_mut() else { return };
        let confirming = bound.refresh.is_confirming();
        bound.refresh.due = now + PATIENCE;
        let before = core::mem::replace(&mut bound.refresh.stage, Stage::Idle);
        // Until the peer is known to have the present rung there is nothing to climb from. Which one it has, a resume finds out.
        let Some(generation) = bound.secrets.settled_generation().filter(|_| !confirming) else {
            if bound.receive_tag == bound.next_receive_tag {
                self.attempt_for_refresh(end, now);
            }
            return;
        };
        let proposed = match before {
            // The same again: an answer to it may be on its way, and would lead each end to another rung if this were another key.
            Stage::Proposed(known) if known.generation == generation => Proposed { until: now + PATIENCE, ..*known },
            _ => {
                let secret = Secret::generate(&mut end.rng);
                let key = secret.public(&mut end.ops);
                Proposed { generation, secret, key, until: now + PATIENCE }
            }
        };
        let key = proposed.key;
        bound.refresh.stage = Stage::Proposed(Box::new(proposed));
        self.flow.say_refresh(Step::Propose { generation, key });
    }

    /// The session resumed. (A path that was only silent for a while interrupts nothing: the frames of a refresh travel on over it.)
    pub(super) fn interrupt_refresh(&mut self, now: Instant) {
        if let Some(bound) = self.bound_mut() {
            bound.refresh.interrupt(now);
        }
    }

    /// The peer's step, if it said one.
    pub(super) fn hear_refresh(&mut self, end: &mut Endpoint, now: Instant) {
        match self.flow.heard_refresh.take().map(|step| *step) {
            Some(Step::Propose { generation, key }) => self.on_proposal(generation, key, end, now),
            Some(Step::Answer { generation, key }) => self.on_refresh_answer(generation, &key, end, now),
            Some(Step::Confirm { generation }) => self.on_confirm(generation, end, now),
            Some(Step::Done { generation }) => self.on_done(generation, end, now),
            None => {}
        }
    }

    fn on_proposal(&mut self, generation: u32, proposal: PublicKey, end: &mut Endpoint, now: Instant) {
        let Some(bound) = self.bound_mut() else { return };
        if bound.secrets.role() != Role::Responder || bound.secrets.settled_generation() != Some(generation) {
            return;
        }
        let answered = match &bound.refresh.stage {
            Stage::Answered(known) if known.proposal == proposal => known.own,
            _ => {
                if bound.refresh.answered_at.is_some_and(|at| now.since(at) < PAUSE) {
                    end.counters.limited += 1;
                    return;
                }
                bound.refresh.answered_at = Some(now);
                let secret = Secret::generate(&mut end.rng);
                let own = secret.public(&mut end.ops);
                let Some(shared) = secret.agree(&proposal, &mut end.ops) else { return };
                let next = bound.secrets.refreshed(&shared, [&proposal, &own]);
                bound.refresh.stage = Stage::Answered(Box::new(Answered { generation, proposal, own, next }));
                own
            }
        };
        self.flow.say_refresh(Step::Answer { generation, key: answered });
    }

    fn on_refresh_answer(&mut self, generation: u32, theirs: &PublicKey, end: &mut Endpoint, now: Instant) {
        let Some(bound) = self.bound_mut() else { return };
        let Stage::Proposed(proposed) = &bound.refresh.stage else { return };
        // A Re-Hello under way proves the old rung: its epoch would leave the new one behind.
        if bound.secrets.settled_generation() != Some(generation) || bound.attempt.is_some() {
            return;
        }
        let Some(shared) = proposed.secret.agree(theirs, &mut end.ops) else {
            // A key that is none. Each costs public-key work, so that this proposal is answered by no other.
            bound.refresh.stage = Stage::Idle;
            return;
        };
        let next = bound.secrets.refreshed(&shared, [&proposed.key, theirs]);
        bound.secrets.climb(next, false);
        bound.refresh.stage = Stage::Confirming { generation, until: now + PATIENCE };
        self.flow.say_refresh(Step::Confirm { generation });
        self.persist(end);
    }

    fn on_confirm(&mut self, generation: u32, end: &mut Endpoint, now: Instant) {
        let Some(bound) = self.bound_mut() else { return };
        let Stage::Answered(answered) = &bound.refresh.stage else { return };
        // As there: A asks by a Re-Hello if it hears nothing.
        if answered.generation != generation
            || bound.secrets.settled_generation() != Some(generation)
            || bound.attempt.is_some()
        {
            return;
        }
        // If A asked for a resume meanwhile, it may go on with what that was answered, from the rung below.
        let is_sure = !bound.offers.as_ref().is_some_and(|offers| offers.are_open());
        let next = answered.next.clone();
        bound.secrets.climb(next, is_sure);
        bound.unsure_until = None;
        bound.refresh.stage = Stage::Idle;
        bound.refresh.done += 1;
        bound.forget_at = Some(now + OLD_SECRET_LIFETIME);
        self.flow.say_refresh(Step::Done { generation });
        self.persist(end);
    }

    fn on_done(&mut self, generation: u32, end: &mut Endpoint, now: Instant) {
        let Some(bound) = self.bound_mut() else { return };
        if !matches!(bound.refresh.stage, Stage::Confirming { generation: expected, .. } if expected == generation) {
            return;
        }
        bound.secrets.settle();
        (bound.refresh.due, bound.refresh.stage) = (now + REFRESH_EVERY, Stage::Idle);
        bound.refresh.done += 1;
        bound.forget_at = Some(now + OLD_SECRET_LIFETIME);
        self.persist(end);
        self.attempt_for_refresh(end, now);
    }

    fn attempt_for_refresh(&mut self, end: &mut Endpoint, now: Instant) {
        if let Some(bound) = self.bound_mut() {
            bound.refresh.wants_epoch = true;
        }
        self.attempt(end, now);
    }
}
