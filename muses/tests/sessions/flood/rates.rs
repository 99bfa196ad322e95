//! What strangers draw at one instant is counted, and comes again with time.

use muses::config::{COOKIES, RESETS, Rate};

use super::*;

const RE_HELLO: u8 = 6;
const RESET: u8 = 8;
const COOKIE: u8 = 9;
/// Far more than a burst of Resets.
const RE_HELLOS: u32 = 1000;

/// A well-formed Re-Hello of a session that nobody has, with the one proof that it must have at least.
fn re_hello(rng: &mut Rng) -> Vec<u8> {
    const NOTHING: [u8; 2] = [0; 2];
    let (label, resume, na): ([u8; 16], [u8; 4], [u8; 32]) = (rng.bytes(), rng.bytes(), rng.bytes());
    let (generation, proofs): ([u8; 4], [u8; 64]) = (rng.bytes(), rng.bytes());
    // Received and path are empty.
    [[RE_HELLO].as_slice(), &label, &resume, &na, &NOTHING, &NOTHING, &[1], &generation, &proofs].concat()
}

/// Somebody at some place, behind this neighbour.
fn stranger(rng: &mut Rng, via: u8) -> Arrival {
    let (from, via) = (NodeId::from_bytes(rng.bytes()), NodeId::from_bytes([via; 32]));
    Arrival { from, return_path: Path(rng.bytes::<20>().to_vec()), via: Some(via), ecn: false, hops: 3 }
}

/// How many Resets so many Re-Hellos over `via` draw at one instant; they draw nothing else, and nothing larger than themselves.
fn resets(world: &mut World, rng: &mut Rng, via: u8, re_hellos: u32) -> u32 {
    let mut drawn = 0;
    for _ in 0..re_hellos {
        let (arrival, packet) = (stranger(rng, via), re_hello(rng));
        let replies = world.ask(&arrival, &packet);
        assert!(replies.len() <= 1 && replies.iter().all(|reply| reply[0] == RESET && reply.len() <= packet.len()));
        drawn += u32::try_from(replies.len()).unwrap();
    }
    drawn
}

/// Waits for so many more of what `rate` limits, and not quite for one more.
fn wait_for(world: &mut World, rate: &Rate, count: u32) {
    world.now = world.now.after(rate.every * count + rate.every / 2);
}

#[test]
fn re_hellos_over_one_neighbour_draw_a_burst_of_resets_at_most() {
    let (mut world, mut rng) = (World::new(0, |_| QUIET), Rng::from_seed([5; 32]));
    let ops = world.b.sessions.public_key_ops();
    assert_eq!(resets(&mut world, &mut rng, FLOODED, RE_HELLOS), RESETS.burst);
    assert_eq!(resets(&mut world, &mut rng, QUIET, 1), 1, "over another neighbour");
    let mut begun = Duration::ZERO;
    for count in [1, 3, 7] {
        wait_for(&mut world, &RESETS, count);
        begun += RESETS.every / 2;
        // The halves that were waited for beyond the whole ones count, too.
        let whole = u32::try_from(begun.as_micros() / RESETS.every.as_micros()).unwrap();
        begun -= RESETS.every * whole;
        assert_eq!(resets(&mut world, &mut rng, FLOODED, RE_HELLOS), count + whole);
    }
    // A day of silence saves up no more than the burst.
    wait_for(&mut world, &RESETS, 24 * 36_000);
    assert_eq!(resets(&mut world, &mut rng, FLOODED, RE_HELLOS), RESETS.burst);
    assert_eq!(world.b.sessions.public_key_ops(), ops);
    assert_eq!(world.b.sessions.sessions().count(), 0);
    assert_eq!(world.looked_up, 0);
}

/// How many cookies so many Hellos over `via` draw at one instant; they draw nothing else.
fn cookies(world: &mut World, forger: &mut Forger, rng: &mut Rng, via: u8, hellos: u32) -> u32 {
    let mut drawn = 0;
    for _ in 0..hellos {
        let replies = world.ask(&stranger(rng, via), &forger.hello(rng));
        assert!(replies.len() <= 1 && replies.iter().all(|reply| reply[0] == COOKIE));
        drawn += u32::try_from(replies.len()).unwrap();
    }
    drawn
}

#[test]
fn hellos_over_one_neighbour_draw_a_burst_of_cookies_at_most() {
    const BEYOND: u32 = 500;
    let mut world = World::new(1, |_| QUIET);
    let (mut forger, mut rng) = (forger(&mut world), Rng::from_seed([8; 32]));
    let mut drawn = |world: &mut World, via, hellos| cookies(world, &mut forger, &mut rng, via, hellos);
    // The first ones are worked on, and found to be forged; then there are cookies, and at last nothing.
    assert_eq!(drawn(&mut world, FLOODED, NEIGHBOUR_HELLOS.burst + COOKIES.burst + BEYOND), COOKIES.burst);
    let counters = world.b.sessions.counters();
    assert_eq!((counters.forged, counters.limited), (NEIGHBOUR_HELLOS.burst.into(), BEYOND.into()));
    // Whoever comes over another neighbour finds what is that one's.
    assert_eq!(drawn(&mut world, QUIET, NEIGHBOUR_HELLOS.burst + 10), 10);
    // It comes again with time: in much less than it takes until a Hello is worked on again.
    let wait = COOKIES.every * 100;
    assert!(wait < NEIGHBOUR_HELLOS.every);
    world.now = world.now.after(wait);
    assert_eq!(drawn(&mut world, FLOODED, BEYOND), 100);
    assert_eq!(drawn(&mut world, FLOODED, BEYOND), 0);
}
