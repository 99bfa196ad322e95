//! Which Hellos are worked on: public-key work is budgeted for each inbound neighbour and in total; and so are Resets, for each neighbour.
//!
//! The neighbour is the one thing about a stranger's packet that is proven, by the link. So a flood that comes over one link
//! uses up what that link may ask for, and those who come over others do not notice. Within the budgets a Hello is answered as it
//! is. Beyond them B is *under load*: it answers with a [cookie](crate::handshake::cookie), and works for those who show it, out of a second
//! budget that nobody can touch who does not receive what is sent to the place it names.

use std::collections::BTreeMap;

use overlay::id::NodeId;
use overlay::rng::Rng;
use overlay::time::Instant;

use crate::config::{
    COOKIES, FLOOD_TOLD_EVERY, HELLOS, NEIGHBOUR_FLOOD, NEIGHBOUR_HELLOS, NEIGHBOUR_PROVEN_HELLOS, PROVEN_HELLOS,
    RESETS,
};
use crate::event::Arrival;
use crate::handshake::AddressedHello;
use crate::handshake::cookie::{Cookie, CookieSecret};
use crate::session::Bucket;

/// Neighbours whose budgets are remembered; of more, the one that was quiet longest starts anew.
const MAX_NEIGHBOURS: usize = 1024;

/// What becomes of a Hello.
pub(super) enum Verdict {
    /// It is worth public-key work.
    Work,
    /// It may come again with this.
    Prove(Cookie),
    /// Nothing.
    Drop,
}

/// The budgets, and the secret of the cookies.
pub(super) struct Guard {
    secret: CookieSecret,
    hellos: Bucket,
    proven: Bucket,
    neighbours: BTreeMap<Option<NodeId>, Neighbour>,
}

struct Neighbour {
    /// Hellos of which nothing is told.
    unremarkable: Bucket,
    /// When it was told last that more come.
    flood_told_at: Option<Instant>,
    hellos: Bucket,
    proven: Bucket,
    cookies: Bucket,
    resets: Bucket,
    heard_at: Instant,
}

impl Guard {
    pub fn new(rng: &mut Rng, now: Instant) -> Self {
        Self {
            secret: CookieSecret::new(rng, now),
            hellos: Bucket::new(&HELLOS, now),
            proven: Bucket::new(&PROVEN_HELLOS, now),
            neighbours: BTreeMap::new(),
        }
    }

    /// A Hello, or what looks like one, came over this neighbour; whether it is time to tell that too many do.
    pub fn counts_flood(&mut self, via: NodeId, now: Instant) -> bool {
        self.make_room(Some(via));
        let neighbour = self.neighbours.entry(Some(via)).or_insert_with(|| Neighbour::new(now));
        let is_told = neighbour.flood_told_at.is_some_and(|told_at| now.since(told_at) < FLOOD_TOLD_EVERY);
        neighbour.heard_at = now;
        if neighbour.unremarkable.take(now) || is_told {
            return false;
        }
        neighbour.flood_told_at = Some(now);
        true
    }

    /// Judges a Hello that came like this. Whatever it says, this costs one hash of it at most.
    pub fn judge(&mut self, hello: &AddressedHello<'_, '_>, arrival: &Arrival, rng: &mut Rng, now: Instant) -> Verdict {
        self.secret.refresh(rng, now);
        self.make_room(arrival.via);
        let neighbour = self.neighbours.entry(arrival.via).or_insert_with(|| Neighbour::new(now));
        neighbour.heard_at = now;
        // The neighbour's budget comes first, so that a flood over one link takes from the common one no more than its own.
        if neighbour.hellos.take(now) && self.hellos.take(now) {
            return Verdict::Work;
        }
        let cookie = self.secret.cookie(arrival);
        if cookie.is_on(hello) {
            let passes = neighbour.proven.take(now) && self.proven.take(now);
            return if passes { Verdict::Work } else { Verdict::Drop };
        }
        if neighbour.cookies.take(now) { Verdict::Prove(cookie) } else { Verdict::Drop }
    }

    /// Whether a Re-Hello that came over this neighbour, and cannot be honoured, is answered.
    pub fn may_reset(&mut self, via: Option<NodeId>, now: Instant) -> bool {
        self.make_room(via);
        let neighbour = self.neighbours.entry(via).or_insert_with(|| Neighbour::new(now));
        neighbour.heard_at = now;
        neighbour.resets.take(now)
    }

    fn make_room(&mut self, via: Option<NodeId>) {
        if self.neighbours.len() < MAX_NEIGHBOURS || self.neighbours.contains_key(&via) {
            return;
        }
        let quietest = self.neighbours.iter().min_by_key(|(_, neighbour)| neighbour.heard_at).map(|(via, _)| *via);
        if let Some(quietest) = quietest {
            self.neighbours.remove(&quietest);
        }
    }
}

impl Neighbour {
    fn new(now: Instant) -> Self {
        Self {
            unremarkable: Bucket::new(&NEIGHBOUR_FLOOD, now),
            flood_told_at: None,
            hellos: Bucket::new(&NEIGHBOUR_HELLOS, now),
            proven: Bucket::new(&NEIGHBOUR_PROVEN_HELLOS, now),
            cookies: Bucket::new(&COOKIES, now),
            resets: Bucket::new(&RESETS, now),
            heard_at: now,
        }
    }
}
