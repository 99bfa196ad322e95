//! Two endpoints under virtual time, and the network between them.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use muses::config::Config;
use muses::event::{Arrival, Command, Event, Path, Read, ResetReason, Resolved, StreamKey};
use muses::sessions::{SessionInfo, SessionState, Sessions};
use overlay::id::{Identity, NodeId};
use overlay::io::Snapshot;
use overlay::rng::Rng;
use overlay::time::{Now, WallTime};

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

/// What the network does to packets.
#[derive(Clone, Debug)]
pub struct Faults {
    pub delay: Duration,
    /// Up to so much more, at random: reorders.
    pub jitter: Duration,
    pub loss_percent: u64,
    pub duplicate_percent: u64,
    pub bytes_per_second: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            delay: 10 * MS,
            jitter: Duration::ZERO,
            loss_percent: 0,
            duplicate_percent: 0,
            bytes_per_second: 100_000_000,
        }
    }
}

/// A stream as its application sees it: it writes `to_write` bytes of a pattern, and checks what it reads against the same.
#[derive(Debug, Default)]
pub struct App {
    pub to_write: u64,
    pub written: u64,
    pub finish: bool,
    pub finished: bool,
    pub read: u64,
    /// Most bytes to have read until told otherwise.
    pub read_until: u64,
    pub ended: bool,
    pub reset: Option<ResetReason>,
    pub accepted: bool,
    pub closed: bool,
}

impl App {
    /// Writes so many bytes and finishes; reads everything.
    pub fn sending(bytes: u64) -> Self {
        Self { to_write: bytes, finish: true, read_until: u64::MAX, ..Self::default() }
    }
}

pub struct Node {
    pub id: NodeId,
    pub sessions: Sessions,
    pub place: String,
    /// Another place at which it can still be reached.
    pub also_at: Option<String>,
    pub online: bool,
    pub events: Vec<(Now, Event)>,
    pub apps: BTreeMap<StreamKey, App>,
    pub store: Snapshot,
    /// How an incoming stream is served; `None` refuses it.
    pub serve: Option<fn() -> App>,
    busy_until: Now,
    seed: u8,
    config: Config,
}

pub struct Pair {
    /// Lengths of the packets that each node sent, in bytes.
    pub sent: [Vec<usize>; 2],
    /// The step of the key under which each node sealed its last packet.
    pub step_of: [u32; 2],
    /// The number of the resume whose keys sealed it.
    pub resume_of: [u32; 2],
    /// The last Re-Hello of each.
    pub re_hello: [Option<Vec<u8>>; 2],
    /// The next protected packet of this node does not arrive before [`Pair::release`].
    pub hold: Option<usize>,
    held: Option<Due>,
    /// Where each node sent its last packet.
    pub sent_to: [String; 2],
    /// Lengths of the packets that each node sent to [`VICTIM`], in bytes.
    pub astray: [Vec<usize>; 2],
    /// About whom a relay lies: its packets are from [`VICTIM`], as their routing headers say.
    pub lied_about: [bool; 2],
    /// Whose record says that it is at [`VICTIM`].
    pub lies_in_record: [bool; 2],
    pub nodes: [Node; 2],
    pub now: Now,
    pub faults: Faults,
    pub resolve_delay: Duration,
    pub digest: u64,
    queue: BTreeMap<(u64, u64), Due>,
    count: u64,
    rng: Rng,
}

enum Due {
    Packet { path: Vec<u8>, arrival: Arrival, payload: Vec<u8> },
    Resolved { to: usize, peer: NodeId },
}

/// A place at which neither node is.
pub const VICTIM: &str = "victim";

pub const A: usize = 0;
pub const B: usize = 1;

/// The bytes that every stream carries, from `offset` on.
fn pattern(offset: u64, len: usize) -> &'static [u8] {
    const PERIOD: usize = 65_521;
    static BYTES: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..2 * PERIOD as u64).map(|i| (((i % PERIOD as u64) * 2_654_435_761) >> 13) as u8).collect());
    let start = usize::try_from(offset % PERIOD as u64).unwrap();
    &BYTES[start..start + len]
}

impl Node {
    fn new(seed: u8, config: Config, now: Now) -> Self {
        let identity = Identity::from_secret(&[seed; 32]);
        let id = identity.id();
        let sessions = Sessions::new(config.clone(), identity, [seed + 50; 32], [seed + 100; 32], now);
        Self {
            id,
            sessions,
            place: format!("place-{seed}"),
            also_at: None,
            online: true,
            events: Vec::new(),
            apps: BTreeMap::new(),
            store: Snapshot::new(),
            serve: Some(|| App { read_until: u64::MAX, finish: true, ..App::default() }),
            busy_until: now,
            seed,
            config,
        }
    }

    fn is_at(&self, path: &[u8]) -> bool {
        let also = self.also_at.as_ref().is_some_and(|place| place.as_bytes() == path);
        self.online && (self.place.as_bytes() == path || also)
    }

    pub fn info(&self) -> SessionInfo {
        self.sessions.sessions().next().expect("a session")
    }

    pub fn is_live(&self) -> bool {
        self.sessions.sessions().next().is_some_and(|info| info.state == SessionState::Live)
    }

    pub fn app(&self) -> &App {
        self.apps.values().next().expect("a stream")
    }

    pub fn saw(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(|(_, event)| wanted(event))
    }

    /// Does what the applications want; whether anything came of it.
    fn pump(&mut self, now: Now) -> bool {
        let mut busy = false;
        for (&key, app) in &mut self.apps {
            while app.written < app.to_write {
                let len = (app.to_write - app.written).min(50_000);
                let taken = self.sessions.write(key, pattern(app.written, len as usize), now);
                if taken == 0 {
                    break;
                }
                app.written += taken as u64;
                busy = true;
            }
            if app.finish && !app.finished && app.written == app.to_write {
                self.sessions.finish(key, now);
                app.finished = true;
                busy = true;
            }
            while !app.ended && app.reset.is_none() && app.read < app.read_until {
                let max = usize::try_from((app.read_until - app.read).min(40_000)).unwrap();
                match self.sessions.read(key, max) {
                    Read::Data(bytes) => {
                        assert!(bytes == pattern(app.read, bytes.len()), "wrong bytes at {}", app.read);
                        app.read += bytes.len() as u64;
                        busy = true;
                    }
                    Read::Pending => break,
                    Read::End => app.ended = true,
                    Read::Reset(reason) => app.reset = Some(reason),
                }
            }
        }
        busy
    }
}

impl Pair {
    pub fn new(seed: u8) -> Self {
        // The ciphers take turns.
        let config = Config { fast_aes: seed.is_multiple_of(2), ..Config::default() };
        Self::with(seed, config, Faults::default())
    }

    pub fn with(seed: u8, config: Config, faults: Faults) -> Self {
        let now = Now { wall: WallTime::from_unix_micros(1_800_000_000_000_000), ..Now::default() };
        let nodes = [Node::new(1, config.clone(), now), Node::new(2, config, now)];
        let mut pair = Self {
            sent: Default::default(),
            step_of: [0; 2],
            resume_of: [0; 2],
            re_hello: [None, None],
            hold: None,
            held: None,
            sent_to: Default::default(),
            astray: Default::default(),
            lied_about: [false; 2],
            lies_in_record: [false; 2],
            nodes,
            now,
            faults,
            resolve_delay: 30 * MS,
            digest: 0,
            queue: BTreeMap::new(),
            count: 0,
            rng: Rng::from_seed([seed; 32]),
        };
        for node in &mut pair.nodes {
            node.sessions.handle_attached(Path(node.place.clone().into_bytes()), now);
        }
        pair
    }

    /// Opens a stream from `from` to the other.
    pub fn open(&mut self, from: usize, app: App) -> StreamKey {
        let peer = self.nodes[1 - from].id;
        let key = self.nodes[from].sessions.open(peer, "files", 0, self.now).unwrap();
        self.nodes[from].apps.insert(key, app);
        self.settle();
        key
    }

    /// The node loses its network: it notices, and its packets vanish.
    pub fn detach(&mut self, node: usize) {
        self.nodes[node].online = false;
        self.nodes[node].sessions.handle_detached(self.now);
        self.settle();
    }

    /// The node is back, at `place`.
    pub fn attach(&mut self, node: usize, place: &str) {
        self.nodes[node].online = true;
        self.nodes[node].place = place.to_owned();
        self.nodes[node].sessions.handle_attached(Path(place.as_bytes().to_vec()), self.now);
        self.settle();
    }

    /// The node is killed and starts again from its store.
    pub fn restart(&mut self, node: usize) {
        let old = &self.nodes[node];
        let mut fresh = Node::new(old.seed, old.config.clone(), self.now);
        let identity = Identity::from_secret(&[old.seed; 32]);
        fresh.sessions =
            Sessions::new(old.config.clone(), identity, [old.seed + 50; 32], [old.seed + 150; 32], self.now);
        fresh.store = old.store.clone();
        fresh.sessions.restore(&fresh.store, self.now);
        fresh.place.clone_from(&old.place);
        fresh.sessions.handle_attached(Path(fresh.place.clone().into_bytes()), self.now);
        self.nodes[node] = fresh;
        self.settle();
    }

    /// Runs for `span` of virtual time.
    pub fn run(&mut self, span: Duration) {
        self.run_until(span, |_| false);
    }

    /// Runs until `done`, for at most `span`; how long it took, `None` if it was not done.
    pub fn run_until(&mut self, span: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        let end = start.after(span);
        loop {
            if done(self) {
                return Some(self.now.instant.since(start.instant));
            }
            let timers =
                self.nodes.iter().filter_map(|node| node.sessions.poll_timeout()).map(|(at, _)| at.as_micros());
            let packets = self.queue.first_key_value().map(|((at, _), _)| *at);
            let next = timers.chain(packets).min().unwrap_or(u64::MAX).max(self.now.instant.as_micros());
            if next > end.instant.as_micros() {
                self.now = end;
                return None;
            }
            self.now = self.now.after(Duration::from_micros(next - self.now.instant.as_micros()));
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now.instant.as_micros();
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Due::Packet { path, arrival, payload } => {
                    let to = self.nodes.iter_mut().find(|n| n.is_at(&path) && n.id != arrival.from);
                    if let Some(node) = to {
                        node.sessions.handle_packet(arrival, payload, self.now);
                    }
                }
                Due::Resolved { to, peer } => {
                    let other = &self.nodes[1 - to];
                    assert_eq!(other.id, peer);
                    let cert = other.sessions.cert().to_vec();
                    let place = if self.lies_in_record[1 - to] { VICTIM } else { &other.place };
                    let path = Path(place.as_bytes().to_vec());
                    self.nodes[to].sessions.handle_peer(peer, Resolved { cert, path }, self.now);
                }
            }
        }
        for node in &mut self.nodes {
            node.sessions.handle_timeout(self.now);
        }
        self.settle();
    }

    /// Drains both nodes until nothing more happens at this instant.
    pub fn settle(&mut self) {
        loop {
            let mut busy = false;
            for index in [A, B] {
                busy |= self.nodes[index].pump(self.now);
                busy |= self.drain(index);
            }
            if !busy {
                return;
            }
        }
    }

    fn drain(&mut self, index: usize) -> bool {
        let mut busy = false;
        while let Some(out) = self.nodes[index].sessions.poll_transmit() {
            busy = true;
            self.transmit(index, out.path.0, out.payload);
        }
        while let Some(command) = self.nodes[index].sessions.poll_command() {
            busy = true;
            let shown = format!("{command:?}");
            match command {
                Command::Resolve(peer) => {
                    let at = self.now.after(self.resolve_delay).instant.as_micros();
                    if self.nodes[index].online {
                        self.enqueue(at, Due::Resolved { to: index, peer });
                    }
                }
                Command::Persist { key, bytes } => {
                    assert_eq!(shown, format!("Persist({key} {} bytes)", bytes.len()), "secrets are not shown");
                    let legal = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '/' | '-');
                    assert!(key.chars().all(legal), "{key}: no store takes that");
                    let node = &mut self.nodes[index];
                    if bytes.is_empty() {
                        node.store.remove(&key)
                    } else {
                        node.store.insert(key.clone(), bytes)
                    };
                    node.sessions.handle_persisted(&key, self.now);
                }
            }
        }
        while let Some(event) = self.nodes[index].sessions.poll_event() {
            busy = true;
            self.mix(format!("{index} {event:?}").bytes().map(u64::from).sum());
            self.nodes[index].on_event(&event, self.now);
            self.nodes[index].events.push((self.now, event));
        }
        busy
    }

    fn transmit(&mut self, index: usize, path: Vec<u8>, payload: Vec<u8>) {
        assert!(payload.len() < 62_000);
        self.sent[index].push(payload.len());
        let is_protected = payload[0] == 5;
        if is_protected {
            self.resume_of[index] = u32::from_be_bytes(payload[17..21].try_into().unwrap());
            self.step_of[index] = u32::from_be_bytes(payload[21..25].try_into().unwrap());
        }
        if payload[0] == 6 {
            self.re_hello[index] = Some(payload.clone());
        }
        self.sent_to[index] = String::from_utf8(path.clone()).unwrap();
        if self.sent_to[index] == VICTIM {
            self.astray[index].push(payload.len());
        }
        self.mix(payload.len() as u64 + (self.now.instant.as_micros() << 16));
        let node = &mut self.nodes[index];
        if !node.online || self.rng.below(100) < self.faults.loss_percent {
            return;
        }
        let took = Duration::from_micros(payload.len() as u64 * 1_000_000 / self.faults.bytes_per_second);
        let waited = node.busy_until.instant.since(self.now.instant);
        if waited > 500 * MS {
            return;
        }
        node.busy_until = self.now.after(waited + took);
        let told = if self.lied_about[index] { VICTIM } else { &node.place };
        let return_path = Path(told.as_bytes().to_vec());
        let arrival = Arrival { from: node.id, return_path, via: None, ecn: waited > 5 * MS, hops: 3 };
        if is_protected && self.hold.take_if(|node| *node == index).is_some() {
            self.held = Some(Due::Packet { path, arrival, payload });
            return;
        }
        let copies = if self.rng.below(100) < self.faults.duplicate_percent { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = Duration::from_micros(self.rng.below(self.faults.jitter.as_micros() as u64 + 1));
            let at = self.now.after(waited + took + self.faults.delay + jitter).instant.as_micros();
            let (path, arrival, payload) = (path.clone(), arrival.clone(), payload.clone());
            self.enqueue(at, Due::Packet { path, arrival, payload });
        }
    }

    /// Whether a packet is held back.
    pub fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// The packet that was held back arrives now.
    pub fn release(&mut self) {
        let held = self.held.take().expect("a packet");
        self.enqueue(self.now.instant.as_micros(), held);
        self.step();
    }

    /// What is under way arrives once more, a moment earlier, and its routing headers say that it is from [`VICTIM`].
    pub fn copy_with_lies(&mut self) {
        let copies = self.queue.iter().filter_map(|((at, _), due)| match due {
            Due::Packet { path, arrival, payload } => {
                let arrival = Arrival { return_path: Path(VICTIM.into()), ..arrival.clone() };
                Some((at.saturating_sub(1000), Due::Packet { path: path.clone(), arrival, payload: payload.clone() }))
            }
            Due::Resolved { .. } => None,
        });
        for (at, copy) in copies.collect::<Vec<_>>() {
            self.enqueue(at, copy);
        }
    }

    fn enqueue(&mut self, at: u64, due: Due) {
        self.count += 1;
        self.queue.insert((at, self.count), due);
    }

    /// A digest of all that happens (FNV-1a): equal runs have equal digests.
    fn mix(&mut self, word: u64) {
        self.digest = (self.digest ^ word).wrapping_mul(0x100_0000_01b3);
    }
}

impl Node {
    fn on_event(&mut self, event: &Event, now: Now) {
        match event {
            Event::StreamOpened { stream, .. } => match self.serve {
                Some(serve) => {
                    self.sessions.accept(*stream, now);
                    self.apps.insert(*stream, serve());
                }
                None => self.sessions.refuse(*stream, ResetReason::UnknownService, now),
            },
            Event::StreamAccepted { stream } => self.apps.get_mut(stream).unwrap().accepted = true,
            Event::StreamClosed { stream, why } => {
                if let Some(app) = self.apps.get_mut(stream) {
                    app.closed = true;
                    app.reset = *why;
                    assert_eq!(self.sessions.read(*stream, 1), why.map_or(Read::End, Read::Reset));
                }
            }
            _ => {}
        }
    }
}
