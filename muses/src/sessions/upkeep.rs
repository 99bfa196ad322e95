//! Keeping tables, timers and events in line with the sessions.

use overlay::id::NodeId;
use overlay::time::{Instant, Now};

use super::{Sessions, Timer};
use crate::cert::CERT_LIFETIME_S;
use crate::config::CERT_CHECK;
use crate::content::Label;
use crate::event::{Event, HandshakeFailure, ResetReason, SessionLabel, StreamKey};
use crate::session::{Endpoint, Fate, Session};

impl Sessions {
    pub(super) fn on_control_timeout(&mut self, peer: NodeId, now: Now) {
        let Some(session) = self.sessions.get_mut(&peer) else { return };
        match session.on_control_timeout(&mut self.end, now.instant) {
            Fate::Lives => self.sync(peer),
            Fate::Unresolved => self.fail(peer, HandshakeFailure::Unresolved),
            Fate::Unanswered => self.fail(peer, HandshakeFailure::Timeout),
        }
    }

    /// Certifies the static key afresh when half of the certificate's lifetime is over.
    pub(super) fn on_cert_timeout(&mut self, now: Now) {
        self.set_cert_timer(now.instant);
        let left_s = self.end.keys.cert().expires_unix_s.saturating_sub(now.wall.as_unix_secs());
        // More than a lifetime is left when the wall clock was set back: peers with the right time would not accept it for long.
        if (CERT_LIFETIME_S / 2..=CERT_LIFETIME_S).contains(&left_s) {
            return;
        }
        self.end.keys.renew(now.wall, &mut self.end.ops);
        self.on_new_cert(now.instant);
    }

    /// Has this node's certificate published.
    pub(super) fn on_new_cert(&mut self, now: Instant) {
        self.cert = self.end.keys.cert().to_bytes();
        self.end.out.events.push_back(Event::CertRenewed);
        self.set_cert_timer(now);
    }

    /// Erases the static key before this one when it is time; looks again then, or at the certificate's age.
    fn set_cert_timer(&mut self, now: Instant) {
        let erased_at = self.end.keys.forget_previous(now);
        self.timers.set(Timer::Cert, erased_at.unwrap_or(now + CERT_CHECK).min(now + CERT_CHECK));
    }

    pub(super) fn on_stream(
        &mut self,
        stream: StreamKey,
        now: Now,
        work: impl FnOnce(&mut Session, &mut Endpoint, Instant),
    ) {
        if let Some(&peer) = self.streams.get(&stream) {
            self.with(peer, now, work);
        }
    }

    pub(super) fn for_all(&mut self, now: Now, work: impl Fn(&mut Session, &mut Endpoint, Instant)) {
        let peers: Vec<_> = self.sessions.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.with(peer, now, &work));
    }

    pub(super) fn with(&mut self, peer: NodeId, now: Now, work: impl FnOnce(&mut Session, &mut Endpoint, Instant)) {
        self.now = now.instant;
        if let Some(session) = self.sessions.get_mut(&peer) {
            work(session, &mut self.end, now.instant);
            self.sync(peer);
        }
    }

    /// The session that the packet's label names, if it is one with `from`.
    pub(super) fn on_labelled(
        &mut self,
        label: Option<Label>,
        from: NodeId,
        work: impl FnOnce(&mut Session, &mut Endpoint),
    ) {
        let peer = label.and_then(|Label(label)| self.labels.get(&SessionLabel(label)));
        match peer.filter(|peer| **peer == from).and_then(|peer| self.sessions.get_mut(peer)) {
            Some(session) => work(session, &mut self.end),
            None => self.end.counters.unknown += 1,
        }
    }

    pub(super) fn next_ready(&self) -> Option<NodeId> {
        use core::ops::Bound::{Excluded, Unbounded};
        let after = self.last_served.and_then(|last| self.ready.range((Excluded(last), Unbounded)).next());
        after.or(self.ready.first()).copied()
    }

    /// Brings timers, indexes and events in line with a session that may have changed.
    pub(super) fn sync(&mut self, peer: NodeId) {
        self.drain_outbox();
        let Some(session) = self.sessions.get(&peer) else { return };
        for (timer, at) in [
            (Timer::Transport(peer), session.flow.timeout(self.now)),
            (Timer::Control(peer), session.control_timeout()),
        ] {
            match at {
                Some(at) if self.timers.get(timer) != Some(at) => self.timers.set(timer, at),
                Some(_) => {}
                None => self.timers.cancel(timer),
            }
        }
        if session.wants_to_send(self.now) {
            self.ready.insert(peer);
        }
    }

    pub(super) fn drain_outbox(&mut self) {
        for (key, peer) in self.end.out.opened.drain(..) {
            self.streams.insert(key, peer);
        }
        for (key, why) in self.end.out.closed.drain(..) {
            self.streams.remove(&key);
            if let Some(why) = why {
                self.graves.insert(key, why);
            }
            self.end.out.events.push_back(Event::StreamClosed { stream: key, why });
        }
    }

    /// No session came about.
    pub(super) fn fail(&mut self, peer: NodeId, why: HandshakeFailure) {
        // Before the ends of its streams, which it explains.
        self.end.out.events.push_back(Event::HandshakeFailed { peer, why });
        if let Some(mut session) = self.sessions.remove(&peer) {
            session.flow.reset_all(ResetReason::Unreachable, &mut self.end.out);
            self.forget(&session);
        }
        self.drain_outbox();
    }

    /// Ends the session with `peer`, and every stream in it; false when there is none. The peer learns of it by what still fits
    /// into the path, else by the answer to its next Re-Hello. It may shake hands anew: whom to serve is not decided here.
    pub fn cut(&mut self, peer: NodeId, now: Now) -> bool {
        self.now = now.instant;
        let Some(mut session) = self.sessions.remove(&peer) else { return false };
        session.flow.reset_all(ResetReason::Application, &mut self.end.out);
        if self.end.local.is_some() {
            while let Some(packet) = session.poll(now.instant) {
                self.end.packets.push_back(packet);
            }
        }
        self.forget(&session);
        true
    }

    /// Takes a session that is no longer in the table out of everything else.
    pub(super) fn forget(&mut self, session: &Session) {
        // Its successor is stored in its place.
        if !self.sessions.contains_key(&session.peer) {
            session.unpersist(&mut self.end);
        }
        if let Some(label) = session.label() {
            self.labels.remove(&label);
        }
        self.timers.cancel(Timer::Transport(session.peer));
        self.timers.cancel(Timer::Control(session.peer));
        self.ready.remove(&session.peer);
        self.drain_outbox();
    }
}
