//! Writes to the store, in order, beside the loop: an fsync takes as long as it takes. What cannot be written, because the disk is full, is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use overlay::io::StoreKey;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::MissedTickBehavior;

use crate::store::Store;

/// How often what was not written is tried again.
const RETRY: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    jobs: mpsc::UnboundedSender<(StoreKey, Vec<u8>)>,
    done: mpsc::UnboundedReceiver<StoreKey>,
    task: JoinHandle<()>,
}

/// The latest value of a key that could not be written, and how many writes wait for it.
struct Failed {
    bytes: Vec<u8>,
    writes: usize,
}

impl Writer {
    pub(super) fn spawn(store: Arc<dyn Store>) -> Self {
        Self::retrying(store, RETRY)
    }

    fn retrying(store: Arc<dyn Store>, retry: Duration) -> Self {
        let (jobs, waiting) = mpsc::unbounded_channel();
        let (done_in, done) = mpsc::unbounded_channel();
        let task = tokio::spawn(write_all(store, retry, waiting, done_in));
        Self { jobs, done, task }
    }

    /// An empty value deletes.
    pub(super) fn put(&self, key: StoreKey, bytes: Vec<u8>) {
        let _ = self.jobs.send((key, bytes));
    }

    pub(super) async fn done(&mut self) -> Option<StoreKey> {
        self.done.recv().await
    }

    /// Returns when all that was put is on disk.
    pub(super) async fn end(self) {
        drop(self.jobs);
        let _ = self.task.await;
    }
}

/// Writes until nobody can ask any more; then what is left is tried once more.
async fn write_all(
    store: Arc<dyn Store>,
    retry: Duration,
    mut waiting: mpsc::UnboundedReceiver<(StoreKey, Vec<u8>)>,
    done: mpsc::UnboundedSender<StoreKey>,
) {
    let mut failed: BTreeMap<StoreKey, Failed> = BTreeMap::new();
    // It ticks on while others write: a busy node is not to put it off for ever.
    let mut again = tokio::time::interval(retry);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let job = tokio::select! {
            biased;
            _ = again.tick(), if !failed.is_empty() => {
                write_again(&store, &mut failed, &done).await;
                continue;
            }
            job = waiting.recv() => job,
        };
        let Some((key, bytes)) = job else { break };
        // A newer value stands for those before it that were not written.
        let writes = failed.remove(&key).map_or(0, |old| old.writes) + 1;
        write(&store, key, Failed { bytes, writes }, &mut failed, &done).await;
    }
    write_again(&store, &mut failed, &done).await;
}

async fn write_again(
    store: &Arc<dyn Store>,
    failed: &mut BTreeMap<StoreKey, Failed>,
    done: &mpsc::UnboundedSender<StoreKey>,
) {
    for (key, value) in std::mem::take(failed) {
        write(store, key, value, failed, done).await;
    }
}

async fn write(
    store: &Arc<dyn Store>,
    key: StoreKey,
    value: Failed,
    failed: &mut BTreeMap<StoreKey, Failed>,
    done: &mpsc::UnboundedSender<StoreKey>,
) {
    let (store, name) = (Arc::clone(store), key.clone());
    let written = spawn_blocking(move || {
        let result = if value.bytes.is_empty() { store.delete(&name) } else { store.put(&name, &value.bytes) };
        (result, value)
    });
    match written.await {
        Ok((Ok(()), value)) => (0..value.writes).for_each(|_| drop(done.send(key.clone()))),
        // What depends on this value goes on waiting: that is what durable means.
        Ok((Err(error), value)) => {
            tracing::error!(key, %error, "cannot store; is the disk full? it is tried again");
            failed.insert(key, value);
        }
        Err(error) => tracing::error!(key, %error, "a write to the store ended early"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use overlay::io::Snapshot;

    use super::*;
    use crate::store::StoreError;

    #[derive(Default)]
    struct Journal(Mutex<Vec<String>>, AtomicBool);

    impl Store for Journal {
        fn load(&self) -> Result<Snapshot, StoreError> {
            Ok(Snapshot::new())
        }

        fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
            if key == "bad" && !self.1.load(Ordering::SeqCst) {
                return Err(StoreError::Damaged("bad".into()));
            }
            self.0.lock().unwrap().push(format!("put {key} {}", bytes.len()));
            Ok(())
        }

        fn delete(&self, key: &str) -> Result<(), StoreError> {
            self.0.lock().unwrap().push(format!("delete {key}"));
            Ok(())
        }
    }

    #[tokio::test]
    async fn values_are_written_in_order_and_only_written_ones_are_reported() {
        let journal = Arc::new(Journal::default());
        let mut writer = Writer::spawn(Arc::clone(&journal) as Arc<dyn Store>);
        for (key, bytes) in [("a", "1"), ("bad", "1"), ("a", "22"), ("b", ""), ("a", "")] {
            writer.put(key.to_owned(), bytes.as_bytes().to_vec());
        }
        for key in ["a", "a", "b", "a"] {
            assert_eq!(writer.done().await.as_deref(), Some(key));
        }
        writer.end().await;
        assert_eq!(*journal.0.lock().unwrap(), ["put a 1", "put a 2", "delete b", "delete a"]);
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_when_there_is_room_and_each_write_is_reported() {
        let journal = Arc::new(Journal::default());
        let mut writer = Writer::retrying(Arc::clone(&journal) as Arc<dyn Store>, Duration::from_millis(1));
        for (key, bytes) in [("bad", "1"), ("bad", "22"), ("a", "1")] {
            writer.put(key.to_owned(), bytes.as_bytes().to_vec());
        }
        assert_eq!(writer.done().await.as_deref(), Some("a"));
        journal.1.store(true, Ordering::SeqCst);
        // The newest value counts for both.
        assert_eq!(writer.done().await.as_deref(), Some("bad"));
        assert_eq!(writer.done().await.as_deref(), Some("bad"));
        assert_eq!(*journal.0.lock().unwrap(), ["put a 1", "put bad 2"]);
        writer.end().await;
    }

    #[tokio::test]
    async fn others_that_write_all_the_time_do_not_put_it_off() {
        let journal = Arc::new(Journal::default());
        let mut writer = Writer::retrying(Arc::clone(&journal) as Arc<dyn Store>, Duration::from_millis(50));
        writer.put("bad".to_owned(), b"1".to_vec());
        writer.put("a".to_owned(), b"1".to_vec());
        assert_eq!(writer.done().await.as_deref(), Some("a"));
        journal.1.store(true, Ordering::SeqCst);
        // As soon as one is written the next one is there.
        for _ in 0..1_000_000 {
            writer.put("a".to_owned(), b"1".to_vec());
            if writer.done().await.as_deref() == Some("bad") {
                return;
            }
        }
        panic!("it was never tried again");
    }

    #[tokio::test]
    async fn what_is_left_is_tried_at_the_end() {
        let journal = Arc::new(Journal::default());
        let mut writer = Writer::spawn(Arc::clone(&journal) as Arc<dyn Store>);
        writer.put("bad".to_owned(), b"1".to_vec());
        writer.put("a".to_owned(), b"1".to_vec());
        assert_eq!(writer.done().await.as_deref(), Some("a"));
        journal.1.store(true, Ordering::SeqCst);
        writer.end().await;
        assert_eq!(*journal.0.lock().unwrap(), ["put a 1", "put bad 1"]);
    }
}
