//! What a session keeps secret: SessID and label, the resume secret RS and its ratchet, reset tokens.
//!
//! RS is a ladder. Every resume derives the keys of its epoch from one rung and two nonces, and the next rung from the same;
//! no packet key is ever stored. After a resume the rungs before are kept, because the peer may not know yet:
//! - who *answered* a Re-Hello climbs when the first packet under the new epoch arrives, and keeps the old rungs for 10 minutes;
//! - who *sent* it climbs on the answer, and keeps the old rungs until a packet under the new epoch arrives
//!   ([`Secrets::settle`]), however long that takes, and 10 minutes more.
//!
//! Once a day the two mix a fresh secret into the ladder (`session/refresh.rs`), so that whoever has stolen a rung is left behind: who *answered*
//! climbs when it is told that the other has, and both keep the rungs before as above.
//!
//! One rung before the present one is not enough. Whoever asks twice, and goes on with the second answer, which began from the rung below as the first did, does
//! not know whether the first packet under the first answer still arrives, late: then the peer stands on a rung that this end has left. So up to
//! [`MAX_RUNGS`] are kept, and a Re-Hello proves all of them. In random walks of two ends with messages in any order, lost, late and repeated, restarts and
//! refreshes, the two had always one in common with three rungs and with four; with two, one walk in thirty of 60 steps came to an end without.

use core::time::Duration;

use overlay::codec::{Decode, Encode};
use overlay::id::NodeId;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::cipher::Cipher;
use crate::content::{LABEL_BYTES, Label, PARTIAL_ID_BYTES, SESSION_ID_BYTES, id_in_partial};
use crate::dh::PublicKey;
use crate::kdf::{self, Kdf, Key};
use crate::packet::{Direction, Epoch, Opener, Sealer};

/// How long the rung below the current one is kept once both ends are known to have climbed.
pub const PREVIOUS_SECRET_KEPT: Duration = Duration::from_secs(600);

/// Rungs that an end keeps, the present one included.
pub const MAX_RUNGS: usize = 4;

/// Encoded [`Secrets`] are never longer: the limit to decode them with.
pub const MAX_SECRETS_BYTES: usize = 512;

/// Which end of the handshake this node was. It never changes in a session's life, whoever resumes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Role {
    /// A: sent the first Hello.
    Initiator,
    /// B: answered it.
    Responder,
}

/// The lasting secrets of one session: all that is stored of it, and enough to resume it. Zeroized when dropped.
#[derive(Clone, Encode, Decode)]
pub struct Secrets {
    role: Role,
    session_id: [u8; SESSION_ID_BYTES],
    label: [u8; LABEL_BYTES],
    /// What seals the packets of every epoch.
    cipher: Cipher,
    /// Authenticates Re-Hellos for as long as the session lives, so that "older than what I know" can be told from "forged".
    pub(crate) auth: [u8; 32],
    pub(crate) current: Rung,
    /// Those before, the latest first, for as long as the peer may be there: fewer than [`MAX_RUNGS`].
    earlier: Vec<Rung>,
    /// The peer is known to have the current rung.
    settled: bool,
    /// The highest resume number used.
    pub(crate) last_resume: u32,
    /// What authenticates the peer's Reset.
    pub(crate) peer_token: Option<[u8; 32]>,
}

/// One value of RS.
#[derive(Clone, Encode, Decode, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Rung {
    pub(crate) generation: u32,
    pub(crate) secret: [u8; 32],
}

impl Rung {
    fn is(&self, other: &Self) -> bool {
        self.generation == other.generation && kdf::equal(&self.secret, &other.secret)
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.auth.zeroize();
        self.peer_token.zeroize();
    }
}

impl Secrets {
    /// Which end of the handshake this node was.
    pub fn role(&self) -> Role {
        self.role
    }

    /// SessID = pSessID-a . pSessID-b.
    pub fn session_id(&self) -> &[u8; SESSION_ID_BYTES] {
        &self.session_id
    }

    /// The session's name in packets.
    pub fn label(&self) -> Label {
        Label(self.label)
    }

    /// What seals its packets.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// This node, as SessID has it.
    pub fn local(&self) -> NodeId {
        self.id_of(self.role)
    }

    /// The other end.
    pub fn peer(&self) -> NodeId {
        self.id_of(match self.role {
            Role::Initiator => Role::Responder,
            Role::Responder => Role::Initiator,
        })
    }

    /// Takes over what a resume agreed on: from here on the old epoch is dead, and the returned pair is the session's.
    ///
    /// Who sent the Re-Hello calls it as soon as the answer is verified; who answered calls it when
    /// [`Agreed::open`] accepted the first packet. Store the secrets then.
    pub fn adopt(&mut self, agreed: Agreed) -> (Sealer, Opener) {
        let Agreed { resume, base, next, answered, sealer, opener } = agreed;
        self.last_resume = self.last_resume.max(resume);
        self.go_to(next, Some(base));
        self.settled = answered;
        (sealer, opener)
    }

    /// The generation of the present rung, once both ends are known to have it.
    pub(crate) fn settled_generation(&self) -> Option<u32> {
        self.settled.then_some(self.current.generation)
    }

    /// The rung that mixing `shared` into the present one leads to; the keys are of who proposed and of who answered.
    pub(crate) fn refreshed(&self, shared: &[u8; 32], keys: [&PublicKey; 2]) -> Rung {
        let [proposed, answered] = keys;
        let context = [self.session_id.as_slice(), proposed, answered].concat();
        let secret = *Kdf::extract(&self.current.secret, shared).expand("refreshed secret", &context);
        Rung { generation: self.current.generation.saturating_add(1), secret }
    }

    /// Goes on with a refreshed rung; `settled` when the peer is known to have it.
    pub(crate) fn climb(&mut self, next: Rung, settled: bool) {
        self.go_to(next, None);
        self.settled = settled;
    }

    /// From here on `next` is the present rung. `base`, from which it was made, is kept in any case: the peer had it then.
    fn go_to(&mut self, next: Rung, base: Option<Rung>) {
        let before = core::mem::replace(&mut self.current, next);
        let is_base = |rung: &Rung| base.as_ref().is_some_and(|base| rung.is(base));
        let mut has_base = base.is_none() || is_base(&before);
        let mut kept = Vec::with_capacity(MAX_RUNGS - 1);
        kept.push(before);
        for rung in &self.earlier {
            let has_room = kept.len() < MAX_RUNGS - if has_base { 1 } else { 2 };
            // What was there before a rung that the peer is known to have is of no use any more.
            if is_base(rung) || (has_room && !self.settled) {
                has_base |= is_base(rung);
                kept.push(rung.clone());
            }
        }
        // Those before are erased where they are.
        self.earlier = kept;
    }

    /// A packet under the current epoch arrived: the peer has climbed too. Returns whether this was news; then start the
    /// timer of [`PREVIOUS_SECRET_KEPT`] (who answered starts it at [`Secrets::adopt`]) and store the secrets.
    pub fn settle(&mut self) -> bool {
        let news = !self.settled;
        self.settled = true;
        news
    }

    /// The peer may be on another rung than the present one after all: those before are kept.
    pub(crate) fn unsettle(&mut self) {
        self.settled = false;
    }

    /// Erases the rungs before the present one when their time is over. Nothing happens while the peer may still need one.
    pub fn forget_previous(&mut self) {
        if self.settled {
            self.earlier = Vec::new();
        }
    }

    /// What this end and the peer may have in common, the latest first: at most [`MAX_RUNGS`].
    pub(crate) fn rungs(&self) -> impl Iterator<Item = &Rung> {
        core::iter::once(&self.current).chain(&self.earlier).take(MAX_RUNGS)
    }

    /// The keys and the next rung that `base` and the two nonces lead to; `na` is of who sent the Re-Hello.
    pub(crate) fn agree(&self, base: &Rung, nonces: [&[u8; 32]; 2], resume: u32, answered: bool) -> Agreed {
        let [na, nb] = nonces;
        let kdf = Kdf::extract(&[na.as_slice(), nb].concat(), &base.secret);
        let next = Rung {
            generation: base.generation.saturating_add(1),
            secret: *kdf.expand("resume secret", &self.session_id),
        };
        let (sealer, opener) = epoch(&kdf, self, resume);
        Agreed { resume, base: base.clone(), next, answered, sealer, opener }
    }

    /// The same session seen from its other end.
    #[cfg(test)]
    pub(crate) fn take_the_other_part(&mut self) {
        self.role = if self.role == Role::Initiator { Role::Responder } else { Role::Initiator };
    }

    fn id_of(&self, role: Role) -> NodeId {
        let (a, b) = self.session_id.split_at(PARTIAL_ID_BYTES);
        let partial = if role == Role::Initiator { a } else { b };
        id_in_partial(partial).unwrap_or(NodeId::from_bytes([0; 32]))
    }
}

/// What a Re-Hello and its answer lead to, not yet in force.
pub struct Agreed {
    resume: u32,
    base: Rung,
    next: Rung,
    answered: bool,
    sealer: Sealer,
    opener: Opener,
}

impl Agreed {
    /// The epoch of the first packets.
    pub fn epoch(&self) -> Epoch {
        Epoch { resume: self.resume, step: 0 }
    }

    /// Opens a packet that may be the first under this epoch. If it is, the path it came by is proven, and
    /// [`Secrets::adopt`] is due.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub fn open(&mut self, packet: &[u8]) -> Result<crate::packet::Opened, crate::packet::OpenError> {
        self.opener.open(packet)
    }
}

/// All that a handshake yields.
pub(crate) struct Schedule {
    pub(crate) secrets: Secrets,
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
    /// HMAC keys of Finished, A's and B's.
    pub(crate) finished: [Key; 2],
    /// AEAD keys of Finished, A's and B's; each seals one message.
    pub(crate) finished_seal: [Key; 2],
}

/// Derives everything from the Noise handshake's two keys (`split`, concatenated) and its hash.
pub(crate) fn schedule(
    split: &[u8; 64],
    hash: &[u8; 32],
    session_id: [u8; SESSION_ID_BYTES],
    role: Role,
    cipher: Cipher,
) -> Schedule {
    let kdf = Kdf::extract(hash, split);
    let secrets = Secrets {
        role,
        label: *kdf.expand("label", &session_id),
        cipher,
        auth: *kdf.expand("re-hello auth", &session_id),
        current: Rung { generation: 0, secret: *kdf.expand("resume secret", &session_id) },
        earlier: Vec::new(),
        settled: true,
        last_resume: 0,
        peer_token: None,
        session_id,
    };
    let (sealer, opener) = epoch(&kdf, &secrets, 0);
    Schedule {
        sealer,
        opener,
        finished: [kdf.expand("finished a", &session_id), kdf.expand("finished b", &session_id)],
        finished_seal: [kdf.expand("finished seal a", &session_id), kdf.expand("finished seal b", &session_id)],
        secrets,
    }
}

fn epoch(kdf: &Kdf, secrets: &Secrets, resume: u32) -> (Sealer, Opener) {
    let cipher = secrets.cipher;
    let [from_a, from_b] = cipher.labels().map(|label| kdf.expand(label, &secrets.session_id));
    let (ours, theirs) = match secrets.role {
        Role::Initiator => (from_a, from_b),
        Role::Responder => (from_b, from_a),
    };
    let out = Direction { from: secrets.local(), to: secrets.peer(), session_id: &secrets.session_id, cipher };
    let back = Direction { from: out.to, to: out.from, session_id: &secrets.session_id, cipher };
    (Sealer::new(out, secrets.label(), resume, ours), Opener::new(back, secrets.label(), resume, theirs))
}
