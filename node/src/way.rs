//! What leads into an overlay: the address of one of its nodes, or an invite.

use std::net::SocketAddr;

use multiaddr::Multiaddr;
use overlay::time::WallTime;

use crate::exit::{Code, Fault};
use crate::invite::{Invite, ParseInviteError};
use crate::reach::{multiaddr_of, port_of};
use crate::span;

/// Characters of what was typed that a refusal shows.
const SHOWN_CHARS: usize = 40;

/// One way in, as somebody typed it.
#[derive(Debug)]
pub enum Way {
    /// Of a node that lets others in.
    Address(Multiaddr),
    /// It may have expired: see [`check_fresh`].
    Invite(Box<Invite>),
}

impl Way {
    /// What is a way in.
    ///
    /// # Errors
    /// [`Code::Usage`] for what is none.
    pub fn read(text: &str) -> Result<Self, Fault> {
        if text.starts_with('/') {
            let address: Multiaddr = text
                .parse()
                .map_err(|error| no_way(text, &format!("no multiaddr like /ip4/ADDR/tcp/PORT ({error})")))?;
            if port_of(&address).is_none() {
                return Err(no_way(text, "it has no TCP port, as in /ip4/ADDR/tcp/PORT"));
            }
            return Ok(Self::Address(address));
        }
        if let Ok(at) = text.parse::<SocketAddr>() {
            return Err(no_way(text, &format!("write it as {}", multiaddr_of(at))));
        }
        let invite: Invite = text.parse().map_err(|error: ParseInviteError| no_way(text, &error.to_string()))?;
        Ok(Self::Invite(Box::new(invite)))
    }
}

/// Refuses an invite that has expired.
///
/// # Errors
/// [`Code::Refused`].
pub fn check_fresh(invite: &Invite, now: WallTime) -> Result<(), Fault> {
    let Some(ago_s) = invite.expired_for_s(now) else { return Ok(()) };
    let line =
        format!("this invite expired {} ago, if this machine's clock is right; ask for a new one", span::text(ago_s));
    Err(Fault::new(Code::Refused, line))
}

/// Why what was typed is no way into an overlay, or not this one.
pub fn no_way(text: &str, why: &str) -> Fault {
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    Fault::new(Code::Usage, format!("cannot join {shown:?}: {why}"))
}
