//! A way in through the router: it is asked to forward the ports at which this node listens, by UPnP (Internet Gateway Device, WANIPConnection).
//!
//! Only for addresses that a home router hands out (RFC 1918): a node that listens on loopback or at public addresses sends nothing. A search is three
//! multicasts that no router passes on (SSDP); whoever answers is talked to at the address from which it did, and nowhere else. A mapping ends by itself
//! an hour after it was made last, so that nothing of a node is left whose machine was switched off.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddPortError, PortMappingProtocol, SearchOptions};
use multiaddr::{Multiaddr, Protocol};
use overlay::time::Instant;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock;
use crate::driver::{Handle, Stopped};
use crate::reach::{Reach, ip_of, port_of, reach};

/// How often it is looked whether this node listens elsewhere.
const PERIOD: Duration = Duration::from_millis(500);
/// A router answers a multicast within this time, or it is none.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a mapping is good, in seconds.
const LEASE_S: u32 = 3600;
/// No end: for routers that know nothing else.
const PERMANENT_S: u32 = 0;
/// When a mapping is made again, and the router asked whether it has another address.
const RENEW: Duration = Duration::from_secs(1200);
/// When a router is looked for again, where there was none or it refused.
const RETRY: Duration = Duration::from_secs(900);
/// Ports that are forwarded at one time.
const MAX_PORTS: usize = 4;
/// How long taking the mappings back may take.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// What a person sees in the list of the router.
const DESCRIPTION: &str = "muses";

/// Keeps the mappings of a node until it is ended.
pub struct Upnp {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Upnp {
    /// For the node behind `handle`. Needs a tokio runtime around it.
    pub fn keep(handle: Handle) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(keep(handle, stopped)) }
    }

    /// Takes the mappings back.
    pub async fn end(self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(END_TIMEOUT, self.task).await;
    }
}

/// A mapping that was asked for.
struct Mapping {
    gateway: Gateway<Tokio>,
    inside: SocketAddrV4,
    /// At the router.
    port: u16,
}

#[derive(Default)]
struct State {
    /// Where this node listens behind a router.
    inside: Vec<SocketAddrV4>,
    mappings: Vec<Mapping>,
    /// When to ask the router again.
    due: Option<Instant>,
}

async fn keep(handle: Handle, stopped: watch::Receiver<bool>) {
    let mut state = State::default();
    // What was begun at the router is finished: only a mapping that is known of can be taken back.
    while !*stopped.borrow() && state.step(&handle, stopped.clone()).await.is_ok() {}
    stop(stopped).await;
    state.take_back().await;
}

async fn stop(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone says the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

impl State {
    async fn step(&mut self, handle: &Handle, stopped: watch::Receiver<bool>) -> Result<(), Stopped> {
        let inside = behind_router(&handle.listening().await?);
        if inside != self.inside {
            // Another network, or none: the router there knows nothing of these mappings, and the one here forgets them.
            self.mappings.clear();
            self.inside.clone_from(&inside);
            self.due = (!inside.is_empty()).then(|| clock::now().instant);
            handle.announce(Vec::new()).await?;
        }
        if self.due.is_some_and(|due| due <= clock::now().instant) {
            let mut outside = Vec::new();
            for inside in &inside {
                outside.extend(self.map(*inside, stopped.clone()).await);
            }
            self.due = Some(clock::now().instant + if outside.len() == inside.len() { RENEW } else { RETRY });
            handle.announce(outside).await?;
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop(stopped) => {}
        }
        Ok(())
    }

    /// Has a port forwarded; where it can be reached then.
    async fn map(&mut self, inside: SocketAddrV4, stopped: watch::Receiver<bool>) -> Option<Multiaddr> {
        let mut options = SearchOptions::default();
        // The source address decides through which network the question goes.
        options.bind_addr = SocketAddr::new(IpAddr::V4(*inside.ip()), 0);
        options.timeout = Some(SEARCH_TIMEOUT);
        let found = tokio::select! {
            found = search_gateway(options) => found,
            () = stop(stopped) => return None,
        };
        let gateway = match found {
            Ok(gateway) => gateway,
            Err(error) => {
                tracing::debug!(%inside, %error, "no router that forwards ports");
                return None;
            }
        };
        match self.map_at(gateway, inside).await {
            Ok(outside) => {
                tracing::info!(%inside, %outside, "the router forwards a port");
                Some(outside)
            }
            Err(why) => {
                tracing::info!(%inside, %why, "the router forwards nothing");
                None
            }
        }
    }

    async fn map_at(&mut self, gateway: Gateway<Tokio>, inside: SocketAddrV4) -> Result<Multiaddr, String> {
        let ip = gateway.get_external_ip().await.map_err(|error| error.to_string())?;
        if reach(&ip.into()) != Some(Reach::World) {
            return Err(format!("it is behind another router itself, at {ip}"));
        }
        let known = self.mappings.iter().find(|mapping| mapping.inside == inside && mapping.gateway.addr == gateway.addr);
        let port = add(&gateway, inside, known.map_or(inside.port(), |mapping| mapping.port)).await?;
        self.mappings.retain(|mapping| mapping.inside != inside);
        self.mappings.push(Mapping { gateway, inside, port });
        Ok(Multiaddr::from(ip).with(Protocol::Tcp(port)))
    }

    async fn take_back(self) {
        for Mapping { gateway, port, .. } in self.mappings {
            if let Err(error) = gateway.remove_port(PortMappingProtocol::TCP, port).await {
                tracing::debug!(%error, port, "the router keeps a mapping until it ends by itself");
            }
        }
    }
}

/// Has `port` of the router forwarded, or another one when that is somebody else's; which it is.
async fn add(gateway: &Gateway<Tokio>, inside: SocketAddrV4, port: u16) -> Result<u16, String> {
    let to = SocketAddr::V4(inside);
    let add = |lease_s| gateway.add_port(PortMappingProtocol::TCP, port, to, lease_s, DESCRIPTION);
    match add(LEASE_S).await {
        Ok(()) => Ok(port),
        Err(AddPortError::OnlyPermanentLeasesSupported) => {
            add(PERMANENT_S).await.map(|()| port).map_err(|error| error.to_string())
        }
        Err(AddPortError::PortInUse) => {
            let any = gateway.add_any_port(PortMappingProtocol::TCP, to, LEASE_S, DESCRIPTION);
            any.await.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The addresses that a router could forward to.
fn behind_router(listening: &[Multiaddr]) -> Vec<SocketAddrV4> {
    let inside = |address: &Multiaddr| match ip_of(address)? {
        IpAddr::V4(ip) if ip.is_private() => Some(SocketAddrV4::new(ip, port_of(address)?)),
        _ => None,
    };
    listening.iter().filter_map(inside).take(MAX_PORTS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_router_could_forward_to_is_asked_for() {
        let listening = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/203.0.113.7/tcp/1",
            "/ip4/169.254.1.1/tcp/1",
            "/ip4/100.64.1.1/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip6/2001:db8::1/tcp/1",
        ];
        let mut listening: Vec<Multiaddr> = listening.iter().map(|text| text.parse().unwrap()).collect();
        assert!(behind_router(&listening).is_empty());
        listening.push("/ip4/192.168.1.4/tcp/4741".parse().unwrap());
        assert_eq!(behind_router(&listening), ["192.168.1.4:4741".parse().unwrap()]);
    }
}
