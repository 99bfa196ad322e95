//! A whole node of the overlay, and neighbours that say what the fuzzer likes. Signatures count as right: whoever has a key signs what he likes, and the
//! fuzzer has all keys.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use multiaddr::Multiaddr;
use overlay::Overlay;
use overlay::address::{Address, AddressSet, FIRST_TREE, Place, TreeId};
use overlay::config::Config;
use overlay::genesis::{Genesis, SignedGenesis};
use overlay::id::{Identity, NodeId, OverlayId, SIGNATURE_BYTES};
use overlay::io::{Command, Lane, LinkId, Transmit};
use overlay::overlay::Outgoing;
use overlay::record::Query;
use overlay::standing::Standing;
use overlay::time::{Now, WallTime};
use overlay::wire::link::{
    Advert, BeaconFrame, Contact, Frame, Granted, Heartbeat, Hello, LINK_FRAME_BIT, LINK_VERSION, Line, Proof,
    TableFrame,
};
use overlay::wire::packet::{Header, Kind};

use crate::messages::identity;
use crate::script::Script;
use crate::sessions::WALL_US;
use crate::signed::Believe;

/// Things that the fuzzer does: a bound on the time of one run.
const MAX_STEPS: usize = 128;
/// Frames, commands and events that one thing may set off.
const MAX_BURST: usize = 10_000;
/// Frames of the node that the fuzzer remembers.
const MAX_SEEN: usize = 16;
/// What a node may keep of so few neighbours, in bytes.
const MAX_STATE_BYTES: usize = 1024 * 1024;
/// Links that the fuzzer has at once.
const LINKS: usize = 4;

const KINDS: [Kind; 7] =
    [Kind::Data, Kind::Unreachable, Kind::Moved, Kind::DhtWalk, Kind::DhtReply, Kind::EchoRequest, Kind::EchoReply];

/// Who is who: 0 founded the overlay that the node joins, 1 is the node, the others are anybody.
static IDS: LazyLock<Vec<NodeId>> = LazyLock::new(|| (100..106).map(|number| identity(number).id()).collect());
const FOUNDER: usize = 0;
const NODE: usize = 1;

/// The overlay to join, founded by the fuzzer.
static GENESIS: LazyLock<SignedGenesis> = LazyLock::new(|| {
    let founder = identity(100);
    let genesis = Genesis { founder: founder.id(), q: 64, trees: 4, created_unix_s: WALL_US / 1_000_000, open: true };
    SignedGenesis::sign(&founder, genesis).expect("it is sensible")
});

fn id(number: usize) -> NodeId {
    IDS.get(number % IDS.len()).copied().expect("there are some")
}

struct World {
    node: Overlay,
    now: Now,
    links: [Option<LinkId>; LINKS],
    next_link: u64,
    seen: VecDeque<(Lane, Vec<u8>)>,
}

/// The node lives on, keeps little, falls silent, and sends nothing that an honest neighbour would close the link for.
pub fn overlay_node(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let founds = script.below(2) == 0;
    let now = Now { wall: WallTime::from_unix_micros(WALL_US), ..Now::default() };
    let expected = (!founds).then(|| GENESIS.overlay_id());
    let config = Config {
        expected,
        q: [64, 3, 256][script.below(3)],
        leaf: !founds && script.below(4) == 0,
        ..Config::default()
    };
    let mut node = Overlay::new(config, identity(101), [1; 32], now);
    node.set_signature_checks(Arc::new(Believe));
    node.handle_listen_addresses(vec![address(1)], now);
    node.start(now).expect("the configuration makes sense");
    let mut world = World { node, now, links: [None; LINKS], next_link: 0, seen: VecDeque::new() };
    world.settle();
    for link in 0..2 {
        world.link_up(link, [FOUNDER, 2][link]);
        world.hello(link, 1);
    }
    for _ in 0..MAX_STEPS {
        if script.is_empty() {
            break;
        }
        world.step(&mut script);
        assert!(world.node.state_bytes().without_records() <= MAX_STATE_BYTES, "{:?}", world.node.state_bytes());
    }
}

fn address(number: u8) -> Multiaddr {
    Multiaddr::from(Ipv4Addr::new(10, 0, 0, number)).with(multiaddr::Protocol::Tcp(4741))
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) {
        let link = script.below(LINKS);
        match script.below(20) {
            0 => self.frame(link, Lane::Control, script.chunk().to_vec()),
            1 => self.frame(link, Lane::Data, script.chunk().to_vec()),
            2 | 3 => self.wait(Duration::from_millis(u64::from(script.byte()).pow(2))),
            4 => {
                self.link_up(link, script.below(6));
                self.hello(link, script.number());
            }
            5 => {
                if let Some(id) = self.links[link].take() {
                    self.node.handle_link_down(id, self.now);
                    self.settle();
                }
            }
            6 => self.grant(link, script),
            7 => self.beacon(link, script),
            8 => {
                let titles = titles(&self.overlay(), script.chunk());
                self.say(link, &Frame::Titles(titles));
            }
            9 => self.advert(link, script),
            10 => self.heartbeat(link, script),
            11 => {
                let children = (0..script.below(8)).map(|_| (script.byte().into(), script.byte())).collect();
                let (tree, depth, own) = (tree(script), script.byte(), script.byte());
                self.say(link, &Frame::Table(TableFrame { tree, depth, own, children }));
            }
            12 => {
                let (one, other) = (grant(script).to_vec(), grant(script).to_vec());
                self.say(link, &Frame::Proof(Proof { one, other }));
            }
            13 | 14 => self.packet(link, script),
            15 => self.record(link, script),
            16 => self.use_node(script),
            17 => {
                if let Some(id) = self.links[link].take() {
                    self.node.handle_oversized(id, self.now);
                    self.settle();
                }
            }
            _ => self.reflect(link, script),
        }
    }

    /// A frame of the node's own comes back, changed.
    fn reflect(&mut self, link: usize, script: &mut Script<'_>) {
        let Some((lane, mut bytes)) = self.seen.get(script.below(self.seen.len())).cloned() else { return };
        for _ in 0..script.below(3) {
            let at = usize::from(u16::from_be_bytes(script.array())) % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = script.byte();
            }
        }
        self.frame(link, lane, bytes);
    }

    fn grant(&mut self, link: usize, script: &mut Script<'_>) {
        let mut chain = Vec::new();
        for _ in 0..script.below(3) {
            chain.extend_from_slice(&grant(script));
        }
        self.say(link, &Frame::Grant(Granted { grant: grant(script).to_vec(), chain }));
    }

    fn beacon(&mut self, link: usize, script: &mut Script<'_>) {
        let (age_ms, tree, holder) = (u32::from(script.byte()) << script.below(16), tree(script), id(script.below(6)));
        let (term, seq) = (script.number(), script.number());
        let mut beacon = self.overlay().as_bytes().to_vec();
        beacon.push(tree.get());
        beacon.extend_from_slice(holder.as_bytes());
        beacon.extend_from_slice(&term.to_be_bytes());
        beacon.extend_from_slice(&seq.to_be_bytes());
        beacon.extend_from_slice(&[0; SIGNATURE_BYTES]);
        self.say(link, &Frame::Beacon(BeaconFrame { age_ms, beacon }));
    }

    fn advert(&mut self, link: usize, script: &mut Script<'_>) {
        let place = place(script).to_bytes();
        let neighbours = (0..script.below(4))
            .map(|_| overlay::wire::link::Advertised {
                id: id(script.below(6)),
                place: self::place(script).to_bytes(),
                addresses: vec![address(script.byte()).to_vec()],
            })
            .collect();
        let held = (0..script.below(3)).map(|_| word(script).to_bytes()).collect();
        let standing = [Standing::Relay, Standing::Mover, Standing::Leaf][script.below(3)];
        self.say(link, &Frame::Advert(Advert { place, held, neighbours, standing }));
    }

    fn heartbeat(&mut self, link: usize, script: &mut Script<'_>) {
        let contact = |script: &mut Script<'_>| Contact {
            id: id(script.below(6)),
            addresses: vec![address(script.byte()).to_vec()],
        };
        let lines = (0..script.below(4))
            .map(|_| Line {
                tree: tree(script),
                ancestors: (0..script.below(4)).map(|_| contact(script)).collect(),
                size: u32::from_be_bytes(script.array()),
            })
            .collect();
        let sizes = [0; 4].map(|_: u32| u32::try_from(script.number() & u64::from(u32::MAX)).unwrap_or_default());
        self.say(link, &Frame::Heartbeat(Heartbeat { lines, sizes }));
    }

    /// A routed packet whose fields lead somewhere. It may be as long as its lane allows, and no honest relay may make it longer than that.
    fn packet(&mut self, link: usize, script: &mut Script<'_>) {
        let kind = KINDS[script.below(KINDS.len())];
        let (src, to) = (id(script.below(6)), id(script.below(6)));
        let mut header = Header::new(kind, src, place(script), to, place(script), script.byte().into());
        header.hints = (0..script.below(5)).map(|_| place(script).addresses).collect();
        header.detour = (0..script.below(33)).map(|_| script.array()).collect();
        if script.below(2) == 0 {
            let last = f64::from_be_bytes(script.array()).abs();
            header.last = if last.is_nan() { 0.0 } else { last };
            (header.mask, header.strikes) = (u32::from_be_bytes(script.array()), script.byte());
            (header.ttl, header.down) = (script.byte().into(), script.below(2) == 0);
        }
        if kind == Kind::DhtWalk {
            header.target = AddressSet::default();
            header.dst_seq = u64::from(script.byte()) << 8 | u64::from(script.byte());
        }
        let lane = if kind == Kind::Data { Lane::Data } else { Lane::Control };
        let payload = script.chunk();
        let mut packet = header.with_payload(payload);
        match script.below(4) {
            0 => packet.resize(lane.max_frame_bytes(), 0),
            // The same for the header: these hints fill it, but for as many bytes as the last one leaves.
            1 => {
                let word = |depth| Address::from_ordinals(&vec![200; depth]).unwrap_or_default();
                header.hints = vec![AddressSet::single(word(255)); 4];
                if let (Some(last), [_, second, ..]) = (header.hints.last_mut(), TreeId::ALL) {
                    last.insert(second, word(script.below(16)));
                }
                packet = header.with_payload(&[]);
            }
            _ => {}
        }
        self.frame(link, lane, packet);
    }

    /// A record of anybody, to be kept here or as the answer to a look-up.
    fn record(&mut self, link: usize, script: &mut Script<'_>) {
        let mut record = vec![1 + script.byte() % 2];
        let signer = id(script.below(6));
        record.extend_from_slice(signer.as_bytes());
        record.extend_from_slice(&script.number().to_be_bytes());
        record.extend_from_slice(&u32::from(script.byte()).saturating_mul(400).to_be_bytes());
        record.extend_from_slice(script.chunk());
        record.extend_from_slice(&[0; SIGNATURE_BYTES]);
        // `Put` and `Found`, as `overlay::dht` lays them out.
        let (nonce, reply) = (script.byte(), script.below(2) == 0);
        let mut body = if reply { vec![nonce % 251, 0, 100] } else { vec![0, nonce % 251, 100] };
        body.push(0xfb);
        body.extend_from_slice(&u16::try_from(record.len()).unwrap_or(u16::MAX).to_le_bytes());
        body.extend_from_slice(&record);
        let header = if reply {
            Header::new(Kind::DhtReply, signer, place(script), id(NODE), place(script), 0)
        } else {
            let key = Query::Node(signer).key();
            Header::walk(id(script.below(6)), place(script), key, script.byte() % 4, tree(script))
        };
        self.frame(link, Lane::Control, header.with_payload(&body));
    }

    /// What the layers above do meanwhile.
    fn use_node(&mut self, script: &mut Script<'_>) {
        let (to, place, now) = (id(script.below(6)), place(script), self.now);
        match script.below(8) {
            0 => {
                self.node.lookup(Query::Node(to), script.below(2) == 0, now);
            }
            1 => self.node.publish_node(vec![7; 100], now),
            2 => {
                self.node.ping(to, place, now);
            }
            3 => {
                self.node.trace(to, place, now);
            }
            4 => self.node.handle_address_change(now),
            5 => self.node.claim_name("alice".parse().expect("it is a name"), now),
            6 => {
                let outgoing = Outgoing { to, place, flow: 1, payload: script.chunk().to_vec() };
                let _no_way_is_fine = self.node.send(outgoing, now);
            }
            _ => self.node.leave(now),
        }
        self.settle();
    }

    fn link_up(&mut self, link: usize, peer: usize) {
        if let Some(old) = self.links[link].take() {
            self.node.handle_link_down(old, self.now);
        }
        self.next_link += 1;
        let new = LinkId(self.next_link);
        self.links[link] = Some(new);
        let remote = address(u8::try_from(peer).unwrap_or_default());
        self.node.handle_link_up(new, id(peer), remote, link.is_multiple_of(2), self.now);
        for lane in [Lane::Control, Lane::Data] {
            self.node.handle_link_room(new, lane, 256 * 1024, self.now);
        }
        self.settle();
    }

    fn hello(&mut self, link: usize, attach_seq: u64) {
        let genesis = if self.node.overlay_id() == Some(GENESIS.overlay_id()) || self.node.overlay_id().is_none() {
            GENESIS.as_bytes().to_vec()
        } else {
            Vec::new()
        };
        let addresses = vec![address(9).to_vec()];
        let hello = Hello { version: LINK_VERSION, genesis, expected: None, attach_seq, addresses, flags: 0 };
        self.say(link, &Frame::Hello(hello));
    }

    fn overlay(&self) -> OverlayId {
        self.node.overlay_id().unwrap_or(GENESIS.overlay_id())
    }

    fn say(&mut self, link: usize, frame: &Frame) {
        self.frame(link, Lane::Control, frame.encode());
    }

    fn frame(&mut self, link: usize, lane: Lane, bytes: Vec<u8>) {
        let Some(id) = self.links[link] else { return };
        if self.node.handle_frame(id, lane, bytes, self.now).is_err() {
            self.links[link] = None;
        }
        self.settle();
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now.after(span);
        let mut turns = 0;
        while self.node.poll_timeout().is_some_and(|(at, _)| at <= self.now.instant) {
            self.node.handle_timeout(self.now);
            self.settle();
            turns += 1;
            assert!(turns < MAX_BURST, "a timer is due for ever: {:?}", self.node.poll_timeout());
        }
    }

    /// Does what a driver does, until the node is quiet.
    fn settle(&mut self) {
        let mut things = 0;
        loop {
            things += 1;
            assert!(things < MAX_BURST, "it never falls silent");
            if let Some(transmit) = self.node.poll_transmit() {
                self.check(transmit);
            } else if let Some(command) = self.node.poll_command() {
                match command {
                    Command::Dial(address) => self.node.handle_dial_failed(&address, self.now),
                    Command::Close(id, _) => {
                        self.links.iter_mut().filter(|link| **link == Some(id)).for_each(|link| *link = None);
                        self.node.handle_link_down(id, self.now);
                    }
                    Command::Persist { key, .. } => self.node.handle_persisted(&key, self.now),
                }
            } else if self.node.poll_event().is_none() {
                return;
            }
        }
    }

    fn check(&mut self, transmit: Transmit) {
        let Transmit { link, lane, bytes } = transmit;
        assert!(bytes.len() <= lane.max_frame_bytes(), "{} bytes on {lane:?}", bytes.len());
        if bytes.first().is_some_and(|first| first & LINK_FRAME_BIT != 0) {
            assert!(Frame::decode(&bytes).is_ok(), "a frame that its receiver refuses: {bytes:?}");
        } else {
            assert!(Header::decode(&bytes).is_ok(), "a packet that its receiver refuses: {bytes:?}");
        }
        self.node.handle_link_room(link, lane, bytes.len(), self.now);
        if self.seen.len() >= MAX_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back((lane, bytes));
    }
}

fn tree(script: &mut Script<'_>) -> TreeId {
    TreeId::new(script.byte() % 4).unwrap_or(FIRST_TREE)
}

/// Short words are frequent, deep ones are there.
fn word(script: &mut Script<'_>) -> Address {
    let depth = [0, 1, 1, 2, 3, 20, 80, 255][script.below(8)];
    let ordinal = script.byte();
    let word: Vec<u8> = (0..depth).map(|at| if at == 0 { ordinal } else { ordinal / 2 }).collect();
    Address::from_ordinals(&word).unwrap_or_default()
}

fn place(script: &mut Script<'_>) -> Place {
    let mut addresses = AddressSet::default();
    for _ in 0..script.below(4) {
        addresses.insert(tree(script), word(script));
    }
    Place { addresses, seq: script.number() }
}

/// A grant that counts as signed.
fn grant(script: &mut Script<'_>) -> [u8; overlay::grant::GRANT_BYTES] {
    let mut grant = [0; overlay::grant::GRANT_BYTES];
    let (parent, child, tree) = (id(script.below(6)), id(script.below(6)), tree(script));
    grant[..32].copy_from_slice(parent.as_bytes());
    grant[32..64].copy_from_slice(child.as_bytes());
    grant[64] = tree.get();
    grant[66] = script.byte();
    grant[67..75].copy_from_slice(&script.number().to_be_bytes());
    grant[75..79].copy_from_slice(&600_u32.to_be_bytes());
    grant
}

/// Titles are the one thing whose signature is really checked: the founder signs them.
fn titles(overlay: &OverlayId, said: &[u8]) -> Vec<u8> {
    static FOUNDERS: LazyLock<[Identity; 2]> = LazyLock::new(|| [identity(100), identity(101)]);
    let [founder, node] = &*FOUNDERS;
    let body = [overlay.as_bytes(), said].concat();
    let signer = if *overlay == GENESIS.overlay_id() { founder } else { node };
    let signature = signer.sign(&[b"muses-titles-v1\0", body.as_slice()].concat());
    [body.as_slice(), &signature].concat()
}
