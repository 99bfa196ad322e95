//! `testnet sim`: simulations from the command line.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{Faults, Options, Outcome, run};

/// Arguments of `testnet sim`.
#[derive(Args, Debug)]
pub struct SimArgs {
    /// Nodes in the overlay (at least 3).
    #[arg(long, default_value_t = 8)]
    nodes: usize,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds to run, one after the other.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Transfers between random pairs, in both directions at once.
    #[arg(long, default_value_t = 2)]
    transfers: usize,
    /// Bytes in each direction of a transfer.
    #[arg(long, default_value_t = 2 * 1024 * 1024)]
    bytes: u64,
    /// Longest outage of a move or restart, in seconds.
    #[arg(long, default_value_t = 40)]
    longest_outage: u64,
    /// Inject no faults.
    #[arg(long)]
    calm: bool,
    /// Print one JSON array of outcomes on stdout, and nothing else there.
    #[arg(long)]
    json: bool,
}

/// Runs the simulations; fails unless every byte of every transfer arrived once and in order.
pub fn command(args: &SimArgs) -> ExitCode {
    let outcomes: Vec<Outcome> = (args.seed..args.seed.saturating_add(args.seeds))
        .map(|seed| {
            let outcome = run(&args.options(seed));
            report(&outcome);
            outcome
        })
        .collect();
    if args.json {
        match serde_json::to_string_pretty(&outcomes) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("the outcomes cannot be printed as JSON: {error}"),
        }
    }
    if outcomes.iter().all(|outcome| outcome.failures.is_empty()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl SimArgs {
    fn options(&self, seed: u64) -> Options {
        let faults = if self.calm { Faults::none() } else { Faults::default() };
        let longest_outage = Duration::from_secs(self.longest_outage);
        let base = Options::default();
        Options {
            seed,
            nodes: self.nodes,
            transfers: self.transfers,
            bytes: self.bytes,
            limit: base.limit + longest_outage * 4,
            faults: Faults { longest_outage, ..faults },
        }
    }
}

fn report(outcome: &Outcome) {
    eprintln!(
        "seed {}: {} of {} transfers exact, {} faults, {} resumes, {:.1} virtual s, digest {}",
        outcome.seed,
        outcome.exact,
        outcome.transfers,
        outcome.faults,
        outcome.resumes,
        outcome.virtual_s,
        outcome.trace_digest.get(..16).unwrap_or(&outcome.trace_digest)
    );
    for failure in &outcome.failures {
        eprintln!("  {failure}");
    }
}
