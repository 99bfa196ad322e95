//! Whether a silent neighbour is still there.
//!
//! Parent and child send heartbeats, and count each other as lost after T1 of silence. Other links are probed when they were idle
//! for a while, any link when data went and nothing came back, and all when the local address changed; a probe has to be
//! answered within 3 s. Long before that, the peer of a link in doubt is dialled beside it: where only the connection is gone, as behind a NAT that
//! forgot it, the new one takes its place and nobody is lost.
//!
//! A neighbour that takes nothing, so that there is no room for what it has to be told, is lost at once.

use core::time::Duration;

use super::LinkState;
use super::enrol::ENROL_TIMEOUT;
use crate::io::{CloseReason, LinkId};
use crate::overlay::{Overlay, Timer};
use crate::time::{Instant, Now, micros};
use crate::wire::link::Frame;

/// A link is in doubt when its probe was not answered for so many of its round trips.
const DOUBT_ROUND_TRIPS: u64 = 8;
/// Not sooner than this: TCP needs as long to repeat what was lost.
const MIN_DOUBT: Duration = Duration::from_millis(400);
/// Not later than this.
const MAX_DOUBT: Duration = Duration::from_secs(1);

/// How long a probe over a link of this round trip may take, in microseconds, before the link is in doubt.
fn doubt_after(rtt_us: Option<u64>) -> Duration {
    let wait = rtt_us.map_or(MAX_DOUBT, |rtt_us| Duration::from_micros(rtt_us.saturating_mul(DOUBT_ROUND_TRIPS)));
    wait.clamp(MIN_DOUBT, MAX_DOUBT)
}

impl Overlay {
    /// Sets the link's timer to whatever has to be done first.
    pub(crate) fn arm_link(&mut self, id: LinkId, now: Now) {
        let Some(link) = self.links.link(id) else { return };
        let timing = &self.config.timing;
        let at = match link.state {
            _ if link.queue.is_choked() => now.instant,
            LinkState::Greeting | LinkState::Spare => link.up_at + timing.hello_timeout,
            LinkState::Guest | LinkState::Asked => link.up_at + ENROL_TIMEOUT,
            LinkState::Closing(_, at) => at,
            LinkState::Live => {
                let kin = self.trees.is_kin(&link.peer);
                let beat = link.beat_at + if kin { timing.heartbeat } else { timing.probe };
                let silent = if kin { link.heard_at + timing.parent_silent } else { Instant::FAR_FUTURE };
                let wait = if link.copied { timing.probe_timeout } else { doubt_after(link.rtt_us) };
                let probe = link.probe_sent.map_or(Instant::FAR_FUTURE, |sent| sent + wait);
                let quiet = match link.unanswered_since {
                    Some(since) if link.probe_sent.is_none() => since + timing.quiet,
                    _ => Instant::FAR_FUTURE,
                };
                beat.min(silent).min(probe).min(quiet).min(link.stays_until.unwrap_or(Instant::FAR_FUTURE))
            }
        };
        self.timers.set(Timer::Link(id), at.max(now.instant));
    }

    pub(crate) fn link_timer(&mut self, id: LinkId, now: Now) {
        let Some(link) = self.links.link(id) else { return };
        let timing = self.config.timing.clone();
        let peer = link.peer;
        let silence = now.instant.since(link.heard_at);
        let choked = link.queue.is_choked();
        match link.state {
            LinkState::Closing(reason, at) if choked || at <= now.instant => {
                self.drop_link(id, reason, now);
                return;
            }
            LinkState::Closing(..) => {}
            _ if choked => {
                self.dialer.useless(peer, &mut self.rng, now.instant);
                self.drop_link(id, CloseReason::Silent, now);
                return;
            }
            LinkState::Greeting | LinkState::Spare if now.instant.since(link.up_at) >= timing.hello_timeout => {
                self.drop_link(id, CloseReason::Silent, now);
                return;
            }
            LinkState::Guest | LinkState::Asked if now.instant.since(link.up_at) >= ENROL_TIMEOUT => {
                self.drop_link(id, CloseReason::Silent, now);
                return;
            }
            LinkState::Greeting | LinkState::Guest | LinkState::Asked | LinkState::Spare => {}
            LinkState::Live => {
                let kin = self.trees.is_kin(&peer);
                let unanswered = link.probe_sent.is_some_and(|sent| now.instant.since(sent) >= timing.probe_timeout);
                if unanswered || (kin && silence >= timing.parent_silent) {
                    self.dialer.useless(peer, &mut self.rng, now.instant);
                    self.drop_link(id, CloseReason::Silent, now);
                    return;
                }
                let doubtful = link.probe_sent.is_some_and(|sent| now.instant.since(sent) >= doubt_after(link.rtt_us));
                let quiet = link.unanswered_since.is_some_and(|since| now.instant.since(since) >= timing.quiet);
                let beat_due = now.instant.since(link.beat_at) >= if kin { timing.heartbeat } else { timing.probe };
                if self.end_stay(id, now) {
                    return;
                }
                if doubtful {
                    self.copy_link(id, now);
                }
                if quiet || (beat_due && !kin) {
                    self.probe(id, now);
                } else if beat_due {
                    self.send_heartbeat(id, now);
                }
            }
        }
        self.arm_link(id, now);
    }

    /// Something arrived over the link: its peer lives. The timer that is set may come early then; it does nothing.
    pub(crate) fn link_heard(&mut self, id: LinkId, now: Now) {
        if let Some(link) = self.links.link_mut(id) {
            link.heard_at = now.instant;
            link.unanswered_since = None;
            // Any frame after the probe shows as much as its answer does.
            link.probe_sent = None;
            link.copied = false;
        }
    }

    /// Dials the peer beside a link in doubt, once; the newer link will count.
    fn copy_link(&mut self, id: LinkId, now: Now) {
        let Some(link) = self.links.link_mut(id) else { return };
        if core::mem::replace(&mut link.copied, true) || self.leaving {
            return;
        }
        let (peer, address) = (link.peer, link.dialable());
        let under_way = self.links.begun().any(|other| other.peer == peer && other.id != id);
        if !under_way {
            self.dial_beside(address, now);
        }
    }

    /// Whoever is in doubt is dialled by another rule.
    pub(crate) fn spare_copies(&mut self) {
        for id in self.links.ids() {
            if let Some(link) = self.links.link_mut(id) {
                link.copied = true;
            }
        }
    }

    /// All links have to show within 3 s that they still work.
    pub(crate) fn probe_all(&mut self, now: Now) {
        for peer in self.links.peers() {
            if let Some(id) = self.links.to(&peer).map(|link| link.id) {
                self.probe(id, now);
                self.arm_link(id, now);
            }
        }
    }

    pub(crate) fn probe(&mut self, id: LinkId, now: Now) {
        let Some(link) = self.links.link_mut(id) else { return };
        link.beat_at = now.instant;
        if link.probe_sent.is_none() {
            link.probe_sent = Some(now.instant);
            self.send_frame(id, &Frame::Probe(micros(now.instant.since(Instant::ZERO))), now);
        }
    }

    /// The number of a probe is when it was sent, so its answer tells the round trip time.
    pub(crate) fn handle_probe_ack(&mut self, id: LinkId, number: u64, now: Now) {
        if let Some(link) = self.links.link_mut(id) {
            let rtt = now.instant.since(Instant::from_micros(number));
            if rtt < Duration::from_mins(1) {
                link.rtt_us = Some(micros(rtt));
            }
        }
        self.seek_parent(now);
    }
}
