//! Paths that swallow packets and say nothing: who notices, how soon, and what it costs to watch.

use std::time::Duration;

use muses::config::{MAX_VIGIL, MIN_VIGIL};
use muses::event::Event;

use crate::pair::{A, App, B, MS, Pair, SECOND};

/// From the question to the suspension, on a path of 20 ms: the least silence that a path is given up for.
const JUDGED_WITHIN: Duration = Duration::from_millis(1050);

/// A connection over which both ends have said something, and which nobody ends.
fn talking(seed: u8) -> Pair {
    let mut pair = Pair::new(seed);
    pair.nodes[B].serve = Some(|| App { to_write: 1000, read_until: u64::MAX, ..App::default() });
    pair.open(A, App { to_write: 1000, read_until: u64::MAX, ..App::default() });
    pair.run_until(SECOND, |p| p.nodes.iter().all(|node| node.apps.values().any(|app| app.read == 1000))).unwrap();
    pair
}

fn suspended(pair: &Pair, node: usize) -> bool {
    pair.nodes[node].saw(|event| matches!(event, Event::SessionSuspended { .. }))
}

/// How long both ends together need to notice that no packet arrives any more; nobody has anything to say.
fn noticed_after(mut pair: Pair, idle: Duration) -> Duration {
    pair.run(idle);
    assert!(!suspended(&pair, A) && !suspended(&pair, B), "while all is well");
    pair.faults.loss_percent = 100;
    pair.run_until(100 * SECOND, |p| suspended(p, A) && suspended(p, B)).expect("noticed")
}

#[test]
fn a_blackhole_is_noticed_although_nobody_says_anything() {
    for seed in 0..4 {
        let busy = noticed_after(talking(seed), Duration::ZERO);
        assert!(busy <= MIN_VIGIL + MIN_VIGIL / 4 + JUDGED_WITHIN, "{busy:?}");
        for idle in [60, 600, 3600, 3607] {
            let took = noticed_after(talking(seed), idle * SECOND);
            assert!(took <= MAX_VIGIL + MAX_VIGIL / 4 + JUDGED_WITHIN, "after {idle} s: {took:?}");
        }
    }
}

#[test]
fn who_waits_is_found_where_it_went_before_it_speaks_again() {
    let mut pair = talking(1);
    pair.run(600 * SECOND);
    // B is elsewhere, and what it said of that was lost: nobody sends anything to where it is.
    pair.nodes[B].place = "elsewhere".to_owned();
    let resumed = |p: &Pair| p.nodes[A].saw(|e| matches!(e, Event::SessionResumed { .. }));
    let took = pair.run_until(60 * SECOND, resumed).expect("resumed");
    assert!(took <= MAX_VIGIL + JUDGED_WITHIN + SECOND, "{took:?}");
    pair.run(SECOND);
    for app in pair.nodes[A].apps.values_mut() {
        app.to_write += 500;
    }
    pair.settle();
    let took = pair.run_until(SECOND, |p| p.nodes[B].app().read == 1500).expect("arrived");
    assert!(took <= 20 * MS, "{took:?}");
}

#[test]
fn watching_costs_little_and_nothing_without_streams() {
    let mut pair = talking(3);
    pair.run(60 * SECOND);
    let before = pair.sent[A].len() + pair.sent[B].len();
    pair.run(3600 * SECOND);
    let spent = pair.sent[A].len() + pair.sent[B].len() - before;
    // A question and its answer in each interval, whoever asks.
    assert!(spent <= 2 * 3600 / 15, "{spent} packets in an hour");
    assert!(spent >= 2 * 3600 / 19, "{spent}: nobody asks, so nothing is shown here");
    for node in &mut pair.nodes {
        node.apps.values_mut().for_each(|app| app.finish = true);
    }
    pair.settle();
    pair.run_until(SECOND, |p| p.nodes.iter().all(|node| node.apps.values().all(|app| app.closed))).unwrap();
    pair.run(SECOND);
    let before = [pair.sent[A].len(), pair.sent[B].len()];
    pair.run(86_400 * SECOND / 2);
    assert_eq!([pair.sent[A].len(), pair.sent[B].len()], before, "a session without streams is silent");
}

/// An application that resets timers in a loop, or a neighbour whose link comes and goes.
#[test]
fn whoever_has_waits_begin_anew_all_the_time_keeps_no_dead_path_alive() {
    for neighbours in [false, true] {
        let mut pair = talking(5);
        for app in pair.nodes[A].apps.values_mut() {
            app.to_write += 500;
        }
        pair.nodes[B].place = "elsewhere".to_owned();
        pair.settle();
        let peer = pair.nodes[B].id;
        for _ in 0..12 {
            pair.run(400 * MS);
            let (sessions, now) = (&mut pair.nodes[A].sessions, pair.now);
            if neighbours {
                sessions.handle_new_way(now);
            } else {
                sessions.reset_timers(peer, now);
            }
            pair.settle();
        }
        assert_eq!(pair.nodes[B].app().read, 1500, "neighbours: {neighbours}");
    }
}
