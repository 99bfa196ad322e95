//! `testnet sim`: simulations from the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use overlay::config::Config;
use serde::Serialize;

use super::sum::{Sum, report};
use super::{Faults, Options, Outcome, run};
use crate::command::print_line;
use crate::scale::{self, Metric};

/// Seeds that are run before any of them is reported.
const SEEDS_AT_ONCE: u64 = 32;

/// The exit code for arguments that make no sense.
const EXIT_USAGE: u8 = 2;

/// Flags that are for --graph alone. They require it, which clap waives beside what excludes --graph: that has to exclude them, too.
const OF_GRAPH: [&str; 18] = [
    "pairs",
    "lookups",
    "keys",
    "metric",
    "dead",
    "blackholes",
    "silent_binders",
    "lying_binders",
    "malicious_parents",
    "lost_links",
    "moves",
    "flapping",
    "latency",
    "churn_median",
    "duration",
    "split_merge",
    "q",
    "trees",
];

/// Arguments of `testnet sim`.
#[derive(Args, Debug)]
pub struct SimArgs {
    /// The overlay alone, on a graph of links: ov:K, ovp:K, ba:M, pl:G, hrg:G, rgg, rgt or as
    #[arg(long, value_name = "GRAPH")]
    graph: Option<String>,
    /// The overlay alone, as a TOML file says
    #[arg(long, value_name = "FILE", conflicts_with = "graph", conflicts_with_all = OF_GRAPH)]
    scenario: Option<PathBuf>,
    /// The figures of the overlay, all of them, up to --nodes nodes, written to FOLDER as JSON and SVG
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["graph", "scenario"], conflicts_with_all = OF_GRAPH)]
    suite: Option<PathBuf>,
    /// With --graph: pairs of nodes that look each other up and send a packet
    #[arg(long, requires = "graph", default_value_t = 20_000)]
    pairs: usize,
    /// With --graph: look-ups beside those of the pairs
    #[arg(long, requires = "graph", default_value_t = 0)]
    lookups: usize,
    /// With --graph: keys for each node whose binders are looked for, to see how evenly records are spread
    #[arg(long, requires = "graph", default_value_t = 0)]
    keys: usize,
    /// With --graph: by what the next hop is chosen; all but the first are baselines
    #[arg(long, requires = "graph", value_enum, default_value_t)]
    metric: Metric,
    /// With --graph: the share of nodes that die at once before the packets are sent
    #[arg(long, requires = "graph", default_value_t = 0.0, value_parser = share)]
    dead: f64,
    /// With --graph: the share of nodes that pass nothing on for others
    #[arg(long, requires = "graph", default_value_t = 0.0, value_parser = share)]
    blackholes: f64,
    /// With --graph: the share of nodes that do not answer for the records that they keep
    #[arg(long, requires = "graph", default_value_t = 0.0, value_parser = share)]
    silent_binders: f64,
    /// With --graph: the share of nodes that throw away the records that they say to keep, and know nothing when asked
    #[arg(long, requires = "graph", default_value_t = 0.0, value_parser = share)]
    lying_binders: f64,
    /// With --graph: the share of nodes that say that everybody is below them, and pass nothing on
    #[arg(long, requires = "graph", default_value_t = 0.0, value_parser = share)]
    malicious_parents: f64,
    /// With --graph: the share of links that are lost at once while the nodes live
    #[arg(long, requires = "graph", default_value_t = 0.0, value_parser = share)]
    lost_links: f64,
    /// With --graph: the share of nodes that move and have other neighbours, while others send to their old places
    #[arg(long, requires = "graph", default_value_t = 0.0, value_parser = share)]
    moves: f64,
    /// With --graph: the share of links that come and go for some minutes
    #[arg(long, requires = "graph", default_value_t = 0.0, value_parser = share)]
    flapping: f64,
    /// With --graph: mean latency of links in milliseconds, beside 1 ms that all have
    #[arg(long, requires = "graph", default_value_t = 0.0, value_parser = milliseconds)]
    latency: f64,
    /// With --graph: nodes come and go, with this median lifetime (such as 60m)
    #[arg(long, requires = "graph", value_parser = duration)]
    churn_median: Option<Duration>,
    /// With --churn-median: for how long
    #[arg(long, requires = "churn_median", default_value = "2h", value_parser = duration)]
    duration: Duration,
    /// With --graph: the network falls into two parts for a minute
    #[arg(long, requires = "graph")]
    split_merge: bool,
    /// Have each node check each signature itself, although they share a process; the result is the same
    #[arg(long, conflicts_with_all = ["suite", "scenario"])]
    no_memo: bool,
    /// Threads that share the seeds, or with --graph the work; 0 for one for each core; the result is the same with any number
    #[arg(long, default_value_t = 0, conflicts_with_all = ["suite", "scenario"])]
    threads: usize,
    /// With --graph: children per vertex plus one
    #[arg(long, requires = "graph", default_value_t = Config::default().q)]
    q: u16,
    /// With --graph: trees
    #[arg(long, requires = "graph", default_value_t = Config::default().trees)]
    trees: u8,
    /// Nodes in the overlay (at least 3); below 8 there may be nobody who stays, through whom movers find each other.
    #[arg(long, default_value_t = 8, conflicts_with = "scenario")]
    nodes: usize,
    /// First seed.
    #[arg(long, default_value_t = 1, conflicts_with = "scenario")]
    seed: u64,
    /// How many seeds to run from the first on: several machines can share a range.
    #[arg(long, default_value_t = 1, conflicts_with_all = ["suite", "scenario"])]
    seeds: u64,
    /// Transfers between random pairs, in both directions at once.
    #[arg(long, default_value_t = 2, conflicts_with_all = ["graph", "suite", "scenario"])]
    transfers: usize,
    /// Bytes in each direction of a transfer.
    #[arg(long, default_value_t = 2 * 1024 * 1024, conflicts_with_all = ["graph", "suite", "scenario"])]
    bytes: u64,
    /// Longest outage of a move or restart, in seconds; beyond 100 the middle of an outage is slept through by all nodes.
    #[arg(long, default_value_t = 40, conflicts_with_all = ["graph", "suite", "scenario"])]
    longest_outage: u64,
    /// Inject no faults.
    #[arg(long, conflicts_with_all = ["graph", "suite", "scenario"])]
    calm: bool,
    /// Print the outcomes as JSON on stdout, and nothing else there; --graph and --scenario do so anyway.
    #[arg(long)]
    json: bool,
}

/// Runs the simulations; fails unless every byte of every transfer arrived once and in order.
pub fn command(args: &SimArgs) -> ExitCode {
    if let Some(folder) = &args.suite {
        return suite(folder, args);
    }
    if let Some(file) = &args.scenario {
        return match read_scenario(file) {
            Ok(options) => at_scale(&options, 1),
            Err(why) => {
                eprintln!("testnet: {}: {why}", file.display());
                ExitCode::from(EXIT_USAGE)
            }
        };
    }
    if let Some(graph) = &args.graph {
        return at_scale(&args.scale_options(graph), args.seeds);
    }
    with_faults(args)
}

/// Seeds of one node's whole protocol with faults, each a world of its own, on all threads.
fn with_faults(args: &SimArgs) -> ExitCode {
    let threads = match rayon::ThreadPoolBuilder::new().num_threads(args.threads).build() {
        Ok(threads) => threads,
        Err(error) => {
            eprintln!("testnet: no threads for the simulation: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut sum = Sum::default();
    let mut outcomes = Vec::new();
    let end = args.seed.saturating_add(args.seeds);
    let mut first = args.seed;
    while first < end {
        let next = first.saturating_add(SEEDS_AT_ONCE).min(end);
        let some: Vec<Outcome> =
            threads.install(|| (first..next).into_par_iter().map(|seed| run(&args.options(seed))).collect());
        for outcome in &some {
            report(outcome);
            sum.add(outcome);
        }
        if args.json {
            outcomes.extend(some);
        }
        first = next;
    }
    eprintln!("{sum}");
    if args.json {
        print(&outcomes);
    }
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The overlay alone, with many nodes: one object for one seed, an array of them for more.
fn at_scale(options: &scale::Options, seeds: u64) -> ExitCode {
    let mut outcomes = Vec::new();
    for seed in options.seed..options.seed.saturating_add(seeds.max(1)) {
        match scale::run(&scale::Options { seed, ..options.clone() }) {
            Ok(outcome) => {
                if seeds > 1 {
                    note(&outcome);
                }
                outcomes.push(outcome);
            }
            Err(scale::NoSuchGraph(graph, error)) => {
                eprintln!("testnet: {graph}: {error}");
                return ExitCode::from(EXIT_USAGE);
            }
        }
    }
    match outcomes.as_slice() {
        [outcome] => print(outcome),
        outcomes => print(outcomes),
    }
    let is_as_it_should = |outcome: &scale::Outcome| match options.metric {
        Metric::Hyperbolic if options.is_harmful() => true,
        // What breaks may cost packets; after the repair none.
        Metric::Hyperbolic if options.is_faulty() => outcome.is_repaired(),
        Metric::Hyperbolic => outcome.is_exact(),
        Metric::Tree | Metric::Cloak => true,
    };
    if outcomes.iter().all(is_as_it_should) {
        return ExitCode::SUCCESS;
    }
    eprintln!("not every node has joined, or not every look-up and packet has arrived, or two nodes share an address");
    ExitCode::FAILURE
}

/// One run in one line.
fn note(outcome: &scale::Outcome) {
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", share * 100.0));
    let after =
        |words: &str, share: Option<f64>| share.map(|_| format!("  {words} {}", percent(share))).unwrap_or_default();
    let apart = after("apart", outcome.success_while_apart);
    let repaired = after("repaired", outcome.success_after_repair);
    let duplicates = outcome.duplicate_addresses.map(|count| format!("  duplicates {count}")).unwrap_or_default();
    eprintln!(
        "{:>7} nodes {:8} {:10} seed {}  delivered {:>8}  found {:>8}  stretch {}{apart}{repaired}{duplicates}  {:.0} s",
        outcome.nodes,
        outcome.graph,
        outcome.metric,
        outcome.seed,
        percent(outcome.success),
        percent(outcome.lookup_success),
        outcome.stretch_mean.map_or_else(|| "-".to_owned(), |stretch| format!("{stretch:.3}")),
        outcome.wall_s,
    );
}

fn suite(folder: &Path, args: &SimArgs) -> ExitCode {
    match scale::suite(folder, args.nodes, args.seed, note) {
        Ok(outcomes) => {
            if args.json {
                print(&outcomes);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("testnet: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn print(outcomes: &(impl Serialize + ?Sized)) {
    match serde_json::to_string_pretty(outcomes) {
        Ok(text) => print_line(&text),
        Err(error) => eprintln!("the outcome cannot be printed as JSON: {error}"),
    }
}

fn read_scenario(file: &Path) -> Result<scale::Options, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    toml::from_str(&text).map_err(|error| error.message().to_owned())
}

/// A number and s, m or h.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "has to be a number and s, m or h, such as 60m".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..1.0).contains(&share) { Ok(share) } else { Err("has to be at least 0 and below 1".to_owned()) }
}

fn milliseconds(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=60_000.0).contains(&number) { Ok(number) } else { Err("has to be 0 to 60000 milliseconds".to_owned()) }
}

impl SimArgs {
    fn scale_options(&self, graph: &str) -> scale::Options {
        let churn = self.churn_median.map_or(0.0, |median| median.as_secs_f64());
        scale::Options {
            graph: graph.to_owned(),
            nodes: self.nodes,
            seed: self.seed,
            pairs: self.pairs,
            lookups: self.lookups,
            keys_per_node: self.keys,
            q: self.q,
            trees: self.trees,
            metric: self.metric,
            memo: !self.no_memo,
            threads: self.threads,
            faults: scale::Faults {
                dead: self.dead,
                blackholes: self.blackholes,
                silent_binders: self.silent_binders,
                lying_binders: self.lying_binders,
                malicious_parents: self.malicious_parents,
                lost_links: self.lost_links,
                moves: self.moves,
                flapping: self.flapping,
                latency_ms: self.latency,
                churn_median_s: churn,
                churn_duration_s: if churn > 0.0 { self.duration.as_secs_f64() } else { 0.0 },
                split_merge: self.split_merge,
            },
        }
    }

    fn options(&self, seed: u64) -> Options {
        let faults = if self.calm { Faults::none() } else { Faults::default() };
        let longest_outage = Duration::from_secs(self.longest_outage);
        let base = Options::default();
        Options {
            seed,
            nodes: self.nodes,
            transfers: self.transfers,
            bytes: self.bytes,
            limit: base.limit + longest_outage * 6,
            faults: Faults { longest_outage, ..faults },
            memo: !self.no_memo,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_for_a_graph_alone_is_refused_elsewhere() {
        let command = SimArgs::augment_args(clap::Command::new("sim"));
        let help = |flag: &clap::Arg| flag.get_help().map(ToString::to_string).unwrap_or_default();
        let said = command.get_arguments().filter(|flag| help(flag).starts_with("With --"));
        let said: BTreeSet<&str> = said.map(|flag| flag.get_id().as_str()).collect();
        assert_eq!(said, OF_GRAPH.into());
    }
}
