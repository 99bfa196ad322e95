//! What time a process uses, as the kernel says (proc(5)).

use std::path::PathBuf;

use crate::wait::{Result, Trouble, io};

/// The unit of the times in `/proc/PID/stat`: `USER_HZ`, which is 100 on every architecture that Rust has a Linux target for.
const TICKS_PER_S: f64 = 100.0;
/// In `/proc/PID/stat`, counted from the field behind the process's name: time in user mode, in ticks.
const AT_UTIME: usize = 11;

/// CPU time that a process has used in user and kernel mode, all its threads together, in seconds; exact to 10 ms.
///
/// # Errors
/// When there is no such process.
pub fn cpu_s(pid: u32) -> Result<f64> {
    let text = read(pid, "stat")?;
    let ticks = cpu_ticks(&text).ok_or_else(|| Trouble::new(format!("/proc/{pid}/stat: unexpected: {text}")))?;
    Ok(ticks as f64 / TICKS_PER_S)
}

/// A file that the kernel has for each process.
///
/// # Errors
/// When there is no such process.
pub fn read(pid: u32, file: &str) -> Result<String> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    std::fs::read_to_string(&path).map_err(io(path.display()))
}

/// How many processes wanted to run at a time in the minute before, the whole machine's (proc(5)); none where the kernel does not say.
pub fn load_average() -> Option<f64> {
    first_number(&std::fs::read_to_string("/proc/loadavg").ok()?)
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The process's name stands in parentheses and may itself have some: what counts is behind the last one.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(AT_UTIME).map(str::parse::<u64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "4711 (a) (b 9 9) S 1 4711 4711 0 -1 4194304 1 2 3 4 250 75 6 7 20 0 3 0 100 1 2";
        assert_eq!(cpu_ticks(stat), Some(325));
        for bad in ["", "1 (a", "1 (a) S 1 2 3", "1 (a) S 1 1 1 0 -1 0 1 2 3 4 x 75"] {
            assert_eq!(cpu_ticks(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_load_of_the_last_minute_comes_first() {
        assert_eq!(first_number("12.5 3.00 1.00 2/300 4711\n"), Some(12.5));
        assert_eq!((first_number(""), first_number("x 1")), (None, None));
        assert!(load_average().is_some_and(|load| load >= 0.0));
    }

    #[test]
    fn this_very_process_uses_something() {
        assert!(cpu_s(std::process::id()).is_ok() && cpu_s(u32::MAX).is_err());
    }
}
