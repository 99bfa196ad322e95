//! Handshake and transfer.

use std::time::Duration;

use muses::config::Config;
use muses::event::{Event, HandshakeFailure, ResetReason};

use crate::pair::{A, App, B, Faults, MS, Pair, SECOND};

fn both_done(pair: &Pair) -> bool {
    pair.nodes.iter().all(|node| !node.apps.is_empty() && node.apps.values().all(|app| app.closed))
}

#[test]
fn first_bytes_arrive_one_round_trip_after_the_look_up() {
    let mut pair = Pair::new(1);
    pair.open(A, App::sending(10));
    let took = pair.run_until(SECOND, |p| p.nodes[B].apps.values().any(|app| app.read == 10)).unwrap();
    // Look-up 30 ms, Hello, Hello, Finished with data: 10 ms each.
    assert!(took <= 62 * MS, "{took:?}");
    pair.run_until(SECOND, both_done).unwrap();
    assert!(pair.nodes[A].app().accepted);
    assert!(pair.nodes[A].saw(|e| matches!(e, Event::SessionEstablished { .. })));
    assert_eq!(pair.nodes[A].info().label, pair.nodes[B].info().label);
    assert_eq!(pair.nodes[A].store.len(), 1);
    // A second stream, in the other direction, uses the same session and no public key.
    let ops = pair.nodes[A].sessions.public_key_ops() + pair.nodes[B].sessions.public_key_ops();
    pair.open(B, App::sending(1000));
    pair.run_until(SECOND, both_done).unwrap();
    assert_eq!(ops, pair.nodes[A].sessions.public_key_ops() + pair.nodes[B].sessions.public_key_ops());
}

#[test]
fn exact_in_both_directions_whatever_the_network_does() {
    for seed in 0..24 {
        let faults = Faults {
            loss_percent: u64::from(seed % 5) * 5,
            duplicate_percent: u64::from(seed % 3) * 10,
            jitter: MS * u32::from(seed % 4) * 7,
            ..Faults::default()
        };
        let mut pair = Pair::with(seed, Config::default(), faults.clone());
        pair.nodes[B].serve = Some(|| App::sending(700_000));
        pair.open(A, App::sending(900_000));
        let took = pair.run_until(Duration::from_secs(300), both_done);
        assert!(took.is_some(), "seed {seed} {faults:?} {:?} {:?}", pair.nodes[A].app(), pair.nodes[B].app());
        assert_eq!((pair.nodes[A].app().read, pair.nodes[B].app().read), (700_000, 900_000));
    }
}

/// What shares a slow link with a download waits for a packet of it, so that must not be long.
#[test]
fn packets_are_as_long_as_the_path_is_fast() {
    for (bytes_per_second, longest) in [(1_000_000, 8_000), (100_000_000, 62_000)] {
        let faults = Faults { bytes_per_second, ..Faults::default() };
        let mut pair = Pair::with(3, Config::default(), faults);
        pair.open(A, App::sending(bytes_per_second * 3));
        pair.run_until(Duration::from_secs(20), both_done).unwrap();
        let sent = &pair.sent[A];
        let late = sent[sent.len() / 2..].iter().max().unwrap();
        assert!((longest / 2..longest).contains(late), "{late} at {bytes_per_second}/s");
    }
}

#[test]
fn a_clean_path_is_filled() {
    let faults = Faults { bytes_per_second: 20_000_000, ..Faults::default() };
    let mut pair = Pair::with(3, Config::default(), faults);
    pair.open(A, App::sending(20_000_000));
    let took = pair.run_until(Duration::from_secs(20), both_done).unwrap();
    assert!(took < Duration::from_millis(1700), "{took:?}");
    assert!(pair.nodes.iter().all(|node| node.sessions.counters() == Default::default()));
}

#[test]
fn half_close_lets_the_other_direction_go_on() {
    let mut pair = Pair::new(4);
    pair.nodes[B].serve = Some(|| App { read_until: u64::MAX, to_write: 500_000, ..App::default() });
    pair.open(A, App::sending(100));
    pair.run(SECOND);
    assert!(pair.nodes[B].app().ended && !pair.nodes[A].app().ended);
    assert_eq!(pair.nodes[A].app().read, 500_000);
    for app in pair.nodes[B].apps.values_mut() {
        app.finish = true;
    }
    pair.settle();
    pair.run_until(SECOND, both_done).unwrap();
    assert_eq!(pair.nodes[A].info().streams, 0);
}

#[test]
fn both_open_at_once_and_share_one_session() {
    for seed in 0..8 {
        let mut pair = Pair::new(seed);
        pair.faults.jitter = MS * u32::from(seed) * 3;
        pair.open(A, App::sending(200_000));
        pair.run(MS * u32::from(seed) * 8);
        pair.open(B, App::sending(300_000));
        pair.run_until(SECOND * 10, |p| p.nodes.iter().all(|n| n.apps.len() == 2) && both_done(p))
            .unwrap_or_else(|| panic!("seed {seed}: {:?} {:?}", pair.nodes[A].apps, pair.nodes[B].apps));
        assert!(pair.nodes.iter().all(|node| node.apps.values().all(|app| app.reset.is_none())));
        assert_eq!(pair.nodes[A].info().label, pair.nodes[B].info().label);
    }
}

#[test]
fn a_refused_service_says_why() {
    let mut pair = Pair::new(5);
    pair.nodes[B].serve = None;
    pair.open(A, App::sending(100_000));
    pair.run(SECOND);
    assert_eq!(pair.nodes[A].app().reset, Some(ResetReason::UnknownService));
    assert!(pair.nodes[A].app().closed);
    assert!(pair.nodes.iter().all(|node| node.info().streams == 0), "nothing is left behind");
}

#[test]
fn a_peer_that_does_not_answer_is_unreachable() {
    let mut pair = Pair::new(6);
    pair.nodes[B].online = false;
    pair.open(A, App::sending(100));
    pair.run(Duration::from_secs(29));
    assert_eq!(pair.nodes[A].app().reset, None);
    pair.run(Duration::from_secs(3));
    assert_eq!(pair.nodes[A].app().reset, Some(ResetReason::Unreachable));
    assert!(pair.nodes[A].saw(|e| matches!(e, Event::HandshakeFailed { why: HandshakeFailure::Timeout, .. })));
}

#[test]
fn streams_share_the_path_fairly() {
    let faults = Faults { bytes_per_second: 2_000_000, ..Faults::default() };
    let mut pair = Pair::with(7, Config::default(), faults);
    for _ in 0..20 {
        pair.open(A, App::sending(10_000_000));
    }
    pair.run(Duration::from_secs(10));
    let read: Vec<u64> = pair.nodes[B].apps.values().map(|app| app.read).collect();
    let (least, most) = (read.iter().min().unwrap(), read.iter().max().unwrap());
    assert_eq!(read.len(), 20);
    assert!(*least > 700_000 && most - least < 200_000, "{read:?}");
}

#[test]
fn equal_seeds_run_alike() {
    let digest = |seed| {
        let faults = Faults { loss_percent: 5, jitter: 5 * MS, ..Faults::default() };
        let mut pair = Pair::with(seed, Config::default(), faults);
        pair.open(A, App::sending(300_000));
        pair.run(Duration::from_secs(3));
        pair.digest
    };
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}
