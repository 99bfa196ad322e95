//! A peer that has all keys of its session, and means harm: what it says is authentic, and none of it has to make sense.

use core::time::Duration;
use std::sync::LazyLock;

use muses::config::{Config, OLD_KEY_LIFETIME};
use muses::event::ResetReason;
use muses::frame::{Ack, Frame, Frames, MAX_ACK_RANGES, MAX_REACH_BYTES, MAX_VARINT, Refresh};
use muses::keys::Secrets;
use muses::packet::{Opener, Sealer};
use muses::resume::Proposal;
use muses::{Arrival, Path};
use overlay::id::NodeId;
use overlay::rng::Rng;
use overlay::time::{Now, WallTime};

use crate::messages::identity;
use crate::script::Script;
use crate::sessions::{End, NEIGHBOUR, Store, Stream, WALL_US, pattern, secrets};

/// Things that the peer does: a bound on the time of one run.
const MAX_STEPS: usize = 256;
/// Packets that the node may send for one thing that happened.
const MAX_BURST: usize = 4096;

/// The peer, and the node that it wants to harm.
pub struct Peer {
    id: NodeId,
    secrets: Secrets,
    keys: Option<(Sealer, Opener)>,
    /// Keys of the epoch before, and since when they are old: soon nothing may be believed under them.
    old: Option<(Sealer, Now)>,
    rng: Rng,
    victim: End,
    now: Now,
}

/// The node stands it all: no more is kept than was granted, and what it sends is well-formed.
pub fn muses_peer(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut peer = Peer::new(script.chunk(), script.chunk());
    for _ in 0..MAX_STEPS {
        if script.is_empty() {
            break;
        }
        peer.step(&mut script);
        peer.assert_bounded();
    }
}

impl Peer {
    /// A peer that has resumed its session with these words about what it received and where it is.
    pub fn new(received: &[u8], path: &[u8]) -> Self {
        static STORE: LazyLock<Store> = LazyLock::new(Store::made);
        let now = Now { wall: WallTime::from_unix_micros(WALL_US), ..Now::default() };
        let mut peer = Self {
            id: identity(1).id(),
            secrets: secrets(&STORE, 0),
            keys: None,
            old: None,
            rng: Rng::from_seed([1; 32]),
            victim: End::new(2, STORE.disk(1), now),
            now,
        };
        peer.settle();
        peer.resume(received, path);
        peer
    }

    /// Packets that the node did not take, for being against the rules.
    pub fn violations(&self) -> u64 {
        self.victim.sessions.counters().violations
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.below(10) {
            0 => self.say(script.chunk()),
            1..=4 => self.say_frames(script),
            5 => {
                let (received, path) = (script.chunk(), script.chunk());
                self.resume(received, path);
            }
            6 => {
                self.now = self.now.after(Duration::from_millis(u64::from(script.byte()).pow(2)));
                self.victim.timeout(self.now);
                self.settle();
            }
            7 => {
                self.victim.use_stream(script, self.now);
                self.settle();
            }
            8 => {
                if let Ok(key) = self.victim.sessions.open(self.id, "files", 0, self.now) {
                    self.victim.streams.push(Stream::new(key));
                }
                self.settle();
            }
            _ => {
                if let Some((sealer, _)) = &mut self.keys {
                    sealer.step();
                }
            }
        }
    }

    /// One packet of proper frames with numbers that may be anything.
    fn say_frames(&mut self, script: &mut Script<'_>) {
        let mut frames = Vec::new();
        for _ in 0..script.below(8) {
            let stream = script.number();
            match script.below(10) {
                0 => Frame::Ack(ack(script)).encode(&mut frames),
                1 => Frame::MaxData(script.number()).encode(&mut frames),
                2 => Frame::MaxStreamData { stream, limit: script.number() }.encode(&mut frames),
                3 => Frame::Open { stream, port: u16::from(script.byte()), service: "files" }.encode(&mut frames),
                4 => Frame::Accept { stream }.encode(&mut frames),
                5 => {
                    let reason = ResetReason::from_byte(script.byte());
                    Frame::ResetStream { stream, reason, final_offset: script.number() }.encode(&mut frames);
                }
                6 => refresh(script).encode(&mut frames),
                7 => Frame::Ping.encode(&mut frames),
                _ => {
                    let (offset, fin) = (script.number(), script.below(4) == 0);
                    // What a reader is given is checked against the pattern.
                    let data = pattern(offset, script.below(256) * script.below(64));
                    Frame::Stream { stream, offset, fin, data: &data }.encode(&mut frames);
                }
            }
        }
        self.say(&frames);
    }

    /// One packet with these frames, or whatever the bytes are.
    pub fn say(&mut self, frames: &[u8]) {
        let Some((_, packet)) = self.keys.as_mut().and_then(|(sealer, _)| sealer.seal(frames).ok()) else { return };
        self.send(packet);
        let old = self.old.as_mut().map(|(sealer, since)| (sealer.seal(frames), *since));
        if let Some((Ok((_, packet)), since)) = old {
            let before = self.victim.sessions.counters().forged;
            self.send(packet);
            // What is under way over a path that is alive, as the peer may have said, is taken for a while.
            let is_over = self.now.instant.since(since.instant) > OLD_KEY_LIFETIME;
            let opened = self.victim.sessions.counters().forged == before;
            assert!(!(is_over && opened), "an old key still opens");
        }
    }

    /// A Re-Hello that says to have received and to be where the fuzzer likes.
    fn resume(&mut self, received: &[u8], path: &[u8]) {
        let Ok(mut proposal) = Proposal::new(&self.secrets, received, path, &mut self.rng) else { return };
        let hello = proposal.packet().to_vec();
        for answer in self.send(hello) {
            let Ok((_, agreed)) = proposal.handle_answer(&self.secrets, &answer) else { continue };
            let keys = self.secrets.adopt(agreed);
            if let Some((sealer, _)) = self.keys.replace(keys) {
                self.old = Some((sealer, self.now));
            }
            // The first packet brings the new epoch into force.
            if let Some((_, packet)) = self.keys.as_mut().and_then(|(sealer, _)| sealer.seal(&[1]).ok()) {
                self.send(packet);
            }
            break;
        }
        self.secrets.settle();
    }

    /// What the victim answers to a packet.
    fn send(&mut self, payload: Vec<u8>) -> Vec<Vec<u8>> {
        let (return_path, via) = (Path(vec![1; 9]), Some(NEIGHBOUR));
        let arrival = Arrival { from: self.id, return_path, via, ecn: false, hops: 2 };
        self.victim.sessions.handle_packet(arrival, payload, self.now);
        self.settle()
    }

    fn settle(&mut self) -> Vec<Vec<u8>> {
        self.victim.drain(self.now);
        let mut sent = Vec::new();
        while let Some(packet) = self.victim.sessions.poll_transmit() {
            sent.push(packet.payload);
            assert!(sent.len() < MAX_BURST, "it never falls silent");
        }
        self.victim.drain(self.now);
        let Some((_, opener)) = &mut self.keys else { return sent };
        for packet in &sent {
            if let Ok(opened) = opener.open(packet) {
                assert!(
                    Frames::new(&opened.frames).all(|frame| frame.is_ok()),
                    "the victim sends what it would refuse"
                );
            }
        }
        sent
    }

    /// What the peer may have made the node keep. (Bytes are counted by `tests/bounded_memory.rs`.)
    fn assert_bounded(&self) {
        let limits = Config::default();
        for info in self.victim.sessions.sessions() {
            assert!(info.streams <= 2 * limits.max_streams_per_session, "{} streams", info.streams);
        }
        assert!(self.victim.disk.len() <= 1);
    }
}

/// A step of a refresh, often of the generation that is right; or a word about where the peer can be dialled.
fn refresh<'a>(script: &mut Script<'a>) -> Frame<'a> {
    let generation = script.byte().into();
    Frame::Refresh(match script.below(5) {
        0 => Refresh::Propose { generation, key: script.array() },
        1 => Refresh::Answer { generation, key: script.array() },
        2 => Refresh::Confirm { generation },
        3 => Refresh::Done { generation },
        _ => {
            let (number, reach) = (script.number(), script.chunk());
            return Frame::Reach { number, reach: reach.get(..MAX_REACH_BYTES).unwrap_or(reach) };
        }
    })
}

fn ack(script: &mut Script<'_>) -> Ack {
    let mut ack = Ack { delay_us: script.number(), ecn_count: script.number(), ..Ack::default() };
    for _ in 0..=script.below(MAX_ACK_RANGES) {
        let start = script.number() >> 2;
        ack.ranges.insert(start, start.saturating_add(script.number() >> 4).min(MAX_VARINT));
    }
    ack
}
