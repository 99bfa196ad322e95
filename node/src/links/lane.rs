//! One lane of a link: frames behind their length (u32, little endian), read by one task and written by another.

use std::io;

use futures::io::{BufReader, WriteHalf};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::Stream;
use overlay::io::{Lane, LinkId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::bulk::words::Word;
use super::optimistic::Optimistic;
use super::turn::Turn;

/// Bytes of the length before each frame.
const LENGTH_BYTES: usize = 4;
/// Small frames are gathered until a write has about this many bytes.
const WRITE_BYTES: usize = 64 * 1024;
/// Small frames are read out of a buffer of this size; larger ones go around it.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// What a reader has to say.
pub(super) enum Arrival {
    Frame { link: LinkId, lane: Lane, bytes: Vec<u8> },
    Ended { link: LinkId, lane: Lane, why: Ending },
}

/// Why a reader stopped.
#[derive(Debug)]
pub(super) enum Ending {
    /// The neighbour, or the connection, closed it.
    Closed,
    /// A frame of this length was announced.
    TooLong { bytes: u32 },
}

/// Bytes that a writer has handed to the multiplexer.
pub(super) struct Written {
    pub(super) link: LinkId,
    pub(super) lane: Lane,
    /// That count against the room.
    pub(super) bytes: usize,
    /// Words of the links among them, which do not.
    pub(super) words: usize,
}

/// The two tasks of a lane.
pub(super) struct Tasks {
    pub(super) reader: JoinHandle<()>,
    pub(super) writer: JoinHandle<()>,
    /// Unbounded: the room that the driver reports bounds it in bytes.
    pub(super) frames: mpsc::UnboundedSender<Vec<u8>>,
}

/// Starts the two tasks of a lane.
pub(super) fn spawn(
    link: LinkId,
    lane: Lane,
    stream: Stream,
    arrivals: mpsc::Sender<Arrival>,
    written: mpsc::UnboundedSender<Written>,
    gone: watch::Receiver<bool>,
    turn: Turn,
) -> Tasks {
    let (read_half, write_half) = Optimistic::new(stream).split();
    let (frames, queue) = mpsc::unbounded_channel();
    Tasks {
        reader: tokio::spawn(read_frames(link, lane, read_half, arrivals, gone, turn)),
        writer: tokio::spawn(async move {
            // The reader notices when the stream is broken: nothing to report from here.
            let _ = write_frames(link, lane, write_half, queue, written).await;
        }),
        frames,
    }
}

/// `gone` turns true when the connection has closed: a stream does not always end with its Yamux connection (rust-yamux#216).
async fn read_frames(
    link: LinkId,
    lane: Lane,
    stream: impl AsyncRead + Unpin,
    arrivals: mpsc::Sender<Arrival>,
    mut gone: watch::Receiver<bool>,
    mut turn: Turn,
) {
    let mut stream = BufReader::with_capacity(READ_BUFFER_BYTES, stream);
    loop {
        let frame = tokio::select! {
            biased;
            frame = read_frame(&mut stream, lane.max_frame_bytes()) => frame,
            _ = gone.wait_for(|gone| *gone) => Err(Ending::Closed),
        };
        let (bytes, arrival) = match frame {
            Ok(bytes) => (bytes.len(), Arrival::Frame { link, lane, bytes }),
            Err(why) => (0, Arrival::Ended { link, lane, why }),
        };
        let ended = matches!(arrival, Arrival::Ended { .. });
        if arrivals.send(arrival).await.is_err() || ended {
            return;
        }
        turn.after(bytes).await;
    }
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin), max_bytes: usize) -> Result<Vec<u8>, Ending> {
    let mut length = [0; LENGTH_BYTES];
    stream.read_exact(&mut length).await.map_err(|_| Ending::Closed)?;
    let announced = u32::from_le_bytes(length);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > max_bytes {
        return Err(Ending::TooLong { bytes: announced });
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.map_err(|_| Ending::Closed)?;
    Ok(bytes)
}

async fn write_frames(
    link: LinkId,
    lane: Lane,
    mut stream: WriteHalf<Optimistic<Stream>>,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    written: mpsc::UnboundedSender<Written>,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(WRITE_BYTES);
    while let Some(first) = queue.recv().await {
        let (mut bytes, mut words) = (0, 0);
        let mut next = Some(first);
        while let Some(frame) = next {
            append(&mut buffer, lane, &frame);
            match Word::of(&frame) {
                Some(_) => words += 1,
                None => bytes += frame.len(),
            }
            next = if buffer.len() < WRITE_BYTES { queue.try_recv().ok() } else { None };
        }
        stream.write_all(&buffer).await?;
        stream.flush().await?;
        buffer.clear();
        if written.send(Written { link, lane, bytes, words }).is_err() {
            break;
        }
    }
    stream.close().await
}

fn append(buffer: &mut Vec<u8>, lane: Lane, frame: &[u8]) {
    match u32::try_from(frame.len()) {
        Ok(length) if frame.len() <= lane.max_frame_bytes() => {
            buffer.extend_from_slice(&length.to_le_bytes());
            buffer.extend_from_slice(frame);
        }
        // The neighbour would close the link.
        _ => tracing::error!(bytes = frame.len(), ?lane, "our own frame is too long; dropped"),
    }
}

/// The reader alone, for the fuzz targets.
pub mod fuzzing {
    use futures::FutureExt as _;
    use overlay::io::Lane;

    /// The frames that `bytes` begin with.
    pub fn frames(bytes: &[u8], lane: Lane) -> Vec<Vec<u8>> {
        let mut stream = futures::io::Cursor::new(bytes);
        // A cursor never waits.
        let next = || super::read_frame(&mut stream, lane.max_frame_bytes()).now_or_never()?.ok();
        core::iter::from_fn(next).collect()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::io::Cursor;

    use crate::links::turn::SMALL_FRAMES_PER_TURN;

    use super::*;

    fn read_all(bytes: &[u8], lane: Lane) -> (Vec<Vec<u8>>, Ending) {
        let mut stream = Cursor::new(bytes);
        let mut frames = Vec::new();
        loop {
            match read_frame(&mut stream, lane.max_frame_bytes()).now_or_never().unwrap() {
                Ok(frame) => frames.push(frame),
                Err(why) => return (frames, why),
            }
        }
    }

    #[test]
    fn what_is_appended_is_read() {
        let mut buffer = Vec::new();
        let longest = vec![0x17; Lane::Control.max_frame_bytes()];
        append(&mut buffer, Lane::Control, b"hello");
        append(&mut buffer, Lane::Control, b"");
        append(&mut buffer, Lane::Control, &longest);
        assert_eq!(buffer.get(..9), Some(b"\x05\0\0\0hello".as_slice()));
        let (frames, why) = read_all(&buffer, Lane::Control);
        assert_eq!(frames, [b"hello".to_vec(), Vec::new(), longest]);
        assert!(matches!(why, Ending::Closed));
    }

    #[test]
    fn a_frame_that_is_too_long_is_not_read() {
        let length = u32::try_from(Lane::Control.max_frame_bytes() + 1).unwrap();
        let (frames, why) = read_all(&length.to_le_bytes(), Lane::Control);
        assert!(frames.is_empty() && matches!(why, Ending::TooLong { bytes } if bytes == length));
    }

    #[tokio::test]
    async fn neighbours_that_never_pause_have_their_turns() {
        const FRAMES: usize = 400;
        let (arrivals, mut arrived) = mpsc::channel(2 * FRAMES + 2);
        let (_open, gone) = watch::channel(false);
        let mut bytes = Vec::new();
        for _ in 0..FRAMES {
            append(&mut bytes, Lane::Data, b"hello");
        }
        for link in [LinkId(1), LinkId(2)] {
            let stream = Cursor::new(bytes.clone());
            let turn = Turn::new(watch::channel(None).1);
            tokio::spawn(read_frames(link, Lane::Data, stream, arrivals.clone(), gone.clone(), turn));
        }
        drop(arrivals);
        let mut turns = vec![(LinkId(0), 0)];
        while let Some(arrival) = arrived.recv().await {
            let Arrival::Frame { link, .. } = arrival else { continue };
            match turns.last_mut() {
                Some((last, frames)) if *last == link => *frames += 1,
                _ => turns.push((link, 1)),
            }
        }
        assert_eq!(turns.iter().map(|(_, frames)| frames).sum::<u32>(), 2 * u32::try_from(FRAMES).unwrap());
        // Who comes last in one round may come first in the next.
        assert!(turns.iter().all(|(_, frames)| *frames <= 2 * SMALL_FRAMES_PER_TURN), "{turns:?}");
    }
}
