//! What a stack tells its driver.

use overlay::id::{NodeId, OverlayId};
use overlay::io::LinkId;

use super::status::Resolved;
use crate::invite::Secret;

/// One application connection on this node, outgoing or incoming. Never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);

/// One question that was asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueryId(pub u64);

/// Who may use a service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    /// Every node of the overlay.
    Anyone,
    /// One node.
    Node(NodeId),
}

/// Past-tense facts.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A new overlay was founded by this node.
    Founded(OverlayId),
    /// The overlay of an earlier run goes on.
    Resumed(OverlayId),
    /// This node has a place; `first` when the overlay's id was not known before and is pinned now.
    Joined {
        /// Which overlay.
        overlay: OverlayId,
        /// This node's address in it.
        address: String,
        /// Whether this pinned the overlay.
        first: bool,
    },
    /// This node has lost its place.
    Detached,
    /// Less should be read of this neighbour: a flood of handshakes comes over it ([`muses::Event::HelloFlood`]).
    Flooded(NodeId),
    /// The place changed.
    AddressChanged(String),
    /// A neighbour refused or was refused for good; the line says why.
    LinkRefused(String),
    /// A node that was to be a neighbour belongs to another overlay: one line.
    OtherOverlay(String),
    /// A closed overlay does not let this node in: one line.
    NotAdmitted(String),
    /// A guest of this closed overlay tells the secret of an invite; answer with `admit`.
    GuestAsks {
        /// The link to him.
        link: LinkId,
        /// Who.
        peer: NodeId,
        /// What he knows.
        secret: Secret,
    },
    /// An identity was revoked; there is no session with it any more.
    PeerRevoked(NodeId),
    /// This node's own identity was revoked.
    IdentityRevoked,
    /// The revocation of this identity, published by this node, is stored.
    RevocationStored(NodeId),
    /// The configured name is claimed.
    NameClaimed(String),
    /// Somebody else holds the configured name.
    NameRefused {
        /// The name.
        name: String,
        /// Who holds it.
        holder: NodeId,
    },
    /// A node that would keep the claim of this name does not: it is dated more than a day after that node's clock.
    NameAhead(String),
    /// A node that would keep this node's record finds it dated too far ahead.
    ClockAhead,
    /// Another node runs with this node's key.
    Twin,
    /// A session went from established to waiting for a path.
    SessionSuspended(NodeId),
    /// A session goes on.
    SessionResumed(NodeId),
    /// An outgoing connection was accepted by the other side's service.
    Opened(ConnId),
    /// A connection failed or was reset; it is gone.
    Failed(ConnId, Failure),
    /// A permitted peer asks for a service; answer with `accept` or `refuse`.
    Incoming {
        /// The new connection.
        conn: ConnId,
        /// Who asks.
        peer: NodeId,
        /// For which service.
        service: String,
        /// The `forward` of the exposure (HOST:PORT).
        forward: String,
    },
    /// `read` would now return something.
    Readable(ConnId),
    /// `write` would now take something.
    Writable(ConnId),
    /// A question is answered.
    Answered(QueryId, Result<Answer, Failure>),
    /// `leave` is done.
    Left,
}

/// The answer to a question.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// To `lookup`.
    Resolved(Resolved),
    /// To `ping`: links crossed and round trip time.
    Echo {
        /// Links crossed on the way there.
        hops: u16,
        /// Round trip time in microseconds.
        rtt_us: u64,
    },
    /// To `trace`: node ids and addresses of the relays and of the target, in order.
    Trace(Vec<(NodeId, String)>),
}

/// Why something did not work; the text is one line: what, why, what to try.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// No such name or id in the overlay.
    #[error("no node of this name is known; check the spelling, or ask its owner for the node id")]
    UnknownPeer,
    /// There is no path, or the peer does not answer.
    #[error("the peer does not answer; is its node up and on a network? `muses doctor PEER` shows how far it gets")]
    Unreachable,
    /// This node is in flight mode, and there is no session with the peer that could wait for its end.
    #[error("this node is in flight mode, so it reaches nobody; end that with: muses network up")]
    FlightMode,
    /// Nobody could be asked for the peer.
    #[error("this node has no neighbour now, so nobody can be asked; is the network up? `muses doctor` says more")]
    Alone,
    /// The peer does not offer the service to us.
    #[error("the peer does not offer this service to you; ask its owner for `muses expose NAME HOST:PORT --allow YOU`")]
    Refused,
    /// The peer offers the service, but nothing answers behind it.
    #[error("the peer offers this service, but nothing answers behind it; is the service running there?")]
    ServiceDown,
    /// What the peer offers is a place to listen, to which nobody connects.
    #[error(
        "this is a place to listen, and no service; have it lead to a service of yours: muses reverse PEER/NAME HOST:PORT"
    )]
    Place,
    /// The peer's node has no memory of the connection.
    #[error(
        "the peer no longer knows this connection: its node ended or was restarted, or it was cut there (muses cut); connect again"
    )]
    Restarted,
    /// The other application closed the connection abruptly.
    #[error("the connection was reset by the application on the other side")]
    Reset,
    /// Somebody on this node ended the session, or the connections to this service.
    #[error("it was cut here (muses cut); connect again if that was a mistake")]
    Cut,
    /// This node moved, and the connection was not made mobile.
    #[error("this node moved, and the connection was to end with that; activate_mobility keeps connections")]
    Moved,
    /// The peer moved, and the connection was not made mobile.
    #[error("the peer moved, and the connection was to end with that; activate_mobility keeps connections")]
    PeerMoved,
    /// The peer was silent for too long, and the connection was not made mobile.
    #[error("the peer has been silent for too long; activate_mobility keeps connections however long that takes")]
    Silent,
    /// The peer's certificate is not good at this node's date, or ours not at the peer's.
    #[error("the peer's certificate is not good at this machine's date; is the clock right, here (`date`) and there?")]
    Clock,
    /// A name that was pinned belongs to another key now.
    #[error(
        "this name belongs to another key than the one it was first used for; ask its owner, and if that is right: muses name unpin NAME"
    )]
    NameChanged,
    /// Its owner, or who has its recovery key, has ended it.
    #[error("this node's identity was revoked for ever; ask its owner for the new node id")]
    Revoked,
    /// The name is one of this node's own.
    #[error("this is the node itself; its services are reached directly, without muses")]
    Myself,
    /// Too much time went by.
    #[error("no answer in time; try again, or `muses status` to see whether this node is attached")]
    Timeout,
}

/// What `read` returns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Readout {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing now; [`Event::Readable`] follows.
    Pending,
    /// The peer finished its direction, all of it was read.
    End,
    /// The connection is gone.
    Gone,
}
