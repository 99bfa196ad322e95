//! Revoked identities: found by whoever looks, refused by whoever knows, and not forgotten.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use overlay::config::{Config, Timing};
use overlay::event::Event;
use overlay::id::Identity;
use overlay::record::{Query, SignedRecord};

const SOON: Duration = Duration::from_secs(3);

/// The revocation of node `n` by its recovery key.
fn recovered(net: &Net, n: usize) -> SignedRecord {
    let recovery = Identity::from_secret(&[99; 32]);
    SignedRecord::revoke_by(&recovery, net.id(n), net.node(n).endorse(recovery.id()))
}

fn publish(net: &mut Net, by: usize, revocation: SignedRecord) {
    let stored = Event::RevocationStored(revocation.signer());
    net.with(by, |overlay, now| overlay.publish_revocation(revocation, now).unwrap());
    assert!(net.run_until(SOON, |net| heard(net, by, &stored)), "not stored");
}

fn heard(net: &Net, n: usize, wanted: &Event) -> bool {
    net.nodes[n].events.iter().any(|(_, event)| event == wanted)
}

fn look(net: &mut Net, by: usize, whom: usize) {
    let query = Query::Node(net.id(whom));
    net.with(by, |overlay, now| overlay.lookup(query, true, now));
    net.run(SOON);
}

#[test]
fn whoever_looks_finds_out_and_has_no_link_with_it_any_more() {
    let mut net = Net::grow(4, 12);
    let (victim, witness) = (5, 8);
    let revocation = recovered(&net, victim);
    publish(&mut net, witness, revocation);
    // Its own newer records do not bring it back.
    net.with(victim, |overlay, now| overlay.publish_node(vec![8; 100], now));
    net.run(SOON);
    let (id, others): (_, Vec<usize>) = (net.id(victim), (0..12).filter(|n| *n != victim).collect());
    for n in &others {
        look(&mut net, *n, victim);
        assert!(net.node(*n).is_revoked(&id), "node {n}");
        assert_eq!(net.nodes[*n].events.iter().filter(|(_, event)| *event == Event::Revoked(id)).count(), 1);
    }
    net.run(Duration::from_secs(30));
    assert!(others.iter().all(|n| net.node(*n).neighbours().iter().all(|neighbour| neighbour.id != id)));
    assert!(net.node(victim).neighbours().is_empty());
    assert!(heard(&net, victim, &Event::Revoked(id)), "who is refused is shown why");
}

#[test]
fn it_is_known_after_a_restart_and_refused_at_the_link() {
    let mut net = Net::grow(5, 3);
    let revocation = recovered(&net, 2);
    publish(&mut net, 1, revocation);
    net.run(SOON);
    net.kill(2, true);
    net.kill(1, true);
    net.run(SOON);
    let config = net.joining(&[0]);
    net.start(1, config);
    assert!(net.node(1).is_revoked(&net.id(2)), "from the disk");
    let config = net.joining(&[1]);
    // Without what the victim's disk knows, as a thief of the key.
    net.nodes[2].disk.clear();
    net.nodes[2].events.clear();
    net.start(2, config);
    net.run(Duration::from_secs(10));
    assert!(!net.attached(2) && heard(&net, 2, &Event::Revoked(net.id(2))));

    let disk = net.nodes[2].disk.clone();
    let mut again = overlay::Overlay::new(net.joining(&[1]), common::identity(2), [1; 32], net.now);
    assert!(again.restore(&disk, net.now).is_err(), "a revoked node starts again");
}

#[test]
fn a_node_ends_its_own_identity() {
    let mut net = Net::grow(6, 5);
    let id = net.id(3);
    net.with(3, |overlay, now| overlay.publish_revocation(overlay.own_revocation(), now).unwrap());
    net.run(SOON);
    assert!(heard(&net, 3, &Event::RevocationStored(id)) && heard(&net, 3, &Event::Revoked(id)));
    look(&mut net, 1, 3);
    assert!(net.node(1).is_revoked(&id));
}

#[test]
fn it_outlives_its_records_and_who_published_it() {
    // Little happens in a day and a half but what has to.
    let seconds = Duration::from_secs;
    let timing = Timing {
        heartbeat: seconds(100),
        parent_silent: seconds(300),
        beacon: seconds(100),
        beacon_stale: seconds(400),
        beacon_fresh: seconds(500),
        probe: seconds(100),
        ..Timing::default()
    };
    let mut net = Net::new(7);
    net.add(Config { timing: timing.clone(), ..Config::default() });
    for n in 1..4 {
        let config = Config { timing: timing.clone(), ..net.joining(&[n - 1]) };
        net.add(config);
        net.run(SOON);
    }
    net.run(seconds(200));
    let (victim, publisher, keeper, newcomer) = (3, 2, 1, 0);
    let revocation = recovered(&net, victim);
    publish(&mut net, publisher, revocation);
    look(&mut net, keeper, victim);
    net.kill(victim, true);
    net.kill(publisher, true);
    net.run(Duration::from_hours(30));
    assert!(!net.node(newcomer).is_revoked(&net.id(victim)));
    look(&mut net, newcomer, victim);
    assert!(net.node(newcomer).is_revoked(&net.id(victim)), "forgotten after a day");
}

#[test]
fn nobody_is_told_of_keys_that_he_did_not_ask_for() {
    let mut net = Net::grow(8, 3);
    let stranger = SignedRecord::revoke(&Identity::from_secret(&[98; 32]));
    net.hears(1, overlay::wire::link::Frame::Revoked(stranger.as_bytes().to_vec()).encode()).unwrap();
    assert!(!net.node(1).is_revoked(&stranger.signer()));
    let victim = net.id(1);
    let mut forged = SignedRecord::revoke(&common::identity(1)).as_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    net.hears(1, overlay::wire::link::Frame::Revoked(forged).encode()).unwrap();
    assert!(!net.node(1).is_revoked(&victim));
}

/// What becomes of a revoked node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It obeys: it leaves as soon as it hears of it.
    Leaves,
    /// It goes on, as a thief of the key would.
    Stays,
    /// It is dead by then, and its parent stands in for it.
    Dead,
}

/// The founder 0 with a child 1, the victim; below that 2 with a child 3. 2 has a link to the founder, 4 is a child of the founder that has a link to
/// the victim.
fn below_a_victim(seed: u8) -> Net {
    let mut net = Net::new(seed);
    net.add(Config { extra_links: 0, ..Config::default() });
    for through in [0, 1, 2, 0] {
        let config = Config { extra_links: 0, ..net.joining(&[through]) };
        net.add(config);
        net.run(SOON);
    }
    for (from, to) in [(2, 0), (4, 1)] {
        let (beside, address) = (net.id(to), common::address(to));
        net.with(from, |overlay, now| overlay.seek_link(beside, &[address], now));
    }
    net.run(Duration::from_secs(20));
    let parents = [1, 2, 3, 4].map(|n| net.node(n).parent().map(|parent| net.index(parent)));
    assert_eq!(parents, [Some(0), Some(1), Some(2), Some(0)], "{}", net.picture());
    net
}

/// Runs for so long; the victim leaves meanwhile, if it is one that does.
fn end_of(net: &mut Net, victim: usize, end: End, span: Duration) {
    let until = net.now.instant + span;
    let id = net.id(victim);
    if end == End::Leaves && net.run_until(span, |net| heard(net, victim, &Event::Revoked(id))) {
        net.with(victim, overlay::Overlay::leave);
    }
    net.run(until.since(net.now.instant));
}

/// Node 1 is revoked and `first` hears of that before anybody else: 2 soon has another place, by the founder or by 4, with 3 below it.
fn assert_replaced(end: End, first: usize) {
    let victim = 1;
    let mut net = below_a_victim(3);
    let (before, revocation) = (net.text(2), recovered(&net, victim));
    if end == End::Dead {
        net.kill(victim, true);
        net.run(Duration::from_secs(25));
        assert_eq!(net.text(2), before, "not adopted: {}", net.picture());
    }
    net.with(first, |overlay, now| overlay.publish_revocation(revocation, now).unwrap());
    end_of(&mut net, victim, end, Duration::from_secs(6));
    let what = format!("the victim {end:?}, node {first} first: {}", net.picture());
    let parent = net.node(2).parent();
    assert!(parent == Some(net.id(0)) || parent == Some(net.id(4)), "{what}");
    assert_eq!(net.node(3).parent(), Some(net.id(2)), "{what}");
    assert!(net.text(2) != before && net.text(2) != "-", "{what}");
    assert!(net.text(3).starts_with(&net.text(2)), "{what}");
    // It is no part of the overlay any more.
    net.kill(victim, true);
    net.run(Duration::from_secs(20));
    net.assert_whole();
    net.assert_all_pairs_route();
}

#[test]
fn whoever_is_below_a_revoked_node_that_leaves_gets_another_place() {
    for first in [2, 0, 4] {
        assert_replaced(End::Leaves, first);
    }
}

/// Who does not know yet takes it for what it was, so that only one below it that does is to have another place.
#[test]
fn whoever_learns_that_its_parent_is_revoked_gets_another_place_though_that_goes_on() {
    assert_replaced(End::Stays, 2);
}

#[test]
fn nobody_stands_in_for_a_revoked_node() {
    for first in [2, 0] {
        assert_replaced(End::Dead, first);
    }
}

/// As it happened: three joined a founder, one of them was restarted until it was below another, and revoked that one; then the fourth revoked itself. The
/// founder had a slot for the first one still.
#[test]
fn two_that_are_left_of_four_both_have_their_places() {
    for seed in 0..4 {
        let mut net = Net::new(seed);
        net.add(Config::default());
        for _ in 1..4 {
            let config = net.joining(&[0]);
            net.add(config);
            net.run(SOON);
        }
        let parent = |net: &Net| net.node(1).parent().map(|parent| net.index(parent));
        let (victim, other) = (0..20)
            .find_map(|_| {
                net.kill(1, true);
                net.run(Duration::from_secs(1));
                net.start(1, Config::default());
                net.run(SOON);
                parent(&net).and_then(|parent| [(2, 3), (3, 2)].into_iter().find(|(victim, _)| *victim == parent))
            })
            .unwrap();
        let revocation = recovered(&net, victim);
        net.with(1, |overlay, now| overlay.publish_revocation(revocation, now).unwrap());
        end_of(&mut net, victim, End::Leaves, Duration::from_secs(5));
        assert!([Some(0), Some(other)].contains(&parent(&net)), "{}", net.picture());
        net.with(other, |overlay, now| overlay.publish_revocation(overlay.own_revocation(), now).unwrap());
        end_of(&mut net, other, End::Leaves, Duration::from_secs(5));
        net.kill(victim, true);
        net.kill(other, true);
        net.run(Duration::from_secs(20));
        assert_eq!(parent(&net), Some(0), "{}", net.picture());
        net.assert_all_pairs_route();
    }
}
