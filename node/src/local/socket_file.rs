//! The file of a unix socket that this node listens at.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Goes when this is dropped, unless something else has its name by then: the socket of a node that was started in a folder that was moved, or of whoever
/// removed this file and took its place.
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, which nothing else gets while the socket is open.
    id: (u64, u64),
}

impl SocketFile {
    /// The socket that was bound to `bound`, and that `path` will be the name of.
    ///
    /// # Errors
    /// When there is nothing at `bound`.
    pub fn new(bound: &Path, path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: id_of(bound)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if id_of(&self.path).is_ok_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn id_of(path: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_has_taken_its_place_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["a", "b"].map(|name| folder.path().join(name));
        let bind = |path: &Path| (UnixListener::bind(path).unwrap(), SocketFile::new(path, path).unwrap());
        let (_socket, file) = bind(&path);
        drop(file);
        assert!(!path.exists());
        let (_socket, file) = bind(&path);
        let _other = UnixListener::bind(&other).unwrap();
        fs::rename(&other, &path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
