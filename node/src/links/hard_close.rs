//! A muxer whose close ends.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::time::Sleep;

/// What was queued when a link is closed (a goodbye) has this long to get out.
const MAX_CLOSE: Duration = Duration::from_millis(100);

/// Yamux closes gracefully, and waits for ever when the neighbour does not read (rust-yamux#219): this gives up after `MAX_CLOSE`. It
/// does not wake those who wait on its streams either (rust-yamux#216); the lanes' readers are told by their link.
pub(super) struct HardClose<M> {
    muxer: M,
    limit: Option<Pin<Box<Sleep>>>,
}

impl<M> HardClose<M> {
    pub(super) fn new(muxer: M) -> Self {
        Self { muxer, limit: None }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for HardClose<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        Pin::new(&mut self.muxer).poll_inbound(cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<M::Substream, M::Error>> {
        Pin::new(&mut self.muxer).poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        if Pin::new(&mut self.muxer).poll_close(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let limit = self.limit.get_or_insert_with(|| Box::pin(tokio::time::sleep(MAX_CLOSE)));
        limit.as_mut().poll(cx).map(Ok)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        Pin::new(&mut self.muxer).poll(cx)
    }
}
