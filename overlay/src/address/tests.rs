use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn further_children_are_below_the_extension() {
    for q in [3, 4, 32, 64, 256] {
        let parent: Address = "/0/1".parse().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for slot in 0..600 {
            let Some(child) = parent.child_in(slot, q) else { continue };
            assert_eq!(parent.slot_of(&child, q), Some(slot), "q {q}");
            assert!(child.as_slice().iter().all(|ordinal| u16::from(*ordinal) < q - 1));
            assert!(seen.insert(child));
        }
        assert_eq!(parent.child_in(0, q).unwrap(), parent.child(0).unwrap());
        assert_eq!(parent.slot_of(&parent, q), None);
        assert_eq!(parent.slot_of(&"/0".parse().unwrap(), q), None);
    }
    let parent = Address::root();
    assert_eq!(parent.child_in(31, 32).unwrap().to_string(), "/30/1");
    assert_eq!(parent.slot_of(&"/3/1".parse().unwrap(), 32), None, "a grandchild");
    assert_eq!(parent.slot_of(&"/30".parse().unwrap(), 32), None, "the extension itself");
}

#[test]
fn golden_vectors() {
    for (text, golden) in [("/", "00"), ("/0", "0180"), ("/0/0/0", "03e0"), ("/1/2/3", "034c80"), ("/254", "0101fe")] {
        let address: Address = text.parse().unwrap();
        let mut out = Vec::new();
        address.encode_into(&mut out);
        assert_eq!(hex(&out), golden, "{text}");
        assert_eq!(address.to_string(), text);
    }
    let place = Place { addresses: AddressSet::of(FIRST_TREE, "/3/0".parse().unwrap()), seq: 258 };
    assert_eq!(hex(&place.to_bytes()), "000000000000010201000224");
}

#[test]
fn family_relations() {
    let parent: Address = "/3/0".parse().unwrap();
    let child = parent.child(7).unwrap();
    assert_eq!(child.parent(), Some(parent.clone()));
    assert!(parent.is_prefix_of(&child) && !child.is_prefix_of(&parent));
    assert_eq!(child.tree_distance(&"/3/1/1".parse().unwrap()), 4);
    let deepest = Address::from_ordinals(&[0; MAX_DEPTH]).unwrap();
    assert_eq!(deepest.child(0), None);
    assert_eq!(Address::from_ordinals(&[0; MAX_DEPTH + 1]), None);
}

#[test]
fn filling_bits_and_unknown_trees_are_refused() {
    assert!(Address::decode(&mut [1, 0xc0].as_slice()).is_err());
    assert!(AddressSet::decode(&mut [1, 9, 0].as_slice()).is_err());
    assert!(AddressSet::decode(&mut [2, 1, 0, 0, 0].as_slice()).is_err());
    assert!(Place::from_bytes(&[0; 8]).is_err());
}

proptest! {
    #[test]
    fn round_trips(word in proptest::collection::vec(0u8..=254, 0..=MAX_DEPTH), seq: u64) {
        let address = Address::from_ordinals(&word).unwrap();
        let mut out = Vec::new();
        address.encode_into(&mut out);
        out.push(0xaa);
        let mut rest = out.as_slice();
        prop_assert_eq!(Address::decode(&mut rest).unwrap(), address.clone());
        prop_assert_eq!(rest, &[0xaa][..]);
        prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address.clone());
        let place = Place { addresses: AddressSet::of(FIRST_TREE, address), seq };
        let bytes = place.to_bytes();
        if bytes.len() <= MAX_PLACE_BYTES {
            prop_assert_eq!(Place::from_bytes(&bytes).unwrap(), place);
        }
    }

    #[test]
    fn garbage_is_refused_or_is_the_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut rest = bytes.as_slice();
        if let Ok(address) = Address::decode(&mut rest) {
            let mut again = Vec::new();
            address.encode_into(&mut again);
            prop_assert_eq!(&again[..], &bytes[..bytes.len() - rest.len()]);
        }
    }
}

#[test]
fn what_can_be_told_fits_a_place_with_those_of_the_other_trees() {
    for (letter, longest) in [(0, MAX_DEPTH), (1, 157), (61, 42), (62, 42), (254, 31)] {
        let address = |depth| Address::from_ordinals(&vec![letter; depth]).unwrap();
        assert!(address(longest).can_be_told() && address(longest).to_bytes().len() <= MAX_WORD_BYTES);
        assert!(longest == MAX_DEPTH || !address(longest + 1).can_be_told(), "{letter}");
        let mut place = Place { seq: u64::MAX, ..Place::default() };
        TreeId::ALL.into_iter().for_each(|tree| place.addresses.insert(tree, address(longest)));
        assert_eq!(Place::from_bytes(&place.to_bytes()), Ok(place));
    }
}

#[test]
fn the_higher_the_slot_the_longer_the_address() {
    for q in [3, 4, 8, 32, 64, 256] {
        for above in ["/", "/0/1", "/1/2/0/1/2/0/1/2/0/1/2/0/1/2/0/1/2/0/1/2/0/1/2/0"] {
            let above: Address = above.parse().unwrap();
            let can = |slot| above.child_in(slot, q).is_some_and(|child| child.can_be_told());
            let room = above.slots_to_give(1024, q);
            assert!((0..1024).all(|slot| can(slot) == (slot < room)), "q {q} below {above}: {room}");
            assert_eq!(above.slots_to_give(1, q), 1);
        }
    }
    let full = Address::from_ordinals(&[0; MAX_DEPTH]).unwrap();
    assert_eq!(full.slots_to_give(1024, 64), 0);
}
