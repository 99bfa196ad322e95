//! The same experiment on real interfaces, as root: each node has a network namespace of its own.
//!
//! ```text
//!   core, 10.77.0.0/24      all nodes but Bob
//!   net-a, 10.77.1.0/24     r3 and, before the move, Bob
//!   net-b, 10.77.2.0/24     r5 and, after the move, Bob      (or fd77:2::/64 and no IPv4)
//! ```
//!
//! Each network is a bridge in one more namespace. r3 and r5 are also the IP routers of their networks, so that Bob's
//! plain TCP download has a way to Alice before and after the move. Nobody tells Bob's node that he moves: one of his
//! interfaces goes down, later the other one comes up and gets an address.

mod line;
pub mod roaming;
mod spaces;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use crate::network::{Back, Hosts, Network};
use crate::process::NodeProcess;
use crate::topology::{ALICE, BOB, Friend, Join, Topology};
use crate::wait::{Result, Trouble, io};
use spaces::{HUB, Spaces, ip};

/// The port at which every node listens.
const PORT: u16 = 4741;
/// Host number in the core network of the first node.
const FIRST_HOST: u8 = 10;
/// The routers' neighbours in the tree: Bob's relay before and after the move.
const RELAYS: [&str; 2] = ["r3", "r5"];

/// What Bob's second network speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// IPv4, like the first.
    Ipv4,
    /// IPv6 only, while the first is IPv4 only.
    Ipv6,
}

/// The namespaces of one run; they are removed when it is dropped.
pub struct Namespaces {
    spaces: Spaces,
    after: After,
    topology: Topology,
}

/// Why namespaces cannot be had here, if they cannot.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("--netns needs root, for network namespaces".into());
    }
    ip("netns list").err().map(|trouble| format!("--netns needs `ip netns` (Debian: iproute2): {trouble}"))
}

impl Namespaces {
    /// Makes the namespaces and networks.
    ///
    /// # Errors
    /// When the system does not allow it; what was made is removed again.
    pub fn new(after: After) -> Result<Self> {
        let mut lab = Self { spaces: Spaces::new(), after, topology: topology(after) };
        lab.build()?;
        Ok(lab)
    }

    fn build(&mut self) -> Result<()> {
        self.spaces.add(HUB)?;
        ["core", "net-a", "net-b"].into_iter().try_for_each(|network| self.spaces.add_bridge(network))?;
        let names: Vec<String> = self.topology.nodes.iter().map(|node| node.name.clone()).collect();
        for name in &names {
            self.spaces.add(name)?;
            if name != BOB {
                let address = format!("{}/24", self.core_address(name)?);
                self.plug(name, "core")?;
                self.spaces.set_up(name, "core", &address)?;
            }
        }
        for (relay, network) in RELAYS.into_iter().zip(["net-a", "net-b"]) {
            self.plug(relay, network)?;
            self.spaces.set_up(relay, network, gateway(network, self.after))?;
            self.spaces.forward(relay)?;
            self.plug(BOB, network)?;
        }
        for (relay, network) in RELAYS.into_iter().zip(["10.77.1.0/24", "10.77.2.0/24"]) {
            let via = self.core_address(relay)?;
            ip(&format!("-n {} route add {network} via {via}", self.spaces.of(ALICE)))?;
        }
        self.attach_bob("net-a", "10.77.1.11/24", "10.77.1.1").map(drop)
    }

    fn plug(&self, node: &str, network: &str) -> Result<()> {
        let port = format!("{}-{node}", network.trim_start_matches("net-").chars().take(1).collect::<String>());
        self.spaces.plug(node, network, &port)?;
        if network == "net-b" && self.after == After::Ipv6 {
            return Ok(());
        }
        self.spaces.only_ipv4(node, network)
    }

    fn attach_bob(&self, network: &str, address: &str, gateway: &str) -> Result<Back> {
        let at = self.spaces.attach(BOB, network, address, gateway)?;
        Ok(Back { at, address: bare(address).to_owned() })
    }

    fn core_address(&self, node: &str) -> Result<Ipv4Addr> {
        core_address(&self.topology, node).ok_or_else(|| Trouble::new(format!("there is no node {node}")))
    }
}

impl Network for Namespaces {
    fn label(&self) -> String {
        match self.after {
            After::Ipv4 => "network namespaces".into(),
            After::Ipv6 => "network namespaces, from IPv4 to IPv6".into(),
        }
    }

    fn topology(&self) -> Topology {
        self.topology.clone()
    }

    fn hosts(&self) -> &dyn Hosts {
        &self.spaces
    }

    fn control(&self) -> Result<Option<(TcpListener, SocketAddr)>> {
        let address = SocketAddr::new(IpAddr::V4(self.core_address(ALICE)?), 0);
        let listener =
            self.spaces.inside(ALICE, || TcpListener::bind(address))?.map_err(io("plain TCP file service"))?;
        let address = listener.local_addr().map_err(io("plain TCP file service"))?;
        Ok(Some((listener, address)))
    }

    fn down(&mut self, _bob: &NodeProcess) -> Result<()> {
        ip(&format!("-n {} link set net-a down", self.spaces.of(BOB)))
    }

    fn up(&mut self, _bob: &NodeProcess, elsewhere: bool) -> Result<Back> {
        match (elsewhere, self.after) {
            (false, _) => self.attach_bob("net-a", "10.77.1.11/24", "10.77.1.1"),
            (true, After::Ipv4) => self.attach_bob("net-b", "10.77.2.77/24", "10.77.2.1"),
            (true, After::Ipv6) => self.attach_bob("net-b", "fd77:2::77/64", "fd77:2::1"),
        }
    }
}

/// The main topology; here the networks themselves decide whom Bob reaches.
fn topology(after: After) -> Topology {
    let mut topology = Topology::main();
    let plain = topology.clone();
    for node in &mut topology.nodes {
        node.listen = vec![format!("/ip4/0.0.0.0/tcp/{PORT}")];
        if after == After::Ipv6 && (node.name == BOB || node.name == RELAYS[1]) {
            node.listen.push(format!("/ip6/::/tcp/{PORT}"));
        }
        for friend in &mut node.only {
            if matches!(friend, Friend::Address(_)) {
                *friend = Friend::Node(BOB.into());
            }
        }
        for join in &mut node.joins {
            let Join::Node(peer) = join else { continue };
            let host = match (node.name == BOB, peer == RELAYS[0]) {
                (true, true) => format!("/ip4/{}", bare(gateway("net-a", after))),
                (true, false) if after == After::Ipv6 => format!("/ip6/{}", bare(gateway("net-b", after))),
                (true, false) => format!("/ip4/{}", bare(gateway("net-b", after))),
                (false, _) => format!("/ip4/{}", core_address(&plain, peer).unwrap_or(Ipv4Addr::UNSPECIFIED)),
            };
            *join = Join::At { node: peer.clone(), address: format!("{host}/tcp/{PORT}") };
        }
    }
    topology
}

fn core_address(topology: &Topology, node: &str) -> Option<Ipv4Addr> {
    let index = topology.nodes.iter().position(|spec| spec.name == node)?;
    Some(Ipv4Addr::new(10, 77, 0, FIRST_HOST.checked_add(u8::try_from(index).ok()?)?))
}

fn gateway(network: &str, after: After) -> &'static str {
    match (network, after) {
        ("net-a", _) => "10.77.1.1/24",
        (_, After::Ipv4) => "10.77.2.1/24",
        (_, After::Ipv6) => "fd77:2::1/64",
    }
}

fn bare(address: &str) -> &str {
    address.split('/').next().unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::spaces::output;
    use super::*;
    use crate::wait::until;

    #[test]
    fn bob_knows_one_relay_in_each_network() {
        for (after, second) in [(After::Ipv4, "/ip4/10.77.2.1/tcp/4741"), (After::Ipv6, "/ip6/fd77:2::1/tcp/4741")] {
            let topology = topology(after);
            let joins: Vec<_> = topology.node(BOB).unwrap().joins.iter().collect();
            let at = |node: &str, address: &str| Join::At { node: node.into(), address: address.into() };
            assert_eq!(joins, [&at("r3", "/ip4/10.77.1.1/tcp/4741"), &at("r5", second)]);
            assert_eq!(topology.nodes[1].joins, [at("r1", "/ip4/10.77.0.10/tcp/4741")]);
            assert!(topology.nodes.iter().flat_map(|node| &node.only).all(|friend| matches!(friend, Friend::Node(_))));
        }
    }

    #[test]
    fn plain_tcp_does_not_survive_the_move() {
        if let Some(why) = missing() {
            eprintln!("skipped: {why}");
            return;
        }
        use crate::sink::Sink;
        use crate::source::{Content, Source};
        for (after, address, gateway) in
            [(After::Ipv4, "10.77.2.77/24", "10.77.2.1"), (After::Ipv6, "fd77:2::77/64", "fd77:2::1")]
        {
            let lab = Namespaces::new(after).unwrap();
            let (listener, to) = lab.control().unwrap().unwrap();
            let source = Source::start(listener, Content { seed: 5, bytes: 100_000_000 }, 2e6).unwrap();
            let sink = Sink::on(lab.spaces.connect(BOB, to).unwrap()).unwrap();
            until("bytes", Duration::from_secs(5), || Ok((sink.bytes() > 500_000).then_some(()))).unwrap();
            ip(&format!("-n {} link set net-a down", lab.spaces.of(BOB))).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            let held = sink.bytes();
            lab.attach_bob("net-b", address, gateway).unwrap();
            std::thread::sleep(Duration::from_millis(1500));
            assert_eq!((sink.bytes(), source.accepts()), (held, 1));
            // The new network works: Bob reaches his new relay.
            let relay = lab.spaces.inside("r5", || TcpListener::bind("[::]:4000").unwrap()).unwrap();
            let there: IpAddr = gateway.parse().unwrap();
            lab.spaces.connect(BOB, SocketAddr::new(there, 4000)).unwrap();
            drop(relay);
            let spaces = lab.spaces.created().to_vec();
            drop((sink, source, lab));
            let left = output("netns list").unwrap();
            assert!(spaces.iter().all(|space| !left.contains(space.as_str())), "{left}");
        }
    }
}
