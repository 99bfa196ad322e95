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
