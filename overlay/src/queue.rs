//! What waits to be written to one link: control frames first, then data fair between flows, all of it bounded.
//!
//! The driver grants room in bytes; a frame leaves while there is any left, so room may go below zero by less than a frame. Data
//! is served by deficit round robin over flow labels (Shreedhar and Varghese, SIGCOMM 1995), so that a bulk transfer does not
//! starve a shell. A packet that waited longer than [`MARK_AFTER`] is marked as having met congestion before anything is dropped.
//! A full queue drops, for a relay that stopped reading instead could deadlock a ring of relays: of a flow that has more in it than the packet's own, so that what fills it does not
//! keep others out (approximated longest queue drop: Suter, Lakshman, Stiliadis and Choudhury, INFOCOM 1998; here the longest of those that have their turns next).

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use crate::io::Lane;
use crate::time::Instant;
use crate::wire::packet::mark_ecn;

/// Most control bytes that wait on one link.
pub const MAX_CONTROL_BYTES: usize = 256 * 1024;
/// Most data bytes that wait on one link.
pub const MAX_DATA_BYTES: usize = 2 * 1024 * 1024;
/// A packet that waited longer is marked.
pub const MARK_AFTER: Duration = Duration::from_millis(5);
/// Bytes that a flow may send in its turn.
const QUANTUM_BYTES: i64 = 64 * 1024;
/// Flows that are looked at, in the order of their turns, to find one that has more than another.
const LOOKED_AT: usize = 8;

#[derive(Debug, Default)]
struct Flow {
    packets: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    deficit: i64,
}

/// The queues of one link.
#[derive(Debug, Default)]
pub struct LinkQueue {
    control: VecDeque<Vec<u8>>,
    control_bytes: usize,
    control_room: i64,
    flows: BTreeMap<u32, Flow>,
    /// In the order of their turns. Of one that has nothing any more everything was dropped.
    turns: VecDeque<u32>,
    /// One of which something was dropped, for as long as it has more than those that come.
    long: Option<u32>,
    data_bytes: usize,
    data_room: i64,
    marked: u64,
    dropped: u64,
}

impl LinkQueue {
    /// The driver can take `bytes` more on `lane`.
    pub fn add_room(&mut self, lane: Lane, bytes: usize) {
        let room = match lane {
            Lane::Control => &mut self.control_room,
            Lane::Data => &mut self.data_room,
        };
        *room = room.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Queues a frame; `flow` counts on the data lane only. False when the queue is full and the frame was dropped.
    pub fn push(&mut self, lane: Lane, flow: u32, frame: Vec<u8>, now: Instant) -> bool {
        let has_room = match lane {
            Lane::Control => self.control_bytes.saturating_add(frame.len()) <= MAX_CONTROL_BYTES,
            Lane::Data => self.make_room(flow, frame.len()),
        };
        if !has_room {
            self.dropped += 1;
            return false;
        }
        match lane {
            Lane::Control => {
                self.control_bytes += frame.len();
                self.control.push_back(frame);
            }
            Lane::Data => self.push_data(flow, frame, now),
        }
        true
    }

    /// The next frame to write, if its lane has room.
    pub fn pop(&mut self, now: Instant) -> Option<(Lane, Vec<u8>)> {
        if self.control_room > 0
            && let Some(frame) = self.control.pop_front()
        {
            self.control_bytes -= frame.len();
            self.control_room -= size(&frame);
            return Some((Lane::Control, frame));
        }
        if self.data_room <= 0 {
            return None;
        }
        let (waited_from, mut packet) = self.next_packet()?;
        self.data_bytes -= packet.len();
        self.data_room -= size(&packet);
        if now.since(waited_from) > MARK_AFTER {
            mark_ecn(&mut packet);
            self.marked += 1;
        }
        Some((Lane::Data, packet))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.data_bytes == 0
    }

    /// Data bytes that wait: how loaded the link is.
    pub const fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// Frames dropped because a queue was full.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Packets marked as having met congestion.
    pub const fn marked(&self) -> u64 {
        self.marked
    }

    /// Room for so many bytes of this flow, if need be at the cost of one that has more. False when none is seen that has.
    fn make_room(&mut self, flow: u32, bytes: usize) -> bool {
        let own = self.bytes_of(flow).saturating_add(bytes);
        while self.data_bytes.saturating_add(bytes) > MAX_DATA_BYTES {
            let Some((label, long)) = self.longer_than(own) else { return false };
            let Some((_, packet)) = long.packets.pop_back() else { return false };
            long.bytes -= packet.len();
            self.data_bytes -= packet.len();
            self.dropped += 1;
            self.long = Some(label);
        }
        true
    }

    /// A flow with more than so many bytes.
    fn longer_than(&mut self, own: usize) -> Option<(u32, &mut Flow)> {
        let known = self.long.filter(|label| self.bytes_of(*label) > own);
        let next = || self.turns.iter().take(LOOKED_AT).copied().max_by_key(|label| self.bytes_of(*label));
        let label = known.or_else(next)?;
        self.flows.get_mut(&label).filter(|flow| flow.bytes > own).map(|flow| (label, flow))
    }

    fn bytes_of(&self, flow: u32) -> usize {
        self.flows.get(&flow).map_or(0, |flow| flow.bytes)
    }

    fn push_data(&mut self, label: u32, packet: Vec<u8>, now: Instant) {
        self.data_bytes += packet.len();
        let flow = self.flows.entry(label).or_insert_with(|| {
            self.turns.push_back(label);
            Flow { deficit: QUANTUM_BYTES, ..Flow::default() }
        });
        flow.bytes += packet.len();
        flow.packets.push_back((now, packet));
    }

    fn next_packet(&mut self) -> Option<(Instant, Vec<u8>)> {
        loop {
            let label = *self.turns.front()?;
            let flow = self.flows.get_mut(&label)?;
            if flow.deficit <= 0 && !flow.packets.is_empty() {
                flow.deficit += QUANTUM_BYTES;
                self.turns.rotate_left(1);
                continue;
            }
            let next = flow.packets.pop_front();
            if let Some((_, packet)) = &next {
                flow.deficit -= size(packet);
                flow.bytes -= packet.len();
            }
            if flow.packets.is_empty() {
                self.flows.remove(&label);
                self.turns.pop_front();
            }
            if next.is_some() {
                return next;
            }
        }
    }
}

fn size(frame: &[u8]) -> i64 {
    i64::try_from(frame.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn nothing_leaves_without_room_and_control_goes_first() {
        let mut queue = LinkQueue::default();
        assert!(queue.push(Lane::Data, 1, vec![0; 100], at(0)));
        assert!(queue.push(Lane::Control, 0, vec![1; 10], at(0)));
        assert_eq!(queue.pop(at(0)), None);
        queue.add_room(Lane::Data, 1);
        queue.add_room(Lane::Control, 1);
        assert_eq!(queue.pop(at(0)), Some((Lane::Control, vec![1; 10])));
        assert_eq!(queue.pop(at(0)), Some((Lane::Data, vec![0; 100])));
        assert!(queue.push(Lane::Data, 1, vec![0; 1], at(0)));
        queue.add_room(Lane::Data, 99);
        assert_eq!(queue.pop(at(0)), None, "room was overdrawn by 99");
        queue.add_room(Lane::Data, 1);
        assert!(queue.pop(at(0)).is_some() && queue.is_empty());
    }

    #[test]
    fn a_small_flow_passes_a_large_one() {
        let mut queue = LinkQueue::default();
        queue.add_room(Lane::Data, usize::MAX);
        for _ in 0..30 {
            assert!(queue.push(Lane::Data, 1, vec![1; 60_000], at(0)));
        }
        assert!(queue.push(Lane::Data, 2, vec![2; 100], at(0)));
        let position = (0..).find(|_| queue.pop(at(0)).is_some_and(|(_, packet)| packet[0] == 2));
        assert!(position.is_some_and(|position| position <= 2), "{position:?}");
    }

    #[test]
    fn equal_flows_share_alike_whatever_their_packet_size() {
        let mut queue = LinkQueue::default();
        queue.add_room(Lane::Data, 1_000_000);
        for _ in 0..1000 {
            assert!(queue.push(Lane::Data, 1, vec![1; 1000], at(0)));
        }
        for _ in 0..25 {
            assert!(queue.push(Lane::Data, 2, vec![2; 40_000], at(0)));
        }
        let mut bytes = [0usize; 3];
        while let Some((_, packet)) = queue.pop(at(0)) {
            bytes[usize::from(packet[0])] += packet.len();
        }
        assert!(bytes[1].abs_diff(bytes[2]) <= 2 * 64 * 1024, "{bytes:?}");
    }

    #[test]
    fn waiting_marks_and_a_full_queue_drops() {
        let mut queue = LinkQueue::default();
        queue.add_room(Lane::Data, usize::MAX);
        assert!(queue.push(Lane::Data, 1, vec![0; 100], at(0)));
        let (_, packet) = queue.pop(at(5_001)).unwrap();
        assert_eq!((packet[1], queue.marked()), (1, 1));
        while queue.push(Lane::Data, 1, vec![0; 60_000], at(0)) {}
        assert!(queue.data_bytes() <= MAX_DATA_BYTES && queue.dropped() == 1);
        while queue.push(Lane::Control, 0, vec![0; 1000], at(0)) {}
        assert_eq!(queue.dropped(), 2);
    }

    #[test]
    fn who_fills_the_queue_keeps_nobody_else_out() {
        let mut queue = LinkQueue::default();
        while queue.push(Lane::Data, 1, vec![1; 1000], at(0)) {}
        let refused = queue.dropped();
        for label in 2..12 {
            for _ in 0..10 {
                assert!(queue.push(Lane::Data, label, vec![2; 1200], at(0)), "{label}");
            }
        }
        // Of the first flow, and no more than it takes.
        let taken = 10 * 10 * 1200_u64;
        assert!((taken / 1000..=taken / 1000 + 1).contains(&(queue.dropped() - refused)), "{}", queue.dropped());
        assert!(!queue.push(Lane::Data, 1, vec![1; 1000], at(0)), "it is the longest itself");
        assert!(queue.data_bytes() <= MAX_DATA_BYTES);
        queue.add_room(Lane::Data, usize::MAX);
        let mut bytes = [0usize; 3];
        let waiting = queue.data_bytes();
        while let Some((_, packet)) = queue.pop(at(0)) {
            bytes[usize::from(packet[0])] += packet.len();
        }
        assert_eq!((bytes[2], bytes[1] + bytes[2]), (10 * 10 * 1200, waiting));
        assert!(queue.is_empty());
    }

    /// A flow of which everything was dropped has its turn, and nothing to say.
    #[test]
    fn one_flow_after_the_other_is_the_longest() {
        let mut queue = LinkQueue::default();
        for label in 0..1000 {
            for _ in 0..50 {
                queue.push(Lane::Data, label, vec![0; 60_000 - usize::try_from(label).unwrap()], at(0));
                assert!(queue.data_bytes() <= MAX_DATA_BYTES);
            }
            // A newcomer has room while there is a longer one, which as few as these have.
            let fits = queue.push(Lane::Data, 5000 + label, vec![0; 1000], at(0));
            assert!(fits || label > 5, "{label}");
        }
        queue.add_room(Lane::Data, usize::MAX);
        let (mut left, mut count) = (queue.data_bytes(), 0);
        while let Some((_, packet)) = queue.pop(at(0)) {
            left -= packet.len();
            count += 1;
        }
        assert!(left == 0 && count > 0 && queue.is_empty() && queue.flows.is_empty() && queue.turns.is_empty());
    }
}
