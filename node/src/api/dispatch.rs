//! Which of a node's offers an incoming connection belongs to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::driver::Incoming;

/// Streams that wait to be accepted, for each service; more are refused.
pub(super) const MAX_WAITING: usize = 64;

/// The offers by name.
#[derive(Default)]
pub(super) struct Dispatch(Mutex<BTreeMap<String, mpsc::Sender<Incoming>>>);

impl Dispatch {
    pub(super) fn add(&self, service: &str, waiting: mpsc::Sender<Incoming>) -> io::Result<()> {
        let mut offers = self.offers();
        if offers.contains_key(service) {
            let line = format!("the service {service} is offered already; drop its Offer first");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, line));
        }
        offers.insert(service.to_owned(), waiting);
        Ok(())
    }

    pub(super) fn remove(&self, service: &str) {
        self.offers().remove(service);
    }

    /// Hands connections out until the node has ended; `folder` is its lock, if it has one.
    pub(super) async fn run(self: Arc<Self>, mut incoming: mpsc::Receiver<Incoming>, folder: Option<File>) {
        while let Some(request) = incoming.recv().await {
            let offer = self.offers().get(&request.service).cloned();
            match offer.map(|offer| offer.try_send(request)) {
                Some(Ok(())) => {}
                Some(Err(mpsc::error::TrySendError::Full(request) | mpsc::error::TrySendError::Closed(request))) => {
                    request.refuse();
                }
                // Dropped, which resets it: the offer ended just now.
                None => {}
            }
        }
        // The next node may have the folder, and nobody waits for connections any more.
        drop(folder);
        self.offers().clear();
    }

    fn offers(&self) -> MutexGuard<'_, BTreeMap<String, mpsc::Sender<Incoming>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
