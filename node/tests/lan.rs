//! Two machines on one network find each other without an address.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/namespaces.rs"]
mod namespaces;

use std::process::Output;

use common::{output, stderr};
use namespaces::Namespaces;

#[test]
fn the_overlay_on_the_local_network_is_found_and_joined() {
    let Some(lab) = Namespaces::new() else { return };
    lab.bob_joins(1);
    let alice = lab.node("alice", "up", &["--name", "alice"]);
    let overlay = alice.json_when("status", |status| status["overlay"].is_string())["overlay"].clone();
    let bob = lab.node("bob", "join", &["--name", "bob"]);
    bob.json_when("lookup alice", |found| found["node"].is_string());
    assert_eq!(bob.json("status")["overlay"], overlay);
    assert_eq!(alice.json("peers").as_array().unwrap().len(), 1);
}

/// Neither knows the other's address in the network into which both come, and nobody else is there.
#[test]
fn two_who_come_into_another_network_find_each_other_there() {
    let Some(lab) = Namespaces::new() else { return };
    let (alice, bob) = lab.alice_and_bob(&[]);
    lab.bob_leaves(1);
    bob.json_when("status", |status| status["links"] == 0);
    lab.alice_is_at(2, 77);
    lab.bob_joins(2);
    for (node, other) in [(&alice, "bob"), (&bob, "alice")] {
        node.json_when("peers", |peers| peers.as_array().is_some_and(|peers| peers.len() == 1));
        node.json_when(&format!("ping {other}"), |answer| answer["rtt_us"].is_number());
    }
}

#[test]
fn nobody_is_found_who_does_not_want_to_be_and_of_two_overlays_none_is_joined() {
    let Some(lab) = Namespaces::new() else { return };
    lab.bob_joins(1);
    let folder = tempfile::tempdir().unwrap();
    let join = || -> Output { output(lab.muses("bob", folder.path()).arg("join")) };
    let silent = lab.node("alice", "up", &["--no-mdns"]);
    let local = lab.node("alice", "up", &["--listen", "/ip4/127.0.0.1/tcp/0"]);
    let nobody = join();
    assert_eq!((nobody.status.code(), stderr(&nobody).lines().count()), (Some(3), 1), "{}", stderr(&nobody));
    drop((silent, local));
    let overlays = [4742, 4743].map(|port| lab.node("alice", "up", &["--listen", &format!("/ip4/0.0.0.0/tcp/{port}")]));
    for node in &overlays {
        node.json_when("status", |status| status["overlay"].is_string());
    }
    let several = join();
    assert_eq!((several.status.code(), stderr(&several).lines().count()), (Some(2), 1), "{}", stderr(&several));
    assert!(stderr(&several).contains("/tcp/4742") && stderr(&several).contains("/tcp/4743"), "{}", stderr(&several));
}
