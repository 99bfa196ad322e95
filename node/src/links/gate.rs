//! Flight mode: a gate below Noise through which every byte of every link passes.
//!
//! A closed gate behaves as a cut cable does, seen from both ends. Our end fails at once: every read and write is an
//! error, so that libp2p tears its connections down. The other end hears nothing more, not even a FIN or RST: a muted
//! socket is never closed but kept in a graveyard. (What the kernel had taken before may still be delivered.)

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BufMut as _;
use futures::task::AtomicWaker;
use futures::{AsyncRead, AsyncWrite};
use libp2p::tcp::tokio::TcpStream;
use tokio::io::ReadBuf;
use tokio::sync::watch;

use super::transport;

/// Muted sockets that are kept open; the oldest is closed for real when there are more. Each costs a file descriptor.
const MAX_GRAVES: usize = 256;

/// The gate of one node. Clones are the same gate.
#[derive(Clone)]
pub(super) struct Gate(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Changes when the gate closes: dials under way give up.
    closings: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    closed: bool,
    bind: Option<IpAddr>,
    sockets: BTreeMap<u64, Arc<Switch>>,
    next_socket: u64,
    graveyard: VecDeque<std::net::TcpStream>,
}

impl Gate {
    pub(super) fn open() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), closings: watch::Sender::new(0) }))
    }

    /// Mutes all sockets, and those to come until [`Gate::reopen`].
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for switch in std::mem::take(&mut state.sockets).into_values() {
            switch.mute();
        }
        drop(state);
        self.0.closings.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// New sockets work again; outgoing ones come from `bind`, if given.
    pub(super) fn reopen(&self, bind: Option<IpAddr>) {
        let mut state = self.lock();
        state.closed = false;
        state.bind = bind;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Where outgoing connections must come from.
    pub(super) fn bind(&self) -> Option<IpAddr> {
        self.lock().bind
    }

    /// Mutes the sockets of a local address that is gone.
    pub(super) fn mute_ip(&self, ip: IpAddr) {
        self.lock().sockets.retain(|_, switch| {
            let keep = switch.local_ip != Some(ip);
            if !keep {
                switch.mute();
            }
            keep
        });
    }

    /// The local addresses of sockets that lead to others than `own`: these stay within this machine, whatever its interfaces do.
    pub(super) fn leading_out(&self, own: &[IpAddr]) -> BTreeSet<IpAddr> {
        let state = self.lock();
        let out = state.sockets.values().filter(|switch| switch.remote_ip.is_some_and(|ip| !own.contains(&ip)));
        out.filter_map(|switch| switch.local_ip).collect()
    }

    /// Resolves when the gate closes after this call.
    pub(super) fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closings = self.0.closings.subscribe();
        async move {
            // The sender lives as long as the node; without it there is nothing to wait for.
            let _ = closings.changed().await;
        }
    }

    /// Puts a new socket behind the gate.
    pub(super) fn guard(&self, stream: TcpStream) -> GatedStream {
        let local_ip = stream.0.local_addr().ok().map(|address| address.ip());
        let remote_ip = stream.0.peer_addr().ok().map(|address| address.ip());
        let switch =
            Arc::new(Switch { muted: AtomicBool::new(false), local_ip, remote_ip, wakers: Default::default() });
        let mut state = self.lock();
        let number = state.next_socket;
        state.next_socket = number.wrapping_add(1);
        if state.closed {
            switch.mute();
        } else {
            state.sockets.insert(number, Arc::clone(&switch));
        }
        GatedStream { stream: Some(stream), switch, number, gate: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Switch {
    muted: AtomicBool,
    local_ip: Option<IpAddr>,
    remote_ip: Option<IpAddr>,
    /// Of the reader and of the writer: the socket's own readiness never fires again.
    wakers: [AtomicWaker; 2],
}

impl Switch {
    fn mute(&self) {
        self.muted.store(true, Ordering::SeqCst);
        for waker in &self.wakers {
            waker.wake();
        }
    }

    fn is_muted(&self) -> bool {
        self.muted.load(Ordering::SeqCst)
    }

    /// Runs `operation` unless muted, and sees to it that being muted wakes who waits for it.
    fn guard<R>(
        &self,
        cx: &mut Context<'_>,
        direction: usize,
        operation: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if self.is_muted() {
            return aborted();
        }
        let outcome = operation(cx);
        if outcome.is_pending() {
            if let Some(waker) = self.wakers.get(direction) {
                waker.register(cx.waker());
            }
            // Muted between the first look and the registration: nobody would wake us.
            if self.is_muted() {
                return aborted();
            }
        }
        outcome
    }
}

/// A TCP stream behind the gate.
pub(super) struct GatedStream {
    /// None only while it is dropped.
    stream: Option<TcpStream>,
    switch: Arc<Switch>,
    number: u64,
    gate: Gate,
}

const READER: usize = 0;
const WRITER: usize = 1;

impl GatedStream {
    fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        direction: usize,
        operation: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let Some(stream) = &mut self.stream else { return aborted() };
        self.switch.guard(cx, direction, |cx| operation(Pin::new(stream), cx))
    }

    /// The kernel gives up on the other side when it acknowledges nothing for so long.
    pub(super) fn limit_silence(&self, limit: Duration) {
        if let Some(stream) = &self.stream {
            transport::limit_silence(&stream.0, limit);
        }
    }

    /// Waits for bytes and appends at most `most` of them. One reader at a time; beside it, one writer.
    ///
    /// # Errors
    /// The socket's; also when the gate closes, or the other side has closed.
    pub(super) async fn read_into(&self, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        let read = self.ready(READER, |stream, cx| {
            poll_io(|| stream.poll_read_ready(cx), || stream.try_read_buf(&mut buffer.limit(most)))
        });
        match read.await? {
            0 if most > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => Ok(bytes),
        }
    }

    /// The first byte that is to be read next; `None` when the other side has closed.
    ///
    /// # Errors
    /// The socket's; also when the gate closes.
    pub(super) async fn peek(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        let seen = self.ready(READER, |stream, cx| stream.poll_peek(cx, &mut ReadBuf::new(&mut byte))).await?;
        Ok(byte.first().copied().filter(|_| seen > 0))
    }

    /// Waits until the socket takes bytes, and says how many.
    ///
    /// # Errors
    /// The socket's; also when the gate closes.
    pub(super) async fn write_some(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let write = self
            .ready(WRITER, |stream, cx| poll_io(|| stream.poll_write_ready(cx), || stream.try_write_vectored(slices)));
        match write.await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            bytes => Ok(bytes),
        }
    }

    async fn ready<R>(
        &self,
        direction: usize,
        mut operation: impl FnMut(&tokio::net::TcpStream, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> io::Result<R> {
        poll_fn(|cx| {
            let Some(stream) = &self.stream else { return aborted() };
            self.switch.guard(cx, direction, |cx| operation(&stream.0, cx))
        })
        .await
    }
}

fn aborted<R>() -> Poll<io::Result<R>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the network is down")))
}

/// Readiness is a guess: the operation may find that there is none.
fn poll_io<R>(
    mut ready: impl FnMut() -> Poll<io::Result<()>>,
    mut operation: impl FnMut() -> io::Result<R>,
) -> Poll<io::Result<R>> {
    loop {
        std::task::ready!(ready())?;
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

impl AsyncRead for GatedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, READER, |stream, cx| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for GatedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, WRITER, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, WRITER, |stream, cx| stream.poll_write_vectored(cx, slices))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, WRITER, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // An error too when muted: a FIN must not get out.
        self.poll(cx, WRITER, |stream, cx| stream.poll_close(cx))
    }
}

impl Drop for GatedStream {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.sockets.remove(&self.number);
        if !self.switch.is_muted() {
            return;
        }
        // `into_std` takes the socket out of the runtime's poll set: nothing of it is ever read again.
        let Some(Ok(stream)) = self.stream.take().map(|stream| stream.0.into_std()) else { return };
        if state.graveyard.len() >= MAX_GRAVES {
            state.graveyard.pop_front();
        }
        state.graveyard.push_back(stream);
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn pair() -> (tokio::net::TcpStream, tokio::net::TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    #[tokio::test]
    async fn a_muted_socket_fails_here_and_is_silent_there() {
        let gate = Gate::open();
        let (ours, mut theirs) = pair().await;
        let mut ours = gate.guard(TcpStream(ours));
        ours.write_all(b"before").await.unwrap();
        let mut buffer = [0; 6];
        theirs.read_exact(&mut buffer).await.unwrap();

        // A read that waits already is woken.
        let reading = tokio::spawn(async move {
            let mut buffer = [0; 1];
            let result = ours.read(&mut buffer).await;
            (ours, result)
        });
        tokio::task::yield_now().await;
        gate.close();
        let (mut ours, result) = reading.await.unwrap();
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(ours.write(b"after").await.is_err());
        assert!(ours.close().await.is_err());
        drop(ours);
        theirs.write_all(b"still there?").await.unwrap();
        tokio::task::yield_now().await;
        assert!(theirs.read(&mut buffer).now_or_never().is_none(), "neither EOF nor RST");
        assert_eq!(gate.lock().graveyard.len(), 1);
    }

    #[tokio::test]
    async fn what_bulk_lanes_use_is_muted_too() {
        let gate = Gate::open();
        let (ours, mut theirs) = pair().await;
        let ours = Arc::new(gate.guard(TcpStream(ours)));
        let reader = Arc::clone(&ours);
        let reading = tokio::spawn(async move { reader.read_into(&mut Vec::new(), 1).await });
        tokio::task::yield_now().await;
        gate.close();
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(ours.write_some(&[io::IoSlice::new(b"after")]).await.is_err());
        theirs.write_all(b"x").await.unwrap();
        assert!(ours.peek().await.is_err() && ours.read_into(&mut Vec::new(), 1).await.is_err());
        drop(ours);
        tokio::task::yield_now().await;
        assert!(theirs.read(&mut [0; 5]).now_or_never().is_none(), "neither bytes nor EOF nor RST");
    }

    #[tokio::test]
    async fn only_the_sockets_of_a_lost_address_are_muted() {
        let gate = Gate::open();
        let (ours, _theirs) = pair().await;
        let mut ours = gate.guard(TcpStream(ours));
        gate.mute_ip("127.0.0.2".parse().unwrap());
        assert!(ours.write(b"fine").await.is_ok());
        gate.mute_ip("127.0.0.1".parse().unwrap());
        assert!(ours.write(b"gone").await.is_err());
    }

    #[tokio::test]
    async fn graves_are_bounded() {
        let gate = Gate::open();
        gate.close();
        for _ in 0..MAX_GRAVES + 2 {
            let (ours, _theirs) = pair().await;
            drop(gate.guard(TcpStream(ours)));
        }
        assert_eq!(gate.lock().graveyard.len(), MAX_GRAVES);
        assert!(gate.lock().sockets.is_empty());
    }
}
