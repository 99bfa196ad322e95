//! What a run showed.

use serde::Serialize;

use super::Faults;

/// What a run showed. What it did not measure is none.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// How many nodes.
    pub nodes: usize,
    /// On which graph.
    pub graph: String,
    /// By what the next hop was chosen.
    pub metric: String,
    /// In how many trees.
    pub trees: u8,
    /// The seed.
    pub seed: u64,
    /// How many packets were to be sent.
    pub pairs: usize,
    /// Each signature was checked once for all nodes, instead of once in each.
    pub memo: bool,
    /// What went wrong.
    pub faults: Faults,
    /// Packets that arrived, of those whose ends were connected by live links. One whose target was not found counts as one that did not arrive.
    pub success: Option<f64>,
    /// Links crossed over links of the shortest path.
    pub stretch_mean: Option<f64>,
    /// The same, 95th percentile.
    pub stretch_p95: Option<f64>,
    /// Links crossed.
    pub hops_mean: Option<f64>,
    /// Links of the shortest path.
    pub shortest_mean: Option<f64>,
    /// The share of all forwarding that the busiest node did.
    pub busiest_share: Option<f64>,
    /// How much of all forwarding the busiest nodes did: share of the nodes, share of the forwarding.
    pub load_shares: Option<[(f64, f64); 5]>,
    /// Bytes of protocol state in a node, without the records that it keeps for others.
    pub state_bytes_mean: Option<f64>,
    /// The same, 99th percentile.
    pub state_bytes_p99: Option<f64>,
    /// Bytes of a node's encoded addresses, all trees.
    pub address_bytes_mean: Option<f64>,
    /// How many nodes did harm.
    pub harmful_nodes: Option<usize>,
    /// How many nodes died or moved and links were lost or went down, each time, before the packets were sent.
    pub failures: Option<usize>,
    /// How often a node went or came back under churn.
    pub churn_changes: Option<usize>,
    /// How many look-ups there were.
    pub lookups_asked: Option<usize>,
    /// Of these, those that found the record.
    pub lookup_success: Option<f64>,
    /// Of the look-ups that found a record, those that found an old one.
    pub lookup_stale: Option<f64>,
    /// Links crossed by the walk of a look-up to its binder.
    pub lookup_hops_mean: Option<f64>,
    /// How many look-ups a Kademlia of the same size had, where nothing fails or under churn.
    pub kademlia_lookups_asked: Option<usize>,
    /// Of these, those that found the record.
    pub kademlia_lookup_success: Option<f64>,
    /// Of what it found, what was old.
    pub kademlia_lookup_stale: Option<f64>,
    /// Nodes asked one after the other, in the mean.
    pub kademlia_lookup_hops_mean: Option<f64>,
    /// The share of all walks of look-ups that the busiest node carried.
    pub lookup_busiest_share: Option<f64>,
    /// Look-ups whose binder would have been another one from elsewhere.
    pub lookup_disagreements: Option<usize>,
    /// Records kept by the fullest node over the mean: those of [`keys_per_node`](super::Options::keys_per_node), or else the nodes' own.
    pub dht_max_over_mean: Option<f64>,
    /// Packets that arrived after everything was repaired; the least share where several things were.
    pub success_after_repair: Option<f64>,
    /// Look-ups of these pairs that found the record, of those whose ends were connected.
    pub lookup_success_after_repair: Option<f64>,
    /// Packets that arrived within the parts of a network that had fallen apart. Not all can: nodes cut off with no heir among them have no tree.
    pub success_while_apart: Option<f64>,
    /// Look-ups within the parts that found the record.
    pub lookup_success_while_apart: Option<f64>,
    /// Addresses in the first tree that changed for each node that died, the dead ones apart.
    pub readdressed_per_failure_mean: Option<f64>,
    /// Vertices that two nodes held after the parts of a network had found together.
    pub duplicate_addresses: Option<usize>,
    /// Virtual time from the last join until every node had an address in every tree.
    pub converge_virtual_s: Option<f64>,
    /// Virtual time from then until no node got a new place any more.
    pub settle_virtual_s: Option<f64>,
    /// Frames that a node received when nothing happened.
    pub messages_per_node_per_s: Option<f64>,
    /// The same under churn, with the look-ups, for each node that was there.
    pub churn_messages_per_node_per_s: Option<f64>,
    /// SHA-256 over all frames: when, where, what.
    pub trace_digest: Option<String>,
    /// How long the run took.
    pub wall_s: f64,
    /// The most memory that the process had.
    pub peak_rss_bytes: Option<u64>,
}

impl Outcome {
    /// Whether every node joined every tree, every look-up and packet that was tried arrived, all sources agreed, and nobody shares an address.
    pub fn is_exact(&self) -> bool {
        let all = |share: Option<f64>| share.is_none_or(|share| share >= 1.0);
        let none = |count: Option<usize>| count.is_none_or(|count| count == 0);
        self.is_repaired()
            && [self.success, self.lookup_success].into_iter().all(all)
            && none(self.lookup_disagreements)
    }

    /// The same of what is to be exact whatever broke for a while: every node joined every tree, and after the repair every look-up and packet arrived
    /// and nobody shares an address.
    pub fn is_repaired(&self) -> bool {
        let all = |share: Option<f64>| share.is_none_or(|share| share >= 1.0);
        self.converge_virtual_s.is_some()
            && [self.success_after_repair, self.lookup_success_after_repair].into_iter().all(all)
            && self.duplicate_addresses.is_none_or(|count| count == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_found_or_did_not_arrive_is_not_exact() {
        let fine = Outcome { converge_virtual_s: Some(0.0), success: Some(1.0), ..Outcome::default() };
        assert!(fine.is_exact() && fine.is_repaired());
        let least = Some(0.999);
        for (outcome, is_repaired) in [
            (Outcome { success: least, ..fine.clone() }, true),
            (Outcome { lookup_success: least, ..fine.clone() }, true),
            (Outcome { lookup_disagreements: Some(1), ..fine.clone() }, true),
            (Outcome { success_after_repair: least, ..fine.clone() }, false),
            (Outcome { lookup_success_after_repair: least, ..fine.clone() }, false),
            (Outcome { duplicate_addresses: Some(1), ..fine.clone() }, false),
            (Outcome { converge_virtual_s: None, ..fine.clone() }, false),
        ] {
            assert!(!outcome.is_exact(), "{outcome:?}");
            assert_eq!(outcome.is_repaired(), is_repaired, "{outcome:?}");
        }
    }
}
