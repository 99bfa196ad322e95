//! Grants of invites: whoever first proves to know the secret may use the services.
//!
//! The secret goes to the inviter in a stream of the session, so nobody on the way sees it: the guest opens the service
//! [`SERVICE`], writes the secret's 16 bytes and ends his direction; the answer is [`Answer`] in JSON. The inviter stores hashes of
//! secrets, never secrets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use overlay::id::NodeId;
use overlay::time::WallTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::service::ServiceName;
use crate::driver::Conn;
use crate::exit::{Code, Fault};
use crate::invite::{SECRET_BYTES, Secret};
use crate::store::{Store, parse};

/// The service at which secrets are taken. No person can offer a service of this name.
pub const SERVICE: &str = "~invite";
/// Where the grants are in the store; the stack never sees this key.
pub const STORE_KEY: &str = "node/invites";
/// What whoever first tells a secret gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The services.
    pub services: Vec<ServiceName>,
    /// Of a closed overlay's members, the right to admit others.
    pub may_invite: bool,
    /// For how many guests.
    pub uses: u32,
    /// Until when, in seconds since the Unix epoch.
    pub expires_unix_s: u64,
}

/// What a guest has got.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The services.
    pub services: Vec<ServiceName>,
    /// See [`Offer::may_invite`].
    pub may_invite: bool,
    /// These services were opened to the guest before: what the owner took back since then stays taken back.
    pub again: bool,
}

/// An invite that is not over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// The first [`ID_CHARS`] of the hash of its secret: tells invites apart, and opens nothing.
    pub id: String,
    /// What it is good for, with the uses that are left: none where all have come who can.
    pub offer: Offer,
    /// Who has come with it, ids.
    pub guests: Vec<String>,
}

/// What a guest comes for with a secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// To be a member of a closed overlay.
    Membership,
    /// The services.
    Services,
}

/// Characters in the id of an invite.
pub const ID_CHARS: usize = 8;
/// Most grants at one time.
const MAX_GRANTS: usize = 256;
/// Most guests by one invite.
pub const MAX_USES: u32 = 1000;
/// Longest answer that a guest reads, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// What the inviter says to a secret.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// These services are open to the guest now.
    Services(Vec<ServiceName>),
    /// No such grant, or it has expired, or is used up: the three look the same.
    Refused {},
}

/// All grants that this node gave and that are not over.
pub struct Grants {
    store: Arc<dyn Store>,
    /// By the hash of the secret: how long a search takes says nothing about secrets.
    rows: Mutex<BTreeMap<String, Row>>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    expires_unix_s: u64,
    uses_left: u32,
    services: Vec<ServiceName>,
    #[serde(default)]
    may_invite: bool,
    /// Who has used it: a guest who did not hear the answer asks again.
    guests: Vec<String>,
    /// To whom of them the services were opened.
    #[serde(default)]
    served: Vec<String>,
}

/// One invite among others.
#[derive(Clone, Debug)]
pub enum Which {
    /// By its id.
    Id(String),
    /// By itself.
    Secret(Secret),
}

impl Row {
    fn shown(&self, hash: &str) -> Open {
        let offer = Offer {
            services: self.services.clone(),
            may_invite: self.may_invite,
            uses: self.uses_left,
            expires_unix_s: self.expires_unix_s,
        };
        Open { id: id_of(hash), offer, guests: self.guests.clone() }
    }
}

impl Grants {
    /// Those of earlier runs.
    ///
    /// # Errors
    /// When the stored value cannot be read.
    pub fn open(store: Arc<dyn Store>, stored: Option<Zeroizing<Vec<u8>>>) -> Result<Self, Fault> {
        Ok(Self { store, rows: Mutex::new(parse(STORE_KEY, stored)?) })
    }

    /// Keeps a new grant; its id. Blocks for the disk.
    ///
    /// # Errors
    /// When there are too many, or it cannot be stored; nothing has changed then.
    pub fn give(&self, secret: &Secret, offer: Offer, now: WallTime) -> Result<String, Fault> {
        let mut rows = self.rows();
        let mut next = rows.clone();
        next.retain(|_, row| row.expires_unix_s > now.as_unix_secs());
        if next.len() >= MAX_GRANTS {
            let line = format!(
                "{MAX_GRANTS} invites with a secret are not over; take one back (muses invites), or wait for one to expire"
            );
            return Err(Fault::new(Code::Failed, line));
        }
        let Offer { services, may_invite, uses, expires_unix_s } = offer;
        let (guests, served) = (Vec::new(), Vec::new());
        let hash = hash_of(secret);
        let id = id_of(&hash);
        next.insert(hash, Row { expires_unix_s, uses_left: uses, services, may_invite, guests, served });
        self.keep(&mut rows, next)?;
        Ok(id)
    }

    /// Those that have not expired, the next to do so first. May wait for the disk, as others do.
    pub fn all(&self, now: WallTime) -> Vec<Open> {
        let rows = self.rows();
        let good = rows.iter().filter(|(_, row)| row.expires_unix_s > now.as_unix_secs());
        let mut open: Vec<Open> = good.map(|(hash, row)| row.shown(hash)).collect();
        open.sort_by_key(|one| one.offer.expires_unix_s);
        open
    }

    /// Nobody new comes with the invite of this id, or with this secret, from now on; it as it was. None when there is no such invite. Blocks for the disk.
    ///
    /// # Errors
    /// When that cannot be stored; nothing has changed then.
    pub fn withdraw(&self, which: &Which) -> Result<Option<Open>, Fault> {
        let mut rows = self.rows();
        let mut next = rows.clone();
        let is_meant = |hash: &str| match which {
            Which::Id(id) => id_of(hash) == *id,
            Which::Secret(secret) => hash == hash_of(secret),
        };
        let Some((hash, row)) = next.extract_if(.., |hash, _| is_meant(hash)).next() else { return Ok(None) };
        self.keep(&mut rows, next)?;
        Ok(Some(row.shown(&hash)))
    }

    /// Whether anybody may come with a secret.
    pub fn any(&self) -> bool {
        !self.rows().is_empty()
    }

    /// `guest` knows `secret`: what it may use now; none for a secret that is good for nothing (any more). Blocks for the disk.
    ///
    /// # Errors
    /// When the use cannot be stored; nothing has changed then.
    pub fn redeem(&self, secret: &Secret, guest: NodeId, wish: Wish, now: WallTime) -> Result<Option<Opened>, Fault> {
        self.redeem_by(secret, guest, wish, now, |_, row| self.store.write(&[row]).map_err(Fault::from))
    }

    /// The same; `store` puts the row that it gets into the store, and with it what else depends on this use. It is not asked where nothing changes.
    ///
    /// # Errors
    /// What `store` says; nothing has changed then.
    pub fn redeem_by(
        &self,
        secret: &Secret,
        guest: NodeId,
        wish: Wish,
        now: WallTime,
        store: impl FnOnce(&Opened, (&str, &[u8])) -> Result<(), Fault>,
    ) -> Result<Option<Opened>, Fault> {
        let mut rows = self.rows();
        let mut next = rows.clone();
        let Some(row) = next.get_mut(&hash_of(secret)).filter(|row| row.expires_unix_s > now.as_unix_secs()) else {
            return Ok(None);
        };
        let name = guest.to_string();
        let again = row.served.contains(&name);
        let opened = Opened { services: row.services.clone(), may_invite: row.may_invite, again };
        let (known, wants_services) = (row.guests.contains(&name), wish == Wish::Services);
        if known && (again || !wants_services) {
            return Ok(Some(opened));
        }
        if !known {
            let Some(left) = row.uses_left.checked_sub(1) else { return Ok(None) };
            row.uses_left = left;
            row.guests.push(name.clone());
        }
        if wants_services {
            row.served.push(name);
        }
        let bytes = to_bytes(&next)?;
        store(&opened, (STORE_KEY, bytes.as_slice()))?;
        *rows = next;
        Ok(Some(opened))
    }

    fn keep(&self, rows: &mut BTreeMap<String, Row>, next: BTreeMap<String, Row>) -> Result<(), Fault> {
        self.store.put(STORE_KEY, &to_bytes(&next)?)?;
        *rows = next;
        Ok(())
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<String, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_bytes(rows: &BTreeMap<String, Row>) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(rows).map_err(|error| Fault::new(Code::Failed, error.to_string()))
}

/// The secret that a guest sends; none when it is something else.
pub async fn read_secret(conn: &Conn) -> Option<Secret> {
    let bytes = conn.read_to_end(SECRET_BYTES).await?;
    bytes.try_into().map(Secret).ok()
}

/// The guest's side: what `secret` opens.
///
/// # Errors
/// [`Code::Refused`] when it opens nothing, [`Code::Failed`] when the connection broke.
pub async fn ask(conn: &Conn, secret: &Secret) -> Result<Vec<ServiceName>, Fault> {
    conn.write_all(secret.0.to_vec()).await?;
    conn.finish();
    let broke = || Fault::new(Code::Failed, "the inviter did not answer to the invite");
    let answer = conn.read_to_end(MAX_ANSWER_BYTES).await.ok_or_else(broke)?;
    match serde_json::from_slice(&answer).map_err(|_| broke())? {
        Answer::Services(services) => Ok(services),
        Answer::Refused {} => Err(Fault::new(
            Code::Refused,
            "the invite's services were given away already, or it has expired; ask for a new one",
        )),
    }
}

/// Whether `text` can be the id of an invite.
pub fn is_id(text: &str) -> bool {
    text.len() == ID_CHARS && text.chars().all(|c| c.is_ascii_hexdigit())
}

fn id_of(hash: &str) -> String {
    hash.chars().take(ID_CHARS).collect()
}

fn hash_of(secret: &Secret) -> String {
    Sha256::digest(secret.0).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DiskStore, STATE_FILE};

    fn at(unix_s: u64) -> WallTime {
        WallTime::from_unix_micros(unix_s * 1_000_000)
    }

    fn offer(uses: u32, expires_unix_s: u64) -> Offer {
        Offer { services: Vec::new(), may_invite: false, uses, expires_unix_s }
    }

    #[test]
    fn a_grant_is_used_as_often_as_was_said_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(DiskStore::open(folder.path()).unwrap());
        let open = || {
            let stored = store.load().unwrap().remove(STORE_KEY);
            Grants::open(Arc::clone(&store), stored).unwrap()
        };
        let (secret, guest) = (Secret([7; SECRET_BYTES]), |n| NodeId::from_bytes([n; 32]));
        let services: Vec<ServiceName> = vec!["web".parse().unwrap()];
        open().give(&secret, Offer { services: services.clone(), ..offer(2, 100) }, at(0)).unwrap();
        let services = Opened { services, may_invite: false, again: false };
        let grants = open();
        assert_eq!(
            grants.redeem(&Secret([8; SECRET_BYTES]), guest(1), Wish::Services, at(1)).unwrap(),
            None,
            "a wrong secret"
        );
        assert_eq!(grants.redeem(&secret, guest(1), Wish::Services, at(1)).unwrap(), Some(services.clone()));
        let again = Opened { again: true, ..services.clone() };
        assert_eq!(grants.redeem(&secret, guest(1), Wish::Services, at(1)).unwrap(), Some(again));
        let admitted = open().redeem(&secret, guest(2), Wish::Membership, at(50)).unwrap();
        assert_eq!(admitted, Some(services.clone()), "a member, whose services are still to be opened");
        assert_eq!(open().redeem(&secret, guest(2), Wish::Services, at(99)).unwrap(), Some(services));
        assert_eq!(open().redeem(&secret, guest(3), Wish::Services, at(99)).unwrap(), None, "used up");
        assert_eq!(open().redeem(&secret, guest(2), Wish::Services, at(100)).unwrap(), None, "expired");
        let stored = std::fs::read(folder.path().join(STATE_FILE)).unwrap();
        assert!(!stored.windows(4).any(|bytes| bytes == [7; 4]), "the secret is on disk");
    }

    #[test]
    fn an_invite_is_listed_until_it_is_over_and_can_be_withdrawn() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(DiskStore::open(folder.path()).unwrap());
        let grants = Grants::open(Arc::clone(&store), None).unwrap();
        let (secret, guest) = (|n| Secret([n; SECRET_BYTES]), |n| NodeId::from_bytes([n; 32]));
        let late = grants.give(&secret(1), offer(2, 200), at(0)).unwrap();
        let soon = grants.give(&secret(2), offer(1, 100), at(0)).unwrap();
        let listed = |now| grants.all(at(now)).into_iter().map(|open| open.id).collect::<Vec<_>>();
        assert_eq!((listed(99), listed(100)), (vec![soon.clone(), late.clone()], vec![late.clone()]));
        grants.redeem(&secret(1), guest(1), Wish::Services, at(1)).unwrap().unwrap();
        grants.redeem(&secret(2), guest(1), Wish::Services, at(1)).unwrap().unwrap();
        let left: Vec<u32> = grants.all(at(1)).into_iter().map(|open| open.offer.uses).collect();
        assert_eq!(left, [0, 1], "who came with one that is used up is of interest, too");
        assert_eq!(grants.all(at(1))[0].guests, [guest(1).to_string()]);
        assert!(is_id(&late) && !is_id("") && !is_id("0000000g") && !is_id("000000000"));
        assert_eq!(grants.withdraw(&Which::Id("00000000".into())).unwrap(), None);
        assert_eq!(grants.withdraw(&Which::Id(late.clone())).unwrap().unwrap().offer.uses, 1);
        assert_eq!(grants.withdraw(&Which::Secret(secret(2))).unwrap().unwrap().id, soon);
        let stored = store.load().unwrap().remove(STORE_KEY);
        let again = Grants::open(store, stored).unwrap();
        assert_eq!(again.redeem(&secret(1), guest(2), Wish::Services, at(1)).unwrap(), None);
        assert_eq!(again.redeem(&secret(1), guest(1), Wish::Services, at(1)).unwrap(), None, "who came has it already");
    }

    #[test]
    fn old_grants_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let grants = Grants::open(Arc::new(DiskStore::open(folder.path()).unwrap()), None).unwrap();
        for n in 0..MAX_GRANTS {
            let secret = Secret([u8::try_from(n).unwrap(); SECRET_BYTES]);
            grants.give(&secret, offer(1, 100), at(0)).unwrap();
        }
        let one_more = |now| grants.give(&Secret([0xaa; SECRET_BYTES]), offer(1, 200), now);
        assert!(one_more(at(99)).is_err());
        assert!(one_more(at(100)).is_ok());
        assert_eq!(grants.rows().len(), 1);
    }
}
