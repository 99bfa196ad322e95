//! What `muses status|peers|sessions|lookup --json` show.

use serde::{Deserialize, Serialize};

use super::conns::End;

/// `muses status`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// This node's id.
    pub node: String,
    /// The overlay's id; none before the first join.
    pub overlay: Option<String>,
    /// What this node is in a closed overlay, `founder`, `inviter` or `member`; none in an open one.
    #[serde(default)]
    pub membership: Option<String>,
    /// This node's address in the overlay's tree, as `/3/0/1`; none while detached.
    pub address: Option<String>,
    /// The id of the root that this node follows.
    pub root: Option<String>,
    /// The name that it claims.
    pub name: Option<String>,
    /// Its parent's id.
    pub parent: Option<String>,
    /// What it does for others: `relay` everything, `mover` as little as it can because it moves often, `leaf` nothing.
    pub standing: String,
    /// Multiaddrs at which it listens.
    pub listen: Vec<String>,
    /// Live links.
    pub links: usize,
    /// Sessions: established, suspended, or in their handshake.
    pub sessions: usize,
    /// Services that it offers.
    pub services: Vec<String>,
    /// What is wrong with this node and how to mend it: a twin with its key, a data folder that is gone, a full disk, a clock that is far ahead, a name that is another's, flight mode.
    #[serde(default)]
    pub warning: Option<String>,
    /// Event counters.
    pub counters: Counters,
}

/// Counters since the start of the process.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Packets forwarded for others.
    pub forwarded: u64,
    /// Packets delivered here.
    pub delivered: u64,
    /// Packets dropped, with full queues, no route or no TTL.
    pub dropped: u64,
    /// Links closed for malformed, oversized or wrong-overlay frames.
    pub bad_links: u64,
    /// End-to-end packets that failed authentication or were replays.
    pub bad_packets: u64,
    /// Records held for others.
    pub records: u64,
    /// Operations with public keys inside the session layer.
    pub public_key_ops: u64,
    /// Sessions resumed.
    pub resumes: u64,
    /// Bytes taken from applications.
    pub sent_bytes: u64,
    /// Bytes handed to applications.
    pub received_bytes: u64,
}

/// One row of `muses peers`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The neighbour's id.
    pub node: String,
    /// Its address in the tree.
    pub address: Option<String>,
    /// `parent`, `child` or `shortcut`.
    pub role: String,
    /// The remote end of the link.
    pub remote: String,
    /// Seconds since the link came up.
    pub up_s: f64,
}

/// One row of `muses sessions`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The other end.
    pub peer: String,
    /// What it is called here, if it is.
    #[serde(default)]
    pub name: Option<String>,
    /// `handshake`, `established` or `suspended`.
    pub state: String,
    /// Streams inside it.
    pub streams: Vec<ConnStatus>,
    /// Links crossed by the latest packet from the peer.
    pub hops: Option<u16>,
    /// Smoothed round trip time in microseconds.
    pub rtt_us: Option<u64>,
    /// How often it was resumed.
    pub resumes: u64,
}

/// One application connection.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ConnStatus {
    /// The service.
    pub service: String,
    /// Whose it is: this node's, which the peer uses, or the peer's, which somebody here uses.
    pub offered_by: End,
    /// Bytes taken from the application here.
    pub sent_bytes: u64,
    /// Bytes handed to the application here.
    pub received_bytes: u64,
}

/// `muses lookup`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Resolved {
    /// What was asked.
    pub name: String,
    /// The id it stands for.
    pub node: String,
    /// Where the node is now, as its newest record says.
    pub address: Option<String>,
    /// The record's sequence number (wall microseconds of its making).
    pub seq: u64,
}

/// `muses key show`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyStatus {
    /// This node's id: its identity's public key.
    pub node: String,
    /// The session key's public half (X25519), in hex.
    pub key: String,
    /// How often the session key was changed.
    pub epoch: u64,
    /// When its certificate ends, in seconds since the Unix epoch; it is renewed long before.
    pub expires_unix_s: u64,
    /// For how many seconds the session key before is answered for; none when there is none.
    pub previous_for_s: Option<u64>,
}

/// One row of `muses name list`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NameStatus {
    /// The name.
    pub name: String,
    /// The id that it means here.
    pub node: String,
    /// Why it does.
    pub kind: NameKind,
}

/// Why a name means a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameKind {
    /// This node claims it.
    Own,
    /// The configuration says so; it comes before everything else.
    Petname,
    /// It was used for this node before, or pinned by hand; another holder is refused.
    Pin,
}
