//! Application connections: which stream of which session each one is.

use std::collections::BTreeMap;

use muses::StreamKey;
use overlay::id::NodeId;
use overlay::record::Name;
use serde::{Deserialize, Serialize};

use super::event::ConnId;
use super::mobility::Fix;

/// How far a connection is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stage {
    /// The peer's name is being looked up; nothing can be written yet.
    Naming,
    /// It is a stream of a session.
    Stream(StreamKey),
    /// Both ends have ended it, and all bytes were read; that there is no more the application has yet to read.
    Ended,
}

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// This node.
    #[default]
    Here,
    /// The other one.
    Peer,
}

/// One connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conn {
    /// How far it is.
    pub stage: Stage,
    /// The service, at the end that `offered_by` says.
    pub service: String,
    /// Whose it is.
    pub offered_by: End,
    /// The application's source port, which identifies it to the peer (paper, section II.C.3).
    pub port: u16,
    /// The other node, once it is known.
    pub peer: Option<NodeId>,
    /// The name that was typed for it, if that was pinned.
    pub pinned: Option<Name>,
    /// Whether the application will write no more, said before there was a stream to say it to.
    pub finished: bool,
    /// Whether the application has read the end, and asks for nothing more.
    pub released: bool,
    /// Where both ends are, if it fails when one of them moves.
    pub fix: Option<Box<Fix>>,
    /// Bytes taken from the application.
    pub sent_bytes: u64,
    /// Bytes given to the application.
    pub received_bytes: u64,
}

/// All connections of this node.
#[derive(Debug, Default)]
pub struct Conns {
    last: u64,
    conns: BTreeMap<ConnId, Conn>,
    by_stream: BTreeMap<StreamKey, ConnId>,
}

impl Conns {
    /// A new connection to a service of this node, or of a peer.
    pub fn add(&mut self, service: &str, offered_by: End, port: u16, peer: Option<NodeId>) -> ConnId {
        self.last += 1;
        let conn = Conn {
            stage: Stage::Naming,
            service: service.to_owned(),
            offered_by,
            port,
            peer,
            pinned: None,
            finished: false,
            released: false,
            fix: None,
            sent_bytes: 0,
            received_bytes: 0,
        };
        self.conns.insert(ConnId(self.last), conn);
        ConnId(self.last)
    }

    /// The connection has its stream.
    pub fn bind(&mut self, id: ConnId, peer: NodeId, stream: StreamKey) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.stage = Stage::Stream(stream);
            conn.peer = Some(peer);
            self.by_stream.insert(stream, id);
        }
    }

    /// Takes its stream, which is dead, from a connection to a pinned name, and gives that name back; none for any other connection.
    pub fn unbind_pinned(&mut self, id: ConnId) -> Option<Name> {
        let conn = self.conns.get_mut(&id)?;
        let name = conn.pinned.take()?;
        if let Stage::Stream(stream) = core::mem::replace(&mut conn.stage, Stage::Naming) {
            self.by_stream.remove(&stream);
        }
        Some(name)
    }

    /// The connection `id`.
    pub fn conn(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(&id)
    }

    /// The connection `id`, if something can still happen on it.
    pub fn live(&self, id: ConnId) -> Option<&Conn> {
        self.conn(id).filter(|conn| conn.stage != Stage::Ended)
    }

    /// The connection `id`, to count its bytes.
    pub fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(&id)
    }

    /// The connections with `peer`.
    pub fn of_peer(&self, peer: NodeId) -> impl Iterator<Item = &Conn> {
        self.conns.values().filter(move |conn| conn.peer == Some(peer) && conn.stage != Stage::Ended)
    }

    /// Those with whom there are connections.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.conns.values().filter(|conn| conn.stage != Stage::Ended).filter_map(|conn| conn.peer)
    }

    /// The numbers of the connections with `peer` that are not over.
    pub fn ids_of_peer(&self, peer: NodeId) -> Vec<ConnId> {
        self.ids_where(|conn| conn.peer == Some(peer))
    }

    /// The numbers of those to this service, of whichever side.
    pub fn ids_of_service(&self, peer: NodeId, service: &str) -> Vec<ConnId> {
        self.ids_where(|conn| conn.peer == Some(peer) && conn.service == service)
    }

    /// The fixed connections of which `which` holds.
    pub fn fixed(&self, which: impl Fn(NodeId, &Fix) -> bool) -> Vec<ConnId> {
        self.ids_where(|conn| conn.peer.zip(conn.fix.as_deref()).is_some_and(|(peer, fix)| which(peer, fix)))
    }

    fn ids_where(&self, wanted: impl Fn(&Conn) -> bool) -> Vec<ConnId> {
        let wanted = self.conns.iter().filter(|(_, conn)| conn.stage != Stage::Ended && wanted(conn));
        wanted.map(|(id, _)| *id).collect()
    }

    /// The stream of the connection `id`, once it has one.
    pub fn stream(&self, id: ConnId) -> Option<StreamKey> {
        match self.conns.get(&id)?.stage {
            Stage::Stream(stream) => Some(stream),
            Stage::Naming | Stage::Ended => None,
        }
    }

    /// The connection that `stream` belongs to.
    pub fn of_stream(&self, stream: StreamKey) -> Option<ConnId> {
        self.by_stream.get(&stream).copied()
    }

    /// Nothing more comes or goes. Whoever has it may not have read its end yet, and finds it for as long as that takes.
    pub fn end(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.released {
            self.remove(id);
        } else if let Stage::Stream(stream) = core::mem::replace(&mut conn.stage, Stage::Ended) {
            self.by_stream.remove(&stream);
        }
    }

    /// The application has read the end, and asks for nothing more.
    pub fn release(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.released = true;
        if conn.stage == Stage::Ended {
            self.remove(id);
        }
    }

    /// The connection is over.
    pub fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let conn = self.conns.remove(&id)?;
        if let Stage::Stream(stream) = conn.stage {
            self.by_stream.remove(&stream);
        }
        Some(conn)
    }
}
