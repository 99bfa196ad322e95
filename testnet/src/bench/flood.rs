//! What a flood of Hellos from spoofed ids does to those who want a session in earnest.
//!
//! One neighbour of a node sets up sessions, one after the other, while all is quiet and while another neighbour floods the node, in turns. All
//! three are processes with real links.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::helper::Helper;
use super::peers::flood::{self, FLOOD_PROCESS};
use super::peers::{PEERS_PROCESS, Word};
use super::sessions::{HANDSHAKES_LIMIT, NODE, READY_LIMIT, topology};
use super::spread::Spread;
use crate::cluster::Cluster;
use crate::network::{Loopback, Network as _};
use crate::progress::Progress;
use crate::wait::{Result, Trouble, sleep_until};

/// A flood has come to its height after this, and what it leaves behind is gone after it.
const AROUND: Duration = Duration::from_secs(1);
/// It ends within this time after it is told to.
const END_LIMIT: Duration = Duration::from_secs(30);

/// What was measured. The names are the keys of the JSON object.
#[derive(Clone, Debug, Serialize)]
pub struct Flood {
    /// From opening a connection to the node's answer inside the new session while all is quiet, in seconds.
    pub quiet_s: Spread,
    /// The same in a flood.
    pub flooded_s: Spread,
    /// The 99th percentile in a flood over that while all is quiet.
    pub p99_ratio: f64,
    /// Forged Hellos in a second, as many as the machine and the link let through of 100,000.
    pub hellos_per_s: f64,
    /// All of them.
    pub hellos: u64,
    /// Those that the node answered with a cookie. The others it did not answer.
    pub cookies: u64,
    /// Sessions that the node had beside those of the honest peers.
    pub sessions_of_flood: usize,
    /// Honest handshakes that failed and were begun anew.
    pub failed: u64,
}

/// Sets up `per_turn` sessions while it is quiet and as many in a flood, `turns` times.
///
/// # Errors
/// When a process does not start, or a handshake does not end.
pub fn measure(turns: usize, per_turn: usize, logs: &Path, progress: &Progress) -> Result<Flood> {
    let honest = turns * per_turn * 2;
    let network = Loopback::new(topology(honest))?;
    let cluster = Cluster::start(&network, &network.topology(), logs, |_| {})?;
    let node = cluster.node(NODE)?;
    let mut peers = Helper::beside(node, PEERS_PROCESS, &[honest.to_string(), "--batch".into(), per_turn.to_string()])?;
    let mut flood = Helper::<flood::Word>::beside(node, FLOOD_PROCESS, &[""; 0])?;
    peers.wait("the peers to find their node", READY_LIMIT, |word| (word == Word::Ready).then_some(()))?;
    flood.wait("the flood to find its node", READY_LIMIT, |word| (word == flood::Word::Ready).then_some(()))?;

    let (mut quiet_s, mut flooded_s) = (Vec::new(), Vec::new());
    let (mut hellos, mut cookies, mut lasted_s, mut failed) = (0, 0, 0.0, 0);
    for turn in 1..=turns {
        progress.doing(&format!("{per_turn} handshakes while all is quiet, turn {turn} of {turns}"));
        sleep_until(Instant::now() + AROUND)?;
        failed += handshakes(&mut peers, &mut quiet_s)?;
        progress.doing(&format!("{per_turn} handshakes in a flood of Hellos, turn {turn} of {turns}"));
        flood.go()?;
        sleep_until(Instant::now() + AROUND)?;
        failed += handshakes(&mut peers, &mut flooded_s)?;
        flood.go()?;
        let (more, answered, took_s) = flood.wait("the flood to end", END_LIMIT, |word| match word {
            flood::Word::Flooded { hellos, cookies, took_s } => Some((hellos, cookies, took_s)),
            flood::Word::Ready => None,
        })?;
        (hellos, cookies, lasted_s) = (hellos + more, cookies + answered, lasted_s + took_s);
    }
    let sessions_of_flood = node.status()?.sessions.saturating_sub(honest);
    let none = || Trouble::new("there was no handshake");
    let (quiet_s, flooded_s) = (Spread::of(&quiet_s).ok_or_else(none)?, Spread::of(&flooded_s).ok_or_else(none)?);
    let high = |spread: &Spread| spread.p99.unwrap_or(spread.max);
    let p99_ratio = high(&flooded_s) / high(&quiet_s);
    let hellos_per_s = hellos as f64 / lasted_s;
    Ok(Flood { quiet_s, flooded_s, p99_ratio, hellos_per_s, hellos, cookies, sessions_of_flood, failed })
}

/// The next batch of honest handshakes; how many had to be begun anew.
fn handshakes(peers: &mut Helper<Word>, times_s: &mut Vec<f64>) -> Result<u64> {
    peers.go()?;
    peers
        .wait("the handshakes", HANDSHAKES_LIMIT, |word| match word {
            Word::Established { each_s, failed, .. } => Some((each_s, failed)),
            Word::Ready => None,
        })
        .map(|(each_s, failed)| {
            times_s.extend(each_s);
            failed
        })
}

impl Flood {
    /// What is not exact about it, in words.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if self.sessions_of_flood != 0 {
            failures.push(format!("flood: {} sessions with nobody", self.sessions_of_flood));
        }
        if self.failed != 0 {
            failures.push(format!("flood: {} honest handshakes failed", self.failed));
        }
        if self.cookies == 0 {
            failures.push("flood: the node answered none of its Hellos with a cookie".into());
        }
        failures
    }

    /// For people who watch.
    pub fn line(&self) -> String {
        let ms = |spread: &Spread| (spread.p50 * 1e3, spread.p99.unwrap_or(spread.max) * 1e3);
        let ((quiet_50, quiet_99), (flooded_50, flooded_99)) = (ms(&self.quiet_s), ms(&self.flooded_s));
        format!(
            "handshake {quiet_50:.1} ms (p99 {quiet_99:.1}), in a flood of {:.0} Hellos a second {flooded_50:.1} ms (p99 {flooded_99:.1})",
            self.hellos_per_s
        )
    }
}
