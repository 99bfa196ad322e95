//! What the sessions of an endpoint share, and the two clocks that limit what they send.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use overlay::id::NodeId;
use overlay::rng::Rng;
use overlay::time::Instant;

use crate::cert::LocalKeys;
use crate::config::{Config, Rate};
use crate::dh::PublicKeyOps;
use crate::event::{Arrival, Command, Outgoing, Path};
use crate::flow::Outbox;
use crate::handshake::cookie::Cookies;
use crate::handshake::params::{self, Life, PARAMS_BYTES};

/// What all sessions of an endpoint share.
pub(crate) struct Endpoint {
    pub config: Arc<Config>,
    pub keys: LocalKeys,
    pub ops: PublicKeyOps,
    pub rng: Rng,
    /// This run of the endpoint.
    pub life: Life,
    /// What peers under load gave us to show.
    pub cookies: Cookies,
    /// Where this node is; `None` while it is nowhere.
    pub local: Option<Path>,
    /// Where this node can be dialled, in bytes that mean nothing here.
    pub reach: Arc<[u8]>,
    pub out: Outbox,
    pub packets: VecDeque<Outgoing>,
    pub commands: VecDeque<Command>,
    pub counters: Counters,
}

/// Packets that were not used, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Of no type or handshake or session that is known here.
    pub unknown: u64,
    /// Not authentic, or replayed.
    pub forged: u64,
    /// Authentic, but against the rules.
    pub violations: u64,
    /// Left out because a limit was reached.
    pub limited: u64,
    /// Hellos answered with a cookie, because of too much work.
    pub cookies: u64,
}

impl Endpoint {
    /// What this node says of itself in a Hello.
    pub fn params(&self) -> [u8; PARAMS_BYTES] {
        params::params(self.config.fast_aes, self.life)
    }

    /// Sends a message that is no protected packet; not while this node is nowhere.
    pub fn send(&mut self, to: NodeId, path: &Path, flow: u32, payload: Vec<u8>) {
        if self.local.is_some() {
            self.packets.push_back(Outgoing { to, path: path.clone(), flow, payload });
        }
    }

    /// Sends a reply, if there is one, to where the packet says that it comes from.
    pub fn answer(&mut self, arrival: &Arrival, flow: u32, reply: Option<Vec<u8>>) {
        if let Some(reply) = reply {
            self.send(arrival.from, &arrival.return_path, flow, reply);
        }
    }
}

/// When to send something again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    pub at: Instant,
    pub wait: Duration,
}

impl Retry {
    /// The first wait begins at `now`.
    pub fn new(wait: Duration, rng: &mut Rng, now: Instant) -> Self {
        Self { at: now + rng.jitter(wait), wait }
    }

    /// The next wait, twice as long.
    pub fn again(&mut self, max: Duration, rng: &mut Rng, now: Instant) {
        self.wait = (self.wait * 2).min(max);
        self.at = now + rng.jitter(self.wait);
    }
}

/// Holds something to its rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: &'static Rate,
    left: u32,
    at: Instant,
}

impl Bucket {
    pub fn new(rate: &'static Rate, now: Instant) -> Self {
        Self { rate, left: rate.burst, at: now }
    }

    /// Whether one more may pass.
    pub fn take(&mut self, now: Instant) -> bool {
        let every_us = overlay::time::micros(self.rate.every).max(1);
        let earned = overlay::time::micros(now.since(self.at)) / every_us;
        if earned > 0 {
            let left = self.left.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX));
            self.left = left.min(self.rate.burst);
            // The rest of the time counts towards the next one, but nothing is saved up beyond the burst.
            let counted = self.at + Duration::from_micros(earned.saturating_mul(every_us));
            self.at = if left > self.rate.burst { now } else { counted };
        }
        let passes = self.left > 0;
        self.left = self.left.saturating_sub(1);
        passes
    }
}
