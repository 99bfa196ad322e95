//! `muses invite` has its own addresses tried by neighbours, and says what came of it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use common::{Node, stderr};
use serde_json::Value;

/// As the neighbour answers within a minute.
const MAX_ASKS: usize = 6;

#[test]
fn an_invite_says_who_reached_this_node_and_that_there_was_nobody_to_ask() {
    let alice = founder();
    let alone = alice.json("invite");
    assert_eq!((&alone["asked"], outcomes(&alone)), (&0.into(), rows(&[(&own(&alice), "untested", None)])), "{alone}");
    assert!(said(&alice).contains("nobody to ask whether others reach this node"));

    let bob = Node::start(&["--join", &alice.invite()]);
    let by_bob = bob.json_when("status", |status| status["address"].is_string())["node"].as_str().unwrap().to_owned();
    // The person's own invites and these asks are the same: Bob answers so many within a minute.
    for _ in 0..MAX_ASKS {
        let invite = alice.json_when("invite", |invite| invite["asked"] == 1);
        assert_eq!(outcomes(&invite), rows(&[(&own(&alice), "reached", Some(&by_bob))]), "{invite}");
    }
    let too_often = alice.json("invite");
    assert_eq!((&too_often["asked"], outcomes(&too_often)), (&1.into(), rows(&[(&own(&alice), "untested", None)])));
    let back = said(&bob);
    assert!(back.contains(": reached by ") && !back.contains("nobody to ask"), "{back}");
    assert_eq!(alice.json("peers").as_array().unwrap().len(), 1, "being dialled is no link");
}

#[test]
fn behind_a_router_it_is_found_out_whether_the_port_is_forwarded() {
    let alice = founder();
    let listens: SocketAddr = {
        let address = own(&alice);
        let mut parts = address.split('/').skip(2).step_by(2);
        format!("{}:{}", parts.next().unwrap(), parts.next().unwrap()).parse().unwrap()
    };
    // What others see of Alice: an address at which she does not listen. Bob came through some other port of it.
    let router = TcpListener::bind("127.0.0.5:0").unwrap();
    let way_in = router.local_addr().unwrap();
    forward(router, listens);
    let id = alice.json("status")["node"].as_str().unwrap().to_owned();
    let bob = Node::start(&["--join", &format!("/ip4/127.0.0.5/tcp/{}/p2p/{id}", way_in.port())]);
    let bob = bob.json_when("status", |status| status["address"].is_string())["node"].as_str().unwrap().to_owned();

    let outside = format!("/ip4/127.0.0.5/tcp/{}", listens.port());
    let closed = alice.json("invite");
    let expected = rows(&[(&own(&alice), "untested", None), (&outside, "failed", Some(&bob))]);
    assert_eq!(outcomes(&closed), expected, "{closed}");
    assert_eq!(closed["addresses"], serde_json::json!([own(&alice)]));
    let text = said(&alice);
    assert!(text.contains(&format!("{outside}: not reached, {bob} has tried")), "{text}");
    assert!(text.contains("caution: nobody reaches this node; let TCP port"), "{text}");

    forward(TcpListener::bind(("127.0.0.5", listens.port())).unwrap(), listens);
    let open = alice.json("invite");
    let expected = rows(&[(&own(&alice), "untested", None), (&outside, "reached", Some(&bob))]);
    assert_eq!(outcomes(&open), expected, "{open}");
    let addresses = open["addresses"].as_array().unwrap();
    assert!(addresses.contains(&outside.into()) && addresses.contains(&own(&alice).into()), "a guest needs it: {open}");
}

fn founder() -> Node {
    let alice = Node::start(&["--name", "alice"]);
    alice.json_when("status", |status| status["listen"][0].is_string() && status["address"].is_string());
    alice
}

/// Where a node listens.
fn own(node: &Node) -> String {
    let listen = node.json("status")["listen"][0].as_str().unwrap().to_owned();
    listen.split("/p2p/").next().unwrap().to_owned()
}

fn said(node: &Node) -> String {
    stderr(&node.muses("invite"))
}

type Row = (String, String, Option<String>);

fn rows(rows: &[(&str, &str, Option<&str>)]) -> Vec<Row> {
    rows.iter().map(|(at, outcome, by)| ((*at).to_owned(), (*outcome).to_owned(), by.map(str::to_owned))).collect()
}

fn outcomes(invite: &Value) -> Vec<Row> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let row = |trial: &Value| (text(&trial["address"]).unwrap(), text(&trial["outcome"]).unwrap(), text(&trial["by"]));
    invite["trials"].as_array().unwrap().iter().map(row).collect()
}

/// Carries each connection to `to`, both ways.
fn forward(listener: TcpListener, to: SocketAddr) {
    std::thread::spawn(move || {
        for outer in listener.incoming().flatten() {
            let Ok(inner) = TcpStream::connect(to) else { continue };
            for (mut from, mut to) in [
                (outer.try_clone().unwrap(), inner.try_clone().unwrap()),
                (inner.try_clone().unwrap(), outer.try_clone().unwrap()),
            ] {
                std::thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
}
