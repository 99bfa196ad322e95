//! `testnet up` obeys what is typed, and prints the URL of a dashboard that answers; in a browser its menu gives the same orders.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../node/tests/common/chromium.rs"]
mod chromium;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);

struct Testnet {
    process: Child,
    input: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    _out: tempfile::TempDir,
}

impl Testnet {
    fn says(&mut self, part: &str) -> String {
        loop {
            let line = self.lines.next().unwrap_or_else(|| panic!("it ended without {part:?}")).unwrap();
            if line.contains(part) {
                return line;
            }
        }
    }

    /// By Ctrl-C, in order.
    fn ends(mut self) {
        kill_process(Pid::from_child(&self.process), Signal::INT).unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(130));
    }

    fn told(&mut self, line: &str, answer: &str) {
        writeln!(self.input, "{line}").unwrap();
        self.says(answer);
    }
}

impl Drop for Testnet {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// So many nodes with a dashboard, and more flags; also each one's folder, and the URL.
fn testnet(nodes: usize, flags: &[&str]) -> (Testnet, Vec<PathBuf>, String) {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_testnet"));
    command.args(["--out", out.path().to_str().unwrap(), "up", "-n", &nodes.to_string(), "--dashboard", "127.0.0.1:0"]);
    command.args(flags);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (input, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
    let mut testnet = Testnet { process, input, lines: BufReader::new(stdout).lines(), _out: out };
    let mut folder = || testnet.says("muses status --data-dir").split_once("--data-dir ").unwrap().1.into();
    let folders = (0..nodes).map(|_| folder()).collect();
    let line = testnet.says("The dashboard of n0");
    let url = line[line.find("http://").unwrap()..].to_owned();
    (testnet, folders, url)
}

fn has_a_page(url: &str) {
    let address = url.split_once("http://").unwrap().1.split_once("/#").unwrap().0.to_owned();
    let mut socket = TcpStream::connect(&address).unwrap();
    write!(socket, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    socket.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("main.js"), "{page}");
}

/// A download goes on from n2 to n0, while n2 goes from one network to the other and back.
#[test]
fn on_real_interfaces_nodes_move_from_one_network_to_the_other() {
    if let Some(why) = testnet::netns::missing() {
        eprintln!("skipped: {why}");
        return;
    }
    let (mut testnet, folders, url) = testnet(3, &["--netns"]);
    has_a_page(&url);
    let status = |node: usize| ask(&folders[node], &json!({"verb": "status"}));
    let received = || ask(&folders[0], &json!({"verb": "sessions"}))[0]["streams"][0]["received_bytes"].as_u64();
    until("there is traffic", || received() > Some(0));
    for address in ["10.79.1.3", "10.78.2.3"] {
        testnet.told("move n2", "n2 has no network");
        testnet.says(&format!("n2 is back, at {address}"));
        until("n2 listens there", || status(2)["listen"].to_string().contains(address));
        let before = received();
        until("it goes on", || received() > before.map(|bytes| bytes + 1_000_000));
    }
    testnet.told("away n2", "n2 is away");
    until("n2 has no link", || status(2)["links"] == 0);
    // Who was away is back first.
    testnet.told("partition", "parted: 1 nodes and 2");
    until("they are two halves", || status(0)["links"] == 0 && status(1)["links"] == 1 && status(2)["links"] == 1);
    testnet.told("heal", "they may link again");
    until("they are one overlay", || status(0)["links"] != 0);
    testnet.ends();
}

/// Browsers of this machine find the dashboard of a node with another one's network: where they cannot, nothing is begun.
#[test]
fn a_taken_port_of_the_dashboard_is_told_before_any_node_runs() {
    if let Some(why) = testnet::netns::missing() {
        eprintln!("skipped: {why}");
        return;
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_testnet"));
    command.args(["--out", out.path().to_str().unwrap(), "up", "-n", "2", "--netns", "--dashboard", &at]);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with(&format!("testnet: no dashboard at {at}: Address already in use")), "{said}");
    assert!(said.ends_with("; try --dashboard 127.0.0.1:0\n") && said.lines().count() == 1, "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn orders_that_are_typed_are_obeyed() {
    let (mut testnet, folders, url) = testnet(4, &[]);
    has_a_page(&url);
    let sessions = || ask(&folders[0], &json!({"verb": "sessions"}));
    until("there is traffic to look at", || sessions()[0]["streams"][0]["received_bytes"].as_u64() > Some(0));
    let status = |node: usize| ask(&folders[node], &json!({"verb": "status"}));
    let ids: Vec<String> = (0..4).map(|node| status(node)["node"].as_str().unwrap().to_owned()).collect();
    let linked = |from: usize, to: usize| {
        let peers = ask(&folders[from], &json!({"verb": "peers"}));
        peers.as_array().is_some_and(|peers| peers.iter().any(|peer| peer["node"] == ids[to].as_str()))
    };
    let across = || (0..2).any(|a| (2..4).any(|b| linked(a, b) || linked(b, a)));

    testnet.told("fly", "none of these");
    testnet.told("move n3", "n3 has no network");
    testnet.says("n3 is back, at 127.0.3.1");
    until("n3 listens elsewhere", || status(3)["listen"].to_string().contains("127.0.3.1") && status(3)["links"] != 0);
    until("there are links between the halves", across);
    testnet.told("partition", "parted: 2 nodes and 2");
    until("each half has links of its own and none to the other", || linked(0, 1) && linked(2, 3) && !across());
    testnet.told("heal", "they may link again");
    until("there are links between the halves again", across);
    testnet.told("away n2", "n2 is away");
    until("n2 has no link", || status(2)["links"] == 0);
    testnet.told("back n2", "n2 is back");
    until("n2 has a link", || status(2)["links"] != 0);
    testnet.told("move n3", "n3 has no network");
    testnet.told("away n3", "n3 is away");
    testnet.told("move n2", "n2 has no network");
    let back = testnet.says(" is back, at ");
    assert!(back.contains("n2"), "the newest order holds, though the move of n3 was due first: {back}");
    testnet.told("back n3", "n3 is back");
    testnet.told("kill n1", "n1 is dead");
    testnet.told("nodes", "n0 n2 n3");
    assert!(UnixStream::connect(folders[1].join("control.sock")).is_err());

    testnet.ends();
}

/// Each order of the menu, pressed in Chromium, and seen at the nodes themselves.
#[test]
fn orders_of_the_dashboards_menu_are_obeyed() {
    let Some(chromium) = chromium::chromium() else { return };
    let (testnet, folders, url) = testnet(6, &[]);
    let task = json!({
        "url": url,
        "chromium": chromium,
        "axe": chromium::axe(),
        "pictures": std::env::var("MUSES_PICTURES").ok(),
        "sockets": folders.iter().map(|folder| folder.join("control.sock")).collect::<Vec<_>>(),
    });
    let status = Command::new("node").arg(chromium::script("scenario.mjs")).arg(task.to_string()).status().unwrap();
    assert!(status.success(), "see above");
    testnet.ends();
}

fn ask(folder: &std::path::Path, request: &Value) -> Value {
    let mut socket = UnixStream::connect(folder.join("control.sock")).unwrap();
    writeln!(socket, "{request}").unwrap();
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    serde_json::from_str::<Value>(&line).unwrap()["data"].clone()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
