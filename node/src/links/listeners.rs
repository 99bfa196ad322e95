//! Where this node listens: what was configured, and what that is now.

use std::net::IpAddr;

use libp2p::Swarm;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::NetworkBehaviour;
use multiaddr::{Multiaddr, Protocol};

use super::StartError;
use super::flight::is_of_this_machine;
use super::network::ip_of;
use crate::reach::port_of;

/// All listeners of a node.
pub(super) struct Listeners {
    configured: Vec<Configured>,
    open: Vec<Open>,
}

struct Configured {
    address: Multiaddr,
    /// The port that the system chose for port 0: the same again after flight mode.
    port: Option<u16>,
}

struct Open {
    id: ListenerId,
    /// Which of the configured ones it serves.
    configured: usize,
    /// With its port; a wildcard as such.
    addresses: Vec<Multiaddr>,
}

impl Listeners {
    pub(super) fn start<B: NetworkBehaviour>(
        swarm: &mut Swarm<B>,
        addresses: Vec<Multiaddr>,
    ) -> Result<Self, StartError> {
        let configured = addresses.into_iter().map(|address| Configured { address, port: None }).collect();
        let mut listeners = Self { configured, open: Vec::new() };
        listeners.open = listeners.listen(swarm, None)?;
        Ok(listeners)
    }

    pub(super) fn close<B: NetworkBehaviour>(&mut self, swarm: &mut Swarm<B>) {
        close(swarm, self.open.drain(..));
    }

    /// Opens all of the family of `bind` there, or all where they were configured, and closes those that were there before. All or nothing: where a
    /// new one cannot listen, the old ones go on.
    pub(super) fn reopen<B: NetworkBehaviour>(
        &mut self,
        swarm: &mut Swarm<B>,
        bind: Option<IpAddr>,
    ) -> Result<(), String> {
        let opened = self.listen(swarm, bind).map_err(|error| error.to_string())?;
        self.close(swarm);
        self.open = opened;
        Ok(())
    }

    /// Opens all of the family of `ip` there, too. Those at a wildcard are there already. All or nothing.
    pub(super) fn also_at<B: NetworkBehaviour>(&mut self, swarm: &mut Swarm<B>, ip: IpAddr) -> Result<(), String> {
        is_of_this_machine(ip)?;
        if self.configured.iter().any(Configured::is_everywhere) {
            return Ok(());
        }
        let opened = self.listen(swarm, Some(ip)).map_err(|error| error.to_string())?;
        self.open.extend(opened);
        Ok(())
    }

    pub(super) fn opened(&mut self, id: ListenerId, address: Multiaddr) {
        let Some(open) = self.open.iter_mut().find(|open| open.id == id) else { return };
        if let Some(configured) = self.configured.get_mut(open.configured) {
            configured.port = port_of(&address);
        }
        if !open.addresses.contains(&address) {
            open.addresses.push(address);
        }
    }

    pub(super) fn expired(&mut self, id: ListenerId, address: &Multiaddr) {
        if let Some(open) = self.open.iter_mut().find(|open| open.id == id) {
            open.addresses.retain(|known| known != address);
        }
    }

    pub(super) fn ended(&mut self, id: ListenerId) {
        self.open.retain(|open| open.id != id);
    }

    /// Everything that a neighbour could dial; `own` are the addresses of this machine, if the system tells. In their order: others try the first one first.
    pub(super) fn addresses(&self, own: Option<&[IpAddr]>) -> Vec<Multiaddr> {
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for address in self.open.iter().flat_map(|open| open.dialable(own)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// All of these, or none and why.
    fn listen<B: NetworkBehaviour>(&self, swarm: &mut Swarm<B>, bind: Option<IpAddr>) -> Result<Vec<Open>, StartError> {
        let mut wanted: Vec<(usize, Multiaddr)> = Vec::new();
        for (number, configured) in self.configured.iter().enumerate() {
            if let Some(address) = configured.moved_to(bind)
                && !wanted.iter().any(|(_, known)| *known == address)
            {
                wanted.push((number, address));
            }
        }
        let mut opened = Vec::new();
        for (configured, address) in wanted {
            let again = self.configured.get(configured).filter(|c| c.port.is_some() && port_of(&c.address) == Some(0));
            let id = match (swarm.listen_on(address.clone()), again) {
                // Somebody has that port at the new address; it was the system's choice, so it may choose anew.
                (Err(_), Some(_)) => swarm.listen_on(with_port(&address, 0)),
                (listening, _) => listening,
            };
            match id {
                Ok(id) => opened.push(Open { id, configured, addresses: Vec::new() }),
                Err(error) => {
                    close(swarm, opened);
                    return Err(StartError::Listen { address, why: reason(&error) });
                }
            }
        }
        Ok(opened)
    }
}

fn close<B: NetworkBehaviour>(swarm: &mut Swarm<B>, listeners: impl IntoIterator<Item = Open>) {
    for open in listeners {
        swarm.remove_listener(open.id);
    }
}

impl Open {
    /// Loopback counts only when there is nothing else: elsewhere it names somebody else.
    fn dialable(&self, own: Option<&[IpAddr]>) -> Vec<Multiaddr> {
        let concrete = |address: &Multiaddr| match ip_of(address).filter(IpAddr::is_unspecified) {
            Some(wildcard) => everywhere(wildcard, address, own),
            None => vec![address.clone()],
        };
        let mut addresses: Vec<Multiaddr> = self.addresses.iter().flat_map(concrete).collect();
        addresses.retain(|address| !is_link_local(address));
        let only_loopback = addresses.iter().all(is_loopback);
        addresses.retain(|address| only_loopback || !is_loopback(address));
        addresses
    }
}

/// Where one who listens at `wildcard`, which is in `address`, is found.
fn everywhere(wildcard: IpAddr, address: &Multiaddr, own: Option<&[IpAddr]>) -> Vec<Multiaddr> {
    let family = own.into_iter().flatten().filter(|ip| ip.is_ipv4() == wildcard.is_ipv4());
    family.map(|ip| Multiaddr::from(*ip).into_iter().chain(address.iter().skip(1)).collect()).collect()
}

impl Configured {
    fn is_everywhere(&self) -> bool {
        ip_of(&self.address).is_some_and(|ip| ip.is_unspecified())
    }

    /// None when `bind` is of the other family.
    fn moved_to(&self, bind: Option<IpAddr>) -> Option<Multiaddr> {
        let mut moved = Multiaddr::empty();
        for part in &self.address {
            moved.push(match (part, bind) {
                (Protocol::Ip4(_), Some(IpAddr::V4(ip))) => Protocol::Ip4(ip),
                (Protocol::Ip6(_), Some(IpAddr::V6(ip))) => Protocol::Ip6(ip),
                (Protocol::Ip4(_) | Protocol::Ip6(_), Some(_)) => return None,
                (Protocol::Tcp(port), _) => Protocol::Tcp(self.port.unwrap_or(port)),
                (part, _) => part,
            });
        }
        Some(moved)
    }
}

/// The same address with another port.
pub(super) fn with_port(address: &Multiaddr, port: u16) -> Multiaddr {
    let with = |part| if let Protocol::Tcp(_) = part { Protocol::Tcp(port) } else { part };
    address.iter().map(with).collect()
}

/// The innermost cause: what is around it says nothing to a person.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}

/// Such an address means nothing without the name of an interface, which a multiaddr of ours does not carry.
fn is_link_local(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Ip6(ip) if ip.is_unicast_link_local()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_keeps_the_port_and_the_family() {
        let configured = Configured { address: "/ip4/0.0.0.0/tcp/0".parse().unwrap(), port: Some(4001) };
        let moved = |bind: Option<&str>| {
            configured.moved_to(bind.map(|ip| ip.parse().unwrap())).map(|address| address.to_string())
        };
        assert_eq!(moved(Some("127.0.1.2")).as_deref(), Some("/ip4/127.0.1.2/tcp/4001"));
        assert_eq!(moved(Some("::1")), None);
        assert_eq!(moved(None).as_deref(), Some("/ip4/0.0.0.0/tcp/4001"));
    }

    #[test]
    fn loopback_is_told_when_there_is_nothing_else() {
        let dialable = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            let open = Open { id: ListenerId::next(), configured: 0, addresses };
            open.dialable(None).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(dialable(&["/ip4/127.0.0.1/tcp/1"]), ["/ip4/127.0.0.1/tcp/1"]);
        assert_eq!(dialable(&["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"]), ["/ip4/10.0.0.1/tcp/1"]);
        assert_eq!(dialable(&["/ip6/::1/tcp/1", "/ip6/fe80::1/tcp/1", "/ip6/fd00::1/tcp/1"]), ["/ip6/fd00::1/tcp/1"]);
    }

    #[test]
    fn at_a_wildcard_all_addresses_of_this_machine_count() {
        let own = ["10.3.0.2", "127.0.0.1", "fd00::7", "fe80::1"].map(|ip| ip.parse().unwrap());
        let dialable = |address: &str| {
            let open = Open { id: ListenerId::next(), configured: 0, addresses: vec![address.parse().unwrap()] };
            open.dialable(Some(&own)).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(dialable("/ip4/0.0.0.0/tcp/5"), ["/ip4/10.3.0.2/tcp/5"]);
        assert_eq!(dialable("/ip6/::/tcp/5"), ["/ip6/fd00::7/tcp/5"]);
        assert_eq!(dialable("/ip4/10.0.0.1/tcp/5"), ["/ip4/10.0.0.1/tcp/5"]);
    }
}
