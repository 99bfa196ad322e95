//! Random faults, and whether the overlay is whole again some time after the last of them.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use multiaddr::Multiaddr;
use overlay::address::{Address, AddressSet, Place, TreeId};
use overlay::config::Config;
use overlay::io::{CloseReason, Command, Lane, LinkId};
use overlay::rng::Rng;
use overlay::time::{Instant, Now, WallTime};
use overlay::wire::link::{Advert, Frame};
use overlay::wire::packet::{Header, Kind};
use overlay::{Overlay, error::FrameError};

/// Kills, silent or not, restarts and moves of any node, the founder included, until all are there again; then the same without the founder.
fn storm(seed: u8, nodes: u64, faults: usize) {
    let mut net = Net::grow(seed, usize::try_from(nodes).unwrap());
    net.assert_whole();
    let mut rng = Rng::from_seed([seed ^ 0x5a; 32]);
    break_and_mend(&mut net, &mut rng, 0, faults);
    net.kill(0, false);
    net.run(Duration::from_secs(60));
    net.assert_whole();
    break_and_mend(&mut net, &mut rng, 1, faults / 2);
}

/// So many faults of nodes from `first` on; then those are started again, and everything works.
fn break_and_mend(net: &mut Net, rng: &mut Rng, first: usize, faults: usize) {
    for fault in 0..faults {
        let n = first + usize::try_from(rng.below(u64::try_from(net.nodes.len() - first).unwrap())).unwrap();
        let up = net.nodes[n].overlay.is_some();
        match rng.below(4) {
            0 if up => net.kill(n, rng.below(2) == 0),
            1 if up => {
                net.network_down(n);
                net.run(Duration::from_millis(rng.below(20_000)));
                let elsewhere: Multiaddr = format!("/ip4/10.8.{first}.{fault}/tcp/4001").parse().unwrap();
                net.network_up(n, elsewhere);
            }
            _ if !up => net.start(n, Config { joins: vec![common::address(first)], ..Config::default() }),
            _ => {}
        }
        net.run(Duration::from_millis(rng.below(12_000)));
    }
    for n in first..net.nodes.len() {
        if net.nodes[n].overlay.is_none() {
            net.start(n, Config::default());
        }
    }
    net.run(Duration::from_secs(90));
    net.assert_whole();
    net.assert_all_pairs_route();
    for n in net.alive() {
        net.assert_resolvable(n);
    }
}

#[test]
fn an_overlay_is_whole_again_after_any_faults() {
    let (first, count) = (seed_from("OVERLAY_SEED", 0), seed_from("OVERLAY_SEEDS", 6));
    for seed in first..first.saturating_add(count) {
        println!("seed {seed}");
        storm(seed, 8, 8);
    }
}

/// An heir that was away minds the root again. One of the orphans hears that from it, and asks it for any place, and then from the heir that minded the root meanwhile, and asks it to be
/// adopted: both answers come.
#[test]
fn who_is_given_a_place_and_adopted_at_the_same_time_has_one_place() {
    storm(28, 8, 8);
}

#[allow(clippy::disallowed_methods)] // a test reads how much it shall do
fn seed_from(name: &str, default: u8) -> u8 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn now() -> Now {
    Now { instant: Instant::from_micros(5), wall: WallTime::from_unix_micros(1_700_000_000_000_000) }
}

/// A founder with one link, which has been greeted if `greeted`.
fn founder(greeted: bool) -> Overlay {
    let mut overlay = Overlay::new(Config::default(), common::identity(0), [1; 32], now());
    overlay.start(now()).unwrap();
    let remote: Multiaddr = "/ip4/10.0.0.9/tcp/5".parse().unwrap();
    overlay.handle_link_up(LinkId(1), common::identity(1).id(), remote, false, now());
    if greeted {
        let frame = Frame::Hello(common::strangers_hello()).encode();
        assert_eq!(overlay.handle_frame(LinkId(1), Lane::Control, frame, now()), Ok(()));
    }
    while overlay.poll_command().is_some() {}
    overlay
}

#[test]
fn improper_frames_close_the_link_and_are_counted() {
    let cases: Vec<(bool, Lane, Vec<u8>, FrameError)> = vec![
        (true, Lane::Control, Vec::new(), FrameError::Malformed),
        (true, Lane::Control, vec![0xff; 40], FrameError::Malformed),
        (true, Lane::Control, vec![0x81; 40], FrameError::Malformed),
        (true, Lane::Control, vec![0; Lane::Control.max_frame_bytes() + 1], FrameError::Oversized),
        (true, Lane::Data, vec![0x10; 60], FrameError::Malformed),
        (true, Lane::Data, vec![0x8c, 0], FrameError::OutOfPlace),
        (false, Lane::Control, vec![0x8c, 0], FrameError::OutOfPlace),
    ];
    for (greeted, lane, frame, error) in cases {
        let mut overlay = founder(greeted);
        assert_eq!(overlay.handle_frame(LinkId(1), lane, frame.clone(), now()), Err(error), "{frame:?}");
        assert_eq!(overlay.poll_command(), Some(Command::Close(LinkId(1), CloseReason::Malformed)));
        assert_eq!(overlay.counters().bad_frames, 1);
        assert!(overlay.place().is_some(), "the node lives");
        assert_eq!(overlay.handle_frame(LinkId(1), lane, frame, now()), Err(FrameError::UnknownLink));
    }
}

#[test]
fn random_and_mutated_frames_never_panic() {
    let mut rng = Rng::from_seed([3; 32]);
    let mut overlay = founder(true);
    let mut link = 1;
    for round in 0..20_000_u64 {
        let mut frame: Vec<u8> = (0..rng.below(200)).map(|_| u8::try_from(rng.below(256)).unwrap()).collect();
        if let Some(first) = frame.first_mut() {
            *first = [0x80 | (round % 16) as u8, 0x10 | (round % 8) as u8][usize::from(rng.below(2) == 0)];
        }
        let lane = if rng.below(2) == 0 { Lane::Control } else { Lane::Data };
        if overlay.handle_frame(LinkId(link), lane, frame, now()).is_err() {
            link += 1;
            let remote: Multiaddr = "/ip4/10.0.0.9/tcp/5".parse().unwrap();
            overlay.handle_link_up(LinkId(link), common::identity(1).id(), remote, false, now());
        }
        while overlay.poll_command().is_some() || overlay.poll_event().is_some() {}
    }
    assert!(overlay.place().is_some());
}

/// A founder at the root, with this neighbour at each of two places.
fn founder_with_neighbours() -> Overlay {
    let mut overlay = founder(true);
    let remote: Multiaddr = "/ip4/10.0.0.8/tcp/5".parse().unwrap();
    overlay.handle_link_up(LinkId(2), common::identity(2).id(), remote, false, now());
    overlay.handle_frame(LinkId(2), Lane::Control, Frame::Hello(common::strangers_hello()).encode(), now()).unwrap();
    for link in [1, 2] {
        overlay.handle_link_room(LinkId(link), Lane::Control, usize::MAX >> 1, now());
        overlay.handle_link_room(LinkId(link), Lane::Data, usize::MAX >> 1, now());
        let addresses = AddressSet::single(format!("/{link}").parse().unwrap());
        let advert = Advert { place: Place { addresses, seq: 1 }.to_bytes(), ..Advert::default() };
        overlay.handle_frame(LinkId(link), Lane::Control, Frame::Advert(advert).encode(), now()).unwrap();
    }
    while overlay.poll_transmit().is_some() {}
    overlay
}

#[test]
fn a_header_filled_to_the_brim_does_not_part_honest_nodes() {
    let mut passed_on = 0;
    for depth in 0..=12 {
        let word = |depth| Address::from_ordinals(&vec![200; depth]).unwrap();
        let [first, second, ..] = TreeId::ALL;
        let to = Place { addresses: AddressSet::single("/5/0/0".parse().unwrap()), seq: 1 };
        let return_place = Place { addresses: AddressSet::single("/1".parse().unwrap()), seq: 1 };
        let (src, dst) = (common::identity(1).id(), common::identity(9).id());
        let mut header = Header::new(Kind::Data, src, return_place, dst, to, 1);
        header.hints = vec![AddressSet::of(first, word(255)); 4];
        header.hints[3].insert(second, word(depth));
        // Nobody is nearer than who sent it: the packet has to go around, and its header tells where it was.
        header.last = 0.0;
        let packet = header.with_payload(b"");
        let mut overlay = founder_with_neighbours();
        // The founder itself refuses the longest.
        if overlay.handle_frame(LinkId(1), Lane::Data, packet, now()).is_err() {
            continue;
        }
        while let Some(transmit) = overlay.poll_transmit() {
            if transmit.lane == Lane::Data {
                let decoded = Header::decode(&transmit.bytes);
                assert!(decoded.is_ok(), "{} bytes: the next node closes the link", transmit.bytes.len());
                passed_on += 1;
            }
        }
    }
    assert!(passed_on > 0, "others are passed on");
}

/// Their owners put them again within hours in a large overlay, so a binder that starts again is to have them.
#[test]
fn what_a_node_keeps_for_others_is_there_after_a_restart() {
    let mut net = Net::grow(9, 12);
    net.run(Duration::from_mins(6));
    let kept = |net: &Net, n: usize| (net.node(n).records(), net.node(n).replicas());
    let binder = (1..12).max_by_key(|n| kept(&net, *n)).unwrap();
    let before = kept(&net, binder);
    assert!(before.1 > 3, "{before:?}");
    net.kill(binder, false);
    net.run(Duration::from_secs(1));
    net.start(binder, Config::default());
    assert_eq!(kept(&net, binder), before);
    // After an orderly end it does not come back with what it has handed over.
    net.run(Duration::from_secs(20));
    net.with(binder, |overlay, now| overlay.leave(now));
    net.run(Duration::from_secs(2));
    net.start(binder, Config::default());
    assert!(kept(&net, binder).1 < before.1, "{before:?}");
}
