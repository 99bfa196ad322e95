//! What outlives the process.

use core::fmt::Write as _;
use std::sync::Arc;

use overlay::codec::{self, Decode, Encode};
use overlay::time::Instant;
use zeroize::Zeroizing;

use super::{Bound, Endpoint, Phase, Refresh, Session};
use crate::config::OLD_SECRET_LIFETIME;
use crate::event::{Command, Path};
use crate::flow::Flow;
use crate::held::Share;
use crate::keys::{Role, Secrets};
use crate::sessions::STORE_PREFIX;

/// Longest stored session, in bytes.
const MAX_STORED_BYTES: usize = 2048;
/// The layout of what is stored, and where. Up to the second the place was named after the session, and there could be two of one peer; the third had two
/// rungs of the ladder.
const STORED_VERSION: u8 = 4;

/// What is stored of a session: enough to resume it.
#[derive(Encode, Decode)]
struct Stored {
    version: u8,
    secrets: Secrets,
    path: Vec<u8>,
}

impl Session {
    /// The session of which `bytes` were stored; its streams are gone, which the peer learns with the resume.
    pub fn restored(bytes: &[u8], end: &Endpoint, now: Instant) -> Option<Self> {
        let stored: Stored = codec::decode::<_, MAX_STORED_BYTES>(bytes).ok()?;
        if stored.version != STORED_VERSION || stored.secrets.local() != end.keys.id() {
            return None;
        }
        let peer = stored.secrets.peer();
        let mut flow = Flow::new(peer, Arc::clone(&end.config), Share::of(&end.out.held), now);
        flow.set_initiator(stored.secrets.role() == Role::Initiator);
        flow.count_as_used();
        let mut bound = Bound::new(stored.secrets, None, now);
        bound.suspended = Some(now);
        bound.refresh = Refresh::new(now);
        bound.restarted = true;
        bound.stale = true;
        // When the older secret was replaced is not stored: its time begins again.
        bound.forget_at = Some(now + OLD_SECRET_LIFETIME);
        let phase = Phase::Bound(Box::new(bound));
        let mut session = Self {
            peer,
            path: Path(stored.path),
            sought: None,
            unproven: None,
            flow,
            phase,
            since: now,
            asked_at: None,
            reset_at: None,
            resolved_at: None,
            hops: None,
            resumes: 0,
        };
        session.say_token(end);
        Some(session)
    }

    /// Has the durable state stored, once the peer's Finished is there, without which nothing would prove that the peer has lost the session; and not
    /// for a stranger in whom no application here was interested, of whom there may be any number.
    pub fn persist(&self, end: &mut Endpoint) {
        let Some(bound) = self.bound_ref().filter(|bound| bound.secrets.peer_token.is_some()) else { return };
        let stored = Stored { version: STORED_VERSION, secrets: bound.secrets.clone(), path: self.path.0.clone() };
        if self.flow.was_in_use()
            && let Ok(bytes) = codec::encode(&stored)
        {
            end.commands.push_back(Command::Persist { key: self.store_key(), bytes: Zeroizing::new(bytes) });
        }
    }

    /// Has the durable state deleted.
    pub fn unpersist(&self, end: &mut Endpoint) {
        if self.flow.was_in_use() {
            end.commands.push_back(Command::Persist { key: self.store_key(), bytes: Zeroizing::default() });
        }
    }

    fn store_key(&self) -> String {
        // In the characters that any store takes: lower case, digits, slash and hyphen.
        let mut key = STORE_PREFIX.to_owned();
        self.peer.as_bytes().iter().for_each(|byte| _ = write!(key, "{byte:02x}"));
        key
    }
}
