//! Streams to peers' services on control connections: `muses pipe`, and what is said of their ends.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::{ANSWER_TIMEOUT, Desk, in_time};
use crate::driver::Conn;
use crate::exit::{Code, Fault};
use crate::local::pipe;
use crate::local::service::Target;

/// `pipe-end` answers after this, if only that the pipe goes on.
const PIPE_END_TIMEOUT: Duration = Duration::from_secs(5);
/// Ends of pipes that are remembered for `pipe-end`; more than can be open at once.
const MAX_PIPE_ENDS: usize = 1024;

type PipeEnd = Option<Result<(), Fault>>;

/// Those of `muses pipe`, by number.
#[derive(Default)]
pub(super) struct Pipes {
    latest: u64,
    ends: BTreeMap<u64, watch::Receiver<PipeEnd>>,
}

impl Desk {
    pub(in crate::control) async fn open_pipe(&self, target: Target) -> Result<Pipe, Fault> {
        let what = target.to_string();
        // No socket, so no source port: 0.
        let opening = self.handle.open(target.peer, target.service.to_string(), 0);
        let conn = in_time(opening, ANSWER_TIMEOUT).await.map_err(|fault| fault.about(&what))?;
        Ok(self.pipe(what, conn))
    }

    pub(super) fn pipe(&self, what: String, conn: Conn) -> Pipe {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        pipes.latest = pipes.latest.saturating_add(1);
        let number = pipes.latest;
        let (end, watched) = watch::channel(None);
        pipes.ends.insert(number, watched);
        if pipes.ends.len() > MAX_PIPE_ENDS {
            pipes.ends.pop_first();
        }
        Pipe { number, what, conn, end }
    }

    pub(super) async fn pipe_end(&self, pipe: u64) -> Result<Value, Fault> {
        let watched = self.pipes.lock().unwrap_or_else(PoisonError::into_inner).ends.get(&pipe).cloned();
        let mut watched = watched.ok_or_else(|| Fault::new(Code::Usage, format!("there is no pipe {pipe}")))?;
        let end = match tokio::time::timeout(PIPE_END_TIMEOUT, watched.wait_for(Option::is_some)).await {
            Ok(Ok(end)) => end.clone(),
            Ok(Err(_)) => Some(Ok(())),
            Err(_) => None,
        };
        let Some(end) = end else { return Ok(json!({ "ended": false })) };
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner).ends.remove(&pipe);
        end.map(|()| json!({ "ended": true }))
    }
}

/// A control connection that is about to become a stream.
pub(in crate::control) struct Pipe {
    number: u64,
    what: String,
    conn: Conn,
    end: watch::Sender<PipeEnd>,
}

impl Pipe {
    pub(in crate::control) fn data(&self) -> Value {
        json!({ "pipe": self.number })
    }

    pub(in crate::control) async fn run(self, from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin) {
        // Said before the socket closes, so that `pipe-end` finds it.
        let copied = pipe::copy(&self.conn, from, to).await;
        let end = copied.map_err(|broken| {
            match broken {
                pipe::Broken::Remote(failure) => Fault::from(failure),
                other => Fault::new(Code::Failed, other.to_string()),
            }
            .about(&self.what)
        });
        self.end.send_replace(Some(end));
    }
}
