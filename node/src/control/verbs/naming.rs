//! What people do with names.

use std::time::Duration;

use overlay::id::NodeId;
use overlay::record::Name;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::{Desk, on_disk, to_json};
use crate::config::check_name;
use crate::exit::{Code, Fault};
use crate::facts;
use crate::stack::{Event, PINS_KEY};

/// How long a binder may take to confirm a claim, which is taken back after that.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(15);
/// How long others may take to confirm a claim that one binder finds dated too far ahead.
const OTHERS_CONFIRM: Duration = Duration::from_secs(4);
/// Where a name that was claimed by hand is kept; the stack never sees this key.
pub const STORE_KEY: &str = "node/name";

/// What the binders say of the claim of this name.
async fn confirmed(heard: &mut Receiver<Event>, text: &str) -> Result<(), Fault> {
    let mut deadline = Instant::now() + CLAIM_TIMEOUT;
    let line = format!("nobody has confirmed the name {text} yet; is this node attached? see: muses doctor");
    let mut at_last = Fault::new(Code::Timeout, line);
    loop {
        let Ok(fact) = timeout_at(deadline, heard.recv()).await else { return Err(at_last) };
        match fact {
            Ok(Event::NameClaimed(said)) if said == text => return Ok(()),
            Ok(Event::NameRefused { name: said, holder }) if said == text => {
                let line = format!("the name {text} belongs to {holder}; choose another one");
                return Err(Fault::new(Code::Refused, line));
            }
            // One binder says so, which may be wrong or lie; others may confirm the name.
            Ok(Event::NameAhead(said)) if said == text => {
                at_last = Fault::new(Code::Unreachable, facts::clock_line(text));
                deadline = deadline.min(Instant::now() + OTHERS_CONFIRM);
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            // The node ends; the next request says so.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Desk {
    pub(super) async fn names(&self) -> Result<Value, Fault> {
        to_json(self.ask(|stack, _| stack.names()).await?)
    }

    pub(super) async fn claim(&self, text: &str) -> Result<Value, Fault> {
        let name = parse(text)?;
        let mut heard = self.handle.subscribe();
        let (before, me, claimed) = (self.ask(|stack, _| stack.own_name()).await?, self.node().await?, name.clone());
        self.ask(move |stack, now| stack.claim_name(claimed, now)).await?;
        let mut done = confirmed(&mut heard, text).await;
        if done.is_ok() {
            let (store, bytes) = (self.store.clone(), text.as_bytes().to_vec());
            done = on_disk(move || Ok(store.put(STORE_KEY, &bytes)?)).await;
        }
        if let Err(fault) = done {
            self.ask(move |stack, now| stack.unclaim_name(&name, before, now)).await?;
            return Err(fault);
        }
        let next_start = self.said_name.as_ref().filter(|said| *said != text);
        Ok(json!({ "name": text, "node": me.to_string(), "next_start": next_start }))
    }

    pub(super) async fn pin(&self, text: &str, node: &str) -> Result<Value, Fault> {
        let name = parse(text)?;
        let id: NodeId = node.parse().map_err(|_| {
            Fault::new(Code::Usage, format!("{node:?} is no node id (12D3KooW...); its owner sees it by: muses status"))
        })?;
        let (pinned, other) = (name.clone(), Some(id));
        let Some(bytes) = self.ask(move |stack, _| stack.pins_with(&pinned, other)).await? else {
            return Err(Fault::new(Code::Failed, "too many names are pinned; forget some: muses name unpin NAME"));
        };
        self.keep_pins(bytes).await?;
        self.ask(move |stack, _| stack.pin_name(&name, id)).await?;
        Ok(json!({ "name": text, "node": id.to_string() }))
    }

    pub(super) async fn unpin(&self, text: &str) -> Result<Value, Fault> {
        let name = parse(text)?;
        let pinned = name.clone();
        let Some(bytes) = self.ask(move |stack, _| stack.pins_with(&pinned, None)).await? else {
            let line = format!("the name {text} is not pinned; `muses name list` shows those that are");
            return Err(Fault::new(Code::Usage, line));
        };
        self.keep_pins(bytes).await?;
        self.ask(move |stack, _| stack.unpin_name(&name)).await?;
        Ok(Value::Null)
    }

    /// Whom a name means is said to hold only when it is on disk. The stack writes it once more, in its turn: what it has asked for before is older.
    async fn keep_pins(&self, bytes: Vec<u8>) -> Result<(), Fault> {
        let store = self.store.clone();
        on_disk(move || Ok(store.put(PINS_KEY, &bytes)?)).await
    }

    async fn node(&self) -> Result<NodeId, Fault> {
        self.ask(|stack, _| stack.id()).await
    }
}

fn parse(text: &str) -> Result<Name, Fault> {
    check_name(text).map_err(|line| Fault::new(Code::Usage, line))
}
