//! What a relay knows of those around it, sorted for decisions: neighbours, and of theirs those of whom they told. It is the same for all packets until a
//! neighbour comes, goes or tells something else, and then only what that neighbour told is sorted in anew.

use std::collections::BTreeSet;

use super::{Link, LinkState, Links, TwoHop};
use crate::address::AddressSet;
use crate::id::NodeId;
use crate::io::LinkId;
use crate::potential::{Index, Known, Surroundings, Which, Who};
use crate::standing::Standing;
use crate::wire::link::MAX_ADVERTISED;

/// Neighbours of neighbours that a decision may choose by their addresses: 16 of each of 64. A hub has more, and knows better ways itself.
const MAX_BEYOND: usize = 1024;
/// Links that are sorted in anew at most; with more of them everything is.
const MAX_STALE: usize = 64;

/// What is sorted, and what of that is not true any more.
#[derive(Default)]
pub(super) struct Horizon {
    index: Index,
    /// By its number in the index: the link to a neighbour.
    numbered: Vec<Option<LinkId>>,
    /// Numbers of those that are gone.
    free: Vec<u32>,
    /// Links that changed.
    stale: BTreeSet<LinkId>,
    /// How many of each neighbour's adverts are sorted by their addresses; none when nothing is.
    told: Option<usize>,
}

impl Horizon {
    /// Takes out what is known of links that changed.
    fn forget(&mut self, changed: &BTreeSet<LinkId>) {
        for (number, link) in (0..).zip(&mut self.numbered) {
            if link.take_if(|link| changed.contains(link)).is_some() {
                self.free.push(number);
            }
        }
        let numbered = &self.numbered;
        self.index.forget(|number| linked(numbered, number).is_none());
    }

    fn add(&mut self, link: &Link) {
        let neighbour = self.free.pop().or_else(|| {
            self.numbered.push(None);
            u32::try_from(self.numbered.len() - 1).ok()
        });
        let Some(neighbour) = neighbour else { return };
        if let Some(numbered) = self.numbered.get_mut(neighbour as usize) {
            *numbered = Some(link.id);
        }
        if let Some(place) = &link.place {
            self.index.add(Who { neighbour, which: Which::Itself }, &place.addresses);
        }
        for (number, held) in (0..=u8::MAX).zip(&link.held) {
            self.index.add(Who { neighbour, which: Which::Held(number) }, held);
        }
        for (number, known) in (0..=u8::MAX).zip(&link.two_hop) {
            let who = Who { neighbour, which: Which::Beyond(number) };
            self.index.name(who, &known.id);
            if self.told.is_some_and(|told| usize::from(number) < told) {
                self.index.add(who, &known.place.addresses);
            }
        }
    }

    fn link(&self, neighbour: u32) -> Option<LinkId> {
        linked(&self.numbered, neighbour)
    }
}

fn linked(numbered: &[Option<LinkId>], neighbour: u32) -> Option<LinkId> {
    numbered.get(usize::try_from(neighbour).ok()?).copied().flatten()
}

impl Links {
    /// A neighbour came, went, or told something else.
    pub fn beyond_changed(&mut self, link: LinkId) {
        self.beyond.stale.insert(link);
        if self.beyond.stale.len() > MAX_STALE {
            self.beyond = Horizon::default();
        }
    }

    /// Has [`Ahead`] at hand.
    pub fn look_beyond(&mut self) {
        if self.beyond.told != Some(self.looked_at()) {
            self.beyond = self.surveyed();
        }
        if !self.beyond.stale.is_empty() {
            let mut horizon = core::mem::take(&mut self.beyond);
            let stale = core::mem::take(&mut horizon.stale);
            horizon.forget(&stale);
            stale.iter().filter_map(|id| self.in_use(*id)).for_each(|link| horizon.add(link));
            horizon.index.sort();
            self.beyond = horizon;
        }
        debug_assert!(self.is_as_told(), "something changed that was not noted");
    }

    /// The link, if it is the one in use to its peer.
    fn in_use(&self, id: LinkId) -> Option<&Link> {
        self.link(id).filter(|link| link.state == LinkState::Live && self.live.get(&link.peer) == Some(&id))
    }

    /// All links anew.
    fn surveyed(&self) -> Horizon {
        let mut horizon = Horizon { told: Some(self.looked_at()), ..Horizon::default() };
        self.live().for_each(|link| horizon.add(link));
        horizon.index.sort();
        horizon
    }

    /// How many of a neighbour's adverts, which come highest first, are sorted by their addresses.
    fn looked_at(&self) -> usize {
        (MAX_BEYOND / self.live_len().max(1)).min(MAX_ADVERTISED)
    }

    fn is_as_told(&self) -> bool {
        let listed = |horizon: &Horizon| horizon.index.listed(|who| (horizon.link(who.neighbour), who.which));
        listed(&self.beyond) == listed(&self.surveyed())
    }
}

/// What may bring a packet on to `to`, whose sender knows it at a place numbered `seq`: what is older about that node would lead to where it was.
pub(crate) struct Ahead<'a, F> {
    pub links: &'a Links,
    pub to: NodeId,
    pub seq: u64,
    /// Who must not be on the way.
    pub avoided: F,
}

impl<F: Fn(&NodeId) -> bool> Surroundings for Ahead<'_, F> {
    fn index(&self) -> &Index {
        &self.links.beyond.index
    }

    fn known(&self, who: Who) -> Option<Known<'_>> {
        let link = self.links.link(self.links.beyond.link(who.neighbour)?)?;
        let place = link.place.as_ref()?;
        let is_target = link.peer == self.to;
        let is_old = is_target && place.seq < self.seq;
        let ends_there = !is_target && link.standing == Standing::Leaf;
        if is_old || ends_there || (self.avoided)(&link.peer) {
            return None;
        }
        let addresses = match who.which {
            Which::Itself => &place.addresses,
            Which::Held(number) => link.held.get(usize::from(number))?,
            Which::Beyond(number) => self.beyond(link.two_hop.get(usize::from(number))?)?,
        };
        Some(Known { link: link.id, id: &link.peer, addresses, load_bytes: link.queue.data_bytes() })
    }
}

impl<F: Fn(&NodeId) -> bool> Ahead<'_, F> {
    /// Where somebody is of whom a neighbour told.
    fn beyond<'b>(&self, known: &'b TwoHop) -> Option<&'b AddressSet> {
        let is_old = known.id == self.to && known.place.seq < self.seq;
        (!is_old && !(self.avoided)(&known.id)).then_some(&known.place.addresses)
    }
}
