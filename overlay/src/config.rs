//! What a person decides about a node's part in an overlay, and the times and limits of the protocol.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use multiaddr::Multiaddr;

use crate::id::{NodeId, OverlayId};
use crate::membership::Enrolment;

/// A node's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Children per vertex plus one, for an overlay that this node founds (genesis pins it): 3 to 256.
    pub q: u16,
    /// Trees of an overlay that this node founds: 1 to 4. A tree has a root of its own; small overlays use fewer.
    pub trees: u8,
    /// An overlay that this node founds is closed: only who is admitted gets a link.
    pub closed: bool,
    /// The invite by which this node may become a member of a closed overlay.
    pub enrolment: Option<Enrolment>,
    /// Addresses through which to join.
    pub joins: Vec<Multiaddr>,
    /// Friend-to-friend mode (`links.only`): links to nobody else; empty means everybody.
    pub only: Vec<Only>,
    /// The overlay that must be joined, when it is known before; otherwise the first that is heard is pinned.
    pub expected: Option<OverlayId>,
    /// Protocol times.
    pub timing: Timing,
    /// A leaf gives nobody a place, passes nothing on and keeps no records. A founder cannot be one: it holds the root.
    pub leaf: bool,
    /// Most links at one time.
    pub max_links: usize,
    /// Links wanted beside the one to the parent, as shortcuts and as other ways out.
    pub extra_links: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            q: 64,
            trees: 4,
            closed: false,
            enrolment: None,
            joins: Vec::new(),
            only: Vec::new(),
            expected: None,
            timing: Timing::default(),
            leaf: false,
            max_links: 64,
            extra_links: 2,
        }
    }
}

impl Config {
    /// Whether `links.only` lets this node have a link to `peer` at `remote`.
    pub fn allows(&self, peer: &NodeId, remote: &Multiaddr) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only.matches(Some(peer), remote))
    }

    /// Whether dialling `remote` can lead to a link that is allowed; the peer at an address may be unknown.
    pub fn may_dial(&self, peer: Option<&NodeId>, remote: &Multiaddr) -> bool {
        let peer_unknown = peer.is_none() && self.only.iter().any(|only| matches!(only, Only::Id(_)));
        self.only.is_empty() || peer_unknown || self.only.iter().any(|only| only.matches(peer, remote))
    }
}

/// One entry of `links.only`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Only {
    /// This node.
    Id(NodeId),
    /// Whoever is at an address that begins with these components, such as `/ip4/127.0.0.11` for any port.
    Prefix(Multiaddr),
}

impl Only {
    fn matches(&self, peer: Option<&NodeId>, remote: &Multiaddr) -> bool {
        match self {
            Self::Id(id) => peer == Some(id),
            Self::Prefix(prefix) => {
                let mut remote = remote.iter();
                prefix.iter().all(|part| remote.next() == Some(part))
            }
        }
    }
}

/// A text that is neither a node id nor a multiaddr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a node id (12D3KooW...) nor a multiaddr (/ip4/...)")]
pub struct ParseOnlyError;

impl FromStr for Only {
    type Err = ParseOnlyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return text.parse().map(Self::Prefix).map_err(|_| ParseOnlyError);
        }
        text.parse().map(Self::Id).map_err(|_| ParseOnlyError)
    }
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Prefix(prefix) => prefix.fmt(f),
        }
    }
}

/// The protocol's times. The defaults are the design's; only tests and simulations change them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a child's slot is kept for it after its link was lost.
    pub lease: Duration,
    /// Between heartbeats on a link between parent and child.
    pub heartbeat: Duration,
    /// T1: a parent, or a child, that was not heard for this long is lost.
    pub parent_silent: Duration,
    /// T2: how long the root must be out of reach before its first heir takes over.
    pub takeover: Duration,
    /// What every further heir waits beyond the one before it.
    pub takeover_step: Duration,
    /// Between beacons of the root.
    pub beacon: Duration,
    /// A neighbour that told no beacon younger than this is no candidate for a parent; it tells every third.
    pub beacon_fresh: Duration,
    /// A node whose parent sent no beacon for this long looks for another.
    pub beacon_stale: Duration,
    /// Between probes of an idle link to a neighbour that is neither parent nor child.
    pub probe: Duration,
    /// A link whose probe is not answered for this long is dead.
    pub probe_timeout: Duration,
    /// A link over which data went, but nothing came back for this long, is probed.
    pub quiet: Duration,
    /// How long the first hello of a new link may take.
    pub hello_timeout: Duration,
    /// How long the answer to an Ask may take, before another neighbour is asked.
    pub ask_timeout: Duration,
    /// First wait after a dial that failed.
    pub dial_backoff: Duration,
    /// Longest wait after a dial that failed.
    pub dial_backoff_max: Duration,
    /// A dial without an answer counts as failed after this.
    pub dial_timeout: Duration,
    /// Changes are collected for this long before neighbours are told.
    pub advert_delay: Duration,
    /// How long one echo is waited for.
    pub echo_timeout: Duration,
    /// How long a leaving node waits for its last frames to go.
    pub leave: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_mins(10),
            heartbeat: Duration::from_secs(2),
            parent_silent: Duration::from_secs(5),
            takeover: Duration::from_secs(8),
            takeover_step: Duration::from_secs(3),
            beacon: Duration::from_secs(5),
            beacon_fresh: Duration::from_secs(22),
            beacon_stale: Duration::from_secs(17),
            probe: Duration::from_secs(15),
            probe_timeout: Duration::from_secs(3),
            quiet: Duration::from_secs(1),
            hello_timeout: Duration::from_secs(5),
            ask_timeout: Duration::from_secs(2),
            dial_backoff: Duration::from_millis(50),
            dial_backoff_max: Duration::from_secs(10),
            dial_timeout: Duration::from_secs(10),
            advert_delay: Duration::from_millis(100),
            echo_timeout: Duration::from_secs(3),
            leave: Duration::from_millis(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_matches_ids_and_address_prefixes() {
        let id = NodeId::from_bytes([1; 32]);
        let other = NodeId::from_bytes([2; 32]);
        let near: Multiaddr = "/ip4/127.0.0.11/tcp/4001".parse().unwrap();
        let far: Multiaddr = "/ip4/127.0.0.12/tcp/4001".parse().unwrap();
        let only = |text: &str| Config { only: vec![text.parse().unwrap()], ..Config::default() };
        assert!(only("/ip4/127.0.0.11").allows(&other, &near));
        assert!(!only("/ip4/127.0.0.11").allows(&id, &far));
        assert!(!only("/ip4/127.0.0.11").may_dial(Some(&id), &far));
        assert!(only(&id.to_string()).allows(&id, &far));
        assert!(!only(&id.to_string()).allows(&other, &near));
        assert!(only(&id.to_string()).may_dial(None, &far));
        assert!(Config::default().allows(&other, &near));
        assert!("nonsense".parse::<Only>().is_err());
    }
}
