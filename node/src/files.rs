//! Files from node to node: what `muses send` and `muses receive` say to each other.
//!
//! The receiver's node offers the service [`SERVICE`] as long as somebody runs `muses receive` on it, and to whom he names; the
//! sender opens a stream to it. So who may send is decided by the receiver's node, about the key at the other end of the session,
//! before a byte of this protocol is read. The session encrypts, and outlasts outages; what is here outlasts the processes.
//!
//! Each message is one line of JSON, at most [`word::MAX_WORD_BYTES`] long. For each file:
//!
//! ```text
//!   sender                                   receiver
//!   offer     name, length              ->
//!                                       <-   have      length and SHA-256 of what an earlier try left, if anything
//!   go        from 0, or from there     ->             from there when that is how the sender's file begins
//!   the bytes from there to the end     ->
//!   sum       SHA-256 of the whole      ->
//!                                       <-   stored    when it is right: on disk, and under its own name
//! ```
//!
//! Where a file of this name and length is there already, the receiver answers `exists` to the offer, and to the `sum` that follows
//! `stored` when it is that file. So a sender who did not hear the last answer just asks again. `refused` may come at any time.
//!
//! Nobody has to trust that an earlier try left the right bytes, and no state is kept beside the partial file itself: what it is
//! good for is found out by its checksum.

use std::io;

use crate::exit::Fault;

pub mod folder;
pub mod receive;
pub mod send;
pub mod word;

/// The service at which files are taken. No person can offer a service of this name.
pub const SERVICE: &str = "~files";

/// How much is read, hashed and written at once, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// How far a file is; for a progress bar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// These many bytes of an earlier try, or of a file that is there already, are checked.
    Checking(u64),
    /// These many bytes are on the other side, or on the way there.
    At(u64),
}

/// Why a file did not get there.
#[derive(Debug)]
pub enum Trouble {
    /// The connection broke, or the other side says what makes no sense. What has arrived stays, and the next try goes on there.
    Broken(String),
    /// The receiver does not take it.
    Refused(word::Why),
    /// Something is wrong on this side.
    Here(Fault),
}

impl From<io::Error> for Trouble {
    /// For the connection; whoever works on a file says which.
    fn from(error: io::Error) -> Self {
        // What the system says of a stream whose other end is gone says nothing to people.
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Self::Broken("the connection ended".to_owned())
            }
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// A checksum as people compare it.
fn hex(sum: &[u8]) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
