//! Lines to one other machine, as modems and many tunnels make them, and cables that are pulled and put back: real interfaces.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/namespaces.rs"]
mod namespaces;

use namespaces::Namespaces;
use serde_json::Value;

fn listens_at(status: &Value, ip: &str) -> bool {
    status["listen"].as_array().is_some_and(|all| all.iter().any(|at| at.to_string().contains(&format!("/ip4/{ip}/"))))
}

#[test]
fn on_a_line_a_node_is_at_its_own_end_and_reaches_the_other() {
    let Some(lab) = Namespaces::new() else { return };
    lab.become_lines();
    lab.bob_plugs_in(1);
    let alice = lab.node("alice", "up", &["--name", "alice"]);
    let invite = alice.json_when("invite", |invite| invite["invite"].is_string());
    let bob = lab.node("bob", "join", &["--name", "bob", invite["invite"].as_str().unwrap()]);
    for (node, ours, theirs) in [(&alice, "10.79.1.1", "10.79.1.2"), (&bob, "10.79.1.2", "10.79.1.1")] {
        let status = node.json_when("status", |status| listens_at(status, ours));
        assert!(!listens_at(&status, theirs), "{status}");
    }
    bob.json_when("lookup alice", |found| found["node"].is_string());
    // The other line: what was learned over the first one of its other end is dialled there.
    lab.bob_leaves(1);
    lab.bob_plugs_in(2);
    bob.json_when("ping alice", |echo| echo["hops"] == 1);
}

/// The first time, all connections outlive it; the second, both give them up.
#[test]
fn a_cable_that_is_put_back_is_noticed_and_makes_no_mover() {
    let Some(lab) = Namespaces::new() else { return };
    let (alice, bob) = lab.alice_and_bob(&[]);
    for waits in [false, true, true] {
        bob.json_when("status", |status| status["links"] == 1);
        lab.bob_leaves(1);
        if waits {
            alice.json_when("status", |status| status["links"] == 0);
            bob.json_when("status", |status| status["links"] == 0);
        }
        lab.bob_plugs_in(1);
        bob.json_when("ping alice", |echo| echo["hops"] == 1);
    }
    for node in [&alice, &bob] {
        assert_eq!(node.json_when("status", |_| true)["standing"], "relay");
    }
}

#[test]
fn leaving_one_network_for_another_is_one_move() {
    let Some(lab) = Namespaces::new() else { return };
    let (_alice, bob) = lab.alice_and_bob(&[]);
    for (from, to, standing) in [(1, 2, "relay"), (2, 1, "mover")] {
        lab.bob_leaves(from);
        lab.bob_is_forgotten(from);
        bob.json_when("status", |status| status["links"] == 0);
        lab.bob_joins(to);
        bob.json_when("ping alice", |echo| echo["hops"] == 1);
        bob.json_when("status", |status| status["standing"] == standing);
    }
}

/// Bridges of containers may be older than the network that leads out; others are told the latter first.
#[test]
fn the_address_that_leads_far_away_is_told_first() {
    let Some(lab) = Namespaces::new() else { return };
    lab.bob_joins(1);
    lab.bob_joins(2);
    let first = |node: &common::Node| {
        node.json_when("status", |status| status["listen"][0].is_string())["listen"][0].to_string()
    };
    assert!(first(&lab.node("alice", "up", &["--name", "alice"])).contains("/10.78.1.1/"), "the older interface's");
    lab.alice_leaves_by(2);
    assert!(first(&lab.node("alice", "up", &["--name", "alice"])).contains("/10.78.2.1/"));
}
