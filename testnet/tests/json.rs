//! What `testnet sim --json` prints is what docs/reference/testnet.md says. (For the others, see real_processes.rs.)

#![allow(clippy::unwrap_used)]

#[path = "../../node/tests/common/schema.rs"]
mod schema;

use std::env;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

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
    for what in [
        "",
        "--lookups 20 --keys 2 ",
        "--dead 0.1 ",
        "--split-merge ",
        "--churn-median 5m --duration 5m ",
        "--blackholes 0.1 ",
        "--metric cloak ",
    ] {
        let outcome = printed(&format!("sim --graph ov:3 --nodes 40 --pairs 40 {what}--json"));
        schema::holds("testnet.md", "testnet sim --graph", &outcome);
        assert_eq!(outcome["trace_digest"].is_null(), what.contains("cloak"), "{outcome}");
    }
}

#[test]
fn a_scenario_in_a_file_is_the_one_of_these_flags() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.toml");
    fs::write(&file, "graph = \"ba:2\"\nnodes = 40\nseed = 5\npairs = 40\n[faults]\ndead = 0.1\nlost_links = 0.05\n")
        .unwrap();
    let same = |mut outcome: Value| {
        // What depends on the machine.
        for field in ["wall_s", "peak_rss_bytes"] {
            outcome[field] = Value::Null;
        }
        outcome
    };
    let said = printed("sim --graph ba:2 --nodes 40 --seed 5 --pairs 40 --dead 0.1 --lost-links 0.05 --json");
    let read = printed(&format!("sim --scenario {} --json", file.display()));
    assert_eq!(same(read), same(said));
}

/// All outcomes of a suite, as in its file.
#[test]
fn a_suite_prints_what_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let outcomes = printed(&format!("sim --suite {} --nodes 20 --json", folder.path().display()));
    for outcome in outcomes.as_array().unwrap() {
        schema::holds("testnet.md", "testnet sim --graph", outcome);
        // Whatever was to go wrong did.
        for (fault, counted) in [
            ("dead", "failures"),
            ("lost_links", "failures"),
            ("moves", "failures"),
            ("flapping", "failures"),
            ("blackholes", "harmful_nodes"),
            ("silent_binders", "harmful_nodes"),
            ("lying_binders", "harmful_nodes"),
            ("malicious_parents", "harmful_nodes"),
            ("churn_median_s", "churn_changes"),
        ] {
            let happened = outcome[counted].as_u64() > Some(0);
            assert!(outcome["faults"][fault].is_null() || happened, "{fault}: {outcome}");
        }
    }
    let written = fs::read(folder.path().join("overlay.json")).unwrap();
    assert_eq!(outcomes, serde_json::from_slice::<Value>(&written).unwrap());
}

/// What takes a release build and minutes: `.ci/run` has such objects, and says where each is and what it should be.
#[test]
#[ignore = "for an object that is there: MUSES_OBJECT=FILE MUSES_SECTION='testnet bench'"]
fn an_object_in_a_file() {
    let Ok(file) = env::var("MUSES_OBJECT") else {
        println!("skipped: MUSES_OBJECT names no file");
        return;
    };
    let object = fs::read(file).unwrap();
    schema::holds("testnet.md", &env::var("MUSES_SECTION").unwrap(), &serde_json::from_slice(&object).unwrap());
}

/// The comparison would be worth nothing if it let these through.
#[test]
fn what_is_not_as_documented_is_found() {
    let rows = [
        ("data", "object"),
        ("data.by", "object"),
        ("data.by.N", "object or null"),
        ("data.by.N.p50", "number"),
        ("data.again", "the whole or absent"),
    ];
    let page = rows.map(|(path, types)| (path.to_owned(), types.to_owned())).into();
    let fine = json!({"by": {"1": {"p50": 1}, "15": null}});
    for object in [fine.clone(), json!({"by": {}, "again": fine})] {
        assert_eq!(schema::compare(&object, &page), Vec::<String>::new(), "{object}");
    }
    for (object, fault) in [
        (json!({}), "data.by is missing"),
        (json!({"by": {"1": {}}}), "data.by.1.p50 is missing"),
        (json!({"by": {"1": {"p50": null}}}), "data.by.1.p50 is [\"null\"], documented as [\"number\"]"),
        (json!({"by": {"1": []}}), "data.by.1 is [\"list\"], documented as [\"object\", \"null\"]"),
        (json!({"by": {}, "more": 1}), "data.more is [\"number\"], documented as []"),
        (json!({"by": {}, "again": {}}), "data.again: data.by is missing"),
        (json!({"by": {}, "again": 1}), "data.again is [\"number\"], documented as [\"the whole\", \"absent\"]"),
    ] {
        assert_eq!(schema::compare(&object, &page), [fault], "{object}");
    }
}
