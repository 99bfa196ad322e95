//! Which addresses this machine has, and whether they are of any use now: one is as long as its interface runs.
//!
//! The kernel keeps an IPv4 address on an interface whose cable is out, and says nothing of it when the cable is back. For a connection that is
//! an outage like any other, and its end is the moment to try again; so the interfaces are watched, too (rtnetlink(7)). And an interface to one other
//! machine (PPP, many tunnels) has two addresses: `IFA_ADDRESS` is that of the other end there, `IFA_LOCAL` ours. `if-watch`, with which
//! libp2p finds the addresses of its listeners, takes the first for ours.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::told::Told;

/// Where no machine is (RFC 5737, RFC 3849), and the way there is the one to everywhere.
const FAR_AWAY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
/// When the kernel's news end, they are asked for again after this.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// What happened to an address of this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// It was not there before.
    Came(IpAddr),
    /// It is not there any more.
    Went(IpAddr),
    /// Its interface stands still, and may run again with all its connections.
    Stands(IpAddr),
    /// Its interface runs again.
    Runs(IpAddr),
    /// Others came or went on interfaces that stand still.
    Idle,
}

impl Change {
    /// The address that it is about.
    pub(super) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Came(ip) | Self::Went(ip) | Self::Stands(ip) | Self::Runs(ip) => Some(ip),
            Self::Idle => None,
        }
    }
}

/// What the kernel says about addresses and interfaces.
pub(super) struct Interfaces {
    source: Source,
    /// The list of all that there is, while it is being told; none of it counts before its end.
    listing: Option<(Listing, Told)>,
    known: Known,
}

/// Where it is told.
enum Source {
    Open {
        news: News,
        handle: Handle,
        connection: JoinHandle<()>,
    },
    /// It ended; to be opened again.
    Ended(Instant),
}

type News = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;
type Listing = BoxStream<'static, Result<RouteNetlinkMessage, rtnetlink::Error>>;

/// What was told, and what of it was passed on.
#[derive(Default)]
struct Known {
    told: Told,
    all: Vec<IpAddr>,
    of_use: Vec<IpAddr>,
    changes: VecDeque<Change>,
}

impl Interfaces {
    /// Begins with all that there are.
    ///
    /// # Errors
    /// When the system has no such thing, or does not let this process use it.
    pub(super) fn watch() -> io::Result<Self> {
        let mut interfaces = Self { source: Source::Ended(Instant::now()), listing: None, known: Known::default() };
        interfaces.open()?;
        Ok(interfaces)
    }

    fn open(&mut self) -> io::Result<()> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, news) = rtnetlink::new_multicast_connection(&groups)?;
        self.listing = Some((list(&handle), Told::default()));
        self.source = Source::Open { news, handle, connection: tokio::spawn(connection) };
        Ok(())
    }

    /// All addresses, of use now or later: first those from which packets leave for far away, then those of use, then the others, each in the order of
    /// the interfaces. Bridges of containers and virtual machines may well be older than the network that leads out.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let leading_out: Vec<IpAddr> = FAR_AWAY.iter().filter_map(|far| source_for(*far)).collect();
        let mut all = self.known.all.clone();
        all.sort_by_key(|ip| !leading_out.contains(ip));
        all
    }

    /// Those of which none is of use now: their interfaces stand still.
    pub(super) fn standing(&self) -> impl Iterator<Item = IpAddr> {
        self.known.all.iter().copied().filter(|ip| !self.known.of_use.contains(ip))
    }

    /// Whether packets can leave this machine.
    pub(super) fn has_network(&self) -> bool {
        self.known.of_use.iter().any(|ip| !ip.is_loopback())
    }

    /// What changed next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.known.changes.pop_front() {
                return change;
            }
            if let Some((listing, told)) = &mut self.listing {
                match listing.next().await {
                    Some(Ok(message)) => _ = told.take(&message),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "cannot list the network interfaces");
                        told.incomplete = true;
                    }
                    None => self.listed(),
                }
                continue;
            }
            match &mut self.source {
                Source::Open { news, handle, .. } => match news.next().await.map(|(message, _)| message.payload) {
                    Some(NetlinkPayload::InnerMessage(message)) => self.known.take(&message),
                    // Something was lost: there was no room for it.
                    Some(NetlinkPayload::Overrun(_)) => self.listing = Some((list(handle), Told::default())),
                    Some(_) => {}
                    None => {
                        tracing::warn!("the system tells no more of network interfaces; moves are noticed later");
                        self.source = Source::Ended(Instant::now() + ASK_AGAIN);
                    }
                },
                Source::Ended(again) => {
                    tokio::time::sleep_until(*again).await;
                    *again = Instant::now() + ASK_AGAIN;
                    if let Err(error) = self.open() {
                        tracing::debug!(%error, "cannot watch network interfaces");
                    }
                }
            }
        }
    }

    /// Of a list with gaps nobody knows what is missing: what was known before counts on, if there was anything.
    fn listed(&mut self) {
        let Some((_, told)) = self.listing.take() else { return };
        if !told.incomplete || self.known.all.is_empty() {
            self.known.told = told;
            self.known.work_out();
        }
    }
}

/// The address from which packets to `far` leave. None is sent for that.
fn source_for(far: IpAddr) -> Option<IpAddr> {
    let any = if far.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Self::Open { connection, .. } = self {
            connection.abort();
        }
    }
}

/// Links, and then addresses: the kernel makes one list at a time for a socket.
fn list(handle: &Handle) -> Listing {
    let links = handle.link().get().execute().map_ok(RouteNetlinkMessage::NewLink);
    let also = handle.clone();
    let addresses = stream::once(async move { also.address().get().execute() }).flatten();
    links.chain(addresses.map_ok(RouteNetlinkMessage::NewAddress)).boxed()
}

impl Known {
    fn take(&mut self, message: &RouteNetlinkMessage) {
        if self.told.take(message) {
            self.work_out();
        }
    }

    /// Compares what was told with what was passed on.
    fn work_out(&mut self) {
        let (all, of_use) = (self.told.all(), self.told.of_use());
        let before = self.changes.len();
        let change = |ip: &IpAddr| match (self.of_use.contains(ip), of_use.contains(ip)) {
            (true, false) if all.contains(ip) => Some(Change::Stands(*ip)),
            (true, false) => Some(Change::Went(*ip)),
            (false, true) if self.all.contains(ip) => Some(Change::Runs(*ip)),
            (false, true) => Some(Change::Came(*ip)),
            // What stood still is dead once its address is gone.
            (false, false) if !all.contains(ip) => Some(Change::Went(*ip)),
            _ => None,
        };
        let gone = self.all.iter().filter_map(change).filter(|change| !matches!(change, Change::Runs(_)));
        let here = of_use.iter().filter_map(change);
        let changes: Vec<Change> = gone.chain(here).collect();
        self.changes.extend(changes);
        if self.changes.len() == before && self.all != all {
            self.changes.push_back(Change::Idle);
        }
        (self.of_use, self.all) = (of_use, all);
    }
}

#[cfg(test)]
#[path = "interfaces_tests.rs"]
mod tests;
