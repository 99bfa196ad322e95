//! Invites: written here, and their secrets taken here.

use std::cmp::Reverse;
use std::time::Duration;

use multiaddr::Multiaddr;
use overlay::id::NodeId;
use serde_json::Value;

use super::{Desk, on_disk, to_json};
use crate::clock;
use crate::control::wire::Invitation;
use crate::driver::{Handle, Incoming};
use crate::exit::{Code, Fault};
use crate::invite::{Grant, Invite, MAX_ADDRESSES, MAX_SERVICES, SECRET_BYTES, Secret};
use crate::local::exposures::Exposure;
use crate::local::invites::{self, Answer, MAX_USES};
use crate::local::service::ServiceName;
use crate::reach::{Reach, reach};
use crate::stack::Who;

/// How long a guest may take to send the secret.
const SECRET_TIMEOUT: Duration = Duration::from_secs(30);

impl Desk {
    pub(super) async fn invite(&self, lifetime_s: u64, services: Vec<ServiceName>, uses: u32) -> Result<Value, Fault> {
        self.check_grant(&services, uses)?;
        let (inviter, overlay) = self.ask(|stack, _| (stack.id(), stack.overlay_id())).await?;
        let overlay = overlay.ok_or_else(|| {
            Fault::new(Code::Unreachable, "this node is in no overlay yet; `muses status` shows when it is attached")
        })?;
        let (farthest, addresses) = addresses(&self.handle).await?;
        let now = clock::now().wall;
        let expires_unix_s = now.as_unix_secs().saturating_add(lifetime_s);
        let grant =
            if services.is_empty() { None } else { Some(Grant { secret: secret()?, services: services.clone() }) };
        let invite = Invite { overlay, inviter, expires_unix_s, addresses, grant };
        let text = invite.to_text().map_err(|why| Fault::new(Code::Usage, why.to_string()))?;
        if let Some(Grant { secret, services }) = invite.grant {
            let grants = self.grants.clone();
            on_disk(move || grants.give(&secret, services, uses, expires_unix_s, now)).await?;
            self.take_secrets().await?;
        }
        to_json(Invitation {
            invite: text,
            overlay: overlay.to_string(),
            node: inviter.to_string(),
            expires_unix_s,
            addresses: invite.addresses.iter().map(ToString::to_string).collect(),
            reach: match farthest {
                Reach::World => "world",
                Reach::Network => "network",
                Reach::Machine => "machine",
            }
            .to_owned(),
            uses: if services.is_empty() { None } else { Some(uses) },
            services,
        })
    }

    fn check_grant(&self, services: &[ServiceName], uses: u32) -> Result<(), Fault> {
        if services.len() > MAX_SERVICES {
            return Err(Fault::new(Code::Usage, format!("more than {MAX_SERVICES} services in one invite")));
        }
        if !(1..=MAX_USES).contains(&uses) {
            return Err(Fault::new(Code::Usage, format!("an invite is for 1 to {MAX_USES} guests")));
        }
        let offered = self.exposures.all();
        match services.iter().find(|service| !offered.contains_key(*service)) {
            None => Ok(()),
            Some(service) => Err(Fault::new(
                Code::Usage,
                format!("this node offers no service {service}; first: muses expose {service} HOST:PORT"),
            )),
        }
    }

    /// Lets others come with secrets.
    pub(super) async fn take_secrets(&self) -> Result<(), Fault> {
        self.ask(|stack, _| stack.expose(invites::SERVICE.to_owned(), String::new(), vec![Who::Anyone])).await
    }

    /// A guest comes with a secret.
    pub(super) async fn redeem(&self, request: Incoming) {
        let guest = request.peer;
        let conn = request.accept();
        let secret = tokio::time::timeout(SECRET_TIMEOUT, invites::read_secret(&conn)).await;
        let Ok(Some(secret)) = secret else { return };
        let answer = match self.admit(secret, guest).await {
            Ok(Some(services)) => {
                tracing::info!("{} came with an invite and may use {services:?} now", guest.short());
                Answer::Services(services)
            }
            Ok(None) => Answer::Refused {},
            Err(fault) => {
                // The guest tries again; whoever runs the node has to do something.
                tracing::error!("an invite could not be used: {fault}");
                return;
            }
        };
        invites::say(&conn, &answer).await;
    }

    async fn admit(&self, secret: Secret, guest: NodeId) -> Result<Option<Vec<ServiceName>>, Fault> {
        let (grants, exposures) = (self.grants.clone(), self.exposures.clone());
        let work = move || {
            let Some(services) = grants.redeem(&secret, guest, clock::now().wall)? else { return Ok(None) };
            let mut opened: Vec<(ServiceName, Exposure)> = Vec::new();
            for service in services {
                // What is no longer offered is not offered by an old invite either.
                if let Some(exposure) = exposures.admit(&service, guest)? {
                    opened.push((service, exposure));
                }
            }
            Ok(Some(opened))
        };
        let Some(opened) = on_disk(work).await? else { return Ok(None) };
        let mut services = Vec::new();
        for (service, exposure) in opened {
            self.offer(&service, exposure).await?;
            services.push(service);
        }
        Ok(Some(services))
    }
}

/// Where others reach this node, farthest first, and how far that is. An address of this machine is only told when there is no other.
async fn addresses(handle: &Handle) -> Result<(Reach, Vec<Multiaddr>), Fault> {
    let mut listening: Vec<(Reach, Multiaddr)> =
        handle.listening().await?.into_iter().filter_map(|address| Some((reach(&address)?, address))).collect();
    listening.sort_by_key(|(reach, _)| Reverse(*reach));
    let Some(&(farthest, _)) = listening.first() else {
        return Err(Fault::new(
            Code::Unreachable,
            "this node listens nowhere now, so nobody could join; try again later",
        ));
    };
    let near = |reach: Reach| reach == Reach::Machine && farthest > Reach::Machine;
    let told = listening.into_iter().filter(|(reach, _)| !near(*reach)).map(|(_, address)| address);
    Ok((farthest, told.take(MAX_ADDRESSES).collect()))
}

fn secret() -> Result<Secret, Fault> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Fault::new(Code::Failed, format!("the system has no entropy: {error}")))?;
    Ok(Secret(bytes))
}
