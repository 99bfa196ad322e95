//! The overlay's state machine: the match from what happened to who handles it, and nothing more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use multiaddr::Multiaddr;

use crate::address::{MAX_TREES, Place, TreeId};
use crate::claims::Claims;
use crate::config::{Config, Only};
use crate::dht::{self, Dht};
use crate::dial::{self, Dialer, Source};
use crate::error::{FoundError, FrameError, RestoreError, SendError};
use crate::event::{EchoId, Event, LookupId};
use crate::forward::{Echoes, Pointers};
use crate::genesis::SignedGenesis;
use crate::hyperbolic::Plane;
use crate::id::{CheckEach, CheckSignatures, Identity, NodeId, OverlayId};
use crate::io::{Command, Lane, LinkId, Snapshot, Transmit};
use crate::links::Links;
use crate::links::twin::Twin;
use crate::membership::Membership;
use crate::partners::Partners;
use crate::record::{Name, Query, SignedRecord};
use crate::rng::Rng;
use crate::routes::Routes;
use crate::standing::{Moves, Penalties};
use crate::status::Counters;
use crate::time::{Instant, Now};
use crate::timer::Timers;
use crate::tree::Trees;
use crate::tree::equivocation::Witness;
use crate::tree::naming::Named;
use crate::tree::survey::Survey;
use crate::wire::link::LINK_FRAME_BIT;

pub use crate::due::Timer;

/// Where the genesis of the overlay that a node is in is stored; nothing is there before the first join.
pub const KEY_GENESIS: &str = "overlay/genesis";
pub(crate) const KEY_MEMBERSHIP: &str = "overlay/membership";
pub(crate) const KEY_REVOKED: &str = "overlay/revoked";
pub(crate) const KEY_TITLES: &str = "overlay/titles";
const KEYS_SLOTS: [&str; MAX_TREES] = ["overlay/slots/0", "overlay/slots/1", "overlay/slots/2", "overlay/slots/3"];
pub(crate) const KEY_RECORDS: &str = "overlay/records";
pub(crate) const KEY_KNOWN: &str = "overlay/known";
pub(crate) const KEY_PARENTS: &str = "overlay/parents";

/// Where the slots of `tree` are stored.
pub(crate) const fn slots_key(tree: TreeId) -> &'static str {
    KEYS_SLOTS[tree.index()]
}

/// A payload to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom.
    pub to: NodeId,
    /// Where it is, by its record or its latest packet.
    pub place: Place,
    /// Packets with one label stay in order where they take one way.
    pub flow: u32,
    /// The payload.
    pub payload: Vec<u8>,
}

/// How a node came into its overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It founded a new one.
    Founded,
    /// Its store knows one.
    Resumed,
    /// It has to find one.
    Joining,
}

/// One node's overlay protocol. See the crate's documentation.
pub struct Overlay {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) id: NodeId,
    pub(crate) checks: Arc<dyn CheckSignatures>,
    pub(crate) rng: Rng,
    pub(crate) genesis: Option<SignedGenesis>,
    /// In a closed overlay, unless this node founded it.
    pub(crate) membership: Option<Membership>,
    /// Over which link it asks to be admitted, and where.
    pub(crate) guest_of: Option<(LinkId, SignedGenesis)>,
    pub(crate) plane: Option<Plane>,
    pub(crate) origin: Option<Origin>,
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) attach_seq: u64,
    /// The attachment with which links were copied last.
    pub(crate) copied_seq: u64,
    /// The highest number of a record that this node published.
    pub(crate) seq_floor: u64,
    /// It was in the overlay before this start: others may be waiting for it.
    pub(crate) returns: bool,
    pub(crate) stored_seq: u64,
    pub(crate) stored_known: Vec<Vec<u8>>,
    pub(crate) static_cert: Option<Vec<u8>>,
    pub(crate) links: Links,
    pub(crate) dialer: Dialer,
    pub(crate) twin: Twin,
    pub(crate) partners: Partners,
    pub(crate) trees: Trees,
    pub(crate) named: Named,
    /// Roots that left in good order and are not back.
    pub(crate) parted: BTreeSet<NodeId>,
    pub(crate) survey: Survey,
    pub(crate) rebound_at: Option<Instant>,
    /// The layer above knows of a place.
    pub(crate) present: bool,
    /// Whose identity counts no more, and the proof.
    pub(crate) revoked: BTreeMap<NodeId, SignedRecord>,
    /// Which of these was put last.
    pub(crate) revoked_put: Option<NodeId>,
    pub(crate) dht: Dht,
    pub(crate) claims: Claims,
    pub(crate) echoes: Echoes,
    pub(crate) routes: Routes,
    pub(crate) pointers: Pointers,
    pub(crate) moves: Moves,
    pub(crate) witness: Witness,
    pub(crate) penalties: Penalties,
    /// Links that have not answered their probe do not count, for the dials of this moment.
    pub(crate) urgent: bool,
    pub(crate) leaving: bool,
    pub(crate) clock: Now,
    pub(crate) timers: Timers<Timer>,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) counters: Counters,
}

impl Overlay {
    /// A node that knows nobody yet.
    pub fn new(config: Config, identity: Identity, seed: [u8; 32], now: Now) -> Self {
        let mut rng = Rng::from_seed(seed);
        let id = identity.id();
        let timing = &config.timing;
        let mut dialer = Dialer::new(timing.dial_backoff, timing.dial_backoff_max, timing.dial_timeout);
        for address in &config.joins {
            dialer.learn(address, None, Source::Configured);
        }
        let dht = Dht::new(dht::Config::default(), id, rng.bytes(), now);
        Self {
            config,
            identity,
            id,
            checks: Arc::new(CheckEach),
            rng,
            genesis: None,
            membership: None,
            guest_of: None,
            plane: None,
            origin: None,
            listen: Vec::new(),
            attach_seq: now.wall.as_unix_micros(),
            copied_seq: 0,
            seq_floor: 0,
            returns: false,
            stored_seq: 0,
            stored_known: Vec::new(),
            static_cert: None,
            links: Links::default(),
            dialer,
            twin: Twin::default(),
            partners: Partners::default(),
            trees: Trees::new(),
            named: Named::default(),
            parted: BTreeSet::new(),
            survey: Survey::default(),
            rebound_at: None,
            present: false,
            revoked: BTreeMap::new(),
            revoked_put: None,
            dht,
            claims: Claims::default(),
            echoes: Echoes::default(),
            routes: Routes::default(),
            pointers: Pointers::default(),
            moves: Moves::default(),
            witness: Witness::default(),
            penalties: Penalties::default(),
            urgent: false,
            leaving: false,
            clock: now,
            timers: Timers::default(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Has signatures checked in another way: see [`CheckSignatures`].
    pub fn set_signature_checks(&mut self, checks: Arc<dyn CheckSignatures>) {
        self.dht.set_signature_checks(Arc::clone(&checks));
        self.checks = checks;
    }

    /// Takes over what the store held. Call before [`Overlay::start`].
    ///
    /// # Errors
    /// [`RestoreError`] when it is damaged, or of another overlay than the configured one.
    pub fn restore(&mut self, snapshot: &Snapshot, now: Now) -> Result<(), RestoreError> {
        self.restore_from(snapshot, now)
    }

    /// Resumes the stored overlay, or joins one if the configuration says where or which, or else founds one.
    ///
    /// # Errors
    /// [`FoundError`] when the configured `q` is impossible, or this is to be a leaf.
    pub fn start(&mut self, now: Now) -> Result<Origin, FoundError> {
        self.dialer.touch();
        let origin = if self.genesis.is_some() {
            self.resume(now);
            Origin::Resumed
        } else if !self.config.joins.is_empty() || self.config.expected.is_some() {
            Origin::Joining
        } else {
            self.found(now)?;
            Origin::Founded
        };
        self.origin = Some(origin);
        self.settle_down(now);
        Ok(origin)
    }

    /// A link to `peer` is up; `initiator` when this side dialled `remote`.
    pub fn handle_link_up(&mut self, link: LinkId, peer: NodeId, remote: Multiaddr, initiator: bool, now: Now) {
        self.link_came_up(link, peer, remote, initiator, now);
        self.settle_down(now);
    }

    /// A link is gone.
    pub fn handle_link_down(&mut self, link: LinkId, now: Now) {
        self.link_went_down(link, now);
        self.settle_down(now);
    }

    /// A dial failed.
    pub fn handle_dial_failed(&mut self, address: &Multiaddr, now: Now) {
        self.dialer.failed(address, &mut self.rng, now.instant);
        // It may be what a newcomer waited for.
        self.seek_parent(now);
        self.settle_down(now);
    }

    /// A local address came or went: every link has to prove itself, and everything is dialled at once.
    pub fn handle_address_change(&mut self, now: Now) {
        self.address_changed(now);
        self.settle_down(now);
    }

    /// The network that links go over was gone, and is back or has another in its place: every link has to prove itself, its peer is dialled beside it at
    /// once, and the new link takes the place of the old one. Where it is the same network again, the node has not moved.
    pub fn handle_interruption(&mut self, now: Now) {
        self.prove_links(core::time::Duration::ZERO, now);
        self.settle_down(now);
    }

    /// As if the network had just come back: whatever waits to be dialled again is dialled now. Links are not doubted.
    pub fn redial(&mut self, now: Now) {
        self.dialer.hurry();
        self.seek_parent(now);
        self.settle_down(now);
    }

    /// The addresses at which this node listens now.
    pub fn handle_listen_addresses(&mut self, addresses: Vec<Multiaddr>, now: Now) {
        self.dialer.set_own(&addresses);
        if self.listen != addresses {
            self.listen = addresses;
            for peer in self.links.peers() {
                if let Some(id) = self.links.to(&peer).map(|link| link.id) {
                    self.say_hello(id, now);
                }
            }
        }
        self.settle_down(now);
    }

    /// A frame arrived.
    ///
    /// # Errors
    /// [`FrameError`] for anything that is not a proper frame; the command that closes the link is queued already.
    pub fn handle_frame(&mut self, link: LinkId, lane: Lane, frame: Vec<u8>, now: Now) -> Result<(), FrameError> {
        let routed = frame.first().is_some_and(|first| first & LINK_FRAME_BIT == 0);
        let done = self.dispatch(link, lane, frame, now);
        if done.is_err_and(|error| error != FrameError::UnknownLink) {
            self.close_malformed(link, now);
        }
        if routed && done.is_ok() {
            // Passing a packet on changes nothing but the record table.
            self.clock = now;
            self.drain_dht(now);
        } else {
            self.settle_down(now);
        }
        done
    }

    /// A frame was announced that is longer than its lane allows: the driver did not read it, and the link is gone.
    pub fn handle_oversized(&mut self, link: LinkId, now: Now) {
        self.close_malformed(link, now);
        self.settle_down(now);
    }

    /// So many more bytes may be given to this lane of this link.
    pub fn handle_link_room(&mut self, id: LinkId, lane: Lane, bytes: usize, now: Now) {
        self.clock = now;
        if let Some(link) = self.links.link_mut(id) {
            link.queue.add_room(lane, bytes);
            self.links.make_ready(id);
        }
    }

    /// Something may be due.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some(timer) = self.timers.pop_expired(now.instant) {
            match timer {
                Timer::Link(id) => self.link_timer(id, now),
                Timer::Beacon(tree) => self.beacon_timer(tree, now),
                Timer::Titles => self.name_heirs(now),
                Timer::Survey => self.survey_timer(now),
                Timer::Stale(tree) => self.stale_timer(tree, now),
                Timer::Ask(tree) => self.ask_timer(tree, now),
                Timer::Routes => self.routes.forget(),
                Timer::Seek => {
                    self.dialer.touch();
                    self.seek_parent(now);
                    self.forget_lost_addresses(now);
                }
                Timer::Takeover(tree) => self.takeover_timer(tree, now),
                Timer::Place => self.place_timer(now),
                Timer::Hints => self.hints_timer(now),
                Timer::Records => self.store_records(now),
                Timer::Claims => self.claims_timer(now),
                Timer::Lease => self.lease_timer(now),
                Timer::Advert => {
                    self.advertise(now);
                    self.store_known();
                }
                Timer::Sizes => self.tell_sizes(now),
                Timer::Placement(tree) => self.placement_timer(tree, now),
                Timer::Rebind => self.rebind(now),
                Timer::Dial => {
                    self.dialer.expire(&mut self.rng, now.instant);
                    self.dialer.touch();
                }
                Timer::Urgent => self.urgent_timer(now),
                Timer::Partners => self.partners_timer(now),
                Timer::Standing => {
                    self.standing_changed(now);
                    self.publish_record(now);
                }
                Timer::Echo(id) => self.echo_timer(id, now),
                Timer::Revoked => self.revoked_timer(now),
                Timer::Dht => self.dht.handle_timeout(now),
                Timer::Leave => self.left(now),
            }
        }
        self.settle_down(now);
    }

    /// The value last given with [`Command::Persist`] under `key` is on disk.
    pub fn handle_persisted(&mut self, key: &str, now: Now) {
        if let Some(tree) = TreeId::ALL.into_iter().find(|tree| slots_key(*tree) == key) {
            self.slots_stored(tree, now);
        }
        self.settle_down(now);
    }

    /// Sends a payload.
    ///
    /// # Errors
    /// [`SendError`] when there is no way for it from here.
    pub fn send(&mut self, outgoing: Outgoing, now: Now) -> Result<(), SendError> {
        self.clock = now;
        self.send_data(outgoing, now)
    }

    /// Publishes this node's record, with its certificate, now and at each change of its place.
    pub fn publish_node(&mut self, static_cert: Vec<u8>, now: Now) {
        self.static_cert = Some(static_cert);
        if let Some(place) = &mut self.trees.place {
            // A record is numbered by its place, and the newest counts.
            place.seq = crate::record::next_seq(place.seq.max(self.seq_floor), now);
            self.advertise(now);
        }
        self.publish_record(now);
        self.settle_down(now);
    }

    /// The local network says that a node of this overlay is at this address, and nobody vouches for that: it is dialled while no neighbour answers, and
    /// whoever answers there shows who it is.
    pub fn handle_announced(&mut self, address: &Multiaddr, now: Now) {
        self.dialer.learn(&dial::bare(address), None, Source::Nearby);
        self.dialer.touch();
        self.settle_down(now);
    }

    /// Who runs this node says that another one is at this address.
    pub fn handle_peer_found(&mut self, address: &Multiaddr, peer: Option<NodeId>, now: Now) {
        self.dialer.learn(address, peer, Source::Configured);
        self.dialer.touch();
        self.settle_down(now);
    }

    /// Throws away all records kept for others, as if their binder's memory were gone. Owners put them again in time.
    pub fn forget_records(&mut self) {
        self.dht.forget_records();
    }

    /// From now on links are made as this says: see [`Config::only`] and [`Config::extra_links`]. Those that there are stay.
    pub fn set_links(&mut self, only: Vec<Only>, extra_links: usize, now: Now) {
        (self.config.only, self.config.extra_links) = (only, extra_links);
        self.dialer.touch();
        self.settle_down(now);
    }

    /// Claims a human name for this node.
    pub fn claim_name(&mut self, name: Name, now: Now) {
        self.want_name(name, None, now);
        self.settle_down(now);
    }

    /// Gives up a name that this node claimed, or wanted to: binders that keep it forget it.
    pub fn withdraw_name(&mut self, name: &Name, now: Now) {
        self.forget_name(name);
        let query = Query::Name(name.clone());
        if let Some(claim) = self.dht.withdraw(&query) {
            self.take_back(&claim, now);
        }
        self.settle_down(now);
    }

    /// Looks a record up; [`Event::LookupFinished`] follows. `fresh`: not from the cache.
    pub fn lookup(&mut self, query: Query, fresh: bool, now: Now) -> LookupId {
        let id = self.dht.lookup(query, fresh, now);
        self.settle_down(now);
        id
    }

    /// Sends an echo to a node; [`Event::Echo`] or [`Event::EchoLost`] follows.
    pub fn ping(&mut self, to: NodeId, place: Place, now: Now) -> EchoId {
        let id = self.start_echo(to, place, false, now);
        self.settle_down(now);
        id
    }

    /// Asks every relay on the way to a node to show itself; [`Event::TraceHop`]s and then [`Event::Echo`] or
    /// [`Event::EchoLost`] follow.
    pub fn trace(&mut self, to: NodeId, place: Place, now: Now) -> EchoId {
        let id = self.start_echo(to, place, true, now);
        self.settle_down(now);
        id
    }

    /// Hands over and says goodbye; [`Event::Left`] follows within a second.
    pub fn leave(&mut self, now: Now) {
        self.begin_to_leave(now);
        self.settle_down(now);
    }

    /// Where this node is, while it is attached.
    pub fn place(&self) -> Option<&Place> {
        if self.trees.all_detached() { None } else { self.trees.place.as_ref() }
    }

    /// The overlay's id, once known.
    pub fn overlay_id(&self) -> Option<OverlayId> {
        self.genesis.as_ref().map(SignedGenesis::overlay_id)
    }

    /// The next frame for a link with room.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.links.poll_transmit(self.clock.instant)?;
        self.frame_left(&transmit);
        Some(transmit)
    }

    /// The next thing for the driver to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The next fact.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Overlay::handle_timeout`] is due, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.timers.next()
    }
}
