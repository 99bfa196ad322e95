//! Distances in both forms, and the tiling.

#![allow(clippy::cast_possible_truncation)]

use super::*;
use crate::rng::Rng;

fn word(rng: &mut Rng, q: u16, depth: usize) -> Address {
    let word: Vec<u8> = (0..depth).map(|_| rng.below(u64::from(q) - 1) as u8).collect();
    Address::from_ordinals(&word).unwrap()
}

#[test]
fn the_fast_form_agrees_with_the_other() {
    let mut rng = Rng::from_seed([5; 32]);
    for q in [3u16, 4, 16, 32, 64, 256] {
        let plane = Plane::new(q).unwrap();
        let deep = plane.fast_depth;
        assert!(deep >= 60, "q = {q}: {deep}");
        for _ in 0..2000 {
            let depth = |rng: &mut Rng| rng.index(deep.min(255) + 1);
            let (a, b) = (depth(&mut rng), depth(&mut rng));
            let (a, mut b) = (word(&mut rng, q, a), word(&mut rng, q, b));
            if rng.below(2) == 0 {
                let common = rng.index(a.depth().min(b.depth()) + 1);
                let tail = &b.as_slice()[common..];
                b = Address::from_ordinals(&[&a.as_slice()[..common], tail].concat()).unwrap();
            }
            let (mut of_a, mut of_b) = (Frames::default(), Frames::default());
            assert!(plane.frames(a.as_slice(), &mut of_a) && plane.frames(b.as_slice(), &mut of_b));
            let common = common_letters(a.as_slice(), b.as_slice());
            let fast = distance_of(of_a.exp_distance_above(a.depth() - common, &of_b, b.depth() - common));
            let slow = plane.distance(&a, &b);
            assert!((fast - slow).abs() < 1e-6 + 1e-9 * slow, "q = {q}: {fast} {slow} {a} {b}");
        }
        assert!(!plane.frames(&vec![0; deep + 1], &mut Frames::default()));
    }
}

/// Down from any vertex on the way to the one that is seen, each further vertex sees it where it is, and farther away than the one before.
#[test]
fn a_vertex_is_seen_from_beside_the_way_to_it() {
    let mut rng = Rng::from_seed([8; 32]);
    for q in [3u16, 4, 16, 64, 256] {
        let plane = Plane::new(q).unwrap();
        for round in 0..4000 {
            // In half of the rounds the turns are as sharp as can be: along the sides of a cell vertices are nearest.
            let letter = |rng: &mut Rng| match round % 2 {
                0 => rng.below(u64::from(q) - 1) as u8,
                _ => (u64::from(q) - 2 - rng.below(2)) as u8,
            };
            let target: Vec<u8> = (0..rng.index(30)).map(|_| letter(&mut rng)).collect();
            let target = Address::from_ordinals(&target).unwrap();
            let level = rng.index(target.depth() + 1);
            let mut frames = Frames::default();
            assert!(plane.frames(target.as_slice(), &mut frames));
            let mut seen = frames.framed_from_above(target.depth() - level).unwrap();
            let mut plain = plane.seen_on_the_way(target.as_slice())[target.depth() - level];
            let mut at = Address::from_ordinals(&target.as_slice()[..level]).unwrap();
            let mut before = 0.0;
            for _ in 0..7 {
                let exact = plane.distance(&at, &target);
                let distance = distance_of(seen.exp_distance());
                assert!((distance - exact).abs() < 1e-6 + 1e-9 * exact, "q = {q}: {distance} {exact} {at} {target}");
                let plainly = plain.map_or(0.0, |seen| seen.distance());
                assert!((plainly - exact).abs() < 1e-6, "q = {q}: {plainly} {exact} {at} {target}");
                assert!(distance >= before, "q = {q}: {at} {target}");
                before = distance;
                let next = letter(&mut rng);
                if at.is_prefix_of(&target) && target.as_slice().get(at.depth()) == Some(&next) {
                    break;
                }
                seen = plane.framed_from_child(&seen, next).unwrap();
                plain = Some(plane.seen_from_child(plain, next));
                at = at.child(next).unwrap();
            }
            assert!(plane.framed_from_child(&seen, 255).is_none());
        }
    }
}

#[test]
fn heads_are_in_the_order_of_the_words_that_they_tell_apart() {
    let mut rng = Rng::from_seed([7; 32]);
    for _ in 0..20_000 {
        let letters = |rng: &mut Rng| (0..rng.index(12)).map(|_| rng.below(2) as u8).collect::<Vec<_>>();
        let (a, b) = (letters(&mut rng), letters(&mut rng));
        let first = |word: &[u8]| word.get(..Head::LETTERS).unwrap_or(word).to_vec();
        let told = |word: &[u8]| (0..12).map_while(|at| Head::of(word).letter(at)).collect::<Vec<_>>();
        assert_eq!(told(&a), first(&a));
        assert_eq!(Head::of(&a).depth(), a.len());
        if first(&a) != first(&b) {
            assert_eq!(Head::of(&a).cmp(&Head::of(&b)), a.cmp(&b), "{a:?} {b:?}");
        }
    }
}

#[test]
fn directions_are_all_different_and_start_opposite_the_parent() {
    for q in [3u16, 4, 7, 32, 256] {
        let all: Vec<u16> = (0..q - 1).map(|ordinal| direction(q, u8::try_from(ordinal).unwrap())).collect();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (1..q).collect::<Vec<_>>(), "q = {q}");
        assert_eq!(all[0], q / 2);
    }
    assert_eq!((0..7).map(|ordinal| direction(8, ordinal)).collect::<Vec<_>>(), [4, 5, 3, 6, 2, 7, 1]);
}

#[test]
fn edges_have_the_edge_length_at_any_depth_and_the_distance_is_symmetric() {
    let mut rng = Rng::from_seed([1; 32]);
    for q in [3, 4, 16, 32, 256] {
        let plane = Plane::new(q).unwrap();
        for depth in [0, 1, 5, 100, 200] {
            let vertex = word(&mut rng, q, depth);
            let child = vertex.child(0).unwrap();
            assert!((plane.distance(&vertex, &child) - plane.edge_length()).abs() < 1e-9);
            assert!(plane.distance(&vertex, &vertex).abs() < 1e-12);
            let other = word(&mut rng, q, 50);
            assert!((plane.distance(&vertex, &other) - plane.distance(&other, &vertex)).abs() < 1e-9);
        }
    }
    assert!(Plane::new(2).is_none() && Plane::new(257).is_none());
}

/// The gain per step is what forwarding's epsilon relies on.
#[test]
fn the_next_vertex_on_the_way_is_nearer_by_more_than_a_thousandth() {
    let mut rng = Rng::from_seed([2; 32]);
    for q in [3, 4, 8, 32, 256] {
        let plane = Plane::new(q).unwrap();
        for _ in 0..300 {
            let from_depth = rng.below(40) as usize;
            let to_depth = rng.below(40) as usize;
            let (from, to) = (word(&mut rng, q, from_depth), word(&mut rng, q, to_depth));
            let next = match from.is_prefix_of(&to) {
                true if from == to => continue,
                true => from.child(to.as_slice()[from.depth()]).unwrap(),
                false => from.parent().unwrap(),
            };
            let gain = plane.distance(&from, &to) - plane.distance(&next, &to);
            assert!(gain > 1e-3, "q = {q}: {gain} from {from} to {to}");
        }
    }
}
