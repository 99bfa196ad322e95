//! What carries the experiment: loopback (here) or real interfaces ([`crate::netns`]).

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::process::{NODE_PROCESS, NodeProcess, own_binary};
use crate::topology::{BOB_AFTER, Topology};
use crate::wait::{Result, io};

/// Nodes, their sockets, and how Bob's network goes away and comes back.
pub trait Network {
    /// For people and for the report.
    fn label(&self) -> String;

    /// Who is there.
    fn topology(&self) -> Topology;

    /// The command that starts the node of this name.
    ///
    /// # Errors
    /// When there is none.
    fn command(&self, node: &str) -> Result<Command>;

    /// A listening socket beside a node, on its loopback and a free port.
    ///
    /// # Errors
    /// When there is none.
    fn listen(&self, node: &str) -> Result<TcpListener>;

    /// A connection made beside a node.
    ///
    /// # Errors
    /// When it is refused.
    fn connect(&self, node: &str, address: SocketAddr) -> Result<TcpStream>;

    /// A listener beside Alice that Bob reaches without the overlay, for the plain TCP download, and its address.
    ///
    /// # Errors
    /// When it cannot be made.
    fn control(&self) -> Result<Option<(TcpListener, SocketAddr)>>;

    /// Takes Bob's network away; old sockets stay open and silent.
    ///
    /// # Errors
    /// When that did not work.
    fn down(&mut self, bob: &NodeProcess) -> Result<()>;

    /// Gives Bob another network and says from when on it was there.
    ///
    /// # Errors
    /// When that did not work.
    fn up(&mut self, bob: &NodeProcess) -> Result<Instant>;
}

/// All nodes on the loopback interface. Bob's network goes away by the verb that is flight mode for people, and he is
/// back bound to another address.
pub struct Loopback {
    topology: Topology,
    binary: PathBuf,
}

impl Loopback {
    /// The experiment on this topology; the nodes are processes of our own binary.
    ///
    /// # Errors
    /// When the system does not say where our binary is.
    pub fn new(topology: Topology) -> Result<Self> {
        Ok(Self { topology, binary: own_binary()? })
    }

    /// The same with another `testnet` binary, for tests, which are none.
    pub fn with_binary(topology: Topology, binary: impl Into<PathBuf>) -> Self {
        Self { topology, binary: binary.into() }
    }
}

impl Network for Loopback {
    fn label(&self) -> String {
        "loopback".into()
    }

    fn topology(&self) -> Topology {
        self.topology.clone()
    }

    fn command(&self, _node: &str) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command.arg(NODE_PROCESS);
        Ok(command)
    }

    fn listen(&self, _node: &str) -> Result<TcpListener> {
        TcpListener::bind("127.0.0.1:0").map_err(io("file service"))
    }

    fn connect(&self, _node: &str, address: SocketAddr) -> Result<TcpStream> {
        TcpStream::connect(address).map_err(io(format!("connecting to {address}")))
    }

    fn control(&self) -> Result<Option<(TcpListener, SocketAddr)>> {
        // Plain TCP would not notice: loopback itself is never gone.
        Ok(None)
    }

    fn down(&mut self, bob: &NodeProcess) -> Result<()> {
        bob.ask::<Value>(json!({"verb": "network-down"})).map(drop)
    }

    fn up(&mut self, bob: &NodeProcess) -> Result<Instant> {
        let sent = Instant::now();
        bob.ask::<Value>(json!({"verb": "network-up", "bind": BOB_AFTER}))?;
        Ok(sent)
    }
}
