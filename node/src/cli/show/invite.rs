//! An invite as text, whom it reaches, and its QR code.

use std::fmt::Write as _;

use multiaddr::Multiaddr;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use crate::control::wire::{Invitation, OpenInvite, Outcome, Trial};
use crate::exit::{Code, Fault};
use crate::local::service::ServiceName;
use crate::reach::{Reach, port_of, reach};
use crate::span;

/// The invite, what it gives, and where it leads; `flag` says which node a command is for.
pub(super) fn text(invitation: &Invitation, lifetime_s: u64, flag: &str) -> String {
    let mut text =
        format!("{0}\n\ngood for {1}; join with:\n  muses join {0}\n", invitation.invite, span::text(lifetime_s));
    if let Some(uses) = invitation.uses {
        let names: Vec<&str> = invitation.services.iter().map(ServiceName::as_str).collect();
        let admits = invitation.admits.as_deref().map(|rank| match rank {
            "inviter" => "is a member of this closed overlay and may invite others".to_owned(),
            _ => "is a member of this closed overlay".to_owned(),
        });
        let uses_them = (!names.is_empty()).then(|| format!("may use {}", names.join(", ")));
        let gets: Vec<String> = admits.into_iter().chain(uses_them).collect();
        let guests = if uses == 1 {
            "whoever is the first to come".to_owned()
        } else {
            format!("each of the first {uses} who come")
        };
        _ = writeln!(text, "{guests} with it {}: keep it secret", gets.join(" and "));
    }
    if let Some(id) = &invitation.id {
        _ = writeln!(text, "take it back with: muses uninvite {id}{flag}");
    }
    if invitation.asked == 0 {
        text.push_str("nobody to ask whether others reach this node: it has no neighbour yet\n");
    } else {
        invitation.trials.iter().for_each(|trial| text.push_str(&tried(trial)));
    }
    if let Some(caution) = caution(invitation) {
        _ = writeln!(text, "caution: {caution}");
    }
    text
}

/// Those that have not expired.
pub(super) fn open(invites: &[OpenInvite], now_unix_s: u64) -> String {
    if invites.is_empty() {
        return "no invite with a secret has been written that has not expired\n".to_owned();
    }
    let mut text = format!("{:<9} {:<12} {:>4}  {:<32} {}\n", "ID", "GOOD FOR", "USES", "OPENS", "CAME");
    for invite in invites {
        let left = span::text(invite.expires_unix_s.saturating_sub(now_unix_s));
        let guests = if invite.guests.is_empty() { "-".to_owned() } else { invite.guests.join(", ") };
        _ = writeln!(text, "{:<9} {left:<12} {:>4}  {:<32} {guests}", invite.id, invite.uses_left, opens(invite));
    }
    text
}

/// What was taken back, and what was not.
pub(super) fn withdrawn(invite: &OpenInvite) -> String {
    // In an open overlay an invite is also the way there, which has no secret.
    let mut text = match invite.admits {
        Some(_) => format!("nobody new can come with the invite {} any more\n", invite.id),
        None => format!(
            "the invite {} opens no service any more; until it expires it still leads into this open overlay\n",
            invite.id
        ),
    };
    if !invite.guests.is_empty() {
        _ = writeln!(text, "who came with it keeps what he got: {}", invite.guests.join(", "));
    }
    text
}

fn opens(invite: &OpenInvite) -> String {
    let services = invite.services.iter().map(ServiceName::to_string);
    let rank = invite.admits.as_ref().map(|rank| format!("the overlay, as {rank}"));
    rank.into_iter().chain(services).collect::<Vec<_>>().join(", ")
}

fn tried(trial: &Trial) -> String {
    let (address, by) = (&trial.address, trial.by.as_deref().unwrap_or("?"));
    match trial.outcome {
        Outcome::Reached => format!("{address}: reached by {by}\n"),
        Outcome::Failed => format!("{address}: not reached, {by} has tried\n"),
        Outcome::Untested => format!("{address}: not tested, no neighbour sees this node there\n"),
    }
}

/// Who cannot come with this invite, and what to do about it.
fn caution(invitation: &Invitation) -> Option<String> {
    if !invitation.takes_in {
        return Some(
            "nobody gets into the overlay through this node, for it is a leaf or has links.only; it opens services to who is in already: muses join INVITE".to_owned(),
        );
    }
    let with = |outcome: Outcome, at_least: Reach| {
        let trials = invitation.trials.iter().filter(move |trial| trial.outcome == outcome);
        trials.filter_map(|trial| trial.address.parse::<Multiaddr>().ok()).find(|at| reach(at) >= Some(at_least))
    };
    if with(Outcome::Reached, Reach::World).is_some() {
        return None;
    }
    let port = |address: &Multiaddr| port_of(address).unwrap_or_default();
    if let Some(failed) = with(Outcome::Failed, Reach::World) {
        return Some(format!(
            "from outside nobody reaches this node; let TCP port {} through to it in the router or firewall, or have somebody invite who is reached",
            port(&failed)
        ));
    }
    if with(Outcome::Reached, Reach::Network).is_none()
        && let Some(failed) = with(Outcome::Failed, Reach::Machine)
    {
        return Some(format!(
            "nobody reaches this node; let TCP port {} through in this machine's firewall, or listen at another address: muses up --listen ...",
            port(&failed)
        ));
    }
    match invitation.reach.as_str() {
        "machine" => Some(
            "only programs on this machine reach this node; connect the machine to a network, or, where it was told to listen here alone: muses up --listen ...".to_owned(),
        ),
        "network" => Some(
            "the addresses in it are private; from outside of this network nobody reaches them unless your router forwards the port".to_owned(),
        ),
        _ => None,
    }
}

/// The code as lines of half blocks. In upper case the text fits the alphanumeric mode, with two thirds of the modules.
pub(in crate::cli) fn qr_code(text: &str) -> Result<String, Fault> {
    let code = QrCode::with_error_correction_level(text.to_uppercase(), EcLevel::L)
        .map_err(|error| Fault::new(Code::Failed, format!("this does not fit into a QR code: {error}")))?;
    // Terminals are mostly dark: the light modules are what is printed.
    let image = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Ok(format!("\n{image}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation(reach: &str, trials: &[(&str, Outcome)]) -> Invitation {
        let trial = |(address, outcome): &(&str, Outcome)| Trial {
            address: (*address).to_owned(),
            outcome: *outcome,
            by: (*outcome != Outcome::Untested).then(|| "12D3".to_owned()),
        };
        Invitation {
            invite: "muses1x".into(),
            overlay: "o".into(),
            node: "n".into(),
            id: None,
            expires_unix_s: 1,
            addresses: Vec::new(),
            reach: reach.into(),
            services: Vec::new(),
            uses: None,
            admits: None,
            takes_in: true,
            asked: trials.len(),
            trials: trials.iter().map(trial).collect(),
        }
    }

    #[test]
    fn an_invite_with_a_secret_says_how_it_is_taken_back() {
        let secret = Invitation { id: Some("1a2b3c4d".into()), ..invitation("world", &[]) };
        let says =
            |invitation| text(&invitation, 60, " --data-dir /d").contains("muses uninvite 1a2b3c4d --data-dir /d\n");
        assert!(says(secret) && !says(invitation("world", &[])));
    }

    #[test]
    fn open_invites_are_a_table() {
        let invite = OpenInvite {
            id: "1a2b3c4d".into(),
            expires_unix_s: 4600,
            uses_left: 2,
            services: vec!["web".parse().unwrap()],
            admits: Some("member".into()),
            guests: vec!["bob".into()],
        };
        let table = open(std::slice::from_ref(&invite), 1000);
        let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row.join(" "), "1a2b3c4d 60 minutes 2 the overlay, as member, web bob");
        assert!(withdrawn(&invite).contains("nobody new") && withdrawn(&invite).contains("keeps what he got: bob"));
        assert!(withdrawn(&OpenInvite { admits: None, ..invite.clone() }).contains("still leads into"));
        assert_eq!(withdrawn(&OpenInvite { guests: Vec::new(), ..invite }).lines().count(), 1);
        assert!(open(&[], 0).starts_with("no invite"));
    }

    #[test]
    fn it_is_said_plainly_who_cannot_come_and_what_to_do() {
        use Outcome::{Failed, Reached, Untested};
        const HOME: &str = "/ip4/192.168.1.4/tcp/4741";
        const ROUTER: &str = "/ip4/203.0.113.7/tcp/4741";
        const HERE: &str = "/ip4/127.0.0.1/tcp/4741";
        for (reach, trials, says) in [
            ("world", vec![(ROUTER, Reached), (HOME, Untested)], ""),
            ("world", vec![(ROUTER, Untested)], ""),
            (
                "world",
                vec![(ROUTER, Failed), (HOME, Reached)],
                "from outside nobody reaches this node; let TCP port 4741",
            ),
            ("network", vec![(HOME, Untested), (ROUTER, Failed)], "from outside nobody"),
            ("network", vec![(HOME, Reached)], "are private"),
            ("network", vec![(HOME, Failed)], "this machine's firewall"),
            ("network", vec![], "are private"),
            ("machine", vec![(HERE, Reached)], "only programs on this machine"),
        ] {
            let text = text(&invitation(reach, &trials), 60, "");
            let cautions: Vec<&str> = text.lines().filter(|line| line.starts_with("caution: ")).collect();
            assert_eq!(cautions.len(), usize::from(!says.is_empty()), "{text}");
            assert!(cautions.iter().all(|line| line.contains(says)), "{text}");
            let rows = text.lines().filter(|line| line.starts_with("/ip4/")).count();
            assert_eq!(rows, trials.len(), "{text}");
            assert_eq!(text.contains("nobody to ask"), trials.is_empty(), "{text}");
        }
        let text = text(&invitation("network", &[(HOME, Reached), (ROUTER, Failed)]), 60, "");
        assert!(text.contains("/ip4/192.168.1.4/tcp/4741: reached by 12D3\n"), "{text}");
        assert!(text.contains("/ip4/203.0.113.7/tcp/4741: not reached, 12D3 has tried\n"), "{text}");
    }
}
