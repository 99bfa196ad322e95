//! What waits to be written to one link: control before data, each of it bounded, and fair between those who send it.
//!
//! The driver grants room in bytes; a frame leaves while there is any left, so room may go below zero by less than a frame.
//!
//! The control lane carries the words of this node to its neighbour (link frames) and packets to pass on. As long as there is room for
//! all of them they leave as they came, with nothing decided about them. What has to wait is parted: link frames go first, since others
//! decide by them who lives, and packets have bounds of their own, so that whoever sends packets keeps no link frame waiting or out. A
//! neighbour is told most things once. So no link frame is dropped in silence: one about something newer takes the place of the one
//! before (see [`Order`]), and when there is no room for one even so, the queue is [choked](LinkQueue::is_choked), and the link has to be
//! closed.
//!
//! Packets on both lanes share a link by [where they came from](Source), then by flow: see `fair.rs`. On the control lane, where senders
//! say no flow, the kind of the packet stands for it. A data packet that waited longer than [`MARK_AFTER`] is marked as having met congestion
//! before anything is dropped. A full queue drops, for a relay that stopped reading instead could deadlock a ring of relays.

mod fair;
mod order;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::VecDeque;

use crate::io::{Lane, MAX_CONTROL_FRAME_BYTES};
use crate::time::Instant;
use crate::wire::packet::mark_ecn;

use fair::Fair;
pub use fair::Source;
pub use order::{Order, Subject};

/// Most bytes of link frames that wait for room on one link. All that a new neighbour is told is less than half of it, and afterwards most frames
/// take the place of an earlier one: who lets so much wait takes nothing.
pub const MAX_LINK_FRAME_BYTES: usize = 256 * 1024;
/// Most bytes of packets to pass on that wait for room on the control lane of one link.
pub const MAX_ROUTED_CONTROL_BYTES: usize = 256 * 1024;
/// Most bytes of the control lane for which there is room already, however much the driver has granted.
const MAX_READY_BYTES: usize = 64 * 1024;
/// Most control bytes that wait on one link.
pub const MAX_CONTROL_BYTES: usize =
    MAX_LINK_FRAME_BYTES + MAX_ROUTED_CONTROL_BYTES + MAX_READY_BYTES + 2 * MAX_CONTROL_FRAME_BYTES;
/// Most data bytes that wait on one link.
pub const MAX_DATA_BYTES: usize = 2 * 1024 * 1024;
/// A packet that waited longer is marked.
pub const MARK_AFTER: Duration = Duration::from_millis(5);
/// Data bytes that a source, and each of its flows, may send in its turn.
const DATA_QUANTUM_BYTES: i64 = 64 * 1024;
/// The same on the control lane, whose packets are shorter and have somebody waiting: the longest of them.
const CONTROL_QUANTUM_BYTES: i64 = 16 * 1024;

/// Frames that leave in the order in which they are here.
#[derive(Debug, Default)]
struct Frames {
    frames: VecDeque<(Order, Vec<u8>)>,
    bytes: usize,
}

impl Frames {
    fn push(&mut self, order: Order, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.frames.push_back((order, frame));
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let (_, frame) = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    /// A later frame says what the one of this order would.
    fn forget(&mut self, order: Order) {
        let earlier = self.frames.iter().position(|(other, _)| *other == order);
        if let Some((_, frame)) = earlier.and_then(|at| self.frames.remove(at)) {
            self.bytes -= frame.len();
        }
    }
}

/// What waits for room on the control lane, of which most links always have enough.
#[derive(Debug)]
struct Blocked {
    link_frames: Frames,
    routed: Fair,
    /// The goodbye.
    last: Option<Vec<u8>>,
}

impl Default for Blocked {
    fn default() -> Self {
        let routed = Fair::new(MAX_ROUTED_CONTROL_BYTES, CONTROL_QUANTUM_BYTES);
        Self { link_frames: Frames::default(), routed, last: None }
    }
}

impl Blocked {
    fn is_empty(&self) -> bool {
        self.link_frames.frames.is_empty() && self.routed.bytes() == 0 && self.last.is_none()
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let frame = self.link_frames.pop().or_else(|| self.routed.pop().map(|(_, packet)| packet));
        frame.or_else(|| self.last.take())
    }
}

/// The queues of one link.
#[derive(Debug)]
pub struct LinkQueue {
    /// Of the control lane, what there was room for when it came: link frames and packets.
    ready: Frames,
    /// What there was not.
    blocked: Option<Box<Blocked>>,
    control_room: i64,
    data: Fair,
    data_room: i64,
    choked: bool,
    marked: u64,
    dropped: u64,
}

impl Default for LinkQueue {
    fn default() -> Self {
        Self {
            ready: Frames::default(),
            blocked: None,
            control_room: 0,
            data: Fair::new(MAX_DATA_BYTES, DATA_QUANTUM_BYTES),
            data_room: 0,
            choked: false,
            marked: 0,
            dropped: 0,
        }
    }
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

    /// Queues a link frame. False when there is no room for it: the neighbour misses something, and the link is of no use any more.
    pub fn push_frame(&mut self, order: Order, frame: Vec<u8>) -> bool {
        if self.leaves_at_once() {
            self.ready.push(order, frame);
            return true;
        }
        let blocked = self.blocked.get_or_insert_default();
        if order == Order::Last {
            blocked.last.get_or_insert(frame);
            return true;
        }
        if matches!(order, Order::Latest(_)) {
            blocked.link_frames.forget(order);
        }
        self.choked |= blocked.link_frames.bytes.saturating_add(frame.len()) > MAX_LINK_FRAME_BYTES;
        if self.choked {
            self.dropped += 1;
            return false;
        }
        blocked.link_frames.push(order, frame);
        true
    }

    /// Queues a packet that came from `source`. False when the queue is full and the packet was dropped.
    pub fn push_packet(&mut self, lane: Lane, source: Source, flow: u32, packet: Vec<u8>, now: Instant) -> bool {
        if lane == Lane::Control && self.leaves_at_once() {
            self.ready.push(Order::InTurn, packet);
            return true;
        }
        let queue = match lane {
            Lane::Control => &mut self.blocked.get_or_insert_default().routed,
            Lane::Data => &mut self.data,
        };
        let (taken, others) = queue.push(source, flow, packet, now);
        self.dropped += others + u64::from(!taken);
        taken
    }

    /// The next frame to write, if its lane has room.
    pub fn pop(&mut self, now: Instant) -> Option<(Lane, Vec<u8>)> {
        if self.control_room > 0
            && let Some(frame) = self.next_control()
        {
            self.control_room -= size(&frame);
            return Some((Lane::Control, frame));
        }
        if self.data_room <= 0 {
            return None;
        }
        let (waited_from, mut packet) = self.data.pop()?;
        self.data_room -= size(&packet);
        if now.since(waited_from) > MARK_AFTER {
            mark_ecn(&mut packet);
            self.marked += 1;
        }
        Some((Lane::Data, packet))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ready.frames.is_empty() && self.blocked.is_none() && self.data_bytes() == 0
    }

    /// Whether a link frame was lost: the neighbour takes nothing.
    pub const fn is_choked(&self) -> bool {
        self.choked
    }

    /// Data bytes that wait: how loaded the link is.
    pub const fn data_bytes(&self) -> usize {
        self.data.bytes()
    }

    /// Frames dropped because a queue was full.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Packets marked as having met congestion.
    pub const fn marked(&self) -> u64 {
        self.marked
    }

    /// Whether a control frame that comes now leaves as soon as the driver asks, with everything before it.
    fn leaves_at_once(&self) -> bool {
        let before = self.ready.bytes;
        let has_room = i64::try_from(before).is_ok_and(|before| before < self.control_room);
        has_room && before < MAX_READY_BYTES && self.blocked.is_none()
    }

    fn next_control(&mut self) -> Option<Vec<u8>> {
        if let Some(frame) = self.ready.pop() {
            return Some(frame);
        }
        let blocked = self.blocked.as_mut()?;
        let frame = blocked.pop();
        if blocked.is_empty() {
            self.blocked = None;
        }
        frame
    }
}

fn size(frame: &[u8]) -> i64 {
    i64::try_from(frame.len()).unwrap_or(i64::MAX)
}
