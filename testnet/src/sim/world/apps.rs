//! The simulated applications: they open, accept, write and check.

use std::time::Duration;

use node::stack::{ConnId, Readout};
use overlay::id::NodeId;

use super::{CHUNK, Happening, PRODUCE_EVERY, World};

impl World {
    pub(super) fn start_transfers(&mut self) {
        self.at(PRODUCE_EVERY, Happening::Produce);
        for number in 0..self.transfers.len() {
            let [from, to] = self.transfers[number].nodes;
            let peer = format!("node-{to}");
            let mut opened = None;
            self.with(from, |stack, now| opened = Some(stack.open(&peer, "data", 1, now)));
            if let Some(conn) = opened {
                self.transfers[number].conns[0] = Some(conn);
                self.by_conn.insert((from, conn), (number, 0));
                self.write(from, conn);
            }
        }
    }

    /// Applications produce their bytes over the whole time in which faults happen, so that every fault meets open streams.
    pub(super) fn produced(&self) -> u64 {
        let window = overlay::time::micros(self.options.faults.window).max(1);
        let elapsed = overlay::time::micros(self.now.instant.since(self.transfers_begin)).min(window);
        let share = u128::from(self.options.bytes) * u128::from(elapsed) / u128::from(window);
        let produced = u64::try_from(share).unwrap_or(u64::MAX);
        // A fault that was put off beyond that time still meets open streams.
        if self.faults_to_come > 0 { produced.min(self.options.bytes.saturating_sub(1)) } else { produced }
    }

    pub(super) fn produce(&mut self) {
        for number in 0..self.transfers.len() {
            for end in [0, 1] {
                let transfer = &self.transfers[number];
                if let Some(conn) = transfer.conns[end].filter(|_| transfer.sent[end] < transfer.bytes) {
                    self.write(transfer.nodes[end], conn);
                }
            }
        }
        if self.transfers.iter().any(|transfer| transfer.sent != [transfer.bytes; 2]) {
            self.at(PRODUCE_EVERY, Happening::Produce);
        }
    }

    pub(super) fn accept(&mut self, node: usize, conn: ConnId, peer: NodeId) {
        let waiting = (0..self.transfers.len()).find(|&number| {
            let [from, to] = self.transfers[number].nodes;
            to == node && self.nodes[from].identity.id() == peer && self.transfers[number].conns[1].is_none()
        });
        let Some(number) = waiting else {
            self.failures.push(format!("node {node} was offered a connection that nobody opened"));
            return;
        };
        self.transfers[number].conns[1] = Some(conn);
        self.by_conn.insert((node, conn), (number, 1));
        let now = self.now;
        if let Some(stack) = self.nodes[node].stack.as_mut() {
            stack.accept(conn, now);
        }
        self.write(node, conn);
        self.read(node, conn);
        if self.transfers.iter().all(|transfer| transfer.conns[1].is_some()) && self.ops_after_handshakes.is_none() {
            self.ops_after_handshakes = Some(self.public_key_ops());
            self.plan_faults();
        }
    }

    /// Faults begin when all connections are open: one that cannot even be opened may fail, an open one never.
    pub(super) fn plan_faults(&mut self) {
        self.faults_to_come = self.options.faults.count();
        for (after, fault) in self.options.faults.clone().plan(&mut self.rng) {
            self.at(after, Happening::Fault(fault));
        }
    }

    pub(super) fn write(&mut self, node: usize, conn: ConnId) {
        let Some(&(number, end)) = self.by_conn.get(&(node, conn)) else { return };
        let now = self.now;
        loop {
            let chunk = self.transfers[number].next_bytes(number, end, CHUNK, self.produced());
            let Some(stack) = self.nodes[node].stack.as_mut() else { return };
            let taken = if chunk.is_empty() { 0 } else { stack.write(conn, &chunk, now) };
            let transfer = &mut self.transfers[number];
            let before = transfer.sent[end];
            transfer.sent[end] += taken as u64;
            if transfer.sent[end] == transfer.bytes && before < transfer.bytes {
                stack.finish(conn, now);
            }
            if taken < CHUNK {
                break;
            }
        }
        self.drain_once(node);
    }

    pub(super) fn read(&mut self, node: usize, conn: ConnId) {
        let Some(&(number, end)) = self.by_conn.get(&(node, conn)) else { return };
        let now = self.now;
        loop {
            let Some(stack) = self.nodes[node].stack.as_mut() else { return };
            match stack.read(conn, CHUNK, now) {
                Readout::Bytes(bytes) => self.transfers[number].check(number, end, &bytes),
                Readout::Pending | Readout::Gone => break,
                Readout::End => {
                    self.transfers[number].ended[end] = true;
                    stack.release(conn);
                    break;
                }
            }
        }
        self.drain_once(node);
    }

    /// Verbs that were called inside `drain` leave more to drain; its loop goes on with it, outside of it the timer does.
    pub(super) fn drain_once(&mut self, node: usize) {
        let life = self.nodes[node].life;
        self.at(Duration::ZERO, Happening::Timer { node, life });
    }

    /// Of the ends of transfers: a relay that is started again makes itself a certificate, which is no session's work.
    pub(super) fn public_key_ops(&self) -> u64 {
        let is_end = |number: &usize| self.transfers.iter().any(|transfer| transfer.nodes.contains(number));
        (0..self.nodes.len()).filter(is_end).map(|number| self.public_key_ops_of(number)).sum()
    }

    pub(super) fn public_key_ops_of(&self, node: usize) -> u64 {
        self.nodes[node].stack.as_ref().map_or(0, |stack| stack.status(self.now).counters.public_key_ops)
    }
}
