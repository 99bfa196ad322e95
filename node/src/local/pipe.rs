//! Bytes between one application's socket and its connection, both ways, with half-close.

use std::io::{self, IoSlice};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::driver::{Conn, Error, Portion, Stopped, Then};
use crate::stack::Failure;

/// How much is taken from either side at once, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;
/// The same from an application that says little, or nothing now: most connections are idle most of the time, and each keeps its buffer.
const IDLE_BUFFER_BYTES: usize = 4 * 1024;
/// How many times as much is taken the next time from one that had more to say than was taken.
const BUFFER_STEP: usize = 4;
/// An application that has said nothing for so long says nothing now.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Why a copy ended before both directions did.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The application's socket failed: the application is gone.
    #[error("the local application's socket: {0}")]
    Local(#[from] io::Error),
    /// The connection through the overlay failed.
    #[error(transparent)]
    Remote(#[from] Failure),
    /// This node ends.
    #[error("this node stops")]
    Stopped,
}

/// Copies until both directions ended. What `from` says goes to the peer until it ends, then the peer is told so, and the other
/// way round. Back-pressure goes through: nothing is read from a side whose other side does not take it.
///
/// # Errors
/// [`Broken`] as soon as either side fails; drop `conn` then to reset it.
pub async fn copy<R, W>(conn: &Conn, mut from: R, mut to: W) -> Result<(), Broken>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let there = async {
        let mut buffer = Vec::with_capacity(IDLE_BUFFER_BYTES);
        loop {
            let large = buffer.capacity() > IDLE_BUFFER_BYTES;
            let wait = if large { IDLE_AFTER } else { Duration::MAX };
            let Ok(heard) = timeout(wait, from.read_buf(&mut buffer)).await else {
                buffer = Vec::with_capacity(IDLE_BUFFER_BYTES);
                continue;
            };
            if heard? == 0 {
                conn.finish();
                return Ok::<_, Broken>(());
            }
            let filled = buffer.len() == buffer.capacity();
            buffer = conn.write_all(buffer).await?;
            buffer.clear();
            if filled && buffer.capacity() < BUFFER_BYTES {
                // Step by step, so that little lies here for a peer that takes nothing.
                buffer = Vec::with_capacity((buffer.capacity() * BUFFER_STEP).min(BUFFER_BYTES));
            }
        }
    };
    let back = async {
        loop {
            let Portion { pieces, then } = conn.read(BUFFER_BYTES).await?;
            if !pieces.is_empty() {
                write_all(&mut to, &pieces).await?;
                to.flush().await?;
            }
            match then {
                Then::More => {}
                Then::End => {
                    // An application that closed both directions at once has no direction left to end.
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                Then::Gone => return Err(conn.failure().unwrap_or(Failure::Reset).into()),
            }
        }
    };
    tokio::try_join!(there, back).map(|((), ())| ())
}

async fn write_all(to: &mut (impl AsyncWrite + Unpin), pieces: &[Vec<u8>]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match to.write_vectored(left).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut left, written),
        }
    }
    Ok(())
}

/// [`copy`] for a whole socket, which is closed when both directions ended and reset when something failed, so that the
/// application never takes a torn stream for a complete one.
pub async fn splice(conn: Conn, mut socket: TcpStream, what: &str) {
    let _ = socket.set_nodelay(true);
    let (from, to) = socket.split();
    if let Err(why) = copy(&conn, from, to).await {
        log(&why, what);
        let _ = socket.set_zero_linger();
    }
}

/// The same for a unix socket. These know no reset: a stream that was torn looks to the application like one that ended.
pub async fn splice_unix(conn: Conn, mut socket: UnixStream, what: &str) {
    let (from, to) = socket.split();
    if let Err(why) = copy(&conn, from, to).await {
        log(&why, what);
    }
}

/// The application sees only a reset; whoever runs the node sees why.
fn log(why: &Broken, what: &str) {
    match why {
        Broken::Remote(failure) if *failure != Failure::Reset => tracing::warn!("{what}: {failure}"),
        why => tracing::debug!("{what}: {why}"),
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        match error {
            Error::Failed(why) => Self::Remote(why),
            Error::Stopped(Stopped) => Self::Stopped,
        }
    }
}

impl From<Stopped> for Broken {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}
