//! Two people in network namespaces of their own, and two networks: Alice is in both, Bob in one at a time.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::common::{Node, until};

static LABS: AtomicU32 = AtomicU32::new(0);

/// Whether outages are as long and files as big as they are for people: with `MUSES_FULL=1`.
pub fn full() -> bool {
    std::env::var_os("MUSES_FULL").is_some_and(|value| value == "1")
}

/// How long Bob has no network.
pub fn outage() -> Duration {
    Duration::from_secs(if full() { 30 } else { 2 })
}

/// The namespaces of one test; they are removed when it is dropped.
pub struct Namespaces(String);

impl Namespaces {
    /// Bob is in no network yet. None, with a printed reason, where namespaces cannot be had.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root, for network namespaces");
            return None;
        }
        if !Command::new("ip").args(["netns", "list"]).output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: needs `ip netns` (Debian: iproute2)");
            return None;
        }
        let lab = Self(format!("mn{}-{}-", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed)));
        for who in ["alice", "bob"] {
            ip(&format!("netns add {}{who}", lab.0));
            ip(&format!("-n {}{who} link set lo up", lab.0));
        }
        for net in [1, 2] {
            ip(&format!("-n {0}alice link add net{net} type veth peer name net{net} netns {0}bob", lab.0));
            ip(&format!("-n {}alice addr add 10.78.{net}.1/24 dev net{net}", lab.0));
            ip(&format!("-n {}alice link set net{net} up", lab.0));
        }
        Some(lab)
    }

    /// Bob comes into a network, 1 or 2.
    pub fn bob_joins(&self, net: u8) {
        ip(&format!("-n {}bob addr add 10.78.{net}.2/24 dev net{net}", self.0));
        ip(&format!("-n {}bob link set net{net} up", self.0));
        for who in ["alice", "bob"] {
            let state = || ip(&format!("-n {}{who} -o link show dev net{net}", self.0));
            until("the network carries packets", || state().contains("state UP"));
        }
    }

    /// The networks become lines between two machines, as of a modem: each end has an address, and knows that of the other.
    pub fn become_lines(&self) {
        for (who, ours, theirs, net) in [("alice", 1, 2, 1), ("bob", 2, 1, 1), ("alice", 1, 2, 2), ("bob", 2, 1, 2)] {
            ip(&format!("-n {}{who} addr flush dev net{net}", self.0));
            ip(&format!("-n {}{who} addr add 10.79.{net}.{ours} peer 10.79.{net}.{theirs}/32 dev net{net}", self.0));
        }
    }

    /// Bob's cable is put in; his address was there all the time.
    pub fn bob_plugs_in(&self, net: u8) {
        ip(&format!("-n {}bob link set net{net} up", self.0));
    }

    /// Bob loses it, without a goodbye.
    pub fn bob_leaves(&self, net: u8) {
        ip(&format!("-n {}bob link set net{net} down", self.0));
    }

    /// Alice has another address in this network.
    pub fn alice_is_at(&self, net: u8, host: u8) {
        ip(&format!("-n {}alice addr flush dev net{net}", self.0));
        ip(&format!("-n {}alice addr add 10.78.{net}.{host}/24 dev net{net}", self.0));
    }

    /// Alice's way to everywhere leads through this network.
    pub fn alice_leaves_by(&self, net: u8) {
        ip(&format!("-n {}alice route add default via 10.78.{net}.254 dev net{net}", self.0));
    }

    /// His lease there ends, or his system sees that the network is another one.
    pub fn bob_is_forgotten(&self, net: u8) {
        ip(&format!("-n {}bob addr flush dev net{net}", self.0));
    }

    /// A node there, at the default port or another free one, started by `verb`.
    pub fn node(&self, who: &str, verb: &str, args: &[&str]) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let mut command = self.muses(who, folder.path());
        let process = command.arg(verb).args(args).stdout(Stdio::null()).spawn().unwrap();
        let node = Node { process, folder };
        node.json_when("status", |status| status["node"].is_string());
        node
    }

    /// Alice's node, which founded, and Bob's, who came into the first network and joined by an invite with `bob_args`; they know each other's names.
    pub fn alice_and_bob(&self, bob_args: &[&str]) -> (Node, Node) {
        let alice = self.node("alice", "up", &["--name", "alice"]);
        self.bob_joins(1);
        let invite = alice.json_when("invite", |invite| invite["invite"].is_string());
        let args = [&["--name", "bob"], bob_args, &[invite["invite"].as_str().unwrap()]].concat();
        let bob = self.node("bob", "join", &args);
        for (node, other) in [(&alice, "bob"), (&bob, "alice")] {
            node.json_when(&format!("lookup {other}"), |found| found["node"].is_string());
        }
        (alice, bob)
    }

    /// `muses` there, for a verb and its arguments.
    pub fn muses(&self, who: &str, folder: &Path) -> Command {
        let mut command = self.program(who, env!("CARGO_BIN_EXE_muses"));
        command.arg("--data-dir").arg(folder);
        command
    }

    /// Any program there.
    pub fn program(&self, who: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        // `ip` replaces itself by the program, so the process is the program's.
        command.args(["netns", "exec", &format!("{}{who}", self.0), program]);
        command
    }

    /// A local service of Alice's.
    pub fn alice_listens(&self) -> TcpListener {
        self.inside("alice", || TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Sockets that are made there stay there.
    pub fn inside<R: Send>(&self, who: &str, make: impl FnOnce() -> R + Send) -> R {
        let space = format!("/run/netns/{}{who}", self.0);
        let make = || {
            let file = File::open(Path::new(&space)).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            make()
        };
        std::thread::scope(|scope| scope.spawn(make).join().unwrap())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for who in ["alice", "bob"] {
            let _ = Command::new("ip").args(["netns", "delete", &format!("{}{who}", self.0)]).status();
        }
    }
}

fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
