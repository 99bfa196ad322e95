//! What the page is told as it happens: server-sent events (WHATWG HTML, 9.2).
//!
//! `history` first, and again for a reader that was too slow; then `state` when something changed, `sample` each second, `fact` for each event.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::StatusCode;
use hyper::body::Frame;
use overlay::time::Instant;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};

use crate::clock;
use crate::driver::{Handle, Stopped};
use crate::facts;
use crate::stack::picture::Picture;
use crate::web::{self, Answer};

/// Pages that are told at once; more are answered with 503.
const MAX_READERS: usize = 8;
/// How often the state is looked at while somebody reads.
const STATE_PERIOD: Duration = Duration::from_millis(500);
/// After an event the state is looked at once this has passed: one move is many events.
const SETTLE: Duration = Duration::from_millis(80);
/// How often throughput is measured.
const SAMPLE_PERIOD: Duration = Duration::from_secs(1);
/// Samples that are kept: five minutes.
const MAX_SAMPLES: usize = 300;
/// Events that are kept.
const MAX_FACTS: usize = 200;
/// Messages that wait for a slow reader; then it gets the history anew.
const MAX_WAITING: usize = 64;

/// What is told to all pages.
pub(super) struct Feed {
    history: Mutex<History>,
    news: broadcast::Sender<Bytes>,
    state: watch::Sender<Bytes>,
    readers: Arc<Semaphore>,
}

#[derive(Default)]
struct History {
    samples: VecDeque<Value>,
    facts: VecDeque<Value>,
    /// When the latest sample was, and bytes to and from applications until then.
    totals: Option<(Instant, u64, u64)>,
}

impl Feed {
    /// Begins to look at the node behind `handle`.
    pub(super) fn start(handle: Handle) -> Arc<Self> {
        let feed = Arc::new(Self {
            history: Mutex::default(),
            news: broadcast::Sender::new(MAX_WAITING),
            state: watch::Sender::new(Bytes::new()),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
        });
        tokio::spawn(Arc::clone(&feed).run(handle));
        feed
    }

    /// The state now.
    pub(super) async fn state(&self, handle: &Handle) -> Result<Value, Stopped> {
        let network_up = handle.network_is_up().await?;
        let picture: Picture = handle.with(|stack, now| stack.picture(now)).await?;
        // Text, numbers, lists and objects with text keys: always JSON.
        let mut state = serde_json::to_value(picture).unwrap_or_default();
        if let Value::Object(fields) = &mut state {
            fields.insert("network_up".to_owned(), network_up.into());
        }
        Ok(state)
    }

    /// A stream of all that follows.
    pub(super) fn subscribe(self: &Arc<Self>) -> Answer {
        let Ok(place) = Arc::clone(&self.readers).try_acquire_owned() else {
            return super::error(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open; close one");
        };
        let mut state = self.state.subscribe();
        // What is there already is told first; nothing is before the first look.
        if state.borrow().is_empty() {
            state.mark_unchanged()
        } else {
            state.mark_changed()
        }
        let reader = Reader { feed: Arc::clone(self), news: self.news.subscribe(), state, begun: false, _place: place };
        let pieces = stream::unfold(reader, |mut reader| async move {
            let piece = reader.next().await?;
            Some((Ok(Frame::data(piece)), reader))
        });
        web::of_body(StatusCode::OK, "text/event-stream", StreamBody::new(pieces).boxed_unsync())
    }

    async fn run(self: Arc<Self>, handle: Handle) {
        let mut facts = handle.subscribe();
        let mut sample = tokio::time::interval(SAMPLE_PERIOD);
        let mut look = tokio::time::interval(STATE_PERIOD);
        sample.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let done = tokio::select! {
                fact = facts.recv() => match fact {
                    Ok(fact) => {
                        if self.tell(&fact) {
                            look.reset_after(SETTLE);
                        }
                        Ok(())
                    }
                    Err(RecvError::Lagged(_)) => Ok(()),
                    Err(RecvError::Closed) => Err(Stopped),
                },
                _ = sample.tick() => self.measure(&handle).await,
                _ = look.tick() => self.look(&handle).await,
            };
            if done.is_err() {
                return;
            }
        }
    }

    /// False for what is no news to people.
    fn tell(&self, fact: &crate::stack::Event) -> bool {
        let Some(line) = facts::line(fact, |id| id.to_string()) else { return false };
        let fact = json!({ "at_unix_ms": now_unix_us() / 1000, "kind": facts::kind(fact), "text": line });
        // Under the lock, so that a reader has it from the history or as news, and not from both.
        let mut history = self.history();
        let _ = self.news.send(message("fact", &fact));
        keep(&mut history.facts, fact, MAX_FACTS);
        true
    }

    async fn measure(&self, handle: &Handle) -> Result<(), Stopped> {
        let (sent, received) = handle.with(|stack, _| stack.carried_bytes()).await?;
        // The wall clock may be set back.
        let at = clock::now().instant;
        let mut history = self.history();
        let before = history.totals.replace((at, sent, received));
        if let Some((then, sent_then, received_then)) = before {
            let elapsed_us = u64::try_from(at.since(then).as_micros()).unwrap_or(u64::MAX);
            let per_second = |bytes: u64| bytes.saturating_mul(1_000_000) / elapsed_us.max(1);
            let sample = json!({
                "at_unix_ms": now_unix_us() / 1000,
                "sent_bytes_per_s": per_second(sent.saturating_sub(sent_then)),
                "received_bytes_per_s": per_second(received.saturating_sub(received_then)),
            });
            let _ = self.news.send(message("sample", &sample));
            keep(&mut history.samples, sample, MAX_SAMPLES);
        }
        Ok(())
    }

    async fn look(&self, handle: &Handle) -> Result<(), Stopped> {
        if self.state.receiver_count() > 0 {
            let state = message("state", &self.state(handle).await?);
            self.state.send_replace(state);
        }
        Ok(())
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reader {
    feed: Arc<Feed>,
    news: broadcast::Receiver<Bytes>,
    state: watch::Receiver<Bytes>,
    begun: bool,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some(self.history());
        }
        tokio::select! {
            news = self.news.recv() => match news {
                Ok(news) => Some(news),
                Err(RecvError::Lagged(_)) => Some(self.history()),
                Err(RecvError::Closed) => None,
            },
            changed = self.state.changed() => {
                changed.ok()?;
                Some(self.state.borrow_and_update().clone())
            }
        }
    }

    /// All that is remembered; news that are in it are not told again.
    fn history(&mut self) -> Bytes {
        let history = self.feed.history();
        self.news = self.news.resubscribe();
        message("history", &json!({ "samples": history.samples, "facts": history.facts }))
    }
}

fn keep(items: &mut VecDeque<Value>, item: Value, max: usize) {
    if items.len() >= max {
        items.pop_front();
    }
    items.push_back(item);
}

/// JSON has no line ends of its own, so one `data` line holds it.
fn message(event: &str, data: &Value) -> Bytes {
    format!("event: {event}\ndata: {data}\n\n").into()
}

fn now_unix_us() -> u64 {
    clock::now().wall.as_unix_micros()
}
