//! What can be set, and the limits on everything that a peer could make grow.

use core::time::Duration;

use crate::held::MAX_HELD_BYTES;

/// Credit of a new stream before any `MaxStreamData`, in bytes: what both ends assume.
pub const INITIAL_STREAM_CREDIT_BYTES: u64 = 256 * 1024;
/// Credit of a new session before any `MaxData`, in bytes: what both ends assume, and all that a peer gets that opens streams of which nobody here has taken one.
/// As much as the first congestion window lets through, so that nobody who is let in begins more slowly for it.
pub const INITIAL_SESSION_CREDIT_BYTES: u64 = 256 * 1024;
/// Streams that a peer may have open before one of them is taken here, times two as for others.
pub const UNTAKEN_STREAMS: usize = 64;
/// Pieces that wait behind gaps on all streams of a session of which none was ever taken here.
pub const UNTAKEN_FRAGMENTS: usize = 256;
/// A path with at least this round trip is a long one: windows grow further there, and packets are paced.
pub const LONG_ROUND_TRIP: Duration = Duration::from_millis(20);
/// What a stream's window begins with.
pub const FIRST_STREAM_WINDOW_BYTES: u64 = 1024 * 1024;
/// What a session's window begins with.
pub const FIRST_SESSION_WINDOW_BYTES: u64 = 2 * 1024 * 1024;
/// What a stream may hold unacknowledged; over a long path twice the congestion window, if that is more.
pub const FIRST_SEND_BUFFER_BYTES: u64 = 2 * 1024 * 1024;
/// What the streams of a session share for what they hold unacknowledged: each may hold an equal part when it is written to, and no less than the least. What those
/// hold that were there first stays, up to what a session may hold beside all others ([`MAX_HELD_BYTES`]).
pub const SESSION_SEND_BUFFER_BYTES: u64 = 32 * 1024 * 1024;
/// What a stream may hold unacknowledged, however many there are in its session.
pub const LEAST_SEND_BUFFER_BYTES: u64 = 64 * 1024;
/// What a stream may hold unacknowledged when all sessions together hold [`MAX_HELD_BYTES`].
pub const PRESSED_SEND_BUFFER_BYTES: u64 = 4 * 1024;
/// First wait for an answer to a Hello.
pub const HELLO_FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait between two Hellos.
pub const HELLO_MAX_WAIT: Duration = Duration::from_secs(4);
/// First wait for an answer to a Re-Hello.
pub const REHELLO_FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait between two Re-Hellos.
pub const REHELLO_MAX_WAIT: Duration = Duration::from_secs(30);
/// A suspended session looks its peer up afresh after so many unanswered Re-Hellos.
pub const REHELLOS_PER_RESOLVE: u32 = 3;
/// Two look-ups of one peer are at least so far apart.
pub const MIN_RESOLVE_INTERVAL: Duration = Duration::from_secs(1);
/// For how long a packet key is used, before the next step of its chain.
pub const MAX_KEY_AGE: Duration = Duration::from_secs(120);
/// How long packets under the key before the last step are still opened; and packets of the epoch before, after a move whose old path is alive.
pub const OLD_KEY_LIFETIME: Duration = Duration::from_secs(3);
/// A live peer is asked for a sign of life at most once in this time.
pub const MIN_ASK_INTERVAL: Duration = Duration::from_millis(200);
/// So long nothing was heard from a peer before its word is believed that it has lost a session, where nothing can prove that it is its word.
pub const UNPROVEN_RESET_WAIT: Duration = Duration::from_secs(30);
/// Answers to one peer's Re-Hellos from one place over one neighbour, and to each other message that comes again.
pub const ANSWERS: Rate = Rate { burst: 8, every: Duration::from_millis(50) };
/// Answers to one peer's Re-Hellos, wherever they come from.
pub const ANSWERS_IN_ALL: Rate = Rate { burst: 64, every: Duration::from_millis(5) };
/// How long an older resume secret is still accepted once the peer is known to hold the newer one.
pub const OLD_SECRET_LIFETIME: Duration = Duration::from_secs(600);
/// Hellos without a cookie that are worked on; each costs up to [`OPS_PER_HELLO`](crate::handshake::OPS_PER_HELLO) public-key operations.
pub const HELLOS: Rate = Rate { burst: 128, every: Duration::from_millis(5) };
/// Of these, those that came over one neighbour.
pub const NEIGHBOUR_HELLOS: Rate = Rate { burst: 64, every: Duration::from_millis(10) };
/// Hellos with a good cookie that are worked on, beside the others.
pub const PROVEN_HELLOS: Rate = Rate { burst: 256, every: Duration::from_millis(1) };
/// Of these, those that came over one neighbour.
pub const NEIGHBOUR_PROVEN_HELLOS: Rate = Rate { burst: 128, every: Duration::from_millis(2) };
/// Hellos that one neighbour may pass on, whatever becomes of them: 4,000 a second, eight times what is worked on of those with a good cookie. More is a
/// flood ([`crate::Event::HelloFlood`]).
pub const NEIGHBOUR_FLOOD: Rate = Rate { burst: 4096, every: Duration::from_micros(250) };
/// How often a flood is told.
pub const FLOOD_TOLD_EVERY: Duration = Duration::from_millis(250);
/// Cookies for strangers beyond one neighbour: 125,000 a second. A cookie costs what it costs to see that a Hello is noise, so a lower limit
/// would spare little, and whoever used it up would keep all others out.
pub const COOKIES: Rate = Rate { burst: 4096, every: Duration::from_micros(8) };
/// Resets to whoever sends, over one neighbour, Re-Hellos that cannot be honoured: whoever uses that up keeps nobody from his who comes over another.
pub const RESETS: Rate = Rate { burst: 16, every: Duration::from_millis(100) };
/// How long an answered handshake may wait for its Finished, on both sides: who began it cannot know whether the peer has the session,
/// and data, already. Long, so that an outage which begins in that moment breaks nothing.
pub const HALF_OPEN_LIFETIME: Duration = Duration::from_mins(10);
/// How often a node looks whether its certificate is old.
pub const CERT_CHECK: Duration = Duration::from_hours(6);
/// A session with streams asks its peer for a sign of life when nothing was heard for so many probe timeouts, and twice as long after each question that
/// was answered and brought nothing else.
pub const FIRST_VIGIL_PROBE_TIMEOUTS: u32 = 4;
/// Not sooner than this, however short the round trip is.
pub const MIN_VIGIL: Duration = Duration::from_millis(500);
/// Not later than this, however long streams have been silent: as often as the overlay probes its idle links.
pub const MAX_VIGIL: Duration = Duration::from_secs(15);
/// Unanswered probes before a session is suspended.
pub const PROBES_BEFORE_SUSPENSION: u32 = 3;

/// A limit on how often something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So often at once, after a pause.
    pub burst: u32,
    /// After the burst, once in this time.
    pub every: Duration,
}

/// Settings of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest inside of a packet, in bytes. A slow path gets shorter ones.
    pub max_payload_bytes: usize,
    /// How much may arrive on a stream ahead of its reader, at most, in bytes; see [`crate::window`].
    pub stream_window_bytes: u64,
    /// How much may arrive on all streams of a session ahead of their readers, at most, in bytes.
    pub session_window_bytes: u64,
    /// How much a stream holds of what was written but not acknowledged, at most, in bytes.
    pub send_buffer_bytes: u64,
    /// How much all sessions share of what was written but not acknowledged, in bytes; see [`MAX_HELD_BYTES`].
    pub max_held_bytes: u64,
    /// Longest wait before an acknowledgement.
    pub max_ack_delay: Duration,
    /// How long a peer is sought and greeted before it counts as unreachable.
    pub handshake_timeout: Duration,
    /// Most sessions.
    pub max_sessions: usize,
    /// Most streams that one session carries at the same time.
    pub max_streams_per_session: usize,
    /// Most handshakes that wait for their last message.
    pub max_half_open: usize,
    /// This machine has instructions for AES-GCM: with peers that have them too, packets are sealed by it.
    pub fast_aes: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_payload_bytes: 60 * 1024,
            stream_window_bytes: 16 * 1024 * 1024,
            session_window_bytes: 32 * 1024 * 1024,
            send_buffer_bytes: 16 * 1024 * 1024,
            max_held_bytes: MAX_HELD_BYTES,
            max_ack_delay: Duration::from_millis(5),
            handshake_timeout: Duration::from_secs(30),
            max_sessions: 1024,
            max_streams_per_session: 512,
            max_half_open: 1024,
            fast_aes: false,
        }
    }
}
