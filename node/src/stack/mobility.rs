//! Connections that behave as TCP's do when an end moves, and MobiSocket's verbs for those that shall not.
//!
//! *Mobile TCP socket for secure applications* (Thanh, Urano; "the paper" here) leaves it to the application whether a socket survives a
//! move. Sessions survive every move, so here a connection that did not ask for that is *fixed*: it fails where TCP would. It is bound
//! to where both ends are when it is fixed. It ends when this node loses its place or all its local addresses, when the peer turns up
//! elsewhere, and when the peer is silent for [`MAX_SILENCE`]. An outage that leaves both ends where they are does nothing, as with TCP.

use core::time::Duration;
use std::collections::BTreeMap;

use multiaddr::{Multiaddr, Protocol};
use muses::ResetReason;
use overlay::address::Place;
use overlay::id::NodeId;
use overlay::time::{Instant, Now};

use super::Stack;
use super::event::{ConnId, Failure};

/// How long a fixed connection waits for a silent peer: the least that TCP may (RFC 1122, section 4.2.3.5, R2).
pub const MAX_SILENCE: Duration = Duration::from_secs(100);
/// Timers of one node begin anew at most once in this time.
const MIN_REDIAL_INTERVAL: Duration = Duration::from_millis(200);

/// Where both ends of a fixed connection are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fix {
    own: Place,
    listen: Vec<Multiaddr>,
    peers: Option<Place>,
    /// Where the peer can be dialled, if it says so.
    reach: Vec<Multiaddr>,
}

/// Since when what was heard of moves matters.
#[derive(Debug, Default)]
pub(super) struct Mobility {
    /// Where this node is.
    place: Option<Place>,
    /// By silent peer: when its fixed connections fail.
    silent: BTreeMap<NodeId, Instant>,
    redialled_at: Option<Instant>,
}

impl Mobility {
    /// When [`Stack::give_up_silent`] is due.
    pub(super) fn timeout(&self) -> Option<Instant> {
        self.silent.values().min().copied()
    }
}

impl Stack {
    /// Who is at the other end of the connection, once it is known; none when the connection is gone.
    pub fn peer_of(&self, conn: ConnId) -> Option<NodeId> {
        self.conns.conn(conn)?.peer
    }

    /// Lets the connection fail on a move, from now on until [`Stack::activate_mobility`].
    pub fn fix(&mut self, conn: ConnId, now: Now) {
        let Some(peer) = self.conns.live(conn).and_then(|conn| conn.peer) else { return };
        let Some(own) = self.mobility.place.clone() else {
            self.break_off(conn, Failure::Moved, now);
            return;
        };
        let fix = Fix { own, listen: self.listen.clone(), peers: self.place_of(peer), reach: self.reaches.of(peer) };
        if let Some(conn) = self.conns.conn_mut(conn) {
            conn.fix = Some(Box::new(fix));
        }
    }

    /// Lets the connection survive every move and outage (the paper's `acvMobi`); false when it is gone.
    pub fn activate_mobility(&mut self, conn: ConnId) -> bool {
        if let Some(conn) = self.conns.conn_mut(conn) {
            conn.fix = None;
        }
        self.conns.live(conn).is_some()
    }

    /// The peer of the connection can be dialled there, as the application knows (the paper's `updateTCB` of the destination): a direct
    /// link is sought, which only the peer's key can answer, and the session tries at once. False when the connection is gone.
    pub fn update_peer_address(&mut self, conn: ConnId, address: Multiaddr, now: Now) -> bool {
        let Some(peer) = self.conns.live(conn).and_then(|conn| conn.peer) else { return false };
        self.overlay.seek_link(peer, &[address], now);
        self.sessions.reset_timers(peer, now);
        self.settle(now);
        true
    }

    /// As if something had just arrived from the connection's peer (the paper's `resetTimer`, section IV): what backs off, in the session and
    /// in this node's search for neighbours, begins anew. At most five times a second. False when the connection is gone.
    pub fn reset_timers(&mut self, conn: ConnId, now: Now) -> bool {
        let Some(peer) = self.conns.live(conn).and_then(|conn| conn.peer) else { return false };
        self.sessions.reset_timers(peer, now);
        if self.mobility.redialled_at.is_none_or(|at| now.instant.since(at) >= MIN_REDIAL_INTERVAL) {
            self.mobility.redialled_at = Some(now.instant);
            self.overlay.redial(now);
        }
        self.settle(now);
        true
    }

    /// Dials leave from another interface from now on: every link is copied there, and sessions notice nothing (the paper's `copyTCB`).
    /// How many links are on their way; [`Stack::copied_links`] tells how many are there.
    pub fn copy_links(&mut self, now: Now) -> usize {
        let dialled = self.overlay.copy_links(now);
        self.settle(now);
        dialled
    }

    /// Links that came up since the last [`Stack::copy_links`].
    pub fn copied_links(&self) -> usize {
        self.overlay.copied_links()
    }

    /// This node is there now, or nowhere.
    pub(super) fn note_place(&mut self, place: Option<Place>, now: Now) {
        let moved = self.conns.fixed(|_, fix| !place.as_ref().is_some_and(|place| share(&fix.own, place)));
        self.mobility.place = place;
        self.break_all(&moved, Failure::Moved, now);
    }

    /// This node listens at other addresses now.
    pub(super) fn note_listen(&mut self, now: Now) {
        let moved = self.conns.fixed(|_, fix| !fix.listen.is_empty() && !meet(&fix.listen, &self.listen));
        self.break_all(&moved, Failure::Moved, now);
    }

    /// The peer says where it can be dialled.
    pub(super) fn note_reach(&mut self, peer: NodeId, now: Now) {
        let reach = self.reaches.of(peer);
        let elsewhere = |fix: &Fix| !fix.reach.is_empty() && !reach.is_empty() && !meet(&fix.reach, &reach);
        let moved = self.conns.fixed(|of, fix| of == peer && elsewhere(fix));
        self.break_all(&moved, Failure::PeerMoved, now);
        for conn in self.conns.ids_of_peer(peer) {
            if let Some(fix) =
                self.conns.conn_mut(conn).and_then(|conn| conn.fix.as_mut()).filter(|fix| fix.reach.is_empty())
            {
                fix.reach.clone_from(&reach);
            }
        }
    }

    /// The session with the peer goes on, by the path that it has now.
    pub(super) fn note_resumed(&mut self, peer: NodeId, now: Now) {
        self.mobility.silent.remove(&peer);
        let Some(place) = self.place_of(peer) else { return };
        let elsewhere = |fix: &Fix| fix.peers.as_ref().is_some_and(|old| !share(old, &place));
        let moved = self.conns.fixed(|of, fix| of == peer && elsewhere(fix));
        self.break_all(&moved, Failure::PeerMoved, now);
    }

    /// The peer has fallen silent.
    pub(super) fn note_suspended(&mut self, peer: NodeId, now: Now) {
        if !self.conns.fixed(|of, _| of == peer).is_empty() {
            self.mobility.silent.entry(peer).or_insert(now.instant + MAX_SILENCE);
        }
    }

    /// Gives up on those who have been silent for too long.
    pub(super) fn give_up_silent(&mut self, now: Now) {
        let given_up: Vec<NodeId> =
            self.mobility.silent.iter().filter(|(_, at)| **at <= now.instant).map(|(peer, _)| *peer).collect();
        for peer in given_up {
            self.mobility.silent.remove(&peer);
            let conns = self.conns.fixed(|of, _| of == peer);
            self.break_all(&conns, Failure::Silent, now);
        }
    }

    fn place_of(&self, peer: NodeId) -> Option<Place> {
        self.sessions
            .path_to(&peer)
            .and_then(|path| Place::from_bytes(&path.0).ok())
            .filter(|place| *place != Place::default())
    }

    fn break_all(&mut self, conns: &[ConnId], why: Failure, now: Now) {
        conns.iter().for_each(|conn| self.break_off(*conn, why, now));
    }

    /// The application learns it here, the peer by a reset as soon as there is a way.
    fn break_off(&mut self, conn: ConnId, why: Failure, now: Now) {
        if let Some(stream) = self.conns.stream(conn) {
            self.sessions.reset(stream, ResetReason::Application, now);
        }
        self.fail(conn, why);
    }
}

/// Whether one of the addresses is still the same: trees come one after the other, and one alone may change.
fn share(old: &Place, new: &Place) -> bool {
    old.addresses.iter().any(|(tree, address)| new.addresses.in_tree(tree) == Some(address))
}

/// Whether one host is in both.
fn meet(old: &[Multiaddr], new: &[Multiaddr]) -> bool {
    let host = |address: &Multiaddr| address.iter().next().map(Protocol::acquire);
    old.iter().any(|address| new.iter().any(|other| host(other) == host(address)))
}
