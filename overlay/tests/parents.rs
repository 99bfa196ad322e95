//! Whom a node chooses as its parent when several neighbours would give it a place.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::faults::refusing;
use common::{Net, address, identity};
use overlay::Overlay;
use overlay::config::{Config, Only, Timing};
use overlay::event::Event;
use overlay::standing::Standing;
use overlay::wire::link::Frame;

/// Links to `others` alone, and joins through those that are there before it.
fn links(own: usize, others: &[usize]) -> Config {
    let only = others.iter().map(|n| Only::Id(identity(*n).id())).collect();
    let joins = others.iter().filter(|n| **n < own).map(|n| address(*n)).collect();
    Config { only, joins, trees: 1, extra_links: 0, ..Config::default() }
}

/// A network of one tree; whom each node links to.
fn linked(seed: u8, all: &[&[usize]]) -> Net {
    let mut net = Net::new(seed);
    for (n, others) in all.iter().enumerate() {
        net.add(links(n, others));
        net.run(Duration::from_secs(1));
    }
    net.run(Duration::from_secs(10));
    net
}

fn parent(net: &Net, node: usize) -> Option<usize> {
    net.node(node).parent().map(|id| net.index(id))
}

/// Its parent refuses the node a place, and so do the others; the answer of `last`, whom it asks last, is lost. When it waits no longer for that, it has
/// all the others to choose from at once: whom it has as its parent then.
fn chooses_again(net: &mut Net, node: usize, last: usize) -> Option<usize> {
    let wait = Timing::default().ask_timeout;
    net.tap = Some(Box::new(move |from, to, bytes| match Frame::decode(&bytes) {
        Ok(Frame::Grant(_)) if (from, to) == (last, node) => Frame::ProbeAck(0).encode(),
        Ok(Frame::Grant(_)) if to == node => refusing(bytes),
        _ => bytes,
    }));
    let (asks, events) = (parent(net, node).unwrap(), net.nodes[node].events.len());
    // Its link to the node is another one now, over which the node asks it again.
    net.with(asks, Overlay::handle_interruption);
    net.run(wait * 3 / 4);
    net.tap = None;
    net.run(wait * 2);
    let mut since = net.nodes[node].events[events..].iter();
    assert!(since.any(|(_, event)| *event == Event::Detached), "it has not lost its place");
    parent(net, node)
}

/// The latest parent gives the old place back, which is worth one level and not two.
#[test]
fn a_parent_is_not_left_for_one_that_is_one_level_shallower() {
    const SHALLOW: usize = 1;
    const LAST: usize = 5;
    const NODE: usize = 6;
    for (latest, stays) in [(3, true), (4, false)] {
        let all: [&[usize]; 7] =
            [&[SHALLOW, 2], &[0, NODE], &[0, 3], &[2, 4, NODE], &[3, LAST, NODE], &[4, NODE], &[latest]];
        let mut net = linked(1, &all);
        assert_eq!(parent(&net, NODE), Some(latest), "{}", net.picture());
        let only = [latest, SHALLOW, LAST].map(|n| Only::Id(net.id(n))).to_vec();
        net.with(NODE, |overlay, now| overlay.set_links(only, 0, now));
        for n in [SHALLOW, LAST] {
            let id = net.id(n);
            net.with(NODE, |overlay, now| overlay.handle_peer_found(&address(n), Some(id), now));
        }
        net.run(Duration::from_secs(60));
        assert_eq!(net.node(NODE).neighbours().len(), 3, "{}", net.picture());
        // Who has a place looks for no other.
        assert_eq!(parent(&net, NODE), Some(latest));
        let expected = if stays { latest } else { SHALLOW };
        assert_eq!(chooses_again(&mut net, NODE, LAST), Some(expected), "{}", net.picture());
    }
}

const FLAPS: usize = 1;
const DEEP: usize = 4;
const LAST: usize = 5;
const NODE: usize = 6;

/// A node below one whose link comes and goes, with two other neighbours that are two levels deeper.
fn beside_one_that_flaps(seed: u8) -> Net {
    let all: [&[usize]; 7] =
        [&[FLAPS, 2], &[0, NODE], &[0, 3], &[2, DEEP, LAST], &[3, NODE], &[3, NODE], &[FLAPS, DEEP, LAST]];
    let net = linked(seed, &all);
    assert_eq!(parent(&net, NODE), Some(FLAPS), "{}", net.picture());
    net
}

fn flaps(net: &mut Net) {
    net.network_down(FLAPS);
    net.run(Duration::from_secs(30));
    assert_eq!(net.node(NODE).neighbours().len(), 2, "it was not lost");
    net.network_back(FLAPS);
    net.run(Duration::from_secs(30));
    assert_eq!(net.node(NODE).neighbours().len(), 3, "it is not back");
}

#[test]
fn a_neighbour_that_was_lost_again_and_again_is_no_parent_until_that_is_long_ago() {
    let mut net = beside_one_that_flaps(1);
    // Once is nothing.
    flaps(&mut net);
    assert_ne!(parent(&net, NODE), Some(FLAPS));
    assert_eq!(chooses_again(&mut net, NODE, LAST), Some(FLAPS), "{}", net.picture());
    (0..3).for_each(|_| flaps(&mut net));
    assert_eq!(net.node(FLAPS).standing(), Standing::Relay, "it does not move");
    assert_eq!(chooses_again(&mut net, NODE, LAST), Some(DEEP), "{}", net.picture());
    net.run(Duration::from_mins(20));
    assert_eq!(chooses_again(&mut net, NODE, LAST), Some(FLAPS), "{}", net.picture());
}

/// Its parent dies: who answers first may be the last resort, and is not asked before the others had their time.
#[test]
fn the_last_resort_is_not_asked_because_it_answers_first() {
    const PARENT: usize = 7;
    for seed in 1..=12 {
        let all: [&[usize]; 8] = [
            &[FLAPS, 2, PARENT],
            &[0, NODE],
            &[0, 3],
            &[2, DEEP, LAST],
            &[3, NODE],
            &[3, NODE],
            &[FLAPS, DEEP, LAST, PARENT],
            &[0, NODE],
        ];
        let mut net = linked(seed, &all);
        for _ in 0..4 {
            net.network_down(FLAPS);
            net.run(Duration::from_secs(30));
            net.network_back(FLAPS);
            net.run(Duration::from_secs(30));
        }
        if parent(&net, NODE) != Some(PARENT) {
            assert_eq!(chooses_again(&mut net, NODE, LAST), Some(PARENT), "{}", net.picture());
        }
        assert_eq!(net.node(NODE).neighbours().len(), 4, "{}", net.picture());
        net.kill(PARENT, true);
        net.run(Duration::from_secs(30));
        let chosen = parent(&net, NODE);
        assert!(chosen == Some(DEEP) || chosen == Some(LAST), "seed {seed}: {}", net.picture());
    }
}
