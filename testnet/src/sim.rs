//! The deterministic simulator: the production `node::stack` under virtual time.
//!
//! It replaces exactly the driver: links are pipes with latency and rate, the store is a map that forgets unfinished
//! writes in a crash, and time jumps from one happening to the next. The same seed gives the same trace, byte for byte;
//! its SHA-256 is the trace digest. No node reads global state; only the checker ([`app`]) and the faults do.

pub mod app;
pub mod command;
pub mod fault;
pub mod pipe;
pub mod store;
mod sum;
pub mod trial;
pub mod world;

use std::time::Duration;

use node::stack::Direct;
use serde::Serialize;

pub use fault::Faults;
use world::World;

/// What one run does.
#[derive(Clone, Debug)]
pub struct Options {
    /// The only source of randomness.
    pub seed: u64,
    /// Nodes in the overlay, at least 3.
    pub nodes: usize,
    /// Transfers between random pairs of nodes, each in both directions at once.
    pub transfers: usize,
    /// Bytes in each direction of each transfer.
    pub bytes: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// Virtual time after which a transfer that is not complete counts as lost.
    pub limit: Duration,
    /// Nodes of one run share what they found out about signatures. The trace is the same without it.
    pub memo: bool,
}

impl Options {
    /// With even seeds peers of sessions seek direct links, with odd ones everything crosses relays.
    fn direct(&self) -> Direct {
        if self.seed.is_multiple_of(2) { Direct::Auto } else { Direct::Never }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 8,
            transfers: 2,
            bytes: 2 * 1024 * 1024,
            faults: Faults::default(),
            limit: Duration::from_secs(900),
            memo: true,
        }
    }
}

/// What a run showed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Nodes at the start.
    pub nodes: usize,
    /// Nodes that had a place before the first fault.
    pub joined: usize,
    /// Transfers asked for.
    pub transfers: usize,
    /// Transfers of which every byte arrived once and in order, in both directions.
    pub exact: usize,
    /// Application bytes that arrived as they should.
    pub bytes: u64,
    /// Bytes that were not the expected ones at their offset: lost, duplicated or reordered.
    pub wrong_bytes: u64,
    /// Bytes that had not arrived at the end of the run.
    pub lost_bytes: u64,
    /// Faults that were injected.
    pub faults: usize,
    /// The longest outage among them, in virtual seconds.
    pub longest_outage_s: f64,
    /// Transfers at whose end the two nodes were neighbours.
    pub over_one_link: usize,
    /// Sessions that were resumed.
    pub resumes: u64,
    /// Operations with public keys in sessions, after all handshakes were done. A run of more than a day has some: certificates are renewed and
    /// resume secrets refreshed.
    pub public_key_ops_after_handshakes: u64,
    /// Those of movers between the return of their network and the first resume after it.
    pub public_key_ops_in_resumes: u64,
    /// Virtual seconds until all was done.
    pub virtual_s: f64,
    /// SHA-256 over every frame delivered, its time and its link.
    pub trace_digest: String,
    /// What the run waited for in vain; empty when all was exact.
    pub failures: Vec<String>,
}

/// Runs one simulation to its end.
pub fn run(options: &Options) -> Outcome {
    let mut world = World::new(options);
    world.run();
    world.outcome()
}
