//! Overlays on the local network, found by multicast DNS (RFC 6762) as a service (RFC 6763).
//!
//! A node that others on the network can reach announces itself as an instance of [`SERVICE`] ([`announce`]): its id and its overlay's id as
//! properties, and the addresses and port at which it listens. `muses join` without an argument asks for these ([`find`]), and so does a node
//! that has lost all its neighbours ([`meet`]). Anybody on the network may answer anything, so this is for meeting, not for trust: links prove
//! ids, and what one joins is shown.

mod announce;
mod meet;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mdns_sd::{IfKind, Metrics, Receiver, ResolvedService, ServiceDaemon, ServiceEvent};
use multiaddr::{Multiaddr, Protocol};
use overlay::id::{NodeId, OverlayId};

use crate::exit::{Code, Fault};
use crate::reach::{Reach, reach};

pub use announce::announce;
pub use meet::meet;

/// What nodes announce.
pub const SERVICE: &str = "_muses._tcp.local.";
/// The version of what is in the properties.
const VERSION: &str = "1";
/// Nodes that are remembered in one search, and addresses of each.
pub const MAX_FOUND: usize = 64;
const MAX_ADDRESSES: usize = 8;
/// After the first answer others may come for so long.
const SETTLE: Duration = Duration::from_millis(1500);
/// How often what a node says and asks here is compared with what is true: soon silent in flight mode.
const PERIOD: Duration = Duration::from_millis(500);
/// How often the system is asked for its interfaces, in seconds: one that just came up may not carry packets yet.
const INTERFACES_PERIOD_S: u32 = 1;

/// Records of others that the daemon of a node may keep: it keeps what nobody asked for, too, and forgets little of it (mdns-sd 0.21).
const MAX_CACHED: i64 = 10_000;

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
    let daemon = Daemon::new().map_err(failed)?;
    let answers = daemon.ask().map_err(failed)?;
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
    Ok(found.into_values().collect())
}

/// What is said or asked on the network, as long as the facts for which it was made are true.
struct Current<F, T>(Option<(F, Option<T>)>);

impl<F: PartialEq, T> Current<F, T> {
    const fn none() -> Self {
        Self(None)
    }

    /// With other facts something else is made; with what could not be made, that is not tried again until they change.
    fn keep(&mut self, facts: Option<F>, make: impl FnOnce(&F) -> mdns_sd::Result<T>) {
        if self.0.as_ref().map(|(facts, _)| facts) == facts.as_ref() {
            return;
        }
        // The old one first: two with one name would be in each other's way.
        self.0 = None;
        self.0 = facts.map(|facts| {
            let made =
                make(&facts).inspect_err(|error| tracing::warn!("no multicast DNS on the local network: {error}"));
            (facts, made.ok())
        });
    }

    /// What was made is made anew.
    fn renew(&mut self) {
        self.0 = None;
    }

    fn get(&mut self) -> Option<(&F, &mut T)> {
        self.0.as_mut().and_then(|(facts, made)| Some((&*facts, made.as_mut()?)))
    }
}

/// Speaks multicast DNS as long as it is there.
struct Daemon(ServiceDaemon);

impl Daemon {
    fn new() -> mdns_sd::Result<Self> {
        let daemon = Self(ServiceDaemon::new()?);
        daemon.0.set_ip_check_interval(INTERFACES_PERIOD_S)?;
        Ok(daemon)
    }

    /// Whether it keeps more of what others say than it may.
    async fn is_full(&self) -> bool {
        let Ok(metrics) = self.0.get_metrics() else { return false };
        let answer = tokio::time::timeout(PERIOD, metrics.recv_async()).await;
        answer.is_ok_and(|metrics| metrics.is_ok_and(|metrics| cached(&metrics) > MAX_CACHED))
    }

    /// Asks for nodes, more seldom the longer it lasts.
    fn ask(&self) -> mdns_sd::Result<Receiver<ServiceEvent>> {
        self.0.browse(SERVICE)
    }
}

impl Drop for Daemon {
    /// Without a goodbye: in flight mode no byte leaves, and who searches asks anew each time.
    fn drop(&mut self) {
        let _ = self.0.disable_interface(IfKind::All);
        let _ = self.0.shutdown();
    }
}

/// Records of others.
fn cached(metrics: &Metrics) -> i64 {
    metrics.iter().filter(|(name, _)| name.starts_with("cached-")).map(|(_, count)| *count).sum()
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

#[cfg(test)]
mod tests {
    use mdns_sd::ServiceInfo;

    use super::*;

    const NODE: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

    fn service(overlay: &str, node: &str, ips: &[&str]) -> ResolvedService {
        let properties = [("v", VERSION), ("overlay", overlay), ("node", node)];
        let info = ServiceInfo::new(SERVICE, "x", "x.local.", ips, 4741, &properties[..]).unwrap();
        info.as_resolved_service()
    }

    #[test]
    fn what_others_say_is_counted_whatever_it_is() {
        let metrics = [("cached-srv", 2), ("cached-nsec", 3), ("browse", 7), ("timer", 9)];
        assert_eq!(cached(&metrics.map(|(name, count)| (name.to_owned(), count)).into()), 5);
    }

    #[tokio::test]
    async fn a_daemon_that_has_heard_nothing_is_not_full() {
        let daemon = Daemon::new().unwrap();
        assert!(!daemon.is_full().await);
        let metrics = daemon.0.get_metrics().unwrap().recv_async().await.unwrap();
        assert!(metrics.contains_key("cached-srv") && metrics.contains_key("cached-nsec"), "{metrics:?}");
    }

    #[test]
    fn only_what_can_be_dialled_is_found() {
        let overlay = OverlayId::from_bytes([1; 32]);
        let found = read(&service(&overlay.to_string(), NODE, &["10.0.0.1", "127.0.0.1"])).unwrap();
        assert_eq!((found.overlay, found.node.to_string().as_str()), (overlay, NODE));
        let dialled: Multiaddr = format!("/ip4/10.0.0.1/tcp/4741/p2p/{NODE}").parse().unwrap();
        assert_eq!(found.addresses, [dialled]);
        for (overlay, node, ip) in [
            ("nonsense", NODE, "10.0.0.1"),
            (&overlay.to_string(), "nonsense", "10.0.0.1"),
            (&overlay.to_string(), NODE, "127.0.0.1"),
        ] {
            assert_eq!(read(&service(overlay, node, &[ip])), None);
        }
    }
}
