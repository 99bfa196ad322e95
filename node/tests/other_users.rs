//! Another user of the same machine: control socket, secrets and dashboard are closed to it. Needs root to become one.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use common::{Node, output, stderr};

/// `nobody` on every Linux.
const UID: u32 = 65_534;

#[test]
fn another_user_of_the_machine_gets_nothing() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let node = Node::start(&["--dashboard", "127.0.0.1:0", "--name", "alice"]);
    let folder = node.folder.path();
    // The folder is opened on purpose: each thing in it has to keep others out by itself.
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    let tools = tempfile::tempdir().unwrap();
    fs::set_permissions(tools.path(), Permissions::from_mode(0o755)).unwrap();
    let muses = tools.path().join("muses");
    fs::copy(env!("CARGO_BIN_EXE_muses"), &muses).unwrap();
    let muses = format!("{} --data-dir {}", muses.display(), folder.display());

    // What follows is refused for who asks, not for how: the owner may.
    let (mine, theirs) = (run_as(0, &format!("{muses} status")), run_as(UID, &format!("{muses} status")));
    assert!(mine.status.success(), "{}", stderr(&mine));
    assert_eq!((theirs.status.code(), theirs.stdout.len()), (Some(6), 0));
    assert!(stderr(&theirs).contains("Permission denied"), "{}", stderr(&theirs));
    for verb in ["dashboard", "down", "network down", "invite"] {
        let theirs = run_as(UID, &format!("{muses} {verb}"));
        assert_eq!((theirs.status.code(), theirs.stdout.len()), (Some(6), 0), "{verb}");
    }
    assert!(run_as(UID, &format!("ls {}", folder.display())).status.success(), "it can see that they are there");
    for secret in ["dashboard.token", "identity.key", "session.key"] {
        let path = folder.join(secret);
        assert!(run_as(0, &format!("cat {}", path.display())).status.success(), "{secret}");
        assert!(!run_as(UID, &format!("cat {}", path.display())).status.success(), "{secret}");
    }
    assert!(!run_as(UID, &format!("ls {}", folder.join("state").display())).status.success());

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
    assert_eq!(node.json("status")["name"], "alice");
}

fn run_as(uid: u32, line: &str) -> Output {
    let ids = [format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()];
    output(Command::new("setpriv").args(ids).args(["--", "bash", "-c", line]))
}
