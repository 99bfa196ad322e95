//! What stands in packets of sessions: frames, certificates, the messages of handshake and resume; and the window against replays.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use muses::cert::{CERT_BYTES, IdCert, LocalKeys};
use muses::content::ContentType;
use muses::dh::PublicKeyOps;
use muses::frame::{Frame, Frames, MAX_ACK_BYTES, MAX_ACK_RANGES, MAX_SERVICE_BYTES, MAX_VARINT};

use muses::handshake::{AddressedHello, fuzzing};
use muses::replay::{ReplayWindow, WINDOW_PACKETS};
use muses::resume::{Proposal, ReHello};
use overlay::id::Identity;
use overlay::rng::Rng;
use overlay::time::WallTime;

use crate::script::Script;
use crate::sessions::{Store, WALL_US, secrets};

/// Frames that were taken are within all limits, and mean the same when they are written again, in no more bytes.
pub fn muses_frames(bytes: &[u8]) {
    let Ok(frames) = Frames::new(bytes).collect::<Result<Vec<_>, _>>() else { return };
    assert!(frames.len() <= bytes.len());
    let mut again = Vec::new();
    for frame in &frames {
        match frame {
            Frame::Ack(ack) => {
                assert!((1..=MAX_ACK_RANGES).contains(&ack.ranges.len()));
                let mut bytes = Vec::new();
                ack.encode(&mut bytes);
                assert!(bytes.len() <= MAX_ACK_BYTES);
            }
            Frame::Open { service, .. } => assert!(service.len() <= MAX_SERVICE_BYTES),
            _ => {}
        }
        frame.encode(&mut again);
    }
    assert!(again.len() <= bytes.len());
    let back: Vec<_> = Frames::new(&again).collect::<Result<_, _>>().expect("what was written can be read");
    assert_eq!(back, frames);
}

/// Keys that are made once: with them a session was set up.
struct Ends {
    store: Store,
    local: LocalKeys,
}

static ENDS: LazyLock<Ends> = LazyLock::new(|| {
    let wall = WallTime::from_unix_micros(WALL_US);
    let local = LocalKeys::new(identity(2), &[52; 32], wall, &mut PublicKeyOps::default());
    Ends { store: Store::made(), local }
});

/// The node of this number.
pub fn identity(number: u8) -> Identity {
    Identity::from_secret(&[number; 32])
}

/// No message that was not made with the session's secrets is accepted, whatever it looks like; and a certificate has one encoding.
pub fn muses_messages(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    match script.below(6) {
        0 => certificate(script.rest()),
        1 => resumption(&[&[ContentType::ReHello as u8], script.rest()].concat()),
        2 => resumption(&[&[ContentType::ReHelloAnswer as u8], script.rest()].concat()),
        3 => hello(script.rest()),
        4 => {
            let payload = script.rest();
            if let Some((cert, params)) = fuzzing::hello_a(payload) {
                assert!(cert.len() + params.len() < payload.len());
            }
        }
        _ => {
            let payload = script.rest();
            assert!(fuzzing::hello_b(payload).is_none_or(|params| params.len() < payload.len()));
        }
    }
}

fn certificate(body: &[u8]) {
    let (wall, mut ops) = (WallTime::from_unix_micros(WALL_US), PublicKeyOps::default());
    let signature = identity(1).sign(&[b"muses-static-v1", body].concat());
    let bytes = [body, &signature].concat();
    if let Ok(cert) = IdCert::verify(&bytes, identity(1).id(), wall, &mut ops) {
        assert_eq!(cert.to_bytes(), bytes);
        assert_eq!(bytes.len(), CERT_BYTES);
    }
    assert!(IdCert::verify(body, identity(1).id(), wall, &mut ops).is_err(), "a forged certificate");
}

fn resumption(packet: &[u8]) {
    let ends = &*ENDS;
    let (a, b) = (secrets(&ends.store, 0), secrets(&ends.store, 1));
    assert!(ReHello::verify(&b, packet).is_err(), "a forged Re-Hello");
    let mut rng = Rng::from_seed([1; 32]);
    let mut proposal = Proposal::new(&a, b"", b"", &mut rng).expect("it is short");
    assert!(proposal.handle_answer(&a, packet).is_err() && !proposal.is_reset(&a, packet), "a forged answer");
    if let Some(reset) = ends.local.reset(identity(1).id(), packet) {
        assert!(reset.len() <= packet.len(), "a reset is no longer than the Re-Hello");
    }
}

fn hello(rest: &[u8]) {
    let packet = [&[ContentType::Hello1 as u8], rest].concat();
    // Whatever costs public-key work comes after this.
    assert!(AddressedHello::parse(&ENDS.local, &packet).is_err(), "a forged Hello");
}

/// The window lets each number through once, and otherwise agrees with a set that forgets nothing.
pub fn muses_replay(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut window = ReplayWindow::default();
    let mut seen = BTreeSet::new();
    let mut at = script.number() >> 2;
    while !script.is_empty() {
        let step = script.number() >> 2;
        at = if script.below(2) == 0 { at.saturating_add(step).min(MAX_VARINT) } else { at.saturating_sub(step) };
        let in_window = seen.last().is_none_or(|top| at > *top || top - at < WINDOW_PACKETS);
        let fresh = in_window && !seen.contains(&at);
        assert_eq!(window.is_fresh(at), fresh, "{at}");
        assert_eq!(window.mark(at), fresh, "{at}");
        if fresh {
            seen.insert(at);
        }
    }
}
