//! What `testnet sim --json` prints is what docs/reference/testnet.md says. (For the others, see real_processes.rs.)

#![allow(clippy::unwrap_used)]

#[path = "../../node/tests/common/schema.rs"]
mod schema;

use std::process::Command;

use serde_json::Value;

fn printed(words: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testnet"));
    let done = command.args(words.split(' ')).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn seeds_of_whole_nodes() {
    let outcomes = printed("sim --seeds 2 --bytes 20000 --json");
    schema::holds("testnet.md", "testnet sim", &outcomes);
    assert_eq!(outcomes.as_array().unwrap().len(), 2);
}

#[test]
fn the_overlay_at_scale() {
    for what in ["", "--lookups 20 --keys 2 ", "--dead 0.1 ", "--split-merge ", "--metric cloak "] {
        let outcome = printed(&format!("sim --graph ov:3 --nodes 40 --pairs 40 {what}--json"));
        schema::holds("testnet.md", "testnet sim --graph", &outcome);
    }
}
