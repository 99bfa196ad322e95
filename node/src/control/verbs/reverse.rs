//! `muses reverse`: a port at a peer's that leads to a service here.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

use super::{ANSWER_TIMEOUT, Desk, in_time};
use crate::driver::{Conn, Handle};
use crate::exit::{Code, Fault};
use crate::local::reverse::{Answer, BACK, Want, hear, over, say};
use crate::local::service::{Forward, Target};
use crate::stack::{Failure, Who};

/// How long the peer may take to open the port.
const WORD_TIMEOUT: Duration = Duration::from_secs(15);

/// A port at a peer's, for as long as this runs.
pub struct Reversal {
    handle: Handle,
    conn: Conn,
    /// The service to which it leads.
    back: String,
    data: Value,
}

impl Reversal {
    /// The answer to the request.
    pub(in crate::control) fn data(&self) -> Value {
        self.data.clone()
    }

    /// Until the peer closes it, or `command`, the other end of the control connection, goes.
    pub(in crate::control) async fn run(self, mut command: impl AsyncBufRead + Unpin) {
        tokio::select! {
            () = over(&self.conn) => {}
            // Nothing is to be said here any more: anything is the end.
            _ = command.fill_buf() => {}
        }
        let Self { handle, conn, back, .. } = self;
        drop(conn);
        // Connections that were made go on. A node that has ended offers nothing any more.
        let _ = handle.with(move |stack, _| stack.unexpose(&back)).await;
    }
}

impl Desk {
    /// Has the port that `target` stands for lead to `forward`.
    pub(in crate::control) async fn reverse(&self, target: Target, forward: Forward) -> Result<Reversal, Fault> {
        forward.check_service()?;
        let what = target.to_string();
        let Who::Node(peer) = self.who(&target.peer).await? else {
            return Err(Fault::new(Code::Usage, "`anyone` is no peer; whose port is it to be?"));
        };
        let back = format!("{BACK}{}", self.next_reversal());
        let (service, to) = (back.clone(), forward.to_string());
        self.ask(move |stack, _| stack.expose(service, to, vec![Who::Node(peer)])).await?;
        let asked = self.ask_for_port(peer.to_string(), &target, &back).await;
        match asked {
            Ok((conn, at)) => {
                let data = json!({ "node": peer.to_string(), "listen": at, "forward": forward.to_string() });
                Ok(Reversal { handle: self.handle.clone(), conn, back, data })
            }
            Err(fault) => {
                self.ask(move |stack, _| stack.unexpose(&back)).await?;
                Err(fault.about(&what))
            }
        }
    }

    async fn ask_for_port(&self, peer: String, target: &Target, back: &str) -> Result<(Conn, String), Fault> {
        let opening = self.handle.open(peer, target.service.to_string(), 0);
        let conn = in_time(opening, ANSWER_TIMEOUT).await.map_err(|fault| {
            if fault != Failure::Refused.into() {
                return fault;
            }
            let service = &target.service;
            let line = format!(
                "the peer does not offer this place to you; ask its owner for `muses expose {service} listen:HOST:PORT --allow YOU`"
            );
            Fault::new(Code::Refused, line)
        })?;
        say(&conn, &Want { back: back.to_owned() }).await;
        match tokio::time::timeout(WORD_TIMEOUT, hear(&conn)).await {
            Ok(Some(Answer::Listening { at })) => Ok((conn, at)),
            Ok(Some(Answer::Refused { why })) => Err(Fault::new(Code::Refused, format!("there: {}", one_line(&why)))),
            Ok(None) | Err(_) => Err(Fault::new(
                Code::Refused,
                "it is no port that could lead here; there: muses expose NAME listen:HOST:PORT --allow YOU",
            )),
        }
    }
}

/// A peer's words, without what a terminal would obey.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
