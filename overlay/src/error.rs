//! One error per operation.

use crate::id::OverlayId;

/// Why a frame was not processed. The overlay has already queued the command that closes the link; nothing else changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The driver named a link that is not up.
    #[error("unknown link")]
    UnknownLink,
    /// Longer than its lane allows.
    #[error("oversized frame")]
    Oversized,
    /// Not a frame of this protocol.
    #[error("malformed frame")]
    Malformed,
    /// Well-formed, but not allowed on this lane or before a hello.
    #[error("frame out of place")]
    OutOfPlace,
    /// A signature or a chain of grants does not hold.
    #[error("false signature")]
    Forged,
}

/// Why a payload was not sent. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// This node has no place in an overlay now.
    #[error("not attached to the overlay")]
    Detached,
    /// No neighbour is closer to the destination.
    #[error("no route")]
    NoRoute,
    /// Longer than a packet carries.
    #[error("payload too long")]
    TooLong,
}

/// Why a snapshot was not taken over. The object must not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A stored value does not decode or verify.
    #[error("the stored value {0} is damaged")]
    Damaged(&'static str),
    /// This node's own identity.
    #[error("the identity in this data folder was revoked, for ever; start anew with another one")]
    Revoked,
    /// The store belongs to another overlay than the configuration names.
    #[error(
        "this data folder belongs to the overlay {stored}, not to {expected}; join that one with another data folder"
    )]
    OtherOverlay {
        /// What the store says.
        stored: OverlayId,
        /// What the configuration says.
        expected: OverlayId,
    },
}

/// Why a node's record or claim was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("founding failed: {0}")]
pub struct FoundError(pub &'static str);
