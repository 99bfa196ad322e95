//! A node without neighbours looks for its overlay on the local network: two laptops that come into one café need nobody else to find together.

use std::collections::BTreeSet;

use mdns_sd::{Receiver, ServiceEvent};
use multiaddr::Multiaddr;
use overlay::id::{NodeId, OverlayId};

use super::{Current, Daemon, Found, MAX_FOUND, PERIOD, read};
use crate::driver::{Handle, Stopped};

/// When a search is for something, and begins anew when that changes: another network is to be asked at once.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Lonely {
    overlay: OverlayId,
    listening: Vec<Multiaddr>,
}

/// A search that goes on.
struct Search {
    /// Asks as long as it is there.
    _daemon: Daemon,
    answers: Receiver<ServiceEvent>,
    /// Who answered.
    found: BTreeSet<NodeId>,
}

/// Tells the node behind `handle` of others of its overlay on the local network, whenever no neighbour answers it, until it ends.
pub async fn meet(handle: Handle) {
    let mut search = Current::none();
    while let Ok(lonely) = lonely(&handle).await {
        search.keep(lonely, |_| Search::new());
        let hearing = async {
            match search.get() {
                Some((Lonely { overlay, .. }, search)) => search.tell(*overlay, &handle).await,
                None => std::future::pending().await,
            }
        };
        let _: Result<(), _> = tokio::time::timeout(PERIOD, hearing).await;
    }
}

/// None while there is nothing to look for: no overlay yet, neighbours that answer, or no network.
async fn lonely(handle: &Handle) -> Result<Option<Lonely>, Stopped> {
    let overlay = handle.with(|stack, _| stack.overlay_id().filter(|_| stack.is_cut_off())).await?;
    let Some(overlay) = overlay else { return Ok(None) };
    if !handle.network_is_up().await? {
        return Ok(None);
    }
    Ok(Some(Lonely { overlay, listening: handle.listening().await? }))
}

impl Search {
    fn new() -> mdns_sd::Result<Self> {
        let daemon = Daemon::new()?;
        let answers = daemon.ask()?;
        Ok(Self { _daemon: daemon, answers, found: BTreeSet::new() })
    }

    /// Hands on the answers of nodes in `overlay`, unless there are too many.
    async fn tell(&mut self, overlay: OverlayId, handle: &Handle) {
        while self.found.len() < MAX_FOUND
            && let Ok(event) = self.answers.recv_async().await
        {
            let ServiceEvent::ServiceResolved(service) = event else { continue };
            let Some(found) = read(&service).filter(|found| found.overlay == overlay) else { continue };
            let Found { node, addresses, .. } = found;
            self.found.insert(node);
            handle.send(move |stack, now| stack.handle_announced(node, &addresses, now));
        }
        std::future::pending().await
    }
}
