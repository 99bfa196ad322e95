//! Data goes where the peer has been shown to be, whatever relays say (RFC 9000, section 8.2).

use muses::config::Config;

use crate::pair::{A, App, B, Faults, MS, Pair, SECOND};

/// The longest packet that may go to a place that nobody vouches for: a question, and none of a stream's bytes.
const QUESTION_BYTES: usize = 80;
const FILE_BYTES: u64 = 1_000_000;
const FAST: u64 = 100_000_000;

fn transferring(seed: u8, bytes_per_second: u64) -> Pair {
    let faults = Faults { bytes_per_second, ..Faults::default() };
    let mut pair = Pair::with(seed, Config::default(), faults);
    pair.nodes[B].serve = Some(|| App::sending(FILE_BYTES));
    pair.open(A, App::sending(FILE_BYTES));
    pair
}

fn ends_well(pair: &mut Pair) {
    let done = |pair: &Pair| pair.nodes.iter().all(|node| node.apps.values().all(|app| app.closed));
    pair.run_until(60 * SECOND, done).expect("an end");
    for node in &pair.nodes {
        assert_eq!((node.app().read, node.app().reset), (FILE_BYTES, None));
    }
}

/// Runs until something of B's is under way.
fn until_b_has_sent(pair: &mut Pair, packets: usize) {
    pair.run_until(SECOND, |pair| pair.sent[B].len() >= packets).expect("an answer");
}

fn only_questions_went_astray(pair: &Pair) {
    for (node, astray) in pair.astray.iter().enumerate() {
        assert!(astray.iter().all(|bytes| *bytes <= QUESTION_BYTES), "node {node}: {astray:?}");
    }
}

#[test]
fn the_answer_to_a_hello_moves_no_data() {
    let mut pair = transferring(1, FAST);
    pair.lied_about[B] = true;
    ends_well(&mut pair);
    only_questions_went_astray(&pair);
    assert!((1..=3).contains(&pair.astray[A].len()), "asked a few times, then never again: {:?}", pair.astray[A]);
}

#[test]
fn the_end_of_a_handshake_moves_no_data() {
    let mut pair = transferring(1, FAST);
    until_b_has_sent(&mut pair, 1);
    pair.lied_about[A] = true;
    ends_well(&mut pair);
    // B's Finished goes where A's came from; it comes again from where A is.
    assert!(pair.astray[B].iter().all(|bytes| *bytes < 1000) && pair.astray[B].len() <= 3, "{:?}", pair.astray[B]);
}

#[test]
fn a_hello_that_comes_from_two_places_moves_no_data() {
    for lies in [false, true] {
        let mut pair = transferring(1, FAST);
        pair.run_until(SECOND, |pair| !pair.sent[A].is_empty()).expect("a Hello");
        pair.copy_with_lies();
        until_b_has_sent(&mut pair, 1);
        pair.lied_about[A] = lies;
        pair.run(200 * MS);
        // Once somebody lies about all that A sends, B asks there until A says itself where it is.
        pair.lied_about[A] = false;
        ends_well(&mut pair);
        let longest = pair.astray[B].iter().max().expect("B's Hello");
        assert!(*longest < 2048 && pair.astray[B].len() <= 8, "{:?}", pair.astray[B]);
    }
}

#[test]
fn the_answer_to_a_re_hello_moves_no_data() {
    for mover in [A, B] {
        let mut pair = transferring(1, FAST);
        pair.run_until(SECOND, |pair| pair.nodes[A].app().read > 100_000).expect("some data");
        pair.detach(mover);
        pair.run(5 * SECOND);
        pair.lied_about = [true; 2];
        pair.attach(mover, "elsewhere");
        ends_well(&mut pair);
        only_questions_went_astray(&pair);
        assert!(!pair.astray[mover].is_empty(), "nobody lied to the mover");
    }
}

#[test]
fn who_is_reached_through_somebody_else_is_soon_reached_where_it_is() {
    let mut pair = transferring(1, 2_000_000);
    pair.run_until(SECOND, |pair| !pair.sent[A].is_empty()).expect("a Hello");
    let before = std::mem::replace(&mut pair.nodes[B].place, "new".to_owned());
    pair.nodes[B].also_at = Some(before);
    pair.run_until(SECOND, |pair| pair.sent_to[A] == "new").expect("a question");
    pair.run(50 * MS);
    let told_at = pair.sent[A].len();
    pair.nodes[B].also_at = None;
    pair.run(100 * MS);
    assert!(pair.sent[A].len() > told_at && pair.sent_to[A] == "new");
    ends_well(&mut pair);
}

/// The longest of what asks where a peer is.
const RE_HELLO_BYTES: usize = 1024;

fn only_re_hellos_went_astray(pair: &Pair) {
    let astray = &pair.astray[A];
    assert!(!astray.is_empty() && astray.iter().all(|bytes| *bytes <= RE_HELLO_BYTES), "{astray:?}");
}

/// It says in its record that it is somewhere else, keeps quiet for a while, and then acknowledges what it had all the time.
#[test]
fn a_record_that_lies_moves_no_data() {
    let mut pair = transferring(1, FAST);
    pair.run_until(SECOND, |pair| pair.nodes[A].app().read > 100_000).expect("some data");
    pair.lies_in_record[B] = true;
    pair.hold = Some(B);
    pair.run_until(SECOND, Pair::holds).expect("a packet");
    pair.nodes[B].online = false;
    pair.run_until(10 * SECOND, |pair| !pair.astray[A].is_empty()).expect("a question to where it is said to be");
    assert!(!pair.nodes[A].is_live());
    pair.release();
    assert!(pair.nodes[A].is_live(), "what was kept back acknowledges something");
    pair.run(200 * MS);
    only_re_hellos_went_astray(&pair);
    (pair.lies_in_record[B], pair.nodes[B].online) = (false, true);
    ends_well(&mut pair);
    only_re_hellos_went_astray(&pair);
}

/// It is asked at two places, and answers from the one when it has been asked at the other, too.
#[test]
fn an_answer_moves_data_only_to_where_it_was_asked() {
    let mut pair = transferring(1, FAST);
    pair.run_until(SECOND, |pair| pair.nodes[A].app().read > 100_000).expect("some data");
    pair.detach(A);
    pair.run(5 * SECOND);
    pair.lies_in_record[B] = true;
    pair.faults.delay = 500 * MS;
    pair.attach(A, "elsewhere");
    pair.run_until(10 * SECOND, |pair| pair.nodes[A].is_live()).expect("an answer");
    assert!(!pair.astray[A].is_empty(), "it was asked at one place only");
    pair.faults.delay = 10 * MS;
    ends_well(&mut pair);
    only_re_hellos_went_astray(&pair);
}

/// The same for who has just been found for the first time.
#[test]
fn an_answer_to_a_hello_moves_data_only_to_where_it_was_asked() {
    let mut pair = transferring(1, FAST);
    pair.faults.delay = 500 * MS;
    pair.run_until(SECOND, |pair| !pair.sent[A].is_empty()).expect("a Hello");
    pair.lies_in_record[B] = true;
    pair.run_until(10 * SECOND, |pair| !pair.astray[A].is_empty()).expect("a second Hello");
    let hellos = pair.astray[A].len();
    pair.run(2 * SECOND);
    pair.lies_in_record[B] = false;
    pair.faults.delay = 10 * MS;
    ends_well(&mut pair);
    assert!(pair.astray[A].iter().all(|bytes| *bytes < 2048), "{hellos}: {:?}", pair.astray[A]);
}

/// Its Hello came from where it was; our Finished finds it where it is.
#[test]
fn who_moves_while_it_is_greeted_is_not_waited_for() {
    let mut pair = transferring(1, FAST);
    until_b_has_sent(&mut pair, 1);
    // What went to the old place is lost.
    pair.attach(B, "new");
    let done = |pair: &Pair| pair.nodes.iter().all(|node| node.apps.values().any(|app| app.closed));
    let took = pair.run_until(60 * SECOND, done).expect("an end");
    // By silence it took more than four.
    assert!(took < 2 * SECOND, "{took:?}");
    ends_well(&mut pair);
}
