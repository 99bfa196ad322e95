//! Links that cannot carry what is to go over them: who waits, who is dropped, and who is told of it.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use core::time::Duration;
use std::collections::BTreeMap;

use multiaddr::Multiaddr;
use overlay::Overlay;
use overlay::address::{AddressSet, Place};
use overlay::config::Config;
use overlay::io::{CloseReason, Command, Lane, LinkId, Transmit};
use overlay::time::{Instant, Now, WallTime};
use overlay::wire::link::{Advert, Frame};
use overlay::wire::packet::{Header, Kind};

/// Sends more than it should, or has others send it over this node.
const FLOODS: LinkId = LinkId(1);
/// Cannot carry that.
const SLOW: LinkId = LinkId(2);
/// An honest neighbour.
const HONEST: LinkId = LinkId(3);
const LINKS: [LinkId; 3] = [FLOODS, SLOW, HONEST];
/// Room comes so often.
const TICK: Duration = Duration::from_millis(10);

fn place(address: &str, seq: u64) -> Place {
    Place { addresses: AddressSet::single(address.parse().unwrap()), seq }
}

/// A founder and its three neighbours, at `/1`, `/2` and `/3`; one of the links is slow.
struct Relay {
    node: Overlay,
    now: Now,
    /// Bytes that the slow link takes in a tick.
    rate: usize,
    /// It takes whatever there is.
    fast: bool,
    /// What has left over it, and when.
    left: Vec<(Instant, Transmit)>,
}

impl Relay {
    fn new(rate: usize) -> Self {
        let now = Now { instant: Instant::from_micros(5), wall: WallTime::from_unix_micros(1_700_000_000_000_000) };
        let mut node = Overlay::new(Config::default(), common::identity(0), [1; 32], now);
        node.start(now).unwrap();
        let mut relay = Self { node, now, rate, fast: false, left: Vec::new() };
        for link in LINKS {
            relay.greet(link);
        }
        relay.take_all();
        relay.left.clear();
        relay
    }

    /// For a second the slow link takes whatever there is, and has no room to spare then.
    fn take_all(&mut self) {
        self.fast = true;
        // The latest frame may have been longer than the room that there was.
        self.give_room(SLOW, 1000);
        for _ in 0..100 {
            self.tick();
        }
        self.fast = false;
    }

    fn greet(&mut self, link: LinkId) {
        let remote: Multiaddr = format!("/ip4/10.0.0.{}/tcp/5", link.0).parse().unwrap();
        let peer = common::identity(usize::try_from(link.0).unwrap()).id();
        self.node.handle_link_up(link, peer, remote, false, self.now);
        self.hears(link, &Frame::Hello(common::strangers_hello()));
        self.advertises(link, 1);
    }

    fn advertises(&mut self, link: LinkId, seq: u64) {
        let place = place(&format!("/{}", link.0), seq).to_bytes();
        self.hears(link, &Frame::Advert(Advert { place, ..Advert::default() }));
    }

    fn hears(&mut self, link: LinkId, frame: &Frame) {
        self.node.handle_frame(link, Lane::Control, frame.encode(), self.now).unwrap();
        self.drain();
    }

    /// A packet that comes over `link` and is so long goes to somebody behind the slow one.
    fn passes_on(&mut self, link: LinkId, kind: Kind, flow: u32, bytes: usize) {
        let (src, dst) = (common::identity(usize::try_from(10 + link.0).unwrap()).id(), common::identity(9).id());
        let header = Header::new(kind, src, place(&format!("/{}/0", link.0), 1), dst, place("/2/0", 1), flow);
        let mut packet = header.with_payload(&[]);
        packet.resize(packet.len().max(bytes), 0);
        let lane = if kind == Kind::Data { Lane::Data } else { Lane::Control };
        self.node.handle_frame(link, lane, packet, self.now).unwrap();
        self.drain();
    }

    fn give_room(&mut self, link: LinkId, bytes: usize) {
        for lane in [Lane::Control, Lane::Data] {
            self.node.handle_link_room(link, lane, bytes, self.now);
        }
        self.drain();
    }

    /// A while passes: the other links take anything.
    fn tick(&mut self) {
        self.now = self.now.after(TICK);
        self.give_room(FLOODS, 1_000_000);
        self.give_room(HONEST, 1_000_000);
        if !self.fast {
            self.give_room(SLOW, self.rate);
        }
        if self.node.poll_timeout().is_some_and(|(at, _)| at <= self.now.instant) {
            self.node.handle_timeout(self.now);
        }
        self.drain();
        while self.node.poll_event().is_some() {}
    }

    fn drain(&mut self) {
        while let Some(transmit) = self.node.poll_transmit() {
            if transmit.link == SLOW {
                if self.fast {
                    self.node.handle_link_room(SLOW, transmit.lane, transmit.bytes.len(), self.now);
                }
                self.left.push((self.now.instant, transmit));
            }
        }
    }

    /// The slow link, if it was closed.
    fn closed(&mut self) -> Option<CloseReason> {
        core::iter::from_fn(|| self.node.poll_command()).find_map(|command| match command {
            Command::Close(SLOW, why) => Some(why),
            _ => None,
        })
    }

    /// The link frames that left over the slow link.
    fn frames(&self) -> impl Iterator<Item = (Instant, Frame)> {
        let control = self.left.iter().filter(|(_, transmit)| transmit.lane == Lane::Control);
        control.filter_map(|(at, transmit)| Some((*at, Frame::decode(&transmit.bytes).ok()?)))
    }
}

/// 20 kB/s, and a hundred times as much to go over it: the neighbour hears within its patience that this node and the root live.
#[test]
fn packets_to_pass_on_do_not_keep_link_frames_waiting() {
    let mut relay = Relay::new(200);
    let (mut asked, mut others) = (BTreeMap::new(), 0_u32);
    for tick in 0..3000_u64 {
        for bytes in [15 * 1024, 1000, 150] {
            relay.passes_on(FLOODS, Kind::EchoRequest, 0, bytes);
        }
        if tick.is_multiple_of(100) {
            relay.hears(SLOW, &Frame::Probe(tick));
            asked.insert(tick, relay.now.instant);
            relay.passes_on(HONEST, Kind::EchoRequest, 0, 300);
        }
        relay.tick();
    }
    assert_eq!(relay.closed(), None);
    assert!(relay.node.counters().dropped_full > 0, "it was a flood");
    let (mut answers, mut beacons) = (0, 0);
    for (at, frame) in relay.frames() {
        match frame {
            Frame::ProbeAck(number) => {
                answers += 1;
                let waited = at.since(asked[&number]);
                assert!(waited < Duration::from_secs(2), "{waited:?} for an answer");
            }
            Frame::Beacon(_) => beacons += 1,
            _ => {}
        }
    }
    assert!(answers >= 28 && beacons >= 5, "{answers} answers, {beacons} beacons");
    for (_, transmit) in relay.left {
        others += u32::from(transmit.bytes.len() == 300);
    }
    assert!(others >= 25, "{others}: who comes over another link is passed on");
}

/// What a neighbour was to be told and could not be is not taken as told.
#[test]
fn a_link_with_no_room_for_link_frames_is_closed() {
    let mut relay = Relay::new(0);
    for number in 0..40_000 {
        relay.hears(SLOW, &Frame::Probe(u64::MAX - number));
    }
    relay.tick();
    assert_eq!(relay.closed(), Some(CloseReason::Silent));
    assert!(relay.node.counters().dropped_full > 0);
    relay.left.clear();
    relay.give_room(SLOW, 1_000_000);
    assert_eq!(relay.left, [], "nothing more goes over it");
    relay.node.handle_link_down(SLOW, relay.now);
    // The next link to it begins from nothing.
    relay.greet(SLOW);
    relay.take_all();
    assert!(relay.frames().any(|(_, frame)| matches!(frame, Frame::Advert(_))));
}

/// One neighbour has this node tell all others something new ten times a second, for minutes, which is more than one of them takes.
#[test]
fn news_that_is_old_before_it_leaves_closes_no_link() {
    let mut relay = Relay::new(2);
    for tick in 2..60_000_u64 {
        if tick == 59_000 {
            relay.rate = 0;
        }
        if tick.is_multiple_of(11) {
            relay.advertises(FLOODS, tick);
        }
        if tick.is_multiple_of(100) {
            relay.hears(SLOW, &Frame::Probe(tick));
        }
        relay.tick();
    }
    relay.advertises(FLOODS, 200_000);
    (0..20).for_each(|_| relay.tick());
    relay.take_all();
    assert_eq!(relay.closed(), None);
    let last =
        relay.frames().filter_map(|(_, frame)| if let Frame::Advert(advert) = frame { Some(advert) } else { None });
    let told = last.last().unwrap().neighbours.into_iter().find(|told| told.id == common::identity(1).id()).unwrap();
    assert_eq!(Place::from_bytes(&told.place).unwrap().seq, 200_000);
}

/// A neighbour sends four times what the link takes, each packet of another flow: another one's only flow has its half.
#[test]
fn who_comes_by_one_neighbour_shares_with_its_own_traffic_only() {
    const PACKET: usize = 1200;
    let mut relay = Relay::new(10 * PACKET);
    let mut label = 0;
    for tick in 0..400 {
        for _ in 0..40 {
            label = (label + 1) % 2000;
            relay.passes_on(FLOODS, Kind::Data, label, PACKET);
        }
        // It begins when the queue is full.
        if tick >= 100 {
            for _ in 0..10 {
                relay.passes_on(HONEST, Kind::Data, 5000, PACKET);
            }
        }
        relay.tick();
        if tick == 150 {
            relay.left.clear();
        }
    }
    let honest = common::identity(13).id();
    let is_honest = |bytes: &[u8]| Header::decode(bytes).unwrap().0.src == honest;
    let data: Vec<_> = relay.left.iter().filter(|(_, transmit)| transmit.lane == Lane::Data).collect();
    let own = data.iter().filter(|(_, transmit)| is_honest(&transmit.bytes)).count();
    assert!(own * 100 >= data.len() * 45, "{own} of {}", data.len());
    let marked = data.iter().filter(|(_, transmit)| Header::decode(&transmit.bytes).unwrap().0.ecn).count();
    assert_eq!(marked, data.len(), "all have waited");
}
