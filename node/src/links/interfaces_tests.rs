use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};

use super::*;

const RUNS: LinkFlags = LinkFlags::Up.union(LinkFlags::Running);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(index: u32, flags: LinkFlags) -> LinkMessage {
    let mut message = LinkMessage::default();
    (message.header.index, message.header.flags) = (index, flags);
    message
}

fn address(index: u32, attributes: Vec<AddressAttribute>) -> AddressMessage {
    let mut message = AddressMessage::default();
    (message.header.index, message.attributes) = (index, attributes);
    message
}

fn local(index: u32, text: &str) -> AddressMessage {
    address(index, vec![AddressAttribute::Address(ip(text)), AddressAttribute::Local(ip(text))])
}

/// What each message changes.
#[derive(Default)]
struct Kernel(Known);

impl Kernel {
    fn says(&mut self, message: RouteNetlinkMessage) -> Vec<Change> {
        self.0.take(&message);
        self.0.changes.drain(..).collect()
    }

    fn link(&mut self, index: u32, flags: LinkFlags) -> Vec<Change> {
        self.says(RouteNetlinkMessage::NewLink(link(index, flags)))
    }

    fn address(&mut self, address: AddressMessage) -> Vec<Change> {
        self.says(RouteNetlinkMessage::NewAddress(address))
    }

    fn gone(&mut self, address: AddressMessage) -> Vec<Change> {
        self.says(RouteNetlinkMessage::DelAddress(address))
    }
}

#[test]
fn an_address_is_of_use_while_its_interface_runs() {
    let (mut kernel, here) = (Kernel::default(), ip("10.0.0.7"));
    assert_eq!(kernel.link(2, RUNS), []);
    assert_eq!(kernel.address(local(2, "10.0.0.7")), [Change::Came(here)]);
    assert_eq!(kernel.address(local(2, "10.0.0.7")), [], "told again");
    assert_eq!(kernel.link(2, LinkFlags::Up), [Change::Stands(here)], "the cable is out");
    assert_eq!(kernel.0.all, [here], "others may know it already");
    assert_eq!(kernel.link(2, RUNS), [Change::Runs(here)]);
    assert_eq!(kernel.gone(local(2, "10.0.0.7")), [Change::Went(here)]);
    assert_eq!(kernel.link(2, LinkFlags::Up), []);
    assert_eq!(kernel.address(local(2, "10.0.0.7")), [Change::Idle]);
    assert_eq!(kernel.gone(local(2, "10.0.0.7")), [Change::Went(here)], "what stood still is dead now");
}

#[test]
fn an_interface_of_which_nothing_was_told_runs() {
    assert_eq!(Kernel::default().address(local(2, "10.0.0.7")), [Change::Came(ip("10.0.0.7"))]);
}

#[test]
fn the_other_end_of_a_line_is_not_here() {
    let mut kernel = Kernel::default();
    let line = address(3, vec![AddressAttribute::Address(ip("10.3.0.1")), AddressAttribute::Local(ip("10.3.0.2"))]);
    assert_eq!(kernel.address(line), [Change::Came(ip("10.3.0.2"))]);
    // IPv6 knows no IFA_LOCAL where there is no line.
    let six = address(3, vec![AddressAttribute::Address(ip("fd00::7"))]);
    assert_eq!(kernel.address(six), [Change::Came(ip("fd00::7"))]);
}

#[test]
fn an_ipv6_address_comes_when_it_is_known_to_be_no_duplicate() {
    let mut kernel = Kernel::default();
    let with = |flags| {
        let mut message = address(2, vec![AddressAttribute::Address(ip("fd00::7"))]);
        message.header.flags = flags;
        message
    };
    assert_eq!(kernel.address(with(AddressHeaderFlags::Tentative)), []);
    assert_eq!(kernel.address(with(AddressHeaderFlags::Permanent)), [Change::Came(ip("fd00::7"))]);
    assert_eq!(kernel.address(with(AddressHeaderFlags::Dadfailed)), [Change::Went(ip("fd00::7"))]);
    let optimistic = AddressHeaderFlags::Tentative | AddressHeaderFlags::Optimistic;
    assert_eq!(kernel.address(with(optimistic)), [Change::Came(ip("fd00::7"))]);
}

#[test]
fn an_address_on_two_interfaces_goes_with_the_second() {
    let mut kernel = Kernel::default();
    for index in [2, 3] {
        kernel.address(local(index, "10.0.0.7"));
    }
    let gone = |index| RouteNetlinkMessage::DelLink(link(index, LinkFlags::empty()));
    assert_eq!(kernel.says(gone(2)), []);
    assert_eq!(kernel.says(gone(3)), [Change::Went(ip("10.0.0.7"))]);
    assert!(kernel.0.all.is_empty());
}

#[test]
fn a_port_that_leaves_its_bridge_keeps_its_addresses() {
    let mut kernel = Kernel::default();
    kernel.address(local(2, "10.0.0.7"));
    let mut left = link(2, LinkFlags::empty());
    left.header.interface_family = AddressFamily::Bridge;
    assert_eq!(kernel.says(RouteNetlinkMessage::NewLink(left.clone())), []);
    assert_eq!(kernel.says(RouteNetlinkMessage::DelLink(left)), []);
    assert_eq!(kernel.0.all, [ip("10.0.0.7")]);
}

#[test]
fn addresses_have_the_order_of_their_interfaces_and_those_of_use_come_first() {
    let mut kernel = Kernel::default();
    for (index, text) in [(2, "192.168.7.2"), (5, "172.17.0.1"), (2, "10.9.9.9"), (3, "172.16.0.1")] {
        kernel.address(local(index, text));
    }
    assert_eq!(kernel.0.all, ["192.168.7.2", "10.9.9.9", "172.16.0.1", "172.17.0.1"].map(ip));
    kernel.link(2, LinkFlags::Up);
    assert_eq!(kernel.0.all, ["172.16.0.1", "172.17.0.1", "192.168.7.2", "10.9.9.9"].map(ip));
}

/// What this machine's kernel tells, until it has told of loopback.
async fn with_loopback() -> Interfaces {
    let mut interfaces = Interfaces::watch().unwrap();
    let told = async { while interfaces.next().await != Change::Came(ip("127.0.0.1")) {} };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("every machine has a loopback address");
    interfaces.known.changes.clear();
    interfaces
}

#[tokio::test]
async fn this_machine_has_loopback() {
    assert!(with_loopback().await.addresses().contains(&ip("127.0.0.1")));
}

/// As after an overrun: what is the same again is no change, and what is missing went.
#[tokio::test]
async fn a_list_is_compared_with_what_was_known_when_it_ends() {
    let mut interfaces = with_loopback().await;
    interfaces.known.take(&RouteNetlinkMessage::NewAddress(local(9_999_999, "192.0.2.1")));
    assert_eq!(interfaces.next().await, Change::Came(ip("192.0.2.1")));
    let Source::Open { handle, .. } = &interfaces.source else { panic!("it was opened") };
    interfaces.listing = Some((list(handle), Told::default()));
    assert_eq!(interfaces.next().await, Change::Went(ip("192.0.2.1")));
    assert_eq!(interfaces.known.changes, []);
}
