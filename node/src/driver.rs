//! The one loop that owns sockets, clock and store, and feeds the pure [`Stack`].
//!
//! Everything that happens (a frame, a link, a request, a timer, a value on disk) becomes one call into the stack;
//! after that the loop carries out what the stack then asks for: frames to links, commands, events to whom they concern.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use multiaddr::Multiaddr;
use overlay::io::{Command, Snapshot};
use overlay::time::{Instant, Now};
use tokio::sync::{broadcast, mpsc, oneshot};
use zeroize::Zeroizing;

use crate::clock::{self, Wakes};
use crate::links::{self, Links};
use crate::stack::{Answer, ConnId, Event, Failure, QueryId, Stack};
use crate::store::Store;

mod conn;
mod handle;
mod persist;

pub use conn::{Conn, Incoming, Portion, Then};
pub use handle::{Error, Handle, Stopped};

use conn::{ConnState, Signals};
use handle::Request;
use persist::{News, Writer};

/// What a node is started with.
pub struct Setup {
    /// A new stack; the driver calls its `start`.
    pub stack: Stack,
    /// The Ed25519 seed of the node's identity: links authenticate with it.
    pub secret: Zeroizing<[u8; 32]>,
    /// Where to listen; port 0 and wildcard addresses are fine.
    pub listen: Vec<Multiaddr>,
    /// Whether links may have bulk lanes (`links.bulk`).
    pub bulk: bool,
    /// Where the stack's values are kept.
    pub store: Arc<dyn Store>,
    /// What [`Store::load`] returned.
    pub snapshot: Snapshot,
}

/// Why a node did not start; one line for the user.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The stack refused what the store held.
    #[error("{0}")]
    Stack(String),
    /// A listen address is taken or not ours.
    #[error(transparent)]
    Links(#[from] links::StartError),
}

/// What [`spawn`] hands out.
pub struct Started {
    /// For everybody who wants something from the node.
    pub handle: Handle,
    /// Connections of permitted peers to exposed services.
    pub incoming: mpsc::Receiver<Incoming>,
    /// Facts for the console and for `watch`: all events that belong to no connection or question.
    /// More receivers: [`Handle::subscribe`].
    pub console: broadcast::Receiver<Event>,
}

/// Starts the loop on the current tokio runtime. It ends by [`Handle::stop`], or when the last handle is dropped.
///
/// # Errors
/// When the stack does not accept the snapshot, or a listen address cannot be bound.
pub fn spawn(setup: Setup) -> Result<Started, StartError> {
    let (driver, requests, started) = Driver::new(setup, Box::new(clock::suspended), clock::now())?;
    tokio::spawn(driver.run(requests));
    Ok(started)
}

/// Incoming connections that wait for the local side to look at them; more are refused.
const MAX_WAITING_INCOMING: usize = 256;
/// Console events kept for a slow reader; the oldest are lost then.
const CONSOLE_EVENTS: usize = 1024;
/// Requests handled between two drains.
const MAX_REQUESTS_AT_ONCE: usize = 64;
/// The runtime's timers stand still while the machine sleeps, deadlines do not: look at the clock at least this often.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// The stack has this long to say goodbye.
const MAX_LEAVE: Duration = Duration::from_millis(1500);

/// Tells how long the machine has been suspended since it booted: [`clock::suspended`], but in tests.
type Suspended = Box<dyn Fn() -> Duration + Send>;

struct Driver {
    stack: Stack,
    links: Links,
    writer: Writer,
    /// Weak, so that the loop ends when nobody can ask for anything any more.
    own_requests: mpsc::WeakUnboundedSender<Request>,
    conns: BTreeMap<ConnId, Arc<Signals>>,
    questions: BTreeMap<QueryId, oneshot::Sender<Result<Answer, Failure>>>,
    incoming: mpsc::Sender<Incoming>,
    console: broadcast::Sender<Event>,
    /// Who waits for the end.
    stopping: Vec<oneshot::Sender<Option<String>>>,
    left: bool,
    suspended: Suspended,
    wakes: Wakes,
}

impl Driver {
    fn new(
        setup: Setup,
        suspended: Suspended,
        now: Now,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Request>, Started), StartError> {
        let Setup { mut stack, secret, listen, bulk, store, snapshot } = setup;
        let links = Links::start(secret, listen, bulk)?;
        stack.start(&snapshot, now).map_err(StartError::Stack)?;
        let (requests_in, requests) = mpsc::unbounded_channel();
        let (incoming_in, incoming) = mpsc::channel(MAX_WAITING_INCOMING);
        let (console_in, console) = broadcast::channel(CONSOLE_EVENTS);
        let own_requests = requests_in.downgrade();
        let handle = Handle::new(requests_in, console_in.downgrade());
        let driver = Self {
            stack,
            links,
            writer: Writer::spawn(store),
            own_requests,
            conns: BTreeMap::new(),
            questions: BTreeMap::new(),
            incoming: incoming_in,
            console: console_in,
            stopping: Vec::new(),
            left: false,
            wakes: Wakes::new(suspended()),
            suspended,
        };
        Ok((driver, requests, Started { handle, incoming, console }))
    }

    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let mut inputs = Vec::new();
        let mut sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        let mut leave_by = Instant::FAR_FUTURE;
        loop {
            let mut gone = false;
            tokio::select! {
                () = self.links.next(&mut inputs) => {}
                request = requests.recv() => match request {
                    None => gone = true,
                    Some(request) => {
                        self.serve(request);
                        for _ in 1..MAX_REQUESTS_AT_ONCE {
                            let Ok(request) = requests.try_recv() else { break };
                            self.serve(request);
                        }
                    }
                },
                Some(news) = self.writer.news() => self.hear_writer(news),
                () = sleep.as_mut() => {}
            }
            let now = clock::now();
            self.take_in(&mut inputs, now);
            self.drain(now);
            if !self.stopping.is_empty() {
                leave_by = leave_by.min(now.instant + MAX_LEAVE);
            }
            if gone || self.left || now.instant >= leave_by {
                break;
            }
            self.arm(sleep.as_mut(), leave_by, now);
        }
        self.end().await;
    }

    /// Hands the stack all that has happened.
    fn take_in(&mut self, inputs: &mut Vec<links::Input>, now: Now) {
        if self.wakes.has_woken((self.suspended)()) {
            // Whatever was true about the network may not be any more.
            inputs.push(links::Input::AddressChanged);
        }
        for input in inputs.drain(..) {
            self.handle(input, now);
        }
        if self.stack.poll_timeout().is_some_and(|(due, _)| due <= now.instant) {
            self.stack.handle_timeout(now);
        }
    }

    fn arm(&self, sleep: Pin<&mut tokio::time::Sleep>, leave_by: Instant, now: Now) {
        let due = self.stack.poll_timeout().map_or(leave_by, |(due, _)| due.min(leave_by));
        let wake = tokio::time::Instant::now() + due.since(now.instant).min(MAX_SLEEP);
        // Moving a timer costs a lock; one that fires a little early costs nothing, and early calls are no-ops.
        let armed = sleep.deadline();
        if sleep.is_elapsed() || wake < armed || wake.duration_since(armed) > Duration::from_millis(1) {
            sleep.reset(wake);
        }
    }

    fn handle(&mut self, input: links::Input, now: Now) {
        use links::Input;
        match input {
            Input::Up { link, peer, remote, initiator } => {
                self.stack.handle_link_up(link, peer, remote, initiator, now);
            }
            Input::Down { link } => self.stack.handle_link_down(link, now),
            Input::DialFailed { address } => self.stack.handle_dial_failed(&address, now),
            Input::Oversized { link } => self.stack.handle_oversized(link, now),
            Input::Frame { link, lane, bytes } => self.stack.handle_frame(link, lane, bytes, now),
            Input::Room { link, lane, bytes } => self.stack.handle_link_room(link, lane, bytes, now),
            Input::Listening(addresses) => self.stack.handle_listen_addresses(addresses, now),
            Input::AddressChanged => self.stack.handle_address_change(now),
            Input::Interrupted => self.stack.handle_interruption(now),
        }
    }

    fn hear_writer(&mut self, news: News) {
        match news {
            News::Stored(key) => self.stack.handle_persisted(&key, clock::now()),
            News::Trouble(why) => self.stack.warn_of_store(why.as_deref().map(persist::warning)),
        }
    }

    fn drain(&mut self, now: Now) {
        let mut quiet = false;
        while !quiet {
            quiet = true;
            while let Some(transmit) = self.stack.poll_transmit() {
                self.links.transmit(transmit);
                quiet = false;
            }
            while let Some(command) = self.stack.poll_command() {
                self.carry_out(command, now);
                quiet = false;
            }
            while let Some(event) = self.stack.poll_event() {
                self.tell(event, now);
                quiet = false;
            }
        }
    }

    fn carry_out(&mut self, command: Command, now: Now) {
        match command {
            Command::Dial(address) => self.links.dial(address),
            Command::Close(link, reason) => {
                if self.links.close(link, reason) {
                    self.stack.handle_link_down(link, now);
                }
            }
            Command::Persist { key, bytes } => self.writer.put(key, bytes),
        }
    }

    fn tell(&mut self, event: Event, now: Now) {
        match event {
            Event::Opened(conn) => self.signal(conn, |signals| signals.enter(ConnState::Open)),
            Event::Failed(conn, why) => self.signal(conn, |signals| signals.enter(ConnState::Failed(why))),
            Event::Readable(conn) => self.signal(conn, |signals| signals.readable.notify_one()),
            Event::Writable(conn) => self.signal(conn, |signals| signals.writable.notify_one()),
            Event::Incoming { conn, peer, service, forward } => {
                let offered = self
                    .adopt(conn, ConnState::Open)
                    .is_some_and(|conn| self.incoming.try_send(Incoming { conn, peer, service, forward }).is_ok());
                if !offered {
                    self.stack.refuse(conn, now);
                }
            }
            Event::Answered(query, answer) => {
                if let Some(reply) = self.questions.remove(&query) {
                    let _ = reply.send(answer);
                }
            }
            Event::Left => self.left = true,
            Event::Flooded(neighbour) => {
                if self.links.slow(neighbour) {
                    let _ = self.console.send(event);
                }
            }
            fact => {
                let _ = self.console.send(fact);
            }
        }
    }

    fn signal(&self, conn: ConnId, what: impl FnOnce(&Signals)) {
        if let Some(signals) = self.conns.get(&conn) {
            what(signals);
        }
    }

    fn adopt(&mut self, id: ConnId, state: ConnState) -> Option<Conn> {
        let requests = self.own_requests.upgrade()?;
        let signals = Arc::new(Signals::new(state));
        self.conns.insert(id, Arc::clone(&signals));
        Some(Conn::new(id, signals, requests))
    }

    fn serve(&mut self, request: Request) {
        let now = clock::now();
        match request {
            Request::Call(call) => call(&mut self.stack, now),
            Request::Open { peer, service, port, reply } => {
                let id = self.stack.open(&peer, &service, port, now);
                if let Some(conn) = self.adopt(id, ConnState::Opening) {
                    let _ = reply.send(conn);
                }
            }
            Request::Ask { question, reply } => {
                let query = question(&mut self.stack, now);
                self.questions.insert(query, reply);
            }
            Request::Forget { conn, reset } => {
                self.conns.remove(&conn);
                if reset {
                    self.stack.reset(conn, now);
                } else {
                    self.stack.release(conn);
                }
            }
            Request::NetworkDown { reply } => {
                self.stack.set_flight_mode(true);
                for link in self.links.network_down() {
                    self.stack.handle_link_down(link, now);
                }
                let _ = reply.send(());
            }
            Request::NetworkUp { bind, reply } => {
                let result = self.links.network_up(bind);
                self.stack.set_flight_mode(!self.links.network_is_up());
                let _ = reply.send(result);
            }
            Request::CopyLinks { to, reply } => {
                let listening = self.links.also_at(to);
                self.stack.set_flight_mode(!self.links.network_is_up());
                let _ = reply.send(listening.map(|()| self.stack.copy_links(now)));
            }
            Request::NetworkIsUp { reply } => {
                let _ = reply.send(self.links.network_is_up());
            }
            Request::Listening { reply } => {
                let _ = reply.send(self.links.listening());
            }
            Request::ReachableAt { reply } => {
                let _ = reply.send(self.links.reachable_at());
            }
            Request::Outside { outside, reply } => {
                self.links.set_outside(outside);
                let _ = reply.send(());
            }
            Request::DialBack { reply } => {
                let _ = reply.send(self.links.dial_back());
            }
            Request::Stop { reply } => {
                if self.stopping.is_empty() {
                    self.stack.leave(now);
                }
                self.stopping.push(reply);
            }
        }
    }

    async fn end(self) {
        for signals in self.conns.values() {
            signals.enter(ConnState::Stopped);
        }
        self.links.end().await;
        let not_stored = self.writer.end().await;
        for reply in self.stopping {
            let _ = reply.send(not_stored.clone());
        }
    }
}

#[cfg(test)]
mod tests;
