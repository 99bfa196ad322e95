//! Nodes with more links than a vertex has places.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use overlay::address::{FIRST_TREE, TreeId};
use overlay::config::{Config, Only};
use overlay::grant::MIN_OPEN_SLOTS;
use overlay::standing::Standing;

const HUB: usize = 0;

/// A node that links to these alone.
fn joins(net: &mut Net, through: &[usize]) -> usize {
    let only = through.iter().map(|n| Only::Id(net.id(*n))).collect();
    let config = Config { only, ..net.joining(through) };
    let node = net.add(config);
    net.run(Duration::from_millis(400));
    node
}

/// A hub whose open places are taken, and a node that links to whom it likes.
fn crowded(seed: u8) -> (Net, usize) {
    let mut net = Net::new(seed);
    net.add(Config { max_links: 1000, ..Config::default() });
    let friend = net.add(net.joining(&[HUB]));
    for _ in 0..MIN_OPEN_SLOTS + 20 {
        let node = joins(&mut net, &[HUB]);
        assert_eq!(parent(&net, FIRST_TREE, node), Some(HUB), "{node} has no other way");
    }
    net.run(Duration::from_secs(10));
    (net, friend)
}

fn parent(net: &Net, tree: TreeId, node: usize) -> Option<usize> {
    net.node(node).parent_in(tree).map(|id| net.index(id))
}

#[test]
fn who_has_another_way_leaves_the_hub_to_who_has_none() {
    let (mut net, friend) = crowded(1);
    let both: Vec<usize> = (0..3).map(|_| joins(&mut net, &[HUB, friend])).collect();
    net.run(Duration::from_secs(10));
    for &node in &both {
        assert_eq!(parent(&net, FIRST_TREE, node), Some(friend), "{node}");
    }
    // When that way is gone, the hub is the only one.
    net.kill(friend, true);
    net.run(Duration::from_secs(60));
    for &node in &both {
        assert!(net.attached(node), "{node}");
        assert_eq!(parent(&net, FIRST_TREE, node), Some(HUB), "{node}");
    }
}

/// The hub is asked again at once, and as the only way.
#[test]
fn who_always_refuses_keeps_nobody_out_of_a_crowded_hub() {
    let (mut net, friend) = crowded(2);
    net.refuser = Some(friend);
    let node = joins(&mut net, &[HUB, friend]);
    let whole = |net: &Net| TreeId::ALL.iter().all(|tree| parent(net, *tree, node) == Some(HUB));
    assert!(net.run_until(Duration::from_millis(600), whole), "{}", net.picture());
}

/// Who moves often gives places as the last resort only: whoever has a hub beside it is given one there.
#[test]
fn a_mover_is_not_another_way() {
    let (mut net, friend) = crowded(3);
    net.moves(friend, 1..=2);
    assert_eq!(net.node(friend).standing(), Standing::Mover);
    let node = joins(&mut net, &[HUB, friend]);
    let whole = |net: &Net| TreeId::ALL.iter().all(|tree| parent(net, *tree, node) == Some(HUB));
    assert!(net.run_until(Duration::from_secs(2), whole), "{}", net.picture());
    assert_eq!(net.node(node).neighbours().len(), 2);
}

/// Two parts after the founder's death, each with an heir that minds the root, and then one link between them, to a crowded hub. Who has that link
/// has a way to the lesser root already. Were that another way, the hub would refuse it, and the parts would stay two.
#[test]
fn the_way_to_a_lesser_root_is_not_another_way() {
    const FOUNDER: usize = 0;
    const CROWDED: usize = 1;
    const FRIEND: usize = 2;
    const CONTACT: usize = 3;
    let only = |others: &[usize]| others.iter().map(|n| Only::Id(common::identity(*n).id())).collect::<Vec<_>>();
    let mut net = Net::new(1);
    net.add(Config { trees: 1, ..Config::default() });
    net.add(Config { max_links: 1000, ..net.joining(&[FOUNDER]) });
    net.run(Duration::from_secs(1));
    net.add(Config { only: only(&[FOUNDER, CONTACT]), ..net.joining(&[FOUNDER]) });
    net.run(Duration::from_secs(1));
    net.add(Config { only: only(&[FRIEND]), ..net.joining(&[FRIEND]) });
    for _ in 0..MIN_OPEN_SLOTS {
        let node = joins(&mut net, &[CROWDED]);
        assert_eq!(parent(&net, FIRST_TREE, node), Some(CROWDED));
    }
    net.run(Duration::from_secs(10));
    net.kill(FOUNDER, true);
    net.run(Duration::from_secs(60));
    let roots = |net: &Net| [CROWDED, FRIEND, CONTACT].map(|n| net.node(n).root_of(FIRST_TREE).map(|id| net.index(id)));
    assert_eq!(roots(&net), [Some(CROWDED), Some(FRIEND), Some(FRIEND)], "{}", net.picture());

    let hub = net.id(CROWDED);
    net.with(CONTACT, |overlay, now| overlay.set_links(only(&[FRIEND, CROWDED]), 0, now));
    net.with(CONTACT, |overlay, now| overlay.handle_peer_found(&common::address(CROWDED), Some(hub), now));
    net.run(Duration::from_secs(30));
    assert_eq!(roots(&net), [Some(CROWDED); 3], "{}", net.picture());
    assert_eq!(parent(&net, FIRST_TREE, CONTACT), Some(CROWDED));
    net.assert_whole();
}
