//! MobiSocket's verbs on a stream (*Mobile TCP socket for secure applications*, section II, and section IV for `resetTimer`).

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use multiaddr::Multiaddr;
use overlay::time::Now;

use super::error::{failed, stopped};
use crate::driver::{Conn, Handle};
use crate::stack::{ConnId, Failure, Stack};

/// Links are copied to another interface within this time, or not at all: dials that take longer have failed.
const COPY_TIME: Duration = Duration::from_secs(5);
/// How often that is looked at.
const COPY_STEP: Duration = Duration::from_millis(5);

/// Which end moved, and where it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Update {
    /// This node: it has this local address now, and no other.
    Source(IpAddr),
    /// The peer: it can be dialled there. Whoever else answers there is turned away, so the word of a stranger does no harm.
    Destination(Multiaddr),
}

/// The verbs of a [`MobileStream`](super::MobileStream), for who has split it or given it away. It does not keep the stream open.
#[derive(Clone)]
pub struct Control {
    id: ConnId,
    conn: Weak<Conn>,
    handle: Handle,
}

impl Control {
    pub(super) fn new(conn: &Arc<Conn>, handle: Handle) -> Self {
        Self { id: conn.id(), conn: Arc::downgrade(conn), handle }
    }

    /// `acvMobi`: from now on the stream survives every move and outage, of either end, however long it lasts. Each end decides for itself; a
    /// stream whose other end did not do so may still be reset by that one.
    ///
    /// # Errors
    /// When the stream has failed already.
    pub async fn activate_mobility(&self) -> io::Result<()> {
        let conn = self.id;
        self.verb(move |stack, _| stack.activate_mobility(conn)).await
    }

    /// `updateTCB`: one end has another address. Nobody has to call this where the system tells of its interfaces; it is for those who know
    /// earlier, or better. `Source` concerns all streams of the node: its links end, without a goodbye, and are made anew from there; those
    /// of its streams that were not made mobile fail. Sessions that go on by the new address begin with a new congestion window, as the paper
    /// wants it.
    ///
    /// # Errors
    /// `AddrNotAvailable` for an address that is not this machine's, or at which the node's port is taken; nothing has changed then. When the stream has
    /// failed.
    pub async fn update_address(&self, update: Update) -> io::Result<()> {
        match update {
            Update::Source(ip) => self.handle.network_up(Some(ip)).await.map_err(unavailable),
            Update::Destination(address) => {
                let conn = self.id;
                self.verb(move |stack, now| stack.update_peer_address(conn, address, now)).await
            }
        }
    }

    /// `copyTCB`: hands the node's links over to another of its interfaces while the old one still serves, and returns when they are there.
    /// Addresses in the overlay, windows, round-trip estimates and all streams stay as they are, and no peer is told anything.
    ///
    /// # Errors
    /// `AddrNotAvailable` for an address that is not this machine's; `TimedOut` when no neighbour answers there. The old links stay in both
    /// cases.
    pub async fn copy_to_interface(&self, to: IpAddr) -> io::Result<()> {
        let dialled = self.handle.copy_links(to).await.map_err(unavailable)?;
        let copied = async {
            while self.handle.with(|stack, _| stack.copied_links()).await.map_err(stopped)? < dialled.max(1) {
                tokio::time::sleep(COPY_STEP).await;
            }
            Ok(())
        };
        match tokio::time::timeout(COPY_TIME, copied).await {
            Ok(done) => done,
            Err(_) if self.handle.with(|stack, _| stack.copied_links()).await.map_err(stopped)? > 0 => Ok(()),
            Err(_) => {
                Err(io::Error::new(ErrorKind::TimedOut, format!("no neighbour answers from {to}; the old links stay")))
            }
        }
    }

    /// `resetTimer`: as if something had just arrived from the peer. Waits that have grown in an outage begin anew: the session tries at
    /// once, and so does the node's search for neighbours. For applications that learn from elsewhere that the path is back (the paper's SIP);
    /// a node that moved itself needs no such word. Five times a second count, more do nothing.
    ///
    /// # Errors
    /// When the stream has failed.
    pub async fn reset_timers(&self) -> io::Result<()> {
        let conn = self.id;
        self.verb(move |stack, now| stack.reset_timers(conn, now)).await
    }

    /// Runs a verb, which says whether the stream is still there.
    async fn verb(&self, verb: impl FnOnce(&mut Stack, Now) -> bool + Send + 'static) -> io::Result<()> {
        if self.handle.with(verb).await.map_err(stopped)? {
            return Ok(());
        }
        let why = self.conn.upgrade().and_then(|conn| conn.failure());
        Err(failed(why.unwrap_or(Failure::Reset)))
    }
}

fn unavailable(line: String) -> io::Error {
    io::Error::new(ErrorKind::AddrNotAvailable, line)
}
