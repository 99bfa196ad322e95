//! What people do with this node's keys.

use overlay::id::NodeId;
use overlay::record::{Endorsed, RecordError, SignedRecord};
use overlay::time::Now;

use super::Stack;
use super::status::KeyStatus;

impl Stack {
    /// The keys as others know them.
    pub fn keys(&self, now: Now) -> KeyStatus {
        let cert = self.sessions.certificate();
        KeyStatus {
            node: self.id.to_string(),
            key: cert.key.iter().map(|byte| format!("{byte:02x}")).collect(),
            epoch: cert.epoch,
            expires_unix_s: cert.expires_unix_s,
            previous_for_s: self.sessions.previous_key_until().map(|until| until.since(now.instant).as_secs()),
        }
    }

    /// Goes over to another session key: see [`muses::Sessions::change_static_key`].
    pub fn change_session_key(&mut self, secret: &[u8; 32], now: Now) {
        self.sessions.change_static_key(*secret, now);
        self.settle(now);
    }

    /// Lets a recovery key revoke this node's identity.
    pub fn endorse(&self, key: NodeId) -> Endorsed {
        self.overlay.endorse(key)
    }

    /// What ends this node's identity, once it is published.
    pub fn own_revocation(&self) -> SignedRecord {
        self.overlay.own_revocation()
    }

    /// What is stored, and under which key, when this node knows of `revocation`, too; see [`overlay::Overlay::revoked_with`].
    pub fn revoked_with(&self, revocation: &SignedRecord) -> Option<(&'static str, Vec<u8>)> {
        self.overlay.revoked_with(revocation)
    }

    /// Has everybody find a revocation; [`super::Event::RevocationStored`] follows.
    ///
    /// # Errors
    /// [`RecordError`] when it is another record, or too many are being published.
    pub fn publish_revocation(&mut self, revocation: SignedRecord, now: Now) -> Result<(), RecordError> {
        let done = self.overlay.publish_revocation(revocation, now);
        self.settle(now);
        done
    }
}
