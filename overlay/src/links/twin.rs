//! A twin: another running node with this node's key, as a copied data folder makes one.
//!
//! Neighbours keep one link to a key, the newest. So twins take each other's links in turn, and the packets and sessions that come over them.
//! Neither sees the other; but who hears that another link took the place of its only one knows that the other is not its own.

use core::time::Duration;

use crate::event::Event;
use crate::id::NodeId;
use crate::io::LinkId;
use crate::overlay::Overlay;
use crate::time::{Instant, Now};

/// So often it has to happen within [`SPAN`]: a node that moves may lose its new link before it hears of the old one's end.
const SIGNS: u32 = 3;
/// After this time the count begins anew.
const SPAN: Duration = Duration::from_secs(600);
/// A twin that is still there is reported again after this.
const AGAIN: Duration = Duration::from_secs(20);

/// What points to a twin.
#[derive(Debug, Default)]
pub(crate) struct Twin {
    since: Option<Instant>,
    signs: u32,
    reported: Option<Instant>,
}

impl Twin {
    /// One more sign; true when there have been enough of them, from time to time.
    fn suspect(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.since(since) > SPAN) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        self.signs = self.signs.saturating_add(1);
        let report = self.signs >= SIGNS && self.reported.is_none_or(|at| now.since(at) >= AGAIN);
        if report {
            self.reported = Some(now);
        }
        report
    }
}

impl Overlay {
    /// `peer` has another link to this node's key than this one.
    pub(super) fn suspect_twin(&mut self, id: LinkId, peer: NodeId, now: Now) {
        let has_another = self.links.begun().any(|link| link.peer == peer && link.id != id);
        if !has_another && self.twin.suspect(now.instant) {
            self.events.push_back(Event::Twin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_is_reported_from_time_to_time() {
        let mut twin = Twin::default();
        let mut reported = Vec::new();
        for second in 0..70 {
            if twin.suspect(Instant::from_micros(second * 1_000_000)) {
                reported.push(second);
            }
        }
        assert_eq!(reported, [2, 22, 42, 62]);
        // Single ones, far from each other, are moves.
        let mut twin = Twin::default();
        assert!((0..50).all(|turn| !twin.suspect(Instant::from_micros(turn * 301_000_000))));
    }
}
