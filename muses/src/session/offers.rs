//! Answers to the peer's Re-Hellos, each of which waits for the packet that proves it.
//!
//! Whoever once relayed a Re-Hello can send it again, and for as long as its rung of the ladder is known it is as good as new. So what replays may cost is held
//! apart from what the peer itself asks: by the neighbour over which either came, and by the place that it names. The one is proven by the link, the other by
//! the peer's MAC: no recording names a place to which the peer has moved since.

use core::time::Duration;
use std::collections::VecDeque;

use overlay::id::NodeId;
use overlay::time::Instant;

use super::endpoint::Bucket;
use super::received::Received;
use crate::config::{ANSWERS, ANSWERS_IN_ALL};
use crate::event::Path;
use crate::kdf;
use crate::keys::Agreed;
use crate::packet::Opened;

/// Answers that wait at a time. When there are more, the source with the most of them loses its oldest.
const MAX_OFFERS: usize = 16;
/// Sources whose budgets are remembered; of more, the one that was quiet longest starts anew.
const MAX_SOURCES: usize = 32;
/// A first packet that comes later finds its offer gone: the peer asks again.
const OFFER_KEPT: Duration = Duration::from_mins(2);
/// For so long it is said again to who asks again.
const OFFER_SAID: Duration = Duration::from_secs(100);
/// How long the higher id leaves the word to the lower one when their Re-Hellos crossed.
pub(super) const YIELD: Duration = Duration::from_secs(1);
/// The time from one yield to the next doubles so often while none leads to a resume: replays do not last that long over any path that carries anything.
const MAX_DOUBLINGS: u32 = 6;

/// Where Re-Hellos come from: over which neighbour, and from which place as they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    via: Option<NodeId>,
    place: [u8; 32],
}

impl Source {
    pub fn new(via: Option<NodeId>, place: &Path) -> Self {
        Self { via, place: kdf::sha256(&[&place.0]) }
    }
}

/// An answer that the peer's first packet will prove.
pub(super) struct Offer {
    pub na: [u8; 32],
    pub source: Source,
    pub answer: Vec<u8>,
    pub agreed: Agreed,
    /// Where the peer will be.
    pub path: Path,
    pub received: Option<Received>,
    /// Our own path when we answered.
    pub local: Path,
    pub restarted: bool,
    /// When it was made.
    pub at: Instant,
}

/// All that wait, until the session goes on with one of them, and what peers and replays may still ask.
pub(super) struct Offers {
    waiting: VecDeque<Offer>,
    budgets: VecDeque<(Source, Bucket)>,
    /// Of all sources together: the peer names whatever places it likes.
    in_all: Bucket,
    yielded_at: Option<Instant>,
    /// Yields since the session went on last.
    yields: u32,
    heard_at: Instant,
}

impl Offers {
    pub fn new(now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            budgets: VecDeque::new(),
            in_all: Bucket::new(&ANSWERS_IN_ALL, now),
            yielded_at: None,
            yields: 0,
            heard_at: now,
        }
    }

    /// Whether a Re-Hello from there is looked at.
    pub fn may_answer(&mut self, source: Source, now: Instant) -> bool {
        self.heard_at = now;
        let known = self.budgets.iter().position(|(of, _)| *of == source);
        let known = known.and_then(|index| self.budgets.remove(index));
        let (_, mut budget) = known.unwrap_or_else(|| (source, Bucket::new(&ANSWERS, now)));
        let may = budget.take(now);
        if self.budgets.len() >= MAX_SOURCES {
            self.budgets.pop_front();
        }
        self.budgets.push_back((source, budget));
        may
    }

    /// Whether one more answer is made, wherever the Re-Hello came from. One that was answered already costs less: see [`Offers::known`].
    pub fn may_offer(&mut self, now: Instant) -> bool {
        self.in_all.take(now)
    }

    /// The session went on with the answer to a Re-Hello of this end: what it offered itself is void.
    pub fn clear(&mut self) {
        self.waiting = VecDeque::new();
        self.yields = 0;
    }

    /// What the Re-Hello with this nonce was answered.
    ///
    /// One that will not wait much longer does not count: its answer would come too late.
    pub fn known(&self, na: &[u8; 32], now: Instant) -> Option<&Offer> {
        self.waiting.iter().find(|offer| offer.na == *na && now < offer.at + OFFER_SAID)
    }

    pub fn push(&mut self, offer: Offer) {
        self.waiting.push_back(offer);
        if self.waiting.len() > MAX_OFFERS {
            let of = |source| self.waiting.iter().filter(|other| other.source == source).count();
            let most = self.waiting.iter().map(|offer| of(offer.source)).max();
            let oldest = self.waiting.iter().position(|offer| Some(of(offer.source)) == most);
            oldest.and_then(|index| self.waiting.remove(index));
        }
    }

    /// Whether the peer may go on with one of them.
    pub fn are_open(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When the peer has gone on with one of them or never will, whatever is asked from now on.
    pub fn decided_at(&self) -> Option<Instant> {
        self.waiting.iter().map(|offer| offer.at + OFFER_KEPT).max()
    }

    /// Forgets those that have waited long enough, however often they were asked for again: whoever repeats what he has relayed keeps none alive.
    pub fn expire(&mut self, now: Instant) {
        self.waiting.retain(|offer| now < offer.at + OFFER_KEPT);
    }

    /// Opens a packet that may be the first under what was offered. If it is, only what was offered after that one still waits: the peer may have asked again
    /// before this packet came, and go on with the answer to that.
    pub fn open(&mut self, packet: &[u8]) -> Option<(Offer, Opened)> {
        let mut offers = self.waiting.iter_mut().enumerate().rev();
        let (index, opened) = offers.find_map(|(index, offer)| Some((index, offer.agreed.open(packet).ok()?)))?;
        let newer = self.waiting.split_off(index + 1);
        let offer = core::mem::replace(&mut self.waiting, newer).pop_back()?;
        self.yields = 0;
        Some((offer, opened))
    }

    /// Whether the word is left to the peer, whose Re-Hello crossed ours: that one may be old, so not twice in a row, and less and less often while it
    /// leads to nothing.
    pub fn may_yield(&mut self, now: Instant) -> bool {
        let pause = (2 * YIELD).saturating_mul(1 << self.yields.saturating_sub(1).min(MAX_DOUBLINGS));
        let may = self.yielded_at.is_none_or(|at| now.since(at) >= pause);
        if may {
            self.yielded_at = Some(now);
            self.yields = self.yields.saturating_add(1);
        }
        may
    }

    /// When none is of use any more.
    pub fn kept_until(&self) -> Instant {
        self.heard_at + OFFER_KEPT
    }
}
