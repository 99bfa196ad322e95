//! What many open connections in one session cost the two nodes while nothing goes on.

use std::path::Path;

use super::route::{RECEIVER, Routes, SENDER};
use super::service::Echo;
use crate::memory::{pss_bytes, resting_pss_bytes};
use crate::progress::Progress;
use crate::wait::Result;

/// The nodes' limit on connections in one session is so much above what it gets.
const SPARE_STREAMS: usize = 16;

/// Opens `count` connections over one hop and says by how much the memory of the node that grows most grew for each, in bytes.
///
/// # Errors
/// When a connection does not open, or does not work any more in the end.
pub fn bytes_per_idle_stream(count: usize, logs: &Path, progress: &Progress) -> Result<f64> {
    let config = format!("[limits]\nstreams_per_session = {}\n", count + SPARE_STREAMS);
    let routes = Routes::start(1, &config, logs)?;
    let pids = [routes.pid(SENDER)?, routes.pid(RECEIVER)?];
    // The session is there before.
    let first = Echo::open(routes.ours)?;
    let before = at_rest(pids)?;
    let mut echoes = vec![first];
    for number in 0..count {
        progress.doing(&format!("{number} of {count} connections in one session"));
        echoes.push(Echo::open(routes.ours)?);
    }
    let after = at_rest(pids)?;
    progress.doing("a round trip on each connection");
    for (number, echo) in echoes.iter_mut().enumerate() {
        echo.round(&number.to_le_bytes())?;
    }
    let grown = after.into_iter().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok(grown.max().unwrap_or_default() as f64 / count as f64)
}

fn at_rest([one, other]: [u32; 2]) -> Result<[u64; 2]> {
    // When one end is at rest, so is the other.
    Ok([resting_pss_bytes(one)?, pss_bytes(other)?])
}
