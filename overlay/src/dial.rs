//! Which addresses are known, and when each may be dialled again.

use std::collections::{BTreeMap, BTreeSet};

use core::cmp::Reverse;
use core::time::Duration;

use multiaddr::{Multiaddr, Protocol};

use crate::id::NodeId;
use crate::rng::Rng;
use crate::time::Instant;
use crate::tree::titles::{MAX_HEIR_ADDRESSES, MAX_HEIRS};

/// Most addresses that are remembered.
const MAX_KNOWN: usize = 256;
/// Most addresses remembered of one peer.
const MAX_PER_PEER: usize = 8;
/// Most dials under way at one time.
pub const MAX_PARALLEL_DIALS: usize = 8;
/// And beside them, so that neither keeps the other waiting, of what the local network announces: anybody there can announce anything.
const MAX_NEARBY_DIALS: usize = 4;
/// Most addresses remembered that the local network announces and where nobody was met yet.
const MAX_NEARBY: usize = 16;
/// Most addresses of present parents: as many as they tell, in four trees.
const MAX_PARENTS: usize = 32;
/// Most addresses of present ancestors: as many as an honest parent tells. It can tell any, and who they are shows only when they are needed.
const MAX_ANCESTOR_ADDRESSES: usize = 16;
/// Most addresses of present heirs: as many as titles name.
const MAX_HEIR_WAYS: usize = MAX_HEIRS * MAX_HEIR_ADDRESSES;

/// Why an address is known; the first reasons are dialled first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The configuration names it.
    Configured,
    /// The latest parent.
    Parent,
    /// An ancestor.
    Ancestor,
    /// An heir of a root.
    Heir,
    /// A neighbour, now or earlier.
    Neighbour,
    /// Announced on the local network: good while it is that network, and the latest first.
    Nearby,
    /// Told by somebody.
    Hearsay,
    /// Told by a peer of the layer above, of itself: good for a link to that one.
    Partner,
}

impl Source {
    /// Most addresses that are known for this reason at one time. Parents, ancestors and heirs change, and those of before are none any more.
    const fn most(self) -> usize {
        match self {
            Self::Parent => MAX_PARENTS,
            Self::Ancestor => MAX_ANCESTOR_ADDRESSES,
            Self::Heir => MAX_HEIR_WAYS,
            Self::Configured | Self::Neighbour | Self::Nearby | Self::Hearsay | Self::Partner => MAX_KNOWN,
        }
    }
}

#[derive(Clone, Debug)]
struct Known {
    /// As it was told first; with `/p2p/...` nobody else may answer there.
    address: Multiaddr,
    source: Source,
    peer: Option<NodeId>,
    backoff: Duration,
    not_before: Instant,
    dialling_since: Option<Instant>,
    /// Who was met there belongs to another overlay.
    foreign: bool,
    /// A neighbour said that it listens there.
    met: bool,
    /// When it was told last, counted in what was told.
    told: u64,
}

/// What an address is known for; and, where somebody was met at each, how long ago that was told: whoever is gone is to be forgotten at some time.
type Worth = (Source, Reverse<u64>);

impl Known {
    fn worth(&self) -> Worth {
        (self.source, Reverse(if self.source == Source::Neighbour { self.told } else { 0 }))
    }

    /// Announced by anybody, and nobody of this overlay was met there yet.
    fn is_rumour(&self) -> bool {
        self.source == Source::Nearby && (self.peer.is_none() || self.foreign)
    }
}

/// The table of known addresses.
#[derive(Debug, Default)]
pub struct Dialer {
    /// By the address without a peer: one place is never dialled twice at a time.
    known: BTreeMap<Multiaddr, Box<Known>>,
    own: BTreeSet<Multiaddr>,
    backoff_min: Duration,
    backoff_max: Duration,
    timeout: Duration,
    /// What may be dialled could have changed.
    touched: bool,
    /// How often something was told.
    told: u64,
}

impl Dialer {
    /// An empty table.
    pub fn new(backoff_min: Duration, backoff_max: Duration, timeout: Duration) -> Self {
        Self { backoff_min, backoff_max, timeout, ..Self::default() }
    }

    /// Something changed that dials depend on.
    pub const fn touch(&mut self) {
        self.touched = true;
    }

    /// Whether something changed since the last call.
    pub const fn take_touched(&mut self) -> bool {
        core::mem::replace(&mut self.touched, false)
    }

    /// Remembers `address`. A better reason replaces a worse one; when the table is full, hearsay has to go.
    pub fn learn(&mut self, address: &Multiaddr, peer: Option<NodeId>, source: Source) {
        let key = bare(address);
        if self.own.contains(&key) {
            return;
        }
        let peer = peer.or_else(|| peer_of(address));
        self.told = self.told.saturating_add(1);
        if let Some(known) = self.known.get_mut(&key) {
            known.told = self.told;
            // Hearsay does not change what is known better.
            known.foreign &= source != Source::Neighbour;
            known.met |= source == Source::Neighbour;
            if source <= known.source {
                if peer.is_some_and(|peer| known.peer.is_some_and(|known| known != peer)) {
                    // The place was given to somebody else, as networks do with addresses: who had it does not answer there any more.
                    known.address = address.clone();
                    if source < known.source {
                        (known.backoff, known.not_before) = (Duration::ZERO, Instant::ZERO);
                        self.touched = true;
                    }
                }
                known.source = source;
                known.peer = peer.or(known.peer);
                self.demote_former(source);
            }
            return;
        }
        if let Some(peer) = peer {
            let of_peer = self.known.iter().filter(|(_, known)| known.peer == Some(peer));
            let same: Vec<_> = of_peer.map(|(key, known)| (known.worth(), key.clone())).collect();
            if same.len() >= MAX_PER_PEER && !self.forget_worst(same, source) {
                return;
            }
        }
        if source == Source::Nearby {
            self.make_room_nearby();
        }
        if self.known.len() >= MAX_KNOWN {
            let all = self.known.iter().map(|(key, known)| (known.worth(), key.clone())).collect();
            if !self.forget_worst(all, source) {
                return;
            }
        }
        let known = Known {
            address: address.clone(),
            source,
            peer,
            backoff: Duration::ZERO,
            not_before: Instant::ZERO,
            dialling_since: None,
            foreign: false,
            met: source == Source::Neighbour,
            told: self.told,
        };
        self.known.insert(key, Box::new(known));
        self.touched = true;
        self.demote_former(source);
    }

    /// With more addresses known for one reason than are so at one time, the one that was told longest ago is not any more.
    fn demote_former(&mut self, source: Source) {
        let all = || self.known.values().filter(|known| known.source == source);
        if source.most() >= MAX_KNOWN || all().count() <= source.most() {
            return;
        }
        let oldest = all().map(|known| known.told).min();
        let former = self.known.values_mut().find(|known| known.source == source && Some(known.told) == oldest);
        if let Some(former) = former {
            former.source = if former.met { Source::Neighbour } else { Source::Hearsay };
        }
    }

    /// Bytes of the table, about.
    pub fn state_bytes(&self) -> usize {
        self.known.iter().map(|(key, known)| size_of::<Known>() + key.len() + known.address.len()).sum()
    }

    /// This node's own addresses are never dialled.
    pub fn set_own(&mut self, own: &[Multiaddr]) {
        self.own = own.iter().map(bare).collect();
        let own = &self.own;
        self.known.retain(|key, _| !own.contains(key));
    }

    /// The best address that may be dialled now and that `wanted` accepts; it counts as being dialled from now on.
    pub fn next(
        &mut self,
        wanted: impl Fn(&Multiaddr, Option<NodeId>, Source) -> bool,
        now: Instant,
    ) -> Option<Multiaddr> {
        let (nearby, others): (Vec<_>, Vec<_>) = self.under_way().partition(|known| known.source == Source::Nearby);
        let (nearby, others) = (nearby.len() < MAX_NEARBY_DIALS, others.len() < MAX_PARALLEL_DIALS);
        let known = self
            .known
            .values_mut()
            .filter(|known| {
                (if known.source == Source::Nearby { nearby } else { others })
                    && known.dialling_since.is_none()
                    && known.not_before <= now
                    && wanted(&known.address, known.peer, known.source)
            })
            .min_by_key(|known| {
                let latest = if known.source == Source::Nearby { known.told } else { 0 };
                (known.source, known.backoff, Reverse(latest))
            })?;
        known.dialling_since = Some(now);
        Some(known.address.clone())
    }

    /// Dials under way.
    pub fn dials(&self) -> usize {
        self.under_way().count()
    }

    fn under_way(&self) -> impl Iterator<Item = &Known> {
        self.known.values().map(Box::as_ref).filter(|known| known.dialling_since.is_some())
    }

    /// When [`Dialer::next`] may have something new for `wanted`.
    pub fn next_time(&self, wanted: impl Fn(&Multiaddr, Option<NodeId>, Source) -> bool) -> Option<Instant> {
        self.known
            .values()
            .filter(|known| wanted(&known.address, known.peer, known.source))
            .map(|known| known.dialling_since.map_or(known.not_before, |since| since + self.timeout))
            .min()
    }

    /// A dial led to a link with `peer`. The backoff is kept until the link has proven itself ([`Dialer::proven`]).
    pub fn connected(&mut self, address: &Multiaddr, peer: NodeId) {
        if let Some(known) = self.known.get_mut(&bare(address)) {
            known.dialling_since = None;
            known.peer = Some(peer);
            self.touched = true;
        }
    }

    /// The peer took this node as a neighbour, and not only the other way round: its backoff starts anew.
    pub fn proven(&mut self, peer: NodeId) {
        let waits = |known: &&mut Box<Known>| known.peer == Some(peer) && known.not_before > Instant::ZERO;
        for known in self.known.values_mut().filter(waits) {
            known.backoff = Duration::ZERO;
            known.not_before = Instant::ZERO;
            self.touched = true;
        }
    }

    /// A dial failed, or its link was of no use: wait longer than the last time, with jitter (50 ms to 10 s).
    pub fn failed(&mut self, address: &Multiaddr, rng: &mut Rng, now: Instant) {
        let (min, max) = (self.backoff_min, self.backoff_max);
        if let Some(known) = self.known.get_mut(&bare(address)) {
            known.dialling_since = None;
            known.backoff = known.backoff.saturating_mul(2).clamp(min, max);
            known.not_before = now + rng.jitter(known.backoff);
            self.touched = true;
        }
    }

    /// The same for all addresses of a peer whose link was of no use.
    pub fn useless(&mut self, peer: NodeId, rng: &mut Rng, now: Instant) {
        let of_peer: Vec<_> = self
            .known
            .iter()
            .filter(|(_, known)| known.peer == Some(peer))
            .map(|(address, _)| address.clone())
            .collect();
        for address in of_peer {
            self.failed(&address, rng, now);
        }
    }

    /// The peer belongs to another overlay: its addresses are no ways into this one.
    pub fn foreign(&mut self, peer: NodeId) {
        self.known.values_mut().filter(|known| known.peer == Some(peer)).for_each(|known| known.foreign = true);
    }

    /// Dials that got no answer have failed.
    pub fn expire(&mut self, rng: &mut Rng, now: Instant) {
        let timeout = self.timeout;
        let silent: Vec<_> = self
            .known
            .iter()
            .filter(|(_, known)| known.dialling_since.is_some_and(|since| since + timeout <= now))
            .map(|(address, _)| address.clone())
            .collect();
        for address in silent {
            self.failed(&address, rng, now);
        }
    }

    /// Another network: everything may work now, dials from the old one are not waited for, and what was announced there says nothing here.
    pub fn reset(&mut self) {
        self.touched = true;
        self.known.retain(|_, known| !known.is_rumour());
        for known in self.known.values_mut() {
            known.backoff = Duration::ZERO;
            known.not_before = Instant::ZERO;
            known.dialling_since = None;
        }
    }

    /// Whether no address of the peer works, as far as it was tried.
    pub fn is_failing(&self, peer: &NodeId) -> bool {
        self.known.values().filter(|known| known.peer == Some(*peer)).all(|known| known.backoff > Duration::ZERO)
    }

    /// Everything may work now; dials under way go on.
    pub fn hurry(&mut self) {
        self.touched = true;
        for known in self.known.values_mut() {
            known.not_before = Instant::ZERO;
        }
    }

    /// What is known of one peer.
    pub fn addresses_of(&self, peer: &NodeId) -> Vec<Multiaddr> {
        self.known.iter().filter(|(_, known)| known.peer == Some(*peer)).map(|(address, _)| address.clone()).collect()
    }

    /// The known ways into this overlay, best first, at most `max`.
    pub fn addresses(&self, max: usize) -> Vec<(Multiaddr, Option<NodeId>)> {
        let ways = self.known.values().filter(|known| !known.foreign && !known.is_rumour());
        let mut all: Vec<_> = ways.map(|known| (known.source, &known.address, known.peer)).collect();
        all.sort();
        all.into_iter().take(max).map(|(_, address, peer)| (address.clone(), peer)).collect()
    }

    /// The oldest rumour goes where there are as many as may be; not one that is dialled, which would not be counted any more.
    fn make_room_nearby(&mut self) {
        let rumours = || self.known.iter().filter(|(_, known)| known.is_rumour());
        if rumours().count() < MAX_NEARBY {
            return;
        }
        let waiting = rumours().filter(|(_, known)| known.dialling_since.is_none());
        if let Some(oldest) = waiting.min_by_key(|(_, known)| known.told).map(|(key, _)| key.clone()) {
            self.known.remove(&oldest);
        }
    }

    fn forget_worst(&mut self, among: Vec<(Worth, Multiaddr)>, for_source: Source) -> bool {
        match among.into_iter().max() {
            Some(((worst, _), address)) if worst >= for_source && worst > Source::Configured => {
                self.known.remove(&address);
                true
            }
            _ => false,
        }
    }
}

/// `address` without a trailing `/p2p/...`.
pub fn bare(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

/// `address` with a trailing `/p2p/...` of `peer`; none when it names another peer.
pub fn at_peer(address: &Multiaddr, peer: NodeId) -> Option<Multiaddr> {
    match peer_of(address) {
        Some(named) if named != peer => None,
        _ => format!("{}/p2p/{peer}", bare(address)).parse().ok(),
    }
}

fn peer_of(address: &Multiaddr) -> Option<NodeId> {
    match address.iter().last()? {
        Protocol::P2p(peer) => NodeId::from_peer_id_bytes(&peer.to_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
