//! Notices that local addresses came or went, and tells it once when they have settled.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::gate::Gate;
use super::interfaces::{Change, Interfaces};

/// Changes within this time are told together; an address that only flaps is told once.
const SETTLE: Duration = Duration::from_millis(10);
/// At the end of flight mode: only long enough to learn the new listen addresses.
const SETTLE_REOPENED: Duration = Duration::from_millis(1);

/// What there is to tell, beside the addresses at which this node listens.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct News {
    /// Its attachment to the network changed.
    pub(super) moved: bool,
    /// The network that its links go over was gone, and is back or has another in its place.
    pub(super) interrupted: bool,
}

pub(super) struct Changes {
    /// None when the system has no such thing.
    interfaces: Option<Interfaces>,
    pending: Option<(Instant, News)>,
    /// Whether the addresses that were there at the start are known: later ones are changes.
    settled: bool,
}

impl Changes {
    pub(super) fn watch() -> Self {
        let interfaces = Interfaces::watch()
            .inspect_err(|error| tracing::warn!(%error, "cannot watch network interfaces; moves are noticed later"))
            .ok();
        Self { interfaces, pending: None, settled: false }
    }

    /// The addresses of this machine, if the system tells; those that are most likely of use to others come first.
    pub(super) fn addresses(&self) -> Option<Vec<IpAddr>> {
        self.interfaces.as_ref().map(Interfaces::addresses)
    }

    /// A listener opened or closed.
    pub(super) fn note_listening(&mut self) {
        self.note(SETTLE, News::default());
    }

    /// Flight mode ended.
    pub(super) fn note_reopened(&mut self) {
        self.settled = true;
        self.note(SETTLE_REOPENED, News { moved: true, ..News::default() });
    }

    /// Flight mode began: nothing before it matters.
    pub(super) fn forget(&mut self) {
        self.pending = None;
    }

    /// The next news. Cancel-safe. Sockets of an address that went are muted at once.
    pub(super) async fn next(&mut self, gate: &Gate) -> News {
        loop {
            tokio::select! {
                change = next_change(&mut self.interfaces) => self.handle(change, gate),
                news = settle(self.pending) => {
                    self.pending = None;
                    self.settled = true;
                    return news;
                }
            }
        }
    }

    fn handle(&mut self, change: Change, gate: &Gate) {
        tracing::debug!(?change, "network interfaces");
        if let Change::Went(ip) = change {
            // Its connections are dead, and would need minutes to find out.
            gate.mute_ip(ip);
        }
        if !gate.is_closed() {
            let news = if self.settled { self.news_of(change, gate) } else { News::default() };
            self.note(SETTLE, news);
        }
    }

    /// A connection outlives that its interface stands still for a while, if nothing else takes its place: what is doubted is dialled beside it, and
    /// nothing is given up.
    fn news_of(&self, change: Change, gate: &Gate) -> News {
        let leading_out = gate.leading_out(&self.addresses().unwrap_or_default());
        let mut standing = self.interfaces.iter().flat_map(Interfaces::standing);
        let interrupted = match change {
            Change::Came(_) | Change::Went(_) => standing.any(|ip| leading_out.contains(&ip)),
            Change::Stands(ip) => leading_out.contains(&ip) && self.interfaces.iter().any(Interfaces::has_network),
            Change::Runs(ip) => leading_out.is_empty() || leading_out.contains(&ip),
            Change::Idle => false,
        };
        News { moved: matches!(change, Change::Came(_) | Change::Went(_)), interrupted }
    }

    fn note(&mut self, settle: Duration, news: News) {
        let due = Instant::now() + settle;
        let (earlier, known) = self.pending.unwrap_or((due, News::default()));
        let both = News { moved: known.moved || news.moved, interrupted: known.interrupted || news.interrupted };
        self.pending = Some((earlier.min(due), both));
    }
}

async fn next_change(interfaces: &mut Option<Interfaces>) -> Change {
    match interfaces {
        Some(interfaces) => interfaces.next().await,
        None => std::future::pending().await,
    }
}

async fn settle(pending: Option<(Instant, News)>) -> News {
    match pending {
        Some((due, news)) => {
            tokio::time::sleep_until(due).await;
            news
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_told_together() {
        let mut changes = Changes { interfaces: None, pending: None, settled: false };
        let ip = "10.0.0.1".parse().unwrap();
        let gate = Gate::open();
        changes.handle(Change::Came(ip), &gate);
        assert_eq!(changes.next(&gate).await, News::default(), "what is there at the start is no move");
        for change in [Change::Idle, Change::Came(ip), Change::Runs(ip)] {
            changes.handle(change, &gate);
        }
        // There is no connection that could go on.
        assert_eq!(changes.next(&gate).await, News { moved: true, interrupted: true });
        assert_eq!(changes.pending, None);
        gate.close();
        changes.handle(Change::Came(ip), &gate);
        assert_eq!(changes.pending, None, "flight mode");
    }
}
