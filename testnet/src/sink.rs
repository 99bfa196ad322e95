//! Bob's application: a plain TCP client that notes when how many bytes had arrived.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::source::REQUEST;
use crate::wait::{Result, Trouble, io};

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Reads closer together than this share one mark.
const MARK: Duration = Duration::from_millis(2);
/// A connect that takes longer has failed.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// One moment of the transfer.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// When the first of these bytes was read.
    pub first: Instant,
    /// When the last of them was.
    pub last: Instant,
    /// The total once all of them were read.
    pub total_bytes: u64,
}

/// A running download; its connection is cut when it is dropped.
pub struct Sink {
    shared: Arc<Shared>,
    started: Instant,
    stream: TcpStream,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    marks: Vec<Mark>,
    end: Option<std::result::Result<[u8; 32], String>>,
}

impl Sink {
    /// Connects to `address` and asks for the file.
    ///
    /// # Errors
    /// When the connection is refused.
    pub fn start(address: SocketAddr) -> Result<Self> {
        let what = || format!("download from {address}");
        let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT).map_err(io(what()))?;
        Self::on(stream)
    }

    /// Asks for the file on a connection that exists.
    ///
    /// # Errors
    /// When the request cannot be written.
    pub fn on(mut stream: TcpStream) -> Result<Self> {
        stream.write_all(REQUEST.as_bytes()).map_err(io("download"))?;
        let shared = Arc::new(Shared::default());
        let reader = {
            let (shared, stream) = (Arc::clone(&shared), stream.try_clone().map_err(io("download"))?);
            std::thread::spawn(move || shared.read_all(stream))
        };
        Ok(Self { shared, started: Instant::now(), stream, reader: Some(reader) })
    }

    /// When the download began.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Bytes that the application holds now.
    pub fn bytes(&self) -> u64 {
        self.shared.state().marks.last().map_or(0, |mark| mark.total_bytes)
    }

    /// When the latest byte arrived.
    pub fn latest(&self) -> Option<Instant> {
        self.shared.state().marks.last().map(|mark| mark.last)
    }

    /// When the first byte beyond `offset` arrived, that is, byte `offset + 1`; call it for an offset that was held
    /// while nothing arrived for longer than a mark.
    pub fn first_beyond(&self, offset: u64) -> Option<Instant> {
        first_beyond(&self.shared.state().marks, offset)
    }

    /// The SHA-256 of all that arrived once the stream has ended, or why it broke.
    pub fn end(&self) -> Option<std::result::Result<[u8; 32], String>> {
        self.shared.state().end.clone()
    }

    /// Fails when the download has ended although it should be running.
    ///
    /// # Errors
    /// The stream has ended or broken.
    pub fn must_run(&self) -> Result<()> {
        match self.end() {
            None => Ok(()),
            Some(Ok(_)) => Err(Trouble::new(format!("the download ended early, after {} bytes", self.bytes()))),
            Some(Err(why)) => Err(Trouble::new(format!("the download broke after {} bytes: {why}", self.bytes()))),
        }
    }

    /// All that was noted.
    pub fn marks(&self) -> Vec<Mark> {
        self.shared.state().marks.clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_all(&self, mut stream: TcpStream) {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; READ_BYTES];
        let end = loop {
            let read = match stream.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => break Err(error.to_string()),
            };
            // The clock is read before the hash is taken, which costs time of its own.
            note(&mut self.state().marks, Instant::now(), read as u64);
            hash.update(buffer.get(..read).unwrap_or_default());
        };
        self.state().end = Some(end.map(|()| hash.finalize().into()));
    }
}

fn note(marks: &mut Vec<Mark>, now: Instant, bytes: u64) {
    let before_bytes = marks.last().map_or(0, |mark| mark.total_bytes);
    match marks.last_mut() {
        Some(mark) if now.duration_since(mark.first) < MARK => {
            mark.last = now;
            mark.total_bytes += bytes;
        }
        _ => marks.push(Mark { first: now, last: now, total_bytes: before_bytes + bytes }),
    }
}

fn first_beyond(marks: &[Mark], offset: u64) -> Option<Instant> {
    let index = marks.partition_point(|mark| mark.total_bytes <= offset);
    marks.get(index).map(|mark| mark.first)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::source::{Content, Source};
    use crate::wait::until;

    #[test]
    fn a_paced_download_is_exact_and_takes_its_time() {
        let content = Content { seed: 3, bytes: 400_000 };
        let source = Source::start(TcpListener::bind("127.0.0.1:0").unwrap(), content, 1_000_000.0).unwrap();
        let sink = Sink::start(source.address()).unwrap();
        let end = until("end", Duration::from_secs(10), || Ok(sink.end())).unwrap();
        assert_eq!(end.unwrap(), content.digest());
        assert_eq!((sink.bytes(), source.accepts()), (400_000, 1));
        let took = sink.latest().unwrap() - sink.started();
        assert!(took > Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
        assert!(sink.must_run().is_err());
    }

    #[test]
    fn an_offset_is_passed_by_the_first_mark_that_exceeds_it() {
        let start = Instant::now();
        let mut marks = Vec::new();
        for (ms, bytes) in [(0, 10), (1, 5), (50, 1), (100, 4)] {
            note(&mut marks, start + Duration::from_millis(ms), bytes);
        }
        assert_eq!(marks.iter().map(|m| m.total_bytes).collect::<Vec<_>>(), [15, 16, 20]);
        assert_eq!(first_beyond(&marks, 15), Some(start + Duration::from_millis(50)));
        assert_eq!(first_beyond(&marks, 16), Some(start + Duration::from_millis(100)));
        assert_eq!(first_beyond(&marks, 20), None);
    }
}
