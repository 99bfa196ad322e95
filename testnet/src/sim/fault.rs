//! All faults in one options struct, and the plan that a seed makes of it.

use std::time::Duration;

use overlay::rng::Rng;

/// What an outage is usually simulated of in full: see [`Faults::awake`].
const AWAKE: Duration = Duration::from_secs(100);

/// The shortest outage where they are spread over doublings.
const SHORTEST: Duration = Duration::from_secs(1);

/// What goes wrong in a run. All counts are per run.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Shortest and longest one-way delay of a link.
    pub latency: [Duration; 2],
    /// Rate of each direction of a link, in bytes per second.
    pub rate_bytes_per_s: u64,
    /// Links that break, noticed by both ends.
    pub link_losses: usize,
    /// Links that go silent: neither end is told.
    pub blackholes: usize,
    /// Nodes at the ends of a transfer that lose their network and come back at another address.
    pub moves: usize,
    /// Nodes in the middle that are killed for good.
    pub kills: usize,
    /// Nodes in the middle that are killed and started again from their store.
    pub restarts: usize,
    /// What an outage is simulated of in full. In the midst of a longer one all machines of the overlay sleep, and wake up with clocks that ran on:
    /// a year of heartbeats would only take time.
    pub awake: Duration,
    /// Longest outage of a move, and of a restart. Beyond `awake` short ones are as likely as long ones: each doubling is.
    pub longest_outage: Duration,
    /// The span, after everybody has joined, in which faults happen.
    pub window: Duration,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            latency: [Duration::from_millis(1), Duration::from_millis(30)],
            rate_bytes_per_s: 1_000_000,
            link_losses: 3,
            blackholes: 1,
            moves: 4,
            kills: 1,
            restarts: 1,
            awake: AWAKE,
            longest_outage: Duration::from_secs(40),
            window: Duration::from_secs(60),
        }
    }
}

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self { link_losses: 0, blackholes: 0, moves: 0, kills: 0, restarts: 0, ..Self::default() }
    }

    /// The faults of one run with their times after its start, in order.
    pub fn plan(&self, rng: &mut Rng) -> Vec<(Duration, Fault)> {
        let kinds = [
            (self.link_losses, Kind::LinkLoss),
            (self.blackholes, Kind::Blackhole),
            (self.moves, Kind::Move),
            (self.kills, Kind::Kill),
            (self.restarts, Kind::Restart),
        ];
        let mut plan = Vec::new();
        for (count, kind) in kinds {
            for _ in 0..count {
                let at = span_below(rng, self.window);
                let outage = self.outage(rng);
                plan.push((at, Fault { kind, outage, pick: rng.below(u64::MAX), put_off: 0 }));
            }
        }
        plan.sort_by_key(|(at, fault)| (*at, fault.pick));
        plan
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.link_losses + self.blackholes + self.moves + self.kills + self.restarts
    }

    fn outage(&self, rng: &mut Rng) -> Duration {
        if self.longest_outage <= self.awake {
            return span_below(rng, self.longest_outage);
        }
        let doublings = self.longest_outage.as_secs().ilog2() + 1;
        let from = SHORTEST * 2_u32.saturating_pow(u32::try_from(rng.below(doublings.into())).unwrap_or(0));
        (from + span_below(rng, from)).min(self.longest_outage)
    }

    /// The latency of one link.
    pub fn link_latency(&self, rng: &mut Rng) -> Duration {
        self.latency[0] + span_below(rng, self.latency[1].saturating_sub(self.latency[0]))
    }
}

/// One planned fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// How long, for a move or restart.
    pub outage: Duration,
    /// Chooses among the candidates at that time.
    pub pick: u64,
    /// How often there was no candidate.
    pub put_off: u32,
}

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A link breaks and both ends are told.
    LinkLoss,
    /// A link swallows everything from now on.
    Blackhole,
    /// An end of a transfer loses its network, then has another address.
    Move,
    /// A node in the middle dies.
    Kill,
    /// A node in the middle dies and comes back with what its store kept.
    Restart,
}

fn span_below(rng: &mut Rng, span: Duration) -> Duration {
    Duration::from_micros(rng.below(overlay::time::micros(span)))
}
