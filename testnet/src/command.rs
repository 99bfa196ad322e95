//! The command line of `testnet`.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use multiaddr::Multiaddr;
use overlay::id::NodeId;
use serde_json::{Value, json};

use crate::bench::peers::flood;
use crate::bench::{BenchArgs, peers, relay};
use crate::experiment::{self, Plan};
use crate::netns::{self, After, Namespaces};
use crate::network::{Loopback, Network};
use crate::process::die_with_parent;
use crate::report::{Report, STRICT_RESUME_S, Timeline, csv, median};
use crate::sim::command::SimArgs;
use crate::soak::SoakArgs;
use crate::topology::Topology;
use crate::up::UpArgs;
use crate::wait::{self, Result, Trouble, io};
use crate::{plot, sim};

/// The exit code when namespaces were asked for and cannot be had; test drivers know it as "skipped".
const EXIT_SKIPPED: u8 = 77;

/// The MUSeS paper's experiment on real node processes.
///
/// Without a subcommand: starts an overlay of nine nodes on loopback, downloads a file at Bob from Alice through it over
/// plain TCP, moves Bob to another network in the middle, and checks that the bytes are exact. Results go to
/// target/testnet/.
#[derive(Parser, Debug)]
#[command(
    name = "testnet",
    version,
    after_help = "Exit codes: 0 all exact, 1 not, 2 usage, 77 skipped, 130 interrupted"
)]
struct Cli {
    #[command(flatten)]
    job: Job,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Start an overlay, say how to talk to each node, and keep it running until Ctrl-C
    #[command(after_help = "Example:\n  testnet up -n 20 --dashboard")]
    Up(UpArgs),
    /// Run the deterministic simulator
    #[command(after_help = "Example:\n  testnet sim --seeds 2 --bytes 20000")]
    Sim(Box<SimArgs>),
    /// Measure speed, latency, memory and resumes on real processes, beside a chain of plain TCP relays
    #[command(after_help = "Example:\n  testnet bench --quick --only rtt")]
    Bench(BenchArgs),
    /// Have many nodes move again and again under open connections: every byte is checked, and what the nodes hold must not grow
    #[command(after_help = "Example:\n  testnet soak --rounds 4 --movers 2")]
    Soak(SoakArgs),
    /// Be a node: what the harness starts
    #[command(hide = true, disable_help_flag = true)]
    NodeProcess {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Be a plain TCP relay: what `bench` compares with
    #[command(hide = true, name = relay::RELAY_PROCESS)]
    BenchRelay {
        /// Where it connects to
        target: std::net::SocketAddr,
    },
    /// Be many peers of one node: what `bench` sets up sessions with
    #[command(hide = true, name = peers::PEERS_PROCESS)]
    BenchPeers {
        /// The node's id
        node: NodeId,
        /// Where it listens
        at: Multiaddr,
        /// How many peers
        count: usize,
        /// One handshake after the other, so many for each line on stdin
        #[arg(long)]
        batch: Option<usize>,
    },
    /// Be a flood of Hellos: what `bench` sets up sessions in
    #[command(hide = true, name = flood::FLOOD_PROCESS)]
    BenchFlood {
        /// The node's id
        node: NodeId,
        /// Where it listens
        at: Multiaddr,
    },
}

#[derive(Args, Debug)]
struct Job {
    /// Length of the file in bytes
    #[arg(long, default_value_t = 256 << 20, value_parser = clap::value_parser!(u64).range(1 << 20..))]
    bytes: u64,
    /// How long Bob is without a network, in seconds
    #[arg(long, default_value_t = 15.0, value_parser = outage)]
    outage: f64,
    /// How many times
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Judge the median of the times too: the resume must not take longer than 0.2 s
    #[arg(long)]
    strict: bool,
    /// Print one JSON object on stdout and nothing else
    #[arg(long)]
    json: bool,
    /// Folder for throughput.svg, throughput.csv and the nodes' logs
    #[arg(long, default_value = "target/testnet")]
    out: PathBuf,
    /// As root: real interfaces in network namespaces, first IPv4 to IPv4, then IPv4-only to IPv6-only
    #[arg(long)]
    netns: bool,
    /// Which nodes
    #[arg(long, hide = true, value_enum, default_value = "main", conflicts_with = "netns")]
    topology: TopologyName,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum TopologyName {
    Main,
    Minimal,
}

fn outage(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (1.5..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("seconds, from 1.5 to 86400".into()),
    }
}

fn parse(words: impl IntoIterator<Item = OsString>) -> std::result::Result<Cli, clap::Error> {
    let typed = Cli::command().try_get_matches_from(words)?;
    check_place(&typed)?;
    Cli::from_arg_matches(&typed)
}

/// A flag of the main job before a verb would be heard by nobody; only the folder is everybody's.
fn check_place(typed: &ArgMatches) -> std::result::Result<(), clap::Error> {
    let Some(verb) = typed.subcommand_name() else { return Ok(()) };
    let given = |id: &&str| typed.value_source(id) == Some(ValueSource::CommandLine);
    let jobs = Job::augment_args(clap::Command::new(""))
        .get_arguments()
        .map(|flag| flag.get_id().to_string())
        .collect::<Vec<_>>();
    match jobs.iter().map(String::as_str).filter(|id| *id != "out").find(given) {
        Some(id) => {
            let line =
                format!("--{id} is for the experiment alone; see `testnet {verb} --help` for what `{verb}` takes\n");
            Err(Cli::command().error(ErrorKind::ArgumentConflict, line))
        }
        None => Ok(()),
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return say(&error),
    };
    match cli.verb {
        Some(Verb::NodeProcess { arguments }) => {
            die_with_parent();
            node::cli::main(std::iter::once("muses".into()).chain(arguments))
        }
        Some(Verb::Sim(args)) => sim::command::command(&args),
        Some(Verb::BenchRelay { target }) => relay::main(target),
        Some(Verb::BenchPeers { node, at, count, batch }) => peers::main(node, &at, count, batch),
        Some(Verb::BenchFlood { node, at }) => flood::main(node, at),
        Some(Verb::Bench(args)) => carry_through(args.json, || args.run(&cli.job.out)),
        Some(Verb::Soak(args)) => carry_through(args.json, || args.run(&cli.job.out)),
        Some(Verb::Up(args)) => with_namespaces(args.netns, args.json, || args.run(&cli.job.out)),
        None => main_job(&cli.job),
    }
}

/// A mistake in one line; what is none, such as `--help`, as it is.
fn say(error: &clap::Error) -> ExitCode {
    match node::cli::usage_line(error, "testnet") {
        Some(line) => eprintln!("testnet: {line}"),
        None => _ = error.print(),
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn main_job(job: &Job) -> ExitCode {
    with_namespaces(job.netns, job.json, || {
        let object = all_runs(job)?;
        if job.json {
            print_line(&object.to_string());
        }
        Ok(is_ok(&object))
    })
}

/// Does it unless it is to be done in namespaces, and these cannot be had.
fn with_namespaces(netns: bool, json: bool, work: impl FnOnce() -> Result<bool>) -> ExitCode {
    let Some(why) = netns.then(netns::missing).flatten() else { return carry_through(json, work) };
    eprintln!("skipped: {why}");
    if json {
        print_line(&json!({"ok": false, "skipped": why}).to_string());
    }
    ExitCode::from(EXIT_SKIPPED)
}

/// Does it until it ends or the user wants an end. With `json`, an object stands for what could not be carried through.
fn carry_through(json: bool, work: impl FnOnce() -> Result<bool>) -> ExitCode {
    let result = wait::catch_signals().and_then(|()| work());
    if let (true, Err(trouble)) = (json, &result) {
        print_line(&json!({"ok": false, "error": trouble.to_string()}).to_string());
    }
    wait::exit_code(result)
}

/// The JSON object: the (first) experiment's, and inside it that of the move from IPv4 to IPv6.
fn all_runs(job: &Job) -> Result<Value> {
    if !job.netns {
        let topology = match job.topology {
            TopologyName::Main => Topology::main(),
            TopologyName::Minimal => Topology::minimal(),
        };
        return repeated(job, "throughput", || Ok(Box::new(Loopback::new(topology.clone())?)));
    }
    let mut object = repeated(job, "throughput", || Ok(Box::new(Namespaces::new(After::Ipv4)?)))?;
    let second = repeated(job, "throughput-ipv4-to-ipv6", || Ok(Box::new(Namespaces::new(After::Ipv6)?)))?;
    if let Value::Object(fields) = &mut object {
        fields.insert("ok_ipv4_to_ipv4".into(), fields.get("ok").cloned().unwrap_or_default());
        fields.insert("ok".into(), json!(is_ok(&Value::Object(fields.clone())) && is_ok(&second)));
        fields.insert("ipv4_to_ipv6".into(), second);
    }
    Ok(object)
}

/// `--runs` of one experiment; what is shown and drawn is the run with the median resume time.
fn repeated(job: &Job, file: &str, network: impl Fn() -> Result<Box<dyn Network>>) -> Result<Value> {
    let mut runs: Vec<(Report, Timeline)> = Vec::new();
    for run in 0..job.runs {
        if job.runs > 1 {
            eprintln!("run {} of {}", run + 1, job.runs);
        }
        let plan = Plan { bytes: job.bytes, outage: Duration::from_secs_f64(job.outage), seed: u64::from(run) + 1 };
        runs.push(experiment::run(network()?.as_mut(), &plan, &job.out.join(format!("{file}-logs")))?);
    }
    let median_s = median(runs.iter().map(|(report, _)| report.resume_s)).unwrap_or(f64::INFINITY);
    let shown = runs.iter().find(|(report, _)| report.resume_s.total_cmp(&median_s).is_eq());
    let (report, timeline) = shown.ok_or_else(|| Trouble::new("there was no run"))?;
    let files = write_files(&job.out, file, report, timeline)?;

    let slow = job.strict && median_s > STRICT_RESUME_S;
    let ok = runs.iter().all(|(report, _)| report.ok) && !slow;
    if !job.json {
        let mut text = format!("\n{}", report.table());
        if slow {
            text.push_str(&format!("  TOO SLOW: the median resume time is {median_s:.3} s\n"));
        }
        let bad = runs.iter().filter(|(report, _)| !report.ok).count();
        if bad > 0 {
            let log = job.out.join(format!("{file}-logs"));
            text.push_str(&format!(
                "  {bad} of {} runs were not exact; the nodes' logs are in {}\n",
                runs.len(),
                log.display()
            ));
        }
        print_line(&format!("{text}\n  {}\n  {}", files[0].display(), files[1].display()));
    } else {
        eprintln!("{}\n{}", files[0].display(), files[1].display());
    }
    let mut object = to_json(report)?;
    if let Value::Object(fields) = &mut object {
        fields.insert("ok".into(), json!(ok));
        fields.insert("svg".into(), json!(files[0]));
        fields.insert("csv".into(), json!(files[1]));
        if job.runs > 1 {
            let all: Result<Vec<Value>> = runs.iter().map(|(report, _)| to_json(report)).collect();
            fields.insert("runs".into(), Value::Array(all?));
        }
    }
    Ok(object)
}

fn to_json(report: &Report) -> Result<Value> {
    serde_json::to_value(report).map_err(|error| Trouble::new(error.to_string()))
}

fn is_ok(object: &Value) -> bool {
    object.get("ok").and_then(Value::as_bool).unwrap_or(false)
}

fn write_files(out: &Path, name: &str, report: &Report, timeline: &Timeline) -> Result<[PathBuf; 2]> {
    experiment::make_folder(out)?;
    let files = [out.join(format!("{name}.svg")), out.join(format!("{name}.csv"))];
    for (file, text) in files.iter().zip([plot::svg(report, timeline), csv(timeline)]) {
        std::fs::write(file, text).map_err(io(file.display()))?;
    }
    Ok(files.map(|file| file.canonicalize().unwrap_or(file)))
}

/// A reader that has gone away is no trouble of ours.
pub(crate) fn print_line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> std::result::Result<Cli, clap::Error> {
        super::parse(std::iter::once("testnet").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn the_documented_lines_parse() {
        Cli::command().debug_assert();
        for line in [
            "",
            "--json",
            "--outage 3 --out /tmp/x",
            "--runs 3 --strict --json",
            "--netns --json",
            "--out /tmp/x up -n 20",
            "up -n 20",
            "up -n 40 --kill 10 --json",
            "bench --quick --json",
            "sim --seeds 2 --bytes 20000 --calm --threads 1 --no-memo",
            "sim --graph ov:3 --nodes 100 --pairs 5 --churn-median 60m --duration 1h --seeds 2 --json",
            "sim --suite x --nodes 100 --seed 2 --json",
            "sim --scenario x --json",
            "bench --only throughput --only rtt_over_baseline_us --strict",
            "bench --only flood --strict",
            "soak --for 90",
            "soak --for 2h --json",
            "soak --rounds 50 --movers 20 --strict --json",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "--outage 0",
            "--runs 0",
            "up -n 0",
            "up -n 1000",
            "up --json",
            "fly",
            "--bytes 0",
            "bench --only nothing",
            "soak --for 0",
            "soak --for 1d",
            "soak --for 48h",
            "soak --rounds 3",
            "soak --rounds 2",
            "soak --rounds 4 --for 60",
            "soak --movers 0",
            "--netns up -n 20",
            "--json sim",
            "--runs 2 bench",
            "sim --pairs 5",
            "sim --churn-median 60m",
            "sim --suite x --dead 0.1",
            "sim --scenario x --seed 2",
            "sim --scenario x --trees 2",
            "sim --graph ov:3 --transfers 2",
            "sim --graph ov:3 --duration 1h",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        let plain = parse("").unwrap().job;
        assert_eq!((plain.bytes, plain.outage, plain.runs), (256 << 20, 15.0, 1));
    }

    #[test]
    fn a_node_process_gets_its_arguments_as_they_are() {
        let Some(Verb::NodeProcess { arguments }) = parse("node-process up --name a --help").unwrap().verb else {
            panic!("another verb");
        };
        assert_eq!(arguments, ["up", "--name", "a", "--help"]);
    }
}
