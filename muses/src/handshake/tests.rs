use overlay::id::Identity;
use overlay::time::Now;

use super::*;
use crate::cert::PREVIOUS_KEY_KEPT;
use crate::dh::KeyPair;

/// Two nodes that know each other's certificates.
pub(crate) struct Pair {
    pub(crate) a: LocalKeys,
    pub(crate) b: LocalKeys,
    pub(crate) rng: Rng,
    pub(crate) ops: PublicKeyOps,
    /// What each says of itself.
    params: [&'static [u8]; 2],
}

impl Pair {
    pub(crate) fn new() -> Self {
        let mut ops = PublicKeyOps::default();
        let mut keys =
            |n: u8| LocalKeys::new(Identity::from_secret(&[n; 32]), &[n + 100; 32], WallTime::default(), &mut ops);
        let (a, b) = (keys(1), keys(2));
        Self { a, b, rng: Rng::from_seed([7; 32]), ops, params: [b"from a", b"from b"] }
    }

    fn hello(&mut self) -> (Initiator, Vec<u8>) {
        let offer = Offer { port: 4000, params: self.params[0] };
        Initiator::start(&self.a, self.b.id(), self.b.cert(), offer, &mut self.rng, &mut self.ops).unwrap()
    }

    fn reply(&mut self, from: NodeId, hello: &[u8]) -> Result<(Responder, Vec<u8>), HandshakeError> {
        let offer = Offer { port: 7, params: self.params[1] };
        let hello = AddressedHello::parse(&self.b, hello)?;
        Responder::handle_hello(&self.b, &hello, from, offer, &mut self.rng, &mut self.ops, WallTime::default())
    }

    /// Runs a handshake through; returns what A and B have.
    pub(crate) fn establish(&mut self) -> (Established, Established) {
        let (mut initiator, hello) = self.hello();
        let (mut responder, reply) = self.reply(self.a.id(), &hello).unwrap();
        let Answered { finished, mut established, pending } =
            initiator.handle_hello(&self.a, &reply, &mut self.ops).ok().unwrap();
        let (finished_b, of_b) = responder.handle_finished(&finished).ok().unwrap();
        pending.handle_finished(&finished_b, &mut established.secrets).unwrap();
        (established, of_b)
    }
}

#[test]
fn four_messages_open_a_session() {
    let mut pair = Pair::new();
    let before = pair.ops.total();
    let (mut a, mut b) = pair.establish();
    // A: e, e1, es, ss, ee, ekem1, se. B: es, ss, A's certificate, e, ee, ekem1, se.
    assert_eq!(pair.ops.total() - before, 7 + OPS_PER_HELLO);
    assert_eq!((a.peer_params.as_slice(), a.peer_port), (b"from b".as_slice(), 7));
    assert_eq!((b.peer_params.as_slice(), b.peer_port), (b"from a".as_slice(), 4000));
    assert_eq!(a.secrets.session_id(), b.secrets.session_id());
    assert_eq!(a.secrets.label(), b.secrets.label());
    assert_eq!((a.secrets.local(), a.secrets.peer()), (pair.a.id(), pair.b.id()));
    assert_eq!((b.secrets.local(), b.secrets.peer()), (pair.b.id(), pair.a.id()));
    assert_eq!((a.secrets.role(), b.secrets.role()), (Role::Initiator, Role::Responder));

    let (seq, packet) = a.sealer.seal(b"ping").unwrap();
    let opened = b.opener.open(&packet).unwrap();
    assert_eq!((opened.seq, opened.frames.as_slice()), (seq, b"ping".as_slice()));
    let (_, packet) = b.sealer.seal(b"pong").unwrap();
    assert_eq!(a.opener.open(&packet).unwrap().frames, b"pong");
}

#[test]
fn packets_are_sealed_by_what_both_do_fast() {
    const FAST: &[u8] = &[Cipher::flags(true)];
    let fast = FAST;
    for params in [[fast, fast], [fast, b"from b"], [b"from a", fast]] {
        let mut pair = Pair { params, ..Pair::new() };
        let (mut a, mut b) = pair.establish();
        let both = params == [fast, fast];
        let agreed = if both { Cipher::Aes256Gcm } else { Cipher::ChaCha20Poly1305 };
        assert_eq!([a.secrets.cipher(), b.secrets.cipher()], [agreed; 2]);
        let (_, packet) = a.sealer.seal(b"ping").unwrap();
        assert_eq!(b.opener.open(&packet).unwrap().frames, b"ping");
    }
}

#[test]
fn session_id_is_the_papers() {
    let mut pair = Pair::new();
    let (initiator, _) = pair.hello();
    let random = initiator.id().0;
    let mut pair = Pair::new();
    let (a, _) = pair.establish();
    let id = a.secrets.session_id();
    assert_eq!(id[..2], 4000u16.to_be_bytes());
    assert_eq!(&id[2..34], pair.a.id().as_bytes());
    assert_eq!(id[34..50], random);
    assert_eq!(id[50..52], 7u16.to_be_bytes());
    assert_eq!(&id[52..84], pair.b.id().as_bytes());
}

#[test]
fn the_reply_is_never_larger_and_all_stay_below_two_kibibytes() {
    let mut pair = Pair::new();
    for params in [vec![], vec![1; MAX_PARAMS_BYTES]] {
        let offer = Offer { port: 1, params: &params };
        let (mut initiator, hello) =
            Initiator::start(&pair.a, pair.b.id(), pair.b.cert(), offer, &mut pair.rng, &mut pair.ops).unwrap();
        assert!((HELLO_BYTES..2048).contains(&hello.len()));
        let big = Offer { port: 1, params: &[2; MAX_PARAMS_BYTES] };
        let wall = WallTime::default();
        let (mut responder, reply) = Responder::handle_hello(
            &pair.b,
            &AddressedHello::parse(&pair.b, &hello).ok().unwrap(),
            pair.a.id(),
            big,
            &mut pair.rng,
            &mut pair.ops,
            wall,
        )
        .unwrap();
        assert!(reply.len() <= hello.len());
        let finished = initiator.handle_hello(&pair.a, &reply, &mut pair.ops).ok().unwrap().finished;
        let (finished_b, _) = responder.handle_finished(&finished).ok().unwrap();
        assert!(finished_b.len() <= finished.len());
    }
    let offer = Offer { port: 1, params: &[0; MAX_PARAMS_BYTES + 1] };
    let refused = Initiator::start(&pair.a, pair.b.id(), pair.b.cert(), offer, &mut pair.rng, &mut pair.ops);
    assert_eq!(refused.err(), Some(HandshakeError::TooLong));
}

#[test]
fn messages_name_their_handshake() {
    let mut pair = Pair::new();
    let (mut initiator, hello) = pair.hello();
    let (mut responder, reply) = pair.reply(pair.a.id(), &hello).unwrap();
    let finished = initiator.handle_hello(&pair.a, &reply, &mut pair.ops).ok().unwrap().finished;
    let (finished_b, _) = responder.handle_finished(&finished).ok().unwrap();
    for (packet, content) in [
        (&hello, ContentType::Hello1),
        (&reply, ContentType::Hello2),
        (&finished, ContentType::FinishedA),
        (&finished_b, ContentType::FinishedB),
    ] {
        assert_eq!(ContentType::of(packet), Some(content));
        assert_eq!(HandshakeId::of(packet), Some(initiator.id()));
    }
}

#[test]
fn any_flipped_bit_of_any_message_is_refused_and_harms_nothing() {
    let mut pair = Pair::new();
    let (mut initiator, hello) = pair.hello();
    for at in 0..hello.len() - 16 {
        let bad = flip(&hello, at);
        assert!(pair.reply(pair.a.id(), &bad).is_err(), "Hello A, byte {at}");
    }
    let (mut responder, reply) = pair.reply(pair.a.id(), &hello).unwrap();
    for at in 0..reply.len() {
        assert!(initiator.handle_hello(&pair.a, &flip(&reply, at), &mut pair.ops).is_err(), "Hello B, byte {at}");
    }
    let mut answered = initiator.handle_hello(&pair.a, &reply, &mut pair.ops).ok().unwrap();
    for at in 0..answered.finished.len() {
        assert!(responder.handle_finished(&flip(&answered.finished, at)).is_err(), "Finished A, byte {at}");
    }
    let (finished, _) = responder.handle_finished(&answered.finished).ok().unwrap();
    for at in 0..finished.len() {
        let refused = answered.pending.handle_finished(&flip(&finished, at), &mut answered.established.secrets);
        assert!(refused.is_err(), "Finished B, byte {at}");
    }
    assert_eq!(answered.pending.handle_finished(&finished, &mut answered.established.secrets), Ok(()));
}

fn flip(packet: &[u8], at: usize) -> Vec<u8> {
    let mut bad = packet.to_vec();
    bad[at] ^= 1 << (at % 8);
    bad
}

#[test]
fn truncated_and_random_packets_are_refused() {
    let mut pair = Pair::new();
    let (mut initiator, hello) = pair.hello();
    for length in 0..hello.len() {
        assert!(pair.reply(pair.a.id(), &hello[..length]).is_err());
    }
    let (mut responder, reply) = pair.reply(pair.a.id(), &hello).unwrap();
    for length in 0..reply.len() {
        assert!(initiator.handle_hello(&pair.a, &reply[..length], &mut pair.ops).is_err());
        assert!(responder.handle_finished(&reply[..length]).is_err());
    }
    assert_eq!(pair.reply(pair.a.id(), &vec![1; 4096]).err(), Some(HandshakeError::Malformed));
}

#[test]
fn another_version_or_suite_is_told_apart_before_any_public_key_work() {
    let mut pair = Pair::new();
    let (_, hello) = pair.hello();
    let before = pair.ops;
    for at in [1, 2] {
        let mut other = hello.clone();
        other[at] = 9;
        assert_eq!(pair.reply(pair.a.id(), &other).err(), Some(HandshakeError::Version));
    }
    let mut noise = hello;
    noise[40] ^= 1;
    assert_eq!(pair.reply(pair.a.id(), &noise).err(), Some(HandshakeError::Mac1));
    assert_eq!(pair.ops, before);
}

/// Whatever an attacker on the way writes over version, suite and flags, mac1 included, which everybody can make: B refuses it. And a B that took it
/// would find the prologue wrong.
#[test]
fn version_suite_and_flags_cannot_be_changed_on_the_way() {
    let mut pair = Pair::new();
    let (_, hello) = pair.hello();
    let key = pair.b.cert().key;
    for at in 1..4 {
        for value in (0..=255).filter(|value| *value != hello[at]) {
            let mut other = hello.clone();
            other[at] = value;
            let mac1_at = other.len() - messages::MAC2_BYTES - messages::MAC1_BYTES;
            let mac1 = messages::mac1_of(&key, &other[..mac1_at]);
            other[mac1_at..mac1_at + messages::MAC1_BYTES].copy_from_slice(&mac1);
            assert_eq!(pair.reply(pair.a.id(), &other).err(), Some(HandshakeError::Version), "byte {at}: {value}");
        }
    }
    let parsed = AddressedHello::parse(&pair.b, &hello).ok().unwrap();
    let prologue = parsed.header.prologue(pair.a.id(), pair.b.id());
    assert!(noise::read_first(&prologue, parsed.key, parsed.message, &mut pair.ops).is_ok());
    for at in 0..prologue.len() {
        let mut other = prologue.clone();
        other[at] ^= 1;
        let read = noise::read_first(&other, parsed.key, parsed.message, &mut pair.ops);
        assert_eq!(read.err(), Some(NoiseError::Unauthenticated), "prologue, byte {at}");
    }
}

/// A Hello to `b` in the name of A, made by whoever stole B's static key.
pub(crate) struct Thief {
    pub(crate) hello: Vec<u8>,
    state: SentFirst,
}

impl Thief {
    /// `guess` stands for A's static key, which the thief does not have.
    pub(crate) fn new(a: NodeId, a_cert: &IdCert, b: NodeId, b_pair: &KeyPair, guess: &[u8; 32]) -> Self {
        let header = Header::new(HandshakeId([5; 16]));
        let payload = HelloA::payload(Offer { port: 0, params: &[] }, a_cert).unwrap();
        let prologue = header.prologue(a, b);
        let guess = Secret::from_bytes(guess);
        let (state, message) = noise::tests::first_by_thief(&prologue, &a_cert.key, b_pair, &payload, guess);
        Self { hello: HelloA::packet(&header, &message, &b_pair.public), state }
    }

    /// Whether the thief can read B's Hello, and so have the session's keys.
    pub(crate) fn reads(&self, reply: &[u8]) -> bool {
        self.state.read_second(&reply[messages::HEADER_BYTES..], &mut PublicKeyOps::default()).is_ok()
    }
}

#[test]
fn the_previous_key_still_answers_until_it_is_erased() {
    let mut pair = Pair::new();
    let (mut initiator, hello) = pair.hello();
    let now = Now::default();
    pair.b.change_key(&[99; 32], now, &mut pair.ops);
    assert_eq!(pair.b.cert().epoch, 1);
    // To the old key, known from the old record; and to the new one.
    let (mut responder, reply) = pair.reply(pair.a.id(), &hello).unwrap();
    let answered = initiator.handle_hello(&pair.a, &reply, &mut pair.ops).ok().unwrap();
    assert!(responder.handle_finished(&answered.finished).is_ok());
    pair.establish();

    let until = now.instant + PREVIOUS_KEY_KEPT;
    assert_eq!(pair.b.forget_previous(now.instant), Some(until));
    assert!(pair.reply(pair.a.id(), &hello).is_ok());
    assert_eq!(pair.b.forget_previous(until), None);
    assert_eq!(pair.reply(pair.a.id(), &hello).err(), Some(HandshakeError::Mac1));
    pair.establish();
}

#[test]
fn a_handshake_survives_a_change_of_its_own_key() {
    let mut pair = Pair::new();
    let (mut initiator, hello) = pair.hello();
    let (mut responder, reply) = pair.reply(pair.a.id(), &hello).unwrap();
    pair.a.change_key(&[99; 32], Now::default(), &mut pair.ops);
    let answered = initiator.handle_hello(&pair.a, &reply, &mut pair.ops).ok().unwrap();
    assert!(responder.handle_finished(&answered.finished).is_ok());
}

#[test]
fn a_hello_counts_only_from_the_node_it_names() {
    let mut pair = Pair::new();
    let (_, hello) = pair.hello();
    let mallory = Identity::from_secret(&[9; 32]).id();
    assert_eq!(pair.reply(mallory, &hello).err(), Some(HandshakeError::Unauthenticated));
}

#[test]
fn a_certificate_of_somebody_else_is_refused() {
    let mut pair = Pair::new();
    // Mallory holds her own static key but sends A's certificate, as A.
    let mut ops = PublicKeyOps::default();
    let mallory = KeyPair::new(Secret::from_bytes(&[66; 32]), &mut ops);
    let offer = Offer { port: 1, params: &[] };
    let payload = HelloA::payload(offer, pair.a.cert()).unwrap();
    let header = Header::new(HandshakeId([5; 16]));
    let prologue = header.prologue(pair.a.id(), pair.b.id());
    let key = pair.b.cert().key;
    let kem = KemSecret::from_seed(&[68; 64], &mut ops);
    let ephemeral = EphemeralA { dh: Secret::from_bytes(&[67; 32]), kem };
    let (_, message) = noise::write_first(&prologue, &mallory, &key, ephemeral, &payload, &mut ops).unwrap();
    let hello = HelloA::packet(&header, &message, &key);
    assert_eq!(pair.reply(pair.a.id(), &hello).err(), Some(HandshakeError::Unauthenticated));
}

#[test]
fn each_step_yields_keys_once() {
    let mut pair = Pair::new();
    let (mut initiator, hello) = pair.hello();
    let (mut responder, reply) = pair.reply(pair.a.id(), &hello).unwrap();
    let answered = initiator.handle_hello(&pair.a, &reply, &mut pair.ops).ok().unwrap();
    assert!(initiator.handle_hello(&pair.a, &reply, &mut pair.ops).is_err());
    assert!(responder.handle_finished(&answered.finished).is_ok());
    assert!(responder.handle_finished(&answered.finished).is_err());
}

/// A change here changes the protocol: it needs a new VERSION and a line in CHANGELOG.md.
#[test]
fn golden_messages() {
    let mut pair = Pair::new();
    let (mut initiator, hello) = pair.hello();
    let (mut responder, reply) = pair.reply(pair.a.id(), &hello).unwrap();
    let mut answered = initiator.handle_hello(&pair.a, &reply, &mut pair.ops).ok().unwrap();
    let (finished_b, _) = responder.handle_finished(&answered.finished).ok().unwrap();
    let (_, packet) = answered.established.sealer.seal(b"frames").unwrap();
    assert_eq!(hello[..4], [1, VERSION, SUITE, 0]);
    let digests: Vec<String> = [&hello, &reply, &answered.finished, &finished_b, &packet]
        .map(|bytes| crate::kdf::sha256(&[bytes])[..8].iter().map(|byte| format!("{byte:02x}")).collect())
        .to_vec();
    let lengths = [&hello, &reply, &answered.finished, &finished_b, &packet].map(Vec::len);
    assert_eq!(lengths, [1474, 1198, 100, 100, 55]);
    assert_eq!(
        digests,
        ["f520cc880148148d", "5b10ea59d509c4f8", "b13f2989d11d9c02", "d9fe1d518d816de4", "b522c1c53cc4822f"]
    );
}
