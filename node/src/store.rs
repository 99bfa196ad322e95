//! What survives a crash of the process.

use std::io;

use overlay::io::Snapshot;

/// A durable map of small values. The driver calls it off its loop, one call after the other.
pub trait Store: Send + Sync + 'static {
    /// Everything that is stored.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self) -> io::Result<Snapshot>;

    /// Replaces the value of `key`; when this returns, the new value survives a power cut, and no crash leaves a mixture.
    ///
    /// # Errors
    /// When it cannot be written; the old value is still there then.
    fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes `key`; no error when there is none.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn delete(&self, key: &str) -> io::Result<()>;
}
