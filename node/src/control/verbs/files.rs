//! `muses send` and `muses receive`: the node finds out who is there, and hands the streams on; files are the commands' business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use overlay::id::NodeId;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{ANSWER_TIMEOUT, Desk, Pipe, in_time};
use crate::control::wire::Arrival;
use crate::driver::Incoming;
use crate::exit::{Code, Fault};
use crate::files;
use crate::stack::{Failure, Who};

/// Streams of senders at the door that `muses receive` has not let in yet.
const MAX_WAITING: usize = 32;
/// Those of one sender, so that he does not keep the others out.
const MAX_WAITING_OF_ONE: usize = MAX_WAITING / 4;
/// How long it may take to let one in; it does nothing else.
const DOOR_TIMEOUT: Duration = Duration::from_secs(10);

/// Senders on their way to the one `muses receive` that may run on a node.
#[derive(Default)]
pub(super) struct Door(Mutex<State>);

#[derive(Default)]
struct State {
    /// The number that was given last.
    latest: u64,
    receiver: Option<mpsc::Sender<Arrival>>,
    waiting: BTreeMap<u64, Incoming>,
}

impl State {
    /// Whether one more stream of `peer` may wait.
    fn has_room(&self, peer: NodeId) -> bool {
        let his = self.waiting.values().filter(|request| request.peer == peer).count();
        self.waiting.len() < MAX_WAITING && his < MAX_WAITING_OF_ONE
    }
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
        // No number is given twice, whatever becomes of this sender: `take` would hand out another one's stream under his name.
        state.latest = state.latest.saturating_add(1);
        let transfer = state.latest;
        if !state.has_room(request.peer) {
            return Err(request);
        }
        let arrival = Arrival { transfer, node: request.peer.to_string() };
        let heard = state.receiver.as_ref().is_some_and(|receiver| receiver.try_send(arrival).is_ok());
        if !heard {
            return Err(request);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    /// `n` comes to the door; the number that he gets.
    fn comes(door: &Door, n: u8) -> Option<u64> {
        door.announce(Incoming::from_nowhere(id(n))).ok()
    }

    #[test]
    fn who_found_no_room_leaves_his_number_to_nobody() {
        let door = Door::default();
        let mut arrivals = door.open().unwrap();
        while comes(&door, 1).is_some() {}
        let late = comes(&door, 2).unwrap();
        let mut told = BTreeMap::new();
        while let Ok(Arrival { transfer, node }) = arrivals.try_recv() {
            assert_eq!(told.insert(transfer, node), None, "{transfer} was given twice");
        }
        assert_eq!(told.len(), MAX_WAITING_OF_ONE + 1, "who was turned away is announced");
        for (transfer, node) in told {
            assert_eq!(door.take(transfer).unwrap().peer.to_string(), node, "another one's stream");
        }
        assert!(door.take(late).is_none());
    }

    #[test]
    fn a_full_door_announces_nobody() {
        let door = Door::default();
        let mut arrivals = door.open().unwrap();
        let came = (0..u8::MAX).filter_map(|n| comes(&door, n)).count();
        assert_eq!(came, MAX_WAITING);
        // `muses receive` has heard of all of them, and has not let them in yet.
        while arrivals.try_recv().is_ok() {}
        assert_eq!(comes(&door, u8::MAX), None);
        assert!(arrivals.try_recv().is_err(), "who was turned away is announced");
        let first = door.take(1).unwrap().peer;
        let next = comes(&door, u8::MAX).unwrap();
        assert_eq!((first, arrivals.try_recv().unwrap().transfer), (id(0), next));
        assert_eq!(door.take(next).unwrap().peer, id(u8::MAX));
    }

    #[test]
    fn who_comes_often_keeps_nobody_out() {
        let door = Door::default();
        let _arrivals = door.open().unwrap();
        assert_eq!((0..100).filter_map(|_| comes(&door, 1)).count(), MAX_WAITING_OF_ONE);
        assert!(comes(&door, 2).is_some(), "another one finds no room");
    }
}
