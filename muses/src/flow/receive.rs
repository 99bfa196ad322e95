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
mod tests {
    use overlay::id::NodeId;

    use super::super::SentFrame;
    use super::*;
    use crate::config::{Config, INITIAL_SESSION_CREDIT_BYTES};
    use crate::held::Share;

    /// The flow of who began the handshake, and a peer that says what it likes: each of `frames` in a packet of its own.
    fn told<'a>(config: Config, frames: impl IntoIterator<Item = Frame<'a>>) -> (Flow, Vec<Violation>) {
        let out = Outbox::new(&Config::default());
        let mut flow = Flow::new(NodeId::from_bytes([2; 32]), config.into(), Share::of(&out.held), Instant::ZERO);
        // Of a stranger less is taken.
        flow.count_as_used();
        let violations = tell(&mut flow, frames);
        (flow, violations)
    }

    fn tell<'a>(flow: &mut Flow, frames: impl IntoIterator<Item = Frame<'a>>) -> Vec<Violation> {
        let mut out = Outbox::new(&Config::default());
        flow.set_initiator(true);
        let mut violations = Vec::new();
        for (number, frame) in (0..).zip(frames) {
            let mut payload = Vec::new();
            frame.encode(&mut payload);
            violations.extend(flow.handle(number, &payload, false, Instant::ZERO, &mut out).err());
        }
        violations
    }

    #[test]
    fn of_a_stranger_little_is_kept() {
        let stranger = || {
            let out = Outbox::new(&Config::default());
            let config = Config::default().into();
            Flow::new(NodeId::from_bytes([2; 32]), config, Share::of(&out.held), Instant::ZERO)
        };
        let mut flow = stranger();
        let open = (0..1000).map(|index| Frame::Open { stream: 2 * index + 1, port: 0, service: "x" });
        tell(&mut flow, open);
        assert_eq!(flow.stream_count(), UNTAKEN_STREAMS * REFUSED_SPREAD);
        let mut flow = stranger();
        let data = vec![7; 1024];
        let bytes = (0..1000).map(|index| Frame::Stream {
            stream: 2 * (index % 50) + 1,
            offset: index / 50 * 1024,
            fin: false,
            data: &data,
        });
        let violations = tell(&mut flow, bytes);
        assert_eq!(flow.received_bytes, INITIAL_SESSION_CREDIT_BYTES);
        assert_eq!(violations.len(), 1000 - 256);
        let mut flow = stranger();
        tell(
            &mut flow,
            (0..1000).map(|index| Frame::Stream { stream: 1, offset: 2 * index + 1, fin: false, data: b"x" }),
        );
        assert_eq!(flow.fragments, UNTAKEN_FRAGMENTS);
    }

    /// What he resets is thrown away at once, as if somebody read very fast.
    #[test]
    fn who_resets_what_he_never_sent_gets_no_larger_window() {
        let mut out = Outbox::new(&Config::default());
        let config = Config::default().into();
        let mut flow = Flow::new(NodeId::from_bytes([2; 32]), config, Share::of(&out.held), Instant::ZERO);
        flow.set_initiator(true);
        flow.set_suspended(false, Instant::ZERO, &mut out);
        // What was taken has the larger window to begin with.
        flow.open(StreamKey(1000), "x", 0);
        let (window, mut sent) = (flow.window.bytes(), 0..);
        for number in 0..200 {
            let mut payload = Vec::new();
            let stream = 2 * number + 3;
            Frame::ResetStream { stream, reason: ResetReason::Application, final_offset: 250_000 }.encode(&mut payload);
            Frame::Stream { stream: 1, offset: number, fin: false, data: b"x" }.encode(&mut payload);
            flow.handle(number, &payload, false, Instant::from_micros(number), &mut out).unwrap();
            flow.exempt = 1;
            assert!(flow.poll(sent.next().unwrap(), 0, Instant::from_micros(number)).is_some());
        }
        // The pool serves what lies there unread, and nothing else.
        assert_eq!((flow.window.bytes(), out.growth.taken()), (window, flow.window.lying_bytes()));
    }

    /// Anybody may ask those, and they hear a word or two.
    #[test]
    fn a_service_of_the_node_gives_a_stranger_no_more_until_it_has_read_something() {
        let mut out = Outbox::new(&Config::default());
        let config = Config::default().into();
        let mut flow = Flow::new(NodeId::from_bytes([2; 32]), config, Share::of(&out.held), Instant::ZERO);
        flow.set_initiator(true);
        let open = Frame::Open { stream: 1, port: 0, service: "~services" };
        let data = vec![7; 64 * 1024];
        let bytes = Frame::Stream { stream: 1, offset: 0, fin: false, data: &data };
        for (number, frame) in (0..).zip([open, bytes]) {
            let mut payload = Vec::new();
            frame.encode(&mut payload);
            flow.handle(number, &payload, false, Instant::ZERO, &mut out).unwrap();
        }
        let (key, _) = out.opened.pop().unwrap();
        flow.accept(key, &mut out);
        assert!(flow.session_limit() <= INITIAL_SESSION_CREDIT_BYTES);
        while matches!(flow.read(key, 1024, &mut out), crate::event::Read::Data(_)) {}
        assert!(flow.session_limit() > 4 * INITIAL_SESSION_CREDIT_BYTES, "it is a file");
    }

    /// Whom nobody here serves may ask for something else.
    #[test]
    fn a_stranger_whose_streams_are_over_has_his_credit_back() {
        let mut out = Outbox::new(&Config::default());
        let config = Config::default().into();
        let mut flow = Flow::new(NodeId::from_bytes([2; 32]), config, Share::of(&out.held), Instant::ZERO);
        flow.set_initiator(true);
        flow.set_suspended(false, Instant::ZERO, &mut out);
        for number in 0..20 {
            let mut payload = Vec::new();
            let stream = 2 * number + 1;
            Frame::ResetStream { stream, reason: ResetReason::Application, final_offset: 200_000 }.encode(&mut payload);
            assert_eq!(flow.handle(number, &payload, false, Instant::ZERO, &mut out), Ok(false), "{number}");
            assert!(flow.poll(number, 0, Instant::ZERO).is_some());
        }
    }

    #[test]
    fn a_reset_stays_within_the_credit() {
        let out = Outbox::new(&Config::default());
        let config = Config::default().into();
        let mut flow = Flow::new(NodeId::from_bytes([2; 32]), config, Share::of(&out.held), Instant::ZERO);
        let reset = |stream| Frame::ResetStream { stream, reason: ResetReason::Application, final_offset: 200_000 };
        assert_eq!(tell(&mut flow, [reset(1), reset(3)]), [Violation::Credit]);
        assert_eq!(flow.received_bytes, 200_000);
    }

    #[test]
    fn a_peer_that_never_acknowledges_refusals_is_not_refused_for_ever() {
        let config = Config { max_streams_per_session: 10, ..Config::default() };
        let open = (0..1000).map(|index| Frame::Open { stream: 2 * index + 1, port: 0, service: "x" });
        let (flow, violations) = told(config, open);
        assert_eq!(flow.stream_count(), 10 * REFUSED_SPREAD);
        assert_eq!(violations, vec![Violation::StreamId; 1000 - 10 * REFUSED_SPREAD]);
    }

    #[test]
    fn what_nobody_here_takes_has_no_share_in_what_all_sessions_have() {
        let mut out = Outbox::new(&Config::default());
        let config = Config::default().into();
        let mut flow = Flow::new(NodeId::from_bytes([2; 32]), config, Share::of(&out.held), Instant::ZERO);
        flow.set_initiator(true);
        let data = [7; 16 * 1024];
        let mut bytes = 0;
        for (number, index) in (0..).zip((0..4000).map(|index| index % 60)) {
            let offset = (number / 60) * data.len() as u64;
            let mut payload = Vec::new();
            Frame::Stream { stream: 2 * index + 1, offset, fin: false, data: &data }.encode(&mut payload);
            bytes +=
                u64::from(flow.handle(number, &payload, false, Instant::ZERO, &mut out).is_ok()) * data.len() as u64;
        }
        assert!((data.len() as u64..=flow.window.bytes()).contains(&bytes), "{bytes}");
        assert_eq!(out.growth.taken(), 0);
        // Who takes one more gives its peer something to say on it.
        let mut payload = Vec::new();
        Frame::Open { stream: 201, port: 0, service: "x" }.encode(&mut payload);
        flow.handle(4000, &payload, false, Instant::ZERO, &mut out).unwrap();
        let (key, _) = out.opened.pop().unwrap();
        flow.accept(key, &mut out);
        assert!(flow.session_limit() > flow.received_bytes);
        let taken = out.growth.taken();
        assert!(taken > 0);
        // What lies there lies there, whoever goes.
        flow.reset(key, ResetReason::Application, &mut out);
        assert_eq!(out.growth.taken(), taken);
    }

    #[test]
    fn many_words_in_one_packet_are_little_work() {
        let opened = (0..50).map(|index| Frame::Open { stream: 2 * index + 1, port: 0, service: "x" });
        let (mut flow, violations) = told(Config::default(), opened);
        assert_eq!((flow.stream_count(), violations), (50, vec![]));
        let mut out = Outbox::new(&Config::default());
        let mut payload = Vec::new();
        for number in 1..1000 {
            Frame::MaxData(flow.send_limit + number).encode(&mut payload);
            Frame::Reach { number, reach: &number.to_be_bytes() }.encode(&mut payload);
        }
        flow.queue.clear();
        flow.streams.values_mut().for_each(|stream| stream.queued = false);
        flow.handle(1000, &payload, false, Instant::ZERO, &mut out).unwrap();
        assert!(flow.queue.is_empty(), "there was credit before: nobody waits for more");
        let latest = Event::PeerReach { peer: flow.peer, reach: 999_u64.to_be_bytes().to_vec() };
        assert_eq!(out.events, [latest]);
        // Who waits for credit gets it, and who does not is left alone.
        flow.open(StreamKey(1000), "x", 0);
        assert_eq!(flow.write(StreamKey(1000), b"x", false), 1);
        flow.queue.clear();
        flow.streams.values_mut().for_each(|stream| stream.queued = false);
        flow.sent_bytes = flow.send_limit;
        let mut payload = Vec::new();
        Frame::MaxData(flow.send_limit + 1).encode(&mut payload);
        flow.handle(1001, &payload, false, Instant::ZERO, &mut out).unwrap();
        assert_eq!(flow.queue, [StreamKey(1000)]);
    }

    /// The acknowledgement of what was said before settles nothing.
    #[test]
    fn where_this_end_can_be_dialled_now_is_told_however_late_what_was_said_before_arrives() {
        let mut out = Outbox::new(&Config::default());
        let mut flow =
            Flow::new(NodeId::from_bytes([2; 32]), Config::default().into(), Share::of(&out.held), Instant::ZERO);
        flow.set_suspended(false, Instant::ZERO, &mut out);
        for (number, reach) in [(0, b"here"), (1, b"home")] {
            flow.set_reach(&reach.as_slice().into(), false);
            assert!(flow.poll(number, 0, Instant::ZERO).is_some());
        }
        flow.on_acked(vec![SentFrame::Reach(1)], &mut out);
        flow.on_lost(vec![SentFrame::Reach(2)]);
        assert_eq!(flow.reach.told, Signal::Due);
        assert!(flow.poll(2, 0, Instant::ZERO).is_some());
        flow.on_acked(vec![SentFrame::Reach(2)], &mut out);
        assert_eq!(flow.reach.told, Signal::Idle);
    }

    #[test]
    fn pieces_behind_gaps_are_counted_over_all_streams() {
        let piece = |stream, offset| Frame::Stream { stream, offset, fin: false, data: b"x" };
        let config = Config::default();
        let pieces = (0..20).flat_map(|index| (1..1000).map(move |at| piece(2 * index + 1, 2 * at)));
        let (mut flow, violations) = told(config, pieces);
        assert_eq!(flow.streams.values().map(|stream| stream.recv.fragments()).sum::<usize>(), MAX_FRAGMENTS);
        assert_eq!(flow.fragments, MAX_FRAGMENTS);
        assert_eq!(violations, vec![Violation::Fragments; 20 * 999 - MAX_FRAGMENTS]);
        // What is in order is always taken, and what it joins makes room.
        let mut frames = Vec::new();
        Frame::Stream { stream: 1, offset: 0, fin: false, data: &[0; 2000] }.encode(&mut frames);
        piece(39, 10).encode(&mut frames);
        assert_eq!(
            flow.handle(1 << 20, &frames, false, Instant::ZERO, &mut Outbox::new(&Config::default())),
            Ok(false)
        );
    }
}
