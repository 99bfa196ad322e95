//! Notices that local addresses came or went, and tells it once when they have settled.

use std::io;
use std::time::Duration;

use futures::StreamExt as _;
use if_watch::IfEvent;
use if_watch::tokio::IfWatcher;
use tokio::time::Instant;

use super::gate::Gate;

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
    interfaces: Option<IfWatcher>,
    pending: Option<(Instant, News)>,
    /// Whether the addresses that were there at the start are known: later ones are changes.
    settled: bool,
}

impl Changes {
    pub(super) fn watch() -> Self {
        let interfaces = IfWatcher::new()
            .inspect_err(|error| tracing::warn!(%error, "cannot watch network interfaces; moves are noticed later"))
            .ok();
        Self { interfaces, pending: None, settled: false }
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
                event = next_event(&mut self.interfaces) => self.handle(event, gate),
                news = settle(self.pending) => {
                    self.pending = None;
                    self.settled = true;
                    return news;
                }
            }
        }
    }

    fn handle(&mut self, event: Option<io::Result<IfEvent>>, gate: &Gate) {
        match event {
            Some(Ok(IfEvent::Up(net))) => tracing::debug!(%net, "address came"),
            Some(Ok(IfEvent::Down(net))) => {
                tracing::debug!(%net, "address went");
                // Its connections are dead, and would need minutes to find out.
                gate.mute_ip(net.addr());
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "watching network interfaces");
                return;
            }
            None => {
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

async fn next_event(interfaces: &mut Option<IfWatcher>) -> Option<io::Result<IfEvent>> {
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
        let up = || Some(Ok(IfEvent::Up("10.0.0.1/8".parse().unwrap())));
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
