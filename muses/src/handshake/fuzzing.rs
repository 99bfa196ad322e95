//! Decoders that stand behind a cipher, for the fuzz targets alone: no packet that a fuzzer makes gets there.

use super::messages::{HelloA, HelloB};

/// Certificate and params in the inside of a Hello A.
pub fn hello_a(inside: &[u8]) -> Option<(&[u8], &[u8])> {
    HelloA::parse(inside).map(|hello| (hello.cert, hello.params))
}

/// Params in the inside of a Hello B.
pub fn hello_b(inside: &[u8]) -> Option<Vec<u8>> {
    HelloB::parse(inside).map(|hello| hello.params)
}
