//! What goes wrong in the simulated world.

use std::time::Duration;

use super::{Happening, World, address_of};
use crate::sim::fault::{Fault, Kind};

impl World {
    pub(super) fn inject(&mut self, fault: Fault) {
        let done = match fault.kind {
            Kind::LinkLoss => self.pick_pipe(fault.pick).map(|pipe| self.break_pipe(pipe)),
            Kind::Blackhole => self.pick_pipe(fault.pick).map(|pipe| self.pipes[pipe].carries = false),
            Kind::Move => self.pick_end_of_transfer(fault.pick).map(|node| self.take_network(node, fault.outage)),
            Kind::Kill => self.pick_relay(fault.pick).map(|node| self.kill(node)),
            Kind::Restart => self.pick_relay(fault.pick).map(|node| {
                self.kill(node);
                self.at(fault.outage, Happening::Start(node));
            }),
        };
        self.faults_done += usize::from(done.is_some());
    }

    pub(super) fn pick_pipe(&self, pick: u64) -> Option<usize> {
        let live: Vec<usize> =
            (0..self.pipes.len()).filter(|&n| self.pipes[n].carries && self.pipes[n].up == [true; 2]).collect();
        choose(&live, pick)
    }

    pub(super) fn pick_end_of_transfer(&self, pick: u64) -> Option<usize> {
        let ends: Vec<usize> =
            self.transfers.iter().flat_map(|t| t.nodes).filter(|&node| self.nodes[node].network).collect();
        choose(&ends, pick)
    }

    pub(super) fn pick_relay(&self, pick: u64) -> Option<usize> {
        let busy = |node: &usize| self.transfers.iter().any(|t| t.nodes.contains(node));
        let relays: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.nodes[*node].stack.is_some() && !busy(node)).collect();
        choose(&relays, pick)
    }

    pub(super) fn break_pipe(&mut self, number: usize) {
        self.pipes[number].carries = false;
        for end in [0, 1] {
            self.at(Duration::ZERO, Happening::Closed { pipe: number, end });
        }
    }

    /// The interface goes down: the node sees its links go, its neighbours see nothing.
    pub(super) fn take_network(&mut self, node: usize, outage: Duration) {
        self.nodes[node].network = false;
        for number in 0..self.pipes.len() {
            for end in [0, 1] {
                if self.pipes[number].nodes[end] == node && self.pipes[number].carries {
                    self.pipes[number].carries = false;
                    self.at(Duration::ZERO, Happening::Closed { pipe: number, end });
                }
            }
        }
        let life = self.nodes[node].life;
        self.at(outage, Happening::NetworkBack { node, life });
    }

    pub(super) fn network_back(&mut self, number: usize, life: u64) {
        let node = &mut self.nodes[number];
        if node.life != life {
            return;
        }
        node.network = true;
        node.moves += 1;
        let old = std::mem::replace(&mut node.address, address_of(number, node.moves));
        let address = node.address.clone();
        self.by_address.remove(&old);
        self.by_address.insert(address.clone(), number);
        self.with(number, |stack, now| {
            stack.handle_listen_addresses(vec![address], now);
            stack.handle_address_change(now);
        });
    }

    /// The process dies: its kernel closes its sockets.
    pub(super) fn kill(&mut self, number: usize) {
        if self.nodes[number].stack.take().is_none() {
            return;
        }
        self.nodes[number].life += 1;
        self.nodes[number].armed = None;
        self.nodes[number].store.crash();
        for pipe in 0..self.pipes.len() {
            for end in [0, 1] {
                if self.pipes[pipe].nodes[end] == number && self.pipes[pipe].up[end] {
                    self.pipes[pipe].up[end] = false;
                    let latency = self.pipes[pipe].latency;
                    if self.pipes[pipe].carries {
                        self.at(latency, Happening::Closed { pipe, end: 1 - end });
                    }
                }
            }
        }
    }
}

fn choose(candidates: &[usize], pick: u64) -> Option<usize> {
    let index = pick.checked_rem(candidates.len() as u64)?;
    candidates.get(usize::try_from(index).ok()?).copied()
}
