//! A guest comes for the services of an invite.

use overlay::id::NodeId;
use overlay::time::WallTime;

use super::exposures::Exposures;
use super::invites::{Grants, Opened, Wish};
use super::service::ServiceName;
use crate::exit::Fault;
use crate::invite::Secret;

/// The services that are open to `guest` now, who knows `secret`; none for a secret that is good for nothing (any more). Both work on one store. Blocks for
/// the disk.
///
/// That the invite was used, and what that opens, is stored in one write. In two, a crash or a full disk between them would use the invite up and open
/// nothing; the other way round, it would open what nobody has counted. So who comes again finds nothing half done, and only hears what is
/// open to him still: what the owner took back since then is not given a second time.
///
/// # Errors
/// When it cannot be stored; nothing has changed then.
pub fn admit(
    grants: &Grants,
    exposures: &Exposures,
    secret: &Secret,
    guest: NodeId,
    now: WallTime,
) -> Result<Option<Vec<ServiceName>>, Fault> {
    let mut opened = None;
    let redeemed = grants.redeem_by(secret, guest, Wish::Services, now, |Opened { services, .. }, used| {
        opened = Some(exposures.admit(services, guest, used)?);
        Ok(())
    })?;
    let Some(Opened { services, .. }) = redeemed else { return Ok(None) };
    let still_open = || services.into_iter().filter(|service| exposures.is_open_to(service, guest)).collect();
    Ok(Some(opened.unwrap_or_else(still_open)))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use overlay::io::Snapshot;

    use super::super::exposures::{self, Exposure};
    use super::super::invites::{self, Offer};
    use super::*;
    use crate::config::Config;
    use crate::invite::SECRET_BYTES;
    use crate::store::{DiskStore, Store, StoreError};

    const SECRET: Secret = Secret([7; SECRET_BYTES]);

    /// A disk that takes so many writes more, and then is full.
    struct Disk {
        store: DiskStore,
        room: Mutex<usize>,
    }

    impl Store for Disk {
        fn load(&self) -> Result<Snapshot, StoreError> {
            self.store.load()
        }

        fn write(&self, batch: &[(&str, &[u8])]) -> Result<(), StoreError> {
            let mut room = self.room.lock().unwrap();
            *room = room.checked_sub(1).ok_or_else(|| StoreError::Unstorable("full".to_owned()))?;
            self.store.write(batch)
        }
    }

    /// Who has an invite to two services, for one guest.
    struct Host {
        _folder: tempfile::TempDir,
        disk: Arc<Disk>,
        grants: Grants,
        exposures: Exposures,
    }

    impl Host {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = DiskStore::open(folder.path()).unwrap();
            let disk = Arc::new(Disk { store, room: Mutex::new(usize::MAX) });
            let (grants, exposures) = start(&disk);
            let offer = Offer { services: both(), may_invite: false, uses: 1, expires_unix_s: 100 };
            grants.give(&SECRET, offer, WallTime::default()).unwrap();
            Self { _folder: folder, disk, grants, exposures }
        }

        fn admit(&self, guest: u8) -> Result<Option<Vec<ServiceName>>, Fault> {
            admit(&self.grants, &self.exposures, &SECRET, id(guest), WallTime::default())
        }
    }

    /// What a node that starts finds.
    fn start(disk: &Arc<Disk>) -> (Grants, Exposures) {
        let store: Arc<dyn Store> = Arc::<Disk>::clone(disk);
        let mut stored = store.load().unwrap();
        let config = Config::parse(
            "[services.web]\nforward = 'h:1'\nallow = []\n[services.ssh]\nforward = 'h:2'\nallow = []\n",
            "c".as_ref(),
        );
        let grants = Grants::open(Arc::clone(&store), stored.remove(invites::STORE_KEY)).unwrap();
        let exposures = Exposures::open(store, stored.remove(exposures::STORE_KEY), &config.unwrap()).unwrap();
        (grants, exposures)
    }

    fn both() -> Vec<ServiceName> {
        ["ssh", "web"].map(|name| name.parse().unwrap()).to_vec()
    }

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    #[test]
    fn who_came_when_the_disk_was_full_gets_all_when_he_comes_again() {
        for room in 0..4 {
            let mut host = Host::new();
            *host.disk.room.lock().unwrap() = room;
            let first = host.admit(1);
            assert_eq!(first.is_ok(), room > 0, "{room}: it takes more than one write");
            *host.disk.room.lock().unwrap() = usize::MAX;
            // As after a crash: what was not stored is not known any more.
            (host.grants, host.exposures) = start(&host.disk);
            assert_eq!(host.admit(1).unwrap(), Some(both()), "after room for {room} writes");
            assert!(both().iter().all(|service| host.exposures.is_open_to(service, id(1))));
            assert_eq!(host.admit(2).unwrap(), None, "it was for one guest");
        }
    }

    #[test]
    fn who_comes_again_does_not_get_what_was_taken_back() {
        let host = Host::new();
        assert_eq!(host.admit(1).unwrap(), Some(both()));
        let [ssh, web] = [0, 1].map(|at| both().swap_remove(at));
        host.exposures.put(web.clone(), Exposure { forward: "h:1".parse().unwrap(), allow: Vec::new() }).unwrap();
        assert_eq!(host.admit(1).unwrap(), Some(vec![ssh]));
        assert!(!host.exposures.is_open_to(&web, id(1)));
    }
}
