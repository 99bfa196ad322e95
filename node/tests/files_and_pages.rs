//! What `muses` does without a node: the configuration file, completions, manual pages.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Node, muses, stderr};

#[test]
fn a_configuration_is_made_checked_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("new");
    let file = data_dir.join("config.toml");
    assert_eq!(muses(&data_dir, "config check").status.code(), Some(2), "there is none");
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
    let pages = folder.path().join("man");
    fs::create_dir(&pages).unwrap();
    assert_eq!(muses(folder.path(), &format!("man {}", pages.display())).status.code(), Some(0));
    for verb in verbs {
        assert!(pages.join(format!("muses-{verb}.1")).exists(), "{verb}");
    }
}
