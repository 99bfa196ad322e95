//! Values that survive a crash: what stands behind `Command::Persist`.

mod disk;

use std::io;
use std::path::PathBuf;

pub use disk::DiskStore;
use overlay::io::Snapshot;

/// Longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024 * 1024;
/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 200;
/// The store's file in a node's folder `D`.
pub const STATE_FILE: &str = "state.redb";

/// Where values are kept.
pub trait Store: Send + Sync + 'static {
    /// All values, at start.
    ///
    /// # Errors
    /// [`StoreError`] when one cannot be read: starting without it could repeat a sequence number.
    fn load(&self) -> Result<Snapshot, StoreError>;

    /// Replaces the values of these keys, all of them or none; when this returns, they survive a crash. An empty value deletes. No key comes twice.
    ///
    /// # Errors
    /// [`StoreError`]; the old values are still there then.
    fn write(&self, batch: &[(&str, &[u8])]) -> Result<(), StoreError>;

    /// The same for one key.
    ///
    /// # Errors
    /// [`StoreError`]; the old value is still there then.
    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(&[(key, bytes)])
    }
}

/// Why a value was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {what} {}: {source}; check the folder's owner, mode and free space", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not as a store left it.
    #[error("{} is damaged ({why}); {}", .path.display(), WHAT_TO_DO)]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// How that was seen.
        why: String,
    },
    /// The file is of another version of this program.
    #[error("{} is of another version of muses (format {found}, and this one reads {known}); start that one", .path.display())]
    OtherVersion {
        /// Which file.
        path: PathBuf,
        /// The format that it says it has.
        found: u64,
        /// The format that this program reads.
        known: u64,
    },
    /// A key or value outside of the limits.
    #[error("the state value {0:?} cannot be stored")]
    Unstorable(String),
}

/// Who removes the file has another node at the next start: the overlay that it belongs to is in there, and without that it would found its own.
const WHAT_TO_DO: &str = "restore it from a backup, or move it away: the node then starts without its sessions, services, pins and invites, and has to \
                          join the overlay again by an invite";

/// What to do about a value that is whole, and yet makes no sense.
pub(crate) fn senseless(key: &str, why: impl std::fmt::Display) -> String {
    format!("the value {key} in {STATE_FILE} cannot be used ({why}); {WHAT_TO_DO}")
}

fn check(key: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let legal = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '/' | '-');
    let fits =
        !key.is_empty() && key.len() <= MAX_KEY_BYTES && key.chars().all(legal) && bytes.len() <= MAX_VALUE_BYTES;
    if fits { Ok(()) } else { Err(StoreError::Unstorable(key.to_owned())) }
}

/// A [`Store`] that keeps nothing: a node with it is another one after each start.
pub struct Nowhere;

impl Store for Nowhere {
    fn load(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot::new())
    }

    fn write(&self, _: &[(&str, &[u8])]) -> Result<(), StoreError> {
        Ok(())
    }
}
