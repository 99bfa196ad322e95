//! A neighbour of the node that is measured, and the peers behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multiaddr::Multiaddr;
use muses::{Arrival, Event, Path, Sessions};
use node::clock;
use node::links::Input;
use overlay::address::Place;
use overlay::id::{Identity, NodeId};
use overlay::rng::Rng;
use overlay::time::{Instant, Now};
use overlay::wire::packet::{Header, Kind};
use tokio::sync::{mpsc, watch};

use super::neighbour::{LOOKUP_EVERY, Neighbour, News, behind};

/// What the peers ask for; the node has no such service.
const SERVICE: &str = "nothing";
/// A peer has to have a port or a service; this is as good as any.
const PORT: u16 = 1;

/// What happens at one front.
pub enum Note {
    /// It has joined and knows the node's certificate.
    Ready,
    /// A peer behind it has a session; it took so long from the connection opened.
    Established(Duration),
    /// A handshake failed and was begun anew.
    Failed,
}

/// How the peers behind one front begin.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// So many handshakes are under way.
    pub in_flight: usize,
    /// From one begin to the next one, at least.
    pub every: Duration,
}

/// One neighbour of the node, and the peers behind it.
pub struct Front {
    target: NodeId,
    neighbour: Neighbour,
    pace: Pace,
    peers: Vec<Peer>,
    index: BTreeMap<NodeId, usize>,
    /// When which peer's timers are due.
    due: BTreeSet<(Instant, usize)>,
    /// Peers before this one have begun.
    begun: usize,
    /// The next one does not before this.
    next_at: Instant,
    established: usize,
    notes: mpsc::UnboundedSender<Note>,
}

struct Peer {
    id: NodeId,
    sessions: Sessions,
    due: Option<Instant>,
    began: Instant,
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
    pub fn start(
        target: NodeId,
        at: Multiaddr,
        peers: usize,
        pace: Pace,
        rng: &mut Rng,
        notes: mpsc::UnboundedSender<Note>,
    ) -> Result<Self, String> {
        let now = clock::now();
        let neighbour = Neighbour::start(target, at, rng, now)?;
        let peers: Vec<Peer> = (0..peers).map(|_| Peer::new(rng, now)).collect();
        let index = peers.iter().enumerate().map(|(index, peer)| (peer.id, index)).collect();
        let (due, next_at) = (BTreeSet::new(), now.instant);
        Ok(Self { target, neighbour, pace, peers, index, due, begun: 0, next_at, established: 0, notes })
    }

    /// Runs until the process ends: joins, sets up the sessions of as many peers as `allowed` says, and keeps them.
    pub async fn run(mut self, mut allowed: watch::Receiver<usize>) {
        let mut inputs = Vec::new();
        let mut told_ready = false;
        loop {
            let now = clock::now();
            self.handle_due(now);
            for news in self.neighbour.drain(now) {
                self.hear(&news, now);
            }
            let most = *allowed.borrow();
            self.begin_more(most, now);
            if !told_ready && self.neighbour.is_ready(now) {
                told_ready = self.notes.send(Note::Ready).is_ok();
            }
            let sleep_for = self.sleep_for(most, clock::now());
            tokio::select! {
                () = self.neighbour.next(&mut inputs) => {}
                () = tokio::time::sleep(sleep_for) => {}
                Ok(()) = allowed.changed() => {}
            }
            let now = clock::now();
            for input in inputs.drain(..) {
                self.handle(input, now);
            }
        }
    }

    fn sleep_for(&self, allowed: usize, now: Now) -> Duration {
        let peers = self.due.first().map(|(at, _)| *at);
        let next = self.may_begin(allowed).then_some(self.next_at);
        let due = [self.neighbour.due(), peers, next].into_iter().flatten().min();
        due.map_or(LOOKUP_EVERY, |at| at.since(now.instant)).min(LOOKUP_EVERY)
    }

    fn handle(&mut self, input: Input, now: Now) {
        let input = match input {
            Input::Frame { link, lane, bytes } => match self.hand_over(bytes, now) {
                Some(bytes) => Input::Frame { link, lane, bytes },
                None => return,
            },
            other => other,
        };
        self.neighbour.handle(input, now);
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
        while let Some(&(at, index)) = self.due.first().filter(|(at, _)| *at <= now.instant) {
            self.due.remove(&(at, index));
            if let Some(peer) = self.peers.get_mut(index) {
                peer.due = None;
                peer.sessions.handle_timeout(now);
                self.settle(index, now);
            }
        }
    }

    fn hear(&mut self, news: &News, now: Now) {
        let path = |place: &Place, index| Path(behind(place, index).to_bytes());
        for index in 0..self.peers.len() {
            let Some(peer) = self.peers.get_mut(index) else { continue };
            match news {
                News::Moved(place) => peer.sessions.handle_attached(path(place, index), now),
                News::Renewed(place) => peer.sessions.handle_path_renewed(path(place, index)),
            }
            self.settle(index, now);
        }
    }

    fn may_begin(&self, allowed: usize) -> bool {
        self.begun < allowed.min(self.peers.len()) && self.begun < self.established + self.pace.in_flight
    }

    fn begin_more(&mut self, allowed: usize, now: Now) {
        while self.may_begin(allowed) && self.next_at <= now.instant {
            let index = self.begun;
            self.begun += 1;
            self.next_at = now.instant + self.pace.every;
            if let Some(peer) = self.peers.get_mut(index) {
                peer.began = clock::now().instant;
            }
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
                muses::Command::Resolve(target) => match self.neighbour.found() {
                    Some(found) => peer.sessions.handle_peer(target, found.clone(), now),
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
                    // Nobody listens any more when the process ends.
                    let _ = self.notes.send(Note::Established(clock::now().instant.since(peer.began)));
                }
                Event::HandshakeFailed { .. } => {
                    peer.session = Session::None;
                    let _ = self.notes.send(Note::Failed);
                    again = true;
                }
                _ => {}
            }
        }
        while let Some(packet) = peer.sessions.poll_transmit() {
            self.neighbour.send(peer.id, index, &packet);
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
        Self { id, sessions, due: None, began: now.instant, session: Session::None }
    }
}
