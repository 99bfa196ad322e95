//! The words between [`Sessions`](crate::sessions::Sessions) and what drives it.

use core::fmt;
use core::time::Duration;

use overlay::id::NodeId;
use zeroize::Zeroizing;

/// How a peer is reached: bytes that only the layer below understands (the stack puts a `Place` there).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(pub Vec<u8>);

/// Longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 256;

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({} bytes)", self.0.len())
    }
}

/// One stream at this node, numbered by this endpoint and never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamKey(pub u64);

/// The name of a session on the wire; carries no meaning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionLabel(pub [u8; 16]);

impl fmt::Display for SessionLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionLabel({self})")
    }
}

/// What a look-up of a peer brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// The peer's certificate of its static key, as published in its record.
    pub cert: Vec<u8>,
    /// Where it is.
    pub path: Path,
}

/// How a packet came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// The node that the routing header names as source; proven by what is inside only.
    pub from: NodeId,
    /// Where that node says it is.
    pub return_path: Path,
    /// The neighbour that handed it over, which its link has proven; `None` when it never left this node.
    pub via: Option<NodeId>,
    /// Whether a queue on the way marked it.
    pub ecn: bool,
    /// Links crossed.
    pub hops: u16,
}

/// A packet for a peer.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom.
    pub to: NodeId,
    /// Where it is.
    pub path: Path,
    /// Packets of one session share a flow label.
    pub flow: u32,
    /// The packet.
    pub payload: Vec<u8>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outgoing({:?} {} bytes)", self.to, self.payload.len())
    }
}

/// What the endpoint wants its driver to do.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// Look the peer up; the answer is `handle_peer` or `handle_peer_unresolved`.
    Resolve(NodeId),
    /// Store `bytes` under `key` so that they survive a crash, replacing what was there; then `handle_persisted(key)`.
    Persist {
        /// Which stored value.
        key: String,
        /// Its new value; empty means delete. It holds secrets: wiped when it is dropped.
        bytes: Zeroizing<Vec<u8>>,
    },
}

impl fmt::Debug for Command {
    /// Never shows what is stored: it holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(peer) => write!(f, "Resolve({peer:?})"),
            Self::Persist { key, bytes } => write!(f, "Persist({key} {} bytes)", bytes.len()),
        }
    }
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The node's certificate is a new one, to be published in its record.
    CertRenewed,
    /// A handshake ended well; the peer's identity is proven.
    SessionEstablished {
        /// With whom.
        peer: NodeId,
        /// The session's name on the wire.
        session: SessionLabel,
    },
    /// The path failed; the session waits for a new one, however long that takes.
    SessionSuspended {
        /// With whom.
        peer: NodeId,
    },
    /// Data flows again.
    SessionResumed {
        /// With whom.
        peer: NodeId,
        /// How long the session was suspended; zero after a move without an outage.
        outage: Duration,
    },
    /// The peer says where it can be dialled, as it gave it to [`crate::Sessions::set_reach`]; empty when it does not say. Told after the
    /// handshake, after each resume, and when it changed.
    PeerReach {
        /// Who.
        peer: NodeId,
        /// At most [`crate::frame::MAX_REACH_BYTES`].
        reach: Vec<u8>,
    },
    /// The peer opened a stream; it waits for `accept` or `refuse`.
    StreamOpened {
        /// The new stream.
        stream: StreamKey,
        /// Who opened it.
        peer: NodeId,
        /// Which service it asks for.
        service: String,
        /// Which port, 0 if none.
        port: u16,
    },
    /// The peer accepted a stream that was opened here.
    StreamAccepted {
        /// Which stream.
        stream: StreamKey,
    },
    /// `read` has something to say that it had not before.
    Readable(StreamKey),
    /// `write` takes bytes again.
    Writable(StreamKey),
    /// The stream is over in both directions, well or by a reset (which `read` tells); its key is forgotten soon.
    StreamClosed {
        /// Why, if not because both ends had ended it.
        why: Option<ResetReason>,
        /// Which stream.
        stream: StreamKey,
    },
    /// More Hellos come over this neighbour than anybody needs ([`NEIGHBOUR_FLOOD`](crate::config::NEIGHBOUR_FLOOD)): less should be read of it. Told every
    /// [`FLOOD_TOLD_EVERY`](crate::config::FLOOD_TOLD_EVERY) while it lasts.
    HelloFlood {
        /// Who sends them, or passes them on.
        via: NodeId,
    },
    /// No session came about; its streams were reset.
    HandshakeFailed {
        /// With whom.
        peer: NodeId,
        /// Why.
        why: HandshakeFailure,
    },
}

/// Why no session came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandshakeFailure {
    /// Nobody knows where the peer is.
    #[error("no record of it was found")]
    Unresolved,
    /// Its certificate does not verify or is too old.
    #[error("its certificate is not valid at this machine's date")]
    Certificate,
    /// It did not answer in time.
    #[error("it did not answer")]
    Timeout,
}

/// Why a stream was reset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum ResetReason {
    /// The application gave up.
    #[error("reset by the application")]
    Application,
    /// The service exists but does not want this peer.
    #[error("refused")]
    Refused,
    /// There is no such service.
    #[error("unknown service")]
    UnknownService,
    /// The peer could not be reached.
    #[error("unreachable")]
    Unreachable,
    /// A node restarted and lost the application's sockets.
    #[error("the node restarted")]
    Restarted,
    /// Too many streams.
    #[error("too many streams")]
    Busy,
    /// The node stops.
    #[error("the node stops")]
    Closing,
    /// The peer broke the protocol.
    #[error("protocol violation")]
    Protocol,
    /// A reason that this version does not know.
    #[error("reset for reason {0}")]
    Other(u8),
}

impl ResetReason {
    /// Its byte on the wire.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Application => 0,
            Self::Refused => 1,
            Self::UnknownService => 2,
            Self::Unreachable => 3,
            Self::Restarted => 4,
            Self::Busy => 5,
            Self::Closing => 6,
            Self::Protocol => 7,
            Self::Other(byte) => byte,
        }
    }

    /// The reason of this byte.
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Application,
            1 => Self::Refused,
            2 => Self::UnknownService,
            3 => Self::Unreachable,
            4 => Self::Restarted,
            5 => Self::Busy,
            6 => Self::Closing,
            7 => Self::Protocol,
            other => Self::Other(other),
        }
    }
}

/// What `read` found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Read {
    /// The next bytes, never empty.
    Data(Vec<u8>),
    /// Nothing yet; `Event::Readable` comes when there is.
    Pending,
    /// Everything was read and the peer finished.
    End,
    /// The stream was reset.
    Reset(ResetReason),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_reasons_round_trip() {
        for byte in 0..=255 {
            assert_eq!(ResetReason::from_byte(byte).to_byte(), byte);
        }
    }
}
