//! Orders of a dashboard's page: its node brings them to a unix socket of ours, one line each.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use node::control::wire::Reply;
use tempfile::TempDir;

use super::Input;
use crate::cluster::temp_folder;
use crate::wait::{Result, io};

/// Longest order, in bytes: the dashboard takes bodies of this length.
const MAX_ORDER_BYTES: u64 = 4096;
/// Whoever connects gives its order within this.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);
/// An order is carried out within this, or nobody waits for it any more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A socket that takes orders, in a folder that no other user can enter.
pub(super) struct Desk {
    socket: PathBuf,
    _folder: TempDir,
}

impl Desk {
    /// Sends what comes to `orders`, in a thread that ends with the process.
    ///
    /// # Errors
    /// No folder, or no socket in it.
    pub(super) fn open(orders: SyncSender<Input>) -> Result<Self> {
        let folder = temp_folder()?;
        let socket = folder.path().join("orders.sock");
        let listener = UnixListener::bind(&socket).map_err(io(socket.display()))?;
        // One after the other: only the one node whose page it is comes here.
        std::thread::spawn(move || listener.incoming().flatten().for_each(|from| _ = pass_on(from, &orders)));
        Ok(Self { socket, _folder: folder })
    }

    /// Where it is.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

fn pass_on(mut from: UnixStream, orders: &SyncSender<Input>) -> io::Result<()> {
    from.set_read_timeout(Some(ORDER_TIMEOUT))?;
    let mut line = String::new();
    BufReader::new((&from).take(MAX_ORDER_BYTES)).read_line(&mut line)?;
    let (answer, answered) = sync_channel::<Reply>(1);
    let gone = |_| io::Error::from(io::ErrorKind::TimedOut);
    orders.send(Input::Asked(line, answer)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    from.write_all(answered.recv_timeout(ANSWER_TIMEOUT).map_err(gone)?.to_line().as_bytes())
}
