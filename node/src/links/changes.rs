//! Notices that local addresses came or went, and tells it once when they have settled.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::gate::Gate;
use super::interfaces::{Change, Interfaces};

/// Changes within this time are told together; an address that only flaps is told once.
const SETTLE: Duration = Duration::from_millis(10);
/// At the end of flight mode: only long enough to learn the new listen addresses.
const SETTLE_REOPENED: Duration = Duration::from_millis(1);

/// What there is to tell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum News {
    /// This node listens at other addresses.
    Listening,
    /// That, and its attachment to the network changed.
    Moved,
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

    /// The addresses of this machine, if the system tells.
    pub(super) fn addresses(&self) -> Option<&BTreeSet<IpAddr>> {
        self.interfaces.as_ref().map(Interfaces::addresses)
    }

    /// A listener opened or closed.
    pub(super) fn note_listening(&mut self) {
        self.note(SETTLE, News::Listening);
    }

    /// Flight mode ended.
    pub(super) fn note_reopened(&mut self) {
        self.settled = true;
        self.note(SETTLE_REOPENED, News::Moved);
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

    fn handle(&mut self, change: Option<Change>, gate: &Gate) {
        match change {
            Some(Change::Up(ip)) => tracing::debug!(%ip, "address came"),
            Some(Change::Down(ip)) => {
                tracing::debug!(%ip, "address went");
                // Its connections are dead, and would need minutes to find out.
                gate.mute_ip(ip);
            }
            Some(Change::Idle) => return self.note_listening(),
            None => {
                tracing::warn!("the system tells no more of network interfaces; moves are noticed later");
                self.interfaces = None;
                return;
            }
        }
        if !gate.is_closed() {
            self.note(SETTLE, if self.settled { News::Moved } else { News::Listening });
        }
    }

    fn note(&mut self, settle: Duration, news: News) {
        let due = Instant::now() + settle;
        self.pending = Some(self.pending.map_or((due, news), |(earlier, known)| (earlier.min(due), known.max(news))));
    }
}

async fn next_change(interfaces: &mut Option<Interfaces>) -> Option<Change> {
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
    async fn changes_are_told_once_and_the_greater_counts() {
        let mut changes = Changes { interfaces: None, pending: None, settled: false };
        let up = || Some(Change::Up("10.0.0.1".parse().unwrap()));
        let gate = Gate::open();
        changes.handle(up(), &gate);
        assert_eq!(changes.next(&gate).await, News::Listening, "what is there at the start is no move");
        changes.note_listening();
        changes.handle(up(), &gate);
        assert_eq!(changes.next(&gate).await, News::Moved);
        assert_eq!(changes.pending, None);
        gate.close();
        changes.handle(up(), &gate);
        assert_eq!(changes.pending, None, "flight mode");
    }
}
