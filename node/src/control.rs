//! How `muses` talks to a running node: a unix socket in its data folder, one JSON object per line each way.
//!
//! A request is `{"verb":"ping","peer":"alice"}`; the reply is `{"status":"ok","data":...}` or
//! `{"status":"error","code":3,"message":"..."}`. Many requests may follow each other on one connection, except that after
//! the reply to `pipe` the connection carries that pipe's bytes and nothing else. The socket is 0600: who may open it may do all
//! that the node's owner may.

use std::path::{Path, PathBuf};

pub mod client;
pub mod server;
pub mod verbs;
pub mod wire;

/// The socket of the node on `data_dir`.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}
