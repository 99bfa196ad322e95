//! All nodes of a topology, running.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use node::identity::Keys;
use tempfile::TempDir;

use crate::network::Network;
use crate::process::{Launch, NodeProcess};
use crate::topology::{Join, Topology};
use crate::wait::{Result, Trouble, io, stop_wanted, until};

/// A node has this long to be part of the overlay.
const JOIN_LIMIT: Duration = Duration::from_secs(30);
/// A unix socket's path has at most 107 bytes (unix(7)); this leaves room for the node's name and the file name.
const MAX_TEMP_PATH_BYTES: usize = 50;

/// The running nodes; all end when it is dropped, and their folders are removed.
pub struct Cluster {
    nodes: Vec<NodeProcess>,
    // Dropped after the processes.
    folder: TempDir,
}

/// A name that one node could not resolve.
pub struct Lost {
    /// Who asked.
    pub from: String,
    /// For which name.
    pub name: String,
    /// What came of it.
    pub why: String,
}

impl Cluster {
    /// Starts the nodes one after the other, each when the one before it has joined. Logs go to `logs`; `say` is told
    /// the name of each node that has joined.
    ///
    /// # Errors
    /// A node that does not start or join.
    pub fn start(network: &dyn Network, topology: &Topology, logs: &Path, mut say: impl FnMut(&str)) -> Result<Self> {
        std::fs::create_dir_all(logs).map_err(io(logs.display()))?;
        let mut cluster = Self { nodes: Vec::new(), folder: temp_folder()? };
        let ids = cluster.make_folders(topology)?;
        for spec in &topology.nodes {
            if stop_wanted() {
                return Err(Trouble::new("interrupted"));
            }
            let mut joins = Vec::new();
            for join in &spec.joins {
                joins.push(match join {
                    Join::At { node, address } => format!("{address}/p2p/{}", id_of(&ids, node)?),
                    Join::Node(name) => cluster.join_address(name)?,
                });
            }
            let mut node = NodeProcess::start(Launch {
                command: network.hosts().command(&spec.name)?,
                name: &spec.name,
                id: id_of(&ids, &spec.name)?,
                data_dir: cluster.folder.path().join(&spec.name),
                log: logs.join(format!("{}.log", spec.name)),
                listen: &spec.listen,
                joins: &joins,
                flags: &spec.flags,
            })?;
            node.wait_joined(JOIN_LIMIT)?;
            say(&spec.name);
            cluster.nodes.push(node);
        }
        Ok(cluster)
    }

    /// The node of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&NodeProcess> {
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| Trouble::new(format!("there is no node {name}")))
    }

    /// Kills a node as a crash does; it is no longer part of the cluster.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        let index = self.nodes.iter().position(|node| node.name == name);
        let index = index.ok_or_else(|| Trouble::new(format!("there is no node {name}")))?;
        self.nodes.remove(index).kill();
        Ok(())
    }

    /// All nodes.
    pub fn nodes(&self) -> &[NodeProcess] {
        &self.nodes
    }

    /// Fails when a node has ended.
    ///
    /// # Errors
    /// One has; the trouble names its log.
    pub fn must_run(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(NodeProcess::must_run)
    }

    /// Waits until every node resolves every other node's name.
    ///
    /// # Errors
    /// When that is not so within `limit`; the trouble says which name from where, and names the log.
    pub fn wait_names(&mut self, limit: Duration) -> Result<()> {
        let mut worst = None;
        let waited = until("every name to resolve from every node", limit, || {
            self.must_run()?;
            worst = self.lost_names().into_iter().next();
            Ok(worst.is_none().then_some(()))
        });
        waited.map_err(|trouble| match &worst {
            None => trouble,
            Some(Lost { from, name, why }) => {
                let trouble = Trouble::new(format!("{trouble}; {name} does not resolve from {from}: {why}"));
                self.node(from).map(|node| node.log.clone()).map_or_else(|lost| lost, |log| trouble.see(&log))
            }
        })
    }

    /// Asks every node for every other node's name.
    pub fn lost_names(&self) -> Vec<Lost> {
        std::thread::scope(|scope| {
            let askers: Vec<_> = self.nodes.iter().map(|node| scope.spawn(|| self.lost_from(node))).collect();
            askers.into_iter().flat_map(|asker| asker.join().unwrap_or_default()).collect()
        })
    }

    fn lost_from(&self, from: &NodeProcess) -> Vec<Lost> {
        let others = self.nodes.iter().filter(|node| node.name != from.name);
        let lost = others.filter_map(|node| {
            let why = match from.lookup(&node.name) {
                Ok(found) if found.node == node.id => return None,
                Ok(found) => format!("it resolves to {}", found.node),
                Err(trouble) => trouble.to_string(),
            };
            Some(Lost { from: from.name.clone(), name: node.name.clone(), why })
        });
        lost.collect()
    }

    fn make_folders(&self, topology: &Topology) -> Result<BTreeMap<String, String>> {
        let mut ids = BTreeMap::new();
        for spec in &topology.nodes {
            let folder = self.folder.path().join(&spec.name);
            std::fs::create_dir_all(&folder).map_err(io(folder.display()))?;
            let keys = Keys::open(&folder).map_err(|error| Trouble::new(format!("keys of {}: {error}", spec.name)))?;
            ids.insert(spec.name.clone(), keys.identity().id().to_string());
        }
        for spec in &topology.nodes {
            let file = self.folder.path().join(&spec.name).join("config.toml");
            let text = spec.config(|name| ids.get(name).cloned())?;
            std::fs::write(&file, text).map_err(io(file.display()))?;
        }
        Ok(ids)
    }

    fn join_address(&self, name: &str) -> Result<String> {
        let node = self.node(name)?;
        let address = node.status()?.listen.into_iter().next();
        let address = address.ok_or_else(|| Trouble::new(format!("node {name} listens nowhere")).see(&node.log))?;
        Ok(if address.contains("/p2p/") { address } else { format!("{address}/p2p/{}", node.id) })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All together, so that the end takes as long as the slowest one and not as long as all of them.
        self.nodes.iter().for_each(NodeProcess::ask_to_end);
        self.nodes.clear();
    }
}

fn id_of(ids: &BTreeMap<String, String>, name: &str) -> Result<String> {
    ids.get(name).cloned().ok_or_else(|| Trouble::new(format!("there is no node {name}")))
}

/// A folder of this user's alone whose path is short enough for unix sockets in it.
///
/// # Errors
/// When there can be none.
pub fn temp_folder() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("muses-testnet-");
    let usual = std::env::temp_dir();
    let long = usual.as_os_str().len() > MAX_TEMP_PATH_BYTES;
    let made = if long { builder.tempdir_in("/tmp") } else { builder.tempdir_in(usual) };
    made.map_err(io("temporary folder"))
}
