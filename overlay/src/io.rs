//! The words in which a pure object and its driver talk about links: the same for the overlay, the stack and the simulator.

use core::fmt;

use multiaddr::Multiaddr;
use zeroize::Zeroizing;

/// One authenticated connection to a neighbour, numbered by the driver and never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// The two streams of a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lane {
    /// Small messages that must not wait behind data: hello, heartbeats, grants, DHT.
    Control,
    /// Routed packets.
    Data,
}

impl Lane {
    /// The longest frame that this lane carries, in bytes.
    pub const fn max_frame_bytes(self) -> usize {
        match self {
            Self::Control => MAX_CONTROL_FRAME_BYTES,
            Self::Data => MAX_DATA_FRAME_BYTES,
        }
    }
}

/// Longest control frame, in bytes.
pub const MAX_CONTROL_FRAME_BYTES: usize = 16 * 1024;
/// Longest data frame, in bytes: a 60 KiB packet and its headers.
pub const MAX_DATA_FRAME_BYTES: usize = 64 * 1024;

/// A frame to be written to a link.
#[derive(Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub link: LinkId,
    /// On which of its streams.
    pub lane: Lane,
    /// The frame, without a length prefix.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Transmit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transmit({:?} {:?} {} bytes)", self.link, self.lane, self.bytes.len())
    }
}

/// What a pure object wants its driver to do.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// Connect to this address; the answer is `handle_link_up` or `handle_dial_failed` with the same address.
    Dial(Multiaddr),
    /// Close a link; `handle_link_down` follows.
    Close(LinkId, CloseReason),
    /// Store `bytes` under `key` so that they survive a crash, replacing what was there; then `handle_persisted(key)`.
    Persist {
        /// Which of the object's stored values.
        key: StoreKey,
        /// Its new value; empty means delete. It may hold secrets: wiped when it is dropped.
        bytes: Zeroizing<Vec<u8>>,
    },
}

impl fmt::Debug for Command {
    /// Never shows what is stored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(address) => write!(f, "Dial({address})"),
            Self::Close(link, why) => write!(f, "Close({link:?}, {why:?})"),
            Self::Persist { key, bytes } => write!(f, "Persist({key} {} bytes)", bytes.len()),
        }
    }
}

/// The name of a stored value: a short text such as `overlay/grants`, `[a-z0-9/-]` only.
pub type StoreKey = String;

/// What the store held at start. It may hold secrets: wiped when it is dropped.
pub type Snapshot = std::collections::BTreeMap<StoreKey, Zeroizing<Vec<u8>>>;

/// Why this side closes a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CloseReason {
    /// The peer belongs to another overlay.
    WrongOverlay,
    /// `links.only` does not name the peer; or who was dialled has joined no overlay yet, and lets nobody who dials it choose.
    NotAllowed,
    /// The overlay is closed, and the peer no member.
    NotMember,
    /// The peer's invite is good for nothing (any more).
    NotInvited,
    /// The peer's identity was revoked.
    Revoked,
    /// A newer or preferred link to the same peer exists.
    Replaced,
    /// A frame could not be decoded, or was too long.
    Malformed,
    /// The peer speaks no version that we do.
    Version,
    /// Nothing was heard for too long, or nothing taken.
    Silent,
    /// As many links as the configuration allows.
    Full,
    /// This node stops or leaves.
    Leaving,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongOverlay => "it belongs to another overlay",
            Self::NotAllowed => "links.only does not name it, or no overlay was joined yet",
            Self::NotMember => "not a member of this closed overlay",
            Self::Revoked => "the identity was revoked",
            Self::NotInvited => "the invite was used up or has expired",
            Self::Replaced => "replaced by a newer link",
            Self::Malformed => "it sent a malformed frame",
            Self::Version => "no common protocol version",
            Self::Silent => "nothing heard or taken for too long",
            Self::Full => "as many links as allowed",
            Self::Leaving => "leaving",
        })
    }
}
