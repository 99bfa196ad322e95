//! Nodes with more links than a vertex has places.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use overlay::address::FIRST_TREE;
use overlay::config::{Config, Only};
use overlay::grant::OPEN_SLOTS;

const HUB: usize = 0;

/// A node that links to these alone.
fn joins(net: &mut Net, through: &[usize]) -> usize {
    let only = through.iter().map(|n| Only::Id(net.id(*n))).collect();
    let config = Config { only, ..net.joining(through) };
    let node = net.add(config);
    net.run(Duration::from_millis(400));
    node
}

#[test]
fn who_has_another_way_leaves_the_hub_to_who_has_none() {
    let mut net = Net::new(1);
    net.add(Config { max_links: 1000, ..Config::default() });
    let friend = net.add(net.joining(&[HUB]));
    let crowd: Vec<usize> = (0..OPEN_SLOTS + 20).map(|_| joins(&mut net, &[HUB])).collect();
    net.run(Duration::from_secs(10));
    let parent = |net: &Net, node: usize| net.node(node).parent_in(FIRST_TREE).map(|id| net.index(id));
    for &node in &crowd {
        assert_eq!(parent(&net, node), Some(HUB), "{node}");
    }
    let both: Vec<usize> = (0..3).map(|_| joins(&mut net, &[HUB, friend])).collect();
    net.run(Duration::from_secs(10));
    for &node in &both {
        assert_eq!(parent(&net, node), Some(friend), "{node}");
    }
    // When that way is gone, the hub is the only one.
    net.kill(friend, true);
    net.run(Duration::from_secs(60));
    for &node in &both {
        assert!(net.attached(node), "{node}");
        assert!(net.node(node).parent_in(FIRST_TREE).is_some_and(|id| id == net.id(HUB)), "{node}");
    }
}
