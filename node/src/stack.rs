//! Overlay and sessions composed into one object; still pure: `driver` and the simulator run the same code.
//!
//! What flows between the two: the overlay's [`Place`] is the sessions' opaque [`Path`]; a session's packet is an overlay payload;
//! a session that needs its peer's certificate or new place asks the DHT. After every `handle_*` and verb the stack moves what
//! one half has for the other until both are quiet, so that a driver only drains the stack.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;

use multiaddr::Multiaddr;
use muses::cert::StaticKey;
use muses::{Path, Sessions};
use overlay::address::Place;
use overlay::error::RestoreError;
use overlay::id::{CheckSignatures, Identity, NodeId, OverlayId};
use overlay::io::{Command, Lane, LinkId, Snapshot, Transmit};
use overlay::membership::Enrolment;
use overlay::overlay::Overlay;
use overlay::rng::Rng;
use overlay::time::{Instant, Now};

mod application;
mod bridge;
mod conns;
mod direct;
pub mod event;
pub mod figures;
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod membership;
pub mod mobility;
mod names;
mod naming;
pub mod picture;
mod questions;
mod services;
pub mod status;
mod view;
mod warnings;
mod watch;

pub use conns::End;
pub use direct::Direct;
pub use event::{Answer, ConnId, Event, Failure, QueryId, Readout, Who};
pub use naming::PINS_KEY;
pub use status::{ConnStatus, Counters, KeyStatus, NameKind, NameStatus, PeerStatus, Resolved, SessionStatus, Status};

use conns::Conns;
use direct::Reaches;
use membership::Ways;
use mobility::Mobility;
use naming::Naming;
use questions::Questions;
use services::Services;
use warnings::Warnings;
use watch::Watch;

/// What a stack is made of.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Names that this user gave to nodes; they come before claimed names.
    pub petnames: BTreeMap<String, NodeId>,
    /// The name to claim for this node, if any.
    pub name: Option<String>,
    /// Bootstrap addresses.
    pub joins: Vec<Multiaddr>,
    /// Friend-to-friend mode (`links.only`): node ids or multiaddr prefixes; empty means everybody.
    pub only: Vec<String>,
    /// The overlay that must be joined, when it is known before.
    pub overlay: Option<OverlayId>,
    /// An overlay that is founded now is closed: see [`overlay::membership`].
    pub closed: bool,
    /// The invite by which to become a member of a closed overlay.
    pub enrolment: Option<Enrolment>,
    /// Be a leaf: carry nothing for others.
    pub leaf: bool,
    /// Whether links to the peers of sessions are sought.
    pub direct: Direct,
    /// Most sessions, unless as many as sessions have by default.
    pub max_sessions: Option<NonZeroUsize>,
    /// Most streams in one session, unless as many as sessions have by default.
    pub max_streams_per_session: Option<NonZeroUsize>,
    /// This machine has instructions for AES-GCM.
    pub fast_aes: bool,
}

impl Config {
    fn sessions(&self) -> muses::Config {
        let usual = muses::Config::default();
        muses::Config {
            max_sessions: self.max_sessions.map_or(usual.max_sessions, NonZeroUsize::get),
            max_streams_per_session: self
                .max_streams_per_session
                .map_or(usual.max_streams_per_session, NonZeroUsize::get),
            fast_aes: self.fast_aes,
            ..usual
        }
    }
}

/// One node's protocol, without sockets or clock.
pub struct Stack {
    id: NodeId,
    name: Option<overlay::record::Name>,
    overlay: Overlay,
    sessions: Sessions,
    conns: Conns,
    naming: Naming,
    services: Services,
    questions: Questions,
    events: VecDeque<Event>,
    commands: VecDeque<Command>,
    listen: Vec<Multiaddr>,
    /// How often the network was another one, or back.
    networks: u64,
    direct: Direct,
    /// It is not to be in an open overlay.
    closed: bool,
    /// `links.only` names somebody.
    friends_only: bool,
    /// Nothing goes out or comes in.
    flight: bool,
    reaches: Reaches,
    ways: Ways,
    mobility: Mobility,
    watch: Watch,
    warnings: Warnings,
    joined_before: bool,
    /// The address in the first tree that was told last.
    told_address: Option<String>,
    resumes: u64,
    /// Bytes taken from and given to applications since the start.
    sent_bytes: u64,
    received_bytes: u64,
    /// Since when the two halves may have something for each other that they were not told yet.
    unsettled: Option<Now>,
}

impl Stack {
    /// A stack that has done nothing yet. `static_key` is the X25519 key of the sessions, separate from the identity.
    ///
    /// # Errors
    /// One line when the configuration makes no sense.
    pub fn new(
        config: Config,
        identity: Identity,
        static_key: impl Into<StaticKey>,
        seed: [u8; 32],
        now: Now,
    ) -> Result<Self, String> {
        let mut rng = Rng::from_seed(seed);
        let friends_only = !config.only.is_empty();
        let ways = Ways::new(&config);
        let sessions = config.sessions();
        let only = parse_only(&config.only)?;
        let name = config.name.map(|name| name.parse().map_err(|why| format!("name `{name}`: {why}"))).transpose()?;
        let overlay = overlay::config::Config {
            joins: config.joins,
            only,
            expected: config.overlay,
            closed: config.closed,
            enrolment: config.enrolment,
            leaf: config.leaf,
            ..overlay::config::Config::default()
        };
        Ok(Self {
            id: identity.id(),
            name,
            overlay: Overlay::new(overlay, identity.clone(), rng.bytes(), now),
            sessions: Sessions::new(sessions, identity, static_key, rng.bytes(), now),
            conns: Conns::default(),
            naming: Naming::new(config.petnames),
            services: Services::default(),
            questions: Questions::default(),
            events: VecDeque::new(),
            commands: VecDeque::new(),
            listen: Vec::new(),
            networks: 0,
            direct: config.direct,
            closed: config.closed,
            friends_only,
            flight: false,
            reaches: Reaches::default(),
            ways,
            mobility: Mobility::default(),
            watch: Watch::default(),
            warnings: Warnings::default(),
            joined_before: false,
            told_address: None,
            resumes: 0,
            sent_bytes: 0,
            received_bytes: 0,
            unsettled: None,
        })
    }

    /// Has the overlay's signatures checked in another way: see [`CheckSignatures`]. Call before [`Stack::start`].
    pub fn set_signature_checks(&mut self, checks: Arc<dyn CheckSignatures>) {
        self.overlay.set_signature_checks(checks);
    }

    /// Takes over what the store held, then founds, resumes or joins. Call once, before anything else.
    ///
    /// # Errors
    /// One line when the store is unreadable or belongs to another overlay than the configured one.
    pub fn start(&mut self, snapshot: &Snapshot, now: Now) -> Result<(), String> {
        if let Some(pins) = snapshot.get(PINS_KEY)
            && !self.naming.restore(pins)
        {
            return Err(crate::store::senseless(PINS_KEY, "no list of pins"));
        }
        self.sessions.restore(snapshot, now);
        self.overlay.publish_node(self.sessions.cert().to_vec(), now);
        if let Some(name) = self.name.clone() {
            self.overlay.claim_name(name, now);
        }
        self.overlay.restore(snapshot, now).map_err(|why| match why {
            RestoreError::Damaged(key) => crate::store::senseless(key, "not what this node stored"),
            other => other.to_string(),
        })?;
        if self.closed && self.overlay.overlay_id().is_some() && !self.overlay.is_closed() {
            return Err("this data folder belongs to an open overlay, which stays open; found a closed one with another --data-dir".to_owned());
        }
        let origin = self.overlay.start(now).map_err(|why| why.to_string())?;
        self.tell_origin(origin);
        self.settle(now);
        Ok(())
    }

    /// Takes over the part of a new configuration that a running node can: petnames, limits, and whether direct links are sought.
    pub fn reconfigure(&mut self, config: Config, now: Now) {
        let sessions = config.sessions();
        self.sessions.set_limits(sessions.max_sessions, sessions.max_streams_per_session);
        self.direct = config.direct;
        self.naming.set_petnames(config.petnames);
        self.tell_reach(now);
        self.settle(now);
    }

    // ---- links ----

    /// A link to `peer` is up; `initiator` when this side dialled `remote`.
    pub fn handle_link_up(&mut self, link: LinkId, peer: NodeId, remote: Multiaddr, initiator: bool, now: Now) {
        if initiator {
            self.ways.meet(&remote, peer);
        }
        self.overlay.handle_link_up(link, peer, remote, initiator, now);
        self.settle(now);
    }

    /// A link is gone.
    pub fn handle_link_down(&mut self, link: LinkId, now: Now) {
        self.overlay.handle_link_down(link, now);
        self.settle(now);
    }

    /// A `Command::Dial` failed.
    pub fn handle_dial_failed(&mut self, address: &Multiaddr, now: Now) {
        self.overlay.handle_dial_failed(address, now);
        self.settle(now);
    }

    /// A local interface or address came or went, or flight mode ended: redial and resume at once.
    pub fn handle_address_change(&mut self, now: Now) {
        self.networks += 1;
        self.overlay.handle_address_change(now);
        self.settle(now);
    }

    /// The network that links go over was gone, and is back or has another in its place.
    pub fn handle_interruption(&mut self, now: Now) {
        self.networks += 1;
        self.overlay.handle_interruption(now);
        self.settle(now);
    }

    /// Flight mode begins or ends: what cannot go on without a network is refused at once, and not when it has waited in vain.
    pub fn set_flight_mode(&mut self, flight: bool) {
        self.flight = flight;
    }

    /// The addresses at which this node listens now (concrete, not wildcards).
    pub fn handle_listen_addresses(&mut self, addresses: Vec<Multiaddr>, now: Now) {
        self.listen.clone_from(&addresses);
        self.overlay.handle_listen_addresses(addresses, now);
        self.tell_reach(now);
        self.note_listen(now);
        self.settle(now);
    }

    /// The local network says that a node of this overlay is at these addresses, and nobody vouches for that.
    pub fn handle_announced(&mut self, addresses: &[Multiaddr], now: Now) {
        for address in addresses {
            self.overlay.handle_announced(address, now);
        }
        self.settle(now);
    }

    /// A neighbour announced a frame that is too long; the driver has closed the link.
    pub fn handle_oversized(&mut self, link: LinkId, now: Now) {
        self.overlay.handle_oversized(link, now);
        self.settle(now);
    }

    /// A frame arrived. What cannot be decoded closes its link.
    ///
    /// Its consequences are worked out with the next poll: of a batch of frames together, so that one acknowledgement answers them all.
    pub fn handle_frame(&mut self, link: LinkId, lane: Lane, frame: Vec<u8>, now: Now) {
        // The overlay has counted the error and asks for the link to be closed.
        let _ = self.overlay.handle_frame(link, lane, frame, now);
        self.unsettled = Some(now);
    }

    /// `bytes` more may be given to this lane of this link (the driver grants an initial room after `handle_link_up`).
    pub fn handle_link_room(&mut self, link: LinkId, lane: Lane, bytes: usize, now: Now) {
        self.overlay.handle_link_room(link, lane, bytes, now);
    }

    /// Something may be due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.overlay.handle_timeout(now);
        self.sessions.handle_timeout(now);
        self.ask_again(now);
        self.give_up_silent(now);
        self.watch_timer(now);
        self.settle(now);
    }

    /// The value given with `Command::Persist` under `key` is on disk.
    pub fn handle_persisted(&mut self, key: &str, now: Now) {
        self.overlay.handle_persisted(key, now);
        self.sessions.handle_persisted(key, now);
        self.settle(now);
    }

    /// From now on links only with these, ids or starts of multiaddrs; with everybody if there is none. Links that there are stay.
    ///
    /// # Errors
    /// One line about the first that is neither.
    pub fn set_links_only(&mut self, only: &[String], now: Now) -> Result<(), String> {
        let parsed = parse_only(only)?;
        self.friends_only = !parsed.is_empty();
        let extra_links = overlay::config::Config::default().extra_links;
        self.overlay.set_links(parsed, extra_links, now);
        self.settle(now);
        Ok(())
    }

    // ---- the end ----

    /// Announces that this node leaves and hands over its records; [`Event::Left`] within a second.
    pub fn leave(&mut self, now: Now) {
        self.sessions.close_all(now);
        self.settle(now);
        self.overlay.leave(now);
        self.settle(now);
    }

    // ---- what the driver drains, in this order, after each handle_* and verb ----

    /// The next frame for a link with room.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.settle_late();
        self.overlay.poll_transmit()
    }

    /// The next thing for the driver to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.settle_late();
        self.commands.pop_front().or_else(|| self.overlay.poll_command())
    }

    /// The next fact.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.settle_late();
        self.events.pop_front()
    }

    /// When `handle_timeout` is due, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let overlay = self.overlay.poll_timeout().map(|(at, _)| (at, "overlay"));
        let sessions = self.sessions.poll_timeout().map(|(at, _)| (at, "sessions"));
        let late = self.unsettled.map(|since| (since.instant, "unsettled"));
        let again = self.questions.due().map(|at| (at, "a look-up again"));
        let silent = self.mobility.timeout().map(|at| (at, "silent peer"));
        let watch = self.watch.due().map(|at| (at, "watch"));
        [overlay, sessions, again, watch, late, silent].into_iter().flatten().min()
    }
}

fn parse_only(only: &[String]) -> Result<Vec<overlay::config::Only>, String> {
    only.iter().map(|text| text.parse().map_err(|why| format!("links.only: `{text}` is {why}"))).collect()
}

/// The opaque path of a session that leads to `place`.
fn path_to(place: &Place) -> Path {
    Path(place.to_bytes())
}
