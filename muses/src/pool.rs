//! Bytes that many share. What one of them took goes back when it does.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// So many bytes, for whoever needs some.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    taken: AtomicU64,
    most: u64,
}

impl Pool {
    /// One of `most` bytes.
    pub fn of(most: u64) -> Self {
        Self(Arc::new(Counter { taken: AtomicU64::new(0), most }))
    }

    /// What all have of it, in bytes.
    pub fn taken(&self) -> u64 {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// What nobody has, in bytes.
    pub fn left(&self) -> u64 {
        self.0.most.saturating_sub(self.taken())
    }

    /// So many bytes of it, all or none.
    pub fn take(&self, bytes: u64) -> Option<Part> {
        let Counter { taken, most } = &*self.0;
        let fits = |taken: u64| taken.checked_add(bytes).filter(|taken| taken <= most);
        let took = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        took.is_ok().then(|| Part { pool: self.clone(), bytes })
    }

    /// Nothing of it yet.
    pub fn empty_part(&self) -> Part {
        Part { pool: self.clone(), bytes: 0 }
    }
}

/// What one has of a pool.
#[derive(Debug)]
pub(crate) struct Part {
    pool: Pool,
    bytes: u64,
}

impl Part {
    /// How much, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of what.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// It has so much more, whether that was left or not: who must not go beyond a limit asks before.
    pub fn grow(&mut self, bytes: u64) {
        self.pool.0.taken.fetch_add(bytes, Ordering::Relaxed);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// It gives so much back; never more than it has.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.pool.0.taken.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_never_more_than_was_taken() {
        let pool = Pool::of(100);
        let (mut one, mut other) = (pool.empty_part(), pool.empty_part());
        one.grow(10);
        other.grow(5);
        other.shrink(100);
        assert_eq!((pool.taken(), pool.left(), other.bytes()), (10, 90, 0));
        drop(one);
        assert_eq!((pool.taken(), pool.left()), (0, 100));
    }

    #[test]
    fn all_is_taken_or_nothing() {
        let pool = Pool::of(100);
        let most = pool.take(90);
        assert_eq!(most.as_ref().map(Part::bytes), Some(90));
        assert!(pool.take(11).is_none() && pool.take(u64::MAX).is_none());
        assert_eq!((pool.taken(), pool.take(10).map(|part| part.bytes())), (90, Some(10)));
        drop(most);
        assert_eq!(pool.left(), 100);
        // Beyond it nothing is left, and nothing is lost.
        let mut part = pool.empty_part();
        part.grow(150);
        assert!(pool.left() == 0 && pool.take(1).is_none() && pool.take(0).is_none());
        drop(part);
        assert_eq!(pool.left(), 100);
    }
}
