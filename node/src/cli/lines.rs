//! Lines on stdout from a thread of their own: a reader that is slow, or a terminal that is stopped, holds up nothing but these.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::words::count;

/// Lines that wait for their reader; further ones are left out.
const MAX_WAITING_LINES: usize = 1024;
/// At the end of the process a reader has this long to take what waits.
const MAX_FLUSH: Duration = Duration::from_millis(500);

/// Where lines go. Clones lead to the same stdout, in order.
#[derive(Clone)]
pub(super) struct Lines {
    queue: mpsc::Sender<Piece>,
    /// Lines that found no room and were not told of yet.
    left_out: Arc<AtomicU64>,
}

enum Piece {
    Line(String),
    /// All before it is written.
    Mark(oneshot::Sender<()>),
}

impl Lines {
    /// To stdout.
    pub(super) fn start() -> Self {
        let (queue, pieces) = mpsc::channel(MAX_WAITING_LINES);
        let writer = std::thread::Builder::new().name("stdout".to_owned());
        if let Err(error) = writer.spawn(move || write(pieces)) {
            tracing::warn!("nothing is said on stdout: {error}");
        }
        Self { queue, left_out: Arc::default() }
    }

    /// One line. Nobody may be there to read it, which is no fault.
    pub(super) fn say(&self, line: &str) {
        let mut lost = self.left_out.swap(0, Ordering::Relaxed);
        if lost > 0 && self.push(format!("({} left out)", count(lost, "line"))) {
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

fn write(mut pieces: mpsc::Receiver<Piece>) {
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Line(line) => _ = writeln!(std::io::stdout(), "{line}"),
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
        let lines = Lines { queue, left_out: Arc::default() };
        let mut next = || match pieces.try_recv() {
            Ok(Piece::Line(line)) => line,
            _ => "nothing".to_owned(),
        };
        (1..=5).for_each(|number| lines.say(&number.to_string()));
        assert_eq!([next(), next(), next()], ["1", "2", "nothing"]);
        lines.say("6");
        assert_eq!([next(), next(), next()], ["(3 lines left out)", "6", "nothing"]);
    }
}
