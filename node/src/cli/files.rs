//! `muses send` and `muses receive`.

use std::io::Write as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::exit::{Code, Fault};
use crate::files::Progress;

pub(super) mod receive;
pub(super) mod send;

/// Between two tries to go on with a transfer that broke off.
const RETRY: Duration = Duration::from_secs(1);
/// So long a transfer that broke off is tried again before the command gives up; an outage alone breaks nothing.
const RETRY_LIMIT: Duration = Duration::from_secs(600);

/// What the person in front of it sees.
pub(super) struct Screen {
    quiet: bool,
    json: bool,
    bars: MultiProgress,
}

impl Screen {
    pub(super) fn new(quiet: bool, json: bool) -> Self {
        // Elsewhere than in a terminal bars draw nothing.
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self { quiet, json, bars: MultiProgress::with_draw_target(target) }
    }

    /// A line about what was done, on stdout.
    fn done(&self, line: &str) {
        if !self.quiet && !self.json {
            self.bars.suspend(|| _ = writeln!(std::io::stdout(), "{}", printable(line)));
        }
    }

    /// A line about what goes on, on stderr.
    fn note(&self, line: &str) {
        if !self.quiet {
            self.bars.suspend(|| _ = writeln!(std::io::stderr(), "muses: {}", printable(line)));
        }
    }

    fn bar(&self, name: &str, bytes: u64) -> Bar {
        let bar = self.bars.add(ProgressBar::new(bytes));
        let form = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar.set_prefix(printable(name));
        Bar { bar, checking: false }
    }
}

/// A file's line; gone when it is dropped.
struct Bar {
    bar: ProgressBar,
    checking: bool,
}

impl Bar {
    fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Checking(bytes) => {
                if !self.checking {
                    self.checking = true;
                    self.bar.set_message("(checking what is there)");
                }
                self.bar.set_position(bytes);
            }
            Progress::At(bytes) => {
                if self.checking {
                    self.checking = false;
                    self.bar.set_message("");
                    // What was there already says nothing about how long the rest takes.
                    self.bar.set_position(bytes);
                    self.bar.reset_eta();
                }
                self.bar.set_position(bytes);
            }
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// For how long a transfer may be tried again without getting on.
struct Patience {
    since: Option<Instant>,
}

impl Patience {
    const fn new() -> Self {
        Self { since: None }
    }

    /// It goes on.
    fn renew(&mut self) {
        self.since = None;
    }

    /// Waits a little.
    ///
    /// # Errors
    /// [`Code::Timeout`], with `what`, when it has lasted too long.
    fn wait(&mut self, what: &str) -> Result<(), Fault> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > RETRY_LIMIT {
            return Err(Fault::new(Code::Timeout, what));
        }
        std::thread::sleep(RETRY);
        Ok(())
    }

    /// Whether it is the first time that it broke off here.
    const fn is_fresh(&self) -> bool {
        self.since.is_none()
    }
}

/// Without control characters: names come from other nodes, and a terminal obeys what it prints.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
