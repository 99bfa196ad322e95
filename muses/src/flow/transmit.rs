//! From streams to the insides of packets, and what acknowledgement and loss do to them.

use core::time::Duration;

use overlay::time::Instant;

use super::{Flow, Outbox, SentFrame};
use crate::config::PROBES_BEFORE_SUSPENSION;
use crate::event::{Event, StreamKey};
use crate::frame::{Ack, Frame, MAX_SERVICE_BYTES, MAX_STREAM_HEADER_BYTES};
use crate::recovery::{LossTimeout, Sent};
use crate::send::Piece;
use crate::stream::Signal;

/// Room that the small frames of a stream take at most.
const MAX_SIGNALS_BYTES: usize = 64 + MAX_SERVICE_BYTES;
/// A packet is about as long as what the path carries in this time, so that bulk does not hold up what shares a slow link with it.
const PACKET_TIME: Duration = Duration::from_millis(5);
/// No packet is made shorter than this for a slow path, in bytes.
const MIN_SLOW_PAYLOAD_BYTES: usize = 4 * 1024;
/// Packets in flight at a time, however short they are: what is known of each takes a few hundred bytes beside its content. With the shortest that bulk is sent in, on a slow
/// path, it is the largest congestion window twice.
const MAX_IN_FLIGHT_PACKETS: usize = 8192;
/// A path is given up only after so long a silence, however short its round trip is.
const MIN_SILENCE: Duration = Duration::from_secs(1);

/// What the timer brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowTimeout {
    /// Go on.
    Fine,
    /// The path does not answer.
    Silent,
}

impl Flow {
    /// When [`Flow::on_timeout`] is due, as of `now`.
    pub fn timeout(&self, now: Instant) -> Option<Instant> {
        if self.suspended {
            return None;
        }
        let loss = self.recovery.timeout(self.config.max_ack_delay).map(|at| at.min(self.verdict_at()));
        let ack = self.acks.due_at.filter(|_| !self.acks.frozen);
        [loss, ack, self.late_timeout(), self.vigil_timeout(), self.pace_timeout(now)].into_iter().flatten().min()
    }

    /// The timer ran out; a due acknowledgement leaves with the next [`Flow::poll`].
    pub fn on_timeout(&mut self, now: Instant) -> FlowTimeout {
        if self.suspended {
            return FlowTimeout::Fine;
        }
        if self.acks.due_at.is_some_and(|at| at <= now) {
            // The timer must not fire again before there is room for the packet.
            self.acks.due_at = None;
            self.acks.at_once = true;
        }
        if self.late_timeout().is_some_and(|at| at <= now) {
            self.lose_late();
        }
        self.keep_vigil(now);
        if self.recovery.in_flight_packets() > 0 && self.verdict_at() <= now {
            // Whoever cannot act on it is told again after as long a silence, not at once.
            self.last_progress = now;
            return FlowTimeout::Silent;
        }
        match self.recovery.on_timeout(self.config.max_ack_delay, now) {
            LossTimeout::Early => {}
            LossTimeout::Lost(lost) => self.on_loss(lost, now),
            LossTimeout::Probe(count) => {
                self.recovery.touch(now);
                if count >= PROBES_BEFORE_SUSPENSION && now.since(self.last_progress) >= MIN_SILENCE {
                    return FlowTimeout::Silent;
                }
                // It stays in flight: over a path that became slower than was known, its acknowledgement is only late, and is what tells so
                // (RFC 9002, 6.2.4).
                if let Some(frames) = self.recovery.oldest().map(|oldest| oldest.frames.clone()) {
                    self.on_lost(frames);
                }
                self.ping();
            }
        }
        FlowTimeout::Fine
    }

    /// How long the peer's answer takes at most, by what is known of the path.
    pub fn answer_timeout(&self) -> Duration {
        self.recovery.rtt.probe_timeout(self.config.max_ack_delay)
    }

    /// Whether nothing was acknowledged for longer than probes would have waited, however often the waits began anew.
    pub fn is_silent(&self, now: Instant) -> bool {
        let patience = MIN_SILENCE.max(self.answer_timeout() * PROBES_BEFORE_SUSPENSION);
        self.recovery.in_flight_packets() > 0 && now.since(self.last_progress) >= patience
    }

    /// When a path that has not answered enough probes is given up: not only with the next probe, whose wait has grown by then.
    fn verdict_at(&self) -> Instant {
        if self.recovery.probes() >= PROBES_BEFORE_SUSPENSION {
            self.last_progress + MIN_SILENCE
        } else {
            Instant::FAR_FUTURE
        }
    }

    /// Whether [`Flow::poll`] may have something.
    pub fn wants_to_send(&self, now: Instant) -> bool {
        let may_speak = self.response_is_due() || (self.may_send(now) && self.has_work());
        !self.suspended && (self.ack_is_due(now) || may_speak)
    }

    /// The inside of the next packet, which will bear `number`, behind `head` bytes of room.
    pub fn poll(&mut self, number: u64, head: usize, now: Instant) -> Option<Vec<u8>> {
        if self.suspended {
            return None;
        }
        let with_data = self.may_send(now) && self.has_work();
        if !with_data && !self.ack_is_due(now) && !self.response_is_due() {
            return None;
        }
        let mut payload = Vec::new();
        let mut frames = Vec::new();
        if with_data {
            payload.reserve(self.payload_max_bytes().saturating_add(2 * head));
        }
        payload.resize(head, 0);
        self.put_ack(&mut payload, &mut frames, now);
        self.put_late_ack(&mut payload);
        let eliciting_from = frames.len();
        self.put_response(&mut payload, &mut frames);
        if with_data {
            self.put_session_frames(&mut payload, &mut frames);
            self.put_streams(&mut payload, head, &mut frames);
        }
        if payload.len() <= head {
            return None;
        }
        if frames.len() > eliciting_from {
            self.exempt = self.exempt.saturating_sub(u32::from(with_data));
            let is_speech = |frame: &SentFrame| !matches!(frame, SentFrame::Ping | SentFrame::Response(_));
            if frames.iter().skip(eliciting_from).any(is_speech) {
                self.vigil.wake();
            }
            self.note_sent(number, payload.len() as u64, frames, now);
        } else {
            self.recovery.on_sent(number, None);
        }
        Some(payload)
    }

    /// A packet leaves that asks for an acknowledgement.
    pub(super) fn note_sent(&mut self, number: u64, bytes: u64, frames: Vec<SentFrame>, now: Instant) {
        if self.recovery.in_flight_packets() == 0 {
            self.last_progress = now;
        }
        self.keep_pace(bytes, now);
        self.recovery.on_sent(number, Some(Sent { at: now, bytes, frames }));
    }

    /// What the window lets through in [`PACKET_TIME`].
    fn payload_max_bytes(&self) -> usize {
        let packet_us = overlay::time::micros(PACKET_TIME);
        let rtt_us = overlay::time::micros(self.recovery.rtt.smoothed()).max(packet_us);
        let bytes = self.congestion.window_bytes().saturating_mul(packet_us) / rtt_us;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).max(MIN_SLOW_PAYLOAD_BYTES);
        bytes.min(self.config.max_payload_bytes)
    }

    fn may_send(&self, now: Instant) -> bool {
        self.has_room() && !self.is_early(now)
    }

    /// Whether the congestion window lets something through.
    pub(super) fn has_room(&self) -> bool {
        let has_room = self.recovery.in_flight_bytes() < self.congestion.window_bytes()
            && self.recovery.in_flight_packets() < MAX_IN_FLIGHT_PACKETS;
        self.exempt > 0 || has_room
    }

    pub(super) fn has_work(&self) -> bool {
        let signals = [self.max_data, self.reach.told, self.refresh.2, self.token.1];
        let due = signals.contains(&Signal::Due);
        self.ping_due || due || !self.queue.is_empty()
    }

    fn ack_is_due(&self, now: Instant) -> bool {
        let late = self.late_ack_is_due();
        late || !self.acks.frozen && (self.acks.at_once || self.acks.due_at.is_some_and(|at| at <= now))
    }

    fn put_ack(&mut self, payload: &mut Vec<u8>, frames: &mut Vec<SentFrame>, now: Instant) {
        if self.acks.frozen || self.acks.unacked == 0 {
            return;
        }
        let Some(largest) = self.acks.received.largest() else { return };
        let delay_us = overlay::time::micros(now.since(self.acks.largest_at));
        let (ranges, ecn_count) = (self.acks.received.clone(), self.acks.ecn_count);
        Frame::Ack(Ack { ranges, delay_us, ecn_count }).encode(payload);
        frames.push(SentFrame::Ack(largest));
        self.acks.unacked = 0;
        self.acks.due_at = None;
        self.acks.at_once = false;
    }

    fn put_session_frames(&mut self, payload: &mut Vec<u8>, frames: &mut Vec<SentFrame>) {
        if core::mem::take(&mut self.ping_due) {
            Frame::Ping.encode(payload);
            frames.push(SentFrame::Ping);
        }
        if self.max_data.take() {
            self.receive_limit = self.session_limit();
            Frame::MaxData(self.receive_limit).encode(payload);
            frames.push(SentFrame::MaxData);
        }
        if self.reach.told.take() {
            let (number, reach) = &self.reach.own;
            Frame::Reach { number: *number, reach }.encode(payload);
            frames.push(SentFrame::Reach(*number));
        }
        if let (Some(step), number, signal) = &mut self.refresh
            && signal.take()
        {
            Frame::Refresh(**step).encode(payload);
            frames.push(SentFrame::Refresh(*number));
        }
        if let (Some(token), signal) = &mut self.token
            && signal.take()
        {
            Frame::ResetToken((**token).clone()).encode(payload);
            frames.push(SentFrame::ResetToken);
        }
    }

    /// Fills the packet from the stream whose turn it is, then from the next ones while there is room.
    fn put_streams(&mut self, payload: &mut Vec<u8>, head: usize, frames: &mut Vec<SentFrame>) {
        let max = self.payload_max_bytes().saturating_add(head);
        for _ in 0..self.queue.len() {
            if payload.len() + MAX_SIGNALS_BYTES + MAX_STREAM_HEADER_BYTES >= max {
                return;
            }
            let Some(key) = self.queue.pop_front() else { return };
            self.put_stream(key, payload, max, frames);
            let credit = self.session_credit();
            if let Some(stream) = self.streams.get_mut(&key) {
                stream.queued = stream.has_work(credit);
                if stream.queued {
                    self.queue.push_back(key);
                }
            }
        }
    }

    fn put_stream(&mut self, key: StreamKey, payload: &mut Vec<u8>, max: usize, frames: &mut Vec<SentFrame>) {
        let mut credit = self.session_credit();
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let id = *stream.id.get_or_insert_with(|| {
            let id = self.next_id;
            self.next_id = id.saturating_add(2);
            self.keys.insert(id, key);
            id
        });
        if let Some(reason) = stream.why_reset {
            if stream.reset.take() {
                Frame::ResetStream { stream: id, reason, final_offset: stream.send.sent_bytes() }.encode(payload);
                frames.push(SentFrame::Reset(key));
            }
            return;
        }
        if stream.open.take() {
            Frame::Open { stream: id, port: stream.port, service: &stream.service }.encode(payload);
            frames.push(SentFrame::Open(key));
        }
        if stream.accept.take() {
            Frame::Accept { stream: id }.encode(payload);
            frames.push(SentFrame::Accept(key));
        }
        if stream.credit.take() {
            if let Some(limit) = stream.recv.credit_due() {
                stream.recv.raise_limit(limit);
            }
            Frame::MaxStreamData { stream: id, limit: stream.recv.limit() }.encode(payload);
            frames.push(SentFrame::Credit(key));
        }
        while let Some(room) = max.checked_sub(payload.len() + MAX_STREAM_HEADER_BYTES)
            && room > 0
            && let Some((piece, new)) = stream.send.take_piece(room, credit)
        {
            credit = credit.saturating_sub(new);
            self.sent_bytes = self.sent_bytes.saturating_add(new);
            let Piece { offset, len, fin } = piece;
            Frame::encode_stream_header(payload, id, offset, fin, len);
            stream.send.copy(piece, payload);
            frames.push(SentFrame::Data(key, piece));
        }
    }

    pub(super) fn on_loss(&mut self, lost: Vec<Sent<SentFrame>>, now: Instant) {
        if let Some(newest) = lost.iter().map(|packet| packet.at).max() {
            self.congestion.on_loss(newest, now);
        }
        lost.into_iter().for_each(|packet| self.on_lost(packet.frames));
    }

    pub(super) fn on_acked(&mut self, frames: Vec<SentFrame>, out: &mut Outbox) {
        for frame in frames {
            match frame {
                SentFrame::Ping | SentFrame::Probe(_) => {}
                SentFrame::Response(challenge) => self.response_settled(challenge, false),
                SentFrame::Ack(largest) => {
                    // The peer knows these; acknowledging them for ever would only make acks long (RFC 9000, 13.2.4).
                    if !self.acks.frozen {
                        self.forget_received(largest);
                    }
                }
                SentFrame::MaxData => self.max_data = settled(self.max_data, Signal::Idle),
                // Of these only the latest has to arrive.
                SentFrame::Refresh(number) if number == self.refresh.1 => {
                    self.refresh.2 = settled(self.refresh.2, Signal::Idle);
                }
                SentFrame::Reach(number) if number == self.reach.own.0 => {
                    self.reach.told = settled(self.reach.told, Signal::Idle);
                }
                SentFrame::Refresh(_) | SentFrame::Reach(_) => {}
                SentFrame::ResetToken => self.token = (None, Signal::Done),
                SentFrame::Open(key) => self.with(key, |stream| stream.open = Signal::Done),
                SentFrame::Accept(key) => self.with(key, |stream| stream.accept = Signal::Done),
                SentFrame::Credit(key) => {
                    self.with(key, |stream| stream.credit = settled(stream.credit, Signal::Idle));
                }
                SentFrame::Reset(key) => {
                    self.with(key, |stream| stream.reset = Signal::Done);
                    self.settle(key, out);
                }
                SentFrame::Data(key, piece) => self.on_data_acked(key, piece, out),
            }
        }
    }

    fn on_data_acked(&mut self, key: StreamKey, piece: Piece, out: &mut Outbox) {
        let buffer = self.send_buffer();
        let Some(stream) = self.streams.get_mut(&key).filter(|stream| stream.why_reset.is_none()) else { return };
        let before = stream.send.held_bytes();
        stream.send.on_acked(piece);
        let held = stream.send.held_bytes();
        self.held.change(before, held);
        if stream.write_blocked && !self.suspended && held <= buffer.of(held) / 4 * 3 {
            stream.write_blocked = false;
            out.events.push_back(Event::Writable(key));
        }
        self.settle(key, out);
    }

    pub(super) fn on_lost(&mut self, frames: Vec<SentFrame>) {
        for frame in frames {
            let key = match frame {
                SentFrame::Ping | SentFrame::Ack(_) => continue,
                SentFrame::Probe(number) => {
                    self.probe_lost(number);
                    continue;
                }
                SentFrame::MaxData => {
                    // A later one may have been sent meanwhile; its fate is not told apart, so it goes again.
                    self.max_data = Signal::Due;
                    continue;
                }
                SentFrame::Reach(number) => {
                    if number == self.reach.own.0 {
                        self.reach.told.lost();
                    }
                    continue;
                }
                SentFrame::Refresh(number) => {
                    if number == self.refresh.1 {
                        self.refresh.2.lost();
                    }
                    continue;
                }
                SentFrame::Response(challenge) => {
                    self.response_settled(challenge, true);
                    continue;
                }
                SentFrame::ResetToken => {
                    self.token.1.lost();
                    continue;
                }
                SentFrame::Open(key)
                | SentFrame::Accept(key)
                | SentFrame::Reset(key)
                | SentFrame::Credit(key)
                | SentFrame::Data(key, _) => key,
            };
            self.with(key, |stream| match frame {
                SentFrame::Open(_) => stream.open.lost(),
                SentFrame::Accept(_) => stream.accept.lost(),
                SentFrame::Reset(_) => stream.reset.lost(),
                SentFrame::Credit(_) => stream.credit = Signal::Due,
                SentFrame::Data(_, piece) if stream.why_reset.is_none() => stream.send.on_lost(piece),
                _ => {}
            });
            self.enqueue(key);
        }
    }

    fn with(&mut self, key: StreamKey, change: impl FnOnce(&mut crate::stream::Stream)) {
        if let Some(stream) = self.streams.get_mut(&key) {
            change(stream);
        }
    }
}

/// The state after an acknowledgement, unless the frame became due again meanwhile.
fn settled(signal: Signal, to: Signal) -> Signal {
    if signal == Signal::Flying { to } else { signal }
}
