//! What the pages under docs/ say that one types is typed, and what they say that one sees is seen.
//!
//! In a `console` block a line `alice$ ...` is a command, what follows it is a part of its output, in order, line by line; `...` stands for
//! anything. Each person has a home of its own. `muses up` and `join` stay in the background and are waited for, as a person would. Ports of
//! 127.0.0.1 are replaced by free ones, and `muses1...` by the latest invite.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/ssh.rs"]
mod ssh;

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{help, until};
use ssh::Sshd;

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
    Page::read("how-to/database.md").follow(&ALICE_AND_BOB);
}

#[test]
fn a_file() {
    Page::read("how-to/file.md").follow(&ALICE_AND_BOB);
}

#[test]
fn a_shell() {
    let Some(sshd) = Sshd::start() else { return };
    let page = Page::read("how-to/ssh.md");
    let config = format!(
        "{}\nHost *\n    IdentityFile {}\n    BatchMode yes\n    StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null\n    LogLevel ERROR\n",
        page.ssh_config,
        sshd.folder.path().join("user").display()
    );
    let mut street = Street::default();
    street.ports.insert("22".to_owned(), sshd.address.port().to_string());
    let bob = street.home("bob");
    fs::write(bob.folder.path().join("ssh-config"), config).unwrap();
    // OpenSSH finds its configuration by the user's entry in /etc/passwd, whatever HOME says.
    for program in ["ssh", "scp"] {
        let script = format!("#!/bin/sh\nexec /usr/bin/{program} -F \"$HOME/ssh-config\" \"$@\"\n");
        let path = bob.folder.path().join("bin").join(program);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    page.follow_in(&mut street, &ALICE_AND_BOB);
}

#[test]
fn a_laptop() {
    let served =
        ["alice$ python3 -m http.server 8000 --bind 127.0.0.1 &", "alice$ muses expose web 127.0.0.1:8000 --allow bob"];
    Page::read("how-to/laptop.md").follow(&[&ALICE_AND_BOB[..], &served].concat());
}

/// What README says two people type, but for installing and for ssh, which the how-to page does.
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
    let invite = "muses invite --data-dir /tmp/alice";
    assert!(section.contains(&format!("`{invite}`")));
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut typed = vec!["python3 -m http.server 8000 --bind 127.0.0.1 &".to_owned()];
    for command in blocks.flat_map(str::lines) {
        if command.starts_with("cargo ") || command.starts_with("ssh ") {
            continue;
        }
        if command.starts_with("muses join ") {
            typed.push(invite.to_owned());
            // As the text says further down.
            typed.push(format!("{command} --socks 127.0.0.1:7080"));
        } else {
            typed.push(command.to_owned());
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
            "# Configuration\n\n`muses config init` writes this into the data folder; `muses config show` prints what is in force.\n\n```toml\n{template}```\n"
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

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// What has happened before the how-to pages begin.
const ALICE_AND_BOB: [&str; 3] = [
    "alice$ muses up --name alice",
    "alice$ muses invite",
    "bob$ muses join --name bob --socks 127.0.0.1:7080 muses1...",
];

/// A command as it is typed, and what the page shows below it.
#[derive(Debug)]
struct Step {
    who: String,
    command: String,
    shown: Vec<String>,
}

struct Page {
    needs: Vec<String>,
    /// What it says that one writes to `~/.ssh/config`.
    ssh_config: String,
    steps: Vec<Step>,
}

impl Page {
    fn read(name: &str) -> Self {
        let text = fs::read_to_string(docs().join(name)).unwrap();
        let needs = text.lines().filter_map(|line| line.strip_prefix("<!-- needs: ")?.strip_suffix(" -->"));
        let needs = needs.flat_map(str::split_whitespace).map(str::to_owned).collect();
        let mut kind = "";
        let mut ssh_config = String::new();
        let mut lines = Vec::new();
        for line in text.lines() {
            match (line.strip_prefix("```"), kind) {
                (Some(fence), _) => kind = fence,
                (None, "console") => lines.push(line),
                (None, "ssh-config") => ssh_config += &format!("{line}\n"),
                _ => {}
            }
        }
        let steps = steps(&lines);
        assert!(!steps.is_empty(), "{name} has nothing to type");
        Self { needs, ssh_config, steps }
    }

    /// Does what the page says, after `before`.
    fn follow(self, before: &[&str]) {
        self.follow_in(&mut Street::default(), before);
    }

    fn follow_in(self, street: &mut Street, before: &[&str]) {
        if let Some(missing) = self.needs.iter().find(|program| !is_installed(program)) {
            println!("skipped: {missing} is not installed");
            return;
        }
        for step in steps(before).iter().chain(&self.steps) {
            street.take(step);
        }
    }
}

fn steps(lines: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in lines {
        match line.split_once("$ ") {
            Some((who @ ("alice" | "bob"), command)) => {
                steps.push(Step { who: who.to_owned(), command: command.to_owned(), shown: Vec::new() });
            }
            _ => steps.last_mut().unwrap().shown.push((*line).to_owned()),
        }
    }
    steps
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Where the people of a page live.
#[derive(Default)]
struct Street {
    homes: BTreeMap<String, Home>,
    /// Documented port and the free one in its place.
    ports: BTreeMap<String, String>,
    invite: String,
}

/// One person's shell.
struct Home {
    folder: tempfile::TempDir,
    /// What it runs in the background: nodes, servers, downloads.
    background: Vec<Child>,
}

impl Street {
    fn take(&mut self, step: &Step) {
        self.find_ports(&step.command);
        let mut command = self.filled_in(&step.command);
        if !self.invite.is_empty() {
            command = command.replace("muses1...", &self.invite);
        }
        let shown: Vec<String> = step.shown.iter().map(|line| self.filled_in(line)).collect();
        let alice = self.home("alice").work();
        let home = self.home(&step.who);
        let said = if command == "wait" {
            home.wait();
            String::new()
        } else {
            home.run(&command, &alice, &shown)
        };
        assert!(shows(&said, &shown), "{command}\nshould show\n{}\nbut says\n{said}", shown.join("\n"));
        if let Some(invite) = said.split_whitespace().find(|word| word.starts_with("muses1")) {
            self.invite = invite.to_owned();
        }
    }

    fn home(&mut self, who: &str) -> &mut Home {
        self.homes.entry(who.to_owned()).or_insert_with(Home::new)
    }

    fn find_ports(&mut self, command: &str) {
        for found in command.split("127.0.0.1:").skip(1) {
            let port: String = found.chars().take_while(char::is_ascii_digit).collect();
            self.ports
                .entry(port)
                .or_insert_with(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string());
        }
        // python3's server has it in another form.
        if let Some(port) = command.split("http.server ").nth(1).and_then(|rest| rest.split(' ').next()) {
            self.find_ports(&format!("127.0.0.1:{port}"));
        }
    }

    /// With the ports that are in use here.
    fn filled_in(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(|char: char| char.is_ascii_digit()) {
            let length = rest[start..].find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len() - start);
            let number = &rest[start..start + length];
            let _ = write!(filled, "{}{}", &rest[..start], self.ports.get(number).map_or(number, String::as_str));
            rest = &rest[start + length..];
        }
        filled.push_str(rest);
        filled
    }
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("muses");
        fs::create_dir_all(&data_dir).unwrap();
        fs::create_dir_all(folder.path().join("work")).unwrap();
        fs::create_dir_all(folder.path().join("bin")).unwrap();
        // The machine of the tests is not everybody's.
        fs::write(data_dir.join("config.toml"), "listen = [\"/ip4/127.0.0.1/tcp/0\"]\n").unwrap();
        Self { folder, background: Vec::new() }
    }

    /// The folder in which commands run.
    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn shell(&self, command: &str, alice: &Path) -> Command {
        let muses = Path::new(env!("CARGO_BIN_EXE_muses")).parent().unwrap();
        let mut path = vec![self.folder.path().join("bin"), muses.to_owned()];
        path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let mut shell = Command::new("bash");
        shell.args(["-c", command]).current_dir(self.work()).env("XDG_STATE_HOME", self.folder.path());
        shell.env("HOME", self.folder.path()).env("ALICE", alice).env("PATH", env::join_paths(path).unwrap());
        shell
    }

    /// What the command says; one in the background, as soon as it shows what it should.
    fn run(&mut self, command: &str, alice: &Path, shown: &[String]) -> String {
        let foreground = ["muses up", "muses join"].iter().any(|verb| command.starts_with(verb));
        if !foreground && !command.ends_with(" &") {
            let done = common::output(&mut self.shell(command, alice));
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            assert!(done.status.success(), "{command}: {said}{}", common::stderr(&done));
            return said;
        }
        let log = self.folder.path().join(format!("log-{}", self.background.len()));
        let file = File::create(&log).unwrap();
        let mut shell = self.shell(&format!("exec {}", command.trim_end_matches(" &")), alice);
        let shell = shell.stdin(Stdio::null()).stderr(file.try_clone().unwrap()).stdout(file).process_group(0);
        self.background.push(shell.spawn().unwrap());
        let said = || fs::read_to_string(&log).unwrap_or_default();
        if foreground {
            // Its name is known when it is this node's: from then on others find it.
            until(command, || shows(&said(), shown) && said().contains("is this node's"));
        } else if !shown.is_empty() {
            until(command, || shows(&said(), shown));
        } else if let Some(port) = command.split("http.server ").nth(1).and_then(|rest| rest.split(' ').next()) {
            until(command, || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
        }
        said()
    }

    /// The shell's `wait`: for what ends by itself. That is the youngest; nodes and servers do not.
    fn wait(&mut self) {
        let mut youngest = self.background.pop().unwrap();
        until("the end of what runs in the background", || youngest.try_wait().unwrap().is_some());
        assert!(youngest.wait().unwrap().success());
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for process in &mut self.background {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Whether `said` has the `shown` lines in their order; `...` stands for anything within a line.
fn shows(said: &str, shown: &[String]) -> bool {
    let mut lines = said.lines();
    shown.iter().all(|wanted| lines.any(|line| fits(line.trim_end(), wanted)))
}

fn fits(line: &str, wanted: &str) -> bool {
    let mut parts = wanted.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        open = part.is_empty();
    }
    open || rest.is_empty()
}

#[test]
fn shown_lines_are_compared() {
    for (line, wanted) in [("a b", "a b"), ("a b", "a ..."), ("a b c", "a ... c"), ("", "")] {
        assert!(fits(line, wanted), "{line} {wanted}");
    }
    for (line, wanted) in [("a b", "a"), ("a b", "b ..."), ("a b c", "a ... d"), ("a bb", "a ... b.")] {
        assert!(!fits(line, wanted), "{line} {wanted}");
    }
    let shown = ["first".to_owned(), "second".to_owned()];
    assert!(shows("first\nbetween\nsecond\n", &shown));
    assert!(!shows("second\nfirst\n", &shown) && !shows("first\n", &shown));
}
