//! Local ports that are a peer's service, and connections that are to end.

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
use crate::local::service::{Forward, ServiceName, Target};
use crate::stack::{Failure, Who};

/// `connect` looks its peer up so that a misspelt name is said at once, but listens anyway if that takes longer than this.
const CONNECT_LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is tried to open a kept port that could not be opened.
const KEPT_PORTS_PERIOD: Duration = Duration::from_secs(5);

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

    /// The same fault, or what a port leads to already that this node has itself.
    async fn blame(&self, at: &Forward, fault: Fault) -> Fault {
        if fault.code != Code::PortInUse as u8 {
            return fault;
        }
        let wanted: Vec<SocketAddr> = match at.unix() {
            Some(_) => Vec::new(),
            None => lookup_host(at.as_str()).await.map(Iterator::collect).unwrap_or_default(),
        };
        let is_it = |address: &str| {
            let socket: Option<SocketAddr> = address.parse().ok();
            address == at.as_str()
                || socket.is_some_and(|socket| wanted.iter().any(|wanted| listen::same(socket, *wanted)))
        };
        let connects = self.connects();
        let Some((address, (target, _))) = connects.iter().find(|(address, _)| is_it(address)) else { return fault };
        let line = format!(
            "{address} leads to {target} already; use it, or close it (muses disconnect {address}), or choose another port"
        );
        Fault { message: line, ..fault }
    }

    pub(super) async fn connect(
        &self,
        target: Target,
        at: &Forward,
        only_me: bool,
        keep: bool,
    ) -> Result<Value, Fault> {
        self.check_peer(&target.peer).await?;
        let (address, port) = self.open_port(&target, at, only_me).await?;
        if keep {
            let listen = address.parse().map_err(|line: String| Fault::new(Code::Failed, line))?;
            let (ports, kept) = (Arc::clone(&self.kept_ports), Kept { listen, target: target.clone(), only_me });
            on_disk(move || ports.keep(kept)).await?;
        }
        self.connects().insert(address.clone(), (target, port));
        Ok(json!({ "listen": address }))
    }

    /// A port that leads to `target`, and where it is.
    async fn open_port(&self, target: &Target, at: &Forward, only_me: bool) -> Result<(String, Port), Fault> {
        if at.is_place() {
            return Err(Fault::new(Code::Usage, format!("cannot listen at {at} here: use HOST:PORT or unix:/PATH")));
        }
        if let Some(path) = at.unix() {
            return match listen::connect_unix(self.handle.clone(), target.clone(), path) {
                Ok(port) => Ok((at.to_string(), port)),
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
        Ok((address.to_string(), listen::connect(self.handle.clone(), target.clone(), listener, callers)))
    }

    /// Opens the kept ports that are not open; why others are not, by where they would be.
    pub(super) async fn open_kept_ports(&self) -> BTreeMap<String, Fault> {
        let mut faults = BTreeMap::new();
        for kept in self.kept_ports.all() {
            if self.connects().contains_key(kept.listen.as_str()) {
                continue;
            }
            match self.open_port(&kept.target, &kept.listen, kept.only_me).await {
                Ok((address, port)) => {
                    let mut connects = self.connects();
                    // Somebody may have closed it for good meanwhile.
                    if self.kept_ports.all().contains(&kept) {
                        connects.insert(address, (kept.target, port));
                    }
                }
                Err(fault) => _ = faults.insert(kept.to_string(), fault),
            }
        }
        faults
    }

    /// Opens the kept ports that could not be opened at the start, as soon as that is possible: another program may be there, or their address not yet.
    /// Returns when all that are kept are open.
    pub async fn retry_kept_ports(self: Arc<Self>) {
        let mut told = BTreeSet::new();
        loop {
            let faults = self.open_kept_ports().await;
            if faults.is_empty() {
                return;
            }
            for (port, fault) in faults {
                if told.insert(port.clone()) {
                    tracing::warn!("the kept port {port} is not open, and tried again from time to time: {fault}");
                }
            }
            tokio::time::sleep(KEPT_PORTS_PERIOD).await;
        }
    }

    pub(super) async fn disconnect(&self, what: &str) -> Result<Value, Fault> {
        let (ports, meant) = (Arc::clone(&self.kept_ports), what.to_owned());
        let is_meant = |at: &str, target: &Target, what: &str| at == what || target.to_string() == what;
        let over = on_disk(move || ports.forget(|kept| is_meant(kept.listen.as_str(), &kept.target, &meant))).await?;
        let closing: Vec<(String, Port)> = {
            let mut connects = self.connects();
            let all = connects.extract_if(.., |at, (target, _)| is_meant(at, target, what));
            all.map(|(at, (_, port))| (at, port)).collect()
        };
        // Of the kept ones some may not have been open.
        let mut closed: BTreeSet<String> = over.into_iter().map(|kept| kept.listen.to_string()).collect();
        for (address, port) in closing {
            port.close().await;
            closed.insert(address);
        }
        if closed.is_empty() {
            let line = format!("no local port {what:?}; `muses status` shows those that `muses connect` made");
            return Err(Fault::new(Code::Usage, line));
        }
        Ok(json!({ "closed": closed }))
    }

    /// Ends the session with a peer, or the connections to one service alone.
    pub(super) async fn cut(&self, peer: &str, service: Option<ServiceName>) -> Result<Value, Fault> {
        let typed = peer.to_owned();
        let known = self.ask(move |stack, _| stack.known(&typed)).await?;
        let node = match known {
            Some(node) => node,
            None => match self.who(peer).await? {
                Who::Node(node) => node,
                Who::Anyone => return Err(Fault::new(Code::Usage, "`anyone` is no peer; `muses sessions` lists them")),
            },
        };
        let (missing, ended) = match service {
            None => ("session".to_owned(), self.ask(move |stack, now| stack.cut(node, now)).await?),
            Some(service) => {
                let missing = format!("connection to {service}");
                let ended = self.ask(move |stack, now| stack.cut_service(node, service.as_str(), now)).await?;
                (missing, Some(ended).filter(|ended| *ended > 0))
            }
        };
        let streams = ended
            .ok_or_else(|| Fault::new(Code::Usage, format!("no {missing} with {peer}; `muses sessions` lists them")))?;
        Ok(json!({ "node": node.to_string(), "streams": streams }))
    }

    pub(super) fn connects(&self) -> MutexGuard<'_, BTreeMap<String, (Target, Port)>> {
        self.connects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
