//! Room beyond the usual number of links is for orphans.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::{Net, identity};
use overlay::config::{Config, Only};

const HUB: usize = 0;
const LOST: usize = 1;
const ORPHAN: usize = 2;
const MOST: usize = 8;
/// A link stays for so long beyond that number.
const STAYS: Duration = Duration::from_secs(5);

fn only(ids: &[usize]) -> Vec<Only> {
    ids.iter().map(|n| Only::Id(identity(*n).id())).collect()
}

/// Neighbours of the hub that have been there for a while.
fn staying(net: &Net) -> usize {
    let all = net.node(HUB).neighbours();
    all.iter().filter(|neighbour| net.now.instant.since(neighbour.up_at) > STAYS).count()
}

#[test]
fn a_lost_child_makes_room_for_its_children_and_for_nobody_else() {
    let mut net = Net::new(1);
    net.add(Config { extra_links: 0, max_links: MOST, ..Config::default() });
    let config =
        Config { joins: vec![common::address(HUB)], only: only(&[HUB, ORPHAN]), extra_links: 0, ..Config::default() };
    net.add(config);
    net.run(Duration::from_secs(2));
    let config =
        Config { joins: vec![common::address(LOST)], only: only(&[HUB, LOST]), extra_links: 0, ..Config::default() };
    net.add(config);
    net.run(Duration::from_secs(10));
    assert_eq!(net.node(ORPHAN).parent(), Some(net.id(LOST)), "{}", net.picture());
    let place = net.text(ORPHAN);
    net.kill(LOST, true);
    for _ in 0..40 {
        let config = Config { only: only(&[HUB]), ..net.joining(&[HUB]) };
        net.add(config);
    }
    for _ in 0..60 {
        net.run(Duration::from_secs(1));
        assert!(staying(&net) <= MOST + 1, "{} links", staying(&net));
    }
    assert_eq!(net.node(ORPHAN).parent(), Some(net.id(HUB)), "{}", net.picture());
    assert_eq!(net.text(ORPHAN), place);
}
