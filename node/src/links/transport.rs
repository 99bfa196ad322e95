//! TCP behind the gate, then Noise, then Yamux.
//!
//! Listening is libp2p's; dialling is our own, because libp2p binds an outgoing socket to a listener's *port* on the
//! wildcard address, and after a move the source *address* is what matters. The port is an ephemeral one: with the
//! listener's, a redial of the same neighbour would collide with the muted socket that still holds that four-tuple.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::{self, BoxFuture};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::core::{Multiaddr, Transport};
use libp2p::identity::Keypair;
use libp2p::tcp::tokio::TcpStream;
use libp2p::{PeerId, noise, tcp};
use multiaddr::Protocol;
use tokio::net::TcpSocket;

use super::StartError;
use super::bulk::door::Door;
use super::gate::{Gate, GatedStream};
use super::hard_close::HardClose;
use super::listeners::with_port;
use super::mux::Limited;
use crate::reach::{ip_of, port_of};

/// A dial, or an incoming connection, must be authenticated and multiplexed within this time.
pub(super) const MAX_SETUP: Duration = Duration::from_secs(5);
/// So long after one address of a name, the next one is tried beside it (RFC 8305, section 8). Within [`MAX_SETUP`] these are twenty at most.
const NEXT_CANDIDATE_AFTER: Duration = Duration::from_millis(250);
/// The kernel gives up on a neighbour that acknowledges nothing for so long.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// The transport of all links.
///
/// Bulk lanes, which come to the same listeners, leave it through `door`.
pub(super) fn build(
    keypair: &Keypair,
    dialler: Dialler,
    door: Option<Door>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    let noise = noise::Config::new(keypair).map_err(|_| StartError::Identity)?;
    let listeners = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
    Ok(GatedTcp { listeners, wildcards: HashMap::new(), dialler, door }
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(Limited)
        .timeout(MAX_SETUP)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(HardClose::new(muxer))))
        .boxed())
}

struct GatedTcp {
    listeners: tcp::tokio::Transport,
    /// Listeners at all addresses of this machine, and where they were asked to listen.
    wildcards: HashMap<ListenerId, Multiaddr>,
    dialler: Dialler,
    door: Option<Door>,
}

/// Makes the outgoing connections of a node.
///
/// `homes` are the addresses at which it was told to listen: a dial comes from the one that fits its target, so that a
/// neighbour sees the address that belongs to this node. Wildcards among them leave the choice to the system.
#[derive(Clone)]
pub(super) struct Dialler {
    pub(super) gate: Gate,
    pub(super) homes: Vec<IpAddr>,
}

impl Dialler {
    /// A connection to `address`, behind the gate.
    ///
    /// # Errors
    /// When the gate is closed, or closes; when the address is none of a link, or nobody is there.
    pub(super) fn dial(&self, address: &Multiaddr) -> BoxFuture<'static, io::Result<GatedStream>> {
        let Some(target) = Target::of(address) else {
            return future::err(io::ErrorKind::AddrNotAvailable.into()).boxed();
        };
        let Self { gate, homes } = self.clone();
        let closing = gate.closing();
        async move {
            if gate.is_closed() {
                return Err(network_is_down());
            }
            tokio::select! {
                biased;
                () = closing => Err(network_is_down()),
                stream = target.connect(gate.bind(), &homes) => stream.map(|stream| gate.guard(stream)),
            }
        }
        .boxed()
    }
}

impl Transport for GatedTcp {
    type Output = GatedStream;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<GatedStream>>;
    type Dial = BoxFuture<'static, io::Result<GatedStream>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.listeners.listen_on(id, address.clone())?;
        if ip_of(&address).is_some_and(|ip| ip.is_unspecified()) {
            self.wildcards.insert(id, address);
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.wildcards.remove(&id);
        self.listeners.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        if Target::of(&address).is_none() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        Ok(self.dialler.dial(&address))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        loop {
            let event = ready!(Pin::new(&mut self.listeners).poll(cx));
            if let Some(event) = self.told(event) {
                return Poll::Ready(event.map_upgrade(|upgrade| self.incoming(upgrade.into_inner())));
            }
        }
    }
}

impl GatedTcp {
    /// What is told of an event. Of a listener at all addresses that it has a port, and no more: libp2p takes the other end of a line to one machine for
    /// an address of this one (see [`interfaces`](super::interfaces)), and then would not dial it.
    fn told<U>(&self, event: TransportEvent<U, io::Error>) -> Option<TransportEvent<U, io::Error>> {
        match event {
            TransportEvent::NewAddress { listener_id, listen_addr } => {
                let listen_addr = match (self.wildcards.get(&listener_id), port_of(&listen_addr)) {
                    (Some(wildcard), Some(port)) => with_port(wildcard, port),
                    _ => listen_addr,
                };
                Some(TransportEvent::NewAddress { listener_id, listen_addr })
            }
            TransportEvent::AddressExpired { listener_id, .. } if self.wildcards.contains_key(&listener_id) => None,
            event => Some(event),
        }
    }

    fn incoming(&self, stream: io::Result<TcpStream>) -> BoxFuture<'static, io::Result<GatedStream>> {
        let (gate, door) = (self.dialler.gate.clone(), self.door.clone());
        async move {
            let stream = stream?;
            limit_silence(&stream.0, USER_TIMEOUT);
            let stream = gate.guard(stream);
            match door {
                Some(door) => door.sort(stream).await,
                None => Ok(stream),
            }
        }
        .boxed()
    }
}

fn network_is_down() -> io::Error {
    io::Error::new(io::ErrorKind::NetworkDown, "the network is down")
}

/// Whose TCP port.
#[derive(PartialEq, Eq, Debug)]
enum Host {
    Ip(IpAddr),
    Name { name: String, ipv4: bool, ipv6: bool },
}

#[derive(PartialEq, Eq, Debug)]
struct Target {
    host: Host,
    port: u16,
}

impl Target {
    /// `/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/p2p/ID]`; nothing else is a link address.
    fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let name = |name: std::borrow::Cow<'_, str>, ipv4, ipv6| Host::Name { name: name.into_owned(), ipv4, ipv6 };
        let host = match parts.next()? {
            Protocol::Ip4(ip) if !ip.is_unspecified() => Host::Ip(ip.into()),
            Protocol::Ip6(ip) if !ip.is_unspecified() => Host::Ip(ip.into()),
            Protocol::Dns(text) => name(text, true, true),
            Protocol::Dns4(text) => name(text, true, false),
            Protocol::Dns6(text) => name(text, false, true),
            _ => return None,
        };
        let Some(Protocol::Tcp(port @ 1..)) = parts.next() else { return None };
        match (parts.next(), parts.next()) {
            (None | Some(Protocol::P2p(_)), None) => Some(Self { host, port }),
            _ => None,
        }
    }

    async fn connect(self, bind: Option<IpAddr>, homes: &[IpAddr]) -> io::Result<TcpStream> {
        let fits = |ip: IpAddr| bind.is_none_or(|bind| bind.is_ipv4() == ip.is_ipv4());
        let candidates: Vec<SocketAddr> = match self.host {
            Host::Ip(ip) => vec![SocketAddr::new(ip, self.port)],
            Host::Name { name, ipv4, ipv6 } => tokio::net::lookup_host((name, self.port))
                .await?
                .filter(|found| if found.is_ipv4() { ipv4 } else { ipv6 })
                .collect(),
        };
        let candidates = candidates.into_iter().filter(|candidate| fits(candidate.ip()));
        connect_any(candidates, |remote| bind.or_else(|| home_for(remote, homes))).await.map(TcpStream)
    }
}

/// To the first of these that answers. One that says nothing must not use up the time of those behind it.
async fn connect_any(
    candidates: impl Iterator<Item = SocketAddr>,
    from: impl Fn(IpAddr) -> Option<IpAddr>,
) -> io::Result<tokio::net::TcpStream> {
    let mut candidates = candidates.fuse();
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address of a family that we have");
    let mut trying = FuturesUnordered::new();
    loop {
        match candidates.next() {
            Some(remote) => trying.push(connect(remote, from(remote.ip()))),
            None if trying.is_empty() => return Err(failure),
            None => {}
        }
        tokio::select! {
            Some(tried) = trying.next() => match tried {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            },
            () = tokio::time::sleep(NEXT_CANDIDATE_AFTER) => {}
        }
    }
}

/// The own address from which `remote` can be reached: of its family, and loopback just when it is.
fn home_for(remote: IpAddr, homes: &[IpAddr]) -> Option<IpAddr> {
    let fits = |home: &&IpAddr| home.is_ipv4() == remote.is_ipv4() && home.is_loopback() == remote.is_loopback();
    homes.iter().filter(|home| !home.is_unspecified()).find(fits).copied()
}

async fn connect(remote: SocketAddr, bind: Option<IpAddr>) -> io::Result<tokio::net::TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bind) = bind {
        socket.bind(SocketAddr::new(bind, 0))?;
    }
    socket.set_nodelay(true)?;
    let stream = socket.connect(remote).await?;
    limit_silence(&stream, USER_TIMEOUT);
    Ok(stream)
}

/// Sets the TCP user timeout (RFC 5482).
pub(super) fn limit_silence(stream: &tokio::net::TcpStream, limit: Duration) {
    let limit_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, limit_ms) {
        tracing::debug!(%error, "no TCP user timeout");
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

    use super::*;

    fn target(text: &str) -> Option<Target> {
        Target::of(&text.parse().unwrap())
    }

    #[test]
    fn a_dial_comes_from_the_address_that_belongs_to_this_node() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let homes = [ip("0.0.0.0"), ip("127.0.0.11"), ip("10.0.0.5"), ip("fd00::5")];
        assert_eq!(home_for(ip("127.0.0.1"), &homes), Some(ip("127.0.0.11")));
        assert_eq!(home_for(ip("10.0.9.9"), &homes), Some(ip("10.0.0.5")));
        assert_eq!(home_for(ip("fd00::9"), &homes), Some(ip("fd00::5")));
        assert_eq!(home_for(ip("::1"), &homes), None);
        assert_eq!(home_for(ip("127.0.0.1"), &homes[..1]), None);
    }

    #[tokio::test]
    async fn an_address_that_says_nothing_does_not_stand_before_the_next() {
        let listen = |backlog| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let listener = socket.listen(backlog).unwrap();
            let address = listener.local_addr().unwrap();
            (listener, address)
        };
        let ((_full, silent), (_open, answers)) = (listen(0), listen(8));
        // Where nobody accepts, the kernel answers a few and then nobody.
        let held: Vec<_> = (0..8)
            .map(|_| {
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
                let _ = rustix::net::connect(&socket, &silent);
                socket
            })
            .collect();
        let refuses = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for before in [vec![silent], vec![refuses, silent], vec![silent, refuses]] {
            let candidates = before.into_iter().chain([answers]);
            // Far less than the kernel takes to give up, far more than this takes.
            let connecting = tokio::time::timeout(Duration::from_secs(30), connect_any(candidates, |_| None));
            let stream = connecting.await.expect("it waits for the silent one").unwrap();
            assert_eq!(stream.peer_addr().unwrap(), answers);
        }
        assert!(connect_any([refuses, refuses].into_iter(), |_| None).await.is_err());
        assert!(connect_any(std::iter::empty(), |_| None).await.is_err());
        drop(held);
    }

    #[test]
    fn link_addresses() {
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(target("/ip4/10.0.0.1/tcp/7"), Some(Target { host: Host::Ip(ip), port: 7 }));
        let id = PeerId::random();
        assert_eq!(target(&format!("/ip4/10.0.0.1/tcp/7/p2p/{id}")), target("/ip4/10.0.0.1/tcp/7"));
        assert!(target("/dns4/example.org/tcp/7").is_some());
        for bad in ["/ip4/0.0.0.0/tcp/7", "/ip4/10.0.0.1/tcp/0", "/ip4/10.0.0.1/udp/7", "/ip4/10.0.0.1/tcp/7/ws"] {
            assert_eq!(target(bad), None, "{bad}");
        }
    }
}
