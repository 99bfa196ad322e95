//! The applications at both ends: plain TCP programs inside the harness, outside the nodes.
//!
//! A client says in its first byte what it wants: bytes out of memory, or an echo. The bytes repeat a pattern whose length is a prime, so
//! that whatever is lost, doubled or swapped on the way, in pieces of any usual size, does not fit at the place where it arrives.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::wait::{Result, Trouble, io};

/// Length of the pattern: the first prime above 2^20.
const PATTERN_BYTES: usize = 1_048_583;
/// Bytes written and read at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Where only the ends of what a read brought are compared, so many bytes of each.
const EDGE_BYTES: usize = 32;
/// What asks for bytes; their number follows, eight bytes, little endian.
const SEND: u8 = b'S';
/// What asks for an echo of everything that follows.
const ECHO: u8 = b'E';
/// Nothing in a benchmark takes longer between two reads: a limit for what hangs.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// A thread of the server needs little more than its buffer, which is on the heap.
const STACK_BYTES: usize = 128 * 1024;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut pattern = vec![0; PATTERN_BYTES];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut pattern);
    pattern
});

/// The running server; ends when dropped.
pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves at `listener`.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn start(listener: TcpListener) -> Result<Self> {
        let address = listener.local_addr().map_err(io("server"))?;
        LazyLock::force(&PATTERN);
        let stop = Arc::new(AtomicBool::new(false));
        let acceptor = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || accept_all(&listener, &stop))
        };
        Ok(Self { address, stop, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // It looks at the flag when somebody comes.
        let woken = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take().filter(|_| woken.is_ok()) {
            let _ = acceptor.join();
        }
    }
}

fn accept_all(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let Ok((stream, _)) = listener.accept() else { return };
        // A client that goes away ends its own thread only; without a thread it sees its connection closed.
        let _ = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || drop(serve(stream)));
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wish = [0];
    stream.read_exact(&mut wish)?;
    match wish {
        [SEND] => {
            let mut count = [0; 8];
            stream.read_exact(&mut count)?;
            send(&mut stream, u64::from_le_bytes(count))
        }
        [ECHO] => {
            // An echo is small; what waits for one for long shall not cost the harness much.
            let mut buffer = [0; 256];
            loop {
                match stream.read(&mut buffer)? {
                    0 => return stream.shutdown(Shutdown::Write),
                    read => stream.write_all(buffer.get(..read).unwrap_or_default())?,
                }
            }
        }
        _ => stream.shutdown(Shutdown::Both),
    }
}

fn send(stream: &mut TcpStream, bytes: u64) -> std::io::Result<()> {
    let mut sent = 0;
    while sent < bytes {
        let piece = expected(sent, usize::try_from(bytes - sent).unwrap_or(usize::MAX));
        stream.write_all(piece)?;
        sent += piece.len() as u64;
    }
    stream.shutdown(Shutdown::Write)
}

/// What belongs at this offset: at most `len` bytes, and no more than a buffer.
pub fn expected(offset: u64, len: usize) -> &'static [u8] {
    let start = usize::try_from(offset % PATTERN_BYTES as u64).unwrap_or_default();
    let rest = PATTERN.get(start..).unwrap_or_default();
    rest.get(..len.min(BUFFER_BYTES)).unwrap_or(rest)
}

/// How closely a download looks at what arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// At every byte.
    Every,
    /// At the first and last bytes that each read brings, which costs no time worth measuring and still finds all that is out of place.
    Edges,
}

/// Connects to `address`, asks for `bytes`, and says how long it took until all of them were there.
///
/// # Errors
/// When they do not come, or are others.
pub fn download(address: SocketAddr, bytes: u64, look: Look) -> Result<Duration> {
    let what = || format!("download from {address}");
    let mut buffer = vec![0; BUFFER_BYTES];
    let start = Instant::now();
    let mut stream = connect(address)?;
    let mut request = vec![SEND];
    request.extend_from_slice(&bytes.to_le_bytes());
    stream.write_all(&request).map_err(io(what()))?;
    let mut held = 0;
    loop {
        let read = stream.read(&mut buffer).map_err(io(what()))?;
        let piece = buffer.get(..read).unwrap_or_default();
        if read == 0 || !fits(held, piece, look) {
            let why = if read == 0 { "the stream ended" } else { "other bytes than were sent arrived" };
            return Err(Trouble::new(format!("{}: {why}, after {held} of {bytes} bytes", what())));
        }
        held += read as u64;
        if held >= bytes {
            break;
        }
    }
    let took = start.elapsed();
    match stream.read(&mut buffer).map_err(io(what()))? {
        0 if held == bytes => Ok(took),
        more => Err(Trouble::new(format!("{}: {} bytes instead of {bytes}", what(), held + more as u64))),
    }
}

/// Whether `piece` is what belongs at `offset`.
fn fits(offset: u64, piece: &[u8], look: Look) -> bool {
    let all = |offset: u64, piece: &[u8]| {
        let (mut offset, mut rest) = (offset, piece);
        while !rest.is_empty() {
            let belongs = expected(offset, rest.len());
            let Some(after) = rest.strip_prefix(belongs) else { return false };
            (offset, rest) = (offset + belongs.len() as u64, after);
        }
        true
    };
    if look == Look::Every || piece.len() <= 2 * EDGE_BYTES {
        return all(offset, piece);
    }
    let last_at = piece.len() - EDGE_BYTES;
    let (first, last) = (piece.get(..EDGE_BYTES).unwrap_or_default(), piece.get(last_at..).unwrap_or_default());
    all(offset, first) && all(offset + last_at as u64, last)
}

/// A connection on which everything comes back.
pub struct Echo(TcpStream);

impl Echo {
    /// Opens it, and returns when the first byte has come back.
    ///
    /// # Errors
    /// When it does not.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let mut stream = connect(address)?;
        stream.write_all(&[ECHO, b'?']).map_err(io("echo"))?;
        let mut answer = [0];
        stream.read_exact(&mut answer).map_err(io(format!("echo from {address}")))?;
        if answer == *b"?" { Ok(Self(stream)) } else { Err(Trouble::new("another byte came back than was sent")) }
    }

    /// Sends `message` and waits until it is back.
    ///
    /// # Errors
    /// When it does not come back, or not as it was.
    pub fn round<const N: usize>(&mut self, message: &[u8; N]) -> Result<()> {
        self.0.write_all(message).map_err(io("echo"))?;
        let mut answer = [0; N];
        self.0.read_exact(&mut answer).map_err(io("echo"))?;
        if answer == *message { Ok(()) } else { Err(Trouble::new("other bytes came back than were sent")) }
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).map_err(io(format!("connecting to {address}")))?;
    let set = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(SILENCE_LIMIT)));
    set.map_err(io(format!("connecting to {address}"))).map(|()| stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::start(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
    }

    #[test]
    fn a_download_and_an_echo_are_exact() {
        let server = server();
        for (bytes, look) in [(1, Look::Every), (3 * PATTERN_BYTES as u64 + 5, Look::Every), (5 << 20, Look::Edges)] {
            download(server.address(), bytes, look).unwrap();
        }
        let mut echo = Echo::open(server.address()).unwrap();
        echo.round(b"once").unwrap();
        echo.round(&[7; 64]).unwrap();
    }

    #[test]
    fn what_is_out_of_place_does_not_fit() {
        let right = expected(10_000, 4096).to_vec();
        for look in [Look::Every, Look::Edges] {
            assert!(fits(10_000, &right, look));
            for wrong_at in [9_999, 10_001, 10_000 + 4096, 10_000 + (1 << 20), 10_000 + (64 << 20)] {
                assert!(!fits(wrong_at, &right, look), "{wrong_at} {look:?}");
            }
            let mut swapped = right.clone();
            swapped.rotate_left(2048);
            assert!(!fits(10_000, &swapped, look), "{look:?}");
        }
        let mut flipped = right;
        flipped[2000] ^= 1;
        assert!(!fits(10_000, &flipped, Look::Every) && fits(10_000, &flipped, Look::Edges));
    }
}
