//! Who moves is found where it was: former parents send on what still comes.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use multiaddr::Multiaddr;
use overlay::address::{Place, TreeId};
use overlay::config::{Config, Only};
use overlay::event::Event;
use overlay::overlay::Outgoing;

/// The mover, which is far from its neighbours from now on, and its old place.
fn moved(net: &mut Net, away: Duration) -> (usize, Place) {
    let mover = net.alive().len() - 1;
    let old = net.place(mover);
    let near: Vec<_> = net.node(mover).neighbours().iter().map(|peer| peer.id).collect();
    let far = net.alive().into_iter().filter(|n| *n != mover && !near.contains(&net.id(*n)));
    let far: Vec<usize> = far.collect();
    assert!(far.len() >= 2, "{}", net.picture());
    net.network_down(mover);
    net.run(away);
    let only: Vec<Only> = far.iter().map(|n| Only::Id(net.id(*n))).collect();
    net.with(mover, |overlay, now| overlay.set_links(only, 2, now));
    let elsewhere: Multiaddr = "/ip4/10.9.9.9/tcp/4001".parse().unwrap();
    net.network_up(mover, elsewhere);
    (mover, old)
}

/// Whether a packet for `place` arrives at `to`, and over how many links.
fn arrives(net: &mut Net, from: usize, to: usize, place: &Place) -> Option<u16> {
    let payload = format!("{from} {:?}", net.now.instant).into_bytes();
    let outgoing = Outgoing { to: net.id(to), place: place.clone(), flow: 1, payload: payload.clone() };
    net.with(from, |overlay, now| overlay.send(outgoing, now)).ok()?;
    let got = |event: &Event| match event {
        Event::Received(delivery) if delivery.payload == payload => Some(delivery.hops),
        _ => None,
    };
    net.run_until(Duration::from_secs(1), |net| net.heard(to, |event| got(event).is_some()));
    net.told(to, got)
}

#[test]
fn what_is_sent_to_the_old_place_arrives_at_the_new_one() {
    for seed in 1..6 {
        let mut net = Net::grow(seed, 24);
        let (mover, old) = moved(&mut net, Duration::from_secs(20));
        net.run(Duration::from_secs(8));
        let new = net.place(mover);
        assert!(TreeId::ALL.iter().all(|tree| new.addresses.in_tree(*tree) != old.addresses.in_tree(*tree)));
        for from in net.alive().into_iter().filter(|n| *n != mover) {
            let hops = arrives(&mut net, from, mover, &old);
            assert!(hops.is_some_and(|hops| hops < 20), "seed {seed}, from {from}: {hops:?}\n{}", net.picture());
        }
    }
}

#[test]
fn the_word_is_kept_for_the_lease_and_not_longer() {
    let mut net = Net::grow(2, 24);
    let (mover, old) = moved(&mut net, Duration::from_secs(20));
    net.run(Duration::from_secs(9 * 60));
    let from = (0..24).find(|n| *n != mover && net.node(*n).neighbours().iter().all(|peer| peer.id != net.id(mover)));
    assert!(arrives(&mut net, from.unwrap(), mover, &old).is_some());
    net.run(Duration::from_secs(20 * 60));
    assert!(arrives(&mut net, from.unwrap(), mover, &old).is_none());
    let new = net.place(mover);
    assert!(arrives(&mut net, from.unwrap(), mover, &new).is_some());
}

#[test]
fn where_no_neighbour_answers_whom_the_local_network_announces_is_linked_before_the_old_links_are_dead() {
    let mut net = Net::grow(4, 12);
    let mover = net.alive().len() - 1;
    let near: Vec<_> = net.node(mover).neighbours().iter().map(|peer| peer.id).collect();
    let stranger = (0..mover).find(|n| !near.contains(&net.id(*n))).unwrap();
    // Where nobody but the local network says that it is.
    let address: Multiaddr = "/ip4/10.8.8.8/tcp/4001".parse().unwrap();
    net.nodes[stranger].address = address.clone();
    let id = net.id(stranger);
    let linked = |net: &Net| net.node(mover).neighbours().iter().any(|peer| peer.id == id);
    net.network_down(mover);
    net.with(mover, |overlay, now| overlay.set_links(vec![Only::Id(id)], 0, now));
    net.network_up(mover, "/ip4/10.9.9.9/tcp/4001".parse().unwrap());
    assert!(net.run_until(Duration::from_millis(500), |net| net.node(mover).is_cut_off(net.now)), "{}", net.picture());
    net.with(mover, |overlay, now| overlay.handle_announced(&address, now));
    assert!(net.run_until(Duration::from_millis(300), linked), "{}", net.picture());
}

#[test]
fn links_are_copied_to_another_interface_while_the_old_ones_serve() {
    let mut net = Net::grow(3, 12);
    let n = net.alive().len() - 1;
    let place = net.place(n).addresses;
    let neighbours = |net: &Net| -> Vec<_> { net.node(n).neighbours().iter().map(|peer| peer.id).collect() };
    let (before, events) = (neighbours(&net), net.nodes[n].events.len());
    net.nodes[n].address = "/ip4/10.9.9.9/tcp/4001".parse().unwrap();
    let own = net.nodes[n].address.clone();
    net.with(n, |overlay, now| overlay.handle_listen_addresses(vec![own], now));
    net.close_takes = Duration::from_micros(100);
    let copied_at = net.now.instant;
    let dialled = net.with(n, |overlay, now| overlay.copy_links(now));
    assert_eq!((dialled, net.node(n).copied_links()), (before.len(), 0));
    let done = net.run_until(Duration::from_secs(1), |net| net.node(n).copied_links() == dialled);
    assert!(done, "{} of {dialled}", net.node(n).copied_links());
    net.run(Duration::from_secs(5));
    assert_eq!((neighbours(&net), net.place(n).addresses), (before, place));
    let moved = |event: &Event| matches!(event, Event::Detached | Event::PlaceChanged(_) | Event::Joined { .. });
    assert!(!net.nodes[n].events[events..].iter().any(|(_, event)| moved(event)));
    // However late the other end's hello is: nobody closes the old link before both know the new one.
    let lost = |event: &Event| matches!(event, Event::LinkLost { .. });
    let told =
        net.nodes.iter().flat_map(|node| &node.events).filter(|(at, event)| *at >= copied_at && lost(event)).count();
    assert_eq!(told, 0);
    net.assert_whole();
}

/// It waits for its old parent, for its child's sake; but not for as long as somebody opens links to it.
#[test]
fn a_mover_whose_parent_is_gone_has_a_place_again_however_many_links_it_gets() {
    const MOVER: usize = 2;
    let mut net = Net::new(1);
    for through in [None, Some(0), Some(1), Some(MOVER), Some(0), Some(0)] {
        let config = through.map_or_else(Config::default, |n| net.joining(&[n]));
        net.add(Config { extra_links: 0, ..config });
        net.run(Duration::from_secs(2));
    }
    net.run(Duration::from_secs(20));
    let parents = [MOVER, MOVER + 1].map(|n| net.node(n).parent());
    assert_eq!(parents, [Some(net.id(1)), Some(net.id(MOVER))], "{}", net.picture());
    net.network_down(MOVER);
    net.kill(1, false);
    net.run(Duration::from_secs(8));
    let elsewhere: Multiaddr = "/ip4/10.9.9.9/tcp/4001".parse().unwrap();
    net.network_up(MOVER, elsewhere);
    for _ in 0..10 {
        net.add(Config { extra_links: 0, ..net.joining(&[MOVER]) });
        net.run(Duration::from_secs(2));
    }
    assert!(net.node(MOVER).parent().is_some(), "{}", net.picture());
    net.run(Duration::from_secs(20));
    net.assert_whole();
}
