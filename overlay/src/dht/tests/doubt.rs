//! One binder that is wrong, silent, slow or lying: what the others say counts.

use core::time::Duration;

use super::super::testing::{Manner, Net, WALL_US, claim, identity, node_record};
use super::super::wire::{Answer, Refusal};
use super::super::{Event, LookupResult, MAX_LOOKUPS, Query, REPLICAS};
use super::hostile::{found, reply_with};
use super::{SECOND, found_seq, publish_all, query, seconds};
use crate::record::RecordKey;
use crate::time::WallTime;

const YEAR_US: u64 = 365 * 24 * 60 * 60 * 1_000_000;

fn alice() -> Query {
    Query::Name("alice".parse().unwrap())
}

/// A network in which each replica of this record has another binder, and these.
fn with_four_binders(key: &RecordKey) -> (Net, [usize; REPLICAS as usize]) {
    let differ = |binders: &[usize; 4]| (1..4).all(|n| !binders[..n].contains(&binders[n]));
    let nets = (0..100).map(|seed| Net::new(40, seed));
    let mut with_binders = nets.map(|net| ([0, 1, 2, 3].map(|replica| net.binder(key, replica)), net));
    let (binders, net) = with_binders.find(|(binders, _)| differ(binders)).unwrap();
    (net, binders)
}

/// A node that is none of these.
fn somebody(net: &Net, others: &[usize]) -> usize {
    (0..net.members.len()).rev().find(|n| !others.contains(n)).unwrap()
}

fn claim_it(body: &[u8]) -> Vec<u8> {
    reply_with(body, found(&claim(90, "alice", 1)))
}

fn find_it_ahead(body: &[u8]) -> Vec<u8> {
    reply_with(body, Answer::Refused(Refusal::Ahead))
}

fn keep_the_year_ahead(body: &[u8]) -> Vec<u8> {
    reply_with(body, Answer::Conflict { record: node_record(3, WALL_US + YEAR_US).as_bytes().to_vec() })
}

fn count(net: &Net, n: usize, which: impl Fn(&Event) -> bool) -> usize {
    net.members[n].events.iter().filter(|event| which(event)).count()
}

fn with_alice() -> (Net, [usize; 4], usize) {
    let (mut net, binders) = with_four_binders(&alice().key());
    let owner = somebody(&net, &binders);
    net.members[owner].dht.publish(claim(u32::try_from(owner).unwrap(), "alice", WALL_US), net.now).unwrap();
    net.run(SECOND);
    let asker = somebody(&net, &[&binders[..], &[owner]].concat());
    (net, binders, asker)
}

#[test]
fn the_fastest_binder_does_not_say_alone_whose_a_name_is() {
    let (mut net, binders, asker) = with_alice();
    net.members[binders[0]].manner = Manner::Hostile(claim_it);
    // The others are heard at the second question, a second later.
    binders[1..].iter().for_each(|binder| net.members[*binder].manner = Manner::Silent);
    let id = net.members[asker].dht.lookup(alice(), false, net.now);
    net.run(Duration::from_millis(500));
    binders[1..].iter().for_each(|binder| net.members[*binder].manner = Manner::Honest);
    net.run(SECOND);
    let done = |event: &Event| matches!(event, Event::LookupFinished { id: done, result: LookupResult::Found(record), .. } if *done == id && record.seq() == WALL_US);
    assert_eq!(count(&net, asker, done), 1, "{:?}", net.members[asker].events);
    let told = |event: &Event| matches!(event, Event::NameConflict { incumbent } if incumbent.seq() == 1);
    assert_eq!(count(&net, asker, told), 1);
}

#[test]
fn of_two_who_differ_nobody_is_believed() {
    let (mut net, binders, asker) = with_alice();
    net.members[binders[0]].manner = Manner::Hostile(claim_it);
    binders[2..].iter().for_each(|binder| net.members[*binder].manner = Manner::Silent);
    let (result, _) = net.look_up(asker, alice(), false);
    assert_eq!(result, LookupResult::Unanswered);
    // Who knew the name before goes on knowing it.
    net.members[binders[0]].manner = Manner::Honest;
    let (result, took) = net.look_up(asker, alice(), false);
    assert_eq!((found_seq(&result), took <= Duration::from_millis(100)), (Some(WALL_US), true), "{took:?}");
    net.members[binders[0]].manner = Manner::Hostile(claim_it);
    assert_eq!(found_seq(&net.look_up(asker, alice(), true).0), Some(WALL_US));
}

#[test]
fn one_binder_does_not_keep_a_record_from_being_published() {
    let published = |event: &Event| matches!(event, Event::Published { .. });
    for (manner, span) in [(Manner::Silent, 3500), (Manner::Hostile(find_it_ahead), 100)] {
        let (mut net, binders) = with_four_binders(&alice().key());
        let owner = somebody(&net, &binders);
        net.members[binders[1]].manner = manner;
        net.members[owner].dht.publish(claim(u32::try_from(owner).unwrap(), "alice", WALL_US), net.now).unwrap();
        net.run(Duration::from_millis(span));
        assert_eq!(count(&net, owner, published), 1, "after {span} ms");
        net.run(seconds(60));
        assert_eq!(count(&net, owner, published), 1, "once");
    }
    let (mut net, binders) = with_four_binders(&alice().key());
    binders[1..].iter().for_each(|binder| net.members[*binder].manner = Manner::Silent);
    let owner = somebody(&net, &binders);
    net.members[owner].dht.publish(claim(u32::try_from(owner).unwrap(), "alice", WALL_US), net.now).unwrap();
    net.run(seconds(60));
    assert_eq!(count(&net, owner, published), 0, "one alone is not enough");
}

#[test]
fn what_one_binder_keeps_of_a_wrong_clock_hides_nothing() {
    let (mut net, binders) = with_four_binders(&query(3).key());
    net.now.wall = WallTime::from_unix_micros(WALL_US + YEAR_US);
    net.members[3].dht.publish(node_record(3, WALL_US + YEAR_US), net.now).unwrap();
    net.run(SECOND);
    // All clocks are right now. One binder goes on saying what it kept.
    net.now.wall = WallTime::from_unix_micros(WALL_US + 60_000_000);
    net.members[3].dht.withdraw(&query(3));
    net.members[binders[2]].manner = Manner::Hostile(keep_the_year_ahead);
    net.members[3].dht.publish(node_record(3, WALL_US), net.now).unwrap();
    net.run(SECOND);
    assert_eq!(count(&net, 3, |event| matches!(event, Event::Superseded { .. })), 0);
    let asker = somebody(&net, &[&binders[..], &[3]].concat());
    assert_eq!(found_seq(&net.look_up(asker, query(3), true).0), Some(WALL_US));
    assert_eq!(count(&net, 3, |event| matches!(event, Event::Published { seq: WALL_US, .. })), 1);
}

/// A node that has no clock of its own, and starts at a date long ago, has to number its records above those of its last run.
#[test]
fn binders_that_agree_know_the_time_better() {
    let mut net = Net::new(40, 2);
    net.members[3].dht.publish(node_record(3, WALL_US), net.now).unwrap();
    net.run(SECOND);
    net.members[3].dht.withdraw(&query(3));
    net.now.wall = WallTime::from_unix_micros(WALL_US - YEAR_US);
    net.members[3].dht.publish(node_record(3, WALL_US - YEAR_US), net.now).unwrap();
    net.now.wall = WallTime::from_unix_micros(WALL_US + 2_000_000);
    net.run(SECOND);
    assert_eq!(count(&net, 3, |event| matches!(event, Event::Superseded { .. })), 1);
}

#[test]
fn a_handover_that_is_lost_is_made_again() {
    let mut net = Net::new(30, 3);
    publish_all(&mut net, 5);
    net.run(SECOND);
    let key = query(0).key();
    let binder = (0..REPLICAS).map(|replica| net.binder(&key, replica)).find(|binder| *binder != 0).unwrap();
    net.kill(binder);
    net.weigh();
    net.run(seconds(31));
    // Its owner puts it no more.
    net.members[0].dht.withdraw(&query(0));
    net.revive(binder);
    net.members[binder].dht.forget_records();
    net.members[binder].manner = Manner::Silent;
    net.settle();
    net.run(SECOND);
    net.members[binder].manner = Manner::Honest;
    net.run(seconds(6));
    assert!(net.members[binder].dht.store.record(&key, net.now.instant).is_some());
}

#[test]
fn a_claim_is_taken_back_from_who_did_not_hear_of_it_at_first() {
    let (mut net, binders, asker) = with_alice();
    let owner = somebody(&net, &binders);
    net.members[binders[2]].manner = Manner::Silent;
    net.members[owner].dht.withdraw(&alice());
    let n = u32::try_from(owner).unwrap();
    let over = {
        use crate::record::{NameClaim, Record, SignedRecord};
        let claim = NameClaim { name: "alice".parse().unwrap(), id: identity(n).id(), seq: WALL_US + 1, lifetime_s: 1 };
        SignedRecord::sign(&identity(n), Record::Name(claim)).unwrap()
    };
    net.members[owner].dht.take_back(over, net.now);
    net.run(Duration::from_millis(100));
    net.members[binders[2]].manner = Manner::Honest;
    net.run(seconds(4));
    assert_eq!(net.look_up(asker, alice(), false).0, LookupResult::Missing);
}

#[test]
fn who_asks_for_one_record_all_the_time_takes_nobodys_look_ups() {
    let (mut net, binders) = with_four_binders(&alice().key());
    publish_all(&mut net, 5);
    net.run(SECOND);
    let asker = somebody(&net, &[&binders[..], &[6]].concat());
    net.members[binders[3]].manner = Manner::Silent;
    let ids: Vec<_> = (0..MAX_LOOKUPS + 50).map(|_| net.members[asker].dht.lookup(alice(), false, net.now)).collect();
    assert_eq!(found_seq(&net.look_up(asker, query(6), true).0), Some(5));
    net.run(seconds(6));
    let ended = |event: &Event| matches!(event, Event::LookupFinished { id, result: LookupResult::Missing, .. } if ids.contains(id));
    assert_eq!(count(&net, asker, ended), ids.len());
}

#[test]
fn a_size_that_was_wrong_delays_no_refresh_once_it_is_right() {
    let mut net = Net::new(3, 2);
    publish_all(&mut net, 5);
    net.members.iter_mut().for_each(|member| member.dht.set_overlay_size(u32::MAX, net.now));
    net.run(seconds(60));
    net.members.iter_mut().for_each(|member| {
        member.dht.set_overlay_size(3, net.now);
        member.dht.forget_records();
    });
    net.run(seconds(60));
    for from in 0..3 {
        assert_eq!(found_seq(&net.look_up(from, query(2), true).0), Some(5));
    }
}

#[test]
fn a_size_that_is_wrong_for_a_moment_has_nobody_put_everything_at_once() {
    let mut net = Net::new(3, 2);
    publish_all(&mut net, 5);
    net.members.iter_mut().for_each(|member| member.dht.set_overlay_size(100_000, net.now));
    net.run(seconds(2 * 3000));
    let answered = |net: &Net| net.members.iter().map(|member| member.dht.counters().answered_requests).sum::<u64>();
    net.members.iter_mut().for_each(|member| member.dht.set_overlay_size(10, net.now));
    net.run(seconds(2));
    net.members.iter_mut().for_each(|member| member.dht.set_overlay_size(100_000, net.now));
    let before = answered(&net);
    // At 1500 to 3000 s each it is some node's own time now and then, but not all nodes'.
    net.run(seconds(60));
    assert!(answered(&net) - before <= 8, "{} of 12", answered(&net) - before);
    net.run(seconds(3100));
    assert!(answered(&net) - before >= 12);
}

#[test]
fn a_look_up_has_its_own_time() {
    let (mut net, binders) = with_four_binders(&alice().key());
    publish_all(&mut net, 5);
    let owner = somebody(&net, &binders);
    net.members[owner].dht.publish(claim(u32::try_from(owner).unwrap(), "alice", WALL_US), net.now).unwrap();
    net.run(SECOND);
    binders.iter().for_each(|binder| net.members[*binder].manner = Manner::Silent);
    let asker = somebody(&net, &[&binders[..], &[owner]].concat());
    net.members[asker].dht.lookup(alice(), true, net.now);
    net.run(Duration::from_millis(4900));
    binders.iter().for_each(|binder| net.members[*binder].manner = Manner::Honest);
    assert_eq!(found_seq(&net.look_up(asker, alice(), true).0), Some(WALL_US));
}
