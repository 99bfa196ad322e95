//! The applications of one mover: both ends of a TCP connection say a pattern to each other, all the time, and check what they hear.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::bench::service::expected;
use crate::wait::{Result, io, until};

/// So much each [`PERIOD`] is 80 kB/s each way.
const PIECE_BYTES: usize = 4096;
const PERIOD: Duration = Duration::from_millis(50);
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// Every direction of every connection begins so many bytes later in the pattern, so that one is not taken for another.
const STRIDE_BYTES: u64 = 40_009;
/// What was said is heard within this time after the last word.
const END_LIMIT: Duration = Duration::from_secs(60);
/// A thread needs little more than its buffer, which is on the heap.
const STACK_BYTES: usize = 128 * 1024;

/// A connection; it ends when it is dropped.
pub struct Talk {
    shared: Arc<Shared>,
    streams: [TcpStream; 2],
    threads: Vec<JoinHandle<()>>,
}

/// What was said and heard, by the end that did.
#[derive(Default)]
struct Shared {
    /// Nobody says anything more.
    enough: AtomicBool,
    /// The connection is being closed by its applications.
    closing: AtomicBool,
    said: [AtomicU64; 2],
    heard: [AtomicU64; 2],
    wrong: [AtomicU64; 2],
    /// The end saw the other one close, or a reset.
    cut_off: [AtomicBool; 2],
}

impl Talk {
    /// Begins on a connection whose two ends these are; it is the one with this number.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start(number: usize, streams: [TcpStream; 2]) -> Result<Self> {
        let mut talk = Self { shared: Arc::default(), streams, threads: Vec::new() };
        for end in [0, 1] {
            let [own, other] = [end, 1 - end].map(|end| (number as u64 * 2 + end as u64) * STRIDE_BYTES);
            let clone = || talk.streams[end].try_clone().map_err(io("an application's socket"));
            let (to, from) = (clone()?, clone()?);
            to.set_nodelay(true).map_err(io("an application's socket"))?;
            let (speaker, listener) = (Arc::clone(&talk.shared), Arc::clone(&talk.shared));
            let thread = || std::thread::Builder::new().stack_size(STACK_BYTES);
            let threads = [
                thread().spawn(move || speaker.speak(end, to, own)),
                thread().spawn(move || listener.listen(end, from, other)),
            ];
            for thread in threads {
                talk.threads.push(thread.map_err(io("an application's thread"))?);
            }
        }
        Ok(talk)
    }

    /// Bytes heard so far by each end.
    pub fn heard(&self) -> [u64; 2] {
        read(&self.shared.heard)
    }

    /// Bytes heard that were not those that belong there.
    pub fn wrong(&self) -> u64 {
        read(&self.shared.wrong).iter().sum()
    }

    /// Ends that saw the other one close, or a reset, while nobody wanted an end.
    pub fn cut_off(&self) -> usize {
        self.shared.cut_off.iter().filter(|cut_off| cut_off.load(Ordering::SeqCst)).count()
    }

    /// Stops the talking and waits until all that was said is heard; says how many bytes never were.
    ///
    /// # Errors
    /// When the user wants an end.
    pub fn finish(&self) -> Result<u64> {
        self.shared.enough.store(true, Ordering::SeqCst);
        let [to_first, to_second] = &self.shared.said;
        let lost = || {
            let [first, second] = self.heard();
            let [by_first, by_second] = [to_first, to_second].map(|said| said.load(Ordering::SeqCst));
            by_first.abs_diff(second) + by_second.abs_diff(first)
        };
        // A speaker that was about to say something when it was told has said it after this.
        std::thread::sleep(PERIOD * 2);
        let all = until("all that was said", END_LIMIT, || Ok((lost() == 0 || self.cut_off() > 0).then_some(())));
        if crate::wait::stop_wanted() { all.map(|()| 0) } else { Ok(lost()) }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.shared.enough.store(true, Ordering::SeqCst);
        self.shared.closing.store(true, Ordering::SeqCst);
        for stream in &self.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn speak(&self, end: usize, mut to: TcpStream, begin: u64) {
        let mut said = 0;
        while !self.enough.load(Ordering::SeqCst) {
            let piece = expected(begin + said, PIECE_BYTES);
            if to.write_all(piece).is_err() {
                return self.end(end);
            }
            said += piece.len() as u64;
            self.said[end].store(said, Ordering::SeqCst);
            std::thread::sleep(PERIOD);
        }
    }

    fn listen(&self, end: usize, mut from: TcpStream, begin: u64) {
        let mut buffer = vec![0; READ_BYTES];
        let mut heard = 0;
        loop {
            let read = match from.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => return self.end(end),
                Ok(read) => read,
            };
            let piece = buffer.get(..read).unwrap_or_default();
            self.wrong[end].fetch_add(wrong_in(piece, begin + heard), Ordering::SeqCst);
            heard += read as u64;
            self.heard[end].store(heard, Ordering::SeqCst);
        }
    }

    /// The socket of this end is of no use any more.
    fn end(&self, end: usize) {
        if !self.closing.load(Ordering::SeqCst) {
            self.cut_off[end].store(true, Ordering::SeqCst);
        }
    }
}

/// How many bytes of `piece` are not those that belong at `offset`.
fn wrong_in(piece: &[u8], offset: u64) -> u64 {
    let (mut wrong, mut done) = (0, 0);
    while let Some(rest) = piece.get(done..).filter(|rest| !rest.is_empty()) {
        let belongs = expected(offset + done as u64, rest.len());
        wrong += rest.iter().zip(belongs).filter(|(is, should)| is != should).count() as u64;
        done += belongs.len();
    }
    wrong
}

fn read(counts: &[AtomicU64; 2]) -> [u64; 2] {
    [0, 1].map(|end| counts[end].load(Ordering::SeqCst))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair() -> [TcpStream; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        [client, listener.accept().unwrap().0]
    }

    fn heard_something(talk: &Talk) {
        until("both ends", Duration::from_secs(30), || Ok((!talk.heard().contains(&0)).then_some(()))).unwrap();
    }

    #[test]
    fn both_ends_hear_what_the_other_says() {
        let talk = Talk::start(3, pair()).unwrap();
        heard_something(&talk);
        assert_eq!((talk.finish().unwrap(), talk.wrong(), talk.cut_off()), (0, 0, 0));
    }

    #[test]
    fn a_reset_and_a_wrong_byte_are_seen() {
        let [client, server] = pair();
        let [near, far] = [client.try_clone().unwrap(), server.try_clone().unwrap()];
        let talk = Talk::start(0, [client, server]).unwrap();
        heard_something(&talk);
        (&near).write_all(b"what nobody said").unwrap();
        until("what is wrong", Duration::from_secs(30), || Ok((talk.wrong() > 0).then_some(()))).unwrap();
        far.shutdown(Shutdown::Both).unwrap();
        until("the end", Duration::from_secs(30), || Ok((talk.cut_off() == 2).then_some(()))).unwrap();
    }

    #[test]
    fn one_connection_is_not_taken_for_another() {
        let said = expected(0, 1000);
        assert_eq!(wrong_in(said, 0), 0);
        assert!(wrong_in(said, STRIDE_BYTES) > 900);
        assert_eq!(wrong_in(&[], 5), 0);
    }
}
