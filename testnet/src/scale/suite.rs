//! All figures of the overlay in one go: what is committed as a snapshot under `docs/overlay`.

use std::fs;
use std::io;
use std::path::Path;

use super::chart::{Chart, Line, svg};
use super::{Faults, Metric, NoSuchGraph, Options, Outcome, run};

/// Graphs that are drawn.
const GRAPHS: [&str; 2] = ["ov:3", "ba:2"];
/// The other ones, which have a chart of their own.
const OTHERS: [&str; 6] = ["ovp:3", "pl:2.5", "hrg:2.5", "rgg", "rgt", "as"];
/// Tenths of the nodes that are asked for: each line has a point for each.
const SIZES: [usize; 3] = [1, 3, 10];
/// Fewer nodes than this show nothing.
const LEAST_NODES: usize = 10;
/// Most nodes of the other graphs, of nodes that do harm, and of what is shaken.
const SMALL: usize = 1000;
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
/// No more pairs than so many for each node.
const PAIRS_PER_NODE: usize = 10;
const LOOKUPS: usize = 5000;
/// Pairs of the two runs that show that sharing the checks of signatures changes nothing.
const MEMO_PAIRS: usize = 1000;
const KEYS_PER_NODE: usize = 100;
/// Nodes up to which keys are looked for, and beside which a Kademlia runs.
const MAX_KEYED: usize = 10_000;

/// What a run is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Nothing fails.
    Calm,
    /// Nothing fails, to show that sharing the checks of signatures changes nothing.
    Memo,
    /// Something does.
    Faulty,
}

type Runs = [(Part, Options, Outcome)];

/// Runs everything with at most `nodes` nodes, and writes `overlay.json` and `overlay.svg` to `folder`; what came of it.
///
/// # Errors
/// When a file cannot be written, or sharing the checks of signatures changed a trace.
pub fn suite(folder: &Path, nodes: usize, seed: u64, mut note: impl FnMut(&Outcome)) -> io::Result<Vec<Outcome>> {
    fs::create_dir_all(folder)?;
    let mut all = Vec::new();
    for (part, options) in runs(nodes, seed) {
        let outcome = run(&options).map_err(|NoSuchGraph(graph, why)| io::Error::other(format!("{graph}: {why}")))?;
        note(&outcome);
        all.push((part, options, outcome));
        // What is done is not lost when a later run is broken off.
        let outcomes: Vec<&Outcome> = all.iter().map(|(_, _, outcome)| outcome).collect();
        fs::write(folder.join("overlay.json"), serde_json::to_string_pretty(&outcomes)? + "\n")?;
        fs::write(folder.join("overlay.svg"), svg(&charts(&all)))?;
    }
    let of_memo = |memo| {
        let runs = all.iter().filter(move |(part, options, _)| *part == Part::Memo && options.memo == memo);
        runs.map(|(_, _, outcome)| &outcome.trace_digest)
    };
    if of_memo(true).ne(of_memo(false)) {
        return Err(io::Error::other("a run in which each node checked each signature itself took another course"));
    }
    Ok(all.into_iter().map(|(_, _, outcome)| outcome).collect())
}

fn runs(nodes: usize, seed: u64) -> Vec<(Part, Options)> {
    let options =
        |nodes: usize| Options { seed, nodes, pairs: PAIRS.min(nodes * PAIRS_PER_NODE), ..Options::default() };
    let mut calm: Vec<Options> = sizes(nodes).into_iter().flat_map(|size| calm(&options(size))).collect();
    let small = nodes.min(SMALL);
    for size in sizes(small) {
        calm.extend(OTHERS.map(|graph| Options { graph: graph.to_owned(), ..options(size) }));
    }
    let memo = [true, false].map(|memo| Options { memo, pairs: MEMO_PAIRS, ..options(small) });
    let few = options(nodes.min(MAX_FAULTY));
    let mut faulty = Vec::new();
    for graph in GRAPHS {
        let faults = DEAD.map(|dead| Faults { dead, ..Faults::default() });
        faulty.extend(faults.map(|faults| Options { graph: graph.to_owned(), faults, ..few.clone() }));
    }
    for share in HARMFUL {
        let harm = [
            Faults { blackholes: share, ..Faults::default() },
            Faults { silent_binders: share, ..Faults::default() },
            Faults { lying_binders: share, ..Faults::default() },
            Faults { malicious_parents: share, ..Faults::default() },
        ];
        faulty.extend(harm.map(|faults| Options { faults, ..options(small) }));
    }
    let shaken = [
        Faults { moves: 0.1, ..Faults::default() },
        Faults { lost_links: 0.1, ..Faults::default() },
        Faults { flapping: 0.1, ..Faults::default() },
        Faults { latency_ms: 50.0, ..Faults::default() },
        Faults { split_merge: true, ..Faults::default() },
    ];
    faulty.extend(shaken.map(|faults| Options { faults, ..options(small) }));
    faulty.extend(MEDIANS_MIN.map(|median| Options {
        lookups: LOOKUPS,
        faults: Faults { churn_median_s: median * 60.0, churn_duration_s: CHURN_S, ..Faults::default() },
        ..options(nodes.min(MAX_CHURNING))
    }));
    let parts = [(Part::Calm, calm), (Part::Memo, memo.into()), (Part::Faulty, faulty)];
    parts.into_iter().flat_map(|(part, runs)| runs.into_iter().map(move |options| (part, options))).collect()
}

/// How many nodes the runs have that are drawn over the number of nodes.
fn sizes(nodes: usize) -> Vec<usize> {
    let sizes = SIZES.map(|tenths| nodes.saturating_mul(tenths) / 10);
    sizes.into_iter().filter(|size| *size >= LEAST_NODES.min(nodes)).collect()
}

/// The overlay and its baselines.
fn calm(base: &Options) -> Vec<Options> {
    let keys_per_node = if base.nodes <= MAX_KEYED { KEYS_PER_NODE } else { 0 };
    let of = |graph: &str| {
        let base = Options { graph: graph.to_owned(), ..base.clone() };
        [
            Options { lookups: LOOKUPS, keys_per_node, ..base.clone() },
            Options { trees: 1, ..base.clone() },
            Options { metric: Metric::Tree, ..base.clone() },
            Options { metric: Metric::Cloak, keys_per_node, ..base },
        ]
    };
    GRAPHS.into_iter().flat_map(of).collect()
}

fn charts(runs: &Runs) -> [Chart<'static>; 6] {
    [stretch(runs), other_graphs(runs), dead(runs), load(runs), churn(runs), harm(runs)]
}

fn line(name: String, points: impl Iterator<Item = (f64, Option<f64>)>) -> Line {
    Line { name, points: points.filter_map(|(x, y)| Some((x, y?))).collect() }
}

/// Runs of the overlay, or of a baseline, where nothing fails, over the number of nodes.
fn over_nodes(runs: &Runs, name: String, graph: &str, metric: Metric, trees: u8) -> Line {
    let is_one = |o: &Options| o.graph == graph && o.metric == metric && o.trees == trees;
    let of = runs.iter().filter(|(part, o, _)| *part == Part::Calm && is_one(o));
    line(name, of.map(|(_, o, r)| (o.nodes as f64, r.stretch_mean)))
}

fn stretch(runs: &Runs) -> Chart<'static> {
    let trees = Options::default().trees;
    let kinds = [
        ("", Metric::Hyperbolic, trees),
        (", one tree", Metric::Hyperbolic, 1),
        (", tree metric", Metric::Tree, trees),
        (", CLOAK as published", Metric::Cloak, trees),
    ];
    let of =
        |graph| kinds.map(|(words, metric, trees)| over_nodes(runs, format!("{graph}{words}"), graph, metric, trees));
    let lines = GRAPHS.into_iter().flat_map(of).collect();
    Chart { title: "Links crossed over the shortest path", x: "nodes", y: "stretch, mean", log_x: true, lines }
}

fn other_graphs(runs: &Runs) -> Chart<'static> {
    let Options { metric, trees, .. } = Options::default();
    let lines = OTHERS.map(|graph| over_nodes(runs, graph.to_owned(), graph, metric, trees)).into();
    Chart { title: "The same on other graphs", x: "nodes", y: "stretch, mean", log_x: true, lines }
}

fn dead(runs: &Runs) -> Chart<'static> {
    let lines = GRAPHS.map(|graph| {
        let of = runs.iter().filter(|(_, o, _)| o.graph == graph && o.faults.dead > 0.0);
        line(graph.to_owned(), of.map(|(_, o, r)| (o.faults.dead * 100.0, r.success.map(|share| share * 100.0))))
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
    let kinds: [(&str, Share, What); 6] = [
        ("delivered, blackholes", |f| f.blackholes, |r| r.success),
        ("delivered, malicious parents", |f| f.malicious_parents, |r| r.success),
        ("found, blackholes", |f| f.blackholes, |r| r.lookup_success),
        ("found, silent binders", |f| f.silent_binders, |r| r.lookup_success),
        ("found, lying binders", |f| f.lying_binders, |r| r.lookup_success),
        ("found, malicious parents", |f| f.malicious_parents, |r| r.lookup_success),
    ];
    let lines = kinds.map(|(name, share, what)| {
        let of = runs.iter().filter(|(_, o, _)| share(&o.faults) > 0.0);
        line(name.to_owned(), of.map(|(_, o, r)| (share(&o.faults) * 100.0, what(r).map(|share| share * 100.0))))
    });
    Chart {
        title: "Some nodes do harm, unnoticed yet",
        x: "nodes that do (%)",
        y: "of all packets or look-ups (%)",
        log_x: false,
        lines: lines.into(),
    }
}

fn load(runs: &Runs) -> Chart<'static> {
    let lines = GRAPHS.map(|graph| {
        let Options { metric, trees, .. } = Options::default();
        let is_ours = |o: &Options| o.graph == graph && o.metric == metric && o.trees == trees;
        let calm = runs.iter().filter(|(part, o, _)| *part == Part::Calm && is_ours(o));
        let largest = calm.max_by_key(|(_, o, _)| o.nodes);
        let points = largest.and_then(|(_, _, outcome)| outcome.load_shares).into_iter().flatten();
        let name = largest.map_or_else(|| graph.to_owned(), |(_, o, _)| format!("{graph}, {} nodes", o.nodes));
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
    let of = || runs.iter().filter(|(_, o, _)| o.faults.churn_median_s > 0.0);
    let lost = |share: Option<f64>| share.map(|share| (1.0 - share) * 100.0);
    let minutes = |o: &Options| o.faults.churn_median_s / 60.0;
    let lines = vec![
        line("not found".to_owned(), of().map(|(_, o, r)| (minutes(o), lost(r.lookup_success)))),
        line("not found, Kademlia".to_owned(), of().map(|(_, o, r)| (minutes(o), lost(r.kademlia_lookup_success)))),
        line("stale".to_owned(), of().map(|(_, o, r)| (minutes(o), r.lookup_stale.map(|share| share * 100.0)))),
        line(
            "stale, Kademlia".to_owned(),
            of().map(|(_, o, r)| (minutes(o), r.kademlia_lookup_stale.map(|share| share * 100.0))),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_line_over_the_number_of_nodes_has_several_points() {
        let runs = runs(1000, 1);
        let sizes = |graph: &str, metric, trees| -> BTreeSet<usize> {
            let calm = runs.iter().filter(|(part, _)| *part == Part::Calm).map(|(_, options)| options);
            let of = calm
                .filter(|o| o.graph == graph && o.metric == metric && o.trees == trees && o.faults.latency_ms == 0.0);
            of.map(|o| o.nodes).collect()
        };
        let three = BTreeSet::from([100, 300, 1000]);
        for graph in GRAPHS {
            let lines = [(Metric::Hyperbolic, 4), (Metric::Hyperbolic, 1), (Metric::Tree, 4), (Metric::Cloak, 4)];
            for (metric, trees) in lines {
                assert_eq!(sizes(graph, metric, trees), three, "{graph} {metric:?} {trees}");
            }
        }
        for graph in OTHERS {
            assert_eq!(sizes(graph, Metric::Hyperbolic, 4), three, "{graph}");
        }
        assert_eq!(runs.iter().filter(|(part, _)| *part == Part::Memo).count(), 2);
    }
}
