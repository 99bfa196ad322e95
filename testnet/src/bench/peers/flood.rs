//! A neighbour that floods the node with Hellos which nobody will finish.
//!
//! Each is another one, from an id that does not exist, with a right mac1, which everybody who knows the node's certificate can make; one in four
//! has a mac2, too, but a wrong one. (`muses/tests/sessions/flood.rs` does the same to a session layer alone, with the same [`Forger`].)
//!
//! The process says `ready` when it has joined and knows the node's certificate. A line on stdin begins the flood, the next one ends it, and it says what it
//! sent.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use multiaddr::Multiaddr;
use muses::handshake::fuzzing::Forger;
use muses::{Outgoing, Path, Resolved, Sessions};
use node::clock;
use node::links::Input;
use overlay::id::{Identity, NodeId};
use overlay::io::{Lane, LinkId};
use overlay::rng::Rng;
use overlay::wire::packet::{Header, Kind};
use serde::{Deserialize, Serialize};

use super::neighbour::{CHILDREN, Neighbour};
use super::{lines, run_alone, say};

/// The hidden subcommand under which our binary is a flood.
pub const FLOOD_PROCESS: &str = "bench-flood";

/// What it sends in a second, if the machine and the link let it.
const HELLOS_PER_S: f64 = 100_000.0;
/// After a stall it does not make up for more than this at once.
const MAX_BURST: u64 = 1000;
/// Between two bursts.
const TICK: Duration = Duration::from_millis(1);
/// What a cookie's packet begins with.
const COOKIE: u8 = 9;
/// Return places that its ids pretend to have.
const SPOOFED: usize = CHILDREN * CHILDREN / 2;
/// The most bytes that a Hello's frame has, header and all: less room than this is none.
const MAX_FRAME_BYTES: usize = 4096;

/// What the process says, one JSON object a line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// It can begin.
    Ready,
    /// It has ended.
    Flooded {
        /// Hellos that left.
        hellos: u64,
        /// Cookies that came back.
        cookies: u64,
        /// How long it lasted, in seconds.
        took_s: f64,
    },
}

/// Floods `target`, which listens at `at`.
pub fn main(target: NodeId, at: Multiaddr) -> ExitCode {
    run_alone(FLOOD_PROCESS, run(target, at))
}

async fn run(target: NodeId, at: Multiaddr) -> Result<(), String> {
    let mut rng = Rng::from_seed([8; 32]);
    let neighbour = Neighbour::start(target, at, &mut rng, clock::now())?;
    let mut flood = Flood { target, neighbour, rng, forger: None, room: BTreeMap::new(), under_way: None, cookies: 0 };
    let mut wishes = lines();
    let (mut inputs, mut told_ready) = (Vec::new(), false);
    loop {
        let now = clock::now();
        flood.neighbour.drain(now);
        if !told_ready && flood.neighbour.is_ready(now) {
            told_ready = true;
            say(&Word::Ready);
        }
        flood.send_more();
        tokio::select! {
            () = flood.neighbour.next(&mut inputs) => {}
            () = tokio::time::sleep(TICK) => {}
            Some(()) = wishes.recv() => flood.turn()?,
        }
        for input in inputs.drain(..) {
            flood.handle(input);
        }
    }
}

struct Flood {
    target: NodeId,
    neighbour: Neighbour,
    rng: Rng,
    /// The packet that is sent again and again, each time with another Hello.
    forger: Option<(Outgoing, Forger)>,
    /// Bytes that each link takes.
    room: BTreeMap<LinkId, usize>,
    /// Since when it lasts, and how many Hellos left.
    under_way: Option<(Instant, u64)>,
    cookies: u64,
}

impl Flood {
    /// Begins, or ends.
    fn turn(&mut self) -> Result<(), String> {
        if let Some((began, hellos)) = self.under_way.take() {
            let cookies = std::mem::take(&mut self.cookies);
            say(&Word::Flooded { hellos, cookies, took_s: began.elapsed().as_secs_f64() });
            return Ok(());
        }
        if self.forger.is_none() {
            let found = self.neighbour.found().ok_or("the node was not found")?.clone();
            self.forger = Some(forger(self.target, &found, &mut self.rng).ok_or("there is no Hello to begin with")?);
        }
        self.under_way = Some((Instant::now(), 0));
        Ok(())
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Room { link, lane: Lane::Data, bytes } => *self.room.entry(link).or_default() += bytes,
            Input::Down { link } => _ = self.room.remove(&link),
            Input::Frame { bytes, .. } if self.is_answer(&bytes) => return,
            _ => {}
        }
        self.neighbour.handle(input, clock::now());
    }

    /// Whatever a spoofed id is told goes no further.
    fn is_answer(&mut self, frame: &[u8]) -> bool {
        let Ok((header, payload_at)) = Header::decode(frame) else { return false };
        let is_data = header.kind == Kind::Data;
        self.cookies += u64::from(is_data && frame.get(payload_at) == Some(&COOKIE));
        is_data
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate over minutes")]
    fn send_more(&mut self) {
        let (Some((began, sent)), Some((packet, forger))) = (&mut self.under_way, &mut self.forger) else { return };
        let due = (began.elapsed().as_secs_f64() * HELLOS_PER_S) as u64;
        let Some(room) = self.neighbour.link().and_then(|link| self.room.get_mut(&link)) else { return };
        for _ in 0..due.saturating_sub(*sent).min(MAX_BURST) {
            if *room < MAX_FRAME_BYTES {
                return;
            }
            packet.payload = forger.hello(&mut self.rng);
            let from = NodeId::from_bytes(self.rng.bytes());
            let number = self.rng.index(SPOOFED);
            *room = room.saturating_sub(self.neighbour.send(from, number, packet));
            *sent += 1;
        }
    }
}

/// What forges Hellos to `target`, out of one of a stranger, and that one, for the way to go.
fn forger(target: NodeId, found: &Resolved, rng: &mut Rng) -> Option<(Outgoing, Forger)> {
    let now = clock::now();
    let identity = Identity::from_secret(&rng.bytes());
    let mut stranger = Sessions::new(muses::Config::default(), identity, rng.bytes(), rng.bytes(), now);
    // Nobody answers him, so any place will do.
    stranger.handle_attached(Path(found.path.0.clone()), now);
    stranger.open(target, "nothing", 1, now).ok()?;
    while let Some(command) = stranger.poll_command() {
        if let muses::Command::Resolve(peer) = command {
            stranger.handle_peer(peer, found.clone(), now);
        }
    }
    let hello = stranger.poll_transmit()?;
    let forger = Forger::new(hello.payload.clone(), &found.cert)?;
    Some((hello, forger))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_flood_says_is_one_line() {
        for word in [Word::Ready, Word::Flooded { hellos: 100_000, cookies: 9, took_s: 1.5 }] {
            let line = serde_json::to_string(&word).unwrap();
            assert!(!line.contains('\n') && serde_json::from_str::<Word>(&line).unwrap() == word, "{line}");
        }
    }

    /// The node answers each with a cookie or works on it: it takes none for noise.
    #[test]
    fn a_node_takes_every_forged_hello_for_one_that_is_meant_for_it() {
        let now = clock::now();
        let mut rng = Rng::from_seed([1; 32]);
        let identity = Identity::from_secret(&[2; 32]);
        let target = identity.id();
        let mut node = Sessions::new(muses::Config::default(), identity, [3; 32], [4; 32], now);
        node.handle_attached(Path(vec![1]), now);
        let found = Resolved { cert: node.cert().to_vec(), path: Path(vec![1]) };
        let (_, mut forger) = forger(target, &found, &mut rng).unwrap();
        let (mut packets, mut answers) = (std::collections::BTreeSet::new(), 0);
        for number in 0..100 {
            let hello = forger.hello(&mut rng);
            packets.insert(hello.clone());
            let arrival = muses::Arrival {
                from: NodeId::from_bytes(rng.bytes()),
                return_path: Path(vec![number]),
                via: Some(NodeId::from_bytes([5; 32])),
                ecn: false,
                hops: 1,
            };
            node.handle_packet(arrival, hello, now);
            answers +=
                std::iter::from_fn(|| node.poll_transmit()).filter(|out| out.payload.first() == Some(&COOKIE)).count();
        }
        assert_eq!((packets.len(), node.sessions().count()), (100, 0));
        let worked_on = usize::try_from(muses::config::NEIGHBOUR_HELLOS.burst).unwrap();
        assert_eq!(answers, 100 - worked_on, "what it does not work on, it answers with a cookie");
        assert!(node.public_key_ops() > 0);
    }
}
