//! What a peer says, and how much of it is kept.

use overlay::id::NodeId;

use super::super::SentFrame;
use super::*;
use crate::config::{Config, INITIAL_SESSION_CREDIT_BYTES};
use crate::held::Share;

/// The flow of a session with somebody of whom nobody here has taken a stream.
fn stranger(out: &Outbox) -> Flow {
    let config = Config::default().into();
    let mut flow = Flow::new(NodeId::from_bytes([2; 32]), config, Share::of(&out.held), Instant::ZERO);
    flow.set_initiator(true);
    flow
}

/// The flow of who began the handshake, and a peer that says what it likes: each of `frames` in a packet of its own.
fn told<'a>(config: Config, frames: impl IntoIterator<Item = Frame<'a>>) -> (Flow, Vec<Violation>) {
    let out = Outbox::new(&Config::default());
    let mut flow = Flow::new(NodeId::from_bytes([2; 32]), config.into(), Share::of(&out.held), Instant::ZERO);
    // Of a stranger less is taken.
    flow.count_as_used();
    let violations = tell(&mut flow, frames);
    (flow, violations)
}

fn tell<'a>(flow: &mut Flow, frames: impl IntoIterator<Item = Frame<'a>>) -> Vec<Violation> {
    let mut out = Outbox::new(&Config::default());
    flow.set_initiator(true);
    let mut violations = Vec::new();
    for (number, frame) in (0..).zip(frames) {
        let mut payload = Vec::new();
        frame.encode(&mut payload);
        violations.extend(flow.handle(number, &payload, false, Instant::ZERO, &mut out).err());
    }
    violations
}

#[test]
fn of_a_stranger_little_is_kept() {
    let out = Outbox::new(&Config::default());
    let mut flow = stranger(&out);
    let open = (0..1000).map(|index| Frame::Open { stream: 2 * index + 1, port: 0, service: "x" });
    tell(&mut flow, open);
    assert_eq!(flow.stream_count(), UNTAKEN_STREAMS * REFUSED_SPREAD);
    let mut flow = stranger(&out);
    let data = vec![7; 1024];
    let bytes = (0..1000).map(|index| Frame::Stream {
        stream: 2 * (index % 50) + 1,
        offset: index / 50 * 1024,
        fin: false,
        data: &data,
    });
    let violations = tell(&mut flow, bytes);
    assert_eq!(flow.received_bytes, INITIAL_SESSION_CREDIT_BYTES);
    assert_eq!(violations.len(), 1000 - 256);
    let mut flow = stranger(&out);
    tell(&mut flow, (0..1000).map(|index| Frame::Stream { stream: 1, offset: 2 * index + 1, fin: false, data: b"x" }));
    assert_eq!(flow.fragments, UNTAKEN_FRAGMENTS);
}

/// What he resets is thrown away at once, as if somebody read very fast.
#[test]
fn who_resets_what_he_never_sent_gets_no_larger_window() {
    let mut out = Outbox::new(&Config::default());
    let mut flow = stranger(&out);
    flow.set_suspended(false, Instant::ZERO, &mut out);
    // What was taken has the larger window to begin with.
    flow.open(StreamKey(1000), "x", 0);
    let (window, mut sent) = (flow.window.bytes(), 0..);
    for number in 0..200 {
        let mut payload = Vec::new();
        let stream = 2 * number + 3;
        Frame::ResetStream { stream, reason: ResetReason::Application, final_offset: 250_000 }.encode(&mut payload);
        Frame::Stream { stream: 1, offset: number, fin: false, data: b"x" }.encode(&mut payload);
        flow.handle(number, &payload, false, Instant::from_micros(number), &mut out).unwrap();
        flow.exempt = 1;
        assert!(flow.poll(sent.next().unwrap(), 0, Instant::from_micros(number)).is_some());
    }
    // The pool serves what lies there unread, and nothing else.
    assert_eq!((flow.window.bytes(), out.growth.taken()), (window, flow.window.lying_bytes()));
}

/// Anybody may ask those, and they hear a word or two.
#[test]
fn a_service_of_the_node_gives_a_stranger_no_more_until_it_has_read_something() {
    let mut out = Outbox::new(&Config::default());
    let mut flow = stranger(&out);
    let open = Frame::Open { stream: 1, port: 0, service: "~services" };
    let data = vec![7; 64 * 1024];
    let bytes = Frame::Stream { stream: 1, offset: 0, fin: false, data: &data };
    for (number, frame) in (0..).zip([open, bytes]) {
        let mut payload = Vec::new();
        frame.encode(&mut payload);
        flow.handle(number, &payload, false, Instant::ZERO, &mut out).unwrap();
    }
    let (key, _) = out.opened.pop().unwrap();
    flow.accept(key, &mut out);
    assert!(flow.session_limit() <= INITIAL_SESSION_CREDIT_BYTES);
    while matches!(flow.read(key, 1024, &mut out), crate::event::Read::Data(_)) {}
    assert!(flow.session_limit() > 4 * INITIAL_SESSION_CREDIT_BYTES, "it is a file");
}

/// Whom nobody here serves may ask for something else.
#[test]
fn a_stranger_whose_streams_are_over_has_his_credit_back() {
    let mut out = Outbox::new(&Config::default());
    let mut flow = stranger(&out);
    flow.set_suspended(false, Instant::ZERO, &mut out);
    for number in 0..20 {
        let mut payload = Vec::new();
        let stream = 2 * number + 1;
        Frame::ResetStream { stream, reason: ResetReason::Application, final_offset: 200_000 }.encode(&mut payload);
        assert_eq!(flow.handle(number, &payload, false, Instant::ZERO, &mut out), Ok(false), "{number}");
        assert!(flow.poll(number, 0, Instant::ZERO).is_some());
    }
}

#[test]
fn a_reset_stays_within_the_credit() {
    let mut flow = stranger(&Outbox::new(&Config::default()));
    let reset = |stream| Frame::ResetStream { stream, reason: ResetReason::Application, final_offset: 200_000 };
    assert_eq!(tell(&mut flow, [reset(1), reset(3)]), [Violation::Credit]);
    assert_eq!(flow.received_bytes, 200_000);
}

#[test]
fn a_peer_that_never_acknowledges_refusals_is_not_refused_for_ever() {
    let config = Config { max_streams_per_session: 10, ..Config::default() };
    let open = (0..1000).map(|index| Frame::Open { stream: 2 * index + 1, port: 0, service: "x" });
    let (flow, violations) = told(config, open);
    assert_eq!(flow.stream_count(), 10 * REFUSED_SPREAD);
    assert_eq!(violations, vec![Violation::StreamId; 1000 - 10 * REFUSED_SPREAD]);
}

#[test]
fn what_nobody_here_takes_has_no_share_in_what_all_sessions_have() {
    let mut out = Outbox::new(&Config::default());
    let mut flow = stranger(&out);
    let data = [7; 16 * 1024];
    let mut bytes = 0;
    for (number, index) in (0..).zip((0..4000).map(|index| index % 60)) {
        let offset = (number / 60) * data.len() as u64;
        let mut payload = Vec::new();
        Frame::Stream { stream: 2 * index + 1, offset, fin: false, data: &data }.encode(&mut payload);
        bytes += u64::from(flow.handle(number, &payload, false, Instant::ZERO, &mut out).is_ok()) * data.len() as u64;
    }
    assert!((data.len() as u64..=flow.window.bytes()).contains(&bytes), "{bytes}");
    assert_eq!(out.growth.taken(), 0);
    // Who takes one more gives its peer something to say on it.
    let mut payload = Vec::new();
    Frame::Open { stream: 201, port: 0, service: "x" }.encode(&mut payload);
    flow.handle(4000, &payload, false, Instant::ZERO, &mut out).unwrap();
    let (key, _) = out.opened.pop().unwrap();
    flow.accept(key, &mut out);
    assert!(flow.session_limit() > flow.received_bytes);
    let taken = out.growth.taken();
    assert!(taken > 0);
    // What lies there lies there, whoever goes.
    flow.reset(key, ResetReason::Application, &mut out);
    assert_eq!(out.growth.taken(), taken);
}

#[test]
fn many_words_in_one_packet_are_little_work() {
    let opened = (0..50).map(|index| Frame::Open { stream: 2 * index + 1, port: 0, service: "x" });
    let (mut flow, violations) = told(Config::default(), opened);
    assert_eq!((flow.stream_count(), violations), (50, vec![]));
    let mut out = Outbox::new(&Config::default());
    let mut payload = Vec::new();
    for number in 1..1000 {
        Frame::MaxData(flow.send_limit + number).encode(&mut payload);
        Frame::Reach { number, reach: &number.to_be_bytes() }.encode(&mut payload);
    }
    flow.queue.clear();
    flow.streams.values_mut().for_each(|stream| stream.queued = false);
    flow.handle(1000, &payload, false, Instant::ZERO, &mut out).unwrap();
    assert!(flow.queue.is_empty(), "there was credit before: nobody waits for more");
    let latest = Event::PeerReach { peer: flow.peer, reach: 999_u64.to_be_bytes().to_vec() };
    assert_eq!(out.events, [latest]);
    // Who waits for credit gets it, and who does not is left alone.
    flow.open(StreamKey(1000), "x", 0);
    assert_eq!(flow.write(StreamKey(1000), b"x", false), 1);
    flow.queue.clear();
    flow.streams.values_mut().for_each(|stream| stream.queued = false);
    flow.sent_bytes = flow.send_limit;
    let mut payload = Vec::new();
    Frame::MaxData(flow.send_limit + 1).encode(&mut payload);
    flow.handle(1001, &payload, false, Instant::ZERO, &mut out).unwrap();
    assert_eq!(flow.queue, [StreamKey(1000)]);
}

/// The acknowledgement of what was said before settles nothing.
#[test]
fn where_this_end_can_be_dialled_now_is_told_however_late_what_was_said_before_arrives() {
    let mut out = Outbox::new(&Config::default());
    let mut flow =
        Flow::new(NodeId::from_bytes([2; 32]), Config::default().into(), Share::of(&out.held), Instant::ZERO);
    flow.set_suspended(false, Instant::ZERO, &mut out);
    for (number, reach) in [(0, b"here"), (1, b"home")] {
        flow.set_reach(&reach.as_slice().into(), false);
        assert!(flow.poll(number, 0, Instant::ZERO).is_some());
    }
    flow.on_acked(vec![SentFrame::Reach(1)], &mut out);
    flow.on_lost(vec![SentFrame::Reach(2)]);
    assert_eq!(flow.reach.told, Signal::Due);
    assert!(flow.poll(2, 0, Instant::ZERO).is_some());
    flow.on_acked(vec![SentFrame::Reach(2)], &mut out);
    assert_eq!(flow.reach.told, Signal::Idle);
}

#[test]
fn pieces_behind_gaps_are_counted_over_all_streams() {
    let piece = |stream, offset| Frame::Stream { stream, offset, fin: false, data: b"x" };
    let config = Config::default();
    let pieces = (0..20).flat_map(|index| (1..1000).map(move |at| piece(2 * index + 1, 2 * at)));
    let (mut flow, violations) = told(config, pieces);
    assert_eq!(flow.streams.values().map(|stream| stream.recv.fragments()).sum::<usize>(), MAX_FRAGMENTS);
    assert_eq!(flow.fragments, MAX_FRAGMENTS);
    assert_eq!(violations, vec![Violation::Fragments; 20 * 999 - MAX_FRAGMENTS]);
    // What is in order is always taken, and what it joins makes room.
    let mut frames = Vec::new();
    Frame::Stream { stream: 1, offset: 0, fin: false, data: &[0; 2000] }.encode(&mut frames);
    piece(39, 10).encode(&mut frames);
    assert_eq!(flow.handle(1 << 20, &frames, false, Instant::ZERO, &mut Outbox::new(&Config::default())), Ok(false));
}
