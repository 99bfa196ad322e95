//! Identities that were revoked: known from a look-up, kept (at most [`MAX_REVOKED`]), and put again so that others find out.
//!
//! A revocation lies where the node's record would, and beats it ([`crate::record::Revocation`]), so whoever looks the node up sees it. From then on this
//! node has no link with it, and tells the layer above. Binders forget records after a day; a node that runs on puts each that it knows
//! every [`PUT_EVERY`].

use core::time::Duration;
use std::collections::BTreeMap;

use crate::codec;
use crate::error::RestoreError;
use crate::event::Event;
use crate::id::NodeId;
use crate::io::{CloseReason, Command, LinkId};
use crate::overlay::{KEY_REVOKED, Overlay, Timer};
use crate::record::{Endorsed, Query, REVOKED_SEQ, RecordError, SignedRecord};
use crate::time::{Instant, Now};

/// Most revocations that are kept. Of more, those with the lowest ids are forgotten; a look-up finds them again.
const MAX_REVOKED: usize = 1024;
/// Longest stored form, in bytes.
const STORED_LIMIT_BYTES: usize = 1024 * 1024;
/// Signatures that a revocation has at most: the recovery key's, and the identity's for that key.
const SIGNATURES_OF_A_REVOCATION: usize = 2;
/// Each revocation is put again once in this time.
const PUT_EVERY: Duration = Duration::from_hours(8);

impl Overlay {
    /// Whether this node knows that `id` was revoked.
    pub fn is_revoked(&self, id: &NodeId) -> bool {
        self.revoked.contains_key(id)
    }

    /// Lets a recovery key revoke this node's identity.
    pub fn endorse(&self, key: NodeId) -> Endorsed {
        Endorsed::make(&self.identity, key)
    }

    /// What ends this node's identity for ever, once it is [published](Self::publish_revocation).
    pub fn own_revocation(&self) -> SignedRecord {
        SignedRecord::revoke(&self.identity)
    }

    /// What this node stores, and under which key, when it knows of `revocation`, too. Whoever wants to rely on that writes it before.
    /// None if it has no form in which it could be stored.
    pub fn revoked_with(&self, revocation: &SignedRecord) -> Option<(&'static str, Vec<u8>)> {
        let mut revoked = self.revoked.clone();
        add(&mut revoked, revocation);
        Some((KEY_REVOKED, stored(&revoked)?))
    }

    /// Has everybody find the revocation; [`Event::RevocationStored`] follows, and [`Event::Revoked`]. This node heeds it at once, unless it is its own end:
    /// that has to be told first.
    ///
    /// # Errors
    /// [`RecordError`] when it is another record, does not verify, or too many are being published.
    pub fn publish_revocation(&mut self, revocation: SignedRecord, now: Now) -> Result<(), RecordError> {
        if !revocation.is_revocation() {
            return Err(RecordError::NotOwn);
        }
        SignedRecord::verify_with(revocation.as_bytes(), self.checks.as_ref())?;
        self.dht.publish(revocation.clone(), now)?;
        if revocation.signer() != self.id {
            self.learn_revoked(&revocation, now);
        }
        self.settle_down(now);
        Ok(())
    }

    /// A record of this node's is stored: if it is a revocation, what that means.
    pub(crate) fn revocation_stored(&mut self, query: &Query, seq: u64, now: Now) {
        let Query::Node(id) = *query else { return };
        if seq != REVOKED_SEQ {
            return;
        }
        if let Some(revocation) = self.dht.own_record(&query.key()).cloned() {
            self.learn_revoked(&revocation, now);
        }
        self.events.push_back(Event::RevocationStored(id));
    }

    /// Somebody's record was found: if it is a revocation, there are no links with that node any more.
    pub(crate) fn learn_revoked(&mut self, record: &SignedRecord, now: Now) {
        let id = record.signer();
        if !record.is_revocation() || self.is_revoked(&id) {
            return;
        }
        add(&mut self.revoked, record);
        self.store_revoked();
        self.timers.set_no_later(Timer::Revoked, self.next_put(now));
        for link in self.links.ids() {
            if self.links.link(link).is_some_and(|link| link.peer == id) {
                self.part(link, CloseReason::Revoked, now);
            }
        }
        self.void_places_below(&id, now);
        self.events.push_back(Event::Revoked(id));
    }

    /// A neighbour that parts shows why. Only what is about this node is looked at: nobody can fill its memory with the keys of others.
    pub(crate) fn handle_own_revocation(&mut self, link: LinkId, bytes: &[u8], now: Now) {
        if bytes.get(1..33) == Some(self.id.as_bytes())
            && self.may_check(link, SIGNATURES_OF_A_REVOCATION, now)
            && let Ok(record) = SignedRecord::verify_with(bytes, self.checks.as_ref())
        {
            self.learn_revoked(&record, now);
        }
    }

    pub(crate) fn restore_revoked(&mut self, bytes: &[u8], now: Now) -> Result<(), RestoreError> {
        let damaged = || RestoreError::Damaged(KEY_REVOKED);
        let stored = codec::decode::<Vec<Vec<u8>>, STORED_LIMIT_BYTES>(bytes).map_err(|_| damaged())?;
        for bytes in stored.into_iter().take(MAX_REVOKED) {
            let record = SignedRecord::verify(&bytes).map_err(|_| damaged())?;
            if !record.is_revocation() {
                return Err(damaged());
            }
            if record.signer() == self.id {
                return Err(RestoreError::Revoked);
            }
            self.revoked.insert(record.signer(), record);
        }
        self.arm_revoked(now);
        Ok(())
    }

    /// Puts one revocation again, each in its turn.
    pub(crate) fn revoked_timer(&mut self, now: Now) {
        use core::ops::Bound::{Excluded, Unbounded};
        let after = self.revoked_put.and_then(|last| self.revoked.range((Excluded(last), Unbounded)).next());
        if let Some((id, record)) = after.or_else(|| self.revoked.first_key_value()) {
            self.revoked_put = Some(*id);
            // If it is one that was published here, its binders had time enough.
            self.dht.withdraw(&record.query());
            self.dht.put_once(record);
        }
        self.arm_revoked(now);
    }

    fn arm_revoked(&mut self, now: Now) {
        if !self.revoked.is_empty() {
            self.timers.set(Timer::Revoked, self.next_put(now));
        }
    }

    /// When the next one has its turn, from now on.
    fn next_put(&self, now: Now) -> Instant {
        now.instant + PUT_EVERY / u32::try_from(self.revoked.len().max(1)).unwrap_or(u32::MAX)
    }

    fn store_revoked(&mut self) {
        if let Some(bytes) = stored(&self.revoked) {
            self.commands.push_back(Command::Persist { key: KEY_REVOKED.to_owned(), bytes: bytes.into() });
        }
    }
}

/// Keeps `record`, and [`MAX_REVOKED`] at most: more would be left out when they are read again.
fn add(revoked: &mut BTreeMap<NodeId, SignedRecord>, record: &SignedRecord) {
    if revoked.len() >= MAX_REVOKED && !revoked.contains_key(&record.signer()) {
        revoked.pop_first();
    }
    revoked.insert(record.signer(), record.clone());
}

fn stored(revoked: &BTreeMap<NodeId, SignedRecord>) -> Option<Vec<u8>> {
    let records: Vec<Vec<u8>> = revoked.values().map(|record| record.as_bytes().to_vec()).collect();
    codec::encode(&records).ok()
}
