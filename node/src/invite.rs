//! Invites: one string that brings somebody into an overlay, and perhaps to services of whoever wrote it.
//!
//! The string is bech32m (BIP 350) with the prefix `muses1`. Against base58 it has a checksum of 30 bits, no case that matters when it is
//! read out, and in upper case it fits the dense alphanumeric mode of QR codes. What it holds, numbers in big endian:
//!
//! | length | what |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 32 | the overlay's id: whoever joins by it joins no other |
//! | 32 | the inviter's node id |
//! | 8 | until when it is good, in seconds since the Unix epoch |
//! | 1 | how many addresses of the inviter follow, 1 to 8 |
//! | 1 + n each | length and bytes of a multiaddr, without `/p2p` |
//! | 1 | 1 if a grant follows, 2 if only a grant's secret, else 0 |
//! | 16 | of a grant: its secret |
//! | 1 | of a grant: how many services follow, 1 to 16 |
//! | 1 + n each | length and text of a service's name |
//!
//! It is not signed. Whoever can exchange it on its way can as well put an invite of his own in its place: an invite is as good as the
//! channel that it came by, and an invite with a grant has to be kept as secret as a password until it is used.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use multiaddr::Multiaddr;
use overlay::id::{NodeId, OverlayId};
use overlay::membership::{self, Enrolment};
use overlay::time::WallTime;
use subtle::ConstantTimeEq as _;

use crate::local::service::ServiceName;

/// Most addresses in one invite.
pub const MAX_ADDRESSES: usize = 8;
/// Most services in one grant.
pub const MAX_SERVICES: usize = 16;
/// Length of a grant's secret, in bytes: nobody guesses it.
pub const SECRET_BYTES: usize = membership::SECRET_BYTES;

const PREFIX: &str = "muses";
const VERSION: u8 = 1;

/// What an invite says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invite {
    /// Where to.
    pub overlay: OverlayId,
    /// Whose invite it is.
    pub inviter: NodeId,
    /// Until when, in seconds since the Unix epoch.
    pub expires_unix_s: u64,
    /// Where the inviter listens, 1 to [`MAX_ADDRESSES`], without `/p2p`.
    pub addresses: Vec<Multiaddr>,
    /// What else it gives.
    pub grant: Option<Grant>,
}

/// Membership in a closed overlay, and the use of services of the inviter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// What the inviter knows it by.
    pub secret: Secret,
    /// Which, at most [`MAX_SERVICES`]; none only in a closed overlay.
    pub services: Vec<ServiceName>,
}

/// Never shown in a log.
#[derive(Clone, Copy)]
pub struct Secret(pub [u8; SECRET_BYTES]);

/// Why a text is of no use as an invite; one line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseInviteError {
    /// Another text.
    #[error("this is no invite; one starts with {PREFIX}1")]
    NotAnInvite,
    /// Typed wrongly, or cut off.
    #[error("this invite has a wrong or missing character; copy it again, to its end")]
    Mistyped,
    /// Of a version to come.
    #[error("this invite is of version {0}, which this muses does not know; a newer one does")]
    Version(u8),
    /// Its checksum is right, its content is not.
    #[error("this invite makes no sense; ask for another one")]
    Malformed,
}

/// More, or longer, addresses and services than a string can hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this does not fit into one invite: at most {MAX_SERVICES} services with short names")]
pub struct TooLong;

impl Invite {
    /// The addresses to dial, each with the id that has to answer there.
    pub fn dials(&self) -> Vec<Multiaddr> {
        let peer = format!("/p2p/{}", self.inviter).parse::<Multiaddr>();
        let whole = |address: &Multiaddr| address.iter().chain(peer.iter().flatten()).collect();
        self.addresses.iter().map(whole).collect()
    }

    /// How it makes a member of a closed overlay.
    pub fn enrolment(&self) -> Option<Enrolment> {
        let secret = membership::Secret(self.grant.as_ref()?.secret.0);
        Some(Enrolment { inviter: self.inviter, secret })
    }

    /// How many seconds ago it expired, at least one; none while it is good.
    pub fn expired_for_s(&self, now: WallTime) -> Option<u64> {
        now.as_unix_secs().checked_sub(self.expires_unix_s).filter(|ago_s| *ago_s > 0)
    }

    /// The string.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn to_text(&self) -> Result<String, TooLong> {
        let hrp = Hrp::parse(PREFIX).map_err(|_| TooLong)?;
        bech32::encode::<Bech32m>(hrp, &self.to_bytes()?).map_err(|_| TooLong)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, TooLong> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(self.overlay.as_bytes());
        bytes.extend_from_slice(self.inviter.as_bytes());
        bytes.extend_from_slice(&self.expires_unix_s.to_be_bytes());
        let addresses: Vec<Vec<u8>> = self.addresses.iter().map(Multiaddr::to_vec).collect();
        write_list(&mut bytes, addresses.iter().map(Vec::as_slice), MAX_ADDRESSES)?;
        match &self.grant {
            None => bytes.push(0),
            Some(grant) => {
                bytes.push(if grant.services.is_empty() { 2 } else { 1 });
                bytes.extend_from_slice(&grant.secret.0);
                if grant.services.is_empty() {
                    return Ok(bytes);
                }
                let names = grant.services.iter().map(|service| service.as_str().as_bytes());
                write_list(&mut bytes, names, MAX_SERVICES)?;
            }
        }
        Ok(bytes)
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let overlay = OverlayId::from_bytes(*take(bytes)?);
        let inviter = NodeId::from_bytes(*take(bytes)?);
        let expires_unix_s = u64::from_be_bytes(*take(bytes)?);
        let address = |bytes: &[u8]| Multiaddr::try_from(bytes.to_vec()).ok();
        let addresses = read_list(bytes, MAX_ADDRESSES)?.into_iter().map(address).collect::<Option<_>>()?;
        let grant = match take(bytes)? {
            [0] => None,
            [1] => {
                let secret = Secret(*take(bytes)?);
                let name = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse().ok();
                let services = read_list(bytes, MAX_SERVICES)?.into_iter().map(name).collect::<Option<_>>()?;
                Some(Grant { secret, services })
            }
            [2] => Some(Grant { secret: Secret(*take(bytes)?), services: Vec::new() }),
            [_] => return None,
        };
        bytes.is_empty().then_some(Self { overlay, inviter, expires_unix_s, addresses, grant })
    }
}

impl FromStr for Invite {
    type Err = ParseInviteError;

    fn from_str(text: &str) -> Result<Self, ParseInviteError> {
        let start = text.get(..PREFIX.len() + 1).unwrap_or_default();
        if !start.eq_ignore_ascii_case("muses1") {
            return Err(ParseInviteError::NotAnInvite);
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| ParseInviteError::Mistyped)?;
        let bytes: Vec<u8> = checked.byte_iter().collect();
        match bytes.split_first() {
            Some((&VERSION, rest)) => Self::from_bytes(rest).ok_or(ParseInviteError::Malformed),
            Some((&version, _)) => Err(ParseInviteError::Version(version)),
            None => Err(ParseInviteError::Malformed),
        }
    }
}

/// A list of 1 to `most` items, each with a length of one byte.
fn write_list<'a>(
    bytes: &mut Vec<u8>,
    items: impl ExactSizeIterator<Item = &'a [u8]>,
    most: usize,
) -> Result<(), TooLong> {
    let count = u8::try_from(items.len()).ok().filter(|_| (1..=most).contains(&items.len())).ok_or(TooLong)?;
    bytes.push(count);
    for item in items {
        bytes.push(u8::try_from(item.len()).map_err(|_| TooLong)?);
        bytes.extend_from_slice(item);
    }
    Ok(())
}

fn read_list<'a>(bytes: &mut &'a [u8], most: usize) -> Option<Vec<&'a [u8]>> {
    let [count] = take::<1>(bytes)?;
    let count = usize::from(*count);
    let mut items = Vec::new();
    for _ in 0..Some(count).filter(|count| (1..=most).contains(count))? {
        let [length] = take::<1>(bytes)?;
        let (item, rest) = bytes.split_at_checked(usize::from(*length))?;
        *bytes = rest;
        items.push(item);
    }
    Some(items)
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(first)
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What is behind the checksum, which a fuzzer would never get past.
#[doc(hidden)]
pub mod fuzzing {
    use super::Invite;

    /// The invite in `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Option<Invite> {
        Invite::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite() -> Invite {
        Invite {
            overlay: OverlayId::from_bytes([1; 32]),
            inviter: overlay::id::Identity::from_secret(&[2; 32]).id(),
            expires_unix_s: 1_800_000_000,
            addresses: vec!["/ip4/192.0.2.7/tcp/4741".parse().unwrap(), "/ip6/2001:db8::7/tcp/4741".parse().unwrap()],
            grant: None,
        }
    }

    fn with_grant() -> Invite {
        let services = vec!["web".parse().unwrap(), "ssh".parse().unwrap()];
        Invite { grant: Some(Grant { secret: Secret([9; SECRET_BYTES]), services }), ..invite() }
    }

    #[test]
    fn the_string_is_pinned() {
        assert_eq!(
            invite().to_text().unwrap(),
            "muses1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqsrqfewu82slghtat2x4rxcdx8anxt3k9frd8wx739mas0tw8unvu5qqqqqqrtf8fqqqsgqnqqqqs8qcfg29pfyqqsmwqqqqqqqqqqqqqqqqqqqurp9pgqvf53pt"
        );
    }

    #[test]
    fn what_is_written_is_read_in_either_case() {
        let secret_only = Some(Grant { secret: Secret([9; SECRET_BYTES]), services: Vec::new() });
        for invite in [invite(), with_grant(), Invite { grant: secret_only, ..invite() }] {
            let text = invite.to_text().unwrap();
            assert!(text.starts_with("muses1"));
            assert_eq!(text.parse(), Ok(invite.clone()));
            assert_eq!(text.to_uppercase().parse(), Ok(invite.clone()));
        }
        let dial = invite().dials().remove(0).to_string();
        assert_eq!(dial, format!("/ip4/192.0.2.7/tcp/4741/p2p/{}", invite().inviter));
        assert_eq!(format!("{:?}", with_grant().grant.unwrap().secret), "Secret(..)");
    }

    #[test]
    fn a_wrong_character_is_found_wherever_it_is() {
        let text = with_grant().to_text().unwrap();
        for at in "muses1".len()..text.len() {
            let other = if text.as_bytes()[at] == b'q' { "p" } else { "q" };
            let mut wrong = text.clone();
            wrong.replace_range(at..=at, other);
            assert_eq!(wrong.parse::<Invite>(), Err(ParseInviteError::Mistyped), "at {at}");
            assert_eq!(text[..at].parse::<Invite>(), Err(ParseInviteError::Mistyped), "up to {at}");
        }
        for text in ["", "muses", "/ip4/1.2.3.4/tcp/1", "muses:x", "mösés1"] {
            assert_eq!(text.parse::<Invite>(), Err(ParseInviteError::NotAnInvite), "{text}");
        }
    }

    #[test]
    fn any_other_content_is_refused() {
        let bytes = with_grant().to_bytes().unwrap();
        for length in 1..bytes.len() {
            assert_eq!(Invite::from_bytes(&bytes[1..length]), None, "{length} bytes");
        }
        assert_eq!(Invite::from_bytes(&[&bytes[1..], &[0]].concat()), None, "something follows");
        let mut newer = bytes;
        newer[0] = 2;
        let text = bech32::encode::<Bech32m>(Hrp::parse(PREFIX).unwrap(), &newer).unwrap();
        assert_eq!(text.parse::<Invite>(), Err(ParseInviteError::Version(2)));
        assert_eq!(Invite { addresses: vec![], ..invite() }.to_text(), Err(TooLong));
        let long = vec!["x".repeat(64).parse().unwrap(); MAX_SERVICES];
        let grant = Some(Grant { secret: Secret([0; SECRET_BYTES]), services: long });
        assert_eq!(Invite { grant, ..invite() }.to_text(), Err(TooLong));
    }

    #[test]
    fn it_is_good_until_its_last_second() {
        let at = |unix_s: u64| invite().expired_for_s(WallTime::from_unix_micros(unix_s * 1_000_000));
        assert_eq!(at(1_800_000_000), None);
        assert_eq!(at(1_800_000_001), Some(1));
        assert_eq!(at(1_800_000_090), Some(90));
    }
}
