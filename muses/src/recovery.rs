//! Which packets arrived, which are lost, and when to probe (RFC 9002).

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use overlay::time::Instant;

use crate::ack::Ranges;
use crate::error::Violation;

/// A packet is lost when one sent so many later was acknowledged (RFC 9002, section 6.1.1).
const PACKET_THRESHOLD: u64 = 3;
/// Numbers left out that are remembered, the latest.
const MAX_SKIPPED: usize = 8;
/// Shortest time that a timer can tell apart (RFC 9002, section 6.1.2).
const GRANULARITY: Duration = Duration::from_millis(1);
/// Round trip that is assumed before the first sample (RFC 9002, section 6.2.2, but quicker).
const INITIAL_RTT: Duration = Duration::from_millis(200);
/// Shortest probe timeout: queues in a chain of TCP links come and go within this.
const MIN_PROBE_TIMEOUT: Duration = Duration::from_millis(40);
/// Longest probe timeout.
const MAX_PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The round-trip estimate (RFC 9002, section 5).
#[derive(Clone, Debug, Default)]
pub struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    min: Duration,
    latest: Duration,
}

impl Rtt {
    /// Takes a sample; `ack_delay` is what the peer says it waited.
    pub fn sample(&mut self, rtt: Duration, ack_delay: Duration) {
        self.latest = rtt;
        let Some(smoothed) = self.smoothed else {
            *self = Self { smoothed: Some(rtt), variation: rtt / 2, min: rtt, latest: rtt };
            return;
        };
        self.min = self.min.min(rtt);
        let adjusted = if rtt >= self.min + ack_delay { rtt - ack_delay } else { rtt };
        self.variation = (self.variation * 3 + smoothed.abs_diff(adjusted)) / 4;
        self.smoothed = Some((smoothed * 7 + adjusted) / 8);
    }

    /// Forgets the old path: `rtt` is the first sample of a new one.
    pub fn restart(&mut self, rtt: Duration) {
        *self = Self::default();
        self.sample(rtt, Duration::ZERO);
    }

    /// The smoothed round trip, or a guess.
    pub fn smoothed(&self) -> Duration {
        self.smoothed.unwrap_or(INITIAL_RTT)
    }

    /// The smoothed round trip, once there was one; none before that.
    pub fn measured(&self) -> Option<Duration> {
        self.smoothed
    }

    /// How long to wait for an acknowledgement before a probe (RFC 9002, section 6.2.1).
    pub fn probe_timeout(&self, max_ack_delay: Duration) -> Duration {
        let variation = if self.smoothed.is_some() { self.variation } else { INITIAL_RTT / 2 };
        let timeout = self.smoothed() + (variation * 4).max(GRANULARITY) + max_ack_delay;
        timeout.clamp(MIN_PROBE_TIMEOUT, MAX_PROBE_TIMEOUT)
    }

    /// Age at which a packet older than an acknowledged one is lost (RFC 9002, section 6.1.2).
    fn loss_delay(&self) -> Duration {
        let rtt = self.smoothed().max(self.latest);
        (rtt + rtt / 8).max(GRANULARITY)
    }
}

/// A packet that asks for acknowledgement and is in flight; `F` is what it carried.
#[derive(Clone, Debug)]
pub struct Sent<F> {
    /// When it left.
    pub at: Instant,
    /// Its size.
    pub bytes: u64,
    /// What to do again if it is lost.
    pub frames: Vec<F>,
}

/// All packets in flight of one epoch.
#[derive(Clone, Debug)]
pub struct Recovery<F> {
    /// The estimate, which outlives epochs.
    pub rtt: Rtt,
    sent: BTreeMap<u64, Sent<F>>,
    next: u64,
    largest_acked: Option<u64>,
    in_flight_bytes: u64,
    /// When a packet is lost by age.
    loss_at: Option<Instant>,
    last_sent_at: Instant,
    probes: u32,
    /// From which number on one is left out.
    skip_at: Option<u64>,
    /// Those that were.
    skipped: VecDeque<u64>,
}

/// What an acknowledgement brought.
#[derive(Debug)]
pub struct AckOutcome<F> {
    /// Newly acknowledged.
    pub acked: Vec<Sent<F>>,
    /// Found lost thereby.
    pub lost: Vec<Sent<F>>,
    /// The round trip, when the largest was newly acknowledged.
    pub rtt: Option<Duration>,
}

/// What has to be done when the timer ran out.
#[derive(Debug)]
pub enum LossTimeout<F> {
    /// Nothing is due.
    Early,
    /// These are lost by age.
    Lost(Vec<Sent<F>>),
    /// Nothing was heard for a probe timeout: send something that asks for an acknowledgement. With it, how often
    /// this happened since the last acknowledgement.
    Probe(u32),
}

impl<F> Default for Recovery<F> {
    fn default() -> Self {
        Self {
            rtt: Rtt::default(),
            sent: BTreeMap::new(),
            next: 0,
            largest_acked: None,
            in_flight_bytes: 0,
            loss_at: None,
            last_sent_at: Instant::ZERO,
            probes: 0,
            skip_at: None,
            skipped: VecDeque::new(),
        }
    }
}

impl<F> Recovery<F> {
    /// Packet `number` left; `packet` is `None` when it asks for no acknowledgement.
    pub fn on_sent(&mut self, number: u64, packet: Option<Sent<F>>) {
        self.next = self.next.max(number.saturating_add(1));
        let Some(packet) = packet else { return };
        self.last_sent_at = packet.at;
        self.in_flight_bytes = self.in_flight_bytes.saturating_add(packet.bytes);
        self.sent.insert(number, packet);
    }

    /// Bytes in flight.
    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// The highest number that was acknowledged in this epoch.
    pub fn largest_acked(&self) -> Option<u64> {
        self.largest_acked
    }

    /// Whether a number is to be left out soon.
    pub fn will_skip(&self) -> bool {
        self.skip_at.is_some()
    }

    /// No packet is to bear `number`, which nobody can guess: whoever acknowledges it acknowledges what has not arrived (RFC 9000, section 21.4).
    pub fn plan_skip(&mut self, number: u64) {
        self.skip_at = Some(number);
    }

    /// Whether the next packet, which would bear `number`, is to bear the one after it.
    pub fn skips(&mut self, number: u64) -> bool {
        let skips = self.skip_at.take_if(|at| *at <= number).is_some();
        if skips {
            self.next = self.next.max(number.saturating_add(1));
            if self.skipped.len() >= MAX_SKIPPED {
                self.skipped.pop_front();
            }
            self.skipped.push_back(number);
        }
        skips
    }

    /// Numbers that were left out, of which the latest are known.
    #[cfg(test)]
    pub fn skipped(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.skipped.iter().copied()
    }

    /// Packets in flight.
    pub fn in_flight_packets(&self) -> usize {
        self.sent.len()
    }

    /// Probes sent since something was acknowledged.
    pub fn probes(&self) -> u32 {
        self.probes
    }

    /// An acknowledgement arrived.
    ///
    /// # Errors
    /// [`Violation::Ack`] when it names a packet that was never sent, [`Violation::Guess`] when its number was left out; nothing changes.
    pub fn on_ack(&mut self, ranges: &Ranges, delay: Duration, now: Instant) -> Result<AckOutcome<F>, Violation> {
        let largest = ranges.largest().ok_or(Violation::Ack)?;
        if largest >= self.next {
            return Err(Violation::Ack);
        }
        if self.skipped.iter().any(|number| ranges.contains(*number)) {
            return Err(Violation::Guess);
        }
        let acked = self.take(ranges);
        let mut rtt = None;
        if !acked.is_empty() {
            self.probes = 0;
        }
        if self.largest_acked.is_none_or(|old| largest > old) {
            self.largest_acked = Some(largest);
            self.probes = 0;
            if let Some((number, packet)) = acked.last()
                && *number == largest
            {
                let sample = now.since(packet.at);
                self.rtt.sample(sample, delay);
                rtt = Some(sample);
            }
        }
        let lost = self.detect_lost(now);
        Ok(AckOutcome { acked: acked.into_iter().map(|(_, packet)| packet).collect(), lost, rtt })
    }

    /// Begins a new epoch: `received` is what the peer says it got of the old one. Returns what arrived, and by number what is not known to
    /// have; numbers begin at 0 again, the round-trip estimate stays.
    pub fn restart(&mut self, received: Option<&Ranges>) -> (Vec<Sent<F>>, BTreeMap<u64, Sent<F>>) {
        let acked = received.map(|ranges| self.take(ranges)).unwrap_or_default();
        let rest = core::mem::take(&mut self.sent);
        *self = Self { rtt: self.rtt.clone(), ..Self::default() };
        (acked.into_iter().map(|(_, packet)| packet).collect(), rest)
    }

    /// When [`Recovery::on_timeout`] is due.
    pub fn timeout(&self, max_ack_delay: Duration) -> Option<Instant> {
        if self.sent.is_empty() {
            return None;
        }
        let probe_at = self.last_sent_at + self.backed_off(max_ack_delay);
        Some(self.loss_at.map_or(probe_at, |at| at.min(probe_at)))
    }

    /// The timer ran out.
    pub fn on_timeout(&mut self, max_ack_delay: Duration, now: Instant) -> LossTimeout<F> {
        if self.timeout(max_ack_delay).is_none_or(|at| at > now) {
            return LossTimeout::Early;
        }
        if self.loss_at.is_some_and(|at| at <= now) {
            return LossTimeout::Lost(self.detect_lost(now));
        }
        self.probes = self.probes.saturating_add(1);
        LossTimeout::Probe(self.probes)
    }

    /// The oldest packet in flight: its content travels again in a probe.
    pub fn oldest(&self) -> Option<&Sent<F>> {
        self.sent.first_key_value().map(|(_, packet)| packet)
    }

    fn take_oldest(&mut self) -> Option<Sent<F>> {
        let (_, packet) = self.sent.pop_first()?;
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(packet.bytes);
        Some(packet)
    }

    /// Makes the wait for the next probe start at `now`.
    pub fn touch(&mut self, now: Instant) {
        self.last_sent_at = now;
    }

    /// The same, without the backoff of probes that were not answered.
    pub fn forget_probes(&mut self, now: Instant) {
        self.probes = 0;
        self.touch(now);
    }

    fn backed_off(&self, max_ack_delay: Duration) -> Duration {
        let timeout = self.rtt.probe_timeout(max_ack_delay);
        timeout.saturating_mul(1 << self.probes.min(6)).min(MAX_PROBE_TIMEOUT)
    }

    fn take(&mut self, ranges: &Ranges) -> Vec<(u64, Sent<F>)> {
        let mut taken = Vec::new();
        for range in ranges.iter() {
            let numbers: Vec<u64> = self.sent.range(range).map(|(number, _)| *number).collect();
            for number in numbers {
                if let Some(packet) = self.sent.remove(&number) {
                    self.in_flight_bytes = self.in_flight_bytes.saturating_sub(packet.bytes);
                    taken.push((number, packet));
                }
            }
        }
        if self.sent.is_empty() {
            // An emptied table keeps its room, which idle sessions are to spare.
            self.sent = BTreeMap::new();
        }
        taken
    }

    fn detect_lost(&mut self, now: Instant) -> Vec<Sent<F>> {
        self.loss_at = None;
        let Some(largest) = self.largest_acked else { return Vec::new() };
        let delay = self.rtt.loss_delay();
        let mut lost = Vec::new();
        while let Some((&number, packet)) = self.sent.first_key_value() {
            if number >= largest {
                break;
            }
            let due = packet.at + delay;
            if number.saturating_add(PACKET_THRESHOLD) > largest && due > now {
                self.loss_at = Some(due);
                break;
            }
            lost.extend(self.take_oldest());
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn filled(count: u64) -> Recovery<u64> {
        let mut recovery = Recovery::default();
        for i in 0..count {
            recovery.on_sent(i, Some(Sent { at: at(i), bytes: 100, frames: vec![i] }));
        }
        recovery
    }

    fn acks(list: &[u64]) -> Ranges {
        let mut ranges = Ranges::default();
        list.iter().for_each(|x| ranges.insert(*x, *x));
        ranges
    }

    #[test]
    fn loses_by_threshold_and_by_age() {
        let mut r = filled(6);
        let out = r.on_ack(&acks(&[4]), Duration::ZERO, at(24)).unwrap();
        assert_eq!(out.rtt, Some(MS * 20));
        assert_eq!(out.lost.iter().flat_map(|p| p.frames.clone()).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(r.in_flight_bytes(), 300);
        // Packet 2 left at 2 ms; nine eighths of 20 ms later it is lost, and 3 a millisecond after it.
        assert_eq!(r.timeout(MS * 5), Some(Instant::from_micros(24_500)));
        let LossTimeout::Lost(lost) = r.on_timeout(MS * 5, Instant::from_micros(25_500)) else { panic!() };
        assert_eq!(lost.len(), 2);
    }

    #[test]
    fn probes_back_off_and_an_ack_ends_them() {
        let mut r = filled(1);
        let first = r.timeout(MS * 5).unwrap();
        assert!(matches!(r.on_timeout(MS * 5, first), LossTimeout::Probe(1)));
        r.touch(first);
        let second = r.timeout(MS * 5).unwrap();
        assert_eq!(second.since(first), first.since(at(0)) * 2);
        r.on_ack(&acks(&[0]), Duration::ZERO, second).unwrap();
        assert_eq!((r.probes(), r.timeout(MS * 5)), (0, None));
    }

    #[test]
    fn refuses_acks_of_the_future() {
        assert_eq!(filled(2).on_ack(&acks(&[2]), Duration::ZERO, at(9)).unwrap_err(), Violation::Ack);
    }

    #[test]
    fn restart_sorts_what_arrived_from_what_did_not() {
        let mut r = filled(4);
        let (acked, rest) = r.restart(Some(&acks(&[1, 2])));
        assert_eq!((acked.len(), rest.into_keys().collect::<Vec<_>>()), (2, vec![0, 3]));
        assert_eq!((r.in_flight_bytes(), r.next), (0, 0));
    }
}
