//! Claim 2: whatever neighbours and peers say, with every length at its maximum, a node keeps no more than so many bytes.
//!
//! Counted by the allocator, so that nothing is left out.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::alloc::System;
use std::sync::{Arc, Mutex, PoisonError};

use multiaddr::{Multiaddr, Protocol};
use muses::frame::Frame as SessionFrame;
use overlay::Overlay;
use overlay::address::{Address, AddressSet, FIRST_TREE, MAX_DEPTH, Place, TreeId};
use overlay::config::Config;
use overlay::grant::{GRANT_BYTES, MAX_CHAIN};
use overlay::id::{Identity, NodeId, SIGNATURE_BYTES};
use overlay::io::{Command, Lane, LinkId};
use overlay::queue::{MAX_CONTROL_BYTES, MAX_DATA_BYTES};
use overlay::record::{MAX_LIFETIME_S, MAX_RECORD_BYTES};
use overlay::rng::Rng;
use overlay::standing::Standing;
use overlay::time::{Now, WallTime};
use overlay::wire::link::{
    Advert, Advertised, Ask, BeaconFrame, Chain, Contact, Frame, Granted, Heartbeat, Hello, LINK_VERSION, Line,
    MAX_ADDRESSES, MAX_ADVERTISED, MAX_ANCESTORS, MAX_CHILDREN, MAX_HELD, MAX_OTHERS, Proof, Refuse, RefuseReason,
    TableFrame,
};
use overlay::wire::packet::{Header, Kind, MAX_DETOUR, MAX_HINTS};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use targets::{Believe, Peer};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The allocator counts for all threads, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

const MIB: usize = 1024 * 1024;
/// What a node may keep beside what waits to be written: most of it are the records of others, 4096 of at most 1000 bytes, twice (as they came and
/// decoded).
const NODE_BYTES: usize = 24 * MIB;
/// The same after a few thousand frames, among them a few hundred records.
const EARLY_BYTES: usize = 5 * MIB;
/// What may wait on one link, in bytes of frames, and what these cost beside: a short packet of a flow of its own takes as much again, and more.
const LINK_BYTES: usize = 5 * (MAX_CONTROL_BYTES + MAX_DATA_BYTES);
/// What one peer may make a session keep: its credit of 4 MiB that nobody reads, and what that costs beside.
const SESSION_BYTES: usize = 12 * MIB;
/// As long as titles may be.
const TITLES_BYTES: usize = 4096;
/// As many neighbours as a node has by default.
const LINKS: u64 = 64;

/// Bytes that were allocated since, and are still.
fn held(since: &Region<'_, System>) -> usize {
    let change = since.change();
    change.bytes_allocated.saturating_sub(change.bytes_deallocated)
}

struct Hostile {
    node: Overlay,
    now: Now,
    rng: Rng,
    /// Whether the driver takes what the node sends.
    drains: bool,
}

impl Hostile {
    fn new(drains: bool) -> Self {
        let now = Now { wall: WallTime::from_unix_micros(1_800_000_000_000_000), ..Now::default() };
        let mut node = Overlay::new(Config::default(), Identity::from_secret(&[1; 32]), [1; 32], now);
        node.set_signature_checks(Arc::new(Believe));
        node.start(now).unwrap();
        let mut hostile = Self { node, now, rng: Rng::from_seed([2; 32]), drains };
        for link in 0..LINKS {
            hostile.join(link);
        }
        hostile
    }

    /// A neighbour comes, or comes back.
    fn join(&mut self, link: u64) {
        let (id, remote) = (self.id(), self.address());
        self.node.handle_link_up(LinkId(link), id, Multiaddr::try_from(remote).unwrap(), false, self.now);
        let hello = Hello {
            version: LINK_VERSION,
            genesis: Vec::new(),
            expected: None,
            attach_seq: 1,
            addresses: self.addresses(),
            flags: 0,
        };
        self.say(link, &Frame::Hello(hello));
        self.advert(link);
    }

    fn id(&mut self) -> NodeId {
        NodeId::from_bytes(self.rng.bytes())
    }

    fn address(&mut self) -> Vec<u8> {
        let host = std::net::Ipv6Addr::from(self.rng.bytes::<16>());
        let name = "x".repeat(90);
        Multiaddr::from(host).with(Protocol::Tcp(1)).with(Protocol::Dns(name.into())).to_vec()
    }

    fn addresses(&mut self) -> Vec<Vec<u8>> {
        (0..MAX_ADDRESSES).map(|_| self.address()).collect()
    }

    /// About as deep and long as a place can be in all trees.
    fn place(&mut self) -> Place {
        let word: Vec<u8> = (0..30).map(|_| self.rng.below(60) as u8).collect();
        let trees = TreeId::ALL.into_iter().map(|tree| (tree, Address::from_ordinals(&word).unwrap()));
        let mut addresses = AddressSet::default();
        trees.for_each(|(tree, address)| addresses.insert(tree, address));
        Place { addresses, seq: self.rng.below(u64::MAX) }
    }

    fn contact(&mut self) -> Contact {
        Contact { id: self.id(), addresses: vec![self.address(), self.address()] }
    }

    fn grants(&mut self, count: usize) -> Vec<u8> {
        let mut grants: Vec<u8> = (0..count * GRANT_BYTES).map(|_| self.rng.bytes::<1>()[0]).collect();
        grants.chunks_mut(GRANT_BYTES).for_each(|grant| grant[64] = FIRST_TREE.get());
        grants
    }

    fn say(&mut self, link: u64, frame: &Frame) {
        self.send(link, Lane::Control, frame.encode());
    }

    /// Sends something, and comes back if the node closed the link for it.
    fn send(&mut self, link: u64, lane: Lane, bytes: Vec<u8>) {
        assert!(bytes.len() <= lane.max_frame_bytes(), "{} bytes", bytes.len());
        let refused = self.node.handle_frame(LinkId(link), lane, bytes, self.now).is_err();
        self.settle();
        if refused {
            self.node.handle_link_down(LinkId(link), self.now);
            self.join(link);
        }
    }

    fn settle(&mut self) {
        while let Some(command) = self.node.poll_command() {
            if let Command::Dial(address) = command {
                self.node.handle_dial_failed(&address, self.now);
            }
        }
        while self.node.poll_event().is_some() {}
        while self.drains
            && let Some(sent) = self.node.poll_transmit()
        {
            self.node.handle_link_room(sent.link, sent.lane, sent.bytes.len(), self.now);
        }
    }

    /// One frame of each kind in turn, as long as it may be.
    fn attack(&mut self, turn: u64) {
        let link = turn % LINKS;
        if turn.is_multiple_of(500) {
            self.now = self.now.after(core::time::Duration::from_millis(100));
            self.node.handle_timeout(self.now);
            self.settle();
        }
        if self.drains {
            for lane in [Lane::Control, Lane::Data] {
                self.node.handle_link_room(LinkId(link), lane, 1000, self.now);
            }
        }
        match turn / LINKS % 16 {
            0 => self.advert(link),
            1 => self.held(link),
            2 => self.heartbeat(link),
            3 => self.table(link),
            4 => {
                let chain = self.grants(MAX_CHAIN);
                self.say(link, &Frame::Ask(Ask { tree: FIRST_TREE, chain, no_other: turn % 32 < 16 }));
            }
            5 => {
                let (grant, chain) = (self.grants(1), self.grants(MAX_CHAIN));
                self.say(link, &Frame::Grant(Granted { grant, chain }));
            }
            6 => {
                let chain = self.grants(MAX_CHAIN);
                self.say(link, &Frame::Chain(Chain { tree: FIRST_TREE, chain }));
            }
            7 => self.say(link, &Frame::Titles(vec![7; TITLES_BYTES])),
            8 => self.proof(link),
            9 => {
                let others = (0..MAX_OTHERS).map(|_| self.contact()).collect();
                self.say(link, &Frame::Refuse(Refuse { tree: FIRST_TREE, why: RefuseReason::Full, others }));
            }
            10 => self.beacon(link),
            11 => self.record(link),
            12 => self.packet(link, Kind::Data, Lane::Data.max_frame_bytes()),
            13 => self.packet(link, Kind::EchoRequest, Lane::Control.max_frame_bytes()),
            14 => self.packet(link, Kind::Data, 0),
            _ => {
                let hello = Hello {
                    version: LINK_VERSION,
                    genesis: Vec::new(),
                    expected: None,
                    attach_seq: turn,
                    addresses: self.addresses(),
                    flags: u32::MAX,
                };
                self.say(link, &Frame::Hello(hello));
            }
        }
    }

    fn advert(&mut self, link: u64) {
        let neighbours = (0..MAX_ADVERTISED)
            .map(|_| Advertised { id: self.id(), place: self.place().to_bytes(), addresses: vec![self.address()] })
            .collect();
        let place = self.place().to_bytes();
        self.say(link, &Frame::Advert(Advert { place, held: Vec::new(), neighbours, standing: Standing::Relay }));
    }

    fn held(&mut self, link: u64) {
        let deepest = Address::from_ordinals(&[62; MAX_DEPTH]).unwrap().to_bytes();
        let place = self.place().to_bytes();
        let held = vec![deepest; MAX_HELD / 2];
        self.say(link, &Frame::Advert(Advert { place, held, neighbours: Vec::new(), standing: Standing::Relay }));
    }

    fn heartbeat(&mut self, link: u64) {
        let line = |hostile: &mut Self, tree| Line {
            tree,
            ancestors: (0..MAX_ANCESTORS).map(|_| hostile.contact()).collect(),
            size: u32::MAX,
        };
        let lines = TreeId::ALL.map(|tree| line(self, tree)).to_vec();
        self.say(link, &Frame::Heartbeat(Heartbeat { lines, sizes: [u32::MAX; 4] }));
    }

    fn table(&mut self, link: u64) {
        let children = (0..MAX_CHILDREN as u16).map(|slot| (slot, 255)).collect();
        self.say(link, &Frame::Table(TableFrame { tree: FIRST_TREE, depth: 0, own: 255, children }));
    }

    /// Each names another guilty node.
    fn proof(&mut self, link: u64) {
        let one = self.grants(1);
        let mut other = one.clone();
        other[32] ^= 1;
        self.say(link, &Frame::Proof(Proof { one, other }));
    }

    fn beacon(&mut self, link: u64) {
        let mut beacon = self.node.overlay_id().unwrap().as_bytes().to_vec();
        beacon.push(self.rng.below(4) as u8);
        beacon.extend_from_slice(self.id().as_bytes());
        beacon.extend_from_slice(&[0xff; 16 + SIGNATURE_BYTES]);
        self.say(link, &Frame::Beacon(BeaconFrame { age_ms: 0, beacon }));
    }

    /// A record of another node each time, to be kept here for as long as possible.
    fn record(&mut self, link: u64) {
        let signer = self.id();
        let mut record = vec![1];
        record.extend_from_slice(signer.as_bytes());
        record.extend_from_slice(&1_800_000_000_000_000_u64.to_be_bytes());
        record.extend_from_slice(&MAX_LIFETIME_S.to_be_bytes());
        record.push(0);
        let field = |record: &mut Vec<u8>, bytes: &[u8]| {
            record.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            record.extend_from_slice(bytes);
        };
        let place = Place { seq: 1, ..self.place() }.to_bytes();
        field(&mut record, &place);
        field(&mut record, &[0; 256]);
        let hints = (MAX_RECORD_BYTES - SIGNATURE_BYTES - record.len() - 2) / (32 + 2 + place.len());
        record.push(hints.min(4) as u8);
        for _ in 0..hints.min(4) {
            record.extend_from_slice(signer.as_bytes());
            field(&mut record, &place);
        }
        record.push(0);
        record.extend_from_slice(&[0; SIGNATURE_BYTES]);
        // `Put`, as `overlay::dht` lays it out: nonce, remaining lifetime, record.
        let mut body = vec![0, 7, 0xfc];
        body.extend_from_slice(&u32::MAX.to_le_bytes());
        body.push(0xfb);
        body.extend_from_slice(&(record.len() as u16).to_le_bytes());
        body.extend_from_slice(&record);
        let key = overlay::record::Query::Node(signer).key();
        let mut walk = Header::walk(signer, self.place(), key, 0, FIRST_TREE);
        walk.down = true;
        self.send(link, Lane::Control, walk.with_payload(&body));
    }

    /// A packet of a flow of its own, for some neighbour.
    fn packet(&mut self, link: u64, kind: Kind, bytes: usize) {
        let to = self.rng.index(self.node.neighbours().len());
        self.packet_to(link, to, kind, bytes);
    }

    fn packet_to(&mut self, link: u64, to: usize, kind: Kind, bytes: usize) {
        let neighbours = self.node.neighbours();
        let to = &neighbours[to];
        let target = to.place.clone().unwrap_or_default();
        let (src, to, flow) = (self.id(), to.id, self.rng.below(1 << 32) as u32);
        let mut header = Header::new(kind, src, self.place(), to, target, flow);
        if bytes > 0 {
            header.hints = (0..MAX_HINTS).map(|_| self.place().addresses).collect();
            header.detour = (0..MAX_DETOUR).map(|_| self.rng.bytes()).collect();
        }
        let mut packet = header.with_payload(&[]);
        packet.resize(packet.len().max(bytes), 0);
        let lane = if kind == Kind::Data { Lane::Data } else { Lane::Control };
        self.send(link, lane, packet);
    }
}

fn frames_at_their_maximum(frames: u64, allowed: usize) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let since = Region::new(ALLOCATOR);
    let mut hostile = Hostile::new(true);
    let mut most = 0;
    for turn in 0..frames {
        hostile.attack(turn);
        most = most.max(held(&since));
        assert!(most <= allowed, "{most} bytes after {turn} frames");
    }
    println!("{frames} frames: at most {most} bytes held; {:?}", hostile.node.state_bytes());
    assert!(hostile.node.neighbours().len() > LINKS as usize / 2, "the neighbours are still there, and heard");
    let counters = hostile.node.counters();
    assert!(counters.forwarded > 0 && hostile.node.records() > 0, "{counters:?}: and taken seriously");
}

#[test]
fn frames_at_their_maximum_are_not_kept() {
    frames_at_their_maximum(8_000, EARLY_BYTES);
}

#[test]
#[ignore = "10^6 frames; for the night"]
fn a_million_frames_at_their_maximum_are_not_kept() {
    frames_at_their_maximum(1_000_000, NODE_BYTES);
}

#[test]
fn what_nobody_reads_waits_within_bounds() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut hostile = Hostile::new(false);
    let since = Region::new(ALLOCATOR);
    // The worst that can wait on a link: the shortest packets, each of a flow of its own.
    while hostile.node.counters().dropped_full == 0 {
        hostile.packet_to(0, 1, Kind::Data, 0);
    }
    for turn in 0..100 {
        hostile.packet_to(0, 1, Kind::Data, 0);
        hostile.packet_to(turn % LINKS, 1, Kind::EchoRequest, Lane::Control.max_frame_bytes());
    }
    let bytes = held(&since);
    println!("{bytes} bytes wait on one link");
    assert!((MAX_DATA_BYTES..=LINK_BYTES).contains(&bytes), "{bytes} bytes");
}

/// What a peer makes a session keep by saying so many frames, one in a packet.
fn session_bytes<'a>(frames: impl IntoIterator<Item = SessionFrame<'a>>) -> usize {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Made once for all peers.
    drop(Peer::new(&[], &[]));
    let since = Region::new(ALLOCATOR);
    let mut peer = Peer::new(&[], &[]);
    let mut packet = Vec::new();
    for frame in frames {
        frame.encode(&mut packet);
        if packet.len() > 30_000 {
            peer.say(&packet);
            packet.clear();
        }
    }
    peer.say(&packet);
    let bytes = held(&since);
    println!("{bytes} bytes held; {} packets against the rules", peer.violations());
    bytes
}

/// Streams of who began the handshake, as the peer did.
fn stream(index: u64) -> u64 {
    2 * index
}

#[test]
fn single_bytes_that_nobody_reads_cost_little_more_than_their_credit() {
    let byte = |index, offset| SessionFrame::Stream { stream: stream(index), offset, fin: false, data: b"x" };
    let bytes = session_bytes((0..8).flat_map(|index| (0..128 * 1024).map(move |offset| byte(index, offset))));
    assert!((MIB..=SESSION_BYTES).contains(&bytes), "{bytes} bytes");
}

#[test]
fn bytes_behind_gaps_cost_little_more_than_their_credit() {
    let byte = |index, offset| SessionFrame::Stream { stream: stream(index), offset, fin: false, data: b"x" };
    let bytes = session_bytes((0..200).flat_map(|index| (0..2000).map(move |at| byte(index, 1 + 2 * at))));
    assert!((MIB / 4..=SESSION_BYTES).contains(&bytes), "{bytes} bytes");
}

#[test]
fn streams_that_are_opened_for_ever_are_not_kept() {
    let bytes = session_bytes((0..20_000).map(|index| SessionFrame::Open {
        stream: stream(index),
        port: 1,
        service: "0123456789012345678901234567890123456789012345678901234567890123",
    }));
    assert!((MIB / 4..=SESSION_BYTES).contains(&bytes), "{bytes} bytes");
}
