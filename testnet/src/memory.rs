//! What a process holds in memory, as the kernel says (proc(5)), once that has come to rest.

use std::time::{Duration, Instant};

use crate::usage::read;
use crate::wait::{Result, Trouble, sleep_until};

/// Between two looks at a process that is to come to rest.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// It is at rest when its memory changed by no more than this between two looks, in bytes, ..
const STILL_BYTES: u64 = 256 * 1024;
/// .. so many times in a row.
const STILL_LOOKS: usize = 3;
/// What does not come to rest within this time is taken as it is.
const REST_LIMIT: Duration = Duration::from_secs(60);

/// The proportional set size of a process, in bytes: its own memory, and its share of what it shares with others.
///
/// # Errors
/// When there is no such process, or it belongs to somebody else.
pub fn pss_bytes(pid: u32) -> Result<u64> {
    pss(&read(pid, "smaps_rollup")?).ok_or_else(|| Trouble::new(format!("/proc/{pid}/smaps_rollup has no Pss")))
}

/// The same once it does not change any more.
///
/// # Errors
/// As [`pss_bytes`], or when the user wants an end.
pub fn resting_pss_bytes(pid: u32) -> Result<u64> {
    let start = Instant::now();
    let (mut latest, mut still) = (pss_bytes(pid)?, 0);
    while still < STILL_LOOKS && start.elapsed() < REST_LIMIT {
        sleep_until(Instant::now() + LOOK_EVERY)?;
        let now = pss_bytes(pid)?;
        still = if now.abs_diff(latest) <= STILL_BYTES { still + 1 } else { 0 };
        latest = now;
    }
    Ok(latest)
}

fn pss(smaps: &str) -> Option<u64> {
    let line = smaps.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pss_is_found_among_its_likes() {
        let smaps = "55-7f ---p 00 00:00 0   [rollup]\nRss:    9000 kB\nPss:    1234 kB\nPss_Dirty:   77 kB\n";
        assert_eq!(pss(smaps), Some(1234 * 1024));
        for bad in ["", "Pss_Dirty: 1 kB", "Pss: x kB", "Pss: 1 MB"] {
            assert_eq!(pss(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_process_allocates_is_in_it() {
        let before = pss_bytes(std::process::id()).unwrap();
        let block = vec![1_u8; 32 << 20];
        let after = pss_bytes(std::process::id()).unwrap();
        assert!(block.iter().all(|byte| *byte == 1));
        assert!(before > 0 && after > before + (16 << 20), "{before} {after}");
    }
}
