//! Closed overlays of real nodes.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use common::{Node, PATIENCE, foreground, greeter, output, stderr, until};
use node::invite::Invite;
use node::store::{DiskStore, Store as _};

fn founder() -> Node {
    let alice = Node::start(&["--closed", "--name", "alice"]);
    let status = alice.json_when("status", |status| status["listen"][0].is_string() && status["address"].is_string());
    assert_eq!(status["membership"], "founder");
    alice
}

fn is_member(node: &Node, rank: &str) {
    node.json_when("status", |status| status["address"].is_string() && status["membership"] == rank);
}

/// What `muses join` says to somebody who is not let in.
fn refused(way: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let ended = output(foreground(folder.path(), "join", &[]).arg(way));
    assert_eq!(ended.status.code(), Some(4), "{}", stderr(&ended));
    let kept = DiskStore::open(folder.path()).unwrap().load().unwrap();
    assert!(!kept.contains_key("overlay/genesis"), "he is pinned where he cannot be");
    stderr(&ended)
}

#[test]
fn an_invite_lets_in_one_and_a_restart_keeps_him_in() {
    let mut alice = founder();
    let written = alice.json("invite");
    assert_eq!((&written["admits"], &written["uses"]), (&"member".into(), &1.into()));
    let invite = written["invite"].as_str().unwrap();
    let mut bob = Node::join(invite, &["--name", "bob"]);
    is_member(&bob, "member");
    alice.json_when("lookup bob", |found| found["node"].is_string());

    let line = refused(invite);
    assert!(line.contains("used up or has expired") && line.lines().count() == 1, "{line}");
    let told = bob.muses("invite");
    assert_eq!(told.status.code(), Some(4));
    assert!(stderr(&told).contains("ask its founder"), "{}", stderr(&told));

    bob.json("down");
    bob.wait();
    bob.restart(&[]);
    is_member(&bob, "member");
    bob.json_when("ping alice", |echo| echo["hops"] == 1);
    // Whoever reads her terminal learns of the only way in.
    alice.json("down");
    alice.wait();
    let said = alice.said();
    assert!(said.contains("others join with what `muses invite` prints") && !said.contains("--join"), "{said}");
}

#[test]
fn strangers_are_refused_with_a_clear_line() {
    let alice = founder();
    let line = refused(&alice.invite());
    assert!(line.contains("is closed") && line.contains("ask its founder"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert_eq!(alice.json("status")["links"], 0);
}

#[test]
fn an_expired_invite_is_refused_by_the_inviter_too() {
    let alice = founder();
    let written = alice.json("invite --for 1s");
    let expires = written["expires_unix_s"].as_u64().unwrap();
    until("the invite has expired", || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() > expires);
    let text = written["invite"].as_str().unwrap();
    assert!(refused(text).contains("expired"), "by the guest himself");
    // Nobody signs an invite: a guest may write another time into it.
    let invite: Invite = text.parse().unwrap();
    let prolonged = Invite { expires_unix_s: expires + 100_000, ..invite }.to_text().unwrap();
    assert!(refused(&prolonged).contains("the inviter refused"));
}

#[test]
fn an_inviter_admits_others_and_an_invite_still_opens_services() {
    let alice = founder();
    let mut carol = Node::join(alice.json("invite --inviter")["invite"].as_str().unwrap(), &["--name", "carol"]);
    is_member(&carol, "inviter");
    assert_eq!(carol.muses("invite --inviter").status.code(), Some(4), "the founder alone names inviters");
    carol.json(&format!("expose web {}", greeter(b"hello")));
    let written = carol.json("invite --allow web --uses 2");
    let invite = written["invite"].as_str().unwrap();
    let target = format!("{}/web", written["node"].as_str().unwrap());
    for _ in 0..2 {
        let dave = Node::join(invite, &[]);
        is_member(&dave, "member");
        // The invite's secret opens the service after the membership, at its own time.
        until("the service answers", || {
            let at =
                dave.json(&format!("connect {target} --listen 127.0.0.1:0"))["listen"].as_str().unwrap().to_owned();
            let mut socket = TcpStream::connect(at.parse::<SocketAddr>().unwrap()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut heard = String::new();
            socket.read_to_string(&mut heard).is_ok() && heard == "hello"
        });
    }
    assert!(refused(invite).contains("used up"));
    carol.process.kill().unwrap();
}

#[test]
fn what_only_one_kind_of_overlay_has_is_said() {
    let open = Node::start(&[]);
    open.json_when("status", |status| status["listen"][0].is_string() && status["address"].is_string());
    for line in ["invite --uses 2", "invite --inviter"] {
        let told = open.muses(line);
        assert_eq!(told.status.code(), Some(2), "{line}: {}", stderr(&told));
        assert_eq!(stderr(&told).lines().count(), 1);
    }
    let mut open = open;
    open.json("down");
    open.wait();
    let folder = open.folder.path();
    let told = output(&mut foreground(folder, "up", &["--closed"]));
    assert_ne!(told.status.code(), Some(0));
    assert!(stderr(&told).contains("belongs to an open overlay"), "{}", stderr(&told));
}
