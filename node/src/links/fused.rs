//! A stream that is left alone once reading it has failed.
//!
//! The dialling end of a stream writes before the other has agreed to its protocol. If the connection ends in between, the read that notices
//! leaves libp2p's stream in a state in which every later call panics (`multistream_select::Negotiated`, 0.14), also from the half that
//! another task writes to. To be wrapped before it is split, so that no call comes between the failure and what is known of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};

pub(super) struct Fused<S> {
    stream: S,
    failed: bool,
}

impl<S: Unpin> Fused<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, failed: false }
    }

    fn alive(self: Pin<&mut Self>) -> io::Result<Pin<&mut S>> {
        let this = self.get_mut();
        if this.failed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(Pin::new(&mut this.stream)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Fused<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = ready!(self.as_mut().alive()?.poll_read(context, bytes));
        self.failed = read.is_err();
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fused<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.alive()?.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive()?.poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive()?.poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};

    use super::*;

    /// Like libp2p's: no call after a read that failed.
    #[derive(Default)]
    struct Fragile {
        failed: bool,
    }

    impl AsyncRead for Fragile {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            assert!(!self.failed);
            self.failed = true;
            Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
        }
    }

    impl AsyncWrite for Fragile {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            assert!(!self.failed);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            assert!(!self.failed);
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            assert!(!self.failed);
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn nothing_is_asked_of_a_stream_that_failed_to_read() {
        let (mut read_half, mut write_half) = Fused::new(Fragile::default()).split();
        write_half.write_all(b"before").now_or_never().unwrap().unwrap();
        let mut bytes = [0; 8];
        assert!(read_half.read(&mut bytes).now_or_never().unwrap().is_err());
        for ended in [
            write_half.write_all(b"after").now_or_never().unwrap(),
            write_half.flush().now_or_never().unwrap(),
            write_half.close().now_or_never().unwrap(),
            read_half.read(&mut bytes).now_or_never().unwrap().map(|_| ()),
        ] {
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
