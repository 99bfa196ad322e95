//! Invites: written here, and their secrets taken here.

use std::sync::Arc;
use std::time::Duration;

use multiaddr::Multiaddr;
use overlay::id::NodeId;
use overlay::io::LinkId;
use overlay::membership::{Admission, Rank};
use serde_json::Value;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Desk, on_disk, to_json};
use crate::clock;
use crate::control::wire::{Invitation, OpenInvite, Outcome, Trial};
use crate::driver::{Handle, Incoming};
use crate::exit::{Code, Fault};
use crate::invite::{Grant, Invite, MAX_ADDRESSES, MAX_SERVICES, ParseInviteError, SECRET_BYTES, Secret};
use crate::local::admission;
use crate::local::invites::{self, Answer, ID_CHARS, MAX_USES, Offer, Open, Opened, Which, Wish, is_id};
use crate::local::service::ServiceName;
use crate::reach::{Reach, for_others, reach};
use crate::stack::{Event, Who};

/// How long a guest may take to send the secret.
const SECRET_TIMEOUT: Duration = Duration::from_secs(30);

impl Desk {
    pub(super) async fn invite(
        &self,
        lifetime_s: u64,
        services: Vec<ServiceName>,
        uses: u32,
        may_invite: bool,
    ) -> Result<Value, Fault> {
        self.check_grant(&services, uses)?;
        let (inviter, overlay) = self.ask(|stack, _| (stack.id(), stack.overlay_id())).await?;
        let closed = self.check_rank(!services.is_empty(), uses, may_invite).await?;
        let overlay = overlay.ok_or_else(|| {
            Fault::new(Code::Unreachable, "this node is in no overlay yet; `muses status` shows when it is attached")
        })?;
        let own = addresses(&self.handle).await?;
        let (trials, asked) = self.try_addresses(&own).await?;
        let addresses = with_reached(own, &trials);
        let farthest = addresses.first().and_then(reach).unwrap_or(Reach::Machine);
        let now = clock::now().wall;
        let expires_unix_s = now.as_unix_secs().saturating_add(lifetime_s);
        let grant = if services.is_empty() && !closed {
            None
        } else {
            Some(Grant { secret: secret()?, services: services.clone() })
        };
        let invite = Invite { overlay, inviter, expires_unix_s, addresses, grant };
        let text = invite.to_text().map_err(|why| Fault::new(Code::Usage, why.to_string()))?;
        let mut id = None;
        if let Some(Grant { secret, services }) = invite.grant {
            let grants = self.grants.clone();
            let offer = Offer { services, may_invite, uses, expires_unix_s };
            id = Some(on_disk(move || grants.give(&secret, offer, now)).await?);
            self.take_secrets().await?;
        }
        to_json(Invitation {
            invite: text,
            overlay: overlay.to_string(),
            node: inviter.to_string(),
            id,
            expires_unix_s,
            addresses: invite.addresses.iter().map(ToString::to_string).collect(),
            reach: match farthest {
                Reach::World => "world",
                Reach::Network => "network",
                Reach::Machine => "machine",
            }
            .to_owned(),
            uses: if services.is_empty() && !closed { None } else { Some(uses) },
            admits: admits(closed, may_invite),
            services,
            takes_in: self.takes_in(),
            asked,
            trials,
        })
    }

    /// A leaf takes nobody in, and among friends nobody else is wanted.
    fn takes_in(&self) -> bool {
        let config = self.config_in_force();
        let only = config.pointer("/links/only").and_then(Value::as_array);
        config.pointer("/leaf") != Some(&Value::Bool(true)) && only.is_none_or(Vec::is_empty)
    }

    pub(super) async fn invites(&self) -> Result<Value, Fault> {
        let grants = self.grants.clone();
        let open = on_disk(move || Ok(grants.all(clock::now().wall))).await?;
        to_json(self.shown(open).await?)
    }

    pub(super) async fn uninvite(&self, invite: String) -> Result<Value, Fault> {
        let invite = invite.trim();
        let which = match invite.parse::<Invite>() {
            Ok(Invite { grant: Some(Grant { secret, .. }), .. }) => Which::Secret(secret),
            Ok(_) => {
                return Err(Fault::new(
                    Code::Usage,
                    "this invite has no secret: it only says where the overlay is, and nobody can take that back",
                ));
            }
            Err(ParseInviteError::NotAnInvite) if is_id(invite) => Which::Id(invite.to_ascii_lowercase()),
            // What it was is not shown: it may be a secret with a letter too many.
            Err(ParseInviteError::NotAnInvite) => {
                let line = format!(
                    "this is neither an invite nor the id of one, {ID_CHARS} hex digits; `muses invites` lists them"
                );
                return Err(Fault::new(Code::Usage, line));
            }
            Err(why) => return Err(Fault::new(Code::Usage, why.to_string())),
        };
        let what = match &which {
            Which::Id(id) => format!("the invite {id:?}"),
            Which::Secret(_) => "this invite".to_owned(),
        };
        let grants = self.grants.clone();
        let withdrawn = on_disk(move || grants.withdraw(&which)).await?;
        let unknown =
            || Fault::new(Code::Usage, format!("{what} is not open here; `muses invites` lists those that are"));
        to_json(self.shown(withdrawn.into_iter().collect()).await?.pop().ok_or_else(unknown)?)
    }

    /// As the owner sees them.
    async fn shown(&self, open: Vec<Open>) -> Result<Vec<OpenInvite>, Fault> {
        self.ask(move |stack, _| {
            let called = |id: &String| id.parse().ok().and_then(|id| stack.called(id)).unwrap_or_else(|| id.clone());
            let closed = stack.is_closed();
            let shown = |Open { id, offer, guests }: Open| OpenInvite {
                id,
                expires_unix_s: offer.expires_unix_s,
                uses_left: offer.uses,
                admits: admits(closed, offer.may_invite),
                services: offer.services,
                guests: guests.iter().map(called).collect(),
            };
            open.into_iter().map(shown).collect()
        })
        .await
    }

    /// Whether the overlay is closed, if this node may invite as is wanted.
    async fn check_rank(&self, services: bool, uses: u32, may_invite: bool) -> Result<bool, Fault> {
        let (closed, rank) = self.ask(|stack, _| (stack.is_closed(), stack.rank())).await?;
        let refused = |line: &str| Err(Fault::new(Code::Refused, line));
        match rank {
            None if closed => refused("this node is no member of its closed overlay; ask for an invite yourself"),
            None if may_invite => {
                Err(Fault::new(Code::Usage, "in an open overlay everybody may invite; leave out --inviter"))
            }
            None if uses > 1 && !services => Err(Fault::new(
                Code::Usage,
                "anybody may join an open overlay, as often as he likes; --uses is for services: muses invite --allow SERVICE --uses N",
            )),
            Some(Rank::Member) => refused(
                "this overlay is closed, and this node may not invite; ask its founder for an invite that says so (muses invite --inviter)",
            ),
            Some(Rank::Inviter) if may_invite => {
                refused("only the founder of a closed overlay says who may invite; ask there")
            }
            _ => Ok(closed),
        }
    }

    /// Answers guests of a closed overlay, one after the other, until the node ends.
    pub async fn admit_guests(self: Arc<Self>, mut facts: broadcast::Receiver<Event>) {
        loop {
            match facts.recv().await {
                Ok(Event::GuestAsks { link, peer, secret }) => self.admit_guest(link, peer, secret).await,
                // Who was not answered comes again.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn admit_guest(&self, link: LinkId, guest: NodeId, secret: Secret) {
        let grants = self.grants.clone();
        let admission = match on_disk(move || grants.redeem(&secret, guest, Wish::Membership, clock::now().wall)).await
        {
            Ok(Some(Opened { may_invite: true, .. })) => Admission::Inviter,
            Ok(Some(_)) => Admission::Member,
            Ok(None) => Admission::Refused,
            Err(fault) => {
                // The guest comes again; whoever runs the node has to do something.
                tracing::error!("an invite could not be used: {fault}");
                return;
            }
        };
        tracing::info!("{} came with an invite: {admission:?}", guest.short());
        // A node that has ended admits nobody.
        let _ = self.ask(move |stack, now| stack.admit(link, guest, admission, now)).await;
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
        conn.answer(serde_json::to_vec(&answer).unwrap_or_default()).await;
    }

    async fn admit(&self, secret: Secret, guest: NodeId) -> Result<Option<Vec<ServiceName>>, Fault> {
        let (grants, exposures) = (self.grants.clone(), self.exposures.clone());
        let work = move || admission::admit(&grants, &exposures, &secret, guest, clock::now().wall);
        let Some(services) = on_disk(work).await? else { return Ok(None) };
        self.offer(services.clone()).await?;
        Ok(Some(services))
    }
}

/// What an invite makes its holder, if it makes him anything.
fn admits(closed: bool, may_invite: bool) -> Option<String> {
    closed.then(|| if may_invite { "inviter" } else { "member" }.to_owned())
}

/// Where this node or its router listens, as others are told.
async fn addresses(handle: &Handle) -> Result<Vec<Multiaddr>, Fault> {
    let mut told = for_others(handle.reachable_at().await?);
    if told.is_empty() {
        return Err(Fault::new(
            Code::Unreachable,
            "this node listens nowhere now, so nobody could join; is the network up (muses network up)?",
        ));
    }
    told.truncate(MAX_ADDRESSES);
    Ok(told)
}

/// With those at which neighbours have reached this node, although it does not listen there: at a router that forwards the port.
fn with_reached(mut addresses: Vec<Multiaddr>, trials: &[Trial]) -> Vec<Multiaddr> {
    for trial in trials.iter().filter(|trial| trial.outcome == Outcome::Reached) {
        if let Ok(address) = trial.address.parse::<Multiaddr>()
            && !addresses.contains(&address)
        {
            let nearer = addresses.iter().position(|other| reach(other) <= reach(&address));
            addresses.insert(nearer.unwrap_or(addresses.len()), address);
        }
    }
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

fn secret() -> Result<Secret, Fault> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Fault::new(Code::Failed, format!("the system has no entropy: {error}")))?;
    Ok(Secret(bytes))
}
