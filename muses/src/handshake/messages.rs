//! The bytes of the four messages.

use overlay::id::NodeId;
use zeroize::Zeroizing;

use super::cookie::COOKIE_REPLY_BYTES;
use super::{HELLO_BYTES, HandshakeError, MAX_PARAMS_BYTES, Offer, SUITE, VERSION, noise};
use crate::cert::{CERT_BYTES, IdCert, LocalKeys};
use crate::cipher::Cipher;
use crate::content::{ContentType, HANDSHAKE_ID_BYTES, HandshakeId, put_counted, take, take_counted};
use crate::dh::{KeyPair, PublicKey};
use crate::kdf::{self, AeadKey, MAC_BYTES, SHORT_MAC_BYTES, TAG_BYTES};
use crate::keys::Schedule;

pub(super) const HEADER_BYTES: usize = 4 + HANDSHAKE_ID_BYTES;
pub(super) const MAC1_BYTES: usize = SHORT_MAC_BYTES;
pub(super) const MAC2_BYTES: usize = SHORT_MAC_BYTES;

/// What a Hello A is longer than its payload.
const HELLO_OVERHEAD_BYTES: usize = HEADER_BYTES + noise::FIRST_OVERHEAD_BYTES + MAC1_BYTES + MAC2_BYTES;

/// The longest Hello A.
const MAX_HELLO_BYTES: usize = HELLO_OVERHEAD_BYTES + 2 + 2 + CERT_BYTES + 2 + MAX_PARAMS_BYTES;

/// The longest Hello B.
const MAX_REPLY_BYTES: usize =
    HEADER_BYTES + noise::SECOND_OVERHEAD_BYTES + HANDSHAKE_ID_BYTES + 2 + 2 + MAX_PARAMS_BYTES;

const _: () = assert!(MAX_HELLO_BYTES < 2048 && MAX_REPLY_BYTES <= HELLO_BYTES && COOKIE_REPLY_BYTES <= HELLO_BYTES);

/// What all messages begin with, but for ConTYPE.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) id: HandshakeId,
}

impl Header {
    pub(super) fn new(id: HandshakeId) -> Self {
        Self { id }
    }

    fn to_bytes(self, content: ContentType) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&[content as u8, VERSION, SUITE, 0]);
        out[4..].copy_from_slice(&self.id.0);
        out
    }

    /// Binds version, suite, handshake id and both ends.
    pub(super) fn prologue(self, a: NodeId, b: NodeId) -> Vec<u8> {
        let header = self.to_bytes(ContentType::Hello1);
        [b"muses-handshake-v1".as_slice(), &header, a.as_bytes(), b.as_bytes()].concat()
    }

    pub(super) fn packet(self, content: ContentType, message: &[u8]) -> Vec<u8> {
        [self.to_bytes(content).as_slice(), message].concat()
    }

    /// What follows the header in a message of this handshake.
    pub(super) fn strip(self, packet: &[u8], content: ContentType) -> Result<&[u8], HandshakeError> {
        packet.strip_prefix(&self.to_bytes(content)).ok_or(HandshakeError::Malformed)
    }

    /// A Finished: sealed { HMAC(own key, h || `before`), token }.
    pub(super) fn finished(
        self,
        content: ContentType,
        schedule: &Schedule,
        hash: &[u8; 32],
        before: &[u8],
        token: &[u8; 32],
    ) -> Result<Vec<u8>, HandshakeError> {
        let ([mac_a, mac_b], [seal_a, seal_b]) = (&schedule.finished, &schedule.finished_seal);
        let (mac, seal) = if content == ContentType::FinishedA { (mac_a, seal_a) } else { (mac_b, seal_b) };
        let plain = Zeroizing::new([kdf::hmac(mac, &[hash, before]).as_slice(), token].concat());
        let header = self.to_bytes(content);
        // Each of these keys seals this one message, which is the same however often it is made.
        let sealed =
            AeadKey::new(Cipher::ChaCha20Poly1305, seal).seal_vec(0, &header, &plain).ok_or(HandshakeError::TooLong)?;
        Ok(self.packet(content, &sealed))
    }

    /// Checks what [`Header::finished`] made; returns the token.
    pub(super) fn open_finished(
        self,
        content: ContentType,
        sealed: &[u8],
        mac: &[u8; 32],
        seal: &[u8; 32],
        hash: &[u8; 32],
        before: &[u8],
    ) -> Result<[u8; 32], HandshakeError> {
        if sealed.len() != MAC_BYTES + 32 + TAG_BYTES {
            return Err(HandshakeError::Malformed);
        }
        let plain = AeadKey::new(Cipher::ChaCha20Poly1305, seal).open_vec(0, &self.to_bytes(content), sealed);
        let plain = Zeroizing::new(plain.ok_or(HandshakeError::Unauthenticated)?);
        let mut rest = plain.as_slice();
        let theirs: [u8; MAC_BYTES] = take(&mut rest).ok_or(HandshakeError::Malformed)?;
        if !kdf::equal(&theirs, &kdf::hmac(mac, &[hash, before])) {
            return Err(HandshakeError::Unauthenticated);
        }
        take(&mut rest).ok_or(HandshakeError::Malformed)
    }
}

/// The payload of Hello A.
pub(super) struct HelloA<'a> {
    pub(super) port: u16,
    pub(super) cert: &'a [u8],
    pub(super) params: &'a [u8],
}

impl<'a> HelloA<'a> {
    pub(super) fn payload(offer: Offer<'_>, cert: &IdCert) -> Result<Vec<u8>, HandshakeError> {
        let mut out = Vec::with_capacity(HELLO_BYTES);
        out.extend_from_slice(&offer.port.to_be_bytes());
        put_counted(&mut out, &cert.to_bytes()).ok_or(HandshakeError::TooLong)?;
        put_params(&mut out, offer.params)?;
        out.resize(out.len().max(HELLO_BYTES - HELLO_OVERHEAD_BYTES), 0);
        Ok(out)
    }

    pub(super) fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut rest = payload;
        let port = u16::from_be_bytes(take(&mut rest)?);
        let cert = take_counted(&mut rest)?;
        let params = take_counted(&mut rest).filter(|params| params.len() <= MAX_PARAMS_BYTES)?;
        // The rest is padding, which may come to mean something: not looked at.
        Some(Self { port, cert, params })
    }

    /// header, `message`, mac1, mac2.
    pub(super) fn packet(header: &Header, message: &[u8], key: &PublicKey) -> Vec<u8> {
        let mut packet = header.packet(ContentType::Hello1, message);
        let mac1 = mac1_of(key, &packet);
        packet.extend_from_slice(&mac1);
        packet.extend_from_slice(&[0; MAC2_BYTES]);
        packet
    }
}

/// A Hello A that is meant for a key of ours, as mac1 shows. Nothing else that it says is known to be true.
pub struct AddressedHello<'k, 'p> {
    pub(super) header: Header,
    /// Noise's first message.
    pub(super) message: &'p [u8],
    /// All that mac2 covers: header, message, mac1.
    pub(super) covered: &'p [u8],
    pub(super) mac2: [u8; MAC2_BYTES],
    /// The key it is for.
    pub(super) key: &'k KeyPair,
}

impl<'k, 'p> AddressedHello<'k, 'p> {
    /// Checks all of `packet` that costs no public-key work.
    ///
    /// # Errors
    /// [`HandshakeError::Malformed`], [`HandshakeError::Version`] or [`HandshakeError::Mac1`]; drop the packet.
    pub fn parse(local: &'k LocalKeys, packet: &'p [u8]) -> Result<Self, HandshakeError> {
        if !(HELLO_BYTES..=MAX_HELLO_BYTES).contains(&packet.len()) {
            return Err(HandshakeError::Malformed);
        }
        let header = Header::new(HandshakeId::of(packet).ok_or(HandshakeError::Malformed)?);
        let (covered, mac2) = packet.split_last_chunk().ok_or(HandshakeError::Malformed)?;
        let (body, mac1) = covered.split_last_chunk::<MAC1_BYTES>().ok_or(HandshakeError::Malformed)?;
        let message = body.strip_prefix(&header.to_bytes(ContentType::Hello1)).ok_or(HandshakeError::Version)?;
        let is_for = |key: &&KeyPair| kdf::equal(mac1, &mac1_of(&key.public, body));
        let key = local.key_pairs().find(is_for).ok_or(HandshakeError::Mac1)?;
        Ok(Self { header, message, covered, mac2: *mac2, key })
    }

    /// Which handshake it opens.
    pub fn id(&self) -> HandshakeId {
        self.header.id
    }

    /// Tells this Hello from every other, whatever its mac2.
    pub(crate) fn digest(&self) -> [u8; 32] {
        kdf::sha256(&[self.covered])
    }

    pub(super) fn mac1(&self) -> &[u8; MAC1_BYTES] {
        // What mac2 covers ends with mac1: `parse` has seen to it.
        self.covered.last_chunk().unwrap_or(&[0; MAC1_BYTES])
    }
}

/// mac1 of a Hello A of ours.
pub(super) fn mac1_in(hello: &[u8]) -> Option<&[u8; MAC1_BYTES]> {
    hello.split_last_chunk::<MAC2_BYTES>()?.0.last_chunk()
}

/// The payload of Hello B.
pub(super) struct HelloB {
    pub(super) random: [u8; HANDSHAKE_ID_BYTES],
    pub(super) port: u16,
    pub(super) params: Vec<u8>,
}

impl HelloB {
    pub(super) fn payload(offer: Offer<'_>, random: &[u8; HANDSHAKE_ID_BYTES]) -> Result<Vec<u8>, HandshakeError> {
        let mut out = random.to_vec();
        out.extend_from_slice(&offer.port.to_be_bytes());
        put_params(&mut out, offer.params)?;
        Ok(out)
    }

    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let mut rest = payload;
        let random = take(&mut rest)?;
        let port = u16::from_be_bytes(take(&mut rest)?);
        let params = take_counted(&mut rest).filter(|params| params.len() <= MAX_PARAMS_BYTES)?.to_vec();
        Some(Self { random, port, params })
    }
}

fn put_params(out: &mut Vec<u8>, params: &[u8]) -> Result<(), HandshakeError> {
    if params.len() > MAX_PARAMS_BYTES {
        return Err(HandshakeError::TooLong);
    }
    put_counted(out, params).ok_or(HandshakeError::TooLong)
}

pub(super) fn mac1_of(key: &PublicKey, covered: &[u8]) -> [u8; MAC1_BYTES] {
    kdf::short_mac(&kdf::sha256(&[b"muses-v1 mac1\0", key]), &[covered])
}
