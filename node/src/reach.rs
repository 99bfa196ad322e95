//! From how far away an address can be reached.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use multiaddr::{Multiaddr, Protocol};

/// From how far away; the farther, the more useful to others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reach {
    /// This machine.
    Machine,
    /// The network that this machine is in: addresses for private use, or behind a carrier's NAT.
    Network,
    /// As far as the address says, from everywhere. A firewall may think otherwise.
    World,
}

/// The reach of an address that starts with an IP address; none where others have no use for it.
pub fn reach(address: &Multiaddr) -> Option<Reach> {
    match ip_of(address)? {
        ip if ip.is_unspecified() || ip.is_multicast() => None,
        ip if ip.is_loopback() => Some(Reach::Machine),
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() || is_shared(ip) => Some(Reach::Network),
        // A link-local address means nothing without its interface.
        IpAddr::V6(ip) if ip.is_unicast_link_local() => None,
        IpAddr::V6(ip) if ip.is_unique_local() => Some(Reach::Network),
        _ => Some(Reach::World),
    }
}

/// Those of a node's addresses that others have a use for, what reaches farthest first; one of this machine only when there is no other.
pub fn for_others(addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut reached: Vec<(Reach, Multiaddr)> =
        addresses.into_iter().filter_map(|address| Some((reach(&address)?, address))).collect();
    reached.sort_by_key(|(reach, _)| Reverse(*reach));
    let farthest = reached.first().map(|(reach, _)| *reach);
    let here = |reach: Reach| reach == Reach::Machine && farthest > Some(Reach::Machine);
    reached.into_iter().filter(|(reach, _)| !here(*reach)).map(|(_, address)| address).collect()
}

/// The IP address that an address starts with, an IPv4 one as such.
pub fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::from(ip).to_canonical()),
        _ => None,
    }
}

/// Its TCP port.
pub fn port_of(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    })
}

/// How a TCP socket's address is written as one of links.
pub fn multiaddr_of(at: SocketAddr) -> Multiaddr {
    Multiaddr::from(at.ip()).with(Protocol::Tcp(at.port()))
}

/// RFC 6598: between a carrier's NAT and its customers.
fn is_shared(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [100, 64..=127, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_by_reach() {
        for (address, expected) in [
            ("/ip4/127.0.0.9/tcp/1", Some(Reach::Machine)),
            ("/ip6/::1/tcp/1", Some(Reach::Machine)),
            ("/ip4/192.168.1.4/tcp/1", Some(Reach::Network)),
            ("/ip4/100.100.1.4/tcp/1", Some(Reach::Network)),
            ("/ip6/fd00::1/tcp/1", Some(Reach::Network)),
            ("/ip6/::ffff:10.0.0.1/tcp/1", Some(Reach::Network)),
            ("/ip4/203.0.113.7/tcp/1", Some(Reach::World)),
            ("/ip6/2001:db8::1/tcp/1", Some(Reach::World)),
            ("/ip6/fe80::1/tcp/1", None),
            ("/ip4/0.0.0.0/tcp/1", None),
            ("/dns4/example.com/tcp/1", None),
        ] {
            assert_eq!(reach(&address.parse().unwrap()), expected, "{address}");
        }
        assert!(Reach::World > Reach::Network && Reach::Network > Reach::Machine);
    }
}
