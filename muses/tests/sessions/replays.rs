//! Re-Hellos that come again, from whoever once relayed them; and who asks for how long.

use std::time::Duration;

use muses::config::REHELLO_MAX_WAIT;
use muses::event::{Arrival, Event, Path, ResetReason};
use overlay::id::NodeId;

use crate::pair::{A, App, B, MS, Node, Pair, SECOND};

/// The first byte of a Re-Hello.
const RE_HELLO: u8 = 6;

/// A connection over which something was said, and which nobody ends.
fn talking(seed: u8) -> Pair {
    let mut pair = Pair::new(seed);
    pair.nodes[B].serve = Some(|| App { read_until: u64::MAX, ..App::default() });
    pair.open(A, App { to_write: 1000, ..App::default() });
    pair.run_until(SECOND, |p| p.nodes[B].apps.values().any(|app| app.read == 1000)).unwrap();
    pair.run(SECOND);
    pair
}

/// Re-Hellos of `from`, who tells so many places in turn; its peer hears none of them.
fn recorded(pair: &mut Pair, from: usize, count: u32) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for place in 0..count {
        let (sessions, now) = (&mut pair.nodes[from].sessions, pair.now);
        sessions.handle_attached(Path(format!("cafe-{place}").into_bytes()), now);
        while let Some(packet) = sessions.poll_transmit() {
            packets.push(packet.payload);
        }
        pair.run(300 * MS);
    }
    packets.retain(|packet| packet.first() == Some(&RE_HELLO));
    packets.dedup();
    assert!(packets.len() >= count as usize);
    packets
}

#[test]
fn old_re_hellos_without_end_keep_nobody_from_resuming() {
    // From elsewhere, or over the one neighbour that there is. Whose Re-Hello wins when two cross depends on the ids: both ways.
    let vias = [Some(NodeId::from_bytes([77; 32])), None];
    for (moves, other, via) in vias.into_iter().flat_map(|via| [(A, B, via), (B, A, via)]) {
        let mut pair = talking(1);
        // Only the mover can say where it is.
        pair.resolve_delay = Duration::from_hours(1);
        pair.nodes[moves].online = false;
        let old = recorded(&mut pair, moves, 6);
        pair.detach(moves);
        pair.run(5 * SECOND);
        let arrival = Arrival { from: pair.nodes[moves].id, return_path: Path(Vec::new()), via, ecn: false, hops: 3 };
        let replay = |pair: &mut Pair, ms: usize| {
            let (sessions, now) = (&mut pair.nodes[other].sessions, pair.now);
            sessions.handle_packet(arrival.clone(), old[ms % old.len()].clone(), now);
            pair.settle();
            pair.run(MS);
        };
        (0..1000).for_each(|ms| replay(&mut pair, ms));
        pair.attach(moves, "home");
        let before = pair.nodes.iter().map(|node| node.sessions.public_key_ops()).sum::<u64>();
        for app in pair.nodes[A].apps.values_mut() {
            app.to_write += 500;
        }
        let took = (0..4000).find(|ms| {
            replay(&mut pair, *ms);
            pair.nodes[B].app().read == 1500
        });
        assert!(took.is_some_and(|ms| ms < 2500), "{moves} moves, {via:?}: {took:?} ms");
        assert_eq!(pair.nodes.iter().map(|node| node.sessions.public_key_ops()).sum::<u64>(), before);
    }
}

/// Its round trip is longer than the pause between two words of its own.
#[test]
fn nor_over_a_long_path() {
    for (moves, other) in [(A, B), (B, A)] {
        let mut pair = talking(1);
        pair.faults.delay = 600 * MS;
        // Only the mover can say where it is.
        pair.resolve_delay = Duration::from_hours(1);
        pair.nodes[moves].online = false;
        let old = recorded(&mut pair, other, 6);
        pair.detach(moves);
        pair.run(5 * SECOND);
        let via = Some(NodeId::from_bytes([77; 32]));
        let arrival = Arrival { from: pair.nodes[other].id, return_path: Path(Vec::new()), via, ecn: false, hops: 3 };
        pair.attach(moves, "home");
        for app in pair.nodes[A].apps.values_mut() {
            app.to_write += 500;
        }
        let took = (0..20_000).find(|ms| {
            let (sessions, now) = (&mut pair.nodes[moves].sessions, pair.now);
            sessions.handle_packet(arrival.clone(), old[ms % old.len()].clone(), now);
            pair.settle();
            pair.run(MS);
            pair.nodes[B].app().read == 1500
        });
        assert!(took.is_some_and(|ms| ms < 15_000), "{moves} moves: {took:?} ms");
    }
}

#[test]
fn a_peer_that_names_a_place_in_each_re_hello_draws_no_more_answers() {
    const ANSWER: u8 = 7;
    let mut pair = talking(4);
    pair.nodes[B].online = false;
    let asked = recorded(&mut pair, B, 500);
    let arrival = Arrival { from: pair.nodes[B].id, return_path: Path(Vec::new()), via: None, ecn: false, hops: 3 };
    let mut answers = 0;
    for packet in asked {
        pair.run(2 * MS);
        let (sessions, now) = (&mut pair.nodes[A].sessions, pair.now);
        sessions.handle_packet(arrival.clone(), packet, now);
        while let Some(out) = sessions.poll_transmit() {
            answers += usize::from(out.payload.first() == Some(&ANSWER));
        }
    }
    assert!((64..300).contains(&answers), "{answers} in a second");
}

/// A moved and, before its first packet after that had arrived, moved again; the answer to its second Re-Hello is under way.
fn moved_twice() -> Pair {
    let mut pair = talking(1);
    pair.hold = Some(A);
    pair.attach(A, "platform");
    pair.run(21 * MS);
    pair.attach(A, "train");
    pair.run(12 * MS);
    pair
}

/// It asked again before the first packet under the answer to its first question came, and goes on with the second answer.
#[test]
fn a_first_packet_that_is_late_ends_no_session() {
    let mut pair = moved_twice();
    pair.faults.loss_percent = 100;
    pair.release();
    pair.run(15 * MS);
    pair.run(Duration::from_mins(15));
    pair.faults.loss_percent = 0;
    pair.attach(A, "home");
    for app in pair.nodes[A].apps.values_mut() {
        app.to_write += 500;
    }
    pair.settle();
    pair.run_until(120 * SECOND, |p| p.nodes[B].app().read == 1500).unwrap();
    assert!(!pair.nodes.iter().any(|node| node.saw(|event| matches!(event, Event::StreamClosed { .. }))));
}

/// The same where nothing is lost: both go on at once.
#[test]
fn nor_does_it_wait_for_silence() {
    let mut pair = moved_twice();
    pair.release();
    // It has gone on with the second answer.
    pair.run(15 * MS);
    for app in pair.nodes[A].apps.values_mut() {
        app.to_write += 500;
    }
    pair.settle();
    let took = pair.run_until(5 * SECOND, |p| p.nodes[B].app().read == 1500).unwrap();
    assert!(took < 100 * MS, "{took:?}");
}

#[test]
fn who_reset_what_it_had_does_not_ask_for_ever() {
    let mut pair = talking(2);
    pair.detach(B);
    pair.run(5 * SECOND);
    let keys: Vec<_> = pair.nodes[A].apps.keys().copied().collect();
    for key in keys {
        pair.nodes[A].sessions.reset(key, ResetReason::Application, pair.now);
    }
    pair.run(5 * REHELLO_MAX_WAIT);
    let asked = pair.sent[A].len();
    pair.run(Duration::from_hours(10));
    assert_eq!(pair.sent[A].len(), asked);
}

#[test]
fn who_carries_nothing_does_not_ask_for_ever() {
    let mut pair = talking(2);
    pair.detach(B);
    let before = pair.sent[A].len();
    pair.restart(A);
    pair.run(5 * REHELLO_MAX_WAIT);
    let asked = pair.sent[A].len() - before;
    assert!((5..15).contains(&asked), "{asked}");
    pair.run(Duration::from_hours(10));
    assert_eq!(pair.sent[A].len() - before, asked, "nobody needs the session");
    // The peer does: its streams are gone, as it hears now.
    pair.attach(B, "elsewhere");
    pair.run_until(SECOND, |p| p.nodes[B].app().reset.is_some()).unwrap();
    pair.run(SECOND);
    let resumed = |event: &Event| matches!(event, Event::SessionResumed { .. });
    assert!(pair.nodes.iter().all(|node| node.saw(resumed)));
}

#[test]
fn who_opens_a_stream_waits_for_no_backoff() {
    let mut pair = talking(3);
    pair.faults.loss_percent = 100;
    for app in pair.nodes[A].apps.values_mut() {
        app.to_write += 500;
    }
    pair.settle();
    // The next Re-Hello of its own accord is tens of seconds away.
    pair.run(200 * SECOND);
    pair.faults.loss_percent = 0;
    let key = pair.open(A, App { to_write: 10, ..App::default() });
    let took = pair.run_until(60 * SECOND, |p| p.nodes[A].apps[&key].accepted).unwrap();
    assert!(took <= 100 * MS, "{took:?}");
}

/// A relay keeps a Re-Hello back that its sender gave up, and has it answered after the next one: whoever answered cannot know at first which of the two the other
/// goes on with. If repetitions drew that out, the secrets of before would never be erased, nor refreshed.
#[test]
fn what_is_repeated_for_days_keeps_nobody_unsure() {
    let mut pair = talking(1);
    pair.faults.loss_percent = 100;
    pair.attach(A, "platform");
    let kept_back = pair.re_hello[A].clone().expect("a Re-Hello");
    pair.detach(A);
    pair.run(SECOND);
    pair.faults.loss_percent = 0;
    pair.attach(A, "home");
    pair.run(12 * MS);
    let arrival = Arrival { from: pair.nodes[A].id, return_path: Path(Vec::new()), via: None, ecn: false, hops: 3 };
    let replay = |pair: &mut Pair| {
        let (sessions, now) = (&mut pair.nodes[B].sessions, pair.now);
        sessions.handle_packet(arrival.clone(), kept_back.clone(), now);
        pair.settle();
    };
    let answers = pair.sent[B].len();
    replay(&mut pair);
    assert_eq!(pair.sent[B].len(), answers + 1, "it is answered");
    pair.run(SECOND);
    assert!(pair.nodes.iter().all(Node::is_live));
    for _ in 0..26 * 60 {
        pair.run(Duration::from_mins(1));
        replay(&mut pair);
    }
    for node in &pair.nodes {
        assert_eq!(node.info().refreshes, 1, "one a day");
    }
}
