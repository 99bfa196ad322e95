//! Moves what the overlay has for the sessions, and the other way round.

use muses::event::HandshakeFailure;
use muses::{Arrival, ResetReason};
use overlay::address::{FIRST_TREE, Place};
use overlay::dht::LookupResult;
use overlay::io::{CloseReason, Command};
use overlay::overlay::{Origin, Outgoing};
use overlay::record::{Query, SignedRecord};
use overlay::time::Now;

use super::event::{Event, Failure};
use super::{Stack, path_to};
use crate::invite::Secret;

/// Rounds after which a stack that finds no rest is left to its next timer: a bound, never reached in practice.
const MAX_ROUNDS: usize = 10_000;

/// A static key has to answer for as long as some record may still name it.
const _: () = assert!(muses::cert::PREVIOUS_KEY_KEPT.as_secs() >= overlay::record::MAX_LIFETIME_S as u64);

impl Stack {
    /// Does what a `handle_*` left to the next poll.
    pub(super) fn settle_late(&mut self) {
        if let Some(now) = self.unsettled {
            self.settle(now);
        }
    }

    /// Lets both halves hear what the other has to say, until neither has anything more.
    pub(super) fn settle(&mut self, now: Now) {
        self.unsettled = None;
        for _ in 0..MAX_ROUNDS {
            let mut quiet = true;
            while let Some(event) = self.overlay.poll_event() {
                quiet = false;
                self.hear_overlay(event, now);
            }
            while let Some(command) = self.sessions.poll_command() {
                quiet = false;
                self.obey_sessions(command, now);
            }
            while let Some(packet) = self.sessions.poll_transmit() {
                quiet = false;
                self.send(packet, now);
            }
            while let Some(event) = self.sessions.poll_event() {
                quiet = false;
                self.hear_sessions(event, now);
            }
            if quiet {
                return;
            }
        }
    }

    fn send(&mut self, packet: muses::Outgoing, now: Now) {
        // A path that does not parse came from the peer: like a lost packet, the session notices.
        let Ok(place) = Place::from_bytes(&packet.path.0) else { return };
        let outgoing = Outgoing { to: packet.to, place, flow: packet.flow, payload: packet.payload };
        // So is a packet that cannot leave: the sessions' own timers and the next `handle_attached` see to it.
        let _ = self.overlay.send(outgoing, now);
    }

    /// The address in the first tree is what people are shown; without one nothing is to be told.
    fn tell_address(&mut self, place: &Place) {
        let address = first_address(place);
        if address.is_some() && self.told_address != address {
            self.told_address.clone_from(&address);
            self.events.extend(address.map(Event::AddressChanged));
        }
    }

    fn obey_sessions(&mut self, command: muses::Command, now: Now) {
        match command {
            muses::Command::Resolve(peer) => {
                let id = self.overlay.lookup(Query::Node(peer), true, now);
                self.questions.resolving(id, peer);
            }
            muses::Command::Persist { key, bytes } => self.commands.push_back(Command::Persist { key, bytes }),
        }
    }

    fn hear_overlay(&mut self, event: overlay::event::Event, now: Now) {
        use overlay::event::Event as Heard;
        match event {
            Heard::Joined { overlay, place, .. } => {
                let first = !std::mem::replace(&mut self.joined_before, true);
                let address = address_text(&place);
                self.events.push_back(Event::Joined { overlay, address, first });
                self.told_address = first_address(&place);
                self.note_place(Some(place.clone()), now);
                self.start_to_watch(now);
                self.sessions.handle_attached(path_to(&place), now);
            }
            Heard::PlaceChanged(place) => {
                self.tell_address(&place);
                self.note_place(Some(place.clone()), now);
                self.sessions.handle_attached(path_to(&place), now);
            }
            Heard::PlaceRenewed(place) => {
                self.tell_address(&place);
                self.sessions.handle_path_renewed(path_to(&place));
                self.note_place(Some(place), now);
            }
            Heard::Detached => {
                self.events.push_back(Event::Detached);
                self.note_place(None, now);
                self.sessions.handle_detached(now);
            }
            // Its session is over, and it gets no other.
            Heard::Received(delivery) if self.overlay.is_revoked(&delivery.from) => {}
            Heard::Received(delivery) => {
                let arrival = Arrival {
                    from: delivery.from,
                    return_path: path_to(&delivery.return_place),
                    via: delivery.via,
                    ecn: delivery.ecn,
                    hops: delivery.hops,
                };
                self.sessions.handle_packet(arrival, delivery.payload, now);
            }
            Heard::Unreachable { to, .. } => self.sessions.handle_unreachable(to, now),
            Heard::LookupFinished { id, result, .. } => self.hear_lookup(id, result, now),
            Heard::Conflict { name, incumbent } => self.hear_conflict(name.as_str(), &incumbent),
            Heard::Stored(Query::Name(name)) => {
                self.warnings.name_refused(None);
                self.events.push_back(Event::NameClaimed(name.as_str().to_owned()));
            }
            Heard::Echo { id, hops, rtt, from, place } => self.hear_echo(id, (from, address_text(&place)), hops, rtt),
            Heard::TraceHop { id, n, hop, place, .. } => self.hear_hop(id, n, (hop, address_text(&place))),
            Heard::EchoLost { id, .. } => self.hear_echo_lost(id),
            Heard::NoMember { peer, overlay } => {
                let line = format!(
                    "the overlay {overlay} is closed, and this node is no member; ask its founder or an inviter for an invite, then: muses join muses1..."
                );
                // Where else a node was dialled others may have said, whose overlay this one is not to join.
                let meant = self.ways.lead_to(peer);
                self.events.push_back(if meant { Event::NotAdmitted(line) } else { Event::LinkRefused(line) });
            }
            // Nobody else knows what the invite is good for, and anybody may say so who dials this node.
            Heard::Refused { peer, reason: CloseReason::NotInvited, by_peer: true } if self.ways.is_inviter(peer) => {
                let line = "the inviter refused: the invite was used up or has expired; ask for a new one";
                self.events.push_back(Event::NotAdmitted(line.to_owned()));
            }
            Heard::GuestAsks { link, peer, secret } => {
                self.events.push_back(Event::GuestAsks { link, peer, secret: Secret(secret.0) });
            }
            Heard::Refused { peer, reason, by_peer } => {
                let who = if by_peer { "refused by" } else { "refused" };
                self.events.push_back(Event::LinkRefused(format!("{who} {peer}: {reason}")));
            }
            // A stranger may dial what he likes, and say of any address that a node of this overlay is there.
            Heard::WrongOverlay { peer, dialled, .. } if !dialled || !self.ways.lead_to(peer) => {}
            Heard::WrongOverlay { peer, theirs, ours, .. } => {
                let line = format!(
                    "{peer} belongs to another overlay ({}) than this data folder ({}); use another --data-dir for it",
                    theirs.map_or_else(|| "unknown".to_owned(), |id| id.to_string()),
                    ours.map_or_else(|| "none yet".to_owned(), |id| id.to_string())
                );
                self.events.push_back(Event::OtherOverlay(line));
            }
            Heard::Revoked(id) => self.hear_revoked(id, now),
            Heard::RevocationStored(id) => self.events.push_back(Event::RevocationStored(id)),
            Heard::LinkLive { peer } => {
                self.check(peer, now);
                self.sessions.handle_new_way(now);
            }
            Heard::LinkRenewed { .. } => self.sessions.handle_new_way(now),
            Heard::Left => self.events.push_back(Event::Left),
            Heard::LinkLost { peer } => self.seek_link_again(peer, now),
            Heard::Ahead(Query::Name(name)) => self.events.push_back(Event::NameAhead(name.as_str().to_owned())),
            Heard::Ahead(Query::Node(_)) => {
                if self.warnings.refused_as_ahead() {
                    self.events.push_back(Event::ClockAhead);
                }
            }
            Heard::Stored(Query::Node(_)) => self.warnings.stored(),
            Heard::Twin => {
                if self.warnings.has_twin(now.instant) {
                    self.events.push_back(Event::Twin);
                }
            }
            Heard::RootChanged(_) => {}
        }
    }

    /// Whether this run founded its overlay, goes on with it or has to find it.
    pub(super) fn tell_origin(&mut self, origin: Origin) {
        self.joined_before = origin != Origin::Joining;
        let Some(overlay) = self.overlay.overlay_id() else { return };
        match origin {
            Origin::Founded => self.events.push_back(Event::Founded(overlay)),
            Origin::Resumed => self.events.push_back(Event::Resumed(overlay)),
            Origin::Joining => {}
        }
    }

    fn hear_conflict(&mut self, name: &str, incumbent: &SignedRecord) {
        let holder = incumbent.signer();
        if self.name.as_ref().is_some_and(|own| own.as_str() == name) && holder != self.id {
            self.warnings.name_refused(Some((name.to_owned(), holder)));
            self.events.push_back(Event::NameRefused { name: name.to_owned(), holder });
        }
    }

    fn hear_sessions(&mut self, event: muses::Event, now: Now) {
        use muses::Event as Heard;
        match event {
            Heard::CertRenewed => self.overlay.publish_node(self.sessions.cert().to_vec(), now),
            Heard::SessionEstablished { peer, .. } => self.check_first(peer, now),
            Heard::HandshakeFailed { peer, why: HandshakeFailure::Certificate } => {
                self.conns.ids_of_peer(peer).into_iter().for_each(|conn| self.fail(conn, Failure::Clock));
            }
            Heard::HandshakeFailed { .. } => {}
            Heard::HelloFlood { via } => self.events.push_back(Event::Flooded(via)),
            Heard::PeerReach { peer, reach } => self.hear_reach(peer, &reach, now),
            Heard::SessionSuspended { peer } => {
                self.note_suspended(peer, now);
                self.events.push_back(Event::SessionSuspended(peer));
                self.check(peer, now);
            }
            Heard::SessionResumed { peer, .. } => {
                self.resumes += 1;
                self.note_resumed(peer, now);
                self.events.push_back(Event::SessionResumed(peer));
            }
            Heard::StreamOpened { stream, peer, service, port } => {
                self.hear_opened(stream, peer, service, port, now);
            }
            Heard::StreamAccepted { stream } => self.pass(stream, Event::Opened),
            Heard::Readable(stream) => self.pass(stream, Event::Readable),
            Heard::Writable(stream) => self.pass(stream, Event::Writable),
            Heard::StreamClosed { stream, why } => {
                self.forget_held(stream);
                let Some(conn) = self.conns.of_stream(stream) else { return };
                match why {
                    Some(reason) => self.lose(conn, failure_of(reason), now),
                    None => {
                        self.conns.end(conn);
                        self.events.push_back(Event::Readable(conn));
                    }
                }
            }
        }
    }

    fn pass(&mut self, stream: muses::StreamKey, event: impl FnOnce(super::ConnId) -> Event) {
        if let Some(conn) = self.conns.of_stream(stream) {
            self.events.push_back(event(conn));
        }
    }

    /// What a session asked to be resolved: the record's certificate and place.
    pub(super) fn hear_resolved(&mut self, peer: overlay::id::NodeId, result: &LookupResult, now: Now) {
        let record = match result {
            LookupResult::Found(record) => record.node(),
            _ => None,
        };
        match record {
            Some(node) => {
                let resolved = muses::Resolved { cert: node.static_cert.clone(), path: path_to(&node.place) };
                self.sessions.handle_peer(peer, resolved, now);
            }
            None => self.sessions.handle_peer_unresolved(peer, now),
        }
    }
}

/// Why a stream is reset that was opened to a place to listen, and not by `muses reverse`. Sessions do not know it: to them it is any other reason.
pub(super) const PLACE: ResetReason = ResetReason::Other(64);

/// What a reset means to a person.
pub(super) fn failure_of(reason: ResetReason) -> Failure {
    match reason {
        ResetReason::UnknownService => Failure::Refused,
        ResetReason::Refused => Failure::ServiceDown,
        ResetReason::Unreachable => Failure::Unreachable,
        ResetReason::Restarted | ResetReason::Closing => Failure::Restarted,
        PLACE => Failure::Place,
        _ => Failure::Reset,
    }
}

/// A place's address in the first tree.
pub(super) fn first_address(place: &Place) -> Option<String> {
    place.addresses.in_tree(FIRST_TREE).map(ToString::to_string)
}

/// Its address for people: in the first tree, or else in the first of those in which it has one.
pub(super) fn address_text(place: &Place) -> String {
    place.addresses.iter().next().map_or_else(|| "/".to_owned(), |(_, address)| address.to_string())
}

#[cfg(test)]
mod tests {
    use overlay::event::Event as Heard;
    use overlay::id::{Identity, NodeId, OverlayId};
    use overlay::io::LinkId;
    use overlay::membership::{self, Enrolment};
    use overlay::time::{Instant, WallTime};

    use super::super::Config;
    use super::*;

    const NOW: Now = Now { instant: Instant::ZERO, wall: WallTime::from_unix_micros(0) };
    const WAY: &str = "/ip4/192.0.2.1/tcp/4741";

    fn id(n: u8) -> NodeId {
        Identity::from_secret(&[n; 32]).id()
    }

    /// A node that joins at an address, with the invite of node 2.
    fn joining() -> Stack {
        let enrolment = Some(Enrolment { inviter: id(2), secret: membership::Secret([0; 16]) });
        let joins = vec![format!("{WAY}/p2p/{}", id(2)).parse().unwrap()];
        let config = Config { joins, enrolment, ..Config::default() };
        Stack::new(config, Identity::from_secret(&[1; 32]), [3; 32], [4; 32], NOW).unwrap()
    }

    fn events_after(stack: &mut Stack, heard: Heard) -> Vec<Event> {
        stack.hear_overlay(heard, NOW);
        stack.events.drain(..).collect()
    }

    #[test]
    fn who_is_not_the_inviter_says_nothing_of_the_invite() {
        let mut stack = joining();
        let refused = |peer| Heard::Refused { peer, reason: CloseReason::NotInvited, by_peer: true };
        assert!(matches!(events_after(&mut stack, refused(id(9)))[..], [Event::LinkRefused(_)]));
        assert!(matches!(events_after(&mut stack, refused(id(2)))[..], [Event::NotAdmitted(_)]));
    }

    #[test]
    fn who_was_met_elsewhere_than_the_user_said_does_not_say_which_overlay_this_is() {
        let mut stack = joining();
        let other = |peer, dialled| Heard::WrongOverlay { peer, theirs: None, ours: None, dialled };
        // By a hint of the local network, and by a link that came in from the address that the user gave.
        stack.handle_link_up(LinkId(1), id(8), "/ip4/192.0.2.8/tcp/4741".parse().unwrap(), true, NOW);
        stack.handle_link_up(LinkId(2), id(9), WAY.parse().unwrap(), false, NOW);
        assert!(events_after(&mut stack, other(id(8), true)).is_empty());
        assert!(events_after(&mut stack, other(id(9), true)).is_empty());
        stack.handle_link_up(LinkId(3), id(2), WAY.parse().unwrap(), true, NOW);
        assert!(events_after(&mut stack, other(id(2), false)).is_empty());
        assert!(matches!(events_after(&mut stack, other(id(2), true))[..], [Event::OtherOverlay(_)]));
        let closed = |peer| Heard::NoMember { peer, overlay: OverlayId::from_bytes([5; 32]) };
        assert!(matches!(events_after(&mut stack, closed(id(8)))[..], [Event::LinkRefused(_)]));
        assert!(matches!(events_after(&mut stack, closed(id(2)))[..], [Event::NotAdmitted(_)]));
    }
}
