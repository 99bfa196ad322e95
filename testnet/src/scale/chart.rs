//! A small line chart in SVG: one self-contained file, light and dark.

use std::fmt::Write as _;

use crate::svg::{line, nice, number, text, ticks};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 350.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 440.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 236.0;
/// Height of a line of the legend.
const LINE: f64 = 17.0;

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;font-size:12px;fill:#57606a}\
.bg{fill:#ffffff}.title{font-size:15px;font-weight:600;fill:#1f2328}.grid{stroke:#d8dee4}.axis{stroke:#8c959f}\
.l{fill:none;stroke-width:2;stroke-linejoin:round}.c0{stroke:#0969da}.c1{stroke:#bc4c00}.c2{stroke:#1a7f37}.c3{stroke:#8250df}.c4{stroke:#cf222e}\
.d1{stroke-dasharray:6 4}.d2{stroke-dasharray:2 3}\
@media (prefers-color-scheme:dark){text{fill:#9198a1}.bg{fill:#0d1117}.title{fill:#f0f6fc}.grid{stroke:#2a313c}.axis{stroke:#656c76}\
.c0{stroke:#4493f8}.c1{stroke:#f0883e}.c2{stroke:#3fb950}.c3{stroke:#ab7df8}.c4{stroke:#f85149}}";
/// Colours, and then ways to draw a line, so that no two lines look the same.
const COLOURS: usize = 5;

/// One line.
pub struct Line {
    /// What it is.
    pub name: String,
    /// Its points, by rising x.
    pub points: Vec<(f64, f64)>,
}

/// One chart.
pub struct Chart<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What the horizontal axis is.
    pub x: &'a str,
    /// What the vertical axis is.
    pub y: &'a str,
    /// Whether the horizontal axis is logarithmic.
    pub log_x: bool,
    /// The lines.
    pub lines: Vec<Line>,
}

/// The charts, two in a row.
pub fn svg(charts: &[Chart<'_>]) -> String {
    let rows = charts.len().div_ceil(2);
    let (width, height) = (2.0 * WIDTH, rows as f64 * HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n\
         <title>The overlay in simulation</title>\n<style>{STYLE}</style>\n<rect class=\"bg\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n"
    );
    for (number, chart) in charts.iter().enumerate() {
        let (x, y) = ((number % 2) as f64 * WIDTH, (number / 2) as f64 * HEIGHT);
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">");
        chart.draw(&mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

impl Chart<'_> {
    fn draw(&self, out: &mut String) {
        let all = || self.lines.iter().flat_map(|line| line.points.iter().copied());
        let (x_min, x_max) = range(all().map(|(x, _)| self.scale(x)));
        let (low, high) = range(all().map(|(_, y)| y));
        let step = nice((high - low).max(1e-9) / 4.0);
        let (y_min, y_max) = ((low / step).floor() * step, (high / step).ceil() * step);
        let x = |value: f64| LEFT + (self.scale(value) - x_min) / (x_max - x_min).max(1e-12) * (RIGHT - LEFT);
        let y = |value: f64| BOTTOM - (value - y_min) / (y_max - y_min).max(1e-12) * (BOTTOM - TOP);
        text(out, (LEFT, 26.0), "start", "title", self.title);
        for tick in ticks(y_min, step, y_max) {
            let at = y(tick);
            line(out, "grid", (LEFT, at), (RIGHT, at));
            text(out, (LEFT - 6.0, at + 4.0), "end", "", &number(tick, step));
        }
        let mut measured: Vec<f64> = all().map(|(x, _)| x).collect();
        measured.sort_by(f64::total_cmp);
        measured.dedup();
        for tick in measured {
            text(out, (x(tick), BOTTOM + 17.0), "middle", "", &short(tick));
        }
        text(out, (f64::midpoint(LEFT, RIGHT), BOTTOM + 34.0), "middle", "", self.x);
        text(out, (LEFT, TOP - 10.0), "start", "", self.y);
        line(out, "axis", (LEFT, BOTTOM), (RIGHT, BOTTOM));
        // What was not measured is not drawn; what was measured once is a dot.
        for (number, line) in self.lines.iter().filter(|line| !line.points.is_empty()).enumerate() {
            let class = format!("l c{} d{}", number % COLOURS, number / COLOURS % 3);
            let points: Vec<String> = line.points.iter().map(|(a, b)| format!("{:.1} {:.1}", x(*a), y(*b))).collect();
            let _ = writeln!(out, "<path class=\"{class}\" d=\"M{}\"/>", points.join("L"));
            for (a, b) in &line.points {
                let _ = writeln!(out, "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"1.5\"/>", x(*a), y(*b));
            }
            let (column, row) = ((number % 2) as f64, (number / 2) as f64);
            let (from, at) = (LEFT + column * 190.0, BOTTOM + 54.0 + row * LINE);
            let _ = writeln!(out, "<path class=\"{class}\" d=\"M{from} {at}h22\"/>");
            text(out, (from + 28.0, at + 4.0), "start", "", &line.name);
        }
    }

    fn scale(&self, x: f64) -> f64 {
        if self.log_x { x.max(1e-9).log10() } else { x }
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low.is_finite() { (low, high) } else { (0.0, 1.0) }
}

fn short(value: f64) -> String {
    if value >= 1000.0 { format!("{}k", value / 1000.0) } else { format!("{value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_balanced_and_has_numbers_only() {
        let line = |name: &str, points: &[(f64, f64)]| Line { name: name.to_owned(), points: points.to_vec() };
        let chart = |lines| Chart { title: "a & b", x: "nodes", y: "stretch", log_x: true, lines };
        let svg = svg(&[chart(vec![line("one", &[(1000.0, 1.0), (10_000.0, 1.2)])]), chart(vec![line("none", &[])])]);
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
        assert!(
            !svg.contains("\"M\"")
                && !svg.contains("NaN")
                && !svg.contains("inf")
                && svg.contains("a &amp; b")
                && svg.contains("10k"),
            "{svg}"
        );
    }
}
