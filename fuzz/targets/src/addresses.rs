//! Addresses, places, and the texts that people type for ids and names.

use core::fmt::Display;
use core::str::FromStr;
use std::sync::LazyLock;

use multiaddr::Multiaddr;
use overlay::address::{Address, AddressSet, MAX_DEPTH, MAX_PLACE_BYTES, MAX_TREES, Place};
use overlay::config::Only;
use overlay::hyperbolic::Plane;
use overlay::id::{NodeId, OverlayId};
use overlay::record::Name;

/// Tilings that differ in what a gamma code may be: the least, the usual and the greatest q.
const QS: [u16; 3] = [3, 64, 256];

/// Every address, set and place has one encoding; texts that parse are printed so that they parse again.
pub fn overlay_addresses(bytes: &[u8]) {
    if let Ok(address) = Address::from_bytes(bytes) {
        assert_eq!(address.to_bytes(), bytes);
        check(&address);
    }
    let mut rest = bytes;
    if let Ok(set) = AddressSet::decode(&mut rest) {
        let mut again = Vec::new();
        set.encode_into(&mut again);
        assert_eq!(Some(again.as_slice()), bytes.strip_suffix(rest));
        assert!(set.len() <= MAX_TREES && set.total_depth() <= MAX_TREES * MAX_DEPTH);
        distances(&set);
    }
    if let Ok(place) = Place::from_bytes(bytes) {
        assert_eq!(place.to_bytes(), bytes);
        assert!(bytes.len() <= MAX_PLACE_BYTES);
    }
    if let Ok(text) = core::str::from_utf8(bytes) {
        prints_as_it_parses::<Address>(text);
        prints_as_it_parses::<NodeId>(text);
        prints_as_it_parses::<OverlayId>(text);
        prints_as_it_parses::<Name>(text);
        prints_as_it_parses::<Only>(text);
    }
    // What any address of a neighbour goes through.
    if let Ok(multiaddr) = Multiaddr::try_from(bytes.to_vec()) {
        assert_eq!(multiaddr.to_vec(), bytes);
        assert!(multiaddr.iter().count() <= bytes.len());
    }
}

fn check(address: &Address) {
    assert!(address.depth() <= MAX_DEPTH);
    assert_eq!(address.to_string().parse().as_ref(), Ok(address));
    for q in QS {
        for slot in [0, 1, q - 2, q, 1023] {
            if let Some(child) = address.child_in(slot, q) {
                assert_eq!(address.slot_of(&child, q), Some(slot));
                assert!(address.is_prefix_of(&child) && child.depth() <= MAX_DEPTH);
            }
        }
    }
}

/// However deep and wherever two addresses are, they have a distance, that of the way back.
fn distances(set: &AddressSet) {
    static PLANES: LazyLock<Vec<Plane>> = LazyLock::new(|| QS.into_iter().filter_map(Plane::new).collect());
    for plane in &*PLANES {
        let mut addresses = set.iter().map(|(_, address)| address);
        if let (Some(a), Some(b)) = (addresses.next(), addresses.next()) {
            let (there, back) = (plane.ln_cosh_distance(a, b), plane.ln_cosh_distance(b, a));
            assert!(there.is_finite() && there >= 0.0, "{a:?} {b:?} {there}");
            assert!((there - back).abs() <= 1e-9 * (1.0 + there), "{a:?} {b:?} {there} {back}");
        }
    }
}

fn prints_as_it_parses<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string().parse().is_ok_and(|again: T| again == value), "{text:?}");
    }
}
