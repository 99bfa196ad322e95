//! Peers that lie, repeat, withhold or babble.

use core::time::Duration;

use super::super::testing::{Manner, Net, identity, node_record, now_at, place};
use super::super::wire::{Answer, Reply, Request, decode_reply, decode_request};
use super::super::{Config, Dht, DhtTransmit, MAX_QUEUED_TRANSMITS, REPLICAS, Refusal, Walk};
use super::{SECOND, found_seq, publish_all, query};
use crate::address::{Address, Place};
use crate::codec;
use crate::record::{RecordKey, SignedRecord};

fn walk(return_place: Place, key: RecordKey, replica: u8) -> Walk {
    Walk { from: identity(2).id(), return_place, key, replica, hops: 0 }
}

pub(super) fn reply_with(body: &[u8], answer: Answer) -> Vec<u8> {
    let nonce = match decode_request(body).unwrap() {
        Request::Get { nonce } | Request::Put { nonce, .. } => nonce,
    };
    codec::encode(&Reply { nonce, answer }).unwrap()
}

pub(super) fn found(record: &SignedRecord) -> Answer {
    Answer::Found { remaining_s: 60, record: record.as_bytes().to_vec() }
}

fn forge(body: &[u8]) -> Vec<u8> {
    let mut bytes = node_record(6, 1000).as_bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    reply_with(body, Answer::Found { remaining_s: 60, record: bytes })
}

fn answer_with_another_key(body: &[u8]) -> Vec<u8> {
    reply_with(body, found(&node_record(9, 1000)))
}

fn replay(body: &[u8]) -> Vec<u8> {
    reply_with(body, found(&node_record(6, 2)))
}

fn withhold(body: &[u8]) -> Vec<u8> {
    reply_with(body, Answer::Missing)
}

fn babble(_: &[u8]) -> Vec<u8> {
    vec![0xff; 700]
}

#[test]
fn a_hostile_binder_is_outvoted() {
    for hostile in [forge, answer_with_another_key, replay, withhold, babble] {
        let mut net = Net::new(20, 2);
        publish_all(&mut net, 5);
        net.run(SECOND);
        let key = query(6).key();
        let binders: Vec<usize> = (0..REPLICAS).map(|replica| net.binder(&key, replica)).collect();
        assert_ne!(binders[0], binders[1], "the seed has to give different binders");
        net.members[binders[0]].manner = Manner::Hostile(hostile);
        let asker = (0..20).find(|n| !binders.contains(n) && *n != 6).unwrap();
        let (result, took) = net.look_up(asker, query(6), true);
        assert_eq!(found_seq(&result), Some(5));
        assert!(took <= Duration::from_millis(150), "{took:?}");
    }
}

#[test]
fn all_binders_together_cannot_roll_back_what_was_seen_nor_forge() {
    let mut net = Net::new(20, 2);
    publish_all(&mut net, 5);
    net.run(SECOND);
    assert_eq!(found_seq(&net.look_up(3, query(6), true).0), Some(5));
    for hostile in [replay, forge, answer_with_another_key, babble] {
        for n in (0..20).filter(|n| *n != 3) {
            net.members[n].manner = Manner::Hostile(hostile);
        }
        let (result, _) = net.look_up(3, query(6), true);
        assert_eq!(found_seq(&result), None, "{result:?}");
    }
    assert!(net.members[3].dht.counters().stale_records > 0);
    assert!(net.members[3].dht.counters().invalid_records > 0);
    assert!(net.members[3].dht.counters().malformed > 0);
}

#[test]
fn replies_that_nobody_asked_for_change_nothing() {
    let mut dht = Dht::new(Config::default(), identity(1).id(), [1; 32], now_at(0));
    dht.lookup(query(6), false, now_at(0));
    for nonce in 0..100 {
        let reply = Reply { nonce, answer: found(&node_record(6, 1)) };
        dht.handle_reply(identity(2).id(), &codec::encode(&reply).unwrap(), now_at(1));
    }
    assert_eq!(dht.poll_event(), None);
    assert_eq!(dht.counters().unexpected_replies, 100);
}

#[test]
fn garbage_never_panics_and_queues_are_bounded() {
    let mut dht = Dht::new(Config::default(), identity(1).id(), [1; 32], now_at(0));
    let mut rng = crate::rng::Rng::from_seed([3; 32]);
    let home = place(Address::root(), 1);
    let good = codec::encode(&Request::Put { nonce: 1, remaining_s: 9, record: node_record(6, 1).as_bytes().to_vec() })
        .unwrap();
    for _ in 0..3_000 {
        let mut body = good.clone();
        for _ in 0..=rng.below(3) {
            let at = usize::try_from(rng.below(body.len() as u64)).unwrap();
            body[at] ^= 1 << rng.below(8);
        }
        body.truncate(usize::try_from(rng.below(body.len() as u64 + 1)).unwrap());
        let replica = u8::try_from(rng.below(256)).unwrap();
        dht.handle_at_binder(walk(home.clone(), rng.bytes(), replica), &body, now_at(5), || true);
        dht.handle_reply(identity(2).id(), &body, now_at(5));
        let noise: [u8; 40] = rng.bytes();
        dht.handle_at_binder(walk(home.clone(), rng.bytes(), replica % 4), &noise, now_at(5), || true);
        dht.handle_reply(identity(2).id(), &noise, now_at(5));
    }
    assert_eq!(dht.stored(), 0);
    let get = codec::encode(&Request::Get { nonce: 3 }).unwrap();
    for _ in 0..MAX_QUEUED_TRANSMITS + 10 {
        dht.handle_at_binder(walk(home.clone(), [0; 32], 0), &get, now_at(6), || true);
    }
    assert!(dht.counters().dropped_transmits >= 10);
    let foreign = node_record(6, 1);
    assert!(dht.publish(foreign.clone(), now_at(7)).is_err());
    let misplaced = Request::Put { nonce: 1, remaining_s: 9, record: foreign.as_bytes().to_vec() };
    while dht.poll_transmit().is_some() {}
    dht.handle_at_binder(walk(home, [0; 32], 0), &codec::encode(&misplaced).unwrap(), now_at(8), || true);
    let Some(DhtTransmit::Reply { body, .. }) = dht.poll_transmit() else { panic!("no reply") };
    assert_eq!(decode_reply(&body).map(|reply| reply.answer), Ok(Answer::Refused(Refusal::Invalid)));
}
