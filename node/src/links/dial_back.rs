//! One connection to a node that wants to know whether it can be reached: as far as its identity, no farther.
//!
//! It is no link: nothing but libp2p's negotiation and a Noise handshake is sent, under a key that is made for this once, and the connection is
//! dropped as soon as the other end has proved who it is. So nobody can be made to say or do anything by being dialled like that.

use std::net::IpAddr;
use std::time::Duration;

use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::{Endpoint, Transport as _};
use libp2p::identity::Keypair;
use multiaddr::{Multiaddr, Protocol};
use overlay::id::NodeId;

use super::transport::{self, Dialler};

/// A connection and a handshake take longer only where guests would not wait either.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Dials from where this node's links are dialled; not in flight mode.
#[derive(Clone)]
pub struct DialBack(pub(super) Dialler);

impl DialBack {
    /// Whether `node` answers at this TCP port, within 3 s.
    pub async fn finds(&self, node: NodeId, ip: IpAddr, port: u16) -> bool {
        let address = Multiaddr::from(ip).with(Protocol::Tcp(port));
        tokio::time::timeout(TIMEOUT, self.who_is_at(address)).await.is_ok_and(|found| found == Some(node))
    }

    async fn who_is_at(&self, address: Multiaddr) -> Option<NodeId> {
        let mut transport = transport::build(&Keypair::generate_ed25519(), self.0.clone(), None).ok()?;
        let fresh = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let (peer, _connection) = transport.dial(address, fresh).ok()?.await.ok()?;
        NodeId::from_peer_id_bytes(&peer.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::links::Links;

    #[tokio::test]
    async fn only_the_node_that_is_meant_is_found() {
        let mut node =
            Links::start(Zeroizing::new([1; 32]), vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()], false).unwrap();
        let (mut inputs, mut ports) = (Vec::new(), Vec::new());
        while ports.is_empty() {
            node.next(&mut inputs).await;
            ports = node.listening().iter().filter_map(crate::reach::port_of).collect();
        }
        let id = overlay::id::Identity::from_secret(&[1; 32]).id();
        let mut dialler =
            Links::start(Zeroizing::new([2; 32]), vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()], false).unwrap();
        let here = IpAddr::from([127, 0, 0, 1]);
        let silent = std::net::TcpListener::bind((here, 0)).unwrap();
        let dead = std::net::TcpListener::bind((here, 0)).unwrap().local_addr().unwrap().port();
        let other = NodeId::from_bytes([3; 32]);
        let back = dialler.dial_back();
        let asked = async {
            let mut found = vec![back.finds(id, here, ports[0]).await];
            found.push(back.finds(other, here, ports[0]).await);
            found.push(back.finds(id, here, silent.local_addr().unwrap().port()).await);
            found.push(back.finds(id, here, dead).await);
            dialler.network_down();
            found.push(back.finds(id, here, ports[0]).await);
            found
        };
        let mut asked = Box::pin(asked);
        let found = loop {
            tokio::select! {
                found = &mut asked => break found,
                () = node.next(&mut inputs) => {}
            }
        };
        assert_eq!(found, [true, false, false, false, false], "itself; by another id; silent; dead; in flight mode");
        assert!(!inputs.iter().any(|input| matches!(input, crate::links::Input::Up { .. })), "no link comes of it");
    }
}
