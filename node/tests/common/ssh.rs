//! OpenSSH as it is: a server of the test's own, and clients that reach it through a node.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::common::{Node, PATIENCE, until};

const SSHD: &str = "/usr/sbin/sshd";

/// The exit code of a program that ends by itself in time.
pub fn wait(process: &mut Child) -> Option<i32> {
    let mut status = None;
    until("the program ends", || {
        status = process.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code()
}

/// Whether a program is installed; says so if not.
pub fn is_there(command: &[&str]) -> bool {
    let found = Command::new(command[0]).args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("skipped: {} is not installed", command[0]);
    }
    found.is_ok()
}

/// An OpenSSH server with keys of its own, which lets the user of this test in.
pub struct Sshd {
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
}

impl Sshd {
    /// None, with a printed reason, where OpenSSH is not installed.
    pub fn start() -> Option<Self> {
        Self::at(|| TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// The same at this listener, made only if it is needed.
    pub fn at(listener: impl FnOnce() -> TcpListener) -> Option<Self> {
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
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n",
            path("host"),
            path("user.pub")
        );
        fs::write(path("config"), config).unwrap();
        let listener = listener();
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
    pub fn ssh(&self, node: &Node, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-T").args(self.options(node)).args(["alice", command]);
        ssh
    }

    /// The same on a terminal, as a person has it: the far side runs it on a pty, whose echo it has turned off, as the first line is to be an answer.
    pub fn terminal(&self, node: &Node, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-tt").args(self.options(node)).args(["alice", &format!("stty -echo -onlcr; {command}")]);
        ssh
    }

    /// How ssh and scp reach alice through `node`, and who they are.
    pub fn options(&self, node: &Node) -> Vec<String> {
        let proxy = format!(
            "ProxyCommand='{}' --data-dir '{}' pipe alice/ssh",
            env!("CARGO_BIN_EXE_muses"),
            node.folder.path().display()
        );
        [vec!["-o".to_owned(), proxy], self.identity()].concat()
    }

    /// Who they are, wherever they connect to.
    pub fn identity(&self) -> Vec<String> {
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        let fixed = ["BatchMode=yes", "StrictHostKeyChecking=no", "LogLevel=ERROR", "UserKnownHostsFile=/dev/null"];
        for option in fixed.into_iter().chain(["IdentitiesOnly=yes"]) {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options.extend(["-i".to_owned(), self.folder.path().join("user").display().to_string()]);
        options
    }
}

/// A remote shell that says "got" to each line, or another program that answers what is typed.
pub struct Shell {
    ssh: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Shell {
    pub fn start(mut command: Command) -> Self {
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

    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    pub fn type_lines(&mut self, numbers: core::ops::Range<u32>) {
        let stdin = self.stdin.as_mut().unwrap();
        numbers.for_each(|number| writeln!(stdin, "{number}").unwrap());
    }

    pub fn type_line(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Ctrl-D: on a terminal the end of the input is a key.
    pub fn type_end(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\x04").unwrap();
    }

    pub fn expect(&self, numbers: core::ops::Range<u32>) {
        numbers.for_each(|number| assert_eq!(self.line(), format!("got {number}")));
    }

    pub fn echoes(&mut self, numbers: core::ops::Range<u32>) {
        self.type_lines(numbers.clone());
        self.expect(numbers);
    }

    /// Ends the input; everything else that the shell says until it ends well.
    pub fn close(mut self) -> Vec<String> {
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
