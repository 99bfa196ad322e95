//! One application connection, as the local side sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use overlay::id::NodeId;
use tokio::sync::{Notify, mpsc, watch};

use super::handle::{Error, Request, Stopped, with};
use crate::stack::{ConnId, Failure, Readout};

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

    /// Waits for up to `max` bytes. Never [`Readout::Pending`].
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn read(&self, max: usize) -> Result<Readout, Stopped> {
        let conn = self.id;
        loop {
            match with(&self.requests, move |stack, now| stack.read(conn, max, now)).await? {
                Readout::Pending if self.failure().is_some() => return Ok(Readout::Gone),
                Readout::Pending => self.signals.readable.notified().await,
                Readout::Bytes(bytes) => return Ok(Readout::Bytes(bytes)),
                end @ (Readout::End | Readout::Gone) => {
                    self.ended.store(true, Ordering::Relaxed);
                    return Ok(end);
                }
            }
        }
    }

    /// Returns when the session has taken all of `bytes`.
    ///
    /// # Errors
    /// When the connection or the node is gone.
    pub async fn write_all(&self, bytes: &[u8]) -> Result<(), Error> {
        let conn = self.id;
        let mut rest = bytes.to_vec();
        let mut taken = 0;
        while taken < rest.len() {
            let (bytes, more) = with(&self.requests, move |stack, now| {
                let more = stack.write(conn, rest.get(taken..).unwrap_or_default(), now);
                (rest, more)
            })
            .await?;
            rest = bytes;
            taken = taken.saturating_add(more);
            if let Some(why) = self.failure() {
                return Err(why.into());
            }
            if taken < rest.len() {
                self.signals.writable.notified().await;
            }
        }
        Ok(())
    }

    /// No more will be written; the other direction goes on.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Relaxed);
        let conn = self.id;
        let _ = self.requests.send(Request::Call(Box::new(move |stack, now| stack.finish(conn, now))));
    }

    /// Ends both directions abruptly.
    pub fn reset(&self) {
        let conn = self.id;
        let _ = self.requests.send(Request::Call(Box::new(move |stack, now| stack.reset(conn, now))));
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
