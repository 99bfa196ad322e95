//! The bulk lane: its frames, and the words by which it comes up.

use node::links::bulk::fuzzing::{opened, sealed, word_again};
use overlay::address::{AddressSet, Place};
use overlay::id::NodeId;
use overlay::io::MAX_DATA_FRAME_BYTES;
use overlay::wire::packet::{Header, Kind};

use crate::script::Script;

/// Most frames on one lane.
const MAX_FRAMES: usize = 8;
/// What a protected packet begins with.
const PROTECTED: u8 = 5;

/// What was sealed comes out; what was changed on the way ends the lane, unless it is an open part, of which a session sees to itself; any other bytes give
/// frames within their limits, and words that are written as they were read.
pub fn node_bulk(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    match script.below(3) {
        0 => {
            let (frames, _) = opened(script.rest());
            assert!(frames.iter().all(|frame| frame.len() <= MAX_DATA_FRAME_BYTES));
        }
        1 => {
            let frame = script.rest();
            if let Some(Some(again)) = word_again(frame) {
                assert_eq!(again, frame);
            }
        }
        _ => travels(&mut script),
    }
}

fn travels(script: &mut Script<'_>) {
    let mut frames = Vec::new();
    for _ in 0..script.below(MAX_FRAMES) + 1 {
        let length = wide(script, MAX_DATA_FRAME_BYTES / MAX_FRAMES);
        let session = script.below(2) == 1;
        let byte = script.byte();
        let mut frame = if session { header().with_payload(&[PROTECTED]) } else { vec![byte] };
        frame.resize(frame.len().max(length), byte);
        frames.push(frame);
    }
    let (mut wire, open_parts) = sealed(&frames);
    assert_eq!(opened(&wire), (frames.clone(), false));

    let at = wide(script, wire.len());
    let flip = 1 << script.below(8);
    wire[at] ^= flip;
    let (arrived, ended) = opened(&wire);
    // The frame in which that byte is.
    let hit = open_parts.iter().position(|open| at < open.end).unwrap_or_default();
    assert_eq!(arrived.get(..hit), frames.get(..hit), "frames before it are as they were");
    if open_parts[hit].contains(&at) {
        let differs =
            |(one, other): (&Vec<u8>, &Vec<u8>)| one.iter().zip(other).filter(|(one, other)| one != other).count();
        assert_eq!(arrived.iter().zip(&frames).map(differs).sum::<usize>(), 1);
        assert_eq!((arrived.len(), ended), (frames.len(), false));
    } else {
        // A changed length may make the lane wait for more.
        assert_eq!(arrived.len(), hit, "a forged frame");
    }
}

/// A number below `bound`, which may be more than a byte.
fn wide(script: &mut Script<'_>, bound: usize) -> usize {
    usize::from(u16::from_be_bytes(script.array())) % bound.max(1)
}

fn header() -> Header {
    let [from, to] = [1, 2].map(|n| NodeId::from_bytes([n; 32]));
    let place = Place { addresses: AddressSet::default(), seq: 1 };
    Header::new(Kind::Data, from, place.clone(), to, place, 3)
}
