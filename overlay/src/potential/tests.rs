//! The rule on trees, and beside a comparison of all with all.

#![allow(clippy::cast_possible_truncation)]

use super::*;
use crate::address::{Address, Place};
use crate::rng::Rng;
use crate::wire::packet::Kind;

fn random_tree(nodes: usize, q: u64, rng: &mut Rng) -> Vec<Address> {
    let mut tree = vec![Address::root()];
    let mut children = vec![0u8];
    while tree.len() < nodes {
        let parent = rng.below(tree.len() as u64) as usize;
        if u64::from(children[parent]) + 1 < q {
            let child = tree[parent].child(children[parent]).unwrap();
            children[parent] += 1;
            tree.push(child);
            children.push(0);
        }
    }
    tree
}

fn id(node: usize) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(node as u64).to_le_bytes());
    NodeId::from_bytes(bytes)
}

/// Vertices that turn as far as they can to one side or the other at each step: along the two sides of a cell of the tiling others are near that are far away in the tree.
fn along_cells(nodes: usize, q: u64, rng: &mut Rng) -> Vec<Address> {
    let turn = |rng: &mut Rng| (q - 2 - rng.below(2)) as u8;
    let word = |rng: &mut Rng| {
        let (first, second) = (turn(rng), turn(rng));
        let again = if rng.below(4) == 0 { first } else { second };
        let rest = core::iter::repeat_n(again, rng.index(9));
        Address::from_ordinals(&core::iter::once(first).chain(rest).collect::<Vec<_>>()).unwrap()
    };
    (0..nodes).map(|_| word(rng)).collect()
}

/// How many of those of whom a neighbour told are found by their addresses.
const TOLD: usize = 6;

/// What one neighbour told.
struct Told<'a> {
    number: usize,
    itself: &'a AddressSet,
    held: &'a [AddressSet],
    beyond: Vec<&'a AddressSet>,
    load_bytes: usize,
}

/// Neighbours and what they told.
struct Listed<'a> {
    ids: Vec<NodeId>,
    told: Vec<Told<'a>>,
    index: Index,
}

impl<'a> Listed<'a> {
    fn new(told: Vec<Told<'a>>) -> Self {
        let mut index = Index::default();
        for (neighbour, told) in (0..).zip(&told) {
            let mut add = |which, addresses: &AddressSet| index.add(Who { neighbour, which }, addresses);
            add(Which::Itself, told.itself);
            (0..).zip(told.held).for_each(|(number, held)| add(Which::Held(number), held));
            (0..).zip(&told.beyond).take(TOLD).for_each(|(number, beyond)| add(Which::Beyond(number), beyond));
            // The last one of whom it told is the destination.
            if told.beyond.len() > TOLD {
                index.name(Who { neighbour, which: Which::Beyond(TOLD as u8) }, &id(2));
                index.name(Who { neighbour, which: Which::Itself }, &id(3));
            }
        }
        index.sort();
        Self { ids: told.iter().map(|told| id(1000 + told.number)).collect(), told, index }
    }
}

impl Surroundings for Listed<'_> {
    fn index(&self) -> &Index {
        &self.index
    }

    fn known(&self, who: Who) -> Option<Known<'_>> {
        let neighbour = who.neighbour as usize;
        let told = &self.told[neighbour];
        let addresses = match who.which {
            Which::Itself => told.itself,
            Which::Held(number) => &told.held[usize::from(number)],
            Which::Beyond(number) => told.beyond[usize::from(number)],
        };
        let link = LinkId(told.number as u64);
        Some(Known { link, id: &self.ids[neighbour], addresses, load_bytes: told.load_bytes })
    }
}

/// Carries a packet hop by hop; the number of links crossed, or none.
fn route(plane: &Plane, tree: &[Address], links: &[Vec<usize>], from: usize, to: usize) -> Option<usize> {
    let sets: Vec<AddressSet> = tree.iter().map(|address| AddressSet::single(address.clone())).collect();
    let place = |node: usize| Place { addresses: sets[node].clone(), seq: 1 };
    let mut header = Header::new(Kind::Data, id(from), place(from), id(to), place(to), 0);
    let mut at = from;
    let mut last_seen = f64::INFINITY;
    for hops in 0..500 {
        if at == to {
            return Some(hops);
        }
        let told = |&number: &usize| Told {
            number,
            itself: &sets[number],
            held: &[],
            beyond: links[number].iter().take(16).map(|&beyond| &sets[beyond]).collect(),
            load_bytes: 0,
        };
        let around = Listed::new(links[at].iter().map(told).collect());
        let mask = header.mask;
        let link = next_hop(plane, &mut header, &around)?;
        assert!(header.mask != mask || header.last < last_seen, "last did not fall");
        last_seen = header.last;
        at = link.0 as usize;
    }
    None
}

#[test]
fn arrives_on_every_intact_tree_with_and_without_shortcuts() {
    for (seed, q) in [(1, 3), (2, 4), (3, 8), (4, 32), (5, 256)] {
        let mut rng = Rng::from_seed([seed; 32]);
        let plane = Plane::new(u16::try_from(q).unwrap()).unwrap();
        let tree = random_tree(200, q, &mut rng);
        for extra in [0, 100] {
            let mut links: Vec<Vec<usize>> = vec![Vec::new(); tree.len()];
            for (node, address) in tree.iter().enumerate().skip(1) {
                let parent = tree.iter().position(|other| Some(other) == address.parent().as_ref()).unwrap();
                links[node].push(parent);
                links[parent].push(node);
            }
            for _ in 0..extra {
                let (a, b) = (rng.below(200) as usize, rng.below(200) as usize);
                if a != b && !links[a].contains(&b) {
                    links[a].push(b);
                    links[b].push(a);
                }
            }
            for _ in 0..300 {
                let (from, to) = (rng.below(200) as usize, rng.below(200) as usize);
                let hops = route(&plane, &tree, &links, from, to);
                assert!(hops.is_some(), "q {q}: stuck from {:?} to {:?}", tree[from], tree[to]);
                if extra == 0 {
                    assert_eq!(hops, Some(tree[from].tree_distance(&tree[to])));
                }
            }
        }
    }
}

/// The neighbour that is worth most among all, with what it is worth and the pair.
fn best_of_all(plane: &Plane, header: &Header, mask: u32, around: &Listed<'_>) -> Option<(f64, usize, LinkId)> {
    let kappa = 0.75 * plane.edge_length();
    let mut best: Option<(f64, usize, LinkId, usize)> = None;
    let mut in_order: Vec<_> = around.ids.iter().zip(&around.told).collect();
    in_order.sort_unstable_by_key(|(id, _)| **id);
    for (_, told) in in_order {
        let near = core::iter::once(told.itself).chain(told.held).map(|at| (at, 0.0));
        let known = near.chain(told.beyond.iter().take(TOLD + 1).map(|at| (*at, kappa)));
        let targets = core::iter::once((0, &header.target)).chain((1..).zip(&header.hints));
        let pairs = known.flat_map(|(at, price)| {
            targets.clone().flat_map(move |(number, target)| {
                let price = if number > 0 { price + kappa } else { price };
                at.iter().filter_map(move |(tree, from)| {
                    let pair = tree.index() * TARGETS + number;
                    let distance = plane.distance(from, target.in_tree(tree)?);
                    (mask >> pair & 1 == 1).then_some((distance + price, pair))
                })
            })
        });
        let Some((worth, pair)) = pairs.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))) else { continue };
        let is_better = best.is_none_or(|(old, _, _, load)| {
            worth < old - EPSILON || (worth <= old + EPSILON && told.load_bytes < load)
        });
        if is_better {
            best = Some((worth, pair, LinkId(told.number as u64), told.load_bytes));
        }
    }
    best.map(|(worth, pair, link, _)| (worth, pair, link))
}

/// What is left out because it cannot be of use changes nothing: the choice is that of comparing all with all.
#[test]
fn chooses_as_if_all_were_compared() {
    let mut rng = Rng::from_seed([9; 32]);
    let mut given_up = 0;
    // Some begin with so many letters that a head does not tell them apart.
    let plain = [(4, 0), (16, 0), (64, 0), (4, 5), (16, 6), (64, 9)].map(|(q, first)| (q, first, false));
    for (q, first, in_cells) in plain.into_iter().chain([(3, 0, true), (4, 0, true), (16, 2, true), (4, 5, true)]) {
        let plane = Plane::new(q).unwrap();
        let below =
            |address: &Address| Address::from_ordinals(&[&vec![1; first], address.as_slice()].concat()).unwrap();
        let trees: Vec<Vec<_>> = (0..MAX_TREES)
            .map(|_| if in_cells { along_cells } else { random_tree }(300, u64::from(q), &mut rng))
            .map(|vertices| vertices.iter().map(below).collect())
            .collect();
        let set = |rng: &mut Rng| {
            let mut set = AddressSet::default();
            for (tree, vertices) in TreeId::ALL.into_iter().zip(&trees) {
                if rng.below(5) > 0 {
                    set.insert(tree, vertices[rng.index(vertices.len())].clone());
                }
            }
            set
        };
        for round in 0..500 {
            let neighbours = if round % 50 == 0 { 200 } else { 8 };
            let sets: Vec<Vec<AddressSet>> = (0..neighbours).map(|_| (0..9).map(|_| set(&mut rng)).collect()).collect();
            let loads: Vec<usize> = sets.iter().map(|_| rng.index(3) * 1000).collect();
            let told = sets.iter().zip(loads).enumerate().map(|(number, (sets, load_bytes))| Told {
                number,
                itself: &sets[0],
                held: &sets[1..2],
                beyond: sets[2..].iter().collect(),
                load_bytes,
            });
            let around = Listed::new(told.collect());
            let place = Place { addresses: set(&mut rng), seq: 1 };
            let mut header = Header::new(Kind::Data, id(1), place.clone(), id(2), place, 0);
            header.hints = (0..4).map(|_| set(&mut rng)).collect();
            // Some packets have come far: for these nobody is of use, until a pair has been given up.
            header.last = if round % 2 == 0 { f64::INFINITY } else { rng.index(20) as f64 };
            let (mut mask, mut last) = (header.mask, header.last);
            let expected = loop {
                let Some((worth, pair, link)) = best_of_all(&plane, &header, mask, &around) else { break None };
                if worth < last - EPSILON {
                    break Some(link);
                }
                (mask, last) = (mask & !(1 << pair), f64::INFINITY);
                given_up += 1;
            };
            assert_eq!(next_hop(&plane, &mut header, &around), expected, "q = {q}, {first} letters before");
            assert_eq!(header.mask, mask);
        }
    }
    assert!(given_up > 100);
}

/// Neighbours that are deeper than the fast form holds, or say that they are where no vertex is, do not change how others are compared.
#[test]
fn neighbours_at_strange_places_are_compared_like_others() {
    let plane = Plane::new(64).unwrap();
    let set = |ordinals: &[u8]| AddressSet::single(Address::from_ordinals(ordinals).unwrap());
    let place = |ordinals: &[u8]| Place { addresses: set(ordinals), seq: 1 };
    let sets = [set(&[7; 255]), set(&[7, 7, 7, 7, 7, 7, 7, 7, 255]), set(&[255]), set(&[3])];
    let told = |(number, itself)| Told { number, itself, held: &[], beyond: Vec::new(), load_bytes: 0 };
    let around = Listed::new(sets.iter().enumerate().map(told).collect());
    let none: [u8; 2] = [254, 255];
    for (target, best) in [(&[3, 4][..], Some(3)), (&[7; 20], Some(3)), (&[7; 200], Some(0)), (&none, None)] {
        let mut header = Header::new(Kind::Data, id(1), place(&[]), id(2), place(target), 0);
        assert_eq!(next_hop(&plane, &mut header, &around), best.map(LinkId), "{target:?}");
    }
    // Its distance from anything else is more than the fast form holds.
    let only = told((0, &sets[0]));
    let mut header = Header::new(Kind::Data, id(1), place(&[]), id(2), place(&[8; 20]), 0);
    assert_eq!(next_hop(&plane, &mut header, &Listed::new(vec![only])), Some(LinkId(0)));
}

#[test]
fn gives_up_when_no_neighbour_is_of_use() {
    let plane = Plane::new(8).unwrap();
    let place = |text: &str| Place { addresses: AddressSet::single(text.parse().unwrap()), seq: 1 };
    let mut header = Header::new(Kind::Data, id(1), place("/0"), id(2), place("/1"), 0);
    assert_eq!(next_hop(&plane, &mut header, &Listed::new(Vec::new())), None);
    let far = AddressSet::single("/0/0/0".parse().unwrap());
    let around = Listed::new(vec![Told { number: 1, itself: &far, held: &[], beyond: Vec::new(), load_bytes: 0 }]);
    // From the source anything goes; from the next node nothing that is not nearer.
    assert_eq!(next_hop(&plane, &mut header, &around), Some(LinkId(1)));
    header.last = 0.5;
    header.mask = 1;
    assert_eq!(next_hop(&plane, &mut header, &around), None);
    assert_eq!(header.mask, 0);
}
