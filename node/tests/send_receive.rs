//! Files from node to node: exact, on after every kind of death, and only from whom the receiver named.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{Node, pattern, stderr, until};
use serde_json::Value;

/// More than all buffers on the way hold, by far.
const BIG_BYTES: usize = 96 * 1024 * 1024;

/// Alice sends, Bob receives, and Carol only holds the overlay together.
struct Place {
    alice: Node,
    bob: Node,
    carol: Node,
    files: tempfile::TempDir,
    inbox: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let carol = Node::start(&["--name", "carol"]);
        let join = carol.invite();
        let start = |name| Node::start(&["--name", name, "--join", &join]);
        let (alice, bob) = (start("alice"), start("bob"));
        for (node, name) in [(&alice, "bob"), (&bob, "alice")] {
            node.json_when(&format!("lookup {name}"), |found| found["node"].is_string());
        }
        let (files, inbox) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Self { alice, bob, carol, files, inbox }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.files.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// `muses send` of these files to Bob.
    fn send(&self, files: &[&Path]) -> Running {
        let mut command = command(&self.alice, "send");
        Running::start(command.args(files).arg("bob"), None)
    }

    /// `muses receive` at Bob's, which is ready when this returns.
    fn receive(&self, flags: &[&str]) -> Running {
        let mut command = command(&self.bob, "receive");
        Running::start(command.arg("--dir").arg(self.inbox.path()).args(flags), Some("taking files"))
    }

    fn in_inbox(&self) -> Vec<String> {
        let names = fs::read_dir(self.inbox.path()).unwrap();
        let mut names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Waits until a part of the file is there, and takes the sender's network away.
    fn stop_half_way(&self) {
        let partly = || {
            let names = fs::read_dir(self.inbox.path()).unwrap().flatten();
            let mut parts = names.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part"));
            parts.any(|part| part.metadata().is_ok_and(|meta| meta.len() > 0))
        };
        until("a part of the file", partly);
        self.alice.json("network down");
        assert!(partly(), "the whole file was there already");
    }
}

fn command(node: &Node, verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
    command.arg("--data-dir").arg(node.folder.path()).args([verb, "--json"]);
    command
}

/// A command of Alice or Bob that works beside the test.
struct Running {
    process: Child,
    complaints: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Running {
    fn start(command: &mut Command, ready: Option<&str>) -> Self {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let complaints = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let (mut stderr, heard) = (process.stderr.take().unwrap(), complaints.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        let mut running = Self { process, complaints };
        if let Some(ready) = ready {
            until(ready, || running.complaints().contains(ready) || running.process.try_wait().unwrap().is_some());
            assert!(running.complaints().contains(ready), "{}", running.complaints());
        }
        running
    }

    fn complaints(&self) -> String {
        self.complaints.lock().unwrap().clone()
    }

    /// Its exit code and the reply that it printed.
    fn end(mut self) -> (Option<i32>, Value) {
        let mut status = None;
        let what = format!("the end of a command that says: {}", self.complaints());
        until(&what, || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        let mut said = String::new();
        self.process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        (status.unwrap().code(), serde_json::from_str(&said).unwrap())
    }

    /// The data of its reply.
    fn data(self) -> Value {
        let (code, reply) = self.end();
        assert_eq!((code, &reply["status"]), (Some(0), &"ok".into()), "{reply}");
        reply["data"].clone()
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn several_files_arrive_exactly_and_both_sides_say_so() {
    let place = Place::new();
    let contents = [Vec::new(), b"x".to_vec(), pattern(5_000_001)];
    let files: Vec<PathBuf> =
        contents.iter().enumerate().map(|(index, content)| place.file(&format!("file {index}"), content)).collect();
    let receiving = place.receive(&["--from", "alice"]);
    let sent = place.send(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>()).data();
    let received = receiving.data();
    for (index, content) in contents.iter().enumerate() {
        let path = place.inbox.path().join(format!("file {index}"));
        assert!(fs::read(&path).unwrap() == *content, "file {index} differs");
        let (sent, received) = (&sent["files"][index], &received["files"][index]);
        assert_eq!((&sent["sha256"], &sent["bytes"]), (&received["sha256"], &received["bytes"]));
        assert_eq!(received["path"], path.canonicalize().unwrap().to_str().unwrap());
    }
    assert_eq!(received["files"][0]["from"], place.alice.json("status")["node"]);
    assert_eq!(place.in_inbox(), ["file 0", "file 1", "file 2"]);
    // With the receiver the service has gone.
    let nobody = place.alice.muses(&format!("send {} bob", place.file("late", b"x").display()));
    assert_eq!((nobody.status.code(), stderr(&nobody).lines().count()), (Some(4), 1), "{}", stderr(&nobody));
}

#[test]
fn a_transfer_goes_on_after_the_death_of_either_node_or_command() {
    let mut place = Place::new();
    let join = place.carol.invite();
    let content = pattern(BIG_BYTES);
    let go_on = |place: &Place, sending: Running, receiving: Running, who: &str| {
        place.alice.json("network up");
        let (sent, received) = (sending.data(), receiving.data());
        assert!(
            fs::read(place.inbox.path().join("big")).unwrap() == content,
            "after the death of {who} the file differs"
        );
        assert_eq!(place.in_inbox(), ["big"]);
        fs::remove_file(place.inbox.path().join("big")).unwrap();
        for data in [sent, received] {
            assert!(
                data["files"][0]["resumed_from"].as_u64().unwrap() > 0,
                "after the death of {who} all was sent again: {data}"
            );
        }
    };
    let file = place.file("big", &content);
    let start = |place: &Place| {
        let receiving = place.receive(&["--from", "alice"]);
        let sending = place.send(&[&file]);
        place.stop_half_way();
        (sending, receiving)
    };

    let (sending, receiving) = start(&place);
    place.alice.process.kill().unwrap();
    place.alice.wait();
    place.alice.restart(&["--name", "alice", "--join", &join]);
    go_on(&place, sending, receiving, "the sender's node");

    let (sending, receiving) = start(&place);
    place.bob.process.kill().unwrap();
    place.bob.wait();
    place.bob.restart(&["--name", "bob", "--join", &join]);
    go_on(&place, sending, receiving, "the receiver's node");

    let (sending, receiving) = start(&place);
    sending.kill();
    let again = place.send(&[&file]);
    go_on(&place, again, receiving, "muses send");

    let (sending, receiving) = start(&place);
    receiving.kill();
    let again = place.receive(&["--from", "alice"]);
    let complaints = sending.complaints.clone();
    go_on(&place, sending, again, "muses receive");
    let complaints = complaints.lock().unwrap().clone();
    assert!(complaints.contains("big: broken off (bob: the connection was reset by"), "{complaints}");
    assert!(!complaints.contains("os error"), "{complaints}");
}

/// In front of a person a bar is drawn, without a colour that nobody asked for; whoever wants quiet gets it there, too.
#[test]
fn a_bar_is_drawn_on_a_terminal_and_nothing_for_who_wants_quiet() {
    let place = Place::new();
    let mut screens = Vec::new();
    for (name, flag) in [("loud", ""), ("quiet", "--quiet")] {
        let file = place.file(name, &pattern(3_000_000));
        let receiving = place.receive(&["--from", "alice"]);
        let (program, folder) = (env!("CARGO_BIN_EXE_muses"), place.alice.folder.path().display());
        let words = format!("{program} --data-dir {folder} send {flag} {} bob", file.display());
        let terminal = Command::new("script").args(["-qec", &words, "/dev/null"]).env("TERM", "xterm").output();
        let Ok(output) = terminal else {
            println!("skipped: no terminal, for `script` is not installed");
            return;
        };
        screens.push((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()));
        receiving.data();
        assert!(fs::read(place.inbox.path().join(name)).unwrap() == pattern(3_000_000));
    }
    let (code, screen) = &screens[0];
    assert_eq!(*code, Some(0), "{screen}");
    assert!(screen.contains('█') && screen.contains("/2.86 MiB"), "{screen:?}");
    assert!(!screen.contains("\u{1b}[3") && !screen.contains("\u{1b}[1m"), "{screen:?}");
    assert_eq!(screens[1], (Some(0), String::new()));
}

#[test]
fn strangers_are_refused() {
    let place = Place::new();
    let nobody = place.bob.muses("receive");
    assert_eq!((nobody.status.code(), stderr(&nobody).lines().count()), (Some(2), 1), "{}", stderr(&nobody));
    let receiving = place.receive(&["--from", "carol"]);
    let (code, reply) = place.send(&[&place.file("x", b"x")]).end();
    assert_eq!((code, &reply["code"]), (Some(4), &4.into()), "{reply}");
    let second = place.bob.muses("receive --from anyone");
    assert_eq!(second.status.code(), Some(7), "a second one beside it: {}", stderr(&second));
    assert!(place.in_inbox().is_empty());
    receiving.kill();
    // The door closes a moment after the command's death.
    let receiving = || place.receive(&["--from", "anyone"]);
    until("the door is free", || place.bob.muses("receive --from nobody-of-this-name").status.code() == Some(3));
    let receiving = receiving();
    place.send(&[&place.file("x", b"x")]).data();
    assert_eq!(receiving.data()["files"][0]["bytes"], 1);
    // Of several, those before the one that is refused are there.
    let receiving = place.receive(&["--from", "alice"]);
    let (code, reply) = place.send(&[&place.file("y", b"y"), &place.file("x", b"another")]).end();
    assert_eq!(code, Some(4), "{reply}");
    assert!(reply["message"].as_str().unwrap().ends_with("; 1 file before it arrived"), "{reply}");
    assert_eq!(place.in_inbox(), ["x", "y"]);
    receiving.kill();
    let unknown = place.alice.muses(&format!("send {} dave", place.file("x", b"x").display()));
    assert_eq!((unknown.status.code(), stderr(&unknown).lines().count()), (Some(3), 1), "{}", stderr(&unknown));
    let missing = place.alice.muses("send /nowhere/x bob");
    assert_eq!((missing.status.code(), stderr(&missing).lines().count()), (Some(2), 1), "{}", stderr(&missing));
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let place = Place::new();
    let (there, file) = (place.inbox.path().join("x"), place.file("x", b"theirs"));
    fs::write(&there, b"mine").unwrap();
    let receiving = place.receive(&["--from", "alice"]);
    let (code, reply) = place.send(&[&file]).end();
    assert_eq!((code, fs::read(&there).unwrap()), (Some(4), b"mine".to_vec()), "{reply}");
    receiving.kill();
    until("the door is free", || place.bob.muses("receive --from nobody-of-this-name").status.code() == Some(3));
    let receiving = place.receive(&["--from", "alice", "--force"]);
    place.send(&[&file]).data();
    receiving.data();
    assert_eq!(fs::read(&there).unwrap(), b"theirs");
    // Once more, by a sender who does not know that it is there.
    let receiving = place.receive(&["--from", "alice"]);
    assert_eq!(place.send(&[&file]).data()["files"][0]["resumed_from"], 6);
    receiving.data();
}

#[test]
fn a_full_disk_is_one_line_on_both_sides_and_keeps_what_arrived() {
    let place = Place::new();
    let Some(_small) = SmallDisk::mount(place.inbox.path()) else { return };
    let content = pattern(SmallDisk::BYTES / 2);
    let file = place.file("x", &content);
    // Enough when it begins, too little when somebody else has written.
    let receiving = place.receive(&["--from", "alice", "--keep"]);
    fs::write(place.inbox.path().join("other"), pattern(SmallDisk::BYTES * 3 / 4)).unwrap();
    let sending = place.send(&[&file]);
    let (code, reply) = sending.end();
    assert_eq!((code, reply["code"].as_u64()), (Some(1), Some(1)), "{reply}");
    assert!(reply["message"].as_str().unwrap().contains("disk is full"), "{reply}");
    until("the receiver says so", || receiving.complaints().contains("no room for"));
    fs::remove_file(place.inbox.path().join("other")).unwrap();
    place.send(&[&file]).data();
    assert!(fs::read(place.inbox.path().join("x")).unwrap() == content);
}

/// A file system of its own for one folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    const BYTES: usize = 16 * 1024 * 1024;

    /// None, with a printed reason, where it cannot be had.
    fn mount(at: &Path) -> Option<Self> {
        let size = format!("size={}", Self::BYTES);
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!("skipped: a small disk needs root, and the right to mount");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
