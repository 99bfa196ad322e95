//! What can be set, and the limits on everything that a peer could make grow.

use core::time::Duration;

/// Credit of a new stream before any `MaxStreamData`, in bytes: what both ends assume.
pub const INITIAL_STREAM_CREDIT_BYTES: u64 = 256 * 1024;
/// Credit of a new session before any `MaxData`, in bytes: what both ends assume.
pub const INITIAL_SESSION_CREDIT_BYTES: u64 = 1024 * 1024;
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
/// How long packets under the key before the last step are still opened.
pub const OLD_KEY_LIFETIME: Duration = Duration::from_secs(3);
/// A live peer is asked for a sign of life at most once in this time.
pub const MIN_ASK_INTERVAL: Duration = Duration::from_millis(200);
/// A peer's Re-Hellos are answered at most once in this time, after a burst of [`ANSWER_BURST`].
pub const ANSWER_INTERVAL: Duration = Duration::from_millis(50);
/// So many answers may go out at once.
pub const ANSWER_BURST: u32 = 8;
/// How long an older resume secret is still accepted once the peer is known to hold the newer one.
pub const OLD_SECRET_LIFETIME: Duration = Duration::from_secs(600);
/// Hellos without a cookie that may be worked on at once in all; each costs up to
/// [`OPS_PER_HELLO`](crate::handshake::OPS_PER_HELLO) public-key operations.
pub const HELLO_BURST: u32 = 128;
/// After the burst, one in this time.
pub const HELLO_INTERVAL: Duration = Duration::from_millis(5);
/// Of these, so many at once that came over one neighbour.
pub const NEIGHBOUR_HELLO_BURST: u32 = 64;
/// After the burst, one of a neighbour in this time.
pub const NEIGHBOUR_HELLO_INTERVAL: Duration = Duration::from_millis(10);
/// Hellos with a good cookie that may be worked on at once in all, beside the others.
pub const PROVEN_HELLO_BURST: u32 = 256;
/// After the burst, one in this time.
pub const PROVEN_HELLO_INTERVAL: Duration = Duration::from_millis(1);
/// Of these, so many at once that came over one neighbour.
pub const NEIGHBOUR_PROVEN_HELLO_BURST: u32 = 128;
/// After the burst, one of a neighbour in this time.
pub const NEIGHBOUR_PROVEN_HELLO_INTERVAL: Duration = Duration::from_millis(2);
/// Cookies that may go out at once to strangers beyond one neighbour.
pub const COOKIE_BURST: u32 = 4096;
/// After the burst, one in this time: 125,000 a second. A cookie costs what it costs to see that a Hello is noise, so a lower limit would
/// spare little, and whoever used it up would keep all others out.
pub const COOKIE_INTERVAL: Duration = Duration::from_micros(8);
/// Resets that may go out at once.
pub const RESET_BURST: u32 = 16;
/// After the burst, one reset in this time.
pub const RESET_INTERVAL: Duration = Duration::from_millis(100);
/// How long an answered handshake may wait for its Finished, on both sides: who began it cannot know whether the peer has the session,
/// and data, already. Long, so that an outage which begins in that moment breaks nothing.
pub const HALF_OPEN_LIFETIME: Duration = Duration::from_mins(10);
/// How often a node looks whether its certificate is old.
pub const CERT_CHECK: Duration = Duration::from_hours(6);
/// Unanswered probes before a session is suspended.
pub const PROBES_BEFORE_SUSPENSION: u32 = 3;

/// Settings of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Longest inside of a packet, in bytes. A slow path gets shorter ones.
    pub max_payload_bytes: usize,
    /// How much may arrive on a stream ahead of its reader, in bytes.
    pub stream_window_bytes: u64,
    /// How much may arrive on all streams of a session ahead of their readers, in bytes.
    pub session_window_bytes: u64,
    /// How much a stream holds of what was written but not acknowledged, in bytes.
    pub send_buffer_bytes: u64,
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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_payload_bytes: 60 * 1024,
            stream_window_bytes: 4 * 1024 * 1024,
            session_window_bytes: 8 * 1024 * 1024,
            send_buffer_bytes: 2 * 1024 * 1024,
            max_ack_delay: Duration::from_millis(5),
            handshake_timeout: Duration::from_secs(30),
            max_sessions: 1024,
            max_streams_per_session: 512,
            max_half_open: 1024,
        }
    }
}
