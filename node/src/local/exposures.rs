//! Which services this node offers to whom; kept in the store, so that they survive a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use overlay::id::NodeId;
use zeroize::Zeroizing;

use super::service::{Forward, ServiceName};
use crate::config::{Config, ServiceTable};
use crate::exit::{Code, Fault};
use crate::stack::Who;
use crate::store::Store;

mod stored;

use stored::Stored;

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
    /// Held by whoever changes something, for as long as the disk takes.
    changing: Mutex<()>,
    /// Held for moments only: the node's one thread looks here.
    now: Mutex<State>,
}

#[derive(Clone)]
struct State {
    configured: BTreeMap<ServiceName, Exposure>,
    kept: Kept,
}

/// What survives a restart. What the configuration says is not in it: there it can be changed.
#[derive(Clone, Default, PartialEq)]
struct Kept {
    typed: BTreeMap<ServiceName, Exposure>,
    /// Who came with an invite, beside those whom the file or whoever typed it allows.
    guests: BTreeMap<ServiceName, BTreeSet<NodeId>>,
    /// In the configuration, and not to be offered all the same.
    withdrawn: BTreeSet<ServiceName>,
}

impl Exposures {
    /// What is kept of earlier runs (`stored`), and what the configuration offers.
    ///
    /// # Errors
    /// When the stored value cannot be read.
    pub fn open(store: Arc<dyn Store>, stored: Option<Zeroizing<Vec<u8>>>, config: &Config) -> Result<Self, Fault> {
        let kept = stored.map_or(Ok(Kept::default()), |bytes| Stored::parse(&bytes)?.read())?;
        Ok(Self { store, changing: Mutex::default(), now: Mutex::new(State { configured: in_file(config)?, kept }) })
    }

    /// Takes over what another configuration offers; the names that are not offered any more. Blocks for the disk.
    ///
    /// # Errors
    /// When an `allow` list cannot be read, or the disk is full; nothing has changed then.
    pub fn reconfigure(&self, config: &Config) -> Result<Vec<ServiceName>, Fault> {
        let next = in_file(config)?;
        let before = self.all();
        self.change(|now| {
            now.configured = next;
            now.forget_gone();
        })?;
        let after = self.all();
        Ok(before.into_keys().filter(|name| !after.contains_key(name)).collect())
    }

    /// Forgets guests of services that are gone, and what was said about these. Blocks for the disk.
    ///
    /// # Errors
    /// When that cannot be stored; nothing has changed then.
    pub fn forget_gone(&self) -> Result<(), Fault> {
        self.change(State::forget_gone)
    }

    /// All that are offered; what was typed wins over the configuration.
    pub fn all(&self) -> BTreeMap<ServiceName, Exposure> {
        self.now().offered()
    }

    /// Keeps an exposure, as it was typed: for nobody who is not in its list, guests neither. Blocks for the disk.
    ///
    /// # Errors
    /// When it cannot be stored; nothing has changed then.
    pub fn put(&self, name: ServiceName, exposure: Exposure) -> Result<(), Fault> {
        self.change(|now| {
            now.kept.forget(&name);
            now.kept.typed.insert(name, exposure);
        })
    }

    /// Offers one no longer, whatever the configuration says, until it is typed again or gone from the file. Blocks for the disk.
    ///
    /// # Errors
    /// When that cannot be stored; nothing has changed then.
    pub fn remove(&self, name: &ServiceName) -> Result<(), Fault> {
        self.change(|now| {
            now.kept.forget(name);
            if now.configured.contains_key(name) {
                now.kept.withdrawn.insert(name.clone());
            }
        })
    }

    /// How `name` is offered, if it is.
    pub fn one(&self, name: &ServiceName) -> Option<Exposure> {
        self.all().remove(name)
    }

    /// Whether `guest` may use `name`.
    pub fn is_open_to(&self, name: &ServiceName, guest: NodeId) -> bool {
        self.one(name).is_some_and(|exposure| exposure.allows(guest))
    }

    /// Lets `guest` use those of `names`, too, that are offered: which these are. `beside`, a value of another key, is stored in the same write. Blocks for
    /// the disk.
    ///
    /// # Errors
    /// When that cannot be stored; nothing has changed then, and `beside` is not stored either.
    pub fn admit(
        &self,
        names: &[ServiceName],
        guest: NodeId,
        beside: (&str, &[u8]),
    ) -> Result<Vec<ServiceName>, Fault> {
        let mut opened = Vec::new();
        // Looked at alone: one may be taken away at this moment.
        self.change_beside(&[beside], |now| {
            let offered = now.offered();
            for name in names {
                // What is no longer offered is not offered by an old invite either.
                let Some(exposure) = offered.get(name) else { continue };
                if !exposure.allows(guest) {
                    now.kept.guests.entry(name.clone()).or_default().insert(guest);
                }
                opened.push(name.clone());
            }
        })?;
        Ok(opened)
    }

    fn change(&self, change: impl FnOnce(&mut State)) -> Result<(), Fault> {
        self.change_beside(&[], change)
    }

    /// The rows `beside` are stored with it.
    fn change_beside(&self, beside: &[(&str, &[u8])], change: impl FnOnce(&mut State)) -> Result<(), Fault> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.now().clone();
        let mut next = before.clone();
        change(&mut next);
        let kept = (next.kept != before.kept).then(|| Stored::write(&next.kept)).transpose()?;
        let own = kept.iter().map(|bytes| (STORE_KEY, bytes.as_slice()));
        let batch: Vec<(&str, &[u8])> = own.chain(beside.iter().copied()).collect();
        if !batch.is_empty() {
            self.store.write(&batch)?;
        }
        *self.now() = next;
        Ok(())
    }

    fn now(&self) -> MutexGuard<'_, State> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn offered(&self) -> BTreeMap<ServiceName, Exposure> {
        let Kept { typed, guests, withdrawn } = &self.kept;
        let mut offered = self.configured.clone();
        offered.retain(|name, _| !withdrawn.contains(name));
        offered.extend(typed.clone());
        for (name, exposure) in &mut offered {
            for guest in guests.get(name).into_iter().flatten() {
                if !exposure.allows(*guest) {
                    exposure.allow.push(Who::Node(*guest));
                }
            }
        }
        offered
    }

    /// Another service may have the name of one that is gone, later: that one's guests have no business there.
    fn forget_gone(&mut self) {
        let Self { configured, kept: Kept { typed, guests, withdrawn } } = self;
        guests.retain(|name, _| configured.contains_key(name) || typed.contains_key(name));
        withdrawn.retain(|name| configured.contains_key(name));
    }
}

impl Kept {
    fn forget(&mut self, name: &ServiceName) {
        self.typed.remove(name);
        self.guests.remove(name);
        self.withdrawn.remove(name);
    }
}

fn in_file(config: &Config) -> Result<BTreeMap<ServiceName, Exposure>, Fault> {
    let exposure = |(name, service): (&ServiceName, &ServiceTable)| {
        service.forward.check_service()?;
        let allow = config.who(&service.allow).map_err(|line| Fault::new(Code::Usage, line))?;
        Ok((name.clone(), Exposure { forward: service.forward.clone(), allow }))
    };
    config.services.iter().map(exposure).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::store::{DiskStore, StoreError};

    const WEB: &str = "[services.web]\nforward = 'h:1'\nallow = []\n";

    /// A store, and what is offered at the start of a run with it.
    struct Runs {
        _folder: tempfile::TempDir,
        store: Arc<dyn Store>,
    }

    impl Runs {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Arc::new(DiskStore::open(folder.path()).unwrap());
            Self { _folder: folder, store }
        }

        fn open(&self, config: &str) -> Exposures {
            let stored = self.store.load().unwrap().remove(STORE_KEY);
            let exposures = Exposures::open(Arc::clone(&self.store), stored, &parsed(config)).unwrap();
            exposures.forget_gone().unwrap();
            exposures
        }
    }

    fn parsed(config: &str) -> Config {
        Config::parse(config, "c".as_ref()).unwrap()
    }

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    fn guest() -> NodeId {
        NodeId::from_bytes([2; 32])
    }

    /// Lets the guest in; whether the service is offered.
    fn admit(exposures: &Exposures, name: &ServiceName) -> bool {
        exposures.admit(std::slice::from_ref(name), guest(), ("other", b"x")).unwrap() == [name.clone()]
    }

    #[test]
    fn they_survive_a_restart_and_win_over_the_configuration() {
        let runs = Runs::new();
        let config = &format!("{WEB}[services.ssh]\nforward = 'h:2'\n");
        let (ssh, web) = (name("ssh"), name("web"));
        let id = overlay::id::Identity::from_secret(&[1; 32]).id();
        let typed = Exposure { forward: "127.0.0.1:22".parse().unwrap(), allow: vec![Who::Anyone, Who::Node(id)] };
        runs.open(config).put(ssh.clone(), typed.clone()).unwrap();
        let again = runs.open(config);
        assert_eq!(again.all().len(), 2);
        assert_eq!(again.all()[&ssh], typed);
        assert!(admit(&again, &web));
        assert_eq!(runs.open(config).all()[&web].allow, [Who::Node(guest())]);
        assert!(admit(&again, &ssh));
        assert_eq!(again.all()[&ssh].allow.len(), 2, "anyone was enough");
        assert!(!admit(&again, &name("gone")));
    }

    #[test]
    fn a_guest_is_added_to_whatever_the_file_says() {
        let runs = Runs::new();
        let web = name("web");
        let friend = NodeId::from_bytes([3; 32]);
        let exposures = runs.open(&format!("[services.web]\nforward = 'h:1'\nallow = ['{friend}']\n"));
        assert!(admit(&exposures, &web));
        assert_eq!(exposures.all()[&web].allow, [Who::Node(friend), Who::Node(guest())]);
        let moved = &WEB.replace("h:1", "h:9");
        assert!(exposures.reconfigure(&parsed(moved)).unwrap().is_empty());
        let offered = Exposure { forward: "h:9".parse().unwrap(), allow: vec![Who::Node(guest())] };
        assert_eq!(exposures.all()[&web], offered);
        assert_eq!(runs.open(moved).all()[&web], offered);
        assert_eq!(exposures.reconfigure(&parsed("")).unwrap(), [name("web")]);
        assert!(exposures.all().is_empty() && runs.open("").all().is_empty());
        assert_eq!(runs.open(WEB).all()[&web].allow, [], "another service may have the name later");
    }

    #[test]
    fn what_is_not_offered_any_more_stays_away() {
        let runs = Runs::new();
        let web = name("web");
        let exposures = runs.open(WEB);
        assert!(admit(&exposures, &web));
        exposures.remove(&web).unwrap();
        assert!(exposures.reconfigure(&parsed(WEB)).unwrap().is_empty());
        assert!(exposures.all().is_empty() && runs.open(WEB).all().is_empty());
        assert!(!admit(&exposures, &web), "an old invite");
        // Typed again, it is there for whom that says.
        let typed = Exposure { forward: "h:3".parse().unwrap(), allow: Vec::new() };
        exposures.put(web.clone(), typed.clone()).unwrap();
        assert_eq!(runs.open(WEB).all()[&web], typed);
        exposures.remove(&web).unwrap();
        assert!(runs.open(WEB).all().is_empty(), "nor does the file's come back");
        // Whoever takes it out of the file and writes it there anew means it.
        exposures.reconfigure(&parsed("")).unwrap();
        exposures.reconfigure(&parsed(WEB)).unwrap();
        assert_eq!(exposures.all()[&web].forward.as_str(), "h:1");
        assert!(runs.open(WEB).all().contains_key(&web));
    }

    #[test]
    fn what_earlier_versions_stored_is_read() {
        let runs = Runs::new();
        let old = format!(r#"[{{"service":"web","forward":"h:4","anyone":false,"nodes":["{}"]}}]"#, guest());
        runs.store.put(STORE_KEY, old.as_bytes()).unwrap();
        let exposures = runs.open("");
        assert_eq!(exposures.all()[&name("web")].allow, [Who::Node(guest())]);
        exposures.remove(&name("web")).unwrap();
        assert!(!runs.store.load().unwrap().contains_key(STORE_KEY));
    }

    /// A disk that takes its time.
    struct Slow {
        begun: mpsc::Sender<()>,
        go_on: Mutex<mpsc::Receiver<()>>,
    }

    impl Store for Slow {
        fn load(&self) -> Result<overlay::io::Snapshot, StoreError> {
            Ok(overlay::io::Snapshot::new())
        }

        fn write(&self, _: &[(&str, &[u8])]) -> Result<(), StoreError> {
            let _ = self.begun.send(());
            let _ = self.go_on.lock().unwrap().recv();
            Ok(())
        }
    }

    #[test]
    fn nobody_who_looks_waits_for_the_disk() {
        let ((begun, beginning), (go_on, going_on)) = (mpsc::channel(), mpsc::channel());
        let store = Slow { begun, go_on: Mutex::new(going_on) };
        let exposures = Arc::new(Exposures::open(Arc::new(store), None, &parsed(WEB)).unwrap());
        let (ssh, typed) = (name("ssh"), Exposure { forward: "h:2".parse().unwrap(), allow: Vec::new() });
        let writer = Arc::clone(&exposures);
        let writing = std::thread::spawn(move || writer.put(ssh, typed));
        beginning.recv().unwrap();
        let (told, hears) = mpsc::channel();
        let reader = Arc::clone(&exposures);
        // Not joined: it would hang for good.
        std::thread::spawn(move || told.send(reader.all().len()));
        assert_eq!(hears.recv_timeout(std::time::Duration::from_secs(30)), Ok(1), "what is not stored is not offered");
        drop(go_on);
        writing.join().unwrap().unwrap();
        assert_eq!(exposures.all().len(), 2);
    }

    #[test]
    fn a_damaged_list_is_one_line() {
        for damaged in ["[{}]", "{}", "x"] {
            let store = Runs::new().store;
            let stored = Some(damaged.as_bytes().to_vec().into());
            let fault = Exposures::open(store, stored, &Config::default()).err().unwrap();
            assert_eq!(fault.code, Code::State as u8);
            assert!(!fault.message.contains('\n'), "{fault}");
        }
    }
}
