//! What each request does.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use overlay::time::Now;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use super::wire::{Allowed, Exposed, MAX_ALLOWED, Request};
use crate::config::EVERYBODY;
use crate::dashboard::Dashboard;
use crate::dial_back::Asks;
use crate::driver::{Error, Handle, Incoming, Stopped};
use crate::exit::{Code, Fault};
use crate::local::catalogue as offered;
use crate::local::exposures::{Exposure, Exposures};
use crate::local::invites::{self, Grants};
use crate::local::kept::KeptPorts;
use crate::local::listen::Port;
use crate::local::reverse::{Lent, lend};
use crate::local::service::{Forward, LISTEN, ServiceName};
use crate::local::{dial, socks};
use crate::metrics::Metrics;
use crate::stack::{Answer, Failure, QueryId, Stack, Who};
use crate::store::Store;

mod catalogue;
mod cutting;
mod doctor;
mod files;
mod folder;
mod inviting;
mod joining;
mod keys;
pub mod naming;
mod pipes;
mod ports;
mod reached;
mod reload;
mod reverse;
mod serving;

pub(super) use files::Receiving;
pub(super) use pipes::Pipe;
use pipes::Pipes;
use ports::OpenPort;
pub(super) use reverse::Reversal;

/// The stack answers questions sooner than this; a client waits longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// To whoever pings or traces this node from itself.
const NO_WAY_TO_MYSELF: &str =
    "this is the node itself, and no way leads there to be measured; what it is and does: muses status";

/// All that requests work on.
pub struct Desk {
    handle: Handle,
    exposures: Arc<Exposures>,
    grants: Arc<Grants>,
    kept_ports: Arc<KeptPorts>,
    store: Arc<dyn Store>,
    /// The configuration in force, as `muses config show` prints it.
    config: Mutex<Value>,
    data_dir: PathBuf,
    /// The name that the command line, environment or configuration says: it counts again at the next start.
    said_name: Option<String>,
    /// Held while the session key is changed.
    rotating: tokio::sync::Mutex<()>,
    /// Ports made by `connect`, by address.
    connects: Mutex<BTreeMap<String, OpenPort>>,
    /// Held by whoever opens, keeps or closes one of these.
    changing_ports: tokio::sync::Mutex<()>,
    /// Ports made by `reverse` of others.
    lent: Lent,
    socks: OnceLock<(SocketAddr, Port)>,
    dashboard: OnceLock<Dashboard>,
    metrics: OnceLock<Metrics>,
    pipes: Mutex<Pipes>,
    door: files::Door,
    asks: Mutex<Asks>,
    /// The latest one's number.
    reversals: AtomicU64,
    ended: Notify,
}

/// What was typed and holds over restarts.
pub struct Typed {
    /// Services that are offered; those of the configuration, too.
    pub exposures: Exposures,
    /// Invites with a secret.
    pub grants: Grants,
    /// Local ports.
    pub kept_ports: KeptPorts,
}

impl Desk {
    /// A desk for the node behind `handle`. Offers the services that are `typed`, takes the secrets of invites, and opens the ports that are kept and can be
    /// opened.
    ///
    /// # Errors
    /// When the node has ended.
    pub async fn open(
        handle: Handle,
        typed: Typed,
        store: Arc<dyn Store>,
        config: Value,
        data_dir: PathBuf,
        said_name: Option<String>,
    ) -> Result<Self, Fault> {
        let desk = Self {
            handle,
            exposures: Arc::new(typed.exposures),
            grants: Arc::new(typed.grants),
            kept_ports: Arc::new(typed.kept_ports),
            store,
            config: Mutex::new(config),
            data_dir,
            said_name,
            rotating: tokio::sync::Mutex::default(),
            connects: Mutex::default(),
            changing_ports: tokio::sync::Mutex::default(),
            lent: Lent::default(),
            socks: OnceLock::new(),
            dashboard: OnceLock::new(),
            metrics: OnceLock::new(),
            pipes: Mutex::default(),
            door: files::Door::default(),
            asks: Mutex::default(),
            reversals: AtomicU64::new(0),
            ended: Notify::new(),
        };
        let exposures = Arc::clone(&desk.exposures);
        on_disk(move || exposures.forget_gone()).await?;
        desk.offer(desk.exposures.all().into_keys().collect()).await?;
        if desk.grants.any() {
            desk.take_secrets().await?;
        }
        desk.offer_dial_back().await?;
        desk.offer_catalogue().await?;
        desk.open_kept_ports().await;
        Ok(desk)
    }

    /// Serves the connections of peers until the node ends.
    pub async fn receive(self: Arc<Self>, mut incoming: mpsc::Receiver<Incoming>) {
        while let Some(request) = incoming.recv().await {
            if request.service == invites::SERVICE {
                let desk = Arc::clone(&self);
                tokio::spawn(async move { desk.redeem(request).await });
            } else if request.service == crate::files::SERVICE {
                self.let_in(request);
            } else if request.service == crate::dial_back::SERVICE {
                let desk = Arc::clone(&self);
                tokio::spawn(async move { desk.dial_asker(request).await });
            } else if request.service == offered::SERVICE {
                let desk = Arc::clone(&self);
                tokio::spawn(async move { desk.tell_catalogue(request).await });
            } else if request.forward.starts_with(LISTEN) {
                tokio::spawn(lend(self.handle.clone(), request, self.lent.clone()));
            } else {
                tokio::spawn(dial::serve(request));
            }
        }
    }

    /// Waits until somebody asked for the node's end and got the answer.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    pub(super) fn end(&self) {
        self.ended.notify_one();
    }

    pub(super) async fn leave(&self) -> Result<Value, Fault> {
        match self.handle.stop_and_tell().await {
            None => Ok(Value::Null),
            Some(why) => Err(Fault::new(
                Code::State,
                format!(
                    "the node has left and ended, but not all that it had to keep is on disk ({why}); make room there: the next start goes on from what was stored last"
                ),
            )),
        }
    }

    /// The answer to any request other than those that their connection sees through.
    pub(crate) async fn answer(&self, request: Request) -> Result<Value, Fault> {
        match request {
            Request::Status {} => self.status().await,
            Request::Peers {} => to_json(self.ask(|stack, now| stack.peers(now)).await?),
            Request::Sessions {} => to_json(self.ask(|stack, now| stack.sessions(now)).await?),
            Request::Lookup { peer } => self.question(peer, Stack::lookup).await,
            Request::Ping { peer } => self.question(peer, Stack::ping).await,
            Request::Trace { peer } => self.question(peer, Stack::trace).await,
            Request::Services { peer } => self.services_of(&peer).await,
            Request::Expose { service, forward, allow } => self.expose(service, forward, allow).await,
            Request::Unexpose { service } => self.unexpose(service).await,
            Request::Connect { target, listen, only_me, keep } => self.connect(target, &listen, only_me, keep).await,
            Request::Invite { lifetime_s, services, uses, may_invite } => {
                self.invite(lifetime_s, services, uses, may_invite).await
            }
            Request::Join { way } => self.join(&way).await,
            Request::Invites {} => self.invites().await,
            Request::Uninvite { invite } => self.uninvite(invite).await,
            Request::Disconnect { what } => self.disconnect(&what).await,
            Request::Cut { peer, service } => self.cut(&peer, service).await,
            Request::NameClaim { name } => self.claim(&name).await,
            Request::NamePin { name, node } => self.pin(&name, &node).await,
            Request::NameUnpin { name } => self.unpin(&name).await,
            Request::NameList {} => self.names().await,
            Request::KeyShow {} => self.show_key().await,
            Request::KeyRotate {} => self.rotate_key().await,
            Request::KeyRecovery {} => self.make_recovery_key().await,
            Request::KeyRevoke { node } => self.revoke(&node).await,
            Request::KeyRecover { key } => self.recover(&key).await,
            Request::Config {} => Ok(self.config_in_force().clone()),
            Request::Doctor { peer, service } => self.doctor(peer, service).await,
            Request::PipeEnd { pipe } => self.pipe_end(pipe).await,
            Request::NetworkDown {} => Ok(self.handle.network_down().await.map(|()| Value::Null)?),
            Request::NetworkUp { bind } => {
                let line = |line| Fault::new(Code::PortInUse, line);
                self.handle.network_up(bind).await.map(|()| Value::Null).map_err(line)
            }
            Request::LinksOnly { only } => self.links_only(only).await,
            Request::Dashboard {} => self.dashboard_url(),
            Request::Pipe { .. }
            | Request::Send { .. }
            | Request::Receive { .. }
            | Request::Take { .. }
            | Request::Reverse { .. }
            | Request::Down {} => Err(Fault::new(Code::Usage, "not here")),
        }
    }

    async fn links_only(&self, only: Vec<String>) -> Result<Value, Fault> {
        let set = self.ask(move |stack, now| stack.set_links_only(&only, now)).await?;
        set.map(|()| Value::Null).map_err(|line| Fault::new(Code::Usage, line))
    }

    async fn question(&self, peer: String, ask: fn(&mut Stack, &str, Now) -> QueryId) -> Result<Value, Fault> {
        let what = peer.clone();
        let answer = in_time(self.handle.query(move |stack, now| ask(stack, &peer, now)), ANSWER_TIMEOUT);
        let answer = answer.await.map_err(|fault| match fault {
            fault if fault == Failure::Myself.into() => Fault { message: NO_WAY_TO_MYSELF.to_owned(), ..fault },
            fault => fault,
        });
        match answer.map_err(|fault| fault.about(&what))? {
            Answer::Resolved(resolved) => {
                let host = resolved.node.parse().map(|node| socks::name::host_of(&node)).ok();
                let mut data = to_json(resolved)?;
                if let Value::Object(fields) = &mut data {
                    fields.insert("host".to_owned(), host.into());
                }
                Ok(data)
            }
            Answer::Echo { hops, rtt_us } => Ok(json!({ "hops": hops, "rtt_us": rtt_us })),
            Answer::Trace(hops) => Ok(hops
                .into_iter()
                .map(|(node, address)| json!({ "node": node.to_string(), "address": address }))
                .collect()),
        }
    }

    async fn expose(&self, service: ServiceName, forward: Forward, allow: Vec<String>) -> Result<Value, Fault> {
        forward.check_service()?;
        let (who, allowed) = self.allowed(allow).await?;
        let exposure = Exposure { forward: forward.clone(), allow: who };
        let before = self.exposures.one(&service).map(|before| before.allow).unwrap_or_default();
        let out = before.into_iter().filter(|one| !exposure.allow.contains(one)).collect();
        let (exposures, name) = (Arc::clone(&self.exposures), service.clone());
        on_disk(move || exposures.put(name, exposure)).await?;
        self.offer(vec![service.clone()]).await?;
        let mut data = to_json(Exposed { service, forward, allow: allowed })?;
        if let Value::Object(fields) = &mut data {
            fields.insert("no_longer".to_owned(), to_json(self.named(out).await?)?);
        }
        Ok(data)
    }

    /// Those who are named, and what their names stand for now.
    async fn allowed(&self, names: Vec<String>) -> Result<(Vec<Who>, Vec<Allowed>), Fault> {
        if names.len() > MAX_ALLOWED {
            return Err(Fault::new(Code::Usage, format!("more than {MAX_ALLOWED} entries in a list; use `anyone`")));
        }
        let (mut who, mut allowed) = (Vec::new(), Vec::new());
        for name in names {
            let one = self.who(&name).await?;
            let node = match one {
                Who::Anyone => None,
                Who::Node(id) => Some(id.to_string()),
            };
            allowed.push(Allowed { name, node });
            if !who.contains(&one) {
                who.push(one);
            }
        }
        Ok((who, allowed))
    }

    async fn unexpose(&self, service: ServiceName) -> Result<Value, Fault> {
        if !self.exposures.all().contains_key(&service) {
            let line = format!("no service {service} is offered; `muses status` lists those that are");
            return Err(Fault::new(Code::Usage, line));
        }
        let (exposures, name) = (Arc::clone(&self.exposures), service.clone());
        on_disk(move || exposures.remove(&name)).await?;
        self.offer(vec![service]).await?;
        Ok(Value::Null)
    }

    /// Has the stack offer these as they are kept, or no longer. That is looked up on the loop, so that of two changes at a time the later one counts.
    async fn offer(&self, services: Vec<ServiceName>) -> Result<(), Fault> {
        let exposures = Arc::clone(&self.exposures);
        self.ask(move |stack, _| {
            let mut all = exposures.all();
            for service in services {
                match all.remove(&service) {
                    Some(Exposure { forward, allow }) => stack.expose(service.to_string(), forward.to_string(), allow),
                    None => stack.unexpose(service.as_str()),
                }
            }
        })
        .await
    }

    /// Names are resolved once, when typed: a permission belongs to a key, never to whoever holds a name later.
    async fn who(&self, name: &str) -> Result<Who, Fault> {
        if name == EVERYBODY {
            return Ok(Who::Anyone);
        }
        if let Ok(id) = name.parse() {
            return Ok(Who::Node(id));
        }
        let node = self.lookup(name.to_owned(), ANSWER_TIMEOUT).await?;
        node.parse()
            .map(Who::Node)
            .map_err(|error| Fault::new(Code::Failed, format!("{name} resolved to what is {error}")))
    }

    async fn lookup(&self, name: String, timeout: Duration) -> Result<String, Fault> {
        let what = name.clone();
        match in_time(self.handle.query(move |stack, now| stack.lookup(&name, now)), timeout).await {
            Ok(Answer::Resolved(resolved)) => Ok(resolved.node),
            Ok(_) => Err(Fault::from(Failure::UnknownPeer).about(&what)),
            Err(fault) => Err(fault.about(&what)),
        }
    }

    fn next_reversal(&self) -> u64 {
        self.reversals.fetch_add(1, Ordering::Relaxed)
    }

    fn asks(&self) -> MutexGuard<'_, Asks> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask<R, F>(&self, call: F) -> Result<R, Fault>
    where
        R: Send + 'static,
        F: FnOnce(&mut Stack, Now) -> R + Send + 'static,
    {
        Ok(self.handle.with(call).await?)
    }
}

impl From<Stopped> for Fault {
    fn from(stopped: Stopped) -> Self {
        Self::new(Code::NotRunning, stopped.to_string())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Failed(failure) => failure.into(),
            Error::Stopped(stopped) => stopped.into(),
        }
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Error>>, limit: Duration) -> Result<T, Fault> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Failure::Timeout.into()),
    }
}

async fn on_disk<R: Send + 'static>(work: impl FnOnce() -> Result<R, Fault> + Send + 'static) -> Result<R, Fault> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Stopped.into()))
}

fn to_json(value: impl Serialize) -> Result<Value, Fault> {
    serde_json::to_value(value).map_err(|error| Fault::new(Code::Failed, error.to_string()))
}
