//! Links to neighbours: libp2p's TCP, Noise and Yamux under two framed lanes.
//!
//! A link is one connection whose two lanes are open, numbered here and never again. Several links to the same neighbour
//! are normal (both sides dial): which one stays is the overlay's decision. A link that carries much gets a third way
//! beside the two, the [`bulk`] lane.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{PeerId, Swarm};
use multiaddr::{Multiaddr, Protocol};
use overlay::id::NodeId;
use overlay::io::{CloseReason, Lane, LinkId, Transmit};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use dial_back::DialBack;
pub use input::{Input, StartError};

mod arrivals;
mod behaviour;
pub mod bulk;
mod changes;
mod crowd;
mod dial_back;
mod flight;
mod gate;
mod hard_close;
mod input;
mod interfaces;
#[doc(hidden)]
pub mod lane;
mod listeners;
mod mux;
mod network;
mod optimistic;
mod told;
mod transport;
mod turn;

use behaviour::Outcome;
use bulk::Bulk;
use bulk::door::Door;
use changes::{Changes, News};
use gate::Gate;
use lane::{Arrival, Written};
use listeners::Listeners;
use network::{Network, NetworkEvent};
use transport::Dialler;
use turn::{FLOODING_FOR, Turn};

/// Control frames of all links that wait for the loop.
const CONTROL_QUEUE_FRAMES: usize = 1024;
/// Data frames of all links that wait for the loop; when it is full, TCP pushes back on the neighbours.
const DATA_QUEUE_FRAMES: usize = 128;
/// Frames of a lane that are handed over at once.
const BATCH_FRAMES: usize = 64;
/// Swarm events that are handled at once.
const BATCH_EVENTS: usize = 32;
/// Room of a new link's control lane.
const CONTROL_ROOM_BYTES: usize = 64 * 1024;
/// Room of a new link's data lane.
const DATA_ROOM_BYTES: usize = 512 * 1024;

/// An authenticated connection becomes a link within this time, or is closed. libp2p's own timeout does not count where somebody holds a stream: half a link, or an
/// answer to identify that the other end never reads.
const MAX_LANES_SETUP: Duration = Duration::from_secs(10);

/// A closed link's last control frames have this long to get to the multiplexer.
const MAX_GOODBYE: Duration = Duration::from_millis(100);
/// A flood is news when there was none over that neighbour for so long.
const FLOOD_IS_NEWS_AFTER: Duration = Duration::from_secs(60);

/// The end waits so long for goodbyes.
const MAX_END: Duration = Duration::from_millis(500);

/// All links of this node.
pub struct Links {
    id: NodeId,
    swarm: Swarm<Network>,
    gate: Gate,
    dialler: Dialler,
    /// None when this node wants no bulk lanes.
    door: Option<Door>,
    listeners: Listeners,
    /// Where this node is reached without listening there itself: at a router.
    outside: Vec<Multiaddr>,
    connections: BTreeMap<ConnectionId, Connection>,
    links: BTreeMap<LinkId, Link>,
    next_link: u64,

    arrivals_in: [mpsc::Sender<Arrival>; 2],
    control: mpsc::Receiver<Arrival>,
    data: mpsc::Receiver<Arrival>,
    written_in: mpsc::UnboundedSender<Written>,
    written: mpsc::UnboundedReceiver<Written>,
    /// Connections whose goodbye is on its way.
    closable_in: mpsc::UnboundedSender<ConnectionId>,
    closable: mpsc::UnboundedReceiver<ConnectionId>,
    /// Connections that have to be links by now.
    overdue_in: mpsc::UnboundedSender<ConnectionId>,
    overdue: mpsc::UnboundedReceiver<ConnectionId>,
    bulk_news_in: mpsc::UnboundedSender<bulk::News>,
    bulk_news: mpsc::UnboundedReceiver<bulk::News>,

    /// When neighbours were said to flood this node, lately.
    floods: BTreeMap<NodeId, Instant>,
    changes: Changes,
    /// What happened inside a verb.
    ready: Vec<Input>,
}

/// From the dial or the first event of an incoming one until libp2p closed it.
struct Connection {
    /// What was asked for, until the answer is given.
    dialled: Option<Multiaddr>,
    /// Who is there and where, once that is proved and until it is a link.
    authenticated: Option<(PeerId, Multiaddr)>,
}

struct Link {
    connection: ConnectionId,
    peer: NodeId,
    /// What this side dialled, if it did.
    dialled: Option<Multiaddr>,
    control: lane::Tasks,
    data: lane::Tasks,
    bulk: Bulk,
    /// Tells the readers that the connection has closed.
    gone: watch::Sender<bool>,
    /// Tells them until when the neighbour counts as one that floods.
    flooding: watch::Sender<Option<Instant>>,
}

impl Links {
    /// Listens on `listen`; `bulk` is whether links may have bulk lanes. Needs a tokio runtime around it.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub fn start(secret: Zeroizing<[u8; 32]>, listen: Vec<Multiaddr>, bulk: bool) -> Result<Self, StartError> {
        let gate = Gate::open();
        let dialler = Dialler { gate: gate.clone(), homes: listen.iter().filter_map(network::ip_of).collect() };
        let (bulk_news_in, bulk_news) = mpsc::unbounded_channel();
        let door = bulk.then(|| Door::new(bulk_news_in.clone()));
        let mut swarm = network::start(secret, dialler.clone(), door.clone())?;
        let id = NodeId::from_peer_id_bytes(&swarm.local_peer_id().to_bytes()).ok_or(StartError::Identity)?;
        let listeners = Listeners::start(&mut swarm, listen)?;
        let (control_in, control) = mpsc::channel(CONTROL_QUEUE_FRAMES);
        let (data_in, data) = mpsc::channel(DATA_QUEUE_FRAMES);
        let (written_in, written) = mpsc::unbounded_channel();
        let (closable_in, closable) = mpsc::unbounded_channel();
        let (overdue_in, overdue) = mpsc::unbounded_channel();
        Ok(Self {
            id,
            swarm,
            gate,
            dialler,
            door,
            listeners,
            outside: Vec::new(),
            connections: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 1,
            arrivals_in: [control_in, data_in],
            control,
            data,
            written_in,
            written,
            closable_in,
            closable,
            overdue_in,
            overdue,
            bulk_news_in,
            bulk_news,
            floods: BTreeMap::new(),
            changes: Changes::watch(),
            ready: Vec::new(),
        })
    }

    /// Waits until something happened, and appends all that did. Cancel-safe.
    pub async fn next(&mut self, inputs: &mut Vec<Input>) {
        let before = inputs.len();
        loop {
            inputs.append(&mut self.ready);
            if inputs.len() > before {
                return;
            }
            tokio::select! {
                event = self.swarm.select_next_some() => {
                    self.handle_event(event);
                    for _ in 1..BATCH_EVENTS {
                        let Some(event) = self.swarm.select_next_some().now_or_never() else { break };
                        self.handle_event(event);
                    }
                }
                Some(arrival) = self.control.recv() => {
                    self.handle_arrival(arrival, inputs);
                    for _ in 1..BATCH_FRAMES {
                        let Ok(arrival) = self.control.try_recv() else { break };
                        self.handle_arrival(arrival, inputs);
                    }
                }
                Some(arrival) = self.data.recv() => {
                    self.handle_arrival(arrival, inputs);
                    for _ in 1..BATCH_FRAMES {
                        let Ok(arrival) = self.data.try_recv() else { break };
                        self.handle_arrival(arrival, inputs);
                    }
                }
                Some(written) = self.written.recv() => {
                    self.handle_written(written, inputs);
                    while let Ok(written) = self.written.try_recv() {
                        self.handle_written(written, inputs);
                    }
                }
                Some(connection) = self.closable.recv() => {
                    self.swarm.close_connection(connection);
                }
                Some(connection) = self.overdue.recv() => self.give_up_half_link(connection),
                Some(news) = self.bulk_news.recv() => self.handle_bulk_news(news),
                news = self.changes.next(&self.gate) => self.announce(news),
            }
        }
    }

    /// Queues a frame; dropped when the link is gone.
    pub fn transmit(&mut self, transmit: Transmit) {
        let Transmit { link: id, lane, bytes } = transmit;
        let Some(link) = self.links.get_mut(&id) else { return };
        // A writer that ended leaves the link to its reader.
        match lane {
            Lane::Control => drop(link.control.frames.send(bytes)),
            Lane::Data => {
                if let Err(bytes) = link.bulk.send(bytes) {
                    let _ = link.data.frames.send(bytes);
                    self.want_bulk(id);
                }
            }
        }
    }

    /// Starts to connect; [`Input::Up`] or [`Input::DialFailed`] follows.
    pub fn dial(&mut self, address: Multiaddr) {
        let peer = match address.iter().last() {
            Some(Protocol::P2p(peer)) => Some(peer),
            _ => None,
        };
        let options = match peer {
            Some(peer) => {
                DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(vec![address.clone()]).build()
            }
            None => DialOpts::unknown_peer_id().address(address.clone()).build(),
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.connections.insert(connection, Connection { dialled: Some(address), authenticated: None });
            }
            Err(error) => {
                tracing::debug!(%address, %error, "cannot dial");
                self.ready.push(Input::DialFailed { address });
            }
        }
    }

    /// Closes a link after what was queued for its control lane was sent; false when there is none. No [`Input::Down`] follows.
    /// Whether the neighbour reads the last of it is left to chance: libp2p's Yamux throws away what it has when a connection closes.
    pub fn close(&mut self, link: LinkId, reason: CloseReason) -> bool {
        let Some(closed) = self.take(link) else { return false };
        tracing::debug!(?link, %reason, "link closed");
        closed.data.writer.abort();
        let Link { connection, control: lane::Tasks { writer, frames, .. }, .. } = closed;
        drop(frames);
        let closable = self.closable_in.clone();
        tokio::spawn(async move {
            let stop: AbortHandle = writer.abort_handle();
            if tokio::time::timeout(MAX_GOODBYE, writer).await.is_err() {
                stop.abort();
            }
            let _ = closable.send(connection);
        });
        true
    }

    /// This neighbour floods this node, or passes a flood on: for a second less is read of it in small frames. Whether that is news.
    pub fn slow(&mut self, peer: NodeId) -> bool {
        let now = Instant::now();
        for link in self.links.values().filter(|link| link.peer == peer) {
            link.flooding.send_replace(Some(now + FLOODING_FOR));
        }
        self.floods.retain(|_, told_at| now.duration_since(*told_at) < FLOOD_IS_NEWS_AFTER);
        self.floods.insert(peer, now).is_none()
    }

    /// What finds out whether a node answers somewhere, without a link to it.
    pub fn dial_back(&self) -> DialBack {
        DialBack(self.dialler.clone())
    }

    /// Closes all links, and gives goodbyes a moment to get out.
    pub async fn end(mut self) {
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.close(link, CloseReason::Leaving);
        }
        let closing = async {
            while self.swarm.connected_peers().next().is_some() {
                tokio::select! {
                    event = self.swarm.select_next_some() => self.handle_event(event),
                    Some(connection) = self.closable.recv() => {
                        self.swarm.close_connection(connection);
                    }
                }
            }
        };
        let _ = tokio::time::timeout(MAX_END, closing).await;
    }

    fn handle_event(&mut self, event: SwarmEvent<NetworkEvent>) {
        match event {
            SwarmEvent::Behaviour(NetworkEvent::Lanes(Outcome { connection, lanes })) => match lanes {
                Ok(lanes) => self.link_up(connection, lanes),
                Err(why) => {
                    tracing::debug!(%why, "the neighbour speaks no CLOAK");
                    self.give_up(connection);
                }
            },
            SwarmEvent::ConnectionEstablished { connection_id, peer_id, endpoint, .. } => {
                let remote = endpoint.get_remote_address().clone();
                let new = Connection { dialled: None, authenticated: None };
                self.connections.entry(connection_id).or_insert(new).authenticated = Some((peer_id, remote));
                let overdue = self.overdue_in.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(MAX_LANES_SETUP).await;
                    let _ = overdue.send(connection_id);
                });
            }
            SwarmEvent::ConnectionClosed { connection_id, cause, .. } => {
                tracing::debug!(%connection_id, cause = cause.map(tracing::field::display), "connection closed");
                self.connection_gone(connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                tracing::debug!(%connection_id, %error, "dial failed");
                self.connection_gone(connection_id);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(%send_back_addr, %error, "incoming connection failed");
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.listeners.opened(listener_id, address);
                self.changes.note_listening();
            }
            SwarmEvent::ExpiredListenAddr { listener_id, address } => {
                self.listeners.expired(listener_id, &address);
                self.changes.note_listening();
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                if let Err(error) = reason {
                    tracing::warn!(%error, "a listener ended");
                }
                self.listeners.ended(listener_id);
            }
            _ => {}
        }
    }

    /// Takes a link out; nothing of it is read any more.
    fn take(&mut self, id: LinkId) -> Option<Link> {
        let mut link = self.links.remove(&id)?;
        link.control.reader.abort();
        link.data.reader.abort();
        link.bulk.end();
        if let Some(door) = &self.door {
            door.forget(id);
        }
        Some(link)
    }

    fn link_up(&mut self, id: ConnectionId, lanes: behaviour::Lanes) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some((peer, remote)) = connection.authenticated.take() else { return };
        let Some(peer) = NodeId::from_peer_id_bytes(&peer.to_bytes()) else {
            tracing::debug!("the neighbour's key is not Ed25519");
            self.give_up(id);
            return;
        };
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let dialled = connection.dialled.take();
        let initiator = dialled.is_some();
        let [control, data] = &self.arrivals_in;
        let (gone, gone_out) = watch::channel(false);
        let flooding = watch::Sender::new(None);
        let spawn = |lane, stream, arrivals: &mpsc::Sender<Arrival>| {
            let turn = Turn::new(flooding.subscribe());
            lane::spawn(link, lane, stream, arrivals.clone(), self.written_in.clone(), gone_out.clone(), turn)
        };
        let control = spawn(Lane::Control, lanes.control, control);
        let data = spawn(Lane::Data, lanes.data, data);
        let bulk = Bulk::new(initiator);
        let lasting = Link { connection: id, peer, dialled: dialled.clone(), control, data, bulk, gone, flooding };
        self.links.insert(link, lasting);
        self.ready.push(Input::Up { link, peer, remote: dialled.unwrap_or(remote), initiator });
        self.ready.push(Input::Room { link, lane: Lane::Control, bytes: CONTROL_ROOM_BYTES });
        self.ready.push(Input::Room { link, lane: Lane::Data, bytes: DATA_ROOM_BYTES });
    }

    /// A connection that never becomes a link.
    fn give_up(&mut self, id: ConnectionId) {
        self.swarm.close_connection(id);
        if let Some(address) = self.connections.get_mut(&id).and_then(|connection| connection.dialled.take()) {
            self.ready.push(Input::DialFailed { address });
        }
    }

    /// The connection has had time enough to become a link.
    fn give_up_half_link(&mut self, id: ConnectionId) {
        if self.connections.get(&id).is_some_and(|connection| connection.authenticated.is_some()) {
            tracing::debug!(connection_id = %id, "the neighbour opened no lanes");
            self.give_up(id);
        }
    }

    /// A link's end is told by its control reader, behind the last frames that were read.
    fn connection_gone(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.values().find(|link| link.connection == id) {
            let _ = link.gone.send(true);
        }
        if let Some(address) = self.connections.remove(&id).and_then(|connection| connection.dialled) {
            self.ready.push(Input::DialFailed { address });
        }
    }

    fn announce(&mut self, news: News) {
        self.ready.push(Input::Listening(self.reachable_at()));
        if news.moved {
            self.ready.push(Input::AddressChanged);
        }
        if news.interrupted {
            self.ready.push(Input::Interrupted);
        }
    }
}
