//! How long an application waits when one thing goes wrong: the same world as a whole simulation's, with one fault at a known time.
//!
//! One connection between two nodes carries as much as its links let through in both directions; what is measured is virtual time.

use std::time::Duration;

use super::world::World;
use super::{Faults, Options};

/// Nodes of each world.
const NODES: usize = 12;
/// Where both ends are neighbours; a world has no fewer.
const NEIGHBOURS: usize = 3;
/// More than the links carry in the time of a trial, so that there always is something to send.
const BYTES: u64 = 24 << 20;
/// Slow, so that a trial is cheap: the waits that are measured are round trips and timers.
const RATE_BYTES_PER_S: u64 = 200_000;
/// From the first byte to the fault: rates and round trips are known by then.
const WARM_UP: Duration = Duration::from_secs(5);
/// A trial that has not ended by then has failed.
const LIMIT: Duration = Duration::from_secs(120);

/// One end's network is gone for so long in [`Trial::Move`].
pub const OUTAGE: Duration = Duration::from_secs(15);
/// One way over each link there: a round trip of 40 ms.
pub const WIRE: Duration = Duration::from_millis(20);
/// Fast, so that what is waited for is round trips; the last bytes still come after the outage.
const WIRE_BYTES_PER_S: u64 = 2_000_000;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// One end loses its network for [`OUTAGE`] and comes back elsewhere. Both are neighbours, over a link of [`WIRE`]; counted from when the network is
    /// back. For even seeds only: with odd ones peers do not seek to be neighbours.
    Move,
    /// Both ends lose their networks, each for its own time, and come back elsewhere. Counted from when the second is back.
    BothMove,
    /// Every link of one end falls silent, and neither side is told: a NAT forgot them. New ones can be had.
    Rebind,
    /// One end copies its links, as to another interface; a second later the old ones are gone, and nobody is told. Counted is the longest time
    /// without a new byte at either end.
    Copy,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waited {
    /// From the fault, or from the second network's return, to the first new byte at either end.
    pub first: Duration,
    /// The same, to when both ends had new bytes.
    pub both: Duration,
    /// A round trip of the connection before, as its sender has measured it.
    pub rtt: Duration,
}

/// One trial.
///
/// # Errors
/// One line when the connection did not come about, or nothing arrived any more.
pub fn run(trial: Trial, seed: u64) -> Result<Waited, String> {
    let (nodes, faults) = match trial {
        Trial::Move => {
            let faults = Faults { latency: [WIRE; 2], rate_bytes_per_s: WIRE_BYTES_PER_S, ..Faults::none() };
            (NEIGHBOURS, faults)
        }
        _ => (NODES, Faults { rate_bytes_per_s: RATE_BYTES_PER_S, ..Faults::none() }),
    };
    let mut world = World::new(&Options { seed, nodes, transfers: 1, bytes: BYTES, faults, limit: LIMIT, memo: true });
    world.connect_ends(LIMIT, WARM_UP)?;
    world.attempt(trial, LIMIT)
}
