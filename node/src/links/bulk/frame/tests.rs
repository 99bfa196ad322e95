use overlay::address::{Address, AddressSet, Place};
use overlay::id::NodeId;
use proptest::prelude::*;

use super::*;

const KEY: [u8; 32] = [7; 32];

/// Bytes of which no two stretches are alike.
fn scrambled(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]
}

/// A routed packet whose payload begins with `first`.
fn routed(kind: Kind, first: u8, payload_bytes: usize) -> Vec<u8> {
    let place = |seq| Place { addresses: AddressSet::single(Address::root()), seq };
    let (src, dst) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
    let mut payload: Vec<u8> = (0..payload_bytes).map(scrambled).collect();
    payload[0] = first;
    Header::new(kind, src, place(1), dst, place(2), 9).with_payload(&payload)
}

fn session_data(payload_bytes: usize) -> Vec<u8> {
    routed(Kind::Data, 5, payload_bytes)
}

fn seal(sealer: &mut Sealer, frame: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let open = sealer.seal(frame, &mut wire).unwrap();
    wire.extend_from_slice(&frame[open]);
    wire
}

fn open(opener: &mut Opener, wire: &[u8]) -> Result<Vec<u8>, BadFrame> {
    let head_bytes = Opener::head_bytes(wire)?.unwrap();
    let mut head = wire.get(..head_bytes).ok_or(BadFrame::Lengths)?.to_vec();
    let mut frame = opener.open(&mut head)?;
    assert_eq!(frame.missing_bytes(), wire.len() - head_bytes);
    frame.bytes.extend_from_slice(&wire[head_bytes..]);
    Ok(frame.finish())
}

#[test]
fn what_is_sealed_is_opened() {
    let (mut sealer, mut opener) = (Sealer::new(&KEY), Opener::new(&KEY));
    let longest = MAX_DATA_FRAME_BYTES - (session_data(1).len() - 1);
    for frame in [
        Vec::new(),
        b"x".to_vec(),
        vec![0xff; MAX_DATA_FRAME_BYTES],
        session_data(60),
        session_data(5000),
        session_data(longest),
        routed(Kind::Data, 1, 5000),
        routed(Kind::EchoRequest, 5, 5000),
    ] {
        let wire = seal(&mut sealer, &frame);
        assert!(open(&mut opener, &wire).as_ref() == Ok(&frame), "{} bytes", frame.len());
    }
    assert_eq!(sealer.seal(&vec![0; MAX_DATA_FRAME_BYTES + 1], &mut Vec::new()), None);
}

#[test]
fn only_the_ciphertext_of_session_data_is_open() {
    let frame = session_data(2000);
    let header = frame.len() - 2000;
    assert_eq!(open_part(&frame), Some(header + muses::packet::HEADER_BYTES..frame.len() - 16));
    assert_eq!(open_part(&session_data(MIN_OPEN_BYTES - header - 1)), None, "small");
    assert_eq!(open_part(&routed(Kind::EchoRequest, 5, 2000)), None, "not of a session");
    for first in (0..=255).filter(|first| *first != 5) {
        assert_eq!(open_part(&routed(Kind::Data, first, 2000)), None, "ConTYPE {first}");
    }
    assert_eq!(open_part(&vec![0x10; 2000]), None, "not a packet");
    // None of the rest is to be seen.
    let wire = seal(&mut Sealer::new(&KEY), &frame);
    let sees = |part: &[u8]| wire.windows(part.len()).any(|seen| seen == part);
    assert!(sees(&frame[header + 40..header + 100]));
    assert!(!sees(&[1; 8]) && !sees(&[2; 8]), "node ids");
    assert!(!sees(&frame[header..header + 8]) && !sees(&frame[header + 17..header + 33]), "label, epoch, number");
    assert!(!sees(&frame[frame.len() - 16..]), "tag");
}

#[test]
fn every_bit_of_the_protected_part_counts() {
    for frame in [session_data(1500), session_data(100), b"hi".to_vec()] {
        let wire = seal(&mut Sealer::new(&KEY), &frame);
        let head_bytes = Opener::head_bytes(&wire).unwrap().unwrap();
        for bit in 0..8 * head_bytes {
            let mut changed = wire.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&mut Opener::new(&KEY), &changed).is_err(), "bit {bit}");
        }
        assert!(open(&mut Opener::new(&[8; 32]), &wire).is_err());
    }
}

#[test]
fn frames_come_once_and_in_order() {
    let mut sealer = Sealer::new(&KEY);
    let wires: Vec<_> = (0..3).map(|_| seal(&mut sealer, &session_data(1500))).collect();
    for order in [[0, 0, 1], [1, 0, 2], [0, 2, 1]] {
        let mut opener = Opener::new(&KEY);
        let all = order.map(|number| open(&mut opener, &wires[number]));
        assert!(all.contains(&Err(BadFrame::Forged)), "{order:?}");
    }
}

#[test]
fn hostile_lengths_are_refused_before_anything_is_read() {
    let lengths = |sealed: u32, open: u32| {
        Opener::head_bytes(&[sealed.to_le_bytes(), open.to_le_bytes()].concat()).map(Option::unwrap)
    };
    let most = u32::try_from(MAX_DATA_FRAME_BYTES).unwrap();
    assert_eq!(lengths(most, 0), Ok(8 + MAX_DATA_FRAME_BYTES + 16));
    assert_eq!(lengths(16, most - 16), Ok(8 + 16 + 16));
    assert_eq!(lengths(0, 0), Ok(24));
    for (sealed, open) in [(most + 1, 0), (u32::MAX, u32::MAX), (16, most - 15), (15, 1), (0, u32::MAX), (u32::MAX, 1)]
    {
        assert_eq!(lengths(sealed, open), Err(BadFrame::Lengths), "{sealed} {open}");
    }
    assert_eq!(Opener::head_bytes(&[0; 7]), Ok(None));
}

#[test]
fn golden_vector() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut sealer = Sealer::new(&KEY);
    assert_eq!(hex(&seal(&mut sealer, b"hi")), "02000000000000005fedaffcd1c64bb8830496b3b2c53df272e0");
    let frame = session_data(1024);
    let wire = seal(&mut sealer, &frame);
    assert_eq!(hex(&wire[..8]), "9e000000cf030000");
    assert_eq!(hex(&wire[8..40]), "aa5330202576b153ca2e5c195b76e0f6a13edf4ba1352a1f336f2c2a4ff390bd");
    let head_bytes = Opener::head_bytes(&wire).unwrap().unwrap();
    assert_eq!(hex(&wire[head_bytes - 16..head_bytes]), "f2a76c83f612efa17125a0cd2cbf4a91");
    assert_eq!(wire[head_bytes..], frame[frame.len() - 1024 + 33..frame.len() - 16]);
}

proptest! {
    #[test]
    fn garbage_is_refused(mut garbage in proptest::collection::vec(any::<u8>(), 0..300), small in any::<bool>()) {
        if small && garbage.len() >= 8 {
            garbage[1..4].fill(0);
            garbage[5..8].fill(0);
        }
        if let Ok(Some(head_bytes)) = Opener::head_bytes(&garbage)
            && let Some(head) = garbage.get_mut(..head_bytes)
        {
            prop_assert!(Opener::new(&KEY).open(head).is_err());
        }
    }
}
