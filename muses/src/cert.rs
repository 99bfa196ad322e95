//! A node's static X25519 key, certified by its identity (IDcert), and the long-lived keys a node holds.

use core::time::Duration;

use overlay::id::{Identity, NodeId, SIGNATURE_BYTES, Signature};
use overlay::time::{Instant, Now, WallTime};
use zeroize::Zeroizing;

use crate::content::{Label, take};
use crate::dh::{self, KeyPair, PublicKey, PublicKeyOps, Secret};
use crate::handshake::VERSION;
use crate::kdf::{self, Kdf, Key};

/// What the signed bytes of every IDcert begin with.
const CONTEXT: &[u8] = b"muses-static-v1";

/// Signed part: key, epoch, expiry, least version, flags.
const BODY_BYTES: usize = 32 + 8 + 8 + 1 + 1;

/// Length of an encoded [`IdCert`].
pub const CERT_BYTES: usize = BODY_BYTES + SIGNATURE_BYTES;

/// How long a certificate is good for, in seconds: 30 days.
pub const CERT_LIFETIME_S: u64 = 30 * 86_400;

/// How long a static key is kept after the next one was certified: as long as a record may live.
pub const PREVIOUS_KEY_KEPT: Duration = Duration::from_hours(24);

/// How far clocks may disagree when an expiry is judged, in seconds: a day.
pub const CLOCK_SLACK_S: u64 = 86_400;

/// A certificate that is good for so much longer than any is made for comes from so far ahead that its owner takes ours for expired, in seconds.
const MAX_AHEAD_S: u64 = 2 * CERT_LIFETIME_S + CLOCK_SLACK_S;

/// A node's certified static key.
///
/// Bytes: key (32), epoch (8, big-endian), expiry in Unix seconds (8), least protocol version (1), flags (1), then the
/// Ed25519 signature over `"muses-static-v1"` and those 50 bytes. The signer is known from where the certificate was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdCert {
    /// The static X25519 key.
    pub key: PublicKey,
    /// Grows with every static key of this node.
    pub epoch: u64,
    /// When it stops being valid.
    pub expires_unix_s: u64,
    /// The lowest protocol version its owner speaks.
    pub min_version: u8,
    /// Meanings to come; zero today, and unknown ones are ignored.
    pub flags: u8,
    signature: Signature,
}

/// Why a certificate was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// Not [`CERT_BYTES`] long.
    #[error("malformed certificate")]
    Malformed,
    /// Not signed by the node it is about.
    #[error("certificate not signed by its node")]
    Signature,
    /// Expired by more than [`CLOCK_SLACK_S`].
    #[error("expired certificate")]
    Expired,
    /// By its owner's clock ours has expired.
    #[error("certificate from the future")]
    Ahead,
    /// Its owner speaks only newer versions.
    #[error("the peer needs a newer version of the protocol")]
    Version,
}

impl IdCert {
    /// Certifies `key`.
    pub fn issue(identity: &Identity, key: PublicKey, epoch: u64, wall: WallTime, ops: &mut PublicKeyOps) -> Self {
        let expires_unix_s = wall.as_unix_secs().saturating_add(CERT_LIFETIME_S);
        let mut cert =
            Self { key, epoch, expires_unix_s, min_version: VERSION, flags: 0, signature: [0; SIGNATURE_BYTES] };
        cert.signature = dh::sign(identity, &[CONTEXT, &cert.body()].concat(), ops);
        cert
    }

    /// The encoded form: [`CERT_BYTES`] long.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.body().as_slice(), &self.signature].concat()
    }

    /// The certificate in `bytes`, if `owner` signed it and it is still good at `wall`.
    ///
    /// # Errors
    /// [`CertError`] says what is wrong; the signature is checked before anything else is believed.
    pub fn verify(bytes: &[u8], owner: NodeId, wall: WallTime, ops: &mut PublicKeyOps) -> Result<Self, CertError> {
        let cert = Self::parse(bytes).ok_or(CertError::Malformed)?;
        if !dh::verify(owner, &[CONTEXT, &cert.body()].concat(), &cert.signature, ops) {
            return Err(CertError::Signature);
        }
        if wall.as_unix_secs() > cert.expires_unix_s.saturating_add(CLOCK_SLACK_S) {
            return Err(CertError::Expired);
        }
        if cert.expires_unix_s > wall.as_unix_secs().saturating_add(MAX_AHEAD_S) {
            return Err(CertError::Ahead);
        }
        if cert.min_version > VERSION {
            return Err(CertError::Version);
        }
        Ok(cert)
    }

    fn parse(mut rest: &[u8]) -> Option<Self> {
        let cert = Self {
            key: take(&mut rest)?,
            epoch: u64::from_be_bytes(take(&mut rest)?),
            expires_unix_s: u64::from_be_bytes(take(&mut rest)?),
            min_version: u8::from_be_bytes(take(&mut rest)?),
            flags: u8::from_be_bytes(take(&mut rest)?),
            signature: take(&mut rest)?,
        };
        rest.is_empty().then_some(cert)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BODY_BYTES);
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.expires_unix_s.to_be_bytes());
        out.extend_from_slice(&[self.min_version, self.flags]);
        out
    }
}

/// A node's static key as it is kept between runs.
#[derive(Clone)]
pub struct StaticKey {
    /// The X25519 secret.
    pub secret: Zeroizing<[u8; 32]>,
    /// The epoch of its certificates: 0 for a node's first key.
    pub epoch: u64,
    /// The secret before, and until when it is answered for.
    pub previous: Option<(Zeroizing<[u8; 32]>, WallTime)>,
}

impl From<[u8; 32]> for StaticKey {
    /// A node's first key.
    fn from(secret: [u8; 32]) -> Self {
        Self { secret: Zeroizing::new(secret), epoch: 0, previous: None }
    }
}

/// What a node needs to answer and to open handshakes: its identity, its static key and the certificate of it.
pub struct LocalKeys {
    identity: Identity,
    pair: KeyPair,
    /// The static key before, for peers that know no newer record yet, and when it is erased.
    previous: Option<(KeyPair, Instant)>,
    reset_key: Key,
    cert: IdCert,
}

impl LocalKeys {
    /// The keys of a node. The first certificate's epoch is 0.
    pub fn new(identity: Identity, static_secret: &[u8; 32], wall: WallTime, ops: &mut PublicKeyOps) -> Self {
        Self::restored(identity, &(*static_secret).into(), Now { instant: Instant::ZERO, wall }, ops)
    }

    /// The keys of a node that may have changed its static key in an earlier run.
    pub fn restored(identity: Identity, key: &StaticKey, now: Now, ops: &mut PublicKeyOps) -> Self {
        let pair = KeyPair::new(Secret::from_bytes(&key.secret), ops);
        let cert = IdCert::issue(&identity, pair.public, key.epoch, now.wall, ops);
        let previous = key.previous.as_ref().and_then(|(secret, until)| {
            let left_s = until.as_unix_secs().checked_sub(now.wall.as_unix_secs()).filter(|left_s| *left_s > 0)?;
            // A clock that was set back gives it no more time than it had.
            let left = Duration::from_secs(left_s).min(PREVIOUS_KEY_KEPT);
            Some((KeyPair::new(Secret::from_bytes(secret), ops), now.instant + left))
        });
        // Bound to the identity, so that it survives restarts and new static keys without a store entry of its own.
        let secret = Zeroizing::new(identity.derive_secret("muses reset tokens"));
        let reset_key = Kdf::extract(b"muses-reset", secret.as_slice()).expand("reset key", identity.id().as_bytes());
        Self { identity, pair, previous, reset_key, cert }
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.identity.id()
    }

    /// The current certificate.
    pub fn cert(&self) -> &IdCert {
        &self.cert
    }

    /// Certifies the same static key again, from `wall` on. To be called well before [`CERT_LIFETIME_S`] is over.
    pub fn renew(&mut self, wall: WallTime, ops: &mut PublicKeyOps) {
        self.cert = IdCert::issue(&self.identity, self.cert.key, self.cert.epoch, wall, ops);
    }

    /// Goes over to another static key, and certifies it. The one before still answers Hellos for [`PREVIOUS_KEY_KEPT`]: so long may
    /// peers know a record that names it.
    pub fn change_key(&mut self, static_secret: &[u8; 32], now: Now, ops: &mut PublicKeyOps) {
        let pair = KeyPair::new(Secret::from_bytes(static_secret), ops);
        let epoch = self.cert.epoch.saturating_add(1);
        self.cert = IdCert::issue(&self.identity, pair.public, epoch, now.wall, ops);
        let before = core::mem::replace(&mut self.pair, pair);
        self.previous = Some((before, now.instant + PREVIOUS_KEY_KEPT));
    }

    /// Until when the static key before this one is answered for.
    pub fn previous_until(&self) -> Option<Instant> {
        self.previous.as_ref().map(|(_, until)| *until)
    }

    /// Erases the static key before this one when its time is over; says when that will be.
    pub fn forget_previous(&mut self, now: Instant) -> Option<Instant> {
        self.previous = self.previous.take().filter(|(_, until)| *until > now);
        self.previous_until()
    }

    /// The answer to a Re-Hello of `peer` that cannot be honoured. It needs no state: the token that authenticates it was
    /// given to the peer in Finished. `None` when `re_hello` is no Re-Hello.
    ///
    /// Send it only when no session bears the label, or when [`crate::resume::ReHello::verify`] says
    /// [`Stale`](crate::resume::ResumeError::Stale); anything else would let a relay end sessions. Limit its rate.
    pub fn reset(&self, peer: NodeId, re_hello: &[u8]) -> Option<Vec<u8>> {
        crate::resume::reset(self, peer, re_hello)
    }

    /// The token that authenticates resets of the session with this label.
    pub(crate) fn reset_token(&self, label: Label) -> Key {
        Key::new(kdf::hmac(&self.reset_key, &[b"muses-v1 reset token\0", &label.0]))
    }

    /// The static key that this node tells peers.
    pub(crate) fn key_pair(&self) -> &KeyPair {
        &self.pair
    }

    /// The static keys by which peers may address this node, the likeliest first.
    pub(crate) fn key_pairs(&self) -> impl Iterator<Item = &KeyPair> {
        core::iter::once(&self.pair).chain(self.previous.as_ref().map(|(pair, _)| pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued() -> (NodeId, IdCert) {
        let identity = Identity::from_secret(&[1; 32]);
        let cert = IdCert::issue(
            &identity,
            [7; 32],
            3,
            WallTime::from_unix_micros(1_000_000_000_000),
            &mut Default::default(),
        );
        (identity.id(), cert)
    }

    #[test]
    fn a_certificate_verifies_until_a_day_after_its_expiry() {
        let (id, cert) = issued();
        let bytes = cert.to_bytes();
        assert_eq!(bytes.len(), CERT_BYTES);
        let mut ops = PublicKeyOps::default();
        let mut at = |s: u64| IdCert::verify(&bytes, id, WallTime::from_unix_micros(s * 1_000_000), &mut ops);
        assert_eq!(at(1_000_000), Ok(cert.clone()));
        assert_eq!(at(0), Ok(cert.clone()));
        assert_eq!(at(1_000_000 + CERT_LIFETIME_S + CLOCK_SLACK_S), Ok(cert.clone()));
        assert_eq!(at(1_000_001 + CERT_LIFETIME_S + CLOCK_SLACK_S), Err(CertError::Expired));
    }

    #[test]
    fn a_certificate_from_the_future_is_refused_where_its_owner_would_refuse_ours() {
        let identity = Identity::from_secret(&[1; 32]);
        let mut ops = PublicKeyOps::default();
        let wall = |s: u64| WallTime::from_unix_micros(s * 1_000_000);
        let mut verify = |ours_s: u64, theirs_s: u64| {
            let theirs = IdCert::issue(&identity, [7; 32], 3, wall(theirs_s), &mut ops).to_bytes();
            IdCert::verify(&theirs, identity.id(), wall(ours_s), &mut ops).err()
        };
        let gap = CERT_LIFETIME_S + CLOCK_SLACK_S;
        assert_eq!((verify(5, 5 + gap), verify(5 + gap, 5 + gap)), (None, None));
        assert_eq!(
            (verify(5, 6 + gap), verify(6 + gap + CERT_LIFETIME_S, 5)),
            (Some(CertError::Ahead), Some(CertError::Expired))
        );
    }

    #[test]
    fn any_flipped_bit_and_any_other_signer_is_refused() {
        let (id, cert) = issued();
        let good = cert.to_bytes();
        let mut ops = PublicKeyOps::default();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(IdCert::verify(&bad, id, WallTime::default(), &mut ops), Err(CertError::Signature), "bit {bit}");
        }
        let other = Identity::from_secret(&[2; 32]).id();
        assert_eq!(IdCert::verify(&good, other, WallTime::default(), &mut ops), Err(CertError::Signature));
        assert_eq!(IdCert::verify(&good[1..], id, WallTime::default(), &mut ops), Err(CertError::Malformed));
    }

    #[test]
    fn a_peer_that_needs_a_newer_version_is_told_apart() {
        let identity = Identity::from_secret(&[1; 32]);
        let mut cert = issued().1;
        cert.min_version = VERSION + 1;
        cert.signature = identity.sign(&[CONTEXT, &cert.body()].concat());
        let mut ops = PublicKeyOps::default();
        let verified = IdCert::verify(&cert.to_bytes(), identity.id(), WallTime::default(), &mut ops);
        assert_eq!(verified, Err(CertError::Version));
    }

    #[test]
    fn a_changed_key_is_answered_for_after_a_restart_but_not_longer() {
        let identity = || Identity::from_secret(&[1; 32]);
        let at = |s: u64| Now { instant: Instant::ZERO, wall: WallTime::from_unix_micros(s * 1_000_000) };
        let mut ops = PublicKeyOps::default();
        let day_s = PREVIOUS_KEY_KEPT.as_secs();
        let key = StaticKey {
            secret: Zeroizing::new([8; 32]),
            epoch: 3,
            previous: Some((Zeroizing::new([7; 32]), at(1000 + day_s).wall)),
        };
        let mut keys = |s| LocalKeys::restored(identity(), &key, at(s), &mut ops);
        let mut restarted = keys(1000 + day_s - 60);
        assert_eq!((restarted.cert().epoch, restarted.key_pairs().count()), (3, 2));
        let until = Instant::ZERO + Duration::from_mins(1);
        assert_eq!(restarted.forget_previous(Instant::ZERO), Some(until));
        assert_eq!((restarted.forget_previous(until), restarted.key_pairs().count()), (None, 1));
        assert_eq!(keys(1000 + day_s).key_pairs().count(), 1, "its time is over");
        assert_eq!(keys(0).forget_previous(Instant::ZERO), Some(Instant::ZERO + PREVIOUS_KEY_KEPT), "a clock set back");
    }

    #[test]
    fn golden_layout() {
        let (_, cert) = issued();
        let bytes = cert.to_bytes();
        let body =
            [[7; 32].as_slice(), &[0, 0, 0, 0, 0, 0, 0, 3], &[0, 0, 0, 0, 0, 0x36, 0xCF, 0x40], &[1, 0]].concat();
        assert_eq!(bytes[..BODY_BYTES], body);
    }
}
