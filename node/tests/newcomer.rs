//! What a person sees who does not know the tool yet and does something wrong, or has something wrong with the machine: the cause, and what to try.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Node, alice_and_bob, dead_port, foreground, greeter, is_refusal, muses, output, stderr, until};
use serde_json::Value;

/// Nobody has it.
const GONE: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
/// What the node knows by itself is said within this, although a look-up takes longer.
const AT_ONCE: Duration = Duration::from_millis(2500);

/// Without what it says, a node would found an open overlay where a closed one was meant.
#[test]
fn a_configuration_that_cannot_be_examined_is_not_a_missing_one() {
    let folder = tempfile::tempdir().unwrap();
    symlink("/nonexist/closed.toml", folder.path().join("config.toml")).unwrap();
    for line in ["config check", "config show"] {
        is_refusal(&muses(folder.path(), line), 2, &["config.toml", "/nonexist/closed.toml"]);
    }
    is_refusal(&output(&mut foreground(folder.path(), "up", &[])), 2, &["config.toml", "/nonexist/closed.toml"]);
    assert!(!folder.path().join("state.redb").exists(), "something was founded");

    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".config")).unwrap();
    symlink("/nonexist", home.path().join(".config/muses")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
    let said = output(command.env_clear().env("HOME", home.path()).args(["config", "check"]));
    is_refusal(&said, 2, &[".config/muses", "cannot see whether", "--config FILE"]);
}

#[test]
fn an_empty_variable_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for verb in [&["config", "show"][..], &["config", "check"], &["up", "--listen", "nonsense"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
        for variable in ["MUSES_NAME", "MUSES_LISTEN", "MUSES_SOCKS", "MUSES_METRICS", "MUSES_CONFIG"] {
            command.env(variable, "");
        }
        let said = output(command.arg("--data-dir").arg(folder.path()).args(verb));
        let line = stderr(&said);
        assert!(said.status.success() || line.contains("nonsense"), "{verb:?}: {line}");
    }
    // And one that says something wrong is named: nobody typed a flag.
    for verb in [&["up"][..], &["config", "show"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
        let said = output(command.env("MUSES_NAME", "No Name").arg("--data-dir").arg(folder.path()).args(verb));
        is_refusal(&said, 2, &["'No Name'", "MUSES_NAME says so"]);
    }
}

/// By every way to use a name, and not only where it is asked about.
#[test]
fn a_pinned_name_with_another_key_is_refused_by_every_verb() {
    let (alice, bob) = alice_and_bob();
    alice.json(&format!("expose web {} --allow bob", greeter(b"web")));
    bob.json(&format!("name pin alice {GONE}"));
    let file = bob.folder.path().join("file");
    fs::write(&file, "x").unwrap();
    for line in [
        "pipe alice/web".to_owned(),
        format!("send {} alice", file.display()),
        "connect alice/web --listen 127.0.0.1:0".to_owned(),
        "ping alice".to_owned(),
    ] {
        is_refusal(&bob.muses(&line), 4, &["alice", "another key", "muses name unpin"]);
    }
    let socks = bob.json("status")["socks"].as_str().unwrap().to_owned();
    let mut socket = TcpStream::connect(socks).unwrap();
    socket.write_all(b"\x05\x01\x00\x05\x01\x00\x03\x0balice.muses\x00\x50").unwrap();
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [5, 0, 5, 2], "RFC 1928: not allowed by the ruleset");
    // Who has just gone is no other: that he does not answer is all that is known.
    bob.json("name unpin alice");
    bob.json(&format!("name pin nobody-has-this {GONE}"));
    is_refusal(&bob.muses("pipe nobody-has-this/web"), 3, &["does not answer"]);
}

#[test]
fn a_port_that_others_reach_comes_with_a_word_of_caution() {
    let (_alice, bob) = alice_and_bob();
    let said = |line: &str| String::from_utf8(bob.muses(line).stdout).unwrap();
    let open = said("connect alice/web --listen 0.0.0.0:0");
    assert!(open.contains("caution: whoever reaches 0.0.0.0:") && open.contains("uses alice/web"), "{open}");
    assert!(!said("connect alice/web --listen 127.0.0.1:0").contains("caution"));
    let down = said("network down");
    assert!(down.contains(&format!("muses network up --data-dir {}", bob.folder.path().display())), "{down}");
}

/// Once, with what helps; and that it is over.
#[test]
fn a_node_without_descriptors_says_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let words = format!(
        "ulimit -n 60; exec {} up --data-dir {} --listen /ip4/127.0.0.1/tcp/0 --socks 127.0.0.1:0 --no-mdns --no-upnp",
        env!("CARGO_BIN_EXE_muses"),
        folder.path().display()
    );
    let mut command = Command::new("sh");
    let process = command.args(["-c", &words]).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let node = Node { process: process.spawn().unwrap(), folder };
    let status = node.json_when("status", |status| status["socks"].is_string());
    let socks: SocketAddr = status["socks"].as_str().unwrap().parse().unwrap();
    let many: Vec<TcpStream> = (0..90).map(|_| TcpStream::connect(socks).unwrap()).collect();
    let told = || fs::read_to_string(&log).unwrap();
    until("it is said", || told().contains("accepting for socks: Too many open files"));
    std::thread::sleep(Duration::from_secs(2));
    let lines = told();
    assert_eq!(lines.matches("Too many open files").count(), 1, "{lines}");
    assert!(lines.contains("ulimit -n") && lines.contains("LimitNOFILE"), "{lines}");
    drop(many);
    until("it is over", || TcpStream::connect(socks).is_ok() && told().contains("accepting for socks works again"));
}

/// The node knows why it reaches nobody, and blames neither the peer nor its name.
#[test]
fn flight_mode_is_named_at_once_and_a_session_waits_for_its_end() {
    let (alice, bob) = alice_and_bob();
    alice.json(&format!("expose web {} --allow bob", greeter(b"web")));
    let name = bob.folder.path().join("file");
    fs::write(&name, "x").unwrap();
    bob.json("network down");
    for line in ["ping alice", "lookup alice", "trace alice", "pipe alice/web", "ping nobody"] {
        let began = Instant::now();
        is_refusal(&bob.muses(line), 3, &["flight mode", "muses network up"]);
        assert!(began.elapsed() < AT_ONCE, "{line} took {:?}", began.elapsed());
    }
    is_refusal(&bob.muses(&format!("send {} alice", name.display())), 3, &["flight mode"]);
    let examined = String::from_utf8(bob.muses("doctor alice").stdout).unwrap();
    assert!(examined.contains("flight mode") && !examined.contains("--join"), "{examined}");
    bob.json("network up");
    bob.json_when("ping alice", |echo| echo["hops"] == 1);
    assert_eq!(bob.muses("pipe alice/web").stdout, b"web");
    bob.json("network down");
    let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
    command.args(["pipe", "alice/web", "--data-dir"]).arg(bob.folder.path());
    let waiting = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    bob.json("network up");
    assert_eq!(waiting.wait_with_output().unwrap().stdout, b"web", "it waits in its session");
}

#[test]
fn a_place_to_listen_is_no_service_and_a_service_without_a_program_is_none_either() {
    let (alice, bob) = alice_and_bob();
    let service = |node: &Node, line: &str| {
        let found: Value = serde_json::from_slice(&node.muses(&format!("{line} --json")).stdout).unwrap();
        let last = found["data"]["checks"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["layer"], "service", "{found}");
        (last["ok"].as_bool().unwrap(), last["detail"].as_str().unwrap().to_owned())
    };
    alice.json("expose door listen:127.0.0.1:0 --allow bob");
    let (ok, door) = service(&bob, "doctor alice/door");
    assert!(ok && door.contains("a place to listen") && door.contains("muses reverse alice/door"), "{door}");
    is_refusal(&bob.muses("pipe alice/door"), 4, &["alice/door", "a place to listen", "muses reverse"]);
    let web = greeter(b"web");
    is_refusal(&bob.muses(&format!("reverse alice/none {web}")), 4, &["muses expose none listen:HOST:PORT"]);
    alice.json(&format!("expose web {web} --allow bob"));
    alice.json(&format!("expose dead {} --allow bob", dead_port()));
    assert!(service(&bob, "doctor alice/web").0 && service(&alice, "doctor alice/web").0);
    assert!(service(&alice, "doctor alice/door").1.contains("a place to listen"));
    let (ok, dead) = service(&alice, "doctor alice/dead");
    assert!(!ok && dead.contains("nothing answers") && dead.contains("is the service running?"), "{dead}");
}

#[test]
fn who_has_a_port_already_is_named_when_it_is_this_node() {
    let (alice, bob) = alice_and_bob();
    let at = bob.json("connect alice/web --listen 127.0.0.1:0")["listen"].as_str().unwrap().to_owned();
    let again = bob.muses(&format!("connect alice/other --listen {at}"));
    is_refusal(&again, 9, &["leads to alice/web already", "muses disconnect"]);
    let port = dead_port();
    alice.json(&format!("expose door listen:{port} --allow anyone"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
    command.arg("--data-dir").arg(bob.folder.path()).args(["reverse", "alice/door"]).arg(greeter(b"web").to_string());
    let mut first = command.stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(first.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let again = bob.muses(&format!("reverse alice/door {}", greeter(b"other")));
    is_refusal(&again, 4, &["leads to you already"]);
    first.kill().unwrap();
    first.wait().unwrap();
}

/// It goes on with an overlay of which nobody runs, and was told no address.
#[test]
fn who_goes_on_alone_is_told() {
    let (mut alice, mut bob) = alice_and_bob();
    for node in [&mut bob, &mut alice] {
        node.json("down");
        node.wait();
    }
    bob.restart(&["--no-mdns"]);
    let said = BufReader::new(bob.process.stdout.take().unwrap()).lines();
    let line =
        said.map_while(Result::ok).find(|line| line.contains("no node of this overlay has answered yet")).unwrap();
    assert!(line.contains("goes on trying") && line.contains("muses join INVITE"), "{line}");
    let examined = String::from_utf8(bob.muses("doctor").stdout).unwrap();
    assert!(examined.contains("does another node of this overlay run?"), "{examined}");
    assert!(!examined.contains("given with --join"), "{examined}");
}

/// Whoever pipes learns that it was cut on purpose: nothing is wrong with the service.
#[test]
fn what_the_other_owner_has_cut_is_said_to_be_cut() {
    let (alice, bob) = alice_and_bob();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    alice.json(&format!("expose silent {} --allow bob", silent.local_addr().unwrap()));
    // The session last: the connection after that would be reset, whatever it is.
    for cut in ["cut bob/silent", "cut bob"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
        command.args(["pipe", "alice/silent", "--data-dir"]).arg(bob.folder.path());
        let pipe = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _served = silent.accept().unwrap();
        alice.json(cut);
        is_refusal(&pipe.wait_with_output().unwrap(), 1, &["alice/silent", "cut there"]);
    }
}

/// The node works on in a folder that its next start will not find.
#[test]
fn a_folder_that_was_moved_away_is_noticed() {
    let place = tempfile::tempdir().unwrap();
    let [here, there] = ["here", "there"].map(|name| place.path().join(name));
    let log = place.path().join("log");
    let process = foreground(&here, "up", &[]).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let _node = Node { process, folder: tempfile::tempdir().unwrap() };
    until("the node answers", || muses(&here, "status").status.success());
    fs::rename(&here, &there).unwrap();
    let warning = || {
        let status: Value = serde_json::from_slice(&muses(&there, "status --json").stdout).unwrap_or_default();
        status["data"]["warning"].as_str().unwrap_or_default().to_owned()
    };
    until("it is noticed", || warning().contains("is not where it was"));
    let examined = muses(&there, "doctor");
    let found = String::from_utf8_lossy(&examined.stdout);
    assert!(examined.status.code() == Some(8) && found.contains("FAILS store"), "{found}");
    fs::rename(&there, &here).unwrap();
    until("it is back", || fs::read_to_string(&log).unwrap().contains("the data folder is back"));
    let lines = fs::read_to_string(&log).unwrap();
    assert_eq!(lines.matches("is not where it was").count(), 1, "{lines}");
}
