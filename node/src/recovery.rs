//! Recovery keys: one string, kept off the machine, that revokes an identity when its own key is lost or stolen.
//!
//! The string is bech32m (BIP 350) with the prefix `musesr1`. What it holds:
//!
//! | length | what |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 32 | the id of the identity |
//! | 32 | the recovery key: an Ed25519 seed |
//! | 64 | the identity's word that this key may revoke it: [`overlay::record::Endorsed`] |
//!
//! The node keeps nothing of it. Whoever has the string can end the identity, and nothing else.

use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use overlay::id::{CheckEach, Identity, NodeId};
use overlay::record::{Endorsed, SignedRecord};
use zeroize::Zeroizing;

const PREFIX: &str = "musesr";
const VERSION: u8 = 1;

/// What revokes an identity in its place.
pub struct RecoveryKey {
    /// The identity.
    pub node: NodeId,
    secret: Zeroizing<[u8; 32]>,
    endorsed: Endorsed,
}

/// Why a text is no recovery key; one line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseRecoveryKeyError {
    /// Another text.
    #[error("this is no recovery key; one starts with {PREFIX}1")]
    NotAKey,
    /// Typed wrongly, or cut off.
    #[error("this recovery key has a wrong or missing character; copy it again, to its end")]
    Mistyped,
    /// Its checksum is right, its content is not.
    #[error("this recovery key makes no sense to this version of muses")]
    Malformed,
}

impl RecoveryKey {
    /// The key that `endorse`, the identity's word, is about. `secret` has to be random.
    pub fn new(node: NodeId, secret: Zeroizing<[u8; 32]>, endorse: impl FnOnce(NodeId) -> Endorsed) -> Self {
        let endorsed = endorse(Identity::from_secret(&secret).id());
        Self { node, secret, endorsed }
    }

    /// The string.
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(
            [[VERSION].as_slice(), self.node.as_bytes(), self.secret.as_slice(), &self.endorsed.signature].concat(),
        );
        // The prefix is one, and so few bytes always fit.
        let text = Hrp::parse(PREFIX).ok().and_then(|hrp| bech32::encode::<Bech32m>(hrp, &bytes).ok());
        Zeroizing::new(text.unwrap_or_default())
    }

    /// The statement that ends the identity.
    pub fn revocation(&self) -> SignedRecord {
        SignedRecord::revoke_by(&Identity::from_secret(&self.secret), self.node, self.endorsed.clone())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION], rest) = bytes.split_first_chunk::<1>()? else { return None };
        let (node, rest) = rest.split_first_chunk::<32>()?;
        let (secret, signature) = rest.split_first_chunk::<32>()?;
        let (node, secret) = (NodeId::from_bytes(*node), Zeroizing::new(*secret));
        let endorsed = Endorsed { key: Identity::from_secret(&secret).id(), signature: signature.try_into().ok()? };
        endorsed.holds(&node, &CheckEach).then_some(Self { node, secret, endorsed })
    }
}

impl FromStr for RecoveryKey {
    type Err = ParseRecoveryKeyError;

    fn from_str(text: &str) -> Result<Self, ParseRecoveryKeyError> {
        let start = text.get(..PREFIX.len() + 1).unwrap_or_default();
        if !start.eq_ignore_ascii_case("musesr1") {
            return Err(ParseRecoveryKeyError::NotAKey);
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| ParseRecoveryKeyError::Mistyped)?;
        let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(checked.byte_iter().collect());
        Self::from_bytes(&bytes).ok_or(ParseRecoveryKeyError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> RecoveryKey {
        let identity = Identity::from_secret(&[1; 32]);
        RecoveryKey::new(identity.id(), Zeroizing::new([2; 32]), |key| Endorsed::make(&identity, key))
    }

    #[test]
    fn what_is_written_revokes() {
        let text = key().to_text();
        let read: RecoveryKey = text.to_uppercase().parse().ok().unwrap();
        let revocation = read.revocation();
        assert_eq!(SignedRecord::verify(revocation.as_bytes()), Ok(revocation.clone()));
        assert_eq!(revocation.signer(), Identity::from_secret(&[1; 32]).id());
    }

    #[test]
    fn anything_else_is_refused() {
        let text = key().to_text();
        let why = |text: &str| text.parse::<RecoveryKey>().err();
        for at in "musesr1".len()..text.len() {
            let other = if text.as_bytes()[at] == b'q' { "p" } else { "q" };
            let mut wrong = text.to_string();
            wrong.replace_range(at..=at, other);
            assert_eq!(why(&wrong), Some(ParseRecoveryKeyError::Mistyped), "at {at}");
        }
        for text in ["", "muses1", "musés"] {
            assert_eq!(why(text), Some(ParseRecoveryKeyError::NotAKey));
        }
        // Of an identity that has not endorsed it.
        let foreign = RecoveryKey { node: Identity::from_secret(&[3; 32]).id(), ..key() };
        assert_eq!(why(&foreign.to_text()), Some(ParseRecoveryKeyError::Malformed));
    }
}
