//! The keys of one bulk lane: see the derivation in [`super`].

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use overlay::id::NodeId;
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

/// What each side adds to the secret.
pub(super) const RANDOM_BYTES: usize = 32;
/// Length of a lane's name.
pub(super) const NAME_BYTES: usize = 16;
/// Length of a proof.
pub(super) const PROOF_BYTES: usize = 32;
/// The first byte of a bulk connection. libp2p's first is the length of a protocol name.
pub(super) const FIRST_BYTE: u8 = 0;
/// What D sends first: the first byte, the name, the proof.
pub(super) const KNOCK_BYTES: usize = 1 + NAME_BYTES + PROOF_BYTES;

const INFO: &[u8] = b"cloak-bulk-v1 ";
const KEY_BYTES: usize = 32;
const ALL_BYTES: usize = NAME_BYTES + 4 * KEY_BYTES;

/// Which end of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// It dialled the link.
    Dialler,
    /// It accepted the link.
    Acceptor,
}

/// All that is derived for one lane.
pub(in crate::links) struct Keys(Zeroizing<[u8; ALL_BYTES]>);

/// The keys of a lane's frames, as one end uses them.
pub(super) struct FrameKeys {
    pub(super) seal: Zeroizing<[u8; KEY_BYTES]>,
    pub(super) open: Zeroizing<[u8; KEY_BYTES]>,
}

impl Keys {
    /// The keys of this attempt; D's random bytes and id come first.
    pub(super) fn derive(
        of_d: &[u8; RANDOM_BYTES],
        of_a: &[u8; RANDOM_BYTES],
        (d, a): (NodeId, NodeId),
        attempt: u32,
    ) -> Self {
        let mut both = Zeroizing::new([0; 2 * RANDOM_BYTES]);
        both[..RANDOM_BYTES].copy_from_slice(of_d);
        both[RANDOM_BYTES..].copy_from_slice(of_a);
        let mut all = Zeroizing::new([0; ALL_BYTES]);
        let info = [INFO, d.as_bytes(), a.as_bytes(), &attempt.to_be_bytes()];
        const { assert!(ALL_BYTES <= 255 * 32, "the only way in which HKDF-Expand fails") };
        let done = Hkdf::<Sha256>::new(None, both.as_slice()).expand_multi_info(&info, all.as_mut_slice());
        debug_assert!(done.is_ok());
        Self(all)
    }

    pub(super) fn name(&self) -> [u8; NAME_BYTES] {
        self.part(0)
    }

    /// What D sends first.
    pub(super) fn knock(&self) -> [u8; KNOCK_BYTES] {
        let mut knock = [FIRST_BYTE; KNOCK_BYTES];
        knock[1..=NAME_BYTES].copy_from_slice(&self.name());
        let proof = self.mac(Side::Dialler, &knock[..=NAME_BYTES]).finalize().into_bytes();
        knock[1 + NAME_BYTES..].copy_from_slice(&proof);
        knock
    }

    /// Whether `knock` is D's, in constant time.
    pub(super) fn is_knock(&self, knock: &[u8; KNOCK_BYTES]) -> bool {
        let (said, proof) = knock.split_at(1 + NAME_BYTES);
        self.mac(Side::Dialler, said).verify_slice(proof).is_ok()
    }

    /// A's answer.
    pub(super) fn answer(&self) -> [u8; PROOF_BYTES] {
        self.mac(Side::Acceptor, &self.knock()).finalize().into_bytes().into()
    }

    /// Whether `answer` is A's, in constant time.
    pub(super) fn is_answer(&self, answer: &[u8; PROOF_BYTES]) -> bool {
        self.mac(Side::Acceptor, &self.knock()).verify_slice(answer).is_ok()
    }

    /// The frames' keys at this end.
    pub(super) fn of(&self, side: Side) -> FrameKeys {
        let (d_to_a, a_to_d) = (
            Zeroizing::new(self.part(NAME_BYTES + 2 * KEY_BYTES)),
            Zeroizing::new(self.part(NAME_BYTES + 3 * KEY_BYTES)),
        );
        match side {
            Side::Dialler => FrameKeys { seal: d_to_a, open: a_to_d },
            Side::Acceptor => FrameKeys { seal: a_to_d, open: d_to_a },
        }
    }

    fn mac(&self, side: Side, text: &[u8]) -> Hmac<Sha256> {
        let at = match side {
            Side::Dialler => NAME_BYTES,
            Side::Acceptor => NAME_BYTES + KEY_BYTES,
        };
        // A key shorter than the block is padded with zeros (RFC 2104), which spares the fallible constructor.
        let mut block = [0; 64];
        block[..KEY_BYTES].copy_from_slice(&self.part::<KEY_BYTES>(at));
        let mac = Hmac::<Sha256>::new(&block.into()).chain_update(text);
        block.zeroize();
        mac
    }

    /// `at` and `N` are constants within the whole.
    fn part<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(attempt: u32) -> Keys {
        Keys::derive(&[1; 32], &[2; 32], (NodeId::from_bytes([3; 32]), NodeId::from_bytes([4; 32])), attempt)
    }

    #[test]
    fn golden_vector() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let keys = keys(5);
        assert_eq!(
            hex(&keys.knock()),
            "00a9e7ec949fb2a2fafaffcb0a3beb95c3b9bd95bc71598476d89f65bfcb404cbf2d6c6b5af30853e190f0b2853dc04e65"
        );
        assert_eq!(hex(&keys.answer()), "0ddb961bfc7b8119118fbbaf72c2ce8ea01bcfabe0c4cfb72244fd68d116a339");
        assert_eq!(
            hex(keys.of(Side::Dialler).seal.as_slice()),
            "84173c15f050fc0ba27210111595423808b5d1105de7a08478b3aaf562613a14"
        );
    }

    #[test]
    fn proofs_and_keys_belong_to_one_end_of_one_attempt() {
        let (one, other) = (keys(1), keys(2));
        assert!(one.is_knock(&one.knock()) && one.is_answer(&one.answer()));
        assert!(!other.is_knock(&one.knock()) && !other.is_answer(&one.answer()));
        let mut forged = one.knock();
        forged[KNOCK_BYTES - 1] ^= 1;
        assert!(!one.is_knock(&forged));
        let (d, a) = (one.of(Side::Dialler), one.of(Side::Acceptor));
        assert!(d.seal == a.open && d.open == a.seal && d.seal != d.open);
        let distinct: std::collections::BTreeSet<_> =
            [0, 32, 64, 96].map(|at| one.part::<32>(NAME_BYTES + at)).into_iter().collect();
        assert_eq!(distinct.len(), 4);
    }
}
