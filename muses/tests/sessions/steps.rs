//! Keys are exchanged while data flows (RFC 9001, section 6, but one way): nobody waits, and old ones end in time.

use std::time::Duration;

use muses::config::{Config, MAX_KEY_AGE, OLD_KEY_LIFETIME};

use crate::pair::{A, App, B, Faults, Pair, SECOND};

/// B sends for some minutes.
fn streaming() -> Pair {
    let faults = Faults { bytes_per_second: 50_000, ..Faults::default() };
    let mut pair = Pair::with(1, Config::default(), faults);
    pair.nodes[B].serve = Some(|| App::sending(30_000_000));
    pair.open(A, App::sending(10));
    pair.run_until(SECOND, |pair| pair.nodes[A].app().read > 0).expect("data");
    pair
}

/// Runs until B seals under another key than before; how long that took.
fn until_next_step(pair: &mut Pair) -> Option<Duration> {
    let before = pair.step_of[B];
    pair.run_until(2 * MAX_KEY_AGE, |pair| pair.step_of[B] > before)
}

#[test]
fn a_key_serves_for_two_minutes_and_nothing_waits_for_the_next_one() {
    let mut pair = streaming();
    for step in 1..=4 {
        let took = until_next_step(&mut pair).expect("a step");
        assert!(took <= MAX_KEY_AGE + SECOND, "{took:?}");
        assert_eq!(pair.step_of[B], step, "one at a time");
        // What is lost because the link is full takes a second to come again; whoever lacked the key would wait for ever.
        for _ in 0..10 {
            let read = pair.nodes[A].app().read;
            pair.run_until(2 * SECOND, |pair| pair.nodes[A].app().read > read).expect("data goes on");
        }
    }
    assert_eq!(pair.nodes[A].sessions.counters().forged, 0);
}

#[test]
fn what_was_sealed_under_the_key_before_is_read_for_a_while_and_no_longer() {
    for (late, is_read) in [(OLD_KEY_LIFETIME / 2, true), (OLD_KEY_LIFETIME + SECOND, false)] {
        let mut pair = streaming();
        pair.run(MAX_KEY_AGE - 2 * SECOND);
        assert_eq!(pair.step_of[B], 0);
        pair.hold = Some(B);
        until_next_step(&mut pair).expect("a step");
        pair.run(late);
        let forged = pair.nodes[A].sessions.counters().forged;
        pair.release();
        assert_eq!(pair.nodes[A].sessions.counters().forged, forged + u64::from(!is_read), "{late:?} late");
    }
}
