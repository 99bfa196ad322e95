//! What this node asked and has no answer to.

use std::collections::{BTreeMap, VecDeque};

use super::lookup::LookupId;
use crate::record::RecordKey;
use crate::rng::Rng;

/// Most requests without an answer that are remembered; the oldest is forgotten first.
const MAX_OPEN_REQUESTS: usize = 4096;

/// Why something was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    Publish {
        key: RecordKey,
        seq: u64,
        replica: u8,
    },
    Handover {
        key: RecordKey,
        replica: u8,
    },
    Get {
        lookup: LookupId,
        replica: u8,
    },
    /// To hear of somebody.
    Anybody,
}

/// Open requests by their nonce. A nonce is random, so only who saw the request can answer it, and only once.
#[derive(Default)]
pub(super) struct Requests {
    by_nonce: BTreeMap<u64, Purpose>,
    by_age: VecDeque<u64>,
}

impl Requests {
    pub(super) fn open(&mut self, purpose: Purpose, rng: &mut Rng) -> u64 {
        while self.by_age.len() >= MAX_OPEN_REQUESTS {
            if let Some(oldest) = self.by_age.pop_front() {
                self.by_nonce.remove(&oldest);
            }
        }
        let nonce = u64::from_le_bytes(rng.bytes());
        self.by_nonce.insert(nonce, purpose);
        self.by_age.push_back(nonce);
        nonce
    }

    pub(super) fn purpose(&self, nonce: u64) -> Option<Purpose> {
        self.by_nonce.get(&nonce).copied()
    }

    pub(super) fn take(&mut self, nonce: u64) -> Option<Purpose> {
        self.by_nonce.remove(&nonce)
    }
}
