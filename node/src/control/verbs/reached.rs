//! Whether others reach this node: neighbours are asked to dial it, and it dials those who ask.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use multiaddr::{Multiaddr, Protocol};
use overlay::id::NodeId;

use super::Desk;
use crate::clock;
use crate::control::wire::{Outcome, Trial};
use crate::dial_back::{Answer, Ask, MAX_PORTS, MAX_WORD_BYTES, SERVICE, may_dial};
use crate::driver::Incoming;
use crate::exit::Fault;
use crate::reach::{ip_of, port_of, reach};
use crate::stack::Who;

/// Neighbours who are asked: from different places, so that one inside and one outside of this network are among them.
const MAX_ASKED: usize = 3;
/// How long they may take together, with a handshake.
const ASK_TIMEOUT: Duration = Duration::from_secs(6);
/// How long an asker may take to say what it wants.
const HEAR_TIMEOUT: Duration = Duration::from_secs(5);

/// What one neighbour found.
struct Report {
    by: NodeId,
    seen: IpAddr,
    reached: Vec<u16>,
}

impl Desk {
    /// Lets neighbours ask whether this node reaches them.
    pub(super) async fn offer_dial_back(&self) -> Result<(), Fault> {
        self.ask(|stack, _| stack.expose(SERVICE.to_owned(), String::new(), vec![Who::Anyone])).await
    }

    /// How neighbours fare who dial this node at `addresses`, and where else they see it: one line for each address. The second value is how
    /// many were asked.
    pub(super) async fn try_addresses(&self, addresses: &[Multiaddr]) -> Result<(Vec<Trial>, usize), Fault> {
        let ports: BTreeSet<u16> = addresses.iter().filter_map(port_of).collect();
        let ports: Vec<u16> = ports.into_iter().take(MAX_PORTS).collect();
        let asked = choose(self.ask(|stack, _| stack.neighbours_at()).await?);
        let count = asked.len();
        let asking = asked.into_iter().map(|neighbour| self.ask_neighbour(neighbour, &ports));
        let reports: Vec<Report> = join_all(asking).await.into_iter().flatten().collect();
        Ok((judge(addresses, &ports, &reports), count))
    }

    async fn ask_neighbour(&self, neighbour: NodeId, ports: &[u16]) -> Option<Report> {
        let asking = async {
            let conn = self.handle.open(neighbour.to_string(), SERVICE.to_owned(), 0).await.ok()?;
            conn.write_all(serde_json::to_vec(&Ask { ports: ports.to_vec() }).ok()?).await.ok()?;
            conn.finish();
            serde_json::from_slice(&conn.read_to_end(MAX_WORD_BYTES).await?).ok()
        };
        match tokio::time::timeout(ASK_TIMEOUT, asking).await.ok().flatten()? {
            Answer::Tried { seen, reached } => Some(Report { by: neighbour, seen, reached }),
            Answer::Unable {} => None,
        }
    }

    /// A peer asks whether it is reached.
    pub(super) async fn dial_asker(&self, request: Incoming) {
        let asker = request.peer;
        // Who is no neighbour, or asks too often, is not heard at all.
        let Some(seen) = self.may_ask(asker).await else { return request.refuse() };
        let conn = request.accept();
        let Ok(Some(ask)) = tokio::time::timeout(HEAR_TIMEOUT, conn.read_to_end(MAX_WORD_BYTES)).await else { return };
        let Ok(ask) = serde_json::from_slice::<Ask>(&ask) else { return };
        let answer = self.try_asker(asker, seen, ask).await.unwrap_or(Answer::Unable {});
        conn.answer(serde_json::to_vec(&answer).unwrap_or_default()).await;
    }

    /// Where an asker is seen that is dialled.
    async fn may_ask(&self, asker: NodeId) -> Option<IpAddr> {
        let neighbours = self.handle.with(|stack, _| stack.neighbours_at()).await.ok()?;
        let seen = neighbours.iter().find(|(id, _)| *id == asker).and_then(|(_, remote)| ip_of(remote))?;
        let own: Vec<IpAddr> = self.handle.reachable_at().await.ok()?.iter().filter_map(ip_of).collect();
        let admitted = may_dial(seen, &own) && self.asks().admit(asker, clock::now().instant);
        admitted.then_some(seen)
    }

    async fn try_asker(&self, asker: NodeId, seen: IpAddr, ask: Ask) -> Option<Answer> {
        let back = self.handle.dial_back().await.ok()?;
        let ports: BTreeSet<u16> = ask.ports.into_iter().take(MAX_PORTS).filter(|port| *port != 0).collect();
        let tried = join_all(ports.iter().map(|port| back.finds(asker, seen, *port))).await;
        let reached = ports.into_iter().zip(tried).filter_map(|(port, found)| found.then_some(port)).collect();
        Some(Answer::Tried { seen, reached })
    }
}

/// Those who are far away first, and not two at one address as long as there are others.
fn choose(mut neighbours: Vec<(NodeId, Multiaddr)>) -> Vec<NodeId> {
    neighbours.sort_by_key(|(id, remote)| (Reverse(reach(remote)), *id));
    let mut known = BTreeSet::new();
    let (first, others): (Vec<_>, Vec<_>) = neighbours.into_iter().partition(|(_, remote)| known.insert(ip_of(remote)));
    first.into_iter().chain(others).map(|(id, _)| id).take(MAX_ASKED).collect()
}

/// What the reports say about each of `addresses`; behind them, where neighbours see this node and it listens nowhere: in front of its router.
fn judge(addresses: &[Multiaddr], ports: &[u16], reports: &[Report]) -> Vec<Trial> {
    let mut trials = Vec::new();
    let seen_elsewhere = reports.iter().flat_map(|report| {
        let at = move |port: &u16| Multiaddr::from(report.seen).with(Protocol::Tcp(*port));
        ports.iter().map(at).filter(move |address| !addresses.contains(address))
    });
    for address in addresses.iter().cloned().chain(seen_elsewhere) {
        let (ip, port) = (ip_of(&address), port_of(&address));
        let tried =
            || reports.iter().filter(|report| Some(report.seen) == ip && ports.iter().any(|p| Some(*p) == port));
        let found = tried().find(|report| report.reached.iter().any(|reached| Some(*reached) == port));
        let outcome = match found {
            Some(_) => Outcome::Reached,
            None if tried().next().is_some() => Outcome::Failed,
            None => Outcome::Untested,
        };
        let by = found.or_else(|| tried().next()).map(|report| report.by.to_string());
        let trial = Trial { address: address.to_string(), outcome, by };
        if !trials.contains(&trial) {
            trials.push(trial);
        }
    }
    trials
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn those_in_different_places_are_asked_first() {
        let at = |n, text: &str| (id(n), text.parse().unwrap());
        let neighbours = vec![
            at(1, "/ip4/192.168.1.4/tcp/1"),
            at(2, "/ip4/203.0.113.7/tcp/1"),
            at(3, "/ip4/203.0.113.7/tcp/2"),
            at(4, "/ip4/127.0.0.1/tcp/1"),
            at(5, "/dns4/example.org/tcp/1"),
        ];
        assert_eq!(choose(neighbours.clone()), [id(2), id(1), id(4)]);
        assert_eq!(choose(neighbours[1..3].to_vec()), [id(2), id(3)]);
        assert!(choose(Vec::new()).is_empty());
    }

    #[test]
    fn each_address_has_its_outcome() {
        let own = addresses(&["/ip4/192.168.1.4/tcp/4741", "/ip4/192.168.1.4/tcp/5", "/ip6/2001:db8::7/tcp/4741"]);
        let report = |by, seen: &str, reached: &[u16]| Report {
            by: id(by),
            seen: seen.parse().unwrap(),
            reached: reached.to_vec(),
        };
        let reports =
            [report(1, "192.168.1.4", &[4741]), report(2, "203.0.113.7", &[]), report(3, "203.0.113.7", &[5])];
        let trials = judge(&own, &[5, 4741], &reports);
        let rows: Vec<_> = trials.iter().map(|t| (t.address.as_str(), t.outcome, t.by.clone())).collect();
        let by = |n| Some(id(n).to_string());
        assert_eq!(
            rows,
            [
                ("/ip4/192.168.1.4/tcp/4741", Outcome::Reached, by(1)),
                ("/ip4/192.168.1.4/tcp/5", Outcome::Failed, by(1)),
                ("/ip6/2001:db8::7/tcp/4741", Outcome::Untested, None),
                ("/ip4/203.0.113.7/tcp/5", Outcome::Reached, by(3)),
                ("/ip4/203.0.113.7/tcp/4741", Outcome::Failed, by(2)),
            ]
        );
        let lie = [report(1, "192.0.2.9", &[80])];
        assert!(
            judge(&own, &[4741], &lie).iter().all(|trial| trial.outcome != Outcome::Reached),
            "a port that nobody asked about"
        );
    }
}
