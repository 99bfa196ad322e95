//! The overlay at scale: exact where nothing fails, and the same for the same seed.

#![allow(clippy::unwrap_used)]

use testnet::scale::{Options, Outcome, run};

fn outcome(graph: &str, seed: u64, change: impl FnOnce(&mut Options)) -> Outcome {
    let mut options =
        Options { graph: graph.to_owned(), nodes: 120, seed, pairs: 200, threads: 1, ..Options::default() };
    change(&mut options);
    run(&options).unwrap()
}

#[test]
fn every_node_joins_and_every_packet_arrives_on_every_graph() {
    for graph in ["ov:3", "ovp:3", "ba:2", "pl:2.5", "hrg:2.5", "rgg", "rgt", "as"] {
        let outcome = outcome(graph, 1, |_| {});
        assert!(outcome.is_exact(), "{outcome:?}");
        assert!(outcome.stretch_mean.unwrap() < 1.2, "{outcome:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_without_the_memo_and_on_any_number_of_threads() {
    let first = outcome("ov:3", 7, |_| {});
    assert_eq!(first.trace_digest, outcome("ov:3", 7, |options| options.memo = false).trace_digest);
    assert_eq!(first.trace_digest, outcome("ov:3", 7, |options| options.threads = 3).trace_digest);
    assert_ne!(first.trace_digest, outcome("ov:3", 8, |_| {}).trace_digest);
}

#[test]
fn few_children_a_vertex_and_one_tree_are_enough_to_arrive() {
    assert!(outcome("ba:2", 2, |options| options.q = 4).is_exact());
    assert!(outcome("ov:3", 2, |options| options.trees = 1).is_exact());
}

#[test]
fn packets_go_around_the_dead_before_anything_is_repaired() {
    let outcome = outcome("ov:3", 3, |options| options.faults.dead = 0.1);
    assert!(outcome.success.unwrap() >= 0.99, "{outcome:?}");
}

#[test]
fn nodes_that_came_and_went_find_each_other_when_it_is_quiet_again() {
    let outcome = outcome("ov:3", 4, |options| {
        (options.nodes, options.lookups) = (60, 200);
        (options.faults.churn_median_s, options.faults.churn_duration_s) = (300.0, 600.0);
    });
    assert!(outcome.success_after_repair.is_some() && outcome.is_repaired(), "{outcome:?}");
    assert!(outcome.churn_messages_per_node_per_s > outcome.messages_per_node_per_s, "{outcome:?}");
}

#[test]
fn the_parts_of_a_network_work_while_they_are_apart_and_together_afterwards() {
    let outcome = outcome("ov:3", 5, |options| options.faults.split_merge = true);
    assert!(outcome.success_while_apart.is_some() && outcome.success_after_repair.is_some(), "{outcome:?}");
    assert!(outcome.is_exact(), "{outcome:?}");
}
