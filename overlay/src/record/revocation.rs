//! The end of an identity.

use super::layout::Reader;
use crate::id::{CheckSignatures, Identity, NodeId, SIGNATURE_BYTES, Signature};

/// The number of every revocation: above that of all other records of its node.
pub const REVOKED_SEQ: u64 = u64::MAX;

const ENDORSED_TEXT: &[u8] = b"muses-recovery-v1\0";
const BY_IDENTITY: u8 = 0;
const BY_RECOVERY_KEY: u8 = 1;

/// Says for ever that an identity counts no more. It is found where the node's record would be, and beats it.
///
/// Body: 0 when the identity has signed; or 1, the recovery key that has signed (32), and the identity's signature (64) over
/// `"muses-recovery-v1\0"` and that key. The number is [`REVOKED_SEQ`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revocation {
    /// The identity.
    pub id: NodeId,
    /// How long a binder keeps it, in seconds; whoever knows it puts it again.
    pub lifetime_s: u32,
    /// The key that has signed in the identity's place.
    pub recovery: Option<Endorsed>,
}

/// A recovery key, and an identity's word that it may revoke it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endorsed {
    /// The recovery key.
    pub key: NodeId,
    /// The identity's signature.
    pub signature: Signature,
}

impl Endorsed {
    /// `identity` lets `key` revoke it.
    pub fn make(identity: &Identity, key: NodeId) -> Self {
        Self { key, signature: identity.sign(&[ENDORSED_TEXT, key.as_bytes()].concat()) }
    }

    /// Whether `id` has said so.
    pub fn holds(&self, id: &NodeId, checks: &dyn CheckSignatures) -> bool {
        checks.check(id, &[ENDORSED_TEXT, self.key.as_bytes()].concat(), &self.signature)
    }
}

impl Revocation {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match &self.recovery {
            None => out.push(BY_IDENTITY),
            Some(endorsed) => {
                out.push(BY_RECOVERY_KEY);
                out.extend_from_slice(endorsed.key.as_bytes());
                out.extend_from_slice(&endorsed.signature);
            }
        }
    }

    pub(super) fn read(id: NodeId, seq: u64, lifetime_s: u32, reader: &mut Reader<'_>) -> Option<Self> {
        let recovery = match reader.u8()? {
            BY_IDENTITY => None,
            BY_RECOVERY_KEY => {
                let key = NodeId::from_bytes(reader.array()?);
                Some(Endorsed { key, signature: reader.array::<SIGNATURE_BYTES>()? })
            }
            _ => return None,
        };
        (seq == REVOKED_SEQ).then_some(Self { id, lifetime_s, recovery })
    }
}
