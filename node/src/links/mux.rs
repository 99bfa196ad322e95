//! Yamux with limits of our own.
//!
//! `libp2p::yamux` lets the windows of one connection grow to 1 GiB. They grow by a round-trip time that the neighbour tells, who has only to answer pings
//! late: so anybody with a link could have this node keep that much for him. libp2p does not pass yamux's limit on, so this is its adapter
//! once more, with both limits set.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use yamux::{Connection, ConnectionError, DEFAULT_CREDIT, Mode, Stream};

/// Streams of one link: two lanes, and each way one of ping and one of identify, and some that are about to end. One more does
/// not open, and the neighbour is told to go.
const MAX_STREAMS: usize = 10;
/// Bytes of one link that came and were not read yet, of all its streams.
///
/// Each stream may have Yamux's first window, 256 KiB, out of it; the rest is for those that are read fast. 1.75 MiB in a round trip of 40 ms would be 367 Mbit/s, and bulk data has a lane of its own beside it.
const MAX_UNREAD_BYTES: usize = 4 * 1024 * 1024;

const _: () = assert!(MAX_UNREAD_BYTES >= MAX_STREAMS * DEFAULT_CREDIT as usize, "yamux would panic");

/// Yamux as libp2p speaks it, with the limits of this module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limited;

impl UpgradeInfo for Limited {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Limited {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Muxer<C>, Infallible>>;

    fn upgrade_inbound(self, connection: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(connection, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Limited {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Muxer<C>, Infallible>>;

    fn upgrade_outbound(self, connection: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(connection, Mode::Client)))
    }
}

/// The streams of one connection.
pub(super) struct Muxer<C> {
    connection: Connection<C>,
    /// Opened by the neighbour while only what is open was asked for: yamux does both in one. [`MAX_STREAMS`] bounds them.
    opened: VecDeque<Stream>,
    /// Of who waits for these.
    waiting: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(connection: C, mode: Mode) -> Self {
        let mut limits = yamux::Config::default();
        limits.set_max_num_streams(MAX_STREAMS).set_max_connection_receive_window(Some(MAX_UNREAD_BYTES));
        Self { connection: Connection::new(connection, limits, mode), opened: VecDeque::new(), waiting: None }
    }

    fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let opened = ready!(self.connection.poll_next_inbound(cx)).unwrap_or(Err(ConnectionError::Closed));
        Poll::Ready(opened.map_err(plain))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        if let Some(stream) = self.opened.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let opened = self.poll_opened(cx);
        if opened.is_pending() {
            self.waiting = Some(cx.waker().clone());
        }
        opened
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        self.connection.poll_new_outbound(cx).map_err(plain)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_close(cx).map_err(plain)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let stream = ready!(self.poll_opened(cx))?;
        self.opened.push_back(stream);
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
        // There may be more to do on this connection; others have their turn before.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn plain(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests;
