//! Overlays on the local network, found by multicast DNS (RFC 6762) as a service (RFC 6763).
//!
//! A node that others on the network can reach announces itself as an instance of [`SERVICE`]: its id and its overlay's id as properties,
//! and the addresses and port at which it listens. `muses join` without an argument asks for these. Anybody on the network may answer
//! anything, so this is for meeting, not for trust: links prove ids, and what one joins is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mdns_sd::{IfKind, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use multiaddr::{Multiaddr, Protocol};
use overlay::id::{NodeId, OverlayId};

use crate::driver::{Handle, Stopped};
use crate::exit::{Code, Fault};
use crate::reach::{Reach, reach};

/// What nodes announce.
pub const SERVICE: &str = "_muses._tcp.local.";
/// The version of what is in the properties.
const VERSION: &str = "1";
/// Nodes that are remembered in one search, and addresses of each.
const MAX_FOUND: usize = 64;
const MAX_ADDRESSES: usize = 8;
/// After the first answer others may come for so long.
const SETTLE: Duration = Duration::from_millis(1500);
/// How often the announcement is compared with what is true: soon silent in flight mode.
const PERIOD: Duration = Duration::from_millis(500);
/// How often the system is asked for its interfaces, in seconds: one that just came up may not carry packets yet.
const INTERFACES_PERIOD_S: u32 = 1;

/// A node on this network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Which overlay it is in.
    pub overlay: OverlayId,
    /// Who it says to be; the link will show.
    pub node: NodeId,
    /// Where it listens, with `/p2p`.
    pub addresses: Vec<Multiaddr>,
}

/// The nodes that answer within `limit`, or soon after the first one. Blocks.
///
/// # Errors
/// [`Code::Failed`] when the system does not let us ask.
pub fn find(limit: Duration) -> Result<Vec<Found>, Fault> {
    let failed = |error: mdns_sd::Error| {
        Fault::new(Code::Failed, format!("cannot search this network: {error}; ask for an invite: muses join INVITE"))
    };
    let daemon = ServiceDaemon::new().map_err(failed)?;
    daemon.set_ip_check_interval(INTERFACES_PERIOD_S).map_err(failed)?;
    let answers = daemon.browse(SERVICE).map_err(failed)?;
    let mut end = Instant::now() + limit;
    let mut found: BTreeMap<NodeId, Found> = BTreeMap::new();
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let Ok(event) = answers.recv_timeout(left) else { break };
        let ServiceEvent::ServiceResolved(service) = event else { continue };
        let Some(one) = read(&service).filter(|_| found.len() < MAX_FOUND) else { continue };
        if found.is_empty() {
            end = end.min(Instant::now() + SETTLE);
        }
        found.insert(one.node, one);
    }
    let _ = daemon.shutdown();
    Ok(found.into_values().collect())
}

/// What somebody announces; none for what is no node that could be dialled.
fn read(service: &ResolvedService) -> Option<Found> {
    let property = |key| service.get_property_val_str(key);
    if property("v") != Some(VERSION) {
        return None;
    }
    let (overlay, node) = (property("overlay")?.parse().ok()?, property("node")?.parse::<NodeId>().ok()?);
    // In order, so that the same answer reads the same each time.
    let ips: BTreeSet<IpAddr> = service.addresses.iter().map(|ip| ip.to_ip_addr()).collect();
    let addresses: Vec<Multiaddr> = ips
        .into_iter()
        .map(|ip| Multiaddr::from(ip).with(Protocol::Tcp(service.port)))
        .filter(|address| reach(address).is_some_and(|reach| reach > Reach::Machine))
        .filter_map(|address| format!("{address}/p2p/{node}").parse().ok())
        .take(MAX_ADDRESSES)
        .collect();
    (!addresses.is_empty()).then_some(Found { overlay, node, addresses })
}

/// Announces the node behind `handle`, `node`, until it ends, whenever others on the network can reach it.
pub async fn announce(handle: Handle, node: NodeId) {
    // With what could not be announced, which is not tried again until it changes.
    let mut told: Option<(Facts, Option<Announcement>)> = None;
    while let Ok(facts) = facts(&handle).await {
        if told.as_ref().map(|(facts, _)| facts) != facts.as_ref() {
            // The old one first: two with one name would be in each other's way.
            drop(told.take());
            told = facts.map(|facts| {
                let announcement = Announcement::new(&facts, node)
                    .inspect_err(|error| tracing::warn!("this node is not announced on the local network: {error}"));
                (facts, announcement.ok())
            });
        }
        tokio::time::sleep(PERIOD).await;
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
struct Announcement(ServiceDaemon);

impl Announcement {
    fn new(facts: &Facts, node: NodeId) -> mdns_sd::Result<Self> {
        let id = node.to_string();
        // Ids differ at their end. DNS does not tell upper from lower case, which leaves enough of it.
        let host = format!("muses-{}.local.", id.get(id.len().saturating_sub(20)..).unwrap_or(&id).to_lowercase());
        let properties = [("v", VERSION.to_owned()), ("overlay", facts.overlay.to_string()), ("node", id.clone())];
        let ips: Vec<IpAddr> = facts.ips.iter().copied().collect();
        let service = ServiceInfo::new(SERVICE, &id, &host, ips.as_slice(), facts.port, &properties[..])?;
        let announcement = Self(ServiceDaemon::new()?);
        announcement.0.set_ip_check_interval(INTERFACES_PERIOD_S)?;
        announcement.0.register(service)?;
        Ok(announcement)
    }
}

impl Drop for Announcement {
    /// Without a goodbye: in flight mode no byte leaves, and who searches asks anew each time.
    fn drop(&mut self) {
        let _ = self.0.disable_interface(IfKind::All);
        let _ = self.0.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

    fn service(overlay: &str, node: &str, ips: &[&str]) -> ResolvedService {
        let properties = [("v", VERSION), ("overlay", overlay), ("node", node)];
        let info = ServiceInfo::new(SERVICE, "x", "x.local.", ips, 4741, &properties[..]).unwrap();
        info.as_resolved_service()
    }

    #[test]
    fn only_what_can_be_dialled_is_announced_and_found() {
        let listening = |texts: &[&str]| -> Vec<Multiaddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        assert_eq!(reachable(&listening(&["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/ip6/fe80::1/tcp/1"])), None);
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let all = ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/2", "/ip6/fd00::1/tcp/2", "/ip4/10.0.0.2/tcp/3"];
        assert_eq!(reachable(&listening(&all)), Some((2, ips(&["10.0.0.1", "fd00::1"]))));

        let overlay = OverlayId::from_bytes([1; 32]);
        let found = read(&service(&overlay.to_string(), NODE, &["10.0.0.1", "127.0.0.1"])).unwrap();
        assert_eq!((found.overlay, found.node.to_string().as_str()), (overlay, NODE));
        assert_eq!(found.addresses, listening(&[&format!("/ip4/10.0.0.1/tcp/4741/p2p/{NODE}")]));
        for (overlay, node, ip) in [
            ("nonsense", NODE, "10.0.0.1"),
            (&overlay.to_string(), "nonsense", "10.0.0.1"),
            (&overlay.to_string(), NODE, "127.0.0.1"),
        ] {
            assert_eq!(read(&service(overlay, node, &[ip])), None);
        }
    }
}
