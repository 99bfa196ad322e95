//! A slot is kept for a child that is away, for as long as its lease says.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use overlay::config::{Config, Only, Timing};

const PARENT: usize = 3;

/// A node that links to the parent alone, and so has its place there.
fn child(net: &mut Net) -> usize {
    let only = vec![Only::Id(net.id(PARENT))];
    let child = net.add(Config { only, ..net.joining(&[PARENT]) });
    net.run(Duration::from_secs(5));
    assert_eq!(net.node(child).parent(), Some(net.id(PARENT)), "{}", net.picture());
    child
}

fn texts(net: &Net, nodes: &[usize]) -> Vec<String> {
    nodes.iter().map(|n| net.text(*n)).collect()
}

/// A child is away until so long after its parent has lost it, and then elsewhere; shortly before that another one comes. The address that it had, the
/// one that it has now, and that of the other.
fn away(seed: u8, lost: Duration) -> [String; 3] {
    const BEFORE_IT_IS_BACK: Duration = Duration::from_secs(5);
    let mut net = Net::grow(seed, 8);
    let (mover, sibling) = (child(&mut net), child(&mut net));
    let others: Vec<usize> = (0..mover).chain([sibling]).collect();
    let (had, theirs) = (net.text(mover), texts(&net, &others));
    net.network_down(mover);
    let parent_has = |net: &Net| net.node(PARENT).neighbours().iter().any(|peer| peer.id == net.id(mover));
    assert!(net.run_until(Timing::default().parent_silent * 2, |net| !parent_has(net)));
    net.run(lost - BEFORE_IT_IS_BACK);
    let newcomer = child(&mut net);
    assert_eq!(texts(&net, &others), theirs, "{}", net.picture());
    net.network_up(mover, "/ip4/10.9.9.9/tcp/4001".parse().unwrap());
    net.run(Duration::from_secs(10));
    assert_eq!(net.node(mover).parent(), Some(net.id(PARENT)), "{}", net.picture());
    assert_eq!(texts(&net, &others), theirs, "{}", net.picture());
    net.assert_whole();
    [had, net.text(mover), net.text(newcomer)]
}

#[test]
fn who_is_back_within_the_lease_has_its_old_address() {
    for seed in 1..4 {
        let [had, has, other] = away(seed, Timing::default().lease - Duration::from_secs(1));
        assert_eq!(had, has, "seed {seed}");
        assert_ne!(had, other, "seed {seed}");
    }
}

#[test]
fn who_is_away_for_longer_finds_its_slot_given_up() {
    for seed in 1..4 {
        let [had, has, other] = away(seed, Timing::default().lease + Duration::from_secs(10));
        assert_eq!(had, other, "seed {seed}: nobody else may have it");
        assert_ne!(had, has, "seed {seed}");
    }
}
