//! Whether the peer is at a place for which nobody has vouched (RFC 9000, section 8.2).
//!
//! A routing header says where its sender is, and any relay can change it; a peer may lie about it, too, to have somebody else flooded. A packet that holds nothing
//! but a question goes there; what the question asks to have said proves the place, for nobody can open the packet but the peer, and the peer cannot know what
//! was asked unless the packet came to it. An acknowledgement proves nothing: packet numbers can be guessed. Until then streams go where the peer has been shown
//! to be.

use overlay::time::Instant;

use super::{Flow, SentFrame};
use crate::frame::{CHALLENGE_BYTES, Frame};
use crate::stream::Signal;

/// How often a place is asked, at most.
const MAX_TRIES: u32 = 3;

/// The place that is asked at present.
#[derive(Clone, Debug, Default)]
pub(super) struct Probe {
    /// Which one, so that a late word about another means nothing.
    number: u32,
    /// What the peer is asked to say.
    challenge: [u8; CHALLENGE_BYTES],
    tries: u32,
    signal: Signal,
}

/// What the peer asked this end to say last. It is said whatever the window says, but not before what was said to an earlier question has arrived or is
/// lost: a peer that asks without end and acknowledges nothing draws one packet.
#[derive(Clone, Debug, Default)]
pub(super) struct Response {
    challenge: [u8; CHALLENGE_BYTES],
    is_due: bool,
    is_under_way: bool,
}

impl Flow {
    /// Another place is to be asked from now on; `challenge` is random.
    pub fn begin_probe(&mut self, challenge: [u8; CHALLENGE_BYTES]) {
        let number = self.probe.number.wrapping_add(1);
        self.probe = Probe { number, challenge, tries: 0, signal: Signal::Due };
    }

    /// No place is to be asked any more.
    pub fn drop_probe(&mut self) {
        self.probe.signal = Signal::Idle;
    }

    /// Whether [`Flow::poll_probe`] has something.
    pub fn probe_is_due(&self) -> bool {
        !self.suspended && self.probe.signal == Signal::Due
    }

    /// Whether the peer is at the place that was asked; says so once.
    pub fn take_proof(&mut self) -> bool {
        let proven = self.probe.signal == Signal::Done;
        if proven {
            self.drop_probe();
        }
        proven
    }

    /// The inside of the packet that asks, which will bear `number`, behind `head` bytes of room.
    pub fn poll_probe(&mut self, number: u64, head: usize, now: Instant) -> Option<Vec<u8>> {
        if !self.probe_is_due() {
            return None;
        }
        self.probe.signal = Signal::Flying;
        self.probe.tries = self.probe.tries.saturating_add(1);
        let mut payload = vec![0; head];
        Frame::Challenge(self.probe.challenge).encode(&mut payload);
        self.note_sent(number, payload.len() as u64, vec![SentFrame::Probe(self.probe.number)], now);
        Some(payload)
    }

    pub(super) fn probe_lost(&mut self, number: u32) {
        if number == self.probe.number && self.probe.signal == Signal::Flying {
            // The last one may be late, where that place is further away than the one that all else goes to.
            if self.probe.tries < MAX_TRIES {
                self.probe.signal = Signal::Due;
            }
        }
    }

    /// The peer asks.
    pub(super) fn on_challenge(&mut self, challenge: [u8; CHALLENGE_BYTES]) {
        self.response.challenge = challenge;
        self.response.is_due = true;
    }

    /// Whether an answer leaves with the next packet.
    pub(super) fn response_is_due(&self) -> bool {
        self.response.is_due && !self.response.is_under_way
    }

    pub(super) fn put_response(&mut self, payload: &mut Vec<u8>, frames: &mut Vec<SentFrame>) {
        if self.response_is_due() {
            (self.response.is_due, self.response.is_under_way) = (false, true);
            Frame::Response(self.response.challenge).encode(payload);
            frames.push(SentFrame::Response(self.response.challenge));
        }
    }

    /// What was said arrived, or is `lost`.
    pub(super) fn response_settled(&mut self, challenge: [u8; CHALLENGE_BYTES], lost: bool) {
        self.response.is_under_way = false;
        self.response.is_due |= lost && challenge == self.response.challenge;
    }

    /// Before a question was ever sent, or after it was dropped, there is nothing to prove.
    pub(super) fn on_response(&mut self, challenge: [u8; CHALLENGE_BYTES]) {
        let is_asked = matches!(self.probe.signal, Signal::Flying | Signal::Due) && self.probe.tries > 0;
        if is_asked && challenge == self.probe.challenge {
            self.probe.signal = Signal::Done;
        }
    }
}

#[cfg(test)]
mod tests {
    use overlay::id::NodeId;

    use super::*;
    use crate::ack::Ranges;
    use crate::config::Config;
    use crate::flow::Outbox;
    use crate::frame::Ack;
    use crate::held::Share;

    fn live() -> (Flow, Outbox) {
        let mut out = Outbox::new(&Config::default());
        let config = Config::default().into();
        let mut flow = Flow::new(NodeId::from_bytes([2; 32]), config, Share::of(&out.held), Instant::ZERO);
        flow.set_suspended(false, Instant::ZERO, &mut out);
        (flow, out)
    }

    #[test]
    fn only_what_was_asked_proves_a_place() {
        let (mut flow, mut out) = live();
        let mut proven_by = |flow: &mut Flow, number, frame: &Frame<'_>| {
            let mut payload = Vec::new();
            frame.encode(&mut payload);
            flow.handle(number, &payload, false, Instant::ZERO, &mut out).unwrap();
            flow.take_proof()
        };
        flow.begin_probe([7; CHALLENGE_BYTES]);
        assert!(!proven_by(&mut flow, 0, &Frame::Response([7; CHALLENGE_BYTES])), "nothing was asked yet");
        assert!(flow.poll_probe(0, 0, Instant::ZERO).is_some());
        let mut ranges = Ranges::default();
        ranges.insert(0, 0);
        assert!(
            !proven_by(&mut flow, 1, &Frame::Ack(Ack { ranges, delay_us: 0, ecn_count: 0 })),
            "numbers can be guessed"
        );
        assert!(!proven_by(&mut flow, 2, &Frame::Response([8; CHALLENGE_BYTES])));
        assert!(proven_by(&mut flow, 3, &Frame::Response([7; CHALLENGE_BYTES])));
        assert!(!proven_by(&mut flow, 4, &Frame::Response([7; CHALLENGE_BYTES])), "once");
    }

    #[test]
    fn who_asks_without_end_draws_one_answer() {
        let (mut flow, mut out) = live();
        // Nothing else may leave: the window is full.
        flow.note_sent(0, 1 << 30, vec![SentFrame::Ping], Instant::ZERO);
        let mut sent = 1;
        let mut answers = Vec::new();
        let mut ask = |flow: &mut Flow, number: u64, answers: &mut Vec<[u8; CHALLENGE_BYTES]>| {
            let mut payload = Vec::new();
            Frame::Challenge(number.to_be_bytes()).encode(&mut payload);
            flow.handle(number, &payload, false, Instant::ZERO, &mut out).unwrap();
            while let Some(payload) = flow.poll(sent, 0, Instant::ZERO) {
                answers.extend(crate::frame::Frames::new(&payload).filter_map(|frame| match frame {
                    Ok(Frame::Response(challenge)) => Some(challenge),
                    _ => None,
                }));
                sent += 1;
            }
        };
        (0..100).for_each(|number| ask(&mut flow, number, &mut answers));
        assert_eq!(answers, [0_u64.to_be_bytes()]);
        // Lost or arrived, the latest question is answered next.
        flow.response_settled(0_u64.to_be_bytes(), true);
        ask(&mut flow, 100, &mut answers);
        assert_eq!(answers, [0_u64.to_be_bytes(), 100_u64.to_be_bytes()]);
        flow.response_settled(100_u64.to_be_bytes(), true);
        assert!(flow.response_is_due(), "the latest goes again when it is lost");
    }
}
