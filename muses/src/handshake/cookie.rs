//! Cookies: how B under load tells those who can be answered from those who only pretend to be somewhere.
//!
//! As in WireGuard (Donenfeld, *WireGuard: Next Generation Kernel Network Tunnel*, NDSS 2017, sections 5.3 and 5.4.7):
//!
//! ```text
//! cookie       = HMAC(secret of B, changed every 120 s; id of A, inbound neighbour, return path)
//! Cookie reply = header, nonce (24), XChaCha20-Poly1305(HASH("muses-v1 cookie\0" . key of B); nonce; AAD = mac1 of the Hello; cookie)
//! mac2         = the first 16 bytes of HMAC(cookie; all of the Hello before mac2)
//! ```
//!
//! B keeps nothing for a cookie and does no public-key work for it. Only who sees the Hello can make a reply to it that A
//! believes: mac1 is the associated data, so nobody elsewhere can send A into useless work.

use core::time::Duration;
use std::collections::BTreeMap;

use overlay::id::NodeId;
use overlay::rng::Rng;
use overlay::time::Instant;
use zeroize::Zeroizing;

use super::messages::{AddressedHello, MAC1_BYTES, MAC2_BYTES};
use crate::content::{ContentType, take};
use crate::dh::PublicKey;
use crate::event::Arrival;
use crate::kdf::{self, Key, MAC_BYTES, TAG_BYTES, XNONCE_BYTES};

/// How long one secret makes cookies, and how long A keeps one.
pub const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

/// Length of a Cookie reply.
pub const COOKIE_REPLY_BYTES: usize = super::messages::HEADER_BYTES + XNONCE_BYTES + MAC_BYTES + TAG_BYTES;

/// Cookies of peers that A keeps at most.
const MAX_KEPT: usize = 64;

/// What shows that its holder receives what is sent to where it says it is.
#[derive(Clone)]
pub struct Cookie(Key);

impl Cookie {
    /// Puts this cookie's mac2 into a Hello A.
    pub fn stamp(&self, hello: &mut [u8]) {
        let Some((covered, mac2)) = hello.split_last_chunk_mut::<MAC2_BYTES>() else { return };
        *mac2 = self.mac2(covered);
    }

    /// Whether `hello` bears this cookie's mac2. Zeros say that it bears none, which is most of a flood and costs no hash.
    pub(crate) fn is_on(&self, hello: &AddressedHello<'_, '_>) -> bool {
        hello.mac2 != [0; MAC2_BYTES] && kdf::equal(&hello.mac2, &self.mac2(hello.covered))
    }

    /// The reply that brings this cookie to the sender of `hello`, and to nobody else.
    pub(crate) fn reply(&self, hello: &AddressedHello<'_, '_>, rng: &mut Rng) -> Option<Vec<u8>> {
        let nonce = rng.bytes();
        let sealed = kdf::xseal(&key_of(&hello.key.public), &nonce, hello.mac1(), self.0.as_slice())?;
        Some(hello.header.packet(ContentType::Cookie, &[nonce.as_slice(), &sealed].concat()))
    }

    /// The cookie in what follows the header of a reply to the Hello with this mac1, sent to the holder of `key`.
    pub(super) fn open(mut rest: &[u8], key: &PublicKey, mac1: &[u8; MAC1_BYTES]) -> Option<Self> {
        let nonce = take(&mut rest)?;
        let plain = Zeroizing::new(kdf::xopen(&key_of(key), &nonce, mac1, rest)?);
        Some(Self(Zeroizing::new(plain.as_slice().try_into().ok()?)))
    }

    fn mac2(&self, covered: &[u8]) -> [u8; MAC2_BYTES] {
        kdf::short_mac(&self.0, &[covered])
    }
}

impl PartialEq for Cookie {
    fn eq(&self, other: &Self) -> bool {
        kdf::equal(self.0.as_slice(), other.0.as_slice())
    }
}

/// What B makes cookies from.
pub(crate) struct CookieSecret {
    secret: Key,
    until: Instant,
}

impl CookieSecret {
    pub(crate) fn new(rng: &mut Rng, now: Instant) -> Self {
        Self { secret: Zeroizing::new(rng.bytes()), until: now + COOKIE_LIFETIME }
    }

    /// Takes another secret when this one is old: cookies made from it are worth nothing then.
    pub(crate) fn refresh(&mut self, rng: &mut Rng, now: Instant) {
        if self.until <= now {
            *self = Self::new(rng, now);
        }
    }

    /// The cookie of whoever came this way.
    pub(crate) fn cookie(&self, arrival: &Arrival) -> Cookie {
        let via = arrival.via.map_or([0; 32], |via| *via.as_bytes());
        let parts = [b"muses-v1 cookie\0", arrival.from.as_bytes().as_slice(), &via, &arrival.return_path.0];
        Cookie(Zeroizing::new(kdf::hmac(&self.secret, &parts)))
    }
}

/// The cookies that A was given, each for as long as it may be good.
#[derive(Default)]
pub(crate) struct Cookies(BTreeMap<NodeId, (Cookie, Instant)>);

impl Cookies {
    pub(crate) fn keep(&mut self, peer: NodeId, cookie: Cookie, now: Instant) {
        self.0.retain(|_, (_, until)| *until > now);
        if self.0.len() < MAX_KEPT || self.0.contains_key(&peer) {
            self.0.insert(peer, (cookie, now + COOKIE_LIFETIME));
        }
    }

    pub(crate) fn of(&self, peer: &NodeId, now: Instant) -> Option<&Cookie> {
        self.0.get(peer).filter(|(_, until)| *until > now).map(|(cookie, _)| cookie)
    }
}

fn key_of(key: &PublicKey) -> [u8; 32] {
    kdf::sha256(&[b"muses-v1 cookie\0", key])
}

#[cfg(test)]
#[path = "cookie_tests.rs"]
mod tests;
