//! What people leave running when they leave: a shell on a terminal, one without, and scp through `muses pipe`, and git clone through a forward, from
//! one network into another with an outage in between, on real interfaces.
//!
//! With `MUSES_FULL=1` the outage lasts 30 s, and the file is 1 GiB.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/namespaces.rs"]
mod namespaces;
#[path = "common/ssh.rs"]
mod ssh;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{pattern, until, until_within};
use namespaces::{Namespaces, full, outage};
use rustix::process::{Pid, Signal, kill_process};
use ssh::{Shell, Sshd, is_there};

const MIB: usize = 1024 * 1024;

/// How much.
struct Size {
    file_bytes: usize,
    /// How fast scp may be, so that it is not over too soon.
    file_kbit_per_s: usize,
    repository_bytes: usize,
    patience: Duration,
}

impl Size {
    fn wanted() -> Self {
        if full() {
            return Self {
                file_bytes: 1024 * MIB,
                file_kbit_per_s: 160_000,
                repository_bytes: 96 * MIB,
                patience: Duration::from_secs(900),
            };
        }
        Self {
            file_bytes: 96 * MIB,
            file_kbit_per_s: 48_000,
            repository_bytes: 96 * MIB,
            patience: Duration::from_secs(120),
        }
    }
}

#[test]
fn a_shell_scp_and_git_clone_survive_a_move_between_real_networks() {
    let Some(lab) = Namespaces::new() else { return };
    if !is_there(&["scp", "-V"]) || !is_there(&["git", "--version"]) {
        return;
    }
    let Some(sshd) = Sshd::at(|| lab.alice_listens()) else { return };
    let size = Size::wanted();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_big(&at("film"), size.file_bytes);
    let commit = repository(&at("repository"), size.repository_bytes);

    let (alice, bob) = lab.alice_and_bob(&[]);
    alice.json(&format!("expose ssh {} --allow anyone", sshd.address));

    let mut shell = Shell::start(sshd.ssh(&bob, "echo $$; while read -r line; do echo \"got $line\"; done; echo $$"));
    let process = shell.line();
    shell.echoes(0..10);
    let mut terminal = Shell::start(sshd.terminal(&bob, "tty; while read -r line; do echo \"got $line\"; done; tty"));
    let pty = terminal.line();
    assert!(pty.starts_with("/dev/pts/"), "no terminal: {pty}");
    terminal.echoes(0..10);
    let mut scp = Command::new("scp");
    scp.args(["-q", "-l", &size.file_kbit_per_s.to_string()]).args(sshd.options(&bob));
    let mut scp = scp.arg(format!("alice:{}", at("film").display())).arg(at("copy")).spawn().unwrap();
    let forward = bob.json("connect alice/ssh --listen 127.0.0.1:0")["listen"].as_str().unwrap().to_owned();
    let ssh: Vec<String> = sshd.identity().iter().map(|word| format!("\"{word}\"")).collect();
    let mut git = set_apart(lab.program("bob", "git"), folder.path())
        .args(["clone", "--quiet"])
        .arg(format!("ssh://{forward}{}", at("repository").display()))
        .arg("clone")
        .env("GIT_SSH_COMMAND", format!("ssh {}", ssh.join(" ")))
        .spawn()
        .unwrap();
    until("a part of the file", || fs::metadata(at("copy")).is_ok_and(|meta| meta.len() > 0));
    // On a busy machine git needs longer to begin than the whole file takes.
    signal(&scp, Signal::STOP);
    until("a part of the repository", || bytes_in(&at("clone/.git/objects/pack")) > 0);
    signal(&scp, Signal::CONT);

    lab.bob_leaves(1);
    let running = |child: &mut Child| child.try_wait().unwrap().is_none();
    assert!(running(&mut scp), "scp was over before the network went away");
    assert!(running(&mut git), "git clone was over before the network went away");
    shell.type_lines(10..20);
    terminal.type_lines(10..20);
    bob.json_when("sessions", |sessions| sessions[0]["state"] == "suspended");
    std::thread::sleep(outage());
    assert!(running(&mut scp), "scp did not survive the outage");
    assert!(running(&mut git), "git clone did not survive the outage");
    lab.bob_joins(2);

    shell.expect(10..20);
    shell.echoes(20..30);
    assert_eq!(shell.close(), [process], "another shell, or more than was typed");
    terminal.expect(10..20);
    terminal.echoes(20..30);
    terminal.type_end();
    assert_eq!(terminal.close(), [pty], "another terminal, or more than was typed");
    for (name, child) in [("scp", &mut scp), ("git clone", &mut git)] {
        let mut status = None;
        until_within(size.patience, name, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(0), "{name}");
    }
    assert!(equal(&at("film"), &at("copy")), "the file differs");
    assert!(equal(&at("repository/blob"), &at("clone/blob")), "the clone differs");
    let cloned = git_says(&at("clone"), &["rev-parse", "HEAD"]);
    assert_eq!(cloned, commit);
    git_says(&at("clone"), &["fsck", "--strict"]);
    let sessions = bob.json("sessions");
    assert!(sessions[0]["resumes"].as_u64().unwrap() > 0, "there was no move: {sessions}");
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn write_big(path: &Path, bytes: usize) {
    let mut file = File::create(path).unwrap();
    for number in 0..bytes / MIB {
        let mut piece = pattern(MIB);
        // No two of them are alike.
        piece[..8].copy_from_slice(&(number as u64).to_le_bytes());
        file.write_all(&piece).unwrap();
    }
}

/// A repository with one big blob that does not compress; its commit.
fn repository(path: &Path, bytes: usize) -> String {
    fs::create_dir(path).unwrap();
    let mut random = File::open("/dev/urandom").unwrap().take(bytes as u64);
    std::io::copy(&mut random, &mut File::create(path.join("blob")).unwrap()).unwrap();
    git_says(path, &["init", "--quiet"]);
    git_says(path, &["-c", "core.compression=0", "add", "blob"]);
    git_says(path, &["-c", "user.name=a", "-c", "user.email=a@a", "commit", "--quiet", "-m", "blob"]);
    git_says(path, &["rev-parse", "HEAD"])
}

/// git without the settings and hooks of whoever runs the test.
fn git(at: &Path) -> Command {
    set_apart(Command::new("git"), at)
}

fn set_apart(mut git: Command, at: &Path) -> Command {
    git.current_dir(at).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").stdin(Stdio::null());
    git
}

fn git_says(at: &Path, args: &[&str]) -> String {
    let output = git(at).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn bytes_in(folder: &PathBuf) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}

fn equal(one: &Path, other: &Path) -> bool {
    let (mut one, mut other) = (File::open(one).unwrap(), File::open(other).unwrap());
    let (mut here, mut there) = (Vec::new(), Vec::new());
    loop {
        here.clear();
        there.clear();
        (&mut one).take(MIB as u64).read_to_end(&mut here).unwrap();
        (&mut other).take(MIB as u64).read_to_end(&mut there).unwrap();
        if here != there || here.is_empty() {
            return here == there;
        }
    }
}
