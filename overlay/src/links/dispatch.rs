//! What a link's frame is, and who takes it.

use super::LinkState;
use crate::error::FrameError;
use crate::io::{CloseReason, Lane, LinkId};
use crate::overlay::Overlay;
use crate::time::Now;
use crate::wire::link::{Frame, LINK_FRAME_BIT};

impl Overlay {
    /// The peer sent something that is no proper frame.
    pub(crate) fn close_malformed(&mut self, id: LinkId, now: Now) {
        self.counters.bad_frames += 1;
        if let Some(peer) = self.links.link(id).map(|link| link.peer) {
            self.dialer.useless(peer, &mut self.rng, now.instant);
        }
        self.drop_link(id, CloseReason::Malformed, now);
    }

    pub(crate) fn dispatch(&mut self, id: LinkId, lane: Lane, bytes: Vec<u8>, now: Now) -> Result<(), FrameError> {
        let link = self.links.link(id).ok_or(FrameError::UnknownLink)?;
        let state = link.state;
        if bytes.len() > lane.max_frame_bytes() {
            return Err(FrameError::Oversized);
        }
        let is_link_frame = bytes.first().is_some_and(|first| first & LINK_FRAME_BIT != 0);
        match state {
            // The peer has sent it before it took the other link.
            LinkState::Closing(CloseReason::Replaced, _) if !is_link_frame => {
                return self.handle_packet(id, lane, bytes, now);
            }
            LinkState::Closing(..) => return Ok(()),
            _ => {}
        }
        self.link_heard(id, now);
        if !is_link_frame {
            // The lanes are not in order with each other: data may come before the hello, and is lost then.
            return match state {
                LinkState::Live | LinkState::Spare => self.handle_packet(id, lane, bytes, now),
                _ => Ok(()),
            };
        }
        if lane != Lane::Control {
            return Err(FrameError::OutOfPlace);
        }
        match (Frame::decode(&bytes)?, state) {
            (Frame::Hello(hello), _) => self.handle_hello(id, hello, now),
            (Frame::Goodbye(goodbye), _) => {
                self.handle_goodbye(id, &goodbye, now);
                Ok(())
            }
            (Frame::Member(membership), _) => {
                self.handle_member(id, membership);
                Ok(())
            }
            (Frame::Revoked(revocation), _) => {
                self.handle_own_revocation(id, &revocation, now);
                Ok(())
            }
            (Frame::Enrol(secret), LinkState::Guest) => self.handle_enrol(id, secret, now),
            (Frame::Enrolled(membership), LinkState::Guest) => self.handle_enrolled(id, &membership, now),
            // The peer's hello opens the link on its side at its own time; what follows it is in order.
            (_, LinkState::Greeting | LinkState::Guest | LinkState::Asked | LinkState::Closing(..)) => {
                Err(FrameError::OutOfPlace)
            }
            (frame, LinkState::Live | LinkState::Spare) => self.dispatch_live(id, frame, now),
        }
    }

    fn dispatch_live(&mut self, id: LinkId, frame: Frame, now: Now) -> Result<(), FrameError> {
        match frame {
            Frame::Heartbeat(heartbeat) => self.handle_heartbeat(id, heartbeat, now),
            Frame::Probe(number) => self.send_frame(id, &Frame::ProbeAck(number), now),
            Frame::ProbeAck(number) => self.handle_probe_ack(id, number, now),
            Frame::Ask(ask) => return self.handle_ask(id, &ask, now),
            Frame::Grant(granted) => return self.handle_grant(id, &granted, now),
            Frame::Refuse(refuse) => self.handle_refuse(id, &refuse, now),
            Frame::Chain(chain) => return self.handle_chain(id, &chain, now),
            Frame::Detached(detached) => self.handle_detached(id, detached, now),
            Frame::Advert(advert) => return self.handle_advert(id, advert, now),
            Frame::Beacon(beacon) => return self.handle_beacon(id, &beacon, now),
            Frame::Table(table) => self.handle_table(id, table, now),
            Frame::Titles(titles) => return self.handle_titles(id, &titles, now),
            Frame::Proof(proof) => return self.handle_proof(id, proof, now),
            Frame::Release(tree) => {
                if let Some(peer) = self.links.link(id).map(|link| link.peer) {
                    self.child_released(tree, peer, now);
                }
            }
            Frame::Enrol(_) | Frame::Enrolled(_) => return Err(FrameError::OutOfPlace),
            Frame::Hello(_) | Frame::Goodbye(_) | Frame::Member(_) | Frame::Revoked(_) => {}
        }
        Ok(())
    }
}
