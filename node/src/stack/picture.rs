//! What the dashboard draws: this node and all that it knows of the overlay at one moment.

use std::collections::BTreeMap;

use overlay::address::{MAX_TREES, Place, TreeId};
use overlay::id::NodeId;
use overlay::status::Neighbour;
use overlay::time::Now;
use serde::{Deserialize, Serialize};

use super::Stack;
use super::status::{ConnStatus, NameStatus, Status};
use super::view::{conn_status, role_text, state_text};

/// Most nodes that are neither this one nor neighbours; a node with 200 neighbours is told of thousands.
const MAX_KNOWN: usize = 512;
/// Most sessions, in the order of their peers' ids.
const MAX_SESSIONS: usize = 128;
/// Most streams of one session.
const MAX_STREAMS: usize = 32;
/// Most names.
const MAX_NAMES: usize = 256;

/// One address for each tree of the overlay, as `/3/0`; none in trees where the node has no place.
pub type Addresses = [Option<String>; MAX_TREES];

/// Everything at one moment. Lists are cut at a limit; [`Status`] has the true counts.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Picture {
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// The same as `muses status`.
    pub status: Status,
    /// This node's own addresses.
    pub addresses: Addresses,
    /// The trees in use.
    pub trees: Vec<TreePicture>,
    /// How many nodes there are, as the root counts them.
    pub size: u32,
    /// Direct neighbours.
    pub neighbours: Vec<NeighbourPicture>,
    /// Nodes that neighbours told of.
    pub known: Vec<KnownPicture>,
    /// Sessions.
    pub sessions: Vec<SessionPicture>,
    /// Names that this node knows by itself.
    pub names: Vec<NameStatus>,
    /// Its part of the record table.
    pub records: RecordsPicture,
}

/// One tree.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TreePicture {
    /// Its number, 0 to 3.
    pub tree: u8,
    /// The id of this node's parent in it.
    pub parent: Option<String>,
    /// The id of who holds its root.
    pub root: Option<String>,
}

/// One neighbour.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NeighbourPicture {
    /// Its id.
    pub node: String,
    /// Where it is.
    pub addresses: Addresses,
    /// What it is to this node in each tree: `parent`, `child` or `shortcut`.
    pub roles: [String; MAX_TREES],
    /// The remote end of the link.
    pub remote: String,
    /// Seconds since the link came up.
    pub up_s: u64,
    /// The latest round trip time of a probe, in microseconds.
    pub rtt_us: Option<u64>,
}

/// A node that is no neighbour.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct KnownPicture {
    /// Its id.
    pub node: String,
    /// Where it is.
    pub addresses: Addresses,
    /// The ids of the neighbours that told of it; none for the peer of a session that no neighbour told of.
    pub via: Vec<String>,
}

/// One session.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SessionPicture {
    /// The other end.
    pub peer: String,
    /// `handshake`, `established` or `suspended`.
    pub state: String,
    /// Links crossed by the latest packet from the peer.
    pub hops: Option<u16>,
    /// Smoothed round trip time in microseconds.
    pub rtt_us: u64,
    /// How often it was resumed.
    pub resumes: u64,
    /// Bytes of streams that were sent, each counted once.
    pub sent_bytes: u64,
    /// Bytes of streams that were received.
    pub received_bytes: u64,
    /// Its streams.
    pub streams: Vec<ConnStatus>,
}

/// This node's part of the record table.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RecordsPicture {
    /// Records held for others.
    pub held: u64,
    /// Requests answered.
    pub answered: u64,
    /// Records that another binder took over.
    pub handed_over: u64,
}

impl Stack {
    /// All that this node knows of the overlay now.
    pub fn picture(&self, now: Now) -> Picture {
        let dht = self.overlay.dht_counters();
        let neighbours = self.overlay.neighbours();
        let tree = |tree: TreeId| TreePicture {
            tree: tree.get(),
            parent: self.overlay.parent_in(tree).map(|id| id.to_string()),
            root: self.overlay.root_of(tree).map(|id| id.to_string()),
        };
        Picture {
            at_unix_ms: now.wall.as_unix_micros() / 1000,
            status: self.status(now),
            addresses: self.overlay.place().map(addresses).unwrap_or_default(),
            trees: self.overlay.trees_in_use().map(tree).collect(),
            size: self.overlay.size(),
            known: self.known_nodes(&neighbours),
            neighbours: neighbours.iter().map(|neighbour| self.neighbour(neighbour, now)).collect(),
            sessions: self.sessions.sessions().take(MAX_SESSIONS).map(|session| self.session(&session)).collect(),
            names: self.names().into_iter().take(MAX_NAMES).collect(),
            records: RecordsPicture {
                held: self.overlay.records() as u64,
                answered: dht.answered_requests,
                handed_over: dht.handed_over,
            },
        }
    }

    fn neighbour(&self, neighbour: &Neighbour, now: Now) -> NeighbourPicture {
        NeighbourPicture {
            node: neighbour.id.to_string(),
            addresses: neighbour.place.as_ref().map(addresses).unwrap_or_default(),
            roles: TreeId::ALL.map(|tree| role_text(self.overlay.role_in(tree, &neighbour.id)).to_owned()),
            remote: neighbour.remote.to_string(),
            up_s: now.instant.since(neighbour.up_at).as_secs(),
            rtt_us: neighbour.rtt_us,
        }
    }

    /// Who is known and no neighbour: what neighbours told, and where the peers of sessions are.
    fn known_nodes(&self, neighbours: &[Neighbour]) -> Vec<KnownPicture> {
        let near = |id: &NodeId| *id == self.id || neighbours.iter().any(|neighbour| neighbour.id == *id);
        let mut known: BTreeMap<NodeId, (Place, Vec<NodeId>)> = BTreeMap::new();
        for session in self.sessions.sessions().filter(|session| !near(&session.peer)).take(MAX_SESSIONS) {
            if let Ok(place) = Place::from_bytes(&session.path.0) {
                known.insert(session.peer, (place, Vec::new()));
            }
        }
        for told in self.overlay.acquaintances().filter(|told| !near(&told.id)) {
            if known.len() >= MAX_KNOWN && !known.contains_key(&told.id) {
                continue;
            }
            let (place, via) = known.entry(told.id).or_default();
            if told.place.seq >= place.seq {
                *place = told.place;
            }
            via.push(told.via);
        }
        let row = |(id, (place, via)): (NodeId, (Place, Vec<NodeId>))| KnownPicture {
            node: id.to_string(),
            addresses: addresses(&place),
            via: via.iter().map(ToString::to_string).collect(),
        };
        known.into_iter().map(row).collect()
    }

    fn session(&self, session: &muses::SessionInfo) -> SessionPicture {
        SessionPicture {
            peer: session.peer.to_string(),
            state: state_text(session.state).to_owned(),
            hops: session.hops,
            rtt_us: overlay::time::micros(session.rtt),
            resumes: session.resumes,
            sent_bytes: session.sent_bytes,
            received_bytes: session.received_bytes,
            streams: self.conns.of_peer(session.peer).take(MAX_STREAMS).map(conn_status).collect(),
        }
    }
}

fn addresses(place: &Place) -> Addresses {
    TreeId::ALL.map(|tree| place.addresses.in_tree(tree).map(ToString::to_string))
}
