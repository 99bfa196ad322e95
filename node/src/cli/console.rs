//! What `muses up` tells the person in front of it, on stdout.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multiaddr::Multiaddr;
use overlay::id::NodeId;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::Instant;

use crate::driver::Handle;
use crate::exit::{Code, Fault};
use crate::facts;
use crate::local::socks::{Guard, TOKEN_FILE};
use crate::reach::{Reach, reach};
use crate::stack::Event;

/// How often the listen addresses are compared with those that were printed.
const ADDRESSES_PERIOD: Duration = Duration::from_millis(500);

/// How long a way into an overlay may take before it is said that nobody answers there: longer than a dial and its repetition.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// Refusals that were printed and are remembered.
const MAX_REFUSALS: usize = 64;

/// Why a node ends whose identity was revoked.
const REVOKED: &str = "the identity of this node was revoked, for ever; start anew with another --data-dir";

/// Prints lines for people.
pub(super) struct Console {
    me: NodeId,
    petnames: Mutex<BTreeMap<NodeId, String>>,
}

impl Console {
    pub(super) fn new(me: NodeId, petnames: BTreeMap<String, NodeId>) -> Self {
        let console = Self { me, petnames: Mutex::default() };
        console.rename(&petnames);
        console
    }

    /// Other petnames from now on.
    pub(super) fn rename(&self, petnames: &BTreeMap<String, NodeId>) {
        *self.petnames() = petnames.iter().map(|(name, id)| (*id, name.clone())).collect();
    }

    /// One line. Nobody may be there to read it, which is no fault.
    pub(super) fn say(&self, line: &str) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }

    /// Who this is.
    pub(super) fn introduce(&self, data_dir: &Path, fresh: bool) {
        let how = if fresh { "a new identity" } else { "the identity" };
        self.say(&format!("node {} ({how} in {})", self.me, data_dir.display()));
    }

    /// How programs use the proxy.
    pub(super) fn offer_socks(&self, at: SocketAddr, guard: &Guard, data_dir: &Path) {
        self.say(&format!("programs reach peers through SOCKS5: curl --proxy socks5h://{at} http://PEER.muses/"));
        if let Guard::Token(_) = guard {
            self.say(&format!("they need the password in {}, with any user name", data_dir.join(TOKEN_FILE).display()));
        } else if !at.ip().is_loopback() {
            self.say(&format!("caution: whoever reaches {at} uses services as this node"));
        }
    }

    /// How to open the dashboard. Not its URL: what is printed here may be in a journal that others read.
    pub(super) fn offer_dashboard(&self, data_dir: &Path) {
        self.say(&format!("the dashboard's URL: muses dashboard --data-dir {}", data_dir.display()));
    }

    /// Where metrics are.
    pub(super) fn offer_metrics(&self, at: SocketAddr) {
        self.say(&format!("metrics are at http://{at}/metrics"));
        if !at.ip().is_loopback() {
            self.say(&format!("caution: whoever reaches {at} sees how much this node does"));
        }
    }

    /// Prints what happens until the node ends. `ways` are the bootstrap peers, when they were given by hand: one of another overlay ends it, too,
    /// as long as there was no neighbour, and so does a closed overlay that does not let this node in; a
    /// revoked identity ends it in any case; the fault says so.
    pub(super) async fn follow(
        &self,
        handle: Handle,
        mut facts: Receiver<Event>,
        ways: Option<&[Multiaddr]>,
    ) -> Option<Fault> {
        let joining = ways.is_some();
        let mut printed = Vec::new();
        let mut alone = true;
        let mut unanswered = ways.map(|ways| (Instant::now() + JOIN_PATIENCE, ways));
        let mut refusals = BTreeSet::new();
        let mut period = tokio::time::interval(ADDRESSES_PERIOD);
        loop {
            tokio::select! {
                fact = facts.recv() => match fact {
                    Ok(Event::OtherOverlay(line)) if joining && alone && neighbours(&handle).await == 0 => {
                        return Some(Fault::new(Code::State, line));
                    }
                    Ok(Event::IdentityRevoked) => return Some(Fault::new(Code::State, REVOKED)),
                    Ok(Event::NotAdmitted(line)) if joining && alone && neighbours(&handle).await == 0 => {
                        return Some(Fault::new(Code::Refused, line));
                    }
                    // A neighbour that refuses is tried again from time to time; its answer is news once.
                    Ok(Event::LinkRefused(why) | Event::NotAdmitted(why)) if !refusals.insert(why.clone()) => {}
                    Ok(fact) => {
                        if refusals.len() > MAX_REFUSALS || matches!(fact, Event::Joined { .. }) {
                            refusals.clear();
                        }
                        if let Some(line) = facts::line(&fact, |id| self.who(id)) {
                            self.say(&line);
                        }
                    }
                    Err(RecvError::Lagged(lost)) => self.say(&format!("({lost} lines left out)")),
                    Err(RecvError::Closed) => return None,
                },
                _ = period.tick() => {
                    let Ok(addresses) = handle.reachable_at().await else { return None };
                    alone = alone && neighbours(&handle).await == 0;
                    if alone && let Some((_, ways)) = unanswered.take_if(|(told_at, _)| *told_at <= Instant::now()) {
                        self.say(&nobody_answers(ways));
                    }
                    // Flight mode listens nowhere; being back at the same addresses is no news.
                    if !addresses.is_empty() && addresses != printed {
                        let closed = handle.with(|stack, _| stack.is_closed()).await.unwrap_or_default();
                        self.invite(&addresses, closed);
                        printed = addresses;
                    }
                }
            }
        }
    }

    /// The line that somebody else pastes, for each address at which this node can be reached.
    fn invite(&self, addresses: &[Multiaddr], closed: bool) {
        for address in addresses {
            self.say(&format!("listening at {address}"));
        }
        if closed {
            self.say("others join with what `muses invite` prints");
            return;
        }
        let shown: Vec<_> = addresses.iter().filter(|address| reach(address).is_some()).collect();
        let elsewhere: Vec<_> = shown.iter().filter(|address| !is_loopback(address)).collect();
        let line = |folder, address: &Multiaddr| format!("  muses up{folder} --join {address}/p2p/{}", self.me);
        if !elsewhere.is_empty() {
            self.say("others join with:");
            elsewhere.iter().for_each(|address| self.say(&line("", address)));
        }
        if let Some(address) = shown.iter().find(|address| is_loopback(address)).or(shown.first()) {
            self.say("a second node on this machine, with a folder of its own, joins with:");
            self.say(&line(" --data-dir ./muses-2", address));
        }
    }

    fn who(&self, id: &NodeId) -> String {
        self.petnames().get(id).map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
    }

    fn petnames(&self) -> MutexGuard<'_, BTreeMap<NodeId, String>> {
        self.petnames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nobody_answers(ways: &[Multiaddr]) -> String {
    let ways: Vec<_> = ways.iter().map(ToString::to_string).collect();
    format!(
        "nobody has let this node in yet at {}; it goes on trying. Does a node run there, and does no firewall keep this one from it?",
        ways.join(", ")
    )
}

async fn neighbours(handle: &Handle) -> usize {
    handle.with(|stack, now| stack.peers(now).len()).await.unwrap_or_default()
}

fn is_loopback(address: &Multiaddr) -> bool {
    reach(address) == Some(Reach::Machine)
}
