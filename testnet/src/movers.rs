//! An overlay of real nodes of which many move, one at a time.
//!
//! ```text
//!               before-1 .... mover-1, mover-3 ...     at 127.0.3.K
//!               before-2 .... mover-2, mover-4 ...
//!   server ----
//!               after-1 ..... mover-1, mover-3 ...     at 127.0.4.K
//!               after-2 ..... mover-2, mover-4 ...
//! ```
//!
//! A relay takes a mover only when he comes from the address that belongs there, so that each cut ends at another address with another
//! neighbour. The next one goes the other way.
//!
//! Or as root, with real interfaces that go down and come up, and a [long line](crate::netns::roaming::Roaming::with_far) to the server:
//!
//! ```text
//!   server ======== hub ---- net-a, net-b ..... mover-1, mover-2, ...
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::netns::roaming::Roaming;
use crate::network::{Back, Hosts, Loopback, Network};
use crate::process::{NodeProcess, own_binary};
use crate::topology::{NodeSpec, Topology};
use crate::wait::{Result, Trouble};

/// Each mover's address is a host of a network of 256.
pub const MAX_MOVERS: usize = 200;

/// All names have to resolve from everywhere within this time after the last join.
const NAMES_LIMIT: Duration = Duration::from_secs(60);

const SERVER: &str = "server";
/// Relays on either side of a move.
const RELAYS: usize = 2;

/// The movers, all at their first addresses to begin with, and the nodes between them and the server.
pub struct Movers {
    names: Vec<String>,
    // Dropped before the network that carries it.
    cluster: Cluster,
    network: Box<dyn Network>,
}

impl Movers {
    /// Starts the overlay, two hops from the movers to the server; logs go to `logs`.
    ///
    /// # Errors
    /// When a node does not start, or the nodes do not find each other.
    pub fn start(count: usize, logs: &Path) -> Result<Self> {
        Self::on(Box::new(BetweenRelays::new(count, own_binary()?)), count, logs)
    }

    /// The same with one hop, which leads over a line; see [`missing`](crate::netns::missing).
    ///
    /// # Errors
    /// The same; or when namespaces cannot be had.
    pub fn over_a_line(count: usize, one_way: Duration, logs: &Path) -> Result<Self> {
        Self::on(Box::new(Roaming::with_far(&straight(count), SERVER, one_way)?), count, logs)
    }

    fn on(network: Box<dyn Network>, count: usize, logs: &Path) -> Result<Self> {
        let mut cluster = Cluster::start(&*network, &network.topology(), logs, |_| {})?;
        cluster.wait_names(NAMES_LIMIT)?;
        Ok(Self { names: (0..count).map(mover).collect(), cluster, network })
    }

    /// Their names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All nodes.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Fails when a node has ended.
    ///
    /// # Errors
    /// One has; the trouble names its log.
    pub fn must_run(&mut self) -> Result<()> {
        self.cluster.must_run()
    }

    /// A listening socket beside the server.
    ///
    /// # Errors
    /// When there is none.
    pub fn listen(&self) -> Result<TcpListener> {
        self.network.hosts().listen(SERVER)
    }

    /// Offers what listens at `address` to everybody, under the server's name.
    ///
    /// # Errors
    /// What the server's node answered.
    pub fn expose(&self, service: &str, address: SocketAddr) -> Result<()> {
        let verb = json!({"verb": "expose", "service": service, "forward": address.to_string(), "allow": ["anyone"]});
        self.cluster.node(SERVER)?.ask::<Value>(verb).map(drop)
    }

    /// A connection of a mover's application to this service.
    ///
    /// # Errors
    /// What the mover's node answered.
    pub fn connect(&self, name: &str, service: &str) -> Result<TcpStream> {
        let node = self.cluster.node(name)?;
        let verb = json!({"verb": "connect", "target": format!("{SERVER}/{service}"), "listen": "127.0.0.1:0"});
        let data: Value = node.ask(verb)?;
        let address = data.get("listen").and_then(Value::as_str).and_then(|text| text.parse().ok());
        let address = address.ok_or_else(|| Trouble::new(format!("connect: no address in {data}")).see(&node.log))?;
        self.network.hosts().connect(name, address)
    }

    /// Takes the network of the mover with this name.
    ///
    /// # Errors
    /// What his node answered.
    pub fn cut(&mut self, name: &str) -> Result<()> {
        self.network.down(self.cluster.node(name)?)
    }

    /// Gives him another one.
    ///
    /// # Errors
    /// What his node answered.
    pub fn bring_back(&mut self, name: &str) -> Result<Back> {
        self.network.up(self.cluster.node(name)?, true)
    }

    /// Public-key operations of the session layer in all nodes so far.
    ///
    /// # Errors
    /// When a node does not answer.
    pub fn public_key_ops(&self) -> Result<u64> {
        self.cluster.nodes().iter().map(|node| Ok(node.status()?.counters.public_key_ops)).sum()
    }
}

/// What happens to one mover.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Step {
    /// His network goes away.
    Cut,
    /// He has one again.
    Back,
}

/// What happens when to which of so many movers, in order: they are cut one after the other, `between` apart, each for as long as `outage`.
pub fn schedule(movers: usize, between: Duration, outage: Duration) -> Vec<(Duration, usize, Step)> {
    let cuts = (0..movers).map(|index| (between * u32::try_from(index).unwrap_or(u32::MAX), index));
    let mut steps: Vec<_> =
        cuts.flat_map(|(at, index)| [(at, index, Step::Cut), (at + outage, index, Step::Back)]).collect();
    steps.sort_unstable();
    steps
}

fn mover(index: usize) -> String {
    format!("mover-{}", index + 1)
}

/// Where a mover is.
fn address(index: usize, second: bool) -> IpAddr {
    let host = u8::try_from(index + 1).unwrap_or(u8::MAX);
    Ipv4Addr::new(127, 0, if second { 4 } else { 3 }, host).into()
}

/// Loopback, and who has the second of his two addresses now.
struct BetweenRelays {
    loopback: Loopback,
    second: BTreeSet<String>,
}

impl BetweenRelays {
    fn new(movers: usize, binary: PathBuf) -> Self {
        Self { loopback: Loopback::with_binary(topology(movers), binary), second: BTreeSet::new() }
    }
}

impl Network for BetweenRelays {
    fn label(&self) -> String {
        self.loopback.label()
    }

    fn topology(&self) -> Topology {
        self.loopback.topology()
    }

    fn hosts(&self) -> &dyn Hosts {
        self.loopback.hosts()
    }

    fn down(&mut self, node: &NodeProcess) -> Result<()> {
        self.loopback.down(node)
    }

    fn up(&mut self, node: &NodeProcess, elsewhere: bool) -> Result<Back> {
        let second = self.second.contains(&node.name) != elsewhere;
        let bind = address(index(&node.name)?, second);
        let at = Instant::now();
        node.ask::<Value>(json!({"verb": "network-up", "bind": bind}))?;
        if second {
            self.second.insert(node.name.clone());
        } else {
            self.second.remove(&node.name);
        }
        Ok(Back { at, address: bind.to_string() })
    }
}

fn index(name: &str) -> Result<usize> {
    let number = name.strip_prefix("mover-").and_then(|number| number.parse::<usize>().ok());
    number.and_then(|number| number.checked_sub(1)).ok_or_else(|| Trouble::new(format!("{name} does not move")))
}

/// Each mover links to the server.
fn straight(movers: usize) -> Topology {
    let names: Vec<String> = (0..movers).map(mover).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut nodes = vec![NodeSpec::on_loopback(SERVER, "127.0.0.10", &[], &all)];
    nodes.extend(all.iter().map(|name| NodeSpec::on_loopback(name, "127.0.0.10", &[SERVER], &[SERVER])));
    Topology { nodes, hops_required: 1 }
}

fn topology(movers: usize) -> Topology {
    let relay = |side: &str, number: usize| format!("{side}-{}", number + 1);
    let relays: Vec<(String, bool, usize)> = [("before", false), ("after", true)]
        .into_iter()
        .flat_map(|(side, second)| (0..RELAYS).map(move |number| (relay(side, number), second, number)))
        .collect();
    let names: Vec<&str> = relays.iter().map(|(name, ..)| name.as_str()).collect();
    let mut nodes = vec![NodeSpec::on_loopback(SERVER, "127.0.0.10", &[], &names)];
    for (name, second, number) in &relays {
        let theirs = (0..movers).filter(|index| index % RELAYS == *number);
        let prefixes: Vec<String> = theirs.map(|index| format!("/ip4/{}", address(index, *second))).collect();
        let only: Vec<&str> = [SERVER].into_iter().chain(prefixes.iter().map(String::as_str)).collect();
        nodes.push(NodeSpec::on_loopback(name, "127.0.0.10", &[SERVER], &only));
    }
    for index in 0..movers {
        let sides = [relay("before", index % RELAYS), relay("after", index % RELAYS)];
        let sides: Vec<&str> = sides.iter().map(String::as_str).collect();
        nodes.push(NodeSpec::on_loopback(&mover(index), &address(index, false).to_string(), &sides, &sides));
    }
    Topology { nodes, hops_required: 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Friend;

    #[test]
    fn every_mover_is_cut_and_brought_back_in_time() {
        let seconds = Duration::from_secs;
        let steps = schedule(3, seconds(2), seconds(3));
        let cut_at = |index: usize| steps.iter().find(|step| step.1 == index && step.2 == Step::Cut).unwrap().0;
        let back_at = |index: usize| steps.iter().find(|step| step.1 == index && step.2 == Step::Back).unwrap().0;
        for index in 0..3 {
            assert_eq!(back_at(index) - cut_at(index), seconds(3));
        }
        assert_eq!((cut_at(1) - cut_at(0), steps.len()), (seconds(2), 6));
        assert!(steps.is_sorted());
    }

    #[test]
    fn names_and_numbers_of_movers_agree() {
        assert_eq!((0..3).map(|number| index(&mover(number)).unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
        for name in ["server", "mover-", "mover-0", "before-1"] {
            assert!(index(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_mover_has_one_relay_on_either_side_and_not_the_same_address_at_both() {
        let topology = topology(5);
        assert_eq!(topology.nodes.len(), 1 + 2 * RELAYS + 5);
        for index in 0..5 {
            let takes = |second: bool| -> Vec<&str> {
                let prefix = Friend::Address(format!("/ip4/{}", address(index, second)));
                let takers = topology.nodes.iter().filter(|node| node.only.contains(&prefix));
                takers.map(|node| node.name.as_str()).collect()
            };
            let (before, after) = (takes(false), takes(true));
            assert_eq!((before.len(), after.len()), (1, 1));
            let spec = topology.node(&mover(index)).unwrap();
            for relay in before.into_iter().chain(after) {
                assert!(spec.only.contains(&Friend::Node(relay.into())), "{relay}");
            }
        }
    }
}
