//! What is said when the system gives no socket to whoever connects: once, with what helps, and not each time that it is tried again.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

/// How long to wait before the next try.
const PAUSE: Duration = Duration::from_millis(100);
/// A node at its limit fails and works in turn: that is said once in this time.
const QUIET: Duration = Duration::from_secs(60);

/// A place where others connect.
pub struct Door {
    what: String,
    /// It fails, and that was said.
    failing: bool,
    said_at: Option<Instant>,
}

impl Door {
    /// `what` is for the log.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), failing: false, said_at: None }
    }

    /// Somebody came in.
    pub fn works(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::warn!("accepting for {} works again", self.what);
        }
    }

    /// Nobody can come in now; returns when to try again.
    pub async fn fails(&mut self, error: &io::Error) {
        if self.is_news(Instant::now()) {
            let hint = hint(error);
            tracing::warn!("accepting for {}: {error}{hint}; it is tried again, and who connects waits", self.what);
        }
        tokio::time::sleep(PAUSE).await;
    }

    fn is_news(&mut self, now: Instant) -> bool {
        if self.failing || self.said_at.is_some_and(|at| now.duration_since(at) < QUIET) {
            return false;
        }
        self.failing = true;
        self.said_at = Some(now);
        true
    }
}

fn hint(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => {
            "; allow this node more (ulimit -n, LimitNOFILE= in its systemd unit), or end connections"
        }
        Some(Errno::NFILE) => "; the whole machine has no more: end programs, or raise fs.file-max (sysctl)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_news_once_and_one_that_comes_and_goes_once_in_a_while() {
        let mut door = Door::new("x");
        let start = Instant::now();
        let mut news = 0;
        for tenth in 0..1200_u32 {
            news += usize::from(door.is_news(start + PAUSE * tenth));
        }
        assert_eq!(news, 1, "as long as it lasts");
        for tenth in 1200..2400 {
            door.works();
            news += usize::from(door.is_news(start + PAUSE * tenth));
        }
        assert_eq!(news, 3, "each minute");
        assert!(hint(&io::Error::from(Errno::MFILE)).contains("LimitNOFILE"));
    }
}
