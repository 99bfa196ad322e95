//! A node says on its local network that it is there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use mdns_sd::{DaemonEvent, Receiver, ServiceInfo};
use multiaddr::{Multiaddr, Protocol};
use overlay::id::{NodeId, OverlayId};

use super::{Current, Daemon, PERIOD, SERVICE, VERSION};
use crate::driver::{Handle, Stopped};
use crate::reach::{Reach, reach};

/// Announces the node behind `handle`, `node`, until it ends, whenever others on the network can reach it.
pub async fn announce(handle: Handle, node: NodeId) {
    let (mut told, mut was_flooded) = (Current::none(), false);
    while let Ok(facts) = facts(&handle).await {
        told.keep(facts, |facts| Announcement::new(facts, node));
        let repeating = async {
            match told.get() {
                Some((_, announcement)) => announcement.repeat().await,
                None => std::future::pending().await,
            }
        };
        let _: Result<(), _> = tokio::time::timeout(PERIOD, repeating).await;
        let is_full = match told.get() {
            Some((_, announcement)) => announcement.daemon.is_full().await,
            None => false,
        };
        if is_full {
            if !core::mem::replace(&mut was_flooded, true) {
                tracing::warn!("somebody floods multicast DNS; announced anew, without what was kept of it");
            }
            told.renew();
        }
    }
}

/// What is announced.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Facts {
    overlay: OverlayId,
    port: u16,
    ips: BTreeSet<IpAddr>,
}

/// None while there is no overlay, or nobody else could dial.
async fn facts(handle: &Handle) -> Result<Option<Facts>, Stopped> {
    let overlay = handle.with(|stack, _| stack.overlay_id()).await?;
    let listening = handle.listening().await?;
    Ok(overlay.and_then(|overlay| {
        let (port, ips) = reachable(&listening)?;
        Some(Facts { overlay, port, ips })
    }))
}

/// The port of the first address that others can dial, and all such addresses with this port.
fn reachable(listening: &[Multiaddr]) -> Option<(u16, BTreeSet<IpAddr>)> {
    let ends = || listening.iter().filter(|address| reach(address) > Some(Reach::Machine)).filter_map(end);
    let (_, port) = ends().next()?;
    Some((port, ends().filter(|(_, other)| *other == port).map(|(ip, _)| ip).collect()))
}

fn end(address: &Multiaddr) -> Option<(IpAddr, u16)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some((ip, port)),
        _ => None,
    }
}

/// Answers questions of others as long as it is there.
struct Announcement {
    daemon: Daemon,
    service: ServiceInfo,
    changes: Receiver<DaemonEvent>,
}

impl Announcement {
    fn new(facts: &Facts, node: NodeId) -> mdns_sd::Result<Self> {
        let id = node.to_string();
        // Ids differ at their end. DNS does not tell upper from lower case, which leaves enough of it.
        let host = format!("muses-{}.local.", id.get(id.len().saturating_sub(20)..).unwrap_or(&id).to_lowercase());
        let properties = [("v", VERSION.to_owned()), ("overlay", facts.overlay.to_string()), ("node", id.clone())];
        let ips: Vec<IpAddr> = facts.ips.iter().copied().collect();
        let mut service = ServiceInfo::new(SERVICE, &id, &host, ips.as_slice(), facts.port, &properties[..])?;
        // The names are made of the key: nobody has to be asked whether they are free, and an announcement goes out at once.
        service.set_requires_probe(false);
        let daemon = Daemon::new()?;
        let announcement = Self { changes: daemon.0.monitor()?, daemon, service };
        announcement.register()?;
        Ok(announcement)
    }

    fn register(&self) -> mdns_sd::Result<()> {
        self.daemon.0.register(self.service.clone())
    }

    /// Says it again whenever an interface comes up: with addresses that are given, the daemon keeps silent there.
    async fn repeat(&self) {
        while let Ok(event) = self.changes.recv_async().await {
            if matches!(event, DaemonEvent::IpAdd(_))
                && let Err(error) = self.register()
            {
                tracing::debug!("not announced on an interface that came up: {error}");
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_dialled_is_announced() {
        let listening = |texts: &[&str]| -> Vec<Multiaddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        assert_eq!(reachable(&listening(&["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/ip6/fe80::1/tcp/1"])), None);
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let all = ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/2", "/ip6/fd00::1/tcp/2", "/ip4/10.0.0.2/tcp/3"];
        assert_eq!(reachable(&listening(&all)), Some((2, ips(&["10.0.0.1", "fd00::1"]))));
    }
}
