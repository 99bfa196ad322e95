//! The endpoint: all sessions of a node, at most one with each peer, and the streams in them.
//!
//! Packets, look-ups and time go in by `handle_*`; what to send, do and know comes out by `poll_*`. Every peer is reached
//! by a [`Path`], which means nothing here. A session is set up by the first `open`, serves both directions, and stays:
//! an outage suspends it, a new place or path resumes it, and neither touches a stream.

mod graves;
mod guard;
mod handshake;
mod info;
#[cfg(test)]
mod key_tests;
mod room;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use overlay::id::{Identity, NodeId};
use overlay::io::Snapshot;
use overlay::rng::Rng;
use overlay::time::{Instant, Now};
use overlay::timer::Timers;
use zeroize::Zeroizing;

use self::graves::Graves;
use self::guard::Guard;
use self::handshake::HalfOpen;
use crate::cert::{IdCert, LocalKeys, StaticKey};
use crate::config::{CERT_CHECK, Config};
use crate::content::{ContentType, HandshakeId, Label};
use crate::dh::PublicKeyOps;
use crate::error::OpenError;
use crate::event::{
    Arrival, Command, Event, HandshakeFailure, Outgoing, Path, Read, ResetReason, Resolved, SessionLabel, StreamKey,
};
use crate::flow::Outbox;
use crate::frame::{MAX_REACH_BYTES, MAX_SERVICE_BYTES};
use crate::handshake::cookie::Cookies;
use crate::handshake::params::Life;
pub use crate::session::Counters;
use crate::session::{Endpoint, Phase, Session};
pub use info::{SessionInfo, SessionState};

/// What the names of stored sessions begin with; the peer follows, in hex, so that one replaces the other in one write.
pub const STORE_PREFIX: &str = "muses/session/";

/// Why `handle_timeout` is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// Loss, probe or acknowledgement.
    Transport(NodeId),
    /// Hello, Finished, Re-Hello, or the end of an old secret.
    Control(NodeId),
    /// A half-open handshake is too old.
    HalfOpen,
    /// The certificate of the static key may be old.
    Cert,
}

/// All sessions of a node.
pub struct Sessions {
    end: Endpoint,
    cert: Vec<u8>,
    /// Boxed: the nodes of the map are half empty as a rule.
    sessions: BTreeMap<NodeId, Box<Session>>,
    labels: BTreeMap<SessionLabel, NodeId>,
    streams: BTreeMap<StreamKey, NodeId>,
    graves: Graves,
    half_open: BTreeMap<(NodeId, HandshakeId), HalfOpen>,
    guard: Guard,
    timers: Timers<Timer>,
    ready: BTreeSet<NodeId>,
    last_served: Option<NodeId>,
    now: Instant,
}

impl Sessions {
    /// An endpoint without sessions. `static_key` is its X25519 key, which it certifies with its identity.
    pub fn new(config: Config, identity: Identity, static_key: impl Into<StaticKey>, seed: [u8; 32], now: Now) -> Self {
        let mut ops = PublicKeyOps::default();
        let mut keys = LocalKeys::restored(identity, &static_key.into(), now, &mut ops);
        let erased_at = keys.forget_previous(now.instant);
        let cert = keys.cert().to_bytes();
        let mut rng = Rng::from_seed(seed);
        let guard = Guard::new(&mut rng, now.instant);
        let out = Outbox::new(&config);
        let end = Endpoint {
            config: config.into(),
            keys,
            ops,
            rng,
            life: Life(now.wall.as_unix_micros()),
            cookies: Cookies::default(),
            local: None,
            reach: [].into(),
            out,
            packets: VecDeque::new(),
            commands: VecDeque::new(),
            counters: Counters::default(),
        };
        let mut timers = Timers::default();
        timers.set(Timer::Cert, erased_at.unwrap_or(now.instant + CERT_CHECK).min(now.instant + CERT_CHECK));
        Self {
            end,
            cert,
            sessions: BTreeMap::new(),
            labels: BTreeMap::new(),
            streams: BTreeMap::new(),
            graves: Graves::default(),
            half_open: BTreeMap::new(),
            guard,
            timers,
            ready: BTreeSet::new(),
            last_served: None,
            now: now.instant,
        }
    }

    /// The certificate of the static key, for this node's record.
    pub fn cert(&self) -> &[u8] {
        &self.cert
    }

    /// The same, taken apart.
    pub fn certificate(&self) -> &IdCert {
        self.end.keys.cert()
    }

    /// Until when the static key before this one is answered for.
    pub fn previous_key_until(&self) -> Option<Instant> {
        self.end.keys.previous_until()
    }

    /// Goes over to another static key; [`Event::CertRenewed`] follows. Sessions do not notice, and peers that know only the old key's
    /// certificate are answered for [`PREVIOUS_KEY_KEPT`](crate::cert::PREVIOUS_KEY_KEPT).
    pub fn change_static_key(&mut self, static_secret: [u8; 32], now: Now) {
        self.now = now.instant;
        self.end.keys.change_key(&static_secret, now, &mut self.end.ops);
        self.on_new_cert(now.instant);
    }

    /// How many operations with public keys were done.
    pub fn public_key_ops(&self) -> u64 {
        self.end.ops.total()
    }

    /// Packets that were not used.
    pub fn counters(&self) -> Counters {
        self.end.counters
    }

    /// Other limits from now on. What is there beyond them stays until it ends.
    pub fn set_limits(&mut self, max_sessions: usize, max_streams_per_session: usize) {
        let config = Arc::make_mut(&mut self.end.config);
        (config.max_sessions, config.max_streams_per_session) = (max_sessions, max_streams_per_session);
    }

    /// Takes over the stored sessions. They are suspended; their streams are gone, which the peers learn. What cannot be read is deleted: its peer begins anew.
    pub fn restore(&mut self, snapshot: &Snapshot, now: Now) {
        self.now = now.instant;
        for (key, bytes) in snapshot.range(STORE_PREFIX.to_owned()..) {
            if !key.starts_with(STORE_PREFIX) || self.sessions.len() >= self.end.config.max_sessions {
                break;
            }
            let Some(session) = Session::restored(bytes, &self.end, now.instant) else {
                self.end.commands.push_back(Command::Persist { key: key.clone(), bytes: Zeroizing::default() });
                continue;
            };
            let peer = session.peer;
            self.labels.extend(session.label().map(|label| (label, peer)));
            self.sessions.insert(peer, Box::new(session));
            self.sync(peer);
        }
    }

    // ---- streams ----

    /// Opens a stream to `peer`'s `service`. Bytes may be written at once.
    ///
    /// # Errors
    /// [`OpenError`]; nothing has changed.
    pub fn open(&mut self, peer: NodeId, service: &str, port: u16, now: Now) -> Result<StreamKey, OpenError> {
        self.now = now.instant;
        if peer == self.end.keys.id() {
            return Err(OpenError::Own);
        }
        if service.len() > MAX_SERVICE_BYTES || (service.is_empty() && port == 0) {
            return Err(OpenError::ServiceName);
        }
        if !self.sessions.contains_key(&peer) {
            if !self.make_room() {
                return Err(OpenError::TooManySessions);
            }
            let session = Session::resolving(peer, &mut self.end, now.instant);
            self.sessions.insert(peer, Box::new(session));
        }
        let session = self.sessions.get_mut(&peer).ok_or(OpenError::TooManySessions)?;
        if session.flow.stream_count() >= self.end.config.max_streams_per_session {
            return Err(OpenError::TooManyStreams);
        }
        let key = self.end.out.stream_key();
        session.flow.set_reach(&self.end.reach, false);
        session.open(key, service, port, &mut self.end);
        self.streams.insert(key, peer);
        let waits = session.is_suspended() && session.waits_for_answer();
        session.wake(&mut self.end, now.instant);
        if waits {
            // Somebody wants it now: what backs off begins anew.
            session.reset_timers(&mut self.end, now.instant);
        } else if session.is_suspended() {
            session.resolve(&mut self.end, now.instant);
        }
        self.sync(peer);
        Ok(key)
    }

    /// The local service took a stream that the peer opened.
    pub fn accept(&mut self, stream: StreamKey, now: Now) {
        self.on_stream(stream, now, |session, end, _| session.accept(stream, end));
    }

    /// The local service did not take it.
    pub fn refuse(&mut self, stream: StreamKey, reason: ResetReason, now: Now) {
        self.reset(stream, reason, now);
    }

    /// At most `max` bytes of what arrived.
    pub fn read(&mut self, stream: StreamKey, max: usize) -> Read {
        let Some(&peer) = self.streams.get(&stream) else {
            return self.graves.why(stream).map_or(Read::End, Read::Reset);
        };
        let Some(session) = self.sessions.get_mut(&peer) else { return Read::End };
        let read = session.flow.read(stream, max, &mut self.end.out);
        self.sync(peer);
        read
    }

    /// Takes as many bytes as there is room for, and tells how many. [`Event::Writable`] follows when it was not all.
    /// While the session is suspended there is no room: nothing is read from the application.
    pub fn write(&mut self, stream: StreamKey, bytes: &[u8], now: Now) -> usize {
        let mut taken = 0;
        self.on_stream(stream, now, |session, _, _| {
            let refuse = session.is_suspended();
            taken = session.flow.write(stream, bytes, refuse);
        });
        taken
    }

    /// No more will be written.
    pub fn finish(&mut self, stream: StreamKey, now: Now) {
        self.on_stream(stream, now, |session, _, _| session.flow.finish(stream));
    }

    /// Ends the stream at once in both directions; the peer learns the reason.
    pub fn reset(&mut self, stream: StreamKey, reason: ResetReason, now: Now) {
        self.on_stream(stream, now, |session, end, _| session.flow.reset(stream, reason, &mut end.out));
    }

    /// This node stops: all streams are reset. What `poll_transmit` has then should still be sent.
    pub fn close_all(&mut self, now: Now) {
        self.for_all(now, |session, end, _| session.flow.reset_all(ResetReason::Closing, &mut end.out));
    }

    // ---- what happens ----

    /// A look-up found the peer.
    pub fn handle_peer(&mut self, peer: NodeId, resolved: Resolved, now: Now) {
        self.now = now.instant;
        let Some(session) = self.sessions.get_mut(&peer) else { return };
        // One Hello goes to one place alone, so that what answers it is there: for another place, another Hello.
        let greets_elsewhere = session.is_greeting() && session.path != resolved.path;
        if matches!(session.phase, Phase::Resolving { .. }) || greets_elsewhere {
            self.greet(peer, resolved, now);
        } else {
            session.found_at(resolved.path, &mut self.end, now.instant);
        }
        self.sync(peer);
    }

    /// Whether a session with `peer` cannot begin before it was found.
    pub fn is_resolving(&self, peer: &NodeId) -> bool {
        self.sessions.get(peer).is_some_and(|session| matches!(session.phase, Phase::Resolving { .. }))
    }

    /// A look-up found nothing. Sessions that exist do not mind: they ask again.
    pub fn handle_peer_unresolved(&mut self, peer: NodeId, now: Now) {
        self.now = now.instant;
        if self.is_resolving(&peer) {
            self.fail(peer, HandshakeFailure::Unresolved);
        }
    }

    /// A packet arrived.
    pub fn handle_packet(&mut self, arrival: Arrival, mut payload: Vec<u8>, now: Now) {
        self.now = now.instant;
        let from = arrival.from;
        match ContentType::of(&payload) {
            Some(ContentType::Hello1) => self.on_hello1(&arrival, &payload, now),
            Some(ContentType::Hello2) => self.on_hello2(&arrival, &payload),
            Some(ContentType::Cookie) => {
                self.with(from, now, |session, end, now| session.handle_cookie(&payload, end, now))
            }
            Some(ContentType::FinishedA) => self.on_finished_a(&arrival, &payload),
            Some(ContentType::FinishedB) => {
                if let Some(session) = self.sessions.get_mut(&from) {
                    session.handle_finished(&payload, &mut self.end, now.instant);
                }
            }
            Some(ContentType::Protected) => {
                self.on_labelled(Label::of(&payload), from, |session, end| {
                    session.handle_protected(&arrival, &mut payload, end, now.instant);
                });
            }
            Some(ContentType::ReHello) => self.on_re_hello(&arrival, &payload),
            Some(ContentType::ReHelloAnswer) => {
                self.on_labelled(Label::of(&payload), from, |session, end| {
                    session.handle_answer(&arrival, &payload, end, now.instant);
                });
            }
            Some(ContentType::Reset) => self.on_reset(from, &payload),
            None => self.end.counters.unknown += 1,
        }
        self.sync(from);
    }

    /// The layer below could not deliver to the peer: that only makes us ask.
    pub fn handle_unreachable(&mut self, peer: NodeId, now: Now) {
        self.now = now.instant;
        let Some(session) = self.sessions.get_mut(&peer) else { return };
        match session.bound_ref() {
            Some(bound) if bound.suspended.is_none() => session.ask(now.instant),
            _ => session.resolve(&mut self.end, now.instant),
        }
        self.sync(peer);
    }

    /// This node has a place, or a new one: sessions that carry streams tell their peers at once.
    pub fn handle_attached(&mut self, local: Path, now: Now) {
        if self.end.local.as_ref() == Some(&local) {
            return;
        }
        self.end.local = Some(local);
        let (busy, idle): (Vec<NodeId>, Vec<NodeId>) =
            self.sessions.keys().partition(|peer| self.sessions.get(peer).is_some_and(|s| s.flow.stream_count() > 0));
        for peer in busy.into_iter().chain(idle) {
            self.with(peer, now, |session, end, now| session.attach(end, now));
        }
    }

    /// As if something had just been heard from the peer (MobiSocket's `resetTimer`, its section IV): what backs off begins anew, and what
    /// waits for an answer is sent again at once. For those who learn by another way than the session that the peer is back.
    /// At most once in [`MIN_ASK_INTERVAL`](crate::config::MIN_ASK_INTERVAL); whether it was done.
    pub fn reset_timers(&mut self, peer: NodeId, now: Now) -> bool {
        let mut done = false;
        self.with(peer, now, |session, end, now| done = session.reset_timers(end, now));
        done
    }

    /// A neighbour can be reached again, or anew: what waits for a peer's answer asks again at once, each at most once in
    /// [`MIN_ASK_INTERVAL`](crate::config::MIN_ASK_INTERVAL).
    pub fn handle_new_way(&mut self, now: Now) {
        let waiting = self.sessions.iter().filter(|(_, session)| session.waits_for_answer()).map(|(peer, _)| *peer);
        for peer in waiting.collect::<Vec<_>>() {
            self.with(peer, now, |session, end, now| _ = session.ask_again(end, now));
        }
    }

    /// Where the packets of the session with `peer` go; none without a session.
    pub fn path_to(&self, peer: &NodeId) -> Option<&Path> {
        self.sessions.get(peer).map(|session| &session.path)
    }

    /// Where this node can be dialled, in bytes that mean nothing here: peers of sessions are told, as [`Event::PeerReach`]. At most
    /// [`MAX_REACH_BYTES`]; longer ones are as none.
    pub fn set_reach(&mut self, reach: &[u8], now: Now) {
        let reach = if reach.len() <= MAX_REACH_BYTES { reach } else { &[] };
        if *self.end.reach == *reach {
            return;
        }
        self.end.reach = reach.into();
        // Sessions that carry nothing hear of it when they do: nobody is woken for it.
        self.for_all(now, |session, end, _| {
            if session.flow.stream_count() > 0 {
                session.flow.set_reach(&end.reach, false);
            }
        });
    }

    /// This node's place is told in another way, and the one that peers know still leads here: sessions go on, and say it when they
    /// shake hands or resume.
    pub fn handle_path_renewed(&mut self, local: Path) {
        if let Some(known) = &mut self.end.local {
            *known = local;
        }
    }

    /// This node has no place.
    pub fn handle_detached(&mut self, now: Now) {
        self.end.local = None;
        self.end.packets.clear();
        self.for_all(now, |session, end, now| session.detach(end, now));
    }

    /// Something may be due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now.instant;
        while let Some(timer) = self.timers.pop_expired(now.instant) {
            match timer {
                Timer::HalfOpen => self.on_half_open_timeout(),
                Timer::Cert => self.on_cert_timeout(now),
                Timer::Transport(peer) => {
                    self.with(peer, now, |session, end, now| session.on_flow_timeout(end, now));
                }
                Timer::Control(peer) => self.on_control_timeout(peer, now),
            }
        }
    }

    /// A stored value is on disk. Nothing waits for it today: an older resume secret is honoured by the peer for ten
    /// minutes, and packet keys are never stored.
    pub fn handle_persisted(&mut self, _key: &str, now: Now) {
        self.now = now.instant;
    }

    // ---- what to do ----

    /// The next packet: control messages first, then each session in turn.
    pub fn poll_transmit(&mut self) -> Option<Outgoing> {
        if let Some(packet) = self.end.packets.pop_front() {
            return Some(packet);
        }
        self.end.local.as_ref()?;
        loop {
            let peer = self.next_ready()?;
            let packet = self.sessions.get_mut(&peer).and_then(|session| session.poll(self.now));
            self.last_served = Some(peer);
            self.ready.remove(&peer);
            self.sync(peer);
            if packet.is_some() {
                return packet;
            }
            // Its work was an illusion; it comes back with the next event.
            self.ready.remove(&peer);
        }
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.end.commands.pop_front()
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.end.out.events.pop_front()
    }

    /// When `handle_timeout` is due, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.timers.next()
    }
}
