//! Names: first come, first served, whoever joins and whatever was refused.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use overlay::config::Config;
use overlay::dht::LookupResult;
use overlay::event::Event;
use overlay::overlay::Overlay;
use overlay::record::Query;

/// Who has the name, for everybody who asks now.
fn holders(net: &mut Net, name: &str) -> Vec<overlay::id::NodeId> {
    let asked = net.alive();
    let query = Query::Name(name.parse().unwrap());
    let mut holders: Vec<_> = asked
        .into_iter()
        .filter_map(|n| match net.lookup(n, query.clone()) {
            LookupResult::Found(record) => Some(record.signer()),
            _ => None,
        })
        .collect();
    holders.sort_unstable();
    holders.dedup();
    holders
}

fn told(net: &Net, n: usize) -> (usize, usize) {
    let count = |which: fn(&Event) -> bool| net.events(n).filter(|event| which(event)).count();
    (
        count(|event| matches!(event, Event::Stored(Query::Name(_)))),
        count(|event| matches!(event, Event::Conflict { .. })),
    )
}

/// A claim that was refused must not be the first to reach the binders that come with new members.
#[test]
fn a_refused_name_stays_with_its_holder_whoever_joins() {
    for seed in 0..12 {
        let mut net = Net::new(seed);
        net.add(Config::default());
        net.with(0, |overlay, now| overlay.claim_name("alice".parse().unwrap(), now));
        let config = net.joining(&[0]);
        net.add(config);
        net.run(Duration::from_secs(5));
        net.with(1, |overlay, now| overlay.claim_name("alice".parse().unwrap(), now));
        net.run(Duration::from_millis(600));
        assert_eq!(told(&net, 1), (0, 1), "seed {seed}: it is told");
        for _ in 0..4 {
            let config = net.joining(&[0, 1]);
            net.add(config);
            net.run(Duration::from_millis(700));
        }
        net.run(Duration::from_secs(40));
        assert_eq!(holders(&mut net, "alice"), [net.id(0)], "seed {seed}");
        assert_eq!(told(&net, 0), (1, 0), "seed {seed}: nobody disputes it");
    }
}

/// Whoever joins with a name that is taken, and is the binder of it from then on, has heard of nobody yet.
#[test]
fn a_newcomer_takes_nobodys_name() {
    for (seed, before) in (0..16).flat_map(|seed| [(seed, 1), (seed, 2), (seed, 4)]) {
        let mut net = Net::new(seed);
        net.add(Config::default());
        net.with(0, |overlay, now| overlay.claim_name("alice".parse().unwrap(), now));
        for _ in 1..before {
            let config = net.joining(&[0]);
            net.add(config);
        }
        net.run(Duration::from_secs(45));
        let thief = net.alive().len();
        let config = net.joining(&[0]);
        net.add(config);
        net.with(thief, |overlay, now| overlay.claim_name("alice".parse().unwrap(), now));
        for _ in 0..3 {
            net.run(Duration::from_millis(2300));
            let config = net.joining(&[0, thief]);
            net.add(config);
        }
        net.run(Duration::from_secs(100));
        assert_eq!(holders(&mut net, "alice"), [net.id(0)], "seed {seed}, {before} before");
        assert_eq!((told(&net, 0), told(&net, thief)), ((1, 0), (0, 1)), "seed {seed}, {before} before");
    }
}

/// A name stays with a node that is off for a while: its binders keep the claim.
#[test]
fn a_name_is_not_free_because_its_holder_has_left() {
    for seed in 0..12 {
        let mut net = Net::grow(seed, 4);
        net.with(2, |overlay, now| overlay.claim_name("alice".parse().unwrap(), now));
        net.run(Duration::from_secs(5));
        net.with(2, Overlay::leave);
        net.run(Duration::from_secs(2));
        let config = net.joining(&[0]);
        let newcomer = net.add(config);
        net.with(newcomer, |overlay, now| overlay.claim_name("alice".parse().unwrap(), now));
        net.run(Duration::from_secs(100));
        assert_eq!(told(&net, newcomer), (0, 1), "seed {seed}");
    }
}

/// Two claim the same name before either has heard of the other; one has it in the end, and the other is told.
#[test]
fn of_two_claims_at_once_one_stands() {
    for seed in 0..12 {
        let mut net = Net::grow(seed, 12);
        for n in [3, 8] {
            net.with(n, |overlay, now| overlay.claim_name("alice".parse().unwrap(), now));
        }
        net.run(Duration::from_secs(40));
        let outcomes = [3, 8].map(|n| told(&net, n));
        assert!(outcomes == [(1, 0), (0, 1)] || outcomes == [(0, 1), (1, 0)], "seed {seed}: {outcomes:?}");
        let holder = net.id(if outcomes[0] == (1, 0) { 3 } else { 8 });
        assert_eq!(holders(&mut net, "alice"), [holder], "seed {seed}");
    }
}

/// Who was refused has the name after its holder has given it up, and is told so.
#[test]
fn a_name_that_is_given_up_goes_to_who_waits_for_it() {
    let mut net = Net::grow(5, 10);
    for n in [3, 8] {
        net.with(n, |overlay, now| overlay.claim_name("alice".parse().unwrap(), now));
        net.run(Duration::from_secs(2));
    }
    assert_eq!((told(&net, 3), told(&net, 8)), ((1, 0), (0, 1)));
    net.run(Duration::from_secs(120));
    assert_eq!(told(&net, 8), (0, 1), "told once");
    net.with(3, |overlay, now| overlay.withdraw_name(&"alice".parse().unwrap(), now));
    net.run(Duration::from_secs(120));
    assert_eq!((told(&net, 3), told(&net, 8)), ((1, 0), (1, 1)));
    assert_eq!(holders(&mut net, "alice"), [net.id(8)]);
}

/// Whoever else held roots is away, and said nothing: what is left is an overlay of one.
#[test]
fn a_founder_that_was_left_alone_still_has_names() {
    for restarts in [false, true] {
        let mut net = Net::new(1);
        net.add(Config::default());
        let config = net.joining(&[0]);
        net.add(config);
        net.run(Duration::from_secs(30));
        net.network_down(1);
        net.run(Duration::from_secs(90));
        if restarts {
            net.kill(0, false);
            net.run(Duration::from_secs(5));
            net.start(0, Config::default());
            net.run(Duration::from_secs(30));
        }
        assert_eq!(net.lookup(0, Query::Name("nobody".parse().unwrap())), LookupResult::Missing, "{restarts}");
        net.with(0, |overlay, now| overlay.claim_name("alice".parse().unwrap(), now));
        net.run(Duration::from_secs(5));
        assert_eq!(told(&net, 0), (1, 0), "restarts: {restarts}");
        net.network_back(1);
        net.run(Duration::from_secs(60));
        assert_eq!(holders(&mut net, "alice"), [net.id(0)]);
        assert!(matches!(net.lookup(1, Query::Name("alice".parse().unwrap())), LookupResult::Found(_)));
    }
}
