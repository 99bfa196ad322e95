//! The two secret keys of a node: `D/identity.key` (Ed25519 seed: who it is) and `D/session.key` (X25519: its sessions).
//!
//! Each is a file of 32 raw bytes, mode 0600, made on the first start. The identity is never overwritten. They are separate so that no key
//! serves both signatures and key agreement.
//!
//! Once it was changed (`muses key rotate`), `session.key` has 80 bytes: the secret (32), how often it was changed (8, big-endian), the secret
//! before (32), and until when that one is answered for, in seconds since the Unix epoch (8, big-endian).

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use muses::cert::{PREVIOUS_KEY_KEPT, StaticKey};
use overlay::id::Identity;
use overlay::time::WallTime;
use zeroize::Zeroizing;

use crate::advice;
use crate::store::STATE_FILE;

/// File name of the Ed25519 seed.
pub const IDENTITY_FILE: &str = "identity.key";
/// File name of the X25519 secret.
pub const SESSION_FILE: &str = "session.key";
const SECRET_BYTES: usize = 32;
/// Length of a session key that was changed.
const ROTATED_BYTES: usize = 2 * SECRET_BYTES + 2 * 8;

/// A node's secrets.
pub struct Keys {
    /// The Ed25519 seed; libp2p needs it too.
    pub seed: Zeroizing<[u8; SECRET_BYTES]>,
    /// The static secret of the sessions.
    pub session: StaticKey,
    /// Whether the identity was made just now.
    pub fresh: bool,
}

impl Keys {
    /// Reads the keys in `data_dir`, or makes those that are missing.
    ///
    /// # Errors
    /// [`KeyError`]; nothing was overwritten.
    pub fn open(data_dir: &Path) -> Result<Self, KeyError> {
        // A new key would not fit to what is stored: the places, names and sessions of another node.
        if data_dir.join(STATE_FILE).exists() {
            let mut keys = [IDENTITY_FILE, SESSION_FILE].map(|name| data_dir.join(name)).into_iter();
            keys.find(|path| !path.exists()).map_or(Ok(()), |lost| Err(KeyError::Lost(lost)))?;
        }
        let (seed, fresh) = read_or_make(&data_dir.join(IDENTITY_FILE))?;
        let session = session_key(&data_dir.join(SESSION_FILE))?;
        Ok(Self { seed, session, fresh })
    }

    /// Keys that nobody keeps.
    ///
    /// # Errors
    /// When the system has no entropy.
    pub fn random() -> io::Result<Self> {
        Ok(Self { seed: random()?, session: (*random()?).into(), fresh: true })
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
    #[error("cannot {what} the key {}: {source}; {}", .path.display(), advice::after(source, "check its owner and mode, or use another --data-dir"))]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not there, though its node has run before.
    #[error("the key {} is missing, and what its node stored is there; restore it from a backup, or move {STATE_FILE} away to start as another node", .0.display())]
    Lost(PathBuf),
    /// Not as long as a key.
    #[error("the key {} has a wrong length; restore it from a backup, or use another --data-dir", .0.display())]
    Malformed(PathBuf),
    /// Something else has its name.
    #[error("the key {} is no file; move that away and restore the key from a backup, or use another --data-dir", .0.display())]
    NotAFile(PathBuf),
    /// Others may read it.
    #[error("the key {path} is open to other users (mode {1:o}); run: chmod 600 {path}", path = .0.display())]
    Exposed(PathBuf, u32),
}

/// Puts another secret in the place of the session key in `data_dir`; the one before stays beside it as long as records may name it.
///
/// # Errors
/// [`KeyError`]; the old file is still there then.
pub fn rotate(data_dir: &Path, now: WallTime) -> Result<StaticKey, KeyError> {
    let path = data_dir.join(SESSION_FILE);
    let old = session_key(&path)?;
    let secret = random().map_err(failed("make", &path))?;
    let until_unix_s = now.as_unix_secs().saturating_add(PREVIOUS_KEY_KEPT.as_secs());
    let until = WallTime::from_unix_micros(until_unix_s.saturating_mul(1_000_000));
    let new = StaticKey { secret, epoch: old.epoch.saturating_add(1), previous: Some((old.secret, until)) };
    write(&path, &rotated(&new)).map_err(failed("replace", &path))?;
    Ok(new)
}

fn rotated(key: &StaticKey) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(ROTATED_BYTES));
    bytes.extend_from_slice(key.secret.as_slice());
    if let Some((previous, until)) = &key.previous {
        bytes.extend_from_slice(&key.epoch.to_be_bytes());
        bytes.extend_from_slice(previous.as_slice());
        bytes.extend_from_slice(&until.as_unix_secs().to_be_bytes());
    }
    bytes
}

fn session_key(path: &Path) -> Result<StaticKey, KeyError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((*read_or_make(path)?.0).into()),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let bytes = read_up_to(path, file)?;
    parse_session_key(&bytes).ok_or_else(|| KeyError::Malformed(path.to_owned()))
}

fn parse_session_key(bytes: &[u8]) -> Option<StaticKey> {
    let (secret, rest) = bytes.split_first_chunk::<SECRET_BYTES>()?;
    if rest.is_empty() {
        return Some((*secret).into());
    }
    let (epoch, rest) = rest.split_first_chunk::<8>()?;
    let (previous, until) = rest.split_first_chunk::<SECRET_BYTES>()?;
    let until_unix_s = u64::from_be_bytes(until.try_into().ok()?);
    let until = WallTime::from_unix_micros(until_unix_s.saturating_mul(1_000_000));
    let previous = Some((Zeroizing::new(*previous), until));
    Some(StaticKey { secret: Zeroizing::new(*secret), epoch: u64::from_be_bytes(*epoch), previous })
}

fn read_or_make(path: &Path) -> Result<(Zeroizing<[u8; SECRET_BYTES]>, bool), KeyError> {
    match File::open(path) {
        Ok(file) => Ok((read(path, file)?, false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((make(path).map_err(failed("make", path))?, true)),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn read(path: &Path, file: File) -> Result<Zeroizing<[u8; SECRET_BYTES]>, KeyError> {
    let bytes = read_up_to(path, file)?;
    bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| KeyError::Malformed(path.to_owned()))
}

/// All bytes of a file that is no longer than the longest key; of a longer one, one more than that.
fn read_up_to(path: &Path, file: File) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let meta = file.metadata().map_err(failed("read", path))?;
    if !meta.is_file() {
        return Err(KeyError::NotAFile(path.to_owned()));
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed(path.to_owned(), mode));
    }
    // One byte more than a key has, in memory that never moves: nothing unwiped stays behind.
    let mut bytes = Zeroizing::new(vec![0; ROTATED_BYTES + 1]);
    let mut file = file.take(bytes.len() as u64);
    let mut length = 0;
    while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).map_err(failed("read", path))? {
            0 => break,
            more => length += more,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// 32 bytes that nobody can guess.
pub(crate) fn random() -> io::Result<Zeroizing<[u8; SECRET_BYTES]>> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    getrandom::fill(secret.as_mut_slice()).map_err(io::Error::other)?;
    Ok(secret)
}

fn make(path: &Path) -> io::Result<Zeroizing<[u8; SECRET_BYTES]>> {
    let secret = random()?;
    let temporary = write_beside(path, secret.as_slice())?;
    // The link fails if a key appeared meanwhile.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked?;
    sync_folder(path)?;
    Ok(secret)
}

/// Puts `bytes`, for this user alone, in the place of the file at once, or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::rename(write_beside(path, bytes)?, path)?;
    sync_folder(path)
}

/// Writes a file with a name of its own, so that a crash leaves no half-written key.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let temporary = path.with_extension("key.new");
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_all()) {
        // On a full disk there is half of it.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(temporary)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
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
        assert_ne!(*first.seed, *first.session.secret);
        for name in [IDENTITY_FILE, SESSION_FILE] {
            let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let second = Keys::open(folder.path()).unwrap();
        assert!(!second.fresh);
        assert_eq!(second.identity().id(), first.identity().id());
        assert_eq!(*second.session.secret, *first.session.secret);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn a_changed_session_key_keeps_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let first = Keys::open(folder.path()).unwrap();
        let now = WallTime::from_unix_micros(5_000_000);
        for epoch in 1..4 {
            let before = Keys::open(folder.path()).unwrap().session;
            let changed = rotate(folder.path(), now).unwrap();
            let stored = Keys::open(folder.path()).unwrap();
            assert_ne!(*changed.secret, *before.secret);
            for key in [&changed, &stored.session] {
                let (previous, until) = key.previous.as_ref().unwrap();
                assert_eq!((key.epoch, **previous), (epoch, *before.secret));
                assert_eq!(until.as_unix_secs(), 5 + PREVIOUS_KEY_KEPT.as_secs());
            }
            assert_eq!(*stored.session.secret, *changed.secret);
            assert_eq!(stored.identity().id(), first.identity().id());
        }
        let path = folder.path().join(SESSION_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for length in [31, 33, 79, 81] {
            fs::write(&path, vec![7; length]).unwrap();
            assert!(matches!(Keys::open(folder.path()), Err(KeyError::Malformed(_))), "{length}");
            assert!(rotate(folder.path(), now).is_err());
            assert_eq!(fs::read(&path).unwrap().len(), length);
        }
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
        assert!(matches!(Keys::open(folder.path()), Err(KeyError::NotAFile(_))));
    }
}
