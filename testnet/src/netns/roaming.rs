//! `testnet up --netns`: nodes on real interfaces that move as people do.
//!
//! ```text
//!   net-a, 10.78.0.0/16     where all begin
//!   net-b, 10.79.0.0/16     where who moves is next, and so on in turn
//! ```
//!
//! Where one of them is to be far away it is in neither network, but at the other end of a line from the hub:
//!
//! ```text
//!   line, 10.80.0.0/30      the hub and the node that is far away
//! ```
//!
//! Each node has a namespace of its own with a cable to both networks, of which one at a time is set up; the hub routes between them.
//! Nobody tells a node that it moves: its interface goes down, later the other one comes up and gets an address.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::line::{LINE, Line};
use super::spaces::{HUB, Spaces, ip};
use crate::network::{Back, Hosts, Network};
use crate::process::NodeProcess;
use crate::topology::{Join, Topology};
use crate::wait::{Result, Trouble};

/// The port at which every node listens.
const PORT: u16 = 4741;
/// The last two bytes of each network's router.
const ROUTER: [u8; 2] = [255, 254];
/// The hub's end of the line, and the other one.
const LINE_NEAR: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
const LINE_FAR: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 2);

/// One of the two networks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    A,
    B,
}

impl Side {
    const BOTH: [Self; 2] = [Self::A, Self::B];

    const fn name(self) -> &'static str {
        match self {
            Self::A => "net-a",
            Self::B => "net-b",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    const fn host(self, [third, fourth]: [u8; 2]) -> Ipv4Addr {
        let second = match self {
            Self::A => 78,
            Self::B => 79,
        };
        Ipv4Addr::new(10, second, third, fourth)
    }
}

/// Where a node is.
#[derive(Clone, Copy, Debug)]
struct Spot {
    side: Side,
    /// How often it has moved: a new address each time.
    moves: u8,
    /// Its number among the nodes, from 1.
    number: u8,
}

impl Spot {
    const fn address(self) -> Ipv4Addr {
        self.side.host([self.moves, self.number])
    }
}

/// The namespaces of one overlay; they are removed when it is dropped.
pub struct Roaming {
    // Removed before the namespaces.
    line: Option<Line>,
    spaces: Spaces,
    topology: Topology,
    spots: BTreeMap<String, Spot>,
}

impl Roaming {
    /// Namespaces and networks for the nodes of `topology`, who all may link to all.
    ///
    /// # Errors
    /// When the system does not allow it; what was made is removed again.
    pub fn new(topology: &Topology) -> Result<Self> {
        Self::build(topology, None)
    }

    /// The same, but the node `far` is at the end of a line, over which a packet takes `one_way`, and stays there.
    ///
    /// # Errors
    /// When the system does not allow it; what was made is removed again.
    pub fn with_far(topology: &Topology, far: &str, one_way: Duration) -> Result<Self> {
        Self::build(topology, Some((far, one_way)))
    }

    fn build(topology: &Topology, far: Option<(&str, Duration)>) -> Result<Self> {
        let near = topology.nodes.iter().filter(|node| far.is_none_or(|(far, _)| far != node.name));
        let spots =
            near.zip(1..).map(|(node, number)| (node.name.clone(), Spot { side: Side::A, moves: 0, number })).collect();
        let topology = on_real_interfaces(topology, &spots, far.map(|(far, _)| far));
        let mut roaming = Self { line: None, spaces: Spaces::new(), topology, spots };
        roaming.add_networks()?;
        roaming.add_nodes()?;
        if let Some((far, one_way)) = far {
            roaming.add_far(far, one_way)?;
        }
        Ok(roaming)
    }

    fn add_networks(&mut self) -> Result<()> {
        self.spaces.add(HUB)?;
        for side in Side::BOTH {
            self.spaces.add_bridge(side.name())?;
            self.spaces.add_router(side.name(), &format!("{}/16", side.host(ROUTER)))?;
        }
        self.spaces.forward(HUB)
    }

    fn add_nodes(&mut self) -> Result<()> {
        for (name, spot) in &self.spots {
            self.spaces.add(name)?;
            for side in Side::BOTH {
                self.spaces.plug(name, side.name(), &format!("{}-{}", side.name(), spot.number))?;
                self.spaces.only_ipv4(name, side.name())?;
            }
            self.attach(name, *spot)?;
        }
        Ok(())
    }

    fn add_far(&mut self, far: &str, one_way: Duration) -> Result<()> {
        self.spaces.add(far)?;
        self.line = Some(Line::lay(&self.spaces, [(HUB, LINE_NEAR), (far, LINE_FAR)], one_way)?);
        ip(&format!("-n {} route add default via {LINE_NEAR} dev {LINE}", self.spaces.of(far)))
    }

    fn attach(&self, name: &str, spot: Spot) -> Result<Back> {
        let (address, router) = (spot.address(), spot.side.host(ROUTER));
        let at = self.spaces.attach(name, spot.side.name(), &format!("{address}/16"), &router.to_string())?;
        Ok(Back { at, address: address.to_string() })
    }

    fn spot(&self, name: &str) -> Result<Spot> {
        self.spots.get(name).copied().ok_or_else(|| Trouble::new(format!("there is no node {name}")))
    }
}

impl Network for Roaming {
    fn label(&self) -> String {
        "network namespaces".into()
    }

    fn topology(&self) -> Topology {
        self.topology.clone()
    }

    fn hosts(&self) -> &dyn Hosts {
        &self.spaces
    }

    fn down(&mut self, node: &NodeProcess) -> Result<()> {
        let spot = self.spot(&node.name)?;
        let (space, interface) = (self.spaces.of(&node.name), spot.side.name());
        ip(&format!("-n {space} link set {interface} down"))?;
        // It would be there again with the interface, before the network has given an address.
        ip(&format!("-n {space} addr flush dev {interface}"))
    }

    fn up(&mut self, node: &NodeProcess, elsewhere: bool) -> Result<Back> {
        let mut spot = self.spot(&node.name)?;
        if elsewhere {
            spot = Spot { side: spot.side.other(), moves: spot.moves.wrapping_add(1), ..spot };
            // The last third byte is the routers'.
            spot.moves %= ROUTER[0];
        }
        self.spots.insert(node.name.clone(), spot);
        self.attach(&node.name, spot)
    }
}

/// The nodes listen everywhere, and join each other where they begin.
fn on_real_interfaces(topology: &Topology, spots: &BTreeMap<String, Spot>, far: Option<&str>) -> Topology {
    let mut topology = topology.clone();
    for node in &mut topology.nodes {
        node.listen = vec![format!("/ip4/0.0.0.0/tcp/{PORT}")];
        for join in &mut node.joins {
            let Join::Node(peer) = join else { continue };
            let host = spots.get(peer).map(|spot| spot.address()).or((far == Some(peer)).then_some(LINE_FAR));
            if let Some(host) = host {
                *join = Join::At { node: peer.clone(), address: format!("/ip4/{host}/tcp/{PORT}") };
            }
        }
    }
    topology
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_an_address_of_its_own_wherever_it_goes() {
        let mut seen = std::collections::BTreeSet::from(Side::BOTH.map(|side| side.host(ROUTER)));
        for number in 1..=u8::try_from(crate::topology::MAX_NODES).unwrap() {
            for (side, moves) in [(Side::A, 0), (Side::B, 1), (Side::A, 2)] {
                assert!(seen.insert(Spot { side, moves, number }.address()));
            }
        }
    }

    #[test]
    fn nodes_join_where_others_begin() {
        let topology = Topology::random(3);
        let spot = |number| Spot { side: Side::A, moves: 0, number };
        let mut spots =
            BTreeMap::from([("n0".to_owned(), spot(1)), ("n1".to_owned(), spot(2)), ("n2".to_owned(), spot(3))]);
        let real = on_real_interfaces(&topology, &spots, None);
        let at = |host: &str| Join::At { node: "n0".into(), address: format!("/ip4/{host}/tcp/4741") };
        assert_eq!((real.nodes[0].joins.len(), &real.nodes[1].joins), (0, &vec![at("10.78.0.1")]));
        spots.remove("n0");
        let real = on_real_interfaces(&topology, &spots, Some("n0"));
        assert_eq!(real.nodes[1].joins, [at("10.80.0.2")]);
    }
}
