//! What befalls the nodes of a network.

use overlay::grant::Grant;
use overlay::wire::link::{Frame, Refuse, RefuseReason};

use super::*;

/// A frame as it is, unless it gives a place: then it refuses one.
pub fn refusing(bytes: Vec<u8>) -> Vec<u8> {
    let Ok(Frame::Grant(granted)) = Frame::decode(&bytes) else { return bytes };
    let tree = Grant::from_bytes(&granted.grant).unwrap().tree;
    Frame::Refuse(Refuse { tree, why: RefuseReason::Detached, others: Vec::new() }).encode()
}

impl Net {
    /// The process dies. With `reset` its system tells its peers; without, they hear nothing more.
    pub fn kill(&mut self, n: usize, reset: bool) {
        self.nodes[n].overlay = None;
        let own: Vec<_> =
            self.ends.iter().filter(|(_, end)| end.node == n).map(|(link, end)| (*link, end.other)).collect();
        for (link, other) in own {
            self.ends.remove(&link);
            if reset {
                self.at(Duration::from_millis(5), What::Down { link: other });
            }
        }
    }

    /// Takes a node's network away. Nothing arrives any more in either direction, and nobody is told.
    pub fn network_down(&mut self, n: usize) {
        self.nodes[n].network = false;
    }

    /// Gives it another one: the old links stay dead.
    pub fn network_up(&mut self, n: usize, address: Multiaddr) {
        self.nodes[n].address = address.clone();
        self.reconnect(n);
        self.with(n, |overlay, now| {
            overlay.handle_listen_addresses(vec![address], now);
            overlay.handle_address_change(now);
        });
    }

    /// Moves it through these networks, with 8 s without one before and a minute in each.
    pub fn moves(&mut self, n: usize, networks: core::ops::RangeInclusive<usize>) {
        for network in networks {
            self.network_down(n);
            self.run(Duration::from_secs(8));
            self.network_up(n, format!("/ip4/10.9.9.{network}/tcp/4001").parse().unwrap());
            self.run(Duration::from_secs(60));
        }
    }

    /// Gives it the same one again; what was sent over the old links waits for too long to be of use.
    pub fn network_back(&mut self, n: usize) {
        self.reconnect(n);
        self.with(n, Overlay::handle_interruption);
    }

    fn reconnect(&mut self, n: usize) {
        self.nodes[n].network = true;
        let own: Vec<_> = self.ends.iter().filter(|(_, end)| end.node == n).map(|(link, _)| *link).collect();
        for link in own {
            if let Some(end) = self.ends.get_mut(&link) {
                end.other = LinkId(0);
            }
            for end in self.ends.values_mut().filter(|end| end.other == link) {
                end.other = LinkId(0);
            }
        }
    }

    /// A local address came or went, and no link was lost by it.
    pub fn addresses_change(&mut self, n: usize) {
        self.with(n, Overlay::handle_address_change);
    }

    /// Has a neighbour of `n`, the same each time, say something to it that it would not say.
    pub fn hears(&mut self, n: usize, bytes: Vec<u8>) -> Result<(), overlay::error::FrameError> {
        self.hears_on(Lane::Control, n, bytes)
    }

    pub fn hears_on(&mut self, lane: Lane, n: usize, bytes: Vec<u8>) -> Result<(), overlay::error::FrameError> {
        let link = *self.ends.iter().find(|(_, end)| end.node == n && self.ends.contains_key(&end.other)).unwrap().0;
        self.with(n, |overlay, now| overlay.handle_frame(link, lane, bytes, now))
    }

    /// Has its neighbour `from` say something to `n` that it would not say.
    pub fn hears_from(&mut self, n: usize, from: usize, bytes: Vec<u8>) -> Result<(), overlay::error::FrameError> {
        self.hears_from_on(Lane::Control, n, from, bytes)
    }

    pub fn hears_from_on(
        &mut self,
        lane: Lane,
        n: usize,
        from: usize,
        bytes: Vec<u8>,
    ) -> Result<(), overlay::error::FrameError> {
        let goes = |end: &End| end.node == n && end.peer == from && self.ends.contains_key(&end.other);
        let link = *self.ends.iter().find(|(_, end)| goes(end)).unwrap().0;
        self.with(n, |overlay, now| overlay.handle_frame(link, lane, bytes, now))
    }
}
