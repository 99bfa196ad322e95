//! Direct links to those with whom this node talks, so that what they say takes no relays.
//!
//! The layer above knows who they are, and where they say that they can be dialled. Each is sought for a while; when that leads to a link, it is one
//! like others, and forwarding takes it because nothing is nearer to the peer than the peer. What a peer says may be wrong or hostile: so
//! few addresses are tried, at the pace of all dials, by a connection that only the peer's key can answer, and not for long.

use core::time::Duration;
use std::collections::BTreeMap;

use multiaddr::Multiaddr;

use crate::dial::Source;
use crate::id::NodeId;
use crate::overlay::{Overlay, Timer};
use crate::time::{Instant, Now};

/// Peers that are sought at one time.
const MAX_SOUGHT: usize = 32;
/// Addresses of each that are tried.
pub const MAX_ADDRESSES_SOUGHT: usize = 4;
/// For how long: dials that need longer lead over a network that is no better than the relays.
const SEEK_FOR: Duration = Duration::from_secs(15);

/// Who is sought, until when.
#[derive(Debug, Default)]
pub(crate) struct Partners(BTreeMap<NodeId, Instant>);

impl Partners {
    pub fn contains(&self, peer: &NodeId) -> bool {
        self.0.contains_key(peer)
    }

    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.0.keys().copied()
    }

    /// Whether there was room.
    fn seek(&mut self, peer: NodeId, until: Instant) -> bool {
        let room = self.0.len() < MAX_SOUGHT || self.contains(&peer);
        if room {
            self.0.insert(peer, until);
        }
        room
    }

    fn next(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }
}

impl Overlay {
    /// Tries for a while to get a link to `peer`, which says that it can be dialled at `addresses`. Nothing happens when there is one, or
    /// when `links.only` forbids it.
    pub fn seek_link(&mut self, peer: NodeId, addresses: &[Multiaddr], now: Now) {
        if peer != self.id && !self.links.is_live(&peer) && self.partners.seek(peer, now.instant + SEEK_FOR) {
            for address in addresses.iter().take(MAX_ADDRESSES_SOUGHT) {
                // Whoever else answers there is turned away before it is a link.
                if let Some(address) = crate::dial::at_peer(address, peer) {
                    self.dialer.learn(&address, Some(peer), Source::Partner);
                }
            }
            self.dialer.touch();
            self.partners_timer(now);
        }
        self.settle_down(now);
    }

    pub(crate) fn partners_timer(&mut self, now: Now) {
        let links = &self.links;
        self.partners.0.retain(|peer, until| *until > now.instant && !links.is_live(peer));
        self.dialer.touch();
        match self.partners.next() {
            Some(at) => self.timers.set(Timer::Partners, at),
            None => self.timers.cancel(Timer::Partners),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_sought_at_one_time() {
        let mut partners = Partners::default();
        let id = |n: usize| NodeId::from_bytes([u8::try_from(n).unwrap(); 32]);
        assert!((0..MAX_SOUGHT).all(|n| partners.seek(id(n), Instant::ZERO)));
        assert!(!partners.seek(id(MAX_SOUGHT), Instant::ZERO));
        assert!(partners.seek(id(1), Instant::ZERO), "it is sought already");
        assert_eq!(partners.peers().count(), MAX_SOUGHT);
    }
}
