//! What time a process uses, as the kernel says (proc(5)).

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::wait::{Result, Trouble, io};

/// The unit of the times in `/proc/PID/stat`: `USER_HZ`, which is 100 on every architecture that Rust has a Linux target for.
const TICKS_PER_S: f64 = 100.0;
/// In `/proc/PID/stat`, counted from the field behind the process's name: time in user mode, in ticks.
const AT_UTIME: usize = 11;
/// In `/proc/PID/net/tcp`: a socket's state, and its number as it stands in `/proc/PID/fd`.
const AT_STATE: usize = 3;
const AT_INODE: usize = 9;

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

/// What a process has open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptors {
    /// Files, sockets and the like.
    pub open: usize,
    /// TCP sockets among them of which the other side has closed.
    pub half_closed: usize,
}

/// What a process has open now.
///
/// # Errors
/// When there is no such process, or it belongs to somebody else.
pub fn descriptors(pid: u32) -> Result<Descriptors> {
    let path = PathBuf::from(format!("/proc/{pid}/fd"));
    let entries = std::fs::read_dir(&path).map_err(io(path.display()))?;
    // What was closed since is not open.
    let names: Vec<PathBuf> = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    let table = read(pid, "net/tcp")?;
    let waiting = half_closed_inodes(&table);
    let is_waiting = |name: &&PathBuf| name.to_str().and_then(inode_of).is_some_and(|inode| waiting.contains(inode));
    Ok(Descriptors { open: names.len(), half_closed: names.iter().filter(is_waiting).count() })
}

fn inode_of(socket: &str) -> Option<&str> {
    socket.strip_prefix("socket:[")?.strip_suffix(']')
}

/// Of a table of TCP sockets: those in the state CLOSE_WAIT, which is 8.
fn half_closed_inodes(table: &str) -> BTreeSet<&str> {
    let row = |line: &str| line.split_whitespace().nth(AT_STATE) == Some("08");
    table.lines().filter(|line| row(line)).filter_map(|line| line.split_whitespace().nth(AT_INODE)).collect()
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
    fn what_a_process_has_open_is_counted() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = descriptors(child.id());
        child.kill().and_then(|()| child.wait()).unwrap();
        // Input, output and errors; what this process has open is closed on exec.
        let found = found.unwrap();
        assert!(found.open >= 3 && found.half_closed == 0, "{found:?}");
        assert!(descriptors(u32::MAX).is_err());
    }

    #[test]
    fn a_socket_of_which_the_other_side_has_closed_is_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let before = descriptors(std::process::id()).unwrap().half_closed;
        drop(listener.accept().unwrap());
        // Other tests have sockets of their own, but each of theirs is closed soon.
        let seen = crate::wait::until("the end", std::time::Duration::from_secs(30), || {
            Ok((descriptors(std::process::id())?.half_closed > before).then_some(()))
        });
        seen.unwrap();
        drop(ours);
    }

    #[test]
    fn this_very_process_uses_something() {
        assert!(cpu_s(std::process::id()).is_ok() && cpu_s(u32::MAX).is_err());
    }
}
