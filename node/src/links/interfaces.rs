//! Which addresses this machine has, and whether they are of any use now: one is as long as its interface runs.
//!
//! The kernel keeps an IPv4 address on an interface whose cable is out, and says nothing of it when the cable is back. For a connection that is
//! an outage like any other, and its end is the moment to try again; so the interfaces are watched, too (rtnetlink(7)). And an interface to one other
//! machine (PPP, many tunnels) has two addresses: `IFA_ADDRESS` is that of the other end there, `IFA_LOCAL` ours. `if-watch`, with which
//! libp2p finds the addresses of its listeners, takes the first for ours.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;

use futures::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::LinkFlags;
use tokio::task::JoinHandle;

/// An address of this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// It came, or its interface runs again.
    Up(IpAddr),
    /// It went, or its interface stands still.
    Down(IpAddr),
    /// Others came or went on interfaces that stand still.
    Idle,
}

/// What the kernel says about addresses and interfaces.
pub(super) struct Interfaces {
    messages: BoxStream<'static, RouteNetlinkMessage>,
    connection: JoinHandle<()>,
    /// Without it the connection ends, with all that it has to say.
    _handle: rtnetlink::Handle,
    known: Known,
}

/// What it has said so far.
#[derive(Default)]
struct Known {
    /// Indices of interfaces that run.
    running: BTreeSet<u32>,
    /// On which interface; two may have the same one.
    addresses: BTreeSet<(u32, IpAddr)>,
    all: BTreeSet<IpAddr>,
    of_use: BTreeSet<IpAddr>,
    changes: VecDeque<Change>,
}

impl Interfaces {
    /// Begins with all that there are.
    ///
    /// # Errors
    /// When the system has no such thing, or does not let this process use it.
    pub(super) fn watch() -> io::Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, news) = rtnetlink::new_multicast_connection(&groups)?;
        let links = handle.link().get().execute().map_ok(RouteNetlinkMessage::NewLink);
        // Asked for when the other list is complete: the kernel makes one at a time for a socket.
        let also = handle.clone();
        let addresses = stream::once(async move { also.address().get().execute() }).flatten();
        let addresses = addresses.map_ok(RouteNetlinkMessage::NewAddress);
        let news = news.filter_map(async |(message, _)| match message.payload {
            NetlinkPayload::InnerMessage(message) => Some(message),
            _ => None,
        });
        Ok(Self {
            messages: logged(links).chain(logged(addresses)).chain(news).boxed(),
            connection: tokio::spawn(connection),
            _handle: handle,
            known: Known::default(),
        })
    }

    /// All addresses, of use now or later.
    pub(super) fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.known.all
    }

    /// What changed next; none when the kernel says nothing any more. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.known.changes.pop_front() {
                return Some(change);
            }
            let message = self.messages.next().await?;
            self.known.take(message);
        }
    }
}

impl Drop for Interfaces {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Without what could not be had.
fn logged(
    messages: impl Stream<Item = Result<RouteNetlinkMessage, rtnetlink::Error>> + Send,
) -> impl Stream<Item = RouteNetlinkMessage> + Send {
    messages.filter_map(async |message| {
        message.inspect_err(|error| tracing::warn!(%error, "cannot list the network interfaces")).ok()
    })
}

impl Known {
    fn take(&mut self, message: RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::NewLink(link) => {
                let runs = link.header.flags.contains(LinkFlags::Up | LinkFlags::Running);
                if runs {
                    self.running.insert(link.header.index)
                } else {
                    self.running.remove(&link.header.index)
                };
            }
            RouteNetlinkMessage::DelLink(link) => {
                self.running.remove(&link.header.index);
                self.addresses.retain(|(index, _)| *index != link.header.index);
            }
            RouteNetlinkMessage::NewAddress(message) => self.addresses.extend(local(&message)),
            RouteNetlinkMessage::DelAddress(message) => {
                if let Some(address) = local(&message) {
                    self.addresses.remove(&address);
                }
            }
            _ => return,
        }
        let runs = |(index, ip): &(u32, IpAddr)| self.running.contains(index).then_some(*ip);
        let of_use: BTreeSet<IpAddr> = self.addresses.iter().filter_map(runs).collect();
        let all: BTreeSet<IpAddr> = self.addresses.iter().map(|(_, ip)| *ip).collect();
        if self.of_use == of_use && self.all != all {
            self.changes.push_back(Change::Idle);
        }
        self.changes.extend(self.of_use.difference(&of_use).copied().map(Change::Down));
        self.changes.extend(of_use.difference(&self.of_use).copied().map(Change::Up));
        (self.of_use, self.all) = (of_use, all);
    }
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

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::LinkMessage;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn link(index: u32, flags: LinkFlags) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        (message.header.index, message.header.flags) = (index, flags);
        RouteNetlinkMessage::NewLink(message)
    }

    fn address(index: u32, attributes: Vec<AddressAttribute>) -> AddressMessage {
        let mut message = AddressMessage::default();
        (message.header.index, message.attributes) = (index, attributes);
        message
    }

    fn taken(known: &mut Known, message: RouteNetlinkMessage) -> Vec<Change> {
        known.take(message);
        known.changes.drain(..).collect()
    }

    const RUNS: LinkFlags = LinkFlags::Up.union(LinkFlags::Running);

    #[test]
    fn an_address_is_of_use_while_its_interface_runs() {
        let mut known = Known::default();
        let here = address(2, vec![AddressAttribute::Address(ip("10.0.0.7")), AddressAttribute::Local(ip("10.0.0.7"))]);
        assert_eq!(taken(&mut known, link(2, RUNS)), []);
        assert_eq!(taken(&mut known, RouteNetlinkMessage::NewAddress(here.clone())), [Change::Up(ip("10.0.0.7"))]);
        assert_eq!(taken(&mut known, RouteNetlinkMessage::NewAddress(here.clone())), [], "told again");
        assert_eq!(taken(&mut known, link(2, LinkFlags::Up)), [Change::Down(ip("10.0.0.7"))], "the cable is out");
        assert!(known.all.contains(&ip("10.0.0.7")), "others may know it already");
        assert_eq!(taken(&mut known, link(2, RUNS)), [Change::Up(ip("10.0.0.7"))]);
        assert_eq!(taken(&mut known, RouteNetlinkMessage::DelAddress(here.clone())), [Change::Down(ip("10.0.0.7"))]);
        assert_eq!(taken(&mut known, link(2, LinkFlags::Up)), []);
        assert_eq!(taken(&mut known, RouteNetlinkMessage::NewAddress(here)), [Change::Idle]);
    }

    #[test]
    fn the_other_end_of_a_line_is_not_here() {
        let mut known = Known::default();
        taken(&mut known, link(3, RUNS));
        let line = address(3, vec![AddressAttribute::Address(ip("10.3.0.1")), AddressAttribute::Local(ip("10.3.0.2"))]);
        assert_eq!(taken(&mut known, RouteNetlinkMessage::NewAddress(line)), [Change::Up(ip("10.3.0.2"))]);
        // IPv6 knows no IFA_LOCAL where there is no line.
        let six = address(3, vec![AddressAttribute::Address(ip("fd00::7"))]);
        assert_eq!(taken(&mut known, RouteNetlinkMessage::NewAddress(six)), [Change::Up(ip("fd00::7"))]);
    }

    #[test]
    fn an_address_on_two_interfaces_goes_with_the_second() {
        let mut known = Known::default();
        for index in [2, 3] {
            taken(&mut known, link(index, RUNS));
            let here = address(index, vec![AddressAttribute::Local(ip("10.0.0.7"))]);
            taken(&mut known, RouteNetlinkMessage::NewAddress(here));
        }
        let gone = |index| {
            let mut message = LinkMessage::default();
            message.header.index = index;
            RouteNetlinkMessage::DelLink(message)
        };
        assert_eq!(taken(&mut known, gone(2)), []);
        assert_eq!(taken(&mut known, gone(3)), [Change::Down(ip("10.0.0.7"))]);
        assert!(known.all.is_empty());
    }

    #[tokio::test]
    async fn this_machine_has_loopback() {
        let mut interfaces = Interfaces::watch().unwrap();
        let mut changes = Vec::new();
        while !changes.contains(&Change::Up(ip("127.0.0.1"))) {
            changes.push(interfaces.next().await.unwrap());
        }
        assert!(interfaces.addresses().contains(&ip("127.0.0.1")));
    }
}
