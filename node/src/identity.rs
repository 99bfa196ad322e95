//! The two secret keys of a node: `D/identity.key` (Ed25519 seed: who it is) and `D/session.key` (X25519: its sessions).
//!
//! Each is a file of 32 raw bytes, mode 0600, made on the first start and never overwritten. They are separate so that no key
//! serves both signatures and key agreement.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use overlay::id::Identity;
use zeroize::Zeroizing;

/// File name of the Ed25519 seed.
pub const IDENTITY_FILE: &str = "identity.key";
/// File name of the X25519 secret.
pub const SESSION_FILE: &str = "session.key";
const SECRET_BYTES: usize = 32;

/// A node's secrets.
pub struct Keys {
    /// The Ed25519 seed; libp2p needs it too.
    pub seed: Zeroizing<[u8; SECRET_BYTES]>,
    /// The static secret of the sessions.
    pub session: Zeroizing<[u8; SECRET_BYTES]>,
    /// Whether the identity was made just now.
    pub fresh: bool,
}

impl Keys {
    /// Reads the keys in `data_dir`, or makes those that are missing.
    ///
    /// # Errors
    /// [`KeyError`]; nothing was overwritten.
    pub fn open(data_dir: &Path) -> Result<Self, KeyError> {
        let (seed, fresh) = read_or_make(&data_dir.join(IDENTITY_FILE))?;
        let (session, _) = read_or_make(&data_dir.join(SESSION_FILE))?;
        Ok(Self { seed, session, fresh })
    }

    /// Keys that nobody keeps.
    ///
    /// # Errors
    /// When the system has no entropy.
    pub fn random() -> io::Result<Self> {
        Ok(Self { seed: random()?, session: random()?, fresh: true })
    }

    /// The key pair that signs and proves the node's id.
    pub fn identity(&self) -> Identity {
        Identity::from_secret(&self.seed)
    }
}

/// Why a key is not usable.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It could not be read or made.
    #[error("cannot {what} the key {}: {source}; check its owner and mode, or use another --data-dir", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not 32 bytes.
    #[error("the key {} is not {SECRET_BYTES} bytes long; restore it from a backup, or use another --data-dir", .0.display())]
    Malformed(PathBuf),
    /// Others may read it.
    #[error("the key {path} is open to other users (mode {1:o}); run: chmod 600 {path}", path = .0.display())]
    Exposed(PathBuf, u32),
}

fn read_or_make(path: &Path) -> Result<(Zeroizing<[u8; SECRET_BYTES]>, bool), KeyError> {
    match File::open(path) {
        Ok(file) => Ok((read(path, file)?, false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((make(path).map_err(failed("make", path))?, true)),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn read(path: &Path, file: File) -> Result<Zeroizing<[u8; SECRET_BYTES]>, KeyError> {
    let mode = file.metadata().map_err(failed("read", path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed(path.to_owned(), mode));
    }
    // One byte more than a key has, in memory that never moves: nothing unwiped stays behind.
    let mut bytes = Zeroizing::new([0; SECRET_BYTES + 1]);
    let mut file = file.take(bytes.len() as u64);
    let mut length = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(failed("read", path))? {
            0 => break,
            more => length += more,
        }
    }
    match bytes.split_first_chunk::<SECRET_BYTES>() {
        Some((secret, _)) if length == SECRET_BYTES => Ok(Zeroizing::new(*secret)),
        _ => Err(KeyError::Malformed(path.to_owned())),
    }
}

pub(crate) fn random() -> io::Result<Zeroizing<[u8; SECRET_BYTES]>> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    getrandom::fill(secret.as_mut_slice()).map_err(io::Error::other)?;
    Ok(secret)
}

fn make(path: &Path) -> io::Result<Zeroizing<[u8; SECRET_BYTES]>> {
    let secret = random()?;
    // A name of its own, so that a crash leaves no half-written key; the link fails if a key appeared meanwhile.
    let temporary = path.with_extension("key.new");
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(secret.as_slice())?;
    file.sync_all()?;
    fs::hard_link(&temporary, path)?;
    fs::remove_file(&temporary)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(secret)
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError + use<> {
    let path = path.to_owned();
    move |source| KeyError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_private_and_then_kept() {
        let folder = tempfile::tempdir().unwrap();
        let first = Keys::open(folder.path()).unwrap();
        assert!(first.fresh);
        assert_ne!(*first.seed, *first.session);
        for name in [IDENTITY_FILE, SESSION_FILE] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let second = Keys::open(folder.path()).unwrap();
        assert!(!second.fresh);
        assert_eq!(second.identity().id(), first.identity().id());
        assert_eq!(*second.session, *first.session);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn a_crash_while_making_leaves_no_half_key() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("identity.key.new"), b"half").unwrap();
        assert!(Keys::open(folder.path()).unwrap().fresh);
    }

    #[test]
    fn malformed_or_exposed_keys_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(IDENTITY_FILE);
        for length in [0, 31, 33, 64] {
            fs::write(&path, vec![7; length]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(Keys::open(folder.path()), Err(KeyError::Malformed(_))), "{length}");
            assert_eq!(fs::read(&path).unwrap().len(), length);
        }
        fs::write(&path, [7; 32]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let line = Keys::open(folder.path()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(line.contains("chmod 600"), "{line}");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(Keys::open(folder.path()), Err(KeyError::Io { .. })));
    }
}
