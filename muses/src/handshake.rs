//! The four messages that open a session: Hello, Hello, Finished, Finished.
//!
//! In shape Noise_IKhfs_25519+MLKEM768_ChaChaPoly_SHA256, with SessID mixed into every later key and an explicit Finished both ways:
//!
//! ```text
//! header     ConTYPE (1), version (1), suite (1), 0 (1), handshake id (16)       the same, but for ConTYPE, in all
//! Hello A    header, e, sealed { e1 }, sealed { s }, sealed { port (2), IDcert-A, params, padding }, mac1 (16), mac2 (16)
//! Hello B    header, e, sealed { ekem1 }, sealed { 16 random bytes, port (2), params }
//! Cookie     header, nonce (24), sealed { cookie (32) }                          instead of Hello B, under load
//! Finished A header, sealed { HMAC(fa, h), token }
//! Finished B header, sealed { HMAC(fb, h || Finished A), token }
//! prologue   "muses-handshake-v1", header of Hello A, id of A, id of B
//! pSessID    port . node id . 16 random bytes; A's random bytes are the handshake id
//! ```
//!
//! IDcert and params have a 16-bit length before them. Hello A is padded to [`HELLO_BYTES`], so B's is never larger. mac1 is keyed by
//! B's static key: it keeps out noise, not attackers. mac2 is zero until B, under load, asks for it with a [`cookie`]; A's Hello is
//! otherwise the same then. Any message may be sent again as it is.
//!
//! # What holds
//! - **One suite.** The prologue binds version, suite and the zero byte as A sent them, and B knows one value of each, so there is nothing to
//!   strip. The least version that a node speaks is in its certificate. What seals the session's packets follows from both ends' params,
//!   which are sealed and hashed: [`cipher`](crate::cipher).
//! - **Hybrid.** Keys are secret as long as X25519 *or* ML-KEM-768 is; who is who rests on X25519 and Ed25519.
//! - **No delivery before Finished A.** Whoever stole B's static key can make a Hello that looks like A's, as in any IK handshake, but not read B's answer to it
//!   (`se` takes A's key). B has no session, delivers nothing and opens no socket until Finished A shows that A did.
//! - **Little for strangers.** Before the Hello is authentic, B does at most [`OPS_PER_HELLO`] public-key operations, within budgets, no look-up, and
//!   keeps nothing. No reply is larger than what draws it.

pub mod cookie;
#[doc(hidden)]
pub mod fuzzing;
mod messages;
mod noise;
pub mod params;

use overlay::id::NodeId;
use overlay::rng::Rng;
use overlay::time::WallTime;
use zeroize::Zeroizing;

use self::cookie::Cookie;
pub use self::messages::AddressedHello;
use self::messages::{Header, HelloA, HelloB};
use self::noise::{EphemeralA, EphemeralB, NoiseError, SentFirst, Split};
use crate::cert::{CertError, IdCert, LocalKeys};
use crate::cipher::Cipher;
use crate::content::{ContentType, HandshakeId, PARTIAL_ID_BYTES, SESSION_ID_BYTES, partial_session_id};
use crate::dh::{PublicKey, PublicKeyOps, Secret};
use crate::kem::{KemCoins, KemSecret};
use crate::keys::{self, Role, Schedule, Secrets};
use crate::packet::{Opener, Sealer};

/// The version of the protocol that is spoken here.
pub const VERSION: u8 = 1;

/// The one suite: X25519 with ML-KEM-768, ChaCha20-Poly1305, SHA-256. (Suite 1, without ML-KEM, was never released.)
pub const SUITE: u8 = 2;

/// Public-key operations that one Hello A makes B do at most: es, ss, the certificate, e, ee, ekem1, se.
pub const OPS_PER_HELLO: u64 = 7;

/// The longest params.
pub const MAX_PARAMS_BYTES: usize = 256;

/// Least length of a Hello A, which params only make longer. No B answers with more.
pub const HELLO_BYTES: usize = 1472;

/// Why a handshake message was not made or not accepted. The state is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not such a message, or not of this handshake.
    #[error("malformed or not expected")]
    Malformed,
    /// Another version or suite.
    #[error("another version or suite")]
    Version,
    /// mac1 is wrong: not meant for our key, or noise.
    #[error("not addressed to our key")]
    Mac1,
    /// A public key of small order.
    #[error("weak key")]
    WeakKey,
    /// Some seal or MAC is wrong.
    #[error("not authentic")]
    Unauthenticated,
    /// The peer's certificate is no good.
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// Params exceed [`MAX_PARAMS_BYTES`].
    #[error("params too long")]
    TooLong,
}

impl From<NoiseError> for HandshakeError {
    fn from(error: NoiseError) -> Self {
        match error {
            NoiseError::Malformed => Self::Malformed,
            NoiseError::WeakKey => Self::WeakKey,
            NoiseError::Unauthenticated => Self::Unauthenticated,
        }
    }
}

/// What an end brings to a handshake.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// The source port that goes into its pSessID.
    pub port: u16,
    /// What the peer is to know, at most [`MAX_PARAMS_BYTES`]: authenticated, and secret. See [`params`].
    pub params: &'a [u8],
}

/// A session's cryptography, ready for packets.
pub struct Established {
    /// What to keep.
    pub secrets: Secrets,
    /// Seals what this end sends.
    pub sealer: Sealer,
    /// Opens what the peer sends.
    pub opener: Opener,
    /// The peer's [`Offer::params`].
    pub peer_params: Vec<u8>,
    /// The peer's [`Offer::port`].
    pub peer_port: u16,
}

/// A, after its Hello.
pub struct Initiator {
    state: SentFirst,
    header: Header,
    peer: NodeId,
    peer_key: PublicKey,
    port: u16,
    params: Vec<u8>,
    answered: bool,
}

/// What A has after B's Hello.
pub struct Answered {
    /// The packet to send now, and again until B's Finished is there. Data may follow at once.
    pub finished: Vec<u8>,
    /// The session.
    pub established: Established,
    /// Waits for B's Finished.
    pub pending: PendingFinished,
}

impl Initiator {
    /// Opens a handshake with `peer`, whose certificate was verified. Returns the Hello to send.
    ///
    /// # Errors
    /// [`HandshakeError::TooLong`], or [`HandshakeError::WeakKey`] if the certified key is one.
    pub fn start(
        local: &LocalKeys,
        peer: NodeId,
        peer_cert: &IdCert,
        offer: Offer<'_>,
        rng: &mut Rng,
        ops: &mut PublicKeyOps,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let header = Header::new(HandshakeId(rng.bytes()));
        let payload = HelloA::payload(offer, local.cert())?;
        let prologue = header.prologue(local.id(), peer);
        let ephemeral = EphemeralA { dh: Secret::generate(rng), kem: KemSecret::generate(rng, ops) };
        let (state, message) =
            noise::write_first(&prologue, local.key_pair(), &peer_cert.key, ephemeral, &payload, ops)?;
        let packet = HelloA::packet(&header, &message, &peer_cert.key);
        let peer_key = peer_cert.key;
        let params = offer.params.to_vec();
        Ok((Self { state, header, peer, peer_key, port: offer.port, params, answered: false }, packet))
    }

    /// The peer.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// What the four messages carry.
    pub fn id(&self) -> HandshakeId {
        self.header.id
    }

    /// The cookie that B sent instead of an answer to `hello`, which this handshake began with.
    ///
    /// # Errors
    /// [`HandshakeError`]; drop the packet.
    pub fn handle_cookie(&self, hello: &[u8], packet: &[u8]) -> Result<Cookie, HandshakeError> {
        let sealed = self.header.strip(packet, ContentType::Cookie)?;
        let mac1 = messages::mac1_in(hello).ok_or(HandshakeError::Malformed)?;
        Cookie::open(sealed, &self.peer_key, mac1).ok_or(HandshakeError::Unauthenticated)
    }

    /// Reads B's Hello. A forged one changes nothing; after the true one every other is refused.
    ///
    /// # Errors
    /// [`HandshakeError`]; drop the packet.
    pub fn handle_hello(
        &mut self,
        local: &LocalKeys,
        packet: &[u8],
        ops: &mut PublicKeyOps,
    ) -> Result<Answered, HandshakeError> {
        let message = self.header.strip(packet, ContentType::Hello2)?;
        if self.answered {
            return Err(HandshakeError::Malformed);
        }
        let (payload, split) = self.state.read_second(message, ops)?;
        let hello = HelloB::parse(&payload).ok_or(HandshakeError::Malformed)?;
        let session_id = session_id(
            &partial_session_id(self.port, local.id(), &self.header.id.0),
            &partial_session_id(hello.port, self.peer, &hello.random),
        );
        let schedule = schedule(&split, session_id, Role::Initiator, Cipher::agreed(&self.params, &hello.params));
        let token = local.reset_token(schedule.secrets.label());
        let finished = self.header.finished(ContentType::FinishedA, &schedule, &split.hash, &[], &token)?;
        self.answered = true;
        let pending = PendingFinished {
            header: self.header,
            hash: split.hash,
            finished_a: finished.clone(),
            mac: schedule.finished[1].clone(),
            seal: schedule.finished_seal[1].clone(),
        };
        Ok(Answered { finished, established: established(schedule, hello.params, hello.port), pending })
    }
}

/// A, until B's Finished.
pub struct PendingFinished {
    header: Header,
    hash: [u8; 32],
    finished_a: Vec<u8>,
    mac: Zeroizing<[u8; 32]>,
    seal: Zeroizing<[u8; 32]>,
}

impl PendingFinished {
    /// Reads B's Finished: B has opened the session, and `secrets` learn the token of its resets.
    ///
    /// # Errors
    /// [`HandshakeError`]; drop the packet.
    pub fn handle_finished(&self, packet: &[u8], secrets: &mut Secrets) -> Result<(), HandshakeError> {
        let sealed = self.header.strip(packet, ContentType::FinishedB)?;
        let token = self.header.open_finished(
            ContentType::FinishedB,
            sealed,
            &self.mac,
            &self.seal,
            &self.hash,
            &self.finished_a,
        )?;
        secrets.peer_token = Some(token);
        Ok(())
    }
}

/// B, after its Hello: half-open. Nothing is delivered to an application before A's Finished.
pub struct Responder {
    header: Header,
    peer: NodeId,
    hash: [u8; 32],
    /// Gone once the session is open.
    schedule: Option<Schedule>,
    peer_params: Vec<u8>,
    peer_port: u16,
    token: Zeroizing<[u8; 32]>,
}

impl Responder {
    /// Answers A's Hello, which came `from` that node. Returns the Hello to send, and to send again when A's comes again.
    /// This is where public-key work begins, at most [`OPS_PER_HELLO`] operations.
    ///
    /// # Errors
    /// [`HandshakeError`]; drop the packet.
    pub fn handle_hello(
        local: &LocalKeys,
        hello: &AddressedHello<'_, '_>,
        from: NodeId,
        offer: Offer<'_>,
        rng: &mut Rng,
        ops: &mut PublicKeyOps,
        wall: WallTime,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let header = hello.header;
        let prologue = header.prologue(from, local.id());
        let (state, payload) = noise::read_first(&prologue, hello.key, hello.message, ops)?;
        let hello = HelloA::parse(&payload).ok_or(HandshakeError::Malformed)?;
        let cert = IdCert::verify(hello.cert, from, wall, ops)?;
        if cert.key != state.remote {
            return Err(HandshakeError::Unauthenticated);
        }
        let random = rng.bytes();
        let payload = HelloB::payload(offer, &random)?;
        let ephemeral = EphemeralB { dh: Secret::generate(rng), kem: KemCoins::generate(rng) };
        let (message, split) = state.write_second(ephemeral, &payload, ops)?;
        let session_id = session_id(
            &partial_session_id(hello.port, from, &header.id.0),
            &partial_session_id(offer.port, local.id(), &random),
        );
        let schedule = schedule(&split, session_id, Role::Responder, Cipher::agreed(offer.params, hello.params));
        let token = local.reset_token(schedule.secrets.label());
        let reply = header.packet(ContentType::Hello2, &message);
        let responder = Self {
            header,
            peer: from,
            hash: split.hash,
            schedule: Some(schedule),
            peer_params: hello.params.to_vec(),
            peer_port: hello.port,
            token,
        };
        Ok((responder, reply))
    }

    /// The peer.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// What the four messages carry.
    pub fn id(&self) -> HandshakeId {
        self.header.id
    }

    /// Reads A's Finished: the session is open. Returns B's Finished, to be sent now and again whenever A's comes again.
    /// A forged one changes nothing; after the true one every other is refused.
    ///
    /// # Errors
    /// [`HandshakeError`]; drop the packet.
    pub fn handle_finished(&mut self, packet: &[u8]) -> Result<(Vec<u8>, Established), HandshakeError> {
        let sealed = self.header.strip(packet, ContentType::FinishedA)?;
        let schedule = self.schedule.as_ref().ok_or(HandshakeError::Malformed)?;
        let [mac, _] = &schedule.finished;
        let [seal, _] = &schedule.finished_seal;
        let peer_token = self.header.open_finished(ContentType::FinishedA, sealed, mac, seal, &self.hash, &[])?;
        let finished = self.header.finished(ContentType::FinishedB, schedule, &self.hash, packet, &self.token)?;
        let mut schedule = self.schedule.take().ok_or(HandshakeError::Malformed)?;
        schedule.secrets.peer_token = Some(peer_token);
        Ok((finished, established(schedule, core::mem::take(&mut self.peer_params), self.peer_port)))
    }
}

fn established(schedule: Schedule, peer_params: Vec<u8>, peer_port: u16) -> Established {
    let Schedule { secrets, sealer, opener, .. } = schedule;
    Established { secrets, sealer, opener, peer_params, peer_port }
}

fn schedule(split: &Split, session_id: [u8; SESSION_ID_BYTES], role: Role, cipher: Cipher) -> Schedule {
    let mut both = Zeroizing::new([0; 64]);
    both[..32].copy_from_slice(split.first.as_slice());
    both[32..].copy_from_slice(split.second.as_slice());
    keys::schedule(&both, &split.hash, session_id, role, cipher)
}

fn session_id(a: &[u8; PARTIAL_ID_BYTES], b: &[u8; PARTIAL_ID_BYTES]) -> [u8; SESSION_ID_BYTES] {
    let mut out = [0; SESSION_ID_BYTES];
    out[..PARTIAL_ID_BYTES].copy_from_slice(a);
    out[PARTIAL_ID_BYTES..].copy_from_slice(b);
    out
}

#[cfg(test)]
pub(crate) mod tests;
