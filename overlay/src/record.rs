//! Signed records: what the DHT keeps. A record proves itself, so any node may store, hand on or repeat it.
//!
//! The bytes are laid out by hand, big endian:
//!
//! | offset | length | what |
//! | --- | --- | --- |
//! | 0 | 1 | kind: 1 [`NodeRecord`], 2 [`NameClaim`], 3 [`Revocation`] |
//! | 1 | 32 | the [`NodeId`] whose record it is, and who signs |
//! | 33 | 8 | sequence number |
//! | 41 | 4 | lifetime in seconds |
//! | 45 | | the body of the kind |
//! | last 64 | 64 | Ed25519 over `"muses-record-v1\0"` and all that stands before |
//!
//! The fixed part is enough to check the signature, and nothing behind it is looked at before that, but for the recovery key in a revocation, which
//! signs in the node's place.

mod claim;
mod layout;
mod name;
mod node;
mod revocation;

use sha2::{Digest as _, Sha256};

pub use claim::NameClaim;
pub use name::{MAX_NAME_BYTES, Name, ParseNameError};
pub use node::{FLAG_LEAF, Hint, MAX_CERT_BYTES, MAX_HINTS, MAX_MULTIADDRS, NodeRecord};
pub use revocation::{Endorsed, REVOKED_SEQ, Revocation};

use std::sync::Arc;

use crate::id::{CheckEach, CheckSignatures, Identity, NodeId, SIGNATURE_BYTES};
use crate::time::Now;
use layout::Reader;

/// Longest record with its signature, in bytes.
pub const MAX_RECORD_BYTES: usize = 1000;
/// Longest lifetime of a record, in seconds.
pub const MAX_LIFETIME_S: u32 = 24 * 60 * 60;

/// Kind, id, number, lifetime.
const HEAD_BYTES: usize = 1 + 32 + 8 + 4;
const SIGNED_TEXT: &[u8] = b"muses-record-v1\0";
const KEY_TEXT: &[u8] = b"muses-key-v1";
const KIND_NODE: u8 = 1;
const KIND_NAME: u8 = 2;
const KIND_REVOCATION: u8 = 3;

/// Where a record belongs: `SHA-256("muses-key-v1" || kind || id or name)`.
pub type RecordKey = [u8; 32];

/// What can be looked up.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Query {
    /// The [`NodeRecord`] of this node, or its [`Revocation`].
    Node(NodeId),
    /// The [`NameClaim`] of this name; whom it names is then a second query.
    Name(Name),
}

impl Query {
    /// The key of the records that answer it.
    pub fn key(&self) -> RecordKey {
        let (kind, subject) = match self {
            Self::Node(id) => (KIND_NODE, id.as_bytes().as_slice()),
            Self::Name(name) => (KIND_NAME, name.as_str().as_bytes()),
        };
        Sha256::new().chain_update(KEY_TEXT).chain_update([kind]).chain_update(subject).finalize().into()
    }
}

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// Where a node is.
    Node(NodeRecord),
    /// Whom a name means.
    Name(NameClaim),
    /// That a node's identity counts no more.
    Revocation(Revocation),
}

/// Why bytes are not a valid record, or a record cannot be signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// Longer than [`MAX_RECORD_BYTES`], also without hints and multiaddrs.
    #[error("the record is too long")]
    TooLong,
    /// Not laid out as a record.
    #[error("malformed record")]
    Malformed,
    /// The signature does not match.
    #[error("the record's signature is wrong")]
    Signature,
    /// A lifetime of 0 or above [`MAX_LIFETIME_S`].
    #[error("the record's lifetime is out of range")]
    Lifetime,
    /// The record speaks for another node than the one that signs or publishes it.
    #[error("the record belongs to another node")]
    NotOwn,
}

/// A record whose signature was made or checked here. Copies share their contents.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRecord {
    bytes: Arc<[u8]>,
    record: Arc<Record>,
    key: RecordKey,
}

impl SignedRecord {
    /// Signs `record`. Hints, then multiaddrs, are dropped from the end until it fits.
    ///
    /// # Errors
    /// [`RecordError`] when it is another node's, or has a bad lifetime, or does not fit.
    pub fn sign(identity: &Identity, mut record: Record) -> Result<Self, RecordError> {
        if record.id() != identity.id() {
            return Err(RecordError::NotOwn);
        }
        if record.seq() == REVOKED_SEQ && !matches!(record, Record::Revocation(_)) {
            return Err(RecordError::Malformed);
        }
        check_lifetime(record.lifetime_s())?;
        let bytes = loop {
            let bytes = record.to_bytes()?;
            if bytes.len() + SIGNATURE_BYTES <= MAX_RECORD_BYTES {
                break bytes;
            }
            record.shorten()?;
        };
        Ok(Self::seal(identity, record, bytes))
    }

    /// Ends `identity`.
    pub fn revoke(identity: &Identity) -> Self {
        Self::sign_revocation(identity, Revocation { id: identity.id(), lifetime_s: MAX_LIFETIME_S, recovery: None })
    }

    /// Ends the identity `id` by its recovery key. It verifies only if `endorsed` is that identity's word about that key.
    pub fn revoke_by(recovery: &Identity, id: NodeId, endorsed: Endorsed) -> Self {
        Self::sign_revocation(recovery, Revocation { id, lifetime_s: MAX_LIFETIME_S, recovery: Some(endorsed) })
    }

    fn sign_revocation(signer: &Identity, revocation: Revocation) -> Self {
        let mut bytes = head(KIND_REVOCATION, revocation.id, REVOKED_SEQ, revocation.lifetime_s);
        revocation.write(&mut bytes);
        Self::seal(signer, Record::Revocation(revocation), bytes)
    }

    fn seal(signer: &Identity, record: Record, mut bytes: Vec<u8>) -> Self {
        let signature = signer.sign(&[SIGNED_TEXT, &bytes].concat());
        bytes.extend_from_slice(&signature);
        let key = record.query().key();
        Self { bytes: bytes.into(), record: Arc::new(record), key }
    }

    /// The record in `bytes`, if its signature is right.
    ///
    /// # Errors
    /// [`RecordError`] for anything else; nothing but the signer's id was decoded before the signature was checked.
    pub fn verify(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::verify_with(bytes, &CheckEach)
    }

    /// The same with another way to check the signature.
    ///
    /// # Errors
    /// As [`SignedRecord::verify`].
    pub fn verify_with(bytes: &[u8], checks: &dyn CheckSignatures) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLong);
        }
        let (body, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(RecordError::Malformed)?;
        let mut reader = Reader::new(body);
        let kind = reader.u8().ok_or(RecordError::Malformed)?;
        let id = NodeId::from_bytes(reader.array().ok_or(RecordError::Malformed)?);
        let recovery = if kind == KIND_REVOCATION { recovery_key(body) } else { None };
        let (signer, endorsed) = recovery.map_or((id, true), |recovery| (recovery.key, recovery.holds(&id, checks)));
        if !endorsed || !checks.check(&signer, &[SIGNED_TEXT, body].concat(), signature) {
            return Err(RecordError::Signature);
        }
        let record = Record::read(kind, id, &mut reader).ok_or(RecordError::Malformed)?;
        if !reader.is_empty() {
            return Err(RecordError::Malformed);
        }
        check_lifetime(record.lifetime_s())?;
        let key = record.query().key();
        Ok(Self { bytes: bytes.into(), record: Arc::new(record), key })
    }

    /// The record's bytes, with the signature.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// It as a node record, if it is one.
    pub fn node(&self) -> Option<&NodeRecord> {
        match self.record() {
            Record::Node(node) => Some(node),
            Record::Name(_) | Record::Revocation(_) => None,
        }
    }

    /// It as a name claim, if it is one.
    pub fn claim(&self) -> Option<&NameClaim> {
        match self.record() {
            Record::Node(_) | Record::Revocation(_) => None,
            Record::Name(claim) => Some(claim),
        }
    }

    /// Whether it ends its node's identity.
    pub fn is_revocation(&self) -> bool {
        matches!(self.record(), Record::Revocation(_))
    }

    /// Who signed it, if need be by its recovery key.
    pub fn signer(&self) -> NodeId {
        self.record.id()
    }

    /// Its number: orders the records of one signer under one key.
    pub fn seq(&self) -> u64 {
        self.record.seq()
    }

    /// How long it counts after it was signed, in seconds.
    pub fn lifetime_s(&self) -> u32 {
        self.record.lifetime_s()
    }

    /// The query that it answers.
    pub fn query(&self) -> Query {
        self.record.query()
    }

    /// The key under which it is stored.
    pub const fn key(&self) -> &RecordKey {
        &self.key
    }
}

impl core::fmt::Debug for SignedRecord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SignedRecord({:?})", self.record)
    }
}

/// The number of a record that follows one numbered `seen`: above it, and the wall clock in microseconds where that is more,
/// so that a node that lost its store still comes out above its older records.
pub fn next_seq(seen: u64, now: Now) -> u64 {
    seen.saturating_add(1).max(now.wall.as_unix_micros())
}

/// The recovery key that signs, of the body of a revocation.
fn recovery_key(body: &[u8]) -> Option<Endorsed> {
    let mut reader = Reader::new(body.get(HEAD_BYTES..)?);
    Revocation::read(NodeId::from_bytes([0; 32]), REVOKED_SEQ, 0, &mut reader)?.recovery
}

fn head(kind: u8, id: NodeId, seq: u64, lifetime_s: u32) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(&lifetime_s.to_be_bytes());
    out
}

const fn check_lifetime(lifetime_s: u32) -> Result<(), RecordError> {
    if lifetime_s == 0 || lifetime_s > MAX_LIFETIME_S { Err(RecordError::Lifetime) } else { Ok(()) }
}

impl Record {
    const fn id(&self) -> NodeId {
        match self {
            Self::Node(node) => node.id,
            Self::Name(claim) => claim.id,
            Self::Revocation(revocation) => revocation.id,
        }
    }

    const fn seq(&self) -> u64 {
        match self {
            Self::Node(node) => node.seq,
            Self::Name(claim) => claim.seq,
            Self::Revocation(_) => REVOKED_SEQ,
        }
    }

    const fn lifetime_s(&self) -> u32 {
        match self {
            Self::Node(node) => node.lifetime_s,
            Self::Name(claim) => claim.lifetime_s,
            Self::Revocation(revocation) => revocation.lifetime_s,
        }
    }

    fn query(&self) -> Query {
        match self {
            Self::Node(node) => Query::Node(node.id),
            Self::Name(claim) => Query::Name(claim.name.clone()),
            Self::Revocation(revocation) => Query::Node(revocation.id),
        }
    }

    fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        let kind = match self {
            Self::Node(_) => KIND_NODE,
            Self::Name(_) => KIND_NAME,
            Self::Revocation(_) => KIND_REVOCATION,
        };
        let mut out = head(kind, self.id(), self.seq(), self.lifetime_s());
        match self {
            Self::Node(node) => node.write(&mut out).ok_or(RecordError::TooLong)?,
            Self::Name(claim) => claim.write(&mut out).ok_or(RecordError::TooLong)?,
            Self::Revocation(revocation) => revocation.write(&mut out),
        }
        Ok(out)
    }

    fn read(kind: u8, id: NodeId, reader: &mut Reader<'_>) -> Option<Self> {
        let seq = reader.u64()?;
        let lifetime_s = reader.u32()?;
        match kind {
            KIND_REVOCATION => Some(Self::Revocation(Revocation::read(id, seq, lifetime_s, reader)?)),
            // Nothing else may have the number that beats all others.
            _ if seq == REVOKED_SEQ => None,
            KIND_NODE => Some(Self::Node(NodeRecord::read(id, seq, lifetime_s, reader)?)),
            KIND_NAME => Some(Self::Name(NameClaim::read(id, seq, lifetime_s, reader)?)),
            _ => None,
        }
    }

    fn shorten(&mut self) -> Result<(), RecordError> {
        let dropped = match self {
            Self::Node(node) => node.hints.pop().is_some() || node.multiaddrs.pop().is_some(),
            Self::Name(_) | Self::Revocation(_) => false,
        };
        if dropped { Ok(()) } else { Err(RecordError::TooLong) }
    }
}

#[cfg(test)]
mod tests;
