//! What one run does.

use std::str::FromStr;
use std::time::Duration;

use overlay::config::Config;
use serde::{Deserialize, Serialize};

use super::graph::{Kind, ParseKindError};
use super::world::Latency;

/// What one run does; as a TOML file, everything may be left out.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The family of graphs: see [`Kind`].
    pub graph: String,
    /// How many nodes.
    pub nodes: usize,
    /// The only source of randomness.
    pub seed: u64,
    /// Pairs of nodes that look each other up and send a packet.
    pub pairs: usize,
    /// Look-ups beside those of the pairs.
    pub lookups: usize,
    /// Keys for each node whose binders are looked for, to see how evenly they are spread; at most [`MAX_KEYS`] in all.
    pub keys_per_node: usize,
    /// Children per vertex plus one.
    pub q: u16,
    /// Trees.
    pub trees: u8,
    /// By what the next hop is chosen.
    pub metric: Metric,
    /// Check each signature once for all nodes, instead of once in each.
    pub memo: bool,
    /// Threads that share the work; the result does not depend on it. 0: one for each core.
    pub threads: usize,
    /// What goes wrong.
    pub faults: Faults,
}

/// Most keys whose binders are looked for.
pub const MAX_KEYS: usize = 1_000_000;

impl Default for Options {
    fn default() -> Self {
        let config = Config::default();
        Self {
            graph: "ov:3".to_owned(),
            nodes: 1000,
            seed: 1,
            pairs: 20_000,
            lookups: 0,
            keys_per_node: 0,
            q: config.q,
            trees: config.trees,
            metric: Metric::Hyperbolic,
            memo: true,
            threads: 0,
            faults: Faults::default(),
        }
    }
}

impl Options {
    /// Whether something goes wrong that may cost packets or look-ups.
    pub fn is_faulty(&self) -> bool {
        let faults = &self.faults;
        let events = [faults.dead, faults.lost_links, faults.moves, faults.flapping, faults.churn_median_s];
        self.is_harmful() || events.into_iter().any(|fault| fault > 0.0)
    }

    /// Whether some nodes do harm, which nothing repairs.
    pub fn is_harmful(&self) -> bool {
        let faults = &self.faults;
        let conduct = [faults.blackholes, faults.silent_binders, faults.lying_binders, faults.malicious_parents];
        conduct.into_iter().any(|fault| fault > 0.0)
    }

    /// How many keys' binders are looked for.
    pub fn keys(&self) -> usize {
        self.keys_per_node.saturating_mul(self.nodes).min(MAX_KEYS)
    }

    /// The family of graphs.
    ///
    /// # Errors
    /// [`ParseKindError`] when there is none of that name.
    pub fn kind(&self) -> Result<Kind, ParseKindError> {
        Kind::from_str(&self.graph)
    }
}

/// What goes wrong in a run. What does not is left out where it is printed.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The share of nodes that die at once before the packets are sent. They are sent before anything is repaired, and again afterwards.
    #[serde(skip_serializing_if = "is_none")]
    pub dead: f64,
    /// The share of nodes that pass nothing on for others, and look well otherwise.
    #[serde(skip_serializing_if = "is_none")]
    pub blackholes: f64,
    /// The share of nodes that do not answer for the records that they keep.
    #[serde(skip_serializing_if = "is_none")]
    pub silent_binders: f64,
    /// The share of nodes that throw away the records that they say to keep, and know nothing when asked.
    #[serde(skip_serializing_if = "is_none")]
    pub lying_binders: f64,
    /// The share of nodes that say that everybody is below them, and pass nothing on.
    #[serde(skip_serializing_if = "is_none")]
    pub malicious_parents: f64,
    /// The share of links that are lost at once before the packets are sent, while the nodes live.
    #[serde(skip_serializing_if = "is_none")]
    pub lost_links: f64,
    /// The share of nodes that move before the packets are sent: they lose all links, and have other neighbours a while later.
    #[serde(skip_serializing_if = "is_none")]
    pub moves: f64,
    /// The share of links that come and go for some minutes before the packets are sent.
    #[serde(skip_serializing_if = "is_none")]
    pub flapping: f64,
    /// Mean latency of links in milliseconds, beside the one that all have.
    #[serde(skip_serializing_if = "is_none")]
    pub latency_ms: f64,
    /// Median lifetime of a node, in seconds; 0 for no churn.
    #[serde(skip_serializing_if = "is_none")]
    pub churn_median_s: f64,
    /// How long churn lasts, in seconds.
    #[serde(skip_serializing_if = "is_none")]
    pub churn_duration_s: f64,
    /// The network falls into two parts for a while.
    #[serde(skip_serializing_if = "is_none")]
    pub split_merge: bool,
}

/// Whether a fault is none.
fn is_none<T: Default + PartialEq>(fault: &T) -> bool {
    *fault == T::default()
}

impl Faults {
    /// What links take.
    pub fn latency(&self) -> Latency {
        Latency::with_mean(Duration::try_from_secs_f64(self.latency_ms / 1000.0).unwrap_or_default())
    }

    /// How long churn lasts.
    pub fn churn_duration(&self) -> Duration {
        Duration::try_from_secs_f64(self.churn_duration_s).unwrap_or_default()
    }
}

/// By what the next hop is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// The overlay itself: hyperbolic distance.
    #[default]
    Hyperbolic,
    /// A baseline: the same addresses, hints and neighbours, but distance along the trees.
    Tree,
    /// A baseline: CLOAK as published, with one tree joined at random, q = 4, nothing known but the neighbours' addresses, and a DHT that maps keys to angles.
    Cloak,
}
