//! The simulated world: nodes, links and an agenda of happenings in virtual time.

mod apps;
mod faults;
mod links;
mod trials;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use multiaddr::Multiaddr;
use node::stack::{Config, ConnId, Event, Stack, Who};
use overlay::id::{CheckEach, CheckSignatures, Identity};
use overlay::io::{Command, Lane, LinkId, StoreKey};
use overlay::rng::Rng;
use overlay::time::{Instant, Now, WallTime};
use sha2::{Digest as _, Sha256};

use super::app::Transfer;
use super::fault::Fault;
use super::pipe::Pipe;
use super::store::CrashingStore;
use super::{Options, Outcome};
use crate::memo::Memo;

/// Room that a new link has, as the driver grants it, in bytes.
const INITIAL_ROOM: [(Lane, usize); 2] = [(Lane::Control, 64 * 1024), (Lane::Data, 512 * 1024)];
/// Time from a write to its durability.
const DISK: Duration = Duration::from_millis(2);
/// Time after which a dial to nobody fails.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How often applications have something more to send.
const PRODUCE_EVERY: Duration = Duration::from_millis(250);
/// Bytes moved between application and stack at once.
const CHUNK: usize = 32 * 1024;
/// Span within which all nodes have to have joined.
const JOIN_LIMIT: Duration = Duration::from_secs(60);
/// Pause between the starts of two nodes.
const START_GAP: Duration = Duration::from_millis(300);
/// Wall time at the start of every run: 2026-01-01.
const EPOCH_WALL_US: u64 = 1_767_225_600_000_000;
/// How soon a fault that met no candidate is tried again.
const PUT_OFF: Duration = Duration::from_secs(1);
/// How often: longer than any outage is awake.
const MAX_PUT_OFF: u32 = 600;
/// With fewer nodes there may be no relay to kill.
const ROOM_FOR_FAULTS: usize = 8;
/// Happenings after which a run is stopped as a livelock.
const MAX_HAPPENINGS: u64 = 50_000_000;

enum Happening {
    Start(usize),
    Frame {
        pipe: usize,
        to: usize,
        lane: Lane,
        bytes: Vec<u8>,
    },
    Room {
        pipe: usize,
        end: usize,
        lane: Lane,
        bytes: usize,
    },
    Connected {
        dialler: usize,
        life: u64,
        address: Multiaddr,
    },
    DialFailed {
        node: usize,
        life: u64,
        address: Multiaddr,
    },
    Closed {
        pipe: usize,
        end: usize,
    },
    Timer {
        node: usize,
        life: u64,
    },
    Persisted {
        node: usize,
        life: u64,
        key: StoreKey,
    },
    Fault(Fault),
    /// All machines sleep for so long.
    Sleep(Duration),
    NetworkBack {
        node: usize,
        life: u64,
    },
    Transfers,
    /// Applications have produced a little more.
    Produce,
}

struct SimNode {
    identity: Identity,
    static_secret: [u8; 32],
    stack: Option<Stack>,
    /// Counts restarts: happenings of an earlier life are void.
    life: u64,
    store: CrashingStore,
    /// Where it listens; its second octet counts its moves.
    address: Multiaddr,
    moves: u16,
    network: bool,
    joined: bool,
    armed: Option<Instant>,
    /// Its operations with public keys when its network was back, until the first resume after that.
    ops_when_back: Option<u64>,
}

/// One run.
pub struct World {
    options: Options,
    now: Now,
    order: u64,
    agenda: BTreeMap<(Instant, u64), Happening>,
    nodes: Vec<SimNode>,
    pipes: Vec<Pipe>,
    by_link: BTreeMap<LinkId, (usize, usize)>,
    by_address: BTreeMap<Multiaddr, usize>,
    by_conn: BTreeMap<(usize, ConnId), (usize, usize)>,
    transfers: Vec<Transfer>,
    rng: Rng,
    digest: Sha256,
    faults_done: usize,
    faults_to_come: usize,
    longest_outage: Duration,
    checks: Arc<dyn CheckSignatures>,
    joined_before_faults: usize,
    resumes: u64,
    ops_after_handshakes: Option<u64>,
    ops_in_resumes: u64,
    slept: bool,
    transfers_begin: Instant,
    failures: Vec<String>,
}

impl World {
    /// The world of `options` before anything happened.
    pub fn new(options: &Options) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&options.seed.to_le_bytes());
        let mut rng = Rng::from_seed(seed);
        let count = options.nodes.max(3);
        let nodes: Vec<SimNode> = (0..count).map(|number| SimNode::new(number, &mut rng)).collect();
        let by_address = nodes.iter().enumerate().map(|(number, node)| (node.address.clone(), number)).collect();
        let mut world = Self {
            options: options.clone(),
            now: Now { instant: Instant::from_micros(1_000_000), wall: WallTime::from_unix_micros(EPOCH_WALL_US) },
            order: 0,
            agenda: BTreeMap::new(),
            nodes,
            pipes: Vec::new(),
            by_link: BTreeMap::new(),
            by_address,
            by_conn: BTreeMap::new(),
            transfers: Vec::new(),
            rng,
            digest: Sha256::new(),
            faults_done: 0,
            faults_to_come: 0,
            longest_outage: Duration::ZERO,
            checks: if options.memo { Arc::new(Memo::default()) } else { Arc::new(CheckEach) },
            joined_before_faults: 0,
            resumes: 0,
            ops_after_handshakes: None,
            ops_in_resumes: 0,
            slept: false,
            transfers_begin: Instant::FAR_FUTURE,
            failures: Vec::new(),
        };
        for number in 0..count {
            world.at(START_GAP * u32::try_from(number).unwrap_or(u32::MAX), Happening::Start(number));
        }
        world
    }

    /// Runs until every transfer is over or the limit is reached.
    pub fn run(&mut self) {
        self.join_all();
        self.plan_transfers();
        let deadline = self.now.instant + self.options.limit;
        self.run_while(deadline, |world| !world.transfers.iter().all(Transfer::exact));
    }

    fn join_all(&mut self) {
        let deadline = self.now.instant + JOIN_LIMIT;
        self.run_while(deadline, |world| !world.nodes.iter().all(|node| node.joined));
        self.joined_before_faults = self.nodes.iter().filter(|node| node.joined).count();
        // Records have to reach their binders before names are asked for.
        let settled = self.now.instant + Duration::from_secs(5);
        self.run_while(settled, |_| true);
    }

    /// What the run showed.
    pub fn outcome(mut self) -> Outcome {
        self.judge();
        let asked = self.transfers.iter().map(|transfer| transfer.bytes * 2).sum::<u64>();
        let right = self.transfers.iter().map(|transfer| transfer.received.iter().sum::<u64>() - transfer.wrong).sum();
        Outcome {
            seed: self.options.seed,
            nodes: self.nodes.len(),
            joined: self.joined_before_faults,
            transfers: self.transfers.len(),
            exact: self.transfers.iter().filter(|transfer| transfer.exact()).count(),
            bytes: right,
            wrong_bytes: self.transfers.iter().map(|transfer| transfer.wrong).sum(),
            lost_bytes: asked.saturating_sub(right),
            faults: self.faults_done,
            longest_outage_s: self.longest_outage.as_secs_f64(),
            over_one_link: self.transfers.iter().filter(|transfer| self.are_neighbours(transfer.nodes)).count(),
            resumes: self.resumes,
            public_key_ops_after_handshakes: self.ops_since_handshakes(),
            public_key_ops_in_resumes: self.ops_in_resumes,
            virtual_s: self.now.instant.as_micros() as f64 / 1e6,
            trace_digest: hex(&self.digest.finalize()),
            failures: self.failures,
        }
    }

    /// Says what is not as it should be.
    fn judge(&mut self) {
        for (number, transfer) in self.transfers.iter().enumerate() {
            if !transfer.exact() {
                self.failures.push(transfer.describe(number));
            }
        }
        let planned = self.options.faults.count();
        if self.faults_done < planned && self.nodes.len() >= ROOM_FOR_FAULTS {
            self.failures.push(format!("only {} of {planned} faults found something to break", self.faults_done));
        }
        if self.joined_before_faults < self.nodes.len() {
            self.failures.push(format!("only {} of {} nodes joined", self.joined_before_faults, self.nodes.len()));
        }
        let ops = self.ops_since_handshakes();
        if ops != 0 && !self.slept {
            self.failures.push(format!("{ops} public-key operations after the handshakes"));
        }
        if self.ops_in_resumes != 0 {
            self.failures.push(format!("{} public-key operations in resumes", self.ops_in_resumes));
        }
    }

    fn ops_since_handshakes(&self) -> u64 {
        self.ops_after_handshakes.map_or(0, |before| self.public_key_ops().saturating_sub(before))
    }

    fn are_neighbours(&self, [a, b]: [usize; 2]) -> bool {
        let peer = self.nodes[b].identity.id().to_string();
        self.nodes[a].stack.as_ref().is_some_and(|stack| stack.peers(self.now).iter().any(|row| row.node == peer))
    }

    fn plan_transfers(&mut self) {
        let count = self.nodes.len();
        for _ in 0..self.options.transfers {
            let from = self.rng.index(count);
            let to = (from + 1 + self.rng.index(count - 1)) % count;
            // A pair carries one transfer, so that the acceptor knows from the peer which one it is.
            if self.transfers.iter().all(|transfer| transfer.nodes != [from, to]) {
                self.transfers.push(Transfer::new([from, to], self.options.bytes));
            }
        }
        self.transfers_begin = self.now.instant;
        self.at(Duration::ZERO, Happening::Transfers);
    }

    fn run_while(&mut self, deadline: Instant, go_on: impl Fn(&Self) -> bool) {
        while go_on(self) {
            if self.order > MAX_HAPPENINGS {
                self.failures.push(format!("livelock: more than {MAX_HAPPENINGS} happenings"));
                return;
            }
            let Some((&(at, order), _)) = self.agenda.first_key_value() else { return };
            if at > deadline {
                self.now = self.now.after(deadline.since(self.now.instant));
                return;
            }
            self.now = self.now.after(at.since(self.now.instant));
            if let Some(happening) = self.agenda.remove(&(at, order)) {
                self.happen(happening);
            }
        }
    }

    fn at(&mut self, after: Duration, happening: Happening) {
        self.at_instant(self.now.instant + after, happening);
    }

    fn at_instant(&mut self, at: Instant, happening: Happening) {
        self.order += 1;
        self.agenda.insert((at, self.order), happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start(node) => self.start(node),
            Happening::Frame { pipe, to, lane, bytes } => self.deliver(pipe, to, lane, bytes),
            Happening::Room { pipe, end, lane, bytes } => self.give_room(pipe, end, lane, bytes),
            Happening::Connected { dialler, life, address } => self.connect(dialler, life, address),
            Happening::DialFailed { node, life, address } => {
                self.with_life(node, life, |stack, now| stack.handle_dial_failed(&address, now));
            }
            Happening::Closed { pipe, end } => self.close_end(pipe, end),
            Happening::Timer { node, life } => {
                // A timer that was armed anew for an earlier time has run already; if each of these armed another one, they would only become more.
                if self.nodes[node].armed == Some(self.now.instant) {
                    self.nodes[node].armed = None;
                    self.with_life(node, life, |stack, now| stack.handle_timeout(now));
                }
            }
            Happening::Persisted { node, life, key } => {
                if self.nodes[node].life == life && self.nodes[node].store.finish(&key) {
                    self.with_life(node, life, |stack, now| stack.handle_persisted(&key, now));
                }
            }
            Happening::Fault(fault) => self.inject(fault),
            Happening::Sleep(span) => self.sleep(span),
            Happening::NetworkBack { node, life } => self.network_back(node, life),
            Happening::Transfers => self.start_transfers(),
            Happening::Produce => self.produce(),
        }
    }

    fn start(&mut self, number: usize) {
        let founder = self.nodes[0].address.clone();
        let joins = if number == 0 { Vec::new() } else { vec![self.bootstrap(number).unwrap_or(founder)] };
        let name = Some(format!("node-{number}"));
        // Some have the instructions, some do not, whatever this machine has.
        let fast_aes = !number.is_multiple_of(3);
        let config = Config { name, joins, direct: self.options.direct(), fast_aes, ..Config::default() };
        let seed = self.rng.bytes();
        let now = self.now;
        let node = &mut self.nodes[number];
        node.network = true;
        let mut stack = match Stack::new(config, node.identity.clone(), node.static_secret, seed, now) {
            Ok(stack) => stack,
            Err(line) => return self.failures.push(format!("node {number}: {line}")),
        };
        stack.set_signature_checks(Arc::clone(&self.checks));
        if let Err(line) = stack.start(&node.store.snapshot(), now) {
            self.failures.push(format!("node {number} did not start: {line}"));
            return;
        }
        stack.handle_listen_addresses(vec![node.address.clone()], now);
        stack.expose("data".to_owned(), "app".to_owned(), vec![Who::Anyone]);
        node.stack = Some(stack);
        self.drain(number);
    }

    /// A joiner knows one node that started before it.
    fn bootstrap(&mut self, number: usize) -> Option<Multiaddr> {
        let known = self.rng.index(number);
        self.nodes.get(known).filter(|node| node.stack.is_some()).map(|node| node.address.clone())
    }

    fn with_life(&mut self, number: usize, life: u64, act: impl FnOnce(&mut Stack, Now)) {
        if self.nodes[number].life == life {
            self.with(number, act);
        }
    }

    fn with(&mut self, number: usize, act: impl FnOnce(&mut Stack, Now)) {
        let now = self.now;
        if let Some(stack) = self.nodes[number].stack.as_mut() {
            act(stack, now);
            self.drain(number);
        }
    }

    /// What the driver does after each `handle_*`: transmits, commands, events, then the one timer.
    fn drain(&mut self, number: usize) {
        loop {
            let Some(stack) = self.nodes[number].stack.as_mut() else { return };
            if let Some(transmit) = stack.poll_transmit() {
                self.transmit(transmit);
            } else if let Some(command) = stack.poll_command() {
                self.obey(number, command);
            } else if let Some(event) = stack.poll_event() {
                self.react(number, event);
            } else {
                break;
            }
        }
        self.arm(number);
    }

    fn arm(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let Some((at, _)) = node.stack.as_ref().and_then(Stack::poll_timeout) else { return };
        let at = at.max(self.now.instant + Duration::from_micros(1));
        if node.armed.is_none_or(|armed| at < armed) {
            node.armed = Some(at);
            let life = node.life;
            self.at_instant(at, Happening::Timer { node: number, life });
        }
    }

    fn obey(&mut self, number: usize, command: Command) {
        let life = self.nodes[number].life;
        match command {
            Command::Dial(address) => self.dial(number, life, address),
            Command::Close(link, _) => self.hang_up(link),
            Command::Persist { key, bytes } => {
                self.nodes[number].store.begin(key.clone(), bytes.to_vec());
                self.at(DISK, Happening::Persisted { node: number, life, key });
            }
        }
    }

    fn react(&mut self, number: usize, event: Event) {
        match event {
            Event::Joined { .. } | Event::Founded(_) => self.nodes[number].joined = true,
            Event::SessionResumed(_) => self.note_resume(number),
            Event::Incoming { conn, peer, .. } => self.accept(number, conn, peer),
            Event::Readable(conn) => self.read(number, conn),
            Event::Writable(conn) | Event::Opened(conn) => self.write(number, conn),
            Event::Failed(conn, why) => {
                if let Some(&(transfer, _)) = self.by_conn.get(&(number, conn)) {
                    self.transfers[transfer].failed = Some(why.to_string());
                }
            }
            // Each has a key of its own, however it moves and whatever links it loses.
            Event::Twin => self.failures.push(format!("node {number} takes itself for one of two with its key")),
            _ => {}
        }
    }
}

impl SimNode {
    fn new(number: usize, rng: &mut Rng) -> Self {
        Self {
            identity: Identity::from_secret(&rng.bytes()),
            static_secret: rng.bytes(),
            stack: None,
            life: 0,
            store: CrashingStore::default(),
            address: address_of(number, 0),
            moves: 0,
            network: false,
            joined: false,
            armed: None,
            ops_when_back: None,
        }
    }
}

fn address_of(node: usize, moves: u16) -> Multiaddr {
    let [high, low] = u16::try_from(node).unwrap_or(u16::MAX).to_be_bytes();
    let ip = std::net::Ipv4Addr::new(10, u8::try_from(moves % 256).unwrap_or(0), high, low);
    Multiaddr::empty().with(multiaddr::Protocol::Ip4(ip)).with(multiaddr::Protocol::Tcp(4741))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
