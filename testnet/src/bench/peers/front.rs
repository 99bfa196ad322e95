//! A neighbour of the node that is measured, and the peers behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multiaddr::Multiaddr;
use muses::{Arrival, Event, Path, Resolved, Sessions};
use node::clock;
use node::links::{Input, Links};
use overlay::Overlay;
use overlay::address::{AddressSet, Place};
use overlay::config::Config;
use overlay::dht::LookupResult;
use overlay::id::{Identity, NodeId};
use overlay::io::{Command, Lane, LinkId, Transmit};
use overlay::record::Query;
use overlay::rng::Rng;
use overlay::time::{Instant, Now};
use overlay::wire::packet::{Header, Kind};
use tokio::sync::{mpsc, watch};
use zeroize::Zeroizing;

/// Handshakes under way at each front: 48 in all, fewer than a node lets wait for their last message, so that none is given up for another.
const IN_FLIGHT: usize = 6;
/// A front is ready when its place has not changed for so long: the node has heard of it then, too.
const PLACE_REST: Duration = Duration::from_secs(1);
/// The node is looked up again after this, until its record is found.
const LOOKUP_EVERY: Duration = Duration::from_secs(1);
/// Children of a front, and of each of these: peers are spread over their places. Below `q - 2`, so that none stands for an extension.
const CHILDREN: usize = 60;
/// What the peers ask for; the node has no such service.
const SERVICE: &str = "nothing";
/// A peer has to have a port or a service; this is as good as any.
const PORT: u16 = 1;

/// What happens at one front, for all of them together.
pub enum Note {
    /// It has joined and knows the node's certificate.
    Ready,
    /// Every peer behind it has a session.
    Established {
        /// Handshakes that failed and were begun anew.
        failed: u64,
    },
}

/// One neighbour of the node, and the peers behind it.
pub struct Front {
    target: NodeId,
    overlay: Overlay,
    links: Links,
    /// Its links to the node. When both dialled there are two for a moment, of which either may be closed.
    to_node: BTreeSet<LinkId>,
    place: Option<Place>,
    /// Since when that is its place.
    placed_at: Instant,
    /// The node's certificate and place.
    found: Option<Resolved>,
    peers: Vec<Peer>,
    index: BTreeMap<NodeId, usize>,
    /// When which peer's timers are due.
    due: BTreeSet<(Instant, usize)>,
    /// Peers before this one have begun.
    begun: usize,
    established: usize,
    failed: u64,
}

struct Peer {
    id: NodeId,
    sessions: Sessions,
    due: Option<Instant>,
    session: Session,
}

/// How far a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Session {
    None,
    /// This end has it.
    Half,
    /// The other end has it too: in it, it has refused the connection.
    Whole,
}

impl Front {
    /// A front that begins to join through the node `target` at `at`.
    ///
    /// # Errors
    /// One line when its links cannot start.
    pub fn start(target: NodeId, at: Multiaddr, peers: usize, rng: &mut Rng) -> Result<Self, String> {
        let now = clock::now();
        let secret = Zeroizing::new(rng.bytes());
        let config = Config { joins: vec![at], ..Config::default() };
        let mut overlay = Overlay::new(config, Identity::from_secret(&secret), rng.bytes(), now);
        overlay.start(now).map_err(|why| why.to_string())?;
        let listen: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().map_err(|why| format!("{why}"))?;
        let links = Links::start(secret, vec![listen], true).map_err(|why| why.to_string())?;
        let peers: Vec<Peer> = (0..peers).map(|_| Peer::new(rng, now)).collect();
        let index = peers.iter().enumerate().map(|(index, peer)| (peer.id, index)).collect();
        Ok(Self {
            target,
            overlay,
            links,
            to_node: BTreeSet::new(),
            place: None,
            placed_at: now.instant,
            found: None,
            peers,
            index,
            due: BTreeSet::new(),
            begun: 0,
            established: 0,
            failed: 0,
        })
    }

    /// Runs until the process ends: joins, waits for `go`, sets the sessions up, and keeps them.
    pub async fn run(mut self, mut go: watch::Receiver<bool>, notes: mpsc::UnboundedSender<Note>) {
        let mut inputs = Vec::new();
        let (mut told_ready, mut told_established) = (false, false);
        loop {
            let now = clock::now();
            self.handle_due(now);
            self.drain_overlay(now);
            if *go.borrow() {
                self.begin_more(now);
            }
            if !told_ready && self.is_ready(now) {
                told_ready = notes.send(Note::Ready).is_ok();
            }
            if !told_established && self.established == self.peers.len() {
                told_established = notes.send(Note::Established { failed: self.failed }).is_ok();
            }
            let sleep_for = self.sleep_for(clock::now());
            tokio::select! {
                () = self.links.next(&mut inputs) => {}
                () = tokio::time::sleep(sleep_for) => {}
                Ok(()) = go.changed() => {}
            }
            let now = clock::now();
            for input in inputs.drain(..) {
                self.handle(input, now);
            }
        }
    }

    fn is_ready(&self, now: Now) -> bool {
        let is_placed = self.place.is_some() && now.instant.since(self.placed_at) >= PLACE_REST;
        is_placed && !self.to_node.is_empty() && self.found.is_some()
    }

    fn sleep_for(&self, now: Now) -> Duration {
        let overlay = self.overlay.poll_timeout().map(|(at, _)| at);
        let peers = self.due.first().map(|(at, _)| *at);
        let due = [overlay, peers].into_iter().flatten().min().map_or(LOOKUP_EVERY, |at| at.since(now.instant));
        due.min(LOOKUP_EVERY)
    }

    fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Up { link, peer, remote, initiator } => {
                if peer == self.target {
                    self.to_node.insert(link);
                }
                self.overlay.handle_link_up(link, peer, remote, initiator, now);
            }
            Input::Down { link } => {
                self.to_node.remove(&link);
                self.overlay.handle_link_down(link, now);
            }
            Input::Oversized { link } => self.overlay.handle_oversized(link, now),
            Input::DialFailed { address } => self.overlay.handle_dial_failed(&address, now),
            Input::Frame { link, lane, bytes } => {
                if let Some(bytes) = self.hand_over(bytes, now) {
                    // The overlay has counted the error and asks for the link to be closed.
                    let _ = self.overlay.handle_frame(link, lane, bytes, now);
                }
            }
            Input::Room { link, lane, bytes } => self.overlay.handle_link_room(link, lane, bytes, now),
            Input::Listening(addresses) => self.overlay.handle_listen_addresses(addresses, now),
            Input::AddressChanged => self.overlay.handle_address_change(now),
        }
    }

    /// Gives a packet for one of the peers to it; any other frame comes back.
    fn hand_over(&mut self, frame: Vec<u8>, now: Now) -> Option<Vec<u8>> {
        let Ok((header, payload_at)) = Header::decode(&frame) else { return Some(frame) };
        let Some(&index) = self.index.get(&header.to()) else { return Some(frame) };
        if header.kind == Kind::Data
            && let Some(peer) = self.peers.get_mut(index)
        {
            let arrival = Arrival {
                from: header.src,
                return_path: Path(header.return_place.to_bytes()),
                // The measured node is the only neighbour, and the only one that the peers talk to.
                via: Some(header.src),
                ecn: header.ecn,
                hops: header.hops(),
            };
            peer.sessions.handle_packet(arrival, frame.get(payload_at..).unwrap_or_default().to_vec(), now);
            self.settle(index, now);
        }
        None
    }

    fn handle_due(&mut self, now: Now) {
        if self.overlay.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
            self.overlay.handle_timeout(now);
        }
        while let Some(&(at, index)) = self.due.first().filter(|(at, _)| *at <= now.instant) {
            self.due.remove(&(at, index));
            if let Some(peer) = self.peers.get_mut(index) {
                peer.due = None;
                peer.sessions.handle_timeout(now);
                self.settle(index, now);
            }
        }
    }

    fn drain_overlay(&mut self, now: Now) {
        while let Some(event) = self.overlay.poll_event() {
            self.hear(event, now);
        }
        while let Some(command) = self.overlay.poll_command() {
            match command {
                Command::Dial(address) => self.links.dial(address),
                Command::Close(link, reason) => {
                    self.to_node.remove(&link);
                    if self.links.close(link, reason) {
                        self.overlay.handle_link_down(link, now);
                    }
                }
                // Nothing of this outlives the process, so it is as durable as it will ever be.
                Command::Persist { key, .. } => self.overlay.handle_persisted(&key, now),
            }
        }
        while let Some(transmit) = self.overlay.poll_transmit() {
            self.links.transmit(transmit);
        }
    }

    fn hear(&mut self, event: overlay::event::Event, now: Now) {
        use overlay::event::Event as Heard;
        match event {
            Heard::Joined { place, .. } => {
                self.moved(place, now);
                self.overlay.lookup(Query::Node(self.target), true, now);
            }
            Heard::PlaceChanged(place) => self.moved(place, now),
            Heard::PlaceRenewed(place) => {
                for (index, peer) in self.peers.iter_mut().enumerate() {
                    peer.sessions.handle_path_renewed(Path(behind(&place, index).to_bytes()));
                }
                self.settle_at(place, now);
            }
            Heard::LookupFinished { result: LookupResult::Found(record), .. } => {
                self.found = record
                    .node()
                    .map(|node| Resolved { cert: node.static_cert.clone(), path: Path(node.place.to_bytes()) });
            }
            Heard::LookupFinished { .. } => {
                self.overlay.lookup(Query::Node(self.target), true, now);
            }
            _ => {}
        }
    }

    fn moved(&mut self, place: Place, now: Now) {
        for index in 0..self.peers.len() {
            if let Some(peer) = self.peers.get_mut(index) {
                peer.sessions.handle_attached(Path(behind(&place, index).to_bytes()), now);
                self.settle(index, now);
            }
        }
        self.settle_at(place, now);
    }

    fn settle_at(&mut self, place: Place, now: Now) {
        if self.place.as_ref().map(|own| &own.addresses) != Some(&place.addresses) {
            self.placed_at = now.instant;
        }
        self.place = Some(place);
    }

    fn begin_more(&mut self, now: Now) {
        while self.begun < self.peers.len() && self.begun < self.established + IN_FLIGHT {
            let index = self.begun;
            self.begun += 1;
            self.open(index, now);
        }
    }

    fn open(&mut self, index: usize, now: Now) {
        if let Some(peer) = self.peers.get_mut(index) {
            // It fails only for a peer with itself and with too many sessions, and here is one with somebody else.
            let _ = peer.sessions.open(self.target, SERVICE, PORT, now);
            self.settle(index, now);
        }
    }

    /// Carries out what a peer's sessions want.
    fn settle(&mut self, index: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let mut again = false;
        while let Some(command) = peer.sessions.poll_command() {
            match command {
                muses::Command::Resolve(target) => match self.found.clone() {
                    Some(found) => peer.sessions.handle_peer(target, found, now),
                    None => peer.sessions.handle_peer_unresolved(target, now),
                },
                muses::Command::Persist { key, .. } => peer.sessions.handle_persisted(&key, now),
            }
        }
        while let Some(event) = peer.sessions.poll_event() {
            match event {
                Event::SessionEstablished { .. } if peer.session == Session::None => peer.session = Session::Half,
                Event::StreamClosed { .. } if peer.session == Session::Half => {
                    peer.session = Session::Whole;
                    self.established += 1;
                }
                Event::HandshakeFailed { .. } => {
                    peer.session = Session::None;
                    self.failed += 1;
                    again = true;
                }
                _ => {}
            }
        }
        while let Some(packet) = peer.sessions.poll_transmit() {
            let place = self.place.as_ref().map(|place| behind(place, index));
            if let Some(transmit) = packed(peer.id, place, self.to_node.first().copied(), packet) {
                self.links.transmit(transmit);
            }
        }
        let due = peer.sessions.poll_timeout().map(|(at, _)| at);
        if peer.due != due {
            self.due.extend(due.map(|at| (at, index)));
            if let Some(before) = std::mem::replace(&mut peer.due, due) {
                self.due.remove(&(before, index));
            }
        }
        if again {
            self.open(index, now);
        }
    }
}

impl Peer {
    fn new(rng: &mut Rng, now: Now) -> Self {
        let identity = Identity::from_secret(&rng.bytes());
        let id = identity.id();
        let sessions = Sessions::new(muses::Config::default(), identity, rng.bytes(), rng.bytes(), now);
        Self { id, sessions, due: None, session: Session::None }
    }
}

/// The place of the peer with this number behind a front at `front`, in each of the front's trees.
fn behind(front: &Place, index: usize) -> Place {
    let [child, grandchild] =
        [index / CHILDREN, index % CHILDREN].map(|number| u8::try_from(number).unwrap_or(u8::MAX));
    let mut addresses = AddressSet::default();
    for (tree, address) in front.addresses.iter() {
        if let Some(address) = address.child(child).and_then(|address| address.child(grandchild)) {
            addresses.insert(tree, address);
        }
    }
    Place { addresses, seq: front.seq }
}

/// A session's packet as a frame; nothing while there is no link or place, which is as if it were lost.
fn packed(from: NodeId, place: Option<Place>, link: Option<LinkId>, packet: muses::Outgoing) -> Option<Transmit> {
    let to = Place::from_bytes(&packet.path.0).ok()?;
    let mut header = Header::new(Kind::Data, from, place?, packet.to, to, packet.flow);
    header.ttl = header.ttl.saturating_sub(1);
    Some(Transmit { link: link?, lane: Lane::Data, bytes: header.with_payload(&packet.payload) })
}

#[cfg(test)]
mod tests {
    use overlay::address::{Address, TreeId};

    use super::*;

    #[test]
    fn peers_behind_a_front_are_all_at_different_places_two_edges_below_it() {
        let own = Address::from_ordinals(&[3]).unwrap();
        let mut front = Place { addresses: AddressSet::single(own.clone()), seq: 5 };
        front.addresses.insert(TreeId::ALL[2], Address::root());
        let places: BTreeSet<Place> = (0..CHILDREN * 3).map(|index| behind(&front, index)).collect();
        assert_eq!(places.len(), CHILDREN * 3);
        for place in places {
            assert_eq!((place.seq, place.addresses.len()), (5, 2));
            let address = place.addresses.in_tree(TreeId::ALL[0]).unwrap();
            assert!(own.is_prefix_of(address) && address.depth() == 3, "{address}");
        }
    }
}
