//! The result of `testnet bench`: what was measured, what it should be, and both for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::bars;
use super::flood::Flood;
use super::micros;
use super::mobisocket;
use super::pair::{Pair, excess_us, ratio};
use super::resume::Round;
use super::route::Role;
use super::sessions::Sessions;
use super::spread::Spread;
use super::throughput::{Cpu, Throughput};
use crate::judged::{Judged, Verdict};
use crate::report::median;
use crate::usage::load_average;

/// The fields are the keys of the JSON object; what was not measured is null.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// `ok`, `failures`, `missed`.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Whether this is the short slice.
    pub quick: bool,
    /// How long all of it took, in seconds.
    pub took_s: f64,
    /// Processes of others that wanted to run at a time, in the minute before: beyond the number of cores, times say little.
    pub load_average_before: Option<f64>,
    /// Our throughput over that of a chain of plain relays with as many TCP connections, over one direct link between two nodes.
    pub throughput_ratio_1hop: Option<f64>,
    /// The same over three links.
    pub throughput_ratio_3hop: Option<f64>,
    /// The same over five links.
    pub throughput_ratio_5hop: Option<f64>,
    /// The plain chain's throughput where ours has one link, in Gbit/s.
    pub baseline_gbit_s: Option<f64>,
    /// CPU seconds that one process uses for one GiB, by what it does.
    pub cpu_s_per_gib: Option<BTreeMap<&'static str, f64>>,
    /// What a small message's round trip takes longer than in the plain chain, in microseconds.
    pub rtt_over_baseline_us: Option<f64>,
    /// From connecting to the local port to the first byte that has come back, in microseconds.
    pub stream_open_us: Option<f64>,
    /// Sessions that one node sets up in a second.
    pub handshakes_per_s: Option<f64>,
    /// Growth of a node's memory by one session in which nothing goes on, in bytes.
    pub bytes_per_idle_session: Option<f64>,
    /// Growth of a node's memory by one open connection in which nothing goes on, in bytes.
    pub bytes_per_idle_stream: Option<f64>,
    /// From the network being back to the first new byte at the mover's application, in seconds, by the length of the outage.
    pub resume_by_outage_s: Option<Resumes>,
    /// The same after 15 s over one hop with a round trip of 40 ms, between network namespaces.
    pub resume_over_40_ms_s: Option<Spread>,
    /// The same for a stream of the library, with and without MobiSocket's `resetTimer`, when one end moves and when both do.
    pub mobisocket_resume_s: Option<mobisocket::Resumes>,

    /// The baseline's throughput over that of the same chain of `socat -b 262144`.
    pub baseline_over_socat: Option<f64>,
    /// Our throughput by the number of links, in Gbit/s.
    pub gbit_s_by_hops: BTreeMap<usize, f64>,
    /// The plain chain's throughput by the number of links in ours, in Gbit/s.
    pub baseline_gbit_s_by_hops: BTreeMap<usize, f64>,
    /// Every pair of downloads, by the number of links.
    pub downloads_by_hops: BTreeMap<usize, Vec<Pair>>,
    /// Round trip of a small message through the nodes, in microseconds.
    pub rtt_us: Option<f64>,
    /// As `stream_open_us`, in the plain chain.
    pub baseline_stream_open_us: Option<f64>,

    /// CPU seconds for sealing one GiB once with the cipher of a link, of which a further hop may cost one more.
    pub link_encryption_cpu_s_per_gib: Option<f64>,
    /// Handshakes in a flood of forged Hellos.
    pub hello_flood: Option<Flood>,
    /// CPU time of the node for one handshake, in microseconds.
    pub handshake_cpu_us: Option<f64>,
    /// How many idle sessions the node had.
    pub idle_sessions: Option<usize>,
    /// The part of one core that it used with them.
    pub idle_sessions_cpu_share: Option<f64>,
    /// Public-key operations of the session layer in all nodes during the resumes: should be 0.
    pub public_key_ops_in_resumes: Option<u64>,

    #[serde(skip)]
    pub(super) cpu: BTreeMap<Role, Cpu>,
}

/// One for each length of outage that is asked for.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Resumes {
    /// After 1 s.
    #[serde(rename = "1")]
    pub after_1_s: Option<Spread>,
    /// After 15 s.
    #[serde(rename = "15")]
    pub after_15_s: Option<Spread>,
    /// After 120 s.
    #[serde(rename = "120")]
    pub after_120_s: Option<Spread>,
}

impl Resumes {
    /// By the length of the outage, in seconds.
    pub fn all(&self) -> [(&'static str, Option<&Spread>); 3] {
        [("1", self.after_1_s.as_ref()), ("15", self.after_15_s.as_ref()), ("120", self.after_120_s.as_ref())]
    }
}

impl Figures {
    /// Nothing is measured yet.
    pub fn new(quick: bool) -> Self {
        Self { quick, load_average_before: load_average(), ..Self::default() }
    }

    /// Takes over what was measured on one chain.
    pub fn take_throughput(&mut self, hops: usize, measured: Throughput) {
        let ratio = ratio(&measured.pairs);
        match hops {
            1 => {
                self.throughput_ratio_1hop = ratio;
                self.baseline_gbit_s = measured.baseline_gbit_s();
                self.baseline_over_socat = measured.over_socat;
            }
            3 => self.throughput_ratio_3hop = ratio,
            _ => self.throughput_ratio_5hop = ratio,
        }
        self.gbit_s_by_hops.extend(measured.ours_gbit_s().map(|gbit_s| (hops, gbit_s)));
        self.baseline_gbit_s_by_hops.extend(measured.baseline_gbit_s().map(|gbit_s| (hops, gbit_s)));
        for (role, cpu) in measured.cpu {
            let sum = self.cpu.entry(role).or_default();
            *sum = sum.and(cpu);
        }
        let per_gib = self.cpu.iter().map(|(role, cpu)| (role.name(), cpu.s_per_gib()));
        self.cpu_s_per_gib = Some(per_gib.collect());
        self.downloads_by_hops.insert(hops, measured.pairs);
    }

    /// Takes over round trips.
    pub fn take_round_trips(&mut self, pairs: &[Pair]) {
        self.rtt_over_baseline_us = excess_us(pairs);
        self.rtt_us = median(pairs.iter().map(|pair| pair.ours_s * 1e6));
    }

    /// Takes over new connections.
    pub fn take_opens(&mut self, pairs: &[Pair]) {
        self.stream_open_us = median(pairs.iter().map(|pair| pair.ours_s * 1e6));
        self.baseline_stream_open_us = median(pairs.iter().map(|pair| pair.baseline_s * 1e6));
    }

    /// Takes over what many sessions cost.
    pub fn take_sessions(&mut self, measured: &Sessions) {
        self.handshakes_per_s = Some(measured.handshakes_per_s());
        self.handshake_cpu_us = Some(measured.handshake_cpu_us());
        self.bytes_per_idle_session = measured.bytes_per_session();
        self.idle_sessions = measured.idle.as_ref().map(|_| measured.count);
        self.idle_sessions_cpu_share = measured.idle.as_ref().map(|idle| idle.cpu_share);
    }

    /// Takes over handshakes in a flood.
    pub fn take_flood(&mut self, measured: Flood) {
        self.hello_flood = Some(measured);
    }

    /// Takes over one round of outages; how its resumes are spread.
    pub fn take_round(&mut self, outage_s: u64, round: &Round) -> Option<&Spread> {
        *self.public_key_ops_in_resumes.get_or_insert_default() += round.public_key_ops;
        let resumes = self.resume_by_outage_s.get_or_insert_default();
        let place = match outage_s {
            1 => &mut resumes.after_1_s,
            15 => &mut resumes.after_15_s,
            _ => &mut resumes.after_120_s,
        };
        *place = Spread::of(&round.resume_s);
        place.as_ref()
    }

    /// Takes over outages at the end of a long line; how its resumes are spread.
    pub fn take_round_over_a_line(&mut self, round: &Round) -> Option<&Spread> {
        *self.public_key_ops_in_resumes.get_or_insert_default() += round.public_key_ops;
        self.resume_over_40_ms_s = Spread::of(&round.resume_s);
        self.resume_over_40_ms_s.as_ref()
    }

    /// Fills in `ok`, `missed` and `took_s`, and adds to `failures`.
    #[must_use]
    pub fn judged(mut self, took: Duration) -> Self {
        self.took_s = micros(took) / 1e6;
        self.verdict.missed = bars::missed(&self);
        self.verdict.failures.extend(bars::inexact(&self));
        self.verdict.ok = self.verdict.failures.is_empty();
        self
    }
}

impl Judged for Figures {
    fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    fn table(&self) -> String {
        let mut out = String::new();
        let mut row = |name: &str, value: Option<String>| {
            // What was left out has no row.
            let _ = value.map(|value| writeln!(out, "  {name:<34} {value}"));
        };
        row("load average before", self.load_average_before.map(|load| format!("{load:.1}")));
        let ratios = [self.throughput_ratio_1hop, self.throughput_ratio_3hop, self.throughput_ratio_5hop];
        for (hops, ratio) in super::HOPS.into_iter().zip(ratios) {
            let speed = |of: &BTreeMap<usize, f64>| of.get(&hops).copied().unwrap_or_default();
            let (ours, plain) = (speed(&self.gbit_s_by_hops), speed(&self.baseline_gbit_s_by_hops));
            let words = |ratio| format!("{ratio:.3} of the plain chain ({ours:.2} of {plain:.2} Gbit/s)");
            row(&format!("throughput, {hops} hops"), ratio.map(words));
        }
        row("plain chain over socat", self.baseline_over_socat.map(|ratio| format!("{ratio:.3}")));
        let roles = self.cpu_s_per_gib.as_ref().map(|cpu| {
            let each: Vec<String> = cpu.iter().map(|(role, s)| format!("{role} {s:.2}")).collect();
            each.join(", ")
        });
        row("CPU s per GiB and process", roles);
        row("  to seal it once for a link", self.link_encryption_cpu_s_per_gib.map(|s| format!("{s:.2}")));
        let us = |value: Option<f64>| value.map(|us| format!("{us:.0} us"));
        row("round trip over the plain chain's", us(self.rtt_over_baseline_us));
        row("new connection, first byte back", us(self.stream_open_us));
        row("  in the plain chain", us(self.baseline_stream_open_us));
        let cpu = self.handshake_cpu_us.unwrap_or_default();
        row("handshakes in a second", self.handshakes_per_s.map(|rate| format!("{rate:.0} (CPU {cpu:.0} us each)")));
        row("hello flood", self.hello_flood.as_ref().map(Flood::line));
        let share = self.idle_sessions_cpu_share.unwrap_or_default() * 100.0;
        let sessions = self.idle_sessions.unwrap_or_default();
        let words = |bytes| format!("{bytes:.0} bytes ({sessions} of them; {share:.2} % of a core)");
        row("idle session", self.bytes_per_idle_session.map(words));
        row("idle connection", self.bytes_per_idle_stream.map(|bytes| format!("{bytes:.0} bytes")));
        let words = |spread: &Spread| format!("{:.3} s, at most {:.3} s (n = {})", spread.p50, spread.max, spread.n);
        for (outage_s, spread) in self.resume_by_outage_s.clone().unwrap_or_default().all() {
            row(&format!("resume after {outage_s} s"), spread.map(words));
        }
        row("resume over a line of 40 ms", self.resume_over_40_ms_s.as_ref().map(words));
        for (name, spread) in self.mobisocket_resume_s.iter().flat_map(mobisocket::Resumes::all) {
            row(&format!("stream, {name}"), spread.map(words));
        }
        for failure in &self.verdict.failures {
            row("NOT EXACT", Some(failure.clone()));
        }
        for missed in &self.verdict.missed {
            row("not reached", Some(missed.clone()));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Figures {
        let pairs = vec![Pair { baseline_s: 1.0, ours_s: 1.5 }];
        let cpu = BTreeMap::from([(Role::Sender, Cpu { used_s: 2.0, carried_gib: 1.0 })]);
        let mut figures = Figures::default();
        figures.take_throughput(1, Throughput { hops: 1, bytes: 1 << 30, pairs, cpu, over_socat: Some(1.0) });
        figures.take_round_trips(&[Pair { baseline_s: 50e-6, ours_s: 150e-6 }]);
        figures
    }

    #[test]
    fn the_json_has_the_promised_keys_and_null_where_nothing_was_measured() {
        let json = serde_json::to_value(Figures::default().judged(Duration::from_secs(1))).unwrap();
        for key in "throughput_ratio_1hop throughput_ratio_3hop throughput_ratio_5hop baseline_gbit_s cpu_s_per_gib \
                    rtt_over_baseline_us stream_open_us handshakes_per_s bytes_per_idle_session bytes_per_idle_stream \
                    resume_by_outage_s resume_over_40_ms_s mobisocket_resume_s"
            .split_whitespace()
        {
            assert!(json.get(key).is_some_and(serde_json::Value::is_null), "{key}");
        }
        assert_eq!(json["ok"], true);
        let json = serde_json::to_value(good()).unwrap();
        assert_eq!((&json["cpu_s_per_gib"]["sender"], &json["throughput_ratio_3hop"]), (&2.0.into(), &().into()));
    }

    #[test]
    fn only_what_was_measured_can_miss_its_bar() {
        let judged = |figures: Figures| figures.judged(Duration::from_secs(1));
        assert!(judged(Figures::default()).verdict.missed.is_empty());
        assert!(judged(good()).verdict.missed.is_empty());
        let slow = Figures { throughput_ratio_1hop: Some(0.49), ..good() };
        let late = Figures { rtt_over_baseline_us: Some(151.0), ..good() };
        let mut weary = good();
        let _ = weary.take_round(15, &Round { resume_s: vec![0.02, 0.02, 0.31], public_key_ops: 0 });
        let fat = Figures { bytes_per_idle_session: Some(4097.0), ..good() };
        for figures in [slow, late, weary, fat] {
            let judged = judged(figures);
            assert_eq!((judged.verdict.ok, judged.verdict.missed.len()), (true, 1));
            assert!(judged.table().contains("not reached"));
        }
        let mut costly = good();
        let _ = costly.take_round(1, &Round { resume_s: vec![0.02], public_key_ops: 1 });
        assert!(!judged(costly).verdict.ok, "public-key operations in a resume are wrong, not slow");
        let wrong = judged(Figures {
            verdict: Verdict { failures: vec!["1 hops: other bytes".into()], ..Verdict::default() },
            ..good()
        });
        assert!(!wrong.verdict.ok && wrong.table().contains("NOT EXACT"));
    }
}
