//! A way in through the router: it is asked to forward the ports at which this node listens, by UPnP (Internet Gateway Device, WANIPConnection).
//!
//! Only for addresses that a home router hands out (RFC 1918): a node that listens on loopback or at public addresses sends nothing. A search is three
//! multicasts that no router passes on (SSDP); whoever answers is talked to at the address from which it did, and nowhere else: its description is read
//! there, at most 1 MiB of it, and only an address for private use is told anything after that. A mapping ends by itself an hour after it was made last,
//! so that nothing of a node is left whose machine was switched off. Where a router knows no such end, what leads to an address that this node has left is taken
//! back as soon as it meets that router again.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use futures::future::join_all;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::aio::{Gateway, Provider};
use igd_next::{AddPortError, GatewayIpVersion, PortMappingProtocol, SearchOptions};
use multiaddr::{Multiaddr, Protocol};
use overlay::time::Instant;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock;
use crate::driver::{Handle, Stopped};
use crate::reach::{Reach, ip_of, port_of, reach};

/// How often it is looked whether this node listens elsewhere.
const PERIOD: Duration = Duration::from_millis(500);
/// A router has answered a multicast, for which it may take three seconds, and said what it can do within this time, or it is none.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(6);
/// A router has forwarded a port within this time, or it does not. What it does later ends with its lease.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);
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
/// Mappings of addresses that this node has left, and that are remembered; the oldest are forgotten first.
const MAX_LEFT: usize = 16;
/// How long taking the mappings back may take.
const END_TIMEOUT: Duration = Duration::from_secs(2);
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
struct Mapping<P> {
    gateway: Gateway<P>,
    inside: SocketAddrV4,
    /// At the router, and which address that had outside.
    port: u16,
    outside: IpAddr,
    /// It does not end by itself.
    permanent: bool,
}

/// Those that the routers may still know of.
struct Mappings<P> {
    /// Made for where this node listens and has listened since; at most one for each.
    here: Vec<Mapping<P>>,
    /// From before. In another network another router may have the address of the one that made them.
    left: Vec<Mapping<P>>,
}

struct State {
    /// Where this node listens behind a router.
    inside: Vec<SocketAddrV4>,
    mappings: Mappings<Tokio>,
    /// When to ask the router again.
    due: Option<Instant>,
}

async fn keep(handle: Handle, stopped: watch::Receiver<bool>) {
    let mut state = State { inside: Vec::new(), mappings: Mappings::new(), due: None };
    // What was begun at the router is finished: only a mapping that is known of can be taken back.
    while !*stopped.borrow() && state.step(&handle, stopped.clone()).await.is_ok() {}
    stop(stopped).await;
    state.mappings.take_back().await;
}

async fn stop(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone says the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

impl State {
    async fn step(&mut self, handle: &Handle, stopped: watch::Receiver<bool>) -> Result<(), Stopped> {
        let inside = behind_router(&handle.listening().await?);
        if inside != self.inside {
            // Another network, or none: the router there knows nothing of these mappings.
            self.mappings.leave(&inside);
            self.inside.clone_from(&inside);
            self.due = (!inside.is_empty()).then(|| clock::now().instant);
            handle.announce(Vec::new()).await?;
        }
        if self.due.is_some_and(|due| due <= clock::now().instant) {
            // All at once: in most networks of a machine, as those of its containers, nobody answers.
            let found = join_all(inside.iter().map(|inside| search(*inside, stopped.clone()))).await;
            // First, as the port may be among these.
            let met: Vec<_> = found.iter().flatten().collect();
            let taking_back = self.mappings.take_back_left(&met, &inside);
            let _ = tokio::time::timeout(ASK_TIMEOUT, taking_back).await;
            let mut outside = Vec::new();
            for (inside, gateway) in inside.iter().zip(found) {
                if let Some(gateway) = gateway {
                    outside.extend(self.map(gateway, *inside).await);
                }
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
    async fn map(&mut self, gateway: Gateway<Tokio>, inside: SocketAddrV4) -> Option<Multiaddr> {
        let mapping = tokio::time::timeout(ASK_TIMEOUT, self.mappings.add(gateway, inside));
        match mapping.await.unwrap_or_else(|_| Err("it takes too long".to_owned())) {
            Ok(outside) => {
                tracing::info!(%inside, %outside, "the router forwards a port");
                Some(outside)
            }
            Err(why) => {
                tracing::info!(%inside, ?why, "the router forwards nothing");
                None
            }
        }
    }
}

/// The router of the network in which `inside` is an address of this machine.
async fn search(inside: SocketAddrV4, stopped: watch::Receiver<bool>) -> Option<Gateway<Tokio>> {
    let mut options = SearchOptions::default();
    // The source address decides through which network the question goes.
    options.bind_addr = SocketAddr::new(IpAddr::V4(*inside.ip()), 0);
    options.timeout = Some(SEARCH_TIMEOUT);
    options.gateway_ip_version = GatewayIpVersion::V4;
    let found = tokio::select! {
        found = search_gateway(options) => found,
        () = stop(stopped) => return None,
    };
    match found {
        Ok(gateway) if is_in_a_home(gateway.addr) => Some(gateway),
        Ok(gateway) => {
            tracing::info!(%inside, gateway = %gateway.addr, "a router that is not in this network is not asked");
            None
        }
        Err(error) => {
            // Quoted, as it may say what the router said.
            tracing::debug!(%inside, error = ?error.to_string(), "no router that forwards ports");
            None
        }
    }
}

impl<P: Provider> Mappings<P> {
    const fn new() -> Self {
        Self { here: Vec::new(), left: Vec::new() }
    }

    /// This node listens at `inside` now, and at no address that it had beside these.
    fn leave(&mut self, inside: &[SocketAddrV4]) {
        self.left.extend(self.here.extract_if(.., |mapping| !inside.contains(&mapping.inside)));
        let surplus = self.left.len().saturating_sub(MAX_LEFT);
        self.left.drain(..surplus);
    }

    /// Has a port forwarded to `inside`, or the one that is for another lease; where that can be reached.
    async fn add(&mut self, gateway: Gateway<P>, inside: SocketAddrV4) -> Result<Multiaddr, String> {
        let ip = gateway.get_external_ip().await.map_err(|error| error.to_string())?;
        if reach(&ip.into()) != Some(Reach::World) {
            return Err(format!("it is behind another router itself, at {ip}"));
        }
        let known = self
            .here
            .iter()
            .chain(&self.left)
            .find(|mapping| mapping.inside == inside && mapping.gateway.addr.ip() == gateway.addr.ip());
        let (port, permanent) = add(&gateway, inside, known.map_or(inside.port(), |mapping| mapping.port)).await?;
        self.here.retain(|mapping| mapping.inside != inside);
        self.left.retain(|mapping| mapping.inside != inside || mapping.gateway.addr != gateway.addr);
        self.here.push(Mapping { gateway, inside, port, outside: ip, permanent });
        Ok(Multiaddr::from(ip).with(Protocol::Tcp(port)))
    }

    /// Takes back what does not end by itself, leads to none of `inside`, and is kept by one of the routers that were `met` again.
    async fn take_back_left(&mut self, met: &[&Gateway<P>], inside: &[SocketAddrV4]) {
        for gateway in met {
            let is_over =
                |old: &Mapping<P>| old.permanent && !inside.contains(&old.inside) && is_same(gateway, &old.gateway);
            if !self.left.iter().any(is_over) {
                continue;
            }
            // Routers of one make look alike in every home, and another home's mapping at that port is somebody else's.
            let Ok(outside) = gateway.get_external_ip().await else { continue };
            let over: Vec<_> = self.left.extract_if(.., |old| is_over(old) && old.outside == outside).collect();
            take_back(over).await;
        }
    }

    async fn take_back(self) {
        take_back(self.here).await;
    }
}

async fn take_back<P: Provider>(mappings: impl IntoIterator<Item = Mapping<P>>) {
    let taking = mappings.into_iter().map(|Mapping { gateway, port, .. }| async move {
        if let Err(error) = gateway.remove_port(PortMappingProtocol::TCP, port).await {
            tracing::debug!(error = ?error.to_string(), port, "the router keeps a mapping");
        }
    });
    join_all(taking).await;
}

/// Whether these are one router, as far as they say themselves.
fn is_same<P>(one: &Gateway<P>, other: &Gateway<P>) -> bool {
    let place = |gateway: &Gateway<P>| (gateway.addr, gateway.root_url.clone(), gateway.control_url.clone());
    place(one) == place(other)
}

/// Whether a router's address is one that is handed out behind routers. Others' descriptions may have been read, but they are told nothing.
fn is_in_a_home(gateway: SocketAddr) -> bool {
    matches!(gateway.ip(), IpAddr::V4(ip) if ip.is_private() || ip.is_link_local())
}

/// Has `port` of the router forwarded, or another one when that is somebody else's; which it is, and whether for good.
async fn add<P: Provider>(gateway: &Gateway<P>, inside: SocketAddrV4, port: u16) -> Result<(u16, bool), String> {
    let to = SocketAddr::V4(inside);
    let add = |lease_s| gateway.add_port(PortMappingProtocol::TCP, port, to, lease_s, DESCRIPTION);
    match add(LEASE_S).await {
        Ok(()) => Ok((port, false)),
        Err(AddPortError::OnlyPermanentLeasesSupported) => {
            add(PERMANENT_S).await.map(|()| (port, true)).map_err(|error| error.to_string())
        }
        Err(AddPortError::PortInUse) => {
            let any = gateway.add_any_port(PortMappingProtocol::TCP, to, LEASE_S, DESCRIPTION);
            any.await.map(|port| (port, false)).map_err(|error| error.to_string())
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
    use std::cell::RefCell;
    use std::collections::HashMap;

    use igd_next::RequestError;

    use super::*;

    thread_local! {
        /// What the router is asked, one line each: the action, the port outside and the lease.
        static ASKED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
        /// The router's address outside.
        static OUTSIDE: RefCell<&'static str> = const { RefCell::new("203.0.113.7") };
    }

    /// Forwards every port but 4741, which is somebody else's, and 4700 and 4701 only for good.
    struct Router;

    impl Provider for Router {
        async fn send_async(_: &str, action: &str, body: &str) -> Result<String, RequestError> {
            let action = action.trim_matches('"').rsplit('#').next().unwrap();
            let field = |name: &str| {
                let value = body.split_once(&format!("<{name}>")).map(|(_, after)| after.split_once('<').unwrap().0);
                value.unwrap_or_default().to_owned()
            };
            let (port, lease) = (field("NewExternalPort"), field("NewLeaseDuration"));
            ASKED.with_borrow_mut(|asked| asked.push(format!("{action} {port} {lease}").trim_end().to_owned()));
            let taken = "<s:Fault><detail><UPnPError><errorCode>718</errorCode><errorDescription>taken</errorDescription></UPnPError></detail></s:Fault>";
            let ip = OUTSIDE.with_borrow(|ip| format!("<NewExternalIPAddress>{ip}</NewExternalIPAddress>"));
            let answer = match (action, port.as_str()) {
                ("AddPortMapping", "4741") => taken.to_owned(),
                ("AddPortMapping", "4700" | "4701") if lease != "0" => {
                    taken.replace("718", "725").replace("taken", "OnlyPermanentLeasesSupported")
                }
                _ => format!("<u:{action}Response xmlns:u=\"u\">{ip}</u:{action}Response>"),
            };
            Ok(format!("<s:Envelope xmlns:s=\"s\"><s:Body>{answer}</s:Body></s:Envelope>"))
        }
    }

    fn router() -> Gateway<Router> {
        let schema =
            |action: &str, fields: &[&str]| (action.to_owned(), fields.iter().map(ToString::to_string).collect());
        Gateway {
            addr: "192.168.1.1:80".parse().unwrap(),
            root_url: "/".to_owned(),
            control_url: "/".to_owned(),
            control_schema_url: "/".to_owned(),
            control_schema: HashMap::from([
                schema("AddPortMapping", &["NewExternalPort", "NewLeaseDuration"]),
                schema("DeletePortMapping", &["NewExternalPort"]),
            ]),
            service_type: "u".to_owned(),
            provider: Router,
        }
    }

    #[tokio::test]
    async fn a_lease_is_renewed_at_the_port_that_was_given() {
        let asked = || ASKED.with_borrow_mut(std::mem::take);
        let mut mappings = Mappings::new();
        let inside = "192.168.1.4:4741".parse().unwrap();
        let outside = mappings.add(router(), inside).await.unwrap();
        let port = port_of(&outside).unwrap();
        let add = format!("AddPortMapping {port} 3600");
        assert_eq!(asked(), ["GetExternalIPAddress", "AddPortMapping 4741 3600", add.as_str()]);
        assert_eq!(mappings.add(router(), inside).await.as_ref(), Ok(&outside));
        assert_eq!(asked(), ["GetExternalIPAddress", add.as_str()]);
        mappings.take_back().await;
        assert_eq!(asked(), [format!("DeletePortMapping {port}")]);
        assert!(RENEW * 2 < Duration::from_secs(LEASE_S.into()), "one that fails is made up for");
    }

    #[tokio::test]
    async fn what_has_no_end_is_taken_back_where_its_router_is_met_again() {
        let asked = || ASKED.with_borrow_mut(std::mem::take);
        let mut mappings = Mappings::new();
        let [one, other, leased] =
            ["192.168.1.4:4700", "192.168.1.5:4701", "192.168.1.4:5000"].map(|at| at.parse().unwrap());
        for inside in [one, other, leased] {
            mappings.add(router(), inside).await.unwrap();
        }
        mappings.leave(&[one]);
        assert_eq!((mappings.here.len(), mappings.left.len()), (1, 2), "it is still there");
        mappings.leave(&[]);
        asked();
        // Elsewhere: that router is asked nothing about these.
        let elsewhere = Gateway { addr: "10.0.0.1:80".parse().unwrap(), ..router() };
        mappings.take_back_left(&[&elsewhere], &[]).await;
        assert!(asked().is_empty());
        // One that looks just like the first one, in somebody else's home.
        OUTSIDE.replace("198.51.100.7");
        mappings.take_back_left(&[&router()], &[other]).await;
        assert_eq!(asked(), ["GetExternalIPAddress"]);
        OUTSIDE.replace("203.0.113.7");
        // Back at the first one, at one of the addresses.
        mappings.take_back_left(&[&elsewhere, &router()], &[other]).await;
        assert_eq!(asked(), ["GetExternalIPAddress", "DeletePortMapping 4700"]);
        mappings.add(router(), other).await.unwrap();
        asked();
        mappings.take_back().await;
        assert_eq!(asked(), ["DeletePortMapping 4701"], "the other one ends by itself");
        // No more than some are remembered.
        let mut mappings = Mappings::new();
        for port in 5000..5100 {
            mappings.add(router(), SocketAddrV4::new([192, 168, 1, 4].into(), port)).await.unwrap();
            mappings.leave(&[]);
        }
        assert_eq!(mappings.left.len(), MAX_LEFT);
    }

    #[test]
    fn only_a_router_behind_routers_is_told_anything() {
        let home = |address: &str| is_in_a_home(address.parse().unwrap());
        assert!(["192.168.1.1:80", "10.0.0.1:5000", "172.31.0.1:80", "169.254.1.1:80"].iter().all(|at| home(at)));
        assert!(
            !["127.0.0.1:80", "203.0.113.7:80", "100.64.0.1:80", "[fe80::1]:80", "[fd00::1]:80"]
                .iter()
                .any(|at| home(at))
        );
    }

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
