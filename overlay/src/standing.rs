//! How much others build on a node: leaves carry nobody, and who moves often carries as little as it can.
//!
//! A leaf by configuration grants no slots, passes nothing on and keeps no records. A node that moved twice within an hour keeps no records either, is no
//! hint and no heir, and is chosen as a parent only by whom nobody else gives a place; it does pass on, because it may be the only way to
//! somebody. An hour without a move, and it is a node like others again.

use core::time::Duration;
use std::collections::BTreeMap;

use bincode::{Decode, Encode};

use crate::address::TreeId;
use crate::id::NodeId;
use crate::overlay::{Overlay, Timer};
use crate::time::{Instant, Now};
use crate::wire::link::RefuseReason;

/// So many moves within [`MOVES_COUNT`] make a node a mover.
const MANY_MOVES: usize = 2;
/// For how long a move counts.
const MOVES_COUNT: Duration = Duration::from_hours(1);
/// A link that is lost within this after an address change was lost by it.
const MOVE_SHOWS: Duration = Duration::from_secs(30);

/// What a loss of the link adds to a neighbour's penalty; it halves in [`PENALTY_HALVES`]. Names and shape are those of RFC 2439, route flap damping.
const PENALTY_OF_LOSS: f64 = 1.0;
const PENALTY_HALVES: Duration = Duration::from_mins(5);
/// Above this a neighbour is held down.
const CUT_OFF: f64 = 2.5;
/// Below this it is not any more.
const REUSE: f64 = 0.75;
/// Neighbours whose losses are remembered.
const MAX_PENALTIES: usize = 64;

/// What a node does for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Standing {
    /// Everything.
    #[default]
    Relay,
    /// As little as it can: it moves often.
    Mover,
    /// Nothing: it was told so.
    Leaf,
}

/// A node's own standing.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// When it moved, the latest last, at most [`MANY_MOVES`].
    at: Vec<Instant>,
    /// When local addresses changed, until a link is lost by it.
    changed_at: Option<Instant>,
    /// There was a link since the latest move, or since the start.
    linked: bool,
}

impl Moves {
    /// Local addresses changed, while there were links or not. Not each such change is a move: interfaces of containers, tunnels and
    /// rotating IPv6 addresses come and go on nodes that stay where they are. Returns whether it is one already. Who leaves one network and comes
    /// into another has lost an address and got one, and moved once: without a link since, a change belongs to the move before.
    fn changed(&mut self, had_links: bool, now: Instant) -> bool {
        self.changed_at = had_links.then_some(now);
        !had_links && self.linked
    }

    /// A link is of use.
    pub fn linked(&mut self) {
        self.linked = true;
    }

    /// A link was lost that had come up at `up_at`. Returns whether an address change is to blame, the first time.
    fn lost(&mut self, up_at: Instant, now: Instant) -> bool {
        self.changed_at.take_if(|changed| up_at <= *changed && now.since(*changed) <= MOVE_SHOWS).is_some()
    }

    fn note(&mut self, now: Instant) {
        if self.at.len() >= MANY_MOVES {
            self.at.remove(0);
        }
        self.at.push(now);
        self.linked = false;
    }

    /// Until when there were many moves lately; none when there were not.
    fn many_until(&self, now: Instant) -> Option<Instant> {
        let first = self.at.first().filter(|_| self.at.len() >= MANY_MOVES)?;
        let last = self.at.last()?;
        let until = *last + MOVES_COUNT;
        (last.since(*first) < MOVES_COUNT && now < until).then_some(until)
    }
}

/// How often each neighbour was lost lately, and came back. Losses with which all neighbours were lost are this node's own.
#[derive(Debug, Default)]
pub(crate) struct Penalties {
    by_peer: BTreeMap<NodeId, Penalty>,
    /// When the last neighbour of all was lost.
    alone_at: Option<Instant>,
}

#[derive(Debug)]
struct Penalty {
    figure: f64,
    at: Instant,
    lost_at: Instant,
    held_down: bool,
}

impl Penalty {
    fn now(&self, now: Instant) -> f64 {
        let halvings = now.since(self.at).as_secs_f64() / PENALTY_HALVES.as_secs_f64();
        self.figure * libm::exp2(-halvings)
    }
}

impl Penalties {
    /// The link to `peer` was lost; it was the last one, or not.
    pub fn lost(&mut self, peer: NodeId, alone: bool, now: Instant) {
        if alone {
            self.alone_at = Some(now);
        }
        let forgotten =
            |penalty: &Penalty| penalty.now(now) < REUSE / 2.0 && now.since(penalty.lost_at) > PENALTY_HALVES;
        self.by_peer.retain(|_, penalty| !forgotten(penalty));
        if self.by_peer.len() < MAX_PENALTIES || self.by_peer.contains_key(&peer) {
            let new = Penalty { figure: 0.0, at: now, lost_at: now, held_down: false };
            self.by_peer.entry(peer).or_insert(new).lost_at = now;
        }
    }

    /// There is a link to `peer` again.
    pub fn returned(&mut self, peer: &NodeId, now: Instant) {
        let alone_at = self.alone_at;
        let Some(penalty) = self.by_peer.get_mut(peer) else { return };
        if alone_at.is_some_and(|alone| alone >= penalty.lost_at) {
            return;
        }
        (penalty.figure, penalty.at) = (penalty.now(now) + PENALTY_OF_LOSS, now);
        penalty.held_down = penalty.figure > CUT_OFF || (penalty.held_down && penalty.figure >= REUSE);
    }

    /// Whether the links to `peer` were lost too often to build on it.
    pub fn is_held_down(&self, peer: &NodeId, now: Instant) -> bool {
        self.by_peer.get(peer).is_some_and(|penalty| penalty.held_down && penalty.now(now) >= REUSE)
    }
}

impl Overlay {
    /// What this node does for others now.
    pub fn standing(&self) -> Standing {
        let many = self.moves.many_until(self.clock.instant).is_some();
        match (self.config.leaf && self.founder() != Some(self.id), many) {
            (true, _) => Standing::Leaf,
            (false, true) => Standing::Mover,
            (false, false) => Standing::Relay,
        }
    }

    /// Local addresses changed: a move, if this node had lost all links or loses one by it.
    pub(crate) fn note_address_change(&mut self, now: Now) {
        if self.moves.changed(self.links.live_len() > 0, now.instant) {
            self.note_move(now);
        }
    }

    /// A link that was in use since `up_at` is gone.
    pub(crate) fn note_link_gone(&mut self, up_at: Instant, now: Now) {
        if self.moves.lost(up_at, now.instant) {
            self.note_move(now);
        }
    }

    fn note_move(&mut self, now: Now) {
        self.moves.note(now.instant);
        if let Some(until) = self.moves.many_until(now.instant) {
            self.timers.set(Timer::Standing, until);
            self.standing_changed(now);
        }
    }

    /// Neighbours and binders are to know of it.
    pub(crate) fn standing_changed(&mut self, now: Now) {
        self.clock = now;
        self.advertise_soon(now);
        for tree in TreeId::ALL {
            self.placement_changed(tree, now);
        }
    }

    /// Why a leaf gives nobody a place.
    pub(crate) fn refuses_as_leaf(&self) -> Option<RefuseReason> {
        (self.standing() == Standing::Leaf).then_some(RefuseReason::Leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(n: u64) -> Instant {
        Instant::ZERO + Duration::from_mins(n)
    }

    #[test]
    fn two_moves_within_an_hour_count_for_an_hour() {
        let mut moves = Moves::default();
        moves.note(minute(10));
        assert_eq!(moves.many_until(minute(11)), None);
        moves.note(minute(71));
        assert_eq!(moves.many_until(minute(72)), None, "more than an hour apart");
        moves.note(minute(100));
        assert_eq!(moves.many_until(minute(101)), Some(minute(160)));
        assert_eq!(moves.many_until(minute(160)), None);
    }

    #[test]
    fn an_address_that_comes_or_goes_is_a_move_only_when_links_were_lost_by_it() {
        let mut moves = Moves::default();
        assert!(!moves.changed(false, minute(0)), "the network comes up after the node");
        moves.linked();
        assert!(moves.changed(false, minute(1)), "all links went with the address");
        moves.note(minute(1));
        assert!(!moves.lost(minute(0), minute(1)), "counted once");
        assert!(!moves.changed(false, minute(1)), "the new network's address belongs to the same move");
        assert!(!moves.changed(true, minute(2)));
        assert!(!moves.lost(minute(1), minute(3)), "a neighbour left, long after");
        assert!(!moves.changed(true, minute(4)));
        let soon = minute(4) + Duration::from_secs(5);
        assert!(!moves.lost(soon, soon), "it came up after the change");
        assert!(moves.lost(minute(1), soon));
        assert!(!moves.lost(minute(1), soon), "counted once");
    }

    #[test]
    fn a_neighbour_that_is_lost_again_and_again_is_held_down_for_a_while() {
        let (peer, mut penalties) = (NodeId::from_bytes([1; 32]), Penalties::default());
        let mut flap = |at| {
            penalties.lost(peer, false, at);
            penalties.returned(&peer, at + Duration::from_secs(1));
            let held_down = |at| penalties.is_held_down(&peer, at);
            (held_down(at + Duration::from_secs(2)), held_down(at + Duration::from_mins(8)))
        };
        assert_eq!(flap(minute(0)), (false, false));
        assert_eq!(flap(minute(1)), (false, false));
        assert_eq!(flap(minute(2)), (true, true), "longer than it took");
        assert_eq!(flap(minute(40)), (false, false), "the past is forgotten");
    }

    #[test]
    fn what_a_node_loses_with_its_network_is_no_neighbours_fault() {
        let (peer, other) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let mut penalties = Penalties::default();
        for n in 0..20 {
            penalties.lost(peer, false, minute(n));
            penalties.lost(other, true, minute(n));
            penalties.returned(&peer, minute(n));
            penalties.returned(&other, minute(n));
            assert!(!penalties.is_held_down(&peer, minute(n)) && !penalties.is_held_down(&other, minute(n)));
        }
    }

    #[test]
    fn losses_of_few_are_remembered() {
        let mut penalties = Penalties::default();
        for n in 0..=255 {
            penalties.lost(NodeId::from_bytes([n; 32]), false, minute(0));
        }
        assert_eq!(penalties.by_peer.len(), MAX_PENALTIES);
    }
}
