//! A stream through a session, as tokio sees it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt as _;
use overlay::id::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::error::{failed, stopped, to_io};
use super::mobility::{Control, Update};
use crate::driver::{self, Conn, Portion, Stopped, Then};
use crate::stack::Failure;

/// `Sync`, too, so that a stream's verbs may be called while it is shared.
type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;

/// Taken from the session, or given to it, at once, in bytes.
const PORTION_BYTES: usize = 256 * 1024;
/// A stream that was shut down and dropped waits so long for the peer to take the rest, and to end its own direction (as FIN-WAIT-2 does).
const LINGER: Duration = Duration::from_secs(60);

/// A stream of bytes to a peer's service: reliable, in order, confidential, with two directions that end on their own.
///
/// Without [`activate_mobility`](Self::activate_mobility) it fails as a TCP connection does when an end moves: with `ConnectionReset`, or with
/// `TimedOut` when the peer is silent for 100 s.
///
/// `shutdown` ends the direction to the peer, who reads to its end; the other direction goes on. Writes return when the stream has taken the
/// bytes, not when the peer has: whoever has to know that reads until the peer ends, too. A stream that is dropped before `shutdown` is
/// reset, so that nobody takes a torn one for a whole one.
pub struct MobileStream {
    conn: Arc<Conn>,
    control: Control,
    peer: NodeId,
    arriving: Option<Waiting<Result<Portion, Stopped>>>,
    /// What came and was not read yet; of the first piece the front is taken away.
    pieces: VecDeque<Vec<u8>>,
    taken_bytes: usize,
    then: Then,
    /// A task, because what was taken goes on its way even if nobody polls again, and in an outage that takes long.
    leaving: Option<JoinHandle<io::Result<Vec<u8>>>>,
    /// An empty vector with room.
    spare: Vec<u8>,
    finished: bool,
    runtime: Handle,
}

impl MobileStream {
    /// A stream that both ends agreed on; fixed until it is made mobile.
    pub(super) async fn new(conn: Conn, handle: driver::Handle) -> io::Result<Self> {
        let id = conn.id();
        let peer = handle.with(move |stack, now| {
            let peer = stack.peer_of(id);
            stack.fix(id, now);
            peer
        });
        let peer = peer.await.map_err(stopped)?.ok_or_else(|| failed(conn.failure().unwrap_or(Failure::Reset)))?;
        let conn = Arc::new(conn);
        Ok(Self {
            control: Control::new(&conn, handle),
            conn,
            peer,
            arriving: None,
            pieces: VecDeque::new(),
            taken_bytes: 0,
            then: Then::More,
            leaving: None,
            spare: Vec::new(),
            finished: false,
            runtime: Handle::try_current().map_err(io::Error::other)?,
        })
    }

    /// Who is at the other end: its key, which the session has proven.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// The verbs below, for whoever splits the stream or gives it away.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// See [`Control::activate_mobility`].
    ///
    /// # Errors
    /// As there.
    pub async fn activate_mobility(&self) -> io::Result<()> {
        self.control.activate_mobility().await
    }

    /// See [`Control::update_address`].
    ///
    /// # Errors
    /// As there.
    pub async fn update_address(&self, update: Update) -> io::Result<()> {
        self.control.update_address(update).await
    }

    /// See [`Control::copy_to_interface`].
    ///
    /// # Errors
    /// As there.
    pub async fn copy_to_interface(&self, to: IpAddr) -> io::Result<()> {
        self.control.copy_to_interface(to).await
    }

    /// See [`Control::reset_timers`].
    ///
    /// # Errors
    /// As there.
    pub async fn reset_timers(&self) -> io::Result<()> {
        self.control.reset_timers().await
    }

    fn failure(&self) -> io::Error {
        failed(self.conn.failure().unwrap_or(Failure::Reset))
    }

    /// Copies what is there; false when nothing is.
    fn take(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let Some(rest) = self.pieces.front().and_then(|piece| piece.get(self.taken_bytes..)) else { return false };
        let bytes = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..bytes).unwrap_or_default());
        if bytes == rest.len() {
            self.pieces.pop_front();
            self.taken_bytes = 0;
        } else {
            self.taken_bytes += bytes;
        }
        true
    }

    /// Waits until what was written before has been taken.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(leaving) = &mut self.leaving {
            let left = ready!(leaving.poll_unpin(cx));
            self.leaving = None;
            self.spare = left.map_err(io::Error::other)??;
            self.spare.clear();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for MobileStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if buffer.remaining() == 0 || self.take(buffer) {
                return Poll::Ready(Ok(()));
            }
            match self.then {
                Then::More => {}
                Then::End => return Poll::Ready(Ok(())),
                Then::Gone => return Poll::Ready(Err(self.failure())),
            }
            let conn = Arc::clone(&self.conn);
            let arriving = self.arriving.get_or_insert_with(|| Box::pin(async move { conn.read(PORTION_BYTES).await }));
            let portion = ready!(arriving.poll_unpin(cx));
            self.arriving = None;
            let Portion { pieces, then } = portion.map_err(stopped)?;
            self.pieces.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
            self.then = then;
        }
    }
}

impl AsyncWrite for MobileStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.finished {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_left(cx))?;
        if self.conn.failure().is_some() {
            return Poll::Ready(Err(self.failure()));
        }
        let taken = bytes.get(..PORTION_BYTES).unwrap_or(bytes);
        if taken.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut portion = std::mem::take(&mut self.spare);
        portion.extend_from_slice(taken);
        let conn = Arc::clone(&self.conn);
        self.leaving = Some(self.runtime.spawn(async move { conn.write_all(portion).await.map_err(to_io) }));
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_left(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_left(cx))?;
        if !self.finished {
            self.conn.finish();
            self.finished = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for MobileStream {
    fn drop(&mut self) {
        if let Some(leaving) = &self.leaving {
            leaving.abort();
        }
        if self.finished && self.then == Then::More && self.conn.failure().is_none() {
            let lingering = linger(Arc::clone(&self.conn), self.arriving.take());
            self.runtime.spawn(async move { tokio::time::timeout(LINGER, lingering).await });
        }
    }
}

/// Reads what nobody wants until the peer ends its direction, which it does when it has read ours to its end, as a rule.
async fn linger(conn: Arc<Conn>, arriving: Option<Waiting<Result<Portion, Stopped>>>) {
    let mut next = arriving;
    loop {
        let portion = match next.take() {
            Some(arriving) => arriving.await,
            None => conn.read(PORTION_BYTES).await,
        };
        if !portion.is_ok_and(|portion| portion.then == Then::More) {
            return;
        }
    }
}
