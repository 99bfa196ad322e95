//! One application connection, as the local side sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use overlay::id::NodeId;
use overlay::time::Now;
use tokio::sync::{Notify, mpsc, watch};

use super::handle::{Error, Request, Stopped, with};
use crate::stack::{ConnId, Failure, Readout, Stack};

/// How long a last answer may take, from the first byte that the session is to take until the peer has it.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// One application connection through a session. Both directions may be used at the same time, each by one task.
///
/// Dropping it resets the connection, unless both directions have ended.
pub struct Conn {
    id: ConnId,
    signals: Arc<Signals>,
    requests: mpsc::UnboundedSender<Request>,
    finished: AtomicBool,
    ended: AtomicBool,
}

impl Conn {
    pub(super) fn new(id: ConnId, signals: Arc<Signals>, requests: mpsc::UnboundedSender<Request>) -> Self {
        Self { id, signals, requests, finished: AtomicBool::new(false), ended: AtomicBool::new(false) }
    }

    /// Its number in this process.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Waits until the other side's service accepted.
    ///
    /// # Errors
    /// Why it did not.
    pub async fn opened(&self) -> Result<(), Error> {
        let mut state = self.signals.state.subscribe();
        let state = state.wait_for(|state| !matches!(state, ConnState::Opening)).await.map_err(|_| Stopped)?;
        match *state {
            ConnState::Opening | ConnState::Open => Ok(()),
            ConnState::Failed(why) => Err(why.into()),
            ConnState::Stopped => Err(Stopped.into()),
        }
    }

    /// Why the connection is gone, if it is.
    pub fn failure(&self) -> Option<Failure> {
        match *self.signals.state.borrow() {
            ConnState::Failed(why) => Some(why),
            _ => None,
        }
    }

    /// Waits for up to `max` bytes, or the end.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn read(&self, max: usize) -> Result<Portion, Stopped> {
        let conn = self.id;
        loop {
            let (pieces, then) = with(&self.requests, move |stack, now| read_pieces(stack, conn, max, now)).await?;
            let then = match then {
                Readout::End => Then::End,
                Readout::Gone => Then::Gone,
                Readout::Pending if pieces.is_empty() && self.failure().is_some() => return Ok(Portion::gone()),
                Readout::Pending if pieces.is_empty() => {
                    self.signals.readable.notified().await;
                    continue;
                }
                Readout::Pending | Readout::Bytes(_) => Then::More,
            };
            if then != Then::More {
                self.ended.store(true, Ordering::Relaxed);
            }
            return Ok(Portion { pieces, then });
        }
    }

    /// All that the peer says until it ends its direction; none when that is more than `most` bytes, or the connection breaks.
    pub async fn read_to_end(&self, most: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let Portion { pieces, then } = self.read(most.saturating_add(1)).await.ok()?;
            bytes.extend(pieces.into_iter().flatten());
            match then {
                _ if bytes.len() > most => return None,
                Then::More => {}
                Then::End => return Some(bytes),
                Then::Gone => return None,
            }
        }
    }

    /// Returns when the session has taken all of `bytes`, and gives the vector back.
    ///
    /// # Errors
    /// When the connection or the node is gone.
    pub async fn write_all(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        let conn = self.id;
        let mut taken = 0;
        while taken < bytes.len() {
            let more;
            (bytes, more) = with(&self.requests, move |stack, now| {
                let more = stack.write(conn, bytes.get(taken..).unwrap_or_default(), now);
                (bytes, more)
            })
            .await?;
            taken = taken.saturating_add(more);
            if let Some(why) = self.failure() {
                return Err(why.into());
            }
            if taken < bytes.len() {
                self.signals.writable.notified().await;
            }
        }
        Ok(bytes)
    }

    /// No more will be written; the other direction goes on.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
        let conn = self.id;
        let _ = self.requests.send(Request::Call(Box::new(move |stack, now| stack.finish(conn, now))));
    }

    /// Says `answer`, the last word of this side, and gives the peer half a minute to take it; then the connection is reset, if it is still there. For
    /// answers to anybody: a peer that is away before it has them, or never says that it has them, would keep its session in use.
    pub async fn answer(self, answer: Vec<u8>) {
        let saying = async {
            if self.write_all(answer).await.is_ok() {
                self.finish();
                // Nothing tells that the peer has it.
                std::future::pending::<()>().await;
            }
        };
        let _ = tokio::time::timeout(ANSWER_LIMIT, saying).await;
        self.reset();
    }

    /// Ends both directions abruptly: the peer takes for a service what is a place to listen, and is told so.
    pub fn reset_use_of_place(&self) {
        let conn = self.id;
        let _ = self.requests.send(Request::Call(Box::new(move |stack, now| stack.reset_use_of_place(conn, now))));
    }

    /// Ends both directions abruptly.
    pub fn reset(&self) {
        let conn = self.id;
        let _ = self.requests.send(Request::Call(Box::new(move |stack, now| stack.reset(conn, now))));
    }
}

/// What [`Conn::read`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Portion {
    /// Bytes, in order, in the pieces in which they came.
    pub pieces: Vec<Vec<u8>>,
    /// What comes after them.
    pub then: Then,
}

/// What comes after the bytes that were read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// There may be more.
    More,
    /// The peer finished its direction.
    End,
    /// The connection is gone.
    Gone,
}

impl Portion {
    const fn gone() -> Self {
        Self { pieces: Vec::new(), then: Then::Gone }
    }
}

/// All pieces that there are, up to `max` bytes, and what the last look found.
fn read_pieces(stack: &mut Stack, conn: ConnId, max: usize, now: Now) -> (Vec<Vec<u8>>, Readout) {
    let (mut pieces, mut left) = (Vec::new(), max);
    loop {
        match stack.read(conn, left, now) {
            Readout::Bytes(piece) => {
                left = left.saturating_sub(piece.len());
                pieces.push(piece);
                if left == 0 {
                    return (pieces, Readout::Pending);
                }
            }
            end => return (pieces, end),
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let both_ended = self.finished.load(Ordering::Relaxed) && self.ended.load(Ordering::Relaxed);
        let _ = self.requests.send(Request::Forget { conn: self.id, reset: !both_ended });
    }
}

/// A connection that a permitted peer wants to one of our services. Dropping it resets the connection.
pub struct Incoming {
    /// The connection; usable after [`Incoming::accept`].
    pub(super) conn: Conn,
    /// Who asks.
    pub peer: NodeId,
    /// For which service.
    pub service: String,
    /// Where that is forwarded to (HOST:PORT).
    pub forward: String,
}

impl Incoming {
    /// Its number in this process.
    pub fn id(&self) -> ConnId {
        self.conn.id
    }

    /// The local service answered.
    pub fn accept(self) -> Conn {
        let id = self.conn.id;
        let _ = self.conn.requests.send(Request::Call(Box::new(move |stack, now| stack.accept(id, now))));
        self.conn
    }

    /// The local service does not answer.
    pub fn refuse(self) {
        let id = self.conn.id;
        let _ = self.conn.requests.send(Request::Call(Box::new(move |stack, now| stack.refuse(id, now))));
        // The drop that follows finds the connection gone already.
    }
}

/// What the loop tells a [`Conn`]. One waiter for each direction, so `Notify` keeps the one permit that is needed.
pub(super) struct Signals {
    state: watch::Sender<ConnState>,
    pub(super) readable: Notify,
    pub(super) writable: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ConnState {
    Opening,
    Open,
    Failed(Failure),
    Stopped,
}

impl Signals {
    pub(super) fn new(state: ConnState) -> Self {
        Self { state: watch::Sender::new(state), readable: Notify::new(), writable: Notify::new() }
    }

    pub(super) fn enter(&self, state: ConnState) {
        self.state.send_replace(state);
        self.readable.notify_one();
        self.writable.notify_one();
    }
}

#[cfg(test)]
impl Incoming {
    /// One from `peer` that leads nowhere.
    pub(crate) fn from_nowhere(peer: NodeId) -> Self {
        let signals = Arc::new(Signals::new(ConnState::Open));
        let conn = Conn::new(ConnId(0), signals, mpsc::unbounded_channel().0);
        Self { conn, peer, service: String::new(), forward: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use overlay::id::Identity;

    use super::*;
    use crate::stack::Config;

    #[tokio::test(start_paused = true)]
    async fn who_lets_the_session_wait_before_the_answer_loses_the_connection() {
        let now = Now::default();
        let mut stack = Stack::new(Config::default(), Identity::from_secret(&[1; 32]), [2; 32], [3; 32], now).unwrap();
        let (requests, mut asked) = mpsc::unbounded_channel();
        let conn = Conn::new(ConnId(1), Arc::new(Signals::new(ConnState::Open)), requests);
        let answering = tokio::spawn(conn.answer(b"word".to_vec()));
        let mut resets = Vec::new();
        let serving = async {
            while let Some(request) = asked.recv().await {
                match request {
                    // The stack takes nothing, as from a connection in a session that is suspended.
                    Request::Call(call) => call(&mut stack, now),
                    Request::Forget { reset, .. } => resets.push(reset),
                    _ => {}
                }
            }
        };
        assert!(tokio::time::timeout(ANSWER_LIMIT * 2, serving).await.is_ok(), "it waits for ever");
        answering.await.unwrap();
        assert_eq!(resets, [true]);
    }
}
