//! What a node knows of where others listen stays good, whatever its parent tells it.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::{Net, identity};
use overlay::address::FIRST_TREE;
use overlay::config::{Config, Only};
use overlay::id::NodeId;
use overlay::wire::link::{Contact, Frame, Heartbeat, Line, MAX_ADDRESSES, MAX_ANCESTORS};

const PARENT: usize = 1;
const NODE: usize = 2;
const BETWEEN: usize = 3;
const FRIEND: usize = 4;

/// A heartbeat of a parent that makes up as many ancestors as there may be, others for each `round`.
fn made_up(round: usize) -> Frame {
    let address =
        |n: usize| format!("/ip4/10.77.{round}.{n}/tcp/4001").parse::<multiaddr::Multiaddr>().unwrap().to_vec();
    let contact = |n: usize| Contact {
        id: NodeId::from_bytes([u8::try_from(round * MAX_ANCESTORS + n).unwrap(); 32]),
        addresses: (0..MAX_ADDRESSES).map(|m| address(n * MAX_ADDRESSES + m)).collect(),
    };
    let line = Line { tree: FIRST_TREE, ancestors: (0..MAX_ANCESTORS).map(contact).collect(), size: 4 };
    Frame::Heartbeat(Heartbeat { lines: vec![line], sizes: [4; 4] })
}

#[test]
fn made_up_ancestors_do_not_keep_a_neighbours_address_out() {
    let only = |ids: &[usize]| ids.iter().map(|n| Only::Id(identity(*n).id())).collect();
    let mut net = Net::new(1);
    net.add(Config { extra_links: 0, trees: 1, ..Config::default() });
    net.add(Config { extra_links: 0, ..net.joining(&[0]) });
    // It has no business with the founder, which lives on.
    net.add(Config { extra_links: 0, only: only(&[PARENT, FRIEND]), ..net.joining(&[PARENT]) });
    // No heir, of which parents tell.
    net.add(Config { extra_links: 0, ..net.joining(&[0]) });
    net.run(Duration::from_secs(2));
    net.add(Config { extra_links: 0, ..net.joining(&[BETWEEN]) });
    net.run(Duration::from_secs(10));
    assert_eq!(net.node(NODE).parent(), Some(net.id(PARENT)));
    for round in 0..4 {
        net.hears_from(NODE, PARENT, made_up(round).encode()).unwrap();
    }
    let (node, address) = (net.id(NODE), common::address(NODE));
    net.with(FRIEND, |overlay, now| overlay.seek_link(node, &[address], now));
    net.run(Duration::from_secs(5));
    assert_eq!(net.node(NODE).neighbours().len(), 2, "{}", net.picture());

    net.kill(FRIEND, true);
    net.run(Duration::from_secs(5));
    net.kill(PARENT, true);
    // It comes back knowing nobody of these.
    net.nodes[FRIEND].disk.clear();
    let config = Config { extra_links: 0, ..net.joining(&[BETWEEN]) };
    net.start(FRIEND, config);
    net.run(Duration::from_secs(60));
    assert!(net.attached(NODE), "{}", net.picture());
    assert_eq!(net.node(NODE).neighbours()[0].id, net.id(FRIEND));
}
