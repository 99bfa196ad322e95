//! `muses doctor`: from the nearest layer to the farthest, until one fails.

use std::time::Duration;

use serde_json::Value;

use super::{ANSWER_TIMEOUT, Desk, in_time, to_json};
use crate::control::wire::{Check, Diagnosis};
use crate::driver::{Conn, Error};
use crate::exit::{Code, Fault};
use crate::local::dial;
use crate::local::exposures::Exposure;
use crate::local::service::ServiceName;
use crate::stack::{Answer, Failure, Stack};
use crate::words::count;

/// No node offers it: to be refused is to be heard.
const NO_SERVICE: &str = "~doctor";
/// A place to listen says so within a round trip. A service may say nothing.
const PLACE_TIMEOUT: Duration = Duration::from_secs(1);

impl Desk {
    pub(super) async fn doctor(&self, peer: Option<String>, service: Option<ServiceName>) -> Result<Value, Fault> {
        let mut diagnosis = Diagnosis { checks: Vec::new(), failed: None, code: 0 };
        self.examine(&mut diagnosis, peer, service).await?;
        to_json(diagnosis)
    }

    async fn examine(
        &self,
        diagnosis: &mut Diagnosis,
        peer: Option<String>,
        service: Option<ServiceName>,
    ) -> Result<(), Fault> {
        let look = |stack: &mut Stack, now| (stack.status(now).address, stack.has_place(), stack.peers(now).len());
        let (first_address, has_place, peers) = self.ask(look).await?;
        let (twin, record) = self.ask(|stack, now| stack.faults(now)).await?;
        // What is not durable waits: links and sessions among it.
        if let Some(line) = self.ask(|stack, _| stack.storage_fault()).await? {
            diagnosis.note("store", Err(Fault::new(Code::State, line)));
            return Ok(());
        }
        let flight = !self.handle.network_is_up().await?;
        // Between a node and itself there is no link, path or session that could fail.
        let myself = match &peer {
            Some(peer) if self.is_myself(peer).await? => Some(format!(
                "{peer} is this node itself: nothing is between the two, only its own layers were looked at"
            )),
            _ => None,
        };
        let peer = peer.filter(|_| myself.is_none());
        let link = match twin {
            Some(line) => Err(Fault::new(Code::Failed, line)),
            None if flight => Err(Failure::FlightMode.into()),
            None => links_of(peers, has_place, peer.is_some(), self.is_told_where_to_join()),
        };
        if !(diagnosis.note("link", link) && diagnosis.note("address", address_of(first_address, has_place))) {
            return Ok(());
        }
        let record = record.map(|line| Fault::new(Code::Unreachable, line));
        if let Some(line) = myself {
            if diagnosis.note("record", record.map_or(Ok(line), Err))
                && let Some(service) = service
            {
                self.check_own_service(diagnosis, &service).await;
            }
            return Ok(());
        }
        let Some(peer) = peer else {
            if let Some(wrong) = record {
                diagnosis.note("record", Err(wrong));
            }
            return Ok(());
        };
        if !self.check_record(diagnosis, &peer).await || !self.check_path(diagnosis, &peer).await {
            return Ok(());
        }
        if self.check_handshake(diagnosis, &peer).await
            && let Some(service) = service
        {
            self.check_service(diagnosis, &peer, service).await;
        }
        Ok(())
    }

    /// Whether `peer` is this node's id, a name that it gives itself, or the one that it has claimed.
    async fn is_myself(&self, peer: &str) -> Result<bool, Fault> {
        let asked = peer.to_owned();
        let (me, known, own) = self.ask(move |stack, _| (stack.id(), stack.known(&asked), stack.own_name())).await?;
        Ok(match known {
            Some(node) => node == me,
            // Wanted is not held: somebody else may have had the name before.
            None if own.is_some_and(|own| own.as_str() == peer) => {
                self.lookup(peer.to_owned(), ANSWER_TIMEOUT).await.map_or(true, |node| node == me.to_string())
            }
            None => false,
        })
    }

    /// Whether the command line or the configuration says where.
    fn is_told_where_to_join(&self) -> bool {
        self.config_in_force().get("join").and_then(Value::as_array).is_some_and(|ways| !ways.is_empty())
    }

    async fn check_own_service(&self, diagnosis: &mut Diagnosis, service: &ServiceName) {
        let found = match self.exposures.one(service) {
            Some(Exposure { forward, .. }) if forward.is_place() => Ok(format!(
                "{service} is a place to listen ({forward}), for those whom it is offered to: muses reverse"
            )),
            Some(Exposure { forward, .. }) => match dial::knock(forward.as_str()).await {
                Ok(()) => Ok(format!("{service} is offered, and leads to {forward}, which answers")),
                Err(error) => Err(Fault::new(
                    Code::Refused,
                    format!(
                        "{service} is offered, and leads to {forward}, where nothing answers ({error}); is the service running?"
                    ),
                )),
            },
            None => Err(Fault::new(
                Code::Refused,
                format!("this node does not offer {service}: muses expose {service} HOST:PORT"),
            )),
        };
        diagnosis.note("service", found);
    }

    async fn check_record(&self, diagnosis: &mut Diagnosis, peer: &str) -> bool {
        let asked = peer.to_owned();
        let answer = in_time(self.handle.query(move |stack, now| stack.lookup(&asked, now)), ANSWER_TIMEOUT).await;
        let found = answer.map(|answer| match answer {
            Answer::Resolved(found) => {
                let address = found.address.unwrap_or_else(|| "no address".to_owned());
                format!("{} is {} at {address}", found.name, found.node)
            }
            _ => peer.to_owned(),
        });
        diagnosis.note("record", found)
    }

    async fn check_path(&self, diagnosis: &mut Diagnosis, peer: &str) -> bool {
        let asked = peer.to_owned();
        let ping = self.handle.query(move |stack: &mut Stack, now| stack.ping(&asked, now));
        let found = in_time(ping, ANSWER_TIMEOUT).await.map(|answer| match answer {
            Answer::Echo { hops, rtt_us } => {
                format!("{}, {}.{} ms", count(hops.into(), "link"), rtt_us / 1000, rtt_us % 1000 / 100)
            }
            _ => String::new(),
        });
        diagnosis.note("path", found)
    }

    async fn check_handshake(&self, diagnosis: &mut Diagnosis, peer: &str) -> bool {
        let session = match self.probe(peer, NO_SERVICE).await {
            Ok(_) | Err(Error::Failed(Failure::Refused)) => Ok("the session answers".to_owned()),
            Err(why) => Err(why.into()),
        };
        diagnosis.note("handshake", session)
    }

    async fn check_service(&self, diagnosis: &mut Diagnosis, peer: &str, service: ServiceName) -> bool {
        let found = match self.probe(peer, service.as_str()).await {
            Ok(conn) if is_place(&conn).await => Ok(format!(
                "{service} is a place to listen; have it lead to a service of yours: muses reverse {peer}/{service} HOST:PORT"
            )),
            Ok(_) => Ok(format!("{service} accepts")),
            Err(why) => Err(why.into()),
        };
        diagnosis.note("service", found)
    }

    async fn probe(&self, peer: &str, service: &str) -> Result<Conn, Error> {
        let opening = self.handle.open(peer.to_owned(), service.to_owned(), 0);
        tokio::time::timeout(ANSWER_TIMEOUT, opening).await.unwrap_or(Err(Failure::Timeout.into()))
    }
}

/// Whether what has accepted turns out to be a place to listen, when nothing is said to it. A service sees a connection without a byte.
async fn is_place(conn: &Conn) -> bool {
    conn.finish();
    let _ = tokio::time::timeout(PLACE_TIMEOUT, conn.read(1)).await;
    conn.failure() == Some(Failure::Place)
}

/// So many links; `seeks` when the node looks for somebody, `told` when it was told where.
fn links_of(peers: usize, has_place: bool, seeks: bool, told: bool) -> Result<String, Fault> {
    match peers {
        // Who founded an overlay and is alone in it misses nothing.
        0 if has_place && !seeks => Ok("no neighbour yet; bring somebody in: muses invite".to_owned()),
        0 => Err(Fault::new(
            Code::Unreachable,
            if told {
                "no neighbour; are the addresses given with --join right, and is the network up?"
            } else {
                "no neighbour; is the network up, and does another node of this overlay run? another way to it: muses join INVITE|MULTIADDR"
            },
        )),
        links => Ok(count(links as u64, "neighbour")),
    }
}

fn address_of(first_address: Option<String>, has_place: bool) -> Result<String, Fault> {
    match first_address {
        Some(address) => Ok(address),
        None if has_place => Ok("none in the first tree now; those in the others lead here".to_owned()),
        None => Err(Fault::new(
            Code::Unreachable,
            "there are neighbours, but none gives this node a place in the overlay: leaves do not, and others may be about to; try again in a few seconds, or link with others, too",
        )),
    }
}

impl Diagnosis {
    /// Notes how a layer is; false when it fails.
    fn note(&mut self, layer: &str, found: Result<String, Fault>) -> bool {
        let ok = found.is_ok();
        let detail = match found {
            Ok(detail) => detail,
            Err(fault) => {
                self.failed = Some(layer.to_owned());
                self.code = fault.code;
                fault.message
            }
        };
        self.checks.push(Check { layer: layer.to_owned(), ok, detail });
        ok
    }
}
