//! How much of this node a neighbour may have by saying a lot in small pieces.
//!
//! A small frame costs the loop more than it costs to read it, and a neighbour that sends such frames without a pause keeps its reader and the loop
//! busy with each other: nobody would look whether another neighbour has sent something before both have nothing to do. So its reader lets others go
//! first after every few frames, and there is a limit to the frames of a second. What is above it waits in the
//! neighbour's queues: who sends most there, by flow label, has most dropped, but who is behind that neighbour shares them with a flood that passes it. Where handshakes
//! come in such numbers ([`Links::slow`](super::Links::slow)), the limit is a lower one.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Small frames that a reader hands over before others have their turn.
pub(in crate::links) const SMALL_FRAMES_PER_TURN: u32 = 16;
/// A frame below this, in bytes, is a small one. Bulk data comes in larger ones as soon as the path shows that it is fast.
const SMALL_FRAME_BYTES: usize = 4 * 1024;
/// Small frames that are read of a neighbour in a second, in each lane.
const SMALL_FRAMES_PER_S: u32 = 50_000;
/// The same of one that floods this node, or passes a flood on.
const FLOODING_FRAMES_PER_S: u32 = 5_000;
/// So long after this was told last.
pub(in crate::links) const FLOODING_FOR: Duration = Duration::from_secs(1);
/// What a neighbour that was silent may say faster, for so long.
const BURST: Duration = Duration::from_millis(10);

/// Until when less is read of a neighbour.
pub(in crate::links) type Flooding = watch::Receiver<Option<Instant>>;

/// Whose turn it is.
pub(in crate::links) struct Turn {
    flooding: Flooding,
    small_frames: u32,
    /// When the next small frames may be handed over, if they came evenly.
    due: Option<Instant>,
}

impl Turn {
    /// That of one lane's reader.
    pub(in crate::links) const fn new(flooding: Flooding) -> Self {
        Self { flooding, small_frames: 0, due: None }
    }

    /// A frame of this length was handed over: lets others go first from time to time.
    pub(in crate::links) async fn after(&mut self, bytes: usize) {
        self.small_frames += u32::from(bytes < SMALL_FRAME_BYTES);
        if self.small_frames < SMALL_FRAMES_PER_TURN {
            return;
        }
        self.small_frames = 0;
        let now = Instant::now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let floods = self.flooding.borrow().is_some_and(|until| now < until);
        let per_s = if floods { FLOODING_FRAMES_PER_S } else { SMALL_FRAMES_PER_S };
        let due =
            self.due.map_or(earliest, |due| due.max(earliest)) + Duration::from_secs(1) * SMALL_FRAMES_PER_TURN / per_s;
        self.due = Some(due);
        if due > now {
            tokio::time::sleep_until(due).await;
        } else {
            // Tokio comes back to this task after it has asked the system for news of all sockets.
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a neighbour takes that has `frames` of this length to say, and waits for so long after each.
    async fn takes(frames: u32, bytes: usize, pause: Duration) -> Duration {
        let (start, mut turn) = (Instant::now(), Turn::new(watch::channel(None).1));
        for _ in 0..frames {
            turn.after(bytes).await;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_too_much_in_small_pieces_waits() {
        let took = takes(SMALL_FRAMES_PER_S, SMALL_FRAME_BYTES - 1, Duration::ZERO).await;
        assert!((0.98..1.0).contains(&took.as_secs_f64()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn large_frames_and_bursts_do_not_wait() {
        assert_eq!(takes(SMALL_FRAMES_PER_S, SMALL_FRAME_BYTES, Duration::ZERO).await, Duration::ZERO);
        assert_eq!(takes(SMALL_FRAMES_PER_S / 100, 100, Duration::ZERO).await, Duration::ZERO, "10 ms of it");
        let pause = Duration::from_millis(1);
        assert_eq!(takes(1000, 100, pause).await, pause * 1000, "nobody says that much in a second");
    }

    #[tokio::test(start_paused = true)]
    async fn less_is_read_of_a_flood_while_it_lasts() {
        let start = Instant::now();
        let (slow, flooding) = watch::channel(None);
        let mut turn = Turn::new(flooding);
        let mut frames = 0;
        let mut after = async |until: Duration| {
            while start.elapsed() < until {
                turn.after(100).await;
                frames += 1;
            }
            std::mem::take(&mut frames)
        };
        slow.send_replace(Some(start + FLOODING_FOR));
        let most = FLOODING_FRAMES_PER_S + FLOODING_FRAMES_PER_S / 50;
        let read = after(FLOODING_FOR).await;
        assert!((FLOODING_FRAMES_PER_S..most).contains(&read), "{read}");
        let read = after(2 * FLOODING_FOR).await;
        assert!((SMALL_FRAMES_PER_S - SMALL_FRAMES_PER_S / 50..=SMALL_FRAMES_PER_S).contains(&read), "{read}");
    }
}
