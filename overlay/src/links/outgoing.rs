//! What is to be written to a link comes into its queue.

use crate::forward::lane_of;
use crate::io::{Lane, LinkId, Transmit};
use crate::links::LinkState;
use crate::overlay::{Overlay, Timer};
use crate::queue::{Order, Source};
use crate::time::Now;
use crate::wire::link::Frame;
use crate::wire::packet::{Header, Kind};

/// Where a packet waits, and for what.
#[derive(Clone, Copy)]
pub(crate) struct Waits {
    pub lane: Lane,
    pub source: Source,
    /// Packets of one source share alike by this.
    pub flow: u32,
}

impl Overlay {
    pub(crate) fn send_frame(&mut self, id: LinkId, frame: &Frame, now: Now) {
        self.enqueue_frame(id, Order::of(frame), frame.encode(), now);
    }

    /// Queues an encoded link frame. A link that has no room for it is closed once what is being done now is done: whatever else is known of what
    /// its peer was told holds for this link, and both ends begin anew on the next one.
    pub(crate) fn enqueue_frame(&mut self, id: LinkId, order: Order, bytes: Vec<u8>, now: Now) {
        let Some(link) = self.links.link_mut(id) else { return };
        let taken = link.queue.push_frame(order, bytes);
        self.links.make_ready(id);
        if !taken {
            self.counters.dropped_full += 1;
            self.timers.set(Timer::Link(id), now.instant);
        }
    }

    /// Queues a packet; it is dropped where there is no room for it.
    pub(crate) fn enqueue_packet(&mut self, id: LinkId, waits: Waits, bytes: Vec<u8>, now: Now) {
        let Some(link) = self.links.link_mut(id) else { return };
        let taken = link.queue.push_packet(waits.lane, waits.source, waits.flow, bytes, now.instant);
        self.links.make_ready(id);
        if !taken {
            self.counters.dropped_full += 1;
        }
    }

    /// How a packet with this header waits that came over this link, or is the node's own.
    pub(crate) fn waits(&self, header: &Header, came_from: Option<LinkId>) -> Waits {
        let source = came_from.map(|id| self.in_use_beside(id));
        let flow = match header.kind {
            Kind::Data => header.flow,
            // The others are sent without a label. What somebody has a node answer does not keep the node's own questions waiting.
            kind => kind as u32,
        };
        Waits { lane: lane_of(header.kind), source, flow }
    }

    /// The link in use to the peer of this one: a neighbour has the share of one, however many links it makes.
    fn in_use_beside(&self, id: LinkId) -> LinkId {
        match self.links.link(id) {
            Some(link) if link.state != LinkState::Live => self.links.to(&link.peer).map_or(id, |used| used.id),
            _ => id,
        }
    }

    /// A data frame went out: its link has to answer something within a while.
    pub(crate) fn frame_left(&mut self, transmit: &Transmit) {
        if transmit.lane != Lane::Data {
            return;
        }
        if let Some(since) = self.links.link(transmit.link).and_then(|link| link.unanswered_since) {
            self.timers.set_no_later(Timer::Link(transmit.link), since + self.config.timing.quiet);
        }
    }
}
