use overlay::id::Identity;
use overlay::time::WallTime;

use super::*;
use crate::cert::LocalKeys;
use crate::dh::PublicKeyOps;
use crate::event::Path;
use crate::handshake::{Initiator, Offer};

struct Ends {
    b: LocalKeys,
    initiator: Initiator,
    hello: Vec<u8>,
    rng: Rng,
}

impl Ends {
    fn new() -> Self {
        let (mut ops, mut rng) = (PublicKeyOps::default(), Rng::from_seed([4; 32]));
        let mut keys =
            |n: u8| LocalKeys::new(Identity::from_secret(&[n; 32]), &[n + 100; 32], WallTime::default(), &mut ops);
        let (a, b) = (keys(1), keys(2));
        let offer = Offer { port: 0, params: &[] };
        let (initiator, hello) = Initiator::start(&a, b.id(), b.cert(), offer, &mut rng, &mut ops).unwrap();
        Self { b, initiator, hello, rng }
    }

    fn parsed(&self) -> AddressedHello<'_, '_> {
        AddressedHello::parse(&self.b, &self.hello).ok().unwrap()
    }

    fn reply(&self, cookie: &Cookie) -> Vec<u8> {
        cookie.reply(&self.parsed(), &mut Rng::from_seed([5; 32])).unwrap()
    }
}

fn arrival(n: u8) -> Arrival {
    let id = |n: u8| Identity::from_secret(&[n; 32]).id();
    Arrival { from: id(n), return_path: Path(vec![n]), via: Some(id(n + 1)), ecn: false, hops: 2 }
}

#[test]
fn a_cookie_reaches_the_sender_of_the_hello_and_marks_its_next() {
    let mut ends = Ends::new();
    let secret = CookieSecret::new(&mut ends.rng, Instant::default());
    let cookie = secret.cookie(&arrival(1));
    assert!(!cookie.is_on(&ends.parsed()), "mac2 is zero at first");
    let reply = ends.reply(&cookie);
    assert_eq!(reply.len(), COOKIE_REPLY_BYTES);
    let theirs = ends.initiator.handle_cookie(&ends.hello, &reply).ok().unwrap();
    assert!(theirs == cookie);

    let before = ends.hello.clone();
    theirs.stamp(&mut ends.hello);
    assert_eq!(ends.hello[..ends.hello.len() - MAC2_BYTES], before[..before.len() - MAC2_BYTES]);
    assert!(cookie.is_on(&ends.parsed()));
    // Stamped or not, it is the same Hello: the reply to the one is good for the other.
    assert!(ends.initiator.handle_cookie(&ends.hello, &reply).is_ok());
}

#[test]
fn a_cookie_is_good_only_for_the_same_id_path_and_neighbour() {
    let mut ends = Ends::new();
    let secret = CookieSecret::new(&mut ends.rng, Instant::default());
    secret.cookie(&arrival(1)).stamp(&mut ends.hello);
    let others = [
        Arrival { from: arrival(2).from, ..arrival(1) },
        Arrival { via: arrival(2).via, ..arrival(1) },
        Arrival { via: None, ..arrival(1) },
        Arrival { return_path: Path(vec![1, 0]), ..arrival(1) },
    ];
    for other in others {
        assert!(!secret.cookie(&other).is_on(&ends.parsed()), "{other:?}");
    }
    // What may change from packet to packet does not count.
    assert!(secret.cookie(&Arrival { ecn: true, hops: 9, ..arrival(1) }).is_on(&ends.parsed()));
}

#[test]
fn only_who_saw_the_hello_can_make_a_reply_to_it() {
    let mut ends = Ends::new();
    let cookie = CookieSecret::new(&mut ends.rng, Instant::default()).cookie(&arrival(1));
    let reply = ends.reply(&cookie);
    for at in 0..reply.len() {
        let mut bad = reply.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(ends.initiator.handle_cookie(&ends.hello, &bad).is_err(), "byte {at}");
        assert!(ends.initiator.handle_cookie(&ends.hello, &reply[..at]).is_err(), "cut at {at}");
    }
    let mut unseen = ends.hello.clone();
    let mac1_at = unseen.len() - MAC2_BYTES - 1;
    unseen[mac1_at] ^= 1;
    assert!(ends.initiator.handle_cookie(&unseen, &reply).is_err());
}

#[test]
fn the_secret_changes_every_two_minutes() {
    let mut ends = Ends::new();
    let start = Instant::default();
    let mut secret = CookieSecret::new(&mut ends.rng, start);
    let first = secret.cookie(&arrival(1));
    secret.refresh(&mut ends.rng, start + (COOKIE_LIFETIME - Duration::from_micros(1)));
    assert!(secret.cookie(&arrival(1)) == first);
    secret.refresh(&mut ends.rng, start + COOKIE_LIFETIME);
    assert!(secret.cookie(&arrival(1)) != first);
}

#[test]
fn cookies_are_kept_for_two_minutes_and_not_without_number() {
    let (mut cookies, start) = (Cookies::default(), Instant::default());
    let cookie = |n: u8| Cookie(Zeroizing::new([n; 32]));
    let peer = |n: usize| NodeId::from_bytes([u8::try_from(n).unwrap(); 32]);
    for n in 0..=MAX_KEPT {
        cookies.keep(peer(n), cookie(1), start);
    }
    assert!(cookies.of(&peer(MAX_KEPT), start).is_none());
    cookies.keep(peer(0), cookie(2), start);
    assert!(cookies.of(&peer(0), start) == Some(&cookie(2)));
    assert!(cookies.of(&peer(0), start + COOKIE_LIFETIME).is_none());
    cookies.keep(peer(MAX_KEPT), cookie(3), start + COOKIE_LIFETIME);
    assert!(cookies.of(&peer(MAX_KEPT), start + COOKIE_LIFETIME) == Some(&cookie(3)));
}

/// A change here changes the protocol: it needs a line in CHANGELOG.md.
#[test]
fn golden_reply_and_mac2() {
    let mut ends = Ends::new();
    let cookie = Cookie(Zeroizing::new([6; 32]));
    let reply = ends.reply(&cookie);
    cookie.stamp(&mut ends.hello);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&reply[..4]), "09010200");
    let mac2 = &ends.hello[ends.hello.len() - MAC2_BYTES..];
    assert_eq!(
        (hex(&kdf::sha256(&[&reply])[..8]), hex(mac2)),
        ("b03abc7f765c9a18".to_owned(), "c4923964285462b63515d1f074e8c4fe".to_owned())
    );
}
