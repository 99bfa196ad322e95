//! What `muses` does without a node: the configuration file, completions, manual pages.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Command;

use common::schema::holds;
use common::{Node, every_key, foreground, muses, stderr, until};
use serde_json::Value;

#[test]
fn a_configuration_is_made_checked_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("new");
    let file = data_dir.join("config.toml");
    let none = muses(&data_dir, "config check");
    assert_eq!(none.status.code(), Some(0), "`muses up` needs none: {}", stderr(&none));
    assert!(String::from_utf8_lossy(&none.stdout).contains("muses config init"), "{none:?}");
    assert_eq!(muses(&data_dir, "config init").status.code(), Some(0));
    assert_eq!(muses(&data_dir, "config check").status.code(), Some(0));
    fs::write(&file, "name = 'alice'\nleaf = true\n").unwrap();
    let again = muses(&data_dir, "config init");
    assert_eq!((again.status.code(), stderr(&again).lines().count()), (Some(2), 1), "{}", stderr(&again));
    assert_eq!(fs::read_to_string(&file).unwrap(), "name = 'alice'\nleaf = true\n", "an existing file was changed");
    let shown = String::from_utf8(muses(&data_dir, "config show").stdout).unwrap();
    assert!(shown.starts_with("# no node runs") && shown.contains("name = \"alice\""), "{shown}");
    fs::write(data_dir.join("shown.toml"), &shown).unwrap();
    assert_eq!(muses(&data_dir, &format!("config check {}/shown.toml", data_dir.display())).status.code(), Some(0));
    fs::write(&file, "lisen = []\n").unwrap();
    let wrong = muses(&data_dir, "config check");
    assert_eq!(wrong.status.code(), Some(2));
    let line = stderr(&wrong);
    assert!(line.contains("config.toml:1: ") && line.contains("did you mean listen?"), "{line}");
}

#[test]
fn what_is_shown_is_documented_and_every_key_of_a_file_is_among_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.toml");
    let text = every_key();
    fs::write(&file, &text).unwrap();
    let shown = muses(folder.path(), &format!("config show --config {} --json", file.display()));
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    holds("json.md", "config show", &shown["data"]);
    let written: Value = serde_json::to_value(toml::from_str::<toml::Table>(&text).unwrap()).unwrap();
    assert_eq!(shown["data"]["config"], written);
}

/// Flags win over the environment, and that over a file; files are looked for in order.
#[test]
fn the_configuration_is_found_where_people_put_it() {
    let home = tempfile::tempdir().unwrap();
    let of_user = home.path().join(".config/muses/config.toml");
    let of_folder = home.path().join(".local/state/muses/config.toml");
    let shown = |with: &[(&str, &str)], flags: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
        command.env_clear().env("HOME", home.path()).envs(with.iter().copied()).args(["config", "show"]);
        String::from_utf8(command.args(flags.split_whitespace()).output().unwrap().stdout).unwrap()
    };
    let write = |file: &std::path::Path, name: &str| {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("name = '{name}'\n")).unwrap();
    };
    write(&of_user, "user");
    assert!(shown(&[], "").contains("name = \"user\""));
    write(&home.path().join("else/muses/config.toml"), "xdg");
    let elsewhere = home.path().join("else");
    assert!(shown(&[("XDG_CONFIG_HOME", elsewhere.to_str().unwrap())], "").contains("name = \"xdg\""));
    let other = home.path().join("other");
    for (with, flags) in [
        (vec![], format!("--data-dir {}", other.display())),
        (vec![("MUSES_DATA_DIR", other.to_str().unwrap())], String::new()),
    ] {
        assert!(!shown(&with, &flags).contains("name ="), "the user's configuration is not that of another node");
    }
    write(&of_folder, "folder");
    assert!(shown(&[], "").contains("name = \"folder\""));
    assert!(shown(&[("MUSES_NAME", "said")], "").contains("name = \"said\""));
    let ports = [("MUSES_SOCKS", "socks"), ("MUSES_DASHBOARD", "dashboard"), ("MUSES_METRICS", "metrics")];
    for (number, (variable, key)) in ports.into_iter().enumerate() {
        let port = format!("127.0.0.1:{}", 7101 + number);
        assert!(shown(&[(variable, &port)], "").contains(&format!("{key} = \"{port}\"")), "{variable}");
    }
    assert!(shown(&[("MUSES_CONFIG", of_user.to_str().unwrap())], "").contains("name = \"user\""));

    write(&other.join("config.toml"), "file");
    let up = |with: &[(&str, &str)], flags: &str| {
        let mut command = foreground(&other, "up", &[]);
        command.envs(with.iter().copied()).args(flags.split_whitespace());
        let process = command.spawn().unwrap();
        let mut node = Node { process, folder: tempfile::tempdir().unwrap() };
        until("the node answers", || muses(&other, "status").status.success());
        let status: Value = serde_json::from_slice(&muses(&other, "status --json").stdout).unwrap();
        muses(&other, "down");
        node.wait();
        status["data"]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(up(&[], ""), "file");
    assert_eq!(up(&[("MUSES_NAME", "environment")], ""), "environment");
    assert_eq!(up(&[("MUSES_NAME", "environment")], "--name flag"), "flag");
}

#[test]
fn what_is_in_force_in_a_running_node_is_shown() {
    let node = Node::start(&["--name", "alice", "--socks", "127.0.0.1:0"]);
    let shown = node.json("config show");
    assert_eq!(
        (&shown["config"]["name"], &shown["config"]["socks"]),
        (&"alice".into(), &"127.0.0.1:0".into()),
        "{shown}"
    );
    let text = String::from_utf8(node.muses("config show").stdout).unwrap();
    assert!(text.starts_with("# in force in the running node"), "{text}");
    assert!(text.contains("listen = [\"/ip4/127.0.0.1/tcp/0\"]"), "{text}");
}

#[test]
fn completions_and_pages_know_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    let help = String::from_utf8(muses(folder.path(), "--help").stdout).unwrap();
    let verbs: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .collect();
    assert!(verbs.len() > 20 && verbs.contains(&"doctor"), "{verbs:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = String::from_utf8(muses(folder.path(), &format!("completions {shell}")).stdout).unwrap();
        assert!(verbs.iter().all(|verb| script.contains(verb)), "{shell}");
    }
    let page = String::from_utf8(muses(folder.path(), "man").stdout).unwrap();
    assert!(
        page.contains(".TH muses 1") && verbs.iter().all(|verb| page.contains(&format!("muses\\-{verb}(1)"))),
        "{page}"
    );
    let pages = folder.path().join("new/man");
    assert_eq!(muses(folder.path(), &format!("man {}", pages.display())).status.code(), Some(0));
    for verb in verbs {
        assert!(pages.join(format!("muses-{verb}.1")).exists(), "{verb}");
    }
}
