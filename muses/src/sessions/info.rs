//! What can be seen of a session from outside.

use core::time::Duration;

use overlay::id::NodeId;
use overlay::time::Instant;

use super::Sessions;
use crate::event::{Path, SessionLabel};
use crate::session::Session;

/// What a session is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionState {
    /// Looking for the peer, or shaking hands.
    Opening,
    /// Data flows.
    Live,
    /// Waiting for a path since then.
    Suspended {
        /// When the path failed.
        since: Instant,
    },
}

/// A view of one session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// With whom.
    pub peer: NodeId,
    /// Its name on the wire, once there are keys.
    pub label: Option<SessionLabel>,
    /// What it is doing.
    pub state: SessionState,
    /// Where the peer is.
    pub path: Path,
    /// How many streams it carries.
    pub streams: usize,
    /// The smoothed round trip.
    pub rtt: Duration,
    /// How much may be in flight, in bytes.
    pub window_bytes: u64,
    /// How much is in flight, in bytes.
    pub in_flight_bytes: u64,
    /// Bytes of streams sent and received, each counted once.
    pub sent_bytes: u64,
    /// See [`SessionInfo::sent_bytes`].
    pub received_bytes: u64,
    /// Links crossed by the latest authentic packet from the peer.
    pub hops: Option<u16>,
    /// How often it went on after an outage or a move.
    pub resumes: u64,
    /// How often a fresh secret was mixed into the resume secret.
    pub refreshes: u64,
}

impl Sessions {
    /// All sessions, in the order of their peers' ids.
    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo> {
        self.sessions.values().map(|session| info(session))
    }
}

fn info(session: &Session) -> SessionInfo {
    let state = match session.bound_ref() {
        None => SessionState::Opening,
        Some(bound) => bound.suspended.map_or(SessionState::Live, |since| SessionState::Suspended { since }),
    };
    let flow = &session.flow;
    SessionInfo {
        peer: session.peer,
        label: session.label(),
        state,
        path: session.path.clone(),
        streams: flow.stream_count(),
        rtt: flow.recovery.rtt.smoothed(),
        window_bytes: flow.window_bytes(),
        in_flight_bytes: flow.recovery.in_flight_bytes(),
        sent_bytes: flow.sent_bytes(),
        received_bytes: flow.received_bytes(),
        hops: session.hops,
        resumes: session.resumes,
        refreshes: session.refreshes(),
    }
}
