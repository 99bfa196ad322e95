//! Many overlays together: joining, routing, looking up, losing nodes, moving.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::{Net, address};
use multiaddr::Multiaddr;
use overlay::address::TreeId;
use overlay::config::Config;
use overlay::dht::LookupResult;
use overlay::event::Event;
use overlay::io::CloseReason;
use overlay::overlay::Outgoing;
use overlay::record::Query;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn thirty_nodes_join_and_all_pairs_route() {
    let mut net = Net::grow(1, 30);
    net.assert_whole();
    net.assert_all_pairs_route();
}

#[test]
fn every_node_is_found_from_every_node() {
    let mut net = Net::grow(2, 16);
    for n in net.alive() {
        net.assert_resolvable(n);
    }
    net.with(3, |overlay, now| overlay.claim_name("alice".parse().unwrap(), now));
    net.run(secs(2));
    let claim = net.lookup(9, Query::Name("alice".parse().unwrap()));
    let LookupResult::Found(record) = claim else { panic!("{claim:?}") };
    assert_eq!(record.claim().unwrap().id, net.id(3));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let mut net = Net::grow(seed, 8);
        net.kill(1, false);
        net.run(secs(30));
        net.digest()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_new_certificate_is_found_without_a_move() {
    let mut net = Net::grow(3, 6);
    net.with(4, |overlay, now| overlay.publish_node(vec![8; 90], now));
    net.run(secs(2));
    let LookupResult::Found(record) = net.lookup(2, Query::Node(net.id(4))) else { panic!("not found") };
    assert_eq!(record.node().unwrap().static_cert, [8; 90]);
    net.assert_all_pairs_route();
}

#[test]
fn a_dead_parent_is_replaced() {
    for reset in [true, false] {
        let mut net = Net::grow(3, 20);
        // The shallowest parent is taken: of so few nodes all are below the root of the first tree.
        let parent =
            |n: &usize| TreeId::ALL.iter().find_map(|tree| net.node(*n).parent_in(*tree).filter(|id| *id != net.id(0)));
        let victim = net.alive().iter().find_map(parent).map(|id| net.index(id)).unwrap();
        net.kill(victim, reset);
        net.run(secs(30));
        net.assert_whole();
        net.assert_all_pairs_route();
    }
}

#[test]
fn an_heir_takes_over_and_the_root_comes_back() {
    for reset in [true, false] {
        let mut net = Net::grow(4, 12);
        net.kill(0, reset);
        net.run(secs(60));
        net.assert_whole();
        net.assert_all_pairs_route();
        let acting = net.node(5).root(net.now).unwrap().0;
        assert_ne!(acting, net.id(0));

        net.start(0, Config::default());
        net.run(secs(40));
        net.assert_whole();
        for n in net.alive() {
            assert_eq!(net.node(n).root(net.now).unwrap().0, net.id(0), "{}", net.picture());
        }
        net.assert_all_pairs_route();
    }
}

#[test]
fn a_mover_has_a_place_again_at_once() {
    let mut net = Net::grow(6, 12);
    let mover = 1;
    net.network_down(mover);
    net.run(secs(15));
    let elsewhere: Multiaddr = "/ip4/10.9.9.9/tcp/4001".parse().unwrap();
    net.network_up(mover, elsewhere);
    let back = net.now.instant;
    assert!(net.run_until(secs(2), |net| net.attached(mover)), "{}", net.picture());
    let took = net.now.instant.since(back);
    assert!(took < Duration::from_millis(200), "{took:?}");
    net.run(secs(3));
    net.assert_resolvable(mover);
    net.run(secs(20));
    net.assert_whole();
    net.assert_all_pairs_route();
}

#[test]
fn only_lists_make_a_chain() {
    let mut net = Net::new(7);
    let only = |n: usize| -> Vec<_> {
        let near = [n.checked_sub(1), Some(n + 1)].into_iter().flatten();
        near.map(|k| Multiaddr::from_iter(address(k).iter().take(1)).to_string().parse().unwrap()).collect()
    };
    for n in 0..6 {
        let joins = if n == 0 { vec![] } else { vec![address(n - 1)] };
        net.add(Config { only: only(n), joins, ..Config::default() });
        net.run(secs(1));
    }
    net.run(secs(5));
    net.assert_whole();
    assert_eq!(net.deliver(0, 5).unwrap().hops, 5);
    assert_eq!(net.deliver(5, 0).unwrap().hops, 5);
    net.assert_all_pairs_route();
    net.assert_resolvable(5);
    let stranger = net.add(net.joining(&[3]));
    net.run(secs(5));
    assert!(!net.attached(stranger));
    let refused =
        |event: &Event| matches!(event, Event::Refused { reason: CloseReason::NotAllowed, by_peer: true, .. });
    assert!(net.heard(stranger, refused));
}

#[test]
fn another_overlay_is_refused_on_both_sides() {
    let mut net = Net::new(8);
    net.add(Config::default());
    let config = net.joining(&[0]);
    net.add(config);
    net.run(secs(2));
    let other = net.add(Config::default());
    let joined = net.add(net.joining(&[other]));
    net.run(secs(2));
    let overlay = net.node(other).overlay_id();
    let pinned = net.add(Config { expected: overlay, ..net.joining(&[0]) });
    net.run(secs(3));
    assert!(!net.attached(pinned));
    let wrong = |event: &Event| matches!(event, Event::WrongOverlay { .. });
    assert!(net.heard(0, wrong));
    assert!(net.heard(pinned, |event| matches!(event, Event::Refused { reason: CloseReason::WrongOverlay, .. })));
    // A member of one that is told to join the other too.
    net.kill(joined, true);
    net.start(joined, net.joining(&[0]));
    net.run(secs(3));
    assert!(net.heard(joined, wrong) && net.heard(0, wrong));
    // What was of no use is not gone back to at later starts.
    net.kill(joined, true);
    net.nodes[joined].events.clear();
    net.start(joined, Config::default());
    net.run(secs(10));
    assert!(net.attached(joined) && !net.heard(joined, wrong));
}

/// A node that was told whom to join, and does not reach them yet, is not taken by whoever dials it meanwhile.
#[test]
fn who_dials_a_node_that_joins_does_not_choose_its_overlay() {
    let mut net = Net::new(9);
    net.add(Config::default());
    net.run(secs(1));
    let meant = net.node(0).overlay_id();
    net.kill(0, true);
    let joining = net.add(net.joining(&[0]));
    let other = net.add(Config::default());
    net.add(net.joining(&[other, joining]));
    net.run(secs(20));
    assert_eq!(net.node(joining).overlay_id(), None);
    assert!(!net.heard(joining, |event| matches!(event, Event::WrongOverlay { .. })));
    net.start(0, Config::default());
    net.run(secs(30));
    assert_eq!(net.node(joining).overlay_id(), meant);
    assert!(net.attached(joining));
    let dialled = |event: &Event| matches!(event, Event::WrongOverlay { dialled: true, .. });
    assert!(!net.heard(joining, dialled), "a stranger's dial is no answer to ours");
}

#[test]
fn leaving_is_told_and_records_are_handed_over() {
    let mut net = Net::grow(9, 10);
    net.with(4, |overlay, now| overlay.leave(now));
    net.run(secs(1));
    assert!(net.heard(4, |event| *event == Event::Left));
    net.kill(4, true);
    net.run(secs(10));
    net.assert_whole();
    for n in net.alive() {
        net.assert_resolvable(n);
    }
}

#[test]
fn a_founder_whom_all_have_left_looks_for_records_at_itself() {
    for (seed, count) in [(1, 2), (2, 3), (3, 4), (4, 5)] {
        let mut net = Net::grow(seed, count);
        for n in 1..count {
            net.with(n, |overlay, now| overlay.leave(now));
            net.run(secs(1));
            net.kill(n, true);
        }
        net.run(secs(3));
        let nobody = net.lookup(0, Query::Name("nobody".parse().unwrap()));
        assert!(matches!(nobody, LookupResult::Missing), "{count} nodes: {nobody:?}");
        net.with(0, |overlay, now| overlay.claim_name("alice".parse().unwrap(), now));
        net.run(secs(1));
        assert!(net.heard(0, |event| matches!(event, Event::Stored(Query::Name(_)))), "{count} nodes");
        for _ in 1..count {
            let config = net.joining(&[0]);
            net.add(config);
        }
        net.run(secs(20));
        net.assert_whole();
    }
}

#[test]
fn ping_and_trace_show_the_way() {
    let mut net = Net::grow(10, 20);
    let (a, b) = (7, 18);
    let (to, place) = (net.id(b), net.place(b));
    let ping = net.with(a, |overlay, now| overlay.ping(to, place.clone(), now));
    let trace = net.with(a, |overlay, now| overlay.trace(to, place, now));
    net.run(secs(4));
    let hops = net.nodes[a].events.iter().find_map(|(_, event)| match event {
        Event::Echo { id, hops, from, .. } if *id == ping && *from == to => Some(*hops),
        _ => None,
    });
    let relays: Vec<_> = net.nodes[a]
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::TraceHop { id, n, hop, .. } if *id == trace => Some((*n, *hop)),
            _ => None,
        })
        .collect();
    let hops = usize::from(hops.unwrap());
    assert_eq!(relays.len() + 1, hops, "{relays:?}");
    assert!(net.heard(a, |event| matches!(event, Event::Echo { id, .. } if *id == trace)));
}

/// The experiment's shape: a chain of friends, and one of them who comes back elsewhere.
#[test]
fn a_mover_comes_back_to_other_friends_at_once() {
    let host = |address: Multiaddr| Multiaddr::from_iter(address.iter().take(1)).to_string().parse().unwrap();
    let second: Multiaddr = "/ip4/10.7.7.7/tcp/4001".parse().unwrap();
    let mut net = Net::new(11);
    let bob = 5;
    // 0 - 1 - 2 - 3 - 4, bob at 4 and then at 3.
    for n in 0..5_usize {
        let mut only: Vec<_> =
            [n.checked_sub(1), Some(n + 1)].into_iter().flatten().map(|k| host(address(k))).collect();
        if n == 3 {
            only.push(host(second.clone()));
        }
        let joins = n.checked_sub(1).map(address).into_iter().collect();
        net.add(Config { only, joins, ..Config::default() });
        net.run(secs(1));
    }
    let only = vec![host(address(4)), host(address(3))];
    net.add(Config { only, joins: vec![address(4), address(3)], ..Config::default() });
    net.run(secs(5));
    assert_eq!(net.node(bob).parent(), Some(net.id(4)));
    let before = net.place(bob);
    for round in 0..3_u64 {
        net.network_down(bob);
        net.run(secs(15) + Duration::from_millis(137 * round));
        assert!(!net.attached(bob));
        let (to, place) = (net.id(bob), before.clone());
        let ping = net.with(0, |overlay, now| overlay.ping(to, place, now));
        net.run(secs(1));
        let absent = Some(overlay::event::UnreachableReason::Absent);
        assert!(net.heard(0, |event| matches!(event, Event::EchoLost { id, why } if *id == ping && *why == absent)));
        net.network_up(bob, if round % 2 == 0 { second.clone() } else { address(bob) });
        let back = net.now.instant;
        assert!(net.run_until(secs(2), |net| net.attached(bob)), "{}", net.picture());
        let took = net.now.instant.since(back);
        assert!(took < Duration::from_millis(100), "{took:?}");
        let near = if round % 2 == 0 { 3 } else { 4 };
        assert_eq!(net.node(bob).parent(), Some(net.id(near)));
        assert!(net.deliver(bob, 0).is_some());
        assert!(net.deliver(0, bob).is_some());
        net.run(secs(1));
        net.assert_resolvable(bob);
    }
}

/// The two lanes of a link keep no order: its first packet may be there before the advert of its new place.
#[test]
fn a_movers_first_packet_can_be_answered_at_once() {
    let mut net = Net::grow(4, 2);
    for round in 0..30_u8 {
        net.network_down(1);
        net.run(secs(15));
        net.network_up(1, format!("/ip4/10.9.0.{round}/tcp/4001").parse().unwrap());
        assert!(net.run_until(secs(2), |net| net.attached(1)), "{}", net.picture());
        let first = net.deliver(1, 0).unwrap();
        let to = net.id(1);
        let answer = Outgoing { to, place: first.return_place, flow: 1, payload: b"answer".to_vec() };
        net.with(0, |overlay, now| overlay.send(answer, now)).unwrap();
        let heard = |event: &Event| matches!(event, Event::Received(delivery) if delivery.payload == b"answer");
        assert!(net.run_until(secs(1), |net| net.heard(1, heard)), "round {round}");
        net.nodes[1].events.clear();
    }
}

/// Two addresses of one neighbour are dialled at once, and for a moment the ends have different links in use.
#[test]
fn a_mover_is_back_at_once_where_it_knows_two_addresses_of_a_neighbour() {
    let mut net = Net::grow(4, 4);
    let alias: Multiaddr = "/ip6/fd00::1/tcp/4001".parse().unwrap();
    net.nodes[0].aliases.push(alias.clone());
    let only = vec![net.id(0).to_string().parse().unwrap()];
    let mover = net.add(Config { only, joins: vec![address(0), alias], ..Config::default() });
    net.run(secs(2));
    for round in 0..60_u8 {
        net.network_down(mover);
        net.run(secs(15) + Duration::from_millis(u64::from(round)));
        net.network_up(mover, format!("/ip4/10.9.0.{round}/tcp/4001").parse().unwrap());
        let back = net.now.instant;
        assert!(net.run_until(secs(20), |net| net.attached(mover)), "{}", net.picture());
        let took = net.now.instant.since(back);
        assert!(took < Duration::from_millis(100), "round {round}: {took:?}");
    }
}

/// Who is refused does not ask again at once, forever.
#[test]
fn a_refused_link_is_tried_less_and_less_often() {
    let mut net = Net::new(7);
    let only = vec!["/ip4/10.1.1.1".parse().unwrap()];
    net.add(Config { only, ..Config::default() });
    let config = net.joining(&[0]);
    let stranger = net.add(config);
    net.run(secs(60));
    let refused = net.nodes[stranger].events.iter().filter(|(_, event)| matches!(event, Event::Refused { .. })).count();
    assert!((3..30).contains(&refused), "{refused}");
}
