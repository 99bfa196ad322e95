//! The overlay at scale: the production `overlay` code, tens of thousands of nodes in one process, virtual time.
//!
//! Nodes join one after the other over a [graph] of links that `links.only` allows, settle, and are then measured: pairs of nodes
//! look each other up and send a packet. The graph and its shortest paths are known to the measurement alone.

pub mod graph;
mod measure;
mod memo;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant as WallClock};

use indicatif::{ProgressBar, ProgressStyle};
use overlay::address::TreeId;
use overlay::config::Config;
use overlay::rng::Rng;
use serde::Serialize;

use graph::{Graph, Kind};
use measure::Pairs;
use world::World;

/// Between the starts of two nodes.
const JOIN_GAP: Duration = Duration::from_micros(250);
/// Between those of the first ones, among which the founder chooses the heirs: before it has, there is only one tree.
const FIRST_GAP: Duration = Duration::from_millis(50);
/// How many these are.
const FIRST_NODES: usize = 64;
/// Nodes that have joined between two looks at the progress bar.
const PROGRESS_STEP: usize = 256;
/// How long joined nodes may take to have all their addresses.
const CONVERGE_LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked whether they have.
const CONVERGE_STEP: Duration = Duration::from_millis(100);
/// Records and adverts settle for this long before anything is measured.
const SETTLE: Duration = Duration::from_secs(20);
/// What nodes say to each other when nothing happens is counted for this long.
const QUIET: Duration = Duration::from_secs(10);

/// What one run does.
#[derive(Clone, Debug)]
pub struct Options {
    /// The family of graphs, and how it was written.
    pub kind: Kind,
    /// As it was written.
    pub graph: String,
    /// How many nodes.
    pub nodes: usize,
    /// The only source of randomness.
    pub seed: u64,
    /// Pairs of nodes between which a packet is sent.
    pub pairs: usize,
    /// Children per vertex plus one.
    pub q: u16,
    /// Trees.
    pub trees: u8,
    /// Check each signature once for all nodes, instead of once in each.
    pub memo: bool,
    /// Threads that share the work; the result does not depend on it.
    pub threads: usize,
    /// The share of nodes that die at once before the packets are sent, unrepaired.
    pub dead: f64,
}

/// What a run showed. What it did not measure is none.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// How many nodes.
    pub nodes: usize,
    /// On which graph.
    pub graph: String,
    /// The seed.
    pub seed: u64,
    /// Packets that arrived, of those whose ends were connected by live links.
    pub success: Option<f64>,
    /// Links crossed over links of the shortest path.
    pub stretch_mean: Option<f64>,
    /// The same, 95th percentile.
    pub stretch_p95: Option<f64>,
    /// Links crossed.
    pub hops_mean: Option<f64>,
    /// Links of the shortest path.
    pub shortest_mean: Option<f64>,
    /// The share of all forwarding that the busiest node did.
    pub busiest_share: Option<f64>,
    /// Bytes of protocol state in a node.
    pub state_bytes_mean: Option<f64>,
    /// The same, 99th percentile.
    pub state_bytes_p99: Option<f64>,
    /// Bytes of a node's encoded addresses, all trees.
    pub address_bytes_mean: Option<f64>,
    /// Look-ups that found the record.
    pub lookup_success: Option<f64>,
    /// Links crossed by the walk of a look-up to its binder.
    pub lookup_hops_mean: Option<f64>,
    /// Records kept by the fullest node over the mean.
    pub dht_max_over_mean: Option<f64>,
    /// Addresses in the first tree that changed for each node that died, the dead ones apart.
    pub readdressed_per_failure_mean: Option<f64>,
    /// Virtual time from the last join until every node had an address in every tree.
    pub converge_virtual_s: Option<f64>,
    /// Frames that a node received when nothing happened.
    pub messages_per_node_per_s: Option<f64>,
    /// SHA-256 over all frames: when, where, what.
    pub trace_digest: String,
    /// How long the run took.
    pub wall_s: f64,
    /// The most memory that the process had.
    pub peak_rss_bytes: Option<u64>,
}

impl Outcome {
    /// Whether every node joined every tree, and every look-up and packet that was tried arrived.
    pub fn is_exact(&self) -> bool {
        let all = |share: Option<f64>| share.is_none_or(|share| share >= 1.0);
        self.converge_virtual_s.is_some() && all(self.success) && all(self.lookup_success)
    }
}

/// Runs one simulation.
pub fn run(options: &Options) -> Outcome {
    let clock = WallClock::now();
    let mut seed = [0x17; 32];
    seed[..8].copy_from_slice(&options.seed.to_le_bytes());
    let mut rng = Rng::from_seed(seed);
    let graph = Graph::new(options.kind, options.nodes, &mut rng);
    let config = Config { q: options.q, trees: options.trees, ..Config::default() };
    let mut world = World::new(graph, config, rng.fork(), options.memo, options.threads);
    let bar = progress(options.nodes);
    join_all(&mut world, &bar);
    bar.set_message("converging");
    let converge_virtual_s = converge(&mut world);
    world.run(SETTLE);
    let before = world.frames;
    bar.set_message("quiet");
    world.run(QUIET);
    let messages = (world.frames - before) as f64 / options.nodes as f64 / QUIET.as_secs_f64();
    bar.set_message("measuring");
    let pairs = Pairs::measure(&mut world, options.pairs, options.dead, &mut rng);
    bar.finish_and_clear();
    Outcome {
        nodes: options.nodes,
        graph: options.graph.clone(),
        seed: options.seed,
        success: pairs.success(),
        stretch_mean: pairs.stretch_mean(),
        stretch_p95: pairs.stretch_p95(),
        hops_mean: pairs.hops_mean(),
        shortest_mean: pairs.shortest_mean(),
        busiest_share: pairs.busiest_share,
        state_bytes_mean: None,
        state_bytes_p99: None,
        address_bytes_mean: measure::address_bytes_mean(&world),
        lookup_success: pairs.lookup_success(),
        lookup_hops_mean: None,
        dht_max_over_mean: measure::dht_max_over_mean(&world),
        readdressed_per_failure_mean: None,
        converge_virtual_s,
        messages_per_node_per_s: Some(messages),
        trace_digest: world.digest(),
        wall_s: clock.elapsed().as_secs_f64(),
        peak_rss_bytes: peak_rss_bytes(),
    }
}

fn join_all(world: &mut World, bar: &ProgressBar) {
    let nodes: Vec<usize> = (0..world.len()).collect();
    for some in nodes.chunks(PROGRESS_STEP) {
        let mut wait = Duration::ZERO;
        for &node in some {
            world.start(node, wait);
            wait += if node < FIRST_NODES { FIRST_GAP } else { JOIN_GAP };
        }
        world.run(wait);
        world.events.clear();
        bar.inc(some.len() as u64);
    }
    bar.set_position(world.len() as u64);
}

/// Virtual seconds until every node has an address in each tree that has a root; none when they do not.
fn converge(world: &mut World) -> Option<f64> {
    let start = world.now.instant;
    let mut settled = 0;
    while world.now.instant.since(start) < CONVERGE_LIMIT {
        let trees = TreeId::ALL.iter().filter(|tree| world.nodes().any(|node| has_address(node, **tree))).count();
        let done = |node: &world::Node| TreeId::ALL.iter().take(trees).all(|tree| has_address(node, *tree));
        while settled < world.len() && done(world.node(settled)) {
            settled += 1;
        }
        if settled == world.len() {
            return Some(world.now.instant.since(start).as_secs_f64());
        }
        world.run(CONVERGE_STEP);
        world.events.clear();
    }
    None
}

fn has_address(node: &world::Node, tree: TreeId) -> bool {
    let place = node.overlay.as_ref().and_then(overlay::Overlay::place);
    place.is_some_and(|place| place.addresses.in_tree(tree).is_some())
}

fn progress(nodes: usize) -> ProgressBar {
    let bar = ProgressBar::new(nodes as u64);
    let style = ProgressStyle::with_template("  {bar:32} {pos:>7} of {len} nodes  {elapsed}  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message("joining");
    bar
}

/// Of this process, by Linux (`VmHWM`).
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string(PathBuf::from("/proc/self/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
