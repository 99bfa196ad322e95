//! What can be done to a running overlay while one looks at it: lines on stdin of `testnet up`.

use std::collections::VecDeque;
use std::io::BufRead as _;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::command::print_line;
use crate::process::NodeProcess;
use crate::wait::Result;

/// A node that moves has no network for so long.
const MOVE_OUTAGE: Duration = Duration::from_secs(3);
/// Lines that wait; a faster typist waits.
const MAX_LINES: usize = 16;
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

/// One line, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Order {
    /// To another address.
    Move(String),
    /// No network.
    Away(String),
    /// The network is back.
    Back(String),
    /// At once.
    Kill(String),
    /// Two halves.
    Partition,
    /// One overlay again.
    Heal,
    /// A list.
    Nodes,
}

/// The order in `line`; none for an empty one.
///
/// # Errors
/// What there is instead.
fn parse(line: &str) -> std::result::Result<Option<Order>, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    Ok(Some(match words[..] {
        [] => return Ok(None),
        ["move", name] => Order::Move(name.to_owned()),
        ["away", name] => Order::Away(name.to_owned()),
        ["back", name] => Order::Back(name.to_owned()),
        ["kill", name] => Order::Kill(name.to_owned()),
        ["partition"] => Order::Partition,
        ["heal"] => Order::Heal,
        ["nodes"] => Order::Nodes,
        _ => return Err(format!("{:?} is none of these:\n{MENU}", line.trim())),
    }))
}

/// Carries orders out.
pub struct Scenario {
    lines: Receiver<String>,
    /// Who is back at which address, and when.
    moving: VecDeque<(Instant, String, Ipv4Addr)>,
    moves: u8,
}

impl Scenario {
    /// Reads stdin from now on, in a thread that ends with the process.
    pub fn on_stdin() -> Self {
        let (typed, lines) = sync_channel(MAX_LINES);
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
                if typed.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines, moving: VecDeque::new(), moves: 0 }
    }

    /// Does what was typed and what is due. What a node refuses is said and nothing more.
    pub fn go_on(&mut self, cluster: &mut Cluster) {
        if self.moving.front().is_some_and(|(due, ..)| *due <= Instant::now())
            && let Some((_, name, address)) = self.moving.pop_front()
        {
            let done = tell(cluster, &name, json!({"verb": "network-up", "bind": address}));
            say(done.map(|()| format!("{name} is back, at {address}")));
        }
        let Ok(line) = self.lines.try_recv() else { return };
        match parse(&line) {
            Ok(None) => {}
            Ok(Some(order)) => say(self.obey(order, cluster)),
            Err(what) => print_line(&what),
        }
    }

    fn obey(&mut self, order: Order, cluster: &mut Cluster) -> Result<String> {
        match order {
            Order::Move(_) if self.moving.len() >= MAX_MOVES => Ok("too many move already".to_owned()),
            Order::Move(name) => {
                tell(cluster, &name, json!({"verb": "network-down"}))?;
                self.moves = self.moves.wrapping_add(1);
                let address = Ipv4Addr::new(127, 0, 3, self.moves);
                let said = format!("{name} has no network");
                self.moving.push_back((Instant::now() + MOVE_OUTAGE, name, address));
                Ok(said)
            }
            Order::Away(name) => {
                tell(cluster, &name, json!({"verb": "network-down"})).map(|()| format!("{name} is away; back {name}"))
            }
            Order::Back(name) => {
                tell(cluster, &name, json!({"verb": "network-up"})).map(|()| format!("{name} is back"))
            }
            Order::Kill(name) => cluster.kill(&name).map(|()| format!("{name} is dead")),
            Order::Partition => {
                let ids: Vec<String> = cluster.nodes().iter().map(|node| node.id.clone()).collect();
                let (first, second) = ids.split_at(ids.len() / 2);
                for (index, node) in cluster.nodes().iter().enumerate() {
                    let half = if index < first.len() { first } else { second };
                    link_only(node, half)?;
                    // Links that there are would stay.
                    node.ask::<Value>(json!({"verb": "network-down"}))?;
                }
                for node in cluster.nodes() {
                    node.ask::<Value>(json!({"verb": "network-up"}))?;
                }
                Ok(format!("parted: {} nodes and {}", first.len(), second.len()))
            }
            Order::Heal => {
                cluster.nodes().iter().try_for_each(|node| link_only(node, &[]))?;
                Ok("they may link again".to_owned())
            }
            Order::Nodes => Ok(cluster.nodes().iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(" ")),
        }
    }
}

fn link_only(node: &NodeProcess, ids: &[String]) -> Result<()> {
    node.ask::<Value>(json!({"verb": "links-only", "only": ids})).map(drop)
}

fn tell(cluster: &Cluster, name: &str, request: Value) -> Result<()> {
    cluster.node(name)?.ask::<Value>(request).map(drop)
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
        assert_eq!(parse("  move  n3 "), Ok(Some(Order::Move("n3".into()))));
        assert_eq!((parse("nodes"), parse(" ")), (Ok(Some(Order::Nodes)), Ok(None)));
        for bad in ["move", "move n1 n2", "fly", "kill"] {
            let what = parse(bad).unwrap_err();
            assert!(what.contains(bad) && what.contains("move NAME"), "{what}");
        }
        // What the menu says is what there is.
        for line in MENU.lines().filter_map(|line| line.split_whitespace().next()) {
            assert!(parse(line).is_ok() || parse(&format!("{line} n1")).is_ok(), "{line}");
        }
    }
}
