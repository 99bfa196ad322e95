//! How this node comes into its overlay and others do, and whose word about that counts.

use std::collections::BTreeMap;

use multiaddr::{Multiaddr, Protocol};
use overlay::id::NodeId;
use overlay::io::LinkId;
use overlay::membership::{Admission, Rank};
use overlay::time::Now;

use super::{Config, Stack};

/// Ways in that are remembered; more than anybody types.
const MAX_WAYS: usize = 256;

/// The ways into the overlay that whoever runs this node gave: not what anybody else says of where to dial.
#[derive(Debug)]
pub(super) struct Ways {
    /// Whose invite it has.
    inviter: Option<NodeId>,
    /// Who was met at each address last.
    met: BTreeMap<Multiaddr, Option<NodeId>>,
}

impl Ways {
    pub(super) fn new(config: &Config) -> Self {
        let mut ways =
            Self { inviter: config.enrolment.as_ref().map(|invite| invite.inviter), met: BTreeMap::default() };
        config.joins.iter().for_each(|address| ways.add(address));
        ways
    }

    /// One more.
    pub(super) fn add(&mut self, address: &Multiaddr) {
        if self.met.len() < MAX_WAYS {
            self.met.entry(bare(address)).or_default();
        }
    }

    /// `peer` answered at `address`, which this node has dialled.
    pub(super) fn meet(&mut self, address: &Multiaddr, peer: NodeId) {
        if let Some(met) = self.met.get_mut(&bare(address)) {
            *met = Some(peer);
        }
    }

    /// Whether it was met at one of them.
    pub(super) fn lead_to(&self, peer: NodeId) -> bool {
        self.met.values().any(|met| *met == Some(peer))
    }

    /// Whether it is the one whose invite this node has.
    pub(super) fn is_inviter(&self, peer: NodeId) -> bool {
        self.inviter == Some(peer)
    }
}

impl Stack {
    /// Whether only members may be in this node's overlay.
    pub fn is_closed(&self) -> bool {
        self.overlay.is_closed()
    }

    /// What this node may do in its closed overlay; none in an open one.
    pub fn rank(&self) -> Option<Rank> {
        self.overlay.rank()
    }

    /// The answer to [`Event::GuestAsks`](super::Event::GuestAsks).
    pub fn admit(&mut self, link: LinkId, guest: NodeId, admission: Admission, now: Now) {
        self.overlay.admit(link, guest, admission, now);
        self.settle(now);
    }
}

/// The address without `/p2p/...`: where something is, whoever is to answer there.
fn bare(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}
