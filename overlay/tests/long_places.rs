//! Places that are too long to be told: nobody takes one, and nobody gives one.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;
use std::sync::{Arc, Mutex};

use common::{Net, identity};
use overlay::address::{Address, FIRST_TREE};
use overlay::config::{Config, Only};
use overlay::error::FrameError;
use overlay::grant::{Grant, GrantChain, MAX_CHAIN, MAX_SLOTS};
use overlay::wire::link::{Ask, Chain, Frame, Granted};

/// So that the addresses in four trees fit a place.
const LONGEST_ADDRESS_BYTES: usize = 60;
/// Keys that nobody runs a node with.
const MADE_UP: usize = 1000;
/// The last slot: of 17 letters for q = 64.
const LAST_SLOT: u16 = MAX_SLOTS - 1;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Grants from the first of `nodes` to the next and so on, all of `slot`.
fn chain(nodes: &[usize], slot: u16) -> GrantChain {
    let grant = |pair: &[usize]| Grant::sign(&identity(pair[0]), identity(pair[1]).id(), FIRST_TREE, slot, 1, 600);
    nodes.windows(2).map(grant).fold(GrantChain::default(), GrantChain::extended)
}

fn says(chain: &GrantChain) -> Vec<u8> {
    Frame::Chain(Chain { tree: FIRST_TREE, chain: chain.to_bytes() }).encode()
}

/// Links to these alone, and joins through those that are there before it.
fn links(own: usize, others: &[usize]) -> Config {
    let only = others.iter().map(|n| Only::Id(identity(*n).id())).collect();
    let joins = others.iter().filter(|n| **n < own).map(|n| common::address(*n)).collect();
    Config { only, joins, trees: 1, extra_links: 0, ..Config::default() }
}

fn linked(all: &[&[usize]]) -> Net {
    let mut net = Net::new(1);
    for (n, others) in all.iter().enumerate() {
        net.add(links(n, others));
        net.run(secs(2));
    }
    net.run(secs(10));
    net
}

fn assert_told(net: &Net) {
    for n in net.alive() {
        for (_, address) in net.place(n).addresses.iter() {
            assert!(address.to_bytes().len() <= LONGEST_ADDRESS_BYTES, "{n} is at {address}");
        }
    }
}

/// The founder with two children, and 3 below both of them with a child 4 of its own.
fn below_two() -> (Net, usize) {
    let net = linked(&[&[1, 2], &[0, 3], &[0, 3], &[1, 2, 4], &[3]]);
    let liar = net.index(net.node(3).parent().unwrap());
    (net, liar)
}

fn assert_unharmed(net: &mut Net, liar: usize) {
    net.run(secs(30));
    assert_eq!(net.node(3).neighbours().len(), 3, "{}", net.picture());
    assert_told(net);
    net.assert_whole();
    net.assert_all_pairs_route();
    net.kill(liar, true);
    net.run(secs(60));
    assert!(net.attached(3) && net.attached(4), "{}", net.picture());
    net.assert_all_pairs_route();
}

#[test]
fn a_place_that_is_too_long_is_not_taken() {
    let (mut net, liar) = below_two();
    let way: Vec<usize> = [0, liar].into_iter().chain(MADE_UP..MADE_UP + 11).chain([liar]).collect();
    net.hears_from(3, liar, says(&chain(&way, LAST_SLOT))).unwrap();
    assert_unharmed(&mut net, liar);
}

#[test]
fn nobody_is_its_own_parent() {
    let (mut net, liar) = below_two();
    let way = [0, liar, liar];
    assert_eq!(net.hears_from(3, liar, says(&chain(&way, 0))), Err(FrameError::Forged));
    net.run(secs(30));
    assert_told(&net);
    net.assert_whole();
}

/// A chain that travels, and one grant more: those below could not read it.
#[test]
fn a_chain_that_is_too_long_is_not_followed() {
    let (mut net, liar) = below_two();
    let between = MAX_CHAIN - 2;
    let way: Vec<usize> = [0].into_iter().chain(MADE_UP..MADE_UP + between).chain([MADE_UP + between, liar]).collect();
    let way = chain(&way, 0);
    assert_eq!(way.grants().len(), MAX_CHAIN);
    net.hears_from(3, liar, says(&way)).unwrap();
    assert_unharmed(&mut net, liar);
}

/// 2, below 1, has a place so long that it has one child's to give.
#[test]
fn a_place_that_is_too_long_is_not_given() {
    /// Of 9 letters for q = 64.
    const SLOT: u16 = 8 * 62 + 30;
    let mut net = Net::new(1);
    let lengthened = |bytes: &[u8]| {
        let above = || chain(&[0, MADE_UP, 1], LAST_SLOT);
        match Frame::decode(bytes).ok()? {
            Frame::Grant(granted) => {
                let Grant { child, tree, lease_s, .. } = Grant::from_bytes(&granted.grant).unwrap();
                let grant = Grant::sign(&identity(1), child, tree, SLOT, 7, lease_s).to_bytes();
                Some(Frame::Grant(Granted { grant, chain: above().to_bytes() }).encode())
            }
            Frame::Chain(_) => Some(says(&above())),
            _ => None,
        }
    };
    net.tap = Some(Box::new(move |from, to, bytes| match (from, to) {
        (1, 2) => lengthened(&bytes).unwrap_or(bytes),
        _ => bytes,
    }));
    for (n, others) in [&[1, 5][..], &[0, 2], &[1, 3, 4], &[2], &[2, 5], &[0, 4]].into_iter().enumerate() {
        net.add(links(n, others));
        net.run(secs(5));
    }
    net.run(secs(60));
    assert_eq!(net.place(2).addresses.in_tree(FIRST_TREE).map(Address::depth), Some(17 + 17 + 9), "{}", net.picture());
    assert_told(&net);
    assert_eq!([3, 4].map(|n| net.node(n).parent()), [2, 5].map(|n| Some(net.id(n))), "{}", net.picture());
    net.assert_all_pairs_route();
}

/// 2 shows a place below the dead 1 that is far too long to be told of.
#[test]
fn a_place_that_is_too_long_is_not_held_for_a_dead_one() {
    let mut net = linked(&[&[1, 2], &[0], &[0]]);
    let told = Arc::new(Mutex::new(Vec::new()));
    let (given, tells) = (Arc::new(Mutex::new(None)), Arc::clone(&told));
    let gives = Arc::clone(&given);
    net.tap = Some(Box::new(move |from, to, bytes| {
        match (from, to, Frame::decode(&bytes)) {
            (0, 1, Ok(Frame::Grant(granted))) => *gives.lock().unwrap() = Grant::from_bytes(&granted.grant).ok(),
            (0, 2, Ok(Frame::Advert(advert))) => tells.lock().unwrap().extend(advert.held),
            _ => {}
        }
        bytes
    }));
    net.kill(1, true);
    net.run(secs(1));
    net.start(1, links(1, &[0]));
    net.run(secs(10));
    let first = given.lock().unwrap().take().unwrap();
    net.kill(1, true);
    net.run(secs(10));
    let below: Vec<usize> = [1].into_iter().chain(MADE_UP..MADE_UP + 11).chain([2]).collect();
    let below = chain(&below, LAST_SLOT).grants().to_vec();
    let shown = below.into_iter().fold(GrantChain::default().extended(first), GrantChain::extended);
    let ask = Ask { tree: FIRST_TREE, chain: shown.to_bytes(), no_other: false };
    net.hears_from(0, 2, Frame::Ask(ask).encode()).unwrap();
    net.run(secs(5));
    let longest = told.lock().unwrap().iter().map(Vec::len).max();
    assert!(longest.is_none_or(|bytes| bytes <= LONGEST_ADDRESS_BYTES), "{longest:?}");
    assert_told(&net);
}
