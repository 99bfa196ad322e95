//! How many signatures a neighbour can have a node check.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex};

use common::{Net, identity};
use overlay::address::{FIRST_TREE, TreeId};
use overlay::config::Config;
use overlay::grant::{Grant, GrantChain};
use overlay::id::{CheckSignatures, NodeId, Signature};
use overlay::overlay::Overlay;
use overlay::record::SignedRecord;
use overlay::wire::link::{Ask, BeaconFrame, Chain, Frame, Proof};
use overlay::wire::packet::{Header, Kind};

/// What a link may cost at once, and what is checked beside that.
const AT_ONCE: usize = 600;
/// Keys that nobody runs a node with.
const MADE_UP: usize = 1000;
const NODE: usize = 2;

#[derive(Default)]
struct Counted(AtomicUsize);

impl CheckSignatures for Counted {
    fn check(&self, signer: &NodeId, message: &[u8], signature: &Signature) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        signer.verify(message, signature)
    }
}

/// The founder, 1 below it and [`NODE`] below that, whose checks are counted.
fn row() -> (Net, Arc<Counted>) {
    let mut net = Net::new(1);
    net.add(Config { extra_links: 0, ..Config::default() });
    for n in 0..NODE {
        let config = Config { extra_links: 0, ..net.joining(&[n]) };
        net.add(config);
        net.run(Duration::from_secs(2));
    }
    net.run(Duration::from_secs(20));
    assert_eq!(net.node(NODE).parent(), Some(net.id(1)));
    let counted = Arc::new(Counted::default());
    let checks = Arc::clone(&counted);
    net.with(NODE, |overlay, _| overlay.set_signature_checks(checks));
    (net, counted)
}

/// What `read` made of the last frame that it could, from now on.
fn latest<T: 'static>(net: &mut Net, read: impl Fn(&[u8]) -> Option<T> + 'static) -> Arc<Mutex<Option<T>>> {
    let latest = Arc::new(Mutex::new(None));
    let keeps = Arc::clone(&latest);
    net.tap = Some(Box::new(move |_, _, bytes| {
        if let Some(heard) = read(&bytes) {
            *keeps.lock().unwrap() = Some(heard);
        }
        bytes
    }));
    latest
}

fn says(net: &mut Net, frames: impl IntoIterator<Item = Frame>) {
    for frame in frames {
        net.hears_from(NODE, 1, frame.encode()).unwrap();
    }
}

/// Grants down to 1, of which those between begin with the `from`th made-up key.
fn chain(from: usize, grants: usize) -> Frame {
    let way: Vec<usize> = [0].into_iter().chain((1..grants).map(|n| MADE_UP + from + n)).chain([1]).collect();
    let epoch = from as u64 + 1;
    let grant = |pair: &[usize]| Grant::sign(&identity(pair[0]), identity(pair[1]).id(), FIRST_TREE, 0, epoch, 600);
    let chain = way.windows(2).map(grant).fold(GrantChain::default(), GrantChain::extended);
    Frame::Chain(Chain { tree: FIRST_TREE, chain: chain.to_bytes() })
}

#[test]
fn a_chain_is_checked_once() {
    let (mut net, counted) = row();
    let frame = chain(0, 99);
    says(&mut net, (0..10_000).map(|_| frame.clone()));
    let checks = counted.0.load(Ordering::Relaxed);
    assert!((1..AT_ONCE).contains(&checks), "{checks} checks");
}

#[test]
fn ever_new_chains_are_not_all_checked() {
    let (mut net, counted) = row();
    says(&mut net, (0..40).map(|n| chain(n * 50, 50)));
    let checks = counted.0.load(Ordering::Relaxed);
    assert!((1..AT_ONCE).contains(&checks), "{checks} checks");
    assert!(net.node(NODE).counters().dropped_unchecked > 0);
    // Its budget fills again, and its link was not closed.
    net.run(Duration::from_secs(60));
    assert!(net.node(NODE).neighbours().iter().any(|neighbour| neighbour.id == net.id(1)), "{}", net.picture());
    net.assert_whole();
}

#[test]
fn a_place_that_is_falsely_claimed_to_be_given_here_is_checked_for_a_while() {
    let (mut net, counted) = row();
    let forged = |n: u64| {
        let mut grant = Grant::sign(&identity(NODE), identity(1).id(), FIRST_TREE, 0, n, 600).to_bytes();
        *grant.last_mut().unwrap() ^= 1;
        Frame::Ask(Ask { tree: FIRST_TREE, chain: grant, no_other: false })
    };
    says(&mut net, (0..10_000).map(forged));
    let checks = counted.0.load(Ordering::Relaxed);
    assert!(checks < AT_ONCE, "{checks} checks");
}

/// Who sends a packet says itself who it is from, and a walk that goes down ends at a node without children, whatever its key is.
#[test]
fn ever_new_records_in_packets_are_not_all_checked() {
    let (mut net, counted) = row();
    // What a walk asks for, and the record at its end.
    let latest = latest(&mut net, |bytes| {
        let (header, at) = Header::decode(bytes).ok().filter(|(header, _)| header.kind == Kind::DhtWalk)?;
        let record = (at..bytes.len()).find(|at| SignedRecord::verify(&bytes[*at..]).is_ok())?;
        Some((header, bytes[at..].to_vec(), record - at))
    });
    net.with(1, |overlay, now| overlay.publish_node(vec![8; 90], now));
    net.run(Duration::from_secs(2));
    let (mut header, put, record) = latest.lock().unwrap().take().expect("a record was put");
    header.down = true;
    let before = counted.0.load(Ordering::Relaxed);
    let forged = |n: u32| {
        let mut put = put.clone();
        put.last_chunk_mut::<4>().unwrap().copy_from_slice(&n.to_be_bytes());
        put
    };
    for n in 0..10_000 {
        net.hears_from(NODE, 1, header.with_payload(&forged(n))).unwrap();
    }
    let checks = counted.0.load(Ordering::Relaxed) - before;
    assert!((1..AT_ONCE).contains(&checks), "{checks} checks");
    assert!(net.node(NODE).counters().dropped_unchecked > 0);
    // What the neighbour says itself is checked all the same.
    let before = counted.0.load(Ordering::Relaxed);
    says(&mut net, [chain(0, 50)]);
    assert!(counted.0.load(Ordering::Relaxed) > before, "repairs wait for others' packets");
    // So does who tells where a child of its has moved.
    net.with(1, |overlay, _| overlay.set_signature_checks(Arc::clone(&counted) as Arc<_>));
    let before = counted.0.load(Ordering::Relaxed);
    for n in 0..10_000 {
        let moved = Header::new(Kind::Moved, net.id(NODE), net.place(NODE), net.id(1), net.place(1), 0);
        net.hears_from(1, 0, moved.with_payload(&forged(n)[record..])).unwrap();
    }
    let checks = counted.0.load(Ordering::Relaxed) - before;
    assert!((1..AT_ONCE).contains(&checks), "{checks} checks");
}

#[test]
fn old_beacons_are_not_checked() {
    let mut net = Net::grow(1, 8);
    let tree = TreeId::ALL[1];
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keeps = Arc::clone(&heard);
    let (node, from) = (7, net.index(net.node(7).neighbours()[0].id));
    net.tap = Some(Box::new(move |_, to, bytes| {
        match Frame::decode(&bytes) {
            Ok(Frame::Beacon(frame)) if to == node && frame.beacon[32] == tree.get() => {
                keeps.lock().unwrap().push(frame.beacon);
            }
            _ => {}
        }
        bytes
    }));
    net.run(Duration::from_secs(120));
    let counted = Arc::new(Counted::default());
    let checks = Arc::clone(&counted);
    net.with(node, |overlay, _| overlay.set_signature_checks(checks));
    let old = heard.lock().unwrap().clone();
    assert!(old.len() > 10);
    net.run(Duration::from_secs(2));
    let before = counted.0.load(Ordering::Relaxed);
    for beacon in old.iter().take(old.len() - 2).cycle().take(10_000) {
        net.hears_from(node, from, Frame::Beacon(BeaconFrame { age_ms: 0, beacon: beacon.clone() }).encode()).unwrap();
    }
    assert_eq!(counted.0.load(Ordering::Relaxed), before);
}

#[test]
fn who_is_guilty_is_not_convicted_again() {
    let (mut net, counted) = row();
    let proof = |n: u64| {
        let grant = |child: u8| {
            Grant::sign(&identity(MADE_UP), NodeId::from_bytes([child; 32]), FIRST_TREE, 3, n, 600).to_bytes()
        };
        Frame::Proof(Proof { one: grant(1), other: grant(2) })
    };
    says(&mut net, (0..10_000).map(proof));
    assert_eq!(counted.0.load(Ordering::Relaxed), 2);
}

/// The titles of before, with a signature that would close the link.
#[test]
fn old_titles_are_not_checked() {
    let (mut net, _) = row();
    let latest = latest(&mut net, |bytes| match Frame::decode(bytes) {
        Ok(Frame::Titles(titles)) => Some(titles),
        _ => None,
    });
    net.with(1, Overlay::handle_interruption);
    net.run(Duration::from_secs(5));
    let mut titles = latest.lock().unwrap().take().unwrap();
    // One number less.
    let at = (32..40).rev().find(|at| titles[*at] > 0).unwrap();
    titles[at] -= 1;
    says(&mut net, [Frame::Titles(titles)]);
}
