//! A node without neighbours looks for its overlay on the local network: two laptops that come into one café need nobody else to find together.

use std::time::{Duration, Instant};

use mdns_sd::{Receiver, ServiceEvent};
use multiaddr::Multiaddr;
use overlay::id::OverlayId;

use super::{Current, Daemon, MAX_FOUND, PERIOD, read};
use crate::driver::{Handle, Stopped};

/// A search in which nobody was found begins anew after this, and after twice as long each time: what was told in it is forgotten where many lie.
const FIRST_ROUND: Duration = Duration::from_secs(10);

/// What a search is for. It begins anew when that changes: another network is to be asked at once.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Lonely {
    overlay: OverlayId,
    listening: Vec<Multiaddr>,
    networks: u64,
}

/// A search that goes on.
struct Search {
    /// Asks as long as it is there.
    daemon: Daemon,
    answers: Receiver<ServiceEvent>,
}

/// Tells the node behind `handle` of others of its overlay on the local network, whenever no neighbour answers it, until it ends.
pub async fn meet(handle: Handle) {
    let mut search = Current::none();
    let mut since: Option<(Lonely, Instant)> = None;
    while let Ok(lonely) = lonely(&handle).await {
        if since.as_ref().map(|(lonely, _)| lonely) != lonely.as_ref() {
            since = lonely.map(|lonely| (lonely, Instant::now()));
        }
        let facts = since.clone().map(|(lonely, since)| (lonely, round(since.elapsed())));
        search.keep(facts, |_| Search::new());
        let hearing = async {
            match search.get() {
                Some(((Lonely { overlay, .. }, _), search)) => search.tell(*overlay, &handle).await,
                None => std::future::pending().await,
            }
        };
        let _: Result<(), _> = tokio::time::timeout(PERIOD, hearing).await;
        let is_full = match search.get() {
            Some((_, search)) => search.daemon.is_full().await,
            None => false,
        };
        if is_full {
            search.renew();
        }
    }
}

/// How many rounds are over after this time.
fn round(searched: Duration) -> u32 {
    (1 + searched.as_secs() / FIRST_ROUND.as_secs()).ilog2()
}

/// None while there is nothing to look for: no overlay yet, neighbours that answer, or no network.
async fn lonely(handle: &Handle) -> Result<Option<Lonely>, Stopped> {
    let asked =
        handle.with(|stack, now| Some((stack.overlay_id()?, stack.networks())).filter(|_| stack.is_cut_off(now)));
    let Some((overlay, networks)) = asked.await? else { return Ok(None) };
    if !handle.network_is_up().await? {
        return Ok(None);
    }
    Ok(Some(Lonely { overlay, listening: handle.listening().await?, networks }))
}

impl Search {
    fn new() -> mdns_sd::Result<Self> {
        let daemon = Daemon::new()?;
        let answers = daemon.ask()?;
        Ok(Self { daemon, answers })
    }

    /// Hands on the answers of nodes in `overlay`, so many and no more.
    async fn tell(&self, overlay: OverlayId, handle: &Handle) {
        let mut left = MAX_FOUND;
        while left > 0
            && let Ok(event) = self.answers.recv_async().await
        {
            let ServiceEvent::ServiceResolved(service) = event else { continue };
            let Some(found) = read(&service).filter(|found| found.overlay == overlay) else { continue };
            left -= 1;
            handle.send(move |stack, now| stack.handle_announced(&found.addresses, now));
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_is_twice_as_long_as_the_one_before() {
        let rounds = [0, 9, 10, 29, 30, 69, 70, 149, 150].map(|s| round(Duration::from_secs(s)));
        assert_eq!(rounds, [0, 0, 1, 1, 2, 2, 3, 3, 4]);
    }
}
