//! `testnet up`: an overlay of real processes to play with, or to see what becomes of it when some of them are killed.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use node::dashboard::DEFAULT_ADDRESS;
use node::local::service::Forward;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::command::print_line;
use crate::netns::roaming::Roaming;
use crate::network::{Loopback, Network};
use crate::process::{NODE_PROCESS, own_binary};
use crate::scenario::{MENU, Scenario};
use crate::topology::{MAX_NODES, Topology};
use crate::trickle;
use crate::wait::{Result, Trouble, io, stop_wanted};

/// How long the names may take to resolve, at first and after the kills. A limit for what does not end; the times are reported.
const PATIENCE: Duration = Duration::from_mins(3);

/// How often what was typed is looked at.
const PERIOD: Duration = Duration::from_millis(100);

/// The arguments of `testnet up`.
#[derive(Args, Debug)]
pub struct UpArgs {
    /// How many nodes
    #[arg(short, default_value_t = 8, value_parser = node_count)]
    n: usize,
    /// Wait until every name resolves from every node, kill so many as a crash does, wait until the rest find each other, and end
    #[arg(long, value_name = "NODES")]
    kill: Option<usize>,
    /// As root: each node in a network namespace of its own, with real interfaces; who moves leaves one network for another
    #[arg(long)]
    pub(crate) netns: bool,
    /// Serve the dashboard of the first node, on loopback [default: 127.0.0.1:7070], and print its URL
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = DEFAULT_ADDRESS, value_parser = dashboard_address)]
    dashboard: Option<Forward>,
    /// With --kill: what draws the nodes that are killed
    #[arg(long, default_value_t = 1, requires = "kill")]
    seed: u64,
    /// With --kill: print one JSON object on stdout and nothing else
    #[arg(long, requires = "kill")]
    pub(crate) json: bool,
}

fn dashboard_address(text: &str) -> std::result::Result<Forward, String> {
    text.parse()
}

fn node_count(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=MAX_NODES).contains(&n) => Ok(n),
        _ => Err(format!("1 to {MAX_NODES}")),
    }
}

/// What came of killing some.
#[derive(Serialize, Debug)]
struct Drill {
    ok: bool,
    nodes: usize,
    seed: u64,
    /// Until the last node had joined, from the start of the first.
    joined_s: f64,
    /// Until every name resolved from every node, from the start of the first.
    converged_s: f64,
    killed: Vec<String>,
    /// Pairs of the rest that did not resolve when all were asked at once after the kills.
    lost_at_first: usize,
    /// Until every name of the rest resolved from every other of the rest, from the last kill.
    whole_again_s: f64,
}

impl UpArgs {
    /// Runs it; true when all is well.
    ///
    /// # Errors
    /// Nodes that do not start or end by themselves, names that do not resolve.
    pub fn run(&self, out: &Path) -> Result<bool> {
        if let Some(kill) = self.kill.filter(|kill| kill + 2 > self.n) {
            let why = format!("{kill} of {} nodes are too many to kill: two have to be left\n", self.n);
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, why).exit();
        }
        let started = Instant::now();
        let mut topology = match self.dashboard {
            // Where everybody links to everybody, no way is longer than a link.
            Some(_) if self.kill.is_none() => Topology::meshed(self.n),
            _ => Topology::random(self.n),
        };
        let mut scenario = Scenario::new(&topology);
        let front = self.front()?;
        if let (Some(at), Some(first)) = (&self.dashboard, topology.nodes.first_mut()) {
            let at = match &front {
                Some(front) => front.local_addr().map_err(io(at))?.to_string(),
                None => at.to_string(),
            };
            first.settings = format!("dashboard = \"{at}\"\n");
            if self.kill.is_none() {
                first.flags = vec!["--testnet".to_owned(), scenario.listen()?.display().to_string()];
            }
        }
        let mut network: Box<dyn Network> = match self.netns {
            true => Box::new(Roaming::new(&topology)?),
            false => Box::new(Loopback::new(topology)?),
        };
        let mut cluster = Cluster::start(network.as_ref(), &network.topology(), &out.join("up-logs"), |name| {
            eprintln!("{name} has joined");
        })?;
        match self.kill {
            Some(kill) => self.drill(&mut cluster, kill, started),
            None => self.keep_running(&mut cluster, network.as_mut(), scenario, front),
        }
    }

    /// With the dashboard in another network namespace: where browsers of this one find it. Made before any node runs, so that the port is free in both,
    /// and one that is not is told at once.
    fn front(&self) -> Result<Option<TcpListener>> {
        let Some(at) = self.dashboard.as_ref().filter(|_| self.netns).map(ToString::to_string) else { return Ok(None) };
        let taken = |error| Trouble::new(format!("no dashboard at {at}: {error}; try --dashboard 127.0.0.1:0"));
        TcpListener::bind(&at).map(Some).map_err(taken)
    }

    /// Does what is typed, and what the page orders, until Ctrl-C.
    fn keep_running(
        &self,
        cluster: &mut Cluster,
        network: &mut dyn Network,
        mut scenario: Scenario,
        front: Option<TcpListener>,
    ) -> Result<bool> {
        introduce(cluster, network)?;
        if let (Some(_), [first, others @ ..]) = (&self.dashboard, cluster.nodes()) {
            if let Some(last) = others.last() {
                trickle::start(network, last, first)?;
            }
            let data: Value = first.ask(json!({"verb": "dashboard"}))?;
            let url = data.get("url").and_then(Value::as_str).unwrap_or_default();
            front.map_or(Ok(()), |front| network.hosts().lead_to(&first.name, front))?;
            print_line(&format!("\nThe dashboard of {}, with a menu for all of that: {url}", first.name));
        }
        scenario.read_stdin();
        while !stop_wanted() {
            cluster.must_run()?;
            scenario.go_on(cluster, network);
            std::thread::sleep(PERIOD);
        }
        eprintln!("stopping");
        Ok(true)
    }

    fn drill(&self, cluster: &mut Cluster, kill: usize, started: Instant) -> Result<bool> {
        let joined_s = started.elapsed().as_secs_f64();
        cluster.wait_names(PATIENCE)?;
        let converged_s = started.elapsed().as_secs_f64();
        eprintln!("every name resolves from every node after {converged_s:.1} s");
        let killed = kill_some(cluster, kill, self.seed)?;
        let last_kill = Instant::now();
        eprintln!("killed {}", killed.join(" "));
        let lost_at_first = cluster.lost_names().len();
        cluster.wait_names(PATIENCE)?;
        let whole_again_s = last_kill.elapsed().as_secs_f64();
        let nodes = self.n;
        let drill =
            Drill { ok: true, nodes, seed: self.seed, joined_s, converged_s, killed, lost_at_first, whole_again_s };
        if self.json {
            let text = serde_json::to_string(&drill).map_err(|error| Trouble::new(error.to_string()))?;
            print_line(&text);
        } else {
            print_line(&format!(
                "{nodes} nodes joined in {joined_s:.1} s and found each other after {converged_s:.1} s; with {kill} of them killed, \
                 the rest did after {whole_again_s:.1} s ({lost_at_first} pairs not at once)"
            ));
        }
        Ok(true)
    }
}

/// Kills `count` nodes that `seed` draws, the founder among them or not; their names.
fn kill_some(cluster: &mut Cluster, count: usize, seed: u64) -> Result<Vec<String>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut names: Vec<String> = cluster.nodes().iter().map(|node| node.name.clone()).collect();
    let mut killed = Vec::new();
    while killed.len() < count && !names.is_empty() {
        let index = usize::try_from(rng.next_u64() % names.len() as u64).unwrap_or_default();
        killed.push(names.swap_remove(index));
    }
    killed.iter().try_for_each(|name| cluster.kill(name))?;
    Ok(killed)
}

/// Says how to talk to the nodes.
fn introduce(cluster: &Cluster, network: &dyn Network) -> Result<()> {
    print_line("\nAn overlay is running. Talk to its nodes:\n");
    for node in cluster.nodes() {
        print_line(&format!("  muses status --data-dir {}", node.data_dir.display()));
    }
    if let [first, .., last] = cluster.nodes() {
        // Any free port will do as an example.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_or(2222, |at| at.port());
        let (first_dir, last_dir) = (first.data_dir.display(), last.data_dir.display());
        print_line(&format!(
            "\nFor example, reach a web server on {0} from {1}:\n\n  {2}python3 -m http.server 8000 --bind 127.0.0.1\n  \
             muses expose web 127.0.0.1:8000 --allow {1} \
             --data-dir {first_dir}\n  muses connect {0}/web --listen 127.0.0.1:{port} --data-dir {last_dir}\n  \
             {3}curl http://127.0.0.1:{port}/",
            first.name,
            last.name,
            network.hosts().beside(&first.name),
            network.hosts().beside(&last.name),
        ));
    }
    print_line(&format!("\nWithout `muses` in the path, write `{} {NODE_PROCESS}` for it.", own_binary()?.display()));
    print_line(&format!("\nAnd here, each on a line of its own:\n\n{MENU}\n\nCtrl-C stops all."));
    Ok(())
}
