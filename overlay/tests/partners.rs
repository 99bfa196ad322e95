//! Links with those with whom the layer above talks.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use multiaddr::Multiaddr;

fn are_neighbours(net: &Net, a: usize, b: usize) -> bool {
    net.node(a).neighbours().iter().any(|neighbour| neighbour.id == net.id(b))
}

/// Two nodes without a link between them.
fn strangers(net: &Net, count: usize) -> (usize, usize) {
    let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
    pairs.into_iter().find(|(a, b)| !are_neighbours(net, *a, *b)).unwrap()
}

#[test]
fn a_link_is_made_to_a_peer_that_is_sought() {
    let mut net = Net::grow(5, 20);
    let (a, b) = strangers(&net, 20);
    let (peer, address) = (net.id(b), net.nodes[b].address.clone());
    net.with(a, |overlay, now| overlay.seek_link(peer, &[address], now));
    net.run(Duration::from_secs(2));
    assert!(are_neighbours(&net, a, b));
    net.assert_whole();
}

#[test]
fn nobody_is_sought_for_long() {
    let mut net = Net::grow(6, 20);
    let (seeker, absent) = (3, common::identity(99).id());
    let nobody: Multiaddr = "/ip4/10.99.0.1/tcp/1".parse().unwrap();
    let before = net.nodes[seeker].dials;
    net.with(seeker, |overlay, now| overlay.seek_link(absent, &[nobody], now));
    net.run(Duration::from_secs(20));
    let tried = net.nodes[seeker].dials;
    assert!(tried > before + 1, "it was not tried again");
    net.run(Duration::from_secs(120));
    assert_eq!(net.nodes[seeker].dials, tried, "it is tried still");
}
