//! Whom a name means.

use super::layout::{Reader, put_bytes};
use super::name::{MAX_NAME_BYTES, Name};
use crate::id::NodeId;

/// A node's claim of a name. Body: the name, with its length in two bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameClaim {
    /// The name.
    pub name: Name,
    /// The node that claims it, and signs.
    pub id: NodeId,
    /// Orders the claims that `id` made of this name; says nothing about those of others.
    pub seq: u64,
    /// How long the claim counts, in seconds.
    pub lifetime_s: u32,
}

impl NameClaim {
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        put_bytes(out, self.name.as_str().as_bytes(), MAX_NAME_BYTES)
    }

    pub(super) fn read(id: NodeId, seq: u64, lifetime_s: u32, reader: &mut Reader<'_>) -> Option<Self> {
        let name = core::str::from_utf8(reader.bytes(MAX_NAME_BYTES)?).ok()?.parse().ok()?;
        Some(Self { name, id, seq, lifetime_s })
    }
}
