//! The control socket of a real node process: bad input, exit codes, persistence, a clean end.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Node, muses, output, stderr};

fn dial(node: &Node) -> UnixStream {
    let socket = UnixStream::connect(node.folder.path().join("control.sock")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

#[test]
fn garbage_is_answered_or_cut_off_and_the_node_lives() {
    let node = Node::start(&[]);
    let mut socket = dial(&node);
    let mut replies = BufReader::new(socket.try_clone().unwrap());
    for garbage in ["", "{", "nonsense", "{\"verb\":\"fly\"}", "\u{0}\u{7f}", "{\"verb\":\"pipe\"}"] {
        socket.write_all(format!("{garbage}\n").as_bytes()).unwrap();
        let mut reply = String::new();
        replies.read_line(&mut reply).unwrap();
        assert!(reply.starts_with("{\"status\":\"error\",\"code\":2,"), "{garbage}: {reply}");
    }
    // The same connection still works.
    socket.write_all(b"{\"verb\":\"peers\"}\n").unwrap();
    let mut reply = String::new();
    replies.read_line(&mut reply).unwrap();
    assert_eq!(reply, "{\"status\":\"ok\",\"data\":[]}\n");
    // A line without an end is not collected forever.
    let mut socket = dial(&node);
    let sent = socket.write_all(&vec![b'x'; 1024 * 1024]);
    let mut reply = String::new();
    let read = socket.read_to_string(&mut reply);
    assert!(sent.is_err() || read.is_err() || reply.contains("longer than"), "{reply}");
    // Half a request, then nothing.
    dial(&node).write_all(b"{\"verb\":").unwrap();
    assert_eq!(node.muses("status").status.code(), Some(0));
}

#[test]
fn one_clear_line_and_a_documented_code_for_each_mistake() {
    let node = Node::start(&[]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    for (line, code, part) in [
        (
            format!("connect 12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X/ssh --listen {taken}"),
            9,
            "another program",
        ),
        ("up".to_owned(), 7, "another node"),
        ("up --config /nowhere/c.toml".to_owned(), 7, "another node"),
        ("expose a/b 127.0.0.1:1".to_owned(), 2, "a/b"),
        ("status --nonsense".to_owned(), 2, "--nonsense"),
    ] {
        let output = node.muses(&line);
        assert_eq!(output.status.code(), Some(code), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{line}: {}", stderr(&output));
    }
    let nobody = tempfile::tempdir().unwrap();
    for (line, code, part) in [
        ("status", 6, "no node runs"),
        ("status --json", 6, "no node runs"),
        ("pipe alice/ssh", 6, "no node runs"),
        ("up --config /nowhere/c.toml", 2, "/nowhere/c.toml"),
    ] {
        let output = muses(nobody.path(), line);
        assert_eq!(output.status.code(), Some(code), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(part) && stderr(&output).lines().count() == 1, "{line}: {}", stderr(&output));
        assert_eq!(output.stdout.starts_with(b"{\"status\":\"error\",\"code\":6,"), line.contains("--json"));
    }
    let unguarded = muses(nobody.path(), "up --listen /ip4/127.0.0.1/tcp/0 --socks-guard uid");
    assert_eq!((unguarded.status.code(), stderr(&unguarded).lines().count()), (Some(2), 1), "{}", stderr(&unguarded));
    assert!(stderr(&unguarded).contains("--socks HOST:PORT"), "{}", stderr(&unguarded));
    assert!(!nobody.path().join("identity.key").exists(), "it made a key");
    let listen = format!("up --listen /ip4/127.0.0.1/tcp/{}", taken.port());
    let output = muses(nobody.path(), &listen);
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(9), 1), "{}", stderr(&output));
    assert!(stderr(&output).contains(&taken.port().to_string()), "{}", stderr(&output));
    std::fs::write(nobody.path().join("config.toml"), "listne = []\n").unwrap();
    let output = muses(nobody.path(), "up");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("config.toml:1") && stderr(&output).contains("listne"), "{}", stderr(&output));
    std::fs::remove_file(nobody.path().join("config.toml")).unwrap();
    std::fs::write(nobody.path().join("identity.key"), "short").unwrap();
    std::fs::set_permissions(nobody.path().join("identity.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = muses(nobody.path(), "up");
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(8), 1), "{}", stderr(&output));
    assert!(stderr(&output).contains("identity.key"), "{}", stderr(&output));
    assert_eq!(std::fs::read(nobody.path().join("identity.key")).unwrap(), b"short", "it is left alone");
}

#[test]
fn the_socket_is_private_and_a_stale_one_is_replaced() {
    let mut node = Node::start(&[]);
    let path = node.folder.path().join("control.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    node.process.kill().unwrap();
    node.wait();
    assert!(path.exists(), "kill -9 leaves the socket's file");
    assert_eq!(node.muses("status").status.code(), Some(6));
    node.restart(&[]);
    assert_eq!(node.muses("down").status.code(), Some(0));
    assert!(!path.exists());
    assert_eq!(node.wait(), Some(0));
}

#[test]
fn signals_end_it_cleanly_and_it_said_who_it_is() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let mut node = Node::start(&[]);
        let started = Instant::now();
        rustix::process::kill_process(rustix::process::Pid::from_child(&node.process), signal).unwrap();
        assert_eq!(node.wait(), Some(0));
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        let said = node.said();
        assert!(said.starts_with("node 12D3KooW") && said.ends_with("leaving\nstopped\n"), "{said}");
    }
}

#[test]
fn whoever_asks_for_the_end_does_not_have_to_wait_for_it() {
    let mut node = Node::start(&[]);
    dial(&node).write_all(b"{\"verb\":\"down\"}\n").unwrap();
    assert_eq!(node.wait(), Some(0), "a supervisor would start it again");
}

/// A pipe into which nothing more can be written, and the end that nobody reads.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (unread, full) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&full).unwrap();
    rustix::fs::fcntl_setfl(&full, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while (&full).write(&[b'.'; 4096]).is_ok() {}
    while (&full).write(b".").is_ok() {}
    rustix::fs::fcntl_setfl(&full, flags).unwrap();
    (unread, full)
}

/// Nor does whoever reads nothing of what it says, or logs, keep a node from working and from ending.
#[test]
fn full_pipes_for_stdout_and_stderr_hold_nobody_up() {
    let (unread, full) = full_pipe();
    let folder = tempfile::tempdir().unwrap();
    let mut up = common::foreground(folder.path(), "up", &["--log-format", "json"]);
    up.env("RUST_LOG", "trace").stdout(full.try_clone().unwrap()).stderr(full);
    let mut node = Node { process: up.spawn().unwrap(), folder };
    common::until("the node answers", || node.muses("status").status.success());
    rustix::process::kill_process(rustix::process::Pid::from_child(&node.process), rustix::process::Signal::TERM)
        .unwrap();
    common::until("the node has ended", || node.process.try_wait().unwrap().is_some());
    assert_eq!(node.wait(), Some(0));
    drop(unread);
}

#[test]
fn a_browser_that_cannot_be_opened_is_one_line_of_json() {
    let node = Node::start(&["--dashboard", "127.0.0.1:0"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
    command.arg("--data-dir").arg(node.folder.path()).args(["dashboard", "--open", "--json"]);
    let failed = output(command.env("PATH", "/nowhere"));
    let said = String::from_utf8_lossy(&failed.stdout);
    assert_eq!((failed.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with("{\"status\":\"error\",\"code\":1,"), "{said}");
}
