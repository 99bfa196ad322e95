//! What may be delivered when, seen from B.

use overlay::id::{Identity, NodeId};
use overlay::time::{Now, WallTime};

use crate::cert::IdCert;
use crate::config::Config;
use crate::content::ContentType;
use crate::dh::{KeyPair, PublicKeyOps, Secret};
use crate::event::{Arrival, Command, Event, Path, Resolved, SessionLabel};
use crate::handshake::OPS_PER_HELLO;
use crate::handshake::tests::Thief;
use crate::sessions::Sessions;

const A: u8 = 1;
pub(in crate::sessions) const B: u8 = 2;

pub(in crate::sessions) fn now() -> Now {
    Now { wall: WallTime::from_unix_micros(1_800_000_000_000_000), ..Now::default() }
}

pub(in crate::sessions) fn id(name: u8) -> NodeId {
    Identity::from_secret(&[name; 32]).id()
}

pub(in crate::sessions) fn node(name: u8) -> Sessions {
    node_at(name, [name; 32], now())
}

fn node_at(name: u8, seed: [u8; 32], now: Now) -> Sessions {
    let mut node = Sessions::new(Config::default(), Identity::from_secret(&[name; 32]), [name + 50; 32], seed, now);
    node.handle_attached(Path(vec![name]), now);
    node
}

pub(in crate::sessions) fn arrival(from: u8) -> Arrival {
    Arrival { from: id(from), return_path: Path(vec![from]), via: None, ecn: false, hops: 1 }
}

pub(in crate::sessions) fn packets(node: &mut Sessions) -> Vec<Vec<u8>> {
    core::iter::from_fn(|| node.poll_transmit()).map(|out| out.payload).collect()
}

pub(in crate::sessions) fn events(node: &mut Sessions) -> Vec<Event> {
    core::iter::from_fn(|| node.poll_event()).collect()
}

/// Until B has sent its Hello: A, B, and that Hello.
fn until_hello_b() -> (Sessions, Sessions, Vec<u8>) {
    let (mut a, mut b) = (node(A), node(B));
    let stream = a.open(id(B), "files", 0, now()).unwrap();
    assert_eq!(a.write(stream, b"early data", now()), 10);
    assert_eq!(a.poll_command(), Some(Command::Resolve(id(B))));
    a.handle_peer(id(B), Resolved { cert: b.cert().to_vec(), path: Path(vec![B]) }, now());
    b.handle_packet(arrival(A), packets(&mut a).remove(0), now());
    let hello = packets(&mut b).remove(0);
    (a, b, hello)
}

#[test]
fn nothing_is_delivered_before_finished() {
    let fresh = node(A).public_key_ops();
    let (mut a, mut b, hello) = until_hello_b();
    a.handle_packet(arrival(B), hello, now());
    // A: B's certificate, e, e1, es, ss, ee, ekem1, se. B: see `OPS_PER_HELLO`. Finished costs neither of them any.
    assert_eq!((a.public_key_ops() - fresh, b.public_key_ops() - fresh), (8, OPS_PER_HELLO));
    let (finished, data): (Vec<_>, Vec<_>) =
        packets(&mut a).into_iter().partition(|packet| ContentType::of(packet) == Some(ContentType::FinishedA));
    assert!(finished.len() == 1 && !data.is_empty(), "data follows Finished at once");
    // The data overtakes Finished.
    for packet in &data {
        b.handle_packet(arrival(A), packet.clone(), now());
        assert!(packets(&mut b).is_empty() && events(&mut b).is_empty() && b.sessions().next().is_none());
    }
    b.handle_packet(arrival(A), finished[0].clone(), now());
    assert!(matches!(events(&mut b)[..], [Event::SessionEstablished { .. }]));
    assert_eq!(b.public_key_ops() - fresh, OPS_PER_HELLO);
    for packet in data {
        b.handle_packet(arrival(A), packet, now());
    }
    assert!(events(&mut b).iter().any(|event| matches!(event, Event::StreamOpened { .. })));
}

fn labels(node: &Sessions) -> Vec<Option<SessionLabel>> {
    node.sessions().map(|session| session.label).collect()
}

/// Opens a stream to the other, and finds it.
pub(in crate::sessions) fn greet(node: &mut Sessions, to: u8, cert: &[u8], now: Now) {
    node.open(id(to), "files", 0, now).unwrap();
    node.handle_peer(id(to), Resolved { cert: cert.to_vec(), path: Path(vec![to]) }, now);
}

/// All that the two have to say to each other arrives.
pub(in crate::sessions) fn talk(nodes: [(&mut Sessions, u8); 2], now: Now) {
    let [(one, one_name), (other, other_name)] = nodes;
    for _ in 0..20 {
        packets(one).into_iter().for_each(|packet| other.handle_packet(arrival(one_name), packet, now));
        packets(other).into_iter().for_each(|packet| one.handle_packet(arrival(other_name), packet, now));
    }
}

/// Who answered a Hello and starts again before the Finished comes knows nothing of that handshake, and its peer cannot know that: until it says so in a handshake of its own.
#[test]
fn who_starts_again_before_finished_is_met_at_once() {
    for [first, second] in [[A, B], [B, A]] {
        let (mut one, mut other) = (node(first), node(second));
        greet(&mut one, second, other.cert(), now());
        other.handle_packet(arrival(first), packets(&mut one).remove(0), now());
        let hello = packets(&mut other).remove(0);
        one.handle_packet(arrival(second), hello, now());
        assert!(one.sessions().all(|session| session.label.is_some()), "it takes the session for set up");
        packets(&mut one);
        let later = now().after(core::time::Duration::from_millis(100));
        let mut other = node_at(second, [99; 32], later);
        greet(&mut other, first, one.cert(), later);
        talk([(&mut one, first), (&mut other, second)], later);
        assert_eq!(labels(&one), labels(&other));
        assert!(events(&mut one).iter().any(|event| matches!(event, Event::StreamOpened { .. })));
    }
}

/// Two that begin at the same time have one session in the end, in whatever order their messages come.
#[test]
fn two_that_greet_at_once_have_one_session() {
    for [first, second] in [[A, B], [B, A]] {
        let (mut one, mut other) = (node(first), node(second));
        greet(&mut one, second, other.cert(), now());
        greet(&mut other, first, one.cert(), now());
        talk([(&mut one, first), (&mut other, second)], now());
        assert_eq!((labels(&one).len(), labels(&one)), (1, labels(&other)));
        for node in [&mut one, &mut other] {
            assert!(events(node).iter().any(|event| matches!(event, Event::StreamOpened { .. })));
        }
    }
}

/// A Finished that was held back, and comes when the two have a younger session, is of a handshake that its sender has given up.
#[test]
fn a_late_finished_replaces_no_younger_session() {
    let later = |ms| now().after(core::time::Duration::from_millis(ms));
    // Of two that began at once the lower id's handshake counts: only that one's peer has given its own up.
    let crossed = if id(A) < id(B) { [A, B] } else { [B, A] };
    for ([first, second], restarts) in [([A, B], true), ([B, A], true), (crossed, false)] {
        let (mut one, mut other) = (node(first), node(second));
        greet(&mut other, first, one.cert(), now());
        one.handle_packet(arrival(second), packets(&mut other).remove(0), now());
        other.handle_packet(arrival(first), packets(&mut one).remove(0), now());
        let held = packets(&mut other).remove(0);
        assert_eq!(ContentType::of(&held), Some(ContentType::FinishedA));
        if restarts {
            other = node_at(second, [99; 32], later(100));
            greet(&mut other, first, one.cert(), later(100));
        } else {
            greet(&mut one, second, other.cert(), later(100));
        }
        talk([(&mut one, first), (&mut other, second)], later(100));
        let before = labels(&one);
        assert_eq!((before.len(), &before), (1, &labels(&other)));
        events(&mut one);
        one.handle_packet(arrival(second), held, later(200));
        assert_eq!(labels(&one), before, "{first}, restarts: {restarts}");
        assert!(!events(&mut one).iter().any(|event| matches!(event, Event::StreamClosed { .. })));
    }
}

/// Its peer answered, started again with its clock set back, and greets: that is no Finished of before.
#[test]
fn who_starts_again_in_the_past_is_met_at_once() {
    // The lower id takes it for the crossing handshake of a peer that has not heard of its own yet, until that one's time is over.
    let [first, second] = if id(A) > id(B) { [A, B] } else { [B, A] };
    let (mut one, mut other) = (node(first), node(second));
    greet(&mut one, second, other.cert(), now());
    other.handle_packet(arrival(first), packets(&mut one).remove(0), now());
    one.handle_packet(arrival(second), packets(&mut other).remove(0), now());
    packets(&mut one);
    let later = now().after(core::time::Duration::from_millis(100));
    let past = Now { wall: WallTime::from_unix_micros(now().wall.as_unix_micros() - 3_600_000_000), ..later };
    let mut other = node_at(second, [99; 32], past);
    greet(&mut other, first, one.cert(), past);
    for _ in 0..20 {
        packets(&mut one).into_iter().for_each(|packet| other.handle_packet(arrival(first), packet, past));
        packets(&mut other).into_iter().for_each(|packet| one.handle_packet(arrival(second), packet, later));
    }
    assert_eq!((labels(&one).len(), labels(&one)), (1, labels(&other)));
}

/// Key compromise impersonation: with B's static key, but not A's, one can make a Hello that B takes for A's. It leads nowhere.
#[test]
fn who_stole_bs_key_cannot_deliver_to_b_as_a() {
    let mut ops = PublicKeyOps::default();
    let pair = |name: u8| KeyPair::new(Secret::from_bytes(&[name + 50; 32]), &mut PublicKeyOps::default());
    let a_cert = IdCert::issue(&Identity::from_secret(&[A; 32]), pair(A).public, 0, now().wall, &mut ops);
    for (guess, has_as_key) in [([9; 32], false), ([B + 50; 32], false), ([A + 50; 32], true)] {
        let mut b = node(B);
        let thief = Thief::new(id(A), &a_cert, id(B), &pair(B), &guess);
        b.handle_packet(arrival(A), thief.hello.clone(), now());
        let reply = packets(&mut b).remove(0);
        assert_eq!(ContentType::of(&reply), Some(ContentType::Hello2), "B answers it");
        // What he lacks is A's key, and nothing else.
        assert_eq!(thief.reads(&reply), has_as_key);
        assert!(events(&mut b).is_empty() && b.sessions().next().is_none());
        // Whatever he sends in place of Finished and data.
        for content in [3, 5] {
            let mut packet = reply.clone();
            packet[0] = content;
            packet.truncate(100);
            b.handle_packet(arrival(A), packet, now());
            assert!(packets(&mut b).is_empty() && events(&mut b).is_empty() && b.sessions().next().is_none());
        }
    }
}

#[test]
fn a_changed_static_key_is_published_and_the_old_one_serves_for_a_record_lifetime() {
    let (mut a, mut b) = (node(A), node(B));
    let old_cert = b.cert().to_vec();
    b.change_static_key([77; 32], now());
    assert_ne!(b.cert(), old_cert);
    assert_eq!(events(&mut b), [Event::CertRenewed]);
    let mut greet = |b: &mut Sessions, at: Now| {
        a = node(A);
        a.open(id(B), "files", 0, at).unwrap();
        a.handle_peer(id(B), Resolved { cert: old_cert.clone(), path: Path(vec![B]) }, at);
        b.handle_packet(arrival(A), packets(&mut a).remove(0), at);
        packets(b).len()
    };
    assert_eq!(greet(&mut b, now()), 1);
    let kept = crate::cert::PREVIOUS_KEY_KEPT;
    let before = now().after(kept - core::time::Duration::from_secs(1));
    b.handle_timeout(before);
    assert_eq!(greet(&mut b, before), 1);
    // Its own timer erases the key, on time.
    for _ in 0..10 {
        let Some((at, _)) = b.poll_timeout().filter(|(at, _)| *at <= now().instant + kept) else { break };
        b.handle_timeout(now().after(at.since(now().instant)));
    }
    assert_eq!(greet(&mut b, now().after(kept)), 0);
}
