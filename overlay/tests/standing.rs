//! Leaves carry nobody; who moves often carries as little as it can.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::BTreeSet;
use std::rc::Rc;

use common::Net;
use overlay::Overlay;
use overlay::address::TreeId;
use overlay::config::{Config, Only};
use overlay::dht::LookupResult;
use overlay::event::Event;
use overlay::io::Lane;
use overlay::record::{FLAG_LEAF, Query};
use overlay::standing::Standing;
use overlay::time::{Instant, Now, WallTime};
use overlay::wire::link::{Advert, Frame, RefuseReason};
use overlay::wire::packet::{Header, Kind};

/// The first byte of the body of a walk that puts a record.
const PUT: u8 = 0;

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

/// Honest neighbours ask no leaf. Here is one that has not heard that its only neighbour is one.
#[test]
fn a_leaf_that_is_asked_for_a_place_refuses() {
    let mut net = Net::new(1);
    net.add(Config::default());
    let leaf = net.add(Config { leaf: true, ..net.joining(&[0]) });
    net.run(Duration::from_secs(2));
    assert!(net.attached(leaf));
    let refused = Rc::new(Cell::new(0));
    let (asks, counted) = (leaf + 1, Rc::clone(&refused));
    net.tap = Some(Box::new(move |from, to, bytes| match Frame::decode(&bytes) {
        Ok(Frame::Advert(advert)) if (from, to) == (leaf, asks) => {
            Frame::Advert(Advert { standing: Standing::Relay, ..advert }).encode()
        }
        Ok(Frame::Refuse(refuse)) if (from, to) == (leaf, asks) && refuse.why == RefuseReason::Leaf => {
            counted.set(counted.get() + 1);
            bytes
        }
        _ => bytes,
    }));
    let only = vec![Only::Id(net.id(leaf))];
    assert_eq!(net.add(Config { only, ..net.joining(&[leaf]) }), asks);
    net.run(Duration::from_secs(30));
    assert!(refused.get() > 0, "it was not asked");
    assert!(TreeId::ALL.iter().all(|tree| net.node(asks).parent_in(*tree).is_none()), "{}", net.picture());
}

/// Honest neighbours send a leaf only what is for it. Here it is given what is for one of them.
#[test]
fn a_leaf_does_not_pass_on_what_it_is_given() {
    let mut net = with_leaves(1, 20, |n| n % 3 == 2);
    let (source, leaf) = (1, 11);
    let to = net.index(net.node(leaf).neighbours()[0].id);
    let relay = (2..20).find(|n| n % 3 != 2 && *n != to).unwrap();
    for (by, passes_on) in [(leaf, false), (relay, true)] {
        let payload = format!("by {by}").into_bytes();
        let header = Header::new(Kind::Data, net.id(source), net.place(source), net.id(to), net.place(to), 1);
        net.hears_on(Lane::Data, by, header.with_payload(&payload)).unwrap();
        net.run(Duration::from_secs(1));
        let arrived = |event: &Event| matches!(event, Event::Received(delivery) if delivery.payload == payload);
        assert_eq!(net.heard(to, arrived), passes_on, "by {by}");
    }
    assert_eq!(net.node(leaf).counters().forwarded, 0);
    assert!(net.heard(source, |event| matches!(event, Event::Unreachable { .. })), "nobody told the source");
}

/// No honest walk ends at a leaf. Here each node is given one that has turned downwards, as if the binder were there.
#[test]
fn a_leaf_does_not_keep_what_it_is_asked_to_bind() {
    let mut net = with_leaves(1, 20, |n| n % 3 == 2);
    let walk = Rc::new(RefCell::new(None));
    let seen = Rc::clone(&walk);
    net.tap = Some(Box::new(move |_, _, bytes| {
        if let Ok((header, payload_at)) = Header::decode(&bytes)
            && header.kind == Kind::DhtWalk
            && bytes.get(payload_at) == Some(&PUT)
        {
            *seen.borrow_mut() = Some(Header { down: true, ..header }.with_payload(&bytes[payload_at..]));
        }
        bytes
    }));
    net.with(3, |overlay, now| overlay.publish_node(vec![9; 90], now));
    net.run(Duration::from_secs(2));
    net.tap = None;
    let walk = walk.borrow_mut().take().unwrap();
    let mut keep = Vec::new();
    for n in net.alive() {
        let before = net.node(n).replicas();
        net.hears(n, walk.clone()).unwrap();
        if net.node(n).replicas() > before {
            keep.push(n);
        }
    }
    assert!(!keep.is_empty(), "no relay keeps it either");
    assert!(keep.iter().all(|n| n % 3 != 2), "{keep:?}");
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
    let only = vec![Only::Id(net.id(mover))];
    let beyond = net.add(Config { only, ..config });
    net.run(Duration::from_secs(20));
    net.moves(mover, 1..=3);
    assert_eq!(net.node(mover).standing(), Standing::Mover);
    assert!(net.attached(beyond), "{}", net.picture());
    net.assert_all_pairs_route();
}
