use super::*;

#[test]
#[allow(clippy::cast_possible_truncation)]
fn all_are_connected_in_the_order_of_joining_and_the_same_for_a_seed() {
    for text in ["ov:3", "ovp:3", "ba:2", "pl:2.5", "hrg:2.5", "rgg", "rgt", "as"] {
        let kind: Kind = text.parse().unwrap();
        let make = |seed| Graph::new(kind, 1000, &mut Rng::from_seed([seed; 32]));
        let graph = make(1);
        assert_eq!(graph.len(), 1000, "{text}");
        assert_eq!(graph, make(1));
        assert_ne!(graph, make(2));
        for node in 1..1000 {
            let near = graph.neighbours(node);
            assert!(near.iter().any(|other| (*other as usize) < node), "{text}: {node} {near:?}");
            assert!(near.iter().all(|other| graph.neighbours(*other as usize).contains(&(node as u32))));
        }
        let mean = (0..1000).map(|node| graph.neighbours(node).len()).sum::<usize>() as f64 / 1000.0;
        assert!((1.9..20.0).contains(&mean), "{text}: {mean}");
    }
    for bad in ["ov", "ov:0", "ba:x", "pl:1.5", "rgg:2", "tree", ""] {
        assert!(bad.parse::<Kind>().is_err(), "{bad}");
    }
}
