//! All figures of the overlay in one go: what is committed as a snapshot under `docs/overlay`.

use std::fs;
use std::io;
use std::path::Path;

use super::chart::{Chart, Line, svg};
use super::{Faults, Metric, NoSuchGraph, Options, Outcome, run};

/// Graphs that are drawn.
const GRAPHS: [&str; 2] = ["ov:3", "ba:2"];
/// The other ones, of which only numbers are kept.
const OTHERS: [&str; 6] = ["ovp:3", "pl:2.5", "hrg:2.5", "rgg", "rgt", "as"];
/// Nodes, up to what is asked for.
const SIZES: [usize; 5] = [1000, 2000, 4000, 10_000, 100_000];
/// Shares of nodes that die.
const DEAD: [f64; 3] = [0.1, 0.2, 0.3];
/// Median lifetimes under churn, in minutes.
const MEDIANS_MIN: [f64; 3] = [15.0, 30.0, 60.0];
/// Most nodes that die, or come and go: the largest runs are for stretch alone.
const MAX_FAULTY: usize = 4000;
const MAX_CHURNING: usize = 500;
const CHURN_S: f64 = 3600.0;
/// Shares of nodes that do harm.
const HARMFUL: [f64; 4] = [0.02, 0.05, 0.1, 0.2];
const PAIRS: usize = 10_000;
const LOOKUPS: usize = 5000;
/// Pairs of the two runs that show that sharing the checks of signatures changes nothing.
const MEMO_PAIRS: usize = 1000;
const KEYS_PER_NODE: usize = 100;

/// Runs everything with at most `nodes` nodes, and writes `overlay.json` and `overlay.svg` to `folder`; what came of it.
///
/// # Errors
/// When a file cannot be written, or sharing the checks of signatures changed a trace.
pub fn suite(folder: &Path, nodes: usize, seed: u64, mut note: impl FnMut(&Outcome)) -> io::Result<Vec<Outcome>> {
    fs::create_dir_all(folder)?;
    let mut all = Vec::new();
    for options in runs(nodes, seed) {
        let outcome = run(&options).map_err(|NoSuchGraph(graph, why)| io::Error::other(format!("{graph}: {why}")))?;
        note(&outcome);
        all.push((options, outcome));
        // What is done is not lost when a later run is broken off.
        let outcomes: Vec<&Outcome> = all.iter().map(|(_, outcome)| outcome).collect();
        fs::write(folder.join("overlay.json"), serde_json::to_string_pretty(&outcomes)? + "\n")?;
        fs::write(folder.join("overlay.svg"), svg(&charts(&all)))?;
    }
    let of_memo =
        |memo| all.iter().filter(move |(o, _)| o.pairs == MEMO_PAIRS && o.memo == memo).map(|(_, r)| &r.trace_digest);
    if of_memo(true).ne(of_memo(false)) {
        return Err(io::Error::other("a run in which each node checked each signature itself took another course"));
    }
    Ok(all.into_iter().map(|(_, outcome)| outcome).collect())
}

fn runs(nodes: usize, seed: u64) -> Vec<Options> {
    let base = Options { seed, pairs: PAIRS, ..Options::default() };
    let mut runs = Vec::new();
    for size in SIZES.into_iter().filter(|size| *size <= nodes) {
        let balance = if size <= 10_000 { KEYS_PER_NODE } else { 0 };
        for graph in GRAPHS {
            for metric in [Metric::Hyperbolic, Metric::Tree, Metric::Cloak] {
                let measured = metric == Metric::Hyperbolic;
                runs.push(Options {
                    graph: graph.to_owned(),
                    nodes: size,
                    metric,
                    lookups: if measured { LOOKUPS } else { 0 },
                    keys_per_node: if measured { balance } else { 0 },
                    ..base.clone()
                });
            }
        }
    }
    let small = nodes.min(SIZES[0]);
    runs.extend([true, false].map(|memo| Options { nodes: small, memo, pairs: MEMO_PAIRS, ..base.clone() }));
    runs.extend(OTHERS.map(|graph| Options { graph: graph.to_owned(), nodes: small, ..base.clone() }));
    for graph in GRAPHS {
        runs.extend(DEAD.map(|dead| Options {
            graph: graph.to_owned(),
            nodes: nodes.min(MAX_FAULTY),
            faults: Faults { dead, ..Faults::default() },
            ..base.clone()
        }));
    }
    for share in HARMFUL {
        let harm = [
            Faults { blackholes: share, ..Faults::default() },
            Faults { silent_binders: share, ..Faults::default() },
            Faults { lying_binders: share, ..Faults::default() },
            Faults { malicious_parents: share, ..Faults::default() },
        ];
        runs.extend(harm.map(|faults| Options { nodes: small, faults, ..base.clone() }));
    }
    let shaken = [
        Faults { moves: 0.1, ..Faults::default() },
        Faults { lost_links: 0.1, ..Faults::default() },
        Faults { flapping: 0.1, ..Faults::default() },
        Faults { latency_ms: 50.0, ..Faults::default() },
    ];
    runs.extend(shaken.map(|faults| Options { nodes: small, faults, ..base.clone() }));
    runs.extend(MEDIANS_MIN.map(|median| Options {
        nodes: nodes.min(MAX_CHURNING),
        pairs: 100,
        lookups: LOOKUPS,
        faults: Faults { churn_median_s: median * 60.0, churn_duration_s: CHURN_S, ..Faults::default() },
        ..base.clone()
    }));
    runs
}

type Runs = [(Options, Outcome)];

fn charts(runs: &Runs) -> [Chart<'static>; 5] {
    [stretch(runs), dead(runs), load(runs), churn(runs), harm(runs)]
}

fn line(name: String, points: impl Iterator<Item = (f64, Option<f64>)>) -> Line {
    Line { name, points: points.filter_map(|(x, y)| Some((x, y?))).collect() }
}

fn is_calm(options: &Options) -> bool {
    !options.is_faulty() && options.pairs == PAIRS && GRAPHS.contains(&options.graph.as_str())
}

fn stretch(runs: &Runs) -> Chart<'static> {
    let mut lines = Vec::new();
    for graph in GRAPHS {
        for (metric, words) in
            [(Metric::Hyperbolic, ""), (Metric::Tree, ", tree metric"), (Metric::Cloak, ", CLOAK as published")]
        {
            let of = runs.iter().filter(|(o, _)| is_calm(o) && o.graph == graph && o.metric == metric);
            lines.push(line(format!("{graph}{words}"), of.map(|(o, r)| (o.nodes as f64, r.stretch_mean))));
        }
    }
    Chart { title: "Links crossed over the shortest path", x: "nodes", y: "stretch, mean", log_x: true, lines }
}

fn dead(runs: &Runs) -> Chart<'static> {
    let lines = GRAPHS.map(|graph| {
        let of = runs.iter().filter(|(o, _)| o.graph == graph && o.faults.dead > 0.0);
        line(graph.to_owned(), of.map(|(o, r)| (o.faults.dead * 100.0, r.success.map(|share| share * 100.0))))
    });
    Chart {
        title: "Delivered before any repair",
        x: "nodes dead at once (%)",
        y: "packets between connected nodes (%)",
        log_x: false,
        lines: lines.into(),
    }
}

fn harm(runs: &Runs) -> Chart<'static> {
    type Share = fn(&Faults) -> f64;
    type What = fn(&Outcome) -> Option<f64>;
    let kinds: [(&str, Share, What); 5] = [
        ("delivered, blackholes", |f| f.blackholes, |r| r.success),
        ("delivered, malicious parents", |f| f.malicious_parents, |r| r.success),
        ("found, silent binders", |f| f.silent_binders, |r| r.lookup_success),
        ("found, lying binders", |f| f.lying_binders, |r| r.lookup_success),
        ("found, malicious parents", |f| f.malicious_parents, |r| r.lookup_success),
    ];
    let lines = kinds.map(|(name, share, what)| {
        let of = runs.iter().filter(|(o, _)| share(&o.faults) > 0.0);
        line(name.to_owned(), of.map(|(o, r)| (share(&o.faults) * 100.0, what(r).map(|share| share * 100.0))))
    });
    Chart {
        title: "When some nodes do harm, and nobody has noticed yet",
        x: "nodes that do (%)",
        y: "of all packets or look-ups (%)",
        log_x: false,
        lines: lines.into(),
    }
}

fn load(runs: &Runs) -> Chart<'static> {
    let lines = GRAPHS.map(|graph| {
        let calm = |(o, r): &&(Options, Outcome)| is_calm(o) && o.graph == graph && r.load_shares.is_some();
        let largest = runs.iter().filter(calm).max_by_key(|(o, _)| o.nodes);
        let points = largest.and_then(|(_, outcome)| outcome.load_shares).into_iter().flatten();
        let name = largest.map_or_else(|| graph.to_owned(), |(o, _)| format!("{graph}, {} nodes", o.nodes));
        line(name, points.map(|(nodes, share)| (nodes * 100.0, Some(share * 100.0))))
    });
    Chart {
        title: "Who carries the packets",
        x: "busiest nodes (%)",
        y: "share of all forwarding (%)",
        log_x: true,
        lines: lines.into(),
    }
}

fn churn(runs: &Runs) -> Chart<'static> {
    let of = || runs.iter().filter(|(o, _)| o.faults.churn_median_s > 0.0);
    let lost = |share: Option<f64>| share.map(|share| (1.0 - share) * 100.0);
    let minutes = |o: &Options| o.faults.churn_median_s / 60.0;
    let lines = vec![
        line("not found".to_owned(), of().map(|(o, r)| (minutes(o), lost(r.lookup_success)))),
        line("not found, Kademlia".to_owned(), of().map(|(o, r)| (minutes(o), lost(r.kademlia_lookup_success)))),
        line("stale".to_owned(), of().map(|(o, r)| (minutes(o), r.lookup_stale.map(|share| share * 100.0)))),
        line(
            "stale, Kademlia".to_owned(),
            of().map(|(o, r)| (minutes(o), r.kademlia_lookup_stale.map(|share| share * 100.0))),
        ),
    ];
    Chart {
        title: "Look-ups under churn",
        x: "median lifetime of a node (minutes)",
        y: "of all look-ups (%)",
        log_x: false,
        lines,
    }
}
