//! Packets that come in another's name.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use core::time::Duration;

use common::Net;
use overlay::address::{AddressSet, Place};
use overlay::config::Config;
use overlay::wire::packet::{Header, Kind};

/// Where nobody is.
fn elsewhere(seq: u64) -> Place {
    Place { addresses: AddressSet::single("/60/60".parse().unwrap()), seq }
}

/// 2 has 1 pass on a packet that says that it is from 1: to the founder it comes straight from there, and of 1's own place it would believe it.
#[test]
fn nobody_says_in_anothers_name_where_that_one_is() {
    let mut net = Net::new(1);
    net.add(Config { extra_links: 0, ..Config::default() });
    for through in [0, 1] {
        net.add(Config { extra_links: 0, ..net.joining(&[through]) });
        net.run(Duration::from_secs(2));
    }
    net.run(Duration::from_secs(20));
    let known = |net: &Net| net.node(0).neighbours().into_iter().find(|peer| peer.id == net.id(1)).unwrap().place;
    let place = known(&net).unwrap();
    assert_eq!(place, net.place(1));
    for (seq, kind) in [place.seq, place.seq + 1, u64::MAX].into_iter().zip([Kind::Data, Kind::DhtWalk, Kind::DhtReply])
    {
        let header = Header::new(kind, net.id(1), elsewhere(seq), net.id(0), net.place(0), 0);
        let hears = |net: &mut Net, bytes| match kind {
            Kind::Data => net.hears_from_on(overlay::io::Lane::Data, 1, 2, bytes),
            _ => net.hears_from(1, 2, bytes),
        };
        hears(&mut net, header.with_payload(b"from 1")).unwrap();
        net.run(Duration::from_secs(1));
        assert_eq!(known(&net), Some(place.clone()), "{kind:?}");
    }
    assert_eq!(net.node(1).counters().dropped_forged, 3);
    // What it sent itself may come back to it on a detour.
    let own = Header::new(Kind::DhtReply, net.id(1), place, net.id(0), net.place(0), 0);
    net.hears_from(1, 2, own.with_payload(b"again")).unwrap();
    assert_eq!(net.node(1).counters().dropped_forged, 3);
    net.assert_all_pairs_route();
}
