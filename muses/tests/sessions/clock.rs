//! Clocks that are a year apart.

use std::time::Duration;

use muses::config::Config;
use muses::event::{Event, HandshakeFailure, Path, ResetReason, Resolved};
use muses::sessions::Sessions;
use overlay::id::Identity;
use overlay::time::{Now, WallTime};

const YEAR: Duration = Duration::from_hours(365 * 24);

fn sessions(seed: u8, now: Now) -> Sessions {
    let mut sessions =
        Sessions::new(Config::default(), Identity::from_secret(&[seed; 32]), [seed; 32], [seed; 32], now);
    sessions.handle_attached(Path(vec![seed]), now);
    sessions
}

#[test]
fn a_clock_that_is_off_by_a_year_is_told_at_once_and_before_the_streams_end() {
    let right = Now { wall: WallTime::from_unix_micros(1_800_000_000_000_000), ..Now::default() };
    let ahead = Now { wall: right.after(YEAR).wall, ..right };
    let path = Path(vec![2]);
    for (ours, theirs) in [(right, ahead), (ahead, right)] {
        let (mut us, them) = (sessions(1, ours), sessions(2, theirs));
        let peer = Identity::from_secret(&[2; 32]).id();
        let stream = us.open(peer, "files", 0, ours).unwrap();
        us.handle_peer(peer, Resolved { cert: them.cert().to_vec(), path: path.clone() }, ours);
        let events: Vec<Event> = std::iter::from_fn(|| us.poll_event()).collect();
        let why = HandshakeFailure::Certificate;
        assert_eq!(
            events,
            [Event::HandshakeFailed { peer, why }, Event::StreamClosed { stream, why: Some(ResetReason::Unreachable) }]
        );
    }
}
