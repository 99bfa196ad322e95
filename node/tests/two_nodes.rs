//! Two real nodes on loopback, used as a person uses them.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Node, PATIENCE, alice_and_bob, dead_port, greeter, pattern, stderr};

/// Bytes of a transfer: many packets, many credit updates.
const TRANSFER_BYTES: usize = 3 * 1024 * 1024 + 17;

#[test]
fn services_by_name_and_every_verb() {
    let (alice, bob) = alice_and_bob();
    let echo = echo_service();
    let bob_id = bob.json("status")["node"].as_str().unwrap().to_owned();

    let shown = alice.json(&format!("expose echo {echo} --allow bob"));
    assert_eq!(shown["allow"][0]["node"], bob_id.as_str(), "a name is resolved when typed: {shown}");
    alice.json(&format!("expose mine {echo}"));
    alice.json(&format!("expose dead {} --allow anyone", dead_port()));

    // A plain TCP application.
    let local: SocketAddr =
        bob.json("connect alice/echo --listen 127.0.0.1:0")["listen"].as_str().unwrap().parse().unwrap();
    let sent = pattern(TRANSFER_BYTES);
    assert!(exchange(local, &sent) == sent, "the bytes differ");
    // Many at once.
    std::thread::scope(|scope| {
        for number in 0..8 {
            let sent = pattern(100_000 + number);
            scope.spawn(move || assert!(exchange(local, &sent) == sent, "the bytes differ"));
        }
    });

    // stdin and stdout.
    assert_eq!(pipe(&bob, "alice/echo", &sent), (Some(0), sent));
    for (service, code) in [("alice/nothing", 4), ("alice/mine", 4), ("alice/dead", 4), ("nobody/echo", 3)] {
        assert_eq!(pipe(&bob, service, b"hello"), (Some(code), Vec::new()), "{service}");
    }

    // Questions.
    assert_eq!(bob.json("lookup alice")["node"], alice.json("status")["node"]);
    let echo = bob.json("ping alice");
    assert!(echo["hops"] == 1 && echo["rtt_us"].as_u64().unwrap() > 0, "{echo}");
    assert_eq!(bob.json("peers").as_array().unwrap().len(), 1);
    let sessions = bob.json("sessions");
    assert_eq!(sessions[0]["state"], "established", "{sessions}");
    let status = alice.json("status");
    assert_eq!(status["services"].as_array().unwrap().len(), 3);
    let anyone = serde_json::json!([{ "name": "anyone", "node": null }]);
    let bobs = serde_json::json!([{ "name": "bob", "node": bob_id }]);
    let offers = status["offers"].as_array().unwrap();
    for (offer, (name, allow)) in offers.iter().zip([("dead", anyone), ("echo", bobs), ("mine", serde_json::json!([]))])
    {
        assert_eq!((&offer["service"], &offer["allow"]), (&name.into(), &allow));
    }
    let said = String::from_utf8(alice.muses("status").stdout).unwrap();
    assert!([", for anyone\n", ", for bob\n", ", for nobody\n"].iter().all(|who| said.contains(who)), "{said}");
    for verb in ["status", "peers", "sessions", "lookup alice", "ping alice"] {
        assert!(!bob.muses(verb).stdout.is_empty(), "{verb}");
    }
    let unknown = bob.muses("ping nobody");
    assert_eq!(unknown.status.code(), Some(3), "{}", stderr(&unknown));
    assert!(stderr(&unknown).starts_with("muses: nobody: ") && stderr(&unknown).lines().count() == 1);
    assert_eq!(bob.muses("connect nobody/echo --listen 127.0.0.1:0").status.code(), Some(3));
}

/// Whoever pipes learns that what came is not all, if anything came: by the code, and why by one line.
#[test]
fn a_pipe_that_is_reset_or_cut_fails() {
    let (alice, bob) = alice_and_bob();
    // What has unread bytes when it is closed is reset.
    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    alice.json(&format!("expose rude {} --allow bob", rude.local_addr().unwrap()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = rude.accept().unwrap().0;
            socket.write_all(b"part").unwrap();
            socket.peek(&mut [0]).unwrap();
        });
        let (code, came) = pipe(&bob, "alice/rude", b"never read");
        assert!(code == Some(1) && b"part".starts_with(&came), "{code:?} after {came:?}");
    });
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    alice.json(&format!("expose silent {} --allow bob", silent.local_addr().unwrap()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut socket = silent.accept().unwrap().0;
            socket.write_all(b"part").unwrap();
            bob.json_when("sessions", |sessions| sessions[0]["streams"][0]["received_bytes"] == 4);
            alice.json("cut bob");
            let _ = socket.read(&mut [0]);
        });
        let (code, came) = pipe(&bob, "alice/silent", b"");
        assert!(code == Some(1) && b"part".starts_with(&came), "{code:?} after {came:?}");
    });
}

/// An id is for whom it says, and needs no name.
#[test]
fn a_service_for_an_id_is_for_that_node_alone() {
    let alice = Node::start(&["--name", "alice"]);
    let [bob, carol] = [(); 2].map(|()| Node::start(&["--join", &alice.invite()]));
    for node in [&bob, &carol] {
        node.json_when("lookup alice", |found| found["node"].is_string());
    }
    let bobs = bob.json("status")["node"].as_str().unwrap().to_owned();
    let shown = alice.json(&format!("expose hello {} --allow {bobs}", greeter(b"hello")));
    assert_eq!(shown["allow"], serde_json::json!([{"name": bobs, "node": bobs}]));
    assert_eq!(pipe(&bob, "alice/hello", b""), (Some(0), b"hello".to_vec()));
    assert_eq!(pipe(&carol, "alice/hello", b""), (Some(4), Vec::new()));
}

#[test]
fn the_relays_of_a_trace_end_at_the_peer() {
    let (alice, bob) = alice_and_bob();
    let hops = bob.json("trace alice");
    let (last, status) = (hops.as_array().unwrap().last().unwrap(), alice.json("status"));
    assert_eq!((&last["node"], &last["address"]), (&status["node"], &status["address"]), "{hops}");
}

#[test]
fn a_connection_survives_flight_mode() {
    let (alice, bob) = alice_and_bob();
    alice.json(&format!("expose echo {} --allow anyone", echo_service()));
    let local: SocketAddr =
        bob.json("connect alice/echo --listen 127.0.0.1:0")["listen"].as_str().unwrap().parse().unwrap();
    let mut application = TcpStream::connect(local).unwrap();
    application.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 6];
    application.write_all(b"before").unwrap();
    application.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"before");

    bob.json("network down");
    application.write_all(b"during").unwrap();
    application.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert!(application.read(&mut answer).is_err(), "a byte came through a network that is down");
    bob.json("network up --bind 127.0.0.2");
    application.set_read_timeout(Some(PATIENCE)).unwrap();
    application.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"during");
    application.shutdown(Shutdown::Write).unwrap();
    assert_eq!(application.read(&mut answer).unwrap(), 0, "the end arrives as an end");
}

#[test]
fn a_restarted_node_resumes_its_overlay_and_its_services() {
    let (mut alice, mut bob) = alice_and_bob();
    alice.json(&format!("expose echo {} --allow bob", echo_service()));
    let before = alice.json("status");
    assert_eq!(alice.muses("down").status.code(), Some(0));
    assert_eq!(alice.wait(), Some(0));
    assert!(alice.said().contains("founded the overlay"));
    alice.restart(&["--name", "alice"]);
    let after = alice.json_when("status", |status| status["address"].is_string());
    for field in ["node", "overlay", "services"] {
        assert_eq!(before[field], after[field], "{field}");
    }

    // Bob's folder belongs to that overlay now.
    assert_eq!(bob.muses("down").status.code(), Some(0));
    bob.wait();
    let said = bob.said();
    assert!(said.contains("joined the overlay") && said.contains("pinned"), "{said}");
    assert_eq!(alice.muses("down").status.code(), Some(0));
    let carol = Node::start(&["--name", "carol"]);
    let refused = bob.muses(&format!("up --listen /ip4/127.0.0.1/tcp/0 --join {}", carol.invite()));
    assert_eq!(refused.status.code(), Some(8), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("belongs to another overlay") && stderr(&refused).lines().count() == 1,
        "{}",
        stderr(&refused)
    );
    let other = overlay::id::OverlayId::of_genesis(b"another");
    std::fs::write(bob.folder.path().join("config.toml"), format!("[overlay]\nid = '{other}'\n")).unwrap();
    let refused = bob.muses("up --listen /ip4/127.0.0.1/tcp/0");
    assert_eq!(refused.status.code(), Some(8), "{}", stderr(&refused));
    assert_eq!(stderr(&refused).lines().count(), 1, "{}", stderr(&refused));
}

/// A service that says back what it hears, and ends when its client does.
fn echo_service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut &socket, &mut &socket);
                let _ = socket.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

fn exchange(at: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let socket = TcpStream::connect(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&socket).write_all(sent).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        });
        (&socket).read_to_end(&mut received).unwrap();
    });
    received
}

fn pipe(node: &Node, target: &str, input: &[u8]) -> (Option<i32>, Vec<u8>) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_muses"))
        .args(["pipe", target, "--data-dir"])
        .arg(node.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || _ = stdin.write_all(&input));
    let output = process.wait_with_output().unwrap();
    writer.join().unwrap();
    if !output.status.success() {
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
    (output.status.code(), output.stdout)
}
