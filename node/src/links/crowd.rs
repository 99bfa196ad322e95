//! No place from which many connect and say nothing keeps others out: each may have a few connections that are not authenticated yet.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use libp2p::swarm::ConnectionId;

/// Connections from one place that are not authenticated yet. A handshake takes a few round trips.
const MAX_PENDING_FROM_ONE_PLACE: usize = 16;
/// Who has one IPv6 address usually has all that begin with these bits.
const IPV6_SITE_BITS: u32 = 64;

/// Too many come from there.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_PENDING_FROM_ONE_PLACE} connections from {0} are not authenticated yet")]
pub(super) struct Crowded(IpAddr);

/// Counts them.
#[derive(Default)]
pub(super) struct Crowd {
    pending: BTreeMap<ConnectionId, IpAddr>,
}

impl Crowd {
    /// A connection comes from there; whether there is room for it.
    pub(super) fn come(&mut self, connection: ConnectionId, from: IpAddr) -> Result<(), Crowded> {
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

    /// It is authenticated now, or over.
    pub(super) fn gone(&mut self, connection: ConnectionId) {
        self.pending.remove(&connection);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_a_few_and_others_have_theirs() {
        let mut crowd = Crowd::default();
        let mut number = 0;
        let mut come = |crowd: &mut Crowd, from: &str| {
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
