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

/// Neighbours of neighbours that a decision may choose by their addresses: 16 of each of 64, and none of those of more than 1,024. A hub knows better ways itself.
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
    /// How many of each neighbour's adverts are sorted by their addresses, the others by who they are of; none when nothing is.
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
            if self.told.is_some_and(|told| usize::from(number) < told) {
                self.index.add(who, &known.place.addresses);
            } else {
                self.index.name(who, &known.id);
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

    /// Bytes of all that is sorted, about.
    pub fn beyond_bytes(&self) -> usize {
        self.beyond.index.bytes() + self.beyond.numbered.len() * size_of::<Option<LinkId>>()
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
    /// Where somebody is of whom a neighbour told. Of those to whom this node has a link it knows better itself, but for the target, who may have to be
    /// reached by others.
    fn beyond<'b>(&self, known: &'b TwoHop) -> Option<&'b AddressSet> {
        let is_of_use = if known.id == self.to {
            known.place.seq >= self.seq
        } else {
            let passes_on = |link: &Link| link.place.is_some() && link.standing != Standing::Leaf;
            !self.links.to(&known.id).is_some_and(passes_on)
        };
        (is_of_use && !(self.avoided)(&known.id)).then_some(&known.place.addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Address, Place};
    use crate::time::Instant;

    fn id(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn place(ordinal: u8, seq: u64) -> Place {
        Place { addresses: AddressSet::single(Address::from_ordinals(&[ordinal]).unwrap()), seq }
    }

    /// A live link number `number` to the node with that number, at the vertex with it, which told of these.
    fn join(links: &mut Links, number: u8, told: &[(u8, Place)]) {
        let mut link =
            Link::new(LinkId(number.into()), id(number), "/memory/1".parse().unwrap(), true, 0, Instant::ZERO);
        link.place = Some(place(number, 1));
        link.two_hop = told.iter().map(|(peer, place)| TwoHop { id: id(*peer), place: place.clone() }).collect();
        links.insert(link);
        links.set_live(LinkId(number.into()));
    }

    /// By what links a packet to node `to` may go, and to where these lead.
    fn seen(links: &mut Links, to: u8, seq: u64, avoided: &[u8]) -> Vec<(u64, String)> {
        links.look_beyond();
        let avoided: Vec<_> = avoided.iter().map(|number| id(*number)).collect();
        let ahead = Ahead { links, to: id(to), seq, avoided: |id: &NodeId| avoided.contains(id) };
        let mut who: Vec<_> = ahead.index().listed(|who| who).into_iter().map(|(_, _, who)| who).collect();
        who.sort();
        who.dedup();
        let known = who.into_iter().filter_map(|who| ahead.known(who));
        let told = |known: Known<'_>| (known.link.0, known.addresses.iter().map(|(_, at)| at.to_string()).collect());
        known.map(told).collect()
    }

    fn set(all: &[(u64, &str)]) -> Vec<(u64, String)> {
        all.iter().map(|(link, at)| (*link, (*at).to_owned())).collect()
    }

    #[test]
    fn what_is_known_better_or_must_not_be_used_is_left_out() {
        let mut links = Links::default();
        join(&mut links, 1, &[(2, place(9, 1)), (5, place(50, 3))]);
        join(&mut links, 2, &[]);
        // That 2 is at 9 was told by 1; it says itself that it is at 2.
        assert_eq!(seen(&mut links, 7, 0, &[]), set(&[(1, "/1"), (1, "/50"), (2, "/2")]));
        assert_eq!(seen(&mut links, 7, 0, &[5]), set(&[(1, "/1"), (2, "/2")]));
        assert_eq!(seen(&mut links, 7, 0, &[1]), set(&[(2, "/2")]));
        // What is older about the target than its sender knows leads to where it was.
        assert_eq!(seen(&mut links, 5, 3, &[]), set(&[(1, "/1"), (1, "/50"), (2, "/2")]));
        assert_eq!(seen(&mut links, 5, 4, &[]), set(&[(1, "/1"), (2, "/2")]));
        assert_eq!(seen(&mut links, 2, 2, &[]), set(&[(1, "/1"), (1, "/50")]));
        // A leaf passes nothing on, but may be reached by others.
        links.link_mut(LinkId(2)).unwrap().standing = Standing::Leaf;
        assert_eq!(seen(&mut links, 7, 0, &[]), set(&[(1, "/1"), (1, "/9"), (1, "/50")]));
        assert_eq!(seen(&mut links, 2, 1, &[]), set(&[(1, "/1"), (1, "/9"), (1, "/50"), (2, "/2")]));
    }

    #[test]
    fn what_changes_is_sorted_in_and_what_goes_is_out() {
        let mut links = Links::default();
        for number in 1..=200 {
            join(&mut links, number, &(201..=216).map(|peer| (peer, place(peer, 1))).collect::<Vec<_>>());
            if number % 3 == 0 {
                links.retire(LinkId(u64::from(number) - 1), LinkState::Spare);
                links.remove(LinkId(u64::from(number) - 2));
            }
            // With few links all of which they told is found by its address, with more only the first ones are.
            let told = MAX_ADVERTISED.min(MAX_BEYOND / links.live_len());
            links.look_beyond();
            let by_address = links.beyond.index.listed(|who| who).iter().filter(|(tree, ..)| tree.is_some()).count();
            assert_eq!(by_address, links.live_len() * (1 + told));
            assert!(links.beyond.numbered.len() <= links.live_len() + 3);
        }
        // The last of whom they told are found as destinations, even so.
        let named = links.beyond.index.listed(|who| who).iter().filter(|(tree, ..)| tree.is_none()).count();
        assert_eq!((links.live_len(), named), (68, 68));
        assert_eq!(seen(&mut links, 216, 1, &[]).iter().filter(|(_, at)| at == "/216").count(), 68);
    }
}
