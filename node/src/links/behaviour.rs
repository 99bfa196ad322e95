//! The libp2p behaviour of a link: whoever dialled opens one stream for each lane; both are handed out together.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll, Waker};

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, Stream};
use overlay::io::Lane;

use super::crowd::Crowd;
use super::network::ip_of;
use super::transport::MAX_SETUP;

const CONTROL: &str = "/cloak/control/1";
const DATA: &str = "/cloak/data/1";

/// The two streams of a new link.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) control: Stream,
    pub(super) data: Stream,
}

/// What became of an authenticated connection.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) connection: ConnectionId,
    /// The error says why the neighbour did not take the lanes.
    pub(super) lanes: Result<Lanes, String>,
}

/// Opens lanes, on connections for which there was room.
#[derive(Default)]
pub(super) struct Behaviour {
    outcomes: VecDeque<Outcome>,
    crowd: Crowd,
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Outcome;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        ip_of(remote).map_or(Ok(()), |from| self.crowd.come(connection, from)).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(false))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        role: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(role == Endpoint::Dialer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => self.crowd.gone(established.connection_id),
            FromSwarm::ListenFailure(failed) => self.crowd.gone(failed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, connection: ConnectionId, lanes: THandlerOutEvent<Self>) {
        self.outcomes.push_back(Outcome { connection, lanes });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Outcome, THandlerInEvent<Self>>> {
        // No waker: the swarm polls its behaviour after each event of a handler.
        self.outcomes.pop_front().map_or(Poll::Pending, |outcome| Poll::Ready(ToSwarm::GenerateEvent(outcome)))
    }
}

/// One for each connection.
pub(super) struct Handler {
    dialer: bool,
    to_open: VecDeque<Lane>,
    control: Option<Stream>,
    data: Option<Stream>,
    result: Option<Result<Lanes, String>>,
    /// Once both lanes were handed out; until then the swarm's idle timeout runs.
    up: bool,
    waker: Option<Waker>,
}

impl Handler {
    fn new(dialer: bool) -> Self {
        let to_open = if dialer { VecDeque::from([Lane::Control, Lane::Data]) } else { VecDeque::new() };
        Self { dialer, to_open, control: None, data: None, result: None, up: false, waker: None }
    }

    fn take(&mut self, lane: Lane, stream: Stream) {
        let place = match lane {
            Lane::Control => &mut self.control,
            Lane::Data => &mut self.data,
        };
        // A second stream for the same lane is nothing that a correct neighbour opens: it is dropped, so reset.
        if self.up || place.is_some() {
            return;
        }
        *place = Some(stream);
        match (self.control.take(), self.data.take()) {
            (Some(control), Some(data)) => {
                self.up = true;
                self.finish(Ok(Lanes { control, data }));
            }
            (control, data) => (self.control, self.data) = (control, data),
        }
    }

    fn finish(&mut self, result: Result<Lanes, String>) {
        self.result = Some(result);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Result<Lanes, String>;
    type InboundProtocol = LaneUpgrade;
    type OutboundProtocol = LaneUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<LaneUpgrade> {
        let lanes: &[Lane] = if self.dialer || self.up { &[] } else { &[Lane::Control, Lane::Data] };
        SubstreamProtocol::new(LaneUpgrade(lanes), ()).with_timeout(MAX_SETUP)
    }

    fn connection_keep_alive(&self) -> bool {
        self.up
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<LaneUpgrade, (), Result<Lanes, String>>> {
        if let Some(lane) = self.to_open.pop_front() {
            let lane: &[Lane] = match lane {
                Lane::Control => &[Lane::Control],
                Lane::Data => &[Lane::Data],
            };
            let protocol = SubstreamProtocol::new(LaneUpgrade(lane), ()).with_timeout(MAX_SETUP);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        if let Some(result) = self.result.take() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(result));
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, LaneUpgrade, LaneUpgrade>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (lane, stream), .. })
            | ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (lane, stream), .. }) => {
                self.take(lane, stream);
            }
            ConnectionEvent::DialUpgradeError(error) => self.finish(Err(error.error.to_string())),
            _ => {}
        }
    }
}

/// Negotiates which lanes.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneUpgrade(&'static [Lane]);

impl UpgradeInfo for LaneUpgrade {
    type Info = LaneName;
    type InfoIter = Vec<LaneName>;

    fn protocol_info(&self) -> Vec<LaneName> {
        self.0.iter().map(|lane| LaneName(*lane)).collect()
    }
}

/// A lane as a protocol name.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneName(Lane);

impl AsRef<str> for LaneName {
    fn as_ref(&self) -> &str {
        match self.0 {
            Lane::Control => CONTROL,
            Lane::Data => DATA,
        }
    }
}

impl InboundUpgrade<Stream> for LaneUpgrade {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: LaneName) -> Self::Future {
        ready(Ok((name.0, stream)))
    }
}

impl OutboundUpgrade<Stream> for LaneUpgrade {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: LaneName) -> Self::Future {
        ready(Ok((name.0, stream)))
    }
}
