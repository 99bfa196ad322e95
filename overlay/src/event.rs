//! What happened, as told to whoever uses the overlay.

use core::time::Duration;

use crate::address::Place;
use crate::dht;
use crate::id::{NodeId, OverlayId};
use crate::io::{CloseReason, LinkId};
use crate::membership::Secret;
use crate::record::{Name, Query, SignedRecord};

/// Numbers a look-up.
pub use crate::dht::LookupId;

/// Numbers a ping or a trace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EchoId(pub u64);

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node has a place, after it had none.
    Joined {
        /// In which overlay.
        overlay: OverlayId,
        /// Where.
        place: Place,
        /// Who holds the root.
        root: NodeId,
    },
    /// It had a place and has another one now, without having been detached between: an address that it had is not its own any more.
    PlaceChanged(Place),
    /// Its place has a new number and may have more addresses; the old ones are still its own.
    PlaceRenewed(Place),
    /// It has no parent any more. Its old place may still be reachable for a while.
    Detached,
    /// Another node holds the root.
    RootChanged(NodeId),
    /// A neighbour can be used.
    LinkLive {
        /// Who.
        peer: NodeId,
    },
    /// A newer link has taken the place of the one to this neighbour.
    LinkRenewed {
        /// Who.
        peer: NodeId,
    },
    /// A neighbour cannot be used any more.
    LinkLost {
        /// Who.
        peer: NodeId,
    },
    /// A payload arrived for this node.
    Received(Delivery),
    /// A payload that this node sent did not arrive.
    Unreachable {
        /// Whom it was for.
        to: NodeId,
        /// Why.
        why: UnreachableReason,
    },
    /// A look-up ended.
    LookupFinished {
        /// Which.
        id: LookupId,
        /// What was asked.
        query: Query,
        /// With what.
        result: dht::LookupResult,
    },
    /// A name that this node claims belongs to somebody else.
    Conflict {
        /// The name.
        name: Name,
        /// The claim that stands.
        incumbent: Box<SignedRecord>,
    },
    /// A binder refuses this node's record or claim, which is numbered more than a day ahead of its clock: one of the two clocks is wrong.
    Ahead(Query),
    /// This node's record or claim is stored.
    Stored(Query),
    /// Neighbours give the place of this node's links to links of another node with the same key: this node has a twin. Reported again while it lasts.
    Twin,
    /// An echo came back.
    Echo {
        /// Of which ping or trace.
        id: EchoId,
        /// From whom.
        from: NodeId,
        /// Where that one is, as it says.
        place: Place,
        /// Links crossed on the way there.
        hops: u16,
        /// From sending to hearing.
        rtt: Duration,
    },
    /// A relay on the way of a trace.
    TraceHop {
        /// Of which trace.
        id: EchoId,
        /// How many links away, from 1.
        n: u16,
        /// Who.
        hop: NodeId,
        /// Where that one is, as it says.
        place: Place,
        /// From sending to hearing.
        rtt: Duration,
    },
    /// A ping or trace ended without an answer.
    EchoLost {
        /// Which.
        id: EchoId,
        /// Why, when somebody said.
        why: Option<UnreachableReason>,
    },
    /// A link was refused, by this side or by the peer.
    Refused {
        /// The peer.
        peer: NodeId,
        /// Why.
        reason: CloseReason,
        /// Whether the peer refused.
        by_peer: bool,
    },
    /// The peer's overlay is another one than this node's.
    WrongOverlay {
        /// The peer.
        peer: NodeId,
        /// Its overlay, when it said.
        theirs: Option<OverlayId>,
        /// This node's.
        ours: Option<OverlayId>,
        /// Whether this node dialled it, and so was to join there, or was dialled.
        dialled: bool,
    },
    /// A peer belongs to a closed overlay. This node does not, nor has an invite.
    NoMember {
        /// The peer.
        peer: NodeId,
        /// Its overlay.
        overlay: OverlayId,
    },
    /// A guest tells the secret of an invite; the answer is [`crate::overlay::Overlay::admit`].
    GuestAsks {
        /// The link to him.
        link: LinkId,
        /// Who.
        peer: NodeId,
        /// What he knows.
        secret: Secret,
    },
    /// An identity was revoked; if it is this node's own, nobody speaks with it any more.
    Revoked(NodeId),
    /// The revocation of this identity, which this node publishes, is stored.
    RevocationStored(NodeId),
    /// [`crate::overlay::Overlay::leave`] is done.
    Left,
}

/// A payload and what its packet said.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Who claims to have sent it.
    pub from: NodeId,
    /// Where it claims to be.
    pub return_place: Place,
    /// The neighbour that handed it over, which is all that is proven here; `None` when it came from this node.
    pub via: Option<NodeId>,
    /// Whether a relay was congested.
    pub ecn: bool,
    /// Links crossed.
    pub hops: u16,
    /// The payload.
    pub payload: Vec<u8>,
}

impl core::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Delivery({:?} {} hops {} bytes)", self.from, self.hops, self.payload.len())
    }
}

/// Why a packet did not arrive. The numbers are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnreachableReason {
    /// The one who knows the destination as its child or neighbour has no live link to it.
    Absent,
    /// No neighbour is closer to the destination.
    NoRoute,
    /// It crossed too many links.
    Ttl,
}

impl UnreachableReason {
    /// The number on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Absent => 1,
            Self::NoRoute => 2,
            Self::Ttl => 3,
        }
    }

    /// The reason with this number.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Absent),
            2 => Some(Self::NoRoute),
            3 => Some(Self::Ttl),
            _ => None,
        }
    }
}

impl core::fmt::Display for UnreachableReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Absent => "it is not connected now",
            Self::NoRoute => "no route",
            Self::Ttl => "too many hops",
        })
    }
}
