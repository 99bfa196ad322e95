//! Two endpoints with a session, and between them whoever the fuzzer is: it sees, drops, changes, repeats and makes up packets, but has no key.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::LazyLock;

use muses::keys::Secrets;
use muses::{Arrival, Command, Config, Event, Outgoing, Path, Read, ResetReason, Resolved, Sessions, StreamKey};
use overlay::codec;
use overlay::id::NodeId;
use overlay::io::Snapshot;
use overlay::time::{Now, WallTime};

use crate::messages::identity;
use crate::script::Script;

/// The time at which everything begins, in microseconds.
pub const WALL_US: u64 = 1_800_000_000_000_000;
/// Packets that wait for the fuzzer; the oldest are lost beyond that.
const MAX_WAITING: usize = 64;
/// Things that the fuzzer does before its bytes are left alone: a bound on the time of one run.
const MAX_STEPS: usize = 256;
/// Packets that one step may set off. The most that a live session sends at once is what its window and its credit allow.
const MAX_BURST: usize = 4096;
/// Timers that may run until two ends have found together.
const MAX_TURNS: usize = 1000;
/// Who hands packets over.
pub const NEIGHBOUR: NodeId = NodeId::from_bytes([9; 32]);
/// Longest stored session that is read here, in bytes.
const STORED_BYTES: usize = 4096;

/// What each end has on disk.
pub struct Store([Snapshot; 2]);

impl Store {
    /// Of two ends that never met.
    fn empty() -> Self {
        Self([Snapshot::new(), Snapshot::new()])
    }

    /// Of two ends that have shaken hands.
    pub fn made() -> Self {
        let mut pair = Pair::new(&Self::empty());
        pair.open(0);
        for _ in 0..1000 {
            pair.deliver_all();
            pair.wait(Duration::from_millis(20));
        }
        let store = pair.ends.map(|end| end.disk);
        assert!(store.iter().all(|disk| disk.len() == 1), "both ends stored the session");
        Self(store)
    }
}

impl Store {
    /// What that end has on disk.
    pub fn disk(&self, end: usize) -> Snapshot {
        let Self(disks) = self;
        disks.get(end).cloned().unwrap_or_default()
    }
}

/// The secrets that an end has stored.
pub fn secrets(store: &Store, end: usize) -> Secrets {
    let disk = store.disk(end);
    let bytes = disk.values().next().expect("it was stored");
    let (_version, secrets, _path) =
        codec::decode::<(u8, Secrets, Vec<u8>), STORED_BYTES>(bytes).expect("as sessions store it");
    secrets
}

/// The bytes of every stream here.
pub fn pattern(offset: u64, length: usize) -> Vec<u8> {
    // A peer may name the last offset that there is.
    let byte = |at: u64| (at.wrapping_mul(0x9e37_79b9) >> 13).to_be_bytes()[7];
    (0..length as u64).map(|at| byte(offset.wrapping_add(at))).collect()
}

/// One endpoint and its applications.
pub struct End {
    pub id: NodeId,
    pub sessions: Sessions,
    pub disk: Snapshot,
    pub streams: Vec<Stream>,
    /// Of how many starts this is the latest: what comes of a seed may never come twice.
    starts: u64,
    place: u8,
}

/// A stream as its application sees it.
pub struct Stream {
    pub key: StreamKey,
    written: u64,
    read: u64,
}

impl End {
    pub fn new(number: u8, disk: Snapshot, now: Now) -> Self {
        let sessions = Self::start(number, 0, &disk, now);
        Self { id: identity(number).id(), sessions, disk, streams: Vec::new(), starts: 0, place: number }
    }

    fn start(number: u8, starts: u64, disk: &Snapshot, now: Now) -> Sessions {
        let mut seed = [number; 32];
        seed[..8].copy_from_slice(&starts.to_be_bytes());
        let mut sessions = Sessions::new(Config::default(), identity(number), [number + 50; 32], seed, now);
        sessions.restore(disk, now);
        sessions.handle_attached(Path(vec![number; 9]), now);
        sessions
    }

    /// Where it can be reached.
    fn path(&self) -> Path {
        Path(vec![self.place; 9])
    }

    /// Takes the node's power away, and gives it back.
    fn restart(&mut self, number: u8, now: Now) {
        self.starts += 1;
        self.sessions = Self::start(number, self.starts, &self.disk, now);
        self.streams.clear();
        self.place = number;
    }

    /// Does what the endpoint asks for, but for packets; peers whom it wants to find come back.
    pub fn drain(&mut self, now: Now) -> Vec<NodeId> {
        let mut wanted = Vec::new();
        while let Some(command) = self.sessions.poll_command() {
            match command {
                Command::Resolve(peer) => wanted.push(peer),
                Command::Persist { key, bytes } => {
                    if bytes.is_empty() {
                        self.disk.remove(&key);
                    } else {
                        self.disk.insert(key.clone(), bytes);
                    }
                    self.sessions.handle_persisted(&key, now);
                }
            }
        }
        while let Some(event) = self.sessions.poll_event() {
            match event {
                Event::StreamOpened { stream, port: 1, .. } => {
                    self.sessions.refuse(stream, ResetReason::Refused, now);
                }
                Event::StreamOpened { stream, .. } => {
                    self.sessions.accept(stream, now);
                    self.streams.push(Stream::new(stream));
                }
                Event::StreamClosed { stream, .. } => self.streams.retain(|known| known.key != stream),
                _ => {}
            }
        }
        wanted
    }

    /// What an application of this end does.
    pub fn use_stream(&mut self, script: &mut Script<'_>, now: Now) {
        let (what, length) = (script.below(5), usize::from(u16::from_be_bytes(script.array())));
        let chosen = script.below(self.streams.len());
        let Some(stream) = self.streams.get_mut(chosen) else { return };
        match what {
            0 | 1 => {
                let taken = self.sessions.write(stream.key, &pattern(stream.written, length), now);
                stream.written += taken as u64;
            }
            2 => stream.read(&mut self.sessions, length),
            3 => self.sessions.finish(stream.key, now),
            _ => self.sessions.reset(stream.key, ResetReason::Application, now),
        }
    }

    /// Runs what is due. However often it has to be called, at one time it comes to an end.
    pub fn timeout(&mut self, now: Now) {
        let mut turns = 0;
        while self.sessions.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
            self.sessions.handle_timeout(now);
            turns += 1;
            assert!(turns < MAX_BURST, "a timer is due for ever: {:?}", self.sessions.poll_timeout());
        }
    }
}

impl Stream {
    pub const fn new(key: StreamKey) -> Self {
        Self { key, written: 0, read: 0 }
    }

    /// Whatever happened on the way: what is read is what was written.
    fn read(&mut self, sessions: &mut Sessions, most: usize) {
        if let Read::Data(bytes) = sessions.read(self.key, most) {
            assert!(!bytes.is_empty() && bytes.len() <= most);
            assert_eq!(bytes, pattern(self.read, bytes.len()), "other bytes than were written");
            self.read += bytes.len() as u64;
        }
    }
}

struct Pair {
    ends: [End; 2],
    now: Now,
    /// On the way, with the end that sent them.
    waiting: VecDeque<(usize, Outgoing)>,
    /// Seen on the way, for later.
    seen: VecDeque<(usize, Outgoing)>,
}

impl Pair {
    fn new(store: &Store) -> Self {
        let now = Now { wall: WallTime::from_unix_micros(WALL_US), ..Now::default() };
        let Store([a, b]) = store;
        let ends = [End::new(1, a.clone(), now), End::new(2, b.clone(), now)];
        Self { ends, now, waiting: VecDeque::new(), seen: VecDeque::new() }
    }

    fn open(&mut self, end: usize) {
        let peer = self.ends[1 - end].id;
        let now = self.now;
        if let Ok(key) = self.ends[end].sessions.open(peer, "files", 0, now) {
            self.ends[end].streams.push(Stream::new(key));
        }
        self.settle();
    }

    /// Collects what both ends send.
    fn settle(&mut self) {
        for index in [0, 1] {
            for peer in self.ends[index].drain(self.now) {
                let other = &self.ends[1 - index];
                assert_eq!(peer, other.id);
                let found = Resolved { cert: other.sessions.cert().to_vec(), path: other.path() };
                self.ends[index].sessions.handle_peer(peer, found, self.now);
            }
            let mut sent = 0;
            while let Some(packet) = self.ends[index].sessions.poll_transmit() {
                sent += 1;
                assert!(sent < MAX_BURST, "it never falls silent");
                push(&mut self.seen, (index, packet.clone()));
                push(&mut self.waiting, (index, packet));
            }
            self.ends[index].drain(self.now);
        }
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now.after(span);
        for end in &mut self.ends {
            end.timeout(self.now);
        }
        self.settle();
    }

    fn deliver_all(&mut self) {
        while let Some((from, packet)) = self.waiting.pop_front() {
            self.deliver(from, packet, false);
        }
    }

    /// The packet arrives, if the other end is where it was sent to.
    fn deliver(&mut self, from: usize, packet: Outgoing, ecn: bool) {
        if packet.path == self.ends[1 - from].path() {
            let return_path = self.ends[from].path();
            self.deliver_as_from(from, packet.payload, return_path, ecn);
        }
    }

    fn deliver_as_from(&mut self, from: usize, payload: Vec<u8>, return_path: Path, ecn: bool) {
        let via = Some(NEIGHBOUR);
        let arrival = Arrival { from: self.ends[from].id, return_path, via, ecn, hops: 3 };
        self.ends[1 - from].sessions.handle_packet(arrival, payload, self.now);
        self.settle();
    }

    /// Left alone, and on a network that works, the two ends find together: a stream that is opened now carries its bytes.
    fn assert_mends(&mut self) {
        const BYTES: usize = 1000;
        self.ends.iter_mut().for_each(|end| end.streams.clear());
        let mut opened = None;
        for _ in 0..MAX_TURNS {
            // A stream that was opened before the ends know of each other's restarts ends with these.
            if !self.ends[0].streams.iter().any(|stream| Some(stream.key) == opened) {
                self.open(0);
                opened = self.ends[0].streams.last().map(|stream| stream.key);
            }
            self.deliver_all();
            let now = self.now;
            if let [End { sessions, streams, .. }, _] = &mut self.ends
                && let Some(stream) = streams.iter_mut().find(|stream| Some(stream.key) == opened)
            {
                let rest =
                    pattern(stream.written, BYTES.saturating_sub(usize::try_from(stream.written).unwrap_or(BYTES)));
                stream.written += sessions.write(stream.key, &rest, now) as u64;
            }
            self.settle();
            self.deliver_all();
            let End { sessions, streams, .. } = &mut self.ends[1];
            streams.iter_mut().for_each(|stream| stream.read(sessions, BYTES));
            if streams.iter().any(|stream| stream.read == BYTES as u64) {
                return;
            }
            let due = self.ends.iter().filter_map(|end| end.sessions.poll_timeout()).map(|(at, _)| at).min();
            self.wait(
                due.map_or(Duration::from_secs(1), |at| at.since(self.now.instant)).max(Duration::from_millis(1)),
            );
        }
        let states: Vec<_> = self.ends.iter().flat_map(|end| end.sessions.sessions()).collect();
        assert!(states.is_empty(), "they do not find together: {states:?}");
    }

    /// A packet that no end has made: at most one answer, no longer than the packet, and nothing of it is believed.
    fn forge(&mut self, from: usize, payload: Vec<u8>) {
        let length = payload.len();
        let (sender, return_path) = (self.ends[from].id, Path(vec![0xee; 9]));
        let arrival = Arrival { from: sender, return_path, via: Some(NEIGHBOUR), ecn: false, hops: 1 };
        let before = self.waiting.len();
        let end = &mut self.ends[1 - from];
        let streams = end.sessions.sessions().map(|info| info.streams).sum::<usize>();
        end.sessions.handle_packet(arrival, payload, self.now);
        assert_eq!(end.sessions.sessions().map(|info| info.streams).sum::<usize>(), streams, "it was believed");
        let mut answers = Vec::new();
        while let Some(packet) = end.sessions.poll_transmit() {
            answers.push(packet);
        }
        assert!(answers.len() <= 1, "{} answers", answers.len());
        assert!(answers.iter().all(|answer| answer.payload.len() <= length), "an answer longer than the packet");
        self.waiting.truncate(before);
        self.settle();
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() >= MAX_WAITING {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Streams stay exact, ends stay alive and quiet, whatever is done to their packets.
pub fn muses_sessions(bytes: &[u8]) {
    static STORE: LazyLock<Store> = LazyLock::new(Store::made);
    hold(Pair::new(&STORE), bytes);
}

/// The same for two that never met, so that what is done is done to their handshakes.
pub fn muses_handshakes(bytes: &[u8]) {
    hold(Pair::new(&Store::empty()), bytes);
}

fn hold(mut pair: Pair, bytes: &[u8]) {
    pair.settle();
    let mut script = Script::new(bytes);
    for _ in 0..MAX_STEPS {
        if script.is_empty() {
            break;
        }
        step(&mut pair, &mut script);
    }
    pair.assert_mends();
}

fn step(pair: &mut Pair, script: &mut Script<'_>) {
    let end = script.below(2);
    match script.below(11) {
        0 | 1 => {
            if let Some((from, packet)) = pair.waiting.pop_front() {
                let ecn = script.below(4) == 0;
                pair.deliver(from, packet, ecn);
            }
        }
        2 => {
            let chosen = script.below(pair.waiting.len());
            pair.waiting.remove(chosen);
        }
        3 => {
            let chosen = script.below(pair.seen.len());
            if let Some((from, packet)) = pair.seen.get(chosen).cloned() {
                let elsewhere = Path(vec![script.byte(); 9]);
                pair.deliver_as_from(from, packet.payload, elsewhere, false);
            }
        }
        4 => {
            let chosen = script.below(pair.seen.len());
            if let Some((from, packet)) = pair.seen.get(chosen).cloned() {
                let changed = change(packet.payload.clone(), script);
                // Towards the other end, or back to where it came from.
                let from = if script.below(4) == 0 { 1 - from } else { from };
                if changed != packet.payload {
                    pair.forge(from, changed);
                }
            }
        }
        5 => {
            let kind = script.byte();
            let payload = [&[kind], script.chunk()].concat();
            if !pair.seen.iter().any(|(_, packet)| packet.payload == payload) {
                pair.forge(end, payload);
            }
        }
        6 => pair.wait(Duration::from_millis(u64::from(script.byte()).pow(2))),
        7 => pair.open(end),
        8 => {
            let now = pair.now;
            pair.ends[end].use_stream(script, now);
            pair.settle();
        }
        9 => {
            let now = pair.now;
            pair.ends[end].sessions.handle_detached(now);
            pair.settle();
            pair.ends[end].place = script.byte();
            let path = Path(vec![pair.ends[end].place; 9]);
            pair.ends[end].sessions.handle_attached(path, now);
            pair.settle();
        }
        _ => {
            // A start takes its time: two lives never begin at once.
            pair.now = pair.now.after(Duration::from_micros(1));
            let now = pair.now;
            pair.ends[end].restart(if end == 0 { 1 } else { 2 }, now);
            pair.settle();
        }
    }
}

/// The packet with bits flipped, cut off, or with something behind it.
fn change(mut packet: Vec<u8>, script: &mut Script<'_>) -> Vec<u8> {
    match script.below(4) {
        0 | 1 => {
            let at = usize::from(u16::from_be_bytes(script.array())) % packet.len().max(1);
            let bits = script.byte();
            if let Some(byte) = packet.get_mut(at) {
                *byte ^= bits;
            }
        }
        2 => packet.truncate(usize::from(u16::from_be_bytes(script.array()))),
        _ => packet.extend_from_slice(script.chunk()),
    }
    packet
}
