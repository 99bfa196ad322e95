//! Sessions end to end: two endpoints, a hostile network, virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test may fail loudly"
)]

mod clock;
mod cut;
mod flood;
mod limits;
mod pair;
mod places;
mod refresh;
mod replays;
mod resume;
mod silence;
mod steps;
mod transfer;
