//! Place adoption: who dies renumbers nobody in the first tree.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;
use std::collections::BTreeMap;

use common::Net;
use overlay::address::{Address, FIRST_TREE};
use overlay::config::{Config, Only, Timing};
use overlay::wire::link::Frame;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Nodes in a row and some more, so that the first tree is deep: each may link to the two before it.
fn deep(seed: u8, count: usize) -> Net {
    let mut net = Net::new(seed);
    net.add(Config { extra_links: 0, ..Config::default() });
    for n in 1..count {
        let through: Vec<usize> = [n.checked_sub(1), n.checked_sub(2)].into_iter().flatten().collect();
        let config = Config { extra_links: 0, ..net.joining(&through) };
        net.add(config);
        net.run(Duration::from_millis(600));
    }
    net.run(secs(20));
    net
}

fn addresses(net: &Net) -> BTreeMap<usize, Address> {
    let of = |n: usize| Some((n, net.node(n).place()?.addresses.in_tree(FIRST_TREE)?.clone()));
    net.alive().into_iter().filter_map(of).collect()
}

/// A node with children in the first tree that is not the root.
fn inner(net: &Net) -> usize {
    let parent = |n: &usize| net.node(*n).parent().map(|id| net.index(id)).filter(|parent| *parent != 0);
    net.alive().iter().find_map(parent).unwrap()
}

/// Everybody who lives has the address that it had, and is reached.
fn assert_unchanged(net: &mut Net, before: &BTreeMap<usize, Address>) {
    let now = addresses(net);
    for n in net.alive() {
        assert!(now.contains_key(&n) && now.get(&n) == before.get(&n), "node {n}\n{}", net.picture());
    }
    net.assert_all_pairs_route();
}

#[test]
fn the_death_of_an_inner_node_renumbers_nobody() {
    for seed in 0..6 {
        let mut net = deep(seed, 14);
        let before = addresses(&net);
        let victim = inner(&net);
        net.kill(victim, seed % 2 == 0);
        net.run(secs(25));
        assert_unchanged(&mut net, &before);
    }
}

#[test]
fn a_holder_that_returns_gets_its_place_and_its_children_back() {
    for seed in 0..4 {
        let mut net = deep(seed, 14);
        let before = addresses(&net);
        let victim = inner(&net);
        net.kill(victim, true);
        net.run(secs(25));
        net.start(victim, Config { extra_links: 0, ..Config::default() });
        net.run(secs(40));
        assert_unchanged(&mut net, &before);
    }
}

#[test]
fn an_ancestor_stands_in_for_several_dead_in_a_row() {
    let mut net = deep(3, 16);
    let before = addresses(&net);
    let first = inner(&net);
    let child = net.alive().into_iter().find(|n| net.node(*n).parent() == Some(net.id(first)));
    net.kill(first, false);
    net.kill(child.unwrap(), false);
    net.run(secs(30));
    assert_unchanged(&mut net, &before);
}

#[test]
fn the_place_of_one_that_stays_away_is_given_up_with_its_lease() {
    let mut net = deep(1, 14);
    let before = addresses(&net);
    let victim = inner(&net);
    let gone = before[&victim].clone();
    net.kill(victim, false);
    net.run(secs(30));
    let below = |net: &Net| addresses(net).values().filter(|address| gone.is_prefix_of(address)).count();
    assert!(below(&net) > 0, "{}", net.picture());
    net.run(secs(30 * 60));
    assert_eq!(below(&net), 0, "{}", net.picture());
    assert_eq!(addresses(&net).len(), 13);
    net.assert_all_pairs_route();
}

#[test]
fn the_death_of_the_founder_renumbers_nobody_and_its_return_neither() {
    for seed in 0..5 {
        let mut net = if seed % 2 == 0 { deep(seed, 14) } else { Net::grow(seed, 16) };
        let before = addresses(&net);
        net.kill(0, seed % 2 == 0);
        net.run(secs(40));
        assert_unchanged(&mut net, &before);
        for n in net.alive() {
            net.assert_resolvable(n);
        }
        net.start(0, Config { extra_links: 0, ..Config::default() });
        net.run(secs(60));
        assert_unchanged(&mut net, &before);
    }
}

#[test]
fn the_founder_dies_with_its_first_heirs_and_nobody_else_is_renumbered() {
    for seed in 1..5 {
        let mut net = Net::grow(seed, 18);
        let before = addresses(&net);
        for n in [0, 1, 2] {
            net.kill(n, true);
        }
        net.run(secs(60));
        assert_unchanged(&mut net, &before);
    }
}

/// Five children of the founder, 4 with a child 6, 5 with a child 7 and that one with a child 8, which has a link to 6 beside. When the founder, its first
/// three heirs and 7 are dead, 4 minds the root after 17 s, and 6 tells 8 of that before 5, which is to adopt 8, is adopted itself.
#[test]
fn an_orphan_waits_for_an_ancestor_that_waits_for_a_late_heir() {
    for seed in 0..3 {
        let mut net = sparse(seed, &[0, 0, 0, 0, 0, 4, 5, 7]);
        let (beside, address) = (net.id(6), common::address(6));
        net.with(8, |overlay, now| overlay.seek_link(beside, &[address], now));
        net.run(secs(20));
        let before = addresses(&net);
        for n in [0, 1, 2, 3, 7] {
            net.kill(n, true);
        }
        net.run(secs(60));
        assert_unchanged(&mut net, &before);
    }
}

/// Three children of the founder, 2 with a child 4, 3 with a child 5, and these two have a link. When the founder and its first two heirs are dead, 4 has no
/// ancestor left; 3 minds the root after 14 s, just when 4 would ask 5 for another place.
#[test]
fn an_orphan_without_ancestors_waits_for_a_late_heir() {
    for seed in 0..10 {
        let mut net = sparse(seed, &[0, 0, 0, 2, 3]);
        let (beside, address) = (net.id(5), common::address(5));
        net.with(4, |overlay, now| overlay.seek_link(beside, &[address], now));
        net.run(secs(20));
        let before = addresses(&net);
        for n in [0, 1, 2] {
            net.kill(n, true);
        }
        net.run(secs(60));
        assert_unchanged(&mut net, &before);
    }
}

/// The founder has more children than its first heir otherwise takes links.
#[test]
fn an_heir_has_room_for_all_of_a_dead_founders_children() {
    let children = 16;
    let mut net = Net::new(1);
    net.add(Config { extra_links: 0, ..Config::default() });
    for n in 1..=children {
        let config = Config { extra_links: 0, max_links: 6, ..net.joining(&[0, n - 1]) };
        net.add(config);
        net.run(secs(1));
    }
    net.run(secs(20));
    let before = addresses(&net);
    assert_eq!(before.values().filter(|address| address.depth() == 1).count(), children, "{}", net.picture());
    net.kill(0, true);
    net.run(secs(60));
    assert_unchanged(&mut net, &before);
}

#[test]
fn the_deaths_of_the_founder_and_of_its_first_heir_renumber_nobody() {
    let mut net = Net::grow(4, 18);
    let before = addresses(&net);
    net.kill(0, true);
    net.run(secs(40));
    let minding = net.index(net.node(5).root(net.now).unwrap().0);
    net.kill(minding, true);
    net.run(secs(60));
    assert_unchanged(&mut net, &before);
}

/// A founder, and one node after the other, with a link to that through which it joined and to nobody else.
fn sparse(seed: u8, through: &[usize]) -> Net {
    let mut net = Net::new(seed);
    net.add(Config { extra_links: 0, ..Config::default() });
    for other in through {
        let config = Config { extra_links: 0, ..net.joining(&[*other]) };
        net.add(config);
        net.run(secs(2));
    }
    net
}

/// The founder, 1 below it and 2 below that.
fn below_one_with_a_link_to_the_founder() -> Net {
    let mut net = sparse(1, &[0, 1]);
    let (founder, address) = (net.id(0), common::address(0));
    net.with(2, |overlay, now| overlay.seek_link(founder, &[address], now));
    net.run(secs(20));
    assert_eq!(net.node(2).parent(), Some(net.id(1)), "{}", net.picture());
    net
}

/// 2 is below 1, which comes back with links to the founder only: the founder, who has it, cannot stand in for it.
#[test]
fn an_orphan_whose_parent_lives_elsewhere_gets_another_place() {
    let mut net = below_one_with_a_link_to_the_founder();
    let founder = net.id(0);
    net.kill(1, true);
    net.start(1, Config { extra_links: 0, only: vec![Only::Id(founder)], ..Config::default() });
    net.run(secs(25));
    for n in [1, 2] {
        assert_eq!(net.node(n).parent(), Some(founder), "{}", net.picture());
    }
    net.assert_whole();
    net.assert_all_pairs_route();
}

/// 2 is below 1, which leaves: the founder, to which it has a link, has no place of 1 to hold.
#[test]
fn who_was_below_one_that_leaves_gets_another_place() {
    let mut net = below_one_with_a_link_to_the_founder();
    net.with(1, |overlay, now| overlay.leave(now));
    net.run(Duration::from_millis(20));
    net.kill(1, true);
    net.run(secs(3));
    assert_eq!(net.node(2).parent(), Some(net.id(0)), "{}", net.picture());
    net.run(secs(10));
    net.assert_whole();
    net.assert_all_pairs_route();
}

/// The founder is back where its heir does not reach it, and has given the title to others: who stood in for it without a title gives its children back all the same.
/// Whoever came to one of their slots later would be at an address that another one has.
#[test]
fn an_heir_that_loses_its_title_gives_the_founder_its_children_back() {
    const CHILDREN: usize = 12;
    for seed in 1..3 {
        let mut net = sparse(seed, &[0; CHILDREN]);
        net.run(secs(20));
        net.network_down(0);
        net.run(secs(30));
        let heir = net.index(net.node(9).root(net.now).unwrap().0);
        assert!(net.alive().iter().filter(|n| net.node(**n).parent() == Some(net.id(heir))).count() == CHILDREN - 1);
        let others = (1..=CHILDREN + 1).map(|n| Only::Id(common::identity(n).id())).collect();
        net.with(heir, |overlay, now| overlay.set_links(others, 0, now));
        net.hears(heir, Frame::Titles(titles_without_heirs(&net)).encode()).unwrap();
        net.network_back(0);
        // It has a way to the founder, and so a place of its own, before its children's patience is over.
        net.add(net.joining(&[0, heir]));
        net.run(secs(120));
        for n in (1..=CHILDREN).filter(|n| *n != heir) {
            assert_eq!(net.node(n).parent(), Some(net.id(0)), "{n}: {}", net.picture());
        }
        assert!(net.node(heir).parent().is_some_and(|parent| parent != net.id(0)), "{}", net.picture());
        net.run(secs(12 * 60));
        for _ in 0..CHILDREN {
            net.add(Config { extra_links: 0, ..net.joining(&[0]) });
            net.run(secs(1));
        }
        net.run(secs(10));
        net.assert_whole();
    }
}

/// As the founder signs them, one after the latest: nobody is to hold a root but the founder, for all trees.
fn titles_without_heirs(net: &Net) -> Vec<u8> {
    let founder = common::identity(0);
    let mut body = net.node(0).overlay_id().unwrap().as_bytes().to_vec();
    body.extend(net.now.wall.as_unix_micros().to_be_bytes());
    body.push(1);
    body.extend(founder.id().as_bytes());
    body.extend([0, 4, 0, 1, 0, 1, 0, 1, 0]);
    let signature = founder.sign(&[b"muses-titles-v1\0".as_slice(), &body].concat());
    body.extend(signature);
    body
}

/// With its lease the place of a dead node is given up: of those who had theirs below it one after the other looks for another, with as long between
/// as that takes, and not all at once.
#[test]
fn one_orphan_at_a_time_leaves_the_place_of_the_dead() {
    let lease = Timing::default().lease;
    let mut net = sparse(1, &[0, 1, 1, 1]);
    net.run(secs(20));
    let before = addresses(&net);
    net.kill(1, true);
    let lost = |net: &Net| net.node(0).neighbours().is_empty();
    assert!(net.run_until(secs(1), lost), "{}", net.picture());
    let has_left = |net: &Net, n: usize| net.node(n).parent().is_none() || addresses(net).get(&n) != before.get(&n);
    let left = |net: &Net| [2, 3, 4].into_iter().filter(|n| has_left(net, *n)).count();
    net.run(lease - secs(1));
    assert_eq!(left(&net), 0, "{}", net.picture());
    for gone in 1..=3 {
        net.run(secs(2));
        assert_eq!(left(&net), gone, "{}", net.picture());
        net.run(secs(12));
        assert_eq!(left(&net), gone, "{}", net.picture());
    }
    // Its slot is free then, for the first who asks.
    net.run(secs(30));
    assert!(addresses(&net).values().any(|address| Some(address) == before.get(&1)), "{}", net.picture());
    net.assert_whole();
}
