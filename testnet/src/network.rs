//! What carries the nodes: loopback (here) or real interfaces ([`crate::netns`]).

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::process::{NODE_PROCESS, NodeProcess, own_binary};
use crate::topology::{BOB, BOB_AFTER, Topology};
use crate::wait::{Result, io};

/// Where a node's network is back.
pub struct Back {
    /// From then on it was there.
    pub at: Instant,
    /// The node's address in it, for people.
    pub address: String,
}

/// Where nodes run.
pub trait Hosts {
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

    /// Makes what listens beside a node at the address of `front` reachable through it, which listens here.
    ///
    /// # Errors
    /// When the system does not say what that address is.
    fn lead_to(&self, node: &str, front: TcpListener) -> Result<()>;

    /// What to type before a command that is to run beside a node.
    fn beside(&self, node: &str) -> String;
}

/// Nodes, and how the network of one goes away and comes back.
pub trait Network {
    /// For people and for the report.
    fn label(&self) -> String;

    /// Who is there.
    fn topology(&self) -> Topology;

    /// Where they run.
    fn hosts(&self) -> &dyn Hosts;

    /// A listener beside Alice that Bob reaches without the overlay, for the plain TCP download, and its address; none where plain TCP would not notice a move.
    ///
    /// # Errors
    /// When it cannot be made.
    fn control(&self) -> Result<Option<(TcpListener, SocketAddr)>> {
        Ok(None)
    }

    /// Takes a node's network away; old sockets stay open and silent.
    ///
    /// # Errors
    /// When that did not work.
    fn down(&mut self, node: &NodeProcess) -> Result<()>;

    /// Gives it another network (`elsewhere`), or the one that it had.
    ///
    /// # Errors
    /// When that did not work.
    fn up(&mut self, node: &NodeProcess, elsewhere: bool) -> Result<Back>;
}

/// This machine, as it is.
struct Here {
    binary: PathBuf,
}

impl Hosts for Here {
    fn command(&self, _node: &str) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command.arg(NODE_PROCESS);
        Ok(command)
    }

    fn listen(&self, _node: &str) -> Result<TcpListener> {
        TcpListener::bind("127.0.0.1:0").map_err(io("a listening socket"))
    }

    fn connect(&self, _node: &str, address: SocketAddr) -> Result<TcpStream> {
        TcpStream::connect(address).map_err(io(format!("connecting to {address}")))
    }

    fn lead_to(&self, _node: &str, _front: TcpListener) -> Result<()> {
        // It is here.
        Ok(())
    }

    fn beside(&self, _node: &str) -> String {
        String::new()
    }
}

/// All nodes on the loopback interface. A network goes away by the verb that is flight mode for people, and who moved is back bound to another
/// address.
pub struct Loopback {
    topology: Topology,
    here: Here,
    /// How many have moved.
    moves: u8,
}

impl Loopback {
    /// The experiment on this topology; the nodes are processes of our own binary.
    ///
    /// # Errors
    /// When the system does not say where our binary is.
    pub fn new(topology: Topology) -> Result<Self> {
        Ok(Self::with_binary(topology, own_binary()?))
    }

    /// The same with another `testnet` binary, for tests, which are none.
    pub fn with_binary(topology: Topology, binary: impl Into<PathBuf>) -> Self {
        Self { topology, here: Here { binary: binary.into() }, moves: 0 }
    }
}

impl Network for Loopback {
    fn label(&self) -> String {
        "loopback".into()
    }

    fn topology(&self) -> Topology {
        self.topology.clone()
    }

    fn hosts(&self) -> &dyn Hosts {
        &self.here
    }

    fn down(&mut self, node: &NodeProcess) -> Result<()> {
        node.ask::<Value>(json!({"verb": "network-down"})).map(drop)
    }

    fn up(&mut self, node: &NodeProcess, elsewhere: bool) -> Result<Back> {
        let bind = match (elsewhere, node.name.as_str()) {
            (false, _) => None,
            (true, BOB) => Some(BOB_AFTER.to_owned()),
            (true, _) => {
                self.moves = self.moves.wrapping_add(1);
                Some(Ipv4Addr::new(127, 0, 3, self.moves).to_string())
            }
        };
        let sent = Instant::now();
        node.ask::<Value>(json!({"verb": "network-up", "bind": bind}))?;
        Ok(Back { at: sent, address: bind.unwrap_or_else(|| "its address".to_owned()) })
    }
}
