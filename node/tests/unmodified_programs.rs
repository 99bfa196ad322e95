//! OpenSSH and curl as they are, by name, through two real nodes and across a move.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use common::{Node, PATIENCE, alice_and_bob, pattern, until};

const SSHD: &str = "/usr/sbin/sshd";
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

/// The exit code of a program that ends by itself in time.
fn wait(process: &mut Child) -> Option<i32> {
    let mut status = None;
    until("the program ends", || {
        status = process.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code()
}

/// Whether a program is installed; says so if not.
fn is_there(command: &[&str]) -> bool {
    let found = Command::new(command[0]).args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("skipped: {} is not installed", command[0]);
    }
    found.is_ok()
}

/// An OpenSSH server with keys of its own, which lets the user of this test in.
struct Sshd {
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Sshd {
    /// None, with a printed reason, where OpenSSH is not installed.
    fn start() -> Option<Self> {
        if !Path::new(SSHD).exists() {
            eprintln!("skipped: {SSHD} is not installed");
            return None;
        }
        if !is_there(&["ssh", "-V"]) {
            return None;
        }
        // Where the server of a real system is not set up, root's one misses this folder.
        let _ = fs::create_dir_all("/run/sshd");
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]).status();
            assert!(made.unwrap().success());
        }
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n",
            path("host"),
            path("user.pub")
        );
        fs::write(path("config"), config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = path("config");
        // As inetd does it, so that no port has to be guessed.
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let output = OwnedFd::from(socket.try_clone().unwrap());
                let mut server = Command::new(SSHD);
                server.args(["-i", "-f", &config]).stdin(OwnedFd::from(socket)).stdout(output).stderr(Stdio::null());
                let mut server = server.spawn().unwrap();
                std::thread::spawn(move || server.wait());
            }
        });
        Some(Self { address, folder })
    }

    /// An ssh client beside `node` that runs `command` at alice's.
    fn ssh(&self, node: &Node, command: &str) -> Command {
        let proxy = format!(
            "ProxyCommand='{}' --data-dir '{}' pipe alice/ssh",
            env!("CARGO_BIN_EXE_muses"),
            node.folder.path().display()
        );
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]);
        ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", &proxy, "-i"]);
        ssh.arg(self.folder.path().join("user")).args(["alice", command]);
        ssh
    }
}

/// A remote shell that says "got" to each line.
struct Shell {
    ssh: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Shell {
    fn start(mut command: Command) -> Self {
        let mut ssh = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = ssh.stdin.take();
        let stdout = BufReader::new(ssh.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { ssh, stdin, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    fn type_lines(&mut self, numbers: core::ops::Range<u32>) {
        let stdin = self.stdin.as_mut().unwrap();
        numbers.for_each(|number| writeln!(stdin, "{number}").unwrap());
    }

    fn expect(&self, numbers: core::ops::Range<u32>) {
        numbers.for_each(|number| assert_eq!(self.line(), format!("got {number}")));
    }

    fn echoes(&mut self, numbers: core::ops::Range<u32>) {
        self.type_lines(numbers.clone());
        self.expect(numbers);
    }

    /// Ends the input; everything else that the shell says until it ends well.
    fn close(mut self) -> Vec<String> {
        self.stdin = None;
        assert_eq!(wait(&mut self.ssh), Some(0));
        let mut rest = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            rest.push(line);
        }
        rest
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}
