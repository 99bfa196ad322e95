//! What people are shown.

use multiaddr::Multiaddr;
use overlay::id::{NodeId, OverlayId};
use overlay::status::{Neighbour, NeighbourRole};
use overlay::time::Now;

use super::Stack;
use super::bridge::first_address;
use super::conns::Conn;
use super::status::{ConnStatus, Counters, PeerStatus, SessionStatus, Status};

impl Stack {
    /// What this node is and does now.
    pub fn status(&self, now: Now) -> Status {
        let overlay = self.overlay.counters();
        let sessions = self.sessions.counters();
        Status {
            node: self.id.to_string(),
            overlay: self.overlay.overlay_id().map(|id| id.to_string()),
            membership: self.overlay.rank().map(|rank| format!("{rank:?}").to_lowercase()),
            address: self.overlay.place().and_then(first_address),
            root: self.overlay.root(now).map(|(id, _)| id.to_string()),
            name: self.name.as_ref().map(|name| name.as_str().to_owned()),
            parent: self.overlay.parent().map(|id| id.to_string()),
            standing: format!("{:?}", self.overlay.standing()).to_lowercase(),
            listen: self.listen.iter().map(|address| format!("{address}/p2p/{}", self.id)).collect(),
            links: self.overlay.neighbours().len(),
            sessions: self.sessions.sessions().count(),
            services: self.services.names(),
            warning: self.warnings.line(now.instant),
            counters: Counters {
                forwarded: overlay.forwarded,
                delivered: overlay.delivered,
                dropped: overlay.dropped(),
                bad_links: overlay.bad_links,
                bad_packets: sessions.forged + sessions.violations,
                records: self.overlay.records() as u64,
                public_key_ops: self.sessions.public_key_ops(),
                resumes: self.resumes,
                sent_bytes: self.sent_bytes,
                received_bytes: self.received_bytes,
            },
        }
    }

    /// What is wrong with its links, and with its record: a line each.
    pub fn faults(&self, now: Now) -> (Option<&'static str>, Option<&'static str>) {
        (self.warnings.twin(now.instant), self.warnings.record())
    }

    /// Who this node is.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Whether others can reach it: it has an address in some tree.
    pub fn has_place(&self) -> bool {
        self.overlay.place().is_some()
    }

    /// The overlay that it is in; none before the first join.
    pub fn overlay_id(&self) -> Option<OverlayId> {
        self.overlay.overlay_id()
    }

    /// How often the network was another one, or back, since the start.
    pub const fn networks(&self) -> u64 {
        self.networks
    }

    /// Whether no neighbour answers now.
    pub fn is_cut_off(&self, now: Now) -> bool {
        self.overlay.is_cut_off(now)
    }

    /// Whether this node founded it.
    pub fn is_founder(&self) -> bool {
        self.overlay.founder() == Some(self.id)
    }

    /// Its neighbours.
    pub fn peers(&self, now: Now) -> Vec<PeerStatus> {
        let row = |neighbour: Neighbour| PeerStatus {
            node: neighbour.id.to_string(),
            address: neighbour.place.as_ref().and_then(first_address),
            role: role_text(neighbour.role).to_owned(),
            remote: neighbour.remote.to_string(),
            up_s: now.instant.since(neighbour.up_at).as_secs_f64(),
        };
        self.overlay.neighbours().into_iter().map(row).collect()
    }

    /// Where it sees its neighbours: at the address that was dialled, or that they come from. Both ends have proved who they are over it.
    pub fn neighbours_at(&self) -> Vec<(NodeId, Multiaddr)> {
        self.overlay.neighbours().into_iter().map(|neighbour| (neighbour.id, neighbour.remote)).collect()
    }

    /// Its sessions.
    pub fn sessions(&self, _now: Now) -> Vec<SessionStatus> {
        let row = |session: muses::SessionInfo| SessionStatus {
            peer: session.peer.to_string(),
            name: self.called(session.peer),
            state: state_text(session.state).to_owned(),
            streams: self.conns.of_peer(session.peer).map(conn_status).collect(),
            hops: session.hops,
            rtt_us: Some(overlay::time::micros(session.rtt)),
            resumes: session.resumes,
        };
        self.sessions.sessions().map(row).collect()
    }
}

pub(super) fn conn_status(conn: &Conn) -> ConnStatus {
    ConnStatus {
        service: conn.service.clone(),
        offered_by: conn.offered_by,
        sent_bytes: conn.sent_bytes,
        received_bytes: conn.received_bytes,
    }
}

pub(super) const fn role_text(role: NeighbourRole) -> &'static str {
    match role {
        NeighbourRole::Parent => "parent",
        NeighbourRole::Child => "child",
        NeighbourRole::Shortcut => "shortcut",
    }
}

pub(super) const fn state_text(state: muses::SessionState) -> &'static str {
    match state {
        muses::SessionState::Opening => "handshake",
        muses::SessionState::Live => "established",
        muses::SessionState::Suspended { .. } => "suspended",
    }
}
