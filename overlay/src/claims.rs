//! Names that this node wants: looked for first, and claimed when nobody has them.
//!
//! A claim that is put unasked can be the first to reach a binder that has just joined and was handed nothing yet. So a node looks for the
//! name, and one that has just come into the overlay waits until what it is the binder of itself has been handed to it.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::dht::{HANDOVER_INTERVAL, LookupId, LookupResult, MAX_OWN_RECORDS, Query};
use crate::due::Timer;
use crate::overlay::Overlay;
use crate::record::{MAX_LIFETIME_S, Name, NameClaim, Record, SignedRecord, next_seq};
use crate::time::{Instant, Now};

/// After this, former binders have handed over what a newcomer is the binder of.
const SETTLES: Duration = HANDOVER_INTERVAL;
/// A look-up that nobody answered is begun again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Names that were not put yet.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Since when this run has been in the overlay; before that nobody can be asked.
    settled_at: Option<Instant>,
    /// Those that are to be looked for, from when on, and the yielded claim that is tried again.
    waiting: BTreeMap<Name, (Option<SignedRecord>, Instant)>,
    asked: BTreeMap<LookupId, (Name, Option<SignedRecord>)>,
}

impl Overlay {
    /// Claims `name` as soon as it is known that nobody else has it. `yielded` is a claim that was given up for another's before.
    pub(crate) fn want_name(&mut self, name: Name, yielded: Option<SignedRecord>, now: Now) {
        // What is its own already needs no asking.
        if yielded.is_none() && self.dht.undisputed_own_record(&Query::Name(name.clone()).key()).is_some() {
            return self.publish_claim(name, now);
        }
        if self.claims.waiting.len() < MAX_OWN_RECORDS {
            let from = self.claims.settled_at.unwrap_or(Instant::FAR_FUTURE).max(now.instant);
            self.claims.waiting.insert(name, (yielded, from));
            self.arm_claims(now);
        }
    }

    /// It is not wanted any more.
    pub(crate) fn forget_name(&mut self, name: &Name) {
        self.claims.waiting.remove(name);
        self.claims.asked.retain(|_, (asked, _)| asked != name);
    }

    /// This node is in the overlay now. Who founded it had nobody to be handed anything by.
    pub(crate) fn claims_may_begin(&mut self, now: Now) {
        if self.claims.settled_at.is_some() {
            return;
        }
        let at = if self.founder() == Some(self.id) { now.instant } else { now.instant + SETTLES };
        self.claims.settled_at = Some(at);
        self.claims.waiting.values_mut().for_each(|(_, from)| *from = at);
        self.arm_claims(now);
    }

    pub(crate) fn claims_timer(&mut self, now: Now) {
        let due = self.claims.waiting.iter().filter(|(_, (_, from))| *from <= now.instant);
        let due: Vec<Name> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            let Some((yielded, _)) = self.claims.waiting.remove(&name) else { continue };
            let id = self.dht.lookup(Query::Name(name.clone()), true, now);
            self.claims.asked.insert(id, (name, yielded));
        }
        self.arm_claims(now);
    }

    /// Whether this was a look-up for a claim; then it is dealt with.
    pub(crate) fn hear_of_name(&mut self, id: LookupId, result: &LookupResult, now: Now) -> bool {
        let Some((name, yielded)) = self.claims.asked.remove(&id) else { return false };
        match (result, yielded) {
            (LookupResult::Unanswered, yielded) => {
                self.claims.waiting.insert(name, (yielded, now.instant + ASK_AGAIN));
                self.arm_claims(now);
            }
            (LookupResult::Found(record), yielded) if record.signer() != self.id => {
                // Who has yielded to somebody was told so; the next refresh tries again.
                if yielded.is_none()
                    && let Some(own) = self.signed_claim(name, now)
                {
                    self.dht.wait_for(own, record.clone());
                }
            }
            (_, Some(yielded)) => {
                if let Some(again) = self.claim_again(&yielded, MAX_LIFETIME_S, now) {
                    self.dht.renew(again, now);
                }
            }
            (_, None) => self.publish_claim(name, now),
        }
        true
    }

    pub(crate) fn publish_claim(&mut self, name: Name, now: Now) {
        if let Some(signed) = self.signed_claim(name, now) {
            // It is this node's own, so that only a full table of own records can refuse it; the old one stays then.
            let _ = self.dht.publish(signed, now);
        }
    }

    fn signed_claim(&self, name: Name, now: Now) -> Option<SignedRecord> {
        let seq = next_seq(self.seq_floor, now);
        let claim = NameClaim { name, id: self.id, seq, lifetime_s: MAX_LIFETIME_S };
        SignedRecord::sign(&self.identity, Record::Name(claim)).ok()
    }

    fn arm_claims(&mut self, now: Now) {
        match self.claims.waiting.values().map(|(_, from)| *from).min() {
            Some(at) if at != Instant::FAR_FUTURE => self.timers.set(Timer::Claims, at.max(now.instant)),
            _ => self.timers.cancel(Timer::Claims),
        }
    }
}
