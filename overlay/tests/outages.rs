//! A founder that is out of reach for a while: who holds a title keeps it, and who has an address keeps that.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use overlay::address::TreeId;
use overlay::config::{Config, Only};
use overlay::time::WallTime;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What all but the founder have as their addresses in this tree.
fn addresses(net: &Net, tree: TreeId) -> Vec<String> {
    (1..net.nodes.len()).map(|n| net.text_in(tree, n)).collect()
}

fn assert_attached(net: &Net) {
    for (n, text) in addresses(net, TreeId::ALL[0]).into_iter().enumerate() {
        assert_ne!(text, "-", "{}: {}", n + 1, net.picture());
    }
}

/// It hears of nobody then, and that says nothing of anybody: who is to take its place when it is gone again is who was to before.
#[test]
fn a_founder_that_is_back_for_a_moment_leaves_its_heirs_their_titles() {
    for seed in 1..4 {
        let mut net = Net::grow(seed, 16);
        net.network_down(0);
        net.run(secs(90));
        net.network_back(0);
        net.run(Duration::from_millis(300));
        net.network_down(0);
        net.run(secs(60));
        assert_attached(&net);
    }
}

#[test]
fn an_outage_of_the_founder_renumbers_no_tree() {
    // Shorter than a lease, and longer.
    for (seed, outage) in [(1, 90), (2, 90), (3, 90), (4, 12 * 60)] {
        let mut net = Net::grow(seed, 16);
        let before = TreeId::ALL.map(|tree| addresses(&net, tree));
        net.network_down(0);
        net.run(secs(outage));
        net.network_back(0);
        net.run(secs(60));
        assert_eq!(TreeId::ALL.map(|tree| addresses(&net, tree)), before, "{}", net.picture());
        net.assert_whole();
    }
}

/// It is gone again before all its children are back.
#[test]
fn a_founder_that_is_started_before_its_children_reach_it_leaves_them_their_titles() {
    for seed in 1..4 {
        let mut net = Net::grow(seed, 16);
        net.kill(0, false);
        net.run(secs(30));
        net.nodes[0].network = false;
        net.start(0, Config::default());
        net.run(secs(4));
        net.network_back(0);
        let linked = |net: &Net| !net.node(0).neighbours().is_empty();
        assert!(net.run_until(secs(20), linked), "{}", net.picture());
        net.run(Duration::from_millis(300));
        net.kill(0, false);
        net.run(secs(60));
        assert_attached(&net);
    }
}

/// Its beacons are numbered on from those before, so that nobody takes them for older ones.
#[test]
fn a_root_whose_clock_is_behind_after_a_restart_is_heard_by_all() {
    const ABOVE: usize = 1;
    const BESIDE: usize = 2;
    const NODE: usize = 3;
    let all: [&[usize]; 4] = [&[ABOVE, BESIDE], &[0, NODE], &[0, NODE], &[ABOVE, BESIDE]];
    let only = |n: usize| all[n].iter().map(|other| Only::Id(common::identity(*other).id())).collect();
    let config = |n: usize| Config { only: only(n), trees: 1, extra_links: 0, ..Config::default() };
    let mut net = Net::new(1);
    for (n, others) in all.iter().enumerate() {
        let joins = others.iter().filter(|other| **other < n).map(|other| common::address(*other)).collect();
        net.add(Config { joins, ..config(n) });
        net.run(secs(1));
    }
    net.run(secs(20));
    assert_eq!(net.node(NODE).parent(), Some(net.id(ABOVE)), "{}", net.picture());
    net.kill(0, true);
    net.run(secs(2));
    net.now.wall = WallTime::from_unix_micros(net.now.wall.as_unix_micros() - 3_600_000_000);
    net.start(0, config(0));
    net.run(secs(60));
    // And again: what it numbered then was above what the clock said.
    net.kill(0, true);
    net.run(secs(2));
    net.start(0, config(0));
    net.run(secs(60));
    net.kill(ABOVE, true);
    net.run(secs(15));
    assert_eq!(net.node(NODE).parent(), Some(net.id(BESIDE)), "{}", net.picture());
}

/// The clock was more than a day ahead, and is right in all runs since.
#[test]
fn nor_does_a_second_restart_bring_old_numbers() {
    let mut net = Net::grow(1, 8);
    net.now.wall = WallTime::from_unix_micros(net.now.wall.as_unix_micros() - 30 * 86_400_000_000);
    for _ in 0..2 {
        net.kill(0, true);
        net.run(secs(2));
        net.start(0, Config::default());
        net.run(secs(90));
        assert_attached(&net);
        assert!(addresses(&net, TreeId::ALL[0]).iter().all(|text| text != "/"), "{}", net.picture());
    }
}
