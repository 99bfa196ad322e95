//! The daily refresh of a session's resume secret.

use std::time::Duration;

use muses::config::Config;
use muses::event::{Arrival, Event, Path};
use muses::sessions::Sessions;
use overlay::id::Identity;

use crate::pair::{A, App, B, Faults, MS, Pair, SECOND};

const HOUR: Duration = Duration::from_hours(1);
/// The first byte of an answer to a Re-Hello, and of a Reset.
const ANSWER: u8 = 7;
const RESET: u8 = 8;

/// A session with one stream that stays open.
fn open(seed: u8, faults: Faults) -> Pair {
    let mut pair = Pair::with(seed, Config::default(), faults);
    pair.nodes[B].serve = Some(|| App { read_until: u64::MAX, ..App::default() });
    pair.open(A, App { to_write: 1000, ..App::default() });
    pair.run_until(60 * SECOND, |p| p.nodes[B].apps.values().any(|app| app.read == 1000)).unwrap();
    // Until A has Finished too, and has stored the session.
    pair.run(5 * SECOND);
    pair
}

fn refreshes(pair: &Pair) -> [u64; 2] {
    [A, B].map(|n| pair.nodes[n].info().refreshes)
}

fn ops(pair: &Pair) -> u64 {
    pair.nodes.iter().map(|node| node.sessions.public_key_ops()).sum()
}

/// More bytes arrive, whatever happened.
fn goes_on(pair: &mut Pair) {
    let before = pair.nodes[B].app().read;
    for app in pair.nodes[A].apps.values_mut() {
        app.to_write += 100_000;
    }
    pair.settle();
    pair.run_until(120 * SECOND, |p| p.nodes[B].app().read == before + 100_000).unwrap();
}

#[test]
fn a_session_that_carries_something_is_refreshed_every_day() {
    let mut pair = open(1, Faults::default());
    let before = ops(&pair);
    pair.run(23 * HOUR);
    assert_eq!((refreshes(&pair), ops(&pair)), ([0, 0], before));
    pair.run(2 * HOUR);
    assert_eq!((refreshes(&pair), ops(&pair)), ([1, 1], before + 4), "two keys and two products");
    assert!(pair.nodes.iter().all(|node| !node.saw(|event| matches!(event, Event::SessionSuspended { .. }))));
    pair.run(9 * 24 * HOUR);
    assert_eq!(refreshes(&pair), [10, 10]);
    goes_on(&mut pair);
}

#[test]
fn an_idle_session_is_left_in_peace() {
    let mut pair = Pair::new(2);
    pair.open(A, App { to_write: 10, finish: true, read_until: u64::MAX, ..App::default() });
    pair.run_until(10 * SECOND, |p| p.nodes[A].apps.values().all(|app| app.closed)).unwrap();
    pair.run(72 * HOUR);
    assert_eq!(refreshes(&pair), [0, 0]);
}

#[test]
fn a_refresh_that_an_outage_or_a_crash_interrupts_is_made_up_for() {
    for seed in 0..60 {
        let faults = Faults { loss_percent: 20, jitter: 20 * MS, ..Faults::default() };
        let mut pair = open(seed, faults);
        pair.run(24 * HOUR - 60 * SECOND);
        // Somewhere in the midst of the four frames.
        let before = ops(&pair);
        pair.run_until(HOUR, |p| ops(p) > before).unwrap();
        pair.run(u32::from(seed) * 7 * MS);
        let node = usize::from(seed % 2);
        pair.detach(node);
        pair.run(Duration::from_secs(u64::from(seed) * 30));
        pair.attach(node, &format!("place-of-{seed}"));
        goes_on(&mut pair);
        pair.run_until(4 * HOUR, |p| refreshes(p).iter().all(|done| *done > 0))
            .unwrap_or_else(|| panic!("seed {seed}: {:?}", refreshes(&pair)));
        goes_on(&mut pair);
    }
}

/// Nothing is lost, but for longer than a path is trusted nothing arrives; then all does.
#[test]
fn a_path_that_stalls_in_the_midst_of_a_refresh_leaves_both_ends_on_one_rung() {
    for (steps, stall_ms) in (1..=4).flat_map(|steps| [1200, 1490, 2200, 4000].map(|stall_ms| (steps, stall_ms))) {
        let mut pair = open(4, Faults::default());
        pair.run(24 * HOUR - 60 * SECOND);
        let before = ops(&pair);
        pair.run_until(HOUR, |p| ops(p) >= before + steps).unwrap();
        pair.faults.delay = stall_ms * MS;
        pair.run((stall_ms - 10) * MS);
        pair.faults.delay = 10 * MS;
        // Until each has erased the secrets that it thinks nobody needs any more.
        pair.run(15 * 60 * SECOND);
        pair.detach(A);
        pair.run(SECOND);
        pair.attach(A, "elsewhere");
        goes_on(&mut pair);
        let restarted = |event: &Event| matches!(event, Event::StreamClosed { .. } | Event::HandshakeFailed { .. });
        assert!(!pair.nodes.iter().any(|node| node.saw(restarted)), "{steps} steps, {stall_ms} ms");
        pair.run(10 * 60 * SECOND);
        assert_eq!(refreshes(&pair), [1, 1], "{steps} steps, {stall_ms} ms");
    }
}

/// The Re-Hello of who moves overtakes its Confirm: it is answered from the rung below that to which the Confirm leads.
#[test]
fn a_confirm_that_comes_after_a_re_hello_was_answered_loses_nothing() {
    for outage in [SECOND, 15 * 60 * SECOND] {
        let mut pair = open(5, Faults::default());
        pair.run(24 * HOUR - 60 * SECOND);
        let before = ops(&pair);
        // B has answered, and A has not climbed yet.
        pair.run_until(HOUR, |p| ops(p) >= before + 3).unwrap();
        pair.hold = Some(A);
        pair.run_until(SECOND, |p| ops(p) >= before + 4).unwrap();
        pair.attach(A, "elsewhere");
        pair.run(15 * MS);
        // B has answered the Re-Hello, too. A hears that, but nothing of what it says then arrives.
        pair.faults.loss_percent = 100;
        assert_eq!(refreshes(&pair), [0, 0]);
        pair.release();
        assert_eq!(refreshes(&pair), [0, 1], "the Confirm has come");
        pair.run(15 * MS);
        assert_eq!(pair.nodes[A].info().resumes, 1);
        pair.run(outage);
        pair.faults.loss_percent = 0;
        pair.attach(A, "home");
        goes_on(&mut pair);
        assert!(!pair.nodes.iter().any(|node| node.saw(|event| matches!(event, Event::StreamClosed { .. }))));
        pair.run_until(4 * HOUR, |p| refreshes(p).iter().all(|done| *done > 0)).unwrap();
        pair.run(25 * HOUR);
        goes_on(&mut pair);
    }
}

/// The packet keys come from the new rung within minutes, and the next day's refresh comes, wherever the stall was.
#[test]
fn a_stall_at_the_end_of_a_refresh_leaves_no_doubt_behind() {
    for after_ms in (0..35).step_by(5) {
        let mut pair = open(6, Faults::default());
        pair.run(24 * HOUR - 60 * SECOND);
        let before = ops(&pair);
        pair.run_until(HOUR, |p| ops(p) >= before + 4).unwrap();
        pair.run(after_ms * MS);
        pair.faults.delay = 1500 * MS;
        pair.nodes[A].apps.values_mut().for_each(|app| app.to_write += 200_000);
        pair.settle();
        pair.run(1490 * MS);
        pair.faults.delay = 10 * MS;
        pair.run_until(5 * 60 * SECOND, |p| refreshes(p) == [1, 1]).unwrap();
        let before = pair.resume_of[A];
        pair.run(5 * 60 * SECOND);
        assert!(pair.resume_of[A] > before, "{after_ms} ms: {before}");
        pair.run(25 * HOUR);
        assert_eq!(refreshes(&pair), [2, 2], "{after_ms} ms");
        goes_on(&mut pair);
    }
}

/// What B answers to whoever comes with what A had stored.
fn answer_to_thief(pair: &mut Pair, stolen: &overlay::io::Snapshot) -> Option<u8> {
    let identity = Identity::from_secret(&[1; 32]);
    let mut thief = Sessions::new(Config::default(), identity, [9; 32], [8; 32], pair.now);
    thief.restore(stolen, pair.now);
    thief.handle_attached(Path(b"cellar".to_vec()), pair.now);
    let re_hello = thief.poll_transmit().unwrap().payload;
    let arrival =
        Arrival { from: pair.nodes[A].id, return_path: Path(b"cellar".to_vec()), via: None, ecn: false, hops: 1 };
    let b = &mut pair.nodes[B].sessions;
    b.handle_packet(arrival, re_hello, pair.now);
    b.poll_transmit().and_then(|packet| packet.payload.first().copied())
}

#[test]
fn who_stole_the_resume_secret_is_left_behind() {
    let mut pair = open(3, Faults::default());
    let stolen = pair.nodes[A].store.clone();
    assert_eq!(answer_to_thief(&mut pair, &stolen), Some(ANSWER), "or this test shows nothing");
    pair.run(25 * HOUR);
    assert_eq!(refreshes(&pair), [1, 1]);
    assert_eq!(answer_to_thief(&mut pair, &stolen), Some(RESET));
    goes_on(&mut pair);
}
