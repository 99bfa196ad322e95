//! A root that is dead stays so, whoever repeats its last beacons.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use common::{Net, identity};
use overlay::address::TreeId;
use overlay::wire::link::{BeaconFrame, Frame};

const TREE: TreeId = TreeId::ALL[1];

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// An overlay whose root of the second tree has just died, and the last beacon of it that anybody heard.
fn after_the_root_of_another_tree(seed: u8) -> (Net, Vec<u8>) {
    let mut net = Net::grow(seed, 16);
    let last = Arc::new(Mutex::new(Vec::new()));
    let root = net.index(net.node(0).root_of(TREE).unwrap());
    let hears = Arc::clone(&last);
    net.tap = Some(Box::new(move |from, _, bytes| {
        if let (true, Ok(Frame::Beacon(beacon))) = (from == root, Frame::decode(&bytes))
            && beacon.beacon[32] == TREE.get()
            && beacon.beacon[33..65] == *identity(root).id().as_bytes()
        {
            *hears.lock().unwrap() = beacon.beacon;
        }
        bytes
    }));
    net.run(secs(12));
    net.kill(root, true);
    let last = last.lock().unwrap().clone();
    assert!(!last.is_empty());
    (net, last)
}

fn addresses(net: &Net) -> BTreeMap<usize, String> {
    net.alive().into_iter().map(|n| (n, net.text_in(TREE, n))).collect()
}

#[test]
fn a_dead_roots_last_beacon_unseats_no_heir() {
    for seed in 1..4 {
        let (mut net, beacon) = after_the_root_of_another_tree(seed);
        net.run(secs(40));
        let heir = net.node(0).root_of(TREE).unwrap();
        let (holder, before) = (net.index(heir), addresses(&net));
        assert_eq!(before[&holder], "/", "{}", net.picture());
        for _ in 0..12 {
            net.hears(holder, Frame::Beacon(BeaconFrame { age_ms: 0, beacon: beacon.clone() }).encode()).unwrap();
            net.run(secs(5));
            assert_eq!(net.node(0).root_of(TREE), Some(heir), "{}", net.picture());
            assert_eq!(addresses(&net), before, "{}", net.picture());
        }
    }
}

/// Every one hears it from a neighbour again and again, as if the root were there.
#[test]
fn a_dead_roots_last_beacon_stops_no_heir() {
    for seed in 1..4 {
        let (mut net, beacon) = after_the_root_of_another_tree(seed);
        for _ in 0..10 {
            net.run(secs(3));
            for n in net.alive() {
                let again = BeaconFrame { age_ms: 0, beacon: beacon.clone() };
                net.hears(n, Frame::Beacon(again).encode()).unwrap();
            }
        }
        net.run(secs(10));
        let rooted = net.alive().into_iter().filter(|n| net.text_in(TREE, *n) == "/").count();
        assert_eq!(rooted, 1, "{}", net.picture());
        net.assert_whole();
    }
}
