//! What a peer lets this node use, and what this node lets a peer use.

use serde_json::{Value, json};

use super::{ANSWER_TIMEOUT, Desk};
use crate::driver::Incoming;
use crate::exit::{Code, Fault};
use crate::local::catalogue::{Answer, SERVICE};
use crate::stack::{Failure, Who};

impl Desk {
    /// Lets peers ask what they may use.
    pub(super) async fn offer_catalogue(&self) -> Result<(), Fault> {
        self.ask(|stack, _| stack.expose(SERVICE.to_owned(), String::new(), vec![Who::Anyone])).await
    }

    /// A peer asks.
    pub(super) async fn tell_catalogue(&self, request: Incoming) {
        let peer = request.peer;
        let Ok(answer) = self.ask(move |stack, _| Answer::of(stack.offered_to(peer))).await else { return };
        // The session of a stranger is not to count as one that is in use, for an answer that says nothing.
        if answer.services.is_empty() {
            return request.refuse();
        }
        request.accept().answer(serde_json::to_vec(&answer).unwrap_or_default()).await;
    }

    /// What `peer` says that this node may use.
    pub(super) async fn services_of(&self, peer: &str) -> Result<Value, Fault> {
        let late = |_| Err(Fault::from(Failure::Timeout).about(peer));
        tokio::time::timeout(ANSWER_TIMEOUT, self.ask_catalogue(peer)).await.unwrap_or_else(late)
    }

    async fn ask_catalogue(&self, peer: &str) -> Result<Value, Fault> {
        let node = self.lookup(peer.to_owned(), ANSWER_TIMEOUT).await?;
        if node == self.ask(|stack, _| stack.id().to_string()).await? {
            let line = format!("{peer}: this is the node itself; what it offers: muses status");
            return Err(Fault { message: line, ..Failure::Myself.into() });
        }
        let opening = self.handle.open(peer.to_owned(), SERVICE.to_owned(), 0);
        let conn = match opening.await.map_err(Fault::from) {
            Ok(conn) => conn,
            // The question is known there, and not answered to whom it says nothing.
            Err(fault) if fault == Fault::from(Failure::ServiceDown) => {
                return Ok(json!({ "node": node, "services": [] }));
            }
            Err(fault) if fault == Fault::from(Failure::Refused) => {
                let line = "the peer does not say what it offers: it is of an earlier version, or a program of its own; ask its owner";
                return Err(Fault { message: format!("{peer}: {line}"), ..fault });
            }
            Err(fault) => return Err(fault.about(peer)),
        };
        let nothing = || Fault::new(Code::Failed, format!("{peer}: the peer did not say what it offers; try again"));
        let answer = Answer::read(&conn).await.ok_or_else(nothing)?;
        Ok(json!({ "node": node, "services": answer.services }))
    }
}
