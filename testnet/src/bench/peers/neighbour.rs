//! A neighbour of the node that is measured: an overlay node with a real link to it, which knows its certificate and place.

use std::collections::BTreeSet;
use std::time::Duration;

use multiaddr::Multiaddr;
use muses::{Path, Resolved};
use node::links::{Input, Links};
use overlay::Overlay;
use overlay::address::{AddressSet, Place};
use overlay::config::Config;
use overlay::dht::LookupResult;
use overlay::event::Event;
use overlay::id::{Identity, NodeId};
use overlay::io::{Command, Lane, LinkId, Transmit};
use overlay::record::Query;
use overlay::rng::Rng;
use overlay::time::{Instant, Now};
use overlay::wire::packet::{Header, Kind};
use zeroize::Zeroizing;

/// It is ready when its place has not changed for so long: the node has heard of it then, too.
const PLACE_REST: Duration = Duration::from_secs(1);
/// The node is looked up again after this, until its record is found.
pub const LOOKUP_EVERY: Duration = Duration::from_secs(1);
/// Children of a neighbour, and of each of these: who is behind it is spread over their places. Below `q - 2`, so that none stands for an extension.
pub const CHILDREN: usize = 60;

/// What matters to those behind it.
pub enum News {
    /// It has another place.
    Moved(Place),
    /// It has the same one, announced anew.
    Renewed(Place),
}

/// One neighbour of the node.
pub struct Neighbour {
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
    /// It is looked up then.
    look_up_at: Option<Instant>,
}

impl Neighbour {
    /// Begins to join through the node `target` at `at`.
    ///
    /// # Errors
    /// One line when its links cannot start.
    pub fn start(target: NodeId, at: Multiaddr, rng: &mut Rng, now: Now) -> Result<Self, String> {
        let secret = Zeroizing::new(rng.bytes());
        let config = Config { joins: vec![at], ..Config::default() };
        let mut overlay = Overlay::new(config, Identity::from_secret(&secret), rng.bytes(), now);
        overlay.start(now).map_err(|why| why.to_string())?;
        let listen: Multiaddr = "/ip4/127.0.0.1/tcp/0".parse().map_err(|why| format!("{why}"))?;
        let links = Links::start(secret, vec![listen], true).map_err(|why| why.to_string())?;
        let (to_node, placed_at) = (BTreeSet::new(), now.instant);
        Ok(Self { target, overlay, links, to_node, place: None, placed_at, found: None, look_up_at: None })
    }

    /// It has joined and knows the node's certificate.
    pub fn is_ready(&self, now: Now) -> bool {
        let is_placed = self.place.is_some() && now.instant.since(self.placed_at) >= PLACE_REST;
        is_placed && !self.to_node.is_empty() && self.found.is_some()
    }

    /// Its link to the node.
    pub fn link(&self) -> Option<LinkId> {
        self.to_node.first().copied()
    }

    /// The node's certificate and place.
    pub fn found(&self) -> Option<&Resolved> {
        self.found.as_ref()
    }

    /// When its timers are due.
    pub fn due(&self) -> Option<Instant> {
        self.overlay.poll_timeout().map(|(at, _)| at).into_iter().chain(self.look_up_at).min()
    }

    /// Waits for something to happen to its links.
    pub async fn next(&mut self, inputs: &mut Vec<Input>) {
        self.links.next(inputs).await;
    }

    /// Takes in what happened to its links.
    pub fn handle(&mut self, input: Input, now: Now) {
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
                // The overlay has counted an error and asks for the link to be closed.
                let _ = self.overlay.handle_frame(link, lane, bytes, now);
            }
            Input::Room { link, lane, bytes } => self.overlay.handle_link_room(link, lane, bytes, now),
            Input::Listening(addresses) => self.overlay.handle_listen_addresses(addresses, now),
            Input::AddressChanged => self.overlay.handle_address_change(now),
            Input::Interrupted => self.overlay.handle_interruption(now),
        }
    }

    /// Does what is due, and carries out what its overlay node wants.
    pub fn drain(&mut self, now: Now) -> Vec<News> {
        if self.overlay.poll_timeout().is_some_and(|(at, _)| at <= now.instant) {
            self.overlay.handle_timeout(now);
        }
        if self.look_up_at.take_if(|at| *at <= now.instant).is_some() {
            self.overlay.lookup(Query::Node(self.target), true, now);
        }
        let mut news = Vec::new();
        while let Some(event) = self.overlay.poll_event() {
            news.extend(self.hear(event, now));
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
        news
    }

    /// Sends a session's packet from `from`, who has the number `index` behind it, as a frame of so many bytes; nothing while there is no link or place, which is
    /// as if it were lost.
    pub fn send(&mut self, from: NodeId, index: usize, packet: &muses::Outgoing) -> usize {
        let Some(transmit) = self.packed(from, index, packet) else { return 0 };
        let bytes = transmit.bytes.len();
        self.links.transmit(transmit);
        bytes
    }

    fn packed(&self, from: NodeId, index: usize, packet: &muses::Outgoing) -> Option<Transmit> {
        let to = Place::from_bytes(&packet.path.0).ok()?;
        let place = behind(self.place.as_ref()?, index);
        let mut header = Header::new(Kind::Data, from, place, packet.to, to, packet.flow);
        header.ttl = header.ttl.saturating_sub(1);
        Some(Transmit { link: self.link()?, lane: Lane::Data, bytes: header.with_payload(&packet.payload) })
    }

    fn hear(&mut self, event: Event, now: Now) -> Option<News> {
        match event {
            Event::Joined { place, .. } => {
                self.look_up_at = Some(now.instant);
                self.settle_at(&place, now);
                Some(News::Moved(place))
            }
            Event::PlaceChanged(place) => {
                self.settle_at(&place, now);
                Some(News::Moved(place))
            }
            Event::PlaceRenewed(place) => {
                self.settle_at(&place, now);
                Some(News::Renewed(place))
            }
            Event::LookupFinished { result: LookupResult::Found(record), .. } => {
                self.found = record
                    .node()
                    .map(|node| Resolved { cert: node.static_cert.clone(), path: Path(node.place.to_bytes()) });
                None
            }
            // It may have been answered at once, by this node itself.
            Event::LookupFinished { .. } => {
                self.look_up_at = Some(now.instant + LOOKUP_EVERY);
                None
            }
            _ => None,
        }
    }

    fn settle_at(&mut self, place: &Place, now: Now) {
        if self.place.as_ref().map(|own| &own.addresses) != Some(&place.addresses) {
            self.placed_at = now.instant;
        }
        self.place = Some(place.clone());
    }
}

/// The place of whoever has this number behind a neighbour at `front`, in each of the neighbour's trees. True children have the first places below it, where
/// it is a tree's root the node among them; so who is behind it has the last ones.
pub fn behind(front: &Place, index: usize) -> Place {
    let child = CHILDREN.saturating_sub(1 + index / CHILDREN);
    let [child, grandchild] = [child, index % CHILDREN].map(|number| u8::try_from(number).unwrap_or(u8::MAX));
    let mut addresses = AddressSet::default();
    for (tree, address) in front.addresses.iter() {
        if let Some(address) = address.child(child).and_then(|address| address.child(grandchild)) {
            addresses.insert(tree, address);
        }
    }
    Place { addresses, seq: front.seq }
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
