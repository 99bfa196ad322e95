//! The epoch before the present one, after a move in which the old path still carried data (make before break): what is under way in it arrives, and is
//! acknowledged by its old numbers. So what arrives is not sent again.

use std::collections::BTreeMap;

use overlay::time::Instant;

use super::receive::note_received;
use super::{Flow, Outbox, SentFrame};
use crate::ack::Ranges;
use crate::error::Violation;
use crate::frame::{Frame, Frames};
use crate::recovery::Sent;

/// The names of an epoch: as that in which this end sent, and as that in which the peer did. Both ends know both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EpochTags {
    pub sent: u64,
    pub received: u64,
}

/// What of the epoch before is not settled yet.
#[derive(Debug)]
pub(super) struct Late {
    tags: EpochTags,
    /// What was sent in it and not acknowledged.
    sent: BTreeMap<u64, Sent<SentFrame>>,
    /// When that is lost.
    until: Instant,
    /// What was received in it.
    received: Ranges,
    /// The peer is to hear of that.
    due: bool,
}

impl Flow {
    /// An epoch has ended whose packets go on arriving; `sent` is what was in flight.
    pub(super) fn await_late(&mut self, tags: EpochTags, sent: BTreeMap<u64, Sent<SentFrame>>, now: Instant) {
        let (received, due) = (self.acks.received.clone(), self.acks.unacked > 0);
        self.late = Some(Box::new(Late { tags, sent, until: self.late_until(now), received, due }));
    }

    /// The key of the epoch before is erased: nothing more of it is taken.
    pub fn forget_late(&mut self) {
        self.lose_late();
        self.late = None;
    }

    /// What did not arrive of the epoch before is sent again.
    pub(super) fn lose_late(&mut self) {
        let lost = self.late.as_mut().map(|late| core::mem::take(&mut late.sent)).unwrap_or_default();
        lost.into_values().for_each(|packet| self.on_lost(packet.frames));
    }

    /// When [`Flow::lose_late`] is due.
    pub(super) fn late_timeout(&self) -> Option<Instant> {
        self.late.as_ref().filter(|late| !late.sent.is_empty()).map(|late| late.until)
    }

    /// Takes the inside of an authentic packet of the epoch before.
    ///
    /// # Errors
    /// [`Violation`]: what came before the offending frame was taken, the packet is not acknowledged.
    pub fn handle_late(
        &mut self,
        number: u64,
        payload: &[u8],
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Violation> {
        let Some(tags) = self.late.as_ref().map(|late| late.tags) else { return Ok(()) };
        for frame in Frames::new(payload) {
            match frame.map_err(|_| Violation::Malformed)? {
                // It acknowledges what was sent in its own epoch.
                Frame::Ack(ack) => self.on_late_ack(tags.sent, &ack.ranges, now, out),
                // These are of the moment in which they were sent.
                Frame::LateAck { .. } | Frame::Refresh(_) | Frame::Ping | Frame::Padding => {}
                other => self.on_frame(other, now, out)?,
            }
        }
        if let Some(late) = self.late.as_deref_mut() {
            note_received(&mut late.received, number);
            late.due = true;
        }
        if self.acks.frozen {
            // The peer does not send in the present epoch yet: the next Re-Hello would speak of this one.
            note_received(&mut self.acks.received, number);
        }
        Ok(())
    }

    /// The peer says what it received of the epoch named `tag`.
    pub(super) fn on_late_ack(&mut self, tag: u64, ranges: &Ranges, now: Instant, out: &mut Outbox) {
        let until = self.late_until(now);
        let Some(late) = self.late.as_deref_mut().filter(|late| late.tags.sent == tag) else { return };
        // Looked for by range, for a packet may have any number of such frames.
        let numbers = ranges.iter().flat_map(|range| late.sent.range(range).map(|(number, _)| *number));
        let arrived: Vec<_> = numbers.collect();
        let arrived: Vec<_> = arrived.into_iter().filter_map(|number| late.sent.remove(&number)).collect();
        if !arrived.is_empty() {
            late.until = until;
        }
        for mut packet in arrived {
            // What that one acknowledged has no number any more.
            packet.frames.retain(|frame| !matches!(frame, SentFrame::Ack(_)));
            self.on_acked(packet.frames, out);
        }
    }

    fn late_until(&self, now: Instant) -> Instant {
        now + self.recovery.rtt.probe_timeout(self.config.max_ack_delay)
    }

    pub(super) fn late_ack_is_due(&self) -> bool {
        self.late.as_ref().is_some_and(|late| late.due)
    }

    pub(super) fn put_late_ack(&mut self, payload: &mut Vec<u8>) {
        let Some(late) = self.late.as_deref_mut() else { return };
        if core::mem::take(&mut late.due) && !late.received.is_empty() {
            Frame::LateAck { tag: late.tags.received, ranges: late.received.clone() }.encode(payload);
        }
    }
}
