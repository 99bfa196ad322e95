//! What all sessions of an endpoint hold of what applications wrote and peers have not acknowledged.
//!
//! A stream may hold what its path makes use of, and the streams of a session share what a session may ([`crate::config`]). But sessions are many, and a peer that asks for
//! much and reads nothing pays nothing for it: so what all of them hold has a bound, too. It is the rule of dynamic thresholds (Choudhury and Hahne, IEEE/ACM Transactions on
//! Networking 6(2), 1998): a session may hold a quarter of what is *left*. One that is alone has a fifth of all, and n that want much each 1/(n + 4). What is held is not
//! taken back, though, and peers that came first and read nothing would leave the next ones less and less: so a little belongs to each session alone.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// What all sessions of an endpoint share, in bytes. Beyond it each session may hold [`SESSION_HELD_BYTES`], and each stream
/// [`PRESSED_SEND_BUFFER_BYTES`](crate::config::PRESSED_SEND_BUFFER_BYTES), so that each goes on.
pub const MAX_HELD_BYTES: u64 = 256 * 1024 * 1024;
/// What a session may hold whatever the others do, in bytes.
pub const SESSION_HELD_BYTES: u64 = 128 * 1024;

/// The part of what is left that one session may hold.
const PART: u64 = 4;

#[derive(Debug)]
struct All {
    bytes: AtomicU64,
    most: u64,
}

/// What is held by all sessions of an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Held(Arc<All>);

impl Default for Held {
    fn default() -> Self {
        Self::of(MAX_HELD_BYTES)
    }
}

impl Held {
    /// Of which there may be so much.
    pub fn of(most: u64) -> Self {
        Self(Arc::new(All { bytes: AtomicU64::new(0), most }))
    }

    /// How much it is, in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// What a new session holds: nothing yet.
    pub fn share(&self) -> Share {
        Share { of: self.clone(), bytes: 0 }
    }
}

/// What one session holds of it. When the session goes, so does that.
#[derive(Debug)]
pub(crate) struct Share {
    of: Held,
    bytes: u64,
}

impl Share {
    /// How much more the session may hold now, in bytes.
    pub fn room(&self) -> u64 {
        let Held(all) = &self.of;
        let left = all.most.saturating_sub(self.of.bytes());
        (left / PART).max(SESSION_HELD_BYTES).saturating_sub(self.bytes)
    }

    /// One of its streams held `before`, and holds `after` now.
    pub fn change(&mut self, before: u64, after: u64) {
        let Held(all) = &self.of;
        if after > before {
            all.bytes.fetch_add(after - before, Ordering::Relaxed);
            self.bytes = self.bytes.saturating_add(after - before);
        } else {
            let less = (before - after).min(self.bytes);
            all.bytes.fetch_sub(less, Ordering::Relaxed);
            self.bytes -= less;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.0.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1 << 30;
    const SOME: u64 = MOST / 10_000;

    #[test]
    fn who_wants_much_has_an_equal_part() {
        for count in [1, 2, 10, 100, 1000] {
            let held = Held::of(MOST);
            let mut shares: Vec<_> = (0..count).map(|_| held.share()).collect();
            // Each takes a little when it may, until nobody may.
            let ready =
                |shares: &[Share]| (0..shares.len()).filter(|&n| shares[n].room() > 0).min_by_key(|&n| shares[n].bytes);
            while let Some(number) = ready(&shares) {
                let bytes = shares[number].bytes;
                let some = shares[number].room().min(SOME);
                shares[number].change(bytes, bytes + some);
            }
            let fair = MOST / (count + 4);
            assert!(shares.iter().all(|share| share.bytes.abs_diff(fair) <= 2 * SOME), "{count}: {shares:?}");
            assert!(held.bytes() <= MOST);
            shares.truncate(1);
            assert_eq!(held.bytes(), shares[0].bytes);
            drop(shares);
            assert_eq!(held.bytes(), 0);
        }
    }

    #[test]
    fn what_is_given_back_is_never_more_than_was_taken() {
        let held = Held::of(MOST);
        let (mut one, mut other) = (held.share(), held.share());
        one.change(0, 10);
        other.change(0, 5);
        other.change(100, 0);
        assert_eq!((held.bytes(), other.bytes), (10, 0));
        drop(one);
        assert_eq!(held.bytes(), 0);
    }
}
