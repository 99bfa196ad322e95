//! The folder of a node, `D`: one node at a time works in it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::advice;
use crate::exit::{Code, Fault};

/// Of a folder's mode.
const WRITABLE_BY_ANYBODY: u32 = 0o002;
/// The same: who may write to it may remove only what is his, as in /tmp, which is to stay as it is.
const STICKY: u32 = 0o1000;
/// Of the lock's mode: whoever may open a file may hold its lock, for reading, too, and so keep the node from starting.
const LOCK_MODE: u32 = 0o600;

/// Locked as long as a node runs on `data_dir`; the system lets go of it even after kill -9.
pub fn lock_path(data_dir: &Path) -> PathBuf {
    data_dir.join("lock")
}

/// Makes a folder for this user alone, if it is missing.
///
/// # Errors
/// What the system says.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| if error.kind() == io::ErrorKind::AlreadyExists { in_the_way(folder) } else { error })
}

/// Why there can be no folder where something else is.
fn in_the_way(folder: &Path) -> io::Error {
    let line = match fs::read_link(folder) {
        Ok(target) => format!("it is a link to {}, and no folder is there", target.display()),
        Err(_) => "it is no folder".to_owned(),
    };
    io::Error::new(io::ErrorKind::NotADirectory, line)
}

/// Whether what is in `data_dir` can be another user's: his configuration, or a socket in the place of the node's. It may be this user's or
/// root's, and `anybodys` where somebody else's is meant.
///
/// # Errors
/// [`Code::State`], with whose it is, or who can write to it.
pub fn check_owner(data_dir: &Path, anybodys: bool) -> Result<(), Fault> {
    // What is missing is nobody's.
    let Ok(meta) = fs::metadata(data_dir) else { return Ok(()) };
    let fault = |line: String| Err(Fault::new(Code::State, line));
    let (folder, owner) = (data_dir.display(), meta.uid());
    if ![0, rustix::process::geteuid().as_raw()].contains(&owner) && !anybodys {
        return fault(format!(
            "the data folder {folder} is another user's (uid {owner}), who could change it; choose another --data-dir"
        ));
    }
    if meta.mode() & WRITABLE_BY_ANYBODY != 0 {
        let cure = if meta.mode() & STICKY == 0 {
            format!("look at what is in it, then: chmod o-w {}", advice::quoted(data_dir))
        } else {
            format!("choose another --data-dir, for instance {}", advice::quoted(&data_dir.join("muses")))
        };
        return fault(format!("anybody can write to the data folder {folder}; {cure}"));
    }
    Ok(())
}

/// Makes the folder if it is missing, and keeps others out as long as the returned file is open.
///
/// # Errors
/// [`Code::AlreadyRunning`] when another node has it, [`Code::State`] when it cannot be used.
pub fn open_folder(data_dir: &Path) -> Result<File, Fault> {
    let failed = |error: io::Error| {
        Fault::new(
            Code::State,
            format!(
                "cannot use the data folder {}: {error}; {}",
                data_dir.display(),
                advice::after(&error, "choose another --data-dir")
            ),
        )
    };
    make_folder(data_dir).map_err(failed)?;
    check_owner(data_dir, false)?;
    let mut lock = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(LOCK_MODE)
        .open(lock_path(data_dir))
        .map_err(failed)?;
    close_to_others(&lock).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {
            lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id())).map_err(failed)?;
            Ok(lock)
        }
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            let _ = lock.take(20).read_to_string(&mut process);
            Err(Fault::new(
                Code::AlreadyRunning,
                format!(
                    "another node (process {process}) runs on {0}; stop it (muses down --data-dir {0}) or choose another --data-dir",
                    data_dir.display()
                ),
            ))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Earlier versions made the lock as the umask let them. That of another user, which root may use, is his to close.
fn close_to_others(lock: &File) -> io::Result<()> {
    let meta = lock.metadata()?;
    let is_ours = meta.uid() == rustix::process::geteuid().as_raw();
    if is_ours && meta.mode() & 0o777 & !LOCK_MODE != 0 {
        // Some file systems have no modes; there, others are kept out by how it is mounted.
        let _ = lock.set_permissions(fs::Permissions::from_mode(LOCK_MODE));
    }
    Ok(())
}

/// Whether a node has the folder, see [`open_folder`].
pub fn is_running(data_dir: &Path) -> bool {
    File::open(lock_path(data_dir)).is_ok_and(|lock| lock.try_lock_shared().is_err())
}

/// Whether the node of this process still works in `data_dir`: somebody may have moved the folder, and put another one there.
///
/// # Errors
/// [`Code::State`], with what to do.
pub fn check_ours(data_dir: &Path) -> Result<(), Fault> {
    let holder = fs::read_to_string(lock_path(data_dir)).ok().and_then(|text| text.trim().parse().ok());
    if holder == Some(std::process::id()) {
        return Ok(());
    }
    let line = format!(
        "the data folder {} is not where it was when this node started; move it back, or end the node (process {}) and start it where its folder is now",
        data_dir.display(),
        std::process::id()
    );
    Err(Fault::new(Code::State, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_for_each_folder() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("a/b");
        let lock = open_folder(&data_dir).unwrap();
        let fault = open_folder(&data_dir).unwrap_err();
        assert_eq!(fault.code, Code::AlreadyRunning as u8);
        assert!(fault.message.contains(&std::process::id().to_string()), "{fault}");
        assert!(check_ours(&data_dir).is_ok());
        let moved = folder.path().join("elsewhere");
        fs::rename(&data_dir, &moved).unwrap();
        assert_eq!(check_ours(&data_dir).unwrap_err().code, Code::State as u8);
        fs::rename(&moved, &data_dir).unwrap();
        drop(lock);
        assert!(open_folder(&data_dir).is_ok());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/nowhere/at/all", &link).unwrap();
        let line = open_folder(&link).unwrap_err().message;
        assert!(line.contains("it is a link to /nowhere/at/all") && line.contains("; choose another"), "{line}");
        assert!(open_folder(&lock_path(&data_dir)).unwrap_err().message.contains("it is no folder"));
        assert_eq!(open_folder(Path::new("/dev/null/x")).unwrap_err().code, Code::State as u8);
    }

    #[test]
    fn who_is_another_user_cannot_hold_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = lock_path(folder.path());
        let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
        drop(open_folder(folder.path()).unwrap());
        assert_eq!(mode(), 0o600, "a new one");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        drop(open_folder(folder.path()).unwrap());
        assert_eq!(mode(), 0o600, "one of an earlier version");
    }
}
