//! What nodes do that are not as they should be.

use overlay::id::NodeId;
use overlay::wire::link::{Frame, Heartbeat};
use overlay::wire::packet::{Header, Kind};

/// What a node does to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Conduct {
    /// Its part.
    #[default]
    Honest,
    /// It passes nothing on.
    Blackhole,
    /// It does not answer for the records that it keeps.
    SilentBinder,
    /// It says that it keeps what it is given, throws it away, and answers that there is no such record.
    LyingBinder,
    /// It says that everybody is below it, so that records and their seekers come, and passes nothing on.
    MaliciousParent,
}

/// The size of its subtrees that a malicious parent tells.
const CLAIMED_SIZE: u32 = 1 << 30;

impl Conduct {
    /// What becomes of a frame that the honest code of `own` would send; none when it does not go.
    pub(super) fn sent(self, frame: Vec<u8>, own: &NodeId) -> Option<Vec<u8>> {
        if self == Self::Honest || self == Self::LyingBinder {
            return Some(frame);
        }
        let Ok((Header { src, kind, .. }, _)) = Header::decode(&frame) else {
            return Some(if self == Self::MaliciousParent { boasting(frame) } else { frame });
        };
        let goes = match self {
            Self::Honest | Self::LyingBinder => true,
            Self::Blackhole | Self::MaliciousParent => src == *own,
            Self::SilentBinder => src != *own || kind != Kind::DhtReply,
        };
        goes.then_some(frame)
    }
}

/// A heartbeat that tells of more than there is.
fn boasting(frame: Vec<u8>) -> Vec<u8> {
    match Frame::decode(&frame) {
        Ok(Frame::Heartbeat(heartbeat)) => {
            Frame::Heartbeat(Heartbeat { sizes: heartbeat.sizes.map(|_| CLAIMED_SIZE), ..heartbeat }).encode()
        }
        _ => frame,
    }
}
