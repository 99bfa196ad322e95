//! For the fuzz targets: what a lane makes of any bytes.

use super::frame::{BadFrame, Opener, Sealer};
use super::words::Word;

const KEY: [u8; 32] = [7; 32];

/// Frames as a lane puts them on the wire, and where in that each one's open part is.
#[must_use]
pub fn sealed(frames: &[Vec<u8>]) -> (Vec<u8>, Vec<std::ops::Range<usize>>) {
    let mut sealer = Sealer::new(&KEY);
    let (mut wire, mut open_parts) = (Vec::new(), Vec::new());
    for frame in frames {
        let Some(open) = sealer.seal(frame, &mut wire) else { break };
        let at = wire.len();
        wire.extend_from_slice(frame.get(open).unwrap_or_default());
        open_parts.push(at..wire.len());
    }
    (wire, open_parts)
}

/// The frames that a lane takes out of `wire`, and whether it ended because of what is no frame.
#[must_use]
pub fn opened(mut wire: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let (mut opener, mut frames) = (Opener::new(&KEY), Vec::new());
    loop {
        match next(&mut opener, &mut wire) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, false),
            Err(_) => return (frames, true),
        }
    }
}

fn next(opener: &mut Opener, wire: &mut &[u8]) -> Result<Option<Vec<u8>>, BadFrame> {
    let Some(head_bytes) = Opener::head_bytes(wire)? else { return Ok(None) };
    let Some((head, rest)) = wire.split_at_checked(head_bytes) else { return Ok(None) };
    let mut frame = opener.open(&mut head.to_vec())?;
    let Some((open, rest)) = rest.split_at_checked(frame.missing_bytes()) else { return Ok(None) };
    frame.bytes.extend_from_slice(open);
    *wire = rest;
    Ok(Some(frame.finish()))
}

/// The word in `frame`, written again; `None` for what is for the overlay, `Some(None)` for what is unknown.
#[must_use]
pub fn word_again(frame: &[u8]) -> Option<Option<Vec<u8>>> {
    Word::of(frame).map(|word| word.ok().map(Word::to_bytes))
}
