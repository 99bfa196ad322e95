//! Whether a path over which nothing goes is still there.
//!
//! Whoever waits for the peer has nothing in flight, so no probe timeout of its own: a path that swallows packets, such as a relay that lies or a
//! NAT that forgot, would be noticed by nobody until somebody speaks. So a session with streams asks the peer when nothing was heard for a while,
//! soon after the last word and ever later in a long silence; the probe timeouts of [`crate::recovery`] judge the answer. A sign of life
//! from either end serves both.

use core::time::Duration;

use overlay::time::Instant;

use super::Flow;
use crate::config::{FIRST_VIGIL_PROBE_TIMEOUTS, MAX_VIGIL, MIN_VIGIL};

/// The watch over a quiet path.
#[derive(Clone, Debug)]
pub(super) struct Vigil {
    /// When an authentic packet came last.
    heard_at: Instant,
    /// When the peer was asked last.
    asked_at: Instant,
    /// Questions since streams last had something to say.
    asked: u32,
}

impl Vigil {
    pub fn new(now: Instant) -> Self {
        Self { heard_at: now, asked_at: now, asked: 0 }
    }

    /// An authentic packet came.
    pub fn hear(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Streams had something to say, in either direction.
    pub fn wake(&mut self) {
        self.asked = 0;
    }

    /// When the peer is to be asked, where a probe would be sent after `probe_timeout`.
    fn due(&self, probe_timeout: Duration, initiator: bool) -> Instant {
        let first = probe_timeout.saturating_mul(FIRST_VIGIL_PROBE_TIMEOUTS).clamp(MIN_VIGIL, MAX_VIGIL);
        let wait = first.saturating_mul(1 << self.asked.min(16)).min(MAX_VIGIL);
        // One end asks a little earlier, which spares the other.
        self.heard_at.max(self.asked_at) + if initiator { wait } else { wait + wait / 4 }
    }
}

impl Flow {
    /// When the peer is to be asked; never without streams, and not while what is in flight asks already.
    pub(super) fn vigil_timeout(&self) -> Option<Instant> {
        let watched = !self.streams.is_empty() && self.recovery.in_flight_packets() == 0;
        let probe_timeout = self.recovery.rtt.probe_timeout(self.config.max_ack_delay);
        watched.then(|| self.vigil.due(probe_timeout, self.first_id == 0))
    }

    /// Asks the peer, if it is time.
    pub(super) fn keep_vigil(&mut self, now: Instant) {
        if self.vigil_timeout().is_some_and(|at| at <= now) {
            self.vigil.asked = self.vigil.asked.saturating_add(1);
            self.vigil.asked_at = now;
            self.ping();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_the_round_trip_to_the_bound() {
        let mut vigil = Vigil::new(Instant::ZERO);
        let due = |vigil: &Vigil, ms| vigil.due(Duration::from_millis(ms), true).since(Instant::ZERO);
        assert_eq!(due(&vigil, 40), MIN_VIGIL);
        assert_eq!(due(&vigil, 500), Duration::from_secs(2));
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(due(&vigil, 40));
            vigil.asked += 1;
        }
        assert!(waits.windows(2).all(|pair| pair[1] == (pair[0] * 2).min(MAX_VIGIL)), "{waits:?}");
        assert_eq!(waits[7], MAX_VIGIL);
        assert_eq!(vigil.due(Duration::from_millis(40), false).since(Instant::ZERO), MAX_VIGIL + MAX_VIGIL / 4);
        vigil.asked = u32::MAX;
        assert_eq!(due(&vigil, 10_000), MAX_VIGIL);
        vigil.wake();
        assert_eq!(due(&vigil, 40), MIN_VIGIL);
    }
}
