//! Which of those that neighbours told of a relay looks at. That is the same for all packets until a neighbour comes, goes or tells something else, and
//! for each packet anew it would cost more than the distances.

use super::{Link, Links, TwoHop};
use crate::id::NodeId;
use crate::standing::Standing;

/// Neighbours of neighbours that a decision looks at in all: 16 of each of 64. A hub has more, and knows better ways itself.
const MAX_BEYOND: usize = 1024;

/// For each live link, by peer, the numbers of its adverts that lead on; none when that has to be found out anew.
#[derive(Default)]
pub(super) struct Beyond(Option<Vec<Vec<usize>>>);

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
    pub fn beyond(&self) -> impl Iterator<Item = (&Link, impl Iterator<Item = &TwoHop>)> {
        let numbers = self.beyond.0.iter().flatten();
        self.live().zip(numbers).map(|(link, numbers)| (link, numbers.iter().filter_map(|at| link.two_hop.get(*at))))
    }

    /// How many of a link's adverts, which come highest first, are looked at.
    pub fn looked_at(&self) -> usize {
        (MAX_BEYOND / self.live_len().max(1)).max(1)
    }

    fn leading_on(&self, own: &NodeId) -> Vec<Vec<usize>> {
        let passes_on = |link: &Link| link.place.is_some() && link.standing != Standing::Leaf;
        let nearer_itself = |id: &NodeId| id == own || self.to(id).is_some_and(passes_on);
        let leads = |known: &TwoHop| !self.is_lost(&known.id) && !nearer_itself(&known.id);
        let of = |link: &Link| {
            let told = link.two_hop.iter().enumerate().take(self.looked_at());
            told.filter(|(_, known)| leads(known)).map(|(number, _)| number).collect()
        };
        self.live().map(of).collect()
    }
}
