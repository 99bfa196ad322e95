//! Machines whose clock is off by a year: what they are told, and that nothing is lost when it is right again.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Node, foreground, greeter, is_refusal, output, stderr, until};

const OFF: [&str; 2] = ["+365d", "-365d"];

/// The library that shows a program another time (Debian: faketime). None, with a printed reason, where it is not.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    if found.is_none() {
        println!("skipped: no libfaketime (apt-get install faketime)");
    }
    found
}

/// A node in the foreground on a machine whose clock is that much off.
fn off(library: &Path, by: &str, folder: &Path, verb: &str, args: &[&str]) -> Command {
    let mut command = foreground(folder, verb, args);
    // Time that passes is no date; it stays as it is.
    command.env("LD_PRELOAD", library).env("FAKETIME", by).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

#[test]
fn a_clock_that_is_a_year_off_is_named_and_nothing_is_lost() {
    let Some(library) = faketime() else { return };
    let alice = Node::start(&["--name", "alice"]);
    let way = alice.invite();
    let id = alice.json("status")["node"].as_str().unwrap().to_owned();
    alice.json(&format!("expose hello {} --allow anyone", greeter(b"hello")));
    for by in OFF {
        let folder = tempfile::tempdir().unwrap();
        let process = off(&library, by, folder.path(), "up", &["--join", &way]).spawn().unwrap();
        let mut node = Node { process, folder };
        node.json_when("status", |status| status["address"].is_string());
        let mut said = node.muses(&format!("pipe {id}/hello"));
        // Whoever has just joined may not find her yet.
        until("a word about the clock", || {
            stderr(&said).contains("clock") || {
                said = node.muses(&format!("pipe {id}/hello"));
                false
            }
        });
        is_refusal(&said, 3, &["is the clock right", "`date`"]);
        let examined = node.muses(&format!("doctor {id} --json"));
        let found: serde_json::Value = serde_json::from_slice(&examined.stdout).unwrap();
        let checks = found["data"]["checks"].as_array().unwrap();
        assert_eq!((&found["data"]["failed"], examined.status.code()), (&"handshake".into(), Some(3)), "{found}");
        assert!(checks.last().unwrap()["detail"].as_str().unwrap().contains("is the clock right"), "{found}");
        let name = claimed(&node, by);
        node.json(&format!("expose kept {} --allow anyone", greeter(b"kept")));
        node.json("down");
        assert_eq!(node.wait(), Some(0));

        // The clock is set, and all is as it was.
        node.restart(&[]);
        let status = node.json_when("status", |status| status["address"].is_string());
        assert_eq!(status["services"][0], "kept", "{by}");
        until("alice is found", || node.muses(&format!("pipe {id}/hello")).stdout == b"hello");
        let bob = status["node"].as_str().unwrap();
        until("bob is found", || alice.muses(&format!("pipe {bob}/kept")).stdout == b"kept");
        node.json(&format!("name claim {name}"));
        alice.json_when(&format!("lookup {name}"), |found| found["node"] == bob);
        node.json("down");
        node.wait();
    }
}

/// A name that the node has claimed; by a clock that is ahead one that it was told about the clock for.
fn claimed(node: &Node, by: &str) -> String {
    let (mut tries, mut name, mut said) = (0, String::new(), None);
    until("an answer to `name claim`", || {
        tries += 1;
        name = format!("{}-{tries}", if by.starts_with('-') { "late" } else { "early" });
        let output = node.muses(&format!("name claim {name}"));
        // Of two nodes it may be the one with the wrong clock that has to keep all four copies: nobody sees anything then.
        let answered = by.starts_with('-') || !output.status.success();
        said = Some(output);
        answered
    });
    let said = said.unwrap();
    if by.starts_with('-') {
        // Numbers only have to be higher than those before: what is claimed is claimed.
        assert_eq!(said.status.code(), Some(0), "{}", stderr(&said));
    } else {
        is_refusal(&said, 3, &["is the clock right", "`date`", &name]);
        assert!(node.json("status")["name"].is_null());
    }
    name
}

/// More than there have to be: a node with the wrong clock may have to keep all four copies of its record itself, and nobody sees it then.
const TRIES: usize = 8;

#[test]
fn a_node_that_others_may_not_find_because_its_clock_is_ahead_says_so() {
    let Some(library) = faketime() else { return };
    let alice = Node::start(&[]);
    let way = alice.invite();
    let _bob = Node::join(&way, &[]);
    let warned = (0..TRIES).any(|_| {
        let folder = tempfile::tempdir().unwrap();
        let process = off(&library, "+10d", folder.path(), "up", &["--join", &way]).spawn().unwrap();
        let node = Node { process, folder };
        node.json_when("status", |status| status["address"].is_string());
        // Binders answer within a round trip; a claim goes the same way, so the record was answered before this ends.
        node.muses("name claim early");
        let status = node.json("status");
        let Some(warning) = status["warning"].as_str() else { return false };
        assert!(warning.contains("is the clock right"), "{warning}");
        let examined = node.muses("doctor --json");
        let found: serde_json::Value = serde_json::from_slice(&examined.stdout).unwrap();
        assert_eq!((&found["data"]["failed"], examined.status.code()), (&"record".into(), Some(3)), "{found}");
        true
    });
    assert!(warned);
}

#[test]
fn an_invite_that_has_expired_by_a_wrong_clock_says_so() {
    let Some(library) = faketime() else { return };
    let alice = Node::start(&[]);
    alice.json_when("status", |status| status["listen"][0].is_string() && status["address"].is_string());
    let invite = alice.json("invite")["invite"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("fresh");
    is_refusal(&output(off(&library, "+365d", &folder, "join", &[]).arg(invite)), 4, &["expired", "clock is right"]);
    assert!(!folder.exists(), "it made a folder");
}
