//! What a soak showed, and what of it is judged.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::judged::{Judged, Verdict};

/// A node's memory at rest may be larger by this part of what it was after the warm-up, ..
const MAX_GROWTH: f64 = 0.25;
/// .. and by so many bytes: an allocator keeps what it once needed.
const MAX_GROWTH_BYTES: f64 = 4.0 * 1024.0 * 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

/// The fields are the keys of the JSON object.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// `ok`, `failures`, `missed`.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long all of it took, in seconds.
    pub took_s: f64,
    /// Nodes that moved.
    pub movers: usize,
    /// How often all of them did.
    pub rounds: u64,
    /// How often one of them did.
    pub moves: u64,
    /// Bytes that applications heard and that were right, both ways.
    pub bytes_exact: u64,
    /// Bytes that were others than those that belong there.
    pub wrong_bytes: u64,
    /// Bytes that were said and never heard.
    pub lost_bytes: u64,
    /// Ends of connections that saw a reset or the other end's close.
    pub app_resets: usize,
    /// Sessions that the movers resumed.
    pub resumes: u64,
    /// Public-key operations of the session layer in all nodes from the first cut to the end.
    pub public_key_ops_in_resumes: u64,
    /// Open descriptors of all nodes at rest, after the first two rounds; null when it did not come to that.
    pub descriptors_after_warm_up: Option<usize>,
    /// The same at the end.
    pub descriptors_at_end: Option<usize>,
    /// Pss of all nodes at rest, after the first two rounds, in bytes.
    pub pss_bytes_after_warm_up: Option<u64>,
    /// The same at the end.
    pub pss_bytes_at_end: Option<u64>,
    /// The same by node.
    pub nodes: Vec<Held>,
    /// All nodes together after each round, while the connections carry data.
    pub samples: Vec<Sample>,
}

/// What one node holds at rest.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// Open descriptors after the first two rounds.
    pub descriptors_after_warm_up: usize,
    /// The same at the end; null when it did not come to that.
    pub descriptors_at_end: Option<usize>,
    /// Pss after the first two rounds, in bytes.
    pub pss_bytes_after_warm_up: u64,
    /// The same at the end.
    pub pss_bytes_at_end: Option<u64>,
}

/// What all nodes hold together.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// After this round.
    pub round: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Pss, in bytes.
    pub pss_bytes: u64,
}

impl Outcome {
    /// Takes over what the nodes, by name, hold after the warm-up: descriptors and bytes.
    pub fn take_warm_up(&mut self, nodes: BTreeMap<String, (usize, u64)>) {
        self.descriptors_after_warm_up = Some(nodes.values().map(|(open, _)| open).sum());
        self.pss_bytes_after_warm_up = Some(nodes.values().map(|(_, bytes)| bytes).sum());
        let held = |(name, (open, bytes))| Held {
            name,
            descriptors_after_warm_up: open,
            pss_bytes_after_warm_up: bytes,
            ..Held::default()
        };
        self.nodes = nodes.into_iter().map(held).collect();
    }

    /// The same at the end.
    pub fn take_end(&mut self, nodes: &BTreeMap<String, (usize, u64)>) {
        self.descriptors_at_end = Some(nodes.values().map(|(open, _)| open).sum());
        self.pss_bytes_at_end = Some(nodes.values().map(|(_, bytes)| bytes).sum());
        for held in &mut self.nodes {
            if let Some((open, bytes)) = nodes.get(&held.name) {
                (held.descriptors_at_end, held.pss_bytes_at_end) = (Some(*open), Some(*bytes));
            }
        }
    }

    /// Descriptors of each node after the warm-up.
    pub fn descriptors_by_node(&self) -> BTreeMap<String, usize> {
        self.nodes.iter().map(|held| (held.name.clone(), held.descriptors_after_warm_up)).collect()
    }

    /// Fills in `ok`, and adds to `failures` and `missed`.
    #[must_use]
    pub fn judged(mut self) -> Self {
        let mut check = |good: bool, words: String| {
            if !good {
                self.verdict.failures.push(words);
            }
        };
        check(self.app_resets == 0, format!("{} ends of connections saw a reset or a close", self.app_resets));
        check(self.wrong_bytes == 0, format!("{} wrong bytes", self.wrong_bytes));
        check(self.lost_bytes == 0, format!("{} bytes were said and never heard", self.lost_bytes));
        let ops = self.public_key_ops_in_resumes;
        check(ops == 0, format!("{ops} public-key operations in resumes"));
        // Whoever did not resume did not lose his network, and the run showed nothing.
        check(self.resumes >= self.moves, format!("{} resumes after {} moves", self.resumes, self.moves));
        for held in &self.nodes {
            let name = &held.name;
            let before = held.descriptors_after_warm_up;
            let now = held.descriptors_at_end.unwrap_or(before);
            check(
                now <= before,
                format!("{name} has {now} descriptors open at rest, and had {before} after the warm-up"),
            );
        }
        self.verdict.missed = self.nodes.iter().filter_map(Held::grown).collect();
        self.verdict.ok = self.verdict.failures.is_empty();
        self
    }
}

impl Judged for Outcome {
    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn table(&self) -> String {
        let mut out = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<30} {value}");
        };
        row(
            "moves",
            format!("{} in {} rounds of {} movers, {:.0} s", self.moves, self.rounds, self.movers, self.took_s),
        );
        row("bytes", format!("{} exact, {} wrong, {} lost", self.bytes_exact, self.wrong_bytes, self.lost_bytes));
        row("applications cut off", self.app_resets.to_string());
        row("resumes", format!("{}, with {} public-key operations", self.resumes, self.public_key_ops_in_resumes));
        let all = "of all nodes at rest, after the warm-up and at the end";
        if let (Some(before), Some(end)) = (self.descriptors_after_warm_up, self.descriptors_at_end) {
            row("open descriptors", format!("{before}, {end} {all}"));
        }
        if let (Some(before), Some(end)) = (self.pss_bytes_after_warm_up, self.pss_bytes_at_end) {
            row("memory", format!("{:.1} MiB, {:.1} MiB {all}", before as f64 / MIB, end as f64 / MIB));
        }
        self.verdict.failures.iter().for_each(|failure| row("NOT EXACT", failure.clone()));
        self.verdict.missed.iter().for_each(|missed| row("not reached", missed.clone()));
        out
    }
}

impl Held {
    /// In words, when its memory has grown by more than it may.
    fn grown(&self) -> Option<String> {
        let (before, end) = (self.pss_bytes_after_warm_up as f64, self.pss_bytes_at_end? as f64);
        let most = before * (1.0 + MAX_GROWTH) + MAX_GROWTH_BYTES;
        (end > most).then(|| format!("{} holds {:.1} MiB, not at most {:.1} MiB", self.name, end / MIB, most / MIB))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB_BYTES: u64 = 1 << 20;

    fn soaked(descriptors: usize, pss_bytes: u64) -> Outcome {
        let mut outcome = Outcome { moves: 80, resumes: 80, ..Outcome::default() };
        outcome.take_warm_up(BTreeMap::from([("server".into(), (40, 20 * MIB_BYTES)), ("after-1".into(), (30, 0))]));
        outcome.take_end(&BTreeMap::from([("server".into(), (descriptors, pss_bytes)), ("after-1".into(), (20, 0))]));
        outcome
    }

    #[test]
    fn one_descriptor_more_on_one_node_is_a_leak_whatever_the_others_have() {
        let good = soaked(40, 20 * MIB_BYTES).judged();
        assert!(good.verdict.ok && good.verdict.missed.is_empty(), "{:?}", good.verdict.failures);
        assert_eq!((good.descriptors_after_warm_up, good.descriptors_at_end), (Some(70), Some(60)));
        let leak = soaked(41, 20 * MIB_BYTES).judged();
        assert!(!leak.verdict.ok && leak.table().contains("server has 41 descriptors"), "{:?}", leak.verdict.failures);
    }

    #[test]
    fn memory_that_grew_is_missed_and_no_failure() {
        assert!(soaked(40, 29 * MIB_BYTES).judged().verdict.missed.is_empty());
        let fat = soaked(40, 30 * MIB_BYTES).judged();
        assert!(fat.verdict.ok && fat.verdict.missed.len() == 1, "{:?}", fat.verdict.missed);
    }

    #[test]
    fn whatever_an_application_sees_is_a_failure() {
        let good = || soaked(40, 0);
        for bad in [
            Outcome { app_resets: 1, ..good() },
            Outcome { wrong_bytes: 1, ..good() },
            Outcome { lost_bytes: 1, ..good() },
            Outcome { public_key_ops_in_resumes: 1, ..good() },
            Outcome { resumes: 79, ..good() },
            Outcome { verdict: Verdict { failures: vec!["a node has ended".into()], ..Verdict::default() }, ..good() },
        ] {
            assert_eq!((bad.clone().judged().verdict.ok, bad.judged().verdict.failures.len()), (false, 1));
        }
    }
}
