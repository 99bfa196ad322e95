//! `throughput.svg`, after the paper's Fig. 7. Written by hand: one self-contained file, light and dark.

use std::fmt::Write as _;

use crate::report::{PAPER_RESUME_S, Report, Timeline, throughput};
use crate::svg::{line, nice, number, text, ticks};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 470.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 936.0;
const TOP: f64 = 104.0;
const BOTTOM: f64 = 388.0;
/// Width of one step of the curve, in seconds.
const STEP_S: f64 = 0.2;
/// Room above the curve for the annotations.
const HEADROOM: f64 = 1.5;

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;font-size:13px;fill:#57606a}\
.bg{fill:#ffffff}.title{font-size:19px;font-weight:600;fill:#1f2328}.strong{font-weight:600;fill:#1f2328}\
.grid{stroke:#d8dee4;stroke-width:1}.axis{stroke:#8c959f;stroke-width:1.2}\
.area{fill:#0969da;fill-opacity:.16}.curve{fill:none;stroke:#0969da;stroke-width:2;stroke-linejoin:round}\
.control{fill:none;stroke:#bc4c00;stroke-width:1.6;stroke-dasharray:6 4;stroke-linejoin:round}\
.outage{fill:#cf222e;fill-opacity:.09}.outage-text{fill:#a40e26;font-weight:600}\
.resume{stroke:#1a7f37;stroke-width:2}.resume-text{fill:#116329;font-weight:600}\
.paper{fill:#8250df;fill-opacity:.10}.paper-line{stroke:#8250df;stroke-width:1.6;stroke-dasharray:3 3}.paper-text{fill:#6639ba}\
@media (prefers-color-scheme:dark){text{fill:#9198a1}.bg{fill:#0d1117}.title,.strong{fill:#f0f6fc}.grid{stroke:#2a313c}\
.axis{stroke:#656c76}.area{fill:#4493f8;fill-opacity:.22}.curve{stroke:#4493f8}.control{stroke:#f0883e}.outage{fill:#f85149;fill-opacity:.14}\
.outage-text{fill:#ff7b72}.resume{stroke:#3fb950}.resume-text{fill:#56d364}.paper{fill:#ab7df8;fill-opacity:.16}\
.paper-line{stroke:#ab7df8}.paper-text{fill:#be8fff}}";

/// The plot of one run.
pub fn svg(report: &Report, timeline: &Timeline) -> String {
    let mut plot = Plot::new(report, timeline);
    plot.head();
    plot.bands();
    plot.grid();
    plot.curves();
    plot.marks();
    plot.legend();
    plot.out.push_str("</svg>\n");
    plot.out
}

struct Plot<'a> {
    report: &'a Report,
    timeline: &'a Timeline,
    rates: Vec<f64>,
    control: Option<Vec<f64>>,
    x_tick: f64,
    x_max: f64,
    y_tick: f64,
    y_max: f64,
    out: String,
}

impl<'a> Plot<'a> {
    fn new(report: &'a Report, timeline: &'a Timeline) -> Self {
        let rates = throughput(&timeline.received, STEP_S, timeline.end_s);
        let control = timeline.control.as_ref().map(|control| throughput(control, STEP_S, timeline.end_s));
        let highest = rates.iter().chain(control.iter().flatten()).fold(0.1_f64, |a, b| a.max(*b));
        let (x_tick, y_tick) = (nice(timeline.end_s.max(1.0) / 8.0), nice(highest * HEADROOM / 5.0));
        let x_max = timeline.end_s.max(timeline.back_s + PAPER_RESUME_S) * 1.02;
        let y_max = (highest * HEADROOM / y_tick).ceil() * y_tick;
        Self { report, timeline, rates, control, x_tick, x_max, y_tick, y_max, out: String::new() }
    }

    fn x(&self, at_s: f64) -> f64 {
        LEFT + (at_s / self.x_max).clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn y(&self, rate: f64) -> f64 {
        BOTTOM - rate / self.y_max * (BOTTOM - TOP)
    }

    fn head(&mut self) {
        let report = self.report;
        let hops = |hops: Option<u64>| hops.map_or("?".to_string(), |hops| hops.to_string());
        let title = "A TCP download goes on after its receiver moved to another network";
        let subtitle = format!(
            "{:.0} MiB from alice to bob through {} node processes ({}); {} overlay hops before the move, {} after",
            report.bytes as f64 / (1024.0 * 1024.0),
            report.nodes,
            report.network,
            hops(report.hops_before),
            hops(report.hops_after),
        );
        let description = format!(
            "Throughput at bob's application over time. The network is taken away at {:.1} s for {:.1} s; the first new \
             byte arrives {:.3} s after it is back. The MUSeS paper measured 3 s.",
            self.timeline.cut_s, report.outage_s, report.resume_s,
        );
        let _ = write!(
            self.out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             role=\"img\" aria-labelledby=\"t d\">\n<title id=\"t\">{title}</title>\n<desc id=\"d\">{description}</desc>\n\
             <style>{STYLE}</style>\n<rect class=\"bg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n"
        );
        self.text(LEFT, 34.0, "start", "title", title);
        self.text(LEFT, 56.0, "start", "", &subtitle);
    }

    fn bands(&mut self) {
        let (cut, back) = (self.x(self.timeline.cut_s), self.x(self.timeline.back_s));
        let paper = self.x(self.timeline.back_s + PAPER_RESUME_S);
        self.band("outage", cut, back);
        self.band("paper", back, paper);
    }

    fn band(&mut self, class: &str, from: f64, to: f64) {
        let (width, height) = ((to - from).max(0.0), BOTTOM - TOP);
        let _ = writeln!(
            self.out,
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>"
        );
    }

    fn grid(&mut self) {
        for tick in ticks(0.0, self.y_tick, self.y_max) {
            let y = self.y(tick);
            self.line(if tick == 0.0 { "axis" } else { "grid" }, (LEFT, y), (RIGHT, y));
            self.text(LEFT - 8.0, y + 4.5, "end", "", &number(tick, self.y_tick));
        }
        for tick in ticks(0.0, self.x_tick, self.x_max) {
            let x = self.x(tick);
            self.line("axis", (x, BOTTOM), (x, BOTTOM + 5.0));
            self.text(x, BOTTOM + 21.0, "middle", "", &number(tick, self.x_tick));
        }
        self.line("axis", (LEFT, TOP), (LEFT, BOTTOM));
        self.text((LEFT + RIGHT) / 2.0, BOTTOM + 42.0, "middle", "strong", "time since the download began (s)");
        let middle = (TOP + BOTTOM) / 2.0;
        let _ = writeln!(
            self.out,
            "<text class=\"strong\" text-anchor=\"middle\" transform=\"translate(20 {middle}) rotate(-90)\">throughput at \
             the application (MB/s)</text>"
        );
    }

    fn curves(&mut self) {
        let steps = self.steps(&self.rates);
        let (first, last) = (self.x(0.0), self.x(self.timeline.end_s));
        let _ = writeln!(self.out, "<path class=\"area\" d=\"M{first:.1} {BOTTOM}L{steps}L{last:.1} {BOTTOM}Z\"/>");
        let _ = writeln!(self.out, "<path class=\"curve\" d=\"M{steps}\"/>");
        if let Some(control) = &self.control {
            let steps = self.steps(control);
            let _ = writeln!(self.out, "<path class=\"control\" d=\"M{steps}\"/>");
        }
    }

    /// Each bin is one flat step, so that the edges of the outage stay edges.
    fn steps(&self, rates: &[f64]) -> String {
        let mut points = Vec::with_capacity(2 * rates.len());
        for (index, rate) in rates.iter().enumerate() {
            let from_s = index as f64 * STEP_S;
            points.push(format!("{:.1} {:.1}", self.x(from_s), self.y(*rate)));
            points.push(format!("{:.1} {:.1}", self.x((from_s + STEP_S).min(self.timeline.end_s)), self.y(*rate)));
        }
        points.join(" ")
    }

    fn marks(&mut self) {
        let timeline = self.timeline;
        let (cut, back) = (self.x(timeline.cut_s), self.x(timeline.back_s));
        let (resumed, paper) = (self.x(timeline.resumed_s), self.x(timeline.back_s + PAPER_RESUME_S));
        let middle = (cut + back) / 2.0;
        self.text(middle, TOP + 22.0, "middle", "outage-text", "no network");
        self.text(middle, TOP + 39.0, "middle", "outage-text", &format!("{:.1} s", self.report.outage_s));
        self.line("paper-line", (paper, TOP + 34.0), (paper, BOTTOM));
        self.text(paper + 7.0, TOP + 46.0, "start", "paper-text", "the paper: 3 s");
        self.line("resume", (resumed, TOP), (resumed, BOTTOM));
        let words = format!("{} after the network is back", span(self.report.resume_s));
        self.text(resumed - 8.0, TOP + 70.0, "end", "resume-text", "first new byte");
        self.text(resumed - 8.0, TOP + 87.0, "end", "resume-text", &words);
    }

    fn legend(&mut self) {
        let (y, mut x) = (82.0, LEFT);
        let mut entries = vec![("curve", "over MUSeS")];
        if self.control.is_some() {
            entries.push(("control", "plain TCP beside it"));
        }
        entries.extend([("resume", "resumed"), ("paper-line", "resume time in the MUSeS paper")]);
        for (class, words) in entries {
            self.line(class, (x, y), (x + 24.0, y));
            self.text(x + 31.0, y + 4.5, "start", "", words);
            x += 31.0 + 6.6 * words.len() as f64 + 22.0;
        }
        let report = self.report;
        let same = if report.sha256_match { "sha256 identical" } else { "sha256 differs" };
        let facts = format!(
            "{same} · {} reconnects of the application · {} public-key operations in the resume · {} records lost",
            report.app_reconnects, report.public_key_ops_in_resume, report.records_lost,
        );
        self.text((LEFT + RIGHT) / 2.0, HEIGHT - 14.0, "middle", "", &facts);
    }

    fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        line(&mut self.out, class, from, to);
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, words: &str) {
        text(&mut self.out, (x, y), anchor, class, words);
    }
}

fn span(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.2} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(control: bool) -> String {
        // 20 MB/s for 6 s, 15 s of nothing, then a burst and 20 MB/s again.
        let mut received: Vec<(f64, u64)> =
            (1..=600u32).map(|n| (f64::from(n) * 0.01, u64::from(n) * 200_000)).collect();
        let control = control.then(|| received.iter().map(|(at, total)| (*at, total / 2)).collect());
        received.extend((1..=600u32).map(|n| (21.06 + f64::from(n) * 0.01, 122_000_000 + u64::from(n) * 200_000)));
        let timeline = Timeline { received, control, cut_s: 6.0, back_s: 21.0, resumed_s: 21.07, end_s: 27.06 };
        let report = Report {
            network: "loopback".into(),
            nodes: 9,
            hops_before: Some(4),
            hops_after: Some(4),
            bytes: 256 << 20,
            sha256_match: true,
            outage_s: 15.0,
            resume_s: 0.07,
            ..Report::default()
        };
        svg(&report, &timeline)
    }

    #[test]
    fn the_plot_is_balanced_and_says_what_it_must() {
        let svg = example(false);
        // MUSES_PLOT=FILE writes the example for a look at it.
        if let Some(path) = std::env::var_os("MUSES_PLOT") {
            std::fs::write(path, example(true)).unwrap();
        }
        for words in [
            "prefers-color-scheme:dark",
            "the paper: 3 s",
            "70 ms after the network is back",
            "no network",
            "throughput at the application (MB/s)",
            "time since the download began (s)",
            "class=\"outage\"",
            "4 overlay hops before",
        ] {
            assert!(svg.contains(words), "{words}");
        }
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(!svg.contains("http") || svg.matches("http").count() == 1, "only the name space");
        assert!(!svg.contains("plain TCP") && example(true).contains("plain TCP beside it"));
    }

    #[test]
    fn an_empty_run_still_plots() {
        let svg = svg(&Report::default(), &Timeline::default());
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
    }
}
