//! What applications and local services want: to offer a service, to open a connection to one, and to move bytes.

use overlay::id::NodeId;
use overlay::time::Now;

use super::conns::{Conn, End, Stage};
use super::event::{ConnId, Event, Failure, Readout, Who};
use super::naming::{Meaning, Purpose};
use super::{Stack, bridge};

impl Stack {
    /// Offers `service`; who may use it is decided here, `forward` is handed back with [`Event::Incoming`].
    pub fn expose(&mut self, service: String, forward: String, allow: Vec<Who>) {
        self.services.expose(service, forward, allow);
    }

    /// What `peer` may use: names, and where their connections go.
    pub fn offered_to(&self, peer: NodeId) -> impl Iterator<Item = (&str, &str)> {
        self.services.offered(peer)
    }

    /// No longer offers `service`.
    pub fn unexpose(&mut self, service: &str) {
        self.services.unexpose(service);
    }

    /// Opens a connection to `peer`'s `service`. `peer` is a petname, a claimed name or a node id. The answer is
    /// [`Event::Opened`] or [`Event::Failed`]; [`Event::Writable`] may come before it.
    pub fn open(&mut self, peer: &str, service: &str, port: u16, now: Now) -> ConnId {
        let conn = self.conns.add(service, End::Peer, port, None);
        match self.naming.meaning(peer) {
            Meaning::Node(id) => self.open_stream(conn, id, now),
            Meaning::Claimed(name) => match self.naming.pinned(&name) {
                Some(id) => {
                    if let Some(conn) = self.conns.conn_mut(conn) {
                        conn.pinned = Some(name);
                    }
                    self.open_stream(conn, id, now);
                }
                None if self.flight => self.fail(conn, Failure::FlightMode),
                None => self.find(Purpose::Open(conn), name, now),
            },
            Meaning::Nothing => self.fail(conn, Failure::UnknownPeer),
        }
        self.settle(now);
        conn
    }

    /// The local service answered: an incoming connection is accepted.
    pub fn accept(&mut self, conn: ConnId, now: Now) {
        if let Some(stream) = self.conns.stream(conn) {
            self.sessions.accept(stream, now);
            self.settle(now);
        }
    }

    /// The local service did not answer.
    pub fn refuse(&mut self, conn: ConnId, now: Now) {
        if let Some(stream) = self.conns.stream(conn) {
            self.sessions.refuse(stream, muses::ResetReason::Refused, now);
            self.conns.remove(conn);
            self.settle(now);
        }
    }

    /// Up to `max` bytes that arrived.
    pub fn read(&mut self, conn: ConnId, max: usize, now: Now) -> Readout {
        let Some(stage) = self.conns.conn(conn).map(|conn| conn.stage.clone()) else { return Readout::Gone };
        let stream = match stage {
            Stage::Naming => return Readout::Pending,
            Stage::Ended => return Readout::End,
            Stage::Stream(stream) => stream,
        };
        let readout = match self.sessions.read(stream, max) {
            muses::Read::Data(bytes) => {
                if let Some(conn) = self.conns.conn_mut(conn) {
                    conn.received_bytes += bytes.len() as u64;
                }
                self.received_bytes += bytes.len() as u64;
                Readout::Bytes(bytes)
            }
            muses::Read::Pending => Readout::Pending,
            muses::Read::End => Readout::End,
            muses::Read::Reset(reason) => {
                self.lose(conn, bridge::failure_of(reason), now);
                if self.conns.conn(conn).is_some() { Readout::Pending } else { Readout::Gone }
            }
        };
        self.unsettled = Some(now);
        readout
    }

    /// Takes as many bytes as there is room for, returns how many; [`Event::Writable`] follows when it was not all.
    pub fn write(&mut self, conn: ConnId, bytes: &[u8], now: Now) -> usize {
        let Some(stream) = self.conns.stream(conn) else { return 0 };
        let taken = self.sessions.write(stream, bytes, now);
        if let Some(conn) = self.conns.conn_mut(conn) {
            conn.sent_bytes += taken as u64;
        }
        self.sent_bytes += taken as u64;
        self.settle(now);
        taken
    }

    /// No more will be written (half-close).
    pub fn finish(&mut self, conn: ConnId, now: Now) {
        if let Some(stream) = self.conns.stream(conn) {
            self.sessions.finish(stream, now);
            self.settle(now);
        } else if let Some(conn) = self.conns.conn_mut(conn) {
            conn.finished = true;
        }
    }

    /// The application has read the end and will ask for nothing more: nothing is left of the connection once the other direction has ended, too.
    pub fn release(&mut self, conn: ConnId) {
        self.conns.release(conn);
    }

    /// The peer uses as a service what is a place to listen: both directions end, and it learns why.
    pub fn reset_use_of_place(&mut self, conn: ConnId, now: Now) {
        self.reset_for(conn, bridge::PLACE, now);
    }

    /// The application is gone: both directions end.
    pub fn reset(&mut self, conn: ConnId, now: Now) {
        self.reset_for(conn, muses::ResetReason::Application, now);
    }

    fn reset_for(&mut self, conn: ConnId, why: muses::ResetReason, now: Now) {
        if let Some(stream) = self.conns.stream(conn) {
            self.sessions.reset(stream, why, now);
        }
        self.conns.remove(conn);
        self.settle(now);
    }

    /// Ends the session with `peer` and all connections in it at once: how many connections that were, none without a session.
    pub fn cut(&mut self, peer: NodeId, now: Now) -> Option<usize> {
        let conns = self.conns.ids_of_peer(peer);
        // Said before the session goes, which would blame the applications.
        for stream in conns.iter().filter_map(|conn| self.conns.stream(*conn)).collect::<Vec<_>>() {
            self.sessions.reset(stream, muses::ResetReason::Closing, now);
        }
        if !self.sessions.cut(peer, now) {
            return None;
        }
        self.forget_reach_of_gone();
        conns.iter().for_each(|conn| self.fail(*conn, Failure::Cut));
        self.settle(now);
        Some(conns.len())
    }

    /// Ends the connections with `peer` to this service, of whichever side, and leaves the session and all others alone: how many these were.
    pub fn cut_service(&mut self, peer: NodeId, service: &str, now: Now) -> usize {
        let conns = self.conns.ids_of_service(peer, service);
        for conn in &conns {
            if let Some(stream) = self.conns.stream(*conn) {
                self.sessions.reset(stream, muses::ResetReason::Closing, now);
            }
            self.fail(*conn, Failure::Cut);
        }
        self.settle(now);
        conns.len()
    }

    pub(super) fn open_stream(&mut self, conn: ConnId, peer: NodeId, now: Now) {
        let Some(Conn { service, port, finished, .. }) = self.conns.conn(conn).cloned() else { return };
        if self.overlay.is_revoked(&peer) {
            return self.fail(conn, Failure::Revoked);
        }
        if self.flight && peer != self.id && !self.has_session(&peer) {
            return self.fail(conn, Failure::FlightMode);
        }
        match self.sessions.open(peer, &service, port, now) {
            Ok(stream) => {
                self.conns.bind(conn, peer, stream);
                self.seek_link_with(peer, now);
                if finished {
                    self.sessions.finish(stream, now);
                }
                self.events.push_back(Event::Writable(conn));
            }
            Err(muses::OpenError::Own) => self.fail(conn, Failure::Myself),
            Err(_) => self.fail(conn, Failure::Refused),
        }
    }

    /// Whether what is opened to `peer` goes into a session that there is, however long that may be suspended.
    fn has_session(&self, peer: &NodeId) -> bool {
        self.sessions.sessions().any(|session| session.peer == *peer && session.state != muses::SessionState::Opening)
    }

    pub(super) fn fail(&mut self, conn: ConnId, why: Failure) {
        if self.conns.remove(conn).is_some() {
            self.events.push_back(Event::Failed(conn, why));
        }
    }
}
