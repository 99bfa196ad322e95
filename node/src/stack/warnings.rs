//! What is wrong with this node, for as long as it lasts: said by `status` and `doctor`, too, for whoever did not see the log.

use std::time::Duration;

use overlay::time::Instant;

use crate::facts;

/// A twin that was not noticed again for this time has gone; one that is there is noticed more often.
const TWIN_GONE: Duration = Duration::from_secs(900);

/// What was noticed.
#[derive(Debug, Default)]
pub struct Warnings {
    ahead: bool,
    twin_at: Option<Instant>,
}

impl Warnings {
    /// A binder finds this node's record dated too far ahead; whether that is news.
    pub fn refused_as_ahead(&mut self) -> bool {
        !std::mem::replace(&mut self.ahead, true)
    }

    /// All binders keep this node's record.
    pub fn stored(&mut self) {
        self.ahead = false;
    }

    /// Another node runs with this node's key.
    pub fn has_twin(&mut self, now: Instant) {
        self.twin_at = Some(now);
    }

    /// The line about a twin.
    pub fn twin(&self, now: Instant) -> Option<&'static str> {
        self.twin_at.filter(|at| now.since(*at) < TWIN_GONE).map(|_| facts::TWIN)
    }

    /// The line about this node's record.
    pub fn record(&self) -> Option<&'static str> {
        self.ahead.then_some(facts::CLOCK_AHEAD)
    }

    /// What is worse, if anything is wrong.
    pub fn line(&self, now: Instant) -> Option<String> {
        self.twin(now).or(self.record()).map(str::to_owned)
    }
}
