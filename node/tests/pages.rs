//! What the pages under docs/ say that one types is typed, and what they say that one sees is seen.
//!
//! In a `console` block a line `alice$ ...` is a command, what follows it is a part of its output, in order, line by line; `...` stands for
//! anything. Each person has a home of its own. `muses up` and `join` stay in the background and are waited for, as a person would. Ports of
//! 127.0.0.1 are replaced by free ones, and `muses1...` by the latest invite. The machine's service manager, its packages and its containers
//! are left alone: `pages/service.rs` and `pages/machine.rs` say what is done in their place. Who runs what is in no `console` block says
//! `pages/claims.rs`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
#[path = "common/ssh.rs"]
mod ssh;

#[path = "pages/claims.rs"]
mod claims;
#[path = "pages/home.rs"]
mod home;
#[path = "pages/machine.rs"]
mod machine;
#[path = "pages/page.rs"]
mod page;
#[path = "pages/postgres.rs"]
mod postgres;
#[path = "pages/service.rs"]
mod service;
#[path = "pages/street.rs"]
mod street;

use std::env;
use std::fmt::Write as _;
use std::fs;

use common::help;
use machine::Machine;
use page::{Page, Step, docs, is_installed};
use postgres::Postgres;
use ssh::Sshd;
use street::Street;

/// What has happened before the how-to pages begin.
const ALICE_AND_BOB: [&str; 3] = [
    "alice$ muses up --name alice",
    "alice$ muses invite",
    "bob$ muses join --name bob --socks 127.0.0.1:7080 muses1...",
];
/// And where there is a page to fetch.
const A_WEB_SERVER: [&str; 2] =
    ["alice$ python3 -m http.server 8000 --bind 127.0.0.1 &", "alice$ muses expose web 127.0.0.1:8000 --allow bob"];

#[test]
fn the_tutorial() {
    Page::read("tutorial.md").follow(&[]);
}

#[test]
fn a_web_page() {
    Page::read("how-to/web.md").follow(&ALICE_AND_BOB);
}

#[test]
fn a_database() {
    let page = Page::read("how-to/database.md");
    let mut street = Street::default();
    let server = Postgres::start("bob", "inventory");
    if let Some(server) = &server {
        street.ports.insert("5432".to_owned(), server.port.to_string());
        page.follow_in(&mut street, &ALICE_AND_BOB);
    } else {
        page.without("psql").follow_in(&mut street, &ALICE_AND_BOB);
    }
}

#[test]
fn a_file() {
    Page::read("how-to/file.md").follow(&ALICE_AND_BOB);
}

#[test]
fn a_shell() {
    let Some(sshd) = Sshd::start() else { return };
    let page = Page::read("how-to/ssh.md");
    let mut street = Street::default();
    street.give_ssh("bob", &sshd, &page.ssh_config);
    page.follow_in(&mut street, &ALICE_AND_BOB);
}

#[test]
fn a_laptop() {
    Page::read("how-to/laptop.md").follow(&[&ALICE_AND_BOB[..], &A_WEB_SERVER].concat());
}

#[test]
fn a_server() {
    let page = Page::read("how-to/server.md");
    if page.lacks_something() {
        return;
    }
    let mut machine = Machine::new();
    page.steps.iter().for_each(|step| machine.take(step));
}

#[test]
fn the_dashboard() {
    Page::read("reference/dashboard.md").follow(&[]);
}

#[test]
fn files() {
    let a_file = ["alice$ head -c 300000 /dev/urandom > big.iso"];
    Page::read("reference/files.md").follow(&[&ALICE_AND_BOB[..], &a_file].concat());
}

#[test]
fn invites() {
    let services = [
        "alice$ muses up --name alice",
        "alice$ muses expose web 127.0.0.1:8000",
        "alice$ muses expose ssh 127.0.0.1:2222",
    ];
    Page::read("reference/invites.md").follow(&services);
}

#[test]
fn ports_that_lead_back() {
    let a_server = ["bob$ python3 -m http.server 3000 --bind 127.0.0.1 &"];
    Page::read("reference/reverse.md").follow(&[&ALICE_AND_BOB[..], &a_server].concat());
}

#[test]
fn a_proxy() {
    Page::read("reference/socks.md").follow(&[&ALICE_AND_BOB[..], &A_WEB_SERVER].concat());
}

/// What README says two people type, but for installing.
#[test]
fn the_readme() {
    if !is_installed("curl") || !is_installed("python3") {
        println!("skipped: curl or python3 is not installed");
        return;
    }
    let text = fs::read_to_string(docs().join("../README.md")).unwrap();
    let section = text.split("## Two nodes, two terminals").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut street = Street::default();
    for port in ["4741", "4742"] {
        street.find_ports(&format!("127.0.0.1:{port}"));
    }
    let sshd = Sshd::start();
    if let Some(sshd) = &sshd {
        street.give_ssh("bob", sshd, "");
    }
    let invite = "muses invite --data-dir /tmp/alice";
    assert!(section.contains(&format!("`{invite}`")));
    let blocks = page::blocks(section).into_iter().filter(|block| block.kind.as_deref() == Some("sh"));
    let mut typed = vec!["python3 -m http.server 8000 --bind 127.0.0.1 &".to_owned()];
    for command in blocks.flat_map(|block| block.lines) {
        if command.starts_with("cargo ") || (command.starts_with("ssh ") && sshd.is_none()) {
            continue;
        }
        if command.starts_with("muses join ") {
            typed.push(invite.to_owned());
            // As the text says further down.
            typed.push(format!("{command} --socks 127.0.0.1:7080"));
        } else {
            typed.push(command);
        }
    }
    assert!(typed.len() >= 8, "{typed:#?}");
    for mut command in typed {
        let bobs = command.contains("/tmp/bob") || command.starts_with("curl ");
        for folder in ["/tmp/alice", "/tmp/bob"] {
            command = command.replace(folder, "$HOME/node");
        }
        let who = if bobs { "bob" } else { "alice" }.to_owned();
        let shown = if command.starts_with("curl ") { vec!["...Directory listing...".to_owned()] } else { Vec::new() };
        street.take(&Step { who, command, shown });
    }
}

#[test]
fn the_reference_is_what_the_program_says() {
    let mut cli = "# Command line\n\nWhat `muses --help` and the help of each verb print.\n".to_owned();
    for verb in [vec![String::new()], help::verbs()].concat() {
        let _ =
            write!(cli, "\n## `{}`\n\n```text\n{}\n```\n", format!("muses {verb}").trim(), help::of(&verb).trim_end());
    }
    compare("cli.md", &cli);

    let folder = tempfile::tempdir().unwrap();
    let template = common::muses(folder.path(), "config init");
    assert!(template.status.success(), "{}", common::stderr(&template));
    let template = fs::read_to_string(folder.path().join("config.toml")).unwrap();
    compare(
        "config.md",
        &format!(
            "# Configuration\n\n`muses config init` writes this into the data folder; `muses config show` prints what is in force.\n\n{CONFIG_PLACES}\n\n```toml\n{template}```\n"
        ),
    );

    let codes = fs::read_to_string(docs().join("reference/exit-codes.md")).unwrap();
    let documented: Vec<String> = codes
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter(|row| row.starts_with(|char: char| char.is_ascii_digit()))
        .map(|row| row.split(" | ").take(2).collect::<Vec<_>>().join("  "))
        .collect();
    let help = help::of("");
    let said: Vec<&str> = help.lines().skip_while(|line| *line != "Exit codes:").skip(1).map(str::trim).collect();
    assert_eq!(documented, said);
}

/// What the page about the configuration says of where it is.
const CONFIG_PLACES: &str = "\
`muses up` reads the first of these that there is: `--config`, `config.toml` in the data folder, and unless `--data-dir` names another node's folder
`$XDG_CONFIG_HOME/muses/config.toml` (`~/.config`), and as root `/etc/muses/config.toml`. Flags win over the environment (`MUSES_NAME`, `MUSES_LISTEN` and
others; `muses up --help` names them), and that over the file. An empty variable says nothing.

A file that is there and cannot be read, a link that leads nowhere, or a folder that cannot be looked into is no missing file: `muses up` ends with exit code 2 instead of founding an
overlay without what the file says. `muses config check` says the same about a file as a start by it would, and is content where there is none.";

/// A page of the reference that is made from the program; `BLESS=1` writes it.
fn compare(page: &str, made: &str) {
    let path = docs().join("reference").join(page);
    if env::var_os("BLESS").is_some() {
        fs::write(&path, made).unwrap();
    }
    let stands = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stands == made,
        "docs/reference/{page} is not what the program says; BLESS=1 cargo test -p node --test pages"
    );
}
