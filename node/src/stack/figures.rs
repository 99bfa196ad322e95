//! All that is counted, for `/metrics`.

use overlay::status::NeighbourRole;

use super::Stack;

/// Numbers of one moment. They name no node: who is linked to whom is nothing that a monitoring system has to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Whether this node has a place in the overlay.
    pub attached: bool,
    /// The depth of its address in the first tree; 0 while it has none.
    pub depth: u64,
    /// How many nodes the root counts.
    pub nodes: u64,
    /// Links to the parent, to children and to others, in the first tree.
    pub links: [u64; 3],
    /// Sessions in a handshake, established, suspended.
    pub sessions: [u64; 3],
    /// Streams in all sessions.
    pub streams: u64,
    /// Bytes in flight in all sessions.
    pub in_flight_bytes: u64,
    /// Bytes taken from applications.
    pub sent_bytes: u64,
    /// Bytes handed to applications.
    pub received_bytes: u64,
    /// Sessions resumed.
    pub resumes: u64,
    /// Operations with public keys in the session layer.
    pub public_key_ops: u64,
    /// Records held for others.
    pub records: u64,
    /// Bytes of state, about.
    pub state_bytes: u64,
    /// The overlay's own counters.
    pub overlay: overlay::status::Counters,
    /// The record table's.
    pub dht: overlay::dht::Counters,
    /// The session layer's.
    pub packets: muses::sessions::Counters,
}

impl Stack {
    /// Bytes taken from applications, and bytes handed to them.
    pub const fn carried_bytes(&self) -> (u64, u64) {
        (self.sent_bytes, self.received_bytes)
    }

    /// What was counted so far.
    pub fn figures(&self) -> Figures {
        let mut links = [0; 3];
        for neighbour in self.overlay.neighbours() {
            links[match neighbour.role {
                NeighbourRole::Parent => 0,
                NeighbourRole::Child => 1,
                NeighbourRole::Shortcut => 2,
            }] += 1;
        }
        let (mut sessions, mut streams, mut in_flight_bytes) = ([0; 3], 0, 0);
        for session in self.sessions.sessions() {
            sessions[match session.state {
                muses::SessionState::Opening => 0,
                muses::SessionState::Live => 1,
                muses::SessionState::Suspended { .. } => 2,
            }] += 1;
            streams += session.streams as u64;
            in_flight_bytes += session.in_flight_bytes;
        }
        let state = self.overlay.state_bytes();
        let place = self.overlay.place();
        let address = place.and_then(|place| place.addresses.in_tree(overlay::address::FIRST_TREE));
        Figures {
            attached: place.is_some(),
            depth: address.map_or(0, |address| address.depth() as u64),
            nodes: u64::from(self.overlay.size()),
            links,
            sessions,
            streams,
            in_flight_bytes,
            sent_bytes: self.sent_bytes,
            received_bytes: self.received_bytes,
            resumes: self.resumes,
            public_key_ops: self.sessions.public_key_ops(),
            records: self.overlay.records() as u64,
            state_bytes: (state.without_records() + state.records) as u64,
            overlay: self.overlay.counters(),
            dht: self.overlay.dht_counters(),
            packets: self.sessions.counters(),
        }
    }
}
