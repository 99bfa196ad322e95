//! Why streams ended that are no more, for whoever reads them late.

use std::collections::{BTreeMap, VecDeque};

use crate::event::{ResetReason, StreamKey};

/// Resets that are remembered; of more, the earliest is forgotten. Streams that ended well need no grave.
const MAX_GRAVES: usize = 4096;

/// The latest resets.
#[derive(Debug, Default)]
pub(super) struct Graves {
    reasons: BTreeMap<StreamKey, ResetReason>,
    in_order: VecDeque<StreamKey>,
}

impl Graves {
    /// A stream was reset.
    pub fn insert(&mut self, stream: StreamKey, why: ResetReason) {
        if self.reasons.insert(stream, why).is_none() {
            self.in_order.push_back(stream);
        }
        while self.in_order.len() > MAX_GRAVES
            && let Some(earliest) = self.in_order.pop_front()
        {
            self.reasons.remove(&earliest);
        }
    }

    /// Why it was; none if it ended well, or so many were reset since.
    pub fn why(&self, stream: StreamKey) -> Option<ResetReason> {
        self.reasons.get(&stream).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_reset_is_forgotten_and_not_that_of_the_oldest_stream() {
        let mut graves = Graves::default();
        let reason = ResetReason::Application;
        (1..=MAX_GRAVES as u64).for_each(|key| graves.insert(StreamKey(key), reason));
        graves.insert(StreamKey(0), ResetReason::Closing);
        assert_eq!(graves.why(StreamKey(0)), Some(ResetReason::Closing));
        assert_eq!((graves.why(StreamKey(1)), graves.why(StreamKey(2))), (None, Some(reason)));
        assert_eq!((graves.reasons.len(), graves.in_order.len()), (MAX_GRAVES, MAX_GRAVES));
    }
}
