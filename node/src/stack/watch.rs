//! Whether those with whom this node has to do were revoked.
//!
//! A revocation is found by looking the node up ([`overlay::record::Revocation`]). That is done when a session with it or a link to it has come up,
//! when its session is suspended, for peers with connections every [`PERIOD`], and for one of the others every [`IDLE_TICKS`] times that. What a new peer opens waits for
//! the answer; no answer counts as a good one, or else an overlay in trouble would serve nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muses::{ResetReason, StreamKey};
use overlay::id::NodeId;
use overlay::record::Query;
use overlay::time::{Instant, Now};

use super::Stack;
use super::conns::End;
use super::event::{Event, Failure};

/// Between two rounds.
pub const PERIOD: Duration = Duration::from_secs(15);
/// Most peers looked up in one round; the others have their turn in the next.
const MAX_AT_ONCE: usize = 32;
/// One of those without connections is looked up every so many rounds.
const IDLE_TICKS: u64 = 4;

/// A stream that a peer has opened and that waits.
#[derive(Clone, Debug)]
struct Held {
    stream: StreamKey,
    service: String,
    port: u16,
}

/// Who is looked up next, and what waits for that.
#[derive(Debug, Default)]
pub struct Watch {
    due: Option<Instant>,
    rounds: u64,
    last_busy: Option<NodeId>,
    last_idle: Option<NodeId>,
    /// New peers, and what they have opened.
    unchecked: BTreeMap<NodeId, Vec<Held>>,
}

impl Watch {
    /// When [`Stack::watch_timer`] is due.
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Stack {
    /// This node has a place: it can ask.
    pub(super) fn start_to_watch(&mut self, now: Now) {
        self.watch.due.get_or_insert(now.instant + PERIOD);
    }

    /// Looks up some of those with whom there are sessions or links, each in its turn.
    pub(super) fn watch_timer(&mut self, now: Now) {
        if self.watch.due.is_none_or(|due| due > now.instant) {
            return;
        }
        self.watch.due = None;
        self.forget_reach_of_gone();
        if self.overlay.place().is_none() {
            return;
        }
        self.start_to_watch(now);
        self.watch.rounds = self.watch.rounds.wrapping_add(1);
        let busy: BTreeSet<NodeId> = self.conns.peers().collect();
        let mut chosen = in_turn(&busy, self.watch.last_busy, MAX_AT_ONCE);
        self.watch.last_busy = chosen.last().copied().or(self.watch.last_busy);
        if self.watch.rounds.is_multiple_of(IDLE_TICKS) {
            let sessions = self.sessions.sessions().map(|session| session.peer);
            let links = self.overlay.neighbours().into_iter().map(|neighbour| neighbour.id);
            let idle: BTreeSet<NodeId> = sessions.chain(links).filter(|peer| !busy.contains(peer)).collect();
            let next = in_turn(&idle, self.watch.last_idle, 1);
            self.watch.last_idle = next.last().copied().or(self.watch.last_idle);
            chosen.extend(next);
        }
        chosen.into_iter().for_each(|peer| self.check(peer, now));
    }

    /// Looks `peer` up.
    pub(super) fn check(&mut self, peer: NodeId, now: Now) {
        let id = self.overlay.lookup(Query::Node(peer), true, now);
        self.questions.watching(id, peer);
    }

    /// A session with `peer` has begun: what it opens waits until it was looked up.
    pub(super) fn check_first(&mut self, peer: NodeId, now: Now) {
        self.watch.unchecked.entry(peer).or_default();
        self.check(peer, now);
    }

    /// The look-up has ended, and `peer` was not revoked.
    pub(super) fn checked(&mut self, peer: NodeId, now: Now) {
        for Held { stream, service, port } in self.watch.unchecked.remove(&peer).unwrap_or_default() {
            self.let_in(stream, peer, &service, port, now);
        }
    }

    /// `peer` has opened a stream.
    pub(super) fn hear_opened(&mut self, stream: StreamKey, peer: NodeId, service: String, port: u16, now: Now) {
        match self.watch.unchecked.get_mut(&peer) {
            Some(held) => held.push(Held { stream, service, port }),
            None => self.let_in(stream, peer, &service, port, now),
        }
    }

    /// A stream is over before it was let in.
    pub(super) fn forget_held(&mut self, stream: StreamKey) {
        self.watch.unchecked.values_mut().for_each(|held| held.retain(|held| held.stream != stream));
    }

    fn let_in(&mut self, stream: StreamKey, peer: NodeId, service: &str, port: u16, now: Now) {
        let Some((service, forward)) = self.services.choose(service, peer) else {
            self.sessions.refuse(stream, ResetReason::UnknownService, now);
            return;
        };
        let (service, forward) = (service.to_owned(), forward.to_owned());
        let conn = self.conns.add(&service, End::Here, port, Some(peer));
        self.conns.bind(conn, peer, stream);
        self.seek_link_with(peer, now);
        self.events.push_back(Event::Incoming { conn, peer, service, forward });
    }

    /// The identity `id` was revoked: its session is over.
    pub(super) fn hear_revoked(&mut self, id: NodeId, now: Now) {
        if id == self.id {
            self.events.push_back(Event::IdentityRevoked);
            return;
        }
        self.watch.unchecked.remove(&id);
        let conns = self.conns.ids_of_peer(id);
        self.sessions.cut(id, now);
        self.forget_reach_of_gone();
        conns.into_iter().for_each(|conn| self.fail(conn, Failure::Revoked));
        self.events.push_back(Event::PeerRevoked(id));
    }
}

/// At most `most` of `among`, those after `last` first.
fn in_turn(among: &BTreeSet<NodeId>, last: Option<NodeId>, most: usize) -> Vec<NodeId> {
    let is_after = |id: &&NodeId| last.is_none_or(|last| **id > last);
    let after = among.iter().filter(is_after);
    after.chain(among.iter().filter(|id| !is_after(id))).take(most).copied().collect()
}

#[cfg(test)]
mod tests {
    use overlay::id::Identity;
    use overlay::time::WallTime;

    use super::super::{Config, Who};
    use super::*;

    /// What a new peer has opened, and whether it was let in, after `then`.
    fn let_in_after(then: impl FnOnce(&mut Stack, NodeId, Now)) -> bool {
        let now = Now { instant: Instant::ZERO, wall: WallTime::default() };
        let (own, peer) = (Identity::from_secret(&[1; 32]), Identity::from_secret(&[2; 32]).id());
        let mut stack = Stack::new(Config::default(), own, [3; 32], [4; 32], now).unwrap();
        stack.expose("web".into(), "127.0.0.1:80".into(), vec![Who::Anyone]);
        stack.check_first(peer, now);
        stack.hear_opened(StreamKey(1), peer, "web".into(), 0, now);
        let is_in = |stack: &Stack| stack.events.iter().any(|event| matches!(event, Event::Incoming { .. }));
        assert!(!is_in(&stack), "let in before the answer");
        then(&mut stack, peer, now);
        stack.checked(peer, now);
        is_in(&stack)
    }

    #[test]
    fn a_new_peer_waits_until_it_was_looked_up() {
        assert!(let_in_after(|_, _, _| {}));
        assert!(!let_in_after(|stack, peer, now| stack.hear_revoked(peer, now)), "a revoked one is let in");
        assert!(!let_in_after(|stack, _, _| stack.forget_held(StreamKey(1))), "a stream that is over is let in");
    }

    #[test]
    fn each_has_its_turn() {
        let ids: BTreeSet<NodeId> = (0..5).map(|n| NodeId::from_bytes([n; 32])).collect();
        let (mut last, mut seen) = (None, Vec::new());
        for _ in 0..5 {
            let chosen = in_turn(&ids, last, 2);
            assert_eq!(chosen.len(), 2);
            last = chosen.last().copied();
            seen.extend(chosen);
        }
        assert!(ids.iter().all(|id| seen.iter().filter(|seen| *seen == id).count() == 2));
        assert!(in_turn(&BTreeSet::new(), last, 2).is_empty());
        assert_eq!(in_turn(&ids, last, 9).len(), 5);
    }
}
