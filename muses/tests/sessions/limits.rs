//! Bounds, and what strangers send.

use muses::config::{Config, FIRST_STREAM_WINDOW_BYTES, PRESSED_SEND_BUFFER_BYTES};
use muses::error::OpenError;
use muses::event::{Arrival, Path, ResetReason};
use muses::{MAX_HELD_BYTES, SESSION_HELD_BYTES};
use overlay::rng::Rng;

use crate::pair::{A, App, B, Faults, MS, Pair, SECOND};

#[test]
fn a_slow_reader_holds_the_writer_back() {
    let config = Config { stream_window_bytes: 300_000, send_buffer_bytes: 200_000, ..Config::default() };
    let mut pair = Pair::with(1, config, Faults::default());
    pair.nodes[B].serve = Some(|| App { read_until: 100_000, ..App::default() });
    pair.open(A, App::sending(5_000_000));
    pair.run(30 * SECOND);
    let written = pair.nodes[A].app().written;
    assert!((500_000..=650_000).contains(&written), "{written}");
    assert!(pair.nodes[A].is_live());
    for app in pair.nodes[B].apps.values_mut() {
        app.read_until = u64::MAX;
        app.finish = true;
    }
    pair.settle();
    pair.run_until(30 * SECOND, |p| p.nodes[B].app().closed).unwrap();
    assert_eq!(pair.nodes[B].app().read, 5_000_000);
}

#[test]
fn slow_readers_together_stay_within_the_session_window() {
    let config = Config { session_window_bytes: 2_000_000, ..Config::default() };
    let mut pair = Pair::with(2, config, Faults::default());
    pair.nodes[B].serve = Some(App::default);
    for _ in 0..10 {
        pair.open(A, App::sending(3_000_000));
    }
    pair.run(30 * SECOND);
    // The window itself, and twice as much of what lies there.
    let received = pair.nodes[B].info().received_bytes;
    assert!((3_000_000..=6_000_000).contains(&received), "{received}");
    for app in pair.nodes[B].apps.values_mut() {
        app.read_until = u64::MAX;
        app.finish = true;
    }
    pair.settle();
    pair.run_until(60 * SECOND, |p| p.nodes[A].apps.values().all(|app| app.closed)).unwrap();
}

/// What some readers leave lying keeps no other one waiting; they looked fast at first, so that their windows have grown.
#[test]
fn a_reader_goes_on_beside_others_that_have_stopped() {
    for stopped in [1, 2, 8, 24] {
        let mut pair = Pair::new(5);
        pair.nodes[B].serve = Some(|| App { read_until: 20_000_000, ..App::default() });
        (0..stopped).for_each(|_| _ = pair.open(A, App::sending(60_000_000)));
        pair.run(30 * SECOND);
        assert!(pair.nodes[B].apps.values().all(|app| app.read == 20_000_000), "they have not stopped yet");
        for _ in 0..3 {
            pair.nodes[B].serve = Some(|| App { read_until: u64::MAX, finish: true, ..App::default() });
            let key = pair.open(A, App::sending(10_000_000));
            pair.run_until(5 * SECOND, |p| p.nodes[A].apps[&key].closed).unwrap();
        }
    }
}

/// Many that do not read hold back more than a few do, but not as much for each.
#[test]
fn what_is_kept_for_peers_that_do_not_read_is_bounded() {
    let mut pair = Pair::new(6);
    pair.nodes[B].serve = Some(App::default);
    let keys: Vec<_> = (0..512).map(|_| pair.open(A, App::sending(3_000_000))).collect();
    pair.run(10 * SECOND);
    let written: u64 = keys.iter().map(|key| pair.nodes[A].apps[key].written).sum();
    let kept = written - pair.nodes[B].info().received_bytes;
    // 2 MiB each would be 1 GiB. One session may have a quarter of what is left beside it.
    let most = MAX_HELD_BYTES / 5 + 512 * PRESSED_SEND_BUFFER_BYTES;
    assert!((30_000_000..=most).contains(&kept), "{kept}");
}

/// Other sessions hold all that may be held: each stream goes on with the little that is its own, beside some that nobody reads.
#[test]
fn streams_go_on_when_all_sessions_together_hold_too_much() {
    let config = Config { max_held_bytes: 0, ..Config::default() };
    let mut pair = Pair::with(7, config, Faults::default());
    pair.nodes[B].serve = Some(App::default);
    let stopped: Vec<_> = (0..30).map(|_| pair.open(A, App::sending(3_000_000))).collect();
    pair.run(10 * SECOND);
    let kept =
        stopped.iter().map(|key| pair.nodes[A].apps[key].written).sum::<u64>() - pair.nodes[B].info().received_bytes;
    let own = SESSION_HELD_BYTES + 30 * PRESSED_SEND_BUFFER_BYTES;
    assert!((SESSION_HELD_BYTES..=own).contains(&kept), "{kept}");
    pair.nodes[B].serve = Some(|| App { read_until: u64::MAX, finish: true, ..App::default() });
    let key = pair.open(A, App::sending(1_000_000));
    pair.run_until(60 * SECOND, |p| p.nodes[A].apps[&key].closed).unwrap();
    assert!(pair.nodes[A].apps[&key].reset.is_none());
}

/// 100 MB/s and a round trip of 200 ms: 20 MB are under way when it is full.
fn long_and_wide() -> Faults {
    Faults { delay: 100 * MS, bytes_per_second: 100_000_000, ..Faults::default() }
}

#[test]
fn windows_open_for_a_reader_that_keeps_up() {
    let mut pair = Pair::with(1, Config::default(), long_and_wide());
    pair.nodes[B].serve = Some(|| App::sending(1_000_000_000));
    pair.open(A, App::sending(10));
    pair.run(3 * SECOND);
    let before = pair.nodes[A].app().read;
    pair.run(2 * SECOND);
    let per_second = (pair.nodes[A].app().read - before) / 2;
    // What it began with would let through 1 MiB in a round trip, and 5 MB in a second.
    assert!(per_second > 70_000_000, "{per_second}");
}

#[test]
fn windows_stay_small_for_a_reader_that_does_not() {
    let mut pair = Pair::with(1, Config::default(), long_and_wide());
    pair.nodes[B].serve = Some(|| App { read_until: 0, ..App::default() });
    pair.open(A, App::sending(100_000_000));
    pair.run(SECOND);
    for _ in 0..50 {
        pair.run(100 * MS);
        pair.nodes[B].apps.values_mut().for_each(|app| app.read_until += 100_000);
        pair.settle();
        let ahead = pair.nodes[B].info().received_bytes - pair.nodes[B].app().read;
        assert!(ahead <= FIRST_STREAM_WINDOW_BYTES, "{ahead}");
    }
    assert!(pair.nodes[B].app().read > 3_000_000);
}

#[test]
fn resets_give_their_credit_back() {
    let mut pair = Pair::new(3);
    pair.nodes[B].serve = Some(App::default);
    for turn in 0..20 {
        let key = pair.open(A, App::sending(3_000_000));
        pair.run(100 * MS);
        if turn % 2 == 0 {
            pair.nodes[A].sessions.reset(key, ResetReason::Application, pair.now);
        } else {
            let (&key, _) = pair.nodes[B].apps.iter().next_back().unwrap();
            pair.nodes[B].sessions.reset(key, ResetReason::Application, pair.now);
        }
        pair.settle();
        pair.run(100 * MS);
        assert!(pair.nodes.iter().all(|node| node.info().streams == 0), "turn {turn}");
    }
    pair.nodes[B].serve = Some(|| App { read_until: u64::MAX, finish: true, ..App::default() });
    let key = pair.open(A, App::sending(3_000_000));
    pair.run_until(5 * SECOND, |p| p.nodes[A].apps[&key].closed).unwrap();
    assert!(pair.nodes[A].apps[&key].reset.is_none());
}

#[test]
fn garbage_and_tampered_packets_change_nothing() {
    let mut rng = Rng::from_seed([9; 32]);
    let mut pair = Pair::new(4);
    pair.nodes[B].serve = Some(|| App::sending(3_000_000));
    pair.open(A, App::sending(10));
    pair.run_until(SECOND, |p| p.nodes[A].app().read > 100_000).unwrap();
    let label = pair.nodes[A].info().label.unwrap();
    let (a, b) = (pair.nodes[A].id, pair.nodes[B].id);
    for turn in 0..4000u64 {
        let mut payload: Vec<u8> = (0..rng.below(700)).map(|_| rng.bytes::<1>()[0]).collect();
        if let Some(kind) = payload.first_mut() {
            *kind = (turn % 10) as u8;
        }
        if turn % 3 == 0 && payload.len() > 40 {
            payload[1..17].copy_from_slice(&label.0);
        }
        let from = if turn % 2 == 0 { a } else { b };
        let to = usize::from(turn % 4 < 2);
        let arrival = Arrival { from, return_path: Path(b"nowhere".to_vec()), via: None, ecn: false, hops: 1 };
        pair.nodes[to].sessions.handle_packet(arrival, payload, pair.now);
        pair.settle();
        if turn % 100 == 0 {
            pair.run(MS);
        }
    }
    pair.run_until(9 * SECOND, |p| p.nodes[A].app().closed && p.nodes[A].app().reset.is_none()).unwrap();
    assert!(pair.nodes[A].sessions.counters().forged > 0 && pair.nodes[A].sessions.counters().unknown > 0);
}

#[test]
fn numbers_of_streams_and_sessions_are_limited() {
    let config = Config { max_streams_per_session: 3, max_sessions: 1, ..Config::default() };
    let mut pair = Pair::with(5, config, Faults::default());
    let (a, b) = (pair.nodes[A].id, pair.nodes[B].id);
    for _ in 0..3 {
        pair.open(A, App::default());
    }
    let node = &mut pair.nodes[A];
    assert_eq!(node.sessions.open(b, "files", 0, pair.now), Err(OpenError::TooManyStreams));
    assert_eq!(node.sessions.open(a, "files", 0, pair.now), Err(OpenError::Own));
    assert_eq!(node.sessions.open(b, &"x".repeat(65), 0, pair.now), Err(OpenError::ServiceName));
    let stranger = overlay::id::Identity::from_secret(&[77; 32]).id();
    assert_eq!(node.sessions.open(stranger, "files", 0, pair.now), Err(OpenError::TooManySessions));
}

#[test]
fn stopping_tells_the_peer() {
    let mut pair = Pair::new(6);
    pair.open(A, App { read_until: u64::MAX, ..App::default() });
    pair.run(SECOND);
    pair.nodes[A].sessions.close_all(pair.now);
    pair.settle();
    pair.run(SECOND);
    assert_eq!(pair.nodes[B].app().reset, Some(ResetReason::Closing));
}
