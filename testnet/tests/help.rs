//! What `testnet --help` gives as an example works, and what pages mention of `testnet` exists.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn testnet(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_testnet")).args(words.split_whitespace()).output().unwrap()
}

/// The only example in the help of a verb, without the program's name.
fn example(verb: &str) -> String {
    let help = String::from_utf8(testnet(&format!("{verb} --help")).stdout).unwrap();
    let line = help.lines().skip_while(|line| *line != "Example:").nth(1).unwrap_or_default();
    line.strip_prefix("  testnet ").unwrap_or_else(|| panic!("{verb} has no example: {help}")).to_owned()
}

#[test]
fn the_examples_of_sim_and_bench_work() {
    let out = tempfile::tempdir().unwrap();
    for verb in ["sim", "bench"] {
        let line = example(verb);
        let done = testnet(&format!("--out {} {line}", out.path().display()));
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// It takes most of a minute, so it is run once, with a look at what it prints.
#[test]
fn the_example_of_soak_is_run_elsewhere() {
    let tests = fs::read_to_string(Path::new(TREE).join("testnet/tests/real_processes.rs")).unwrap();
    let line = example("soak");
    assert!(tests.contains(&format!("\"{line} --json\"")), "nobody runs `testnet {line}`");
}

/// With fewer nodes, and at a port that is free: `.ci/run` does it as it stands.
#[test]
fn the_example_of_up_works() {
    let (line, out) = (example("up"), tempfile::tempdir().unwrap());
    let smaller = line.replace("-n 20", "-n 3").replace("--dashboard", "--dashboard 127.0.0.1:0");
    assert_ne!(smaller, line);
    let ci = fs::read_to_string(Path::new(TREE).join(".ci/run")).unwrap();
    assert!(ci.contains(&format!(" {line};")), "nobody runs `testnet {line}`");
    let mut command = Command::new(env!("CARGO_BIN_EXE_testnet"));
    command.arg("--out").arg(out.path()).args(smaller.split(' '));
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let said = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let says_url = said.take_while(|line| !line.contains("http://127.0.0.1:")).count();
    kill_process(Pid::from_child(&process), Signal::INT).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(130), "{smaller}, after {says_url} lines");
}

#[test]
fn a_flag_of_another_mode_is_one_line() {
    for (line, named) in
        [("sim --pairs 5", "--graph"), ("sim --graph ov:3 --calm", "--calm"), ("--runs 2 bench", "--runs")]
    {
        let refused = testnet(line);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(
            (refused.status.code(), refused.stdout.len(), said.lines().count()),
            (Some(2), 0, 1),
            "{line}: {said}"
        );
        assert!(said.starts_with("testnet: ") && said.contains(named), "{line}: {said}");
    }
}

/// As `what_is_mentioned_is_understood` of the node's tests: verbs and flags have to exist, and so has an example of a library.
#[test]
fn what_is_mentioned_is_understood() {
    let mut tried = 0;
    for page in pages(Path::new(TREE)) {
        let text = fs::read_to_string(&page).unwrap();
        let spans = text.split('`').filter(|span| !span.contains('\n'));
        for span in spans.filter(|span| span.starts_with("cargo run ") || span.starts_with("testnet ")) {
            if let Some((package, example)) = span.split_once(" --example ") {
                let package = package.rsplit(' ').next().unwrap();
                assert!(Path::new(TREE).join(package).join(format!("examples/{example}.rs")).exists(), "{span}");
                continue;
            }
            let words = span.split_once(" -- ").map_or_else(|| span.trim_start_matches("testnet "), |(_, words)| words);
            let words = if span.ends_with("-p testnet") { "" } else { words };
            assert!(span.starts_with("testnet ") || span.contains(" -p testnet"), "{}: `{span}`", page.display());
            let said = testnet(&format!("{words} --help"));
            let said = String::from_utf8_lossy(&said.stderr);
            let unknown = ["unexpected argument", "unrecognized subcommand"].iter().any(|word| said.contains(word));
            assert!(!unknown, "{}: `{span}`: {said}", page.display());
            tried += 1;
        }
    }
    assert!(tried > 10, "{tried}");
}

/// All pages of the tree but the story of its changes.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && !name.starts_with('.') && !["target", "corpus", "artifacts"].contains(&name.as_str()) {
            found.extend(pages(&path));
        } else if name.ends_with(".md") && name != "CHANGELOG.md" {
            found.push(path);
        }
    }
    found
}
