//! Roots of trees that the founder names far from itself.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use overlay::address::TreeId;
use overlay::config::{Config, Only, Timing};
use overlay::dht::{LookupResult, REPLICAS};
use overlay::record::Query;

/// So many nodes have a geography: see [`overlay`]'s survey of members.
const ROW: usize = 72;
/// Between two looks at who holds a root.
const STEP: Duration = Duration::from_millis(100);
/// Until all have told whom they choose binders from.
const TABLES_TOLD: Duration = Duration::from_mins(1);

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

/// Tables come right behind the new places, before anybody has advertised where it is now; none may get lost on its way down.
#[test]
fn all_know_the_tables_above_them_after_another_root_was_named() {
    let mut net = row();
    net.run(TABLES_TOLD * 2);
    let named = (2..ROW).any(|n| net.text_in(TreeId::ALL[1], n) == "/");
    assert!(named, "nobody else was named: {}", net.picture());
    for (n, replica) in (0..ROW).flat_map(|n| (0..REPLICAS).map(move |replica| (n, replica))) {
        let turns = net.node(n).walk_turns_at(&[replica; 32], replica);
        assert!(turns.is_some(), "{n} misses a table above it, replica {replica}: {}", net.picture());
    }
}

/// So many nodes, of which the first six alone link to the founder, and each of the others to three that were there before it.
fn about_a_founder(count: usize) -> Net {
    const ABOUT: usize = 6;
    let earlier = |n: usize| -> Vec<usize> {
        if n <= ABOUT {
            return (0..n.min(1)).collect();
        }
        (0..3).map(|way| 1 + (n * 31 + way * 17) % (n - 1)).collect()
    };
    let mut net = Net::new(1);
    for n in 0..count {
        let later = (n + 1..count).filter(|later| earlier(*later).contains(&n));
        let only = earlier(n).into_iter().chain(later).map(|other| Only::Id(common::identity(other).id())).collect();
        let joins = earlier(n).into_iter().map(common::address).collect();
        net.add(Config { joins, only, extra_links: 0, ..Config::default() });
        net.run(Duration::from_millis(200));
    }
    net.run(Duration::from_secs(30));
    net.assert_whole();
    net
}

/// The founder, its neighbours and the roots are all on the other side of a cut: in an overlay so small that these know everybody, and in one so large that
/// the founder asks around who else there is.
#[test]
fn a_part_of_an_overlay_without_those_about_the_founder_has_trees() {
    for count in [30, 100] {
        let mut net = about_a_founder(count);
        let roots = TreeId::ALL.map(|tree| net.node(0).root_of(tree).unwrap());
        let neighbours: Vec<_> = net.node(0).neighbours().iter().map(|peer| peer.id).collect();
        let there: Vec<usize> = roots.iter().chain(&neighbours).map(|id| net.index(*id)).chain([0]).collect();
        let here: Vec<usize> = net.alive().into_iter().filter(|n| !there.contains(n)).collect();
        there.iter().for_each(|n| net.network_down(*n));
        net.run(Duration::from_secs(60));
        for (n, tree) in here.iter().flat_map(|n| TreeId::ALL.into_iter().skip(1).map(move |tree| (*n, tree))) {
            assert_ne!(net.text_in(tree, n), "-", "{n} of {count}: {}", net.picture());
        }
        let (one, other) = (here[0], here[here.len() - 1]);
        let found = net.lookup(one, Query::Node(net.id(other)));
        assert!(matches!(found, LookupResult::Found(_)), "{found:?}");
        there.iter().for_each(|n| net.network_back(*n));
        net.run(Duration::from_secs(60));
        net.assert_whole();
    }
}
