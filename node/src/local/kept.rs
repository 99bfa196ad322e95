//! Local ports that each start of the node makes anew: `muses connect --keep` says which, `muses disconnect` ends it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::service::{Forward, Target};
use crate::exit::{Code, Fault};
use crate::store::{Store, parse};

/// Where they are in the store; the stack never sees this key.
pub const STORE_KEY: &str = "node/ports";
/// Most of them.
const MAX_KEPT: usize = 256;

/// One port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Where it is.
    pub listen: Forward,
    /// Where it leads.
    pub target: Target,
    /// Whether it serves programs of this user alone.
    #[serde(default)]
    pub only_me: bool,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.listen, self.target)
    }
}

/// Ports that are kept no longer.
#[derive(Debug)]
pub struct Forgotten {
    /// Which these were.
    pub ports: Vec<Kept>,
    /// Whether that survives the end of the process.
    pub stored: Result<(), Fault>,
}

/// All of them.
pub struct KeptPorts {
    store: Arc<dyn Store>,
    /// Held by whoever changes something, for as long as the disk takes.
    changing: Mutex<()>,
    /// Held for moments only: the node's one thread looks here.
    now: Mutex<Vec<Kept>>,
}

impl KeptPorts {
    /// Those of earlier runs.
    ///
    /// # Errors
    /// When the stored value cannot be read.
    pub fn open(store: Arc<dyn Store>, stored: Option<Zeroizing<Vec<u8>>>) -> Result<Self, Fault> {
        Ok(Self { store, changing: Mutex::default(), now: Mutex::new(parse(STORE_KEY, stored)?) })
    }

    /// Those that are kept now.
    pub fn all(&self) -> Vec<Kept> {
        self.now().clone()
    }

    /// Keeps one, in the place of what was kept there before. Blocks for the disk.
    ///
    /// # Errors
    /// When there are too many, or it cannot be stored; nothing has changed then.
    pub fn keep(&self, port: Kept) -> Result<(), Fault> {
        let _alone = self.changing();
        let mut next = self.all();
        next.retain(|other| other.listen != port.listen);
        next.push(port);
        if next.len() > MAX_KEPT {
            let line = format!("{MAX_KEPT} ports are kept; close one first: muses disconnect HOST:PORT");
            return Err(Fault::new(Code::Failed, line));
        }
        self.store(&next)?;
        *self.now() = next;
        Ok(())
    }

    /// Keeps those no longer for which `is_over` holds: at least until the end of the process, for who closes a port wants it closed whatever the disk's
    /// state is. Blocks for the disk.
    pub fn forget(&self, is_over: impl Fn(&Kept) -> bool) -> Forgotten {
        let _alone = self.changing();
        let ports: Vec<Kept> = self.now().extract_if(.., |port| is_over(port)).collect();
        let stored = if ports.is_empty() { Ok(()) } else { self.store(&self.all()) };
        Forgotten { ports, stored }
    }

    fn store(&self, ports: &[Kept]) -> Result<(), Fault> {
        // No bytes for nothing, which deletes the value.
        let bytes = if ports.is_empty() { Ok(Vec::new()) } else { serde_json::to_vec(ports) };
        let bytes = bytes.map_err(|error| Fault::new(Code::Failed, error.to_string()))?;
        Ok(self.store.put(STORE_KEY, &bytes)?)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use overlay::io::Snapshot;

    use super::*;
    use crate::store::{DiskStore, StoreError};

    fn port(listen: &str, target: &str) -> Kept {
        Kept { listen: listen.parse().unwrap(), target: target.parse().unwrap(), only_me: listen.ends_with('1') }
    }

    #[test]
    fn they_survive_a_restart_until_they_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(DiskStore::open(folder.path()).unwrap());
        let open = || {
            let stored = store.load().unwrap().remove(STORE_KEY);
            KeptPorts::open(Arc::clone(&store), stored).unwrap()
        };
        let (db, web) = (port("127.0.0.1:1", "alice/db"), port("unix:/s", "alice/web"));
        open().keep(port("127.0.0.1:1", "bob/db")).unwrap();
        open().keep(web.clone()).unwrap();
        open().keep(db.clone()).unwrap();
        assert_eq!(open().all(), [web.clone(), db.clone()], "one port is one service's");
        assert_eq!(open().forget(|kept| kept.target == web.target).ports, [web]);
        assert!(open().all() == [db.clone()] && db.only_me);
        assert_eq!(open().forget(|_| true).ports.len(), 1);
        assert!(!store.load().unwrap().contains_key(STORE_KEY));
        assert!(KeptPorts::open(Arc::clone(&store), Some(b"[{}]".to_vec().into())).is_err());
    }

    #[test]
    fn what_is_forgotten_on_a_full_disk_is_forgotten_until_the_end_of_the_process() {
        struct Full;
        impl Store for Full {
            fn load(&self) -> Result<Snapshot, StoreError> {
                Ok(Snapshot::new())
            }
            fn write(&self, _: &[(&str, &[u8])]) -> Result<(), StoreError> {
                Err(StoreError::Unstorable("full".into()))
            }
        }
        let db = port("127.0.0.1:1", "alice/db");
        let stored = serde_json::to_vec(std::slice::from_ref(&db)).unwrap();
        let kept = KeptPorts::open(Arc::new(Full), Some(stored.into())).unwrap();
        assert!(kept.keep(port("127.0.0.1:2", "alice/db")).is_err());
        assert_eq!(kept.all(), std::slice::from_ref(&db));
        let forgotten = kept.forget(|_| true);
        assert!(forgotten.ports == [db] && forgotten.stored.is_err() && kept.all().is_empty());
    }

    #[test]
    fn there_are_not_too_many() {
        let kept = KeptPorts::open(Arc::new(crate::store::Nowhere), None).unwrap();
        let at = |n: usize| port(&format!("127.0.0.1:{}", n + 1), "alice/db");
        (0..MAX_KEPT).for_each(|n| kept.keep(at(n)).unwrap());
        assert!(kept.keep(at(MAX_KEPT)).unwrap_err().message.contains("disconnect"));
        assert!(kept.keep(at(0)).is_ok());
        assert_eq!(kept.all().len(), MAX_KEPT);
    }
}
