//! MUSeS: secured sessions between named devices. Pure: no sockets, no clock, no entropy.

pub mod cert;
pub mod content;
pub mod dh;
pub mod handshake;
mod kdf;
pub mod keys;
pub mod packet;
pub mod replay;
pub mod resume;
