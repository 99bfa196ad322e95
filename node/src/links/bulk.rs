//! The bulk lane: a raw TCP connection beside a link, on which session data is protected once and not three times.
//!
//! Through Noise and Yamux every byte of a session is encrypted on each link although its ends have encrypted it already. A bulk
//! lane seals what only the link protects, the routing header and the names of session and packet, and carries the ciphertext
//! between them as it is. While it is up it is the link's data lane; the overlay knows nothing of it.
//!
//! # How it comes up
//! A link that has carried [`WANTED_AFTER_BYTES`] of data wants one; that of a moment's control traffic never costs a socket. Words go
//! over the link, so Noise protects them; they are frames whose first byte is below any that the overlay uses. D dialled the link, A
//! accepted it.
//!
//! | word | lane | bytes |
//! | --- | --- | --- |
//! | Ask, A to D: "offer me one" | control | `01` |
//! | Offer, D to A | control | `02`, attempt (4), D's 32 random bytes |
//! | Take, A to D | control | `03`, attempt (4), A's 32 random bytes |
//! | Mark, both: "what follows on this lane comes by the bulk lane" | data | `04`, attempt (4) |
//!
//! D then dials the address of the link once more. It is the same port: where the link came through a firewall or a forwarded port, so does
//! the lane, and there is nothing more to listen on, to announce, to bind or to silence. The first byte tells the two apart, as libp2p's
//! is never zero.
//!
//! ```text
//! secret   = HKDF-SHA256-Extract(salt = none, D's random bytes . A's random bytes)
//! name (16), proof D (32), proof A (32), key D->A (32), key A->D (32)
//!          = HKDF-Expand(secret, "cloak-bulk-v1 " . D's node id . A's node id . attempt)
//! D -> A     00 . name . HMAC-SHA256(proof D, 00 . name)
//! A -> D     HMAC-SHA256(proof A, what D sent)
//! ```
//!
//! Everything is fresh for each connection, so neither names nor proofs are worth anything to who sees them: a name opens the door once.
//! A stranger is dropped without an answer, within the time and among the number of connections that libp2p lets be unproven.
//! What one lane carried before its Mark arrives before what follows on the other.
//!
//! # Frames
//! See `bulk/frame.rs` for the format, and for what is sealed.
//!
//! # How it goes down
//! Whatever is wrong with it (a broken connection, a frame that does not authenticate, silence of the other end's kernel, a minute without
//! use) ends the lane and not the link: frames that were on the way are lost, which sessions mend, and data goes over Yamux again. The next
//! attempt waits for [`WANTED_AFTER_BYTES`] more and for a time that doubles from `FIRST_WAIT` to `MAX_WAIT`.
//!
//! # What a neighbour can make of it
//! Words have no room of their own: nobody counts their bytes. So A takes Offers no faster than D makes them, and neither end says a word
//! while `MAX_UNWRITTEN_WORDS` wait for a neighbour that does not read. What is not said is tried again like what failed.

use std::time::Duration;

use overlay::io::{Lane, LinkId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::gate::GatedStream;
use super::turn::Turn;
use super::{Link, Links};
use keys::{Keys, RANDOM_BYTES, Side};
use lane::Tasks;
use words::Word;

pub(super) mod door;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod lane;
#[cfg(test)]
mod tests;
pub(super) mod words;

/// A link wants a bulk lane once it has carried so many bytes of data.
pub const WANTED_AFTER_BYTES: usize = 256 * 1024;
/// After the first failure, an attempt waits so long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// No attempt waits longer. A lane that lived so long was a good one: waits begin at the first again.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Offers that may come at once, where the link held them up: D waits at least [`FIRST_WAIT`] from one to the next.
const OFFERS_AT_ONCE: u32 = 4;
/// Words that wait for a link's control lane to be read; no more are said meanwhile.
const MAX_UNWRITTEN_WORDS: usize = 4;
/// A connection must be up and both sides proven within this time.
const MAX_SETUP: Duration = Duration::from_secs(5);
/// The kernel gives up on a lane of which nothing is acknowledged for so long: sooner than on the link, which data then goes by.
const USER_TIMEOUT: Duration = Duration::from_secs(3);

/// What the tasks of bulk lanes have to say.
pub(super) enum News {
    /// Both sides have shown their keys.
    Proven { link: LinkId, attempt: u32, stream: GatedStream, keys: Box<Keys> },
    /// The lane, or the attempt at one, is over.
    Over { link: LinkId, attempt: u32 },
}

pub(super) type NewsIn = mpsc::UnboundedSender<News>;

/// The bulk lane of one link.
pub(super) struct Bulk {
    /// Whether this side dialled the link: then it dials the lane, too.
    dialled: bool,
    /// Data sent since the last attempt.
    sent_bytes: usize,
    failures: u32,
    not_before: Instant,
    /// A's: when all Offers that came so far would have come, had they come evenly.
    offers_until: Instant,
    /// In the control lane's queue.
    unwritten_words: usize,
    /// The latest attempt.
    attempt: u32,
    stage: Stage,
    /// Tells the latest attempt's reader that the Mark has come.
    mark: Option<oneshot::Sender<()>>,
}

enum Stage {
    Down,
    /// D waits for Take.
    Offered(Zeroizing<[u8; RANDOM_BYTES]>),
    /// D dials, or A waits for it to.
    Agreed {
        marked: oneshot::Receiver<()>,
        /// None at A.
        dialling: Option<AbortHandle>,
    },
    Up {
        tasks: Tasks,
        since: Instant,
    },
}

impl Bulk {
    pub(super) fn new(dialled: bool) -> Self {
        let now = Instant::now();
        Self {
            dialled,
            sent_bytes: 0,
            failures: 0,
            not_before: now,
            offers_until: now,
            unwritten_words: 0,
            attempt: 0,
            stage: Stage::Down,
            mark: None,
        }
    }

    /// Whether data goes by it.
    pub(super) const fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up { .. })
    }

    /// Sends a frame, or gives it back when the lane is not up.
    pub(super) fn send(&mut self, frame: Vec<u8>) -> Result<(), Vec<u8>> {
        self.sent_bytes = self.sent_bytes.saturating_add(frame.len());
        match &self.stage {
            Stage::Up { tasks, .. } => tasks.send(frame),
            _ => Err(frame),
        }
    }

    /// Ends whatever there is; frames on the way are lost, their room is given back.
    pub(super) fn end(&mut self) {
        self.mark = None;
        match std::mem::replace(&mut self.stage, Stage::Down) {
            Stage::Up { tasks, .. } => tasks.end(),
            Stage::Agreed { dialling: Some(dialling), .. } => dialling.abort(),
            _ => {}
        }
    }

    /// Whether to begin an attempt now; if so, the next one has to wait.
    fn begins(&mut self) -> bool {
        let now = Instant::now();
        let free = match self.stage {
            // A may not have taken the Offer.
            Stage::Down | Stage::Offered(_) => true,
            // A has no other way to learn that D's attempt failed than to ask again.
            Stage::Agreed { .. } => !self.dialled,
            Stage::Up { .. } => false,
        };
        if !free || now < self.not_before {
            return false;
        }
        self.sent_bytes = 0;
        self.wait_from(now);
        true
    }

    /// Whether A works for one more Offer now.
    fn takes_offer(&mut self) -> bool {
        let now = Instant::now();
        let until = self.offers_until.max(now) + FIRST_WAIT;
        let fits = until <= now + FIRST_WAIT * OFFERS_AT_ONCE;
        if fits {
            self.offers_until = until;
        }
        fits
    }

    /// So many words are out of the control lane's queue.
    pub(super) fn written(&mut self, words: usize) {
        self.unwritten_words = self.unwritten_words.saturating_sub(words);
    }

    fn wait_from(&mut self, now: Instant) {
        let doubled = FIRST_WAIT.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.not_before = now + doubled.min(MAX_WAIT);
        self.failures = self.failures.saturating_add(1);
    }

    fn over(&mut self) {
        let now = Instant::now();
        if let Stage::Up { since, .. } = &self.stage
            && now.duration_since(*since) >= MAX_WAIT
        {
            self.failures = 0;
        }
        self.sent_bytes = 0;
        self.wait_from(now);
        self.end();
    }
}

impl Links {
    /// Called after each frame of data: begins an attempt when it is time for one.
    pub(super) fn want_bulk(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id).filter(|_| self.door.is_some()) else { return };
        let bulk = &mut link.bulk;
        if bulk.sent_bytes < WANTED_AFTER_BYTES || bulk.is_up() || !bulk.begins() {
            return;
        }
        if bulk.dialled {
            offer(link);
        } else {
            say(link, Word::Ask);
        }
    }

    /// A frame of the links themselves.
    pub(super) fn handle_word(&mut self, id: LinkId, lane: Lane, word: Word) {
        let Some(door) = &self.door else { return };
        let Some(link) = self.links.get_mut(&id) else { return };
        let ids = if link.bulk.dialled { (self.id, link.peer) } else { (link.peer, self.id) };
        match (word, lane) {
            (Word::Ask, Lane::Control) if link.bulk.dialled => {
                if link.bulk.begins() {
                    offer(link);
                }
            }
            (Word::Offer { attempt, random }, Lane::Control) if !link.bulk.dialled => {
                if !link.bulk.takes_offer() {
                    return;
                }
                let Some(ours) = fresh() else { return };
                if !say(link, Word::Take { attempt, random: *ours }) {
                    return;
                }
                let keys = Keys::derive(&random, &ours, ids, attempt);
                let marked = link.bulk.agree(attempt);
                door.expect(id, attempt, keys);
                link.bulk.stage = Stage::Agreed { marked, dialling: None };
            }
            (Word::Take { attempt, random }, Lane::Control) => {
                let Stage::Offered(ours) = &link.bulk.stage else { return };
                let Some(address) = link.dialled.clone().filter(|_| attempt == link.bulk.attempt) else { return };
                let keys = Box::new(Keys::derive(ours, &random, ids, attempt));
                let marked = link.bulk.agree(attempt);
                let (dialler, news) = (self.dialler.clone(), self.bulk_news_in.clone());
                let dialling = tokio::spawn(async move {
                    let knocking = door::knock(&dialler, &address, &keys);
                    let knocked = tokio::time::timeout(MAX_SETUP, knocking).await;
                    let _ = news.send(match knocked {
                        Ok(Ok(stream)) => News::Proven { link: id, attempt, stream, keys },
                        failed => {
                            let why = failed.err().map_or_else(|| "refused".to_owned(), |late| late.to_string());
                            tracing::debug!(%address, why, "no bulk lane");
                            News::Over { link: id, attempt }
                        }
                    });
                });
                link.bulk.stage = Stage::Agreed { marked, dialling: Some(dialling.abort_handle()) };
            }
            (Word::Mark { attempt }, Lane::Data) if attempt == link.bulk.attempt => {
                if let Some(mark) = link.bulk.mark.take() {
                    let _ = mark.send(());
                }
            }
            _ => tracing::debug!(?word, ?lane, "a word out of place"),
        }
    }

    pub(super) fn handle_bulk_news(&mut self, news: News) {
        let (News::Proven { link: id, attempt, .. } | News::Over { link: id, attempt }) = &news;
        let (id, attempt) = (*id, *attempt);
        let Some(link) = self.links.get_mut(&id).filter(|link| link.bulk.attempt == attempt) else { return };
        match news {
            News::Proven { stream, keys, .. } => {
                let Stage::Agreed { marked, .. } = std::mem::replace(&mut link.bulk.stage, Stage::Down) else { return };
                let side = if link.bulk.dialled { Side::Dialler } else { Side::Acceptor };
                let [_, data] = &self.arrivals_in;
                let ends = lane::Ends {
                    arrivals: data.clone(),
                    written: self.written_in.clone(),
                    news: self.bulk_news_in.clone(),
                    marked,
                    turn: Turn::new(link.flooding.subscribe()),
                };
                stream.limit_silence(USER_TIMEOUT);
                let tasks = lane::spawn(id, attempt, stream, &keys.of(side), ends);
                // The last of the other lane: what follows must not overtake it.
                let _ = link.data.frames.send(Word::Mark { attempt }.to_bytes());
                link.bulk.stage = Stage::Up { tasks, since: Instant::now() };
                tracing::debug!(link = ?id, attempt, "bulk lane up");
            }
            // Each of a lane's tasks tells it.
            News::Over { .. } if matches!(link.bulk.stage, Stage::Up { .. } | Stage::Agreed { .. }) => {
                link.bulk.over();
                tracing::debug!(link = ?id, attempt, "bulk lane over");
            }
            News::Over { .. } => {}
        }
    }

    /// Whether data for this link goes by a bulk lane at the moment.
    pub fn is_bulk(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| link.bulk.is_up())
    }
}

impl Bulk {
    /// Both sides mean the same attempt now; its reader waits for the returned Mark.
    fn agree(&mut self, attempt: u32) -> oneshot::Receiver<()> {
        self.end();
        self.attempt = attempt;
        let (mark, marked) = oneshot::channel();
        self.mark = Some(mark);
        marked
    }
}

fn offer(link: &mut Link) {
    let Some(random) = fresh() else { return };
    link.bulk.attempt = link.bulk.attempt.wrapping_add(1);
    let attempt = link.bulk.attempt;
    if say(link, Word::Offer { attempt, random: *random }) {
        link.bulk.stage = Stage::Offered(random);
    }
}

/// Whether the word is on its way.
fn say(link: &mut Link, word: Word) -> bool {
    if link.bulk.unwritten_words >= MAX_UNWRITTEN_WORDS {
        return false;
    }
    link.bulk.unwritten_words += 1;
    // A writer that ended leaves the link to its reader.
    link.control.frames.send(word.to_bytes()).is_ok()
}

fn fresh() -> Option<Zeroizing<[u8; RANDOM_BYTES]>> {
    let mut random = Zeroizing::new([0; RANDOM_BYTES]);
    let filled = getrandom::fill(random.as_mut_slice());
    filled.inspect_err(|error| tracing::warn!(%error, "no entropy for a bulk lane")).ok().map(|()| random)
}
