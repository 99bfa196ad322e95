//! Links of the simulated world: dialling, carrying frames, closing.

use std::time::Duration;

use multiaddr::Multiaddr;
use overlay::io::{Lane, LinkId, Transmit};
use sha2::Digest as _;

use super::{DIAL_TIMEOUT, Happening, INITIAL_ROOM, World};
use crate::sim::pipe::Pipe;

/// A link takes so many one-way delays to make, as the real one does: four round trips, for TCP, Noise and Yamux.
const DIAL_LATENCIES: u32 = 8;

impl World {
    pub(super) fn dial(&mut self, node: usize, life: u64, address: Multiaddr) {
        let bare = without_peer_id(&address);
        let target = self.by_address.get(&bare).copied();
        let reachable = target.is_some_and(|t| self.nodes[t].network && self.nodes[t].stack.is_some());
        if !self.nodes[node].network {
            self.at(Duration::from_millis(1), Happening::DialFailed { node, life, address });
        } else if reachable {
            let latency = self.options.faults.link_latency(&mut self.rng);
            self.at(latency * DIAL_LATENCIES, Happening::Connected { dialler: node, life, address });
        } else {
            self.at(DIAL_TIMEOUT, Happening::DialFailed { node, life, address });
        }
    }

    pub(super) fn connect(&mut self, dialler: usize, life: u64, address: Multiaddr) {
        let bare = without_peer_id(&address);
        let target = self.by_address.get(&bare).copied();
        let answers = |n: &usize| self.nodes[*n].network && self.nodes[*n].stack.is_some() && *n != dialler;
        let Some(target) = target.filter(answers).filter(|_| self.nodes[dialler].network) else {
            self.with_life(dialler, life, |stack, now| stack.handle_dial_failed(&address, now));
            return;
        };
        if self.nodes[dialler].life != life {
            return;
        }
        let number = self.pipes.len();
        let links = [LinkId(number as u64 * 2), LinkId(number as u64 * 2 + 1)];
        let latency = self.options.faults.link_latency(&mut self.rng);
        self.pipes.push(Pipe::new([dialler, target], links, latency));
        let remotes = [bare, self.nodes[dialler].address.clone()];
        for end in [1, 0] {
            self.by_link.insert(links[end], (number, end));
            self.pipes[number].up[end] = true;
            let node = self.pipes[number].nodes[end];
            let peer = self.nodes[self.pipes[number].nodes[1 - end]].identity.id();
            let remote = remotes[end].clone();
            self.with(node, |stack, now| {
                stack.handle_link_up(links[end], peer, remote, end == 0, now);
                for (lane, bytes) in INITIAL_ROOM {
                    stack.handle_link_room(links[end], lane, bytes, now);
                }
            });
        }
    }

    pub(super) fn transmit(&mut self, transmit: Transmit) {
        let Some(&(number, end)) = self.by_link.get(&transmit.link) else { return };
        let (lane, size) = (transmit.lane, transmit.bytes.len());
        let rate = self.options.faults.rate_bytes_per_s;
        let pipe = &mut self.pipes[number];
        if !pipe.carries || !pipe.up[end] {
            return;
        }
        let (left, arrives) = pipe.schedule(end, lane, size, rate, self.now.instant);
        self.at_instant(left, Happening::Room { pipe: number, end, lane, bytes: size });
        self.at_instant(arrives, Happening::Frame { pipe: number, to: 1 - end, lane, bytes: transmit.bytes });
    }

    pub(super) fn give_room(&mut self, number: usize, end: usize, lane: Lane, bytes: usize) {
        let pipe = &self.pipes[number];
        if pipe.up[end] && pipe.carries {
            let (node, link) = (pipe.nodes[end], pipe.links[end]);
            self.with(node, |stack, now| stack.handle_link_room(link, lane, bytes, now));
        }
    }

    pub(super) fn deliver(&mut self, number: usize, to: usize, lane: Lane, bytes: Vec<u8>) {
        let pipe = &self.pipes[number];
        if !pipe.carries || !pipe.up[to] {
            return;
        }
        let (node, link) = (pipe.nodes[to], pipe.links[to]);
        self.digest.update(self.now.instant.as_micros().to_le_bytes());
        self.digest.update(link.0.to_le_bytes());
        self.digest.update([u8::from(lane == Lane::Data)]);
        self.digest.update(&bytes);
        self.with(node, |stack, now| stack.handle_frame(link, lane, bytes, now));
    }

    /// One side closes its link: the other is told a latency later.
    pub(super) fn hang_up(&mut self, link: LinkId) {
        let Some(&(number, end)) = self.by_link.get(&link) else { return };
        self.at(Duration::ZERO, Happening::Closed { pipe: number, end });
        if self.pipes[number].carries {
            // What was written before the close still arrives.
            let pipe = &mut self.pipes[number];
            let (_, arrives) = pipe.schedule(end, Lane::Control, 0, u64::MAX, self.now.instant);
            self.at_instant(arrives, Happening::Closed { pipe: number, end: 1 - end });
        }
    }

    pub(super) fn close_end(&mut self, number: usize, end: usize) {
        let pipe = &mut self.pipes[number];
        if std::mem::replace(&mut pipe.up[end], false) {
            let (node, link) = (pipe.nodes[end], pipe.links[end]);
            self.by_link.remove(&link);
            self.with(node, |stack, now| stack.handle_link_down(link, now));
        }
    }
}

fn without_peer_id(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, multiaddr::Protocol::P2p(_))).collect()
}
