//! Network namespaces with cables between them; all are removed at the end.

use std::fs::File;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::network::Hosts;
use crate::process::{NODE_PROCESS, own_binary};
use crate::wait::{Result, Trouble, io, until};

/// The namespace with the bridges.
pub const HUB: &str = "hub";
/// An interface that was set up carries packets within this time.
const CARRIER_LIMIT: Duration = Duration::from_secs(5);

static LABS: AtomicU32 = AtomicU32::new(0);

/// Namespaces of one run, one for each node and [`HUB`]; they are removed when it is dropped.
pub struct Spaces {
    prefix: String,
    created: Vec<String>,
}

impl Spaces {
    /// None yet.
    pub fn new() -> Self {
        let prefix = format!("mt{}-{}-", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        Self { prefix, created: Vec::new() }
    }

    /// What `ip` calls all that there are.
    #[cfg(test)]
    pub fn created(&self) -> &[String] {
        &self.created
    }

    /// What `ip` calls the namespace of `node`.
    pub fn of(&self, node: &str) -> String {
        format!("{}{node}", self.prefix)
    }

    /// Makes one.
    pub fn add(&mut self, node: &str) -> Result<()> {
        let space = self.of(node);
        ip(&format!("netns add {space}"))?;
        self.created.push(space.clone());
        // Duplicate address detection would keep a new IPv6 address unusable for a second (RFC 4862 section 5.4).
        self.inside(node, || {
            for scope in ["all", "default"] {
                write(&format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0")?;
                write(&format!("/proc/sys/net/ipv6/conf/{scope}/accept_ra"), "0")?;
            }
            Ok(())
        })??;
        ip(&format!("-n {space} link set lo up"))
    }

    /// A network: a bridge in [`HUB`].
    pub fn add_bridge(&self, network: &str) -> Result<()> {
        let hub = self.of(HUB);
        ip(&format!("-n {hub} link add {network} type bridge forward_delay 0 stp_state 0 mcast_snooping 0"))?;
        ip(&format!("-n {hub} link set {network} up"))
    }

    /// A cable from a node, whose interface is named after the network, to the network's bridge, whose `port` it is.
    pub fn plug(&self, node: &str, network: &str, port: &str) -> Result<()> {
        let (hub, space) = (self.of(HUB), self.of(node));
        ip(&format!("-n {hub} link add {port} type veth peer name {network} netns {space}"))?;
        ip(&format!("-n {hub} link set {port} master {network} up"))
    }

    /// No IPv6 on this interface, not even link-local.
    pub fn only_ipv4(&self, node: &str, interface: &str) -> Result<()> {
        let file = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        self.inside(node, || write(&file, "1"))?
    }

    /// Makes a router of a node.
    pub fn forward(&self, node: &str) -> Result<()> {
        self.inside(node, || {
            write("/proc/sys/net/ipv4/ip_forward", "1")?;
            write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
        })?
    }

    /// An address of the hub's in a network.
    pub fn add_router(&self, network: &str, address: &str) -> Result<()> {
        ip(&format!("-n {} addr add {address} dev {network}", self.of(HUB)))
    }

    /// Sets an interface up and gives it an address; from when on it carried packets.
    pub fn set_up(&self, node: &str, interface: &str, address: &str) -> Result<Instant> {
        let space = self.of(node);
        ip(&format!("-n {space} link set {interface} up"))?;
        until(&format!("{interface} of {node} to come up"), CARRIER_LIMIT, || {
            let state = output(&format!("-n {space} -o link show dev {interface}"))?;
            Ok(state.contains("state UP").then_some(()))
        })?;
        let usable = Instant::now();
        let nodad = if address.contains(':') { " nodad" } else { "" };
        ip(&format!("-n {space} addr replace {address} dev {interface}{nodad}"))?;
        Ok(usable)
    }

    /// The same, with a way to everywhere else.
    pub fn attach(&self, node: &str, interface: &str, address: &str, gateway: &str) -> Result<Instant> {
        let usable = self.set_up(node, interface, address)?;
        ip(&format!("-n {} route replace default via {gateway} dev {interface}", self.of(node)))?;
        Ok(usable)
    }

    /// Runs `work` in a thread that is in the namespace of `node`; sockets that it makes stay there.
    pub fn inside<T: Send>(&self, node: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
        inside(&self.of(node), work)
    }
}

impl Hosts for Spaces {
    fn command(&self, node: &str) -> Result<Command> {
        let mut command = Command::new("ip");
        // `ip` replaces itself by our binary, so the process id is the node's.
        command.args(["netns", "exec", &self.of(node)]).arg(own_binary()?).arg(NODE_PROCESS);
        Ok(command)
    }

    fn listen(&self, node: &str) -> Result<TcpListener> {
        self.inside(node, || TcpListener::bind("127.0.0.1:0"))?.map_err(io("a listening socket"))
    }

    fn connect(&self, node: &str, address: SocketAddr) -> Result<TcpStream> {
        self.inside(node, || TcpStream::connect(address))?.map_err(io(format!("connecting to {address}")))
    }

    fn beside(&self, node: &str) -> String {
        format!("ip netns exec {} ", self.of(node))
    }

    /// It is so as long as this process runs.
    fn lead_to(&self, node: &str, front: TcpListener) -> Result<()> {
        let (address, space) = (front.local_addr().map_err(io("a port of this machine"))?, self.of(node));
        std::thread::spawn(move || {
            for socket in front.incoming().flatten() {
                if let Ok(Ok(there)) = inside(&space, || TcpStream::connect(address)) {
                    copy_both_ways(socket, there);
                }
            }
        });
        Ok(())
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for space in self.created.drain(..).rev() {
            if let Err(trouble) = ip(&format!("netns delete {space}")) {
                eprintln!("testnet: {trouble}");
            }
        }
    }
}

fn inside<T: Send>(space: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let enter = || -> std::io::Result<()> {
        let file = File::open(format!("/run/netns/{space}"))?;
        Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
    };
    let result = std::thread::scope(|scope| scope.spawn(|| enter().map(|()| work())).join());
    result.map_err(|_| Trouble::new(format!("work in {space} panicked")))?.map_err(io(format!("entering {space}")))
}

/// In threads of their own, until either side has nothing more to say.
fn copy_both_ways(here: TcpStream, there: TcpStream) {
    let (Ok(from_here), Ok(from_there)) = (here.try_clone(), there.try_clone()) else { return };
    for (mut from, mut to) in [(from_here, there), (from_there, here)] {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

/// Runs `ip` with these words.
pub fn ip(words: &str) -> Result<()> {
    output(words).map(drop)
}

/// The same; what it says.
pub fn output(words: &str) -> Result<String> {
    let done = Command::new("ip").args(words.split_whitespace()).output().map_err(io("ip"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(Trouble::new(format!("ip {words}: {}", String::from_utf8_lossy(&done.stderr).trim())))
}

fn write(file: &str, text: &str) -> Result<()> {
    std::fs::write(file, text).map_err(io(file))
}
