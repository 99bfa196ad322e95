//! What a peer lets this node use, and what this node lets a peer use.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ANSWER_TIMEOUT, Desk, in_time};
use crate::driver::Incoming;
use crate::exit::{Code, Fault};
use crate::local::catalogue::{Answer, SERVICE};
use crate::stack::{Failure, Who};

/// How long an answer may take once the peer has begun.
const HEAR_TIMEOUT: Duration = Duration::from_secs(30);

impl Desk {
    /// Lets peers ask what they may use.
    pub(super) async fn offer_catalogue(&self) -> Result<(), Fault> {
        self.ask(|stack, _| stack.expose(SERVICE.to_owned(), String::new(), vec![Who::Anyone])).await
    }

    /// A peer asks.
    pub(super) async fn tell_catalogue(&self, request: Incoming) {
        let peer = request.peer;
        let Ok(answer) = self.ask(move |stack, _| Answer::of(stack.offered_to(peer))).await else { return };
        let conn = request.accept();
        answer.say(&conn).await;
        conn.linger().await;
    }

    /// What `peer` says that this node may use.
    pub(super) async fn services_of(&self, peer: &str) -> Result<Value, Fault> {
        let node = self.lookup(peer.to_owned(), ANSWER_TIMEOUT).await?;
        if node == self.ask(|stack, _| stack.id().to_string()).await? {
            let line = format!("{peer}: this is the node itself; what it offers: muses status");
            return Err(Fault { message: line, ..Failure::Myself.into() });
        }
        let opening = self.handle.open(peer.to_owned(), SERVICE.to_owned(), 0);
        let conn = in_time(opening, ANSWER_TIMEOUT).await.map_err(|fault| unasked(fault, peer))?;
        let nothing = || Fault::new(Code::Failed, format!("{peer}: the peer did not say what it offers; try again"));
        let answer =
            tokio::time::timeout(HEAR_TIMEOUT, Answer::read(&conn)).await.ok().flatten().ok_or_else(nothing)?;
        Ok(json!({ "node": node, "services": answer.services }))
    }
}

/// Earlier versions do not know the question.
fn unasked(fault: Fault, peer: &str) -> Fault {
    if fault == Fault::from(Failure::Refused) {
        let message = format!("{peer}: the peer's version does not say what it offers; ask its owner");
        return Fault { message, ..fault };
    }
    fault.about(peer)
}
