mod doubt;
mod hostile;

use core::time::Duration;

use super::testing::{Manner, Net, WALL_US, claim, identity, node_record, node_record_at};
use super::wire::{Request, decode_request};
use super::{Config, Dht, DhtTransmit, Event, LookupResult, Query, REPLICAS};
use crate::address::Address;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn query(n: u32) -> Query {
    Query::Node(identity(n).id())
}

fn publish_all(net: &mut Net, seq: u64) {
    for n in 0..net.members.len() {
        let record = node_record_at(u32::try_from(n).unwrap(), net.members[n].address.clone(), seq);
        net.members[n].dht.publish(record, net.now).unwrap();
    }
}

fn found_seq(result: &LookupResult) -> Option<u64> {
    match result {
        LookupResult::Found(record) => Some(record.seq()),
        _ => None,
    }
}

#[test]
fn everybody_finds_everybody_in_one_round_trip() {
    for seed in 0..3 {
        let mut net = Net::new(12, seed);
        publish_all(&mut net, 5);
        net.run(SECOND);
        for n in 0..12 {
            let events = &net.members[n].events;
            assert!(events.iter().any(|event| matches!(event, Event::Published { seq: 5, .. })), "{events:?}");
        }
        for from in 0..12 {
            for to in 0..12 {
                let (result, took) = net.look_up(from, query(to), true);
                assert_eq!(found_seq(&result), Some(5));
                assert!(took <= Duration::from_millis(25), "{took:?}");
            }
        }
    }
}

#[test]
fn missing_is_said_only_after_all_replicas_and_without_a_long_wait() {
    let mut net = Net::new(12, 1);
    let (result, took) = net.look_up(3, Query::Name("nobody".parse().unwrap()), false);
    assert_eq!(result, LookupResult::Missing);
    assert!(took <= Duration::from_millis(100), "{took:?}");
}

#[test]
fn nobody_answers_within_the_deadline_when_detached() {
    let mut net = Net::new(12, 1);
    net.kill(0);
    net.members[7].alive = true;
    let (result, took) = net.look_up(7, query(2), false);
    assert_eq!(result, LookupResult::Unanswered);
    assert!(took <= seconds(6), "{took:?}");
}

#[test]
fn silent_binders_cost_a_moment_or_a_retry_but_no_answer() {
    let ms = Duration::from_millis;
    let mut net = Net::new(20, 2);
    publish_all(&mut net, 5);
    net.run(SECOND);
    let key = query(6).key();
    let binders: Vec<usize> = (0..REPLICAS).map(|replica| net.binder(&key, replica)).collect();
    let asker = (0..20).find(|n| !binders.contains(n) && *n != 6).unwrap();
    net.members[binders[0]].manner = Manner::Silent;
    let (result, took) = net.look_up(asker, query(6), true);
    assert_eq!((found_seq(&result), took <= ms(110)), (Some(5), true), "one answer and the grace: {took:?}");
    net.members[binders[1]].manner = Manner::Silent;
    let (result, took) = net.look_up(asker, query(6), true);
    assert_eq!((found_seq(&result), took <= ms(260)), (Some(5), true), "the second pair: {took:?}");
    for binder in &binders {
        net.members[*binder].manner = Manner::Silent;
    }
    let id = net.members[asker].dht.lookup(query(6), true, net.now);
    net.run(ms(500));
    for binder in &binders {
        net.members[*binder].manner = Manner::Honest;
    }
    net.run(ms(600));
    let found = |event: &Event| matches!(event, Event::LookupFinished { id: done, result: LookupResult::Found(_), .. } if *done == id);
    assert!(net.members[asker].events.iter().any(found), "asked again after a second");
}

#[test]
fn a_lookup_begun_without_a_place_ends_as_soon_as_there_is_one() {
    let mut net = Net::new(12, 1);
    publish_all(&mut net, 5);
    net.run(SECOND);
    let root_address = net.members[0].alive;
    net.members[0].alive = false;
    let id = net.members[7].dht.lookup(query(2), true, net.now);
    net.run(Duration::from_millis(300));
    net.members[0].alive = root_address;
    net.members[7].dht.handle_place_change(net.now);
    net.run(Duration::from_millis(50));
    let done = |event: &Event| matches!(event, Event::LookupFinished { id: done, .. } if *done == id);
    assert!(net.members[7].events.iter().any(done));
}

#[test]
fn a_newer_record_is_what_everybody_sees_at_once() {
    let mut net = Net::new(20, 2);
    publish_all(&mut net, 5);
    net.run(SECOND);
    let moved = node_record_at(6, Address::root().child(9).unwrap(), 6);
    net.members[6].dht.publish(moved, net.now).unwrap();
    net.members[6].dht.handle_place_change(net.now);
    net.run(Duration::from_millis(50));
    for from in 0..20 {
        assert_eq!(found_seq(&net.look_up(from, query(6), true).0), Some(6));
    }
}

#[test]
fn records_survive_dead_binders_and_come_back_to_their_places() {
    let mut net = Net::new(40, 3);
    publish_all(&mut net, 5);
    net.run(SECOND);
    let key = query(0).key();
    let victim = (0..REPLICAS).map(|replica| net.binder(&key, replica)).find(|binder| *binder != 0).unwrap();
    net.kill(victim);
    net.weigh();
    for from in (0..40).filter(|from| net.members[*from].alive).collect::<Vec<_>>() {
        assert_eq!(found_seq(&net.look_up(from, query(0), true).0), Some(5), "before the refresh, from {from}");
    }
    net.run(seconds(31));
    let keeps = |net: &Net, n: usize| net.members[n].dht.store.record(&key, net.now.instant).is_some();
    for owner in (0..40).filter(|n| net.members[*n].alive) {
        let key = query(u32::try_from(owner).unwrap()).key();
        for binder in (0..REPLICAS).map(|replica| net.binder(&key, replica)) {
            assert!(net.members[binder].dht.store.record(&key, net.now.instant).is_some(), "{owner} put again");
        }
    }
    net.members[0].dht.withdraw(&query(0));
    net.revive(victim);
    net.settle();
    net.run(seconds(70));
    let binders: Vec<usize> = (0..REPLICAS).map(|replica| net.binder(&key, replica)).collect();
    for n in 0..40 {
        assert_eq!(keeps(&net, n), binders.contains(&n), "handed over to {n}, and nobody else keeps it long");
    }
}

#[test]
fn a_lookup_repairs_a_binder_that_lost_the_record() {
    let mut net = Net::new(20, 2);
    publish_all(&mut net, 5);
    net.run(SECOND);
    let key = query(6).key();
    let binder = net.binder(&key, 0);
    net.members[binder].dht.store = super::store::Store::default();
    let asker = (0..20).find(|n| *n != binder && *n != 6).unwrap();
    assert_eq!(found_seq(&net.look_up(asker, query(6), true).0), Some(5));
    net.run(Duration::from_millis(20));
    assert!(net.members[binder].dht.store.record(&key, net.now.instant).is_some());
}

#[test]
fn records_of_absent_owners_follow_the_weights() {
    let mut net = Net::new(30, 4);
    publish_all(&mut net, 5);
    net.run(SECOND);
    // The owner is gone; then part of the tree comes and goes, slowly enough for handovers.
    let owner = 29;
    net.kill(owner);
    net.settle();
    net.run(seconds(6));
    let other = (1..29).rev().find(|n| net.members[*n].alive).unwrap();
    net.members[other].dht.leave(net.now);
    net.run(SECOND);
    net.kill(other);
    net.settle();
    net.run(seconds(6));
    for from in (0..29).filter(|from| net.members[*from].alive).collect::<Vec<_>>() {
        assert_eq!(found_seq(&net.look_up(from, query(29), true).0), Some(5), "from {from}");
    }
}

#[test]
fn churn_loses_no_record_of_a_live_owner() {
    let mut rng = crate::rng::Rng::from_seed([8; 32]);
    let mut net = Net::new(30, 9);
    publish_all(&mut net, 5);
    for step in 0..8 {
        let subtree = usize::try_from(1 + rng.below(29)).unwrap();
        if net.members[subtree].alive {
            net.kill(subtree);
        } else {
            net.revive(subtree);
        }
        net.settle();
        net.run(seconds(40));
        let live: Vec<usize> = (0..30).filter(|n| net.is_attached(*n)).collect();
        for owner in &live {
            let asker = live[usize::try_from(rng.below(live.len() as u64)).unwrap()];
            let (result, _) = net.look_up(asker, query(u32::try_from(*owner).unwrap()), true);
            assert_eq!(found_seq(&result), Some(5), "step {step}: {asker} asks for {owner}");
        }
    }
}

#[test]
fn leaving_hands_over_all_copies() {
    let mut net = Net::new(12, 5);
    publish_all(&mut net, 5);
    net.run(SECOND);
    let leaf = 11;
    let held: Vec<_> = net.members[leaf].dht.store.held().collect();
    // The parent does not choose it any more, while its link still carries what it sends.
    let mut leaver = Net::new(12, 5);
    core::mem::swap(&mut leaver.members[leaf].dht, &mut net.members[leaf].dht);
    leaver.members[leaf].dht.leave(net.now);
    let mut walks = 0;
    while let Some(transmit) = leaver.members[leaf].dht.poll_transmit() {
        let DhtTransmit::Walk { key, replica, body } = transmit else { panic!("a reply") };
        assert!(held.contains(&(key, replica)));
        assert!(matches!(decode_request(&body), Ok(Request::Put { .. })));
        walks += 1;
    }
    assert_eq!(walks, held.len());
}

#[test]
fn handover_is_limited_in_rate() {
    let mut net = Net::new(2, 5);
    publish_all(&mut net, 5);
    net.run(SECOND);
    let dht = &mut net.members[0].dht;
    let mut batches = 0;
    for step in 0..100 {
        let now = net.now.after(Duration::from_millis(100 * step));
        let held = dht.held();
        dht.handle_placement_change(held, now);
        dht.handle_timeout(now);
        let mut walked = false;
        while let Some(transmit) = dht.poll_transmit() {
            walked |= matches!(transmit, DhtTransmit::Walk { .. });
        }
        batches += u32::from(walked);
    }
    // Ten seconds at one batch in two.
    assert!((4..=8).contains(&batches), "{batches}");
}

#[test]
fn a_name_stays_with_the_first_and_the_second_is_told() {
    let mut net = Net::new(15, 6);
    net.members[3].dht.publish(claim(3, "alice", WALL_US), net.now).unwrap();
    net.run(SECOND);
    net.members[8].dht.publish(claim(8, "alice", WALL_US + 5), net.now).unwrap();
    net.run(SECOND);
    let told = net.members[8].events.iter().filter(|event| matches!(event, Event::NameConflict { .. })).count();
    assert_eq!(told, 1);
    let (result, _) = net.look_up(12, Query::Name("alice".parse().unwrap()), false);
    assert!(matches!(result, LookupResult::Found(record) if record.signer() == identity(3).id()));
}

#[test]
fn whose_clock_is_a_year_ahead_is_told_once_for_each_version() {
    let mut net = Net::new(15, 6);
    let year_us = 365 * 24 * 60 * 60 * 1_000_000;
    let ahead = |net: &Net| net.members[3].events.iter().filter(|event| matches!(event, Event::Ahead { .. })).count();
    for (version, told) in [(WALL_US, 0), (WALL_US + year_us, 1), (WALL_US + year_us + 1, 2)] {
        net.members[3].dht.publish(claim(3, "alice", version), net.now).unwrap();
        net.run(60 * SECOND);
        assert_eq!(ahead(&net), told);
    }
}

#[test]
fn a_restarted_node_learns_that_its_number_is_too_low() {
    let mut net = Net::new(15, 6);
    net.members[3].dht.publish(node_record(3, 50), net.now).unwrap();
    net.run(SECOND);
    net.members[3].dht = Dht::new(Config::default(), identity(3).id(), [1; 32], net.now);
    net.members[3].dht.publish(node_record(3, 40), net.now).unwrap();
    net.run(SECOND);
    let superseded = |event: &Event| matches!(event, Event::Superseded { record } if record.seq() == 50);
    assert_eq!(net.members[3].events.iter().filter(|event| superseded(event)).count(), 1);
}

#[test]
fn cached_and_own_records_are_answered_at_once_unless_fresh() {
    let mut net = Net::new(20, 2);
    publish_all(&mut net, 5);
    net.run(SECOND);
    assert_eq!(net.look_up(6, query(6), true).1, Duration::ZERO);
    let first = net.look_up(3, query(6), false).1;
    assert_eq!(net.look_up(3, query(6), false).1, Duration::ZERO);
    assert!(first == Duration::ZERO || net.look_up(3, query(6), true).1 > Duration::ZERO);
}

#[test]
fn load_is_even() {
    for seed in [1, 2] {
        let net = Net::new(200, seed);
        let mut load = vec![0u32; 200];
        for n in 0..20_000u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            load[net.binder(&key, u8::try_from(n % 4).unwrap())] += 1;
        }
        let max = load.iter().max().unwrap();
        assert!(*max < 300, "{max} at one node, 100 on average");
        assert!(load.iter().all(|keys| *keys > 0), "nobody is empty");
    }
}
