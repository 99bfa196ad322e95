//! No place from which many connect and say nothing keeps others out: each may have a few connections that are not authenticated yet.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::task::{Context, Poll};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};

use super::network::ip_of;

/// Connections from one place that are not authenticated yet. A handshake takes a few round trips.
pub(super) const MAX_PENDING_FROM_ONE_PLACE: usize = 16;
/// Who has one IPv6 address usually has all that begin with these bits.
const IPV6_SITE_BITS: u32 = 64;

/// Too many come from there.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_PENDING_FROM_ONE_PLACE} connections from {0} are not authenticated yet")]
struct Crowded(IpAddr);

/// Counts them.
#[derive(Default)]
pub(super) struct Behaviour {
    pending: BTreeMap<ConnectionId, IpAddr>,
}

impl Behaviour {
    /// A connection comes from there; whether there is room for it.
    fn come(&mut self, connection: ConnectionId, from: IpAddr) -> Result<(), Crowded> {
        if from.is_loopback() {
            return Ok(());
        }
        let place = place_of(from);
        if self.pending.values().filter(|other| **other == place).count() >= MAX_PENDING_FROM_ONE_PLACE {
            return Err(Crowded(from));
        }
        self.pending.insert(connection, place);
        Ok(())
    }
}

fn place_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or_else(
            || Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (u128::BITS - IPV6_SITE_BITS))).into(),
            IpAddr::V4,
        ),
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        ip_of(remote).map_or(Ok(()), |from| self.come(connection, from)).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => _ = self.pending.remove(&established.connection_id),
            FromSwarm::ListenFailure(failed) => _ = self.pending.remove(&failed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_a_few_and_others_have_theirs() {
        let mut crowd = Behaviour::default();
        let mut number = 0;
        let mut come = |crowd: &mut Behaviour, from: &str| {
            number += 1;
            crowd.come(ConnectionId::new_unchecked(number), from.parse().unwrap()).is_ok()
        };
        for n in 0..MAX_PENDING_FROM_ONE_PLACE {
            assert!(come(&mut crowd, "203.0.113.7") && come(&mut crowd, &format!("2001:db8::{n:x}")), "{n}");
        }
        for (from, room) in [
            ("203.0.113.7", false),
            ("::ffff:203.0.113.7", false),
            ("203.0.113.8", true),
            ("2001:db8::abcd", false),
            ("2001:db8:0:1::1", true),
        ] {
            assert_eq!(come(&mut crowd, from), room, "{from}");
        }
        assert!((0..100).all(|_| come(&mut crowd, "127.0.0.1")));
    }
}
