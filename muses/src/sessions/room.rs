//! The bounded table of sessions: who has to go when somebody else comes.

use overlay::id::NodeId;

use super::Sessions;
use crate::event::ResetReason;

impl Sessions {
    /// Whether one more session fits, after giving up one that nobody here uses if need be. Its peer shakes hands anew when it comes back.
    pub(super) fn make_room(&mut self) -> bool {
        if self.sessions.len() < self.end.config.max_sessions {
            return true;
        }
        let Some(mut session) = self.least_wanted().and_then(|peer| self.sessions.remove(&peer)) else { return false };
        // Streams that wait to be taken end for whoever looks at them.
        session.flow.reset_all(ResetReason::Busy, &mut self.end.out);
        self.forget(&session);
        true
    }

    /// Whether [`Sessions::make_room`] would find some.
    pub(super) fn has_room(&self) -> bool {
        self.sessions.len() < self.end.config.max_sessions || self.least_wanted().is_some()
    }

    /// Of the sessions in which no application here has a stream: one with a stranger before one with whom there were streams, and of these whoever is away
    /// longest, or else is there longest: who has just come is about to say why. A peer costs nothing and can be made up; so what it does by itself, opening
    /// streams that are refused or never asked for, wins it no place.
    fn least_wanted(&self) -> Option<NodeId> {
        let unused = self.sessions.values().filter(|session| !session.flow.is_in_use());
        let rated = unused.map(|session| {
            let suspended_at = session.suspended_at();
            (session.flow.was_in_use(), suspended_at.is_none(), suspended_at, session.since, session.peer)
        });
        rated.min().map(|(.., peer)| peer)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::super::handshake::tests::{B, arrival, events, greet, id, node, now, packets, talk};
    use super::*;
    use crate::event::{Event, Path, Resolved, StreamKey};
    use crate::frame::Frame;

    const TABLE: u8 = 3;

    /// B with a short table.
    fn host() -> Sessions {
        let mut host = node(B);
        host.set_limits(TABLE.into(), 512);
        host
    }

    fn opened(host: &mut Sessions) -> Vec<StreamKey> {
        let keys = events(host).into_iter().filter_map(|event| match event {
            Event::StreamOpened { stream, .. } => Some(stream),
            _ => None,
        });
        keys.collect()
    }

    /// `name` opens a stream, which the host accepts or refuses, and is never heard of again.
    fn comes(host: &mut Sessions, name: u8, accepts: bool) {
        asks_for(host, name, "files", accepts);
    }

    fn asks_for(host: &mut Sessions, name: u8, service: &str, accepts: bool) {
        let mut peer = node(name);
        peer.open(id(B), service, 0, now()).unwrap();
        peer.handle_peer(id(B), Resolved { cert: host.cert().to_vec(), path: Path(vec![B]) }, now());
        talk([(&mut peer, name), (host, B)], now());
        for stream in opened(host) {
            if accepts {
                host.accept(stream, now());
            } else {
                host.refuse(stream, ResetReason::Refused, now());
            }
        }
        packets(host);
    }

    fn known(host: &Sessions) -> Vec<NodeId> {
        host.sessions().map(|session| session.peer).collect()
    }

    #[test]
    fn strangers_that_never_heard_their_refusal_displace_nobody_but_each_other() {
        let mut host = host();
        comes(&mut host, 10, true);
        for name in 20..40 {
            comes(&mut host, name, false);
            assert!(known(&host).contains(&id(name)), "{name} found no room");
        }
        assert_eq!(known(&host).len(), usize::from(TABLE));
        assert!(known(&host).contains(&id(10)), "its stream is in use");
        assert!(host.open(id(50), "files", 0, now()).is_ok(), "an application here finds room");
    }

    /// Its Finished comes again, and would be of no use if the first one had been taken.
    #[test]
    fn who_finds_no_room_finds_it_a_moment_later() {
        let mut host = host();
        (10..10 + TABLE).for_each(|name| comes(&mut host, name, true));
        let mut peer = node(20);
        peer.open(id(B), "files", 0, now()).unwrap();
        peer.handle_peer(id(B), Resolved { cert: host.cert().to_vec(), path: Path(vec![B]) }, now());
        host.handle_packet(arrival(20), packets(&mut peer).remove(0), now());
        peer.handle_packet(arrival(B), packets(&mut host).remove(0), now());
        let finished = packets(&mut peer).remove(0);
        host.handle_packet(arrival(20), finished.clone(), now());
        assert!(!known(&host).contains(&id(20)));
        host.set_limits(usize::from(TABLE) + 1, 512);
        host.handle_packet(arrival(20), finished, now());
        assert!(known(&host).contains(&id(20)));
    }

    /// While the node looks up whether it may serve them, for instance.
    #[test]
    fn whose_streams_nobody_has_taken_yet_keeps_nobody_out() {
        let mut host = host();
        for name in 20..30 {
            let mut peer = node(name);
            peer.open(id(B), "files", 0, now()).unwrap();
            peer.handle_peer(id(B), Resolved { cert: host.cert().to_vec(), path: Path(vec![B]) }, now());
            talk([(&mut peer, name), (&mut host, B)], now());
            packets(&mut host);
            assert!(known(&host).contains(&id(name)), "{name} found no room");
        }
        let (mut opened, mut closed) = (0, 0);
        for event in events(&mut host) {
            match event {
                Event::StreamOpened { .. } => opened += 1,
                Event::StreamClosed { why, .. } => closed += usize::from(why == Some(ResetReason::Busy)),
                _ => {}
            }
        }
        assert_eq!((opened, closed), (10, 10 - usize::from(TABLE)));
        assert_eq!(host.streams.len(), usize::from(TABLE), "of those who went nothing is left");
        assert!(host.open(id(50), "files", 0, now()).is_ok(), "an application here finds room");
    }

    #[test]
    fn a_table_full_of_sessions_in_use_takes_nobody() {
        let mut host = host();
        (10..10 + TABLE).for_each(|name| comes(&mut host, name, true));
        let before = known(&host);
        comes(&mut host, 20, false);
        assert_eq!(known(&host), before);
        assert!(host.open(id(50), "files", 0, now()).is_err());
    }

    #[test]
    fn who_was_served_before_goes_after_strangers_and_who_is_away_longest_goes_first() {
        let mut host = host();
        comes(&mut host, 10, true);
        let served: Vec<_> = host.streams.keys().copied().collect();
        served.into_iter().for_each(|stream| host.reset(stream, ResetReason::Application, now()));
        comes(&mut host, 20, false);
        comes(&mut host, 21, false);
        // The second stranger is away first.
        for (name, seconds) in [(21, 1), (20, 2), (10, 0)] {
            let later = now().after(Duration::from_secs(seconds));
            host.with(id(name), later, |session, end, now| session.suspend(end, now));
        }
        for (name, goes) in [(30, 21), (31, 20)] {
            comes(&mut host, name, false);
            assert!(!known(&host).contains(&id(goes)), "{goes} goes for {name}: {:?}", known(&host));
        }
        assert!(known(&host).contains(&id(10)));
    }

    #[test]
    fn whose_streams_overtook_their_opening_holds_no_place() {
        let mut host = host();
        for name in 20..20 + TABLE {
            comes(&mut host, name, false);
            let mut payload = Vec::new();
            Frame::Stream { stream: 8, offset: 0, fin: false, data: b"x" }.encode(&mut payload);
            host.with(id(name), now(), |session, end, now| {
                session.flow.handle(1000, &payload, false, now, &mut end.out).unwrap();
                assert_eq!(session.flow.stream_count(), 2, "a refused one, and this");
            });
        }
        comes(&mut host, 30, false);
        assert!(known(&host).contains(&id(30)));
    }

    /// Anybody may ask those.
    #[test]
    fn services_of_the_node_itself_make_no_stranger_known() {
        let mut host = host();
        asks_for(&mut host, 10, "~reach", true);
        let answered: Vec<_> = host.streams.keys().copied().collect();
        answered.into_iter().for_each(|stream| host.reset(stream, ResetReason::Application, now()));
        for (name, seconds) in [(20, 1), (21, 2)] {
            comes(&mut host, name, false);
            host.sessions.get_mut(&id(name)).unwrap().since = now().instant + Duration::from_secs(seconds);
        }
        comes(&mut host, 22, false);
        assert!(
            !known(&host).contains(&id(10)) && known(&host).contains(&id(20)),
            "the oldest goes: {:?}",
            known(&host)
        );
    }

    #[test]
    fn a_hello_that_nobody_finished_displaces_nobody() {
        let mut host = host();
        (10..10 + TABLE).for_each(|name| comes(&mut host, name, false));
        let before = known(&host);
        let mut peer = node(40);
        greet(&mut peer, B, host.cert(), now());
        host.handle_packet(arrival(40), packets(&mut peer).remove(0), now());
        assert_eq!(known(&host), before);
    }
}
