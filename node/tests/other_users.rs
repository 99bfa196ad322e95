//! Another user of the same machine: control socket, secrets, dashboard and guarded ports are closed to it. Needs root to become one.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::process::{Command, Output};

use common::{Node, greeter, muses, output, stderr};

/// `nobody` on every Linux.
const UID: u32 = 65_534;

#[test]
fn another_user_of_the_machine_gets_nothing() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let ports = ["--dashboard", "127.0.0.1:0", "--socks", "127.0.0.1:0", "--socks-guard", "token"];
    let node = Node::start(&[&ports[..], &["--name", "alice"]].concat());
    let folder = node.folder.path();
    // The folder is opened on purpose: each thing in it has to keep others out by itself.
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let tools = tempfile::tempdir().unwrap();
    fs::set_permissions(tools.path(), Permissions::from_mode(0o755)).unwrap();
    let program = tools.path().join("muses");
    fs::copy(env!("CARGO_BIN_EXE_muses"), &program).unwrap();
    let muses = format!("{} --data-dir {}", program.display(), folder.display());

    // What follows is refused for who asks, not for how: the owner may.
    let (mine, theirs) = (run_as(0, &format!("{muses} status")), run_as(UID, &format!("{muses} status")));
    assert!(mine.status.success(), "{}", stderr(&mine));
    assert_eq!((theirs.status.code(), theirs.stdout.len()), (Some(8), 0));
    assert!(stderr(&theirs).contains("is not this user"), "{}", stderr(&theirs));
    for verb in ["dashboard", "down", "network down", "invite"] {
        let theirs = run_as(UID, &format!("{muses} {verb}"));
        assert_eq!((theirs.status.code(), theirs.stdout.len()), (Some(8), 0), "{verb}");
    }
    assert!(run_as(UID, &format!("ls {}", folder.display())).status.success(), "it can see that they are there");
    for secret in ["dashboard.token", "identity.key", "session.key", "socks.token"] {
        let path = folder.join(secret);
        assert!(run_as(0, &format!("cat {}", path.display())).status.success(), "{secret}");
        assert!(!run_as(UID, &format!("cat {}", path.display())).status.success(), "{secret}");
    }
    assert!(!run_as(UID, &format!("cat {}", folder.join("state.redb").display())).status.success());

    // Its port is open to all; what is behind it is not.
    let address = node.json("status")["dashboard"].as_str().unwrap().to_owned();
    let (host, port) = address.rsplit_once(':').unwrap();
    let ask = |head: &str| {
        let head = format!(
            "{head} HTTP/1.1\\r\\nHost: {address}\\r\\nOrigin: http://{address}\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n"
        );
        let said = run_as(UID, &format!("exec 3<>/dev/tcp/{host}/{port}; printf '{head}\\r\\n' >&3; cat <&3"));
        String::from_utf8(said.stdout).unwrap()
    };
    for head in ["GET /api/state", "GET /api/feed", "POST /api/network", "POST /api/cut"] {
        let answer = ask(head);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{head}: {answer}");
        assert!(!answer.contains("12D3KooW") && !answer.to_lowercase().contains("set-cookie"), "{answer}");
    }
    assert!(ask("GET /").starts_with("HTTP/1.1 200 "), "the page itself holds no secret");

    // So is that of the proxy; without its password no program gets to ask for anything.
    let socks: SocketAddr = node.json("status")["socks"].as_str().unwrap().parse().unwrap();
    let token = fs::read_to_string(folder.join("socks.token")).unwrap();
    for (methods, password, answer) in [
        (r"\x05\x01\x00", String::new(), &b"\x05\xff"[..]),
        (r"\x05\x01\x02", "0".repeat(64), b"\x05\x02\x01\x01"),
        (r"\x05\x01\x02", token, b"\x05\x02\x01\x00\x05\x04"),
    ] {
        let password = if password.is_empty() { password } else { format!(r"\x01\x01x\x40{password}") };
        let said = talk(UID, socks, &format!(r"{methods}{password}\x05\x01\x00\x03\x0cnobody.muses\x00\x50"));
        assert!(said.starts_with(answer), "{said:?} to {methods} {password}");
    }
    assert_eq!(node.json("status")["name"], "alice");
}

#[test]
fn a_port_that_is_for_me_alone_turns_others_away() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let alice = Node::start(&["--name", "alice"]);
    let ports = ["--socks", "127.0.0.1:0", "--socks-guard", "uid", "--name", "bob"];
    let bob = Node::start(&[&ports[..], &["--join", &alice.invite()]].concat());
    bob.json_when("lookup alice", |found| found["node"].is_string());
    alice.json(&format!("expose web {} --allow anyone", greeter(b"hello")));
    let connect = |flags: &str| -> SocketAddr {
        let made = bob.json(&format!("connect alice/web --listen 127.0.0.1:0 {flags}"));
        made["listen"].as_str().unwrap().parse().unwrap()
    };
    let (open, mine) = (connect(""), connect("--only-me"));
    assert_eq!((talk(0, open, ""), talk(UID, open, "")), (b"hello".to_vec(), b"hello".to_vec()), "as any port");
    assert_eq!((talk(0, mine, ""), talk(UID, mine, "")), (b"hello".to_vec(), Vec::new()));
    let socks: SocketAddr = bob.json("status")["socks"].as_str().unwrap().parse().unwrap();
    let request = r"\x05\x01\x00\x05\x01\x00\x03\x0balice.muses\x00\x50";
    let answer = [&b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0"[..], b"hello"].concat();
    assert_eq!((talk(0, socks, request), talk(UID, socks, request)), (answer, Vec::new()));

    let everywhere = bob.muses("connect alice/web --listen 0.0.0.0:0 --only-me");
    assert_eq!(
        (everywhere.status.code(), stderr(&everywhere).lines().count()),
        (Some(2), 1),
        "{}",
        stderr(&everywhere)
    );
    let folder = tempfile::tempdir().unwrap();
    let proxy = muses(folder.path(), "up --listen /ip4/127.0.0.1/tcp/0 --socks 0.0.0.0:0 --socks-guard uid");
    assert_eq!((proxy.status.code(), stderr(&proxy).lines().count()), (Some(2), 1), "{}", stderr(&proxy));
}

/// A key of this folder that its owner cannot read: one line, and no other key in its place.
#[test]
fn a_key_that_cannot_be_read_is_left_alone() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let tools = tempfile::tempdir().unwrap();
    fs::set_permissions(tools.path(), Permissions::from_mode(0o755)).unwrap();
    let (program, folder) = (tools.path().join("muses"), tools.path().join("node"));
    fs::copy(env!("CARGO_BIN_EXE_muses"), &program).unwrap();
    let up = format!("{} up --listen /ip4/127.0.0.1/tcp/0 --data-dir {}", program.display(), folder.display());
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
    chown(&folder, Some(UID), Some(UID)).unwrap();
    for name in ["identity.key", "session.key"] {
        let key = folder.join(name);
        // Whose key that is does not matter, for nobody gets to read it.
        fs::write(&key, [7; 32]).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        chown(&key, Some(0), Some(0)).unwrap();
        let refused = run_as(UID, &up);
        let line = stderr(&refused);
        assert_eq!((refused.status.code(), line.lines().count()), (Some(8), 1), "{name}: {line}");
        assert!(line.contains(key.to_str().unwrap()) && line.contains("Permission denied"), "{name}: {line}");
        assert_eq!((fs::read(&key).unwrap(), fs::metadata(&key).unwrap().uid()), (vec![7; 32], 0), "{name}");
        // The next one is for a node that can read this.
        fs::remove_file(&key).unwrap();
    }
}

/// What a program of `uid` hears at `port` after it has said `words`, as printf has them.
fn talk(uid: u32, port: SocketAddr, words: &str) -> Vec<u8> {
    let line = format!("exec 3<>/dev/tcp/{}/{}; printf '{words}' >&3; timeout 20 cat <&3", port.ip(), port.port());
    run_as(uid, &line).stdout
}

fn run_as(uid: u32, line: &str) -> Output {
    let ids = [format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()];
    output(Command::new("setpriv").args(ids).args(["--", "bash", "-c", line]))
}
