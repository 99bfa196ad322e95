//! What goes wrong around a node, or is changed while it runs: full disk, damaged state and keys, and the configuration on SIGHUP.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Node, dead_port, foreground, is_refusal, muses, output, stderr, until};
use serde_json::Value;

/// More services than find room in what a store's file has left.
const MOST_BEFORE_FULL: usize = 500;

/// `up` on this folder ends at once with this code, and one line that has these words in it.
fn refuses(folder: &Path, code: i32, words: &[&str]) {
    is_refusal(&output(&mut foreground(folder, "up", &[])), code, words);
}

/// A file system of its own size, until this is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// None, and a word about it, where that is not allowed.
    fn of(bytes: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={bytes},mode=700");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &size, "muses-test"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            other => {
                eprintln!("skipped: cannot mount a small file system, which takes root ({other:?})");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no room for anything.
    fn fill(&self) {
        let mut file = fs::File::create(self.path().join("ballast")).unwrap();
        while file.write_all(&[0; 1024]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

#[test]
fn a_disk_that_fills_up_loses_nothing_and_is_named() {
    let Some(disk) = Disk::of("1m") else { return };
    let folder = disk.path().join("node");
    let start = || {
        let process = foreground(&folder, "up", &[]).spawn().unwrap();
        let folder = tempfile::tempdir().unwrap();
        // The folder of the guard is another one: what is looked at is on the small disk.
        let node = Node { process, folder };
        until("the node answers", || muses(&disk.path().join("node"), "status").status.success());
        node
    };
    let mut node = start();
    let expose = |service: &str| muses(&folder, &format!("expose {service} 127.0.0.1:1 --allow anyone"));
    let services = || {
        let status = muses(&folder, "status --json").stdout;
        serde_json::from_slice::<Value>(&status).unwrap()["data"]["services"].clone()
    };
    assert!(expose("before").status.success());
    disk.fill();
    // Small ones find room within the file for a while.
    let refused =
        (0..MOST_BEFORE_FULL).map(|number| expose(&format!("full-{number}"))).find(|asked| !asked.status.success());
    is_refusal(&refused.expect("the disk is full"), 8, &["No space left", "state.redb"]);
    is_refusal(&muses(&folder, "key rotate"), 8, &["session.key", "make room on that disk"]);
    let kept = services();
    let id = muses(&folder, "status --json").stdout;
    let node_of = |status: &[u8]| serde_json::from_slice::<Value>(status).unwrap()["data"]["node"].clone();
    let name = |folder: &Path| String::from_utf8(muses(folder, "name list").stdout).unwrap();
    let names = name(&folder);
    is_refusal(&muses(&folder, "name claim hallo"), 8, &["No space left"]);
    assert_eq!(name(&folder), names, "what is not kept is not claimed");
    let revoke = format!("key revoke {}", node_of(&id).as_str().unwrap());
    is_refusal(&muses(&folder, &revoke), 8, &["No space left"]);
    // Killed with a full disk; started when there is room again.
    node.process.kill().unwrap();
    node.wait();
    disk.make_room();
    let mut node = start();
    assert_eq!(services(), kept, "what is not kept is not offered, and the other way round");
    assert_eq!(node_of(&muses(&folder, "status --json").stdout), node_of(&id));
    assert!(expose("after").status.success());
    muses(&folder, "down");
    node.wait();
}

/// Whoever did not see the log learns it, and the node does not end as if all was well.
#[test]
fn a_full_disk_is_told_by_a_running_node_and_at_its_end() {
    let Some(disk) = Disk::of("1m") else { return };
    let folder = disk.path().join("node");
    let process = foreground(&folder, "up", &[]).spawn().unwrap();
    let _node = Node { process, folder: tempfile::tempdir().unwrap() };
    let status = || {
        let said = muses(&folder, "status --json").stdout;
        serde_json::from_slice::<Value>(&said).unwrap_or_default()["data"].clone()
    };
    until("it has a place", || status()["listen"][0].is_string() && status()["address"].is_string());
    assert_eq!(status()["warning"], Value::Null);
    disk.fill();
    // A neighbour is something to keep.
    let _bob = Node::start(&["--join", status()["listen"][0].as_str().unwrap()]);
    until("it is told", || status()["warning"].as_str().is_some_and(|line| line.contains("make room there")));
    let examined = muses(&folder, "doctor");
    assert_eq!(examined.status.code(), Some(8), "{}", stderr(&examined));
    assert!(String::from_utf8_lossy(&examined.stdout).starts_with("FAILS store"), "{examined:?}");
    is_refusal(&muses(&folder, "down"), 8, &["has left and ended", "make room there"]);
}

#[test]
fn a_full_disk_keeps_a_new_node_from_starting() {
    let Some(disk) = Disk::of("64k") else { return };
    disk.fill();
    let folder = disk.path().join("node");
    is_refusal(&muses(&folder, "config init"), 1, &["config.toml", "make room on that disk"]);
    assert!(!folder.join("config.toml").exists(), "what is not whole would be left alone by the next `config init`");
    refuses(&folder, 8, &["No space left", "make room on that disk"]);
    disk.make_room();
    let process = foreground(&folder, "up", &[]).spawn().unwrap();
    let mut node = Node { process, folder: tempfile::tempdir().unwrap() };
    until("the node answers", || muses(&folder, "status").status.success());
    muses(&folder, "down");
    assert_eq!(node.wait(), Some(0));
}

/// Whom an interrupted `join` did not lead anywhere does not want an overlay of his own, which the folder would be bound to.
#[test]
fn up_after_a_join_that_led_nowhere_founds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!("/ip4/127.0.0.1/tcp/{}", dead_port().port());
    let process = foreground(folder.path(), "join", &[&nowhere]).spawn().unwrap();
    let mut node = Node { process, folder };
    until("the node answers", || node.muses("status").status.success());
    node.json("down");
    node.wait();
    refuses(node.folder.path(), 8, &["was to join an overlay", "muses join INVITE"]);
    let alice = Node::start(&[]);
    node.process = foreground(node.folder.path(), "join", &[&alice.invite()]).spawn().unwrap();
    node.json_when("status", |status| status["address"].is_string());
    node.json("down");
    node.wait();
    node.restart(&[]);
}

#[test]
fn what_is_not_there_is_said_with_what_to_try() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let at = nowhere.display();
    is_refusal(&muses(folder.path(), &format!("send {at} bob")), 2, &["there is no such file", "check the spelling"]);
    let receive = muses(folder.path(), &format!("receive --from bob --dir {at}"));
    is_refusal(&receive, 2, &["it does not exist; make it (mkdir", "--dir"]);
    is_refusal(&muses(folder.path(), &format!("config check {at}")), 2, &["muses config init"]);
    is_refusal(&muses(folder.path(), "config check /dev/zero"), 2, &["/dev/zero", "longer than 1 MiB"]);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&nowhere, &link).unwrap();
    let init = muses(folder.path(), &format!("config init {}", link.display()));
    is_refusal(&init, 2, &["a link that leads nowhere", "choose another place"]);
    refuses(&link, 8, &["it is a link to", "nowhere", "choose another --data-dir"]);
}

/// A file is right when a start could go by it.
#[test]
fn what_no_start_could_carry_out_is_no_right_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    for (text, words) in [
        ("dashboard = \"0.0.0.0:7070\"", ["dashboard", "127.0.0.1:PORT"]),
        ("listen = [\"/ip4/1.2.3.4/udp/5\"]", ["/ip4/1.2.3.4/udp/5", "/tcp/PORT"]),
        ("socks = \"unix:/tmp/x\"", ["unix:/tmp/x", "HOST:PORT"]),
        ("metrics = \"unix:/tmp/x\"", ["unix:/tmp/x", "HOST:PORT"]),
        ("listen = [\"0.0.0.0:4741\"]", ["listen", "write it as /ip4/0.0.0.0/tcp/4741"]),
        ("socks_guard = \"uid\"", ["socks_guard", "there is none"]),
        ("socks = \"0.0.0.0:7080\"\nsocks_guard = \"uid\"", ["0.0.0.0:7080", "use 127.0.0.1:PORT"]),
        ("socks = \"127.0.0.1:7080\"\nmetrics = \"0.0.0.0:7080\"", ["socks and metrics both listen", "7080"]),
        ("name = \"anyone\"", ["name", "can be nobody's name"]),
        ("[limits]\nsessions = 99999999999999999999", ["limits.sessions", "not 99999999999999999999\n"]),
    ] {
        fs::write(&file, text).unwrap();
        is_refusal(&muses(folder.path(), "config check"), 2, &words);
        is_refusal(
            &output(Command::new(env!("CARGO_BIN_EXE_muses")).arg("up").arg("--data-dir").arg(folder.path())),
            2,
            &words,
        );
    }
}

#[test]
fn what_cannot_be_written_to_stdout_is_a_failure() {
    for words in [&["man"][..], &["completions", "bash"], &["config", "show"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
        command.args(words).arg("--data-dir").arg(folder.path()).stdout(full).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        is_refusal(&output, 1, &["cannot write to stdout", "No space left"]);
    }
}

#[test]
fn damaged_state_and_keys_are_named_and_left_alone() {
    let mut node = Node::start(&[]);
    node.json(&format!("expose web {}", dead_port()));
    node.json("down");
    node.wait();
    let folder = node.folder.path();
    let state = folder.join("state.redb");
    let whole = fs::read(&state).unwrap();
    // Torn, emptied, and of another program.
    for damaged in [&whole[..whole.len() - 1], b"", &[b"mst9".as_slice(), &whole[4..]].concat()] {
        fs::write(&state, damaged).unwrap();
        refuses(folder, 8, &["state.redb is damaged", "restore it from a backup"]);
        assert_eq!(fs::read(&state).unwrap(), damaged);
    }
    fs::write(&state, &whole).unwrap();
    for key in ["identity.key", "session.key"] {
        let path = folder.join(key);
        let secret = fs::read(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        refuses(folder, 8, &[key, "open to other users", "chmod 600"]);
        fs::remove_file(&path).unwrap();
        refuses(folder, 8, &[key, "is missing", "restore it from a backup"]);
        assert!(!path.exists(), "another key would be another node");
        fs::create_dir(&path).unwrap();
        refuses(folder, 8, &[key, "is no file"]);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, &secret).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    node.restart(&[]);
    assert_eq!(node.json("status")["services"][0], "web");
}

/// A configuration there, or a socket, could be anybody's.
#[test]
fn a_folder_that_others_can_change_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("node");
    fs::create_dir(&folder).unwrap();
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    refuses(&folder, 8, &["anybody can write to the data folder", "chmod o-w"]);
    is_refusal(&muses(&folder, "status"), 8, &["anybody can write to the data folder"]);
    // As /tmp, which is to stay so.
    mode(0o1777);
    let line = stderr(&muses(&folder, "status"));
    assert!(line.contains("choose another --data-dir, for instance") && !line.contains("chmod"), "{line}");
    // Groups that are a user's own can usually write.
    mode(0o770);
    is_refusal(&muses(&folder, "status"), 6, &["no node runs on"]);
    if std::os::unix::fs::chown(&folder, Some(12345), None).is_err() {
        eprintln!("skipped: needs root");
        return;
    }
    refuses(&folder, 8, &["another user's (uid 12345)", "choose another --data-dir"]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "something was written there");
}

/// A new overlay by the old keys may be meant, or not.
#[test]
fn who_has_only_his_keys_left_is_told() {
    let mut node = Node::start(&[]);
    node.json("down");
    node.wait();
    fs::remove_file(node.folder.path().join("state.redb")).unwrap();
    let log = node.folder.path().join("log");
    let mut command = foreground(node.folder.path(), "up", &[]);
    node.process = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    until("the node answers", || node.muses("status").status.success());
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("a new overlay is founded; back into an old one: muses join INVITE"), "{said}");
}

#[test]
fn the_configuration_is_read_again_on_sighup() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let id = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
    fs::write(&file, "[services.old]\nforward = '127.0.0.1:1'\n[limits]\nsessions = 5\n").unwrap();
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let process = foreground(folder.path(), "up", &[]).stderr(log).spawn().unwrap();
    let mut node = Node { process, folder };
    until("the node answers", || node.muses("status").status.success());
    node.json("expose typed 127.0.0.1:2");
    let log = || fs::read_to_string(node.folder.path().join("log")).unwrap();
    let reload = || {
        let process = rustix::process::Pid::from_child(&node.process);
        rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
    };

    // A mistake changes nothing, and is told.
    fs::write(&file, "[services.new]\nforward = '127.0.0.1:3'\nalow = ['anyone']\n").unwrap();
    reload();
    until("the mistake is told", || log().contains("did you mean allow?"));
    assert_eq!(log().lines().count(), 1, "{}", log());
    assert_eq!(node.json("status")["services"], serde_json::json!(["old", "typed"]));

    let next = format!(
        "name = 'other'\n[services.new]\nforward = '127.0.0.1:3'\nallow = ['bob']\n[petnames]\nbob = '{id}'\n[links]\nbulk = false\n"
    );
    fs::write(&file, next).unwrap();
    reload();
    node.json_when("status", |status| status["services"] == serde_json::json!(["new", "typed"]));
    until("what waits is told", || log().contains("not before the next start: links.bulk, name"));
    assert_eq!(log().lines().count(), 2, "{}", log());
    node.json_when("name list", |names| names.as_array().unwrap().iter().any(|row| row["name"] == "bob"));
    let config = node.json("config show")["config"].clone();
    assert_eq!(config["petnames"]["bob"], id);
    assert_eq!((&config["links"]["bulk"], &config["name"]), (&true.into(), &Value::Null), "not in force");
    assert_eq!(config["services"], serde_json::json!({"new": {"forward": "127.0.0.1:3", "allow": ["bob"]}}));
    assert_eq!(config["limits"].get("sessions"), None);

    // What was taken away stays away, although the file still has it.
    node.json("unexpose new");
    fs::write(&file, "[services.new]\nforward = '127.0.0.1:4'\n[services.newer]\nforward = '127.0.0.1:5'\n").unwrap();
    reload();
    let services = |wanted: Value| node.json_when("status", |status| status["services"] == wanted);
    services(serde_json::json!(["newer", "typed"]));
    assert_eq!(node.json("status")["offers"].as_array().unwrap().len(), 2);
    node.json("expose new 127.0.0.1:4");
    services(serde_json::json!(["new", "newer", "typed"]));
    node.json("down");
    assert_eq!(node.wait(), Some(0));
    assert!(node.said().contains("configuration reloaded: limits.sessions, petnames, services\n"));
}
