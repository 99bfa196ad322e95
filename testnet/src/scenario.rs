//! What can be done to a running overlay while one looks at it: lines on stdin of `testnet up`, and the menu of its dashboard.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::BufRead as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use node::control::wire::Reply;
use node::exit::{Code, Fault};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::command::print_line;
use crate::network::Network;
use crate::process::NodeProcess;
use crate::topology::Topology;
use crate::wait::Result;

mod page;

use page::Desk;

/// A node that moves has no network for so long.
const MOVE_OUTAGE: Duration = Duration::from_secs(3);
/// Orders that wait; who is faster waits.
const MAX_ORDERS: usize = 16;
/// Moves under way at once.
const MAX_MOVES: usize = 64;

/// What there is to type.
pub const MENU: &str = "  move NAME    its network is gone for 3 s, then it is back at another address
  away NAME    its network is gone until `back NAME`
  back NAME
  kill NAME    as a crash does
  partition    the first half of the nodes and the second one have no link between them any more; who was away is back
  heal         they may link again
  nodes        who runs";

/// One order, typed or of the page.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(tag = "order", rename_all = "lowercase", deny_unknown_fields)]
enum Order {
    /// To another address.
    Move { node: String },
    /// No network.
    Away { node: String },
    /// The network is back.
    Back { node: String },
    /// At once.
    Kill { node: String },
    /// Two halves.
    Partition {},
    /// One overlay again.
    Heal {},
    /// A list.
    Nodes {},
}

/// What the page is told after each order.
#[derive(Serialize, Debug)]
struct Scene {
    /// What came of the order; none for a list.
    said: Option<String>,
    nodes: Vec<Node>,
    /// Whether there are two halves.
    parted: bool,
}

/// A node that runs.
#[derive(Serialize, Debug)]
struct Node {
    name: String,
    /// Its id.
    node: String,
    network: Reach,
}

#[derive(Serialize, Debug)]
#[serde(rename_all = "lowercase")]
enum Reach {
    Up,
    /// Until it is told to come back.
    Away,
    /// For [`MOVE_OUTAGE`].
    Moving,
}

/// The order in `line`; none for an empty one.
///
/// # Errors
/// What there is instead.
fn parse(line: &str) -> std::result::Result<Option<Order>, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    Ok(Some(match words[..] {
        [] => return Ok(None),
        ["move", name] => Order::Move { node: name.to_owned() },
        ["away", name] => Order::Away { node: name.to_owned() },
        ["back", name] => Order::Back { node: name.to_owned() },
        ["kill", name] => Order::Kill { node: name.to_owned() },
        ["partition"] => Order::Partition {},
        ["heal"] => Order::Heal {},
        ["nodes"] => Order::Nodes {},
        _ => return Err(format!("{:?} is none of these:\n{MENU}", line.trim())),
    }))
}

/// Where an order comes from.
enum Input {
    /// A line of stdin; the answer goes to stdout.
    Typed(String),
    /// A line of the page, and where the answer goes.
    Asked(String, SyncSender<Reply>),
}

/// Carries orders out.
pub struct Scenario {
    inputs: Receiver<Input>,
    /// For more who give orders.
    orders: SyncSender<Input>,
    /// Who is back elsewhere, and when.
    moving: VecDeque<(Instant, String)>,
    away: BTreeSet<String>,
    parted: bool,
    page: Option<Desk>,
    /// Who may link to whom, by name, while nobody is parted from anybody; where a node is missing, everybody.
    neighbours: BTreeMap<String, BTreeSet<String>>,
}

impl Scenario {
    /// Nobody gives orders yet.
    pub fn new(topology: &Topology) -> Self {
        let (orders, inputs) = sync_channel(MAX_ORDERS);
        let near = |name: &str| topology.neighbours(name).into_iter().map(str::to_owned).collect();
        let restricted = topology.nodes.iter().filter(|node| !node.only.is_empty());
        let neighbours = restricted.map(|node| (node.name.clone(), near(&node.name))).collect();
        let (moving, away) = (VecDeque::new(), BTreeSet::new());
        Self { inputs, orders, moving, away, parted: false, page: None, neighbours }
    }

    /// Takes orders of a dashboard's page, too; the unix socket at which it gives them.
    ///
    /// # Errors
    /// When there can be no such socket.
    pub fn listen(&mut self) -> Result<&Path> {
        let page = Desk::open(self.orders.clone())?;
        Ok(self.page.insert(page).socket())
    }

    /// Reads stdin from now on, in a thread that ends with the process.
    pub fn read_stdin(&self) {
        let typed = self.orders.clone();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
                if typed.send(Input::Typed(line)).is_err() {
                    return;
                }
            }
        });
    }

    /// Does what was ordered and what is due. What a node refuses is said and nothing more.
    pub fn go_on(&mut self, cluster: &mut Cluster, network: &mut dyn Network) {
        if self.moving.front().is_some_and(|(due, _)| *due <= Instant::now())
            && let Some((_, name)) = self.moving.pop_front()
        {
            let done = cluster.node(&name).and_then(|node| network.up(node, true));
            if done.is_err() {
                // So that `back` tries it again.
                self.away.insert(name.clone());
            }
            say(done.map(|back| format!("{name} is back, at {}", back.address)));
        }
        for _ in 0..MAX_ORDERS {
            match self.inputs.try_recv() {
                Err(_) => return,
                Ok(Input::Typed(line)) => match parse(&line) {
                    Ok(None) => {}
                    Ok(Some(order)) => say(self.obey(order, cluster, network)),
                    Err(what) => print_line(&what),
                },
                // Whoever asked may have gone away.
                Ok(Input::Asked(line, answer)) => _ = answer.try_send(self.answer(&line, cluster, network).into()),
            }
        }
    }

    /// What comes of a line of the page.
    fn answer(
        &mut self,
        line: &str,
        cluster: &mut Cluster,
        network: &mut dyn Network,
    ) -> std::result::Result<Value, Fault> {
        let order: Order = serde_json::from_str(line)
            .map_err(|why| Fault::new(Code::Usage, format!("that is no order of a testnet: {why}")))?;
        let said = match order {
            Order::Nodes {} => None,
            order => {
                let done =
                    self.obey(order, cluster, network).map_err(|trouble| Fault::new(Code::Failed, trouble.what()))?;
                // As if it had been typed, so that stdout tells all that happened.
                print_line(&done);
                Some(done)
            }
        };
        let nodes = cluster.nodes().iter().map(|node| self.shown(&node.name, &node.id)).collect();
        serde_json::to_value(Scene { said, nodes, parted: self.parted })
            .map_err(|error| Fault::new(Code::Failed, error.to_string()))
    }

    fn shown(&self, name: &str, id: &str) -> Node {
        let network = if self.moving.iter().any(|(_, who)| who == name) {
            Reach::Moving
        } else if self.away.contains(name) {
            Reach::Away
        } else {
            Reach::Up
        };
        Node { name: name.to_owned(), node: id.to_owned(), network }
    }

    fn obey(&mut self, order: Order, cluster: &mut Cluster, network: &mut dyn Network) -> Result<String> {
        match order {
            Order::Move { .. } if self.moving.len() >= MAX_MOVES => Ok("too many move already".to_owned()),
            Order::Move { node } => {
                network.down(cluster.node(&node)?)?;
                let said = format!("{node} has no network");
                self.forget(&node);
                self.moving.push_back((Instant::now() + MOVE_OUTAGE, node));
                Ok(said)
            }
            Order::Away { node } => {
                network.down(cluster.node(&node)?)?;
                let said = format!("{node} is away; back {node}");
                self.forget(&node);
                self.away.insert(node);
                Ok(said)
            }
            Order::Back { node } if !self.is_absent(&node) => {
                cluster.node(&node)?;
                Ok(format!("{node} is not away"))
            }
            Order::Back { node } => {
                network.up(cluster.node(&node)?, false)?;
                self.forget(&node);
                Ok(format!("{node} is back"))
            }
            Order::Kill { node } => {
                cluster.kill(&node)?;
                self.forget(&node);
                Ok(format!("{node} is dead"))
            }
            Order::Partition {} => self.part(cluster, network),
            Order::Heal {} => {
                let everybody: Vec<&NodeProcess> = cluster.nodes().iter().collect();
                everybody.iter().try_for_each(|node| match self.neighbours.contains_key(&node.name) {
                    true => link_only(node, &self.near(node, &everybody)),
                    false => link_only(node, &[]),
                })?;
                self.parted = false;
                Ok("they may link again".to_owned())
            }
            Order::Nodes {} => Ok(cluster.nodes().iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(" ")),
        }
    }

    fn is_absent(&self, node: &str) -> bool {
        self.away.contains(node) || self.moving.iter().any(|(_, name)| name == node)
    }

    /// The newest order holds: who is told to be away does not come back because of a move before.
    fn forget(&mut self, node: &str) {
        self.away.remove(node);
        self.moving.retain(|(_, who)| who != node);
    }

    /// The ids of those of `among` who may link to `node`, which is never without one: no list would mean everybody.
    fn near(&self, node: &NodeProcess, among: &[&NodeProcess]) -> Vec<String> {
        let neighbours = self.neighbours.get(&node.name);
        let is_near = |other: &str| neighbours.is_none_or(|near| other == node.name || near.contains(other));
        among.iter().filter(|other| is_near(&other.name)).map(|other| other.id.clone()).collect()
    }

    fn part(&mut self, cluster: &Cluster, network: &mut dyn Network) -> Result<String> {
        let absent = self.away.iter().chain(self.moving.iter().map(|(_, name)| name));
        for name in absent {
            network.up(cluster.node(name)?, false)?;
        }
        let everybody: Vec<&NodeProcess> = cluster.nodes().iter().collect();
        let (first, second) = everybody.split_at(everybody.len() / 2);
        for (index, node) in everybody.iter().enumerate() {
            let half = if index < first.len() { first } else { second };
            link_only(node, &self.near(node, half))?;
            // Links that there are would stay.
            node.ask::<Value>(json!({"verb": "network-down"}))?;
        }
        for node in cluster.nodes() {
            node.ask::<Value>(json!({"verb": "network-up"}))?;
        }
        self.away.clear();
        self.moving.clear();
        self.parted = true;
        Ok(format!("parted: {} nodes and {}", first.len(), second.len()))
    }
}

fn link_only(node: &NodeProcess, ids: &[String]) -> Result<()> {
    node.ask::<Value>(json!({"verb": "links-only", "only": ids})).map(drop)
}

fn say(done: Result<String>) {
    match done {
        Ok(line) => print_line(&line),
        Err(trouble) => print_line(&trouble.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_orders_or_are_answered_with_the_menu() {
        assert_eq!(parse("  move  n3 "), Ok(Some(Order::Move { node: "n3".into() })));
        assert_eq!((parse("nodes"), parse(" ")), (Ok(Some(Order::Nodes {})), Ok(None)));
        for bad in ["move", "move n1 n2", "fly", "kill"] {
            let what = parse(bad).unwrap_err();
            assert!(what.contains(bad) && what.contains("move NAME"), "{what}");
        }
        let page = include_str!("../../docs/reference/dashboard.md");
        assert!(page.contains(MENU), "docs/reference/dashboard.md has another menu");
        // What the menu says is what there is.
        for line in MENU.lines().filter_map(|line| line.split_whitespace().next()) {
            assert!(parse(line).is_ok() || parse(&format!("{line} n1")).is_ok(), "{line}");
        }
    }
}
