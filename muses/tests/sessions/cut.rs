//! A session that one side ends for good.

use muses::event::ResetReason;

use crate::pair::{A, App, B, MS, Pair, SECOND};

/// A stream from A to B that is open and quiet.
fn quiet(seed: u8) -> Pair {
    let mut pair = Pair::new(seed);
    pair.nodes[B].serve = Some(|| App { read_until: u64::MAX, ..App::default() });
    pair.open(A, App { finish: false, ..App::sending(10) });
    pair.run_until(SECOND, |p| p.nodes[B].apps.values().any(|app| app.read == 10)).unwrap();
    pair.run(SECOND);
    pair
}

fn cut(pair: &mut Pair) {
    let peer = pair.nodes[A].id;
    assert!(pair.nodes[B].sessions.cut(peer, pair.now));
    assert!(!pair.nodes[B].sessions.cut(peer, pair.now), "there is nothing left to cut");
    pair.settle();
    assert_eq!(pair.nodes[B].sessions.sessions().count(), 0);
    assert!(pair.nodes[B].apps.values().all(|app| app.closed), "a stream of no session");
}

#[test]
fn the_peer_is_told_by_the_path() {
    let mut pair = quiet(1);
    cut(&mut pair);
    pair.run_until(500 * MS, |p| p.nodes[A].app().reset == Some(ResetReason::Application)).unwrap();
    // That the session is none it learns when it asks for the next stream; after that it may shake hands anew.
    let asks = pair.open(A, App::sending(10));
    pair.run_until(60 * SECOND, |p| p.nodes[A].apps[&asks].reset == Some(ResetReason::Restarted)).unwrap();
    let back = pair.open(A, App::sending(10));
    pair.run_until(SECOND, |p| p.nodes[A].apps[&back].accepted).unwrap();
}

#[test]
fn a_peer_that_was_away_is_told_when_it_asks() {
    let mut pair = quiet(2);
    pair.detach(A);
    pair.run(15 * SECOND);
    cut(&mut pair);
    assert!(pair.nodes[A].app().reset.is_none());
    pair.attach(A, "place-2");
    pair.run_until(10 * SECOND, |p| p.nodes[A].app().reset == Some(ResetReason::Restarted)).unwrap();
}

#[test]
fn it_is_not_in_the_store_any_more() {
    let mut pair = quiet(3);
    cut(&mut pair);
    pair.restart(B);
    assert_eq!(pair.nodes[B].sessions.sessions().count(), 0);
}
