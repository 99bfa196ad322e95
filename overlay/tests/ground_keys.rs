//! Roots are named by the founder, never elected by their keys: whoever grinds a key captures none.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use overlay::address::TreeId;
use overlay::id::{Identity, NodeId};

/// Keys that the attacker tries; GROUND_KEYS says another number.
const KEYS: u64 = 20_000;
/// The least and the greatest of them join, so many of each.
const CHOSEN: usize = 4;

#[allow(clippy::disallowed_methods)] // a test reads how much it shall do
fn keys() -> u64 {
    std::env::var("GROUND_KEYS").ok().and_then(|text| text.parse().ok()).unwrap_or(KEYS)
}

fn ground(number: u64) -> Identity {
    let mut secret = [0xa7; 32];
    secret[..8].copy_from_slice(&number.to_le_bytes());
    Identity::from_secret(&secret)
}

#[test]
fn ground_keys_capture_no_root() {
    let mut all: Vec<(NodeId, u64)> = (0..keys()).map(|number| (ground(number).id(), number)).collect();
    all.sort_unstable();
    let extremes = all.iter().take(CHOSEN).chain(all.iter().rev().take(CHOSEN));
    let mut net = Net::grow(1, 16);
    let attackers: Vec<usize> = extremes
        .map(|(_, number)| {
            // They link to the founder and to whoever else they like.
            let config = net.joining(&[0, 1, 2]);
            let attacker = net.add_as(ground(*number), config);
            net.run(Duration::from_millis(300));
            attacker
        })
        .collect();
    let own: Vec<NodeId> = attackers.iter().map(|attacker| net.id(*attacker)).collect();
    let assert_no_root = |net: &Net| {
        for n in net.alive() {
            for tree in TreeId::ALL {
                let root = net.node(n).root_of(tree);
                assert!(root.is_none_or(|root| !own.contains(&root)), "{tree:?}\n{}", net.picture());
            }
        }
    };
    net.run(Duration::from_secs(90));
    assert_no_root(&net);
    // Nor when the founder dies, and then one root after the other.
    for tree in TreeId::ALL {
        let root = net.node(net.alive()[0]).root_of(tree).unwrap();
        let victim = net.index(root);
        net.kill(victim, true);
        net.run(Duration::from_secs(90));
        assert_no_root(&net);
    }
    net.assert_whole();
}
