//! What is dialled when, and what is remembered.

use super::*;

fn dialer() -> Dialer {
    Dialer::new(Duration::from_millis(50), Duration::from_secs(10), Duration::from_secs(10))
}

fn address(n: usize) -> Multiaddr {
    format!("/ip4/10.0.{}.{}/tcp/1", n / 256, n % 256).parse().unwrap()
}

#[test]
fn backs_off_and_starts_anew_after_a_change() {
    let (mut dialer, mut rng) = (dialer(), Rng::from_seed([0; 32]));
    dialer.learn(&address(1), None, Source::Configured);
    let mut now = Instant::from_micros(1);
    let mut waits = Vec::new();
    for _ in 0..10 {
        assert_eq!(dialer.next(|_, _, _| true, now), Some(address(1)));
        assert_eq!(dialer.next(|_, _, _| true, now), None, "under way");
        dialer.failed(&address(1), &mut rng, now);
        let at = dialer.next_time(|_, _, _| true).unwrap();
        waits.push(at.since(now));
        now = at;
    }
    assert!(waits[0] <= Duration::from_millis(50), "{waits:?}");
    assert!(waits[9] >= Duration::from_secs(5) && waits[9] <= Duration::from_secs(10), "{waits:?}");
    dialer.reset();
    assert_eq!(dialer.next(|_, _, _| true, now), Some(address(1)));
}

#[test]
fn one_place_is_dialled_once_at_a_time() {
    let (mut dialer, mut rng) = (dialer(), Rng::from_seed([0; 32]));
    let peer = NodeId::from_bytes([3; 32]);
    let with_peer: Multiaddr =
        "/ip4/10.0.0.1/tcp/1/p2p/12D3KooWR4wzZVy6DgKswdDn5v3dUj69gNMeTWgbVMHhURLPNqxR".parse().unwrap();
    dialer.learn(&with_peer, None, Source::Configured);
    dialer.learn(&address(1), Some(peer), Source::Hearsay);
    assert_eq!(dialer.next(|_, peer, _| peer == peer_of(&with_peer), Instant::ZERO), Some(with_peer.clone()));
    assert_eq!(dialer.next(|_, _, _| true, Instant::ZERO), None);
    dialer.failed(&address(1), &mut rng, Instant::ZERO);
    assert_eq!(dialer.next(|_, _, _| true, Instant::from_micros(60_000)), Some(with_peer));
}

#[test]
fn a_place_that_somebody_else_has_now_is_dialled_for_him() {
    let (mut dialer, mut rng) = (dialer(), Rng::from_seed([0; 32]));
    let [before, now] = [
        "/ip4/10.0.0.1/tcp/1/p2p/12D3KooWR4wzZVy6DgKswdDn5v3dUj69gNMeTWgbVMHhURLPNqxR",
        "/ip4/10.0.0.1/tcp/1/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",
    ]
    .map(|text| text.parse::<Multiaddr>().unwrap());
    dialer.learn(&before, None, Source::Neighbour);
    assert_eq!(dialer.next(|_, _, _| true, Instant::ZERO), Some(before.clone()));
    dialer.failed(&before, &mut rng, Instant::ZERO);
    dialer.learn(&now, None, Source::Hearsay);
    assert_eq!(dialer.next(|_, _, _| true, Instant::ZERO), None, "what somebody says changes nothing");
    dialer.learn(&now, None, Source::Parent);
    assert_eq!(dialer.next(|_, peer, _| peer == peer_of(&now), Instant::ZERO), Some(now));
}

#[test]
fn is_bounded_and_prefers_the_configured() {
    let mut dialer = dialer();
    for n in 0..1000 {
        dialer.learn(&address(n), None, Source::Hearsay);
    }
    assert_eq!(dialer.addresses(2000).len(), MAX_KNOWN);
    dialer.learn(&address(2000), None, Source::Configured);
    assert_eq!(dialer.next(|_, _, _| true, Instant::ZERO), Some(address(2000)));
    let parallel = (0..20).filter(|_| dialer.next(|_, _, _| true, Instant::ZERO).is_some()).count();
    assert_eq!(parallel, MAX_PARALLEL_DIALS - 1);
    for n in 2001..2100 {
        dialer.learn(&address(n), None, Source::Nearby);
    }
    let latest = dialer.next(|_, _, _| true, Instant::ZERO);
    assert_eq!(latest, Some(address(2099)), "it does not wait for the others, nor for those before it");
    let nearby = (0..20).filter(|_| dialer.next(|_, _, _| true, Instant::ZERO).is_some()).count();
    assert_eq!(nearby, MAX_NEARBY_DIALS - 1);
    // However many more are told, those under way stay, and count.
    for n in 2100..2200 {
        dialer.learn(&address(n), None, Source::Nearby);
    }
    assert_eq!(dialer.next(|_, _, _| true, Instant::ZERO), None);
    assert_eq!(dialer.known.values().filter(|known| known.is_rumour()).count(), MAX_NEARBY);
    assert!(dialer.addresses(2000).iter().all(|(way, _)| *way != address(2099)), "a rumour is not stored");
    dialer.connected(&address(2099), NodeId::from_bytes([4; 32]));
    dialer.reset();
    let kept = dialer.known.values().filter(|known| known.source == Source::Nearby).count();
    assert_eq!(kept, 1, "in another network only whom was met");
    let peer = NodeId::from_bytes([3; 32]);
    for n in 3000..3020 {
        dialer.learn(&address(n), Some(peer), Source::Neighbour);
    }
    assert_eq!(dialer.addresses(2000).iter().filter(|(_, p)| *p == Some(peer)).count(), MAX_PER_PEER);
}

#[test]
fn parents_ancestors_and_heirs_of_before_keep_nobody_out() {
    let mut dialer = dialer();
    for (source, most) in [(Source::Parent, 32), (Source::Ancestor, 16), (Source::Heir, 40)] {
        let first = 1000 * most;
        dialer.learn(&address(first), None, Source::Neighbour);
        for n in 0..MAX_KNOWN {
            dialer.learn(&address(first + n), None, source);
        }
        let so_known = |dialer: &Dialer| -> Vec<_> {
            dialer.known.values().filter(|known| known.source == source).map(|known| known.address.clone()).collect()
        };
        let mut latest: Vec<_> = (MAX_KNOWN - most..MAX_KNOWN).map(|n| address(first + n)).collect();
        latest.sort();
        assert_eq!(so_known(&dialer), latest);
        let met = &dialer.known[&address(first)];
        assert_eq!(met.source, Source::Neighbour, "it was met, whatever else it was");
        // One of before is such again.
        dialer.learn(&address(first + 9), None, source);
        assert!(so_known(&dialer).len() == most && so_known(&dialer).contains(&address(first + 9)));
    }
    let neighbours = || 2000..2000 + MAX_KNOWN - 32 - 16 - 40;
    for n in neighbours() {
        dialer.learn(&address(n), None, Source::Neighbour);
    }
    assert!(neighbours().all(|n| dialer.known.contains_key(&address(n))));
    // Where all were met, who was told of longest ago has to go.
    dialer.learn(&address(1), None, Source::Neighbour);
    assert!(!dialer.known.contains_key(&address(2000)) && dialer.known.contains_key(&address(1)));
    assert_eq!(dialer.known.len(), MAX_KNOWN);
}
