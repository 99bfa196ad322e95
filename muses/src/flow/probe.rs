//! Whether the peer is at a place for which nobody has vouched (RFC 9000, section 8.2).
//!
//! A routing header says where its sender is, and any relay can change it. A packet that holds nothing but a question goes there; the peer's acknowledgement
//! of that very packet proves the place, for nobody else can open it. Until then streams go where the peer has been shown to be.

use overlay::time::Instant;

use super::{Flow, SentFrame};
use crate::frame::Frame;
use crate::stream::Signal;

/// How often a place is asked, at most.
const MAX_TRIES: u32 = 3;

/// The place that is asked at present.
#[derive(Clone, Debug, Default)]
pub(super) struct Probe {
    /// Which one, so that a late word about another means nothing.
    number: u32,
    tries: u32,
    signal: Signal,
}

impl Flow {
    /// Another place is to be asked from now on.
    pub fn begin_probe(&mut self) {
        self.probe = Probe { number: self.probe.number.wrapping_add(1), tries: 0, signal: Signal::Due };
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
        Frame::Ping.encode(&mut payload);
        self.note_sent(number, payload.len() as u64, vec![SentFrame::Probe(self.probe.number)], now);
        Some(payload)
    }

    pub(super) fn probe_acked(&mut self, number: u32) {
        if number == self.probe.number && self.probe.signal != Signal::Idle {
            self.probe.signal = Signal::Done;
        }
    }

    pub(super) fn probe_lost(&mut self, number: u32) {
        if number == self.probe.number && self.probe.signal == Signal::Flying {
            self.probe.signal = if self.probe.tries < MAX_TRIES { Signal::Due } else { Signal::Idle };
        }
    }
}
