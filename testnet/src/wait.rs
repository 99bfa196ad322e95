//! Bounded waits, the wish to stop (Ctrl-C), and the one error type of the harness.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(10);

static STOP: AtomicBool = AtomicBool::new(false);

/// What went wrong, in one line, and the log that tells more.
#[derive(Debug)]
pub struct Trouble {
    what: String,
    log: Option<PathBuf>,
}

/// Most functions of the harness return this.
pub type Result<T> = std::result::Result<T, Trouble>;

impl Trouble {
    /// Something went wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), log: None }
    }

    /// What went wrong, without the log.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The same, with the log to read, unless one is named already.
    #[must_use]
    pub fn see(mut self, log: &Path) -> Self {
        self.log.get_or_insert_with(|| log.to_path_buf());
        self
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.log {
            Some(log) => write!(f, "\n  the log to read is {}", log.display()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Trouble {}

/// `what` failed because of an input or output error.
pub fn io(what: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Trouble {
    move |error| Trouble::new(format!("{what}: {error}"))
}

/// Whether the user wants an end.
pub fn stop_wanted() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Makes SIGINT and SIGTERM a wish, seen by every wait, so that everything that was started is ended in order. A
/// second signal ends this process at once; the nodes then get their parent-death signal.
///
/// # Errors
/// When no thread or signal handler can be had.
pub fn catch_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io("signal handling"))?;
    let guard = runtime.enter();
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("SIGINT"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io("SIGTERM"))?;
    drop(guard);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if STOP.swap(true, Ordering::Relaxed) {
                        std::process::exit(EXIT_INTERRUPTED.into());
                    }
                }
            });
        })
        .map_err(io("signal thread"))?;
    Ok(())
}

/// The exit code after Ctrl-C.
const EXIT_INTERRUPTED: u8 = 130;

/// How a program ends: 0 for `Ok(true)`, 130 after Ctrl-C, 1 otherwise, with the trouble on stderr.
pub fn exit_code(result: Result<bool>) -> ExitCode {
    match result {
        _ if stop_wanted() => ExitCode::from(EXIT_INTERRUPTED),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("testnet: {trouble}");
            ExitCode::FAILURE
        }
    }
}

/// Waits until `poll` gives something, at most `limit`.
///
/// # Errors
/// When the time is over, or the user wants an end, or `poll` fails.
pub fn until<T>(what: &str, limit: Duration, mut poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if stop_wanted() {
            return Err(Trouble::new("interrupted"));
        }
        if let Some(value) = poll()? {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            return Err(Trouble::new(format!("{what}: not within {:.0} s", limit.as_secs_f64())));
        }
        std::thread::sleep(POLL);
    }
}

/// Sleeps until `moment`, or fails when the user wants an end.
///
/// # Errors
/// When the user wants an end.
pub fn sleep_until(moment: Instant) -> Result<()> {
    loop {
        if stop_wanted() {
            return Err(Trouble::new("interrupted"));
        }
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(POLL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_bounded_and_says_what_it_waited_for() {
        let late = until::<()>("the moon", Duration::from_millis(20), || Ok(None)).unwrap_err();
        assert!(late.to_string().starts_with("the moon: not within"), "{late}");
        assert_eq!(until("now", Duration::ZERO, || Ok(Some(7))).unwrap(), 7);
    }

    #[test]
    fn the_first_log_named_is_kept() {
        let trouble = Trouble::new("x").see(Path::new("/a")).see(Path::new("/b"));
        assert_eq!(trouble.to_string(), "x\n  the log to read is /a");
    }
}
