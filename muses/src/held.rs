//! What all sessions of an endpoint hold of what applications wrote and peers have not acknowledged.
//!
//! A stream may hold what its path makes use of, and the streams of a session share what a session may ([`crate::config`]). But sessions are many, and a peer that asks for
//! much and reads nothing pays nothing for it: so what all of them hold has a bound, too. It is the rule of dynamic thresholds (Choudhury and Hahne, IEEE/ACM Transactions on
//! Networking 6(2), 1998): a session may hold a quarter of what is *left*. One that is alone has a fifth of all, and n that want much each 1/(n + 4). What is held is not
//! taken back, though, and peers that came first and read nothing would leave the next ones less and less: so a little belongs to each session alone.

use crate::pool::{Part, Pool};

/// What all sessions of an endpoint share, in bytes. Beyond it each session may hold [`SESSION_HELD_BYTES`], and each stream
/// [`PRESSED_SEND_BUFFER_BYTES`](crate::config::PRESSED_SEND_BUFFER_BYTES), so that each goes on.
pub const MAX_HELD_BYTES: u64 = 256 * 1024 * 1024;
/// What a session may hold whatever the others do, in bytes.
pub const SESSION_HELD_BYTES: u64 = 128 * 1024;

/// One session may hold what is left over this.
const SHARERS: u64 = 4;

/// What one session holds. When it goes, so does that.
#[derive(Debug)]
pub(crate) struct Share(Part);

impl Share {
    /// A new session's, of what all of them hold: nothing yet.
    pub fn of(held: &Pool) -> Self {
        Self(held.empty_part())
    }

    /// How much more the session may hold now, in bytes.
    pub fn room(&self) -> u64 {
        let Self(part) = self;
        (part.pool().left() / SHARERS).max(SESSION_HELD_BYTES).saturating_sub(part.bytes())
    }

    /// One of its streams held `before`, and holds `after` now.
    pub fn change(&mut self, before: u64, after: u64) {
        if after > before {
            self.0.grow(after - before);
        } else {
            self.0.shrink(before - after);
        }
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
            let held = Pool::of(MOST);
            let mut shares: Vec<_> = (0..count).map(|_| Share::of(&held)).collect();
            // Each takes a little when it may, until nobody may.
            let ready = |shares: &[Share]| {
                (0..shares.len()).filter(|&n| shares[n].room() > 0).min_by_key(|&n| shares[n].0.bytes())
            };
            while let Some(number) = ready(&shares) {
                let bytes = shares[number].0.bytes();
                let some = shares[number].room().min(SOME);
                shares[number].change(bytes, bytes + some);
            }
            let fair = MOST / (count + 4);
            assert!(shares.iter().all(|share| share.0.bytes().abs_diff(fair) <= 2 * SOME), "{count}: {shares:?}");
            assert!(held.taken() <= MOST);
            shares.truncate(1);
            assert_eq!(held.taken(), shares[0].0.bytes());
            drop(shares);
            assert_eq!(held.taken(), 0);
        }
    }
}
