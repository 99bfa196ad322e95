//! Frames of a bulk lane.
//!
//! | length | part |
//! | --- | --- |
//! | 4 | s: bytes that are sealed, without their tag (little endian) |
//! | 4 | o: bytes that are open |
//! | s + 16 | ChaCha20-Poly1305(key of the direction, nonce = 0^32 . LE64(number of the frame), AAD = the 8 bytes before) |
//! | o | the open part, as it is |
//!
//! The frame that it carries is the sealed part with the open part before its last 16 bytes. The sender puts these into the open part, and
//! nothing else: the ciphertext of a session's protected packet of [`MIN_OPEN_BYTES`] or more. So routing header, session label, epoch and
//! packet number are sealed, as is that packet's own tag (the last 16 bytes): whoever changes the open part on the way cannot make a tag
//! that fits, and the packet's receiver drops it. All else (handshakes, Re-Hellos, small packets, what we cannot parse) is sealed wholly; for small
//! packets that costs no more, so that keystrokes look on the wire as they do on the other lanes. Lengths are not hidden, as TCP shows them anyway.
//!
//! Frames are numbered from 0 and TCP keeps them in order: a frame that is repeated, left out, moved or changed does not authenticate, and
//! that ends the lane.

use std::ops::Range;

use overlay::io::MAX_DATA_FRAME_BYTES;
use overlay::wire::packet::{Header, Kind};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Frames of session data below this length are sealed wholly.
const MIN_OPEN_BYTES: usize = 1024;
/// The two lengths before each frame.
const LENGTHS_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
/// What a sealed part ends with when an open part is to be put before that.
const TAIL_BYTES: usize = 16;

/// What a neighbour sent is not the next frame of its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadFrame {
    /// A length is out of range.
    #[error("impossible lengths")]
    Lengths,
    /// It does not authenticate.
    #[error("a forged frame")]
    Forged,
}

/// One direction's key, and the number of the next frame.
struct Cipher {
    /// `ring` does not zeroize its keys: this is expanded for each frame, which costs nothing.
    key: Zeroizing<[u8; 32]>,
    number: u64,
}

/// Seals frames.
pub(super) struct Sealer(Cipher);

/// Opens frames.
pub(super) struct Opener(Cipher);

impl Sealer {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Cipher::new(key))
    }

    /// Appends to `heads` all that goes on the wire before the open part of `frame`; returns where in `frame` that is. `None` for a frame
    /// that is too long, or when numbers are used up.
    pub(super) fn seal(&mut self, frame: &[u8], heads: &mut Vec<u8>) -> Option<Range<usize>> {
        if frame.len() > MAX_DATA_FRAME_BYTES {
            return None;
        }
        let open = open_part(frame).unwrap_or(frame.len()..frame.len());
        let (before, after) = (frame.get(..open.start)?, frame.get(open.end..)?);
        let at = heads.len();
        heads.extend_from_slice(&Lengths { sealed: before.len() + after.len(), open: open.len() }.to_bytes());
        heads.extend_from_slice(before);
        heads.extend_from_slice(after);
        let (lengths, sealed) = heads.get_mut(at..)?.split_first_chunk_mut::<LENGTHS_BYTES>()?;
        let tag = self.0.seal(lengths, sealed)?;
        heads.extend_from_slice(&tag);
        Some(open)
    }
}

impl Opener {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Cipher::new(key))
    }

    /// How long the next frame is before its open part, by the first bytes of `input`; `None` as long as they do not tell.
    ///
    /// # Errors
    /// [`BadFrame::Lengths`].
    pub(super) fn head_bytes(input: &[u8]) -> Result<Option<usize>, BadFrame> {
        let Some(lengths) = input.first_chunk() else { return Ok(None) };
        Lengths::parse(lengths).map(|lengths| Some(LENGTHS_BYTES + lengths.sealed + TAG_BYTES))
    }

    /// Opens a head of just that length, in place.
    ///
    /// # Errors
    /// [`BadFrame`]; the lane is of no use any more.
    pub(super) fn open(&mut self, head: &mut [u8]) -> Result<Unfinished, BadFrame> {
        let (lengths, rest) = head.split_first_chunk_mut::<LENGTHS_BYTES>().ok_or(BadFrame::Lengths)?;
        let Lengths { sealed, open } = Lengths::parse(lengths)?;
        let text = self.0.open(lengths, rest).filter(|text| text.len() == sealed).ok_or(BadFrame::Forged)?;
        let tail_bytes = if open > 0 { TAIL_BYTES } else { 0 };
        let (before, tail) = text.split_at_checked(sealed.saturating_sub(tail_bytes)).ok_or(BadFrame::Lengths)?;
        let mut bytes = Vec::with_capacity(sealed + open);
        bytes.extend_from_slice(before);
        Ok(Unfinished { open_end: before.len() + open, bytes, tail: tail.to_vec() })
    }
}

/// A frame whose open part is still to come.
pub(super) struct Unfinished {
    /// Where the open part is to be appended.
    pub(super) bytes: Vec<u8>,
    open_end: usize,
    tail: Vec<u8>,
}

impl Unfinished {
    /// How much of the open part is missing.
    pub(super) fn missing_bytes(&self) -> usize {
        self.open_end.saturating_sub(self.bytes.len())
    }

    /// The frame, once nothing is missing.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&self.tail);
        self.bytes
    }
}

/// What of `frame` travels as it is.
fn open_part(frame: &[u8]) -> Option<Range<usize>> {
    if frame.len() < MIN_OPEN_BYTES {
        return None;
    }
    let (header, at) = Header::decode(frame).ok()?;
    if header.kind != Kind::Data {
        return None;
    }
    let text = muses::packet::ciphertext(frame.get(at..)?)?;
    // The rest of the format needs the tag to be the frame's last bytes.
    let open = at.checked_add(text.start)?..at.checked_add(text.end)?;
    (frame.len().checked_sub(open.end) == Some(TAIL_BYTES)).then_some(open)
}

#[derive(Clone, Copy)]
struct Lengths {
    sealed: usize,
    open: usize,
}

impl Lengths {
    fn parse(bytes: &[u8; LENGTHS_BYTES]) -> Result<Self, BadFrame> {
        let [a, b, c, d, e, f, g, h] = *bytes;
        let number = |bytes| usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
        let (sealed, open) = (number([a, b, c, d]), number([e, f, g, h]));
        let fits = sealed.checked_add(open).is_some_and(|all| all <= MAX_DATA_FRAME_BYTES);
        if fits && (open == 0 || sealed >= TAIL_BYTES) { Ok(Self { sealed, open }) } else { Err(BadFrame::Lengths) }
    }

    fn to_bytes(self) -> [u8; LENGTHS_BYTES] {
        let [sealed, open] = [self.sealed, self.open].map(|length| u32::try_from(length).unwrap_or(u32::MAX));
        let mut bytes = [0; LENGTHS_BYTES];
        bytes[..4].copy_from_slice(&sealed.to_le_bytes());
        bytes[4..].copy_from_slice(&open.to_le_bytes());
        bytes
    }
}

impl Cipher {
    fn new(key: &[u8; 32]) -> Self {
        Self { key: Zeroizing::new(*key), number: 0 }
    }

    fn seal(&mut self, aad: &[u8], text: &mut [u8]) -> Option<[u8; TAG_BYTES]> {
        let nonce = self.next_nonce()?;
        self.expand()?.seal_in_place_separate_tag(nonce, Aad::from(aad), text).ok()?.as_ref().try_into().ok()
    }

    /// Opens what stands before the tag, the last bytes of `sealed`.
    fn open<'a>(&mut self, aad: &[u8], sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        let nonce = self.next_nonce()?;
        self.expand()?.open_in_place(nonce, Aad::from(aad), sealed).ok().map(|text| &*text)
    }

    fn next_nonce(&mut self) -> Option<Nonce> {
        let mut nonce = [0; NONCE_LEN];
        nonce[4..].copy_from_slice(&self.number.to_le_bytes());
        self.number = self.number.checked_add(1)?;
        Some(Nonce::assume_unique_for_key(nonce))
    }

    /// Fails for a key of another length only.
    fn expand(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, self.key.as_slice()).ok().map(LessSafeKey::new)
    }
}

#[cfg(test)]
mod tests;
