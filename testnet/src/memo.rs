//! Signatures that were found right once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use overlay::id::{CheckSignatures, NodeId, Signature};
use sha2::{Digest as _, Sha256};

/// Answers that are remembered; then it begins anew.
const MAX_KNOWN: usize = 8 << 20;

/// Checks each signature once, however many nodes ask. Only right ones are remembered, by the hash of key, message and signature.
#[derive(Default)]
pub struct Memo(Mutex<HashSet<[u8; 32]>>);

impl CheckSignatures for Memo {
    fn check(&self, signer: &NodeId, message: &[u8], signature: &Signature) -> bool {
        let hash = Sha256::new().chain_update(signer.as_bytes()).chain_update(signature).chain_update(message);
        let hash: [u8; 32] = hash.finalize().into();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&hash) {
            return true;
        }
        let right = signer.verify(message, signature);
        if right {
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(hash);
        }
        right
    }
}
