//! The result: what is judged, the JSON object, the table for people, and the CSV.

use std::fmt::Write as _;

use serde::Serialize;

use crate::sink::Mark;

/// The paper's resume time at the MUSeS level (section VI, Fig. 7), in seconds.
pub const PAPER_RESUME_S: f64 = 3.0;
/// `--strict`: the median resume time must not be longer, in seconds.
pub const STRICT_RESUME_S: f64 = 0.2;
/// The cut has to come in this part of the bytes.
pub const CUT_RANGE: std::ops::RangeInclusive<f64> = 0.4..=0.6;
/// Before the network is back, nothing may have arrived for this long, in seconds.
pub const QUIET_S: f64 = 1.0;
/// The source is paced to have this much data on either side of the cut, in seconds.
pub const SIDE_S: f64 = 5.0;

/// Width of a CSV row, in seconds.
const ROW_S: f64 = 0.1;
const MEGABYTE: f64 = 1e6;

/// One run. The names are the keys of the JSON object.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether all of it is exact; times are not judged here.
    pub ok: bool,
    /// What is not exact, in words.
    pub failures: Vec<String>,
    /// `loopback`, `network namespaces` or `network namespaces, from IPv4 to IPv6`.
    pub network: String,
    /// Node processes.
    pub nodes: usize,
    /// Links crossed from Alice to Bob before the move, from the TTL spent by Data packets.
    pub hops_before: Option<u64>,
    /// The same after the move.
    pub hops_after: Option<u64>,
    /// The least that both must be, from the topology.
    pub hops_required: u64,
    /// Length of the file.
    pub bytes: u64,
    /// SHA-256 of what Bob's application received.
    pub sha256: String,
    /// Whether that is the file's.
    pub sha256_match: bool,
    /// Bytes that Bob's application held at the cut, as a fraction of all.
    pub cut_fraction: f64,
    /// Seconds of data that had arrived before the cut.
    pub before_cut_s: f64,
    /// Seconds of data that the paced source had left for after the cut.
    pub after_cut_s: f64,
    /// From the cut to the network being back.
    pub outage_s: f64,
    /// How long nothing had arrived when the network came back.
    pub quiet_s: f64,
    /// From the network being back to the first byte beyond what Bob's application held.
    pub resume_s: f64,
    /// The same from the first new link being up, as the paper counts.
    pub resume_overlay_s: Option<f64>,
    /// What the paper measured.
    pub paper_resume_s: f64,
    /// Public-key operations of both ends in the handshake: must not be 0.
    pub public_key_ops_in_handshake: u64,
    /// Public-key operations of both ends from the cut to the end: must be 0.
    pub public_key_ops_in_resume: u64,
    /// Connections that the file server accepted, less one.
    pub app_reconnects: u64,
    /// Names that do not resolve from every node after the move.
    pub records_lost: usize,
    /// Which, and where from.
    pub lost: Vec<String>,
    /// Mean throughput before the cut, in MB/s.
    pub mbytes_per_s_before: f64,
    /// Mean throughput after the resume, in MB/s.
    pub mbytes_per_s_after: f64,
    /// `--netns`: the same for a plain TCP download beside it; `null` = never, within the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_resume_s: Option<Option<f64>>,
}

impl Report {
    /// Fills in `ok` and `failures`.
    #[must_use]
    pub fn judged(mut self) -> Self {
        let mut failures = Vec::new();
        let mut check = |good: bool, words: String| {
            if !good {
                failures.push(words);
            }
        };
        check(self.sha256_match, "the received bytes are not the file".into());
        check(self.app_reconnects == 0, format!("the application reconnected {} times", self.app_reconnects));
        for (when, hops) in [("before", self.hops_before), ("after", self.hops_after)] {
            let words = || format!("{} hops {when} the move, not {} or more", shown(hops), self.hops_required);
            check(hops.is_some_and(|hops| hops >= self.hops_required), words());
        }
        check(self.public_key_ops_in_handshake > 0, "no public-key operation was counted in the handshake".into());
        let ops = self.public_key_ops_in_resume;
        check(ops == 0, format!("{ops} public-key operations in the resume"));
        check(self.records_lost == 0, format!("records lost: {}", self.lost.join(", ")));
        let cut = self.cut_fraction;
        check(CUT_RANGE.contains(&cut), format!("the cut came at {:.0} % of the bytes", cut * 100.0));
        check(
            self.before_cut_s >= SIDE_S && self.after_cut_s >= SIDE_S,
            format!("{:.1} s of data before and {:.1} s after the cut", self.before_cut_s, self.after_cut_s),
        );
        check(self.quiet_s >= QUIET_S, format!("bytes arrived {:.2} s before the network was back", self.quiet_s));
        self.ok = failures.is_empty();
        self.failures = failures;
        self
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<30} {value}");
        };
        row("nodes", format!("{} processes, {}", self.nodes, self.network));
        row("overlay hops", format!("{} before the move, {} after", shown(self.hops_before), shown(self.hops_after)));
        let same = if self.sha256_match { "sha256 identical" } else { "SHA256 DIFFERS" };
        row("file", format!("{} bytes, {same}", self.bytes));
        row(
            "throughput",
            format!("{:.1} MB/s before, {:.1} MB/s after", self.mbytes_per_s_before, self.mbytes_per_s_after),
        );
        row("outage", format!("{:.2} s, from {:.0} % of the bytes", self.outage_s, self.cut_fraction * 100.0));
        row("resumed after", format!("{:.3} s (the paper: {:.0} s)", self.resume_s, self.paper_resume_s));
        if let Some(resume_s) = self.resume_overlay_s {
            row("  from the first new link", format!("{resume_s:.3} s"));
        }
        if let Some(control) = self.control_resume_s {
            let control = control.map_or("never".into(), |s| format!("{s:.3} s"));
            row("  plain TCP beside it", control);
        }
        row(
            "public-key operations",
            format!("{} in the handshake, {} since", self.public_key_ops_in_handshake, self.public_key_ops_in_resume),
        );
        row("application reconnects", self.app_reconnects.to_string());
        row("records lost", self.records_lost.to_string());
        for failure in &self.failures {
            row("NOT EXACT", failure.clone());
        }
        out
    }
}

fn shown(hops: Option<u64>) -> String {
    hops.map_or("unknown".into(), |hops| hops.to_string())
}

/// The median; the lower one of two.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// What happened when, in seconds since the download began.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Bytes that Bob's application held: (when, how many), rising.
    pub received: Vec<(f64, u64)>,
    /// The same for the plain TCP download, if there was one.
    pub control: Option<Vec<(f64, u64)>>,
    /// When the network was taken away.
    pub cut_s: f64,
    /// When it was back.
    pub back_s: f64,
    /// When the first new byte arrived.
    pub resumed_s: f64,
    /// When the last byte arrived.
    pub end_s: f64,
}

/// The marks of a sink as (seconds since `start`, total).
pub fn received(marks: &[Mark], start: std::time::Instant) -> Vec<(f64, u64)> {
    marks.iter().map(|mark| (mark.first.saturating_duration_since(start).as_secs_f64(), mark.total_bytes)).collect()
}

/// Throughput in MB/s in bins of `width_s`, from 0 to `end_s`; the last one may be narrower.
pub fn throughput(received: &[(f64, u64)], width_s: f64, end_s: f64) -> Vec<f64> {
    let mut bins = Vec::new();
    let (mut from_s, mut before) = (0.0, 0);
    while from_s < end_s {
        let to_s = (bins.len() + 1) as f64 * width_s;
        let marks = received.partition_point(|(at_s, _)| *at_s < to_s);
        let total = marks.checked_sub(1).and_then(|last| received.get(last)).map_or(0, |(_, total)| *total);
        // A sliver of a bin would make a peak out of nothing.
        let narrowed_s = (to_s.min(end_s) - from_s).max(width_s / 2.0);
        bins.push(total.saturating_sub(before) as f64 / MEGABYTE / narrowed_s);
        (from_s, before) = (to_s, total);
    }
    bins
}

/// `throughput.csv`.
pub fn csv(timeline: &Timeline) -> String {
    let mut out = String::from("time_s,mbytes_per_s,phase");
    let control = timeline.control.as_ref().map(|control| throughput(control, ROW_S, timeline.end_s));
    out.push_str(if control.is_some() { ",plain_tcp_mbytes_per_s\n" } else { "\n" });
    for (row, rate) in throughput(&timeline.received, ROW_S, timeline.end_s).into_iter().enumerate() {
        let at_s = row as f64 * ROW_S;
        let phase = match at_s {
            _ if at_s < timeline.cut_s => "before",
            _ if at_s < timeline.back_s => "outage",
            _ if at_s < timeline.resumed_s => "resuming",
            _ => "after",
        };
        let _ = write!(out, "{at_s:.1},{rate:.3},{phase}");
        if let Some(control) = &control {
            let _ = write!(out, ",{:.3}", control.get(row).copied().unwrap_or_default());
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact() -> Report {
        Report {
            hops_before: Some(4),
            hops_after: Some(3),
            hops_required: 3,
            sha256_match: true,
            cut_fraction: 0.5,
            before_cut_s: 6.0,
            after_cut_s: 6.0,
            quiet_s: 14.0,
            public_key_ops_in_handshake: 9,
            ..Report::default()
        }
    }

    #[test]
    fn only_an_exact_run_is_ok() {
        assert!(exact().judged().ok);
        let faults: [fn(&mut Report); 9] = [
            |r| r.sha256_match = false,
            |r| r.hops_before = Some(2),
            |r| r.hops_after = None,
            |r| r.public_key_ops_in_handshake = 0,
            |r| r.public_key_ops_in_resume = 1,
            |r| r.app_reconnects = 1,
            |r| r.records_lost = 1,
            |r| r.cut_fraction = 0.7,
            |r| r.quiet_s = 0.9,
        ];
        for fault in faults {
            let mut report = exact();
            fault(&mut report);
            let report = report.judged();
            assert!(!report.ok && report.failures.len() == 1, "{report:?}");
            assert!(report.table().contains("NOT EXACT"));
        }
    }

    #[test]
    fn the_json_has_the_promised_keys() {
        let json = serde_json::to_value(exact()).unwrap();
        for key in "nodes hops_before hops_after bytes sha256_match outage_s resume_s resume_overlay_s \
                    public_key_ops_in_resume app_reconnects records_lost"
            .split_whitespace()
        {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert!(json.get("control_resume_s").is_none(), "only with --netns");
        let never = serde_json::to_value(Report { control_resume_s: Some(None), ..exact() }).unwrap();
        assert!(never.get("control_resume_s").unwrap().is_null());
    }

    #[test]
    fn throughput_counts_every_byte_once() {
        let received = [(0.05, 1_000_000), (0.15, 3_000_000), (0.95, 4_000_000)];
        let bins = throughput(&received, 0.1, 1.0);
        assert_eq!(bins.len(), 10);
        assert!((bins.iter().sum::<f64>() * 0.1 - 4.0).abs() < 1e-9, "{bins:?}");
        assert!((bins[1] - 20.0).abs() < 1e-9 && bins[5] == 0.0, "{bins:?}");
    }

    #[test]
    fn the_csv_names_the_phases() {
        let timeline = Timeline {
            received: vec![(0.05, 1_000_000), (0.75, 2_000_000)],
            control: Some(vec![(0.05, 500_000)]),
            cut_s: 0.2,
            back_s: 0.6,
            resumed_s: 0.7,
            end_s: 0.8,
        };
        let csv = csv(&timeline);
        assert!(
            csv.starts_with("time_s,mbytes_per_s,phase,plain_tcp_mbytes_per_s\n0.0,10.000,before,5.000\n"),
            "{csv}"
        );
        for row in ["0.3,0.000,outage,", "0.6,0.000,resuming,", "0.7,10.000,after,"] {
            assert!(csv.contains(row), "{row} in {csv}");
        }
    }

    #[test]
    fn the_median_is_a_measured_value() {
        assert_eq!(median([0.3, 0.1, 0.2]), Some(0.2));
        assert_eq!(median([0.3, 0.1]), Some(0.1));
        assert_eq!(median([]), None);
    }
}
