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
