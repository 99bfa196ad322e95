use super::*;
use crate::address::{Address, AddressSet, Place};
use crate::time::{Instant, WallTime};
use proptest::prelude::*;

fn key() -> Identity {
    Identity::from_secret(&[7; 32])
}

fn place(word: &[u8], seq: u64) -> Place {
    let address = word.iter().fold(Address::root(), |address, slot| address.child(*slot).unwrap());
    Place { addresses: AddressSet::single(address), seq }
}

fn node(hints: usize) -> NodeRecord {
    NodeRecord {
        id: key().id(),
        seq: 77,
        place: place(&[1, 2, 3], 77),
        static_cert: vec![0xaa; 200],
        hints: (0..hints).map(|n| Hint { id: key().id(), place: place(&[u8::try_from(n).unwrap(); 40], 5) }).collect(),
        multiaddrs: vec!["/ip4/192.0.2.1/tcp/7000".parse().unwrap()],
        flags: FLAG_LEAF,
        lifetime_s: 3600,
    }
}

fn claim() -> NameClaim {
    NameClaim { name: "alice".parse().unwrap(), id: key().id(), seq: 0x0102_0304_0506_0708, lifetime_s: 86_400 }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn records_round_trip() {
    for record in [Record::Node(node(2)), Record::Name(claim())] {
        let signed = SignedRecord::sign(&key(), record.clone()).unwrap();
        assert!(signed.as_bytes().len() <= MAX_RECORD_BYTES);
        let again = SignedRecord::verify(signed.as_bytes()).unwrap();
        assert_eq!(again, signed);
        assert_eq!(again.record(), &record);
        assert_eq!(again.signer(), key().id());
    }
}

#[test]
fn golden_bytes_of_a_claim_and_keys() {
    let signed = SignedRecord::sign(&key(), Record::Name(claim())).unwrap();
    assert_eq!(hex(signed.as_bytes()), CLAIM_HEX);
    assert_eq!(hex(signed.key()), NAME_KEY_HEX);
    assert_eq!(hex(&Query::Node(key().id()).key()), NODE_KEY_HEX);
    let plain = NodeRecord { static_cert: vec![1, 2], ..node(0) };
    let place = plain.place.to_bytes();
    let signed = SignedRecord::sign(&key(), Record::Node(plain)).unwrap();
    let place_hex = format!("{:04x}{}", place.len(), hex(&place));
    assert!(hex(signed.as_bytes()).starts_with(&[NODE_HEAD_HEX, &place_hex, NODE_TAIL_HEX].concat()));
}

const CLAIM_HEX: &str = "02ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c0102030405060708000151800005616c696365c52ac4a1\
    377a3106dde6002e67efd8a2faa27a5c2c8b1d15f497f90e74ad849b1137a18547894eec2497dbc97180350eea19d7f333f0a18cebfc7d65adfff701";
const NAME_KEY_HEX: &str = "506d98cec5ddbcc4f291859c0c563243320d8d233e3000f8f21b7ee9cbbd41b2";
const NODE_KEY_HEX: &str = "5a53d5db3d04770ac1883234f498f643361e3e5c28db76e7af7dadb43ceba2d4";
const NODE_HEAD_HEX: &str =
    "01ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c000000000000004d00000e1001";
const NODE_TAIL_HEX: &str = "000201020001000804c0000201061b58";

#[test]
fn any_flipped_bit_and_any_cut_is_noticed() {
    let signed = SignedRecord::sign(&key(), Record::Name(claim())).unwrap();
    for at in 0..signed.as_bytes().len() {
        for bit in 0..8 {
            let mut bytes = signed.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            assert!(SignedRecord::verify(&bytes).is_err(), "byte {at} bit {bit}");
        }
        assert!(SignedRecord::verify(&signed.as_bytes()[..at]).is_err());
    }
}

#[test]
fn bad_contents_are_refused_even_when_signed() {
    let sign = |body: &[u8]| {
        let signature = key().sign(&[SIGNED_TEXT, body].concat());
        SignedRecord::verify(&[body, &signature].concat()).map(|_| ())
    };
    let good = Record::Name(claim()).to_bytes().unwrap();
    assert_eq!(sign(&good), Ok(()));
    assert_eq!(sign(&[good.as_slice(), &[0]].concat()), Err(RecordError::Malformed));
    let mut capital = good.clone();
    *capital.last_mut().unwrap() = b'E';
    assert_eq!(sign(&capital), Err(RecordError::Malformed));
    let mut kind = good.clone();
    kind[0] = 3;
    assert_eq!(sign(&kind), Err(RecordError::Malformed));
    for lifetime in [0u32, MAX_LIFETIME_S + 1, u32::MAX] {
        let mut bytes = good.clone();
        bytes[41..45].copy_from_slice(&lifetime.to_be_bytes());
        assert_eq!(sign(&bytes), Err(RecordError::Lifetime));
    }
    // A place numbered otherwise than its record.
    let mut bytes = Record::Node(node(0)).to_bytes().unwrap();
    bytes[40] ^= 1;
    assert_eq!(sign(&bytes), Err(RecordError::Malformed));
}

#[test]
fn hints_are_dropped_until_it_fits() {
    let long = NodeRecord { static_cert: vec![1; MAX_CERT_BYTES], ..node(4) };
    let long = NodeRecord {
        hints: long.hints.iter().map(|hint| Hint { place: place(&[200; 100], 5), ..hint.clone() }).collect(),
        ..long
    };
    let signed = SignedRecord::sign(&key(), Record::Node(long)).unwrap();
    let kept = SignedRecord::verify(signed.as_bytes()).unwrap();
    assert!(kept.node().unwrap().hints.len() < 4);
    assert_eq!(kept.node().unwrap().multiaddrs.len(), 1);
    let cert = NodeRecord { static_cert: vec![1; MAX_CERT_BYTES + 1], ..node(0) };
    assert_eq!(SignedRecord::sign(&key(), Record::Node(cert)).map(|_| ()), Err(RecordError::TooLong));
    let other = Identity::from_secret(&[8; 32]);
    assert_eq!(SignedRecord::sign(&other, Record::Node(node(0))).map(|_| ()), Err(RecordError::NotOwn));
}

#[test]
fn numbers_rise_with_the_clock_and_without() {
    let now = Now { instant: Instant::ZERO, wall: WallTime::from_unix_micros(100) };
    assert_eq!(next_seq(5, now), 100);
    assert_eq!(next_seq(500, now), 501);
    assert_eq!(next_seq(u64::MAX, now), u64::MAX);
}

proptest! {
    #[test]
    fn noise_never_panics(body in prop::collection::vec(any::<u8>(), 0..400), kind in 0u8..4) {
        let _ = SignedRecord::verify(&body);
        // Signed noise gets to the inner decoders.
        let head = [[kind].as_slice(), key().id().as_bytes(), &[0; 8], &[0, 0, 0, 9], &body].concat();
        let signature = key().sign(&[SIGNED_TEXT, &head].concat());
        if let Ok(record) = SignedRecord::verify(&[head.as_slice(), &signature].concat()) {
            prop_assert_eq!(record.lifetime_s(), 9);
        }
    }
}

#[test]
fn a_revocation_by_the_identity_or_by_a_key_that_it_has_endorsed() {
    let (identity, recovery, mallory) = (key(), Identity::from_secret(&[9; 32]), Identity::from_secret(&[8; 32]));
    let endorsed = Endorsed::make(&identity, recovery.id());
    let own = SignedRecord::revoke(&identity);
    let recovered = SignedRecord::revoke_by(&recovery, identity.id(), endorsed.clone());
    for good in [&own, &recovered] {
        let read = SignedRecord::verify(good.as_bytes()).unwrap();
        assert_eq!((&read, read.seq(), read.signer()), (good, u64::MAX, identity.id()));
        assert_eq!(read.query(), Query::Node(identity.id()), "it lies where the node's record does");
        for bit in 0..good.as_bytes().len() * 8 {
            let mut bad = good.as_bytes().to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SignedRecord::verify(&bad).is_err(), "bit {bit}");
        }
    }
    let forgeries = [
        SignedRecord::revoke_by(&mallory, identity.id(), Endorsed::make(&mallory, mallory.id())),
        SignedRecord::revoke_by(&mallory, identity.id(), endorsed.clone()),
        SignedRecord::revoke_by(&recovery, mallory.id(), endorsed),
    ];
    for forged in forgeries {
        assert_eq!(SignedRecord::verify(forged.as_bytes()), Err(RecordError::Signature));
    }
    // Golden.
    let body = [[3].as_slice(), identity.id().as_bytes(), &[0xff; 8], &MAX_LIFETIME_S.to_be_bytes(), &[0]].concat();
    assert_eq!(own.as_bytes()[..body.len()], body);
    assert_eq!(own.as_bytes().len(), body.len() + SIGNATURE_BYTES);
}

#[test]
fn nothing_else_has_the_number_of_a_revocation() {
    let mut claim = claim();
    claim.seq = u64::MAX;
    let record = Record::Name(claim);
    assert_eq!(SignedRecord::sign(&key(), record.clone()).map(|_| ()), Err(RecordError::Malformed));
    let sealed = SignedRecord::seal(&key(), record.clone(), record.to_bytes().unwrap());
    assert_eq!(SignedRecord::verify(sealed.as_bytes()), Err(RecordError::Malformed));
}
