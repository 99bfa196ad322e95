//! Direct links between nodes that have a session: what they tell each other inside it, and when such a link is sought.
//!
//! Where a node can be dialled goes to those with whom it has a session, end to end, and to nobody else. Both ends dial, so one of them may be behind a
//! NAT. A session takes such a link because the overlay forwards by it, and goes on over relays when it breaks.

use std::collections::BTreeMap;

use multiaddr::Multiaddr;
use muses::frame::MAX_REACH_BYTES;
use overlay::codec;
use overlay::id::NodeId;
use overlay::partners::MAX_ADDRESSES_SOUGHT;
use overlay::time::Now;
use serde::Deserialize;

use super::Stack;

/// Peers whose addresses are remembered.
const MAX_PEERS: usize = 1024;

/// Whether direct links are sought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direct {
    /// With everybody with whom there is a session.
    #[default]
    Auto,
    /// With nobody, and nobody is told this node's addresses: relays see the peers then, but the peers do not see each other's networks.
    Never,
}

/// Where peers can be dialled, as they say.
#[derive(Debug, Default)]
pub(super) struct Reaches(BTreeMap<NodeId, Vec<Multiaddr>>);

impl Reaches {
    /// Where this peer can be dialled; empty when it does not say.
    pub(super) fn of(&self, peer: NodeId) -> Vec<Multiaddr> {
        self.0.get(&peer).cloned().unwrap_or_default()
    }

    fn set(&mut self, peer: NodeId, addresses: Vec<Multiaddr>) {
        if addresses.is_empty() {
            self.0.remove(&peer);
        } else if self.0.len() < MAX_PEERS || self.0.contains_key(&peer) {
            self.0.insert(peer, addresses);
        }
    }
}

impl Stack {
    /// Peers are told where this node listens now. Not in friend-to-friend mode: who may dial it knows where it is.
    pub(super) fn tell_reach(&mut self, now: Now) {
        let silent = self.direct == Direct::Never || self.friends_only;
        let addresses: &[Multiaddr] = if silent { &[] } else { &self.listen };
        self.sessions.set_reach(&to_bytes(addresses), now);
    }

    /// A peer said where it can be dialled.
    pub(super) fn hear_reach(&mut self, peer: NodeId, reach: &[u8], now: Now) {
        self.reaches.set(peer, from_bytes(reach));
        self.note_reach(peer, now);
        self.seek_link_again(peer, now);
    }

    /// Who runs this node says that another one of the overlay is at this address.
    pub fn handle_way_in(&mut self, address: &Multiaddr, peer: Option<NodeId>, now: Now) {
        self.overlay.handle_peer_found(address, peer, now);
        self.settle(now);
    }

    /// Seeks a link to a node that is said to be at these addresses.
    pub fn seek_link(&mut self, peer: NodeId, addresses: &[Multiaddr], now: Now) {
        self.overlay.seek_link(peer, addresses, now);
        self.settle(now);
    }

    /// Seeks a link to a peer, if there still is something to exchange with it.
    pub(super) fn seek_link_again(&mut self, peer: NodeId, now: Now) {
        if self.conns.of_peer(peer).next().is_some() {
            self.seek_link_with(peer, now);
        }
    }

    /// Seeks a link to a peer with which there is a connection.
    pub(super) fn seek_link_with(&mut self, peer: NodeId, now: Now) {
        if self.direct == Direct::Auto
            && let Some(addresses) = self.reaches.0.get(&peer)
        {
            self.overlay.seek_link(peer, addresses, now);
        }
    }
}

/// As many of the addresses as fit; empty for none.
fn to_bytes(addresses: &[Multiaddr]) -> Vec<u8> {
    let mut told: Vec<Vec<u8>> = addresses.iter().take(MAX_ADDRESSES_SOUGHT).map(Multiaddr::to_vec).collect();
    while !told.is_empty() {
        match codec::encode(&told) {
            Ok(bytes) if bytes.len() <= MAX_REACH_BYTES => return bytes,
            _ => drop(told.pop()),
        }
    }
    Vec::new()
}

/// What is not understood is left out.
pub(super) fn from_bytes(bytes: &[u8]) -> Vec<Multiaddr> {
    let told: Vec<Vec<u8>> = codec::decode::<_, MAX_REACH_BYTES>(bytes).unwrap_or_default();
    told.into_iter().take(MAX_ADDRESSES_SOUGHT).filter_map(|bytes| Multiaddr::try_from(bytes).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip_and_never_exceed_the_limit() {
        let addresses: Vec<Multiaddr> = (0..9).map(|n| format!("/ip4/10.0.0.{n}/tcp/4741").parse().unwrap()).collect();
        assert_eq!(from_bytes(&to_bytes(&addresses)), addresses[..MAX_ADDRESSES_SOUGHT]);
        let long: Multiaddr = format!("/dns4/{}/tcp/1", "a".repeat(200)).parse().unwrap();
        let told = to_bytes(&vec![long.clone(); 4]);
        assert!(told.len() <= MAX_REACH_BYTES);
        assert_eq!(from_bytes(&told), [long.clone(), long]);
        assert!(to_bytes(&[]).is_empty() && from_bytes(&[]).is_empty());
        assert!(from_bytes(&[255; 40]).is_empty(), "nonsense");
    }
}
