//! From the insides of packets to streams.

use core::time::Duration;

use overlay::time::Instant;

use super::{Acks, Flow, Outbox};
use crate::ack::Ranges;
use crate::config::{UNTAKEN_FRAGMENTS, UNTAKEN_STREAMS};
use crate::congestion::Acked;
use crate::error::Violation;
use crate::event::{Event, ResetReason, StreamKey};
use crate::frame::{Ack, Frame, Frames, INTERNAL};
use crate::send::SendHalf;
use crate::stream::{Signal, Stage};

/// Ranges of received packets that are remembered.
const MAX_RECEIVED_RANGES: usize = 64;
/// An acknowledgement leaves at once after so many packets.
const PACKETS_PER_ACK: u32 = 2;
/// The peer may use stream ids this many times the allowed number of streams ahead of the lowest unused one.
const ID_SPREAD: u64 = 8;
/// Up to this many times the allowed number of streams, a stream too many is refused, which is kept until the peer has acknowledged it. Beyond, the
/// packet that brings it counts as lost.
const REFUSED_SPREAD: usize = 4;
/// Most pieces that wait behind gaps on all streams of a session together: with what each takes beside its bytes, about 1 MB.
const MAX_FRAGMENTS: usize = 8192;

impl Flow {
    /// Takes the inside of an authentic packet. Returns whether it acknowledged something.
    ///
    /// # Errors
    /// [`Violation`]: what came before the offending frame was taken, the packet is not acknowledged.
    pub fn handle(
        &mut self,
        number: u64,
        payload: &[u8],
        ecn: bool,
        now: Instant,
        out: &mut Outbox,
    ) -> Result<bool, Violation> {
        let mut eliciting = false;
        let mut progress = false;
        let mut speaking = false;
        self.vigil.hear(now);
        for frame in Frames::new(payload) {
            let frame = frame.map_err(|_| Violation::Malformed)?;
            let quiet = matches!(frame, Frame::Ack(_) | Frame::LateAck { .. } | Frame::Padding);
            eliciting |= !quiet;
            speaking |= !quiet && !matches!(frame, Frame::Ping | Frame::Challenge(_) | Frame::Response(_));
            match frame {
                Frame::Ack(ack) => progress |= self.on_ack_frame(&ack, now, out)?,
                other => self.on_frame(other, now, out)?,
            }
        }
        if speaking {
            self.vigil.wake();
        }
        self.acks.on_packet(number, eliciting, ecn, now, self.config.max_ack_delay);
        Ok(progress)
    }

    pub(super) fn forget_received(&mut self, largest: u64) {
        // The largest itself stays, so that gaps after it are seen.
        if let Some(below) = largest.checked_sub(1) {
            self.acks.received.remove(0, below);
        }
    }

    fn on_ack_frame(&mut self, ack: &Ack, now: Instant, out: &mut Outbox) -> Result<bool, Violation> {
        let window_limited = self.recovery.in_flight_bytes().saturating_mul(2) >= self.congestion.window_bytes();
        let delay = Duration::from_micros(ack.delay_us).min(self.config.max_ack_delay * 4);
        let outcome = self.recovery.on_ack(&ack.ranges, delay, now)?;
        let progress = !outcome.acked.is_empty();
        if let Some(sent_at) = outcome.acked.iter().map(|packet| packet.at).max() {
            let bytes = outcome.acked.iter().map(|packet| packet.bytes).sum();
            let (rtt, ecn_count) = (outcome.rtt, ack.ecn_count);
            self.congestion.on_ack(Acked { bytes, sent_at, rtt, ecn_count, window_limited }, now);
            self.last_progress = now;
        }
        for packet in outcome.acked {
            self.on_acked(packet.frames, out);
        }
        self.on_loss(outcome.lost, now);
        Ok(progress)
    }

    pub(super) fn on_frame(&mut self, frame: Frame<'_>, now: Instant, out: &mut Outbox) -> Result<(), Violation> {
        match frame {
            Frame::Padding | Frame::Ping | Frame::Ack(_) => {}
            Frame::LateAck { tag, ranges } => self.on_late_ack(tag, &ranges, now, out),
            Frame::Reach { number, reach } => self.on_reach(number, reach, out),
            Frame::Refresh(step) => self.heard_refresh = Some(Box::new(step)),
            Frame::Challenge(challenge) => self.on_challenge(challenge),
            Frame::Response(challenge) => self.on_response(challenge),
            Frame::ResetToken(token) => self.heard_token = Some(Box::new(token)),
            Frame::MaxData(limit) => self.on_max_data(limit),
            Frame::MaxStreamData { stream, limit } => {
                if let Some(key) = self.stream_of(stream, out)?
                    && let Some(stream) = self.streams.get_mut(&key)
                {
                    stream.send.raise_limit(limit);
                    self.enqueue(key);
                }
            }
            Frame::Open { stream, port, service } => self.on_open(stream, port, service, out)?,
            Frame::Accept { stream } => {
                if let Some(key) = self.stream_of(stream, out)?
                    && let Some(stream) = self.streams.get_mut(&key)
                    && stream.stage == Stage::Asked
                    && stream.why_reset.is_none()
                {
                    stream.stage = Stage::Open;
                    out.events.push_back(Event::StreamAccepted { stream: key });
                }
            }
            Frame::ResetStream { stream, reason, final_offset } => {
                if let Some(key) = self.stream_of(stream, out)? {
                    self.on_reset(key, reason, final_offset, out)?;
                }
            }
            Frame::Stream { stream, offset, fin, data } => {
                if let Some(key) = self.stream_of(stream, out)? {
                    self.on_data(key, (offset, fin), data, now, out)?;
                }
            }
        }
        Ok(())
    }

    fn on_reach(&mut self, number: u64, reach: &[u8], out: &mut Outbox) {
        if self.reach.heard.is_none_or(|heard| heard < number) {
            self.reach.heard = Some(number);
            // Only the latest counts, however many a packet has.
            match out.events.back_mut() {
                Some(Event::PeerReach { peer, reach: known }) if *peer == self.peer => *known = reach.to_vec(),
                _ => out.events.push_back(Event::PeerReach { peer: self.peer, reach: reach.to_vec() }),
            }
        }
    }

    fn on_max_data(&mut self, limit: u64) {
        if limit > self.send_limit {
            let was_stopped = self.session_credit() == 0;
            self.send_limit = limit;
            if was_stopped {
                // Of a peer that gives credit byte by byte, each byte is for the one that has something to send.
                let waiting = self.streams.iter().filter(|(_, stream)| stream.send.has_work(1));
                let keys: Vec<_> = waiting.map(|(key, _)| *key).collect();
                keys.into_iter().for_each(|key| self.enqueue(key));
            }
        }
    }

    fn on_open(&mut self, id: u64, port: u16, service: &str, out: &mut Outbox) -> Result<(), Violation> {
        if self.is_own_id(id) {
            return Err(Violation::StreamId);
        }
        let Some(key) = self.stream_of(id, out)? else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(&key) else { return Ok(()) };
        if stream.stage == Stage::Foreshadowed && stream.why_reset.is_none() {
            stream.stage = Stage::Offered;
            stream.internal = service.starts_with(INTERNAL);
            let (peer, service) = (self.peer, service.to_owned());
            out.opened.push((key, peer));
            out.events.push_back(Event::StreamOpened { stream: key, peer, service, port });
        }
        Ok(())
    }

    fn on_data(
        &mut self,
        key: StreamKey,
        (offset, fin): (u64, bool),
        data: &[u8],
        now: Instant,
        out: &mut Outbox,
    ) -> Result<(), Violation> {
        let most_fragments = if self.is_taken() { MAX_FRAGMENTS } else { UNTAKEN_FRAGMENTS };
        let Some(stream) = self.streams.get_mut(&key) else { return Ok(()) };
        let new = stream.recv.check(offset, data.len(), fin)?;
        let total = self.received_bytes.saturating_add(new);
        if total > self.receive_limit {
            return Err(Violation::Credit);
        }
        if stream.recv.would_wait(offset) && self.fragments >= most_fragments {
            return Err(Violation::Fragments);
        }
        self.received_bytes = total;
        let before = stream.recv.fragments();
        stream.recv.insert(offset, data, fin);
        let is_reset = stream.why_reset.is_some();
        if is_reset {
            self.consumed_bytes = self.consumed_bytes.saturating_add(stream.recv.unread());
            stream.recv.discard();
        }
        self.fragments = self.fragments.saturating_sub(before).saturating_add(stream.recv.fragments());
        if is_reset {
            self.renew_session_credit(&out.growth);
            self.settle(key, out);
        } else if stream.recv.is_readable()
            && !stream.readable_told
            && matches!(stream.stage, Stage::Open | Stage::Asked)
        {
            stream.readable_told = true;
            out.events.push_back(Event::Readable(key));
        }
        self.look_at_reader(key, now, out);
        Ok(())
    }

    fn on_reset(&mut self, key: StreamKey, reason: ResetReason, end: u64, out: &mut Outbox) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&key) else { return Ok(()) };
        let total = self.received_bytes.saturating_add(stream.recv.check(end, 0, true)?);
        if total > self.receive_limit {
            return Err(Violation::Credit);
        }
        self.received_bytes = total;
        self.fragments = self.fragments.saturating_sub(stream.recv.fragments());
        stream.recv.insert(end, &[], true);
        self.consumed_bytes = self.consumed_bytes.saturating_add(stream.recv.unread());
        stream.recv.discard();
        if stream.why_reset.is_none() {
            self.in_use = self.in_use.saturating_sub(usize::from(stream.is_in_use()));
            stream.why_reset = Some(reason);
            // Answered with a reset of our own, which tells how much we had sent.
            stream.reset = Signal::Due;
            self.held.change(stream.send.held_bytes(), 0);
            stream.send = SendHalf::forgetting(&stream.send);
            if stream.stage != Stage::Foreshadowed {
                out.closed.push((key, Some(reason)));
            }
            self.enqueue(key);
        }
        self.renew_session_credit(&out.growth);
        self.settle(key, out);
        Ok(())
    }

    fn is_own_id(&self, id: u64) -> bool {
        id % 2 == self.first_id
    }

    /// The stream with this id; `None` when it is over. The peer's first frame on a new id makes the stream, be it
    /// `Open` or one that overtook it.
    fn stream_of(&mut self, id: u64, out: &mut Outbox) -> Result<Option<StreamKey>, Violation> {
        if let Some(key) = self.keys.get(&id) {
            return Ok(Some(*key));
        }
        if self.is_own_id(id) {
            return if id < self.next_id { Ok(None) } else { Err(Violation::StreamId) };
        }
        // The peer's ids are all odd or all even; the set counts them without gaps.
        let index = id / 2;
        if self.used.contains(index) {
            return Ok(None);
        }
        let spread = (self.config.max_streams_per_session as u64).saturating_mul(ID_SPREAD);
        if index > self.used.first_missing().saturating_add(spread) {
            return Err(Violation::StreamId);
        }
        let most = self.config.max_streams_per_session;
        let allowed = if self.is_taken() { most } else { most.min(UNTAKEN_STREAMS) };
        if self.streams.len() >= allowed.saturating_mul(REFUSED_SPREAD) {
            return Err(Violation::StreamId);
        }
        self.used.insert(index, index);
        let busy = self.streams.len() >= allowed.saturating_mul(2);
        let key = out.stream_key();
        let mut stream = self.new_stream(Stage::Foreshadowed);
        stream.id = Some(id);
        if busy {
            stream.why_reset = Some(ResetReason::Busy);
            stream.reset = Signal::Due;
        }
        self.streams.insert(key, stream);
        self.keys.insert(id, key);
        self.enqueue(key);
        Ok(Some(key))
    }
}

pub(super) fn note_received(received: &mut Ranges, number: u64) {
    received.insert(number, number);
    received.keep_highest(MAX_RECEIVED_RANGES);
}

impl Acks {
    fn on_packet(&mut self, number: u64, eliciting: bool, ecn: bool, now: Instant, max_delay: Duration) {
        let expected = self.received.largest().map_or(0, |largest| largest.saturating_add(1));
        note_received(&mut self.received, number);
        if number >= expected {
            self.largest_at = now;
        }
        if ecn {
            self.ecn_count = self.ecn_count.saturating_add(1);
        }
        if !eliciting {
            return;
        }
        self.unacked = self.unacked.saturating_add(1);
        let at_once = self.unacked >= PACKETS_PER_ACK || number != expected;
        if at_once {
            self.at_once = true;
            self.due_at = None;
        } else if !self.at_once {
            self.due_at.get_or_insert(now + max_delay);
        }
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
