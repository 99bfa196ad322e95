//! What a session keeps that carries nothing: counted by the allocator, so that nothing is left out.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::alloc::System;
use std::time::Duration;

use muses::event::{Arrival, Command, Event, Path, Read, Resolved};
use muses::sessions::Sessions;
use muses::{Config, StreamKey};
use overlay::id::{Identity, NodeId};
use overlay::time::{Now, WallTime};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PEERS: u8 = 200;
/// Most bytes of a session without streams.
const SESSION_BYTES: usize = 4096;
/// Turns of one conversation: a bound, never reached.
const MAX_TURNS: usize = 1000;

struct Node {
    id: NodeId,
    sessions: Sessions,
    streams: Vec<StreamKey>,
}

impl Node {
    fn new(number: u8, now: Now) -> Self {
        let identity = Identity::from_secret(&[number; 32]);
        let id = identity.id();
        let mut sessions = Sessions::new(Config::default(), identity, [number; 32], [number; 32], now);
        sessions.handle_attached(Path(vec![number; 40]), now);
        Self { id, sessions, streams: Vec::new() }
    }

    /// Takes what the peer sends, reads it, and ends its own direction, too.
    fn hear(&mut self, now: Now) {
        while let Some(event) = self.sessions.poll_event() {
            if let Event::StreamOpened { stream, .. } = event {
                self.sessions.accept(stream, now);
                self.sessions.finish(stream, now);
                self.streams.push(stream);
            }
        }
        self.streams.retain(|stream| match self.sessions.read(*stream, 1000) {
            Read::Data(_) | Read::Pending => true,
            Read::End | Read::Reset(_) => false,
        });
    }
}

/// Moves what `from` has for `to`; whether there was anything.
fn pass(from: &mut Node, to: &mut Node, now: Now) -> bool {
    let mut any = false;
    while let Some(command) = from.sessions.poll_command() {
        if let Command::Resolve(peer) = command {
            let resolved = Resolved { cert: to.sessions.cert().to_vec(), path: Path(vec![7; 40]) };
            from.sessions.handle_peer(peer, resolved, now);
            any = true;
        }
    }
    while let Some(packet) = from.sessions.poll_transmit() {
        let return_path = Path(vec![8; 40]);
        let arrival = Arrival { from: from.id, return_path, via: Some(from.id), ecn: false, hops: 1 };
        to.sessions.handle_packet(arrival, packet.payload, now);
        any = true;
    }
    to.hear(now);
    any
}

/// A session with one short stream, until neither end has anything to say.
fn converse(a: &mut Node, b: &mut Node, now: &mut Now) {
    let stream = a.sessions.open(b.id, "web", 0, *now).unwrap();
    a.sessions.write(stream, b"hello", *now);
    a.sessions.finish(stream, *now);
    a.streams.push(stream);
    for _ in 0..MAX_TURNS {
        let busy = pass(a, b, *now) | pass(b, a, *now);
        if !busy && a.streams.is_empty() && b.streams.is_empty() {
            return;
        }
        *now = now.after(Duration::from_millis(10));
        a.sessions.handle_timeout(*now);
        b.sessions.handle_timeout(*now);
    }
    panic!("they go on and on");
}

#[test]
fn a_session_that_carries_nothing_takes_four_kibibytes() {
    let mut now = Now { wall: WallTime::from_unix_micros(1_800_000_000_000_000), ..Now::default() };
    let mut node = Node::new(0, now);
    // What does not grow with the number of sessions is there then.
    converse(&mut Node::new(255, now), &mut node, &mut now);
    let region = Region::new(ALLOCATOR);
    for number in 1..=PEERS {
        now = now.after(Duration::from_secs(1));
        converse(&mut Node::new(number, now), &mut node, &mut now);
    }
    let change = region.change();
    let each = change.bytes_allocated.saturating_sub(change.bytes_deallocated) / usize::from(PEERS);
    assert_eq!(node.sessions.sessions().count(), usize::from(PEERS) + 1);
    assert!((500..=SESSION_BYTES).contains(&each), "{each} bytes");
}
