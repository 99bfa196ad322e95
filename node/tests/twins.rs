//! Two nodes with one key, as the copy of a data folder makes them: both are told, and what one of them had goes on when the other has gone.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{Node, greeter, stderr, until};
use serde_json::Value;

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn warned(node: &Node) -> bool {
    node.json("status")["warning"].as_str().is_some_and(|line| line.contains("has this node's key"))
}

#[test]
fn a_copied_folder_that_runs_beside_the_first_is_named_and_harms_only_as_long_as_it_runs() {
    let alice = Node::start(&["--name", "alice"]);
    alice.json(&format!("expose hello {} --allow anyone", greeter(b"hello")));
    let mut bob = Node::join(&alice.invite(), &[]);
    bob.json_when("status", |status| status["address"].is_string());
    until("alice is found", || bob.muses("pipe alice/hello").stdout == b"hello");
    bob.json("down");
    assert_eq!(bob.wait(), Some(0));
    let folder = tempfile::tempdir().unwrap();
    copy(bob.folder.path(), folder.path());
    bob.restart(&[]);
    assert!(!warned(&bob));
    let mut twin = Node { process: common::foreground(folder.path(), "up", &[]).spawn().unwrap(), folder };
    until("both are warned", || warned(&bob) && twin.muses("status").status.success() && warned(&twin));
    let examined = bob.muses("doctor --json");
    let found: Value = serde_json::from_slice(&examined.stdout).unwrap();
    assert_eq!((&found["data"]["failed"], examined.status.code()), (&"link".into(), Some(1)), "{found}");
    twin.process.kill().unwrap();
    twin.wait();
    let mut last = String::new();
    until("alice is reached again", || {
        let output = bob.muses("pipe alice/hello");
        last = stderr(&output);
        output.stdout == b"hello"
    });
    assert!(last.is_empty(), "{last}");
}
