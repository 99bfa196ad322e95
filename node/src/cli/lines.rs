//! Lines on stdout or stderr from a thread of their own: a reader that is slow, or a terminal that is stopped, holds up nothing but these.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::words::count;

/// Lines that wait for their reader; further ones are left out.
const MAX_WAITING_LINES: usize = 1024;
/// At the end of the process a reader has this long to take what waits.
const MAX_FLUSH: Duration = Duration::from_millis(500);

/// Where lines go. Clones lead to the same place, in order.
#[derive(Clone)]
pub(super) struct Lines {
    queue: mpsc::Sender<Piece>,
    /// Lines that found no room and were not told of yet.
    left_out: Arc<AtomicU64>,
    /// How their number is told.
    notice: fn(u64) -> String,
}

enum Piece {
    Line(String),
    /// All before it is written.
    Mark(oneshot::Sender<()>),
}

impl Lines {
    /// To stdout.
    pub(super) fn stdout() -> Self {
        Self::start("stdout", io::stdout(), |lost| format!("({} left out)", count(lost, "line")))
    }

    /// To stderr; `notice` makes the line that says how many found no room.
    pub(super) fn stderr(notice: fn(u64) -> String) -> Self {
        Self::start("stderr", io::stderr(), notice)
    }

    fn start(name: &str, to: impl io::Write + Send + 'static, notice: fn(u64) -> String) -> Self {
        let (queue, pieces) = mpsc::channel(MAX_WAITING_LINES);
        let writer = std::thread::Builder::new().name(name.to_owned());
        if let Err(error) = writer.spawn(move || write(pieces, to)) {
            tracing::warn!("nothing is said on {name}: {error}");
        }
        Self { queue, left_out: Arc::default(), notice }
    }

    /// One line. Nobody may be there to read it, which is no fault.
    pub(super) fn say(&self, line: &str) {
        let mut lost = self.left_out.swap(0, Ordering::Relaxed);
        if lost > 0 && self.push((self.notice)(lost)) {
            lost = 0;
        }
        if lost > 0 || !self.push(line.to_owned()) {
            self.left_out.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }

    /// Waits until all is written, if somebody reads it.
    pub(super) async fn flush(&self) {
        let (mark, written) = oneshot::channel();
        let flushing = async {
            if self.queue.send(Piece::Mark(mark)).await.is_ok() {
                let _ = written.await;
            }
        };
        let _ = tokio::time::timeout(MAX_FLUSH, flushing).await;
    }

    fn push(&self, line: String) -> bool {
        self.queue.try_send(Piece::Line(line)).is_ok()
    }
}

/// For `tracing`, which writes each event in one piece, with the end of its line.
impl io::Write for Lines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.say(String::from_utf8_lossy(event).trim_end_matches('\n'));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(mut pieces: mpsc::Receiver<Piece>, mut to: impl io::Write) {
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Line(mut line) => {
                line.push('\n');
                // Nobody may be there to read it, which is no fault.
                let _ = to.write_all(line.as_bytes());
            }
            Piece::Mark(mark) => _ = mark.send(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_told_of() {
        let (queue, mut pieces) = mpsc::channel(2);
        let lines = Lines { queue, left_out: Arc::default(), notice: |lost| format!("{lost} lost") };
        let mut next = || match pieces.try_recv() {
            Ok(Piece::Line(line)) => line,
            _ => "nothing".to_owned(),
        };
        (1..=5).for_each(|number| lines.say(&number.to_string()));
        assert_eq!([next(), next(), next()], ["1", "2", "nothing"]);
        lines.say("6");
        assert_eq!([next(), next(), next()], ["3 lost", "6", "nothing"]);
    }
}
