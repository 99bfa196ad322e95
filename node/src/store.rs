//! Values that survive a crash: one file for each key under `D/state/`, replaced as a whole or not at all.
//!
//! A value is written to a temporary file, synced, renamed over the old one, and the folder is synced; what was on disk before is
//! there until the rename, the new value after it. A leftover temporary file is a write that never happened.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use overlay::io::Snapshot;

/// Longest value, in bytes; a longer file is not ours.
pub const MAX_VALUE_BYTES: usize = 64 * 1024 * 1024;
/// What each file starts with; the value's length (u64, little-endian) and the value follow.
const MAGIC: [u8; 4] = *b"mst1";
const HEADER_BYTES: usize = MAGIC.len() + 8;
/// Ends the name of a temporary file; no key contains it.
const TEMPORARY: char = '~';

/// What stands behind `Command::Persist`.
pub trait Store: Send + Sync + 'static {
    /// All values, at start.
    ///
    /// # Errors
    /// [`StoreError`] when one cannot be read: starting without it could repeat a sequence number.
    fn load(&self) -> Result<Snapshot, StoreError>;

    /// Replaces the value of `key`; when this returns, it survives a crash. Empty `bytes` delete.
    ///
    /// # Errors
    /// [`StoreError`]; the old value is still there then.
    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// Forgets `key`, which may be unknown.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be removed.
    fn delete(&self, key: &str) -> Result<(), StoreError>;
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
    /// A file under `state/` was not written by a store.
    #[error("{}", damaged(&.0.display().to_string()))]
    Damaged(PathBuf),
    /// A key or value outside of the limits.
    #[error("the state value {0:?} cannot be stored")]
    Unstorable(String),
}

/// The file, in the folder of the state, in which the value of `key` is. No key has a '.', so no two of them share one.
pub(crate) fn file_of(key: &str) -> String {
    key.replace('/', ".")
}

/// The file in which the overlay's genesis is.
const GENESIS_FILE: &str = "overlay.genesis";

/// What to do about a damaged file.
pub(crate) fn damaged(file: &str) -> String {
    if file.ends_with(GENESIS_FILE) {
        // Without it the node would found another overlay.
        format!(
            "{file} is damaged; restore it from a backup, or join the overlay again by an invite, with another --data-dir"
        )
    } else {
        format!("{file} is damaged; restore it from a backup, or remove it to start without it")
    }
}

/// A [`Store`] that keeps nothing: a node with it is another one after each start.
pub struct Nowhere;

impl Store for Nowhere {
    fn load(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot::new())
    }

    fn put(&self, _: &str, _: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }

    fn delete(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A [`Store`] of files in one folder.
pub struct FileStore {
    folder: PathBuf,
    /// One writer at a time: a key's temporary file has a fixed name.
    writing: Mutex<()>,
}

impl FileStore {
    /// The store in `folder`, which is made (0700) when it is missing.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be made.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_error("create", folder))?;
        Ok(Self { folder: folder.to_owned(), writing: Mutex::new(()) })
    }

    fn path_of(&self, key: &str) -> Result<PathBuf, StoreError> {
        let legal = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '/' | '-');
        if key.is_empty() || key.starts_with('/') || key.len() > 200 || !key.chars().all(legal) {
            return Err(StoreError::Unstorable(key.to_owned()));
        }
        Ok(self.folder.join(file_of(key)))
    }

    fn sync_folder(&self) -> Result<(), StoreError> {
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", &self.folder))
    }
}

impl Store for FileStore {
    fn load(&self) -> Result<Snapshot, StoreError> {
        let mut snapshot = Snapshot::new();
        for entry in fs::read_dir(&self.folder).map_err(io_error("read", &self.folder))? {
            let path = entry.map_err(io_error("read", &self.folder))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.ends_with(TEMPORARY) {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
                continue;
            }
            let key = name.replace('.', "/");
            // An editor's backup or a file system's own folder is none of ours.
            if self.path_of(&key).is_ok_and(|expected| expected == path) && path.is_file() {
                snapshot.insert(key, read_value(&path)?);
            }
        }
        Ok(snapshot)
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.is_empty() {
            return self.delete(key);
        }
        let path = self.path_of(key)?;
        if bytes.len() > MAX_VALUE_BYTES {
            return Err(StoreError::Unstorable(key.to_owned()));
        }
        let _one_writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut temporary = path.clone().into_os_string();
        temporary.push(TEMPORARY.to_string());
        let temporary = PathBuf::from(temporary);
        if let Err(error) = write_value(&temporary, bytes) {
            // On a full disk the half of it would be in the way of the next one.
            let _ = fs::remove_file(&temporary);
            return Err(io_error("write", &path)(error));
        }
        fs::rename(&temporary, &path).map_err(io_error("replace", &path))?;
        self.sync_folder()
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path_of(key)?;
        let _one_writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::remove_file(&path) {
            Ok(()) => self.sync_folder(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("remove", &path)(error)),
        }
    }
}

fn read_value(path: &Path) -> Result<Vec<u8>, StoreError> {
    let limit = (HEADER_BYTES + MAX_VALUE_BYTES + 1) as u64;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io_error("read", path))?;
    file.take(limit).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    value_in(&bytes).map(<[u8]>::to_vec).ok_or_else(|| StoreError::Damaged(path.to_owned()))
}

/// The value in a file of these bytes; none when a store has not written them, or not all.
#[doc(hidden)] // for the fuzz targets
pub fn value_in(file: &[u8]) -> Option<&[u8]> {
    let (length, value) = file.strip_prefix(&MAGIC)?.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*length) == value.len() as u64).then_some(value)
}

fn write_value(path: &Path, value: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&MAGIC)?;
    file.write_all(&(value.len() as u64).to_le_bytes())?;
    file.write_all(value)?;
    file.sync_all()
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_reopening_and_empty_deletes() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open(folder.path()).unwrap();
        store.put("overlay/grants", b"one").unwrap();
        store.put("overlay/grants", b"two").unwrap();
        store.put("muses/session-1", &[0; 100_000]).unwrap();
        store.put("gone", b"x").unwrap();
        store.put("gone", b"").unwrap();
        store.delete("never-there").unwrap();
        let snapshot = FileStore::open(folder.path()).unwrap().load().unwrap();
        assert_eq!(snapshot.keys().collect::<Vec<_>>(), ["muses/session-1", "overlay/grants"]);
        assert_eq!(snapshot["overlay/grants"], b"two");
    }

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_value() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open(folder.path()).unwrap();
        store.put("overlay/grants", b"old").unwrap();
        fs::write(folder.path().join("overlay.grants~"), b"mst1\x09\0\0").unwrap();
        let snapshot = store.load().unwrap();
        assert_eq!(snapshot["overlay/grants"], b"old");
        assert!(!folder.path().join("overlay.grants~").exists());
        // And the name is free for the next write.
        store.put("overlay/grants", b"new").unwrap();
        assert_eq!(store.load().unwrap()["overlay/grants"], b"new");
    }

    #[test]
    fn a_truncated_file_is_reported_by_name_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open(folder.path()).unwrap();
        store.put("overlay/grants", b"a value").unwrap();
        let path = folder.path().join("overlay.grants");
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = store.load().unwrap_err().to_string();
            assert!(error.contains("overlay.grants is damaged") && error.contains("remove it"), "{error}");
        }
        // Who removes that one founds another overlay.
        let genesis = damaged(&file_of("overlay/genesis"));
        assert!(genesis.contains("join the overlay again") && !genesis.contains("remove"), "{genesis}");
    }

    #[test]
    fn keys_cannot_leave_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open(folder.path()).unwrap();
        for key in ["", "../x", "/etc/passwd", "A", "a b", "a.b", "a~", "ä"] {
            assert!(matches!(store.put(key, b"x"), Err(StoreError::Unstorable(_))), "{key}");
        }
    }
}
