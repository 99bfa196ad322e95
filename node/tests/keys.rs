//! Keys of real nodes: changed, revoked, and revoked by a recovery key.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use common::{Node, PATIENCE, foreground, muses, output, stderr, until};

/// A service that says everything back.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &socket, &mut &socket));
        }
    });
    address.to_string()
}

/// An open connection of `from` to `target` through a local port.
fn dial(from: &Node, target: &str) -> TcpStream {
    let at = from.json(&format!("connect {target} --listen 127.0.0.1:0"))["listen"].as_str().unwrap().to_owned();
    let mut socket = TcpStream::connect(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    say(&mut socket, b"hello");
    socket
}

fn say(socket: &mut TcpStream, text: &[u8]) {
    socket.write_all(text).unwrap();
    let mut heard = vec![0; text.len()];
    socket.read_exact(&mut heard).unwrap();
    assert_eq!(heard, text);
}

fn id(node: &Node) -> String {
    node.json("status")["node"].as_str().unwrap().to_owned()
}

fn has_session_with(node: &Node, peer: &str) -> bool {
    node.json("sessions").as_array().unwrap().iter().any(|session| session["peer"] == peer)
}

/// Alice, who founds an overlay, and three others, who find each other; everybody offers an echo.
fn four() -> [Node; 4] {
    let alice = Node::start(&["--name", "alice"]);
    let way = alice.invite();
    let join = |name: &str| Node::start(&["--name", name, "--join", &way]);
    let nodes = [join("bob"), join("carol"), join("dave")];
    for node in nodes.iter().chain([&alice]) {
        for name in ["alice", "bob", "carol", "dave"] {
            node.json_when(&format!("lookup {name}"), |found| found["node"].is_string());
        }
        node.json(&format!("expose echo {} --allow anyone", echo()));
    }
    let [bob, carol, dave] = nodes;
    [alice, bob, carol, dave]
}

#[test]
fn a_revocation_by_the_recovery_key_ends_the_sessions_on_every_node() {
    let [alice, mut bob, carol, dave] = four();
    let (bobs, erin) = (id(&bob), Node::start(&["--join", &alice.invite()]));
    let recovery = bob.json("key recovery")["recovery"].as_str().unwrap().to_owned();
    // The thief's own connections, and those of others to him.
    let mut open = [dial(&carol, "bob/echo"), dial(&dave, "bob/echo"), dial(&bob, "alice/echo")];
    for node in [&alice, &carol, &dave] {
        assert!(has_session_with(node, &bobs));
    }
    let wrong = alice.muses(&format!("key recover {}", &recovery[..recovery.len() - 1]));
    assert_eq!((wrong.status.code(), stderr(&wrong).lines().count()), (Some(2), 1), "{}", stderr(&wrong));
    assert_eq!(alice.json(&format!("key recover {recovery}"))["node"], bobs.as_str());

    for node in [&alice, &carol, &dave] {
        until("the session ends", || !has_session_with(node, &bobs));
        let refused = node.muses(&format!("pipe {bobs}/echo"));
        assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("revoked"), "{}", stderr(&refused));
    }
    for socket in &mut open {
        assert!(matches!(socket.read(&mut [0; 1]), Ok(0) | Err(_)), "a connection goes on");
    }
    // Who never had to do with him finds out as well.
    let refused = erin.muses(&format!("lookup {bobs}"));
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    // Bob's node is shown why, ends, and does not start again; nor does a copy of the key elsewhere get in.
    assert_eq!(bob.wait(), Some(8));
    let again = output(&mut foreground(bob.folder.path(), "up", &[]));
    assert_eq!(again.status.code(), Some(8));
    assert!(stderr(&again).contains("revoked, for ever"), "{}", stderr(&again));
    let thief = tempfile::tempdir().unwrap();
    fs::copy(bob.folder.path().join("identity.key"), thief.path().join("identity.key")).unwrap();
    let told = output(&mut foreground(thief.path(), "up", &["--join", &erin.invite()]));
    assert_eq!(told.status.code(), Some(8), "{}", stderr(&told));
}

#[test]
fn a_node_that_revokes_itself_is_gone_for_all() {
    let [_alice, mut bob, carol, dave] = four();
    let bobs = id(&bob);
    let mut open = [dial(&carol, "bob/echo"), dial(&dave, "bob/echo")];
    let mistake = bob.muses(&format!("key revoke {}", id(&carol)));
    assert_eq!((mistake.status.code(), stderr(&mistake).lines().count()), (Some(2), 1), "{}", stderr(&mistake));
    assert_eq!(bob.json(&format!("key revoke {bobs}"))["node"], bobs.as_str());
    assert_eq!(bob.wait(), Some(8));
    for socket in &mut open {
        assert!(matches!(socket.read(&mut [0; 1]), Ok(0) | Err(_)), "a connection goes on");
    }
    for node in [&carol, &dave] {
        let refused = node.muses(&format!("pipe {bobs}/echo"));
        assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
        until("the session ends", || !has_session_with(node, &bobs));
    }
}

#[test]
fn a_revocation_that_nobody_could_hear_yet_is_told_to_the_first_who_comes() {
    let [alice, bob] = [Node::start(&["--name", "alice"]), Node::start(&[])];
    let recovery = bob.json("key recovery")["recovery"].as_str().unwrap().to_owned();
    alice.json_when("status", |status| status["address"].is_string());
    let told = alice.muses(&format!("key recover {recovery}"));
    let said = String::from_utf8(told.stdout).unwrap();
    assert!(said.contains("only this node knows, for it has no neighbour"), "{said}");
    let carol = Node::start(&["--join", &alice.invite()]);
    carol.json_when("lookup alice", |found| found["node"].is_string());
    until("she hears of it", || {
        let refused = carol.muses(&format!("lookup {}", id(&bob)));
        refused.status.code() == Some(4) && stderr(&refused).contains("revoked")
    });
}

#[test]
fn a_changed_session_key_breaks_nothing_and_is_kept() {
    let [alice, mut bob, carol, dave] = four();
    let mut open = dial(&carol, "bob/echo");
    let before = bob.json("key show");
    assert_eq!((&before["epoch"], before["previous_for_s"].is_null()), (&0.into(), true));
    let changed = bob.json("key rotate");
    assert_eq!((&changed["node"], &changed["epoch"]), (&before["node"], &1.into()));
    assert_ne!(changed["key"], before["key"]);
    assert!(changed["previous_for_s"].as_u64().is_some_and(|left_s| left_s > 80_000), "{changed}");
    say(&mut open, b"the session goes on");
    drop(dial(&dave, "bob/echo"));
    assert_eq!(carol.json("sessions")[0]["resumes"], 0, "the same session");

    bob.json("down");
    bob.wait();
    bob.restart(&[]);
    let restarted = bob.json_when("key show", |keys| keys["node"].is_string());
    assert_eq!((&restarted["key"], &restarted["epoch"]), (&changed["key"], &changed["epoch"]));
    assert!(restarted["previous_for_s"].is_number(), "{restarted}");
    bob.json_when("status", |status| status["address"].is_string());
    drop(dial(&alice, "bob/echo"));
    assert!(muses(bob.folder.path(), "key show").status.success());
}
