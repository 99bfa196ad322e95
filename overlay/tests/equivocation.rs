//! A parent that gave one place twice is nobody's parent any more, wherever the proof gets.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::{Net, identity};
use overlay::address::{FIRST_TREE, TreeId};
use overlay::error::FrameError;
use overlay::grant::Grant;
use overlay::id::NodeId;
use overlay::wire::link::{Frame, Proof};

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
