//! The paper's Local Connection Manager (LCM, section III-C.3): application sockets on one side, connections of the stack on
//! the other.
//!
//! The paper keeps a table from an application's source port to its socket. Here each socket belongs to one task, which opened
//! its connection with that source port; the stack keys the stream by it. An application's socket is never closed because of an
//! outage: while the session is suspended the task waits, and TCP's own flow control holds the application back.

pub mod admission;
pub mod callers;
pub mod catalogue;
pub mod dial;
pub mod door;
pub mod exposures;
pub mod invites;
pub mod kept;
pub mod listen;
pub mod pipe;
pub mod reverse;
pub mod service;
pub mod socket_file;
pub mod socks;
