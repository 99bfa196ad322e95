//! The node as a library: [`Node`], [`Offer`] and [`MobileStream`], see the crate's own page.

mod builder;
mod dispatch;
mod error;
mod mobility;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use multiaddr::{Multiaddr, Protocol};
use overlay::id::NodeId;
use tokio::sync::mpsc;

pub use builder::Builder;
pub use mobility::{Control, Update};
pub use stream::MobileStream;

use crate::driver::{Handle, Incoming};
use crate::local::service::ServiceName;
use crate::stack::{Event, Failure, Who};
use dispatch::{Dispatch, MAX_WAITING};
use error::{failed, invalid, stopped, to_io};

/// How long a stream that is opened waits for this node's place in the overlay.
const JOIN_TIME: Duration = Duration::from_secs(30);

/// A running node. Clones are the same node, which ends with [`Node::stop`], or when the last clone and stream are gone.
#[derive(Clone)]
pub struct Node {
    handle: Handle,
    id: NodeId,
    dispatch: Arc<Dispatch>,
}

impl Node {
    /// What a node is made of; by default one that is kept nowhere and founds an overlay of its own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Its id, which is its public key.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Where it can be joined now, each with its id: for [`Builder::join`] of others.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn addresses(&self) -> io::Result<Vec<Multiaddr>> {
        let own = libp2p::PeerId::from_bytes(&self.id.to_peer_id_bytes()).map_err(io::Error::other)?;
        let listening = self.handle.listening().await.map_err(stopped)?;
        Ok(listening.into_iter().map(|address| address.with(Protocol::P2p(own))).collect())
    }

    /// Waits until the node has a place in the overlay, however long that takes.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn joined(&self) -> io::Result<()> {
        let mut facts = self.handle.subscribe();
        loop {
            if self.handle.with(|stack, _| stack.has_place()).await.map_err(stopped)? {
                return Ok(());
            }
            // One that was missed for all the others is found by the look above.
            while !matches!(facts.recv().await, Ok(Event::Joined { .. }) | Err(_)) {}
        }
    }

    /// Opens a stream to a peer's service, and waits until it is accepted; at first, if need be, for a place in the overlay, at most
    /// 30 s. `peer` is a name that it claimed, or a node id.
    ///
    /// # Errors
    /// `NotFound` for an unknown name, `HostUnreachable` when the peer does not answer, `ConnectionRefused` when it does not offer the
    /// service to this node. The source of each is a [`Failure`].
    pub async fn open(&self, peer: &str, service: &str) -> io::Result<MobileStream> {
        let service = name(service)?.to_string();
        let joined = tokio::time::timeout(JOIN_TIME, self.joined()).await;
        joined.unwrap_or_else(|_| Err(failed(Failure::Unreachable)))?;
        let conn = self.handle.open(peer.to_owned(), service, 0).await.map_err(to_io)?;
        MobileStream::new(conn, self.handle.clone()).await
    }

    /// Offers a service to those in `allow`; to nobody when it is empty. It ends when the [`Offer`] is dropped.
    ///
    /// # Errors
    /// `InvalidInput` for what is no name of a service, `AlreadyExists` when this node offers it already.
    pub async fn offer(&self, service: &str, allow: impl Into<Vec<Who>>) -> io::Result<Offer> {
        let (service, allow) = (name(service)?.to_string(), allow.into());
        let (waiting_in, waiting) = mpsc::channel(MAX_WAITING);
        self.dispatch.add(&service, waiting_in)?;
        let offer = Offer {
            service: service.clone(),
            waiting,
            handle: self.handle.clone(),
            dispatch: Arc::clone(&self.dispatch),
        };
        // Connections of this service come here by its name: they are forwarded nowhere.
        self.handle.with(move |stack, _| stack.expose(service, String::new(), allow)).await.map_err(stopped)?;
        Ok(offer)
    }

    /// Everything else: flight mode, questions, status.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Says goodbye to the neighbours and ends; returns when everything is on disk.
    pub async fn stop(&self) {
        self.handle.stop().await;
    }
}

/// A service of this node, for as long as this is not dropped. Streams that were accepted go on.
pub struct Offer {
    service: String,
    waiting: mpsc::Receiver<Incoming>,
    handle: Handle,
    dispatch: Arc<Dispatch>,
}

impl Offer {
    /// The next stream that a permitted peer opens.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn accept(&mut self) -> io::Result<MobileStream> {
        loop {
            let incoming = self.waiting.recv().await.ok_or_else(|| stopped(crate::driver::Stopped))?;
            match MobileStream::new(incoming.accept(), self.handle.clone()).await {
                // Its peer is gone again.
                Err(error) if error.kind() != io::ErrorKind::NotConnected => {}
                accepted => return accepted,
            }
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.dispatch.remove(&self.service);
        let service = std::mem::take(&mut self.service);
        self.handle.send(move |stack, _| stack.unexpose(&service));
    }
}

fn name(text: &str) -> io::Result<ServiceName> {
    text.parse().map_err(invalid)
}
