//! `muses send` and `muses receive`: the node finds out who is there, and hands the streams on; files are the commands' business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{ANSWER_TIMEOUT, Desk, Pipe, in_time};
use crate::control::wire::Arrival;
use crate::driver::Incoming;
use crate::exit::{Code, Fault};
use crate::files;
use crate::stack::{Failure, Who};

/// Senders at the door that `muses receive` has not let in yet.
const MAX_WAITING: usize = 32;
/// How long it may take to do so; it does nothing else.
const DOOR_TIMEOUT: Duration = Duration::from_secs(10);

/// Senders on their way to the one `muses receive` that may run on a node.
#[derive(Default)]
pub(super) struct Door(Mutex<State>);

#[derive(Default)]
struct State {
    latest: u64,
    receiver: Option<mpsc::Sender<Arrival>>,
    waiting: BTreeMap<u64, Incoming>,
}

/// A control connection whose other end takes files.
pub struct Receiving {
    data: Value,
    arrivals: mpsc::Receiver<Arrival>,
}

impl Receiving {
    /// The answer to the request.
    pub(in crate::control) fn data(&self) -> Value {
        self.data.clone()
    }

    /// The next sender.
    pub(in crate::control) async fn next(&mut self) -> Option<Arrival> {
        self.arrivals.recv().await
    }
}

impl Door {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Option<mpsc::Receiver<Arrival>> {
        let mut state = self.state();
        if state.receiver.is_some() {
            return None;
        }
        let (sender, arrivals) = mpsc::channel(MAX_WAITING);
        state.receiver = Some(sender);
        Some(arrivals)
    }

    fn close(&self) {
        let mut state = self.state();
        state.receiver = None;
        state.waiting.clear();
    }

    /// Announces a sender; gives him back when nobody would take him.
    fn announce(&self, request: Incoming) -> Result<u64, Incoming> {
        let mut state = self.state();
        let transfer = state.latest.saturating_add(1);
        let arrival = Arrival { transfer, node: request.peer.to_string() };
        let heard = state.receiver.as_ref().is_some_and(|receiver| receiver.try_send(arrival).is_ok());
        if !heard || state.waiting.len() >= MAX_WAITING {
            return Err(request);
        }
        state.latest = transfer;
        state.waiting.insert(transfer, request);
        Ok(transfer)
    }

    fn take(&self, transfer: u64) -> Option<Incoming> {
        self.state().waiting.remove(&transfer)
    }
}

impl Desk {
    /// Offers to take files from `from`, ids, petnames, claimed names or `anyone`.
    pub(in crate::control) async fn receive_files(&self, from: Vec<String>) -> Result<Receiving, Fault> {
        let (who, allow) = self.allowed(from).await?;
        if who == [Who::Node(self.ask(|stack, _| stack.id()).await?)] {
            let line = "this is the node itself, which sends itself nothing; name whoever is to send: muses receive --from PEER";
            return Err(Fault::new(Code::Usage, line));
        }
        let arrivals = self.door.open().ok_or_else(|| {
            Fault::new(
                Code::AlreadyRunning,
                "another `muses receive` runs on this node; end it first, or name more senders there",
            )
        })?;
        let offered = self.ask(move |stack, _| stack.expose(files::SERVICE.to_owned(), String::new(), who)).await;
        if let Err(fault) = offered {
            self.door.close();
            return Err(fault);
        }
        Ok(Receiving { data: json!({ "allow": allow }), arrivals })
    }

    /// The command has gone.
    pub(in crate::control) async fn stop_receiving(&self) {
        // In this order: the next `muses receive` finds the door closed until its senders cannot come in by the last one's list.
        let _ = self.ask(|stack, _| stack.unexpose(files::SERVICE)).await;
        self.door.close();
    }

    /// A sender comes, whom the stack has let in.
    pub(super) fn let_in(self: &Arc<Self>, request: Incoming) {
        match self.door.announce(request) {
            Err(request) => request.refuse(),
            Ok(transfer) => {
                let desk = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(DOOR_TIMEOUT).await;
                    if let Some(request) = desk.door.take(transfer) {
                        request.refuse();
                    }
                });
            }
        }
    }

    /// The stream of a sender.
    pub(in crate::control) fn take_files(&self, transfer: u64) -> Result<Pipe, Fault> {
        let gone = || Fault::new(Code::Failed, format!("the transfer {transfer} is over already"));
        let request = self.door.take(transfer).ok_or_else(gone)?;
        let what = format!("files from {}", request.peer);
        Ok(self.pipe(what, request.accept()))
    }

    /// A stream to the `muses receive` on `peer`.
    pub(in crate::control) async fn send_files(&self, peer: String) -> Result<Pipe, Fault> {
        let what = peer.clone();
        let opening = self.handle.open(peer, files::SERVICE.to_owned(), 0);
        let conn = in_time(opening, ANSWER_TIMEOUT).await.map_err(|fault| {
            // A name that is another's now, say, is no matter of who runs `muses receive`.
            if ![Failure::Refused, Failure::ServiceDown].map(Fault::from).contains(&fault) {
                return fault.about(&what);
            }
            Fault::new(
                Code::Refused,
                format!("{what} takes no files from you now; run there: muses receive --from YOU"),
            )
        })?;
        Ok(self.pipe(what, conn))
    }
}
