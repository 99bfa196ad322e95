//! Roots of trees that the founder names far from itself.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use overlay::address::TreeId;
use overlay::config::{Config, Only, Timing};

/// So many nodes have a geography: see [`overlay`]'s survey of members.
const ROW: usize = 72;
/// Between two looks at who holds a root.
const STEP: Duration = Duration::from_millis(100);

/// Nodes in a row, each linked to the one before it and the one after it.
fn row() -> Net {
    let mut net = Net::new(1);
    for n in 0..ROW {
        let beside = [n.checked_sub(1), Some(n + 1)].into_iter().flatten();
        let only = beside.map(|other| Only::Id(common::identity(other).id())).collect();
        let joins = n.checked_sub(1).map(common::address).into_iter().collect();
        net.add(Config { joins, only, extra_links: 0, ..Config::default() });
        net.run(Duration::from_millis(100));
    }
    net
}

/// A root that was named far away is followed by all before its second beacon, link by link; also where the one before it is an heir, and so holds
/// the root until it hears of the better one.
#[test]
fn another_root_is_followed_by_all_at_once() {
    let mut net = row();
    let tree = TreeId::ALL[1];
    let near = net.node(ROW / 2).root_of(tree);
    assert_eq!(near, Some(net.id(1)), "the founder knew nobody else at first");
    let root = (0..600).find_map(|_| {
        net.run(STEP);
        (2..ROW).find(|n| net.text_in(tree, *n) == "/")
    });
    let root = root.unwrap_or_else(|| panic!("nobody else was named: {}", net.picture()));
    assert!(root > ROW / 2, "{root} is not far away");
    net.run(Timing::default().beacon - STEP);
    for n in 0..ROW {
        assert_eq!(net.node(n).root_of(tree), Some(net.id(root)), "{n} follows another: {}", net.picture());
    }
}
