//! What is fuzzed. Each target takes bytes of a peer, the disk or a local program, and panics when a promise about them does not hold.
//!
//! libFuzzer runs the targets (`fuzz/fuzz_targets`), and `tests/replay.rs` runs all that it ever found interesting, on the stable compiler. No target
//! reads a clock or entropy: the same bytes do the same thing.

#![allow(clippy::expect_used, reason = "a panic is how a target says what it found")]

mod addresses;
mod bulk;
mod messages;
mod node;
mod overlay_node;
mod peer;
mod script;
mod sessions;
mod signed;
mod stored;
mod wire;

pub use addresses::overlay_addresses;
pub use bulk::node_bulk;
pub use messages::{muses_frames, muses_messages, muses_replay};
pub use node::{node_bytes, node_text};
pub use overlay_node::overlay_node;
pub use peer::{Peer, muses_peer};
pub use sessions::{muses_handshakes, muses_sessions};
pub use signed::{Believe, overlay_signed};
pub use stored::node_store;
pub use wire::{overlay_frames, overlay_packets};

/// A target: returns when its promises hold for these bytes.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const ALL: [(&str, Target); 15] = [
    ("muses_frames", muses_frames),
    ("muses_handshakes", muses_handshakes),
    ("muses_messages", muses_messages),
    ("muses_peer", muses_peer),
    ("muses_replay", muses_replay),
    ("muses_sessions", muses_sessions),
    ("node_bulk", node_bulk),
    ("node_bytes", node_bytes),
    ("node_store", node_store),
    ("node_text", node_text),
    ("overlay_addresses", overlay_addresses),
    ("overlay_frames", overlay_frames),
    ("overlay_node", overlay_node),
    ("overlay_packets", overlay_packets),
    ("overlay_signed", overlay_signed),
];
