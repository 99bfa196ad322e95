//! Which nodes there are, at which addresses, and who may link to whom. A value: no test hook makes a topology, only
//! the documented `links.only` of each node's configuration.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::wait::{Result, Trouble};

/// Where the file is.
pub const ALICE: &str = "alice";
/// Who downloads it and moves.
pub const BOB: &str = "bob";

/// Bob's address on loopback before the move.
pub const BOB_BEFORE: &str = "127.0.0.11";
/// Bob's address on loopback after the move.
pub const BOB_AFTER: &str = "127.0.0.77";

/// The most nodes that `testnet up` starts.
pub const MAX_NODES: usize = 200;

/// Nodes in the order in which they are started; the first one founds the overlay.
#[derive(Clone, Debug)]
pub struct Topology {
    /// The nodes.
    pub nodes: Vec<NodeSpec>,
    /// Alice and Bob are at least this many hops apart, before and after the move.
    pub hops_required: u64,
}

/// One node.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Its name, claimed in the overlay.
    pub name: String,
    /// Multiaddrs to listen at.
    pub listen: Vec<String>,
    /// `links.only`; empty means everybody.
    pub only: Vec<Friend>,
    /// Bootstrap peers.
    pub joins: Vec<Join>,
    /// More arguments of `muses up`.
    pub flags: Vec<String>,
    /// Keys before the first table of its configuration file, whole lines.
    pub settings: String,
    /// More tables of it.
    pub config: String,
}

/// An entry of `links.only`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Friend {
    /// By node id; here by name, the id is filled in when the keys exist.
    Node(String),
    /// By the start of its multiaddr.
    Address(String),
}

/// A bootstrap peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Join {
    /// A node started earlier, at the first address that it reports.
    Node(String),
    /// A node at a fixed address.
    At {
        /// Which node.
        node: String,
        /// Multiaddr without the node id.
        address: String,
    },
}

impl NodeSpec {
    /// A node at `address` of loopback on a free port, with these neighbours, of which those in `joins` are dialled.
    pub fn on_loopback(name: &str, address: &str, joins: &[&str], only: &[&str]) -> Self {
        Self {
            name: name.into(),
            listen: vec![format!("/ip4/{address}/tcp/0")],
            only: only.iter().map(|friend| friend_of(friend)).collect(),
            joins: joins.iter().map(|peer| Join::Node((*peer).into())).collect(),
            flags: Vec::new(),
            settings: String::new(),
            config: String::new(),
        }
    }

    /// The configuration file; `id_of` gives the node id of a name.
    ///
    /// # Errors
    /// A friend that is no node of the topology.
    pub fn config(&self, id_of: impl Fn(&str) -> Option<String>) -> Result<String> {
        let mut only = Vec::new();
        for friend in &self.only {
            only.push(match friend {
                Friend::Address(prefix) => prefix.clone(),
                Friend::Node(name) => id_of(name).ok_or_else(|| Trouble::new(format!("{name} is no node")))?,
            });
        }
        let mut text = self.settings.clone();
        if !only.is_empty() {
            let _ = writeln!(text, "[links]\nonly = {only:?}");
        }
        text.push_str(&self.config);
        Ok(text)
    }
}

fn friend_of(text: &str) -> Friend {
    if text.starts_with('/') { Friend::Address(text.into()) } else { Friend::Node(text.into()) }
}

impl Topology {
    /// The main job: nine nodes, Alice and Bob four hops apart before and after the move.
    ///
    /// ```text
    ///                alice
    ///                  |
    ///   r7 -- r6 ---- r1 ---- r4 -- r5 .... bob at 127.0.0.77
    ///                  |
    ///                 r2 -- r3 ............ bob at 127.0.0.11
    /// ```
    ///
    /// r3 takes Bob only when he comes from 127.0.0.11, r5 only from 127.0.0.77; Bob takes nobody but these two.
    pub fn main() -> Self {
        let (before, after) = (format!("/ip4/{BOB_BEFORE}"), format!("/ip4/{BOB_AFTER}"));
        let node = NodeSpec::on_loopback;
        Self {
            nodes: vec![
                node("r1", "127.0.1.1", &[], &["r2", "r4", "r6", ALICE]),
                node("r2", "127.0.1.2", &["r1"], &["r1", "r3"]),
                node("r3", "127.0.1.3", &["r2"], &["r2", &before]),
                node("r4", "127.0.1.4", &["r1"], &["r1", "r5"]),
                node("r5", "127.0.1.5", &["r4"], &["r4", &after]),
                node("r6", "127.0.1.6", &["r1"], &["r1", "r7"]),
                node("r7", "127.0.1.7", &["r6"], &["r6"]),
                node(ALICE, "127.0.0.10", &["r1"], &["r1"]),
                node(BOB, BOB_BEFORE, &["r3", "r5"], &["r3", "r5"]),
            ],
            hops_required: 3,
        }
    }

    /// The smallest one that shows a move: Bob changes from one relay to another, both beside Alice.
    pub fn minimal() -> Self {
        let (before, after) = (format!("/ip4/{BOB_BEFORE}"), format!("/ip4/{BOB_AFTER}"));
        let node = NodeSpec::on_loopback;
        Self {
            nodes: vec![
                node(ALICE, "127.0.0.10", &[], &["r1", "r2"]),
                node("r1", "127.0.1.1", &[ALICE], &[ALICE, &before]),
                node("r2", "127.0.1.2", &[ALICE], &[ALICE, &after]),
                node(BOB, BOB_BEFORE, &["r1", "r2"], &["r1", "r2"]),
            ],
            hops_required: 2,
        }
    }

    /// Two relays, and Bob may use both at once: one may crash.
    pub fn doubled() -> Self {
        let mut topology = Self::minimal();
        for node in &mut topology.nodes {
            for friend in &mut node.only {
                if matches!(friend, Friend::Address(_)) {
                    *friend = Friend::Node(BOB.into());
                }
            }
        }
        topology
    }

    /// `n` nodes; each joins through an earlier one drawn at random, and links to whom it likes.
    pub fn random(n: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
        let mut name = |index: usize| {
            let peer = usize::try_from(rng.next_u64() % index.max(1) as u64).unwrap_or_default();
            let joins = if index == 0 { Vec::new() } else { vec![Join::Node(format!("n{peer}"))] };
            let listen = vec![format!("/ip4/127.0.2.{}/tcp/0", index + 1)];
            NodeSpec {
                name: format!("n{index}"),
                listen,
                only: Vec::new(),
                joins,
                flags: Vec::new(),
                settings: String::new(),
                config: String::new(),
            }
        };
        Self { nodes: (0..n.min(MAX_NODES)).map(&mut name).collect(), hops_required: 0 }
    }

    /// `n` nodes with few neighbours each, so that there are ways to be seen, and others where one is cut: in rows, each linked to the one before it and the
    /// one above it. The first half and the second one hang together, also without each other. No direct links.
    ///
    /// ```text
    ///   n0 --- n1 --- n2
    ///    |      |  /   |      n2 and n3 are linked, too
    ///   n3 --- n4 --- n5
    /// ```
    pub fn meshed(n: usize) -> Self {
        let mut topology = Self::random(n);
        let count = topology.nodes.len();
        let width = (1..=count).find(|width| width * width >= count).unwrap_or(1);
        let before = |index: usize| [index.checked_sub(1), index.checked_sub(width)].into_iter().flatten();
        let name = |index: usize| format!("n{index}");
        for (index, node) in topology.nodes.iter_mut().enumerate() {
            let after = [index + 1, index + width].into_iter().filter(|other| *other < count);
            let near: BTreeSet<usize> = before(index).chain(after).collect();
            node.only = near.into_iter().map(|other| Friend::Node(name(other))).collect();
            node.joins = before(index).map(|other| Join::Node(name(other))).collect();
            node.config = if node.only.is_empty() { "" } else { "direct = \"never\"\n" }.to_owned();
        }
        topology
    }

    /// Who may link to the node of this name; none when everybody may.
    pub fn neighbours<'a>(&'a self, name: &str) -> Vec<&'a str> {
        let friends = self.node(name).map(|node| node.only.as_slice()).unwrap_or_default();
        let named = |friend: &'a Friend| match friend {
            Friend::Node(name) => Some(name.as_str()),
            Friend::Address(_) => None,
        };
        friends.iter().filter_map(named).collect()
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use super::*;

    /// Whether `node` lets `peer`, seen at `address`, be a neighbour.
    fn admits(node: &NodeSpec, peer: &NodeSpec, address: &str) -> bool {
        node.only.iter().any(|friend| match friend {
            Friend::Node(name) => *name == peer.name,
            Friend::Address(prefix) => *prefix == format!("/ip4/{address}"),
        })
    }

    fn address(node: &NodeSpec, bob: &str) -> String {
        if node.name == BOB { bob.into() } else { node.listen[0].split('/').nth(2).unwrap().into() }
    }

    /// Hops from Alice to Bob when Bob is at `bob`, by breadth-first search.
    fn hops(topology: &Topology, bob: &str) -> Option<u64> {
        let linked = |a: &NodeSpec, b: &NodeSpec| admits(a, b, &address(b, bob)) && admits(b, a, &address(a, bob));
        let mut distance = BTreeMap::from([(ALICE, 0)]);
        let mut queue = VecDeque::from([ALICE]);
        while let Some(name) = queue.pop_front() {
            let here = topology.node(name).unwrap();
            for next in topology.nodes.iter().filter(|next| linked(here, next)) {
                if !distance.contains_key(next.name.as_str()) {
                    distance.insert(&next.name, distance[name] + 1);
                    queue.push_back(&next.name);
                }
            }
        }
        distance.get(BOB).copied()
    }

    /// Hops between the first and the last of these nodes, by those alone.
    fn across(topology: &Topology, nodes: &[NodeSpec]) -> Option<usize> {
        let mut distance = BTreeMap::from([(nodes.first()?.name.as_str(), 0)]);
        let mut queue: VecDeque<&str> = distance.keys().copied().collect();
        while let Some(name) = queue.pop_front() {
            for next in topology.neighbours(name).into_iter().filter(|next| nodes.iter().any(|node| node.name == *next))
            {
                assert!(topology.neighbours(next).contains(&name), "{name} and {next} do not agree");
                if !distance.contains_key(next) {
                    distance.insert(next, distance[name] + 1);
                    queue.push_back(next);
                }
            }
        }
        assert_eq!(distance.len(), nodes.len(), "not all hang together");
        distance.get(nodes.last()?.name.as_str()).copied()
    }

    #[test]
    fn a_mesh_has_ways_to_see_and_two_halves() {
        for n in 1..40 {
            let mesh = Topology::meshed(n);
            let hops = across(&mesh, &mesh.nodes).unwrap();
            assert!(hops >= 3 || n < 8, "{hops} hops between the ends of {n}");
            let (first, second) = mesh.nodes.split_at(n / 2);
            for half in [first, second].into_iter().filter(|half| !half.is_empty()) {
                across(&mesh, half);
            }
        }
    }

    #[test]
    fn alice_and_bob_are_far_apart_before_and_after_and_apart_between() {
        let main = Topology::main();
        assert!(main.nodes.len() >= 8);
        assert_eq!(
            (hops(&main, BOB_BEFORE), hops(&main, BOB_AFTER), hops(&main, "127.0.0.99")),
            (Some(4), Some(4), None)
        );
        let minimal = Topology::minimal();
        assert_eq!((hops(&minimal, BOB_BEFORE), hops(&minimal, BOB_AFTER)), (Some(2), Some(2)));
        assert_eq!(hops(&Topology::doubled(), "127.0.0.99"), Some(2));
    }

    #[test]
    fn everybody_joins_through_somebody_started_earlier() {
        for topology in [Topology::main(), Topology::minimal(), Topology::random(20)] {
            for (index, node) in topology.nodes.iter().enumerate() {
                assert_eq!(node.joins.is_empty(), index == 0, "{node:?}");
                for join in &node.joins {
                    let Join::Node(name) = join else { panic!("{join:?}") };
                    assert!(topology.nodes[..index].iter().any(|earlier| earlier.name == *name), "{node:?}");
                }
            }
        }
    }

    #[test]
    fn the_configuration_names_ids_and_prefixes() {
        let r3 = Topology::main().nodes[2].clone();
        let text = r3.config(|name| (name == "r2").then(|| "12D3".to_string())).unwrap();
        assert_eq!(text, "[links]\nonly = [\"12D3\", \"/ip4/127.0.0.11\"]\n");
        assert!(r3.config(|_| None).is_err());
        assert_eq!(Topology::random(1).nodes[0].config(|_| None).unwrap(), "");
    }
}
