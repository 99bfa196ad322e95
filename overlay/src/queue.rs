//! What waits to be written to one link: control frames first, then data fair between flows, all of it bounded.
//!
//! The driver grants room in bytes; a frame leaves while there is any left, so room may go below zero by less than a frame. Data
//! is served by deficit round robin over flow labels (Shreedhar and Varghese, SIGCOMM 1995), so that a bulk transfer does not
//! starve a shell. A packet that waited longer than [`MARK_AFTER`] is marked as having met congestion before anything is dropped.
//! A full queue drops: a relay that stopped reading instead could deadlock a ring of relays.

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

#[derive(Debug, Default)]
struct Flow {
    packets: VecDeque<(Instant, Vec<u8>)>,
    deficit: i64,
}

/// The queues of one link.
#[derive(Debug, Default)]
pub struct LinkQueue {
    control: VecDeque<Vec<u8>>,
    control_bytes: usize,
    control_room: i64,
    flows: BTreeMap<u32, Flow>,
    /// Flows with packets, in the order of their turns.
    turns: VecDeque<u32>,
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
        let (waiting, most) = match lane {
            Lane::Control => (&mut self.control_bytes, MAX_CONTROL_BYTES),
            Lane::Data => (&mut self.data_bytes, MAX_DATA_BYTES),
        };
        if waiting.saturating_add(frame.len()) > most {
            self.dropped += 1;
            return false;
        }
        *waiting += frame.len();
        match lane {
            Lane::Control => self.control.push_back(frame),
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
        self.control.is_empty() && self.turns.is_empty()
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

    fn push_data(&mut self, flow: u32, packet: Vec<u8>, now: Instant) {
        let queue = self.flows.entry(flow).or_default();
        if queue.packets.is_empty() {
            queue.deficit = QUANTUM_BYTES;
            self.turns.push_back(flow);
        }
        queue.packets.push_back((now, packet));
    }

    fn next_packet(&mut self) -> Option<(Instant, Vec<u8>)> {
        loop {
            let label = *self.turns.front()?;
            let flow = self.flows.get_mut(&label)?;
            if flow.deficit <= 0 {
                flow.deficit += QUANTUM_BYTES;
                self.turns.rotate_left(1);
                continue;
            }
            let next = flow.packets.pop_front();
            if let Some((_, packet)) = &next {
                flow.deficit -= size(packet);
            }
            if flow.packets.is_empty() {
                self.flows.remove(&label);
                self.turns.pop_front();
            }
            return next;
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
}
