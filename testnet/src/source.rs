//! The file service at Alice: plain TCP, outside the nodes. One request line in, the file out, paced.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

use crate::wait::{Result, io};

/// What a client sends to get the file.
pub const REQUEST: &str = "GET file\n";

/// Bytes written at once.
const BLOCK_BYTES: usize = 16 * 1024;
/// After a stall the source does not make up for more than this: the file lasts as long as the pace says.
const CATCH_UP: Duration = Duration::from_millis(50);
/// Kept small, so that what the source has sent is little ahead of what the network took.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How often a waiting accept looks at the stop flag.
const ACCEPT_POLL: Duration = Duration::from_millis(5);

/// A file that is never stored: pseudo-random bytes, so that neither a repeated nor a swapped block goes unseen.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// Which file.
    pub seed: u64,
    /// How long it is.
    pub bytes: u64,
}

impl Content {
    /// The file, block by block.
    pub fn blocks(self) -> impl Iterator<Item = Vec<u8>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut left_bytes = self.bytes;
        std::iter::from_fn(move || {
            let len = usize::try_from(left_bytes).unwrap_or(usize::MAX).min(BLOCK_BYTES);
            if len == 0 {
                return None;
            }
            let mut block = vec![0; len];
            rng.fill_bytes(&mut block);
            left_bytes -= len as u64;
            Some(block)
        })
    }

    /// Its SHA-256.
    pub fn digest(self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.blocks().for_each(|block| hash.update(block));
        hash.finalize().into()
    }
}

/// The running service; ends when dropped.
pub struct Source {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    content: Content,
    bytes_per_s: f64,
    accepts: AtomicU64,
    stop: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Source {
    /// Serves `content` at `listener`, to every connection from its beginning, at `bytes_per_s`.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn start(listener: TcpListener, content: Content, bytes_per_s: f64) -> Result<Self> {
        let address = listener.local_addr().map_err(io("file service"))?;
        listener.set_nonblocking(true).map_err(io("file service"))?;
        let shared = Arc::new(Shared {
            content,
            bytes_per_s,
            accepts: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            open: Mutex::new(Vec::new()),
        });
        let acceptor = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.accept_all(&listener))
        };
        Ok(Self { shared, address, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn accepts(&self) -> u64 {
        self.shared.accepts.load(Ordering::SeqCst)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn accept_all(self: &Arc<Self>, listener: &TcpListener) {
        while !self.stopped() {
            let Ok((stream, _)) = listener.accept() else {
                std::thread::sleep(ACCEPT_POLL);
                continue;
            };
            self.accepts.fetch_add(1, Ordering::SeqCst);
            if let Ok(copy) = stream.try_clone() {
                self.open.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
            }
            let shared = Arc::clone(self);
            // A client that goes away ends its own thread only.
            std::thread::spawn(move || drop(shared.serve(stream)));
        }
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES)?;
        let mut request = String::new();
        BufReader::new(stream.try_clone()?).read_line(&mut request)?;
        if request != REQUEST {
            return stream.shutdown(Shutdown::Both);
        }
        let mut due = Instant::now();
        for block in self.content.blocks() {
            due = due.max(Instant::now().checked_sub(CATCH_UP).unwrap_or(due));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.stopped() {
                return Ok(());
            }
            stream.write_all(&block)?;
            due += Duration::from_secs_f64(block.len() as f64 / self.bytes_per_s);
        }
        stream.shutdown(Shutdown::Write)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_its_length_and_depends_on_the_seed() {
        let content = Content { seed: 1, bytes: 100_001 };
        assert_eq!(content.blocks().map(|b| b.len()).sum::<usize>(), 100_001);
        assert_eq!(content.digest(), content.digest());
        assert_ne!(content.digest(), Content { seed: 2, ..content }.digest());
    }
}
