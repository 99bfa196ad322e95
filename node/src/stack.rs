//! Overlay and sessions composed into one object; still pure: `driver` and the simulator run the same code.

use std::collections::BTreeMap;

use multiaddr::Multiaddr;
use overlay::id::{Identity, NodeId};
use overlay::io::{Command, Lane, LinkId, Snapshot, Transmit};
use overlay::time::{Instant, Now};

pub mod event;
pub mod status;

pub use event::{Answer, ConnId, Event, Failure, QueryId, Readout, Who};
pub use status::{ConnStatus, Counters, PeerStatus, Resolved, SessionStatus, Status};

/// What a stack is made of.
pub struct Config {
    /// Names that this user gave to nodes; they come before claimed names.
    pub petnames: BTreeMap<String, NodeId>,
    /// The name to claim for this node, if any.
    pub name: Option<String>,
    /// Bootstrap addresses.
    pub joins: Vec<Multiaddr>,
    /// Friend-to-friend mode (`links.only`): node ids or multiaddr prefixes; empty means everybody.
    pub only: Vec<String>,
    /// The overlay that must be joined, when it is known before.
    pub overlay: Option<overlay::id::OverlayId>,
}

/// One node's protocol, without sockets or clock.
pub struct Stack {}

impl Stack {
    /// A stack that has done nothing yet. `static_secret` is the X25519 key of the sessions, separate from the identity.
    pub fn new(_config: Config, _identity: Identity, _static_secret: [u8; 32], _seed: [u8; 32], _now: Now) -> Self {
        Self {}
    }

    /// Takes over what the store held, then founds, resumes or joins. Call once, before anything else.
    ///
    /// # Errors
    /// One line when the store is unreadable or belongs to another overlay than the configured one.
    pub fn start(&mut self, _snapshot: &Snapshot, _now: Now) -> Result<(), String> {
        Ok(())
    }

    // ---- links ----

    /// A link to `peer` is up; `initiator` when this side dialled `remote`.
    pub fn handle_link_up(&mut self, _link: LinkId, _peer: NodeId, _remote: Multiaddr, _initiator: bool, _now: Now) {}
    /// A link is gone.
    pub fn handle_link_down(&mut self, _link: LinkId, _now: Now) {}
    /// A `Command::Dial` failed.
    pub fn handle_dial_failed(&mut self, _address: &Multiaddr, _now: Now) {}
    /// A local interface or address came or went, or flight mode ended: redial and resume at once.
    pub fn handle_address_change(&mut self, _now: Now) {}
    /// The addresses at which this node listens now (concrete, not wildcards).
    pub fn handle_listen_addresses(&mut self, _addresses: Vec<Multiaddr>, _now: Now) {}
    /// A frame arrived.
    pub fn handle_frame(&mut self, _link: LinkId, _lane: Lane, _frame: Vec<u8>, _now: Now) {}
    /// `bytes` more may be given to this lane of this link (the driver grants an initial room after `handle_link_up`).
    pub fn handle_link_room(&mut self, _link: LinkId, _lane: Lane, _bytes: usize, _now: Now) {}
    /// Something may be due.
    pub fn handle_timeout(&mut self, _now: Now) {}
    /// The value given with `Command::Persist` under `key` is on disk.
    pub fn handle_persisted(&mut self, _key: &str, _now: Now) {}

    // ---- services and connections ----

    /// Offers `service`; who may use it is decided here, `forward` is handed back with [`Event::Incoming`].
    pub fn expose(&mut self, _service: String, _forward: String, _allow: Vec<Who>, _now: Now) {}
    /// No longer offers `service`.
    pub fn unexpose(&mut self, _service: &str, _now: Now) {}
    /// Opens a connection to `peer`'s `service`. `peer` is a petname, a claimed name or a node id. The answer is
    /// [`Event::Opened`] or [`Event::Failed`]; bytes may be written before it.
    pub fn open(&mut self, _peer: &str, _service: &str, _port: u16, _now: Now) -> ConnId {
        ConnId(0)
    }
    /// The local service answered: an incoming connection is accepted.
    pub fn accept(&mut self, _conn: ConnId, _now: Now) {}
    /// The local service did not answer.
    pub fn refuse(&mut self, _conn: ConnId, _now: Now) {}
    /// Up to `max` bytes that arrived.
    pub fn read(&mut self, _conn: ConnId, _max: usize, _now: Now) -> Readout {
        Readout::Pending
    }
    /// Takes as many bytes as there is room for, returns how many; [`Event::Writable`] follows when it was not all.
    pub fn write(&mut self, _conn: ConnId, _bytes: &[u8], _now: Now) -> usize {
        0
    }
    /// No more will be written (half-close).
    pub fn finish(&mut self, _conn: ConnId, _now: Now) {}
    /// The application is gone: both directions end.
    pub fn reset(&mut self, _conn: ConnId, _now: Now) {}

    // ---- questions ----

    /// Resolves a petname, claimed name or id; the answer is [`Event::Answered`].
    pub fn lookup(&mut self, _peer: &str, _now: Now) -> QueryId {
        QueryId(0)
    }
    /// One echo through the overlay; the answer is [`Event::Answered`].
    pub fn ping(&mut self, _peer: &str, _now: Now) -> QueryId {
        QueryId(0)
    }
    /// The relays to `peer`; the answer is [`Event::Answered`].
    pub fn trace(&mut self, _peer: &str, _now: Now) -> QueryId {
        QueryId(0)
    }
    /// What this node is and does now.
    pub fn status(&self, _now: Now) -> Status {
        Status::default()
    }
    /// Its neighbours.
    pub fn peers(&self, _now: Now) -> Vec<PeerStatus> {
        Vec::new()
    }
    /// Its sessions.
    pub fn sessions(&self, _now: Now) -> Vec<SessionStatus> {
        Vec::new()
    }
    /// Announces that this node leaves and hands over its records; [`Event::Left`] within a second.
    pub fn leave(&mut self, _now: Now) {}

    // ---- what the driver drains, in this order, after each handle_* and verb ----

    /// The next frame for a link with room.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }
    /// The next thing for the driver to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        None
    }
    /// The next fact.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }
    /// When `handle_timeout` is due, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        None
    }
}
