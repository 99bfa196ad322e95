//! What people leave open when they leave: a database through a forward, a download by curl and one by a browser through SOCKS, from one network
//! into another with an outage in between, on real interfaces.
//!
//! With `MUSES_FULL=1` the outage lasts 30 s.

#![allow(clippy::unwrap_used)]

#[path = "common/chromium.rs"]
mod chromium;
mod common;
#[path = "common/namespaces.rs"]
mod namespaces;
#[path = "common/ssh.rs"]
mod ssh;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use common::{Node, PATIENCE, output, pattern, until};
use namespaces::{Namespaces, outage};
use serde_json::json;
use ssh::{Shell, is_there, wait};

/// Half of a file: more than all buffers on the way hold, so that a part of it is in flight during the outage.
const HALF_BYTES: usize = 6 * 1024 * 1024;
/// Where SOCKS is at Bob's: he has a loopback interface to himself.
const SOCKS: &str = "127.0.0.1:7080";
const PAGE: &str = "<!doctype html><title>films</title><a href=\"/film\" download>film</a>";

/// A transaction that is begun before the move and ends after it, and a read that waits for what is written meanwhile, each on the connection that
/// it had: redis knows connections by number, and forgets a transaction with its connection.
#[test]
fn redis_keeps_a_transaction_and_a_blocking_read_across_a_move() {
    let Some(lab) = Namespaces::new() else { return };
    if !is_there(&["redis-server", "--version"]) || !is_there(&["redis-cli", "--version"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start(&lab, folder.path());
    let (alice, bob) = lab.alice_and_bob(&[]);
    alice.json("expose redis 127.0.0.1:6379 --allow bob");
    let local = bob.json("connect alice/redis --listen 127.0.0.1:0")["listen"].as_str().unwrap().to_owned();
    let client = || {
        let mut command = lab.program("bob", "redis-cli");
        command.args(["-h", "127.0.0.1", "-p", local.rsplit(':').next().unwrap()]);
        Shell::start(command)
    };
    let (mut typist, mut reader) = (client(), client());
    let mut says = |line: &str, answers: &[&str]| {
        typist.type_line(line);
        answers.iter().for_each(|answer| assert_eq!(typist.line(), *answer, "{line}"));
    };
    says("SET counter 40", &["OK"]);
    says("MULTI", &["OK"]);
    says("INCR counter", &["QUEUED"]);
    let number = |shell: &mut Shell| {
        shell.type_line("CLIENT ID");
        shell.line()
    };
    let connection = number(&mut reader);
    reader.type_line("BLPOP letters 0");
    until("the read waits", || redis.says(&["info", "clients"]).contains("blocked_clients:1"));

    move_bob(&lab, &bob, || assert_eq!(redis.says(&["rpush", "letters", "written meanwhile"]), "1"));

    says("INCR counter", &["QUEUED"]);
    says("EXEC", &["41", "42"]);
    assert_eq!([reader.line(), reader.line()], ["letters", "written meanwhile"]);
    assert_eq!(number(&mut reader), connection, "another connection");
    for shell in [typist, reader] {
        assert!(shell.close().is_empty());
    }
    assert_eq!(redis.says(&["get", "counter"]), "42");
}

#[test]
fn a_download_by_curl_through_socks_survives_a_move() {
    if !is_there(&["curl", "--version"]) {
        return;
    }
    download_across_a_move(|lab, folder| {
        let mut curl = lab.program("bob", "curl");
        curl.args(["--silent", "--show-error", "--fail", "--no-buffer", "--proxy", &format!("socks5h://{SOCKS}")]);
        curl.arg("--output").arg(folder.join("film")).arg("http://alice.muses/film");
        curl
    });
}

#[test]
fn a_download_by_a_browser_through_socks_survives_a_move() {
    let Some(chromium) = chromium::chromium() else { return };
    download_across_a_move(|lab, folder| {
        let task = json!({
            "chromium": chromium,
            "proxy": format!("socks5://{SOCKS}"),
            "url": "http://alice.muses/",
            "folder": folder,
        });
        let mut command = lab.program("bob", "node");
        command.arg(chromium::script("download.mjs")).arg(task.to_string());
        command
    });
}

/// The program of `from`, beside Bob's node, downloads into a folder and ends; the server sends the second half only when Bob's network is gone.
fn download_across_a_move(from: impl FnOnce(&Namespaces, &Path) -> Command) {
    let Some(lab) = Namespaces::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let content = pattern(2 * HALF_BYTES);
    let web = Web::start(lab.alice_listens(), content.clone());
    let (alice, bob) = lab.alice_and_bob(&["--socks", SOCKS]);
    alice.json(&format!("expose web {} --allow bob", web.address));
    let mut program = Ended(from(&lab, folder.path()).spawn().unwrap());
    let begun =
        || fs::read_dir(folder.path()).unwrap().flatten().any(|file| file.metadata().is_ok_and(|m| m.len() > 0));
    until("the first bytes of the file", begun);
    move_bob(&lab, &bob, || web.go_on.send(()).unwrap());
    assert_eq!(wait(&mut program.0), Some(0));
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files, [folder.path().join("film")]);
    assert!(fs::read(&files[0]).unwrap() == content, "the file differs");
    // A browser asks again when its connection breaks, and goes on from where it was.
    let films: Vec<String> = web.requests.try_iter().filter(|request| request.contains(" /film ")).collect();
    assert_eq!(films, ["GET /film HTTP/1.1"]);
}

/// Bob loses his network without a goodbye and comes into another one; `meanwhile` happens at Alice's when his session has noticed.
fn move_bob(lab: &Namespaces, bob: &Node, meanwhile: impl FnOnce()) {
    lab.bob_leaves(1);
    bob.json_when("sessions", |sessions| sessions[0]["state"] == "suspended");
    meanwhile();
    std::thread::sleep(outage());
    lab.bob_joins(2);
    bob.json_when("sessions", |sessions| sessions[0]["resumes"].as_u64() > Some(0));
}

/// A redis server of Alice's.
struct Redis<'a> {
    lab: &'a Namespaces,
    _process: Ended,
}

impl<'a> Redis<'a> {
    fn start(lab: &'a Namespaces, folder: &Path) -> Self {
        let mut command = lab.program("alice", "redis-server");
        command.args(["--port", "6379", "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder);
        let redis = Self { lab, _process: Ended(command.stdout(Stdio::null()).spawn().unwrap()) };
        until("redis answers", || redis.says(&["ping"]) == "PONG");
        redis
    }

    /// What it answers beside Alice's node.
    fn says(&self, words: &[&str]) -> String {
        let answer = output(self.lab.program("alice", "redis-cli").args(words));
        String::from_utf8(answer.stdout).unwrap().trim().to_owned()
    }
}

/// A web server with one page and one file, whose second half it sends when it is told to.
struct Web {
    address: std::net::SocketAddr,
    /// The first lines of all requests.
    requests: Receiver<String>,
    go_on: Sender<()>,
}

impl Web {
    fn start(listener: TcpListener, film: Vec<u8>) -> Self {
        let address = listener.local_addr().unwrap();
        let ((asked, requests), (go_on, wait)) = (channel(), channel());
        std::thread::spawn(move || {
            let (film, wait) = (std::sync::Arc::new(film), std::sync::Arc::new(std::sync::Mutex::new(wait)));
            // Browsers open connections that they may need, so each has a thread.
            for socket in listener.incoming().flatten() {
                let (film, wait, asked) = (film.clone(), wait.clone(), asked.clone());
                std::thread::spawn(move || {
                    let Some(request) = request(&socket) else { return };
                    let _ = asked.send(request.clone());
                    let _ = match request.split(' ').nth(1) {
                        Some("/") => reply(&socket, "200 OK", "text/html", PAGE.len(), PAGE.as_bytes()),
                        Some("/film") => {
                            let (first, second) = film.split_at(film.len() / 2);
                            let sent = reply(&socket, "200 OK", "application/octet-stream", film.len(), first);
                            let told = wait.lock().unwrap().recv_timeout(PATIENCE);
                            sent.and_then(|()| if told.is_ok() { (&socket).write_all(second) } else { Ok(()) })
                        }
                        _ => reply(&socket, "404 Not Found", "text/plain", 0, b""),
                    };
                });
            }
        });
        Self { address, requests, go_on }
    }
}

/// The first line of a request, when all of it has come.
fn request(socket: &TcpStream) -> Option<String> {
    let lines: Vec<String> =
        BufReader::new(socket).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    lines.into_iter().next()
}

fn reply(mut socket: &TcpStream, status: &str, kind: &str, length: usize, body: &[u8]) -> std::io::Result<()> {
    write!(
        socket,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    socket.write_all(body)
}

/// A process that ends with its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
