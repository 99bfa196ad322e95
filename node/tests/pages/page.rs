//! A page: its blocks, and what in them is typed and seen.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::street::Street;

/// A command as it is typed, and what the page shows below it.
#[derive(Clone, Debug)]
pub struct Step {
    pub who: String,
    pub command: String,
    pub shown: Vec<String>,
}

/// Lines between two fences, or indented ones.
pub struct Block {
    /// Of its first line, from 1.
    pub line: usize,
    /// What stands behind the fence; `None` where indentation makes the block.
    pub kind: Option<String>,
    pub lines: Vec<String>,
}

pub struct Page {
    needs: Vec<String>,
    /// What it says that one writes to `~/.ssh/config`.
    pub ssh_config: String,
    pub steps: Vec<Step>,
}

impl Page {
    /// The page under docs/ of this name.
    pub fn read(name: &str) -> Self {
        let text = fs::read_to_string(docs().join(name)).unwrap();
        let needs = text.lines().filter_map(|line| line.strip_prefix("<!-- needs: ")?.strip_suffix(" -->"));
        let needs = needs.flat_map(str::split_whitespace).map(str::to_owned).collect();
        let of = |kind: &str| -> Vec<String> {
            let blocks = blocks(&text).into_iter().filter(|block| block.kind.as_deref() == Some(kind));
            blocks.flat_map(|block| block.lines).collect()
        };
        let steps = steps(of("console").iter().map(String::as_str));
        assert!(!steps.is_empty(), "{name} has nothing to type");
        Self { needs, ssh_config: of("ssh-config").iter().map(|line| format!("{line}\n")).collect(), steps }
    }

    /// The same but for what `program` does, which is not to be had here.
    pub fn without(mut self, program: &str) -> Self {
        println!("skipped: what {program} does");
        self.steps.retain(|step| step.command.split(' ').next() != Some(program));
        self
    }

    /// Does what the page says, after `before`.
    pub fn follow(self, before: &[&str]) {
        self.follow_in(&mut Street::default(), before);
    }

    pub fn follow_in(self, street: &mut Street, before: &[&str]) {
        if self.lacks_something() {
            return;
        }
        for step in steps(before.iter().copied()).iter().chain(&self.steps) {
            street.take(step);
        }
    }

    /// Whether a program that the page needs is missing; says so.
    pub fn lacks_something(&self) -> bool {
        let missing = self.needs.iter().find(|program| !is_installed(program));
        missing.inspect(|program| println!("skipped: {program} is not installed")).is_some()
    }
}

pub fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// The blocks of a page, in order.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut fenced, mut open) = (false, false);
    for (line, number) in text.lines().zip(1..) {
        match line.trim_start().strip_prefix("```") {
            Some(_) if fenced => (fenced, open) = (false, false),
            Some(kind) => {
                (fenced, open) = (true, true);
                blocks.push(Block { line: number + 1, kind: Some(kind.to_owned()), lines: Vec::new() });
            }
            None => {
                let indented = line.starts_with("    ");
                if !fenced && indented && !open {
                    blocks.push(Block { line: number, kind: None, lines: Vec::new() });
                }
                open = fenced || indented;
                if let Some(block) = blocks.last_mut().filter(|_| open) {
                    block.lines.push(if fenced { line } else { line.trim_start() }.to_owned());
                }
            }
        }
    }
    blocks
}

pub fn steps<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        match line.split_once("$ ") {
            Some((who @ ("alice" | "bob"), command)) => {
                steps.push(Step { who: who.to_owned(), command: command.to_owned(), shown: Vec::new() });
            }
            _ => steps.last_mut().unwrap().shown.push(line.to_owned()),
        }
    }
    steps
}

pub fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
