//! The overlay at scale: exact where nothing fails, and the same for the same seed.

#![allow(clippy::unwrap_used)]

use testnet::scale::{Faults, Metric, Options, Outcome, run};

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
    assert!(outcome.churn_changes.unwrap() > 60, "{outcome:?}");
    assert!(outcome.lookups_asked.unwrap() > 50 && outcome.kademlia_lookups_asked.unwrap() > 50, "{outcome:?}");
    assert!(outcome.lookup_stale.is_some() && outcome.kademlia_lookup_success.is_some(), "{outcome:?}");
    assert!(outcome.success_after_repair.is_some() && outcome.is_repaired(), "{outcome:?}");
    assert!(outcome.churn_messages_per_node_per_s > outcome.messages_per_node_per_s, "{outcome:?}");
}

#[test]
fn the_parts_of_a_network_work_while_they_are_apart_and_together_afterwards() {
    let outcome = outcome("ov:3", 5, |options| options.faults.split_merge = true);
    assert_eq!(outcome.success_while_apart, Some(1.0), "{outcome:?}");
    assert!(outcome.success_after_repair.is_some() && outcome.is_exact(), "{outcome:?}");
}

/// Of 60 nodes with some 170 links.
#[test]
fn what_breaks_for_a_while_is_counted_and_repaired() {
    let one = Faults::default;
    for (faults, failures) in [
        (Faults { dead: 0.1, ..one() }, 6..=6),
        (Faults { moves: 0.1, ..one() }, 6..=6),
        (Faults { lost_links: 0.1, ..one() }, 15..=20),
        // Each goes down up to 15 times.
        (Faults { flapping: 0.1, ..one() }, 100..=300),
        (Faults { dead: 0.001, ..one() }, 1..=1),
    ] {
        let outcome = outcome("ov:3", 6, |options| (options.nodes, options.faults) = (60, faults.clone()));
        assert!(outcome.failures.is_some_and(|count| failures.contains(&count)), "{outcome:?}");
        assert!(outcome.success.is_some() && outcome.readdressed_per_failure_mean.is_some(), "{outcome:?}");
        assert!(outcome.success_after_repair.is_some() && outcome.is_repaired(), "{outcome:?}");
    }
}

/// Half of all, so that it does harm to somebody.
#[test]
fn nodes_that_do_harm_are_counted_and_felt() {
    let one = Faults::default;
    for (faults, packets_are_lost) in [
        (Faults { blackholes: 0.5, ..one() }, true),
        (Faults { silent_binders: 0.5, ..one() }, false),
        (Faults { lying_binders: 0.5, ..one() }, false),
        (Faults { malicious_parents: 0.5, ..one() }, true),
    ] {
        let outcome = outcome("ov:3", 7, |options| (options.nodes, options.faults) = (60, faults.clone()));
        assert_eq!(outcome.harmful_nodes, Some(30), "{outcome:?}");
        let (found, delivered) = (outcome.lookup_success.unwrap(), outcome.success.unwrap());
        // To whom is not found nothing is delivered.
        assert!(found < 1.0 && delivered <= found && (delivered < found) == packets_are_lost, "{outcome:?}");
    }
}

#[test]
fn cloak_as_published_has_a_dht_of_angles_and_no_trace() {
    let outcome = outcome("ov:3", 8, |options| options.metric = Metric::Cloak);
    assert_eq!((outcome.trees, outcome.trace_digest.as_ref()), (1, None), "{outcome:?}");
    assert!(outcome.dht_max_over_mean.unwrap() > 2.0, "{outcome:?}");
}

#[test]
fn look_ups_of_a_quiet_overlay_have_a_kademlia_beside_them() {
    let outcome = outcome("ov:3", 9, |options| options.lookups = 50);
    assert!(outcome.kademlia_lookups_asked.unwrap() > 40, "{outcome:?}");
    assert_eq!((outcome.kademlia_lookup_success, outcome.lookup_success), (Some(1.0), Some(1.0)), "{outcome:?}");
    assert!(outcome.kademlia_lookup_hops_mean.unwrap() >= 1.0, "{outcome:?}");
}
