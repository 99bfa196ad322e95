//! What follows `--join`: multiaddrs of bootstrap peers, and an invite.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use multiaddr::Multiaddr;
use overlay::id::{NodeId, OverlayId};
use overlay::io::Snapshot;
use overlay::time::WallTime;

use super::lines::Lines;
use super::place::flag;
use crate::config::Config;
use crate::driver::{Error, Handle};
use crate::exit::{Code, Fault};
use crate::invite::{Invite, Secret};
use crate::lan::{self, Found};
use crate::local::invites;
use crate::local::service::ServiceName;
use crate::stack::Failure;
use crate::way::{Way, check_fresh, no_way};

/// Longest line that is read for `-`, in bytes: more than any invite.
const MAX_LINE_BYTES: u64 = 4096;
/// How long the local network is searched when nobody answers.
const SEARCH_LIMIT: Duration = Duration::from_secs(4);
/// Addresses that are dialled of those that were found: one of each node at least.
const MAX_WAYS: usize = lan::MAX_FOUND;
/// Between two tries to reach the inviter.
const RETRY: Duration = Duration::from_secs(2);
/// Stored from the first try to join on: whoever interrupted it and then types `up` does not want an overlay of his own.
pub(super) const STORE_KEY: &str = "node/joining";

/// Refuses to found an overlay in a folder that was to join one and did not. Takes the note of that out of `snapshot`.
///
/// # Errors
/// [`Code::State`], with what to type.
pub(super) fn check_unfinished(snapshot: &mut Snapshot, would_found: bool, data_dir: &Path) -> Result<(), Fault> {
    let began = snapshot.remove(STORE_KEY).is_some();
    if !(began && would_found) {
        return Ok(());
    }
    let line = format!(
        "{0} was to join an overlay and has not reached it yet; try again: muses join INVITE|MULTIADDR --data-dir {0}; for an overlay of its own use another folder, or remove this one",
        data_dir.display()
    );
    Err(Fault::new(Code::State, line))
}

/// The ways into the only overlay that announces itself on this local network.
///
/// # Errors
/// [`Code::Unreachable`] when there is none, [`Code::Usage`] when there are several: which one is not ours to choose.
pub(super) fn search() -> Result<Vec<String>, Fault> {
    choose(lan::find(SEARCH_LIMIT)?)
}

fn choose(found: Vec<Found>) -> Result<Vec<String>, Fault> {
    let overlays: BTreeSet<OverlayId> = found.iter().map(|one| one.overlay).collect();
    let Some(first) = found.first() else {
        return Err(Fault::new(
            Code::Unreachable,
            "no overlay announces itself on this network; ask for an invite (muses join INVITE), or start one: muses up",
        ));
    };
    if overlays.len() > 1 {
        let way = |overlay: &OverlayId| {
            let one = found.iter().find(|one| one.overlay == *overlay);
            let address = one.and_then(|one| one.addresses.first()).map(ToString::to_string).unwrap_or_default();
            format!("muses join {address} (overlay {overlay})")
        };
        let ways: Vec<String> = overlays.iter().map(way).collect();
        return Err(Fault::new(
            Code::Usage,
            format!("several overlays are on this network; choose: {}", ways.join(", or ")),
        ));
    }
    let _ = writeln!(io::stdout(), "found the overlay {} on this network, through {}", first.overlay, first.node);
    Ok(ways(&found))
}

/// An address of each node before the second of any: nobody pushes others out by announcing many.
fn ways(found: &[Found]) -> Vec<String> {
    let most = found.iter().map(|one| one.addresses.len()).max().unwrap_or_default();
    let nth = |n: usize| found.iter().filter_map(move |one| one.addresses.get(n));
    (0..most).flat_map(nth).take(MAX_WAYS).map(ToString::to_string).collect()
}

/// Where to join.
#[derive(Debug, Default)]
pub(super) struct Joins {
    addresses: Vec<Multiaddr>,
    invite: Option<Invite>,
}

impl Joins {
    /// What was typed: multiaddrs, at most one invite, or `-` for one line of stdin, which keeps an invite out of the list of processes.
    ///
    /// # Errors
    /// [`Code::Usage`] for what is neither.
    pub(super) fn read(typed: &[String]) -> Result<Self, Fault> {
        let mut joins = Self::default();
        for text in typed {
            joins.add(typed_or_read(text)?.trim())?;
        }
        Ok(joins)
    }

    fn add(&mut self, text: &str) -> Result<(), Fault> {
        match Way::read(text)? {
            Way::Address(address) => self.addresses.push(address),
            Way::Invite(_) if self.invite.is_some() => return Err(no_way(text, "one invite at a time")),
            Way::Invite(invite) => self.invite = Some(*invite),
        }
        Ok(())
    }

    /// Takes out an invite that has expired, and says so. It brings nobody in; who is in already, and types it again, does not need it.
    pub(super) fn take_expired(&mut self, now: WallTime) -> Option<Fault> {
        let why = check_fresh(self.invite.as_ref()?, now).err()?;
        self.invite = None;
        Some(why)
    }

    /// Whether anything was typed.
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.invite.is_none()
    }

    /// Puts what was typed in place of what the file says. What is left is the invite, for its grant.
    ///
    /// # Errors
    /// [`Code::State`] when the configuration wants another overlay than the invite.
    pub(super) fn apply(self, config: &mut Config) -> Result<Option<Invite>, Fault> {
        let Self { mut addresses, invite } = self;
        if let Some(invite) = &invite {
            if let Some(overlay) = config.overlay.id.filter(|overlay| *overlay != invite.overlay) {
                let line = format!(
                    "this invite leads to the overlay {}, but the configuration wants {overlay}; use another --data-dir or --config",
                    invite.overlay
                );
                return Err(Fault::new(Code::State, line));
            }
            config.overlay.id = Some(invite.overlay);
            addresses.extend(invite.dials());
        }
        if !addresses.is_empty() {
            config.join = addresses;
        }
        Ok(invite)
    }
}

/// Tells the inviter the secret, as soon as he can be reached, and prints what that opened.
pub(super) async fn use_grant(handle: Handle, inviter: NodeId, secret: Secret, lines: Lines, data_dir: PathBuf) {
    let result = loop {
        match handle.open(inviter.to_string(), invites::SERVICE.to_owned(), 0).await {
            Ok(conn) => match invites::ask(&conn, &secret).await {
                Err(fault) if fault.code == Code::Failed as u8 => {}
                result => break result,
            },
            // The inviter takes no secrets any more.
            Err(Error::Failed(Failure::Refused)) => break Err(Failure::Refused.into()),
            Err(Error::Failed(why)) => tracing::debug!("the inviter cannot be asked yet: {why}"),
            Err(Error::Stopped(_)) => return,
        }
        tokio::time::sleep(RETRY).await;
    };
    let line = match result {
        Ok(services) => opened(inviter, &services, &data_dir),
        Err(fault) => format!("the invite opened no service: {fault}"),
    };
    lines.say(&line);
}

/// What an invite opened, and how to use it.
pub(super) fn opened(inviter: impl Display, services: &[ServiceName], data_dir: &Path) -> String {
    let Some(first) = services.first() else { return "the invite opened nothing".to_owned() };
    let names: Vec<String> = services.iter().map(ToString::to_string).collect();
    let example = format!("muses connect {inviter}/{first} --listen 127.0.0.1:0{}", flag(data_dir));
    format!("the invite opened {}; for instance: {example}", names.join(", "))
}

/// What was typed, or a line of stdin for `-`.
pub(super) fn typed_or_read(text: &str) -> Result<String, Fault> {
    if text == "-" { first_line().map_err(|fault| fault.about("cannot join -")) } else { Ok(text.to_owned()) }
}

pub(super) fn first_line() -> Result<String, Fault> {
    let mut line = String::new();
    let mut stdin = io::Read::take(io::stdin().lock(), MAX_LINE_BYTES);
    match stdin.read_line(&mut line) {
        Ok(1..) => Ok(line),
        Ok(0) => Err(Fault::new(Code::Usage, "nothing came on stdin")),
        Err(error) => Err(Fault::new(Code::Usage, format!("stdin cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use overlay::id::{Identity, OverlayId};

    use super::*;

    fn invite() -> Invite {
        Invite {
            overlay: OverlayId::from_bytes([1; 32]),
            inviter: Identity::from_secret(&[2; 32]).id(),
            expires_unix_s: 1000,
            addresses: vec!["/ip4/192.0.2.7/tcp/4741".parse().unwrap()],
            grant: None,
        }
    }

    fn read(typed: &[&str], unix_s: u64) -> Result<Joins, Fault> {
        let typed: Vec<String> = typed.iter().map(|&text| text.to_owned()).collect();
        let mut joins = Joins::read(&typed)?;
        joins.take_expired(WallTime::from_unix_micros(unix_s * 1_000_000)).map_or(Ok(joins), Err)
    }

    #[test]
    fn addresses_and_an_invite_take_the_place_of_the_file() {
        let text = invite().to_text().unwrap();
        let mut config = Config { join: vec!["/ip4/1.1.1.1/tcp/1".parse().unwrap()], ..Config::default() };
        read(&["/ip4/192.0.2.1/tcp/1", &text], 0).unwrap().apply(&mut config).unwrap();
        let dials: Vec<String> = config.join.iter().map(ToString::to_string).collect();
        let inviter = invite().inviter;
        assert_eq!(dials, ["/ip4/192.0.2.1/tcp/1".to_owned(), format!("/ip4/192.0.2.7/tcp/4741/p2p/{inviter}")]);
        assert_eq!(config.overlay.id, Some(invite().overlay));
        let mut other = Config::default();
        other.overlay.id = Some(OverlayId::from_bytes([9; 32]));
        let fault = read(&[&text], 0).unwrap().apply(&mut other).unwrap_err();
        assert_eq!(fault.code, Code::State as u8);
        assert!(read(&[], 0).unwrap().is_empty());
    }

    #[test]
    fn only_one_overlay_on_the_network_is_joined_unasked() {
        let found = |overlay, node| Found {
            overlay: OverlayId::from_bytes([overlay; 32]),
            node: Identity::from_secret(&[node; 32]).id(),
            addresses: vec![format!("/ip4/10.0.0.{node}/tcp/4741").parse().unwrap()],
        };
        let mut loud = found(1, 1);
        loud.addresses.extend((0..MAX_WAYS).map(|n| format!("/ip4/10.0.1.{n}/tcp/4741").parse::<Multiaddr>().unwrap()));
        let ways = choose(vec![loud, found(1, 2)]).unwrap();
        assert_eq!(ways[..3], ["/ip4/10.0.0.1/tcp/4741", "/ip4/10.0.0.2/tcp/4741", "/ip4/10.0.1.0/tcp/4741"]);
        assert_eq!(ways.len(), MAX_WAYS);
        assert_eq!(choose(Vec::new()).unwrap_err().code, Code::Unreachable as u8);
        let fault = choose(vec![found(1, 1), found(2, 2)]).unwrap_err();
        assert_eq!(fault.code, Code::Usage as u8);
        assert!(fault.message.contains("10.0.0.1") && fault.message.contains("10.0.0.2"), "{fault}");
    }

    #[test]
    fn who_did_not_get_in_founds_nothing_by_mistake() {
        let check = |began: bool, would_found: bool| {
            let mut snapshot = Snapshot::new();
            if began {
                snapshot.insert(STORE_KEY.to_owned(), vec![1].into());
            }
            let done = check_unfinished(&mut snapshot, would_found, Path::new("/d"));
            assert!(snapshot.is_empty());
            done.map_err(|fault| (fault.code, fault.message.contains("muses join INVITE")))
        };
        assert_eq!(check(true, true), Err((Code::State as u8, true)));
        assert_eq!((check(true, false), check(false, true)), (Ok(()), Ok(())));
    }

    #[test]
    fn what_is_no_way_in_is_one_line() {
        let text = invite().to_text().unwrap();
        let fault = read(&[&text], 1000 + 7200).unwrap_err();
        assert_eq!(fault.code, Code::Refused as u8);
        assert!(fault.message.contains("2 hours"), "{fault}");
        for (typed, part) in [
            (vec!["alice"], "starts with muses1"),
            (vec!["/nowhere"], "multiaddr"),
            (vec!["127.0.0.1:4741"], "write it as /ip4/127.0.0.1/tcp/4741"),
            (vec!["/ip4/192.0.2.7"], "no TCP port"),
            (vec![&text[..60]], "copy it again"),
            (vec![text.as_str(), text.as_str()], "one invite"),
        ] {
            let fault = read(&typed, 0).unwrap_err();
            assert_eq!(fault.code, Code::Usage as u8);
            assert!(fault.message.contains(part) && !fault.message.contains('\n'), "{fault}");
        }
    }
}
