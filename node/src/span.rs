//! Lengths of time as people type and read them.

/// The longest, in days: whoever types more has mistyped it, or wants what should not be.
const MAX_DAYS: u64 = 3650;
const SECONDS_IN_DAY: u64 = 86_400;

/// Seconds of `30m`, `12h`, `7d`: a whole number and one of s, m, h, d, together at most [`MAX_DAYS`].
///
/// # Errors
/// One line for anything else, for nothing, and for more.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a length of time, such as 30m, 12h or 7d (at most {MAX_DAYS}d)");
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => SECONDS_IN_DAY,
        _ => return Err(bad()),
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<u64>().ok());
    number
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| (1..=MAX_DAYS * SECONDS_IN_DAY).contains(seconds))
        .ok_or_else(bad)
}

/// The same, roughly, in words.
pub(crate) fn text(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / SECONDS_IN_DAY, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        assert_eq!(parse("90s"), Ok(90));
        assert_eq!((parse("30m"), parse("12h"), parse("7d")), (Ok(1800), Ok(43_200), Ok(604_800)));
        assert_eq!(parse("3650d"), Ok(315_360_000));
        for bad in [
            "",
            "d",
            "7",
            "0h",
            "-1h",
            "1.5h",
            "7 d",
            "1w",
            "é",
            "3651d",
            "99999999999999999999d",
            "18446744073709551615d",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(text(1), "1 second");
        assert_eq!(text(7199), "119 minutes");
        assert_eq!(text(604_800), "7 days");
    }
}
