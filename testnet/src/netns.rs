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

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::network::Network;
use crate::process::{NODE_PROCESS, NodeProcess, own_binary};
use crate::topology::{ALICE, BOB, Friend, Join, Topology};
use crate::wait::{Result, Trouble, io, until};

/// The port at which every node listens.
const PORT: u16 = 4741;
/// An interface that was set up carries packets within this time.
const CARRIER_LIMIT: Duration = Duration::from_secs(5);
/// Host number in the core network of the first node.
const FIRST_HOST: u8 = 10;
/// The routers' neighbours in the tree: Bob's relay before and after the move.
const RELAYS: [&str; 2] = ["r3", "r5"];

static LABS: AtomicU32 = AtomicU32::new(0);

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
    prefix: String,
    after: After,
    topology: Topology,
    created: Vec<String>,
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
        let prefix = format!("mt{}-{}-", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let mut lab = Self { prefix, after, topology: topology(after), created: Vec::new() };
        lab.build()?;
        Ok(lab)
    }

    fn space(&self, node: &str) -> String {
        format!("{}{node}", self.prefix)
    }

    fn build(&mut self) -> Result<()> {
        self.add_space("hub")?;
        let hub = self.space("hub");
        for bridge in ["core", "net-a", "net-b"] {
            ip(&format!("-n {hub} link add {bridge} type bridge forward_delay 0 stp_state 0 mcast_snooping 0"))?;
            ip(&format!("-n {hub} link set {bridge} up"))?;
        }
        let names: Vec<String> = self.topology.nodes.iter().map(|node| node.name.clone()).collect();
        for name in &names {
            self.add_space(name)?;
            if name != BOB {
                let address = format!("{}/24", self.core_address(name)?);
                self.plug(name, "core")?;
                self.set_up(name, "core", &address)?;
            }
        }
        for (relay, network) in RELAYS.into_iter().zip(["net-a", "net-b"]) {
            self.plug(relay, network)?;
            self.set_up(relay, network, gateway(network, self.after))?;
            self.inside(relay, || {
                write("/proc/sys/net/ipv4/ip_forward", "1")?;
                write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
            })??;
            self.plug(BOB, network)?;
        }
        for (relay, network) in RELAYS.into_iter().zip(["10.77.1.0/24", "10.77.2.0/24"]) {
            let via = self.core_address(relay)?;
            ip(&format!("-n {} route add {network} via {via}", self.space(ALICE)))?;
        }
        self.attach_bob("net-a", "10.77.1.11/24", "10.77.1.1").map(drop)
    }

    fn add_space(&mut self, node: &str) -> Result<()> {
        let space = self.space(node);
        ip(&format!("netns add {space}"))?;
        self.created.push(space.clone());
        // Duplicate address detection would keep a new IPv6 address unusable for a second (RFC 4862 section 5.4).
        self.inside(node, || {
            for scope in ["all", "default"] {
                write(&format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0")?;
                write(&format!("/proc/sys/net/ipv6/conf/{scope}/accept_ra"), "0")?;
            }
            Ok(())
        })??;
        ip(&format!("-n {space} link set lo up"))
    }

    /// A cable from a node, whose interface is named after the network, to the network's bridge.
    fn plug(&self, node: &str, network: &str) -> Result<()> {
        let (hub, space) = (self.space("hub"), self.space(node));
        let port = format!("{}-{node}", network.trim_start_matches("net-").chars().take(1).collect::<String>());
        ip(&format!("-n {hub} link add {port} type veth peer name {network} netns {space}"))?;
        ip(&format!("-n {hub} link set {port} master {network} up"))?;
        if !(network == "net-b" && self.after == After::Ipv6) {
            // No IPv6 in an IPv4-only network, not even link-local.
            let file = format!("/proc/sys/net/ipv6/conf/{network}/disable_ipv6");
            self.inside(node, || write(&file, "1"))??;
        }
        Ok(())
    }

    fn set_up(&self, node: &str, interface: &str, address: &str) -> Result<Instant> {
        let space = self.space(node);
        ip(&format!("-n {space} link set {interface} up"))?;
        until(&format!("{interface} of {node} to come up"), CARRIER_LIMIT, || {
            let state = output(&format!("-n {space} -o link show dev {interface}"))?;
            Ok(state.contains("state UP").then_some(()))
        })?;
        let usable = Instant::now();
        let nodad = if address.contains(':') { " nodad" } else { "" };
        ip(&format!("-n {space} addr add {address} dev {interface}{nodad}"))?;
        Ok(usable)
    }

    fn attach_bob(&self, network: &str, address: &str, gateway: &str) -> Result<Instant> {
        let usable = self.set_up(BOB, network, address)?;
        ip(&format!("-n {} route add default via {gateway} dev {network}", self.space(BOB)))?;
        Ok(usable)
    }

    fn core_address(&self, node: &str) -> Result<Ipv4Addr> {
        core_address(&self.topology, node).ok_or_else(|| Trouble::new(format!("there is no node {node}")))
    }

    /// Runs `work` in a thread that is in the namespace of `node`; sockets that it makes stay there.
    fn inside<T: Send>(&self, node: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        let space = self.space(node);
        let enter = || -> std::io::Result<()> {
            let file = File::open(format!("/run/netns/{space}"))?;
            Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
        };
        let result = std::thread::scope(|scope| scope.spawn(|| enter().map(|()| work())).join());
        result.map_err(|_| Trouble::new(format!("work in {space} panicked")))?.map_err(io(format!("entering {space}")))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for space in self.created.drain(..).rev() {
            if let Err(trouble) = ip(&format!("netns delete {space}")) {
                eprintln!("testnet: {trouble}");
            }
        }
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

    fn command(&self, node: &str) -> Result<Command> {
        let mut command = Command::new("ip");
        // `ip` replaces itself by our binary, so the process id is the node's.
        command.args(["netns", "exec", &self.space(node)]).arg(own_binary()?).arg(NODE_PROCESS);
        Ok(command)
    }

    fn listen(&self, node: &str) -> Result<TcpListener> {
        self.inside(node, || TcpListener::bind("127.0.0.1:0"))?.map_err(io("file service"))
    }

    fn connect(&self, node: &str, address: SocketAddr) -> Result<TcpStream> {
        self.inside(node, || TcpStream::connect(address))?.map_err(io(format!("connecting to {address}")))
    }

    fn control(&self) -> Result<Option<(TcpListener, SocketAddr)>> {
        let address = SocketAddr::new(IpAddr::V4(self.core_address(ALICE)?), 0);
        let listener = self.inside(ALICE, || TcpListener::bind(address))?.map_err(io("plain TCP file service"))?;
        let address = listener.local_addr().map_err(io("plain TCP file service"))?;
        Ok(Some((listener, address)))
    }

    fn down(&mut self, _bob: &NodeProcess) -> Result<()> {
        ip(&format!("-n {} link set net-a down", self.space(BOB)))
    }

    fn up(&mut self, _bob: &NodeProcess) -> Result<Instant> {
        match self.after {
            After::Ipv4 => self.attach_bob("net-b", "10.77.2.77/24", "10.77.2.1"),
            After::Ipv6 => self.attach_bob("net-b", "fd77:2::77/64", "fd77:2::1"),
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

fn ip(words: &str) -> Result<()> {
    output(words).map(drop)
}

fn output(words: &str) -> Result<String> {
    let done = Command::new("ip").args(words.split_whitespace()).output().map_err(io("ip"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(Trouble::new(format!("ip {words}: {}", String::from_utf8_lossy(&done.stderr).trim())))
}

fn write(file: &str, text: &str) -> Result<()> {
    std::fs::write(file, text).map_err(io(file))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let sink = Sink::on(lab.connect(BOB, to).unwrap()).unwrap();
            until("bytes", Duration::from_secs(5), || Ok((sink.bytes() > 500_000).then_some(()))).unwrap();
            ip(&format!("-n {} link set net-a down", lab.space(BOB))).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            let held = sink.bytes();
            lab.attach_bob("net-b", address, gateway).unwrap();
            std::thread::sleep(Duration::from_millis(1500));
            assert_eq!((sink.bytes(), source.accepts()), (held, 1));
            // The new network works: Bob reaches his new relay.
            let relay = lab.inside("r5", || TcpListener::bind("[::]:4000").unwrap()).unwrap();
            let there: IpAddr = gateway.parse().unwrap();
            lab.connect(BOB, SocketAddr::new(there, 4000)).unwrap();
            drop(relay);
            let spaces = lab.created.clone();
            drop((sink, source, lab));
            let left = output("netns list").unwrap();
            assert!(spaces.iter().all(|space| !left.contains(space.as_str())), "{left}");
        }
    }
}
