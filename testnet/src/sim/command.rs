//! `testnet sim`: simulations from the command line.

use std::num::NonZero;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use overlay::config::Config;

use super::{Faults, Options, Outcome, run};
use crate::scale;

/// The exit code for arguments that make no sense.
const EXIT_USAGE: u8 = 2;

/// Arguments of `testnet sim`.
#[derive(Args, Debug)]
pub struct SimArgs {
    /// The overlay alone, on a graph of links: ov:K, ovp:K, ba:M, pl:G, hrg:G, rgg or as
    #[arg(long, value_name = "GRAPH")]
    graph: Option<String>,
    /// With --graph: pairs of nodes that look each other up and send a packet
    #[arg(long, default_value_t = 20_000)]
    pairs: usize,
    /// With --graph: the share of nodes that die at once before the packets are sent
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    dead: f64,
    /// With --graph: have each node check each signature itself, although they share a process
    #[arg(long)]
    no_memo: bool,
    /// With --graph: threads that share the work [default: one for each core]; the result is the same with any number
    #[arg(long)]
    threads: Option<usize>,
    /// With --graph: children per vertex plus one
    #[arg(long, default_value_t = Config::default().q)]
    q: u16,
    /// With --graph: trees
    #[arg(long, default_value_t = Config::default().trees)]
    trees: u8,
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
    if let Some(graph) = &args.graph {
        return at_scale(args, graph);
    }
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

/// The overlay alone, with many nodes.
fn at_scale(args: &SimArgs, graph: &str) -> ExitCode {
    let kind = match graph.parse() {
        Ok(kind) => kind,
        Err(error) => {
            eprintln!("testnet: {graph}: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let options = scale::Options {
        kind,
        graph: graph.to_owned(),
        nodes: args.nodes,
        seed: args.seed,
        pairs: args.pairs,
        q: args.q,
        trees: args.trees,
        dead: args.dead,
        memo: !args.no_memo,
        threads: args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get)),
    };
    let outcome = scale::run(&options);
    match serde_json::to_string_pretty(&outcome) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("the outcome cannot be printed as JSON: {error}"),
    }
    if args.dead > 0.0 || outcome.is_exact() {
        return ExitCode::SUCCESS;
    }
    eprintln!("not every node has joined, or not every look-up and packet has arrived");
    ExitCode::FAILURE
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..1.0).contains(&share) { Ok(share) } else { Err("has to be at least 0 and below 1".to_owned()) }
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
