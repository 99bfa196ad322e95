//! Leaves carry nobody; who moves often carries as little as it can.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;
use std::collections::BTreeSet;

use common::Net;
use overlay::Overlay;
use overlay::address::TreeId;
use overlay::config::Config;
use overlay::dht::LookupResult;
use overlay::record::{FLAG_LEAF, Query};
use overlay::standing::Standing;
use overlay::time::{Instant, Now, WallTime};

/// Some nodes, of which those from `leaves` on are leaves; each may link to what it likes.
fn with_leaves(seed: u8, count: usize, leaf: impl Fn(usize) -> bool) -> Net {
    let mut net = Net::new(seed);
    net.add(Config::default());
    for n in 1..count {
        let config = net.joining(&[n / 2, n - 1]);
        net.add(Config { leaf: leaf(n), ..config });
        net.run(Duration::from_millis(600));
    }
    net.run(Duration::from_secs(20));
    net
}

#[test]
fn a_leaf_carries_nobody_and_is_found() {
    for seed in 0..4 {
        let mut net = with_leaves(seed, 20, |n| n % 3 == 2);
        net.run(Duration::from_secs(60));
        for leaf in (2..20).step_by(3) {
            assert_eq!(net.node(leaf).standing(), Standing::Leaf);
            let id = net.id(leaf);
            let parents: BTreeSet<_> =
                TreeId::ALL.iter().flat_map(|tree| (0..20).filter_map(|n| net.node(n).parent_in(*tree))).collect();
            assert!(!parents.contains(&id), "{}", net.picture());
            assert_eq!(net.node(leaf).replicas(), 0, "{leaf} keeps records");
        }
        net.assert_all_pairs_route();
        for leaf in (2..20).step_by(3) {
            assert_eq!(net.node(leaf).counters().forwarded, 0, "{leaf} passes on");
            let LookupResult::Found(record) = net.lookup(1, Query::Node(net.id(leaf))) else { panic!("{leaf}") };
            assert_eq!(record.node().unwrap().flags & FLAG_LEAF, FLAG_LEAF);
        }
    }
}

#[test]
fn a_leaf_cannot_found() {
    let now = Now { instant: Instant::ZERO, wall: WallTime::from_unix_micros(1) };
    let config = Config { leaf: true, ..Config::default() };
    let mut leaf = Overlay::new(config, common::identity(0), [1; 32], now);
    assert!(leaf.start(now).unwrap_err().to_string().contains("leaf"));
}

#[test]
fn who_moves_often_keeps_no_records_until_it_has_stayed_for_an_hour() {
    let mut net = Net::grow(7, 16);
    let mover = (1..16).max_by_key(|n| net.node(*n).replicas()).unwrap();
    assert!(net.node(mover).replicas() > 0);
    net.moves(mover, 1..=1);
    assert_eq!(net.node(mover).standing(), Standing::Relay);
    net.moves(mover, 2..=2);
    assert_eq!(net.node(mover).standing(), Standing::Mover);
    assert_eq!(net.node(mover).replicas(), 0);
    net.assert_all_pairs_route();
    net.run(Duration::from_secs(3600));
    assert_eq!(net.node(mover).standing(), Standing::Relay);
    net.run(Duration::from_secs(120));
    assert!(net.node(mover).replicas() > 0);
    net.assert_whole();
}

#[test]
fn an_interface_that_comes_and_goes_makes_no_mover() {
    let mut net = Net::grow(7, 16);
    for _ in 0..5 {
        net.addresses_change(4);
        net.run(Duration::from_secs(60));
    }
    assert_eq!(net.node(4).standing(), Standing::Relay);
    net.assert_whole();
}

/// Of an outage of 2 s nobody has noticed anything when it ends; after 20 s all links were given up.
#[test]
fn a_network_that_is_back_is_used_at_once_and_makes_no_mover() {
    const AT_ONCE: Duration = Duration::from_millis(250);
    let mut net = Net::grow(7, 16);
    let node = 4;
    for outage in [2, 20, 2, 20].map(Duration::from_secs) {
        let neighbours = net.node(node).neighbours().len();
        net.network_down(node);
        net.run(outage);
        let back = net.now.instant;
        net.network_back(node);
        let replaced = |net: &Net| net.node(node).neighbours().iter().filter(|link| link.up_at >= back).count();
        let done = net.run_until(AT_ONCE, |net| replaced(net) > 0 && net.attached(node));
        assert!(done, "{} of {neighbours} links after {outage:?}", replaced(&net));
        net.run(Duration::from_secs(60));
        assert_eq!(net.node(node).standing(), Standing::Relay);
    }
    net.assert_all_pairs_route();
    net.assert_whole();
}

#[test]
fn a_mover_passes_on_to_whom_nobody_else_reaches() {
    let mut net = Net::grow(3, 8);
    let mover = 5;
    let config = Config { extra_links: 0, ..net.joining(&[mover]) };
    let only = vec![overlay::config::Only::Id(net.id(mover))];
    let beyond = net.add(Config { only, ..config });
    net.run(Duration::from_secs(20));
    net.moves(mover, 1..=3);
    assert_eq!(net.node(mover).standing(), Standing::Mover);
    assert!(net.attached(beyond), "{}", net.picture());
    net.assert_all_pairs_route();
}
