//! A node's start and end, what it stores, and what has to be done after every input.

use core::time::Duration;
use std::collections::BTreeSet;

use multiaddr::Multiaddr;

use crate::address::{FIRST_TREE, MAX_TREES, TreeId};
use crate::codec;
use crate::config::Config;
use crate::dht;
use crate::dial::Source;
use crate::error::{FoundError, RestoreError};
use crate::event::Event;
use crate::genesis::{Genesis, SignedGenesis};
use crate::id::NodeId;
use crate::io::{CloseReason, Command, Snapshot};
use crate::membership::Membership;
use crate::overlay::{
    KEY_GENESIS, KEY_KNOWN, KEY_MEMBERSHIP, KEY_PARENTS, KEY_RECORDS, KEY_REVOKED, KEY_TITLES, Overlay, Timer,
    slots_key,
};
use crate::record::{NameClaim, Record, SignedRecord, next_seq};
use crate::time::Now;
use crate::tree::Role;
use crate::tree::slots::Slots;
use crate::tree::titles::Titles;
use crate::wire::link::Frame;

/// So long after one of them changed the records that this node keeps for others are written to disk: all of them together, so not for each.
const RECORDS_SETTLE: Duration = Duration::from_mins(5);
/// Addresses that are stored for the next start.
const MAX_STORED_ADDRESSES: usize = 32;
const STORED_LIMIT_BYTES: usize = 64 * 1024;
/// Old links have this long to answer after a change of address, before their peers are dialled anew.
const URGENT_AFTER: Duration = Duration::from_millis(300);
/// The lifetime of a claim that only takes the place of one that is to be forgotten, in seconds.
const TAKEN_BACK_LIFETIME_S: u32 = 1;
/// How long a newcomer contents itself with those whom it was told to join through.
const LOOKS_FURTHER: Duration = Duration::from_millis(500);
/// When dials are looked at again that a limit forbids now.
const DIAL_BLOCKED: Duration = Duration::from_secs(1);
/// Dials are looked at no more often than this.
const DIAL_STEP: Duration = Duration::from_millis(10);

/// By tree.
type Parents = [Option<NodeId>; MAX_TREES];
type Known = (u64, Vec<(Vec<u8>, Option<NodeId>)>);

/// What may be dialled now.
struct Wants {
    everything: bool,
    /// The worst reason to know an address that is good enough then.
    reach: Source,
    /// An orphan dials nobody but these, and who is below it nobody.
    ancestors: Option<Vec<NodeId>>,
    more: bool,
    configured: bool,
    linked: BTreeSet<NodeId>,
    founder: Option<NodeId>,
    partners: Vec<NodeId>,
}

impl Wants {
    fn accepts(&self, config: &Config, address: &Multiaddr, peer: Option<NodeId>, source: Source) -> bool {
        let linked = peer.is_some_and(|peer| self.linked.contains(&peer));
        let founder = peer.is_some() && peer == self.founder;
        let partner = peer.is_some_and(|peer| self.partners.contains(&peer));
        let good_enough = match &self.ancestors {
            Some(ancestors) => peer.is_some_and(|peer| ancestors.contains(&peer)),
            None => source <= self.reach,
        };
        let everything = self.everything && good_enough;
        let wanted = everything || self.more || founder || partner || (self.configured && source == Source::Configured);
        // An announcement names nobody, so that it may lead to a neighbour: it is for those who have none.
        let useful = source != Source::Nearby || source <= self.reach;
        wanted && useful && !linked && config.may_dial(peer.as_ref(), address)
    }
}

impl Overlay {
    pub(crate) fn restore_from(&mut self, snapshot: &Snapshot, now: Now) -> Result<(), RestoreError> {
        if let Some(bytes) = snapshot.get(KEY_GENESIS) {
            let genesis = SignedGenesis::from_bytes(bytes).map_err(|_| RestoreError::Damaged(KEY_GENESIS))?;
            let stored = genesis.overlay_id();
            if let Some(expected) = self.config.expected.filter(|expected| *expected != stored) {
                return Err(RestoreError::OtherOverlay { stored, expected });
            }
            self.adopt_genesis(genesis);
        }
        if let Some(bytes) = snapshot.get(KEY_REVOKED) {
            self.restore_revoked(bytes, now)?;
        }
        if let (Some(bytes), Some(genesis)) = (snapshot.get(KEY_MEMBERSHIP), &self.genesis) {
            let membership = Membership::verify(bytes, genesis, &self.id, self.checks.as_ref());
            self.membership = Some(membership.map_err(|_| RestoreError::Damaged(KEY_MEMBERSHIP))?);
        }
        for tree in TreeId::ALL {
            if let Some(bytes) = snapshot.get(slots_key(tree)) {
                let slots = Slots::restore(tree, bytes, now);
                self.trees[tree].slots = slots.map_err(|_| RestoreError::Damaged(slots_key(tree)))?;
                self.timers.set(Timer::Lease, now.instant + self.config.timing.lease);
            }
        }
        if let (Some(bytes), Some(overlay), Some(founder)) =
            (snapshot.get(KEY_TITLES), self.overlay_id(), self.founder())
        {
            let titles = Titles::verify(bytes, &overlay, &founder).ok_or(RestoreError::Damaged(KEY_TITLES))?;
            self.trees.titles = Some(titles);
        }
        if let Some(bytes) = snapshot.get(KEY_PARENTS) {
            let parents =
                codec::decode::<Parents, STORED_LIMIT_BYTES>(bytes).map_err(|_| RestoreError::Damaged(KEY_PARENTS))?;
            for (tree, parent) in TreeId::ALL.into_iter().zip(parents) {
                self.trees[tree].last_parent = parent;
            }
        }
        if let Some(bytes) = snapshot.get(KEY_RECORDS) {
            self.dht.restore(bytes, now);
        }
        if let Some(bytes) = snapshot.get(KEY_KNOWN) {
            let (seq, known) =
                codec::decode::<Known, STORED_LIMIT_BYTES>(bytes).map_err(|_| RestoreError::Damaged(KEY_KNOWN))?;
            // A machine whose clock was far ahead then, and is not now: what goes on from there would be refused until the clock is there, too.
            self.seq_floor = if dht::is_ahead(seq, now) { 0 } else { seq };
            self.returns = seq > 0;
            for tree in TreeId::ALL {
                // A place was told right after each term began: a root whose clock is behind now goes on from there, or its beacons would be taken for old ones.
                self.trees[tree].term = seq;
            }
            for (address, peer) in known {
                if let Ok(address) = Multiaddr::try_from(address) {
                    self.dialer.learn(&address, peer, Source::Neighbour);
                }
            }
        }
        Ok(())
    }

    /// A founder holds the root again at once; for everything else somebody else is needed.
    pub(crate) fn resume(&mut self, now: Now) {
        if self.founder() == Some(self.id) {
            self.become_root(FIRST_TREE, now);
        }
        self.timers.set(Timer::Seek, now.instant);
    }

    pub(crate) fn found(&mut self, now: Now) -> Result<(), FoundError> {
        if self.config.leaf {
            return Err(FoundError("a leaf cannot found an overlay, because the founder holds its root: join one"));
        }
        let genesis = Genesis {
            founder: self.id,
            q: self.config.q,
            trees: self.config.trees,
            created_unix_s: now.wall.as_unix_secs(),
            open: !self.config.closed,
        };
        let genesis = SignedGenesis::sign(&self.identity, genesis)
            .map_err(|_| FoundError("q has to be 3 to 256, and there are 1 to 4 trees"))?;
        self.commands
            .push_back(Command::Persist { key: KEY_GENESIS.to_owned(), bytes: genesis.as_bytes().to_vec().into() });
        self.adopt_genesis(genesis);
        self.become_root(FIRST_TREE, now);
        Ok(())
    }

    /// Writes what a later start needs to find the overlay again, if it changed.
    pub(crate) fn store_known(&mut self) {
        // A term that began above what the clock says is remembered by others, as the number of a place is.
        let terms = TreeId::ALL.map(|tree| self.trees[tree].term).into_iter().max().unwrap_or_default();
        let seq = self.trees.place.as_ref().map_or(0, |place| place.seq).max(self.seq_floor).max(terms);
        let known: Vec<_> = self
            .dialer
            .addresses(MAX_STORED_ADDRESSES)
            .into_iter()
            .map(|(address, peer)| (address.to_vec(), peer))
            .collect();
        let mut addresses: Vec<_> = known.iter().map(|(address, _)| address.clone()).collect();
        addresses.sort_unstable();
        if seq == self.stored_seq && addresses == self.stored_known {
            return;
        }
        (self.stored_seq, self.stored_known) = (seq, addresses);
        if let Ok(bytes) = codec::encode::<Known>(&(seq, known)) {
            self.commands.push_back(Command::Persist { key: KEY_KNOWN.to_owned(), bytes: bytes.into() });
        }
    }

    /// Writes what this node keeps for others, so that it still does after a start: in a large overlay their owners put it again after hours only.
    pub(crate) fn store_records(&mut self, now: Now) {
        let bytes = self.dht.written(now);
        self.commands.extend(bytes.map(|bytes| Command::Persist { key: KEY_RECORDS.to_owned(), bytes: bytes.into() }));
    }

    /// Writes whom to ask for the old places after a start.
    pub(crate) fn store_parents(&mut self) {
        let parents: Parents = TreeId::ALL.map(|tree| self.trees[tree].last_parent);
        if let Ok(bytes) = codec::encode(&parents) {
            self.commands.push_back(Command::Persist { key: KEY_PARENTS.to_owned(), bytes: bytes.into() });
        }
    }

    pub(crate) fn address_changed(&mut self, now: Now) {
        self.note_address_change(now);
        self.prove_links(URGENT_AFTER, now);
    }

    /// Every link has to show that it still works; whoever has not after `patience` is dialled beside it.
    pub(crate) fn prove_links(&mut self, patience: Duration, now: Now) {
        self.attach_seq = next_seq(self.attach_seq, now);
        self.dialer.reset();
        for tree in TreeId::ALL {
            self.trees[tree].refused.clear();
            self.trees[tree].full = None;
            self.trees[tree].asking = None;
            // Who moved has lost its parent by that, and not because it died.
            self.trees[tree].orphan_since = None;
            self.timers.cancel(Timer::Ask(tree));
        }
        self.spare_copies();
        self.probe_all(now);
        self.timers.set(Timer::Urgent, now.instant + patience);
        self.seek_parent(now);
    }

    /// Whether no neighbour answers: there is no link, or each one's probe has been open for longer than its answer takes.
    pub fn is_cut_off(&self, now: Now) -> bool {
        let usual =
            |rtt_us: Option<u64>| Duration::from_micros(rtt_us.unwrap_or(0).saturating_mul(2)).max(URGENT_AFTER);
        self.links.begun().all(|link| link.probe_sent.is_some_and(|sent| now.instant.since(sent) >= usual(link.rtt_us)))
    }

    /// Links that have not answered since the address changed are most likely dead: their peers are dialled beside them, and
    /// the newer link wins.
    pub(crate) fn urgent_timer(&mut self, now: Now) {
        self.urgent = true;
        self.dialer.touch();
        self.pump_dials(now);
        self.urgent = false;
        self.dialer.touch();
    }

    pub(crate) fn begin_to_leave(&mut self, now: Now) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        self.tell_sizes(now);
        self.dht.leave(now);
        self.drain_dht(now);
        for peer in self.links.peers() {
            if let Some(id) = self.links.to(&peer).map(|link| link.id) {
                for tree in TreeId::ALL {
                    if self.trees[tree].parent() == Some(peer) {
                        self.send_frame(id, &Frame::Release(tree), now);
                    }
                }
                self.part(id, CloseReason::Leaving, now);
            }
        }
        self.timers.set(Timer::Leave, now.instant + self.config.timing.leave);
    }

    pub(crate) fn left(&mut self, now: Now) {
        self.store_records(now);
        for id in self.links.ids() {
            self.close(id, CloseReason::Leaving);
        }
        self.events.push_back(Event::Left);
    }

    /// What every input may have made necessary.
    pub(crate) fn settle_down(&mut self, now: Now) {
        self.clock = now;
        self.drain_dht(now);
        self.pump_dials(now);
    }

    pub(crate) fn drain_dht(&mut self, now: Now) {
        while let Some(transmit) = self.dht.poll_transmit() {
            match transmit {
                dht::DhtTransmit::Walk { key, replica, body } => self.start_walk(key, replica, &body, now),
                dht::DhtTransmit::Reply { to, place, body } => self.send_reply(to, place, &body, now),
            }
        }
        while let Some(event) = self.dht.poll_event() {
            match event {
                dht::Event::LookupFinished { id, result, .. } if self.hear_of_name(id, &result, now) => {}
                dht::Event::LookupFinished { id, query, result } => {
                    if let dht::LookupResult::Found(record) = &result {
                        self.learn_revoked(record, now);
                    }
                    self.events.push_back(Event::LookupFinished { id, query, result });
                }
                dht::Event::Published { query, seq } => {
                    self.revocation_stored(&query, seq, now);
                    self.events.push_back(Event::Stored(query));
                }
                dht::Event::NameConflict { incumbent } => {
                    if let Some(name) = incumbent.claim().map(|claim| claim.name.clone()) {
                        self.events.push_back(Event::Conflict { name, incumbent: Box::new(incumbent) });
                    }
                }
                dht::Event::Yielded { record } => self.take_back(&record, now),
                dht::Event::Renew { record } => {
                    if let Some(name) = record.claim().map(|claim| claim.name.clone()) {
                        self.want_name(name, Some(record), now);
                    }
                }
                dht::Event::Ahead { query } => self.events.push_back(Event::Ahead(query)),
                dht::Event::Superseded { record } => self.superseded(&record, now),
            }
        }
        if self.dht.take_changed() {
            self.timers.set_no_later(Timer::Records, now.instant + RECORDS_SETTLE);
        }
        match self.dht.poll_timeout() {
            Some((at, _)) => self.timers.set(Timer::Dht, at),
            None => self.timers.cancel(Timer::Dht),
        }
    }

    /// Binders that keep this claim forget it: the one that takes its place is over at once.
    pub(crate) fn take_back(&mut self, record: &SignedRecord, now: Now) {
        if let Some(over) = self.claim_again(record, TAKEN_BACK_LIFETIME_S, now) {
            self.dht.take_back(over, now);
        }
    }

    /// The same claim with the next number.
    pub(crate) fn claim_again(&self, record: &SignedRecord, lifetime_s: u32, now: Now) -> Option<SignedRecord> {
        let claim = NameClaim { seq: next_seq(record.seq(), now), lifetime_s, ..record.claim()?.clone() };
        SignedRecord::sign(&self.identity, Record::Name(claim)).ok()
    }

    /// An earlier run of this node has published with a higher number.
    fn superseded(&mut self, record: &SignedRecord, now: Now) {
        if record.is_revocation() {
            return self.learn_revoked(record, now);
        }
        self.seq_floor = self.seq_floor.max(record.seq());
        match record.record() {
            Record::Revocation(_) => {}
            Record::Name(claim) => self.publish_claim(claim.name.clone(), now),
            Record::Node(_) => {
                let Some(place) = self.trees.place.as_mut().filter(|_| self.present) else { return };
                place.seq = next_seq(place.seq.max(self.seq_floor), now);
                let place = place.clone();
                self.events.push_back(Event::PlaceChanged(place));
                self.advertise(now);
                self.publish_record(now);
            }
        }
    }

    fn wants(&self, now: Now) -> Wants {
        let first = &self.trees[FIRST_TREE];
        let since = first.detached_since.unwrap_or(now.instant);
        let newcomer = self.trees.place.is_none() && !self.returns && now.instant.since(since) < LOOKS_FURTHER;
        let alone = self.is_cut_off(now);
        let reach = if alone {
            // What was only told is for those who know nobody better.
            Source::Hearsay
        } else if newcomer {
            // It waits for its neighbours, and has no business with the heirs that it hears of.
            Source::Parent
        } else {
            Source::Neighbour
        };
        let patient = !alone && !self.urgent && self.patience(FIRST_TREE).is_some();
        let ancestors = if patient && self.waits_for_adoption(FIRST_TREE, now) {
            Some(self.ancestors_to_dial(now))
        } else {
            // Who is below an orphan waits for it.
            (patient && matches!(first.role, Role::Child { stale: true, .. })).then(Vec::new)
        };
        let attached = first.is_attached() && self.links.live_len() > 0;
        let children = first.slots.children();
        let linked = self.links.begun().filter(|link| !self.urgent || link.probe_sent.is_none()).map(|link| link.peer);
        let inward = children.iter().filter(|(child, _)| self.links.is_live(child)).count();
        let outward = self.links.live_len().saturating_sub(inward);
        let few = outward.saturating_add(self.dialer.dials()) <= self.config.extra_links && !first.is_root();
        let open = self.config.only.is_empty();
        let minding = if first.is_root() { self.founder() } else { None };
        Wants {
            everything: !attached || self.urgent || alone,
            reach,
            ancestors,
            more: few,
            configured: !open,
            linked: linked.chain(core::iter::once(self.id)).collect(),
            founder: minding.filter(|founder| *founder != self.id),
            partners: self.partners.peers().collect(),
        }
    }

    fn pump_dials(&mut self, now: Now) {
        if self.leaving || self.origin.is_none() || !self.dialer.take_touched() {
            return;
        }
        loop {
            let wants = self.wants(now);
            let config = &self.config;
            let wanted = |address: &Multiaddr, peer, source| wants.accepts(config, address, peer, source);
            if self.links.len() < config.max_links
                && let Some(address) = self.dialer.next(wanted, now.instant)
            {
                self.commands.push_back(Command::Dial(address));
                continue;
            }
            match self.dialer.next_time(wanted) {
                // At a limit only something else that happens, or much later, can make room.
                Some(at) if at <= now.instant => self.timers.set(Timer::Dial, now.instant + DIAL_BLOCKED),
                Some(at) => self.timers.set(Timer::Dial, at.max(now.instant + DIAL_STEP)),
                None => self.timers.cancel(Timer::Dial),
            }
            return;
        }
    }
}
