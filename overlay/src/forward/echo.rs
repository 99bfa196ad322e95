//! Ping and trace.
//!
//! An echo request carries a token: the number of the ping (8 bytes) and the time to live it was sent with (2), by which an
//! answer is matched. A trace sends requests that live for 1, 2, 3... links; the relay where one ends says so and is known by it.

use std::collections::BTreeMap;

use super::{ECHO_TOKEN_BYTES, Routed};
use crate::address::Place;
use crate::event::{EchoId, Event, UnreachableReason};
use crate::id::NodeId;
use crate::overlay::{Overlay, Timer};
use crate::time::{Instant, Now};
use crate::wire::packet::Kind;

/// Most pings and traces under way.
const MAX_ECHOES: usize = 256;
/// The time to live of a ping, as its token says it: that of any packet.
const UNLIMITED: u16 = u16::MAX;
/// A trace gives up after so many links.
const MAX_TRACE: u16 = 255;

struct Echo {
    to: NodeId,
    place: Place,
    ttl: u16,
    sent: Instant,
}

/// Pings and traces under way.
#[derive(Default)]
pub(crate) struct Echoes {
    next: u64,
    open: BTreeMap<EchoId, Echo>,
}

impl Overlay {
    pub(crate) fn start_echo(&mut self, to: NodeId, place: Place, trace: bool, now: Now) -> EchoId {
        let id = EchoId(self.echoes.next);
        self.echoes.next += 1;
        if self.echoes.open.len() >= MAX_ECHOES {
            self.events.push_back(Event::EchoLost { id, why: None });
            return id;
        }
        let ttl = if trace { 1 } else { UNLIMITED };
        self.echoes.open.insert(id, Echo { to, place, ttl, sent: now.instant });
        self.send_echo(id, now);
        id
    }

    fn send_echo(&mut self, id: EchoId, now: Now) {
        let timeout = self.config.timing.echo_timeout;
        let Some(echo) = self.echoes.open.get_mut(&id) else { return };
        echo.sent = now.instant;
        let (to, place, ttl) = (echo.to, echo.place.clone(), echo.ttl);
        let token = [id.0.to_be_bytes().as_slice(), &ttl.to_be_bytes()].concat();
        self.timers.set(Timer::Echo(id), now.instant + timeout);
        self.send_packet(Kind::EchoRequest, to, place, &token, (ttl != UNLIMITED).then_some(ttl), now);
    }

    pub(crate) fn answer_echo(&mut self, packet: &Routed, now: Now) {
        let mut payload: Vec<u8> = packet.payload().iter().take(ECHO_TOKEN_BYTES).copied().collect();
        payload.extend_from_slice(&packet.header.hops().to_be_bytes());
        if packet.header.src != self.id {
            self.send_packet(
                Kind::EchoReply,
                packet.header.src,
                packet.header.return_place.clone(),
                &payload,
                None,
                now,
            );
        } else if let Some((id, _, sent)) = self.open_echo(&payload) {
            self.end_echo(id);
            let place = packet.header.return_place.clone();
            self.events.push_back(Event::Echo { id, from: self.id, place, hops: 0, rtt: now.instant.since(sent) });
        }
    }

    pub(crate) fn handle_echo_reply(&mut self, packet: &Routed, now: Now) {
        let Some((id, ttl, sent)) = self.open_echo(packet.payload()) else { return };
        if self.echoes.open.get(&id).is_none_or(|echo| echo.to != packet.header.src) {
            return;
        }
        let hops = packet.payload().get(ECHO_TOKEN_BYTES..).and_then(|rest| rest.first_chunk()).copied();
        // A limited time to live says how far it was; the receiver cannot tell.
        let hops = if ttl == UNLIMITED { hops.map_or(0, u16::from_be_bytes) } else { ttl };
        self.end_echo(id);
        let (from, place) = (packet.header.src, packet.header.return_place.clone());
        self.events.push_back(Event::Echo { id, from, place, hops, rtt: now.instant.since(sent) });
    }

    pub(crate) fn echo_unreachable(
        &mut self,
        token: &[u8],
        by: NodeId,
        place: &Place,
        why: UnreachableReason,
        now: Now,
    ) {
        let Some((id, ttl, sent)) = self.open_echo(token) else { return };
        if why == UnreachableReason::Ttl && ttl < MAX_TRACE {
            self.events.push_back(Event::TraceHop {
                id,
                n: ttl,
                hop: by,
                place: place.clone(),
                rtt: now.instant.since(sent),
            });
            if let Some(echo) = self.echoes.open.get_mut(&id) {
                echo.ttl += 1;
            }
            self.send_echo(id, now);
        } else {
            self.end_echo(id);
            self.events.push_back(Event::EchoLost { id, why: Some(why) });
        }
    }

    pub(crate) fn echo_timer(&mut self, id: EchoId, _now: Now) {
        if self.echoes.open.remove(&id).is_some() {
            self.events.push_back(Event::EchoLost { id, why: None });
        }
    }

    fn end_echo(&mut self, id: EchoId) {
        self.echoes.open.remove(&id);
        self.timers.cancel(Timer::Echo(id));
    }

    /// The open echo that a token names, if that is its latest one.
    fn open_echo(&self, token: &[u8]) -> Option<(EchoId, u16, Instant)> {
        let (id, rest) = token.split_first_chunk::<8>()?;
        let id = EchoId(u64::from_be_bytes(*id));
        let ttl = u16::from_be_bytes(*rest.first_chunk::<2>()?);
        let echo = self.echoes.open.get(&id).filter(|echo| echo.ttl == ttl)?;
        Some((id, ttl, echo.sent))
    }
}
