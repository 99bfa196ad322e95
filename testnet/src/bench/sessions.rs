//! What many sessions cost one node: setting them up, and holding them while nothing goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use super::helper::Helper;
use super::peers::{PEERS_PROCESS, Word};
use crate::cluster::Cluster;
use crate::memory::resting_pss_bytes;
use crate::network::{Loopback, Network as _};
use crate::progress::Progress;
use crate::topology::{NodeSpec, Topology};
use crate::usage::cpu_s;
use crate::wait::{Result, Trouble, sleep_until};

/// The peers have found their node within this time.
pub const READY_LIMIT: Duration = Duration::from_secs(60);
/// All handshakes end within this time: a limit for what does not end, at less than 30 a second.
pub const HANDSHAKES_LIMIT: Duration = Duration::from_secs(360);
/// The node's limit on sessions is so much above what it gets.
const SPARE_SESSIONS: usize = 16;

/// It alone is measured.
pub const NODE: &str = "node";

/// What was measured.
pub struct Sessions {
    /// How many sessions.
    pub count: usize,
    /// From the first connection to the last session, in seconds.
    pub handshakes_took_s: f64,
    /// CPU time of the node in that time, in seconds.
    pub handshakes_cpu_s: f64,
    /// Handshakes that failed and were begun anew.
    pub failed: u64,
    /// What it held, and what it used, when nothing went on any more.
    pub idle: Option<Idle>,
}

/// A node that has sessions and nothing to do.
pub struct Idle {
    /// Growth of its memory by all sessions, in bytes.
    pub grown_bytes: u64,
    /// CPU time over time.
    pub cpu_share: f64,
}

impl Sessions {
    /// Starts a node and `count` peers, and sets up the sessions; `watch` says for how long to look at the idle node, if at all.
    ///
    /// # Errors
    /// When a process does not start, or there are not as many sessions in the end.
    pub fn measure(count: usize, watch: Option<Duration>, logs: &Path, progress: &Progress) -> Result<Self> {
        let network = Loopback::new(topology(count))?;
        let cluster = Cluster::start(&network, &network.topology(), logs, |_| {})?;
        let node = cluster.node(NODE)?;
        let mut peers = Helper::beside(node, PEERS_PROCESS, &[count.to_string()])?;
        peers.wait("the peers to find their node", READY_LIMIT, |word| (word == Word::Ready).then_some(()))?;

        let before_bytes = watch.map(|_| resting_pss_bytes(node.pid())).transpose()?;
        let cpu_before_s = cpu_s(node.pid())?;
        peers.go()?;
        progress.doing(&format!("{count} handshakes"));
        let (handshakes_took_s, failed) = peers.wait("the handshakes", HANDSHAKES_LIMIT, |word| match word {
            Word::Established { took_s, failed, .. } => Some((took_s, failed)),
            Word::Ready => None,
        })?;
        let handshakes_cpu_s = cpu_s(node.pid())? - cpu_before_s;

        let idle = watch.zip(before_bytes).map(|(watch, before_bytes)| {
            progress.doing("waiting until the node is at rest");
            let grown_bytes = resting_pss_bytes(node.pid())?.saturating_sub(before_bytes);
            progress.doing("looking at the idle node");
            Ok::<_, Trouble>(Idle { grown_bytes, cpu_share: cpu_share(node.pid(), watch)? })
        });
        let idle = idle.transpose()?;
        let sessions = node.status()?.sessions;
        if sessions != count {
            return Err(Trouble::new(format!("the node has {sessions} sessions, not {count}")).see(&node.log));
        }
        Ok(Self { count, handshakes_took_s, handshakes_cpu_s, failed, idle })
    }

    /// Sessions set up in a second.
    pub fn handshakes_per_s(&self) -> f64 {
        self.count as f64 / self.handshakes_took_s
    }

    /// CPU time of the node for one handshake, in microseconds.
    pub fn handshake_cpu_us(&self) -> f64 {
        self.handshakes_cpu_s * 1e6 / self.count as f64
    }

    /// Growth of the node's memory by one idle session, in bytes.
    pub fn bytes_per_session(&self) -> Option<f64> {
        self.idle.as_ref().map(|idle| idle.grown_bytes as f64 / self.count as f64)
    }
}

/// The part of one core that a process uses while nothing happens.
fn cpu_share(pid: u32, watch: Duration) -> Result<f64> {
    let (start, before_s) = (Instant::now(), cpu_s(pid)?);
    sleep_until(start + watch)?;
    Ok((cpu_s(pid)? - before_s) / start.elapsed().as_secs_f64())
}

/// One node that takes so many sessions.
pub fn topology(sessions: usize) -> Topology {
    let config = format!("[limits]\nsessions = {}\n", sessions + SPARE_SESSIONS);
    let node = NodeSpec { config, ..NodeSpec::on_loopback(NODE, "127.0.0.1", &[], &[]) };
    Topology { nodes: vec![node], hops_required: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_per_session() {
        let measured = Sessions {
            count: 1000,
            handshakes_took_s: 4.0,
            handshakes_cpu_s: 0.5,
            failed: 0,
            idle: Some(Idle { grown_bytes: 4_096_000, cpu_share: 0.0 }),
        };
        assert_eq!((measured.handshakes_per_s(), measured.handshake_cpu_us()), (250.0, 500.0));
        assert_eq!(measured.bytes_per_session(), Some(4096.0));
        assert_eq!(Sessions { idle: None, ..measured }.bytes_per_session(), None);
    }

    #[test]
    fn a_process_that_sleeps_uses_no_core() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let share = cpu_share(child.id(), Duration::from_millis(50));
        child.kill().and_then(|()| child.wait()).unwrap();
        assert!(share.unwrap().abs() < 1e-9);
    }
}
