use overlay::id::Identity;
use overlay::rng::Rng;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;

const SESSION_ID: [u8; SESSION_ID_BYTES] = [3; SESSION_ID_BYTES];
const LABEL: Label = Label([4; LABEL_BYTES]);
const CIPHERS: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];

fn pair() -> (Sealer, Opener) {
    pair_with(5)
}

fn pair_with(secret: u8) -> (Sealer, Opener) {
    pair_by(Cipher::ChaCha20Poly1305, secret)
}

fn pair_by(cipher: Cipher, secret: u8) -> (Sealer, Opener) {
    let [from, to] = [1, 2].map(|n| Identity::from_secret(&[n; 32]).id());
    let direction = Direction { from, to, session_id: &SESSION_ID, cipher };
    let secret = Zeroizing::new([secret; 32]);
    (Sealer::new(direction, LABEL, 6, secret.clone()), Opener::new(direction, LABEL, 6, secret))
}

proptest! {
    #[test]
    fn what_is_sealed_opens_once(frames in prop::collection::vec(any::<u8>(), 0..2000)) {
        let (mut sealer, mut opener) = pair();
        let (seq, packet) = sealer.seal(&frames).unwrap();
        prop_assert_eq!(packet.len(), frames.len() + OVERHEAD_BYTES);
        prop_assert_eq!(opener.open(&packet), Ok(Opened { seq, frames }));
        prop_assert_eq!(opener.open(&packet), Err(OpenError::Replayed));
    }

    #[test]
    fn noise_never_opens(packet in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(pair().1.open(&packet).is_err());
    }
}

#[test]
fn any_flipped_bit_is_refused() {
    let (mut sealer, mut opener) = pair();
    let (_, packet) = sealer.seal(b"some frames").unwrap();
    for bit in 0..packet.len() * 8 {
        let mut bad = packet.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(opener.open(&bad).is_err(), "bit {bit}");
    }
    for length in 0..packet.len() {
        assert!(opener.open(&packet[..length]).is_err(), "length {length}");
    }
    assert!(opener.failures() > 0);
    assert_eq!(opener.open(&packet).unwrap().frames, b"some frames", "forgeries moved nothing");
}

/// Flips every bit of so many packets of all lengths up to `longest`, of several keys.
fn flips_every_bit_of(cipher: Cipher, packets: u64, longest: u64) {
    let mut rng = Rng::from_seed([1; 32]);
    let (mut sealer, mut opener) = pair_by(cipher, 5);
    for number in 0..packets {
        if number % 50 == 49 {
            sealer.step();
        }
        let frames: Vec<u8> = (0..rng.below(longest + 1)).map(|_| rng.bytes::<1>()[0]).collect();
        let (seq, mut packet) = sealer.seal(&frames).unwrap();
        let epoch = opener.epoch();
        for bit in 0..packet.len() * 8 {
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open(&packet).is_err(), "packet {number}, bit {bit}");
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(opener.epoch(), epoch, "forgeries moved nothing");
        assert_eq!(opener.open(&packet), Ok(Opened { seq, frames }));
    }
}

#[test]
fn any_flipped_bit_of_many_packets_is_refused() {
    CIPHERS.into_iter().for_each(|cipher| flips_every_bit_of(cipher, 100, 100));
}

#[test]
#[ignore = "every bit of 10^3 packets; for the night"]
fn any_flipped_bit_of_a_thousand_packets_is_refused() {
    CIPHERS.into_iter().for_each(|cipher| flips_every_bit_of(cipher, 1000, 1500));
}

/// The checks before the cipher would refuse most changed headers, too. Here the receiver expects what the changed header says, so that nothing but the
/// cipher is left to notice.
#[test]
fn each_field_of_the_header_is_bound() {
    let change = |at: usize, byte: u8| {
        let (_, mut packet) = pair().0.seal(b"frames").unwrap();
        packet[at] = byte;
        packet
    };
    let [from, to] = [1, 2].map(|n| Identity::from_secret(&[n; 32]).id());
    let direction = Direction { from, to, session_id: &SESSION_ID, cipher: CIPHERS[0] };
    let secret = Zeroizing::new([5; 32]);

    // SeqNBR: another number that is fresh.
    for at in 25..33 {
        assert_eq!(pair().1.open(&change(at, 1)), Err(OpenError::Forged));
    }
    // Resume: a receiver with the same keys under another number.
    let mut other_resume = Opener::new(direction, LABEL, 7, secret.clone());
    assert_eq!(other_resume.open(&change(20, 7)), Err(OpenError::Forged));
    // Step: the receiver accepts packets of the next one.
    assert_eq!(pair().1.open(&change(24, 1)), Err(OpenError::Forged));
    // ConTYPE: every other says that it is no protected packet.
    for kind in (0..=255).filter(|kind| *kind != ContentType::Protected as u8) {
        assert_eq!(pair().1.open(&change(0, kind)), Err(OpenError::Malformed));
    }
    // The label only finds the session; SessID, from which it is derived, is bound in its place.
    for at in 1..17 {
        assert_eq!(pair().1.open(&change(at, 0xff)), Err(OpenError::Malformed));
    }
    let other_session = Direction { session_id: &[9; SESSION_ID_BYTES], ..direction };
    assert_eq!(Opener::new(other_session, LABEL, 6, secret).open(&change(0, 5)), Err(OpenError::Forged));
    assert!(pair().1.open(&change(0, 5)).is_ok(), "unchanged");
}

#[test]
fn another_key_session_or_direction_does_not_open() {
    let (_, packet) = pair().0.seal(b"x").unwrap();
    assert_eq!(pair_with(6).1.open(&packet), Err(OpenError::Forged));

    let [a, b] = [1, 2].map(|n| Identity::from_secret(&[n; 32]).id());
    let secret = Zeroizing::new([5; 32]);
    assert_eq!(pair_by(Cipher::Aes256Gcm, 5).1.open(&packet), Err(OpenError::Forged));
    let reversed = Direction { from: b, to: a, session_id: &SESSION_ID, cipher: CIPHERS[0] };
    assert_eq!(Opener::new(reversed, LABEL, 6, secret.clone()).open(&packet), Err(OpenError::Forged));
    let other = Direction { from: a, to: b, session_id: &[9; SESSION_ID_BYTES], cipher: CIPHERS[0] };
    assert_eq!(Opener::new(other, LABEL, 6, secret.clone()).open(&packet), Err(OpenError::Forged));
    let same = Direction { from: a, to: b, session_id: &SESSION_ID, cipher: CIPHERS[0] };
    assert_eq!(Opener::new(same, LABEL, 7, secret.clone()).open(&packet), Err(OpenError::Epoch));
    assert_eq!(Opener::new(same, Label([0; 16]), 6, secret).open(&packet), Err(OpenError::Malformed));
}

#[test]
fn steps_are_followed_one_at_a_time_and_old_keys_end() {
    let (mut sealer, mut opener) = pair();
    let (_, late) = sealer.seal(b"late").unwrap();
    let (_, too_late) = sealer.seal(b"too late").unwrap();
    sealer.step();
    let (seq, stepped) = sealer.seal(b"stepped").unwrap();
    assert_eq!((seq, sealer.step_first_seq()), (2, 2), "numbers go on");
    assert_eq!(opener.open(&stepped).unwrap().frames, b"stepped");
    assert_eq!(opener.epoch(), sealer.epoch());
    assert_eq!(opener.open(&late).unwrap().frames, b"late");
    assert!(opener.has_previous());
    opener.forget_previous();
    assert_eq!(opener.open(&too_late), Err(OpenError::Epoch));

    sealer.step();
    sealer.step();
    let (_, ahead) = sealer.seal(b"ahead").unwrap();
    assert_eq!(opener.open(&ahead), Err(OpenError::Epoch), "two steps at once");
    assert_eq!(opener.open(&stepped), Err(OpenError::Replayed));
}

/// A sealer and an opener after so many steps, so quick that nothing was erased but by the steps, and what went over the wire, by step: so many packets under
/// each key, all of which arrived.
fn stepped(steps: u32, packets: usize) -> (Sealer, Opener, Vec<Vec<Vec<u8>>>) {
    let (mut sealer, mut opener) = pair();
    let mut recorded = Vec::new();
    for step in 0..=steps {
        if step > 0 {
            sealer.step();
        }
        let sealed: Vec<_> = (0..packets).map(|_| sealer.seal(b"what was said").unwrap().1).collect();
        sealed.iter().for_each(|packet| drop(opener.open(packet).unwrap()));
        recorded.push(sealed);
    }
    (sealer, opener, recorded)
}

/// How many of the recorded packets whoever has these chains opens, by step: with their keys, with those that the ratchet makes of them, and with those that
/// their secrets would lead to at any other step; each packet as it is, and with the key's epoch in its header.
fn opened_by_a_thief(stolen: Vec<Chain>, aad: &mut Aad, recorded: &[Vec<Vec<u8>>]) -> Vec<usize> {
    let mut chains = Vec::new();
    for chain in stolen {
        let relabelled = |step: usize| Epoch { step: u32::try_from(step).unwrap(), ..chain.epoch };
        let of_secret = |step| Chain::new(relabelled(step), chain.key.cipher(), chain.secret.clone());
        chains.extend((0..recorded.len()).map(of_secret));
        chains.extend(core::iter::successors(Some(chain), |chain| Some(chain.next())).take(recorded.len()));
    }
    let mut opens = |packet: &[u8], chain: &Chain| {
        let Header { label, epoch, seq } = Header::parse(packet).unwrap();
        [epoch, chain.epoch].into_iter().any(|epoch| {
            let mut sealed = packet[HEADER_BYTES..].to_vec();
            chain.key.open(seq, aad.of(&Header { label, epoch, seq }), &mut sealed)
        })
    };
    let mut count = |packets: &[Vec<u8>]| {
        packets.iter().filter(|packet| chains.iter().any(|chain| opens(packet.as_slice(), chain))).count()
    };
    recorded.iter().map(|packets| count(packets)).collect()
}

/// Forward secrecy within an epoch: who steals what a session works with, in the middle of a step, reads what follows, and nothing of the steps before. The
/// key of the last one is there for as long as packets may be late.
fn earlier_steps_stay_closed(steps: u32, packets: usize, thefts: core::ops::RangeInclusive<u32>) {
    let (_, _, recorded) = stepped(steps, packets);
    let since = |first: u32| -> Vec<usize> { (0..=steps).map(|step| packets * usize::from(step >= first)).collect() };
    let stolen = |opener: Opener| [opener.previous, Some(opener.current), Some(opener.next)].into_iter().flatten();
    for theft in thefts {
        let (sealer, mut opener, _) = stepped(theft, packets);
        let mut aad = sealer.aad;
        assert_eq!(opened_by_a_thief(vec![sealer.chain], &mut aad, &recorded), since(theft), "who sends, {theft}");
        let (_, fresh, _) = stepped(theft, packets);
        let opened = opened_by_a_thief(stolen(fresh).collect(), &mut aad, &recorded);
        assert_eq!(opened, since(theft.saturating_sub(1)), "who receives, {theft}, just stepped");

        // The receiver as it is, but for what it remembers of numbers.
        opener.forget_previous();
        opener.window = ReplayWindow::default();
        let (before, after) = recorded.split_at(usize::try_from(theft).unwrap());
        for packet in before.iter().flatten() {
            for step in 0..=steps {
                let mut relabelled = packet.clone();
                relabelled[21..25].copy_from_slice(&step.to_be_bytes());
                assert!(opener.open(&relabelled).is_err(), "{theft}, {step}");
            }
        }
        let (_, mut later, _) = stepped(theft, packets);
        later.forget_previous();
        let opened = opened_by_a_thief(stolen(later).collect(), &mut aad, &recorded);
        assert_eq!(opened, since(theft), "who receives, {theft}");
        after.iter().flatten().for_each(|packet| drop(opener.open(packet).unwrap()));
    }
}

#[test]
fn who_steals_a_live_key_opens_nothing_of_earlier_steps() {
    earlier_steps_stay_closed(8, 5, 0..=8);
}

#[test]
#[ignore = "10^4 packets; for the night"]
fn who_steals_a_live_key_opens_nothing_of_many_packets() {
    earlier_steps_stay_closed(10, 1000, 10..=10);
}

#[test]
fn a_forged_step_moves_nothing() {
    let (mut sealer, mut opener) = pair();
    let (_, mut packet) = sealer.seal(b"x").unwrap();
    packet[24] = 1;
    assert_eq!(opener.open(&packet), Err(OpenError::Forged));
    assert_eq!(opener.epoch(), Epoch { resume: 6, step: 0 });
}

#[test]
fn a_key_wants_a_step_after_its_packets() {
    let (mut sealer, _) = pair();
    assert!(!sealer.wants_step());
    sealer.next_seq = PACKETS_PER_STEP;
    assert!(sealer.wants_step());
    sealer.step();
    assert!(!sealer.wants_step());
    sealer.step_bytes = BYTES_PER_STEP;
    assert!(sealer.wants_step());
    sealer.next_seq = SEQUENCE_MAX + 1;
    assert_eq!(sealer.seal(b"x"), Err(SealError::Exhausted));
    sealer.next_seq = sealer.step_first_seq + PACKETS_PER_KEY_MAX;
    assert_eq!(sealer.seal(b"x"), Err(SealError::Exhausted));
}

#[test]
fn sealing_in_place_is_the_same() {
    let (_, packet) = pair().0.seal(b"frames").unwrap();
    let mut in_place = [[0xff; HEADER_BYTES].as_slice(), b"frames"].concat();
    assert_eq!(pair().0.seal_in_place(&mut in_place), Ok(0));
    assert_eq!(packet, in_place);
}

/// A change here changes the protocol: it needs a new VERSION and a line in CHANGELOG.md.
#[test]
fn golden_packet() {
    let (mut sealer, _) = pair();
    sealer.step();
    sealer.next_seq = 0x0102;
    let (_, packet) = sealer.seal(b"frames").unwrap();
    let header = [[5].as_slice(), &[4; 16], &[0, 0, 0, 6], &[0, 0, 0, 1], &[0, 0, 0, 0, 0, 0, 1, 2]].concat();
    assert_eq!(packet[..HEADER_BYTES], header);
    assert_eq!(
        packet[HEADER_BYTES..],
        [173, 23, 92, 24, 63, 124, 242, 234, 103, 187, 23, 103, 146, 3, 11, 225, 236, 207, 85, 132, 255, 156]
    );
}
