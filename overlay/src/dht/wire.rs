//! What walks and replies carry.

use bincode::{Decode, Encode};

use crate::codec::{self, CodecError};
use crate::record::MAX_RECORD_BYTES;

/// Longest body of a walk or a reply, in bytes.
pub const MAX_BODY_BYTES: usize = MAX_RECORD_BYTES + 64;

/// What is asked of a binder. The nonce comes back in the reply; who does not know it cannot answer.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) enum Request {
    /// Keep this record. Handing over is the same.
    Put {
        /// Comes back in the reply.
        nonce: u64,
        /// What is left of the lifetime, in seconds; a binder counts at most the signed lifetime.
        remaining_s: u32,
        /// The signed record.
        record: Vec<u8>,
    },
    /// What is kept under the walk's key?
    Get {
        /// Comes back in the reply.
        nonce: u64,
    },
}

/// A binder's answer.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) struct Reply {
    /// The request's nonce.
    pub(super) nonce: u64,
    /// What became of it.
    pub(super) answer: Answer,
}

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub(super) enum Answer {
    /// To Get: this is kept.
    Found {
        /// What is left of its lifetime, in seconds.
        remaining_s: u32,
        /// The signed record.
        record: Vec<u8>,
    },
    /// To Get: nothing is kept.
    Missing,
    /// To Put: it is kept.
    Stored,
    /// To Put: this one is kept instead, because it is newer or, for a name, another's that has not expired.
    Conflict {
        /// The signed record that is kept.
        record: Vec<u8>,
    },
    /// To Put: not kept, and nothing else either.
    Refused(Refusal),
}

/// Why a binder does not keep a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Encode, Decode)]
pub enum Refusal {
    /// Not a valid record, or not of the walk's key.
    Invalid,
    /// Numbered more than a day ahead of the binder's clock.
    Ahead,
    /// The binder keeps as much as it may.
    Full,
}

pub(super) fn decode_request(body: &[u8]) -> Result<Request, CodecError> {
    codec::decode::<Request, MAX_BODY_BYTES>(body)
}

pub(super) fn decode_reply(body: &[u8]) -> Result<Reply, CodecError> {
    codec::decode::<Reply, MAX_BODY_BYTES>(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let put = Request::Put { nonce: 7, remaining_s: 300, record: vec![1, 2, 3] };
        let bytes = codec::encode(&put).unwrap();
        assert_eq!(bytes, [0, 7, 251, 44, 1, 3, 1, 2, 3]);
        assert_eq!(decode_request(&bytes), Ok(put));
        let reply = Reply { nonce: 9, answer: Answer::Refused(Refusal::Full) };
        let bytes = codec::encode(&reply).unwrap();
        assert_eq!(bytes, [9, 4, 2]);
        assert_eq!(decode_reply(&bytes), Ok(reply));
    }

    #[test]
    fn the_longest_record_fits_and_more_does_not() {
        let found =
            |len| Reply { nonce: u64::MAX, answer: Answer::Found { remaining_s: u32::MAX, record: vec![0; len] } };
        let fits = found(MAX_RECORD_BYTES);
        assert_eq!(decode_reply(&codec::encode(&fits).unwrap()), Ok(fits));
        assert!(decode_reply(&codec::encode(&found(4 * MAX_RECORD_BYTES)).unwrap()).is_err());
    }
}
