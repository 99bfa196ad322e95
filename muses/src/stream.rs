//! One stream: two halves, and the signals around them.

use crate::event::ResetReason;
use crate::recv::RecvHalf;
use crate::send::SendHalf;

/// A frame that is to arrive once and carries no bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Not wanted.
    #[default]
    Idle,
    /// To be sent with the next packet.
    Due,
    /// In flight.
    Flying,
    /// Arrived.
    Done,
}

impl Signal {
    /// Wants it sent, unless it is under way or has arrived.
    pub fn want(&mut self) {
        if *self == Self::Idle {
            *self = Self::Due;
        }
    }

    /// Whether to send it now; it counts as sent then.
    pub fn take(&mut self) -> bool {
        let due = *self == Self::Due;
        if due {
            *self = Self::Flying;
        }
        due
    }

    /// It was lost on the way.
    pub fn lost(&mut self) {
        if *self == Self::Flying {
            *self = Self::Due;
        }
    }
}

/// Who began the stream, and what the other said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Opened here; the peer has not accepted yet.
    Asked,
    /// The peer's; its `Open` was overtaken by other frames.
    Foreshadowed,
    /// The peer's; our application has not accepted yet.
    Offered,
    /// Both agree.
    Open,
}

#[derive(Debug)]
pub(crate) struct Stream {
    /// Its number on the wire; given when its first frame leaves, so that a stream opened during an outage survives
    /// whatever the resume brings.
    pub id: Option<u64>,
    pub stage: Stage,
    /// It is to an [`INTERNAL`](crate::frame::INTERNAL) service.
    pub internal: bool,
    pub service: String,
    pub port: u16,
    pub send: SendHalf,
    pub recv: RecvHalf,
    pub open: Signal,
    pub accept: Signal,
    pub reset: Signal,
    pub credit: Signal,
    /// Set once the stream was reset, from either side.
    pub why_reset: Option<ResetReason>,
    /// The application wants to be told when there is room.
    pub write_blocked: bool,
    /// The application was told that there is something to read, and has not found out yet that there is not.
    pub readable_told: bool,
    /// The stream stands in the queue of those with something to send.
    pub queued: bool,
}

impl Stream {
    pub fn new(stage: Stage, send: SendHalf, recv: RecvHalf) -> Self {
        Self {
            id: None,
            stage,
            internal: false,
            service: String::new(),
            port: 0,
            send,
            recv,
            open: Signal::Idle,
            accept: Signal::Idle,
            reset: Signal::Idle,
            credit: Signal::Idle,
            why_reset: None,
            write_blocked: false,
            readable_told: false,
            queued: false,
        }
    }

    /// Whether there is something to send.
    pub fn has_work(&self, session_credit: u64) -> bool {
        let due = |signal: Signal| signal == Signal::Due;
        if self.why_reset.is_some() {
            return due(self.reset);
        }
        due(self.open) || due(self.accept) || due(self.credit) || self.send.has_work(session_credit)
    }

    /// Whether an application here has it: neither what the peer did alone, as long as nobody here took it, nor what was reset.
    pub fn is_in_use(&self) -> bool {
        matches!(self.stage, Stage::Asked | Stage::Open) && self.why_reset.is_none()
    }

    /// Whether nothing can happen on it any more, at either end.
    pub fn is_over(&self) -> bool {
        match self.why_reset {
            // Both must know how many bytes the other sent, or their counts of the session's credit differ.
            Some(_) => self.reset == Signal::Done && self.recv.has_end(),
            None => self.send.is_done() && self.recv.is_read_out(),
        }
    }
}
