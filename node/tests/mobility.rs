//! What ends a connection that was not made mobile, in virtual time: two stacks and a link between them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use multiaddr::Multiaddr;
use node::stack::mobility::MAX_SILENCE;
use node::stack::{Config, ConnId, Event, Failure, Readout, Stack, Who};
use overlay::id::{Identity, NodeId};
use overlay::io::{Command, Lane, LinkId, Snapshot};
use overlay::time::{Instant, Now, WallTime};

const A: usize = 0;
const B: usize = 1;
const SECOND: Duration = Duration::from_secs(1);
/// More than any window.
const ROOM_BYTES: usize = 16 << 20;

struct Pair {
    stacks: [Stack; 2],
    ids: [NodeId; 2],
    events: [Vec<Event>; 2],
    now: Now,
    /// The link that is up, if any.
    link: Option<LinkId>,
    links: u64,
    /// Whether B's dials lead anywhere.
    network: bool,
}

fn at(ip: &str) -> Multiaddr {
    format!("/ip4/{ip}/tcp/1").parse().unwrap()
}

impl Pair {
    /// A, who founds, and B, who joins.
    fn new() -> Self {
        let now =
            Now { instant: Instant::from_micros(1_000_000), wall: WallTime::from_unix_micros(1_800_000_000_000_000) };
        let identities = [1, 2].map(|seed| Identity::from_secret(&[seed; 32]));
        let ids = [identities[A].id(), identities[B].id()];
        let stacks = identities.map(|identity| {
            let (seed, joins) = if identity.id() == ids[A] { (1, vec![]) } else { (2, vec![at("10.0.0.1")]) };
            let config = Config { joins, ..Config::default() };
            Stack::new(config, identity, [seed; 32], [seed; 32], now).unwrap()
        });
        let events = [Vec::new(), Vec::new()];
        let mut pair = Self { stacks, ids, events, now, link: None, links: 0, network: true };
        for (node, ip) in [(A, "10.0.0.1"), (B, "10.0.0.2")] {
            pair.stacks[node].start(&Snapshot::new(), now).unwrap();
            pair.stacks[node].handle_listen_addresses(vec![at(ip)], now);
        }
        pair.stacks[A].expose("talk".into(), String::new(), vec![Who::Anyone]);
        pair.run(10 * SECOND);
        pair
    }

    /// A connection from B to A, at both ends; fixed where `fixed` says so.
    fn connection(&mut self, fixed: [bool; 2]) -> [ConnId; 2] {
        let opened = self.stacks[B].open(&self.ids[A].to_string(), "talk", 0, self.now);
        self.run(SECOND);
        let incoming = |event: &Event| match event {
            Event::Incoming { conn, .. } => Some(*conn),
            _ => None,
        };
        let accepted = self.events[A].iter().find_map(incoming).expect("a connection");
        self.stacks[A].accept(accepted, self.now);
        self.run(SECOND);
        assert!(self.events[B].contains(&Event::Opened(opened)), "{:?}", self.events[B]);
        let conns = [accepted, opened];
        for node in [A, B] {
            if fixed[node] {
                self.stacks[node].fix(conns[node], self.now);
            }
        }
        conns
    }

    /// B's network goes; A, who is the root, only hears nothing any more.
    fn cut(&mut self) {
        self.network = false;
        let link = self.link.take().expect("a link");
        for stack in &mut self.stacks {
            stack.handle_link_down(link, self.now);
        }
        self.run(Duration::ZERO);
    }

    /// It is back, and B is there.
    fn back_at(&mut self, ip: &str) {
        self.network = true;
        self.stacks[B].handle_listen_addresses(vec![at(ip)], self.now);
        self.stacks[B].handle_address_change(self.now);
        self.run(5 * SECOND);
    }

    fn failure(&self, node: usize, conn: ConnId) -> Option<Failure> {
        self.events[node].iter().find_map(|event| match event {
            Event::Failed(failed, why) if *failed == conn => Some(*why),
            _ => None,
        })
    }

    fn goes_through(&mut self, conns: [ConnId; 2]) -> bool {
        let sent = self.stacks[B].write(conns[B], b"word", self.now);
        self.run(SECOND);
        sent == 4 && self.stacks[A].read(conns[A], 9, self.now) == Readout::Bytes(b"word".to_vec())
    }

    fn run(&mut self, span: Duration) {
        let end = self.now.instant + span;
        loop {
            while (0..2).any(|node| self.drain(node)) {}
            let due = self.stacks.iter().filter_map(Stack::poll_timeout).map(|(at, _)| at).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            // At least a little, for timers that are early.
            self.now = self.now.after(due.since(self.now.instant).max(Duration::from_micros(1)));
            self.stacks.iter_mut().for_each(|stack| stack.handle_timeout(self.now));
        }
        self.now = self.now.after(end.since(self.now.instant));
    }

    fn drain(&mut self, node: usize) -> bool {
        let (mut busy, now) = (false, self.now);
        while let Some(frame) = self.stacks[node].poll_transmit() {
            busy = true;
            self.stacks[node].handle_link_room(frame.link, frame.lane, frame.bytes.len(), now);
            if self.link == Some(frame.link) {
                self.stacks[1 - node].handle_frame(frame.link, frame.lane, frame.bytes, now);
            }
        }
        while let Some(command) = self.stacks[node].poll_command() {
            busy = true;
            match command {
                Command::Persist { key, .. } => self.stacks[node].handle_persisted(&key, now),
                Command::Dial(address) if node == B && self.network && self.link.is_none() => self.link_up(address),
                Command::Dial(address) => self.stacks[node].handle_dial_failed(&address, now),
                Command::Close(link, _) if self.link == Some(link) => panic!("closed"),
                Command::Close(..) => {}
            }
        }
        while let Some(event) = self.stacks[node].poll_event() {
            busy = true;
            self.events[node].push(event);
        }
        busy
    }

    fn link_up(&mut self, address: Multiaddr) {
        self.links += 1;
        let link = LinkId(self.links);
        self.link = Some(link);
        let ids = self.ids;
        self.stacks[B].handle_link_up(link, ids[A], address, true, self.now);
        self.stacks[A].handle_link_up(link, ids[B], at("10.0.0.2"), false, self.now);
        for stack in &mut self.stacks {
            for lane in [Lane::Control, Lane::Data] {
                stack.handle_link_room(link, lane, ROOM_BYTES, self.now);
            }
        }
    }
}

#[test]
fn who_loses_the_network_is_told_at_once_and_the_peer_after_a_silence() {
    let mut pair = Pair::new();
    let conns = pair.connection([true, true]);
    assert!(pair.goes_through(conns));
    pair.stacks[A].write(conns[A], b"unheard", pair.now);
    pair.cut();
    assert_eq!((pair.failure(B, conns[B]), pair.failure(A, conns[A])), (Some(Failure::Moved), None));
    pair.run(MAX_SILENCE - SECOND);
    assert_eq!(pair.failure(A, conns[A]), None, "it may be an outage");
    // Silence is noticed within a few seconds.
    pair.run(10 * SECOND);
    assert_eq!(pair.failure(A, conns[A]), Some(Failure::Silent));
    pair.back_at("10.0.0.3");
    assert!(pair.stacks[A].sessions(pair.now).iter().all(|session| session.streams.is_empty()), "nothing is left");
}

#[test]
fn an_outage_that_moves_nobody_breaks_nothing_at_the_end_that_stayed() {
    let mut pair = Pair::new();
    let conns = pair.connection([true, false]);
    pair.stacks[A].write(conns[A], b"unheard", pair.now);
    pair.cut();
    pair.run(MAX_SILENCE / 2);
    pair.back_at("10.0.0.2");
    assert_eq!(pair.failure(A, conns[A]), None);
    assert!(pair.goes_through(conns));
    // And the silence before does not count any more.
    pair.run(2 * MAX_SILENCE);
    assert!(pair.goes_through(conns));
}

#[test]
fn a_peer_that_is_back_elsewhere_resets_what_was_fixed_and_not_what_is_mobile() {
    for fixed in [true, false] {
        let mut pair = Pair::new();
        let conns = pair.connection([true, false]);
        if !fixed {
            assert!(pair.stacks[A].activate_mobility(conns[A]));
        }
        pair.stacks[A].write(conns[A], b"unheard", pair.now);
        pair.cut();
        pair.run(3 * SECOND);
        pair.back_at("10.0.0.3");
        assert_eq!(pair.failure(A, conns[A]), fixed.then_some(Failure::PeerMoved));
        assert_eq!(pair.failure(B, conns[B]), fixed.then_some(Failure::Reset), "the other end hears of it");
        assert_ne!(pair.goes_through(conns), fixed);
    }
}

#[test]
fn who_has_another_address_resets_what_was_fixed() {
    let mut pair = Pair::new();
    let conns = pair.connection([true, false]);
    // One more address is no move; another one instead is.
    pair.stacks[A].handle_listen_addresses(vec![at("10.0.0.1"), at("10.9.9.9")], pair.now);
    pair.run(SECOND);
    assert_eq!(pair.failure(A, conns[A]), None);
    pair.stacks[A].handle_listen_addresses(vec![at("10.9.9.9")], pair.now);
    pair.run(SECOND);
    assert_eq!(pair.failure(A, conns[A]), Some(Failure::Moved));
    assert!(!pair.stacks[A].activate_mobility(conns[A]), "too late");
}

/// Both directions are over before one end has looked for the peer's: it finds that, and no broken connection.
#[test]
fn an_end_that_was_not_read_in_time_is_an_end() {
    let mut pair = Pair::new();
    let conns = pair.connection([false, false]);
    assert_eq!(pair.stacks[A].write(conns[A], b"word", pair.now), 4);
    pair.run(SECOND);
    let read = |pair: &mut Pair, node: usize| pair.stacks[node].read(conns[node], 9, pair.now);
    assert_eq!(read(&mut pair, B), Readout::Bytes(b"word".to_vec()));
    for node in [A, B] {
        pair.stacks[node].finish(conns[node], pair.now);
        pair.run(5 * SECOND);
    }
    for node in [A, B] {
        assert_eq!(read(&mut pair, node), Readout::End);
        assert_eq!((read(&mut pair, node), pair.failure(node, conns[node])), (Readout::End, None));
        pair.stacks[node].release(conns[node]);
        pair.run(SECOND);
        assert_eq!(read(&mut pair, node), Readout::Gone, "nothing is left of it");
    }
}

/// Whoever has read it, and lets go, has not to come back for the end of what it said itself.
#[test]
fn of_a_connection_that_was_released_nothing_is_left() {
    let mut pair = Pair::new();
    let conns = pair.connection([false, false]);
    pair.stacks[A].finish(conns[A], pair.now);
    pair.run(SECOND);
    assert_eq!(pair.stacks[B].read(conns[B], 9, pair.now), Readout::End);
    assert_eq!(pair.stacks[B].write(conns[B], b"word", pair.now), 4);
    pair.stacks[B].finish(conns[B], pair.now);
    pair.stacks[B].release(conns[B]);
    pair.run(SECOND);
    assert_eq!(pair.stacks[A].read(conns[A], 9, pair.now), Readout::Bytes(b"word".to_vec()));
    assert_eq!(pair.stacks[A].read(conns[A], 9, pair.now), Readout::End);
    pair.run(SECOND);
    assert_eq!((pair.stacks[B].read(conns[B], 9, pair.now), pair.failure(B, conns[B])), (Readout::Gone, None));
}
