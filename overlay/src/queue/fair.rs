//! Packets that wait, fair in two steps: first between those over whom they came, then between the flows of each.
//!
//! Who sends a packet chooses its flow label, so that fairness between labels alone is fairness between those who play by it. The link
//! over which it came is not chosen: what comes by one neighbour shares with what else comes by it, and no further. Both steps are deficit
//! round robin (Shreedhar and Varghese, SIGCOMM 1995), and a full queue drops in both of the longest that is known (approximated longest
//! queue drop: Suter, Lakshman, Stiliadis and Choudhury, INFOCOM 1998).

use std::collections::{BTreeMap, VecDeque};

use crate::io::LinkId;
use crate::time::Instant;

/// Those that are looked at, in the order of their turns, to find one that has more than another, where the longest that is known has not.
const LOOKED_AT: usize = 8;

/// Over which link a packet came; none for the node's own.
pub type Source = Option<LinkId>;

/// A packet, and since when it waits.
pub(super) type Packet = (Instant, Vec<u8>);

/// What takes a turn.
trait Queue: Default {
    fn bytes(&self) -> usize;
    /// Whether there is one packet in it.
    fn is_single(&self) -> bool;
    fn pop(&mut self, quantum: i64) -> Option<Packet>;
    /// Drops a packet: how many bytes that were.
    fn drop_one(&mut self) -> Option<usize>;
}

/// The packets of one flow.
#[derive(Debug, Default)]
struct Flow {
    packets: VecDeque<Packet>,
    bytes: usize,
}

impl Queue for Flow {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_single(&self) -> bool {
        self.packets.len() == 1
    }

    fn pop(&mut self, _: i64) -> Option<Packet> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.1.len();
        Some(packet)
    }

    fn drop_one(&mut self) -> Option<usize> {
        let (_, packet) = self.packets.pop_back()?;
        self.bytes -= packet.len();
        Some(packet.len())
    }
}

#[derive(Debug, Default)]
struct Turn<Q> {
    queue: Q,
    /// Bytes that it may still send before the next one's turn.
    deficit: i64,
}

/// Queues that take turns; in each of them there is something.
#[derive(Debug)]
struct Turns<K, Q> {
    queues: BTreeMap<K, Turn<Q>>,
    order: VecDeque<K>,
    bytes: usize,
    /// The longest that is known, and its bytes: none that something came into since is longer.
    longest: Option<(K, usize)>,
}

impl<K, Q> Default for Turns<K, Q> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), order: VecDeque::new(), bytes: 0, longest: None }
    }
}

impl<K: Ord + Copy, Q: Queue> Turns<K, Q> {
    /// Has `put` add so many bytes to the queue of `key`.
    fn push(&mut self, key: K, bytes: usize, quantum: i64, put: impl FnOnce(&mut Q)) {
        self.bytes += bytes;
        let turn = self.queues.entry(key).or_insert_with(|| {
            self.order.push_back(key);
            Turn { deficit: quantum, queue: Q::default() }
        });
        put(&mut turn.queue);
        let length = turn.queue.bytes();
        self.note(key, length);
    }

    fn bytes_of(&self, key: K) -> usize {
        self.queues.get(&key).map_or(0, |turn| turn.queue.bytes())
    }

    /// Drops a packet of a queue with more than so many bytes: how many bytes that were; none when none is seen that has.
    fn drop_of_longer(&mut self, own: usize) -> Option<usize> {
        let (key, at) = self.longer_than(own)?;
        let queue = &mut self.queues.get_mut(&key)?.queue;
        let dropped = queue.drop_one()?;
        let left = queue.bytes();
        self.bytes -= dropped;
        self.note(key, left);
        if left == 0 {
            self.queues.remove(&key);
            at.map(|at| self.order.remove(at));
        }
        Some(dropped)
    }

    /// A queue with more than so many bytes and, unless there stays something in it when one packet is dropped, its place in the order.
    fn longer_than(&self, own: usize) -> Option<(K, Option<usize>)> {
        let stays = |key: &K| self.queues.get(key).is_some_and(|turn| !turn.queue.is_single());
        if let Some((key, _)) = self.longest.filter(|(key, bytes)| *bytes > own && stays(key)) {
            return Some((key, None));
        }
        let next = self.order.iter().enumerate().take(LOOKED_AT);
        let (at, key) = next.max_by_key(|(_, key)| self.bytes_of(**key))?;
        (self.bytes_of(*key) > own).then_some((*key, Some(at)))
    }

    /// Drops by `choose` within the queue of `key`, which something is to come into.
    fn drop_within(&mut self, key: K, choose: impl FnOnce(&mut Q) -> Option<usize>) -> Option<usize> {
        let queue = &mut self.queues.get_mut(&key)?.queue;
        let dropped = choose(queue)?;
        let left = queue.bytes();
        self.bytes -= dropped;
        self.note(key, left);
        Some(dropped)
    }

    /// The queue of `key` has so many bytes now.
    fn note(&mut self, key: K, bytes: usize) {
        if self.longest.is_none_or(|(longest, most)| longest == key || bytes > most) {
            self.longest = (bytes > 0).then_some((key, bytes));
        }
    }
}

impl<K: Ord + Copy, Q: Queue> Queue for Turns<K, Q> {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_single(&self) -> bool {
        let only = self.order.front().filter(|_| self.order.len() == 1).and_then(|key| self.queues.get(key));
        only.is_some_and(|turn| turn.queue.is_single())
    }

    fn pop(&mut self, quantum: i64) -> Option<Packet> {
        loop {
            let key = *self.order.front()?;
            let turn = self.queues.get_mut(&key)?;
            if turn.deficit <= 0 {
                turn.deficit += quantum;
                self.order.rotate_left(1);
                continue;
            }
            let next = turn.queue.pop(quantum);
            if let Some((_, packet)) = &next {
                turn.deficit -= super::size(packet);
                self.bytes -= packet.len();
            }
            let left = turn.queue.bytes();
            self.note(key, left);
            if left == 0 {
                self.queues.remove(&key);
                self.order.pop_front();
            }
            if next.is_some() {
                return next;
            }
        }
    }

    fn drop_one(&mut self) -> Option<usize> {
        self.drop_of_longer(0)
    }
}

/// Packets of all sources and flows, of which at most so many bytes wait.
#[derive(Debug)]
pub(super) struct Fair {
    sources: Turns<Source, Turns<u32, Flow>>,
    most_bytes: usize,
    quantum: i64,
}

impl Fair {
    /// At most `most_bytes` wait; `quantum` bytes are sent in a turn.
    pub const fn new(most_bytes: usize, quantum: i64) -> Self {
        let sources = Turns { queues: BTreeMap::new(), order: VecDeque::new(), bytes: 0, longest: None };
        Self { sources, most_bytes, quantum }
    }

    /// Queues a packet, if need be at the cost of others: whether it was, and how many others were dropped.
    pub fn push(&mut self, source: Source, flow: u32, packet: Vec<u8>, now: Instant) -> (bool, u64) {
        let (bytes, quantum, mut dropped) = (packet.len(), self.quantum, 0);
        while self.sources.bytes.saturating_add(bytes) > self.most_bytes {
            if !self.drop_for(source, flow, bytes) {
                return (false, dropped);
            }
            dropped += 1;
        }
        self.sources.push(source, bytes, quantum, |flows| {
            flows.push(flow, bytes, quantum, |queue| {
                queue.bytes += bytes;
                queue.packets.push_back((now, packet));
            });
        });
        (true, dropped)
    }

    pub fn pop(&mut self) -> Option<Packet> {
        self.sources.pop(self.quantum)
    }

    pub const fn bytes(&self) -> usize {
        self.sources.bytes
    }

    /// Drops a packet of a source that has more than this one with so many bytes more, or else of a flow of this one that has more than that
    /// flow. False when none is seen that has.
    fn drop_for(&mut self, source: Source, flow: u32, bytes: usize) -> bool {
        let own = self.sources.bytes_of(source).saturating_add(bytes);
        let of_another = self.sources.drop_of_longer(own);
        let dropped = of_another.or_else(|| {
            self.sources.drop_within(source, |flows| {
                let own = flows.bytes_of(flow).saturating_add(bytes);
                flows.drop_of_longer(own)
            })
        });
        dropped.is_some()
    }
}
