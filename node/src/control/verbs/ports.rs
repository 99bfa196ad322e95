//! Local ports that are a peer's service: made, kept over restarts, and closed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use overlay::id::NodeId;
use serde_json::{Value, json};
use tokio::net::lookup_host;

use super::{Desk, on_disk};
use crate::exit::{Code, Fault};
use crate::local::callers::Callers;
use crate::local::kept::Kept;
use crate::local::listen::{self, Port};
use crate::local::service::{Forward, Target};
use crate::stack::Failure;

/// `connect` looks its peer up so that a misspelt name is said at once, but listens anyway if that takes longer than this.
const CONNECT_LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is tried to open a kept port that could not be opened.
const KEPT_PORTS_PERIOD: Duration = Duration::from_secs(5);

/// A port that is served.
pub(super) struct OpenPort {
    /// Where it leads.
    pub(super) target: Target,
    only_me: bool,
    port: Port,
}

impl OpenPort {
    fn is(&self, target: &Target, only_me: bool) -> bool {
        self.target == *target && self.only_me == only_me
    }
}

impl Desk {
    /// Refuses only a name that certainly is nobody's, another's than it was, revoked, or this node's own: a peer that is away now may be back when a port to it is used.
    async fn check_peer(&self, peer: &str) -> Result<(), Fault> {
        let node = match peer.parse::<NodeId>() {
            Ok(id) => Ok(id.to_string()),
            Err(_) => self.lookup(peer.to_owned(), CONNECT_LOOKUP_TIMEOUT).await,
        };
        let own = self.ask(|stack, _| stack.id().to_string()).await?;
        let certain = [Failure::UnknownPeer, Failure::NameChanged, Failure::Revoked];
        match node {
            Ok(node) if node == own => Err(Fault::from(Failure::Myself).about(peer)),
            Err(fault) if certain.iter().any(|why| fault == Fault::from(*why).about(peer)) => Err(fault),
            _ => Ok(()),
        }
    }

    pub(super) async fn connect(
        &self,
        target: Target,
        at: &Forward,
        only_me: bool,
        keep: bool,
    ) -> Result<Value, Fault> {
        self.check_peer(&target.peer).await?;
        let _alone = self.changing_ports.lock().await;
        let there = if keep { self.own_port_at(at).await } else { None };
        let is_it = |address: &String| self.connects().get(address).is_some_and(|open| open.is(&target, only_me));
        if let Some(address) = there.filter(is_it) {
            self.keep(&address, target, only_me).await?;
            return Ok(json!({ "listen": address }));
        }
        let (address, open) = self.open_port(&target, at, only_me).await?;
        if keep {
            self.keep(&address, target, only_me).await?;
        }
        self.connects().insert(address.clone(), open);
        Ok(json!({ "listen": address }))
    }

    async fn keep(&self, address: &str, target: Target, only_me: bool) -> Result<(), Fault> {
        let listen = address.parse().map_err(|line: String| Fault::new(Code::Failed, line))?;
        let (ports, kept) = (Arc::clone(&self.kept_ports), Kept { listen, target, only_me });
        on_disk(move || ports.keep(kept)).await
    }

    /// A port that leads to `target`, and where it is.
    async fn open_port(&self, target: &Target, at: &Forward, only_me: bool) -> Result<(String, OpenPort), Fault> {
        if at.is_place() {
            return Err(Fault::new(Code::Usage, format!("cannot listen at {at} here: use HOST:PORT or unix:/PATH")));
        }
        let open = |port| OpenPort { target: target.clone(), only_me, port };
        if let Some(path) = at.unix() {
            return match listen::connect_unix(self.handle.clone(), target.clone(), path) {
                Ok(port) => Ok((at.to_string(), open(port))),
                Err(fault) => Err(self.blame(at, fault).await),
            };
        }
        let (listener, address) = match listen::bind(at).await {
            Ok(bound) => bound,
            Err(fault) => return Err(self.blame(at, fault).await),
        };
        if only_me {
            listen::check_mine(address)?;
        }
        let callers = if only_me { Callers::OnlyMe } else { Callers::Anybody };
        let port = listen::connect(self.handle.clone(), target.clone(), listener, callers);
        Ok((address.to_string(), open(port)))
    }

    /// The same fault, or what a port leads to already that this node has itself.
    async fn blame(&self, at: &Forward, fault: Fault) -> Fault {
        if fault.code != Code::PortInUse as u8 {
            return fault;
        }
        let Some(address) = self.own_port_at(at).await else {
            return match self.own_use_of(&sockets_at(at).await).await {
                Some(own) => {
                    let line = format!("cannot listen at {at}: there this node serves {own}; choose another port");
                    Fault { message: line, ..fault }
                }
                None => fault,
            };
        };
        let Some(target) = self.connects().get(&address).map(|open| open.target.clone()) else { return fault };
        let line = format!(
            "{address} leads to {target} already; use it, or close it (muses disconnect {address}), or choose another port"
        );
        Fault { message: line, ..fault }
    }

    /// The address of the port of this node that keeps another one from being made there.
    async fn own_port_at(&self, at: &Forward) -> Option<String> {
        let wanted = sockets_at(at).await;
        let is_it = |address: &str| {
            let socket: Option<SocketAddr> = address.parse().ok();
            address == at.as_str()
                || socket.is_some_and(|socket| wanted.iter().any(|wanted| listen::same(socket, *wanted)))
        };
        self.connects().keys().find(|address| is_it(address)).cloned()
    }

    /// Opens the kept ports that can be opened, at the start.
    pub(super) async fn open_kept_ports(&self) {
        for (port, fault) in self.open_closed_ports(true).await {
            tracing::warn!("the kept port {port} is not open, and tried again from time to time: {fault}");
        }
    }

    /// Opens the kept ports that could not be opened at the start, as soon as that is possible: another program may be there, or their address not yet.
    /// Returns when all that are kept are open.
    pub async fn retry_kept_ports(self: Arc<Self>) {
        while !self.are_open(&self.kept_ports.all()) {
            tokio::time::sleep(KEPT_PORTS_PERIOD).await;
            self.open_closed_ports(false).await;
        }
    }

    fn are_open(&self, ports: &[Kept]) -> bool {
        let connects = self.connects();
        let is_open =
            |kept: &Kept| connects.get(kept.listen.as_str()).is_some_and(|open| open.is(&kept.target, kept.only_me));
        ports.iter().all(is_open)
    }

    /// Which of the kept ports could not be opened, and why.
    async fn open_closed_ports(&self, first: bool) -> Vec<(Kept, Fault)> {
        let _alone = self.changing_ports.lock().await;
        let mut faults = Vec::new();
        for kept in self.kept_ports.all() {
            // Whose socket that is would be found out by a knock, which is not to come every few seconds.
            let is_there = kept.listen.unix().is_some_and(|path| path.symlink_metadata().is_ok());
            if self.are_open(std::slice::from_ref(&kept)) || (is_there && !first) {
                continue;
            }
            match self.open_port(&kept.target, &kept.listen, kept.only_me).await {
                Ok((address, open)) => _ = self.connects().insert(address, open),
                Err(fault) => faults.push((kept, fault)),
            }
        }
        faults
    }

    pub(super) async fn disconnect(&self, what: &str) -> Result<Value, Fault> {
        let _alone = self.changing_ports.lock().await;
        let is_meant = |at: &str, target: &Target, what: &str| at == what || target.to_string() == what;
        let closing: BTreeMap<String, OpenPort> = {
            let mut connects = self.connects();
            connects.extract_if(.., |at, open| is_meant(at, &open.target, what)).collect()
        };
        // Of those that were kept some may not have been open.
        let mut closed: BTreeSet<String> = closing.keys().cloned().collect();
        for open in closing.into_values() {
            open.port.close().await;
        }
        let (ports, meant) = (Arc::clone(&self.kept_ports), what.to_owned());
        let over =
            on_disk(move || Ok(ports.forget(|kept| is_meant(kept.listen.as_str(), &kept.target, &meant)))).await?;
        closed.extend(over.ports.iter().map(|kept| kept.listen.to_string()));
        let closed = Vec::from_iter(closed);
        if closed.is_empty() {
            let line = format!("no local port {what:?}; `muses status` shows those that `muses connect` made");
            return Err(Fault::new(Code::Usage, line));
        }
        over.stored.map_err(|fault| {
            let line = format!("{} closed, but there again at the next start: {}", closed.join(", "), fault.message);
            Fault { message: line, ..fault }
        })?;
        Ok(json!({ "closed": closed }))
    }

    pub(super) fn connects(&self) -> MutexGuard<'_, BTreeMap<String, OpenPort>> {
        self.connects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which TCP addresses that is.
async fn sockets_at(at: &Forward) -> Vec<SocketAddr> {
    match at.unix() {
        Some(_) => Vec::new(),
        None => lookup_host(at.as_str()).await.map(Iterator::collect).unwrap_or_default(),
    }
}
