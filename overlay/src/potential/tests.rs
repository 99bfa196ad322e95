//! The rule on trees, and beside a comparison of all with all.

#![allow(clippy::cast_possible_truncation)]

use super::*;
use crate::address::Place;
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
        let neighbours: Vec<_> = links[at]
            .iter()
            .map(|&n| NeighbourView {
                link: LinkId(n as u64),
                id: id(n),
                addresses: &sets[n],
                held: &[],
                adverts: links[n].iter().take(16).map(|&x| (&sets[x]).into()).collect(),
                load_bytes: 0,
            })
            .collect();
        let mask = header.mask;
        let link = next_hop(plane, &mut header, &neighbours)?;
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

/// What is left out because it cannot be of use changes nothing: the choice is that of comparing all with all.
#[test]
fn chooses_as_if_all_were_compared() {
    let mut rng = Rng::from_seed([9; 32]);
    let mut given_up = 0;
    for q in [4, 16, 64] {
        let plane = Plane::new(q).unwrap();
        let linear = Scale::linear(&plane);
        let trees: Vec<_> = (0..MAX_TREES).map(|_| random_tree(300, u64::from(q), &mut rng)).collect();
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
            let sets: Vec<Vec<AddressSet>> = (0..8).map(|_| (0..9).map(|_| set(&mut rng)).collect()).collect();
            let heads: Vec<Vec<Heads>> = sets.iter().map(|sets| sets[2..].iter().map(Heads::of).collect()).collect();
            let loads: Vec<usize> = sets.iter().map(|_| rng.index(3) * 1000).collect();
            let neighbours: Vec<_> = sets
                .iter()
                .zip(&heads)
                .zip(loads)
                .enumerate()
                .map(|(number, ((sets, heads), load_bytes))| NeighbourView {
                    link: LinkId(number as u64),
                    id: id(1000 + number),
                    addresses: &sets[0],
                    held: &sets[1..2],
                    adverts: sets[2..]
                        .iter()
                        .zip(heads)
                        .map(|(addresses, heads)| Beyond { addresses, heads: Some(heads) })
                        .collect(),
                    load_bytes,
                })
                .collect();
            let place = Place { addresses: set(&mut rng), seq: 1 };
            let mut header = Header::new(Kind::Data, id(1), place.clone(), id(2), place, 0);
            header.hints = (0..4).map(|_| set(&mut rng)).collect();
            // Some packets have come far: for these nobody is of use, until a pair has been given up.
            header.last = if round % 2 == 0 { f64::INFINITY } else { rng.index(20) as f64 };
            let goals = goals(&plane, &header);
            let (mut mask, mut last) = (header.mask, header.last);
            let expected = loop {
                let tried = ByTree::of(&goals, mask);
                let all = |at: &Beyond<'_>, _| potential(&plane, &tried, at.addresses, &linear);
                let Some(best) = best_neighbour(&neighbours, all, &linear) else { break None };
                if best.worth < last - EPSILON {
                    break Some(best.link);
                }
                (mask, last) = (mask & !(1 << best.pair), f64::INFINITY);
                given_up += 1;
            };
            drop(goals);
            assert_eq!(next_hop(&plane, &mut header, &neighbours), expected, "q = {q}");
            assert_eq!(header.mask, mask);
        }
    }
    assert!(given_up > 100);
}

#[test]
fn gives_up_when_no_neighbour_is_of_use() {
    let plane = Plane::new(8).unwrap();
    let place = |text: &str| Place { addresses: AddressSet::single(text.parse().unwrap()), seq: 1 };
    let mut header = Header::new(Kind::Data, id(1), place("/0"), id(2), place("/1"), 0);
    assert_eq!(next_hop(&plane, &mut header, &[]), None);
    let far = AddressSet::single("/0/0/0".parse().unwrap());
    let neighbour = NeighbourView {
        link: LinkId(1),
        id: id(3),
        addresses: &far,
        held: &[],
        adverts: SmallVec::new(),
        load_bytes: 0,
    };
    // From the source anything goes; from the next node nothing that is not nearer.
    assert_eq!(next_hop(&plane, &mut header, std::slice::from_ref(&neighbour)), Some(LinkId(1)));
    header.last = 0.5;
    header.mask = 1;
    assert_eq!(next_hop(&plane, &mut header, &[neighbour]), None);
    assert_eq!(header.mask, 0);
}
