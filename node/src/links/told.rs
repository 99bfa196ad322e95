//! What the kernel has said of interfaces and their addresses, message by message.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

#[derive(Default)]
pub(super) struct Told {
    /// Indices of interfaces that stand still. One of which nothing was told runs.
    idle: BTreeSet<u32>,
    /// On which interface; two may have the same one. In the order in which they were told, the first of an interface first.
    addresses: Vec<(u32, IpAddr)>,
    /// Something could not be told.
    pub(super) incomplete: bool,
}

impl Told {
    /// Whether that is any news.
    pub(super) fn take(&mut self, message: &RouteNetlinkMessage) -> bool {
        match message {
            // A bridge tells so of its ports; what they are otherwise is told apart from that.
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)
                if link.header.interface_family == AddressFamily::Bridge =>
            {
                false
            }
            RouteNetlinkMessage::NewLink(link) => {
                let index = link.header.index;
                if link.header.flags.contains(LinkFlags::Up | LinkFlags::Running) {
                    self.idle.remove(&index)
                } else {
                    self.idle.insert(index)
                }
            }
            RouteNetlinkMessage::DelLink(link) => {
                let before = self.addresses.len();
                self.addresses.retain(|(index, _)| *index != link.header.index);
                self.idle.remove(&link.header.index) || self.addresses.len() != before
            }
            RouteNetlinkMessage::NewAddress(message) => match local(message) {
                Some(address) if is_usable(message) => self.add(address),
                Some(address) => self.remove(address),
                None => false,
            },
            RouteNetlinkMessage::DelAddress(message) => local(message).is_some_and(|address| self.remove(address)),
            _ => false,
        }
    }

    fn add(&mut self, address: (u32, IpAddr)) -> bool {
        let is_new = !self.addresses.contains(&address);
        if is_new {
            let at = self.addresses.partition_point(|(index, _)| *index <= address.0);
            self.addresses.insert(at, address);
        }
        is_new
    }

    fn remove(&mut self, address: (u32, IpAddr)) -> bool {
        let before = self.addresses.len();
        self.addresses.retain(|known| *known != address);
        self.addresses.len() != before
    }

    /// All addresses, those on interfaces that run first.
    pub(super) fn all(&self) -> Vec<IpAddr> {
        let idle = |(index, _): &&(u32, IpAddr)| self.idle.contains(index);
        once(self.addresses.iter().filter(|address| !idle(address)).chain(self.addresses.iter().filter(idle)))
    }

    /// Those on interfaces that run.
    pub(super) fn of_use(&self) -> Vec<IpAddr> {
        once(self.addresses.iter().filter(|(index, _)| !self.idle.contains(index)))
    }
}

/// Each once.
fn once<'a>(addresses: impl Iterator<Item = &'a (u32, IpAddr)>) -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    addresses.map(|(_, ip)| *ip).filter(|ip| seen.insert(*ip)).collect()
}

/// Our address in this message, and the index of its interface.
fn local(message: &AddressMessage) -> Option<(u32, IpAddr)> {
    let (mut ours, mut either) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => ours = Some(*ip),
            AddressAttribute::Address(ip) => either = Some(*ip),
            _ => {}
        }
    }
    Some((message.header.index, ours.or(either)?))
}

/// While others are asked whether they have the same address, and when they have, nothing can leave from it (RFC 4862, section 5.4); unless
/// it is an optimistic one (RFC 4429). The end of it is told like a new address.
fn is_usable(message: &AddressMessage) -> bool {
    let flags = message.header.flags;
    let asks = flags.contains(AddressHeaderFlags::Tentative) && !flags.contains(AddressHeaderFlags::Optimistic);
    !asks && !flags.contains(AddressHeaderFlags::Dadfailed)
}
