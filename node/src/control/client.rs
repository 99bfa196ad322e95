//! The asking side of the control socket. Blocking: a verb has nothing else to do.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::socket_path;
use super::wire::{Reply, Request};
use crate::exit::{Code, Fault};
use crate::folder::check_owner;

/// Longest reply that is read, in bytes: `peers` and `sessions` of a large node.
const MAX_REPLY_BYTES: u64 = 16 * 1024 * 1024;
/// A node answers each verb within half of this, if only with a timeout.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);
/// What it knows by itself it says at once. This is for a machine with much to do.
const KNOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a running node.
pub struct Client {
    socket: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the node on `data_dir`.
    ///
    /// # Errors
    /// [`Code::NotRunning`] when there is none, [`Code::State`] when it is another user's, [`Code::Usage`] when the path is too long for a socket.
    pub fn connect(data_dir: &Path) -> Result<Self, Fault> {
        // Root may ask anybody's node.
        check_owner(data_dir, rustix::process::geteuid().is_root())?;
        let path = socket_path(data_dir);
        match UnixStream::connect(&path) {
            Ok(socket) => Ok(Self { socket: BufReader::new(socket) }),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Fault::new(
                    Code::NotRunning,
                    format!("no node runs on {0}; start one: muses up --data-dir {0}", data_dir.display()),
                ),
                io::ErrorKind::PermissionDenied => Fault::new(
                    Code::State,
                    format!(
                        "{} is not this user's; be the user whose node it is, or give another --data-dir",
                        data_dir.display()
                    ),
                ),
                io::ErrorKind::InvalidInput => path_too_long(&path),
                _ => Fault::new(Code::NotRunning, format!("cannot talk to the node at {}: {error}", path.display())),
            }),
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// What the node answered, or [`Code::NotRunning`] when it ended meanwhile.
    pub fn ask(&mut self, request: &Request) -> Result<Value, Fault> {
        self.exchange(request).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Fault::new(Code::Timeout, "the node does not answer on its control socket; is it suspended?")
            }
            _ => Fault::new(Code::NotRunning, format!("the node ended before it answered ({error})")),
        })?
    }

    /// Waits for one more reply, as they follow that to `receive`; none when the node has ended.
    ///
    /// # Errors
    /// When the socket fails, or says what is no reply.
    pub fn next_reply(&mut self) -> io::Result<Option<Value>> {
        let mut line = Vec::new();
        (&mut self.socket).take(MAX_REPLY_BYTES).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(None);
        }
        let reply: Reply = serde_json::from_slice(&line)?;
        Ok(Result::<Value, Fault>::from(reply).ok())
    }

    /// After the reply to `send` or `take`: what the other side says, and where to answer. The end of the latter is its `shutdown`.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn into_stream(self) -> io::Result<(BufReader<UnixStream>, UnixStream)> {
        let to = self.socket.get_ref().try_clone()?;
        Ok((self.socket, to))
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Result<Value, Fault>> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.socket.get_ref().set_read_timeout(Some(patience(request)))?;
        self.socket.get_mut().write_all(&line)?;
        let mut answer = Vec::new();
        // The `take` is on the buffer, so what follows the line stays for `pipe`.
        (&mut self.socket).take(MAX_REPLY_BYTES).read_until(b'\n', &mut answer)?;
        if answer.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let reply: Reply = serde_json::from_slice(&answer)?;
        self.socket.get_ref().set_read_timeout(None)?;
        Ok(reply.into())
    }

    /// After the reply to `pipe`: `input` goes to the service until it ends, what the service says goes to `output`.
    /// Returns when the service ended its direction, and leaves the thread that reads `input` behind if it has not ended.
    ///
    /// # Errors
    /// When `output` or the socket fails.
    pub fn copy(mut self, mut input: impl io::Read + Send + 'static, mut output: impl io::Write) -> io::Result<()> {
        let mut up = self.socket.get_ref().try_clone()?;
        std::thread::spawn(move || {
            let _ = io::copy(&mut input, &mut up);
            let _ = up.shutdown(Shutdown::Write);
        });
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = match self.socket.read(&mut buffer) {
                // The node gave the pipe up before it had read all input; `pipe-end` tells why.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                result => result?,
            };
            if length == 0 {
                return output.flush();
            }
            output.write_all(buffer.get(..length).unwrap_or_default())?;
            // A terminal or ssh waits for these bytes; stdout would keep them for the end of a line.
            output.flush()?;
        }
    }
}

/// How long the answer may take.
const fn patience(request: &Request) -> Duration {
    match request {
        Request::Status {} | Request::Peers {} | Request::Sessions {} | Request::NameList {} | Request::KeyShow {} => {
            KNOWN_TIMEOUT
        }
        _ => REPLY_TIMEOUT,
    }
}

/// The fault for a socket whose path does not fit into a `sockaddr_un` (unix(7): 108 bytes).
pub fn path_too_long(path: &Path) -> Fault {
    Fault::new(
        Code::Usage,
        format!(
            "the path {} is too long for a unix socket (at most 107 bytes); choose a shorter --data-dir",
            path.display()
        ),
    )
}
