//! A store that loses unfinished writes in a crash.

use std::collections::BTreeMap;

use overlay::io::{Snapshot, StoreKey};

/// What is on the simulated disk, and what is on its way there.
#[derive(Debug, Default)]
pub struct CrashingStore {
    durable: Snapshot,
    pending: BTreeMap<StoreKey, Vec<Vec<u8>>>,
}

impl CrashingStore {
    /// A write begins, if the real store would take it.
    pub fn begin(&mut self, key: StoreKey, bytes: Vec<u8>) {
        if node::store::check(&key, &bytes).is_err() {
            return;
        }
        self.pending.entry(key).or_default().push(bytes);
    }

    /// The oldest write under `key` reaches the disk. False when a crash took it away before.
    pub fn finish(&mut self, key: &str) -> bool {
        let Some(writes) = self.pending.get_mut(key).filter(|writes| !writes.is_empty()) else {
            return false;
        };
        let bytes = writes.remove(0);
        if bytes.is_empty() {
            self.durable.remove(key);
        } else {
            self.durable.insert(key.to_owned(), bytes.into());
        }
        true
    }

    /// The process dies: what was not finished is gone.
    pub fn crash(&mut self) {
        self.pending.clear();
    }

    /// What a restarted process finds.
    pub fn snapshot(&self) -> Snapshot {
        self.durable.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_only_finished_writes() {
        let mut store = CrashingStore::default();
        store.begin("a".into(), vec![1]);
        store.begin("a".into(), vec![2]);
        store.begin("b".into(), vec![3]);
        assert!(store.finish("a"));
        store.crash();
        assert!(!store.finish("a"));
        store.begin("A".into(), vec![1]);
        assert!(!store.finish("A"), "no store takes that");
        assert_eq!(store.snapshot().get("a"), Some(&vec![1].into()));
        assert_eq!(store.snapshot().get("b"), None);
    }
}
