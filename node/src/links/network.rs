//! The libp2p swarm below the links.

use std::net::IpAddr;
use std::time::Duration;

use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Swarm, connection_limits, identify, ping, swarm};
use multiaddr::{Multiaddr, Protocol};
use zeroize::Zeroizing;

use super::bulk::door::Door;
use super::transport::Dialler;
use super::{StartError, behaviour, transport};

/// Links that others opened to us.
const MAX_INBOUND_LINKS: u32 = 256;
/// Connections that others began to open and did not authenticate yet.
const MAX_PENDING_INBOUND: u32 = 256;
/// Links to one neighbour. A moving neighbour leaves some behind that we have not found dead yet.
const MAX_LINKS_PER_PEER: u32 = 16;

const IDENTIFY_PROTOCOL: &str = "/cloak/1";
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// All behaviours of a node's swarm.
#[derive(NetworkBehaviour)]
pub(super) struct Network {
    // First, so that a connection too many is denied before anything is done for it.
    limits: connection_limits::Behaviour,
    pub(super) lanes: behaviour::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// A swarm that listens nowhere yet. Needs a tokio runtime around it.
pub(super) fn start(
    mut secret: Zeroizing<[u8; 32]>,
    dialler: Dialler,
    door: Option<Door>,
) -> Result<Swarm<Network>, StartError> {
    let keypair = Keypair::ed25519_from_bytes(secret.as_mut()).map_err(|_| StartError::Identity)?;
    Ok(Swarm::new(
        transport::build(&keypair, dialler, door)?,
        Network {
            limits: connection_limits::Behaviour::new(limits()),
            lanes: behaviour::Behaviour::default(),
            identify: identify::Behaviour::new(identify::Config::new(IDENTIFY_PROTOCOL.into(), keypair.public())),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
        },
        keypair.public().to_peer_id(),
        swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(transport::MAX_SETUP)
            .with_substream_upgrade_protocol_override(Version::V1Lazy),
    ))
}

pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

fn limits() -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_PENDING_INBOUND))
        .with_max_established_incoming(Some(MAX_INBOUND_LINKS))
        .with_max_established_per_peer(Some(MAX_LINKS_PER_PEER))
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
    use libp2p::swarm::SwarmEvent;
    use overlay::io::Lane;

    use super::*;
    use crate::links::behaviour::Outcome;
    use crate::links::gate::Gate;
    use crate::links::{Input, Links};

    /// Runs a node until it listens, and dials it with a bare swarm: a neighbour that can write what it likes.
    async fn hostile() -> (Links, Swarm<Network>, behaviour::Lanes) {
        let mut node =
            Links::start(Zeroizing::new([1; 32]), vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()], false).unwrap();
        let mut inputs = Vec::new();
        while node.listening().is_empty() {
            node.next(&mut inputs).await;
        }
        let dialler = Dialler { gate: Gate::open(), homes: Vec::new() };
        let mut hostile = start(Zeroizing::new([2; 32]), dialler, None).unwrap();
        hostile.dial(node.listening()[0].clone()).unwrap();
        loop {
            tokio::select! {
                () = node.next(&mut inputs) => {}
                event = hostile.select_next_some() => {
                    if let SwarmEvent::Behaviour(NetworkEvent::Lanes(Outcome { lanes, .. })) = event {
                        return (node, hostile, lanes.unwrap());
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_closes_the_link_and_is_counted() {
        // A limit for a hang, not a measurement.
        tokio::time::timeout(Duration::from_secs(30), announce_a_long_frame()).await.unwrap();
    }

    async fn announce_a_long_frame() {
        let (mut node, mut hostile, mut lanes) = hostile().await;
        let length = u32::try_from(Lane::Control.max_frame_bytes() + 1).unwrap();
        lanes.data.write_all(&[]).await.unwrap();
        lanes.data.flush().await.unwrap();
        lanes.control.write_all(&length.to_le_bytes()).await.unwrap();
        lanes.control.flush().await.unwrap();
        let mut inputs = Vec::new();
        let mut went = None;
        while went.is_none() {
            tokio::select! {
                () = node.next(&mut inputs) => {}
                _ = hostile.select_next_some() => {}
            }
            went = inputs.iter().find_map(|input| match input {
                Input::Oversized { link } => Some(*link),
                _ => None,
            });
        }
        assert!(inputs.iter().any(|input| matches!(input, Input::Up { link, .. } if Some(*link) == went)));
        assert!(!inputs.iter().any(|input| matches!(input, Input::Frame { .. })));
        let mut byte = [0];
        let ended = async {
            loop {
                tokio::select! {
                    read = lanes.control.read(&mut byte) => break !matches!(read, Ok(1)),
                    () = node.next(&mut inputs) => {}
                    _ = hostile.select_next_some() => {}
                }
            }
        };
        assert!(ended.await);
    }
}
