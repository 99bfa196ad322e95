//! The overlay at scale: the production `overlay` code, tens of thousands of nodes in one process, virtual time.
//!
//! Nodes join one after the other over a [graph] of links that `links.only` allows, settle, and are then measured: pairs of nodes
//! look each other up and send a packet. The graph and its shortest paths are known to the measurement alone.

mod angle;
mod baseline;
mod binders;
mod chart;
mod churn;
pub mod graph;
mod kademlia;
mod measure;
mod options;
mod outcome;
mod suite;
mod world;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::{Duration, Instant as WallClock};

use indicatif::{ProgressBar, ProgressStyle};
use overlay::address::TreeId;
use overlay::config::Config;
use overlay::dht::REPLICAS;
use overlay::event::Event;
use overlay::rng::Rng;
use rayon::ThreadPoolBuilder;

use baseline::Baseline;
use binders::Binders;
use churn::Lookups;
use graph::Graph;
use kademlia::Kademlia;
use measure::Pairs;
pub use options::{Faults, MAX_KEYS, Metric, Options};
pub use outcome::Outcome;
pub use suite::suite;
use world::{Conduct, World};

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
/// Nothing is measured before no node has had a new place for this long, or for so long.
const SETTLED: Duration = Duration::from_secs(30);
const SETTLE_LIMIT: Duration = Duration::from_mins(10);
const SETTLE_STEP: Duration = Duration::from_secs(5);
/// What is dead is repaired within this.
const REPAIR: Duration = Duration::from_mins(1);
/// Malicious parents boast for this long before anything is measured.
const BOASTS_TRAVEL: Duration = Duration::from_mins(1);
/// Movers have new places, and have left word at the old ones, within this.
const MOVERS_SETTLE: Duration = Duration::from_secs(5);
/// Look-ups under way at one time, and longer than any takes.
const LOOKUP_BATCH: usize = 1000;
const LOOKUP_LIMIT: Duration = Duration::from_secs(7);
/// Where nothing fails, a Kademlia of more nodes than this is not run beside the overlay: it would take longer.
const MAX_KADEMLIA: usize = 10_000;
/// What nodes say to each other when nothing happens is counted for this long.
const QUIET: Duration = Duration::from_secs(10);

/// A run that cannot be.
#[derive(Debug)]
pub struct NoSuchGraph(pub String, pub graph::ParseKindError);

/// Runs one simulation.
///
/// # Errors
/// [`NoSuchGraph`] when the options name a family of graphs that there is not.
pub fn run(options: &Options) -> Result<Outcome, NoSuchGraph> {
    let clock = WallClock::now();
    let kind = options.kind().map_err(|error| NoSuchGraph(options.graph.clone(), error))?;
    let mut rng = rng_of(options.seed, 0x17);
    let graph = Graph::new(kind, options.nodes, &mut rng);
    let mut outcome = Outcome {
        nodes: options.nodes,
        graph: options.graph.clone(),
        metric: format!("{:?}", options.metric).to_lowercase(),
        trees: if options.metric == Metric::Cloak { 1 } else { options.trees },
        seed: options.seed,
        pairs: options.pairs,
        memo: options.memo,
        faults: options.faults.clone(),
        ..Outcome::default()
    };
    if options.metric == Metric::Cloak {
        let baseline = Baseline::cloak(&graph, &mut rng);
        let pairs = Pairs::route(&graph, options.pairs, &mut rng, |source, target| baseline.route(source, target));
        note_pairs(&mut outcome, &pairs);
        // Without keys those of the nodes' own records; replicas are angles of their own.
        let keys = if options.keys_per_node > 0 { options.keys() } else { options.nodes };
        outcome.dht_max_over_mean = angle::dht_max_over_mean(&baseline, keys * usize::from(REPLICAS), &mut rng);
    } else {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if options.threads == 0 { cores() } else { options.threads };
        let simulate = |rng| simulate(options, graph, threads, &mut outcome, rng);
        match ThreadPoolBuilder::new().num_threads(threads).build() {
            Ok(pool) => pool.install(|| simulate(&mut rng)),
            Err(_) => simulate(&mut rng),
        }
    }
    outcome.wall_s = clock.elapsed().as_secs_f64();
    outcome.peak_rss_bytes = peak_rss_bytes();
    Ok(outcome)
}

/// Randomness of a run for one of its `uses`.
fn rng_of(seed: u64, uses: u8) -> Rng {
    let mut bytes = [uses; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Rng::from_seed(bytes)
}

/// Everything that needs the overlay itself.
fn simulate(options: &Options, graph: Graph, threads: usize, outcome: &mut Outcome, rng: &mut Rng) {
    let config = Config { q: options.q, trees: options.trees, ..Config::default() };
    let mut world = World::new(graph, config, rng.fork(), options.memo, threads, options.faults.latency());
    let bar = progress(options.nodes);
    join_all(&mut world, &bar);
    bar.set_message("converging");
    outcome.converge_virtual_s = converge(&mut world, options.trees);
    outcome.settle_virtual_s = settle(&mut world);
    let before = world.frames();
    bar.set_message("quiet");
    world.run(QUIET);
    outcome.messages_per_node_per_s =
        Some((world.frames() - before) as f64 / options.nodes as f64 / QUIET.as_secs_f64());
    outcome.address_bytes_mean = measure::address_bytes_mean(&world);
    (outcome.state_bytes_mean, outcome.state_bytes_p99) = measure::state_bytes(&world);
    bar.set_message("measuring");
    if options.metric == Metric::Tree {
        let baseline = Baseline::tree_metric(&world);
        let pairs = Pairs::route(world.graph(), options.pairs, rng, |source, target| baseline.route(source, target));
        note_pairs(outcome, &pairs);
    } else {
        let harmful = misbehave(&mut world, &options.faults, rng);
        outcome.harmful_nodes = options.is_harmful().then_some(harmful);
        look_up(options, &mut world, outcome, rng);
        send(options, &mut world, outcome, rng);
        go_on(options, &mut world, outcome, rng, &bar);
    }
    outcome.trace_digest = Some(world.digest());
    bar.finish_and_clear();
}

/// From here on some nodes do harm; how many.
fn misbehave(world: &mut World, faults: &Faults, rng: &mut Rng) -> usize {
    for (share, conduct) in [
        (faults.blackholes, Conduct::Blackhole),
        (faults.silent_binders, Conduct::SilentBinder),
        (faults.lying_binders, Conduct::LyingBinder),
        (faults.malicious_parents, Conduct::MaliciousParent),
    ] {
        for number in measure::some_of(world, share, rng) {
            world.set_conduct(number, conduct);
        }
    }
    let harmful = world.nodes().filter(|node| node.conduct != Conduct::Honest).count();
    if faults.malicious_parents > 0.0 {
        // What they say of themselves has to get around.
        world.run(BOASTS_TRAVEL);
        world.events.clear();
    }
    harmful
}

/// Look-ups beside those of the pairs, and who keeps what.
fn look_up(options: &Options, world: &mut World, outcome: &mut Outcome, rng: &mut Rng) {
    let mut lookups = Lookups::default();
    let before = measure::walks(world);
    let (mut open, mut left) = (BTreeMap::new(), options.lookups);
    while left > 0 {
        let some = left.min(LOOKUP_BATCH);
        lookups.asked += churn::ask(world, some, &mut open, rng, |world, node| world.node(node).overlay.is_some());
        world.run_until(LOOKUP_LIMIT, |world| {
            lookups.hear(world, &mut open);
            open.is_empty()
        });
        left -= some;
    }
    (outcome.lookup_hops_mean, outcome.lookup_busiest_share) = measure::walk_figures(&before, &measure::walks(world));
    note_lookups(outcome, lookups);
    outcome.dht_max_over_mean = measure::dht_max_over_mean(world);
    let keys = options.keys();
    if keys > 0 {
        let binders = Binders::new(world);
        outcome.dht_max_over_mean = binders.max_over_mean(keys, rng);
        outcome.lookup_disagreements = Some(binders.disagreements(options.lookups.max(1000), rng));
    }
    if options.lookups > 0 && options.nodes <= MAX_KADEMLIA && !options.is_faulty() {
        // With randomness of its own: the rest of the run is the same with it and without.
        let mut rng = rng_of(options.seed, 0x18);
        let (lookups, hops) = Kademlia::new(options.nodes, &mut rng).look_up(options.lookups, &mut rng);
        note_kademlia(outcome, lookups, hops);
    }
}

fn note_lookups(outcome: &mut Outcome, lookups: Lookups) {
    outcome.lookups_asked = (lookups.asked > 0).then_some(lookups.asked);
    (outcome.lookup_success, outcome.lookup_stale) = (lookups.success(), lookups.stale_share());
}

fn note_kademlia(outcome: &mut Outcome, lookups: Lookups, hops: Option<f64>) {
    outcome.kademlia_lookups_asked = (lookups.asked > 0).then_some(lookups.asked);
    outcome.kademlia_lookup_success = lookups.success();
    outcome.kademlia_lookup_stale = lookups.stale_share();
    outcome.kademlia_lookup_hops_mean = hops;
}

/// The packets of the pairs; before the repair and after it, where nodes die.
fn send(options: &Options, world: &mut World, outcome: &mut Outcome, rng: &mut Rng) {
    let addresses = measure::first_addresses(world);
    let pairs = Pairs::look_up(world, options.pairs, rng);
    if outcome.lookups_asked.is_none() {
        (outcome.lookups_asked, outcome.lookup_success) = (pairs.lookups_asked(), pairs.lookup_success());
    }
    let Some(Failed { failures, movers }) = fail(world, &options.faults, rng) else {
        return note_pairs(outcome, &pairs.send(world));
    };
    outcome.failures = Some(failures);
    note_pairs(outcome, &pairs.send(world));
    if failures > 0 {
        world.thaw();
        world.run(REPAIR);
        world.events.clear();
        outcome.readdressed_per_failure_mean =
            Some(measure::readdressed(world, &addresses, &movers) as f64 / failures as f64);
        note_repaired(outcome, &Pairs::look_up(world, options.pairs, rng).send(world));
    }
}

/// What broke.
struct Failed {
    failures: usize,
    movers: Vec<usize>,
}

/// What breaks once, or for a while, if anything is to break.
fn fail(world: &mut World, faults: &Faults, rng: &mut Rng) -> Option<Failed> {
    let shares = [faults.dead, faults.lost_links, faults.moves, faults.flapping];
    if shares.iter().all(|share| *share <= 0.0) {
        return None;
    }
    // Orphans link to ancestors that are no neighbours of theirs in the graph.
    world.open();
    let mut failures = 0;
    if faults.flapping > 0.0 {
        failures += world.flap(faults.flapping, rng);
    }
    let movers = measure::some_of(world, faults.moves, rng);
    if !movers.is_empty() {
        failures += world.relocate(&movers, rng);
        world.run(MOVERS_SETTLE);
        world.events.clear();
    }
    world.frozen = faults.dead > 0.0 || faults.lost_links > 0.0;
    if faults.dead > 0.0 {
        failures += measure::kill(world, faults.dead, rng);
    }
    if faults.lost_links > 0.0 {
        failures += world.lose_links(faults.lost_links, rng);
        world.run(Duration::from_millis(10));
    }
    Some(Failed { failures, movers })
}

/// What takes a long time.
fn go_on(options: &Options, world: &mut World, outcome: &mut Outcome, rng: &mut Rng, bar: &ProgressBar) {
    let faults = &options.faults;
    if faults.split_merge {
        bar.set_message("apart and together");
        let mut apart = None;
        let within = |world: &mut World, rng: &mut Rng| {
            apart = Some(Pairs::look_up(world, options.pairs, rng).send(world));
        };
        outcome.duplicate_addresses = Some(churn::split_and_merge(world, rng, within));
        outcome.success_while_apart = apart.as_ref().and_then(Pairs::success);
        outcome.lookup_success_while_apart = apart.as_ref().and_then(Pairs::found);
        note_repaired(outcome, &Pairs::look_up(world, options.pairs, rng).send(world));
    }
    if faults.churn_median_s > 0.0 {
        bar.set_message("churn");
        let before = measure::walks(world);
        let asked = if options.lookups == 0 { options.pairs } else { options.lookups };
        let churned = churn::churn(world, faults.churn_median_s, faults.churn_duration(), asked, rng, bar);
        note_lookups(outcome, churned.lookups);
        outcome.churn_changes = Some(churned.changes);
        outcome.churn_messages_per_node_per_s = churned.messages_per_node_per_s();
        outcome.lookup_hops_mean = measure::walk_figures(&before, &measure::walks(world)).0;
        bar.set_message("after churn");
        world.run(REPAIR);
        world.events.clear();
        note_repaired(outcome, &Pairs::look_up(world, options.pairs, rng).send(world));
        bar.set_message("churn, Kademlia");
        let mut kademlia = Kademlia::new(options.nodes, rng);
        let (lookups, hops) = kademlia.churn(faults.churn_median_s, faults.churn_duration(), asked, rng);
        note_kademlia(outcome, lookups, hops);
    }
}

fn note_pairs(outcome: &mut Outcome, pairs: &Pairs) {
    outcome.success = pairs.success();
    outcome.stretch_mean = pairs.stretch_mean();
    outcome.stretch_p95 = pairs.stretch_p95();
    outcome.hops_mean = pairs.hops_mean();
    outcome.shortest_mean = pairs.shortest_mean();
    outcome.busiest_share = pairs.busiest_share;
    outcome.load_shares = pairs.load_shares;
}

/// What arrives after a repair; the least where several things were repaired.
fn note_repaired(outcome: &mut Outcome, pairs: &Pairs) {
    let least = |one: Option<f64>, other: Option<f64>| one.into_iter().chain(other).reduce(f64::min);
    outcome.success_after_repair = least(outcome.success_after_repair, pairs.success());
    outcome.lookup_success_after_repair = least(outcome.lookup_success_after_repair, pairs.found());
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

/// Virtual seconds until every node has an address in each of so many trees; none when they do not.
fn converge(world: &mut World, trees: u8) -> Option<f64> {
    let start = world.now.instant;
    // Each tree has a root of its own.
    let trees = usize::from(trees).min(world.len());
    let done = |node: &world::Node| TreeId::ALL.iter().take(trees).all(|tree| has_address(node, *tree));
    let mut settled = 0;
    while world.now.instant.since(start) < CONVERGE_LIMIT {
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

/// Virtual seconds until no node had a new place for a while; none when that did not happen.
fn settle(world: &mut World) -> Option<f64> {
    let start = world.now.instant;
    let mut changed = start;
    while world.now.instant.since(start) < SETTLE_LIMIT {
        world.run(SETTLE_STEP);
        let events = std::mem::take(&mut world.events);
        if events.iter().any(|(_, event)| matches!(event, Event::PlaceChanged(_) | Event::PlaceRenewed(_))) {
            changed = world.now.instant;
        }
        if world.now.instant.since(changed) >= SETTLED {
            return Some(changed.since(start).as_secs_f64());
        }
    }
    None
}

fn has_address(node: &world::Node, tree: TreeId) -> bool {
    let place = node.overlay.as_ref().and_then(overlay::Overlay::place);
    place.is_some_and(|place| place.addresses.in_tree(tree).is_some())
}

fn progress(nodes: usize) -> ProgressBar {
    let bar = ProgressBar::new(nodes as u64);
    let style = ProgressStyle::with_template("  {bar:32} {pos:>7} of {len} {prefix}  {elapsed}  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix("nodes");
    bar.set_message("joining");
    bar
}

/// Of this process, by Linux (`VmHWM`).
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string(PathBuf::from("/proc/self/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests;
