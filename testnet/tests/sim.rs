//! Simulated overlays with faults: every byte arrives once and in order, and the same seed gives the same trace.

use testnet::sim::{Faults, Options, run};

/// Seeds of one run of the test suite.
const SEEDS: u64 = 200;

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
    let mut lines: Vec<String> = outcome.failures.iter().map(|line| format!("seed {seed}: {line}")).collect();
    if outcome.joined != outcome.nodes {
        lines.push(format!("seed {seed}: only {} of {} nodes joined", outcome.joined, outcome.nodes));
    }
    if outcome.public_key_ops_after_handshakes != 0 {
        lines.push(format!(
            "seed {seed}: {} public-key operations after the handshakes",
            outcome.public_key_ops_after_handshakes
        ));
    }
    lines
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let options = Options { seed: 42, bytes: 256 * 1024, ..Options::default() };
    let (first, second) = (run(&options), run(&options));
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
