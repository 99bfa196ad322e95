//! Simulated overlays with faults: every byte arrives once and in order, and the same seed gives the same trace.

use std::time::Duration;

use testnet::sim::{Faults, Options, run};

/// Seeds of one run of the test suite.
const SEEDS: u64 = 200;
/// Of these, those with outages of up to a year.
const YEAR_SEEDS: u64 = 6;

#[test]
fn two_hundred_seeds_with_faults_are_byte_exact() {
    // Two threads halves the time on two cores; each seed is a world of its own.
    let halves: Vec<_> = (0..2)
        .map(|half| {
            std::thread::spawn(move || {
                (1..=SEEDS).filter(|seed| seed % 2 == half).flat_map(failures).collect::<Vec<_>>()
            })
        })
        .collect();
    let failures: Vec<String> =
        halves.into_iter().flat_map(|half| half.join().expect("a simulation panicked")).collect();
    assert!(failures.is_empty(), "{} failures, the first: {:#?}", failures.len(), &failures[..failures.len().min(5)]);
}

fn failures(seed: u64) -> Vec<String> {
    let outcome = run(&Options { seed, bytes: 512 * 1024, ..Options::default() });
    outcome.failures.iter().map(|line| format!("seed {seed}: {line}")).collect()
}

#[test]
fn every_seed_has_its_faults_and_outages_may_last_a_year() {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    let faults = Faults { longest_outage: YEAR, ..Faults::default() };
    let limit = Options::default().limit + YEAR * 6;
    let outcomes: Vec<_> = (1..=YEAR_SEEDS)
        .map(|seed| run(&Options { seed, bytes: 128 * 1024, limit, faults: faults.clone(), ..Options::default() }))
        .collect();
    for outcome in &outcomes {
        assert_eq!(outcome.failures, Vec::<String>::new(), "{outcome:#?}");
        assert_eq!((outcome.lost_bytes, outcome.wrong_bytes), (0, 0), "{outcome:#?}");
        assert!(outcome.faults >= 10 && outcome.public_key_ops_in_resumes == 0, "{outcome:#?}");
        assert!(outcome.virtual_s >= outcome.longest_outage_s, "{outcome:#?}");
    }
    let longest = outcomes.iter().map(|outcome| outcome.longest_outage_s).fold(0.0, f64::max);
    assert!(longest > 86_400.0 * 100.0, "the longest outage was {longest} s");
}

/// Nobody sleeps meanwhile: leases, pointers and records of who is away run out, and its peer goes on asking for it.
#[test]
fn who_is_away_for_longer_than_its_record_lives_is_met_again() {
    let longest_outage = Duration::from_hours(75);
    let faults =
        Faults { moves: 1, longest_outage, awake: longest_outage, window: Duration::from_secs(1), ..Faults::none() };
    let limit = Options::default().limit + longest_outage;
    let outcome = run(&Options { seed: 1, nodes: 4, transfers: 1, limit, faults, ..Options::default() });
    assert_eq!((outcome.exact, outcome.failures), (1, Vec::new()));
    assert!(outcome.longest_outage_s > 86_400.0, "{} s", outcome.longest_outage_s);
}

#[test]
fn a_fault_that_meets_nothing_to_break_waits_for_it() {
    // With four movers of two ends there are times when both are away already.
    let outcome = run(&Options { seed: 16, bytes: 256 * 1024, ..Options::default() });
    assert_eq!((outcome.faults, outcome.failures), (10, Vec::new()));
}

#[test]
fn the_same_seed_gives_the_same_trace_without_the_memo_too() {
    let options = Options { seed: 42, bytes: 256 * 1024, ..Options::default() };
    let (first, second) = (run(&options), run(&Options { memo: false, ..options.clone() }));
    assert_eq!(first, second);
    assert!(first.faults > 0, "the run had no faults: {first:?}");
    let other = run(&Options { seed: 43, ..options });
    assert_ne!(first.trace_digest, other.trace_digest);
}

#[test]
fn peers_of_sessions_come_to_be_neighbours_where_they_seek_it() {
    let calm = |seed| run(&Options { seed, nodes: 24, transfers: 10, faults: Faults::none(), ..Options::default() });
    let [relayed, direct] = [calm(7), calm(8)];
    assert_eq!((relayed.exact, direct.exact), (relayed.transfers, direct.transfers));
    assert!(relayed.over_one_link < relayed.transfers, "{relayed:?}");
    assert_eq!(direct.over_one_link, direct.transfers, "{direct:?}");
    assert_eq!(direct.resumes, 0, "a better way is no outage");
}

#[test]
fn a_calm_overlay_transfers_without_a_resume() {
    let outcome = run(&Options { faults: Faults::none(), ..Options::default() });
    assert_eq!((outcome.exact, outcome.resumes), (outcome.transfers, 0), "{:#?}", outcome.failures);
}
