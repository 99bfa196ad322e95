//! A node under a flood of Hellos, and what packets from strangers draw from it.

use std::collections::BTreeMap;
use std::time::Duration;

use muses::config::{Config, FLOOD_TOLD_EVERY, HELLO_FIRST_WAIT, NEIGHBOUR_FLOOD, NEIGHBOUR_HELLOS, PROVEN_HELLOS};
use muses::event::{Arrival, Command, Event, Path, Resolved};
use muses::handshake::OPS_PER_HELLO;
use muses::handshake::fuzzing::Forger;
use muses::sessions::Sessions;
use overlay::id::{Identity, NodeId};
use overlay::rng::Rng;
use overlay::time::{Now, WallTime};

use crate::pair::{MS, SECOND};

mod rates;

/// One way from anybody to anybody.
const DELAY_MS: u64 = 10;
/// mac1 and mac2 at the end of a Hello.
const MAC_BYTES: usize = 16;

/// A node that is called `name`, at the path of that name.
struct Node {
    id: NodeId,
    path: Path,
    sessions: Sessions,
    via: NodeId,
    began: Option<Now>,
    established: Option<Now>,
}

impl Node {
    fn new(name: u8, via: u8, now: Now) -> Self {
        let identity = Identity::from_secret(&[name; 32]);
        let (id, path) = (identity.id(), Path(vec![name]));
        let mut sessions = Sessions::new(Config::default(), identity, [name ^ 0x55; 32], [name ^ 0xaa; 32], now);
        sessions.handle_attached(path.clone(), now);
        Self { id, path, sessions, via: NodeId::from_bytes([via; 32]), began: None, established: None }
    }

    fn arrival(&self) -> Arrival {
        Arrival { from: self.id, return_path: self.path.clone(), via: Some(self.via), ecn: false, hops: 3 }
    }
}

/// B, those who want a session with it, and whoever floods it.
struct World {
    b: Node,
    honest: Vec<Node>,
    now: Now,
    wire: BTreeMap<(u64, u64), (Path, Arrival, Vec<u8>)>,
    count: u64,
    looked_up: usize,
    bytes_out_of_b: usize,
    /// Over whom B said that a flood comes.
    floods: Vec<NodeId>,
}

impl World {
    fn new(honest: u8, via: impl Fn(u8) -> u8) -> Self {
        let now = Now { wall: WallTime::from_unix_micros(1_800_000_000_000_000), ..Now::default() };
        let honest = (0..honest).map(|n| Node::new(n + 2, via(n), now)).collect();
        let b = Node::new(1, 0, now);
        Self { b, honest, now, wire: BTreeMap::new(), count: 0, looked_up: 0, bytes_out_of_b: 0, floods: Vec::new() }
    }

    fn ms(&self) -> u64 {
        self.now.instant.as_micros() / 1000
    }

    fn begin(&mut self, number: usize) {
        let node = &mut self.honest[number];
        node.began = Some(self.now);
        node.sessions.open(self.b.id, "files", 0, self.now).unwrap();
    }

    /// A millisecond passes.
    fn step(&mut self) {
        self.now = self.now.after(MS);
        let due = self.wire.split_off(&(self.ms() + 1, 0));
        for (_, (path, arrival, payload)) in core::mem::replace(&mut self.wire, due) {
            let to = if path == self.b.path {
                Some(&mut self.b)
            } else {
                self.honest.iter_mut().find(|node| node.path == path)
            };
            if let Some(node) = to {
                node.sessions.handle_packet(arrival, payload, self.now);
            }
        }
        for number in 0..=self.honest.len() {
            self.drain(number);
        }
    }

    /// Node 0 is B.
    fn drain(&mut self, number: usize) {
        let cert = self.b.sessions.cert().to_vec();
        let (b_id, b_path) = (self.b.id, self.b.path.clone());
        let node = if number == 0 { &mut self.b } else { &mut self.honest[number - 1] };
        node.sessions.handle_timeout(self.now);
        while let Some(command) = node.sessions.poll_command() {
            if let Command::Resolve(peer) = command {
                if number == 0 {
                    self.looked_up += 1;
                } else {
                    assert_eq!(peer, b_id);
                    let resolved = Resolved { cert: cert.clone(), path: b_path.clone() };
                    node.sessions.handle_peer(peer, resolved, self.now);
                }
            }
        }
        while let Some(out) = node.sessions.poll_transmit() {
            self.bytes_out_of_b += if number == 0 { out.payload.len() } else { 0 };
            self.count += 1;
            let at = self.now.instant.as_micros() / 1000 + DELAY_MS;
            self.wire.insert((at, self.count), (out.path, node.arrival(), out.payload));
        }
        while let Some(event) = node.sessions.poll_event() {
            match event {
                Event::SessionEstablished { .. } => node.established = Some(self.now),
                Event::HelloFlood { via } => self.floods.push(via),
                _ => {}
            }
        }
    }

    /// Hands a packet to B and takes what it answers off the wire; returns the answer's packets.
    fn ask(&mut self, arrival: &Arrival, packet: &[u8]) -> Vec<Vec<u8>> {
        self.drain(0);
        self.wire.clear();
        self.b.sessions.handle_packet(arrival.clone(), packet.to_vec(), self.now);
        self.drain(0);
        core::mem::take(&mut self.wire).into_values().map(|(_, _, payload)| payload).collect()
    }

    /// The Hello of an honest node, for B.
    fn hello(&mut self, number: usize) -> (Arrival, Vec<u8>) {
        self.begin(number);
        self.drain(number + 1);
        let (_, (_, arrival, hello)) = self.wire.pop_last().unwrap();
        (arrival, hello)
    }
}

/// What forges Hellos to B, out of one of a stranger.
fn forger(world: &mut World) -> Forger {
    let mut stranger = Node::new(250, 9, world.now);
    core::mem::swap(&mut world.honest[0], &mut stranger);
    let (_, hello) = world.hello(0);
    core::mem::swap(&mut world.honest[0], &mut stranger);
    Forger::new(hello, world.b.sessions.cert()).unwrap()
}

/// The neighbour over whom the flood comes.
const FLOODED: u8 = 200;
const QUIET: u8 = 201;

#[test]
fn honest_handshakes_succeed_in_a_flood_of_hellos() {
    const HONEST: u8 = 60;
    const FLOOD_MS: u64 = 3000;
    const HELLOS_PER_MS: u64 = 100;
    let mut world = World::new(HONEST, |n| if n % 2 == 0 { FLOODED } else { QUIET });
    let (mut forger, mut rng) = (forger(&mut world), Rng::from_seed([8; 32]));
    let ops_before = world.b.sessions.public_key_ops();
    let (mut begun, mut bytes_in) = (0, 0);
    for ms in 0..FLOOD_MS + 200 {
        // They come one after the other while the flood lasts, and find it at its height.
        if ms >= 400 && ms % 40 == 0 && begun < usize::from(HONEST) {
            world.begin(begun);
            begun += 1;
        }
        for turn in (0..HELLOS_PER_MS).filter(|_| ms < FLOOD_MS) {
            // Some pretend to be those who are honest, at their places.
            let victim = &world.honest[world.count as usize % world.honest.len()];
            let (from, return_path) = match turn % 10 {
                0 => (victim.id, victim.path.clone()),
                _ => (NodeId::from_bytes(rng.bytes()), Path(rng.bytes::<20>().to_vec())),
            };
            let via = Some(NodeId::from_bytes([FLOODED; 32]));
            let hello = forger.hello(&mut rng);
            bytes_in += hello.len();
            let arrival = Arrival { from, return_path, via, ecn: false, hops: 3 };
            world.b.sessions.handle_packet(arrival, hello, world.now);
        }
        world.step();
    }
    for (number, node) in world.honest.iter().enumerate() {
        let took = node.established.unwrap().instant.since(node.began.unwrap().instant);
        // Without a flood one round trip; the cookie costs a second one. No Hello is lost, so no timer runs out.
        let round_trips = if node.via == NodeId::from_bytes([FLOODED; 32]) { 2 } else { 1 };
        assert!(took <= MS * 2 * u32::try_from(DELAY_MS).unwrap() * round_trips + MS, "node {number}: {took:?}");
        assert!(took < HELLO_FIRST_WAIT / 2);
    }
    assert_eq!(world.b.sessions.sessions().count(), usize::from(HONEST), "nobody else has a session");
    assert_eq!(world.looked_up, 0);
    let told = FLOOD_MS / FLOOD_TOLD_EVERY.as_millis() as u64;
    assert!(world.floods.iter().all(|via| *via == NodeId::from_bytes([FLOODED; 32])), "{:?}", world.floods);
    assert!((told - 1..=told).contains(&(world.floods.len() as u64)), "{}", world.floods.len());
    let counters = world.b.sessions.counters();
    assert!(counters.cookies > FLOOD_MS * HELLOS_PER_MS * 9 / 10, "{counters:?}");
    // The flood's neighbour had its budget of work, and the honest nodes theirs.
    let interval_ms = NEIGHBOUR_HELLOS.every.as_millis() as u64;
    let worked = u64::from(NEIGHBOUR_HELLOS.burst) + (FLOOD_MS + 200) / interval_ms + u64::from(HONEST);
    let ops = world.b.sessions.public_key_ops() - ops_before;
    assert!(ops <= worked * OPS_PER_HELLO, "{ops} operations, {worked} Hellos");
    assert!(world.bytes_out_of_b * 3 < bytes_in, "{} out, {bytes_in} in", world.bytes_out_of_b);
}

/// As many as a node can make use of, and an honest burst, are none.
#[test]
fn not_every_crowd_is_a_flood() {
    let mut world = World::new(1, |_| QUIET);
    let (mut forger, mut rng) = (forger(&mut world), Rng::from_seed([8; 32]));
    let (arrival, _) = world.hello(0);
    let mut hellos = |world: &mut World, count: u32| {
        (0..count).for_each(|_| drop(world.ask(&arrival, &forger.hello(&mut rng))));
        world.floods.len()
    };
    assert_eq!(hellos(&mut world, NEIGHBOUR_FLOOD.burst), 0);
    // 4,000 a second, at any times.
    for turn in 0..1000 {
        world.now = world.now.after(if turn % 2 == 0 { MS / 10 * 13 } else { MS / 10 * 7 });
        assert_eq!(hellos(&mut world, 4), 0);
    }
    assert_eq!(hellos(&mut world, 10), 1);
    // What is no Hello for this node counts, too.
    world.now = world.now.after(FLOOD_TOLD_EVERY);
    let noise = [&forger.hello(&mut rng)[..20], &[0; 1000]].concat();
    for _ in 0..2 * NEIGHBOUR_FLOOD.burst {
        assert!(world.ask(&arrival, &noise).is_empty());
    }
    assert_eq!(world.floods, [arrival.via.unwrap(); 2]);
}

#[test]
fn a_replayed_or_mangled_packet_draws_nothing_larger_than_itself() {
    let mut world = World::new(1, |_| QUIET);
    let forger = forger(&mut world);
    let (arrival, hello) = world.hello(0);
    let replies = world.ask(&arrival, &hello);
    assert_eq!(replies.len(), 1, "Hello B");
    assert!(replies[0].len() <= hello.len());
    // The same again, as if Hello B was lost: at first at once, then rarely.
    let mut again = 0;
    for _ in 0..100 {
        let more = world.ask(&arrival, &hello);
        assert!(more.iter().all(|packet| *packet == replies[0]));
        again += more.len();
    }
    assert!((1..=10).contains(&again), "{again}");
    // Under the name of the half-open handshake, but shorter or other: nothing.
    for length in 0..hello.len() {
        assert!(world.ask(&arrival, &hello[..length]).is_empty(), "cut at {length}");
    }
    for at in 0..hello.len() - MAC_BYTES {
        // Enough for the limit on repeats not to be what keeps B silent.
        world.now = world.now.after(50 * MS);
        let mut bad = hello.clone();
        bad[at] ^= 1;
        assert!(world.ask(&arrival, &bad).is_empty(), "byte {at}");
        if (20..hello.len() - 2 * MAC_BYTES).contains(&at) {
            forger.sign(&mut bad);
            assert!(world.ask(&arrival, &bad).is_empty(), "byte {at}, mac1 right");
        }
    }
    // A's Finished, then its replays and pieces.
    world.honest[0].sessions.handle_packet(world.b.arrival(), replies[0].clone(), world.now);
    world.drain(1);
    let packets: Vec<_> = core::mem::take(&mut world.wire).into_values().map(|(_, _, payload)| payload).collect();
    let finished = packets.iter().find(|packet| packet[0] == 3).unwrap();
    let mut answer = world.ask(&arrival, finished);
    // With A's Finished the session is there, and may have something of its own to say.
    answer.retain(|packet| packet[0] != 5);
    assert!(answer.len() == 1 && answer[0].len() <= finished.len(), "{answer:?}");
    for length in 0..finished.len() {
        assert!(world.ask(&arrival, &finished[..length]).is_empty(), "cut at {length}");
    }
    let again: usize = (0..100).map(|_| world.ask(&arrival, finished).len()).sum();
    assert!((1..=10).contains(&again), "{again}");
}

#[test]
fn invalid_packets_draw_only_cookies() {
    draws_only_cookies(20_000);
}

#[test]
#[ignore = "10^6 packets; for the night"]
fn a_million_invalid_packets_draw_only_cookies() {
    draws_only_cookies(1_000_000);
}

fn draws_only_cookies(packets: u64) {
    let mut world = World::new(1, |_| QUIET);
    let (arrival, hello) = world.hello(0);
    let mut rng = Rng::from_seed([3; 32]);
    let mut packet = Vec::new();
    for turn in 0..packets {
        packet.clear();
        packet.extend((0..rng.below(80)).map(|_| rng.bytes::<1>()[0]));
        if turn % 2 == 0 {
            packet.clone_from(&hello);
            let at = rng.index(packet.len() - MAC_BYTES);
            packet[at] ^= 1 << rng.below(8);
        } else if let Some(kind) = packet.first_mut() {
            // Too short for a whole Re-Hello: what those draw of whom nobody knows a session, `rates` counts.
            *kind = [1, 2, 3, 4, 5, 6, 7, 8, 9][rng.index(9)];
        }
        assert!(world.ask(&arrival, &packet).is_empty(), "turn {turn}: {packet:?}");
    }
    // With a right mac1, at last, cookies: smaller than what draws them.
    let (mut forger, mut rng) = (forger(&mut world), Rng::from_seed([8; 32]));
    let mut cookies = 0;
    for _ in 0..2 * PROVEN_HELLOS.burst {
        let forged = forger.hello(&mut rng);
        for reply in world.ask(&arrival, &forged) {
            assert_eq!(reply[0], 9);
            assert!(reply.len() * 3 < forged.len());
            cookies += 1;
        }
    }
    assert!(cookies > 0);
}

#[test]
fn who_fills_the_table_of_half_open_handshakes_displaces_what_came_the_same_way() {
    let mut world = World::new(10, |n| if n == 0 { QUIET } else { FLOODED });
    let config = Config { max_half_open: 4, ..Config::default() };
    world.b.sessions = Sessions::new(config, Identity::from_secret(&[1; 32]), [3; 32], [4; 32], world.now);
    world.b.sessions.handle_attached(world.b.path.clone(), world.now);
    let (arrival, hello) = world.hello(0);
    let reply = world.ask(&arrival, &hello);
    let mut others = Vec::new();
    for number in 1..10 {
        let (arrival, hello) = world.hello(number);
        others.push(world.ask(&arrival, &hello));
        assert_eq!(others.last().unwrap().len(), 1);
        world.now = world.now.after(MS);
    }
    let mut finish = |number: usize, reply: &[u8]| {
        world.wire.clear();
        world.honest[number].sessions.handle_packet(world.b.arrival(), reply.to_vec(), world.now);
        world.drain(number + 1);
        let (_, (_, arrival, finished)) = world.wire.pop_first().unwrap();
        world.ask(&arrival, &finished).iter().any(|packet| packet[0] == 4)
    };
    assert!(finish(0, &reply[0]), "the quiet neighbour's, though it is the oldest");
    assert!(!finish(1, &others[0][0]), "the oldest of the other's");
    assert!(finish(9, &others[8][0]), "its latest");
}

#[test]
fn a_cookie_serves_the_next_handshakes_of_two_minutes() {
    let mut world = World::new(1, |_| FLOODED);
    let (mut forger, mut rng) = (forger(&mut world), Rng::from_seed([8; 32]));
    let (arrival, hello) = world.hello(0);
    for _ in 0..=NEIGHBOUR_HELLOS.burst {
        world.ask(&arrival, &forger.hello(&mut rng));
    }
    let cookie = world.ask(&arrival, &hello).remove(0);
    assert_eq!(cookie[0], 9);
    world.honest[0].sessions.handle_packet(world.b.arrival(), cookie, world.now);
    // Nothing more comes: the handshake fails, and others after it.
    for (wait, stamped) in [(40 * SECOND, true), (40 * SECOND, true), (60 * SECOND, false)] {
        world.now = world.now.after(wait);
        world.drain(1);
        assert_eq!(world.honest[0].sessions.sessions().count(), 0);
        let (_, hello) = world.hello(0);
        assert_eq!(hello[hello.len() - MAC_BYTES..] != [0; MAC_BYTES], stamped);
    }
}

#[test]
fn a_cookie_hurries_a_hello_only_once_in_a_turn() {
    let mut world = World::new(1, |_| FLOODED);
    let (mut forger, mut rng) = (forger(&mut world), Rng::from_seed([8; 32]));
    let (arrival, hello) = world.hello(0);
    // B's budget is used up, so each Hello of an honest node is answered with a cookie; the secret behind it changes.
    let mut flood = |world: &mut World, forger: &mut Forger| {
        for _ in 0..=NEIGHBOUR_HELLOS.burst {
            world.ask(&arrival, &forger.hello(&mut rng));
        }
    };
    flood(&mut world, &mut forger);
    let first = world.ask(&arrival, &hello);
    assert_eq!((first.len(), first[0][0]), (1, 9));
    let cookie = |world: &mut World, packet: &[u8]| {
        world.honest[0].sessions.handle_packet(world.b.arrival(), packet.to_vec(), world.now);
        world.drain(1);
        core::mem::take(&mut world.wire).len()
    };
    assert_eq!(cookie(&mut world, &first[0]), 1, "at once");
    assert_eq!(cookie(&mut world, &first[0]), 0, "the same cookie");
    let elsewhere = Arrival { return_path: Path(vec![99]), ..arrival.clone() };
    let other = world.ask(&elsewhere, &hello);
    assert_eq!((other.len(), other[0][0]), (1, 9));
    assert_eq!(cookie(&mut world, &other[0]), 0, "another cookie in the same turn");
    // When the timer sends the Hello next, the cookie of then is on it.
    let mut sent = 0;
    while sent == 0 {
        world.now = world.now.after(10 * MS);
        assert!(world.now.instant.as_micros() < 2 * SECOND.as_micros() as u64);
        world.drain(1);
        sent = world.wire.len();
    }
    let (_, (_, _, stamped)) = world.wire.pop_last().unwrap();
    let zero = [0; MAC_BYTES];
    assert_ne!(stamped[stamped.len() - MAC_BYTES..], zero);
    assert_eq!(stamped[..stamped.len() - MAC_BYTES], hello[..hello.len() - MAC_BYTES]);
    assert!(Duration::from_millis(world.ms()) >= HELLO_FIRST_WAIT / 2);
}
