//! Look-ups, pings and traces under way, for people and for sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use overlay::address::Place;
use overlay::dht::{LookupId, LookupResult};
use overlay::event::EchoId;
use overlay::id::NodeId;
use overlay::record::{Name, Query};
use overlay::time::{Instant, Now};

use super::bridge::first_address;
use super::event::{Answer, ConnId, Event, Failure, QueryId};
use super::naming::{Meaning, PINS_KEY, Purpose};
use super::status::Resolved;
use super::{Command, Stack};

/// Whom nobody knows is asked for again after this time: the records of a node that is new, or has just moved, are still on their way to
/// their binders, or from one to another.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// So often in all; then there is no such node.
const MAX_ASKED: u32 = 6;

/// What a look-up is for.
#[derive(Clone, Debug)]
enum Lookup {
    /// A session needs its peer's certificate or place.
    Session(NodeId),
    /// Whether it was revoked.
    Watch(NodeId),
    /// Whom a name means.
    Name(Purpose, Name),
    /// Where a node is, and the name that is pinned to it if that was typed.
    Node(Purpose, NodeId, Option<Name>),
    /// Nobody knows the node that this name is pinned to: whether it is somebody else's by now.
    Pin(Purpose, Name),
}

/// A look-up under way.
#[derive(Clone, Debug)]
struct Asked {
    lookup: Lookup,
    /// How often, this time included.
    times: u32,
}

/// Ping or trace.
#[derive(Clone, Debug)]
struct Echo {
    question: QueryId,
    /// Of a trace: who is so many links away, and at which address.
    hops: Option<BTreeMap<u16, (NodeId, String)>>,
}

/// Everything that was asked and not answered yet.
#[derive(Debug, Default)]
pub struct Questions {
    last: u64,
    lookups: BTreeMap<LookupId, Asked>,
    /// What is asked again, and when; the id is that of the look-up before.
    again: BTreeMap<(Instant, LookupId), Asked>,
    echoes: BTreeMap<EchoId, Echo>,
    /// What was typed, to be shown with the answer.
    typed: BTreeMap<QueryId, String>,
}

impl Questions {
    /// A session asked for its peer.
    pub fn resolving(&mut self, id: LookupId, peer: NodeId) {
        self.lookups.insert(id, Asked { lookup: Lookup::Session(peer), times: 1 });
    }

    /// When [`Stack::ask_again`] is due.
    pub fn due(&self) -> Option<Instant> {
        self.again.keys().next().map(|(at, _)| *at)
    }

    /// Somebody is looked up to see whether he was revoked.
    pub fn watching(&mut self, id: LookupId, peer: NodeId) {
        self.lookups.insert(id, Asked { lookup: Lookup::Watch(peer), times: 1 });
    }

    fn ask(&mut self, typed: &str) -> QueryId {
        self.last += 1;
        self.typed.insert(QueryId(self.last), typed.to_owned());
        QueryId(self.last)
    }
}

impl Stack {
    /// Resolves a petname, claimed name or id; the answer is [`Event::Answered`].
    pub fn lookup(&mut self, peer: &str, now: Now) -> QueryId {
        self.question(peer, Purpose::Show, now)
    }

    /// One echo through the overlay; the answer is [`Event::Answered`].
    pub fn ping(&mut self, peer: &str, now: Now) -> QueryId {
        self.question(peer, Purpose::Ping, now)
    }

    /// The relays to `peer`; the answer is [`Event::Answered`].
    pub fn trace(&mut self, peer: &str, now: Now) -> QueryId {
        self.question(peer, Purpose::Trace, now)
    }

    fn question(&mut self, peer: &str, purpose: impl FnOnce(QueryId) -> Purpose, now: Now) -> QueryId {
        let question = self.questions.ask(peer);
        let own_name = self.name.as_ref().is_some_and(|name| name.as_str() == peer);
        let own = own_name || self.naming.known(peer) == Some(self.id);
        match self.naming.meaning(peer) {
            // Nobody can be asked, and why is known.
            Meaning::Node(_) | Meaning::Claimed(_) if self.flight && !own => {
                self.answer(question, Err(Failure::FlightMode));
            }
            Meaning::Node(id) => match purpose(question) {
                // Known without a place in the overlay, where nobody could be asked.
                Purpose::Ping(_) | Purpose::Trace(_) if id == self.id => self.answer(question, Err(Failure::Myself)),
                purpose => self.find_node(purpose, id, None, now),
            },
            Meaning::Claimed(name) => match self.naming.pinned(&name) {
                Some(id) => self.find_node(purpose(question), id, Some(name), now),
                None => self.find(purpose(question), name, now),
            },
            Meaning::Nothing => self.answer(question, Err(Failure::UnknownPeer)),
        }
        self.settle(now);
        question
    }

    /// Asks the DHT whom `name` means.
    pub(super) fn find(&mut self, purpose: Purpose, name: Name, now: Now) {
        self.look_up(Asked { lookup: Lookup::Name(purpose, name), times: 1 }, now);
    }

    fn find_node(&mut self, purpose: Purpose, node: NodeId, pinned: Option<Name>, now: Now) {
        self.look_up(Asked { lookup: Lookup::Node(purpose, node, pinned), times: 1 }, now);
    }

    fn look_up(&mut self, asked: Asked, now: Now) {
        let (query, fresh) = match &asked.lookup {
            Lookup::Name(_, name) | Lookup::Pin(_, name) => (Query::Name(name.clone()), false),
            Lookup::Node(_, node, _) | Lookup::Session(node) | Lookup::Watch(node) => (Query::Node(*node), true),
        };
        let id = self.overlay.lookup(query, fresh, now);
        self.questions.lookups.insert(id, asked);
    }

    /// Asks again what is due.
    pub(super) fn ask_again(&mut self, now: Now) {
        while let Some(first) = self.questions.again.first_entry().filter(|first| first.key().0 <= now.instant) {
            let asked = first.remove();
            self.look_up(asked, now);
        }
    }

    pub(super) fn hear_lookup(&mut self, id: LookupId, result: LookupResult, now: Now) {
        let Some(Asked { lookup, times }) = self.questions.lookups.remove(&id) else { return };
        // A session that there was asks again by itself, and whoever watches as well; a new one would fail.
        let patient = match &lookup {
            Lookup::Session(peer) => self.sessions.is_resolving(peer),
            Lookup::Watch(_) | Lookup::Pin(..) => false,
            Lookup::Name(..) | Lookup::Node(..) => true,
        };
        if matches!(result, LookupResult::Missing) && patient && times < MAX_ASKED {
            self.questions.again.insert((now.instant + ASK_AGAIN, id), Asked { lookup, times: times + 1 });
            return;
        }
        match lookup {
            Lookup::Watch(peer) => self.checked(peer, now),
            Lookup::Session(peer) => self.hear_resolved(peer, &result, now),
            Lookup::Name(purpose, name) => match self.holder(&name, &result) {
                Ok(holder) => match purpose {
                    Purpose::Open(conn) => self.open_stream(conn, holder, now),
                    _ => self.find_node(purpose, holder, None, now),
                },
                Err(why) => self.give_up(purpose, why),
            },
            Lookup::Pin(purpose, name) => {
                let why = match (self.holder(&name, &result), purpose) {
                    (Err(Failure::NameChanged), _) => Failure::NameChanged,
                    // That its node does not answer was known before; the name says no more about it.
                    (_, Purpose::Open(_)) => Failure::Unreachable,
                    (held, _) => held.err().unwrap_or(Failure::UnknownPeer),
                };
                self.give_up(purpose, why);
            }
            Lookup::Node(purpose, _, Some(name)) if matches!(result, LookupResult::Missing) => {
                self.look_up(Asked { lookup: Lookup::Pin(purpose, name), times: 1 }, now);
            }
            Lookup::Node(purpose, node, _) => match result {
                LookupResult::Found(record) if record.is_revocation() => self.give_up(purpose, Failure::Revoked),
                LookupResult::Found(record) => match record.node() {
                    Some(found) => self.found(purpose, node, &found.place, now),
                    None => self.give_up(purpose, Failure::UnknownPeer),
                },
                other => self.give_up(purpose, self.failure_of(&other)),
            },
        }
    }

    /// A connection is lost, and `why`. Where a node does not answer whose name was pinned, that may be somebody else's by now.
    pub(super) fn lose(&mut self, conn: ConnId, why: Failure, now: Now) {
        let may_ask = why == Failure::Unreachable && !self.overlay.neighbours().is_empty();
        match may_ask.then(|| self.conns.unbind_pinned(conn)).flatten() {
            Some(name) => self.look_up(Asked { lookup: Lookup::Pin(Purpose::Open(conn), name), times: 1 }, now),
            None => self.fail(conn, why),
        }
    }

    /// Whom `name` means, if that is whom it always meant.
    fn holder(&mut self, name: &Name, result: &LookupResult) -> Result<NodeId, Failure> {
        let LookupResult::Found(record) = result else { return Err(self.failure_of(result)) };
        let holder = record.claim().map(|claim| claim.id).ok_or(Failure::UnknownPeer)?;
        if let Some(bytes) = self.naming.pin(name, holder)? {
            self.commands.push_back(Command::Persist { key: PINS_KEY.to_owned(), bytes: bytes.into() });
        }
        Ok(holder)
    }

    fn found(&mut self, purpose: Purpose, node: NodeId, place: &Place, now: Now) {
        match purpose {
            Purpose::Open(conn) => self.open_stream(conn, node, now),
            Purpose::Show(question) => {
                let name = self.questions.typed.get(&question).cloned().unwrap_or_default();
                let address = first_address(place);
                let resolved = Resolved { name, node: node.to_string(), address, seq: place.seq };
                self.answer(question, Ok(Answer::Resolved(resolved)));
            }
            Purpose::Ping(question) | Purpose::Trace(question) if node == self.id => {
                self.answer(question, Err(Failure::Myself));
            }
            Purpose::Ping(question) => {
                let id = self.overlay.ping(node, place.clone(), now);
                self.questions.echoes.insert(id, Echo { question, hops: None });
            }
            Purpose::Trace(question) => {
                let id = self.overlay.trace(node, place.clone(), now);
                self.questions.echoes.insert(id, Echo { question, hops: Some(BTreeMap::new()) });
            }
        }
    }

    fn give_up(&mut self, purpose: Purpose, why: Failure) {
        match purpose {
            Purpose::Open(conn) => self.fail(conn, why),
            Purpose::Show(question) | Purpose::Ping(question) | Purpose::Trace(question) => {
                self.answer(question, Err(why));
            }
        }
    }

    fn answer(&mut self, question: QueryId, answer: Result<Answer, Failure>) {
        self.questions.typed.remove(&question);
        self.events.push_back(Event::Answered(question, answer));
    }

    pub(super) fn hear_echo(&mut self, id: EchoId, from: (NodeId, String), hops: u16, rtt: Duration) {
        let Some(echo) = self.questions.echoes.remove(&id) else { return };
        let answer = match echo.hops {
            None => Answer::Echo { hops, rtt_us: overlay::time::micros(rtt) },
            Some(mut relays) => {
                relays.insert(hops, from);
                Answer::Trace(relays.into_values().collect())
            }
        };
        self.answer(echo.question, Ok(answer));
    }

    pub(super) fn hear_hop(&mut self, id: EchoId, n: u16, hop: (NodeId, String)) {
        if let Some(relays) = self.questions.echoes.get_mut(&id).and_then(|echo| echo.hops.as_mut()) {
            relays.insert(n, hop);
        }
    }

    pub(super) fn hear_echo_lost(&mut self, id: EchoId) {
        if let Some(echo) = self.questions.echoes.remove(&id) {
            self.answer(echo.question, Err(Failure::Unreachable));
        }
    }

    fn failure_of(&self, result: &LookupResult) -> Failure {
        match result {
            LookupResult::Missing => Failure::UnknownPeer,
            _ if self.overlay.neighbours().is_empty() => Failure::Alone,
            _ => Failure::Timeout,
        }
    }
}
