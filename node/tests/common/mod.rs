//! A real node process with a folder of its own.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod help;
pub mod http;
pub mod schema;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Node {
    pub process: Child,
    pub folder: tempfile::TempDir,
}

impl Node {
    /// Started with these arguments of `up`, and answering on its control socket.
    pub fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = up(folder.path(), args);
        let node = Self { process, folder };
        node.wait_for_control();
        node
    }

    /// The same by `muses join`.
    pub fn join(way: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = foreground(folder.path(), "join", args);
        let process = command.arg("--").arg(way).spawn().unwrap();
        let node = Self { process, folder };
        node.wait_for_control();
        node
    }

    pub fn restart(&mut self, args: &[&str]) {
        self.process = up(self.folder.path(), args);
        self.wait_for_control();
    }

    pub fn muses(&self, line: &str) -> Output {
        muses(self.folder.path(), line)
    }

    /// The data of a verb's `--json` reply.
    pub fn json(&self, line: &str) -> Value {
        let output = self.muses(&format!("{line} --json"));
        assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
        let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(reply["status"], "ok");
        reply["data"].clone()
    }

    /// The data of `line` as soon as `wanted` holds for it.
    pub fn json_when(&self, line: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        until(line, || {
            let output = self.muses(&format!("{line} --json"));
            last = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default()["data"].clone();
            output.status.success() && wanted(&last)
        });
        last
    }

    /// The multiaddr that others join with.
    pub fn invite(&self) -> String {
        let status =
            self.json_when("status", |status| status["listen"][0].is_string() && status["address"].is_string());
        let listen = status["listen"][0].as_str().unwrap();
        let address = listen.split("/p2p/").next().unwrap();
        format!("{address}/p2p/{}", status["node"].as_str().unwrap())
    }

    pub fn wait(&mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }

    /// All of its stdout, after its end.
    pub fn said(&mut self) -> String {
        let mut said = String::new();
        self.process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    fn wait_for_control(&self) {
        until("the node answers", || self.muses("status").status.success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn up(folder: &Path, args: &[&str]) -> Child {
    foreground(folder, "up", args).spawn().unwrap()
}

/// A node in the foreground, to be started.
pub fn foreground(folder: &Path, verb: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
    command.args([verb, "--listen", "/ip4/127.0.0.1/tcp/0", "--data-dir"]).arg(folder).args(args);
    command.stdout(Stdio::piped());
    command
}

pub fn muses(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
    output(command.arg("--data-dir").arg(folder).args(line.split_whitespace()))
}

/// What a program says until it ends; one that does not end in time is killed.
pub fn output(command: &mut Command) -> Output {
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = rustix::process::Pid::from_child(&process);
    let (mut stdout, mut stderr) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
    let (ended, end) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if end.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            }
        });
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let reading = scope.spawn(|| {
            stderr.read_to_end(&mut complained).unwrap();
            complained
        });
        stdout.read_to_end(&mut said).unwrap();
        let complained = reading.join().unwrap();
        let status = process.wait().unwrap();
        drop(ended);
        Output { status, stdout: said, stderr: complained }
    })
}

/// A founder and one that joined through it, and serves SOCKS; each resolves both names.
pub fn alice_and_bob() -> (Node, Node) {
    let alice = Node::start(&["--name", "alice"]);
    let bob = Node::start(&[
        "--name",
        "bob",
        "--socks",
        "127.0.0.1:0",
        "--dashboard",
        "127.0.0.1:0",
        "--metrics",
        "127.0.0.1:0",
        "--join",
        &alice.invite(),
    ]);
    // Both names are known to both.
    for node in [&alice, &bob] {
        for name in ["alice", "bob"] {
            node.json_when(&format!("lookup {name}"), |found| found["node"].is_string());
        }
    }
    (alice, bob)
}

/// A configuration in which no key is missing.
pub fn every_key() -> String {
    let id = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
    format!(
        "listen = ['/ip4/127.0.0.1/tcp/0']\njoin = ['/ip4/127.0.0.1/tcp/4741/p2p/{id}']\nname = 'alice'\nleaf = true\nsocks = '127.0.0.1:0'\n\
         socks_guard = 'uid'\ndashboard = '127.0.0.1:0'\nmetrics = '127.0.0.1:0'\n\
         [overlay]\nid = '3HSXuDQrYLiUZZCBBqsZQxwWV7FaR1Rs2PEjWMvCAiMh'\nclosed = true\n\
         [links]\nonly = ['{id}']\ndirect = 'never'\nbulk = false\nmdns = false\nupnp = false\n\
         [limits]\nsessions = 5\nstreams_per_session = 6\n[petnames]\nbob = '{id}'\n\
         [services.ssh]\nforward = '127.0.0.1:22'\nallow = ['bob']\n"
    )
}

/// A service that says `greeting` to each who connects, and ends.
pub fn greeter(greeting: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = socket.write_all(greeting);
        }
    });
    address
}

/// Where nothing listens.
pub fn dead_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Bytes of which no two stretches are alike.
pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| u8::try_from(index.wrapping_mul(2_654_435_761) >> 13 & 0xff).unwrap_or(0)).collect()
}

/// One line on stderr, with all of these words, and this exit code.
pub fn is_refusal(output: &Output, code: i32, words: &[&str]) {
    let line = stderr(output);
    assert_eq!((output.status.code(), line.lines().count()), (Some(code), 1), "{line}");
    assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn until(what: &str, holds: impl FnMut() -> bool) {
    until_within(PATIENCE, what, holds);
}

pub fn until_within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
