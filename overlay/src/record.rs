//! Signed records: what the DHT keeps. A record proves itself, so any node may store, hand on or repeat it.
//!
//! The bytes are laid out by hand, big endian:
//!
//! | offset | length | what |
//! | --- | --- | --- |
//! | 0 | 1 | kind: 1 [`NodeRecord`], 2 [`NameClaim`] |
//! | 1 | 32 | the signer's [`NodeId`] |
//! | 33 | 8 | sequence number |
//! | 41 | 4 | lifetime in seconds |
//! | 45 | | the body of the kind |
//! | last 64 | 64 | Ed25519 over `"muses-record-v1\0"` and all that stands before |
//!
//! The fixed part is enough to check the signature, and nothing behind it is looked at before that.

mod claim;
mod layout;
mod name;
mod node;

use sha2::{Digest as _, Sha256};

pub use claim::NameClaim;
pub use name::{MAX_NAME_BYTES, Name, ParseNameError};
pub use node::{FLAG_LEAF, Hint, MAX_CERT_BYTES, MAX_HINTS, MAX_MULTIADDRS, NodeRecord};

use std::sync::Arc;

use crate::id::{CheckEach, CheckSignatures, Identity, NodeId, SIGNATURE_BYTES};
use crate::time::Now;
use layout::Reader;

/// Longest record with its signature, in bytes.
pub const MAX_RECORD_BYTES: usize = 1000;
/// Longest lifetime of a record, in seconds.
pub const MAX_LIFETIME_S: u32 = 24 * 60 * 60;

const SIGNED_TEXT: &[u8] = b"muses-record-v1\0";
const KEY_TEXT: &[u8] = b"muses-key-v1";
const KIND_NODE: u8 = 1;
const KIND_NAME: u8 = 2;

/// Where a record belongs: `SHA-256("muses-key-v1" || kind || id or name)`.
pub type RecordKey = [u8; 32];

/// What can be looked up.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Query {
    /// The [`NodeRecord`] of this node.
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
        check_lifetime(record.lifetime_s())?;
        let mut bytes = loop {
            let bytes = record.to_bytes()?;
            if bytes.len() + SIGNATURE_BYTES <= MAX_RECORD_BYTES {
                break bytes;
            }
            record.shorten()?;
        };
        let signature = identity.sign(&[SIGNED_TEXT, &bytes].concat());
        bytes.extend_from_slice(&signature);
        let key = record.query().key();
        Ok(Self { bytes: bytes.into(), record: Arc::new(record), key })
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
        if !checks.check(&id, &[SIGNED_TEXT, body].concat(), signature) {
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
            Record::Name(_) => None,
        }
    }

    /// It as a name claim, if it is one.
    pub fn claim(&self) -> Option<&NameClaim> {
        match self.record() {
            Record::Node(_) => None,
            Record::Name(claim) => Some(claim),
        }
    }

    /// Who signed it.
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

const fn check_lifetime(lifetime_s: u32) -> Result<(), RecordError> {
    if lifetime_s == 0 || lifetime_s > MAX_LIFETIME_S { Err(RecordError::Lifetime) } else { Ok(()) }
}

impl Record {
    const fn id(&self) -> NodeId {
        match self {
            Self::Node(node) => node.id,
            Self::Name(claim) => claim.id,
        }
    }

    const fn seq(&self) -> u64 {
        match self {
            Self::Node(node) => node.seq,
            Self::Name(claim) => claim.seq,
        }
    }

    const fn lifetime_s(&self) -> u32 {
        match self {
            Self::Node(node) => node.lifetime_s,
            Self::Name(claim) => claim.lifetime_s,
        }
    }

    fn query(&self) -> Query {
        match self {
            Self::Node(node) => Query::Node(node.id),
            Self::Name(claim) => Query::Name(claim.name.clone()),
        }
    }

    fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        let kind = match self {
            Self::Node(_) => KIND_NODE,
            Self::Name(_) => KIND_NAME,
        };
        let mut out = vec![kind];
        out.extend_from_slice(self.id().as_bytes());
        out.extend_from_slice(&self.seq().to_be_bytes());
        out.extend_from_slice(&self.lifetime_s().to_be_bytes());
        match self {
            Self::Node(node) => node.write(&mut out).ok_or(RecordError::TooLong)?,
            Self::Name(claim) => claim.write(&mut out).ok_or(RecordError::TooLong)?,
        }
        Ok(out)
    }

    fn read(kind: u8, id: NodeId, reader: &mut Reader<'_>) -> Option<Self> {
        let seq = reader.u64()?;
        let lifetime_s = reader.u32()?;
        match kind {
            KIND_NODE => Some(Self::Node(NodeRecord::read(id, seq, lifetime_s, reader)?)),
            KIND_NAME => Some(Self::Name(NameClaim::read(id, seq, lifetime_s, reader)?)),
            _ => None,
        }
    }

    fn shorten(&mut self) -> Result<(), RecordError> {
        let dropped = match self {
            Self::Node(node) => node.hints.pop().is_some() || node.multiaddrs.pop().is_some(),
            Self::Name(_) => false,
        };
        if dropped { Ok(()) } else { Err(RecordError::TooLong) }
    }
}

#[cfg(test)]
mod tests;
