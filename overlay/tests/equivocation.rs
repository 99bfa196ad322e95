//! A parent that gave one place twice is nobody's parent any more, wherever the proof gets.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::faults::refusing;
use common::{Net, identity};
use overlay::Overlay;
use overlay::address::{FIRST_TREE, TreeId};
use overlay::config::{Config, Only};
use overlay::error::FrameError;
use overlay::grant::Grant;
use overlay::id::NodeId;
use overlay::wire::link::{Frame, Granted, Proof};

fn proof_against(parent: usize, epochs: [u64; 2]) -> Proof {
    let grant = |child: u8, epoch| {
        Grant::sign(&identity(parent), NodeId::from_bytes([child; 32]), FIRST_TREE, 3, epoch, 600).to_bytes()
    };
    Proof { one: grant(1, epochs[0]), other: grant(2, epochs[1]) }
}

fn children_of(net: &Net, parent: usize) -> usize {
    let id = Some(net.id(parent));
    let all = net.alive().into_iter().flat_map(|n| TreeId::ALL.map(|tree| (n, tree)));
    all.filter(|(n, tree)| net.node(*n).parent_in(*tree) == id).count()
}

#[test]
fn a_proof_reaches_everybody_and_everybody_finds_another_parent() {
    for seed in 1..5 {
        let mut net = Net::grow(seed, 20);
        let liar = (1..20).max_by_key(|n| children_of(&net, *n)).unwrap();
        assert!(children_of(&net, liar) > 0);
        let witness = (1..20).find(|n| *n != liar).unwrap();
        net.hears(witness, Frame::Proof(proof_against(liar, [5, 5])).encode()).unwrap();
        net.run(Duration::from_secs(90));
        assert_eq!(children_of(&net, liar), 0, "{}", net.picture());
        net.assert_whole();
        net.assert_all_pairs_route();
        // Whoever comes later is told, too.
        let new = net.add(net.joining(&[liar]));
        net.run(Duration::from_secs(30));
        assert!(net.attached(new) && children_of(&net, liar) == 0, "{}", net.picture());
    }
}

#[test]
fn what_proves_nothing_closes_the_link_of_who_says_it() {
    let mut net = Net::grow(1, 8);
    for (node, proof) in [(2, proof_against(3, [5, 6])), (4, Proof { one: vec![1], other: vec![2] })] {
        assert_eq!(net.hears(node, Frame::Proof(proof).encode()), Err(FrameError::Forged));
    }
}

/// Links to `others` alone, and joins through those that are there before it.
fn links(own: usize, others: &[usize]) -> Config {
    let only = others.iter().map(|n| Only::Id(identity(*n).id())).collect();
    let joins = others.iter().filter(|n| **n < own).map(|n| common::address(*n)).collect();
    Config { only, joins, trees: 1, extra_links: 0, ..Config::default() }
}

/// No proof is at hand here: whoever has followed both chains of such a parent makes it.
#[test]
fn who_sees_one_place_given_to_two_convicts_the_parent_and_tells_others() {
    const LIAR: usize = 1;
    const CHILDREN: [usize; 2] = [2, 3];
    /// An honest way to the root that is longer: of 4, 5 and 6.
    const HONEST: usize = 6;
    const BELOW: usize = 7;
    const LATER: usize = 8;
    let lies = |from: usize, bytes: Vec<u8>| match Frame::decode(&bytes) {
        Ok(Frame::Grant(granted)) if from == LIAR => {
            let Grant { child, tree, lease_s, .. } = Grant::from_bytes(&granted.grant).unwrap();
            let again = Grant::sign(&identity(LIAR), child, tree, 3, 5, lease_s);
            Frame::Grant(Granted { grant: again.to_bytes(), ..granted }).encode()
        }
        _ => bytes,
    };
    let mut net = Net::new(1);
    net.tap = Some(Box::new(move |from, _, bytes| lies(from, bytes)));
    let all: [&[usize]; 8] = [
        &[LIAR, 4],
        &[0, 2, 3, LATER],
        &[LIAR, BELOW],
        &[LIAR, BELOW],
        &[0, 5],
        &[4, HONEST],
        &[5, BELOW, LATER],
        &[2, 3, 6],
    ];
    for (n, others) in all.into_iter().enumerate() {
        net.add(links(n, others));
        net.run(Duration::from_secs(1));
    }
    net.run(Duration::from_secs(30));
    // Nobody has seen both yet.
    assert_eq!(CHILDREN.map(|n| net.node(n).parent()), [Some(net.id(LIAR)); 2], "{}", net.picture());
    assert_eq!(net.text(CHILDREN[0]), net.text(CHILDREN[1]));
    let first = net.index(net.node(BELOW).parent().unwrap());
    assert!(CHILDREN.contains(&first), "{}", net.picture());

    // Its place below the one is taken away, and the other is the next best.
    net.tap = Some(Box::new(move |from, to, bytes| match (from, to) {
        (from, BELOW) if from == first => refusing(bytes),
        _ => lies(from, bytes),
    }));
    net.with(first, Overlay::handle_interruption);
    net.run(Duration::from_secs(30));
    assert_eq!(children_of(&net, LIAR), 0, "{}", net.picture());
    assert_eq!(net.node(BELOW).parent(), Some(net.id(HONEST)), "{}", net.picture());
    net.assert_whole();
    // Word of it has come to whoever saw neither.
    let later = net.add(links(LATER, &[LIAR, HONEST]));
    net.run(Duration::from_secs(10));
    assert_eq!(net.node(later).parent(), Some(net.id(HONEST)), "{}", net.picture());
}

/// What is below a convicted founder has places by an heir of its own right: whatever the founder gave is worth nothing.
#[test]
fn a_founder_that_lies_is_followed_by_an_heir() {
    for convicted_first in [true, false] {
        let mut net = Net::grow(1, 14);
        let proof = Frame::Proof(proof_against(0, [5, 5])).encode();
        if convicted_first {
            net.hears(9, proof.clone()).unwrap();
            net.run(Duration::from_secs(5));
            net.kill(0, true);
        } else {
            net.kill(0, true);
            net.run(Duration::from_secs(40));
            net.hears(9, proof).unwrap();
        }
        net.run(Duration::from_secs(90));
        net.assert_whole();
        assert!(net.alive().iter().any(|n| net.text(*n) == "/"), "{}", net.picture());
        net.assert_all_pairs_route();
    }
}

/// It has its key still, and has forgotten what it gave to whom: it gives the same places once more, and does not lie.
#[test]
fn a_founder_that_has_lost_what_it_kept_of_its_children_is_not_convicted() {
    let mut net = Net::new(1);
    for through in [None, Some(0), Some(1)] {
        let config = through.map_or_else(Config::default, |n| net.joining(&[n]));
        net.add(Config { extra_links: 0, ..config });
        net.run(Duration::from_secs(2));
    }
    net.run(Duration::from_secs(20));
    assert_eq!(net.node(2).parent(), Some(net.id(1)), "{}", net.picture());
    for n in [0, 1] {
        net.kill(n, false);
    }
    net.run(Duration::from_secs(20));
    net.nodes[0].disk.retain(|key, _| !key.starts_with("overlay/slots/"));
    net.start(0, Config { extra_links: 0, ..Config::default() });
    let founder = net.id(0);
    net.with(2, |overlay, now| overlay.seek_link(founder, &[common::address(0)], now));
    net.run(Duration::from_secs(60));
    assert_eq!(net.node(2).parent(), Some(founder), "{}", net.picture());
    let newcomer = net.add(Config { extra_links: 0, ..net.joining(&[2]) });
    net.run(Duration::from_secs(20));
    assert_ne!(net.text(newcomer), "-", "{}", net.picture());
    net.assert_whole();
}
