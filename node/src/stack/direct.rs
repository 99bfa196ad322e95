//! Direct links between nodes that have a session: what they tell each other inside it, and when such a link is sought.
//!
//! Where a node can be dialled goes to those with whom it has a session, end to end, and to nobody else. Both ends dial, so one of them may be behind a
//! NAT. A session takes such a link because the overlay forwards by it, and goes on over relays when it breaks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use multiaddr::Multiaddr;
use muses::frame::MAX_REACH_BYTES;
use overlay::codec;
use overlay::id::NodeId;
use overlay::partners::MAX_ADDRESSES_SOUGHT;
use overlay::time::Now;
use serde::Deserialize;

use super::Stack;
use crate::reach::ip_of;

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
pub(super) struct Reaches {
    peers: BTreeMap<NodeId, Reach>,
    /// How often something was told.
    told: u64,
}

/// Where one can be.
#[derive(Debug)]
struct Reach {
    addresses: Vec<Multiaddr>,
    /// When that was told, counted in what was told.
    told: u64,
}

impl Reaches {
    /// Where this peer can be dialled; empty when it does not say.
    pub(super) fn of(&self, peer: NodeId) -> Vec<Multiaddr> {
        self.peers.get(&peer).map(|reach| reach.addresses.clone()).unwrap_or_default()
    }

    /// The peer says this. Where there are too many, those go with whom there is no session, by `has_session`, and then the one that was told longest ago.
    fn set(&mut self, peer: NodeId, addresses: Vec<Multiaddr>, has_session: impl Fn(&NodeId) -> bool) {
        if addresses.is_empty() {
            self.peers.remove(&peer);
            return;
        }
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer) {
            self.keep(has_session);
            if self.peers.len() >= MAX_PEERS {
                let oldest = self.peers.iter().min_by_key(|(_, reach)| reach.told).map(|(peer, _)| *peer);
                if let Some(oldest) = oldest {
                    self.peers.remove(&oldest);
                }
            }
        }
        self.told = self.told.saturating_add(1);
        self.peers.insert(peer, Reach { addresses, told: self.told });
    }

    /// Forgets all but those of whom `which` holds.
    fn keep(&mut self, which: impl Fn(&NodeId) -> bool) {
        self.peers.retain(|peer, _| which(peer));
    }
}

/// Whether a node at `own` dials a peer that says to be at `ip`. Programs of this machine are not for others to reach, unless this node is on nothing else than
/// the machine itself.
fn may_be_dialled(ip: IpAddr, own: &[IpAddr]) -> bool {
    let is_here = !own.is_empty() && own.iter().all(IpAddr::is_loopback);
    !ip.is_unspecified() && !ip.is_multicast() && (is_here || !ip.is_loopback())
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
        let own: Vec<IpAddr> = self.listen.iter().filter_map(ip_of).collect();
        let mut addresses = from_bytes(reach);
        // Nodes say where they listen; a name would have this one ask for it, and dial whatever that leads to.
        addresses.retain(|address| ip_of(address).is_some_and(|ip| may_be_dialled(ip, &own)));
        self.reaches.set(peer, addresses, |peer| self.sessions.path_to(peer).is_some());
        self.note_reach(peer, now);
        self.seek_link_again(peer, now);
    }

    /// Forgets where those can be dialled with whom there is no session any more. Nobody is told when a session gives its place to another one, so this is
    /// asked from time to time.
    pub(super) fn forget_reach_of_gone(&mut self) {
        self.reaches.keep(|peer| self.sessions.path_to(peer).is_some());
    }

    /// Who runs this node says that another one of the overlay is at this address.
    pub fn handle_way_in(&mut self, address: &Multiaddr, peer: Option<NodeId>, now: Now) {
        self.ways.add(address);
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
            && let Some(reach) = self.reaches.peers.get(&peer)
        {
            self.overlay.seek_link(peer, &reach.addresses, now);
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
    use overlay::id::Identity;
    use overlay::time::{Instant, WallTime};

    use super::super::Config;
    use super::super::watch::PERIOD;
    use super::*;

    fn id(n: usize) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    /// Peers with descending ids, so that the order of ids is not that in which they came.
    fn full() -> Reaches {
        let mut reaches = Reaches::default();
        for n in 0..MAX_PEERS {
            reaches.set(id(MAX_PEERS - n), here(), |_| true);
        }
        assert!((1..=MAX_PEERS).all(|n| reaches.of(id(n)) == here()));
        reaches
    }

    fn here() -> Vec<Multiaddr> {
        vec!["/ip4/10.0.0.1/tcp/4741".parse().unwrap()]
    }

    #[test]
    fn nobody_has_a_node_dial_its_own_machine() {
        let ips = |list: &[&str]| -> Vec<IpAddr> { list.iter().map(|ip| ip.parse().unwrap()).collect() };
        let may = |ip: &str, own: &[&str]| may_be_dialled(ip.parse().unwrap(), &ips(own));
        assert!(may("192.0.2.1", &["127.0.0.1", "10.0.0.1"]) && may("2001:db8::1", &[]));
        assert!(!may("127.0.0.1", &["127.0.0.1", "10.0.0.1"]) && !may("::1", &[]));
        assert!(may("127.0.0.2", &["127.0.0.1"]), "a testnet");
        assert!(!may("0.0.0.0", &["127.0.0.1"]) && !may("224.0.0.251", &["10.0.0.1"]));
    }

    #[test]
    fn who_comes_when_all_places_are_taken_displaces_the_oldest() {
        let mut reaches = full();
        // It says it again, and is not the oldest any more.
        reaches.set(id(MAX_PEERS), here(), |_| true);
        reaches.set(id(MAX_PEERS + 1), here(), |_| true);
        let gone: Vec<usize> = (1..=MAX_PEERS + 1).filter(|n| reaches.of(id(*n)).is_empty()).collect();
        assert_eq!(gone, [MAX_PEERS - 1]);
    }

    #[test]
    fn who_has_no_session_any_more_goes_before_who_has_one() {
        let mut reaches = full();
        let (oldest, gone) = (id(MAX_PEERS), id(7));
        reaches.set(id(0), here(), |peer| *peer != gone);
        assert_eq!((reaches.of(id(0)), reaches.of(oldest)), (here(), here()));
        assert!(reaches.of(gone).is_empty());
        assert_eq!(reaches.peers.len(), MAX_PEERS);
    }

    #[test]
    fn whose_session_is_gone_is_forgotten_in_the_next_round() {
        let now = Now { instant: Instant::ZERO, wall: WallTime::default() };
        let own = Identity::from_secret(&[1; 32]);
        let mut stack = Stack::new(Config::default(), own, [3; 32], [4; 32], now).unwrap();
        let (gone, there) = (id(1), id(2));
        stack.sessions.open(there, "web", 0, now).unwrap();
        for peer in [gone, there] {
            stack.hear_reach(peer, &to_bytes(&here()), now);
        }
        assert_eq!((stack.reaches.of(gone), stack.reaches.of(there)), (here(), here()));
        stack.start_to_watch(now);
        stack.watch_timer(now.after(PERIOD));
        assert_eq!((stack.reaches.of(gone), stack.reaches.of(there)), (Vec::new(), here()));
    }

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
