//! Answers as text for people.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::join;
use super::place::flag;
use crate::clock;
use crate::control::wire::{Allowed, Diagnosis, Exposed, OpenInvite, Request};
use crate::exit::{Code, Fault};
use crate::local::catalogue;
use crate::local::service::{ServiceName, Target};
use crate::span;
use crate::stack::{End, KeyStatus, NameKind, NameStatus, PeerStatus, Resolved, SessionStatus, Status};
use crate::words::count;

mod invite;

pub(super) use invite::qr_code;

/// The text, whole lines, for the answer `data` to `request` of the node in `data_dir`.
pub(super) fn answer(request: &Request, data: Value, data_dir: &Path) -> Result<String, Fault> {
    let text = match request {
        Request::Status {} => {
            let connects = ports(&data);
            let socks = data.get("socks").and_then(Value::as_str).map(str::to_owned);
            let offers = data.get("offers").cloned().map_or(Ok(Vec::new()), read)?;
            status(&read(data)?, &offers, &connects, socks)
        }
        Request::Peers {} => peers(&read::<Vec<PeerStatus>>(data)?),
        Request::Sessions {} => sessions(&read::<Vec<SessionStatus>>(data)?),
        Request::Lookup { .. } => {
            let host = text(&data, "host");
            resolved(&read(data)?, &host)
        }
        Request::Ping { peer } => {
            format!("{peer}: {}, {}\n", count(number(&data, "hops"), "hop"), milliseconds(number(&data, "rtt_us")))
        }
        Request::Trace { .. } => trace(&data),
        Request::Services { peer } => services(peer, &read(data)?, &flag(data_dir)),
        Request::Expose { .. } => {
            let no_longer = data.get("no_longer").cloned().map_or(Ok(Vec::new()), read)?;
            exposed(&read(data)?, &no_longer, &flag(data_dir))
        }
        Request::Unexpose { service } => {
            let cut = format!("muses cut PEER/{service}{}", flag(data_dir));
            format!("{service} is no longer offered; connections that are open go on, and end with: {cut}\n")
        }
        Request::Invite { lifetime_s, .. } => invite::text(&read(data)?, *lifetime_s, &flag(data_dir)),
        Request::Join { way } => joined(way, &data, data_dir)?,
        Request::Invites {} => invite::open(&read::<Vec<OpenInvite>>(data)?, clock::now().wall.as_unix_secs()),
        Request::Uninvite { .. } => invite::withdrawn(&read(data)?),
        Request::Connect { target, keep, .. } => connected(target, &text(&data, "listen"), *keep, &flag(data_dir)),
        Request::Reverse { target, forward } => {
            format!("{} at {}'s leads to {forward} as long as this runs\n", text(&data, "listen"), target.peer)
        }
        Request::Disconnect { .. } => {
            let closed = data.get("closed").map(texts).unwrap_or_default();
            format!("closed {}; connections that were made through it go on\n", closed.join(", "))
        }
        Request::Cut { peer, service } => {
            let ended = count(number(&data, "streams"), "connection");
            match service {
                None => format!("the session with {peer} is over, and {ended} with it\n"),
                Some(service) => format!("{ended} to {service} with {peer} ended; the session goes on\n"),
            }
        }
        Request::NameClaim { name } => match data.get("next_start").and_then(Value::as_str) {
            None => format!("the name {name} is this node's, after a restart too\n"),
            Some(other) => format!(
                "the name {name} is this node's; where --name, MUSES_NAME or its configuration says {other} at the next start, that counts then: change it, too\n"
            ),
        },
        Request::NamePin { name, .. } => format!("{name} means {} from now on\n", text(&data, "node")),
        Request::NameUnpin { name } => format!("{name} is no longer pinned; its next use pins it anew\n"),
        Request::NameList {} => names(&read::<Vec<NameStatus>>(data)?),
        Request::KeyShow {} => key(&read(data)?),
        Request::KeyRotate {} => format!("the session key was changed; sessions go on\n{}", key(&read(data)?)),
        Request::KeyRecovery {} => format!(
            "{}\n\nwhoever has this can revoke {} for ever, and nothing else: keep it off this machine; use it with\n  muses key recover -{}\n",
            text(&data, "recovery"),
            text(&data, "node"),
            flag(data_dir)
        ),
        Request::KeyRevoke { .. } | Request::KeyRecover { .. } => revoked(request, &data),
        Request::Config {} => String::new(),
        Request::Doctor { .. } => diagnosis(&read(data)?),
        Request::NetworkDown {} => format!("the network is down; back with: muses network up{}\n", flag(data_dir)),
        Request::NetworkUp { .. } => "the network is up\n".to_owned(),
        Request::Dashboard {} => format!("{}\n", text(&data, "url")),
        Request::Down {} => "the node has left and ended\n".to_owned(),
        Request::Pipe { .. }
        | Request::PipeEnd { .. }
        | Request::LinksOnly { .. }
        | Request::Send { .. }
        | Request::Receive { .. }
        | Request::Take { .. } => String::new(),
    };
    Ok(printable(&text))
}

/// What a node that was in the overlay already has from a way into it.
fn joined(way: &str, data: &Value, data_dir: &Path) -> Result<String, Fault> {
    let services: Vec<ServiceName> = data.get("services").cloned().map_or(Ok(Vec::new()), read)?;
    if way.starts_with('/') {
        return Ok(
            "the node that runs knows this address now as a way to others of its overlay, until it ends; for good: `join` in its configuration\n"
                .to_owned(),
        );
    }
    if services.is_empty() {
        return Ok("the node that runs is in this overlay already; the invite opens nothing more\n".to_owned());
    }
    Ok(format!("{}\n", join::opened(text(data, "node"), &services, data_dir)))
}

fn status(status: &Status, offers: &[Exposed], connects: &[String], socks: Option<String>) -> String {
    let none = || "-".to_owned();
    let mut text = String::new();
    let address = match (&status.address, &status.root) {
        (Some(address), Some(root)) => format!("{address} under the root {root}"),
        (Some(address), None) => address.clone(),
        (None, _) => "none in the first tree now: detached, or it is being repaired".to_owned(),
    };
    let mut row = |key: &str, value: String| _ = writeln!(text, "{key:<9} {value}");
    row("node", status.node.clone());
    row("name", status.name.clone().unwrap_or_else(none));
    row("overlay", status.overlay.clone().unwrap_or_else(none));
    if let Some(membership) = &status.membership {
        row("member", format!("{membership} of a closed overlay"));
    }
    row("address", address);
    row("parent", status.parent.clone().unwrap_or_else(none));
    status.listen.iter().for_each(|address| row("listen", address.clone()));
    row("standing", status.standing.clone());
    row("links", status.links.to_string());
    row("sessions", status.sessions.to_string());
    if offers.is_empty() {
        row("services", none());
    }
    for Exposed { service, forward, allow } in offers {
        let who: Vec<&str> = allow.iter().map(|one| one.name.as_str()).collect();
        let who = if who.is_empty() { "nobody".to_owned() } else { who.join(", ") };
        row("services", format!("{service} = {forward}, for {who}"));
    }
    connects.iter().for_each(|connect| row("connect", connect.clone()));
    socks.into_iter().for_each(|address| row("socks", address));
    status.warning.iter().for_each(|line| row("warning", line.clone()));
    let c = &status.counters;
    row(
        "packets",
        format!(
            "{} forwarded, {} delivered, {} dropped, {} bad; {}",
            c.forwarded,
            c.delivered,
            c.dropped,
            c.bad_packets,
            count(c.bad_links, "bad link")
        ),
    );
    row("records", format!("{} held for others", c.records));
    let operations = count(c.public_key_ops, "public-key operation");
    row("resumes", format!("{} with {operations} since the start", c.resumes));
    text
}

/// The ports that `connect` made, and those that are kept and could not be opened.
fn ports(status: &Value) -> Vec<String> {
    let [open, kept] = ["connects", "kept"].map(|field| status.get(field).map(texts).unwrap_or_default());
    let row = |port: &String| if kept.contains(port) { format!("{port} (kept)") } else { port.clone() };
    let closed = kept.iter().filter(|port| !open.contains(port));
    let closed = closed.map(|port| format!("{port} (kept; not open now: the log says why)"));
    open.iter().map(row).chain(closed).collect()
}

fn connected(target: &Target, at: &str, keep: bool, flag: &str) -> String {
    let mut text = if keep {
        format!("{target} is at {at}, after restarts too, until it is closed: muses disconnect {at}{flag}\n")
    } else {
        format!("{target} is at {at} until the node ends\n")
    };
    if at.parse::<SocketAddr>().is_ok_and(|at| !at.ip().is_loopback()) {
        _ = writeln!(text, "caution: whoever reaches {at} uses {target} as this node");
    }
    text
}

fn peers(peers: &[PeerStatus]) -> String {
    let mut text = format!("{:<54} {:<9} {:<12} {:>8}  {}\n", "NODE", "ROLE", "ADDRESS", "UP", "REMOTE");
    for peer in peers {
        let address = peer.address.as_deref().unwrap_or("-");
        _ = writeln!(text, "{:<54} {:<9} {address:<12} {:>7.0}s  {}", peer.node, peer.role, peer.up_s, peer.remote);
    }
    text
}

fn sessions(sessions: &[SessionStatus]) -> String {
    let mut text = format!("{:<54} {:<11} {:>4} {:>10} {:>7}\n", "PEER", "STATE", "HOPS", "RTT", "RESUMES");
    for session in sessions {
        let hops = session.hops.map_or("-".to_owned(), |hops| hops.to_string());
        let rtt = session.rtt_us.map_or("-".to_owned(), milliseconds);
        _ = writeln!(text, "{:<54} {:<11} {hops:>4} {rtt:>10} {:>7}", session.peer, session.state, session.resumes);
        if let Some(name) = &session.name {
            _ = writeln!(text, "  {name}");
        }
        for stream in &session.streams {
            let whose = match stream.offered_by {
                End::Here => "of this node",
                End::Peer => "of the peer",
            };
            _ = writeln!(
                text,
                "  {} {whose}: {} sent, {} received",
                stream.service,
                count(stream.sent_bytes, "byte"),
                stream.received_bytes
            );
        }
    }
    text
}

fn resolved(resolved: &Resolved, host: &str) -> String {
    let address = resolved.address.as_deref().unwrap_or("no address known");
    format!("{} is {} at {address}\nfor programs behind SOCKS: {host}\n", resolved.name, resolved.node)
}

fn key(key: &KeyStatus) -> String {
    let previous = key
        .previous_for_s
        .map_or_else(|| "none".to_owned(), |left_s| format!("answered for {} more", span::text(left_s)));
    let changed = count(key.epoch, "time");
    format!("identity  {}\nsession   {} (changed {changed})\nbefore    {previous}\n", key.node, key.key)
}

fn revoked(request: &Request, data: &Value) -> String {
    let node = text(data, "node");
    match (number(data, "neighbours"), request) {
        (0, Request::KeyRecover { .. }) => format!(
            "{node} is revoked, for ever, and only this node knows, for it has no neighbour: leave it running; others hear of it as soon as it has one\n"
        ),
        (0, _) => format!(
            "{node} is revoked, for ever, and only this node, which ends, knows, for it had no neighbour: who has a copy of its key can still be taken for it; a recovery key, if you made one, tells others: muses key recover -\n"
        ),
        _ => format!("{node} is revoked, for ever; every node that hears of it ends its sessions with it\n"),
    }
}

fn names(names: &[NameStatus]) -> String {
    let mut text = format!("{:<32} {:<8} {}\n", "NAME", "KIND", "NODE");
    for name in names {
        let kind = match name.kind {
            NameKind::Own => "own",
            NameKind::Petname => "petname",
            NameKind::Pin => "pin",
        };
        _ = writeln!(text, "{:<32} {kind:<8} {}", name.name, name.node);
    }
    text
}

fn diagnosis(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for check in &diagnosis.checks {
        _ = writeln!(text, "{:<5} {:<9} {}", if check.ok { "ok" } else { "FAILS" }, check.layer, check.detail);
    }
    text
}

fn trace(data: &Value) -> String {
    let mut text = String::new();
    for (index, hop) in data.as_array().into_iter().flatten().enumerate() {
        let field = |key| hop.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or("-");
        _ = writeln!(text, "{:>3}  {:<54} {}", index + 1, field("node"), field("address"));
    }
    text
}

fn services(peer: &str, catalogue: &catalogue::Answer, flag: &str) -> String {
    let mut text = String::new();
    for catalogue::Row { service, listen } in &catalogue.services {
        _ = if *listen {
            writeln!(text, "{:<24} muses reverse {peer}/{service} HOST:PORT{flag}", service.as_str())
        } else {
            writeln!(text, "{:<24} muses connect {peer}/{service} --listen HOST:PORT{flag}", service.as_str())
        };
    }
    if text.is_empty() {
        text = format!(
            "{peer} offers nothing to this node; its owner does that with: muses expose NAME HOST:PORT --allow YOU\n"
        );
    }
    text
}

/// What is offered now, and to whom it was before and is `no_longer`.
fn exposed(exposed: &Exposed, no_longer: &[Allowed], flag: &str) -> String {
    let mut text = format!("{} offers {}", exposed.service, exposed.forward);
    if exposed.allow.is_empty() {
        text.push_str(" to nobody; let others in with --allow WHO\n");
    } else {
        text.push_str(" to:\n");
        exposed.allow.iter().for_each(|allowed| text.push_str(&one_of(allowed)));
    }
    if !no_longer.is_empty() {
        _ = writeln!(
            text,
            "no longer, for --allow names all; connections that are open go on, and end with `muses cut PEER/{}{flag}`:",
            exposed.service
        );
        no_longer.iter().for_each(|allowed| text.push_str(&one_of(allowed)));
    }
    text
}

fn one_of(allowed: &Allowed) -> String {
    match &allowed.node {
        Some(node) if *node != allowed.name => format!("  {} = {node}\n", allowed.name),
        _ => format!("  {}\n", allowed.name),
    }
}

fn read<T: DeserializeOwned>(data: Value) -> Result<T, Fault> {
    serde_json::from_value(data).map_err(|error| {
        Fault::new(Code::Failed, format!("the node answers in another form ({error}); is it of this version?"))
    })
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn text(data: &Value, key: &str) -> String {
    data.get(key).and_then(Value::as_str).unwrap_or("?").to_owned()
}

fn number(data: &Value, key: &str) -> u64 {
    data.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{:01} ms", micros / 1000, micros % 1000 / 100)
}

/// Without control characters other than the end of a line: names may come from other nodes, and a terminal obeys what it prints.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_reads_as_lines() {
        let here = Path::new("/d e");
        let status = serde_json::to_value(Status {
            node: "12D3".into(),
            listen: vec!["/ip4/1.2.3.4/tcp/1".into()],
            ..Status::default()
        });
        let text = answer(&Request::Status {}, status.unwrap(), here).unwrap();
        assert!(text.contains("none in the first tree now") && text.ends_with('\n'), "{text}");
        let ping =
            answer(&Request::Ping { peer: "alice".into() }, serde_json::json!({"hops": 4, "rtt_us": 8123}), here)
                .unwrap();
        assert_eq!(ping, "alice: 4 hops, 8.1 ms\n");
        let session =
            SessionStatus { peer: "p\u{1b}[31m".into(), state: "suspended".into(), ..SessionStatus::default() };
        let text = answer(&Request::Sessions {}, serde_json::to_value([session]).unwrap(), here).unwrap();
        assert!(text.contains("suspended") && !text.contains('\u{1b}'));
        assert!(answer(&Request::Peers {}, serde_json::json!({"no": "list"}), here).is_err());
        let cut = answer(&Request::Cut { peer: "bob".into(), service: None }, serde_json::json!({"streams": 1}), here)
            .unwrap();
        assert_eq!(cut, "the session with bob is over, and 1 connection with it\n");
    }

    #[test]
    fn what_others_reach_is_said_and_what_is_to_be_typed_is_whole() {
        let at = |listen: &str| {
            let request = Request::Connect {
                target: "alice/ssh".parse().unwrap(),
                listen: listen.parse().unwrap(),
                only_me: false,
                keep: false,
            };
            answer(&request, serde_json::json!({ "listen": listen }), Path::new("/d")).unwrap()
        };
        for here in ["127.0.0.1:2222", "[::1]:2222", "unix:/tmp/s"] {
            assert_eq!(at(here).lines().count(), 1, "{here}");
        }
        let said = at("0.0.0.0:2222");
        assert!(said.ends_with("caution: whoever reaches 0.0.0.0:2222 uses alice/ssh as this node\n"), "{said}");
        let down = answer(&Request::NetworkDown {}, Value::Null, Path::new("/d e")).unwrap();
        assert_eq!(down, "the network is down; back with: muses network up --data-dir '/d e'\n");
    }
}
