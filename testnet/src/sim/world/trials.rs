//! One fault at a known time, and how long the ends of the one transfer wait.

use std::time::Duration;

use super::World;
use crate::sim::trial::{OUTAGE, Trial, Waited};

/// Shortest and longest outage of an end that moves.
const OUTAGES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(12)];
/// Old links serve for so long after they were copied.
const OLD_LINKS_LEFT: Duration = Duration::from_secs(1);
/// For how long gaps are looked for.
const WATCHED: Duration = Duration::from_secs(6);
/// How often it is looked whether something came.
const TICK: Duration = Duration::from_millis(1);

impl World {
    /// Runs until the one transfer's ends both have bytes, and for `warm_up` longer.
    ///
    /// # Errors
    /// When they do not get any.
    pub fn connect_ends(&mut self, limit: Duration, warm_up: Duration) -> Result<(), String> {
        self.join_all();
        self.plan_transfers();
        self.run_while(self.now.instant + limit, |world| world.transfers[0].received.contains(&0));
        if self.transfers[0].received.contains(&0) {
            return Err(self.transfers[0].describe(0));
        }
        self.pass(warm_up);
        Ok(())
    }

    /// Lets it happen, and waits for what comes after.
    ///
    /// # Errors
    /// When nothing comes within `limit`.
    pub fn attempt(&mut self, trial: Trial, limit: Duration) -> Result<Waited, String> {
        let [a, b] = self.transfers[0].nodes;
        let rtt = self.round_trip(a, b);
        let Some(rtt) = rtt else { return Err("the session is gone".into()) };
        let waited = match trial {
            Trial::Move => {
                self.must_be_neighbours([a, b])?;
                self.take_network(a, OUTAGE);
                self.pass(OUTAGE);
                let waited = self.wait_for_bytes(limit);
                self.must_be_neighbours([a, b])?;
                waited
            }
            Trial::BothMove => {
                let outages = [self.span(OUTAGES), self.span(OUTAGES)];
                self.take_network(a, outages[0]);
                self.take_network(b, outages[1]);
                self.pass(outages[0].max(outages[1]));
                self.wait_for_bytes(limit)
            }
            Trial::Rebind => {
                self.silence(a, self.pipes.len());
                self.wait_for_bytes(limit)
            }
            Trial::Copy => {
                let old = self.pipes.len();
                self.with(a, |stack, now| {
                    stack.copy_links(now);
                });
                let mut gaps = self.longest_gaps(OLD_LINKS_LEFT);
                self.silence(a, old);
                let later = self.longest_gaps(WATCHED);
                gaps = [gaps[0].max(later[0]), gaps[1].max(later[1])];
                Some([gaps[0].min(gaps[1]), gaps[0].max(gaps[1])])
            }
        };
        match waited {
            Some([first, both]) => Ok(Waited { first, both, rtt }),
            None => Err(self.transfers[0].describe(0)),
        }
    }

    fn must_be_neighbours(&self, ends: [usize; 2]) -> Result<(), String> {
        if self.are_neighbours(ends) { Ok(()) } else { Err("the ends are no neighbours".into()) }
    }

    /// Runs for this long.
    fn pass(&mut self, span: Duration) {
        self.run_while(self.now.instant + span, |_| true);
    }

    fn span(&mut self, [least, most]: [Duration; 2]) -> Duration {
        least + Duration::from_micros(self.rng.below(overlay::time::micros(most.saturating_sub(least))))
    }

    /// From now to the first new byte at either end, and to when both have some.
    fn wait_for_bytes(&mut self, limit: Duration) -> Option<[Duration; 2]> {
        let (begin, before) = (self.now.instant, self.transfers[0].received);
        let grown =
            |world: &Self| world.transfers[0].received.iter().zip(before).filter(|(now, then)| **now > *then).count();
        let mut times = [Duration::ZERO; 2];
        for (ends, time) in times.iter_mut().enumerate() {
            self.run_while(begin + limit, |world| grown(world) <= ends);
            if grown(self) <= ends {
                return None;
            }
            *time = self.now.instant.since(begin);
        }
        Some(times)
    }

    /// The longest time without a new byte, at each end.
    fn longest_gaps(&mut self, span: Duration) -> [Duration; 2] {
        let end = self.now.instant + span;
        let mut last = [(self.transfers[0].received, self.now.instant); 2];
        let mut gaps = [Duration::ZERO; 2];
        while self.now.instant < end {
            self.pass(TICK);
            for side in [0, 1] {
                let received = self.transfers[0].received;
                if received[side] > last[side].0[side] {
                    last[side] = (received, self.now.instant);
                }
                gaps[side] = gaps[side].max(self.now.instant.since(last[side].1));
            }
        }
        gaps
    }

    /// Those of the first `count` links that are the node's carry nothing any more, and neither side is told.
    fn silence(&mut self, node: usize, count: usize) {
        for pipe in self.pipes.iter_mut().take(count).filter(|pipe| pipe.nodes.contains(&node)) {
            pipe.carries = false;
        }
    }

    /// The smoothed round trip of the session, as `a` knows it.
    fn round_trip(&self, a: usize, b: usize) -> Option<Duration> {
        let peer = self.nodes[b].identity.id().to_string();
        let sessions = self.nodes[a].stack.as_ref()?.sessions(self.now);
        sessions.iter().find(|row| row.peer == peer)?.rtt_us.map(Duration::from_micros)
    }
}
