//! A [`Store`] in one file: a redb database, which is a copy-on-write tree whose pages carry checksums.
//!
//! Each batch is one transaction in two phases: the new pages are synced before the pointer to them is. So a file of which a page has changed since is
//! found damaged. With one phase redb could not tell that from a commit that was never finished, and would go back to the one before, which here
//! means that sequence numbers repeat. One bit has no checksum: the one that says which of the two latest commits holds. When just that is flipped in a file that was not
//! closed, the commit before is read.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use overlay::io::Snapshot;
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{STATE_FILE, Store, StoreError, check};
use crate::folder::make_folder;

/// The values by key.
const VALUES: TableDefinition<&str, &[u8]> = TableDefinition::new("values");
/// What there is to say about the file itself.
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");
/// The row of [`ABOUT`] with the format of keys and values.
const FORMAT_ROW: &str = "format";
/// That of this program.
const FORMAT: u64 = 1;
/// Pages that are kept in memory, in bytes. Values are read once, at the start; what is written goes through.
const CACHE_BYTES: usize = 256 * 1024;
/// Ends the name of a file that is being made.
const UNFINISHED: &str = "~";

/// A [`Store`] in the file [`STATE_FILE`] of a folder.
pub struct DiskStore {
    path: PathBuf,
    /// None after the system refused something: redb wants the file to be opened anew then.
    database: Mutex<Option<Database>>,
}

impl DiskStore {
    /// The store in `folder`, which is made (0700) when it is missing, as is the file (0600). Every page of a file that was there is checked.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be made or used. No value in it is changed then.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        make_folder(folder).map_err(io_error("create", folder))?;
        let path = folder.join(STATE_FILE);
        let database =
            if fs::exists(&path).map_err(io_error("read", &path))? { reopen(&path)? } else { create(&path)? };
        Ok(Self { path, database: Mutex::new(Some(database)) })
    }
}

impl Store for DiskStore {
    fn load(&self) -> Result<Snapshot, StoreError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match &mut *database {
            Some(database) => database,
            gone => gone.insert(reopen(&self.path)?),
        };
        read_all(database).map_err(redb_error("read", &self.path))
    }

    fn write(&self, batch: &[(&str, &[u8])]) -> Result<(), StoreError> {
        batch.iter().try_for_each(|(key, bytes)| check(key, bytes))?;
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match database.take() {
            Some(open) => open,
            None => reopen(&self.path)?,
        };
        commit(&open, batch).map_err(redb_error("write", &self.path))?;
        *database = Some(open);
        Ok(())
    }
}

/// Makes the file beside its place and moves it there when it is whole: one that is there and empty is a damaged one.
fn create(path: &Path) -> Result<Database, StoreError> {
    let mut unfinished = path.to_owned().into_os_string();
    unfinished.push(UNFINISHED);
    let unfinished = PathBuf::from(unfinished);
    let made = open_file(OpenOptions::new().create(true).truncate(true), &unfinished).and_then(|file| {
        let failed = redb_error("write", path);
        let database = backend(file).and_then(|file| Ok(builder().create_with_backend(file)?));
        let format = |database: Database| {
            write(&database, |transaction| {
                transaction.open_table(VALUES)?;
                transaction.open_table(ABOUT)?.insert(FORMAT_ROW, FORMAT)?;
                Ok(())
            })?;
            Ok(database)
        };
        database.and_then(format).map_err(failed)
    });
    let database = made.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    let folder = path.parent().unwrap_or(path);
    fs::rename(&unfinished, path).map_err(io_error("write", path))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", folder))?;
    Ok(database)
}

fn reopen(path: &Path) -> Result<Database, StoreError> {
    let file = open_file(&mut OpenOptions::new(), path)?;
    if file.metadata().map_err(io_error("read", path))?.len() == 0 {
        return Err(StoreError::Damaged { path: path.to_owned(), why: "it is empty".to_owned() });
    }
    let open = |file| {
        let database = builder().set_check_integrity_on_open(true).create_with_backend(backend(file)?)?;
        let about = database.begin_read()?.open_table(ABOUT)?;
        let format = about.get(FORMAT_ROW)?.map_or(0, |row| row.value());
        Ok((database, format))
    };
    match open(file).map_err(redb_error("open", path))? {
        (database, FORMAT) => Ok(database),
        (_, found) => Err(StoreError::OtherVersion { path: path.to_owned(), found, known: FORMAT }),
    }
}

fn open_file(options: &mut OpenOptions, path: &Path) -> Result<File, StoreError> {
    options.read(true).write(true).mode(0o600).open(path).map_err(io_error("open", path))
}

fn backend(file: File) -> Result<FileBackend, redb::Error> {
    Ok(FileBackend::new(file)?)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn read_all(database: &Database) -> Result<Snapshot, redb::Error> {
    let values = database.begin_read()?.open_table(VALUES)?;
    values
        .iter()?
        .map(|row| row.map(|(key, value)| (key.value().to_owned(), value.value().to_vec().into())))
        .collect::<Result<_, _>>()
        .map_err(Into::into)
}

fn commit(database: &Database, batch: &[(&str, &[u8])]) -> Result<(), redb::Error> {
    write(database, |transaction| {
        let mut values = transaction.open_table(VALUES)?;
        for (key, bytes) in batch {
            if bytes.is_empty() {
                values.remove(key)?;
            } else {
                values.insert(key, bytes)?;
            }
        }
        Ok(())
    })
}

fn write(
    database: &Database,
    change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    change(&transaction)?;
    Ok(transaction.commit()?)
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { what, path, source }
}

fn redb_error(what: &'static str, path: &Path) -> impl FnOnce(redb::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |error| match error {
        // What is no database at all is said like this, too.
        redb::Error::Io(source)
            if matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            StoreError::Damaged { path, why: source.to_string() }
        }
        redb::Error::Io(source) => StoreError::Io { what, path, source },
        redb::Error::Corrupted(why) => StoreError::Damaged { path, why },
        error @ (redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::UpgradeRequired(_)) => StoreError::Damaged { path, why: error.to_string() },
        other => StoreError::Io { what, path, source: io::Error::other(other) },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Of redb's file: what says where everything is.
    const HEADER_BYTES: usize = 320;
    /// The byte and bit of it that say which of the two latest commits holds.
    const TURN: (usize, u8) = (9, 1);

    #[test]
    fn values_survive_reopening_and_empty_deletes() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(folder.path()).unwrap();
        store.put("overlay/grants", b"one").unwrap();
        store.put("gone", b"x").unwrap();
        store.write(&[("overlay/grants", b"two"), ("muses/session-1", &[0; 100_000]), ("gone", b"")]).unwrap();
        store.put("never-there", b"").unwrap();
        drop(store);
        let snapshot = DiskStore::open(folder.path()).unwrap().load().unwrap();
        assert_eq!(snapshot.keys().collect::<Vec<_>>(), ["muses/session-1", "overlay/grants"]);
        assert_eq!(snapshot["overlay/grants"].as_slice(), b"two");
        let mode = fs::metadata(folder.path().join(STATE_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// As after kill -9: the file is copied while a store has it open.
    #[test]
    fn what_was_written_is_there_after_a_crash() {
        let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = DiskStore::open(folder.path()).unwrap();
        for round in 0..20u8 {
            store.write(&[("a", &[round + 1; 5000]), ("b", &[round + 1])]).unwrap();
            fs::copy(folder.path().join(STATE_FILE), crashed.path().join(STATE_FILE)).unwrap();
            let snapshot = DiskStore::open(crashed.path()).unwrap().load().unwrap();
            assert_eq!(
                (snapshot["a"].as_slice(), snapshot["b"].as_slice()),
                (&[round + 1; 5000][..], &[round + 1][..])
            );
        }
    }

    #[test]
    fn a_creation_that_was_cut_short_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("state.redb~"), b"half of it").unwrap();
        DiskStore::open(folder.path()).unwrap().put("a", b"1").unwrap();
        assert!(!folder.path().join("state.redb~").exists());
        assert_eq!(DiskStore::open(folder.path()).unwrap().load().unwrap()["a"].as_slice(), b"1");
    }

    /// Whatever has changed, and wherever it ends: what is read is what was written, or nothing.
    #[test]
    fn a_damaged_file_is_named_and_no_other_value_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(STATE_FILE);
        let store = DiskStore::open(folder.path()).unwrap();
        for round in 1..50u8 {
            store.write(&[("overlay/grants", &[round; 300]), ("muses/session-1", &[round])]).unwrap();
        }
        let before = store.load().unwrap();
        store.put("overlay/grants", &[50; 300]).unwrap();
        let (written, crashed) = (store.load().unwrap(), fs::read(&path).unwrap());
        drop(store);
        for (whole, closed) in [(crashed, false), (fs::read(&path).unwrap(), true)] {
            // Of the header every bit, of the rest some.
            let header = (0..HEADER_BYTES).flat_map(|at| (0..8).map(move |bit| (at, bit)));
            let rest = (HEADER_BYTES..whole.len()).step_by(whole.len() / 400).map(|at| (at, 4));
            let flipped = header.chain(rest).map(|(at, bit)| {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                bytes
            });
            let cut = [0, 1, 10, 100, 4096, whole.len() / 2, whole.len() - 1].map(|length| whole[..length].to_vec());
            let mut refused = 0;
            for bytes in flipped.chain(cut) {
                fs::write(&path, &bytes).unwrap();
                let turned = !closed && bytes.get(TURN.0).is_some_and(|byte| byte ^ whole[TURN.0] == TURN.1);
                match DiskStore::open(folder.path()).and_then(|store| store.load()) {
                    Ok(read) if turned => assert_eq!(read, before, "the one flip that is not seen"),
                    Ok(read) => assert_eq!(read, written),
                    Err(error) => {
                        refused += 1;
                        let line = error.to_string();
                        assert!(
                            line.contains("state.redb is damaged") && line.contains("join the overlay again"),
                            "{line}"
                        );
                        assert!(!line.contains('\n'), "{line}");
                    }
                }
            }
            assert!(refused > 20, "{refused}");
        }
    }

    #[test]
    fn another_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(folder.path()).unwrap();
        let database = store.database.into_inner().unwrap().unwrap();
        let newer = |transaction: &redb::WriteTransaction| {
            transaction.open_table(ABOUT)?.insert(FORMAT_ROW, FORMAT + 1)?;
            Ok(())
        };
        write(&database, newer).unwrap();
        drop(database);
        let line = DiskStore::open(folder.path()).err().unwrap().to_string();
        assert!(line.contains("format 2, and this one reads 1"), "{line}");
    }

    #[test]
    fn keys_have_limits() {
        let folder = tempfile::tempdir().unwrap();
        let store = DiskStore::open(folder.path()).unwrap();
        for key in ["", "../x", "A", "a b", "a.b", "a~", "ä"] {
            assert!(matches!(store.put(key, b"x"), Err(StoreError::Unstorable(_))), "{key}");
        }
        assert!(store.load().unwrap().is_empty());
    }
}
