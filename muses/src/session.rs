//! One session: a peer, a flow of streams, and the keys and path that carry it.
//!
//! ```text
//! Resolving --handle_peer--> Greeting --Hello B--> Bound <--Finished A-- (half-open, see `sessions`)
//! Bound: live <--suspend / resume--> suspended
//! ```
//!
//! A bound session never ends by itself. It is live or suspended; in either state it may have an *attempt* under way, a
//! Re-Hello that waits for its answer, and *offers*, answers of its own that wait for the first packet to prove them.

mod endpoint;
mod greeting;
mod offers;
mod protected;
mod received;
mod refresh;
mod resume;
mod stored;

use std::sync::Arc;

use overlay::id::NodeId;
use overlay::time::Instant;

use crate::config::{HELLO_MAX_WAIT, MIN_ASK_INTERVAL};
use crate::content::Label;
use crate::event::{Command, Event, Path, SessionLabel, StreamKey};
use crate::flow::{Flow, FlowTimeout};
use crate::handshake::Established;
use crate::handshake::params::Life;
use crate::held::Share;
use crate::keys::{Role, Secrets};
use crate::packet::{Opener, Sealer};

pub use self::endpoint::Counters;
pub(crate) use self::endpoint::{Bucket, Endpoint, Retry};
pub(crate) use self::greeting::LastWord;
use self::greeting::{Confirming, Greeting};
use self::offers::Offers;
use self::refresh::{REFRESH_EVERY, Refresh};
use self::resume::Attempt;
pub(crate) use self::resume::ReHelloOutcome;

pub(crate) struct Session {
    pub peer: NodeId,
    /// Where the peer is: it answered what was sent there. Before it answered anything, where its record says that it is.
    pub path: Path,
    /// Where it is sought instead, while it does not answer there: its record says so, which proves nothing. No data goes there.
    sought: Option<Path>,
    /// Where it may be, as a routing header says, which any relay can change: it is asked there first.
    unproven: Option<Path>,
    pub flow: Flow,
    pub phase: Phase,
    /// When it began, or this node did.
    pub since: Instant,
    /// When the peer was asked for a sign of life last.
    asked_at: Option<Instant>,
    /// When an application had the timers begin anew last.
    reset_at: Option<Instant>,
    /// When the peer was looked up last.
    resolved_at: Option<Instant>,
    /// Links crossed by the latest authentic packet from the peer.
    pub hops: Option<u16>,
    /// How often the session went on after an outage or a move.
    pub resumes: u64,
}

pub(crate) enum Phase {
    /// Waiting for a look-up.
    Resolving { deadline: Instant },
    /// Waiting for Hello B.
    Greeting(Box<Greeting>),
    /// There are keys.
    Bound(Box<Bound>),
}

pub(crate) struct Bound {
    pub secrets: Secrets,
    /// None between a restart and the first resume.
    keys: Option<(Sealer, Opener)>,
    flow_label: u32,
    confirming: Option<Box<Confirming>>,
    /// Finished B, sent again when the peer's Finished comes again.
    pub last_word: Option<Box<LastWord>>,
    /// When its handshake began here: as who answered, with the answer; else with our Finished.
    pub begun: Instant,
    pub suspended: Option<Instant>,
    attempt: Option<Box<Attempt>>,
    offers: Option<Box<Offers>>,
    /// Names the epoch in which we send, for the peer's word about what it received.
    send_tag: u64,
    /// Names the epoch in which the flow's received numbers lie.
    receive_tag: u64,
    /// The tag that the first packet from the peer under the new epoch brings into force.
    next_receive_tag: u64,
    /// Our streams were lost and the peer may not know.
    restarted: bool,
    /// The peer may not know our path.
    stale: bool,
    /// When the resume secrets before the present one are erased.
    forget_at: Option<Instant>,
    /// Until then: the peer showed that it is here, but it asked again before, and may have gone on with what that was answered.
    unsure_until: Option<Instant>,
    /// What opens packets of the epoch before, while they may still arrive over the old path; and until when.
    late: Option<Box<(Opener, Instant)>>,
    /// When the packet key before the last step is erased.
    forget_key_at: Option<Instant>,
    /// Since when packets are sealed under the present key.
    key_used_since: Option<Instant>,
    refresh: Refresh,
}

/// What became of a session when its timer ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on.
    Lives,
    /// The peer could not be found.
    Unresolved,
    /// The peer did not answer the handshake.
    Unanswered,
}

impl Session {
    /// A session that waits for a look-up of `peer`.
    pub fn resolving(peer: NodeId, end: &mut Endpoint, now: Instant) -> Self {
        let mut session = Self {
            peer,
            path: Path::default(),
            sought: None,
            unproven: None,
            flow: Flow::new(peer, Arc::clone(&end.config), Share::of(&end.out.held), now),
            phase: Phase::Resolving { deadline: now + end.config.handshake_timeout },
            since: now,
            asked_at: None,
            reset_at: None,
            resolved_at: None,
            hops: None,
            resumes: 0,
        };
        session.resolve(end, now);
        session
    }

    /// A session with keys.
    pub fn bound(peer: NodeId, path: Path, established: Established, end: &mut Endpoint, now: Instant) -> Self {
        let mut flow = Flow::new(peer, Arc::clone(&end.config), Share::of(&end.out.held), now);
        flow.set_initiator(established.secrets.role() == Role::Initiator);
        let keys = Some((established.sealer, established.opener));
        let mut session = Self {
            peer,
            path,
            sought: None,
            unproven: None,
            flow,
            phase: Phase::Bound(Box::new(Bound::new(established.secrets, keys, now))),
            since: now,
            asked_at: None,
            reset_at: None,
            resolved_at: None,
            hops: None,
            resumes: 0,
        };
        session.flow.set_suspended(false, now, &mut end.out);
        session.flow.set_reach(&end.reach, true);
        session.say_token(end);
        let event = Event::SessionEstablished { peer, session: session.label().unwrap_or(SessionLabel([0; 16])) };
        end.out.events.push_back(event);
        session
    }

    /// The label in packets, once there are keys.
    pub fn label(&self) -> Option<SessionLabel> {
        self.bound_ref().map(|bound| SessionLabel(bound.secrets.label().0))
    }

    /// Whether applications may write.
    pub fn is_suspended(&self) -> bool {
        self.bound_ref().is_some_and(|bound| bound.suspended.is_some())
    }

    /// Since when they may not, if there are keys.
    pub fn suspended_at(&self) -> Option<Instant> {
        self.bound_ref()?.suspended
    }

    /// Where the peer is sought, as long as it has not shown where it is.
    fn sought_path(&self) -> &Path {
        self.sought.as_ref().unwrap_or(&self.path)
    }

    pub fn bound_ref(&self) -> Option<&Bound> {
        match &self.phase {
            Phase::Bound(bound) => Some(bound),
            _ => None,
        }
    }

    pub fn bound_mut(&mut self) -> Option<&mut Bound> {
        match &mut self.phase {
            Phase::Bound(bound) => Some(bound),
            _ => None,
        }
    }

    /// An application here opens a stream.
    pub fn open(&mut self, key: StreamKey, service: &str, port: u16, end: &mut Endpoint) {
        let before = self.flow.was_in_use();
        self.flow.open(key, service, port);
        self.flow.renew_session_credit(&end.out.growth);
        self.persist_if_new(before, end);
    }

    /// An application here takes one that the peer opened.
    pub fn accept(&mut self, key: StreamKey, end: &mut Endpoint) {
        let before = self.flow.was_in_use();
        self.flow.accept(key, &mut end.out);
        self.persist_if_new(before, end);
    }

    /// From its first use on a session is worth storing.
    fn persist_if_new(&self, was_in_use: bool, end: &mut Endpoint) {
        if !was_in_use && self.flow.was_in_use() {
            self.persist(end);
        }
    }

    /// Whether Hello A of ours is on its way.
    pub fn is_greeting(&self) -> bool {
        matches!(self.phase, Phase::Greeting(_))
    }

    /// Whether we opened the session and the peer has not shown yet that it has it too.
    pub fn is_confirming(&self) -> bool {
        self.confirming_with().is_some()
    }

    /// If so, with which life of the peer.
    pub fn confirming_with(&self) -> Option<Life> {
        let confirming = self.bound_ref()?.confirming.as_ref()?;
        confirming.deadline.is_some().then_some(confirming.life)
    }

    /// Whether the peer has shown that it has this session, which began after it was answered at `since`: it has given up what it began then. Its Finished was
    /// late, or held back.
    pub fn succeeds_handshake_of(&self, since: Instant) -> bool {
        self.began_after(since) && !self.is_confirming()
    }

    /// Whether its handshake began after `since`.
    pub fn began_after(&self, since: Instant) -> bool {
        self.bound_ref().is_some_and(|bound| since < bound.begun)
    }

    /// When the handshake's or resume's timer is due.
    pub fn control_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Resolving { deadline } => Some(*deadline),
            Phase::Greeting(greeting) => Some(greeting.retry.at.min(greeting.deadline)),
            Phase::Bound(bound) => {
                let confirming = bound.confirming.as_ref().map(|c| c.retry.at);
                let attempt = bound.attempt.as_ref().map(|attempt| attempt.retry.at);
                let refresh = self.refresh_timeout();
                let late = bound.late.as_ref().map(|late| late.1);
                let offers = bound.offers.as_ref().map(|offers| offers.kept_until());
                let forgets = [bound.forget_at, bound.forget_key_at, late, offers];
                [confirming, attempt, refresh].into_iter().chain(forgets).flatten().min()
            }
        }
    }

    /// The transport's timer ran out.
    pub fn on_flow_timeout(&mut self, end: &mut Endpoint, now: Instant) {
        if self.flow.on_timeout(now) == FlowTimeout::Silent && !self.is_confirming() {
            self.on_silence(end, now);
        }
    }

    /// The path does not answer.
    fn on_silence(&mut self, end: &mut Endpoint, now: Instant) {
        self.suspend(end, now);
        self.attempt_from_here(end, now);
        self.resolve(end, now);
    }

    /// The handshake's or resume's timer ran out.
    pub fn on_control_timeout(&mut self, end: &mut Endpoint, now: Instant) -> Fate {
        match &mut self.phase {
            Phase::Resolving { deadline } => {
                if *deadline <= now {
                    return Fate::Unresolved;
                }
            }
            Phase::Greeting(greeting) => {
                if greeting.deadline <= now {
                    return Fate::Unanswered;
                }
                if greeting.retry.at <= now {
                    greeting.retry.again(HELLO_MAX_WAIT, &mut end.rng, now);
                    greeting.may_hurry = true;
                    let hello = greeting.hello.clone();
                    end.send(self.peer, &self.path, 0, hello);
                    // The peer may have moved since it was looked up.
                    self.resolve(end, now);
                }
            }
            Phase::Bound(_) => return self.on_bound_timeout(end, now),
        }
        Fate::Lives
    }

    /// Looks the peer up, unless that was done just now.
    pub fn resolve(&mut self, end: &mut Endpoint, now: Instant) {
        if end.local.is_none() && self.resolved_at.is_some() {
            return;
        }
        if self.resolved_at.is_none_or(|at| now.since(at) >= crate::config::MIN_RESOLVE_INTERVAL) {
            self.resolved_at = Some(now);
            end.commands.push_back(Command::Resolve(self.peer));
        }
    }

    /// Asks the peer for a sign of life, unless that was done just now: a doubt must not breed packets.
    pub fn ask(&mut self, now: Instant) {
        if self.asked_at.is_none_or(|at| now.since(at) >= MIN_ASK_INTERVAL) {
            self.asked_at = Some(now);
            self.flow.ping();
        }
    }

    /// Begins every wait anew, see [`crate::Sessions::reset_timers`]; whether that was allowed so soon.
    pub fn reset_timers(&mut self, end: &mut Endpoint, now: Instant) -> bool {
        let done = self.ask_again(end, now);
        if done {
            self.resolve(end, now);
        }
        done
    }

    /// The same, without looking the peer up.
    pub fn ask_again(&mut self, end: &mut Endpoint, now: Instant) -> bool {
        if self.reset_at.is_some_and(|at| now.since(at) < MIN_ASK_INTERVAL) {
            return false;
        }
        self.reset_at = Some(now);
        match &self.phase {
            Phase::Resolving { .. } => {}
            Phase::Greeting(_) => self.greet_again(end, now),
            Phase::Bound(bound) if bound.suspended.is_some() => self.attempt_again(end, now),
            // Begun anew again and again, the wait of a dead path would never end.
            Phase::Bound(_) if self.flow.is_silent(now) && !self.is_confirming() => self.on_silence(end, now),
            // The acknowledgement shows what was lost with the old way.
            Phase::Bound(_) => self.flow.reset_timers(now),
        }
        true
    }

    fn on_bound_timeout(&mut self, end: &mut Endpoint, now: Instant) -> Fate {
        let (peer, path) = (self.peer, self.sought_path().clone());
        let Some(bound) = self.bound_mut() else { return Fate::Lives };
        if let Some(confirming) = &mut bound.confirming
            && confirming.retry.at <= now
        {
            if confirming.deadline.is_some_and(|deadline| deadline <= now) {
                return Fate::Unanswered;
            }
            confirming.retry.again(HELLO_MAX_WAIT, &mut end.rng, now);
            end.send(peer, &path, bound.flow_label, confirming.finished.clone());
            if confirming.deadline.is_none() && confirming.until <= now {
                // The peer has the session but not its Finished any more; only its resets cannot be checked then.
                bound.confirming = None;
            }
            // The peer may have moved since its Hello.
            self.resolve(end, now);
        }
        let Some(bound) = self.bound_mut() else { return Fate::Lives };
        bound.offers.take_if(|offers| offers.kept_until() <= now);
        if bound.forget_at.is_some_and(|at| at <= now) {
            bound.forget_at = None;
            bound.secrets.forget_previous();
            self.persist(end);
        }
        if let Some(bound) = self.bound_mut()
            && bound.forget_key_at.is_some_and(|at| at <= now)
        {
            bound.forget_key_at = None;
            if let Some((_, opener)) = &mut bound.keys {
                opener.forget_previous();
            }
        }
        if let Some(bound) = self.bound_mut()
            && bound.late.as_ref().is_some_and(|late| late.1 <= now)
        {
            bound.late = None;
            self.flow.forget_late();
        }
        self.on_attempt_timeout(end, now);
        self.on_refresh_timeout(end, now);
        Fate::Lives
    }
}

impl Bound {
    #[cfg(test)]
    pub(crate) fn opener(&mut self) -> Option<&mut Opener> {
        self.keys.as_mut().map(|(_, opener)| opener)
    }

    #[cfg(test)]
    pub(crate) fn sealer(&mut self) -> Option<&mut Sealer> {
        self.keys.as_mut().map(|(sealer, _)| sealer)
    }

    fn new(secrets: Secrets, keys: Option<(Sealer, Opener)>, now: Instant) -> Self {
        let Label(label) = secrets.label();
        let flow_label = label.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        Self {
            secrets,
            keys,
            flow_label,
            confirming: None,
            last_word: None,
            begun: now,
            suspended: None,
            attempt: None,
            offers: None,
            send_tag: 0,
            receive_tag: 0,
            next_receive_tag: 0,
            restarted: false,
            stale: false,
            forget_at: None,
            unsure_until: None,
            late: None,
            forget_key_at: None,
            key_used_since: None,
            refresh: Refresh::new(now + REFRESH_EVERY),
        }
    }
}
