//! What goes wrong in the simulated world.

use std::time::Duration;

use super::{Happening, MAX_PUT_OFF, PUT_OFF, World, address_of};
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
                self.after_outage(fault.outage, Happening::Start(node));
            }),
        };
        if done.is_some() {
            self.faults_done += 1;
        } else if fault.put_off < MAX_PUT_OFF {
            let put_off = fault.put_off + 1;
            return self.at(PUT_OFF, Happening::Fault(Fault { put_off, ..fault }));
        }
        self.faults_to_come = self.faults_to_come.saturating_sub(1);
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
        self.after_outage(outage, Happening::NetworkBack { node, life });
    }

    /// Has an outage end: the midst of a long one is slept through.
    fn after_outage(&mut self, outage: Duration, end: Happening) {
        self.longest_outage = self.longest_outage.max(outage);
        let awake = self.options.faults.awake;
        if outage > awake {
            self.at(awake / 2, Happening::Sleep(outage.saturating_sub(awake)));
        }
        self.at(outage.min(awake), end);
    }

    /// All machines sleep. Then what was due meanwhile is late, all of it at once, and applications, faults and outages go on where they were.
    pub(super) fn sleep(&mut self, span: Duration) {
        self.slept = true;
        self.transfers_begin = self.transfers_begin + span;
        self.now = self.now.after(span);
        let awake = self.now.instant;
        for ((at, order), happening) in std::mem::take(&mut self.agenda) {
            let at = match &happening {
                Happening::Start(_)
                | Happening::Fault(_)
                | Happening::Sleep(_)
                | Happening::NetworkBack { .. }
                | Happening::Transfers
                | Happening::Produce => at + span,
                _ => at.max(awake),
            };
            self.agenda.insert((at, order), happening);
        }
        for node in &mut self.nodes {
            node.armed = node.armed.map(|at| at.max(awake));
            // Whoever wakes up renews its certificate if that is old, which is no part of a resume that it was about to make.
            node.ops_when_back = None;
        }
    }

    /// A session of `node` goes on: what did that cost since its network was back?
    pub(super) fn note_resume(&mut self, node: usize) {
        self.resumes += 1;
        if let Some(before) = self.nodes[node].ops_when_back.take() {
            self.ops_in_resumes += self.public_key_ops_of(node).saturating_sub(before);
        }
    }

    pub(super) fn network_back(&mut self, number: usize, life: u64) {
        let node = &mut self.nodes[number];
        if node.life != life {
            return;
        }
        node.network = true;
        node.moves += 1;
        let ops = self.public_key_ops_of(number);
        let node = &mut self.nodes[number];
        node.ops_when_back = Some(ops);
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
