//! Why an operation failed; one type for each.

/// Why no stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A node has no session with itself.
    #[error("that is this node itself")]
    Own,
    /// The service's name is empty or longer than [`MAX_SERVICE_BYTES`](crate::frame::MAX_SERVICE_BYTES).
    #[error("the service's name is empty or too long")]
    ServiceName,
    /// As many sessions as the configuration allows.
    #[error("too many sessions")]
    TooManySessions,
    /// As many streams to this peer as the configuration allows.
    #[error("too many streams to this peer")]
    TooManyStreams,
}

/// Why a packet from a peer was not used. Its session is unchanged but for a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Violation {
    /// A frame cannot be read.
    #[error("malformed frame")]
    Malformed,
    /// More bytes than the credit given.
    #[error("credit exceeded")]
    Credit,
    /// The end of a stream moved, or data lies behind it.
    #[error("the end of a stream changed")]
    FinalOffset,
    /// A stream id that the peer may not use.
    #[error("bad stream id")]
    StreamId,
    /// An acknowledgement of something that was never sent.
    #[error("acknowledges what was not sent")]
    Ack,
    /// An acknowledgement of a number that was left out for the purpose: whoever says that guesses.
    #[error("guesses what was sent")]
    Guess,
    /// More fragments than are kept.
    #[error("too many fragments")]
    Fragments,
}
