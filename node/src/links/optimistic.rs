//! A stream to whose protocol the other end may not have agreed yet.
//!
//! The dialling end of a stream writes before it hears that the other one speaks the protocol, which saves a round trip. Until then, the half that reads
//! works on what the half that writes uses, too, and that goes wrong in two ways when they belong to two tasks
//! (`multistream_select::Negotiated` 0.14 over `yamux::Stream` 0.14):
//!
//! * Reading flushes first, and what is written to remembers one task to wake: that of the reader then. A writer that waits for room
//!   is never called again (2 to 3 of 100 links on which much was sent at once). So both are woken, until the first bytes have been read.
//! * When reading fails, every later call panics. So nothing is asked of the stream then.
//!
//! To be wrapped before it is split, so that no call of the other half comes in between.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use futures::{AsyncRead, AsyncWrite};

pub(super) struct Optimistic<S> {
    stream: S,
    stage: Stage,
    halves: Arc<Halves>,
    /// Wakes both.
    both: Waker,
}

enum Stage {
    /// Nothing was read yet.
    Unconfirmed,
    Confirmed,
    /// The first read failed, or a later one.
    Failed,
}

/// The tasks of the two halves.
#[derive(Default)]
struct Halves {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wake for Halves {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl<S: Unpin> Optimistic<S> {
    pub(super) fn new(stream: S) -> Self {
        let halves = Arc::<Halves>::default();
        Self { stream, stage: Stage::Unconfirmed, both: Arc::clone(&halves).into(), halves }
    }

    /// Asks the stream for something, on behalf of one half.
    fn ask<T>(
        &mut self,
        half: fn(&Halves) -> &AtomicWaker,
        context: &mut Context<'_>,
        what: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let stream = Pin::new(&mut self.stream);
        match self.stage {
            Stage::Unconfirmed => {
                half(&self.halves).register(context.waker());
                what(stream, &mut Context::from_waker(&self.both))
            }
            Stage::Confirmed => what(stream, context),
            Stage::Failed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Optimistic<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let read = this.ask(|halves| &halves.reader, context, |stream, context| stream.poll_read(context, bytes));
        match &read {
            Poll::Ready(Ok(_)) => this.stage = Stage::Confirmed,
            Poll::Ready(Err(_)) => this.stage = Stage::Failed,
            Poll::Pending => {}
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Optimistic<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().ask(|halves| &halves.writer, context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().ask(|halves| &halves.writer, context, |stream, context| stream.poll_flush(context))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().ask(|halves| &halves.writer, context, |stream, context| stream.poll_close(context))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};

    use super::*;

    /// Like libp2p's, before the other end has agreed: both halves wait for room to write, in the same place, and after a failure each call panics.
    #[derive(Default)]
    struct Fragile {
        waiting: Arc<AtomicWaker>,
        room: bool,
        failed: bool,
    }

    impl Fragile {
        fn wait_for_room(&self, context: &Context<'_>) -> Poll<()> {
            assert!(!self.failed);
            self.waiting.register(context.waker());
            if self.room { Poll::Ready(()) } else { Poll::Pending }
        }
    }

    impl AsyncRead for Fragile {
        fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            self.wait_for_room(context).map(|()| {
                self.failed = true;
                Err(io::ErrorKind::UnexpectedEof.into())
            })
        }
    }

    impl AsyncWrite for Fragile {
        fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.wait_for_room(context).map(|()| Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.wait_for_room(context).map(Ok)
        }

        fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.wait_for_room(context).map(Ok)
        }
    }

    /// How often a task was woken.
    #[derive(Default)]
    struct Task(AtomicU32);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_writer_is_woken_although_the_reader_waits_in_the_same_place() {
        let waiting = Arc::<AtomicWaker>::default();
        let stream = Fragile { waiting: Arc::clone(&waiting), ..Fragile::default() };
        let (mut read_half, mut write_half) = Optimistic::new(stream).split();
        let [reader, writer] = [(); 2].map(|()| Arc::<Task>::default());
        let [read_waker, write_waker] = [&reader, &writer].map(|task| Waker::from(Arc::clone(task)));
        let write = Pin::new(&mut write_half).poll_write(&mut Context::from_waker(&write_waker), b"bytes");
        assert!(write.is_pending());
        let read = Pin::new(&mut read_half).poll_read(&mut Context::from_waker(&read_waker), &mut [0; 8]);
        assert!(read.is_pending());
        waiting.wake();
        assert_eq!([reader, writer].map(|task| task.0.load(Ordering::Relaxed)), [1, 1]);
    }

    #[test]
    fn nothing_is_asked_of_a_stream_that_failed_to_read() {
        let stream = Fragile { room: true, ..Fragile::default() };
        let (mut read_half, mut write_half) = Optimistic::new(stream).split();
        write_half.write_all(b"before").now_or_never().unwrap().unwrap();
        let mut bytes = [0; 8];
        assert_eq!(
            read_half.read(&mut bytes).now_or_never().unwrap().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
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
