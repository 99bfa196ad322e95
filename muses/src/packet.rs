//! Protected packets (SSM): sealing and opening frames.
//!
//! ```text
//! header = ConTYPE (1), label (16), epoch (4 + 4), SeqNBR (8)                        numbers big-endian
//! AAD    = ConTYPE (1), SrcID (32), DstID (32), SessID (100), epoch (8), SeqNBR (8)
//! nonce  = 0^32 || LE64(SeqNBR)
//! packet = header, AEAD(key of direction and epoch, nonce, AAD, frames)               by the session's cipher; the tag is the paper's ICV
//! ```
//!
//! An epoch is two numbers. `resume` counts resumes: new secrets, numbers from 0 again, a new replay window. `step` counts
//! the ratchet within: the next key by HKDF, numbers and window go on, and each direction steps on its own.

use core::ops::Range;

use overlay::id::NodeId;

use crate::cipher::Cipher;
use crate::content::{ContentType, LABEL_BYTES, Label, SESSION_ID_BYTES, take};
use crate::kdf::{AeadKey, Kdf, Key, TAG_BYTES};
use crate::replay::ReplayWindow;

/// Length of the header of a protected packet.
pub const HEADER_BYTES: usize = 1 + LABEL_BYTES + 8 + 8;

/// What a protected packet is longer than its frames.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// Packets after which a key should step.
pub const PACKETS_PER_STEP: u64 = 1 << 20;

/// Bytes of frames after which a key should step.
pub const BYTES_PER_STEP: u64 = 1 << 30;

/// Packets that one key will seal at most, stepped or not.
const PACKETS_PER_KEY_MAX: u64 = 1 << 32;

/// Bytes of frames that one key will seal at most, stepped or not: 2^34 blocks leave AES-GCM an advantage of 2^-61 (RFC 9001, B.1.1, asks for 2^-57).
pub const BYTES_PER_KEY_MAX: u64 = 1 << 38;

/// The highest packet number ever used.
const SEQUENCE_MAX: u64 = (1 << 62) - 1;

/// Failed authentications after which an [`Opener`] opens nothing more (RFC 9001, 6.6, sets 2^36 as the limit).
pub const FAILURES_MAX: u64 = 1 << 35;

const AAD_BYTES: usize = 1 + 32 + 32 + SESSION_ID_BYTES + 8 + 8;

/// Which key sealed a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch {
    /// How many resumes came before.
    pub resume: u32,
    /// How often the key was stepped since.
    pub step: u32,
}

/// Why frames were not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key or the numbers are used up: only a resume helps.
    #[error("packet numbers exhausted")]
    Exhausted,
}

/// Why a packet was not opened. The state is as it was, but for the count of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a protected packet of this session.
    #[error("malformed packet")]
    Malformed,
    /// Sealed under a key that is erased, or not yet due.
    #[error("packet of another epoch")]
    Epoch,
    /// Its number was seen or is too old.
    #[error("replayed packet")]
    Replayed,
    /// The tag is wrong.
    #[error("forged packet")]
    Forged,
    /// [`FAILURES_MAX`] is reached: only a resume helps.
    #[error("too many forged packets")]
    Exhausted,
}

/// A packet's authenticated content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// SeqNBR.
    pub seq: u64,
    /// The plain frames.
    pub frames: Vec<u8>,
}

/// Seals what this end sends.
pub struct Sealer {
    chain: Chain,
    label: Label,
    aad: Aad,
    next_seq: u64,
    step_first_seq: u64,
    step_bytes: u64,
}

impl Sealer {
    pub(crate) fn new(direction: Direction<'_>, label: Label, resume: u32, secret: Key) -> Self {
        let chain = Chain::new(Epoch { resume, step: 0 }, direction.cipher, secret);
        Self { chain, label, aad: Aad::new(direction), next_seq: 0, step_first_seq: 0, step_bytes: 0 }
    }

    /// Seals `frames` in a new packet, and tells its number.
    ///
    /// # Errors
    /// [`SealError`] when no number is left.
    pub fn seal(&mut self, frames: &[u8]) -> Result<(u64, Vec<u8>), SealError> {
        let mut packet = Vec::with_capacity(frames.len().saturating_add(OVERHEAD_BYTES));
        packet.resize(HEADER_BYTES, 0);
        packet.extend_from_slice(frames);
        let seq = self.seal_in_place(&mut packet)?;
        Ok((seq, packet))
    }

    /// Seals without copying: `packet` is [`HEADER_BYTES`] bytes of room (any content), then the frames.
    ///
    /// # Errors
    /// [`SealError`] when no number is left; also when there is less than that room.
    pub fn seal_in_place(&mut self, packet: &mut Vec<u8>) -> Result<u64, SealError> {
        let seq = self.next_seq;
        let used_up =
            seq.saturating_sub(self.step_first_seq) >= PACKETS_PER_KEY_MAX || self.step_bytes >= BYTES_PER_KEY_MAX;
        if seq > SEQUENCE_MAX || used_up {
            return Err(SealError::Exhausted);
        }
        let header = Header { label: self.label, epoch: self.chain.epoch, seq };
        let (room, frames) = packet.split_first_chunk_mut::<HEADER_BYTES>().ok_or(SealError::Exhausted)?;
        *room = header.to_bytes();
        let bytes = u64::try_from(frames.len()).unwrap_or(u64::MAX);
        let tag = self.chain.key.seal(seq, self.aad.of(&header), frames).ok_or(SealError::Exhausted)?;
        packet.extend_from_slice(&tag);
        self.next_seq = seq.saturating_add(1);
        self.step_bytes = self.step_bytes.saturating_add(bytes);
        Ok(seq)
    }

    /// The number of the next packet.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Leaves the next number out.
    pub fn skip(&mut self) {
        self.next_seq = self.next_seq.saturating_add(1);
    }

    /// The first number sealed under the present key.
    pub fn step_first_seq(&self) -> u64 {
        self.step_first_seq
    }

    /// The epoch of the next packet.
    pub fn epoch(&self) -> Epoch {
        self.chain.epoch
    }

    /// Whether the present key has done its [`PACKETS_PER_STEP`] or [`BYTES_PER_STEP`]. The caller minds its age.
    pub fn wants_step(&self) -> bool {
        self.next_seq.saturating_sub(self.step_first_seq) >= PACKETS_PER_STEP || self.step_bytes >= BYTES_PER_STEP
    }

    /// Goes over to the next key and erases this one. Only once a packet numbered [`Sealer::step_first_seq`] or higher was
    /// acknowledged: the peer accepts one step at a time.
    pub fn step(&mut self) {
        self.chain = self.chain.next();
        self.step_first_seq = self.next_seq;
        self.step_bytes = 0;
    }
}

/// Opens what the peer sends, each packet once.
pub struct Opener {
    previous: Option<Chain>,
    current: Chain,
    next: Chain,
    label: Label,
    aad: Aad,
    window: ReplayWindow,
    failures: u64,
}

impl Opener {
    pub(crate) fn new(direction: Direction<'_>, label: Label, resume: u32, secret: Key) -> Self {
        let current = Chain::new(Epoch { resume, step: 0 }, direction.cipher, secret);
        Self {
            previous: None,
            next: current.next(),
            current,
            label,
            aad: Aad::new(direction),
            window: ReplayWindow::default(),
            failures: 0,
        }
    }

    /// Authenticates and decrypts a copy of `packet`: [`Opener::open_in_place`] for who still needs it.
    ///
    /// # Errors
    /// [`OpenError`]; drop the packet silently.
    pub fn open(&mut self, packet: &[u8]) -> Result<Opened, OpenError> {
        let mut packet = packet.to_vec();
        let seq = self.open_in_place(&mut packet)?;
        packet.truncate(packet.len().saturating_sub(TAG_BYTES));
        packet.drain(..HEADER_BYTES);
        Ok(Opened { seq, frames: packet })
    }

    /// Authenticates `packet` and decrypts it where it is, between header and tag: see [`ciphertext`]. Returns its number. When it is the
    /// first of the next step, that becomes the present one; the key before stays until [`Opener::forget_previous`].
    ///
    /// # Errors
    /// [`OpenError`]; drop the packet silently. A forged one is destroyed; after any other error it is as it was.
    pub fn open_in_place(&mut self, packet: &mut [u8]) -> Result<u64, OpenError> {
        if self.failures >= FAILURES_MAX {
            return Err(OpenError::Exhausted);
        }
        let header = Header::parse(packet).ok_or(OpenError::Malformed)?;
        let sealed = packet.get_mut(HEADER_BYTES..).ok_or(OpenError::Malformed)?;
        if header.label != self.label {
            return Err(OpenError::Malformed);
        }
        let stepped = header.epoch == self.next.epoch;
        let chain = [Some(&self.current), Some(&self.next), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|chain| chain.epoch == header.epoch)
            .ok_or(OpenError::Epoch)?;
        if header.seq > SEQUENCE_MAX || !self.window.is_fresh(header.seq) {
            return Err(OpenError::Replayed);
        }
        if !chain.key.open(header.seq, self.aad.of(&header), sealed) {
            self.failures = self.failures.saturating_add(1);
            return Err(OpenError::Forged);
        }
        self.window.mark(header.seq);
        if stepped {
            let after = self.next.next();
            let current = core::mem::replace(&mut self.next, after);
            self.previous = Some(core::mem::replace(&mut self.current, current));
        }
        Ok(header.seq)
    }

    /// The highest epoch of which a packet was opened (or the first, before any).
    pub fn epoch(&self) -> Epoch {
        self.current.epoch
    }

    /// Whether the key before the present one is still there: after a step, start a timer (3 RTO) for
    /// [`Opener::forget_previous`].
    pub fn has_previous(&self) -> bool {
        self.previous.is_some()
    }

    /// Erases the key before the present one.
    pub fn forget_previous(&mut self) {
        self.previous = None;
    }

    /// As if so many packets had had a wrong tag.
    #[cfg(test)]
    pub(crate) fn set_failures(&mut self, failures: u64) {
        self.failures = failures;
    }

    /// How many packets had a wrong tag.
    pub fn failures(&self) -> u64 {
        self.failures
    }
}

/// Where in `packet` the encrypted frames are, if it has the form of a protected packet: without header and tag, which need
/// protection of their own where packets are not to be linked or told apart. Says nothing of its authenticity.
pub fn ciphertext(packet: &[u8]) -> Option<Range<usize>> {
    let end = packet.len().checked_sub(TAG_BYTES)?;
    (ContentType::of(packet)? == ContentType::Protected && end >= HEADER_BYTES).then_some(HEADER_BYTES..end)
}

/// Who sends to whom in which session, and how it is sealed.
#[derive(Clone, Copy)]
pub(crate) struct Direction<'a> {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) session_id: &'a [u8; SESSION_ID_BYTES],
    pub(crate) cipher: Cipher,
}

/// One key, and the secret that leads to the next.
struct Chain {
    epoch: Epoch,
    secret: Key,
    key: AeadKey,
}

impl Chain {
    fn new(epoch: Epoch, cipher: Cipher, secret: Key) -> Self {
        let key = AeadKey::new(cipher, &Kdf::extract(&[], secret.as_slice()).expand("packet key", &[]));
        Self { epoch, secret, key }
    }

    fn next(&self) -> Self {
        let secret = Kdf::extract(&[], self.secret.as_slice()).expand("next step", &[]);
        Self::new(Epoch { step: self.epoch.step.saturating_add(1), ..self.epoch }, self.key.cipher(), secret)
    }
}

struct Header {
    label: Label,
    epoch: Epoch,
    seq: u64,
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0] = ContentType::Protected as u8;
        out[1..17].copy_from_slice(&self.label.0);
        out[17..21].copy_from_slice(&self.epoch.resume.to_be_bytes());
        out[21..25].copy_from_slice(&self.epoch.step.to_be_bytes());
        out[25..].copy_from_slice(&self.seq.to_be_bytes());
        out
    }

    fn parse(packet: &[u8]) -> Option<Self> {
        if ContentType::of(packet)? != ContentType::Protected {
            return None;
        }
        let mut rest = packet.get(1..)?;
        let label = Label(take(&mut rest)?);
        let epoch = Epoch { resume: u32::from_be_bytes(take(&mut rest)?), step: u32::from_be_bytes(take(&mut rest)?) };
        let seq = u64::from_be_bytes(take(&mut rest)?);
        Some(Self { label, epoch, seq })
    }
}

/// The associated data, all but its last 16 bytes fixed for a session.
struct Aad([u8; AAD_BYTES]);

impl Aad {
    fn new(direction: Direction<'_>) -> Self {
        let mut out = [0; AAD_BYTES];
        out[0] = ContentType::Protected as u8;
        out[1..33].copy_from_slice(direction.from.as_bytes());
        out[33..65].copy_from_slice(direction.to.as_bytes());
        out[65..65 + SESSION_ID_BYTES].copy_from_slice(direction.session_id);
        Self(out)
    }

    fn of(&mut self, header: &Header) -> &[u8] {
        let at = AAD_BYTES - 16;
        self.0[at..at + 4].copy_from_slice(&header.epoch.resume.to_be_bytes());
        self.0[at + 4..at + 8].copy_from_slice(&header.epoch.step.to_be_bytes());
        self.0[at + 8..].copy_from_slice(&header.seq.to_be_bytes());
        &self.0
    }
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
