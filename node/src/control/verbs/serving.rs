//! What this node serves to its own machine, and where that is.

use std::net::SocketAddr;
use std::sync::Arc;

use multiaddr::Multiaddr;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::ports::OpenPort;
use super::{Desk, to_json};
use crate::config::EVERYBODY;
use crate::control::wire::{Allowed, Exposed};
use crate::dashboard::{Bound, Dashboard};
use crate::exit::{Code, Fault};
use crate::local::exposures::Exposure;
use crate::local::kept::Kept;
use crate::local::{listen, socks};
use crate::metrics;
use crate::reach::{ip_of, port_of};
use crate::stack::Who;

/// What the owner of a node in flight mode may have forgotten.
const FLIGHT_MODE: &str = "flight mode: no byte leaves or enters until `muses network up`";

impl Desk {
    /// Serves SOCKS5 at `listener` until the node ends. For one listener; a second one is closed.
    pub fn serve_socks(&self, listener: TcpListener, address: SocketAddr, guard: socks::Guard) {
        let _ = self.socks.set((address, socks::run(self.handle.clone(), listener, guard)));
    }

    /// Serves the dashboard until the node ends; a second one is closed.
    pub fn serve_dashboard(self: &Arc<Self>, bound: Bound) {
        let _ = self.dashboard.set(bound.serve(self, &self.handle));
    }

    /// Serves metrics at `listener` until the node ends; a second one is closed.
    pub fn serve_metrics(&self, listener: TcpListener, address: SocketAddr) {
        let _ = self.metrics.set(metrics::serve(&self.handle, listener, address));
    }

    pub(super) async fn status(&self) -> Result<Value, Fault> {
        let mut status = self.ask(|stack, now| stack.status(now)).await?;
        if !self.handle.network_is_up().await? {
            status.warning = Some(FLIGHT_MODE.to_owned());
        }
        let mut data = to_json(status)?;
        if let Value::Object(fields) = &mut data {
            fields.insert("offers".to_owned(), to_json(self.offers().await?)?);
            let connect = |(address, open): (&String, &OpenPort)| format!("{address} = {}", open.target);
            let connects: Vec<String> = self.connects().iter().map(connect).collect();
            fields.insert("connects".to_owned(), connects.into());
            let kept: Vec<String> = self.kept_ports.all().iter().map(Kept::to_string).collect();
            fields.insert("kept".to_owned(), kept.into());
            let socks = self.socks.get().map(|(address, _)| address.to_string());
            fields.insert("socks".to_owned(), socks.into());
            let dashboard = self.dashboard.get().map(|dashboard| dashboard.address().to_string());
            fields.insert("dashboard".to_owned(), dashboard.into());
            let metrics = self.metrics.get().map(|metrics| metrics.address.to_string());
            fields.insert("metrics".to_owned(), metrics.into());
        }
        Ok(data)
    }

    /// All services that are offered, and to whom, by the names that these have here.
    async fn offers(&self) -> Result<Vec<Exposed>, Fault> {
        let mut offers = Vec::new();
        for (service, Exposure { forward, allow }) in self.exposures.all() {
            offers.push(Exposed { service, forward, allow: self.named(allow).await? });
        }
        Ok(offers)
    }

    /// By the names that they have here.
    pub(super) async fn named(&self, allow: Vec<Who>) -> Result<Vec<Allowed>, Fault> {
        self.ask(move |stack, _| {
            let entry = |who: Who| match who {
                Who::Anyone => Allowed { name: EVERYBODY.to_owned(), node: None },
                Who::Node(id) => {
                    let node = id.to_string();
                    Allowed { name: stack.called(id).unwrap_or_else(|| node.clone()), node: Some(node) }
                }
            };
            allow.into_iter().map(entry).collect()
        })
        .await
    }

    /// Which of this node's own uses keeps a port from being made at one of these addresses.
    pub(super) async fn own_use_of(&self, wanted: &[SocketAddr]) -> Option<&'static str> {
        let is_it = |own: &SocketAddr| wanted.iter().any(|wanted| listen::same(*own, *wanted));
        let served = [
            (self.socks.get().map(|(address, _)| *address), "its SOCKS5 proxy"),
            (self.dashboard.get().map(Dashboard::address), "its dashboard"),
            (self.metrics.get().map(|metrics| metrics.address), "its metrics"),
        ];
        if let Some((_, what)) = served.into_iter().find(|(address, _)| address.as_ref().is_some_and(is_it)) {
            return Some(what);
        }
        let links = self.handle.listening().await.unwrap_or_default();
        let socket = |link: &Multiaddr| Some(SocketAddr::new(ip_of(link)?, port_of(link)?));
        links.iter().filter_map(socket).any(|link| is_it(&link)).then_some("its neighbours' links")
    }

    pub(super) fn dashboard_url(&self) -> Result<Value, Fault> {
        let none = || Fault::new(Code::Usage, "this node serves no dashboard; start it with: muses up --dashboard");
        Ok(json!({ "url": self.dashboard.get().ok_or_else(none)?.url() }))
    }
}
