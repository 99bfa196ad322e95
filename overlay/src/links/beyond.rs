//! Which of those that neighbours told of a relay looks at. That is the same for all packets until a neighbour comes, goes or tells something else, and
//! for each packet anew it would cost more than the distances.
//!
//! What is kept is what most decisions need of them, in one place: to read what the neighbours told would be most of the time that a decision takes.

use super::{Link, Links, TwoHop};
use crate::id::NodeId;
use crate::potential::{Beyond, Heads};
use crate::standing::Standing;

/// Neighbours of neighbours that a decision looks at in all: 16 of each of 64. A hub has more, and knows better ways itself.
const MAX_BEYOND: usize = 1024;

/// For each live link, by peer; none when that has to be found out anew.
#[derive(Default)]
pub(super) struct Horizon(Option<Vec<Told>>);

/// What a neighbour told.
#[derive(PartialEq, Debug)]
struct Told {
    /// Tags of all it told of, in that order.
    tags: Vec<u64>,
    /// Those that lead on.
    leading: Vec<Leading>,
}

/// One that leads on.
#[derive(PartialEq, Debug)]
struct Leading {
    /// Its number among all.
    number: usize,
    /// Its [`tag`].
    tag: u64,
    heads: Heads,
}

/// The first bytes of an id: whose are others is another node.
fn tag(id: &NodeId) -> u64 {
    id.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// What one neighbour told, as far as a packet to some node may use it.
pub(crate) struct Ahead<'a> {
    link: &'a Link,
    told: &'a Told,
}

impl<'a> Ahead<'a> {
    /// The link to the neighbour.
    pub fn link(&self) -> &'a Link {
        self.link
    }

    /// Those who may lead on to others than `to`.
    pub fn leading(&self, to: &NodeId) -> impl Iterator<Item = Beyond<'a>> {
        let (two_hop, to, sought) = (&self.link.two_hop, *to, tag(to));
        self.told.leading.iter().filter_map(move |leading| {
            let known = two_hop.get(leading.number)?;
            let is_other = leading.tag != sought || known.id != to;
            is_other.then_some(Beyond { addresses: &known.place.addresses, heads: Some(&leading.heads) })
        })
    }

    /// What it told of `to` itself.
    pub fn of(&self, to: &NodeId) -> impl Iterator<Item = &'a TwoHop> {
        let (to, sought) = (*to, tag(to));
        let same = self.told.tags.iter().zip(&self.link.two_hop).filter(move |(tag, _)| **tag == sought);
        same.map(|(_, known)| known).filter(move |known| known.id == to)
    }
}

impl Links {
    /// A neighbour came, went, or told something else.
    pub fn beyond_changed(&mut self) {
        self.beyond.0 = None;
    }

    /// Has [`Links::beyond`] at hand.
    pub fn look_beyond(&mut self, own: &NodeId) {
        if self.beyond.0.is_none() {
            self.beyond.0 = Some(self.leading_on(own));
        }
        debug_assert_eq!(self.beyond.0, Some(self.leading_on(own)), "something changed that was not noted");
    }

    /// The live links, and of each the neighbours of its peer that may lead a packet on to others than themselves. Those that were lost lately do not,
    /// nor those to whom this node has a link: they are worth more by themselves than at second hand, and where neighbours know each other that spares
    /// most of the work.
    pub fn beyond(&self) -> impl Iterator<Item = Ahead<'_>> {
        self.live().zip(self.beyond.0.iter().flatten()).map(|(link, told)| Ahead { link, told })
    }

    /// How many of a link's adverts, which come highest first, are looked at.
    pub fn looked_at(&self) -> usize {
        (MAX_BEYOND / self.live_len().max(1)).max(1)
    }

    fn leading_on(&self, own: &NodeId) -> Vec<Told> {
        let passes_on = |link: &Link| link.place.is_some() && link.standing != Standing::Leaf;
        let nearer_itself = |id: &NodeId| id == own || self.to(id).is_some_and(passes_on);
        let leads = |known: &TwoHop| !self.is_lost(&known.id) && !nearer_itself(&known.id);
        let of = |link: &Link| {
            let near = link.two_hop.iter().enumerate().take(self.looked_at()).filter(|(_, known)| leads(known));
            let leading = |(number, known): (usize, &TwoHop)| Leading {
                number,
                tag: tag(&known.id),
                heads: Heads::of(&known.place.addresses),
            };
            Told {
                tags: link.two_hop.iter().map(|known| tag(&known.id)).collect(),
                leading: near.map(leading).collect(),
            }
        };
        self.live().map(of).collect()
    }
}
