//! The published vectors, and `snow` at the other end.

use overlay::rng::Rng;

use super::*;

/// Our pattern in the words that `snow` knows; the name that is hashed is ours, the KEM too.
const SNOWS_NAME: &str = "Noise_IKhfs_25519+Kyber1024_ChaChaPoly_SHA256";

struct Vector {
    prologue: &'static str,
    statics: [&'static str; 2],
    ephemerals: [&'static str; 2],
    hash: Option<&'static str>,
    payloads: [&'static str; 4],
    messages: [&'static str; 4],
}

/// From cacophony's and snow's vector files, the first four messages.
const VECTORS: [Vector; 2] = [
    Vector {
        prologue: "4a6f686e2047616c74",
        statics: [
            "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
            "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        ],
        ephemerals: [
            "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
            "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
        ],
        hash: Some("0b0f68fb0c27e03ce9b97565995ed4838cc0581b762ef72b062f6a546419fad7"),
        payloads: [
            "4c756477696720766f6e204d69736573",
            "4d757272617920526f746862617264",
            "462e20412e20486179656b",
            "4361726c204d656e676572",
        ],
        messages: [
            "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944718da798efbcd91528520204f904b9bd6c7413dccdc214d951e15253e39987f18146e8cd0873654207148333479d4d16c289f0294b29960a72f48e0b7bba2e89083169825e59642148d492020664ccf7",
            "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088435361e70b2ed446e6c9ec387d1d6b3b840f194e373979d241b203c4acafccf5",
            "050e9f3c8fac16b68dbce8f8c4bfbf6617c897f9ada4aa29aa19c8",
            "344233a6cabb7141d80f3da2fedc311d9646bbb0f505afe403a667",
        ],
    },
    Vector {
        prologue: "5468657265206973206e6f20726967687420616e642077726f6e672e2054686572652773206f6e6c792066756e20616e6420626f72696e672e",
        statics: [
            "f49f93c5112c0787acc808d61716d7e090e076a58f15a3f78d92773f8dcb473b",
            "b790546f98b1e933c48cd01f17e7b281469d46fcacc9a3b584ae65b1d6272e8e",
        ],
        ephemerals: [
            "dae68498c41315cff7e4a34dded8d973199d8f0cf3fcb8b6651c169de77de8be",
            "c0875a5b59c8492bd2135e5432d7d484f938e0a1f5009428c4bcb70b2f69f69f",
        ],
        hash: None,
        payloads: [
            "95a8f51c435a9530ff1f30868ed7b23ec952eb513c26a0774fed82d2978a8c81",
            "b866b807a6d8b83182b884dbfedc861843c5082bd6e480cb54e4245a72083041",
            "e3a4937faef391028f759758b428b57652e0069a8dee64dfed01b60846938740",
            "693972f27b0cb98aeac1fb54d782125431e7540e0cb2fa882cf51a8184d724fd",
        ],
        messages: [
            "6d21fec9141f3f37cc464e936a48b2d9521b5a44e0f3d960895d3c3fba30282f731f445c25e898e2534ac0536715b24308c108fc46bd260c887b36c3f68e3a05654fc8295c068ed53fb2022560961224e0b10b0835e1efc82fc587cd50f7178fe3d9eb06e0351c6e7334162c10bed670bfa2a105f7b2768a140b3fd597782601",
            "e64e1fb8701c4f4bc3850b255fea657d4d835338b059c89acc99628fbe52473b41a4e79e3c1e6abc46bf80f078a005e15d8a3e04f989af3e6cb99b52031165006163ac3e17b928af8c116009d7bf4fb2",
            "2bebe19102169cdfe79cf41e38930bfd20a5b2fc78ccf33e853ddd939c0983174656eb27b61464a607762848892ca1c0",
            "c7c56da33b45d12f4754e17978bd49999c9c8f51d00db460f902aba2e6e245d0c46662f507915de8596f43b1d175f1db",
        ],
    },
];

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn secret(text: &str) -> Secret {
    Secret::from_bytes(&hex(text).try_into().unwrap())
}

fn pair(bytes: &[u8; 32]) -> KeyPair {
    KeyPair::new(Secret::from_bytes(bytes), &mut PublicKeyOps::default())
}

/// The published vectors are of the classical pattern, so its tokens are taken here one by one: what they check is each step.
#[test]
fn published_vectors() {
    for vector in VECTORS {
        let mut ops = PublicKeyOps::default();
        let [a, b] = vector.statics.map(|text| KeyPair::new(secret(text), &mut ops));
        let [ea, eb] = vector.ephemerals.map(|text| KeyPair::new(secret(text), &mut ops));

        let mut state = Symmetric::new(b"Noise_IK_25519_ChaChaPoly_SHA256", &hex(vector.prologue));
        state.mix_hash(&b.public);
        state.mix_hash(&ea.public);
        state.mix_dh(&ea.secret, &b.public, &mut ops).unwrap();
        let mut first = ea.public.to_vec();
        first.extend(state.encrypt(&a.public).unwrap());
        state.mix_dh(&a.secret, &b.public, &mut ops).unwrap();
        first.extend(state.encrypt(&hex(vector.payloads[0])).unwrap());
        assert_eq!(first, hex(vector.messages[0]));

        state.mix_hash(&eb.public);
        state.mix_dh(&eb.secret, &ea.public, &mut ops).unwrap();
        state.mix_dh(&eb.secret, &a.public, &mut ops).unwrap();
        let mut second = eb.public.to_vec();
        second.extend(state.encrypt(&hex(vector.payloads[1])).unwrap());
        assert_eq!(second, hex(vector.messages[1]));

        let split = state.split();
        if let Some(hash) = vector.hash {
            assert_eq!(split.hash.to_vec(), hex(hash));
        }
        for (key, i) in [(&split.first, 2), (&split.second, 3)] {
            let sealed =
                AeadKey::new(Cipher::ChaCha20Poly1305, key).seal_vec(0, &[], &hex(vector.payloads[i])).unwrap();
            assert_eq!(sealed, hex(vector.messages[i]));
        }
    }
}

/// ML-KEM-768 for `snow`, which knows no KEM of its own that is standardised: with the keys and coins of one run.
struct MlKem {
    seed: [u8; 64],
    coins: [u8; 32],
    public: KemKey,
}

impl snow::types::Kem for MlKem {
    fn name(&self) -> &'static str {
        "MLKEM768"
    }

    fn pub_len(&self) -> usize {
        KEM_KEY_BYTES
    }

    fn ciphertext_len(&self) -> usize {
        CIPHERTEXT_BYTES
    }

    fn shared_secret_len(&self) -> usize {
        32
    }

    fn generate(&mut self, _: &mut dyn snow::types::Random) {
        self.public = KemSecret::from_seed(&self.seed, &mut PublicKeyOps::default()).public();
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn encapsulate(&self, key: &[u8], shared: &mut [u8], ciphertext: &mut [u8]) -> Result<(usize, usize), snow::Error> {
        let coins = KemCoins::from_bytes(&self.coins);
        let (sealed, secret) = coins.encapsulate(key.try_into().unwrap(), &mut PublicKeyOps::default()).unwrap();
        shared.copy_from_slice(secret.as_slice());
        ciphertext.copy_from_slice(&sealed);
        Ok((shared.len(), ciphertext.len()))
    }

    fn decapsulate(&self, ciphertext: &[u8], shared: &mut [u8]) -> Result<usize, snow::Error> {
        let mut ops = PublicKeyOps::default();
        let secret = KemSecret::from_seed(&self.seed, &mut ops).open(ciphertext.try_into().unwrap(), &mut ops);
        shared.copy_from_slice(secret.as_slice());
        Ok(shared.len())
    }
}

/// Gives `snow` that KEM, and nothing else.
struct Resolver([u8; 64], [u8; 32]);

impl snow::resolvers::CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn snow::types::Random>> {
        None
    }

    fn resolve_dh(&self, _: &snow::params::DHChoice) -> Option<Box<dyn snow::types::Dh>> {
        None
    }

    fn resolve_hash(&self, _: &snow::params::HashChoice) -> Option<Box<dyn snow::types::Hash>> {
        None
    }

    fn resolve_cipher(&self, _: &snow::params::CipherChoice) -> Option<Box<dyn snow::types::Cipher>> {
        None
    }

    fn resolve_kem(&self, _: &snow::params::KemChoice) -> Option<Box<dyn snow::types::Kem>> {
        Some(Box::new(MlKem { seed: self.0, coins: self.1, public: [0; KEM_KEY_BYTES] }))
    }
}

/// Keys, prologue and payloads of one run.
struct Run {
    bytes: [[u8; 32]; 4],
    seed: [u8; 64],
    coins: [u8; 32],
    prologue: Vec<u8>,
    payloads: [Vec<u8>; 2],
}

impl Run {
    fn random(rng: &mut Rng) -> Self {
        let mut some = |max: u64| {
            let length = rng.below(max);
            (0..length).map(|_| rng.bytes::<1>()[0]).collect::<Vec<u8>>()
        };
        let (prologue, payloads) = (some(80), [some(500), some(300)]);
        let bytes = [rng.bytes(), rng.bytes(), rng.bytes(), rng.bytes()];
        Self { bytes, seed: rng.bytes(), coins: rng.bytes(), prologue, payloads }
    }

    fn a(&self) -> (KeyPair, EphemeralA) {
        let kem = KemSecret::from_seed(&self.seed, &mut PublicKeyOps::default());
        (pair(&self.bytes[0]), EphemeralA { dh: Secret::from_bytes(&self.bytes[2]), kem })
    }

    fn b(&self) -> (KeyPair, EphemeralB) {
        let kem = KemCoins::from_bytes(&self.coins);
        (pair(&self.bytes[1]), EphemeralB { dh: Secret::from_bytes(&self.bytes[3]), kem })
    }

    /// Our own handshake: both messages, and the split of each side.
    fn ours(&self) -> ([Vec<u8>; 2], [Split; 2]) {
        let mut ops = PublicKeyOps::default();
        let ((a, ea), (b, eb)) = (self.a(), self.b());
        let (sent, first) = write_first(&self.prologue, &a, &b.public, ea, &self.payloads[0], &mut ops).unwrap();
        let (read, _) = read_first(&self.prologue, &b, &first, &mut ops).unwrap();
        let (second, b_split) = read.write_second(eb, &self.payloads[1], &mut ops).unwrap();
        let (_, a_split) = sent.read_second(&second, &mut ops).unwrap();
        ([first, second], [a_split, b_split])
    }

    fn snow(&self, initiator: bool) -> snow::HandshakeState {
        let [a, b, ea, eb] = &self.bytes;
        let b_public = Secret::from_bytes(b).public(&mut PublicKeyOps::default());
        let (own, ephemeral) = if initiator { (a, ea) } else { (b, eb) };
        let mut params: snow::params::NoiseParams = SNOWS_NAME.parse().unwrap();
        params.name = String::from_utf8(PROTOCOL_NAME.to_vec()).unwrap();
        let kem = Box::new(Resolver(self.seed, self.coins));
        let resolver = snow::resolvers::FallbackResolver::new(kem, Box::new(snow::resolvers::DefaultResolver));
        let builder = snow::Builder::with_resolver(params, Box::new(resolver))
            .local_private_key(own)
            .unwrap()
            .prologue(&self.prologue)
            .unwrap()
            .fixed_ephemeral_key_for_testing_only(ephemeral);
        if initiator {
            builder.remote_public_key(&b_public).unwrap().build_initiator().unwrap()
        } else {
            builder.build_responder().unwrap()
        }
    }
}

fn snow_writes(state: &mut snow::HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 8192];
    let length = state.write_message(payload, &mut out).unwrap();
    out.truncate(length);
    out
}

fn snow_reads(state: &mut snow::HandshakeState, message: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 8192];
    let length = state.read_message(message, &mut out).unwrap();
    out.truncate(length);
    out
}

#[test]
fn snow_at_either_end_says_the_same_bytes() {
    compare_with_snow(300);
}

#[test]
#[ignore = "minutes; `cargo test --release -p muses -- --ignored`"]
fn snow_at_either_end_says_the_same_bytes_ten_thousand_times() {
    compare_with_snow(10_000);
}

fn compare_with_snow(runs: u32) {
    let mut rng = Rng::from_seed([9; 32]);
    for _ in 0..runs {
        let run = Run::random(&mut rng);
        let ([first, second], [split, _]) = run.ours();

        let mut responder = run.snow(false);
        assert_eq!(snow_reads(&mut responder, &first), run.payloads[0]);
        assert_eq!(snow_writes(&mut responder, &run.payloads[1]), second);
        assert_eq!(responder.get_handshake_hash(), split.hash);

        let mut initiator = run.snow(true);
        assert_eq!(snow_writes(&mut initiator, &run.payloads[0]), first);
        assert_eq!(snow_reads(&mut initiator, &second), run.payloads[1]);
        assert_eq!(initiator.get_handshake_hash(), split.hash);

        let mut transport = initiator.into_transport_mode().unwrap();
        let mut sealed = vec![0; 64];
        let length = transport.write_message(b"over", &mut sealed).unwrap();
        assert_eq!(
            AeadKey::new(Cipher::ChaCha20Poly1305, &split.first).open_vec(0, &[], &sealed[..length]),
            Some(b"over".to_vec())
        );
    }
}

#[test]
fn any_flipped_bit_is_noticed() {
    let run = Run::random(&mut Rng::from_seed([3; 32]));
    let ([first, second], _) = run.ours();
    let mut ops = PublicKeyOps::default();
    let ((a, ea), (b, _)) = (run.a(), run.b());
    for at in 0..first.len() {
        let mut bad = first.clone();
        bad[at] ^= 1 << (at % 8);
        // The top bit of an X25519 key does not count in the product (RFC 7748), but it does in the hash.
        assert!(read_first(&run.prologue, &b, &bad, &mut ops).is_err(), "first, byte {at}");
    }
    let (sent, _) = write_first(&run.prologue, &a, &b.public, ea, &run.payloads[0], &mut ops).unwrap();
    for at in 0..second.len() {
        let mut bad = second.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(sent.read_second(&bad, &mut ops).is_err(), "second, byte {at}");
    }
    assert!(sent.read_second(&second, &mut ops).is_ok(), "forgeries changed nothing");
}

#[test]
fn short_messages_are_refused() {
    let run = Run::random(&mut Rng::from_seed([4; 32]));
    let ([first, _], _) = run.ours();
    let mut ops = PublicKeyOps::default();
    let (b, _) = run.b();
    for length in 0..first.len() {
        assert!(read_first(&run.prologue, &b, &first[..length], &mut ops).is_err());
    }
}

/// The first message, made token by token with the choice of what an attacker may choose: e, e1, s, and who computes `ss`.
fn first_of(e: &KeyPair, e1: &KemKey, s: &PublicKey, ss: (&Secret, &PublicKey), b: &PublicKey) -> Vec<u8> {
    let mut ops = PublicKeyOps::default();
    let mut state = Symmetric::new(PROTOCOL_NAME, b"p");
    state.mix_hash(b);
    state.mix_hash(&e.public);
    state.mix_dh(&e.secret, b, &mut ops).unwrap();
    let mut message = e.public.to_vec();
    message.extend(state.encrypt(e1).unwrap());
    message.extend(state.encrypt(s).unwrap());
    // Where ss is all zeros B stops before this seal, so any key will do.
    let _ = state.mix_dh(ss.0, ss.1, &mut ops);
    message.extend(state.encrypt(b"payload").unwrap());
    message
}

/// Public keys of small order, for which every product is zero: 0, 1, and one of order 8 (RFC 7748, section 6.1; Curve25519's author's list).
const SMALL: [&str; 3] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
];

#[test]
fn every_product_that_is_zero_is_refused() {
    let run = Run::random(&mut Rng::from_seed([4; 32]));
    let mut ops = PublicKeyOps::default();
    let mallory = pair(&[77; 32]);
    let (b, _) = run.b();
    let e1 = run.a().1.kem.public();
    for small in SMALL.map(|text| <PublicKey>::try_from(hex(text)).unwrap()) {
        // es, at A: the key that B's record names. At B: e.
        let (a, ea) = run.a();
        assert_eq!(write_first(b"p", &a, &small, ea, b"", &mut ops).err(), Some(NoiseError::WeakKey), "es at A");
        let mut first = first_of(&mallory, &e1, &mallory.public, (&mallory.secret, &b.public), &b.public);
        assert!(read_first(b"p", &b, &first, &mut ops).is_ok(), "the forger works");
        first[..32].copy_from_slice(&small);
        assert_eq!(read_first(b"p", &b, &first, &mut ops).err(), Some(NoiseError::WeakKey), "es at B");
        // ss, at B: s. (At A it is the key that es has refused.)
        let first = first_of(&mallory, &e1, &small, (&mallory.secret, &small), &b.public);
        assert_eq!(read_first(b"p", &b, &first, &mut ops).err(), Some(NoiseError::WeakKey), "ss at B");
        // ee, at A: B's e; at B, and se at B: keys that es and ss would have refused.
        let (a, ea) = run.a();
        let (sent, _) = write_first(b"p", &a, &b.public, ea, b"", &mut ops).unwrap();
        let mut second = vec![0; SECOND_OVERHEAD_BYTES];
        second[..32].copy_from_slice(&small);
        assert_eq!(sent.read_second(&second, &mut ops).err(), Some(NoiseError::WeakKey), "ee at A");
        for (remote_ephemeral, remote, which) in [(small, a.public, "ee at B"), (a.public, small, "se at B")] {
            let state = Symmetric::new(PROTOCOL_NAME, b"p");
            let read = ReadFirst { state, remote_ephemeral, e1: Box::new(e1), remote };
            assert_eq!(read.write_second(run.b().1, b"", &mut ops).err(), Some(NoiseError::WeakKey), "{which}");
        }
    }
}

#[test]
fn an_encapsulation_key_that_is_none_is_refused() {
    let run = Run::random(&mut Rng::from_seed([5; 32]));
    let mut ops = PublicKeyOps::default();
    let (b, eb) = run.b();
    let mallory = pair(&[77; 32]);
    let first = first_of(&mallory, &[0xff; KEM_KEY_BYTES], &mallory.public, (&mallory.secret, &b.public), &b.public);
    let (read, _) = read_first(b"p", &b, &first, &mut ops).unwrap();
    assert_eq!(read.write_second(eb, b"", &mut ops).err(), Some(NoiseError::WeakKey));
}

/// Every secret goes into the keys: whoever lacks one of them, X25519's or ML-KEM's, has other keys.
#[test]
fn without_the_kems_secret_the_keys_are_others() {
    let run = Run::random(&mut Rng::from_seed([6; 32]));
    let ([first, second], [split, _]) = run.ours();
    let mut ops = PublicKeyOps::default();
    // Somebody who has broken X25519 knows all of A's but the decapsulation key.
    let (a, ea) = run.a();
    let (b, _) = run.b();
    let (mut broken, same) = write_first(&run.prologue, &a, &b.public, ea, &run.payloads[0], &mut ops).unwrap();
    assert_eq!(same, first);
    broken.ephemeral.kem = KemSecret::from_seed(&[1; 64], &mut ops);
    assert_eq!(broken.read_second(&second, &mut ops).err(), Some(NoiseError::Unauthenticated));
    assert_ne!(split.first, split.second);
}

/// What a thief of B's static key can do to B in the name of A (key compromise impersonation): a Hello that B answers. `guess` is what the
/// thief takes for A's static key when the answer comes.
pub(crate) fn first_by_thief(
    prologue: &[u8],
    a: &PublicKey,
    b: &KeyPair,
    payload: &[u8],
    guess: Secret,
) -> (SentFirst, Vec<u8>) {
    let mut ops = PublicKeyOps::default();
    let ephemeral = EphemeralA { dh: Secret::from_bytes(&[78; 32]), kem: KemSecret::from_seed(&[3; 64], &mut ops) };
    let e = ephemeral.dh.public(&mut ops);
    let mut state = Symmetric::new(PROTOCOL_NAME, prologue);
    state.mix_hash(&b.public);
    state.mix_hash(&e);
    state.mix_dh(&ephemeral.dh, &b.public, &mut ops).unwrap();
    let mut message = e.to_vec();
    message.extend(state.encrypt(&ephemeral.kem.public()).unwrap());
    message.extend(state.encrypt(a).unwrap());
    // ss with B's half instead of A's.
    state.mix_dh(&b.secret, a, &mut ops).unwrap();
    message.extend(state.encrypt(payload).unwrap());
    (SentFirst { state, local: guess, ephemeral }, message)
}
