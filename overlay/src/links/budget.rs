//! How many signatures a neighbour may have this node check.
//!
//! A check costs more than all else that a frame does, and one frame may carry a hundred. What was checked before is not checked again; for the rest each
//! link has a budget. Repairs stay below it: a node that comes back shows one chain and is shown one for each tree, and what changes in a storm is the upper
//! part of chains. Frames for which it does not suffice are dropped and counted; the link stays, for its peer may only pass them on.
//! Records in packets, which anybody can send through the neighbour, have a budget of their own.

use core::time::Duration;

use super::Links;
use crate::io::LinkId;
use crate::overlay::Overlay;
use crate::time::{Instant, Now, micros};

/// Checks that may come at once: the longest chains in four trees, and as much again for whatever else a new link brings.
const AT_ONCE: u32 = 512;
/// One more after this: of the usual 64 links all together cost a sixth of a core that way (60 us each).
const ONE_MORE: Duration = Duration::from_millis(25);

/// What is left of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    /// That of a link that has just come up.
    pub const fn full(now: Instant) -> Self {
        Self { left: AT_ONCE, since: now }
    }

    /// Takes so many checks, if there are as many left.
    fn take(&mut self, checks: usize, now: Instant) -> bool {
        let step = micros(ONE_MORE);
        let more = micros(now.since(self.since)) / step;
        self.since = self.since + Duration::from_micros(more.saturating_mul(step));
        self.left = self.left.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(AT_ONCE);
        let after = u32::try_from(checks).ok().and_then(|checks| self.left.checked_sub(checks));
        self.left = after.unwrap_or(self.left);
        after.is_some()
    }
}

impl Links {
    /// Whether the signature of a record in a packet that came over this link may be checked now. If not, the packet is dropped.
    pub fn may_check_record(&mut self, id: LinkId, now: Now) -> bool {
        self.link_mut(id).is_some_and(|link| link.record_budget.take(1, now.instant))
    }
}

impl Overlay {
    /// Whether so many signatures may be checked for this link now. If not, what asks for it is dropped.
    pub(crate) fn may_check(&mut self, id: LinkId, signatures: usize, now: Now) -> bool {
        let Some(link) = self.links.link_mut(id) else { return false };
        let may = link.budget.take(signatures, now.instant);
        if !may {
            self.counters.dropped_unchecked += 1;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_comes_back_and_no_more() {
        let at = |ms| Instant::ZERO + Duration::from_millis(ms);
        let mut budget = Budget::full(at(0));
        assert!(budget.take(500, at(0)) && budget.take(12, at(0)) && budget.take(0, at(0)));
        assert!(!budget.take(1, at(24)) && budget.take(1, at(25)) && !budget.take(1, at(49)) && budget.take(1, at(50)));
        assert!(!budget.take(513, at(1_000_000)) && budget.take(512, at(1_000_000)) && !budget.take(1, at(1_000_000)));
    }
}
