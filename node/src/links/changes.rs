//! Notices that local addresses came or went, and tells it once when they have settled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::gate::Gate;
use super::interfaces::{Change, Interfaces};

/// Changes within this time are told together; an address that only flaps is told once.
const SETTLE: Duration = Duration::from_millis(10);
/// So many moves in a row of one address are told as soon as they have settled: a cable that is out and in four times.
const MOVES_AT_ONCE: u32 = 8;
/// The further ones, of an interface that goes up and down without end, no more often than this: with each, all that waits begins anew. A new
/// network has a new address, so that nobody waits for this in one.
const MOVE_INTERVAL: Duration = Duration::from_secs(2);
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
    /// When to tell that listeners changed.
    listening: Option<Instant>,
    /// A move that is to be told.
    pending: Option<Move>,
    /// Whether the addresses that were there at the start are known: later ones are changes.
    settled: bool,
    /// Each move that was told takes [`MOVE_INTERVAL`]; until when those of an address last.
    taken: BTreeMap<IpAddr, Instant>,
}

struct Move {
    at: Instant,
    news: News,
    of: BTreeSet<IpAddr>,
}

impl Changes {
    pub(super) fn watch() -> Self {
        let interfaces = Interfaces::watch()
            .inspect_err(|error| tracing::warn!(%error, "cannot watch network interfaces; moves are noticed later"))
            .ok();
        Self::of(interfaces)
    }

    fn of(interfaces: Option<Interfaces>) -> Self {
        Self { interfaces, listening: None, pending: None, settled: false, taken: BTreeMap::new() }
    }

    /// The addresses of this machine, if the system tells; those that are most likely of use to others come first.
    pub(super) fn addresses(&self) -> Option<Vec<IpAddr>> {
        self.interfaces.as_ref().map(Interfaces::addresses)
    }

    /// A listener opened or closed.
    pub(super) fn note_listening(&mut self) {
        let due = Instant::now() + SETTLE;
        self.listening = Some(self.listening.map_or(due, |earlier| earlier.min(due)));
    }

    /// Flight mode ended.
    pub(super) fn note_reopened(&mut self) {
        self.settled = true;
        self.note(Instant::now() + SETTLE_REOPENED, News { moved: true, ..News::default() }, None);
    }

    /// Flight mode began: nothing before it matters.
    pub(super) fn forget(&mut self) {
        (self.listening, self.pending) = (None, None);
    }

    /// The next news. Cancel-safe. Sockets of an address that went are muted at once.
    pub(super) async fn next(&mut self, gate: &Gate) -> News {
        loop {
            let due = self.due();
            tokio::select! {
                change = next_change(&mut self.interfaces) => self.handle(change, gate),
                () = settle(due) => return self.take(Instant::now()),
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        [self.listening, self.pending.as_ref().map(|pending| pending.at)].into_iter().flatten().min()
    }

    fn take(&mut self, now: Instant) -> News {
        self.settled = true;
        self.listening = None;
        let Some(told) = self.pending.take_if(|pending| pending.at <= now) else { return News::default() };
        self.taken.retain(|_, until| *until > now);
        for ip in told.of {
            let until = self.taken.entry(ip).or_insert(now);
            // A move that was told with another's, before its time, makes the next ones wait no longer.
            *until = (*until + MOVE_INTERVAL).min(now + MOVE_INTERVAL * MOVES_AT_ONCE);
        }
        told.news
    }

    fn handle(&mut self, change: Change, gate: &Gate) {
        tracing::debug!(?change, "network interfaces");
        if let Change::Went(ip) = change {
            // Its connections are dead, and would need minutes to find out.
            gate.mute_ip(ip);
        }
        if !gate.is_closed() {
            let news = if self.settled { self.news_of(change, gate) } else { News::default() };
            if news == News::default() {
                self.note_listening();
            } else {
                let ip = change.ip();
                self.note(self.allowed(ip).max(Instant::now() + SETTLE), news, ip);
            }
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

    /// From when on a move of this address may be told.
    fn allowed(&self, ip: Option<IpAddr>) -> Instant {
        let now = Instant::now();
        let taken = ip.and_then(|ip| self.taken.get(&ip)).copied();
        taken.and_then(|until| until.checked_sub(MOVE_INTERVAL * (MOVES_AT_ONCE - 1))).unwrap_or(now)
    }

    fn note(&mut self, at: Instant, news: News, of: Option<IpAddr>) {
        let pending = self.pending.get_or_insert_with(|| Move { at, news, of: BTreeSet::new() });
        pending.at = pending.at.min(at);
        pending.news.moved |= news.moved;
        pending.news.interrupted |= news.interrupted;
        pending.of.extend(of);
    }
}

async fn next_change(interfaces: &mut Option<Interfaces>) -> Change {
    match interfaces {
        Some(interfaces) => interfaces.next().await,
        None => std::future::pending().await,
    }
}

async fn settle(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_told_together() {
        let mut changes = Changes::of(None);
        let ip = "10.0.0.1".parse().unwrap();
        let gate = Gate::open();
        changes.handle(Change::Came(ip), &gate);
        assert_eq!(changes.next(&gate).await, News::default(), "what is there at the start is no move");
        for change in [Change::Idle, Change::Came(ip), Change::Runs(ip)] {
            changes.handle(change, &gate);
        }
        // There is no connection that could go on.
        assert_eq!(changes.next(&gate).await, News { moved: true, interrupted: true });
        assert_eq!(changes.due(), None);
        gate.close();
        changes.handle(Change::Came(ip), &gate);
        assert_eq!(changes.due(), None, "flight mode");
    }

    /// A cable with a loose contact: the first moves count at once, the others every two seconds, and the last one is not lost.
    #[tokio::test(start_paused = true)]
    async fn an_interface_that_comes_and_goes_without_end_is_told_every_two_seconds() {
        let mut changes = Changes::of(None);
        let gate = Gate::open();
        let ip = "10.0.0.1".parse().unwrap();
        changes.note_reopened();
        changes.next(&gate).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        let mut told = Vec::new();
        while start.elapsed() < Duration::from_secs(10) {
            changes.handle(if told.len() % 2 == 0 { Change::Went(ip) } else { Change::Came(ip) }, &gate);
            changes.note_listening();
            while !changes.next(&gate).await.moved {}
            told.push(start.elapsed().as_millis());
        }
        assert_eq!(told, [10, 20, 30, 40, 50, 60, 70, 80, 2010, 4010, 6010, 8010, 10_010]);
        let another = "10.0.0.2".parse().unwrap();
        changes.handle(Change::Came(another), &gate);
        assert!(changes.next(&gate).await.moved);
        assert_eq!(start.elapsed().as_millis(), 10_020, "another address waits for nothing");
        tokio::time::sleep(Duration::from_secs(60)).await;
        changes.handle(Change::Came(ip), &gate);
        let asked = Instant::now();
        changes.next(&gate).await;
        assert_eq!(asked.elapsed(), SETTLE, "after a quiet minute");
    }
}
