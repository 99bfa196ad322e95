//! How long small things take over one link between two nodes, beside the chain of plain relays.

use std::time::{Duration, Instant};

use super::Size;
use super::pair::Pair;
use super::route::Routes;
use super::service::Echo;
use crate::progress::Progress;
use crate::report::median;
use crate::wait::{Result, Trouble};

/// A keystroke's packet and a little more, in bytes.
const MESSAGE_BYTES: usize = 64;
/// Round trips before those that count, in each turn: caches and timers find their pace.
const WARM_ROUNDS: usize = 100;

/// Round trips on one open connection each way: each pair is of two medians, taken one after the other.
///
/// # Errors
/// When what comes back is not what was sent.
pub fn round_trips(routes: &Routes, size: &Size, progress: &Progress) -> Result<Vec<Pair>> {
    let mut baseline = Echo::open(routes.baseline.address())?;
    let mut ours = Echo::open(routes.ours)?;
    let turn = |turn| {
        progress.doing(&format!("round trips, turn {turn} of {}", size.turns));
        Ok(Pair::new(median_round(&mut baseline, size.rounds)?, median_round(&mut ours, size.rounds)?))
    };
    (1..=size.turns).map(turn).collect()
}

fn median_round(echo: &mut Echo, rounds: usize) -> Result<Duration> {
    let mut took_s = Vec::with_capacity(rounds);
    for round in 0..WARM_ROUNDS + rounds {
        // Every message is another one, so that an answer which belongs to an earlier one is noticed.
        let mut message = [0x55; MESSAGE_BYTES];
        message[..8].copy_from_slice(&(round as u64).to_le_bytes());
        let start = Instant::now();
        echo.round(&message)?;
        if round >= WARM_ROUNDS {
            took_s.push(start.elapsed().as_secs_f64());
        }
    }
    median(took_s).map(Duration::from_secs_f64).ok_or_else(|| Trouble::new("no round trip"))
}

/// New connections each way in turns, from the connect to the first byte that has come back.
///
/// # Errors
/// When one does not come back.
pub fn opens(routes: &Routes, size: &Size, progress: &Progress) -> Result<Vec<Pair>> {
    let timed = |address| {
        let start = Instant::now();
        let echo = Echo::open(address)?;
        let took = start.elapsed();
        drop(echo);
        Ok::<_, Trouble>(took)
    };
    let turn = |turn| {
        progress.doing(&format!("new connections, {turn} of {}", size.opens));
        Ok(Pair::new(timed(routes.baseline.address())?, timed(routes.ours)?))
    };
    (1..=size.opens).map(turn).collect()
}
