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
/// After this time the count begins anew; a twin that is still there is reported again.
const SPAN: Duration = Duration::from_secs(600);

/// What points to a twin.
#[derive(Debug, Default)]
pub(crate) struct Twin {
    since: Option<Instant>,
    signs: u32,
}

impl Twin {
    /// One more sign; true when there have just been enough of them.
    fn suspect(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.since(since) > SPAN) {
            *self = Self { since: Some(now), signs: 0 };
        }
        self.signs = self.signs.saturating_add(1);
        self.signs == SIGNS
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
    fn a_twin_is_reported_once_in_a_span_and_again_in_the_next() {
        let mut twin = Twin::default();
        let mut reported = Vec::new();
        for second in 0..1_300 {
            if twin.suspect(Instant::from_micros(second * 1_000_000)) {
                reported.push(second);
            }
        }
        assert_eq!(reported, [2, 603, 1_204]);
        // Single ones, far from each other, are moves.
        let mut twin = Twin::default();
        assert!((0..50).all(|turn| !twin.suspect(Instant::from_micros(turn * 301_000_000))));
    }
}
