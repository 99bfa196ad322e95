//! How a [`Node`] is started.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use multiaddr::Multiaddr;

use overlay::membership::Enrolment;

use super::Node;
use super::dispatch::Dispatch;
use crate::config::{Config, check_name};
use crate::exit::{Code, Fault};
use crate::identity::{self, Keys};
use crate::invite::Invite;
use crate::local::listen::check_free;
use crate::stack::{self, Stack};
use crate::store::{DiskStore, Nowhere, Store, belongs_to};
use crate::{clock, driver, folder};

/// A listener has its concrete address within this time.
const LISTEN_TIME: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LISTEN_STEP: Duration = Duration::from_millis(1);
/// Where a node listens unless told otherwise: everywhere, at a free port.
const ANYWHERE: &str = "/ip4/0.0.0.0/tcp/0";

/// What a node is made of. See [`Node::builder`].
#[derive(Clone, Debug, Default)]
pub struct Builder {
    data_dir: Option<PathBuf>,
    config: Config,
    enrolment: Option<Enrolment>,
}

impl Builder {
    /// Keeps keys and state in this folder, which `muses up --data-dir` may use at other times. Without it both are gone with the process.
    #[must_use]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Everything that a configuration file can say, before the other calls. `services`, `socks`, `dashboard`, `metrics`, `links.mdns`, `links.upnp` and the data folder's own file are the
    /// business of `muses up` and count for nothing here.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Listens at `/ip4/ADDR/tcp/PORT`, too; port 0 is a free one. By default everywhere, at a free port.
    #[must_use]
    pub fn listen(mut self, address: Multiaddr) -> Self {
        self.config.listen.push(address);
        self
    }

    /// Joins the overlay of whoever is there, as [`Node::addresses`] tells. Without it, and without an overlay in the data folder, the node
    /// founds one.
    #[must_use]
    pub fn join(mut self, address: Multiaddr) -> Self {
        self.config.join.push(address);
        self
    }

    /// Joins the overlay of this invite, and becomes a member of it where it is closed. Services that it opens are the business of `muses up`.
    #[must_use]
    pub fn invite(mut self, invite: &Invite) -> Self {
        self.config.overlay.id = Some(invite.overlay);
        self.config.join.extend(invite.dials());
        self.enrolment = invite.enrolment();
        self
    }

    /// Claims this name in the overlay: 1 to 32 of a-z, 0-9 and -.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// Starts the node on the current tokio runtime, and returns when it listens.
    ///
    /// # Errors
    /// One line and the code with which `muses` would exit: keys or state that cannot be used, a port in use, an impossible name.
    pub async fn start(self) -> Result<Node, Fault> {
        let Self { data_dir, mut config, enrolment } = self;
        config.name.as_deref().map(check_name).transpose().map_err(|line| Fault::new(Code::Usage, line))?;
        if config.listen.is_empty() {
            config.listen = vec![ANYWHERE.parse().map_err(|_| Fault::new(Code::Failed, ANYWHERE))?];
        }
        config.listen.iter().try_for_each(check_free)?;
        let no_entropy = |error| Fault::new(Code::Failed, format!("the system has no entropy: {error}"));
        let (lock, keys, store): (_, _, Arc<dyn Store>) = match data_dir {
            Some(path) => {
                let lock = folder::open_folder(&path)?;
                (Some(lock), Keys::open(&path)?, Arc::new(DiskStore::open(&path)?))
            }
            None => (None, Keys::random().map_err(no_entropy)?, Arc::new(Nowhere)),
        };
        let mut snapshot = store.load()?;
        belongs_to(store.as_ref(), &mut snapshot, keys.identity().id())?;
        let seed = identity::random().map_err(no_entropy)?;
        let identity = keys.identity();
        let id = identity.id();
        let stack_config = stack::Config { enrolment, ..config.to_stack() };
        let stack = Stack::new(stack_config, identity, keys.session, *seed, clock::now())
            .map_err(|line| Fault::new(Code::Usage, line))?;
        let setup =
            driver::Setup { stack, secret: keys.seed, listen: config.listen, bulk: config.links.bulk, store, snapshot };
        let driver::Started { handle, incoming, .. } = driver::spawn(setup)?;
        let dispatch = Arc::new(Dispatch::default());
        tokio::spawn(Arc::clone(&dispatch).run(incoming, lock));
        let node = Node { handle, id, dispatch };
        node.listens().await?;
        Ok(node)
    }
}

impl Node {
    async fn listens(&self) -> Result<(), Fault> {
        let listening = async {
            while self.handle.listening().await?.is_empty() {
                tokio::time::sleep(LISTEN_STEP).await;
            }
            Ok::<_, Fault>(())
        };
        let late = || Fault::new(Code::PortInUse, "the listener does not open; is there a network interface?");
        tokio::time::timeout(LISTEN_TIME, listening).await.unwrap_or_else(|_| Err(late()))
    }
}
