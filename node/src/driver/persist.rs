//! Writes to the store, in order, beside the loop: an fsync takes as long as it takes. What came meanwhile goes into the next one together, and what cannot
//! be written, because the disk is full, is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use overlay::io::StoreKey;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use zeroize::Zeroizing;

use crate::store::{Store, check};

/// How often what was not written is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Most values that are written at one time.
const MAX_BATCH: usize = 1024;

type Job = (StoreKey, Zeroizing<Vec<u8>>);

pub(super) struct Writer {
    jobs: mpsc::UnboundedSender<Job>,
    news: mpsc::UnboundedReceiver<News>,
    task: JoinHandle<Option<String>>,
}

/// What became of what was put.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum News {
    /// A value of this key is on disk.
    Stored(StoreKey),
    /// What keeps others from getting there, or none any more.
    Trouble(Option<String>),
}

/// The line for people about values that cannot be written, and `why`.
pub(super) fn warning(why: &str) -> String {
    format!(
        "not all that this node has to keep is on disk ({why}); make room there: it is tried again, and a start before that goes on from what was stored last"
    )
}

/// The latest value of a key, and how many writes it stands for: a newer value stands for those before it that were not written.
#[derive(Clone)]
struct Latest {
    bytes: Zeroizing<Vec<u8>>,
    writes: usize,
}

/// What is to be written.
type Waiting = BTreeMap<StoreKey, Latest>;

impl Writer {
    pub(super) fn spawn(store: Arc<dyn Store>) -> Self {
        Self::retrying(store, RETRY)
    }

    fn retrying(store: Arc<dyn Store>, retry: Duration) -> Self {
        let (jobs, asked) = mpsc::unbounded_channel();
        let (news_in, news) = mpsc::unbounded_channel();
        let task = tokio::spawn(write_all(store, retry, asked, news_in));
        Self { jobs, news, task }
    }

    /// An empty value deletes.
    pub(super) fn put(&self, key: StoreKey, bytes: Zeroizing<Vec<u8>>) {
        match check(&key, &bytes) {
            Ok(()) => _ = self.jobs.send((key, bytes)),
            // It is not to keep the others from being written.
            Err(error) => tracing::error!(%error, "it will be missing after the next start"),
        }
    }

    pub(super) async fn news(&mut self) -> Option<News> {
        self.news.recv().await
    }

    /// Returns when all that was put is on disk, or else why it is not.
    pub(super) async fn end(self) -> Option<String> {
        drop(self.jobs);
        self.task.await.unwrap_or_else(|ended| Some(ended.to_string()))
    }
}

/// Writes until nobody can ask any more; then what is left is tried once more. Why that is not on disk either is returned.
async fn write_all(
    store: Arc<dyn Store>,
    retry: Duration,
    mut asked: mpsc::UnboundedReceiver<Job>,
    news: mpsc::UnboundedSender<News>,
) -> Option<String> {
    let (mut failed, mut jobs) = (Waiting::new(), Vec::new());
    let mut trouble = None;
    // It ticks on while others write: a busy node is not to put it off for ever.
    let mut again = interval_at(Instant::now() + retry, retry);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = again.tick(), if !failed.is_empty() => {
                let why;
                (failed, why) = write(&store, failed, &news).await;
                tell(&news, &mut trouble, why, &failed);
                continue;
            }
            heard = asked.recv_many(&mut jobs, MAX_BATCH) => if heard == 0 { break },
        }
        let mut waiting = Waiting::new();
        for (key, bytes) in jobs.drain(..) {
            // What failed before comes first, whether or not there is room now.
            let before = waiting.remove(&key).or_else(|| failed.remove(&key));
            waiting.insert(key, Latest { bytes, writes: before.map_or(0, |before| before.writes) + 1 });
        }
        let (mut left, why) = write(&store, waiting, &news).await;
        failed.append(&mut left);
        tell(&news, &mut trouble, why, &failed);
    }
    write(&store, failed, &news).await.1
}

/// Says what keeps `failed` from being written when that is another thing than before, or nothing any more. `why` is what the last write met.
fn tell(news: &mpsc::UnboundedSender<News>, trouble: &mut Option<String>, why: Option<String>, failed: &Waiting) {
    let now = why.or_else(|| trouble.clone()).filter(|_| !failed.is_empty());
    if *trouble != now {
        trouble.clone_from(&now);
        let _ = news.send(News::Trouble(now));
    }
}

/// Writes all of it and says so; what could not be written is returned, and why.
async fn write(
    store: &Arc<dyn Store>,
    waiting: Waiting,
    news: &mpsc::UnboundedSender<News>,
) -> (Waiting, Option<String>) {
    if waiting.is_empty() {
        return (waiting, None);
    }
    let (store, waiting) = (Arc::clone(store), Arc::new(waiting));
    let batch = Arc::clone(&waiting);
    let written = spawn_blocking(move || {
        let rows: Vec<_> = batch.iter().map(|(key, latest)| (key.as_str(), latest.bytes.as_slice())).collect();
        store.write(&rows).map_err(|error| error.to_string())
    });
    if let Err(why) = written.await.unwrap_or_else(|ended| Err(ended.to_string())) {
        // What depends on these values goes on waiting: that is what durable means.
        let keys: Vec<_> = waiting.keys().collect();
        tracing::error!(?keys, "cannot store: {why}; is the disk full? it is tried again");
        return (Arc::unwrap_or_clone(waiting), Some(why));
    }
    let each = waiting.iter().flat_map(|(key, latest)| std::iter::repeat_n(key, latest.writes));
    each.for_each(|key| drop(news.send(News::Stored(key.clone()))));
    (Waiting::new(), None)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use overlay::io::Snapshot;

    use super::*;
    use crate::store::StoreError;

    /// Writes down what is written, and has room only when it is told so.
    #[derive(Default)]
    struct Journal {
        written: Mutex<Vec<String>>,
        room: AtomicBool,
    }

    impl Journal {
        fn with_room(room: bool) -> Arc<Self> {
            Arc::new(Self { room: room.into(), ..Self::default() })
        }

        fn make_room(&self) {
            self.room.store(true, Ordering::SeqCst);
        }

        /// Each row of each write.
        fn written(&self) -> Vec<String> {
            self.written.lock().unwrap().clone()
        }
    }

    impl Store for Journal {
        fn load(&self) -> Result<Snapshot, StoreError> {
            Ok(Snapshot::new())
        }

        fn write(&self, batch: &[(&str, &[u8])]) -> Result<(), StoreError> {
            batch.iter().try_for_each(|(key, bytes)| check(key, bytes))?;
            // What is small still fits.
            if !self.room.load(Ordering::SeqCst) && batch.iter().any(|(_, bytes)| bytes.len() > 1) {
                return Err(StoreError::Damaged { path: "full".into(), why: String::new() });
            }
            let mut written = self.written.lock().unwrap();
            written.extend(batch.iter().map(|(key, bytes)| format!("{key} {}", bytes.len())));
            Ok(())
        }
    }

    fn writer(journal: &Arc<Journal>, retry: Duration) -> Writer {
        Writer::retrying(Arc::clone(journal) as Arc<dyn Store>, retry)
    }

    /// The key of the next value that is on disk.
    async fn stored(writer: &mut Writer) -> Option<StoreKey> {
        loop {
            if let News::Stored(key) = writer.news().await? {
                return Some(key);
            }
        }
    }

    /// Nothing ticks.
    const NEVER: Duration = Duration::from_secs(1000);

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_written_together_and_each_write_is_reported() {
        let journal = Journal::with_room(true);
        let mut writer = writer(&journal, NEVER);
        for (key, bytes) in [("a", "1"), ("No key", "1"), ("a", "22"), ("b", "")] {
            writer.put(key.to_owned(), bytes.as_bytes().to_vec().into());
        }
        for key in ["a", "a", "b"] {
            assert_eq!(stored(&mut writer).await.as_deref(), Some(key));
        }
        assert_eq!(journal.written(), ["a 2", "b 0"]);
        writer.put("a".to_owned(), Vec::new().into());
        assert_eq!(stored(&mut writer).await.as_deref(), Some("a"));
        assert_eq!(writer.end().await, None);
        assert_eq!(journal.written(), ["a 2", "b 0", "a 0"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_is_written_when_there_is_room() {
        let journal = Journal::with_room(false);
        let mut writer = writer(&journal, RETRY);
        for (key, bytes) in [("big", "22"), ("big", "333")] {
            writer.put(key.to_owned(), bytes.as_bytes().to_vec().into());
        }
        tokio::time::sleep(RETRY * 3).await;
        assert!(journal.written().is_empty());
        // Others are, and others that are written all the time do not put it off.
        for round in 0..100 {
            writer.put("a".to_owned(), b"1".to_vec().into());
            if round == 10 {
                journal.make_room();
            }
            if stored(&mut writer).await.as_deref() == Some("big") {
                // The newest value counts for both.
                assert_eq!(stored(&mut writer).await.as_deref(), Some("big"));
                assert!(round > 10 && journal.written().contains(&"big 3".to_owned()), "{:?}", journal.written());
                assert_eq!(writer.end().await, None);
                return;
            }
            tokio::time::sleep(RETRY / 8).await;
        }
        panic!("it was never tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_value_stands_for_one_that_could_not_be_written() {
        let journal = Journal::with_room(false);
        let mut writer = writer(&journal, NEVER);
        writer.put("a".to_owned(), b"22".to_vec().into());
        tokio::time::sleep(RETRY).await;
        writer.put("a".to_owned(), b"1".to_vec().into());
        for _ in 0..2 {
            assert_eq!(stored(&mut writer).await.as_deref(), Some("a"));
        }
        assert_eq!(writer.end().await, None);
        assert_eq!(journal.written(), ["a 1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_tried_at_the_end() {
        let journal = Journal::with_room(false);
        let writer = writer(&journal, NEVER);
        writer.put("big".to_owned(), b"22".to_vec().into());
        tokio::time::sleep(RETRY).await;
        journal.make_room();
        assert_eq!(writer.end().await, None);
        assert_eq!(journal.written(), ["big 2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_keeps_values_from_the_disk_is_told_once_and_when_it_is_over() {
        let journal = Journal::with_room(false);
        let mut writer = writer(&journal, RETRY);
        writer.put("big".to_owned(), b"22".to_vec().into());
        assert!(matches!(writer.news().await, Some(News::Trouble(Some(_)))));
        // Others are written meanwhile, and it is tried again: nothing of that is news.
        writer.put("a".to_owned(), b"1".to_vec().into());
        assert_eq!(writer.news().await, Some(News::Stored("a".to_owned())));
        tokio::time::sleep(RETRY * 3).await;
        journal.make_room();
        assert_eq!(writer.news().await, Some(News::Stored("big".to_owned())));
        assert_eq!(writer.news().await, Some(News::Trouble(None)));
        journal.room.store(false, Ordering::SeqCst);
        writer.put("big".to_owned(), b"22".to_vec().into());
        assert!(writer.end().await.is_some());
    }
}
