//! What goes wrong in a network, and comes right again.

use std::collections::BTreeSet;
use std::time::Duration;

use overlay::config::Only;
use overlay::io::LinkId;
use overlay::rng::Rng;

use super::agenda::Happening;
use super::shard::at;
use super::{Conduct, World, address_of};

/// How long a mover is without a network.
const AWAY: Duration = Duration::from_secs(10);
/// Neighbours that it finds at the new place.
const NEW_NEIGHBOURS: usize = 3;
/// A flapping link goes down so often, at such intervals, and is back as soon as somebody dials.
const FLAPS: usize = 15;
const FLAP_INTERVAL: Duration = Duration::from_secs(20);

/// What keeps nodes apart that are neighbours in the graph.
#[derive(Default)]
pub struct Gaps {
    /// Which part of a network that fell apart a node is in; empty while it is one.
    sides: Vec<bool>,
    /// Nodes without a network.
    away: BTreeSet<usize>,
    /// Pairs of nodes that cannot link, the smaller one first.
    links: BTreeSet<(usize, usize)>,
}

impl Gaps {
    /// Whether one can dial the other.
    pub fn reaches(&self, a: usize, b: usize) -> bool {
        self.are_together(a, b)
            && !self.away.contains(&a)
            && !self.away.contains(&b)
            && !self.links.contains(&(a.min(b), a.max(b)))
    }

    fn are_together(&self, a: usize, b: usize) -> bool {
        self.sides.is_empty() || self.sides[a] == self.sides[b]
    }
}

impl World {
    /// Whether one node can dial the other, as far as the network goes.
    pub fn reaches(&self, a: usize, b: usize) -> bool {
        self.gaps.reaches(a, b)
    }

    /// Whether two nodes are in one part of a network that fell apart.
    pub fn are_together(&self, a: usize, b: usize) -> bool {
        self.gaps.are_together(a, b)
    }

    /// The node is gone at once, and its neighbours are told.
    pub fn kill(&mut self, number: usize) {
        self.node_mut(number).die();
        for link in std::mem::take(&mut self.ends_of[number]) {
            if self.ends[at(link)].close() {
                self.lose(self.ends[at(link)].other);
            }
        }
    }

    /// From now on a node behaves so.
    pub fn set_conduct(&mut self, number: usize, conduct: Conduct) {
        self.node_mut(number).conduct = conduct;
    }

    /// From now on everybody may link to everybody, where the overlay's repair wants that; nobody links for other reasons.
    pub fn open(&mut self) {
        for number in 0..self.len() {
            self.with(number, |overlay, now| overlay.set_links(Vec::new(), 0, now));
        }
    }

    /// The network falls apart: links between the two sides go down, and nobody reaches the other one.
    pub fn cut(&mut self, sides: Vec<bool>) {
        let between = |(a, b): &(usize, usize)| sides[*a] != sides[*b];
        for pair in self.linked_pairs().into_iter().filter(between) {
            self.unlink(pair);
        }
        self.gaps.sides = sides;
    }

    /// It is one again.
    pub fn heal(&mut self) {
        self.gaps.sides = Vec::new();
    }

    /// This share of all links is lost for good, at once; how many these are.
    pub fn lose_links(&mut self, share: f64, rng: &mut Rng) -> usize {
        let lost = draw(self.linked_pairs(), share, rng);
        for pair in &lost {
            self.unlink(*pair);
            self.gaps.links.insert(*pair);
        }
        lost.len()
    }

    /// This share of all links goes down again and again for some minutes; how often one did.
    pub fn flap(&mut self, share: f64, rng: &mut Rng) -> usize {
        let flapping = draw(self.linked_pairs(), share, rng);
        let mut times = 0;
        for _ in 0..FLAPS {
            times += flapping.iter().filter(|pair| self.unlink(**pair)).count();
            self.run(FLAP_INTERVAL);
            self.events.clear();
        }
        times
    }

    /// These nodes lose their network, without anybody being told, and are elsewhere a while later; how many had links to lose.
    pub fn relocate(&mut self, movers: &[usize], rng: &mut Rng) -> usize {
        let mut moved = BTreeSet::new();
        for mover in movers {
            self.gaps.away.insert(*mover);
            for link in std::mem::take(&mut self.ends_of[*mover]) {
                if self.ends[at(link)].close() {
                    moved.insert(*mover);
                    self.with(*mover, |overlay, now| overlay.handle_link_down(LinkId(link), now));
                }
            }
        }
        self.run(AWAY);
        for mover in movers {
            self.gaps.away.remove(mover);
            let near: Vec<usize> = (0..NEW_NEIGHBOURS).map(|_| rng.index(self.len())).collect();
            let near: Vec<_> =
                near.into_iter().filter(|n| n != mover).map(|n| (address_of(n), self.node(n).id)).collect();
            self.with(*mover, |overlay, now| {
                overlay.set_links(near.iter().map(|(_, id)| Only::Id(*id)).collect(), 0, now);
                for (address, id) in &near {
                    overlay.handle_peer_found(address, Some(*id), now);
                }
                overlay.handle_address_change(now);
            });
        }
        moved.len()
    }

    /// Who is linked to whom, the smaller one first.
    fn linked_pairs(&self) -> Vec<(usize, usize)> {
        let open = self.ends.iter().filter(|end| end.is_open() && self.ends[at(end.other)].is_open());
        let pairs = open.map(|end| (end.node, self.ends[at(end.other)].node)).filter(|(a, b)| a < b);
        pairs.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The links of two nodes go down; whether there was one.
    fn unlink(&mut self, (a, b): (usize, usize)) -> bool {
        let between =
            |link: &&u64| self.ends[at(**link)].is_open() && self.ends[at(self.ends[at(**link)].other)].node == b;
        let links: Vec<u64> = self.ends_of[a].iter().filter(between).copied().collect();
        for link in &links {
            self.lose(*link);
            self.lose(self.ends[at(*link)].other);
        }
        !links.is_empty()
    }

    /// This end of a link goes down now.
    fn lose(&mut self, link: u64) {
        self.put(self.ends[at(link)].node, self.now.instant, Happening::Down { link });
    }
}

/// A share of them, at random; at least one where the share is not 0: a fault that meets nobody would look like one that does no harm.
pub fn draw<T>(mut from: Vec<T>, share: f64, rng: &mut Rng) -> Vec<T> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of them")]
    let many = (from.len() as f64 * share) as usize;
    let least = usize::from(share > 0.0).min(from.len());
    (0..many.max(least)).map(|_| from.swap_remove(rng.index(from.len()))).collect()
}
