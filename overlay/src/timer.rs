//! Typed timers: a protocol object keeps one table and tells its driver only the earliest entry, and why it is there.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Instant;

/// At most one deadline for each key `K`.
#[derive(Clone, Debug)]
pub struct Timers<K: Ord + Copy> {
    by_key: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Copy> Default for Timers<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Sets the deadline of `key`, replacing an earlier one.
    pub fn set(&mut self, key: K, at: Instant) {
        self.cancel(key);
        self.by_key.insert(key, at);
        self.by_time.insert((at, key));
    }

    /// Sets the deadline of `key` unless one is set that comes no later.
    pub fn set_no_later(&mut self, key: K, at: Instant) {
        if self.get(key).is_none_or(|old| at < old) {
            self.set(key, at);
        }
    }

    /// Takes the deadline of `key` away; nothing happens if there is none.
    pub fn cancel(&mut self, key: K) {
        if let Some(at) = self.by_key.remove(&key) {
            self.by_time.remove(&(at, key));
        }
    }

    /// The deadline of `key`.
    pub fn get(&self, key: K) -> Option<Instant> {
        self.by_key.get(&key).copied()
    }

    /// The earliest deadline and its key.
    pub fn next(&self) -> Option<(Instant, K)> {
        self.by_time.first().copied()
    }

    /// Takes out the earliest entry that is due at `now`; call until `None`.
    pub fn pop_expired(&mut self, now: Instant) -> Option<K> {
        let (at, key) = self.next()?;
        if at > now {
            return None;
        }
        self.cancel(key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expires_in_order_and_only_once() {
        let at = Instant::from_micros;
        let mut timers = Timers::default();
        timers.set('b', at(20));
        timers.set('a', at(10));
        timers.set('c', at(30));
        timers.set('c', at(15));
        timers.set_no_later('a', at(40));
        assert_eq!(timers.next(), Some((at(10), 'a')));
        assert_eq!(timers.pop_expired(at(16)), Some('a'));
        assert_eq!(timers.pop_expired(at(16)), Some('c'));
        assert_eq!(timers.pop_expired(at(16)), None);
        timers.cancel('b');
        assert_eq!(timers.next(), None);
    }
}
