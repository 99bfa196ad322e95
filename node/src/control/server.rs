//! The node's side of the control socket.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::client::path_too_long;
use super::socket_path;
use super::verbs::{Desk, Pipe, Receiving, Reversal};
use super::wire::{MAX_LINE_BYTES, Reply, Request};
use crate::exit::{Code, Fault};
use crate::local::door::Door;
use crate::local::listen::bind_hidden;
use crate::local::socket_file::SocketFile;

/// Connections at once, pipes among them; more wait in the system's backlog.
const MAX_CONNECTIONS: usize = 512;
/// A client that asked for the node's end and does not read holds it up for no longer.
const MAX_LAST_ANSWER: Duration = Duration::from_millis(500);

/// The folder in the node's own in which the socket is bound, before it gets its place.
const BOUND_IN: &str = "c.new";

/// A bound control socket.
pub struct Server {
    listener: UnixListener,
    _file: SocketFile,
}

impl Server {
    /// Binds the socket of `data_dir`, and replaces a stale one. The caller holds the folder's lock.
    ///
    /// # Errors
    /// When the path is too long, or the folder cannot be written.
    pub fn bind(data_dir: &Path) -> Result<Self, Fault> {
        let path = socket_path(data_dir);
        std::os::unix::net::SocketAddr::from_pathname(&path).map_err(|_| path_too_long(&path))?;
        let hidden = data_dir.join(BOUND_IN);
        // What a process left there that was killed in the middle of this; earlier versions left a socket.
        let _ = fs::remove_file(&hidden);
        let _ = fs::remove_dir_all(&hidden);
        let bound = bind_hidden(&hidden, &path, |bound, path| fs::rename(bound, path));
        let (listener, file) = bound.map_err(|error| {
            Fault::new(Code::State, format!("cannot make the control socket {}: {error}", path.display()))
        })?;
        Ok(Self { listener, _file: file })
    }

    /// Answers until the task is dropped.
    pub async fn run(self, desk: Arc<Desk>) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut door = Door::new("the control socket");
        while let Ok(place) = Arc::clone(&room).acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    door.works();
                    let desk = Arc::clone(&desk);
                    tokio::spawn(async move {
                        if let Err(error) = serve(stream, &desk).await {
                            tracing::debug!("control connection: {error}");
                        }
                        drop(place);
                    });
                }
                Err(error) => door.fails(&error).await,
            }
        }
    }
}

async fn serve(stream: UnixStream, desk: &Desk) -> io::Result<()> {
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::new(from);
    loop {
        let result = match read_line(&mut from).await? {
            Line::End => return Ok(()),
            Line::TooLong => {
                // What follows is in the middle of a line: nothing sensible can be read any more.
                let fault = Fault::new(Code::Usage, format!("a request longer than {MAX_LINE_BYTES} bytes"));
                return to.write_all(Reply::from(Err(fault)).to_line().as_bytes()).await;
            }
            Line::Whole(line) => match Request::parse(&line) {
                Err(fault) => Err(fault),
                Ok(Request::Pipe { target }) => match desk.open_pipe(target).await {
                    Err(fault) => Err(fault),
                    Ok(pipe) => return become_pipe(pipe, from, to).await,
                },
                Ok(Request::Send { peer }) => match desk.send_files(peer).await {
                    Err(fault) => Err(fault),
                    Ok(pipe) => return become_pipe(pipe, from, to).await,
                },
                Ok(Request::Take { transfer }) => match desk.take_files(transfer) {
                    Err(fault) => Err(fault),
                    Ok(pipe) => return become_pipe(pipe, from, to).await,
                },
                Ok(Request::Receive { from: senders }) => match desk.receive_files(senders).await {
                    Err(fault) => Err(fault),
                    Ok(receiving) => {
                        let result = announce(receiving, from, to).await;
                        desk.stop_receiving().await;
                        return result;
                    }
                },
                Ok(Request::Reverse { target, forward }) => match desk.reverse(target, forward).await {
                    Err(fault) => Err(fault),
                    Ok(reversal) => return stay(reversal, from, to).await,
                },
                Ok(Request::Down {}) => {
                    let line = Reply::from(desk.leave().await).to_line();
                    let told = tokio::time::timeout(MAX_LAST_ANSWER, to.write_all(line.as_bytes())).await;
                    // Whoever asked may have gone, and the node ends as he wanted.
                    desk.end();
                    return told.unwrap_or_else(|late| Err(late.into()));
                }
                Ok(request) => desk.answer(request).await,
            },
        };
        to.write_all(Reply::from(result).to_line().as_bytes()).await?;
    }
}

/// From now on the connection is a stream.
async fn become_pipe(pipe: Pipe, from: BufReader<OwnedReadHalf>, mut to: OwnedWriteHalf) -> io::Result<()> {
    to.write_all(Reply::from(Ok(pipe.data())).to_line().as_bytes()).await?;
    pipe.run(from, to).await;
    Ok(())
}

/// The port is there until the other end is closed.
async fn stay(reversal: Reversal, from: BufReader<OwnedReadHalf>, mut to: OwnedWriteHalf) -> io::Result<()> {
    let told = to.write_all(Reply::from(Ok(reversal.data())).to_line().as_bytes()).await;
    // Whoever asked may have gone: what was made for him goes, too.
    reversal.run(from).await;
    told
}

/// Says who comes with files, until the other end is closed.
async fn announce(
    mut receiving: Receiving,
    mut from: BufReader<OwnedReadHalf>,
    mut to: OwnedWriteHalf,
) -> io::Result<()> {
    to.write_all(Reply::from(Ok(receiving.data())).to_line().as_bytes()).await?;
    loop {
        tokio::select! {
            arrival = receiving.next() => {
                let Some(arrival) = arrival else { return Ok(()) };
                let line = Reply::from(Ok(serde_json::to_value(arrival)?)).to_line();
                to.write_all(line.as_bytes()).await?;
            }
            // Nothing is to be said here any more: anything is the end.
            _ = from.fill_buf() => return Ok(()),
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

async fn read_line(from: &mut BufReader<impl AsyncRead + Unpin>) -> io::Result<Line> {
    let mut line = Vec::new();
    from.take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(Line::End),
        Some(b'\n') => Ok(Line::Whole(line)),
        Some(_) if line.len() >= MAX_LINE_BYTES => Ok(Line::TooLong),
        // The connection ended in the middle of a request.
        Some(_) => Ok(Line::End),
    }
}

/// The reader alone, for the fuzz targets.
#[doc(hidden)]
pub mod fuzzing {
    use futures::FutureExt as _;
    use tokio::io::BufReader;

    use super::{Line, read_line};

    /// The lines that `bytes` begin with.
    pub fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut stream = BufReader::new(bytes);
        // A slice never waits.
        let next = || match read_line(&mut stream).now_or_never()? {
            Ok(Line::Whole(line)) => Some(line),
            _ => None,
        };
        core::iter::from_fn(next).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn who_was_killed_while_he_bound_the_socket_binds_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let hidden = folder.path().join(BOUND_IN);
        let bind_and_look = || {
            let server = Server::bind(folder.path()).unwrap();
            let mode = fs::metadata(socket_path(folder.path())).unwrap().permissions().mode();
            assert_eq!((mode & 0o777, fs::exists(&hidden).unwrap()), (0o600, false));
            drop(server);
        };
        bind_and_look();
        fs::create_dir(&hidden).unwrap();
        drop(std::os::unix::net::UnixListener::bind(hidden.join("s")).unwrap());
        bind_and_look();
        // One of an earlier version.
        drop(std::os::unix::net::UnixListener::bind(&hidden).unwrap());
        bind_and_look();
    }
}
