//! Walks of the record table whose way is barred, or that know no table.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use overlay::address::{Address, AddressSet, FIRST_TREE};
use overlay::wire::packet::Header;

/// Walks with different keys in one case.
const WALKS: u8 = 32;
/// Until a dead node's places are held by others, and a dead founder's root is minded.
const REPAIRED: Duration = Duration::from_secs(40);

/// A neighbour of `at` passes walks of node 5 on to it, after `change`: each comes to a binder.
fn assert_walks_end_at_binders(net: &mut Net, at: usize, change: impl Fn(&mut Header)) {
    let binders_asked = |net: &Net| net.alive().iter().map(|n| net.node(*n).dht_counters().malformed).sum::<u64>();
    let before = binders_asked(net);
    for key in 0..WALKS {
        // A binder counts it, and does not answer, because it asks for nothing.
        let mut header = Header::walk(net.id(5), net.place(5), [key; 32], 0, FIRST_TREE);
        change(&mut header);
        net.hears(at, header.with_payload(b"nothing")).unwrap();
    }
    net.run(Duration::from_secs(2));
    assert_eq!(binders_asked(net), before + u64::from(WALKS), "{}", net.picture());
}

/// Who minds the root of the first tree.
fn minding(net: &Net) -> usize {
    net.index(net.node(5).root(net.now).unwrap().0)
}

#[test]
fn a_walk_that_knows_no_table_turns_at_the_minded_root() {
    let mut net = Net::grow(4, 18);
    net.kill(0, true);
    net.run(REPAIRED);
    let minding = minding(&net);
    assert_walks_end_at_binders(&mut net, minding, |_| {});
}

/// Who minds the root knows whom the founder would have chosen, and that one is dead, too.
#[test]
fn a_walk_to_a_dead_child_of_the_founder_ends_at_who_minds_the_root() {
    let mut net = Net::grow(4, 18);
    let below_founder = |n: &usize| net.node(*n).parent() == Some(net.id(0));
    let heir = (1..18).find(below_founder).unwrap();
    let children: Vec<usize> = (heir + 1..18).filter(below_founder).take(2).collect();
    net.kill(0, true);
    children.iter().for_each(|child| net.kill(*child, true));
    net.run(REPAIRED);
    let minding = minding(&net);
    assert_walks_end_at_binders(&mut net, minding, |_| {});
}

/// A relay on the way to whom the founder would have chosen has sent it back: it is not sent down the same way again.
#[test]
fn a_walk_that_has_found_no_way_is_answered_by_who_minds_the_root() {
    const FIRST_TREE_IS_BARRED: u8 = 0x10;
    let mut net = Net::grow(4, 18);
    net.kill(0, true);
    net.run(REPAIRED);
    let minding = minding(&net);
    let before = net.node(minding).counters().forwarded;
    assert_walks_end_at_binders(&mut net, minding, |header| header.strikes = FIRST_TREE_IS_BARRED);
    let forwarded = net.node(minding).counters().forwarded - before;
    assert!(forwarded < u64::from(WALKS) / 4, "{forwarded}, and not those of others alone: {}", net.picture());
}

/// It is at a relay that is not above its vertex, and nobody there is nearer: the root knows who is there instead.
#[test]
fn a_walk_whose_way_is_barred_goes_to_the_root() {
    let mut net = Net::grow(4, 18);
    for relay in (1..18).filter(|n| *n != 5) {
        let barred: Address = if net.text(relay).starts_with("/1") { "/2/60/60" } else { "/1/60/60" }.parse().unwrap();
        assert_walks_end_at_binders(&mut net, relay, |header| {
            header.target = AddressSet::of(FIRST_TREE, barred.clone());
            header.last = 0.0;
        });
    }
}
