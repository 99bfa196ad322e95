//! Who belongs to a closed overlay.
//!
//! The founder is a member by the genesis. Everybody else shows a *membership*: a chain of one or two certificates, the first signed by the
//! founder, the second by whom the first names as an inviter. It is bound to the overlay and to the member's key, and has no end.
//!
//! The bytes are a version, 1, and then for each certificate, the founder's first:
//!
//! | length | what |
//! | --- | --- |
//! | 32 | the member's [`NodeId`] |
//! | 1 | 1 if the member may admit others, else 0; in a second certificate always 0 |
//! | 64 | Ed25519 over `"muses-member-v1\0"`, the overlay's id, the issuer's [`NodeId`], and the 33 bytes before |

use core::fmt;

use crate::genesis::SignedGenesis;
use crate::id::{CheckSignatures, Identity, NodeId, SIGNATURE_BYTES};

/// Length of the secret by which a guest earns a membership, in bytes: nobody guesses it.
pub const SECRET_BYTES: usize = 16;
/// Longest membership, in bytes.
pub const MAX_MEMBERSHIP_BYTES: usize = 1 + MAX_CERTS * CERT_BYTES;

const SIGNED_TEXT: &[u8] = b"muses-member-v1\0";
const VERSION: u8 = 1;
const MAX_CERTS: usize = 2;
const BODY_BYTES: usize = 32 + 1;
const CERT_BYTES: usize = BODY_BYTES + SIGNATURE_BYTES;

/// What a member may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rank {
    /// Be there.
    Member,
    /// Admit members.
    Inviter,
    /// Admit members and inviters.
    Founder,
}

/// The secret of an invite. Never shown in a log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; SECRET_BYTES]);

/// How a node that is no member may become one.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// Whose invite it has. Nobody else is told the secret.
    pub inviter: NodeId,
    /// What that one knows it by.
    pub secret: Secret,
}

/// What is said to a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// The secret is good for nothing (any more).
    Refused,
    /// He is a member.
    Member,
    /// He is a member and may admit others.
    Inviter,
}

/// No membership of this node in this overlay, or one that may not be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid membership")]
pub struct MembershipError;

/// A node's membership whose signatures were made or checked here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    bytes: Vec<u8>,
    may_invite: bool,
}

impl Membership {
    /// Makes `member` a member. `own` is the issuer's membership, none for the founder.
    ///
    /// # Errors
    /// [`MembershipError`] when the issuer may not do that.
    pub fn issue(
        issuer: &Identity,
        own: Option<&Self>,
        genesis: &SignedGenesis,
        member: NodeId,
        may_invite: bool,
    ) -> Result<Self, MembershipError> {
        let by_founder = genesis.genesis().founder == issuer.id();
        let mut bytes = match own {
            _ if by_founder => vec![VERSION],
            Some(own) if own.may_invite && !may_invite => own.bytes.clone(),
            _ => return Err(MembershipError),
        };
        let body = [member.as_bytes().as_slice(), &[u8::from(may_invite)]].concat();
        let signature = issuer.sign(&signed(genesis, &issuer.id(), &body));
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&signature);
        Ok(Self { bytes, may_invite })
    }

    /// The membership of `member` in `bytes`.
    ///
    /// # Errors
    /// [`MembershipError`] for anything else.
    pub fn verify(
        bytes: &[u8],
        genesis: &SignedGenesis,
        member: &NodeId,
        checks: &dyn CheckSignatures,
    ) -> Result<Self, MembershipError> {
        let (&[VERSION], certs) = bytes.split_first_chunk::<1>().ok_or(MembershipError)? else {
            return Err(MembershipError);
        };
        let (certs, rest) = certs.as_chunks::<CERT_BYTES>();
        if !rest.is_empty() || certs.is_empty() || certs.len() > MAX_CERTS {
            return Err(MembershipError);
        }
        let (mut holder, mut may_invite) = (genesis.genesis().founder, true);
        for (n, cert) in certs.iter().enumerate() {
            let (body, signature) = cert.split_last_chunk::<SIGNATURE_BYTES>().ok_or(MembershipError)?;
            if !may_invite || !checks.check(&holder, &signed(genesis, &holder, body), signature) {
                return Err(MembershipError);
            }
            let (named, flag) = body.split_first_chunk::<32>().ok_or(MembershipError)?;
            holder = NodeId::from_bytes(*named);
            may_invite = match (n, flag) {
                (_, [0]) => false,
                (0, [1]) => true,
                _ => return Err(MembershipError),
            };
        }
        if holder != *member {
            return Err(MembershipError);
        }
        Ok(Self { bytes: bytes.to_vec(), may_invite })
    }

    /// As it is shown to others.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it lets the member do.
    pub const fn rank(&self) -> Rank {
        if self.may_invite { Rank::Inviter } else { Rank::Member }
    }
}

fn signed(genesis: &SignedGenesis, issuer: &NodeId, body: &[u8]) -> Vec<u8> {
    [SIGNED_TEXT, genesis.overlay_id().as_bytes(), issuer.as_bytes(), body].concat()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis::Genesis;
    use crate::id::CheckEach;

    fn identity(n: u8) -> Identity {
        Identity::from_secret(&[n; 32])
    }

    fn genesis(created_unix_s: u64) -> SignedGenesis {
        let founder = identity(1);
        let genesis = Genesis { founder: founder.id(), q: 32, trees: 1, created_unix_s, open: false };
        SignedGenesis::sign(&founder, genesis).unwrap()
    }

    fn rank(membership: &Membership, of: u8) -> Result<Rank, MembershipError> {
        Membership::verify(membership.as_bytes(), &genesis(0), &identity(of).id(), &CheckEach).map(|m| m.rank())
    }

    #[test]
    fn the_founder_admits_and_names_who_admits() {
        let overlay = genesis(0);
        let issue = |by, own, whom: u8, may_invite| {
            Membership::issue(&identity(by), own, &overlay, identity(whom).id(), may_invite)
        };
        let member = issue(1, None, 2, false).unwrap();
        let inviter = issue(1, None, 3, true).unwrap();
        let guest = issue(3, Some(&inviter), 4, false).unwrap();
        assert_eq!((rank(&member, 2), rank(&inviter, 3)), (Ok(Rank::Member), Ok(Rank::Inviter)));
        assert_eq!((rank(&guest, 4), guest.as_bytes().len()), (Ok(Rank::Member), MAX_MEMBERSHIP_BYTES));
        assert_eq!(issue(3, Some(&inviter), 4, true), Err(MembershipError), "only the founder names inviters");
        assert_eq!(issue(2, Some(&member), 4, false), Err(MembershipError));
        assert_eq!(issue(4, Some(&guest), 5, false), Err(MembershipError));
        assert_eq!(issue(5, None, 5, false), Err(MembershipError));
    }

    #[test]
    fn what_another_signed_or_somebody_changed_is_refused() {
        let inviter = Membership::issue(&identity(1), None, &genesis(0), identity(3).id(), true).unwrap();
        let guest = Membership::issue(&identity(3), Some(&inviter), &genesis(0), identity(4).id(), false).unwrap();
        let verify = |bytes: &[u8], whom: u8| Membership::verify(bytes, &genesis(0), &identity(whom).id(), &CheckEach);
        for bit in 0..guest.as_bytes().len() * 8 {
            let mut bad = guest.as_bytes().to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&bad, 4).is_err(), "bit {bit}");
        }
        assert!(verify(guest.as_bytes(), 3).is_err(), "of another node");
        assert!(Membership::verify(guest.as_bytes(), &genesis(9), &identity(4).id(), &CheckEach).is_err());
        for end in 0..guest.as_bytes().len() {
            assert!(verify(&guest.as_bytes()[..end], 4).is_err(), "cut at {end}");
        }
        // A member who calls himself an inviter, and one that was admitted and admits.
        let member = Membership::issue(&identity(1), None, &genesis(0), identity(3).id(), false).unwrap();
        for own in [Membership { may_invite: true, ..member }, Membership { may_invite: true, ..guest }] {
            let whom = if own.as_bytes().len() == MAX_MEMBERSHIP_BYTES { 4 } else { 3 };
            let forged = Membership::issue(&identity(whom), Some(&own), &genesis(0), identity(5).id(), false).unwrap();
            assert!(verify(forged.as_bytes(), 5).is_err());
        }
    }

    #[test]
    fn golden_layout() {
        let member = Membership::issue(&identity(1), None, &genesis(0), identity(3).id(), true).unwrap();
        let id = identity(3).id();
        let body = [[1].as_slice(), id.as_bytes(), &[1]].concat();
        assert_eq!(member.as_bytes()[..body.len()], body);
        let overlay = genesis(0).overlay_id();
        let founder = identity(1).id();
        let text = [b"muses-member-v1\0".as_slice(), overlay.as_bytes(), founder.as_bytes(), &body[1..]];
        assert_eq!(member.as_bytes()[body.len()..], identity(1).sign(&text.concat()));
    }
}
