//! Who runs the commands of each page. A page with a command that nobody runs fails here, until a test does or a reason stands below.

use std::fs;
use std::path::{Path, PathBuf};

use super::page::{Block, blocks};
use crate::common::{muses, stderr};

const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

enum By {
    /// This test, in this file.
    Test(&'static str, &'static str),
    /// `.ci/run`, in which this line stands.
    Ci(&'static str),
    /// Nobody, because of this.
    Nobody(&'static str),
}

/// Page, how its commands begin, and who runs them; the first one that fits counts. Blocks of kind `console` are not here: they belong to the
/// test of `pages.rs` that reads the page.
const CLAIMS: [(&str, &str, By); 22] = [
    ("README.md", "cargo run --release -p testnet", By::Ci("cargo run --release -p testnet")),
    ("README.md", "cargo test --workspace", By::Ci("cargo test --workspace")),
    ("README.md", "cargo install --locked --path node", By::Ci("cargo install --locked --path node")),
    ("README.md", "muses ", By::Test("node/tests/pages.rs", "the_readme")),
    ("README.md", "curl ", By::Test("node/tests/pages.rs", "the_readme")),
    ("README.md", "ssh ", By::Test("node/tests/pages.rs", "the_readme")),
    ("docs/tutorial.md", "cargo install --locked --path node", By::Ci("cargo install --locked --path node")),
    ("docs/reference/cli.md", "muses ", By::Test("node/tests/examples.rs", "every_verb_has_an_example_that_works")),
    ("docs/bench.md", "cargo run --release -p testnet -- bench", By::Ci("testnet-bench bench --quick")),
    ("docs/experiment.md", "cargo run --release -p testnet -- up -n 8", By::Ci("up -n 40 --kill 10")),
    (
        "docs/experiment.md",
        "cargo run --release -p testnet -- --runs",
        By::Nobody("takes minutes; CI does one run of it"),
    ),
    ("docs/experiment.md", "cargo run --release -p testnet -- --json", By::Ci("-p testnet -- --json")),
    ("docs/experiment.md", "cargo run --release -p testnet", By::Ci("cargo run --release -p testnet")),
    ("docs/experiment.md", "sudo target/release/testnet --netns", By::Ci("-p testnet -- --netns")),
    ("docs/overlay/README.md", "cargo run --release -p testnet -- sim --graph", By::Ci("-p testnet -- sim --graph")),
    (
        "docs/overlay/README.md",
        "cargo run --release -p testnet -- sim --suite",
        By::Nobody("takes an hour; CI runs its parts"),
    ),
    ("docs/overlay/README.md", "cargo bench -p overlay", By::Nobody("measures; clippy builds it")),
    ("fuzz/README.md", "cargo ", By::Nobody("fetches a program, or needs a nightly compiler; the corpus is replayed")),
    ("fuzz/README.md", "cd fuzz", By::Nobody("for the next line alone")),
    ("fuzz/README.md", "TARGET=", By::Nobody("for the next line alone")),
    ("fuzz/README.md", "mkdir -p /tmp/small", By::Nobody("needs a nightly compiler")),
    ("muses/model/README.md", "muses/model/check.sh", By::Ci("    muses/model/check.sh")),
];
/// Kinds of blocks that hold no commands.
const DATA: [&str; 6] = ["json", "yaml", "toml", "ini", "ssh-config", "menu"];
/// What commands begin with, in blocks that may be drawings or output.
const PROGRAMS: [&str; 30] = [
    "$",
    "alice$",
    "apt",
    "apt-get",
    "bash",
    "bob$",
    "cargo",
    "cd",
    "curl",
    "docker",
    "export",
    "git",
    "ip",
    "kill",
    "kubectl",
    "mkdir",
    "muses",
    "npm",
    "packaging/debian/build",
    "proverif",
    "psql",
    "python3",
    "scp",
    "sh",
    "ssh",
    "sudo",
    "systemctl",
    "target/release/testnet",
    "testnet",
    "wget",
];

/// All pages of the tree, from its top, and what they say.
fn pages() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && !name.starts_with('.') && !["target", "corpus", "artifacts"].contains(&name.as_str()) {
                walk(&path, found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(TREE), &mut found);
    found.sort();
    let name = |path: &Path| path.strip_prefix(TREE).unwrap().display().to_string();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// What is typed of a block that no test of `pages.rs` follows; or why that cannot be said.
fn commands(block: &Block) -> Result<Vec<&str>, String> {
    let lines = block.lines.iter().map(|line| line.trim());
    match block.kind.as_deref() {
        Some("sh") => Ok(lines.filter(|line| !line.is_empty()).collect()),
        Some(kind) if DATA.contains(&kind) => Ok(Vec::new()),
        Some("" | "text") | None => Ok(lines.filter(|line| is_command(line)).collect()),
        Some(kind) => Err(format!("what is a block of kind {kind:?}?")),
    }
}

/// Two blanks end the first cell of a drawing, or come before a remark.
fn is_command(line: &str) -> bool {
    let line = line.split("  ").next().unwrap_or_default();
    line.split_once(' ').is_some_and(|(program, _)| PROGRAMS.contains(&program)) || line == "packaging/debian/build"
}

#[test]
fn every_command_is_run_by_a_test_or_somebody_says_why_not() {
    let followed = include_str!("../pages.rs");
    let mut used = [false; CLAIMS.len()];
    let mut complaints = Vec::new();
    for (page, text) in pages() {
        for block in blocks(&text) {
            let place = format!("{page}:{}", block.line);
            if block.kind.as_deref() == Some("console") {
                let name = page.strip_prefix("docs/").unwrap_or(&page);
                if !followed.contains(&format!("Page::read(\"{name}\")")) {
                    complaints.push(format!("{place}: no test follows this page"));
                }
                continue;
            }
            let commands = commands(&block).unwrap_or_else(|why| {
                complaints.push(format!("{place}: {why}"));
                Vec::new()
            });
            for command in commands {
                match CLAIMS.iter().position(|(of, beginning, _)| *of == page && command.starts_with(beginning)) {
                    Some(at) => used[at] = true,
                    None => complaints.push(format!("{place}: nobody runs `{command}`")),
                }
            }
        }
    }
    for ((page, beginning, by), used) in CLAIMS.iter().zip(used) {
        let claim = format!("{page}, `{beginning}`");
        if !used {
            complaints.push(format!("{claim}: the page has no such command"));
        }
        let is_true = match by {
            By::Test(file, name) => stands_in(file, &format!("\nfn {name}()")),
            By::Ci(line) => stands_in(".ci/run", line),
            By::Nobody(why) => !why.is_empty(),
        };
        if !is_true {
            complaints.push(format!("{claim}: nobody does that where it says"));
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

fn stands_in(file: &str, words: &str) -> bool {
    fs::read_to_string(Path::new(TREE).join(file)).unwrap_or_default().contains(words)
}

/// What is mentioned between words, `muses up --leaf`, is not typed, but verbs and flags have to exist. (For those of `testnet` see its `tests/help.rs`.)
#[test]
fn what_is_mentioned_is_understood() {
    let (nowhere, mut tried) = (Path::new("/nowhere"), 0);
    for (page, text) in pages().into_iter().filter(|(page, _)| page != "CHANGELOG.md") {
        for mentioned in text.split('`').filter(|span| span.starts_with("muses ") && !span.contains('\n')) {
            let words = mentioned.trim_start_matches("muses ");
            if words.starts_with("VERB") || words.contains('|') {
                continue;
            }
            let said = stderr(&muses(nowhere, &format!("{words} --help")));
            let unknown = ["unexpected argument", "unrecognized subcommand"].iter().any(|word| said.contains(word));
            assert!(!unknown, "{page}: `{mentioned}`: {said}");
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
}

#[test]
fn commands_are_told_from_drawings() {
    let text = "```text\nmuses     pure      handshake\n  muses up --leaf\n```\nwords\n\n    cargo bench -p overlay      remark\n    alice - bob\n";
    let blocks = blocks(text);
    assert_eq!(commands(&blocks[0]), Ok(vec!["muses up --leaf"]));
    assert_eq!(commands(&blocks[1]), Ok(vec!["cargo bench -p overlay      remark"]));
    assert_eq!((blocks.len(), blocks[0].line, blocks[1].line), (2, 2, 7));
}
