//! What a person sees who does not know the tool yet and does something wrong, or has something wrong with the machine: the cause, and what to try.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Node, alice_and_bob, dead_port, foreground, greeter, muses, output, stderr, until};
use serde_json::Value;

/// Nobody has it.
const GONE: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
/// What the node knows by itself is said within this, although a look-up takes longer.
const AT_ONCE: Duration = Duration::from_millis(2500);

fn is_refusal(output: &Output, code: i32, words: &[&str]) {
    let line = stderr(output);
    assert_eq!((output.status.code(), line.lines().count()), (Some(code), 1), "{line}");
    assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
}

/// Without what it says, a node would found an open overlay where a closed one was meant.
#[test]
fn a_configuration_that_cannot_be_examined_is_not_a_missing_one() {
    let folder = tempfile::tempdir().unwrap();
    symlink("/nonexist/closed.toml", folder.path().join("config.toml")).unwrap();
    for line in ["config check", "config show"] {
        is_refusal(&muses(folder.path(), line), 2, &["config.toml", "/nonexist/closed.toml"]);
    }
    is_refusal(&output(&mut foreground(folder.path(), "up", &[])), 2, &["config.toml", "/nonexist/closed.toml"]);
    assert!(!folder.path().join("state.redb").exists(), "something was founded");

    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".config")).unwrap();
    symlink("/nonexist", home.path().join(".config/muses")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
    let said = output(command.env_clear().env("HOME", home.path()).args(["config", "check"]));
    is_refusal(&said, 2, &[".config/muses", "cannot see whether", "--config FILE"]);
}

#[test]
fn an_empty_variable_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for verb in [&["config", "show"][..], &["config", "check"], &["up", "--listen", "nonsense"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
        for variable in ["MUSES_NAME", "MUSES_LISTEN", "MUSES_SOCKS", "MUSES_METRICS", "MUSES_CONFIG"] {
            command.env(variable, "");
        }
        let said = output(command.arg("--data-dir").arg(folder.path()).args(verb));
        let line = stderr(&said);
        assert!(said.status.success() || line.contains("nonsense"), "{verb:?}: {line}");
    }
    // And one that says something wrong is named: nobody typed a flag.
    for verb in [&["up"][..], &["config", "show"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
        let said = output(command.env("MUSES_NAME", "No Name").arg("--data-dir").arg(folder.path()).args(verb));
        is_refusal(&said, 2, &["'No Name'", "MUSES_NAME says so"]);
    }
}
