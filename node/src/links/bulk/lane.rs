//! The two tasks of a bulk lane.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use overlay::io::{Lane, LinkId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::frame::{BadFrame, Opener, Sealer};
use super::keys::FrameKeys;
use super::{News, NewsIn};
use crate::links::gate::GatedStream;
use crate::links::lane::{Arrival, Written};
use crate::links::turn::Turn;

/// Frames that are sealed and written together.
const BATCH_FRAMES: usize = 16;
/// Heads and small frames are read out of a buffer of this size; open parts mostly go around it.
const INBOX_BYTES: usize = 4 * 1024;
/// A lane that carried nothing either way for so long is given up: a firewall between may have forgotten its connection.
const IDLE: Duration = Duration::from_secs(60);

/// A running lane.
pub(super) struct Tasks {
    /// Unbounded: the room that the driver reports bounds it in bytes.
    frames: mpsc::UnboundedSender<Vec<u8>>,
    reader: AbortHandle,
    /// The writer stops when it is dropped.
    _stop: oneshot::Sender<()>,
}

/// Where the tasks leave what they have.
pub(super) struct Ends {
    pub(super) arrivals: mpsc::Sender<Arrival>,
    pub(super) written: mpsc::UnboundedSender<Written>,
    pub(super) news: NewsIn,
    /// Reading begins when the other lane has delivered all that came before.
    pub(super) marked: oneshot::Receiver<()>,
    pub(super) turn: Turn,
}

impl Tasks {
    /// Queues a frame, or gives it back when the lane is over.
    pub(super) fn send(&self, frame: Vec<u8>) -> Result<(), Vec<u8>> {
        self.frames.send(frame).map_err(|refused| refused.0)
    }

    /// Stops both tasks. The writer gives the room of what it did not write back.
    pub(super) fn end(self) {
        self.reader.abort();
    }
}

pub(super) fn spawn(link: LinkId, attempt: u32, stream: GatedStream, keys: &FrameKeys, ends: Ends) -> Tasks {
    let Ends { arrivals, written, news, marked, turn } = ends;
    let (frames, queue) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel();
    let stream = Arc::new(stream);
    let heard = Arc::new(AtomicBool::new(true));
    let reader = Reader {
        stream: Arc::clone(&stream),
        opener: Opener::new(&keys.open),
        inbox: Vec::with_capacity(INBOX_BYTES),
        heard: Arc::clone(&heard),
        turn,
    };
    let writer = Writer { link, stream, sealer: Sealer::new(&keys.seal), queue, written, heard };
    let reader_news = news.clone();
    let reading = tokio::spawn(async move {
        if marked.await.is_ok() {
            let why = reader.run(link, arrivals).await;
            tracing::debug!(?link, %why, "bulk lane is not read any more");
        }
        let _ = reader_news.send(News::Over { link, attempt });
    });
    tokio::spawn(async move {
        writer.run(stopped).await;
        let _ = news.send(News::Over { link, attempt });
    });
    Tasks { frames, reader: reading.abort_handle(), _stop: stop }
}

/// Why a reader stopped.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error(transparent)]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Bad(#[from] BadFrame),
    #[error("the node stops")]
    Unheard,
}

struct Reader {
    stream: Arc<GatedStream>,
    opener: Opener,
    /// Read, but not yet taken.
    inbox: Vec<u8>,
    heard: Arc<AtomicBool>,
    turn: Turn,
}

impl Reader {
    async fn run(mut self, link: LinkId, arrivals: mpsc::Sender<Arrival>) -> Ending {
        loop {
            let bytes = match self.frame().await {
                Ok(bytes) => bytes,
                Err(why) => return why,
            };
            self.heard.store(true, Ordering::Relaxed);
            let length = bytes.len();
            if arrivals.send(Arrival::Frame { link, lane: Lane::Data, bytes }).await.is_err() {
                return Ending::Unheard;
            }
            self.turn.after(length).await;
        }
    }

    async fn frame(&mut self) -> Result<Vec<u8>, Ending> {
        let head_bytes = loop {
            match Opener::head_bytes(&self.inbox)? {
                Some(bytes) if bytes <= self.inbox.len() => break bytes,
                wanted => {
                    let most = wanted.unwrap_or_default().max(INBOX_BYTES) - self.inbox.len();
                    self.stream.read_into(&mut self.inbox, most).await?;
                }
            }
        };
        let (head, rest) = self.inbox.split_at_mut(head_bytes);
        let mut frame = self.opener.open(head)?;
        let here = frame.missing_bytes().min(rest.len());
        frame.bytes.extend_from_slice(rest.get(..here).unwrap_or_default());
        self.inbox.drain(..head_bytes + here);
        while frame.missing_bytes() > 0 {
            let missing = frame.missing_bytes();
            self.stream.read_into(&mut frame.bytes, missing).await?;
        }
        Ok(frame.finish())
    }
}

struct Writer {
    link: LinkId,
    stream: Arc<GatedStream>,
    sealer: Sealer,
    queue: mpsc::UnboundedReceiver<Vec<u8>>,
    written: mpsc::UnboundedSender<Written>,
    heard: Arc<AtomicBool>,
}

impl Writer {
    async fn run(mut self, stopped: oneshot::Receiver<()>) {
        let mut batch = Vec::with_capacity(BATCH_FRAMES);
        let why = tokio::select! {
            biased;
            _ = stopped => None,
            why = self.write_all(&mut batch) => Some(why),
        };
        tracing::debug!(link = ?self.link, ?why, "bulk lane is not written any more");
        // What was not written is lost, and its room is free again.
        self.queue.close();
        while let Ok(frame) = self.queue.try_recv() {
            batch.push(frame);
        }
        self.give_room(&batch);
    }

    /// Ends with the lane; `batch` has what was not written then.
    async fn write_all(&mut self, batch: &mut Vec<Vec<u8>>) -> io::Error {
        let mut heads = Vec::new();
        loop {
            let waited = tokio::time::timeout(IDLE, self.queue.recv_many(batch, BATCH_FRAMES)).await;
            match waited {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(_) if self.heard.swap(false, Ordering::Relaxed) => continue,
                Err(_) => return io::ErrorKind::TimedOut.into(),
            }
            heads.clear();
            if let Err(broken) = self.write(batch, &mut heads).await {
                return broken;
            }
            self.give_room(batch);
            batch.clear();
        }
    }

    async fn write(&mut self, batch: &[Vec<u8>], heads: &mut Vec<u8>) -> io::Result<()> {
        let mut parts: Vec<(Range<usize>, &[u8])> = Vec::with_capacity(BATCH_FRAMES);
        for frame in batch {
            let at = heads.len();
            let open = self.sealer.seal(frame, heads).ok_or(io::ErrorKind::InvalidData)?;
            parts.push((at..heads.len(), frame.get(open).unwrap_or_default()));
        }
        let mut slices = Vec::with_capacity(2 * BATCH_FRAMES);
        for (head, open) in parts {
            slices.push(IoSlice::new(heads.get(head).unwrap_or_default()));
            if !open.is_empty() {
                slices.push(IoSlice::new(open));
            }
        }
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            let written = self.stream.write_some(left).await?;
            IoSlice::advance_slices(&mut left, written);
        }
        Ok(())
    }

    fn give_room(&self, batch: &[Vec<u8>]) {
        let bytes = batch.iter().map(Vec::len).sum();
        let _ = self.written.send(Written { link: self.link, lane: Lane::Data, bytes, words: 0 });
    }
}
