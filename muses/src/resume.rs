//! Resuming a session after an outage, a move or a restart: three messages, symmetric cryptography only.
//!
//! ```text
//! Re-Hello  ConTYPE (1), label (16), resume (4), na (32), received, path, count (1), count x { generation (4), MAC (32) }, MAC (32)
//! answer    ConTYPE (1), label (16), resume (4), generation (4), na (32), nb (32), received, MAC (32)
//! Reset     ConTYPE (1), label (16), na (32), MAC (32)
//! ```
//!
//! `received` and `path` are opaque here and have a 16-bit length before them. The MACs per generation prove which rungs of RS
//! the sender has (one, or up to four while it does not know where the peer is; two may be of one generation); the last MAC, under a key as old as the
//! session, proves that the sender is the peer even when no rung is shared any more. Only then is a Reset the answer.
//!
//! Neither message moves the ladder. The keys are derived from the shared rung, na and nb; the first packet under them does. A Re-Hello may come again, from
//! whoever relayed it: what that may cost is bounded in `session/offers.rs`.

use overlay::id::NodeId;
use overlay::rng::Rng;

use crate::cert::LocalKeys;
use crate::content::{ContentType, LABEL_BYTES, Label, put_counted, take, take_counted};
use crate::kdf::{self, Kdf, Key, MAC_BYTES};
use crate::keys::{Agreed, MAX_RUNGS, Rung, Secrets};

/// The longest `received`.
pub const MAX_RECEIVED_BYTES: usize = 512;

/// The longest `path`.
pub const MAX_PATH_BYTES: usize = 256;

/// The longest message of this module: control packets stay under 1 KiB, so that nothing is amplified.
pub const MAX_RESUME_PACKET_BYTES: usize =
    1 + LABEL_BYTES + 4 + 32 + 2 * 2 + MAX_RECEIVED_BYTES + MAX_PATH_BYTES + 1 + MAX_RUNGS * 36 + 32;

/// An answer that says nothing of what was received.
const EMPTY_ANSWER_BYTES: usize = 1 + LABEL_BYTES + 4 + 4 + 2 * 32 + 2 + MAC_BYTES;

const _: () = assert!(MAX_RESUME_PACKET_BYTES < 1024);

/// Why a message of a resume was not made or not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// Not such a message, or of another session or attempt.
    #[error("malformed or not expected")]
    Malformed,
    /// A MAC is wrong: drop it silently.
    #[error("forged")]
    Forged,
    /// Truly from the peer, but no secret is shared any more: answer with [`LocalKeys::reset`].
    #[error("the peer's resume secret is not known here any more")]
    Stale,
    /// `received` or `path` is too long.
    #[error("too long")]
    TooLong,
}

/// A Re-Hello that this end sent, waiting for its answer.
pub struct Proposal {
    na: [u8; 32],
    packet: Vec<u8>,
    answered: bool,
}

impl Proposal {
    /// Makes a Re-Hello: what was `received`, and the `path` by which this end can be reached now.
    ///
    /// # Errors
    /// [`ResumeError::TooLong`].
    pub fn new(secrets: &Secrets, received: &[u8], path: &[u8], rng: &mut Rng) -> Result<Self, ResumeError> {
        if received.len() > MAX_RECEIVED_BYTES || path.len() > MAX_PATH_BYTES {
            return Err(ResumeError::TooLong);
        }
        let na = rng.bytes();
        let mut packet = vec![ContentType::ReHello as u8];
        packet.extend_from_slice(&secrets.label().0);
        packet.extend_from_slice(&secrets.last_resume.saturating_add(1).to_be_bytes());
        packet.extend_from_slice(&na);
        put_counted(&mut packet, received).ok_or(ResumeError::TooLong)?;
        put_counted(&mut packet, path).ok_or(ResumeError::TooLong)?;
        let fixed = packet.len();
        packet.push(u8::try_from(secrets.rungs().count()).unwrap_or(u8::MAX));
        for rung in secrets.rungs() {
            let proof = rung_proof(secrets, rung, secrets.local(), packet.get(..fixed).unwrap_or_default());
            packet.extend_from_slice(&rung.generation.to_be_bytes());
            packet.extend_from_slice(&proof);
        }
        let proof = sender_proof(secrets, secrets.local(), &packet);
        packet.extend_from_slice(&proof);
        Ok(Self { na, packet, answered: false })
    }

    /// The packet, to be sent and sent again.
    pub fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// Checks the peer's answer. On success [`Secrets::adopt`] is due; a second answer to the same Re-Hello is refused.
    ///
    /// # Errors
    /// [`ResumeError`]; the proposal still waits then.
    pub fn handle_answer(&mut self, secrets: &Secrets, answer: &[u8]) -> Result<(Answer, Agreed), ResumeError> {
        let (body, mac) = answer.split_last_chunk::<MAC_BYTES>().ok_or(ResumeError::Malformed)?;
        let parsed = AnswerBody::parse(body).ok_or(ResumeError::Malformed)?;
        if parsed.label != secrets.label() || parsed.na != self.na || self.answered {
            return Err(ResumeError::Malformed);
        }
        let proves = |rung: &&Rung| kdf::equal(&answer_proof(secrets, rung, secrets.peer(), &self.packet, body), mac);
        let rung = secrets.rungs().filter(|rung| rung.generation == parsed.generation).find(proves);
        let rung = rung.ok_or(ResumeError::Forged)?;
        self.answered = true;
        let agreed = secrets.agree(rung, [&self.na, &parsed.nb], parsed.resume, false);
        Ok((Answer { received: parsed.received.to_vec() }, agreed))
    }

    /// Whether `packet` has the form of a Reset on this very Re-Hello. Anybody who has seen that can make one.
    pub fn may_be_reset(&self, secrets: &Secrets, packet: &[u8]) -> bool {
        packet.split_last_chunk::<MAC_BYTES>().is_some_and(|(body, _)| body == reset_body(secrets.label(), &self.na))
    }

    /// Whether `packet` is the peer's word, given on this very Re-Hello, that it cannot resume the session.
    pub fn is_reset(&self, secrets: &Secrets, packet: &[u8]) -> bool {
        secrets.peer_token.as_ref().is_some_and(|token| {
            kdf::equal(&reset_packet(token, secrets.peer(), secrets.local(), secrets.label(), &self.na), packet)
        })
    }
}

/// What the peer says in its answer (the paper's AddConfirm).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it has received.
    pub received: Vec<u8>,
}

/// The peer's Re-Hello, verified.
pub struct ReHello {
    /// What the peer has received.
    pub received: Vec<u8>,
    /// Where the peer says it can be reached now. Nothing but the answer goes there before a packet under the new epoch came.
    pub path: Vec<u8>,
    na: [u8; 32],
    resume: u32,
    rung: Rung,
    digest: Vec<u8>,
}

impl ReHello {
    /// Verifies `packet` as the peer's Re-Hello of this session. An old one may be replayed by anyone: it leads to an answer and to
    /// an [`Agreed`] that nobody can use, so keep the few latest of these, not just one.
    ///
    /// # Errors
    /// [`ResumeError::Stale`] calls for a Reset; drop the packet on any other.
    pub fn verify(secrets: &Secrets, packet: &[u8]) -> Result<Self, ResumeError> {
        if packet.len() > MAX_RESUME_PACKET_BYTES {
            return Err(ResumeError::Malformed);
        }
        let (body, mac) = packet.split_last_chunk::<MAC_BYTES>().ok_or(ResumeError::Malformed)?;
        let parsed = ReHelloBody::parse(body).ok_or(ResumeError::Malformed)?;
        if parsed.label != secrets.label() {
            return Err(ResumeError::Malformed);
        }
        if !kdf::equal(&sender_proof(secrets, secrets.peer(), body), mac) {
            return Err(ResumeError::Forged);
        }
        let shared = secrets.rungs().find(|rung| {
            let proof = rung_proof(secrets, rung, secrets.peer(), parsed.fixed);
            parsed
                .proofs
                .iter()
                .any(|(generation, theirs)| *generation == rung.generation && kdf::equal(&proof, theirs))
        });
        Ok(Self {
            received: parsed.received.to_vec(),
            path: parsed.path.to_vec(),
            na: parsed.na,
            resume: parsed.resume,
            rung: shared.ok_or(ResumeError::Stale)?.clone(),
            digest: packet.to_vec(),
        })
    }

    /// The nonce that the peer chose: the same Re-Hello, sent again, has the same.
    pub fn na(&self) -> &[u8; 32] {
        &self.na
    }

    /// How long `received` may be in an answer that is no longer than this Re-Hello: whoever repeats it to have somebody else flooded gains nothing.
    pub fn room_for_received(&self) -> usize {
        self.digest.len().saturating_sub(EMPTY_ANSWER_BYTES)
    }

    /// Makes the answer. Send it again, instead of making another, when the same Re-Hello comes again.
    ///
    /// # Errors
    /// [`ResumeError::TooLong`].
    pub fn answer(
        self,
        secrets: &mut Secrets,
        received: &[u8],
        rng: &mut Rng,
    ) -> Result<(Vec<u8>, Agreed), ResumeError> {
        if received.len() > MAX_RECEIVED_BYTES {
            return Err(ResumeError::TooLong);
        }
        let resume = self.resume.max(secrets.last_resume.saturating_add(1));
        secrets.last_resume = resume;
        let nb = rng.bytes();
        let mut packet = vec![ContentType::ReHelloAnswer as u8];
        packet.extend_from_slice(&secrets.label().0);
        packet.extend_from_slice(&resume.to_be_bytes());
        packet.extend_from_slice(&self.rung.generation.to_be_bytes());
        packet.extend_from_slice(&self.na);
        packet.extend_from_slice(&nb);
        put_counted(&mut packet, received).ok_or(ResumeError::TooLong)?;
        let proof = answer_proof(secrets, &self.rung, secrets.local(), &self.digest, &packet);
        packet.extend_from_slice(&proof);
        Ok((packet, secrets.agree(&self.rung, [&self.na, &nb], resume, true)))
    }
}

/// See [`LocalKeys::reset`].
pub(crate) fn reset(local: &LocalKeys, peer: NodeId, re_hello: &[u8]) -> Option<Vec<u8>> {
    let parsed = ReHelloBody::parse(re_hello.split_last_chunk::<MAC_BYTES>()?.0)?;
    Some(reset_packet(&local.reset_token(parsed.label), local.id(), peer, parsed.label, &parsed.na))
}

fn reset_packet(token: &[u8; 32], from: NodeId, to: NodeId, label: Label, na: &[u8; 32]) -> Vec<u8> {
    let body = reset_body(label, na);
    let mac = kdf::hmac(token, &[b"muses-v1 reset\0", from.as_bytes(), to.as_bytes(), &body]);
    [body.as_slice(), &mac].concat()
}

fn reset_body(label: Label, na: &[u8; 32]) -> Vec<u8> {
    [[ContentType::Reset as u8].as_slice(), &label.0, na].concat()
}

/// Proves that `from` has `rung`.
fn rung_proof(secrets: &Secrets, rung: &Rung, from: NodeId, fixed: &[u8]) -> [u8; MAC_BYTES] {
    let key: Key = Kdf::extract(&[], &rung.secret).expand("re-hello", secrets.session_id());
    kdf::hmac(&key, &[from.as_bytes(), &rung.generation.to_be_bytes(), fixed])
}

/// Proves that `from` sent `body`.
fn sender_proof(secrets: &Secrets, from: NodeId, body: &[u8]) -> [u8; MAC_BYTES] {
    kdf::hmac(&secrets.auth, &[from.as_bytes(), body])
}

/// Proves that `from` has `rung` and saw `re_hello`.
fn answer_proof(secrets: &Secrets, rung: &Rung, from: NodeId, re_hello: &[u8], body: &[u8]) -> [u8; MAC_BYTES] {
    let key: Key = Kdf::extract(&[], &rung.secret).expand("re-hello answer", secrets.session_id());
    kdf::hmac(&key, &[from.as_bytes(), &kdf::sha256(&[re_hello]), body])
}

struct ReHelloBody<'a> {
    label: Label,
    resume: u32,
    na: [u8; 32],
    received: &'a [u8],
    path: &'a [u8],
    /// What the proofs cover.
    fixed: &'a [u8],
    proofs: Vec<(u32, [u8; MAC_BYTES])>,
}

impl<'a> ReHelloBody<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        if ContentType::of(body)? != ContentType::ReHello {
            return None;
        }
        let mut rest = body.get(1..)?;
        let label = Label(take(&mut rest)?);
        let resume = u32::from_be_bytes(take(&mut rest)?);
        let na = take(&mut rest)?;
        let received = take_counted(&mut rest).filter(|bytes| bytes.len() <= MAX_RECEIVED_BYTES)?;
        let path = take_counted(&mut rest).filter(|bytes| bytes.len() <= MAX_PATH_BYTES)?;
        let fixed = body.get(..body.len().checked_sub(rest.len())?)?;
        let count = u8::from_be_bytes(take(&mut rest)?);
        if !(1..=MAX_RUNGS).contains(&usize::from(count)) {
            return None;
        }
        let mut proofs = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            proofs.push((u32::from_be_bytes(take(&mut rest)?), take(&mut rest)?));
        }
        rest.is_empty().then_some(Self { label, resume, na, received, path, fixed, proofs })
    }
}

struct AnswerBody<'a> {
    label: Label,
    resume: u32,
    generation: u32,
    na: [u8; 32],
    nb: [u8; 32],
    received: &'a [u8],
}

impl<'a> AnswerBody<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        if ContentType::of(body)? != ContentType::ReHelloAnswer {
            return None;
        }
        let mut rest = body.get(1..)?;
        let parsed = Self {
            label: Label(take(&mut rest)?),
            resume: u32::from_be_bytes(take(&mut rest)?),
            generation: u32::from_be_bytes(take(&mut rest)?),
            na: take(&mut rest)?,
            nb: take(&mut rest)?,
            received: take_counted(&mut rest).filter(|bytes| bytes.len() <= MAX_RECEIVED_BYTES)?,
        };
        rest.is_empty().then_some(parsed)
    }
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;
