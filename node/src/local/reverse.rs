//! Ports here that lead back to a peer, as `ssh -R` makes them.
//!
//! A service whose forward is `listen:HOST:PORT` is a place to listen: whoever may use it gets the port, for as long as his stream to the service lasts.
//! In that stream he writes a [`Want`] and hears an [`Answer`], each one JSON object in a line; nothing else is said in it. Each application that connects
//! to the port gets a connection to the service of the peer that he named. So who may listen here, and where, is decided here, by the
//! list of those who may use the service; and where the connections go on his side, he alone decides.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use overlay::id::NodeId;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::listen::{self, Port};
use super::pipe;
use super::service::{Forward, LISTEN};
use crate::driver::{Conn, Handle, Incoming, Portion, Then};

/// How names of services begin to which such ports lead. No person can offer a service of such a name.
pub const BACK: &str = "~reverse-";
/// Longest word, in bytes.
const MAX_WORD_BYTES: usize = 1024;
/// How long a peer may take to say what he wants, and to hear that he does not get it.
const WORD_TIMEOUT: Duration = Duration::from_secs(10);

/// What the peer wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// The service of his to which the port is to lead.
    pub back: String,
}

/// What he gets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The port.
    Listening {
        /// Where it is, `HOST:PORT`.
        at: String,
    },
    /// Nothing.
    Refused {
        /// One line for a person.
        why: String,
    },
}

/// Whom the ports lead to that are lent now, by their place.
#[derive(Clone, Default)]
pub struct Lent(Arc<Mutex<BTreeMap<String, NodeId>>>);

impl Lent {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, NodeId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why `peer` does not get a port at `at`, where nobody else of this machine has it.
    fn why_not(&self, at: &Forward, peer: NodeId) -> Option<&'static str> {
        let holder = *self.all().get(at.as_str())?;
        Some(if holder == peer {
            "this port leads to you already; the `muses reverse` that made it has to end first"
        } else {
            "this port leads to another node now; one has it at a time"
        })
    }
}

/// Listens for the peer who asks, as long as he stays.
pub async fn lend(handle: Handle, request: Incoming, lent: Lent) {
    let Some(at) = request.forward.strip_prefix(LISTEN).and_then(|at| at.parse::<Forward>().ok()) else {
        return request.refuse();
    };
    let (peer, service) = (request.peer, request.service.clone());
    let conn = request.accept();
    let Ok(Some(Want { back })) = tokio::time::timeout(WORD_TIMEOUT, hear(&conn)).await else {
        return conn.reset_use_of_place();
    };
    // His own business, so that this is no way to have programs here use what he may not be asked for.
    if !back.starts_with(BACK) {
        return;
    }
    match listen::bind(&at).await {
        Err(fault) => {
            let why = lent.why_not(&at, peer).map_or(fault.message, str::to_owned);
            say(&conn, &Answer::Refused { why }).await;
            conn.finish();
            let _ = tokio::time::timeout(WORD_TIMEOUT, over(&conn)).await;
        }
        Ok((listener, address)) => {
            tracing::info!("{address} leads to {} from now on, by {service}", peer.short());
            let what = format!("{service}, back to {}", peer.short());
            let _port = Port::open(listener, what, move |socket, from| {
                serve(handle.clone(), peer, back.clone(), socket, from.port())
            });
            lent.all().insert(at.to_string(), peer);
            say(&conn, &Answer::Listening { at: address.to_string() }).await;
            over(&conn).await;
            lent.all().remove(at.as_str());
        }
    }
}

async fn serve(handle: Handle, peer: NodeId, back: String, socket: TcpStream, port: u16) {
    let what = format!("{port} back to {}", peer.short());
    match handle.start_open(peer.to_string(), back, port).await {
        Ok(conn) => pipe::splice(conn, socket, &what).await,
        Err(stopped) => {
            tracing::info!("{what}: {stopped}");
            let _ = socket.set_zero_linger();
        }
    }
}

/// Says one word.
pub async fn say(conn: &Conn, word: &impl Serialize) {
    let mut line = serde_json::to_vec(word).unwrap_or_default();
    line.push(b'\n');
    // Whoever has gone hears nothing.
    let _ = conn.write_all(line).await;
}

/// The one word that the other side says; none for anything else.
pub async fn hear<W: for<'de> Deserialize<'de>>(conn: &Conn) -> Option<W> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let Portion { pieces, then } = conn.read(MAX_WORD_BYTES).await.ok()?;
        line.extend(pieces.into_iter().flatten());
        let ended = then != Then::More && line.last() != Some(&b'\n');
        if ended || line.len() > MAX_WORD_BYTES {
            return None;
        }
    }
    serde_json::from_slice(&line).ok()
}

/// Waits for the end of the stream; anything that is said in it is that, too.
pub async fn over(conn: &Conn) {
    let _ = conn.read(1).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_pinned() {
        let want = Want { back: "~reverse-7".to_owned() };
        assert_eq!(serde_json::to_string(&want).unwrap(), r#"{"back":"~reverse-7"}"#);
        for (answer, text) in [
            (Answer::Listening { at: "127.0.0.1:8080".into() }, r#"{"listening":{"at":"127.0.0.1:8080"}}"#),
            (Answer::Refused { why: "no".into() }, r#"{"refused":{"why":"no"}}"#),
        ] {
            assert_eq!(serde_json::to_string(&answer).unwrap(), text);
            assert_eq!(serde_json::from_str::<Answer>(text).unwrap(), answer);
        }
        assert!(serde_json::from_str::<Want>(r#"{"back":"~reverse-7","at":"0.0.0.0:22"}"#).is_err());
    }
}
