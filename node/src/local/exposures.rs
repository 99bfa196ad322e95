//! Which services this node offers to whom; kept in the store, so that they survive a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use overlay::id::NodeId;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::service::{Forward, ServiceName};
use crate::config::{Config, ServiceTable};
use crate::exit::{Code, Fault};
use crate::stack::Who;
use crate::store::{Store, senseless};

/// Where they are in the store; the stack never sees this key.
pub const STORE_KEY: &str = "node/exposures";

/// One service that is offered.
#[derive(Clone, PartialEq, Debug)]
pub struct Exposure {
    /// Where it is.
    pub forward: Forward,
    /// Who may use it.
    pub allow: Vec<Who>,
}

impl Exposure {
    fn allows(&self, node: NodeId) -> bool {
        self.allow.iter().any(|who| matches!(who, Who::Anyone) || *who == Who::Node(node))
    }
}

/// All of them.
pub struct Exposures {
    store: Arc<dyn Store>,
    typed: Mutex<BTreeMap<ServiceName, Exposure>>,
    configured: Mutex<BTreeMap<ServiceName, Exposure>>,
}

impl Exposures {
    /// What was typed in earlier runs (`stored`), and what the configuration offers.
    ///
    /// # Errors
    /// When the stored value cannot be read.
    pub fn open(store: Arc<dyn Store>, stored: Option<Zeroizing<Vec<u8>>>, config: &Config) -> Result<Self, Fault> {
        let rows: Vec<Row> = stored.map_or(Ok(Vec::new()), |bytes| serde_json::from_slice(&bytes)).map_err(damaged)?;
        let typed = rows.into_iter().map(Row::read).collect::<Result<_, _>>()?;
        Ok(Self { store, typed: Mutex::new(typed), configured: Mutex::new(in_file(config)?) })
    }

    /// Takes over what another configuration offers; the names that are not offered any more.
    ///
    /// # Errors
    /// When an `allow` list cannot be read; nothing has changed then.
    pub fn reconfigure(&self, config: &Config) -> Result<Vec<ServiceName>, Fault> {
        let next = in_file(config)?;
        let before = self.all();
        *lock(&self.configured) = next;
        let after = self.all();
        Ok(before.into_keys().filter(|name| !after.contains_key(name)).collect())
    }

    /// All that are offered at start; what was typed wins over the configuration.
    pub fn all(&self) -> BTreeMap<ServiceName, Exposure> {
        let mut all = lock(&self.configured).clone();
        all.extend(self.typed().clone());
        all
    }

    /// Keeps an exposure. Blocks for the disk.
    ///
    /// # Errors
    /// When it cannot be stored; nothing has changed then.
    pub fn put(&self, name: ServiceName, exposure: Exposure) -> Result<(), Fault> {
        self.change(|typed| _ = typed.insert(name, exposure))
    }

    /// Forgets one. Blocks for the disk.
    ///
    /// # Errors
    /// When that cannot be stored; nothing has changed then.
    pub fn remove(&self, name: &ServiceName) -> Result<(), Fault> {
        self.change(|typed| _ = typed.remove(name))
    }

    /// How `name` is offered, if it is, and `guest` may use it.
    pub fn open_to(&self, name: &ServiceName, guest: NodeId) -> Option<Exposure> {
        self.all().remove(name).filter(|exposure| exposure.allows(guest))
    }

    /// Lets `guest` use `name`, too, if that is offered: how it is offered then. Blocks for the disk.
    ///
    /// # Errors
    /// When that cannot be stored; nothing has changed then.
    pub fn admit(&self, name: &ServiceName, guest: NodeId) -> Result<Option<Exposure>, Fault> {
        let Some(mut exposure) = self.all().remove(name) else { return Ok(None) };
        if !exposure.allows(guest) {
            exposure.allow.push(Who::Node(guest));
            self.put(name.clone(), exposure.clone())?;
        }
        Ok(Some(exposure))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<ServiceName, Exposure>)) -> Result<(), Fault> {
        let mut typed = self.typed();
        let mut next = typed.clone();
        change(&mut next);
        let rows: Vec<Row> = next.iter().map(Row::write).collect();
        let bytes = if rows.is_empty() { Vec::new() } else { serde_json::to_vec(&rows).map_err(damaged)? };
        self.store.put(STORE_KEY, &bytes)?;
        *typed = next;
        Ok(())
    }

    fn typed(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Exposure>> {
        lock(&self.typed)
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn in_file(config: &Config) -> Result<BTreeMap<ServiceName, Exposure>, Fault> {
    let exposure = |(name, service): (&ServiceName, &ServiceTable)| {
        service.forward.check_service()?;
        let allow = config.who(&service.allow).map_err(|line| Fault::new(Code::Usage, line))?;
        Ok((name.clone(), Exposure { forward: service.forward.clone(), allow }))
    };
    config.services.iter().map(exposure).collect()
}

/// The stored form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    service: ServiceName,
    forward: Forward,
    anyone: bool,
    nodes: Vec<String>,
}

impl Row {
    fn write((service, exposure): (&ServiceName, &Exposure)) -> Self {
        let node = |who: &Who| match who {
            Who::Anyone => None,
            Who::Node(id) => Some(id.to_string()),
        };
        Self {
            service: service.clone(),
            forward: exposure.forward.clone(),
            anyone: exposure.allow.contains(&Who::Anyone),
            nodes: exposure.allow.iter().filter_map(node).collect(),
        }
    }

    fn read(self) -> Result<(ServiceName, Exposure), Fault> {
        let mut allow = Vec::new();
        if self.anyone {
            allow.push(Who::Anyone);
        }
        for node in &self.nodes {
            allow.push(Who::Node(node.parse().map_err(damaged)?));
        }
        Ok((self.service, Exposure { forward: self.forward, allow }))
    }
}

fn damaged(why: impl std::fmt::Display) -> Fault {
    Fault::new(Code::State, senseless(STORE_KEY, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DiskStore;

    #[test]
    fn they_survive_a_restart_and_win_over_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            Config::parse("[services.web]\nforward = 'h:1'\n[services.ssh]\nforward = 'h:2'\n", "c".as_ref()).unwrap();
        let store: Arc<dyn Store> = Arc::new(DiskStore::open(folder.path()).unwrap());
        let open = || {
            let stored = store.load().unwrap().remove(STORE_KEY);
            Exposures::open(Arc::clone(&store), stored, &config).unwrap()
        };
        let id = overlay::id::Identity::from_secret(&[1; 32]).id();
        let typed = Exposure { forward: "127.0.0.1:22".parse().unwrap(), allow: vec![Who::Anyone, Who::Node(id)] };
        open().put("ssh".parse().unwrap(), typed.clone()).unwrap();
        let again = open();
        assert_eq!(again.all().len(), 2);
        assert_eq!(again.all()[&"ssh".parse().unwrap()], typed);
        let guest = NodeId::from_bytes([2; 32]);
        assert_eq!(again.admit(&"web".parse().unwrap(), guest).unwrap().unwrap().allow, [Who::Node(guest)]);
        assert_eq!(open().all()[&"web".parse().unwrap()].allow, [Who::Node(guest)]);
        assert_eq!(again.admit(&"ssh".parse().unwrap(), guest).unwrap().unwrap().allow.len(), 2, "anyone was enough");
        assert!(again.admit(&"gone".parse().unwrap(), guest).unwrap().is_none());
        again.remove(&"ssh".parse().unwrap()).unwrap();
        assert_eq!(open().all()[&"ssh".parse().unwrap()].forward.as_str(), "h:2");
    }

    #[test]
    fn a_damaged_list_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(DiskStore::open(folder.path()).unwrap());
        let fault = Exposures::open(store, Some(b"[{}]".to_vec().into()), &Config::default()).err().unwrap();
        assert_eq!(fault.code, Code::State as u8);
    }
}
