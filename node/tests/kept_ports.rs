//! `muses connect --keep`: a local port that each start of the node makes anew, until it is closed.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use common::{Node, alice_and_bob, dead_port, greeter, is_refusal, until};
use serde_json::{Value, json};

#[test]
fn a_kept_port_is_there_after_each_start_until_it_is_closed() {
    let (alice, mut bob) = alice_and_bob();
    alice.json(&format!("expose web {} --allow bob", greeter(b"web")));
    let socket = bob.folder.path().join("web");
    let kept = bob.json("connect alice/web --listen 127.0.0.1:0 --keep --only-me")["listen"].clone();
    let unix = bob.json(&format!("connect alice/web --listen unix:{} --keep", socket.display()))["listen"].clone();
    let passing = bob.json("connect alice/web --listen 127.0.0.1:0")["listen"].clone();
    let kept = kept.as_str().unwrap();
    // Once more is no mistake, and one that is open already can be kept from now on.
    assert_eq!(bob.json(&format!("connect alice/web --listen {kept} --keep --only-me"))["listen"], kept);
    is_refusal(&bob.muses(&format!("connect alice/web --listen {kept} --keep")), 9, &["leads to alice/web already"]);
    let later = bob.json("connect alice/web --listen 127.0.0.1:0")["listen"].as_str().unwrap().to_owned();
    bob.json(&format!("connect alice/web --listen {later} --keep"));
    // Nothing is said at the end: what was typed is on disk.
    bob.process.kill().unwrap();
    bob.wait();
    bob.restart(&[]);
    assert!(TcpStream::connect(passing.as_str().unwrap()).is_err(), "not kept");
    assert_eq!(bob.json(&format!("disconnect {later}"))["closed"], json!([later]));
    until("alice's service answers", || {
        let mut heard = String::new();
        TcpStream::connect(kept).unwrap().read_to_string(&mut heard).is_ok() && heard == "web"
    });
    let mut heard = String::new();
    UnixStream::connect(&socket).unwrap().read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "web");
    assert_eq!(rows(&bob, "kept"), rows(&bob, "connects"));
    let shown = String::from_utf8(bob.muses("status").stdout).unwrap();
    assert!(shown.contains(&format!("{kept} = alice/web (kept)\n")), "{shown}");

    assert_eq!(bob.json(&format!("disconnect {kept}"))["closed"], json!([kept]));
    assert_eq!(rows(&bob, "kept"), rows(&bob, "connects"));
    assert_eq!(bob.json("disconnect alice/web")["closed"], json!([unix]));
    is_refusal(&bob.muses("disconnect alice/web"), 2, &["no local port"]);
    bob.json("down");
    bob.wait();
    bob.restart(&[]);
    assert_eq!((rows(&bob, "kept"), rows(&bob, "connects")), (vec![], vec![]));
}

#[test]
fn a_kept_port_that_cannot_be_opened_at_the_start_is_opened_when_it_can() {
    let (_alice, mut bob) = alice_and_bob();
    let [first, second] = [dead_port(), dead_port()];
    for port in [first, second] {
        bob.json(&format!("connect alice/web --listen {port} --keep"));
    }
    bob.json("down");
    bob.wait();
    let [other, another] = [first, second].map(|port| TcpListener::bind(port).unwrap());
    bob.restart(&[]);
    assert_eq!((rows(&bob, "kept").len(), rows(&bob, "connects")), (2, vec![]));
    let shown = String::from_utf8(bob.muses("status").stdout).unwrap();
    assert!(shown.contains(&format!("{second} = alice/web (kept; not open now")), "{shown}");
    // One that is not open can be given up as well.
    assert_eq!(bob.json(&format!("disconnect {first}"))["closed"], json!([first.to_string()]));
    drop((other, another));
    bob.json_when("status", |status| status["connects"] == json!([format!("{second} = alice/web")]));
    assert!(TcpStream::connect(second).is_ok());
    assert!(TcpStream::connect(first).is_err(), "given up");
}

/// A list of the status.
fn rows(node: &Node, field: &str) -> Vec<Value> {
    let mut rows = node.json("status")[field].as_array().unwrap().clone();
    rows.sort_by_key(Value::to_string);
    rows
}
