//! The two ways between the same applications: a chain of nodes, and the baseline with as many TCP connections.
//!
//! ```text
//!   client -- receiver -- relay -- .. -- relay -- sender -- server        one link between two nodes: a hop
//!   client -- plain ----- plain -- .. -- plain -- plain --- server
//! ```

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::relay::Chain;
use super::service::Server;
use crate::cluster::Cluster;
use crate::network::{Loopback, Network as _};
use crate::process::own_binary;
use crate::topology::{Friend, Join, NodeSpec, Topology};
use crate::usage::cpu_s;
use crate::wait::{Result, Trouble};

/// The node beside the server: it sends what is downloaded.
pub const SENDER: &str = "sender";
/// The node beside the client.
pub const RECEIVER: &str = "receiver";
/// All names have to resolve from everywhere within this time after the last join.
const NAMES_LIMIT: Duration = Duration::from_secs(60);

/// What a process does on the way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// The node at the server.
    Sender,
    /// A node between these two.
    Relay,
    /// The node at the client.
    Receiver,
    /// A plain relay of the baseline.
    Baseline,
}

impl Role {
    /// Its key in the results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sender => SENDER,
            Self::Relay => "relay",
            Self::Receiver => RECEIVER,
            Self::Baseline => "baseline",
        }
    }
}

/// A server, and both ways to it.
pub struct Routes {
    /// How many links the nodes' way has.
    pub hops: usize,
    /// Where a client enters the nodes' way.
    pub ours: SocketAddr,
    /// The other way.
    pub baseline: Chain,
    cluster: Cluster,
    // Dropped last: relays and nodes end before what they connect to.
    server: Server,
}

impl Routes {
    /// Starts everything; the nodes' logs go to `logs`. `config` is added to each node's configuration file.
    ///
    /// # Errors
    /// When a process does not start, or the nodes do not find each other.
    pub fn start(hops: usize, config: &str, logs: &Path) -> Result<Self> {
        let network = Loopback::new(topology(hops, config))?;
        let server = Server::start(network.hosts().listen(SENDER)?)?;
        let mut cluster = Cluster::start(&network, &network.topology(), logs, |_| {})?;
        cluster.wait_names(NAMES_LIMIT)?;
        let expose =
            json!({"verb": "expose", "service": "bench", "forward": server.address().to_string(), "allow": [RECEIVER]});
        cluster.node(SENDER)?.ask::<Value>(expose)?;
        let ours = local_port(&cluster)?;
        let baseline = Chain::start(&own_binary()?, plain_relays(hops), server.address())?;
        Ok(Self { hops, ours, baseline, cluster, server })
    }

    /// Where the server itself listens.
    pub fn server(&self) -> SocketAddr {
        self.server.address()
    }

    /// The process of the node of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn pid(&self, node: &str) -> Result<u32> {
        Ok(self.cluster.node(node)?.pid())
    }

    /// CPU seconds that each process has used so far, and what it does.
    ///
    /// # Errors
    /// When one has ended.
    pub fn cpu(&self) -> Result<Vec<(Role, f64)>> {
        let nodes = self.cluster.nodes().iter().map(|node| (role_of(&node.name), node.pid()));
        let relays = self.baseline.pids().into_iter().map(|pid| (Role::Baseline, pid));
        nodes.chain(relays).map(|(role, pid)| Ok((role, cpu_s(pid)?))).collect()
    }

    /// Fails unless the latest packet from the sender crossed as many links as it should have.
    ///
    /// # Errors
    /// It took another way, or there is no session.
    pub fn must_have_crossed(&self) -> Result<()> {
        let receiver = self.cluster.node(RECEIVER)?;
        let session = receiver.session(&self.cluster.node(SENDER)?.id)?;
        match session.and_then(|session| session.hops).map(usize::from) {
            Some(hops) if hops == self.hops => Ok(()),
            other => Err(Trouble::new(format!("{other:?} links crossed, not {}", self.hops)).see(&receiver.log)),
        }
    }
}

/// A chain of `hops` links: as many connections from client to server as in the nodes' way, which has two to applications beside the links.
pub const fn plain_relays(hops: usize) -> usize {
    hops + 1
}

fn role_of(name: &str) -> Role {
    match name {
        SENDER => Role::Sender,
        RECEIVER => Role::Receiver,
        _ => Role::Relay,
    }
}

/// Nodes in a row, each of which takes only its neighbours in the row.
fn topology(hops: usize, config: &str) -> Topology {
    let name = |index: usize| match index {
        0 => SENDER.to_owned(),
        last if last == hops => RECEIVER.to_owned(),
        relay => format!("relay-{relay}"),
    };
    let node = |index: usize| {
        let before = index.checked_sub(1).map(name);
        let after = (index < hops).then(|| name(index + 1));
        NodeSpec {
            name: name(index),
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            only: before.iter().cloned().chain(after).map(Friend::Node).collect(),
            joins: before.into_iter().map(Join::Node).collect(),
            flags: Vec::new(),
            settings: String::new(),
            config: config.into(),
        }
    };
    Topology { nodes: (0..=hops).map(node).collect(), hops_required: hops as u64 }
}

fn local_port(cluster: &Cluster) -> Result<SocketAddr> {
    let receiver = cluster.node(RECEIVER)?;
    let connect = json!({"verb": "connect", "target": format!("{SENDER}/bench"), "listen": "127.0.0.1:0"});
    let data: Value = receiver.ask(connect)?;
    let listen = data.get("listen").and_then(Value::as_str).and_then(|text| text.parse().ok());
    listen.ok_or_else(|| Trouble::new(format!("connect: no address in {data}")).see(&receiver.log))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_in_a_row_take_only_their_neighbours() {
        let names = |topology: &Topology| -> Vec<(String, Vec<Friend>)> {
            topology.nodes.iter().map(|node| (node.name.clone(), node.only.clone())).collect()
        };
        let friends = |names: &[&str]| names.iter().map(|name| Friend::Node((*name).into())).collect::<Vec<_>>();
        let one = topology(1, "");
        assert_eq!(names(&one), [(SENDER.into(), friends(&[RECEIVER])), (RECEIVER.into(), friends(&[SENDER]))]);
        let three = names(&topology(3, ""));
        assert_eq!(three[1], ("relay-1".into(), friends(&[SENDER, "relay-2"])));
        assert_eq!(three[3], (RECEIVER.into(), friends(&["relay-2"])));
        assert_eq!(three.len(), 4);
    }
}
