//! Closed overlays: who gets in, and who does not.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::{Net, identity};
use overlay::config::Config;
use overlay::event::Event;
use overlay::io::{CloseReason, LinkId};
use overlay::membership::{Admission, Enrolment, Rank, Secret};
use overlay::wire::link::Frame;

const SECRET: Secret = Secret([9; 16]);
const SOON: Duration = Duration::from_secs(3);

/// A closed overlay's founder.
fn closed() -> Net {
    let mut net = Net::new(1);
    net.add(Config { closed: true, ..Config::default() });
    net
}

/// A node that was invited by `inviter`.
fn guest(net: &mut Net, inviter: usize) -> usize {
    let enrolment = Some(Enrolment { inviter: net.id(inviter), secret: SECRET });
    let config = Config { enrolment, expected: net.node(0).overlay_id(), ..net.joining(&[inviter]) };
    net.add(config)
}

/// The link over which somebody asked `host`, and who.
fn asked(net: &Net, host: usize) -> Vec<(LinkId, overlay::id::NodeId)> {
    let asks = net.nodes[host].events.iter().filter_map(|(_, event)| match event {
        Event::GuestAsks { link, peer, secret } if *secret == SECRET => Some((*link, *peer)),
        _ => None,
    });
    asks.collect()
}

/// Has `host` answer the guest who came last.
fn answer(net: &mut Net, host: usize, admission: Admission) {
    net.run(SOON);
    let (link, peer) = *asked(net, host).last().unwrap();
    net.with(host, |overlay, now| overlay.admit(link, peer, admission, now));
    net.run(SOON);
}

fn is_in(net: &Net, n: usize) -> bool {
    net.node(n).place().is_some()
}

#[test]
fn a_guest_with_an_invite_becomes_a_member_and_stays_one() {
    let mut net = closed();
    let bob = guest(&mut net, 0);
    net.run(SOON);
    assert!(!is_in(&net, bob) && net.node(bob).overlay_id().is_none(), "before the answer");
    assert!(net.nodes[bob].disk.is_empty(), "nothing is pinned before");
    assert!(net.node(0).neighbours().is_empty());
    answer(&mut net, 0, Admission::Member);
    assert!(is_in(&net, bob));
    assert_eq!((net.node(0).rank(), net.node(bob).rank()), (Some(Rank::Founder), Some(Rank::Member)));

    // After a restart without the invite, also with another member.
    let carol = guest(&mut net, 0);
    answer(&mut net, 0, Admission::Member);
    net.nodes[bob].overlay = None;
    net.run(SOON);
    let only = vec![overlay::config::Only::Id(net.id(carol))];
    let config = Config { only, ..net.joining(&[carol]) };
    net.start(bob, config);
    net.run(Duration::from_secs(20));
    assert!(is_in(&net, bob));
    assert_eq!(net.node(bob).neighbours().iter().map(|n| n.id).collect::<Vec<_>>(), [net.id(carol)]);
    assert_eq!(asked(&net, 0).len(), 2, "nobody asked again");
}

#[test]
fn a_guest_who_finds_the_inviter_at_many_addresses_gets_in_at_once() {
    let mut net = closed();
    net.nodes[0].aliases = (0..7).map(|n| format!("/ip4/192.0.2.{n}/tcp/1").parse().unwrap()).collect();
    let joins = net.nodes[0].aliases.clone();
    let enrolment = Some(Enrolment { inviter: net.id(0), secret: SECRET });
    let bob = net.add(Config { joins, enrolment, ..Config::default() });
    answer(&mut net, 0, Admission::Member);
    assert!(is_in(&net, bob));
    assert_eq!(asked(&net, 0).len(), 1, "he asked over more than one link");
}

#[test]
fn a_stranger_is_refused_and_belongs_nowhere() {
    let mut net = closed();
    let config = net.joining(&[0]);
    let stranger = net.add(config);
    net.run(Duration::from_secs(60));
    assert!(!is_in(&net, stranger) && net.node(0).neighbours().is_empty());
    assert!(net.nodes[stranger].disk.is_empty(), "he is pinned to an overlay that he cannot enter");
    let overlay = net.node(0).overlay_id().unwrap();
    let told = Event::NoMember { peer: net.id(0), overlay };
    assert!(net.nodes[stranger].events.iter().any(|(_, event)| *event == told));
    assert!(asked(&net, 0).is_empty());
}

#[test]
fn an_invite_that_is_good_for_nothing_is_refused() {
    let mut net = closed();
    let late = guest(&mut net, 0);
    answer(&mut net, 0, Admission::Refused);
    assert!(!is_in(&net, late) && net.nodes[late].disk.is_empty());
    let told = Event::Refused { peer: net.id(0), reason: CloseReason::NotInvited, by_peer: true };
    assert!(net.nodes[late].events.iter().any(|(_, event)| *event == told));
}

#[test]
fn an_unanswered_guest_is_let_go_and_comes_again() {
    let mut net = closed();
    guest(&mut net, 0);
    net.run(Duration::from_secs(70));
    assert!((2..10).contains(&asked(&net, 0).len()), "{}", asked(&net, 0).len());
}

#[test]
fn only_whom_the_founder_names_admits_others() {
    let mut net = closed();
    let (inviter, member) = (guest(&mut net, 0), 2);
    answer(&mut net, 0, Admission::Inviter);
    assert_eq!(guest(&mut net, 0), member);
    answer(&mut net, 0, Admission::Member);
    assert_eq!((net.node(inviter).rank(), net.node(member).rank()), (Some(Rank::Inviter), Some(Rank::Member)));

    let admitted = guest(&mut net, inviter);
    answer(&mut net, inviter, Admission::Member);
    assert!(is_in(&net, admitted));
    let too_much = guest(&mut net, inviter);
    answer(&mut net, inviter, Admission::Inviter);
    assert!(!is_in(&net, too_much), "an inviter named an inviter");
    let lost = guest(&mut net, member);
    net.run(SOON);
    assert!(!is_in(&net, lost) && asked(&net, member).is_empty(), "a plain member was asked");
}

#[test]
fn the_secret_is_told_to_the_inviter_alone() {
    let mut net = closed();
    let enrolment = Some(Enrolment { inviter: identity(77).id(), secret: SECRET });
    let config = Config { enrolment, ..net.joining(&[0]) };
    let bob = net.add(config);
    net.run(Duration::from_secs(10));
    assert!(asked(&net, 0).is_empty() && !is_in(&net, bob));
}

#[test]
fn a_guest_may_say_nothing_but_his_secret() {
    for frame in [Frame::Probe(1), Frame::Enrolled(vec![1]), Frame::Titles(vec![1])] {
        let mut net = closed();
        guest(&mut net, 0);
        net.run(SOON);
        assert_eq!(net.hears(0, frame.encode()), Err(overlay::error::FrameError::OutOfPlace), "{frame:?}");
        net.run(SOON);
        assert!(net.node(0).neighbours().is_empty());
    }
}

#[test]
fn a_membership_of_another_overlay_or_node_opens_nothing() {
    let mut net = closed();
    let bob = guest(&mut net, 0);
    answer(&mut net, 0, Admission::Member);
    let shown = net.nodes[bob].disk["overlay/membership"].clone();
    let genesis = net.nodes[bob].disk["overlay/genesis"].clone();
    // Mallory has all that Bob has, but his key.
    let mut overlay = overlay::Overlay::new(Config::default(), identity(50), [1; 32], net.now);
    let stolen = [("overlay/genesis".to_owned(), genesis.clone()), ("overlay/membership".to_owned(), shown.clone())];
    assert!(overlay.restore(&stolen.into(), net.now).is_err(), "another node's membership");

    let config = net.joining(&[0]);
    let mallory = net.add(config);
    net.nodes[mallory].overlay = None;
    net.nodes[mallory].disk.insert("overlay/genesis".to_owned(), genesis);
    let config = net.joining(&[0]);
    net.start(mallory, config);
    net.run(Duration::from_secs(20));
    assert!(!is_in(&net, mallory));
    assert_eq!(net.node(0).neighbours().len(), 1);
}
