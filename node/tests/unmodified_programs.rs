//! OpenSSH and curl as they are, by name, through two real nodes and across a move.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/ssh.rs"]
mod ssh;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use common::{Node, alice_and_bob, pattern, until};
use ssh::{Shell, Sshd, is_there, wait};

/// Where the mover is after the move.
const ELSEWHERE: &str = "127.0.0.9";
/// Half of a file: more than all buffers on the way hold, so that a part of it is in flight during the outage.
const HALF_BYTES: usize = 6 * 1024 * 1024;

/// One shell: the process that answered before the move answers after it, and every line once and in order.
#[test]
fn a_shell_over_openssh_survives_a_move() {
    let Some(sshd) = Sshd::start() else { return };
    let (_alice, bob) = alice_with(&format!("ssh {}", sshd.address));
    let mut shell = Shell::start(sshd.ssh(&bob, "echo $$; while read -r line; do echo \"got $line\"; done; echo $$"));
    let process = shell.line();
    assert!(process.parse::<u32>().is_ok(), "{process}");
    shell.echoes(0..10);
    suspend(&bob);
    shell.type_lines(10..20);
    resume(&bob);
    shell.expect(10..20);
    shell.echoes(20..30);
    assert_eq!(shell.close(), [process], "another shell, or more than was typed");
}

/// A file through ssh: half of it is written before the outage, half during it.
#[test]
fn a_file_over_openssh_survives_a_move() {
    let Some(sshd) = Sshd::start() else { return };
    let (_alice, bob) = alice_with(&format!("ssh {}", sshd.address));
    let file = sshd.folder.path().join("received");
    let mut ssh = sshd.ssh(&bob, &format!("cat > '{}'", file.display())).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = ssh.stdin.take().unwrap();
    let content = pattern(2 * HALF_BYTES);
    stdin.write_all(&content[..HALF_BYTES]).unwrap();
    until("the first bytes of the file", || fs::metadata(&file).is_ok_and(|meta| meta.len() > 0));
    suspend(&bob);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stdin.write_all(&content[HALF_BYTES..]).unwrap();
            drop(stdin);
        });
        resume(&bob);
    });
    assert_eq!(wait(&mut ssh), Some(0));
    assert!(fs::read(&file).unwrap() == content, "the file differs");
}

/// A download from a local port that is Alice's web server.
#[test]
fn a_download_by_curl_survives_a_move() {
    download_across_a_move(|bob| {
        let local = bob.json("connect alice/web --listen 127.0.0.1:0")["listen"].as_str().unwrap().to_owned();
        vec!["--noproxy".to_owned(), "*".to_owned(), format!("http://{local}/page")]
    });
}

/// The same through SOCKS, by Alice's name.
#[test]
fn a_download_by_curl_through_socks_survives_a_move() {
    download_across_a_move(|bob| {
        let socks = bob.json("status")["socks"].as_str().unwrap().to_owned();
        vec!["--proxy".to_owned(), format!("socks5h://{socks}"), "http://alice.muses/page".to_owned()]
    });
}

/// curl with the arguments `from` fetches a page; the server sends its second half only when Bob's network is gone.
fn download_across_a_move(from: impl FnOnce(&Node) -> Vec<String>) {
    if !is_there(&["curl", "--version"]) {
        return;
    }
    let content = pattern(2 * HALF_BYTES);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_alice, bob) = alice_with(&format!("web {}", listener.local_addr().unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page");
    let mut curl = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--no-buffer", "--output"])
        .arg(&file)
        .args(from(&bob))
        .spawn()
        .unwrap();
    let mut server = request(&listener);
    write!(server, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len()).unwrap();
    server.write_all(&content[..HALF_BYTES]).unwrap();
    until("the first bytes of the page", || fs::metadata(&file).is_ok_and(|meta| meta.len() > 0));
    suspend(&bob);
    std::thread::scope(|scope| {
        scope.spawn(|| server.write_all(&content[HALF_BYTES..]).unwrap());
        resume(&bob);
    });
    drop(server);
    assert_eq!(wait(&mut curl), Some(0));
    assert!(fs::read(&file).unwrap() == content, "the page differs");
}

/// Alice offers `service` ("NAME HOST:PORT") to Bob.
fn alice_with(service: &str) -> (Node, Node) {
    let (alice, bob) = alice_and_bob();
    alice.json(&format!("expose {service} --allow bob"));
    (alice, bob)
}

/// The node's network is gone, and its session has noticed.
fn suspend(node: &Node) {
    node.json("network down");
    node.json_when("sessions", |sessions| sessions[0]["state"] == "suspended");
}

/// The node's network is back, at another address.
fn resume(node: &Node) {
    node.json(&format!("network up --bind {ELSEWHERE}"));
}

/// Reads one HTTP request; the socket takes the answer.
fn request(listener: &TcpListener) -> TcpStream {
    let (socket, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
    while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    socket
}
