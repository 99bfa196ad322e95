//! Writes to the store, in order, beside the loop: an fsync takes as long as it takes.

use std::sync::Arc;

use overlay::io::StoreKey;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::store::Store;

pub(super) struct Writer {
    jobs: mpsc::UnboundedSender<(StoreKey, Vec<u8>)>,
    done: mpsc::UnboundedReceiver<StoreKey>,
    task: JoinHandle<()>,
}

impl Writer {
    pub(super) fn spawn(store: Arc<dyn Store>) -> Self {
        let (jobs, mut waiting) = mpsc::unbounded_channel::<(StoreKey, Vec<u8>)>();
        let (done_in, done) = mpsc::unbounded_channel();
        let task = tokio::task::spawn_blocking(move || {
            while let Some((key, bytes)) = waiting.blocking_recv() {
                let result = if bytes.is_empty() { store.delete(&key) } else { store.put(&key, &bytes) };
                match result {
                    Ok(()) => {
                        let _ = done_in.send(key);
                    }
                    // What depends on this value goes on waiting: that is what durable means.
                    Err(error) => tracing::error!(key, %error, "cannot store; is the disk full?"),
                }
            }
        });
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use overlay::io::Snapshot;

    use super::*;
    use crate::store::StoreError;

    #[derive(Default)]
    struct Journal(Mutex<Vec<String>>);

    impl Store for Journal {
        fn load(&self) -> Result<Snapshot, StoreError> {
            Ok(Snapshot::new())
        }

        fn put(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
            if key == "bad" {
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
}
