//! What peers say to each other's stacks, for the fuzz targets.

use super::direct;

/// How many addresses a peer says that it can be dialled at.
pub fn addresses(bytes: &[u8]) -> usize {
    direct::from_bytes(bytes).len()
}
