//! What the links tell the driver.

use multiaddr::Multiaddr;
use overlay::id::NodeId;
use overlay::io::{Lane, LinkId};

/// Why the links could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The secret is no Ed25519 seed.
    #[error("the identity key is unusable")]
    Identity,
    /// A listen address is taken or not ours.
    #[error("cannot listen on {address}: {why}; choose another --listen address")]
    Listen {
        /// Which.
        address: Multiaddr,
        /// What the system said.
        why: String,
    },
}

/// What happened to the links.
#[derive(Debug)]
pub enum Input {
    /// Both lanes of a link are open.
    Up {
        /// Its number.
        link: LinkId,
        /// The authenticated neighbour.
        peer: NodeId,
        /// What was dialled, or where the neighbour's socket is.
        remote: Multiaddr,
        /// Whether this side dialled.
        initiator: bool,
    },
    /// A link is gone.
    Down {
        /// Which.
        link: LinkId,
    },
    /// A neighbour announced a frame that is too long; its link is gone.
    Oversized {
        /// Which.
        link: LinkId,
    },
    /// A dial did not become a link.
    DialFailed {
        /// Exactly what was asked for.
        address: Multiaddr,
    },
    /// A frame arrived.
    Frame {
        /// On which link.
        link: LinkId,
        /// On which lane.
        lane: Lane,
        /// Without its length.
        bytes: Vec<u8>,
    },
    /// A lane can take more.
    Room {
        /// Of which link.
        link: LinkId,
        /// Which lane.
        lane: Lane,
        /// How much more.
        bytes: usize,
    },
    /// All addresses at which this node listens now.
    Listening(Vec<Multiaddr>),
    /// A local address came or went.
    AddressChanged,
    /// The network that links go over was gone, and is back or has another in its place.
    Interrupted,
}
