use overlay::codec;

use super::*;
use crate::handshake::Established;
use crate::handshake::tests::Pair;
use crate::keys::MAX_SECRETS_BYTES;
use crate::packet::{Opener, Sealer};

#[path = "ladder_tests.rs"]
mod ladder;

/// A session of two ends, with what each keeps.
struct Session {
    pair: Pair,
    a: End,
    b: End,
}

struct End {
    secrets: Secrets,
    sealer: Sealer,
    opener: Opener,
}

impl End {
    fn new(established: Established) -> Self {
        let Established { secrets, sealer, opener, .. } = established;
        Self { secrets, sealer, opener }
    }

    fn adopt(&mut self, agreed: Agreed) {
        (self.sealer, self.opener) = self.secrets.adopt(agreed);
    }

    /// What is left after a crash: what was stored.
    fn stored(&self) -> Secrets {
        codec::decode::<Secrets, MAX_SECRETS_BYTES>(&codec::encode(&self.secrets).unwrap()).unwrap()
    }
}

impl Session {
    fn new() -> Self {
        let mut pair = Pair::new();
        let (a, b) = pair.establish();
        Self { pair, a: End::new(a), b: End::new(b) }
    }

    fn propose(&mut self) -> Proposal {
        Proposal::new(&self.a.secrets, b"a has 9", b"/here", &mut self.pair.rng).ok().unwrap()
    }

    fn answer(&mut self, packet: &[u8]) -> Result<(Vec<u8>, Agreed), ResumeError> {
        let hello = ReHello::verify(&self.b.secrets, packet)?;
        assert_eq!((hello.received.as_slice(), hello.path.as_slice()), (b"a has 9".as_slice(), b"/here".as_slice()));
        hello.answer(&mut self.b.secrets, b"b has 8", &mut self.pair.rng)
    }

    /// A resumes; A's first packet arrives, B's does not yet.
    fn resume(&mut self) {
        let mut proposal = self.propose();
        let (packet, mut at_b) = self.answer(proposal.packet()).ok().unwrap();
        let (answer, agreed) = proposal.handle_answer(&self.a.secrets, &packet).ok().unwrap();
        assert_eq!(answer.received, b"b has 8");
        self.a.adopt(agreed);
        let (_, first) = self.a.sealer.seal(b"first").unwrap();
        assert_eq!(at_b.open(&first).unwrap().frames, b"first");
        self.b.adopt(at_b);
    }

    fn settle(&mut self) {
        let (_, packet) = self.b.sealer.seal(b"back").unwrap();
        assert_eq!(self.a.opener.open(&packet).unwrap().frames, b"back");
        assert!(self.a.secrets.settle());
        assert!(!self.a.secrets.settle());
        self.a.secrets.forget_previous();
        self.b.secrets.forget_previous();
    }
}

#[test]
fn a_session_resumes_again_and_again_without_public_keys() {
    let mut session = Session::new();
    let before = session.pair.ops;
    for _ in 0..50 {
        session.resume();
        session.settle();
    }
    assert_eq!(session.pair.ops, before);
    assert_eq!(session.a.secrets.current.generation, 50);
    assert!(session.a.secrets.current.secret == session.b.secrets.current.secret);
}

/// What a thief of A's stored state can make of the nonces and the first packet of a later resume.
fn thief_reads_the_next_resume(session: &mut Session, stolen: &Secrets) -> bool {
    let mut proposal = session.propose();
    let (packet, _) = session.answer(proposal.packet()).ok().unwrap();
    let nonces = |range: core::ops::Range<usize>| -> [u8; 32] { packet[range].try_into().unwrap() };
    let (na, nb) = (nonces(25..57), nonces(57..89));
    let (_, agreed) = proposal.handle_answer(&session.a.secrets, &packet).ok().unwrap();
    session.a.adopt(agreed);
    let (_, first) = session.a.sealer.seal(b"first").unwrap();
    // The thief opens what A sends, so it takes the part of B.
    let mut as_b = stolen.clone();
    as_b.take_the_other_part();
    as_b.agree(&stolen.current, [&na, &nb], stolen.last_resume + 1, true).open(&first).is_ok()
}

#[test]
fn a_stolen_resume_secret_is_worth_nothing_after_a_refresh() {
    let mut session = Session::new();
    let stolen = session.a.stored();
    assert!(thief_reads_the_next_resume(&mut session, &stolen), "or this test shows nothing");
    let mut session = Session::new();
    let stolen = session.a.stored();
    let (shared, keys) = ([7; 32], [&[1; 32], &[2; 32]]);
    for end in [&mut session.a, &mut session.b] {
        let next = end.secrets.refreshed(&shared, keys);
        end.secrets.climb(next, true);
        end.secrets.forget_previous();
    }
    assert!(!thief_reads_the_next_resume(&mut session, &stolen));
}

#[test]
fn old_keys_are_dead_after_a_resume() {
    let mut session = Session::new();
    let (_, old) = session.a.sealer.seal(b"old").unwrap();
    session.resume();
    assert!(session.b.opener.open(&old).is_err());
}

#[test]
fn it_works_after_a_restart_of_both() {
    let mut session = Session::new();
    session.resume();
    session.a.secrets = session.a.stored();
    session.b.secrets = session.b.stored();
    session.resume();
    session.settle();
}

#[test]
fn whatever_is_lost_they_share_a_rung() {
    // Each bit of `lost` drops one packet of an attempt; afterwards a complete attempt has to work, whoever begins, also when
    // the answering side has forgotten its previous rung in between.
    for lost in 0..3 {
        for swapped in [false, true] {
            let mut session = Session::new();
            session.resume();
            session.settle();
            let mut proposal = session.propose();
            let (packet, mut at_b) = session.answer(proposal.packet()).ok().unwrap();
            if lost < 2 {
                let (_, agreed) = proposal.handle_answer(&session.a.secrets, &packet).ok().unwrap();
                session.a.adopt(agreed);
                session.a.secrets.forget_previous();
            }
            if lost < 1 {
                let (_, first) = session.a.sealer.seal(b"first").unwrap();
                assert!(at_b.open(&first).is_ok());
                session.b.adopt(at_b);
                session.b.secrets.forget_previous();
            }
            if swapped {
                core::mem::swap(&mut session.a, &mut session.b);
            }
            session.resume();
            session.settle();
        }
    }
}

#[test]
fn a_repeated_rehello_and_a_second_answer_do_not_repeat_keys() {
    let mut session = Session::new();
    let mut proposal = session.propose();
    let (one, first) = session.answer(proposal.packet()).ok().unwrap();
    let (two, second) = session.answer(proposal.packet()).ok().unwrap();
    assert_ne!(one, two);
    assert_ne!(first.epoch(), second.epoch());
    let (_, agreed) = proposal.handle_answer(&session.a.secrets, &two).ok().unwrap();
    assert_eq!(agreed.epoch(), second.epoch());
    assert_eq!(proposal.handle_answer(&session.a.secrets, &two).err(), Some(ResumeError::Malformed));
    assert_eq!(proposal.handle_answer(&session.a.secrets, &one).err(), Some(ResumeError::Malformed));
}

#[test]
fn an_older_secret_ends_in_a_reset() {
    let mut session = Session::new();
    let stale = session.a.stored();
    session.resume();
    session.settle();
    session.resume();
    session.settle();

    // A's disk was rolled back.
    let proposal = Proposal::new(&stale, b"", b"", &mut session.pair.rng).ok().unwrap();
    assert_eq!(ReHello::verify(&session.b.secrets, proposal.packet()).err(), Some(ResumeError::Stale));
    let reset = session.pair.b.reset(session.pair.a.id(), proposal.packet()).unwrap();
    assert!(reset.len() < proposal.packet().len());
    assert!(proposal.is_reset(&stale, &reset));

    // It holds for that Re-Hello only, and not when touched or made by anyone else.
    let again = Proposal::new(&stale, b"", b"", &mut session.pair.rng).ok().unwrap();
    assert!(!again.is_reset(&stale, &reset));
    for at in 0..reset.len() {
        let mut bad = reset.clone();
        bad[at] ^= 1;
        assert!(!proposal.is_reset(&stale, &bad), "byte {at}");
    }
    let by_a = session.pair.a.reset(session.pair.b.id(), proposal.packet()).unwrap();
    assert!(!proposal.is_reset(&stale, &by_a));

    // B's was: the same.
    session.b.secrets = stale_responder();
    let proposal = session.propose();
    assert_eq!(session.answer(proposal.packet()).err(), Some(ResumeError::Stale));
}

/// B's secrets right after the handshake (the same seed gives the same).
fn stale_responder() -> Secrets {
    Session::new().b.secrets.clone()
}

#[test]
fn a_relay_cannot_provoke_a_reset() {
    let mut session = Session::new();
    let proposal = session.propose();
    for at in 0..proposal.packet().len() {
        let mut bad = proposal.packet().to_vec();
        bad[at] ^= 1 << (at % 8);
        let error = ReHello::verify(&session.b.secrets, &bad).err();
        assert!(matches!(error, Some(ResumeError::Forged | ResumeError::Malformed)), "byte {at}: {error:?}");
    }
    for length in 0..proposal.packet().len() {
        let error = ReHello::verify(&session.b.secrets, &proposal.packet()[..length]).err();
        assert!(matches!(error, Some(ResumeError::Forged | ResumeError::Malformed)));
    }
    // Nor can one turn a Re-Hello back to its sender.
    assert_eq!(ReHello::verify(&session.a.secrets, proposal.packet()).err(), Some(ResumeError::Forged));
}

#[test]
fn forged_answers_are_refused_and_harm_nothing() {
    let mut session = Session::new();
    let mut proposal = session.propose();
    let (answer, _) = session.answer(proposal.packet()).ok().unwrap();
    for at in 0..answer.len() {
        let mut bad = answer.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(proposal.handle_answer(&session.a.secrets, &bad).is_err(), "byte {at}");
    }
    let mut other = session.propose();
    assert_eq!(other.handle_answer(&session.a.secrets, &answer).err(), Some(ResumeError::Malformed));
    assert!(proposal.handle_answer(&session.a.secrets, &answer).is_ok());
}

#[test]
fn an_answer_has_room_up_to_the_length_of_the_rehello() {
    let mut session = Session::new();
    for length in [0, 9, 100] {
        let proposal = Proposal::new(&session.a.secrets, &vec![1; length], b"", &mut session.pair.rng).ok().unwrap();
        let hello = ReHello::verify(&session.b.secrets, proposal.packet()).ok().unwrap();
        let received = vec![2; hello.room_for_received()];
        let (answer, _) = hello.answer(&mut session.b.secrets, &received, &mut session.pair.rng).ok().unwrap();
        assert_eq!(answer.len(), proposal.packet().len());
    }
}

#[test]
fn the_largest_messages_stay_below_a_kibibyte_and_larger_ones_are_not_made() {
    let mut session = Session::new();
    // As often as A climbs without hearing of B.
    for _ in 0..MAX_RUNGS {
        let mut proposal = session.propose();
        let (packet, _) = session.answer(proposal.packet()).ok().unwrap();
        let (_, agreed) = proposal.handle_answer(&session.a.secrets, &packet).ok().unwrap();
        session.a.adopt(agreed);
    }
    let (received, path) = ([1; MAX_RECEIVED_BYTES], [2; MAX_PATH_BYTES]);
    let proposal = Proposal::new(&session.a.secrets, &received, &path, &mut session.pair.rng).ok().unwrap();
    assert_eq!(proposal.packet().len(), MAX_RESUME_PACKET_BYTES);
    let hello = ReHello::verify(&session.b.secrets, proposal.packet()).ok().unwrap();
    let (answer, _) = hello.answer(&mut session.b.secrets, &received, &mut session.pair.rng).ok().unwrap();
    assert!(answer.len() < proposal.packet().len());
    let long = [0; MAX_RECEIVED_BYTES + 1];
    assert_eq!(Proposal::new(&session.a.secrets, &long, &[], &mut session.pair.rng).err(), Some(ResumeError::TooLong));
    assert_eq!(Proposal::new(&session.a.secrets, &[], &long, &mut session.pair.rng).err(), Some(ResumeError::TooLong));
}

/// A change here changes the protocol: it needs a new VERSION and a line in CHANGELOG.md.
#[test]
fn golden_messages() {
    let mut session = Session::new();
    let proposal = session.propose();
    let (answer, _) = session.answer(proposal.packet()).ok().unwrap();
    let reset = session.pair.b.reset(session.pair.a.id(), proposal.packet()).unwrap();
    let packets = [proposal.packet(), &answer, &reset];
    assert_eq!(packets.map(<[u8]>::len), [138, 130, 81]);
    assert_eq!(packets.map(|packet| packet[0]), [6, 7, 8]);
    let digests =
        packets.map(|bytes| kdf::sha256(&[bytes])[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    assert_eq!(digests, ["69d46903ed5cbb1e", "74892ae1cd86eea8", "7c5589f35ce4a564"]);
}

/// A packet that somebody recorded, and the resume that led to its key.
struct Recorded {
    resume: usize,
    packet: Vec<u8>,
}

/// All that goes over the wire in `resumes` resumes, with `packets` packets of A's after each: nonces in clear, and the packets.
fn recorded(session: &mut Session, resumes: usize, packets: usize) -> (Vec<[[u8; 32]; 2]>, Vec<Recorded>) {
    let (mut nonces, mut all) = (Vec::new(), Vec::new());
    for resume in 0..resumes {
        let mut proposal = session.propose();
        let (answer, mut at_b) = session.answer(proposal.packet()).ok().unwrap();
        nonces.push([25..57, 57..89].map(|range| answer[range].try_into().unwrap()));
        let (_, agreed) = proposal.handle_answer(&session.a.secrets, &answer).ok().unwrap();
        session.a.adopt(agreed);
        let (_, first) = session.a.sealer.seal(b"first").unwrap();
        at_b.open(&first).unwrap();
        session.b.adopt(at_b);
        for _ in 0..packets {
            all.push(Recorded { resume, packet: session.a.sealer.seal(b"what was said").unwrap().1 });
        }
        let (_, back) = session.b.sealer.seal(b"back").unwrap();
        session.a.opener.open(&back).unwrap();
        session.a.secrets.settle();
        if resume + 1 < resumes {
            session.a.secrets.forget_previous();
            session.b.secrets.forget_previous();
        }
    }
    (nonces, all)
}

/// How many of the recorded packets whoever has `stolen` can open, by resume, with every rung that is in it and every pair of nonces.
fn opened_by_a_thief(stolen: &Secrets, nonces: &[[[u8; 32]; 2]], recorded: &[Recorded]) -> Vec<usize> {
    let mut as_b = stolen.clone();
    as_b.take_the_other_part();
    let mut opened = vec![0; nonces.len()];
    for rung in stolen.rungs() {
        for [na, nb] in nonces {
            for resume in 1..=u32::try_from(nonces.len()).unwrap() {
                let mut guess = as_b.agree(rung, [na, nb], resume, true);
                let meant = recorded.iter().filter(|one| one.resume + 1 == resume as usize);
                meant.for_each(|one| opened[one.resume] += usize::from(guess.open(&one.packet).is_ok()));
            }
        }
    }
    opened
}

/// Forward secrecy: the secret before the present one is there for ten minutes, and what it leads to is what is said since the last resume. What was said
/// before that is closed at once, and all of it when the older secret is erased.
fn what_was_said_stays_closed(resumes: usize, packets: usize) {
    let mut session = Session::new();
    let (nonces, recorded) = recorded(&mut session, resumes, packets);
    let fresh = opened_by_a_thief(&session.a.stored(), &nonces, &recorded);
    assert_eq!(fresh.last(), Some(&packets), "or this thief knows too little");
    assert!(fresh[..resumes - 1].iter().all(|opened| *opened == 0), "{fresh:?}");
    session.a.secrets.forget_previous();
    let later = opened_by_a_thief(&session.a.stored(), &nonces, &recorded);
    assert_eq!(later, vec![0; resumes]);
}

#[test]
fn who_steals_the_state_opens_nothing_of_before() {
    what_was_said_stays_closed(10, 30);
}

#[test]
#[ignore = "10^4 packets; for the night"]
fn who_steals_the_state_opens_nothing_of_many_packets() {
    what_was_said_stays_closed(20, 500);
}
