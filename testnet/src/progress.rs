//! What goes on, on stderr: a bar on a terminal, plain lines elsewhere. stdout is for the result.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal a line about the bytes comes this often.
const LINE_EVERY: Duration = Duration::from_secs(3);
/// How often a terminal sees that something goes on.
const TICK: Duration = Duration::from_millis(200);

/// Live progress of one run.
pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    latest_line: Mutex<Instant>,
    bytes: u64,
}

impl Progress {
    /// Of a transfer of `bytes`.
    pub fn new(bytes: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(bytes);
            let style = "  {bar:32} {bytes:>11} of {total_bytes}  {msg}";
            bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self::with(bar, bytes)
    }

    /// Of something whose length nobody knows.
    pub fn of_steps() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "  {spinner} {elapsed_precise}  {msg}";
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self::with(bar, 0)
    }

    fn with(bar: Option<ProgressBar>, bytes: u64) -> Self {
        let now = Instant::now();
        Self { bar, started: now, latest_line: Mutex::new(now), bytes }
    }

    /// A step is done or begins.
    pub fn say(&self, words: &str) {
        let line = format!("{:6.1} s  {words}", self.started.elapsed().as_secs_f64());
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// What goes on now; without a terminal nobody is told.
    pub fn doing(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// So many bytes are there now, while `what` goes on.
    pub fn bytes(&self, bytes: u64, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
            bar.set_message(what.to_owned());
            return;
        }
        let Ok(mut latest) = self.latest_line.lock() else { return };
        if latest.elapsed() >= LINE_EVERY {
            *latest = Instant::now();
            self.say(&format!("{bytes} of {} bytes, {what}", self.bytes));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
