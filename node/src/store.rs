//! Values that survive a crash: what stands behind `Command::Persist`.

mod disk;

use std::io;
use std::path::PathBuf;

pub use disk::DiskStore;
use overlay::id::NodeId;
use overlay::io::Snapshot;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::exit::{Code, Fault};

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
    /// What is stored is another node's than the key.
    #[error(
        "{STATE_FILE} belongs to the node {owner}, and the key beside it (identity.key) is that of {id}; restore the key that belongs to it, or move {STATE_FILE} away"
    )]
    OtherNode {
        /// Whose it is.
        owner: String,
        /// Whose key there is.
        id: String,
    },
    /// A key or value outside of the limits.
    #[error("the state value {0:?} cannot be stored")]
    Unstorable(String),
}

/// Who removes the file has another node at the next start: the overlay that it belongs to is in there, and without that it would found its own.
const WHAT_TO_DO: &str = "restore it from a backup, or move it away and join the overlay again (muses join INVITE), without the sessions, services, \
                          ports, pins and invites of before; a plain `muses up` would found another overlay";

/// Under which key the store has the id of its node.
const NODE_KEY: &str = "node/id";

/// Sees to it that what is stored is this node's: with another key it would go on under the names and places of another one. The first start says whose it is.
///
/// # Errors
/// [`StoreError::OtherNode`] when it is not, or when that cannot be stored.
pub fn belongs_to(store: &dyn Store, snapshot: &mut Snapshot, id: NodeId) -> Result<(), StoreError> {
    let text = id.to_string();
    match snapshot.remove(NODE_KEY) {
        None => store.put(NODE_KEY, text.as_bytes()),
        Some(owner) if owner.as_slice() == text.as_bytes() => Ok(()),
        Some(owner) => Err(StoreError::OtherNode { owner: String::from_utf8_lossy(&owner).into_owned(), id: text }),
    }
}

/// What to do about a value that is whole, and yet makes no sense.
pub(crate) fn senseless(key: &str, why: impl std::fmt::Display) -> String {
    format!("the value {key} in {STATE_FILE} cannot be used ({why}); {WHAT_TO_DO}")
}

/// What is stored as JSON under `key`; nothing yet is the default.
///
/// # Errors
/// [`Code::State`] when it makes no sense.
pub(crate) fn parse<T: DeserializeOwned + Default>(key: &str, stored: Option<Zeroizing<Vec<u8>>>) -> Result<T, Fault> {
    let parsed = stored.map_or_else(|| Ok(T::default()), |bytes| serde_json::from_slice(&bytes));
    parsed.map_err(|why| Fault::new(Code::State, senseless(key, why)))
}

/// Whether a value of this key and length can be stored.
///
/// # Errors
/// [`StoreError::Unstorable`].
pub fn check(key: &str, bytes: &[u8]) -> Result<(), StoreError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_belongs_to_one_node() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(folder.path()).unwrap();
        let [one, other] = [1, 2].map(|n| overlay::id::Identity::from_secret(&[n; 32]).id());
        let is_of = |id| belongs_to(&store, &mut store.load().unwrap(), id);
        assert!(is_of(one).is_ok() && is_of(one).is_ok());
        let line = is_of(other).unwrap_err().to_string();
        assert!(line.contains(&one.to_string()) && line.contains(&other.to_string()) && !line.contains('\n'), "{line}");
    }
}
