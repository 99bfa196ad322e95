//! What `muses up` tells the person in front of it, on stdout.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multiaddr::Multiaddr;
use overlay::id::{NodeId, OverlayId};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::Instant;

use super::INVITE_LIFETIME;
use super::lines::Lines;
use crate::clock;
use crate::driver::Handle;
use crate::exit::{Code, Fault};
use crate::facts;
use crate::invite::{Invite, MAX_ADDRESSES};
use crate::local::socks::{Guard, TOKEN_FILE};
use crate::reach::{Reach, for_others, reach};
use crate::span;
use crate::stack::Event;
use crate::words::count;

/// How often the listen addresses are compared with those that were printed.
const ADDRESSES_PERIOD: Duration = Duration::from_millis(500);

/// How long a way into an overlay may take before it is said that nobody answers there: longer than a dial and its repetition.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// Refusals that were printed and are remembered.
const MAX_REFUSALS: usize = 64;
/// Ways into an overlay that a line names.
const MAX_SHOWN_WAYS: usize = 8;

/// To whoever goes on with an overlay of which nobody answers.
const NOBODY_KNOWN_ANSWERS: &str = "no node of this overlay has answered yet; it goes on trying. Is this machine's network up, and does one of those nodes run? another way in: muses join INVITE|MULTIADDR";

/// Why a node ends whose identity was revoked.
const REVOKED: &str = "the identity of this node was revoked, for ever; start anew with another --data-dir";

/// Prints lines for people.
pub(super) struct Console {
    me: NodeId,
    /// Whether others than those who are here already may join through this node.
    takes_in: bool,
    petnames: Mutex<BTreeMap<NodeId, String>>,
    lines: Lines,
}

impl Console {
    pub(super) fn new(me: NodeId, takes_in: bool, petnames: BTreeMap<String, NodeId>, lines: Lines) -> Self {
        let console = Self { me, takes_in, petnames: Mutex::default(), lines };
        console.rename(&petnames);
        console
    }

    /// Other petnames from now on.
    pub(super) fn rename(&self, petnames: &BTreeMap<String, NodeId>) {
        *self.petnames() = petnames.iter().map(|(name, id)| (*id, name.clone())).collect();
    }

    /// One line.
    pub(super) fn say(&self, line: &str) {
        self.lines.say(line);
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

    /// Prints what happens until the node ends. `ways` are the bootstrap peers. When it is `joining`, they were given by hand: one of another overlay ends
    /// it, too, as long as there was no neighbour, and so does a closed overlay that does not let this node in; a
    /// revoked identity ends it in any case; the fault says so.
    pub(super) async fn follow(
        &self,
        handle: Handle,
        mut facts: Receiver<Event>,
        joining: bool,
        ways: &[Multiaddr],
    ) -> Option<Fault> {
        let mut listening = Vec::new();
        let mut invited = Vec::new();
        let mut alone = true;
        let mut patient_until = Some(Instant::now() + JOIN_PATIENCE);
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
                    Err(RecvError::Lagged(lost)) => self.say(&format!("({} left out)", count(lost, "line"))),
                    Err(RecvError::Closed) => return None,
                },
                _ = period.tick() => {
                    let Ok(addresses) = handle.reachable_at().await else { return None };
                    alone = alone && neighbours(&handle).await == 0;
                    if alone && patient_until.take_if(|until| *until <= Instant::now()).is_some() {
                        self.say_alone(&handle, ways).await;
                    }
                    // Flight mode listens nowhere; being back at the same addresses is no news.
                    if !addresses.is_empty() && addresses != listening {
                        addresses.iter().for_each(|address| self.say(&format!("listening at {address}")));
                        listening.clone_from(&addresses);
                    }
                    // Into what, is known once this node is in it.
                    let into = handle.with(|stack, _| (stack.overlay_id(), stack.is_closed(), stack.is_founder())).await;
                    if let Ok((Some(overlay), closed, founder)) = into && !addresses.is_empty() && addresses != invited {
                        self.ways_in(&addresses, overlay, closed, founder).iter().for_each(|line| self.say(line));
                        invited = addresses;
                    }
                }
            }
        }
    }

    /// Nobody has answered so far, and it goes on trying. Who founded an overlay, and was told of nobody in it, misses nothing.
    async fn say_alone(&self, handle: &Handle, ways: &[Multiaddr]) {
        if !ways.is_empty() {
            self.say(&nobody_answers(ways));
        } else if !handle.with(|stack, _| stack.is_founder()).await.unwrap_or(true) {
            self.say(NOBODY_KNOWN_ANSWERS);
        }
    }

    /// What somebody else pastes to join.
    fn ways_in(&self, addresses: &[Multiaddr], overlay: OverlayId, closed: bool, founder: bool) -> Vec<String> {
        if !self.takes_in {
            return Vec::new();
        }
        if closed {
            let who = if founder {
                "others join with what `muses invite` prints"
            } else {
                "its founder, and whoever may invite, bring others in: muses invite"
            };
            return vec![who.to_owned()];
        }
        let line = |folder, address: &Multiaddr| format!("  muses up{folder} --join {address}/p2p/{}", self.me);
        let mut told = for_others(addresses.to_vec());
        told.truncate(MAX_ADDRESSES);
        let Some(farthest) = told.first() else { return Vec::new() };
        let mut lines = Vec::new();
        if !is_loopback(farthest) {
            lines.extend(self.invite(overlay, &told));
            lines.extend(told.iter().map(|address| line("", address)));
        }
        // Whoever has joined others has a second node already, or knows how to start one.
        if founder {
            let here = addresses.iter().find(|address| is_loopback(address)).unwrap_or(farthest);
            lines.push("a second node on this machine, with a folder of its own, joins with:".to_owned());
            lines.push(line(" --data-dir ./muses-2", here));
        }
        lines
    }

    /// An invite as `muses invite` writes it, if nothing else is said there.
    fn invite(&self, overlay: OverlayId, addresses: &[Multiaddr]) -> Vec<String> {
        let Ok(lifetime_s) = span::parse(INVITE_LIFETIME) else { return Vec::new() };
        let expires_unix_s = clock::now().wall.as_unix_secs().saturating_add(lifetime_s);
        let addresses = addresses.to_vec();
        let invite = Invite { overlay, inviter: self.me, expires_unix_s, addresses, grant: None };
        let Ok(invite) = invite.to_text() else { return Vec::new() };
        vec![
            format!("others join with an invite, good for {}:", span::text(lifetime_s)),
            format!("  muses join {invite}"),
            "or with an address, as long as this node has it:".to_owned(),
        ]
    }

    fn who(&self, id: &NodeId) -> String {
        self.petnames().get(id).map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
    }

    fn petnames(&self) -> MutexGuard<'_, BTreeMap<NodeId, String>> {
        self.petnames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nobody_answers(ways: &[Multiaddr]) -> String {
    let mut shown: Vec<_> = ways.iter().take(MAX_SHOWN_WAYS).map(ToString::to_string).collect();
    if ways.len() > MAX_SHOWN_WAYS {
        shown.push(format!("{} more", ways.len() - MAX_SHOWN_WAYS));
    }
    format!(
        "nobody has let this node in yet at {}; it goes on trying. Does a node run there, and does no firewall keep this one from it?",
        shown.join(", ")
    )
}

async fn neighbours(handle: &Handle) -> usize {
    handle.with(|stack, now| stack.peers(now).len()).await.unwrap_or_default()
}

fn is_loopback(address: &Multiaddr) -> bool {
    reach(address) == Some(Reach::Machine)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn me() -> NodeId {
        overlay::id::Identity::from_secret(&[3; 32]).id()
    }

    fn console(takes_in: bool) -> Console {
        Console::new(me(), takes_in, BTreeMap::new(), Lines::stdout())
    }

    fn lines(addresses: &[&str], closed: bool) -> Vec<String> {
        let addresses: Vec<Multiaddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        console(true).ways_in(&addresses, OverlayId::from_bytes([9; 32]), closed, true)
    }

    #[test]
    fn others_are_invited_to_where_they_reach_this_node_and_to_no_other_overlay() {
        let said = lines(&["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.7/tcp/1", "/ip4/203.0.113.7/tcp/1"], false);
        let [_, invite, _, farthest, near, _, here] = said.as_slice() else { panic!("{said:?}") };
        let invite: Invite = invite.strip_prefix("  muses join ").unwrap().parse().unwrap();
        assert_eq!((invite.overlay, invite.inviter), (OverlayId::from_bytes([9; 32]), me()));
        let addresses: Vec<String> = invite.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["/ip4/203.0.113.7/tcp/1", "/ip4/10.0.0.7/tcp/1"]);
        assert!(invite.grant.is_none() && invite.expired_for_s(clock::now().wall).is_none());
        assert!(farthest.starts_with("  muses up --join /ip4/203.0.113.7/tcp/1/p2p/"), "{farthest}");
        assert!(near.starts_with("  muses up --join /ip4/10.0.0.7/tcp/1/p2p/"), "{near}");
        assert!(here.starts_with("  muses up --data-dir ./muses-2 --join /ip4/127.0.0.1/tcp/1/p2p/"), "{here}");
        let addresses = ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.7/tcp/1"].map(|address| address.parse().unwrap());
        let joined = console(true).ways_in(&addresses, invite.overlay, false, false);
        assert!(joined.len() == 4 && !joined.concat().contains("second node"), "{joined:?}");
    }

    #[test]
    fn where_nobody_else_gets_to_and_where_a_secret_is_needed_there_is_no_invite() {
        let said = lines(&["/ip4/127.0.0.1/tcp/1"], false);
        assert!(said.len() == 2 && said[1].contains("--join /ip4/127.0.0.1/tcp/1"), "{said:?}");
        assert_eq!(lines(&["/ip4/203.0.113.7/tcp/1"], true), ["others join with what `muses invite` prints"]);
        let member = console(true);
        let said =
            member.ways_in(&["/ip4/203.0.113.7/tcp/1".parse().unwrap()], OverlayId::from_bytes([9; 32]), true, false);
        assert_eq!(said, ["its founder, and whoever may invite, bring others in: muses invite"]);
        assert_eq!(lines(&["/dns4/example.com/tcp/1"], false), [""; 0]);
        let leaf = console(false);
        assert_eq!(
            leaf.ways_in(&["/ip4/203.0.113.7/tcp/1".parse().unwrap()], OverlayId::from_bytes([9; 32]), false, true),
            [""; 0]
        );
    }
}
