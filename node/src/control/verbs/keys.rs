//! What people do with keys.

use std::time::Duration;

use overlay::record::SignedRecord;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::{Desk, on_disk, to_json};
use crate::clock;
use crate::exit::{Code, Fault};
use crate::folder::check_ours;
use crate::identity;
use crate::recovery::RecoveryKey;
use crate::stack::Event;

/// How long binders may take to confirm a revocation. The node goes on trying after that.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(20);

impl Desk {
    pub(super) async fn show_key(&self) -> Result<Value, Fault> {
        to_json(self.ask(|stack, now| stack.keys(now)).await?)
    }

    pub(super) async fn rotate_key(&self) -> Result<Value, Fault> {
        // On disk first: a key that others know and a restart does not would be worse than one that nobody knows.
        let _one_at_a_time = self.rotating.lock().await;
        let data_dir = self.data_dir.clone();
        let rotate = move || {
            check_ours(&data_dir)?;
            Ok(identity::rotate(&data_dir, clock::now().wall)?)
        };
        let key = on_disk(rotate).await?;
        self.ask(move |stack, now| stack.change_session_key(&key.secret, now)).await?;
        self.show_key().await
    }

    pub(super) async fn make_recovery_key(&self) -> Result<Value, Fault> {
        let secret = identity::random()
            .map_err(|error| Fault::new(Code::Failed, format!("the system has no entropy: {error}")))?;
        let key = self.ask(move |stack, _| RecoveryKey::new(stack.id(), secret, |key| stack.endorse(key))).await?;
        Ok(json!({ "node": key.node.to_string(), "recovery": key.to_text().as_str() }))
    }

    pub(super) async fn revoke(&self, typed: &str) -> Result<Value, Fault> {
        let node = self.ask(|stack, _| stack.id()).await?;
        if typed != node.to_string() {
            let line = format!("this ends the identity {node} for ever; if you mean that: muses key revoke {node}");
            return Err(Fault::new(Code::Usage, line));
        }
        let revocation = self.ask(|stack, _| stack.own_revocation()).await?;
        self.publish(revocation).await
    }

    pub(super) async fn recover(&self, text: &str) -> Result<Value, Fault> {
        let key: RecoveryKey = text
            .trim()
            .parse()
            .map_err(|why: crate::recovery::ParseRecoveryKeyError| Fault::new(Code::Usage, why.to_string()))?;
        self.publish(key.revocation()).await
    }

    /// Publishes a revocation, and waits until binders have it. On disk first: what is said to be for ever must outlive this process.
    async fn publish(&self, revocation: SignedRecord) -> Result<Value, Fault> {
        let (node, store) = (revocation.signer(), self.store.clone());
        let also = revocation.clone();
        let stored = self.ask(move |stack, _| stack.revoked_with(&also)).await?;
        let (key, bytes) = stored.ok_or_else(|| Fault::new(Code::Failed, "the revocation cannot be stored"))?;
        on_disk(move || Ok(store.put(key, &bytes)?)).await?;
        let mut facts = self.handle.subscribe();
        // A node that is alone stores it all the same, and nobody else hears. Asked before: whoever revokes itself loses its neighbours by that.
        let neighbours = self.ask(|stack, now| stack.peers(now).len()).await?;
        self.ask(move |stack, now| stack.publish_revocation(revocation, now))
            .await?
            .map_err(|_| Fault::new(Code::Failed, "this node publishes too many records now; try again in a minute"))?;
        let stored = async {
            loop {
                match facts.recv().await {
                    Ok(Event::RevocationStored(id)) if id == node => return,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    // The node ends; the next request says so.
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        let line = "the overlay has not confirmed it yet; the node goes on trying: leave it running, is it attached? see: muses doctor";
        tokio::time::timeout(REVOKE_TIMEOUT, stored).await.map_err(|_| Fault::new(Code::Timeout, line))?;
        Ok(json!({ "node": node.to_string(), "neighbours": neighbours }))
    }
}
