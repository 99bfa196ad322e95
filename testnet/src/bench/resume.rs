//! How soon data flows again after an outage: many movers in one overlay, each with a download of its own, cut one after the other.
//!
//! ```text
//!               before-1 .... mover-1, mover-3 ...     at 127.0.3.K
//!               before-2 .... mover-2, mover-4 ...
//!   server ----
//!               after-1 ..... mover-1, mover-3 ...     at 127.0.4.K
//!               after-2 ..... mover-2, mover-4 ...
//! ```
//!
//! A relay takes a mover only when he comes from the address that belongs there, so that each cut ends at another address with another
//! neighbour. The next round goes the other way.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::network::{Loopback, Network as _};
use crate::progress::Progress;
use crate::sink::Sink;
use crate::source::{Content, Source};
use crate::topology::{NodeSpec, Topology};
use crate::wait::{Result, Trouble, io, sleep_until, until};

/// From one mover's cut to the next one's.
const BETWEEN_CUTS: Duration = Duration::from_secs(2);
/// Each download's pace: a block of the source every 62 ms, so that there is always one on its way or waiting.
const BYTES_PER_S: f64 = 256.0 * 1024.0;
/// A download lasts so much longer than the cuts: the last mover has data left when he is back.
const MARGIN: Duration = Duration::from_secs(2);
/// All names have to resolve from everywhere within this time after the last join.
const NAMES_LIMIT: Duration = Duration::from_secs(60);
/// A download has its first bytes within this time, and its end within this time after it is due.
const PATIENCE: Duration = Duration::from_secs(60);
/// A mover that has no new byte this long after his network is back has not resumed.
const RESUME_LIMIT: Duration = Duration::from_secs(60);
/// No byte may arrive in this part of an outage, its last one; what was under way at the cut is there before.
const QUIET_PART: f64 = 0.5;

const SERVER: &str = "server";
/// Relays on either side of a move.
const RELAYS: usize = 2;

/// The movers and their overlay.
pub struct Movers {
    names: Vec<String>,
    /// Rounds so far; after an odd number of them the movers are at their second addresses.
    rounds: u64,
    // Dropped last: the applications end before the nodes.
    cluster: Cluster,
}

/// What one round brought.
pub struct Round {
    /// From the network being back to the first new byte at the mover's application, in seconds.
    pub resume_s: Vec<f64>,
    /// Public-key operations of the session layer in all nodes, from before the first cut to after the last resume.
    pub public_key_ops: u64,
}

impl Movers {
    /// Starts the overlay; logs go to `logs`.
    ///
    /// # Errors
    /// When a node does not start, or the nodes do not find each other.
    pub fn start(count: usize, logs: &Path) -> Result<Self> {
        let network = Loopback::new(topology(count))?;
        let mut cluster = Cluster::start(&network, &network.topology(), logs, |_| {})?;
        cluster.wait_names(NAMES_LIMIT)?;
        Ok(Self { names: (0..count).map(mover).collect(), rounds: 0, cluster })
    }

    /// Cuts each mover for this long and lets him come back elsewhere.
    ///
    /// # Errors
    /// When a download is not exact, or does not go on.
    pub fn round(&mut self, outage: Duration, progress: &Progress) -> Result<Round> {
        self.rounds += 1;
        let cuts = BETWEEN_CUTS * u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let content = Content { seed: self.rounds, bytes: bytes_in(cuts + MARGIN) };
        let source = Source::start(TcpListener::bind("127.0.0.1:0").map_err(io("source"))?, content, BYTES_PER_S)?;
        let sinks = self.downloads(source.address())?;
        until("every mover's first bytes", PATIENCE, || Ok(sinks.iter().all(|sink| sink.bytes() > 0).then_some(())))?;

        let ops_before = self.public_key_ops()?;
        let backs = self.cut_all(outage, &sinks, progress)?;
        let mut resume_s = Vec::new();
        for ((name, sink), back) in self.names.iter().zip(&sinks).zip(&backs) {
            let first = until(&format!("{name} to go on"), RESUME_LIMIT, || {
                let first = sink.first_beyond(back.held_bytes);
                // Who was back long ago may have all of it by now.
                if first.is_none() {
                    sink.must_run()?;
                }
                Ok(first)
            })?;
            resume_s.push(first.saturating_duration_since(back.at).as_secs_f64());
        }
        let public_key_ops = self.public_key_ops()?.saturating_sub(ops_before);

        progress.doing("waiting for the ends of the downloads");
        let digest = content.digest();
        for (name, sink) in self.names.iter().zip(&sinks) {
            let end = until(&format!("the end of {name}'s download"), cuts + PATIENCE, || Ok(sink.end()))?;
            if end.as_ref() != Ok(&digest) {
                return Err(Trouble::new(format!("{name}'s download is not exact: {:?}", end.err())));
            }
        }
        if source.accepts() != sinks.len() as u64 {
            return Err(Trouble::new(format!("{} connections for {} downloads", source.accepts(), sinks.len())));
        }
        Ok(Round { resume_s, public_key_ops })
    }

    /// A download at each mover, of what `source` serves.
    fn downloads(&self, source: SocketAddr) -> Result<Vec<Sink>> {
        // A name of its own for each round: what is left of an earlier one is not in the way.
        let service = format!("file-{}", self.rounds);
        let expose = json!({"verb": "expose", "service": service, "forward": source.to_string(), "allow": ["anyone"]});
        self.cluster.node(SERVER)?.ask::<Value>(expose)?;
        let download = |name: &String| {
            let node = self.cluster.node(name)?;
            let connect = json!({"verb": "connect", "target": format!("{SERVER}/{service}"), "listen": "127.0.0.1:0"});
            let data: Value = node.ask(connect)?;
            let address = data.get("listen").and_then(Value::as_str).and_then(|text| text.parse().ok());
            Sink::start(address.ok_or_else(|| Trouble::new(format!("connect: no address in {data}")).see(&node.log))?)
        };
        self.names.iter().map(download).collect()
    }

    /// Carries out all cuts and returns; when and with how many bytes each mover was back.
    fn cut_all(&mut self, outage: Duration, sinks: &[Sink], progress: &Progress) -> Result<Vec<Back>> {
        let start = Instant::now();
        let mut backs = vec![None; sinks.len()];
        for (at, index, step) in schedule(sinks.len(), outage) {
            sleep_until(start + at)?;
            self.cluster.must_run()?;
            let (Some(name), Some(sink)) = (self.names.get(index), sinks.get(index)) else { continue };
            sink.must_run()?;
            let node = self.cluster.node(name)?;
            progress.doing(&format!("outages of {} s: {step:?} {name}", outage.as_secs_f64()));
            match step {
                Step::Cut => node.ask::<Value>(json!({"verb": "network-down"})).map(drop)?,
                Step::Back => {
                    let held_bytes = sink.bytes();
                    let quiet = sink.latest().map(|latest| latest.elapsed()).unwrap_or_default();
                    if quiet < outage.mul_f64(QUIET_PART) {
                        let why = format!("{name} received bytes {:.3} s ago, without a network", quiet.as_secs_f64());
                        return Err(Trouble::new(why).see(&node.log));
                    }
                    let at = Instant::now();
                    node.ask::<Value>(json!({"verb": "network-up", "bind": address(index, self.rounds % 2 == 1)}))?;
                    if let Some(back) = backs.get_mut(index) {
                        *back = Some(Back { at, held_bytes });
                    }
                }
            }
        }
        backs.into_iter().collect::<Option<_>>().ok_or_else(|| Trouble::new("a mover was not brought back"))
    }

    fn public_key_ops(&self) -> Result<u64> {
        self.cluster.nodes().iter().map(|node| Ok(node.status()?.counters.public_key_ops)).sum()
    }
}

/// When a mover's network was back, and what his application held then.
#[derive(Clone, Copy, Debug)]
struct Back {
    at: Instant,
    held_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Cut,
    Back,
}

/// What happens when to which mover, in order.
fn schedule(movers: usize, outage: Duration) -> Vec<(Duration, usize, Step)> {
    let cuts = (0..movers).map(|index| (BETWEEN_CUTS * u32::try_from(index).unwrap_or(u32::MAX), index));
    let mut steps: Vec<_> =
        cuts.flat_map(|(at, index)| [(at, index, Step::Cut), (at + outage, index, Step::Back)]).collect();
    steps.sort_unstable();
    steps
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few minutes of a small rate")]
fn bytes_in(span: Duration) -> u64 {
    (span.as_secs_f64() * BYTES_PER_S) as u64
}

fn mover(index: usize) -> String {
    format!("mover-{}", index + 1)
}

/// Where a mover is.
fn address(index: usize, second: bool) -> IpAddr {
    let host = u8::try_from(index + 1).unwrap_or(u8::MAX);
    Ipv4Addr::new(127, 0, if second { 4 } else { 3 }, host).into()
}

fn topology(movers: usize) -> Topology {
    let relay = |side: &str, number: usize| format!("{side}-{}", number + 1);
    let relays: Vec<(String, bool, usize)> = [("before", false), ("after", true)]
        .into_iter()
        .flat_map(|(side, second)| (0..RELAYS).map(move |number| (relay(side, number), second, number)))
        .collect();
    let names: Vec<&str> = relays.iter().map(|(name, ..)| name.as_str()).collect();
    let mut nodes = vec![NodeSpec::on_loopback(SERVER, "127.0.0.10", &[], &names)];
    for (name, second, number) in &relays {
        let theirs = (0..movers).filter(|index| index % RELAYS == *number);
        let prefixes: Vec<String> = theirs.map(|index| format!("/ip4/{}", address(index, *second))).collect();
        let only: Vec<&str> = [SERVER].into_iter().chain(prefixes.iter().map(String::as_str)).collect();
        nodes.push(NodeSpec::on_loopback(name, "127.0.0.10", &[SERVER], &only));
    }
    for index in 0..movers {
        let sides = [relay("before", index % RELAYS), relay("after", index % RELAYS)];
        let sides: Vec<&str> = sides.iter().map(String::as_str).collect();
        nodes.push(NodeSpec::on_loopback(&mover(index), &address(index, false).to_string(), &sides, &sides));
    }
    Topology { nodes, hops_required: 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Friend;

    #[test]
    fn every_mover_is_cut_and_brought_back_in_time() {
        let seconds = Duration::from_secs;
        let steps = schedule(3, seconds(3));
        let cut_at = |index: usize| steps.iter().find(|step| step.1 == index && step.2 == Step::Cut).unwrap().0;
        let back_at = |index: usize| steps.iter().find(|step| step.1 == index && step.2 == Step::Back).unwrap().0;
        for index in 0..3 {
            assert_eq!(back_at(index) - cut_at(index), seconds(3));
        }
        assert_eq!((cut_at(1) - cut_at(0), steps.len()), (BETWEEN_CUTS, 6));
        assert!(steps.is_sorted());
    }

    #[test]
    fn a_mover_has_one_relay_on_either_side_and_not_the_same_address_at_both() {
        let topology = topology(5);
        assert_eq!(topology.nodes.len(), 1 + 2 * RELAYS + 5);
        for index in 0..5 {
            let takes = |second: bool| -> Vec<&str> {
                let prefix = Friend::Address(format!("/ip4/{}", address(index, second)));
                let takers = topology.nodes.iter().filter(|node| node.only.contains(&prefix));
                takers.map(|node| node.name.as_str()).collect()
            };
            let (before, after) = (takes(false), takes(true));
            assert_eq!((before.len(), after.len()), (1, 1));
            let spec = topology.node(&mover(index)).unwrap();
            for relay in before.into_iter().chain(after) {
                assert!(spec.only.contains(&Friend::Node(relay.into())), "{relay}");
            }
        }
    }
}
