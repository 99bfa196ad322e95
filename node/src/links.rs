//! Links to neighbours: libp2p's TCP, Noise and Yamux under two framed lanes.

use std::net::IpAddr;

use multiaddr::Multiaddr;
use overlay::id::NodeId;
use overlay::io::{CloseReason, Lane, LinkId, Transmit};
use zeroize::Zeroizing;

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
}

/// All links of this node.
pub struct Links {}

impl Links {
    /// Listens.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub fn start(_secret: Zeroizing<[u8; 32]>, _listen: Vec<Multiaddr>) -> Result<Self, StartError> {
        Ok(Self {})
    }

    /// Waits until something happened, and appends all that did. Cancel-safe.
    pub async fn next(&mut self, _inputs: &mut Vec<Input>) {
        std::future::pending().await
    }

    /// Queues a frame; dropped when the link is gone.
    pub fn transmit(&mut self, _transmit: Transmit) {}

    /// Starts to connect; [`Input::Up`] or [`Input::DialFailed`] follows.
    pub fn dial(&mut self, _address: Multiaddr) {}

    /// Closes a link after what was queued for its control lane; false when there is none. No [`Input::Down`] follows.
    pub fn close(&mut self, _link: LinkId, _reason: CloseReason) -> bool {
        false
    }

    /// Flight mode. Returns the links that are gone now.
    pub fn network_down(&mut self) -> Vec<LinkId> {
        Vec::new()
    }

    /// Ends flight mode.
    ///
    /// # Errors
    /// One line when the address cannot be bound.
    pub fn network_up(&mut self, _bind: Option<IpAddr>) -> Result<(), String> {
        Ok(())
    }

    /// The concrete addresses at which this node listens now.
    pub fn listening(&self) -> Vec<Multiaddr> {
        Vec::new()
    }

    /// Closes all links, and gives goodbyes a moment to get out.
    pub async fn end(self) {}
}
