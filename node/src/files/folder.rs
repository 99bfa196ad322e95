//! The folder that files are received in: names that peers give, partial files, and their place when they are whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{PIECE_BYTES, Progress};

/// Longest name of a file, in bytes: with what is added to a partial one it fits into 255.
const MAX_NAME_BYTES: usize = 220;
/// So much of a sender's id is in the name of a partial file, in characters: 93 bits, so that nobody makes an id that looks alike.
const SENDER_CHARS: usize = 16;
/// How long another process, or the rest of a broken connection, may hold a partial file.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries to get hold of it.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Most times that a partial file is opened, because each time it was gone from its path when it could be had at last.
const MAX_OPENINGS: u32 = 8;

/// Where files go.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The folder, which is there.
    pub path: PathBuf,
    /// Whether a file may take the place of another one of its name.
    pub force: bool,
}

/// A file that is not whole yet: `.NAME.from-SENDER.part`. No other process writes to it meanwhile.
pub struct Partial {
    /// Where it is.
    pub path: PathBuf,
    /// To write at its end.
    pub file: File,
    /// Of all that is in it.
    pub sum: Sha256,
    /// Its length.
    pub bytes: u64,
}

/// The name under which a file is stored that a peer calls `name`; none when nothing can be made of it.
///
/// Nobody's name leads out of the folder, hides a file, looks like an option of a command, or does something to a terminal that prints it.
pub fn safe_name(name: &str) -> Option<String> {
    let strange = |c: char| c == '/' || c == '\\' || c.is_control() || is_invisible(c);
    let mut safe: String = name.chars().map(|c| if strange(c) { '_' } else { c }).collect();
    if safe.starts_with(['.', '-']) {
        // A dot: it could be a file that a program obeys, and one that nobody sees; partial files begin so, too. A dash: `rm *` would read it as an option.
        safe.replace_range(..1, "_");
    }
    let meaning = safe.chars().any(|c| !matches!(c, '_' | '.') && !c.is_whitespace());
    (meaning && safe.len() <= MAX_NAME_BYTES).then_some(safe)
}

/// Marks that turn the direction of writing around, and spaces without width: `gpj.exe` would read `exe.jpg` (Unicode TR 36, 3.3).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl Folder {
    /// Where the file of this safe name is when it is whole.
    pub fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether anything has this name already, a dangling link, too.
    pub fn is_taken(&self, name: &str) -> bool {
        fs::symlink_metadata(self.place(name)).is_ok()
    }

    /// Length of the regular file of this name, if it is one.
    pub fn length(&self, name: &str) -> Option<u64> {
        fs::symlink_metadata(self.place(name)).ok().filter(fs::Metadata::is_file).map(|meta| meta.len())
    }

    /// How many bytes this user can still write here.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn room(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.path)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// What there is of the file of this safe name from `sender`, an id; empty when there was nothing.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process holds it for too long, or what the disk says.
    pub fn partial(&self, name: &str, sender: &str, watch: &mut dyn FnMut(Progress)) -> io::Result<Partial> {
        // The end of an id differs from node to node; it begins with what kind of key it is.
        let tail = sender.get(sender.len().saturating_sub(SENDER_CHARS)..).unwrap_or(sender);
        let path = self.path.join(format!(".{name}.from-{tail}.part"));
        let mut file = open_alone(&path)?;
        let (sum, bytes) = hash(&mut file, watch)?;
        Ok(Partial { path, file, sum, bytes })
    }

    /// Takes what is empty away again. Nothing that came is lost, and what the disk says does not matter.
    pub fn give_up(&self, partial: Partial) {
        if partial.bytes == 0 {
            // Still locked: nobody has written to it meanwhile.
            let _ = fs::remove_file(&partial.path);
        }
    }

    /// Gives a whole file its name. It is on disk when this returns.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the name was taken meanwhile and must not be; or what the disk says.
    pub fn finish(&self, partial: &Partial, name: &str) -> io::Result<()> {
        partial.file.sync_all()?;
        let place = self.place(name);
        if self.force {
            fs::rename(&partial.path, &place)?;
        } else {
            match renameat_with(CWD, &partial.path, CWD, &place, RenameFlags::NOREPLACE) {
                // Not every file system knows that; a second name is as safe.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    fs::hard_link(&partial.path, &place)?;
                    fs::remove_file(&partial.path)?;
                }
                result => result?,
            }
        }
        File::open(&self.path)?.sync_all()
    }
}

impl Partial {
    /// Forgets what is in it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.sum = Sha256::new();
        self.bytes = 0;
        Ok(())
    }
}

/// SHA-256 of the file at `path`.
///
/// # Errors
/// What the disk says.
pub fn sum_of(path: &Path, watch: &mut dyn FnMut(Progress)) -> io::Result<Sha256> {
    hash(&mut File::open(path)?, watch).map(|(sum, _)| sum)
}

/// What is in a file, and how long it is.
fn hash(file: &mut File, watch: &mut dyn FnMut(Progress)) -> io::Result<(Sha256, u64)> {
    let (mut sum, mut bytes, mut buffer) = (Sha256::new(), 0_u64, vec![0; PIECE_BYTES]);
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok((sum, bytes));
        }
        sum.update(buffer.get(..length).unwrap_or_default());
        bytes = bytes.saturating_add(length as u64);
        watch(Progress::Checking(bytes));
    }
}

/// The partial file at `path`, to which nobody else writes meanwhile.
///
/// Whoever held it while this waited may have finished it: then this descriptor would be one to a whole file in its place, whose sender could go on writing
/// to it. So what counts is that the file still is at `path` once it is held; from then on only its holder moves it away.
fn open_alone(path: &Path) -> io::Result<File> {
    // In a folder that others can write to, a link must not lead elsewhere.
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let deadline = Instant::now() + LOCK_LIMIT;
    for _ in 0..MAX_OPENINGS {
        let file = OpenOptions::new().read(true).append(true).create(true).custom_flags(nofollow).open(path)?;
        lock(&file, deadline)?;
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// Whether what is at `path` now is this open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A sender whose process died comes again before this side has noticed that the first connection is dead.
fn lock(file: &File, deadline: Instant) -> io::Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder_or_hides() {
        for (name, safe) in [
            ("big.iso", "big.iso"),
            ("Übung 1.txt", "Übung 1.txt"),
            ("../../etc/passwd", "_._.._etc_passwd"),
            ("/etc/passwd", "_etc_passwd"),
            ("..\\x", "_._x"),
            (".bashrc", "_bashrc"),
            ("a\n\u{1b}[2Jb\0", "a__[2Jb_"),
            ("photo\u{202e}gpj.exe", "photo_gpj.exe"),
            ("-rf", "_rf"),
        ] {
            assert_eq!(safe_name(name).as_deref(), Some(safe), "{name:?}");
        }
        for nothing in ["", ".", "..", "/", "///", "\0", " ", "_", &"x".repeat(221)] {
            assert_eq!(safe_name(nothing), None, "{nothing:?}");
        }
        assert!(safe_name(&"é".repeat(110)).is_some());
    }

    #[test]
    fn a_partial_file_is_found_again_and_belongs_to_its_sender() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Folder { path: folder.path().to_owned(), force: false };
        let (alice, bob) = ("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X", "12D3KooWbob");
        let open = |who| folder.partial("x", who, &mut |_| {}).unwrap();
        let partial = open(alice);
        fs::write(&partial.path, b"hello").unwrap();
        assert_eq!(open(bob).bytes, 0);
        drop(partial);
        let again = open(alice);
        assert_eq!((again.bytes, again.sum.finalize()), (5, Sha256::digest(b"hello")));
    }

    #[test]
    fn a_link_is_not_followed_and_a_taken_name_stays() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let folder = Folder { path: folder.path().to_owned(), force: false };
        std::os::unix::fs::symlink(elsewhere.path().join("x"), folder.path.join(".x.from-bob.part")).unwrap();
        assert!(folder.partial("x", "bob", &mut |_| {}).is_err());
        assert!(!elsewhere.path().join("x").exists());
        let partial = folder.partial("y", "bob", &mut |_| {}).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", folder.place("y")).unwrap();
        assert!(folder.is_taken("y"));
        assert_eq!(folder.finish(&partial, "y").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        Folder { force: true, ..folder.clone() }.finish(&partial, "y").unwrap();
        assert!(folder.length("y") == Some(0) && !partial.path.exists());
    }
}
