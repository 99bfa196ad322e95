//! What all our drawings need: round ticks, numbers, words and lines.

use std::fmt::Write as _;

/// The least of 1, 2, 5 times a power of ten that is not below `value`.
pub fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(10.0 * power)
}

/// The multiples of `step` from `first`, which is one, up to `last`.
pub fn ticks(first: f64, step: f64, last: f64) -> impl Iterator<Item = f64> {
    let room = step * 1e-6;
    (0u32..).map(move |n| first + f64::from(n) * step).take_while(move |tick| *tick <= last + room)
}

/// A tick's number, as exact as the step between them.
pub fn number(value: f64, step: f64) -> String {
    let decimals = match step {
        step if step < 0.001 => 4,
        step if step < 0.01 => 3,
        step if step < 0.1 => 2,
        step if step < 1.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Writes words at a point.
pub fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, class: &str, words: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, "<text{class} x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

/// Draws a straight line.
pub fn line(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(out, "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(nice(3.4), 5.0);
        assert_eq!(nice(0.011), 0.02);
        assert_eq!(nice(10.0), 10.0);
        assert_eq!(ticks(0.0, 5.0, 15.0).collect::<Vec<_>>(), [0.0, 5.0, 10.0, 15.0]);
        assert_eq!(ticks(95.0, 1.0, 97.0).collect::<Vec<_>>(), [95.0, 96.0, 97.0]);
        assert_eq!(
            (number(0.5, 0.5), number(0.0125, 0.005), number(20.0, 10.0)),
            ("0.5".into(), "0.013".into(), "20".into())
        );
    }

    #[test]
    fn words_do_not_break_the_drawing() {
        let mut out = String::new();
        text(&mut out, (1.0, 2.0), "end", "", "a < b & c");
        assert_eq!(out, "<text x=\"1.0\" y=\"2.0\" text-anchor=\"end\">a &lt; b &amp; c</text>\n");
    }
}
