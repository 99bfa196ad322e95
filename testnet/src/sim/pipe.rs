//! A simulated link: two ends, each lane a reliable byte pipe with latency and a rate, until it is cut.

use std::time::Duration;

use overlay::io::{Lane, LinkId};
use overlay::time::Instant;

/// Which end of a pipe: 0 dialled, 1 was dialled.
pub type End = usize;

/// One simulated connection.
#[derive(Debug)]
pub struct Pipe {
    /// The node at each end.
    pub nodes: [usize; 2],
    /// The link's number as each end knows it.
    pub links: [LinkId; 2],
    /// One-way delay.
    pub latency: Duration,
    /// False once it was cut, or once one end's network went away: frames vanish.
    pub carries: bool,
    /// Whether each end still believes in it.
    pub up: [bool; 2],
    /// When each direction's wire is free again.
    busy_until: [Instant; 2],
    /// When the latest frame of each direction and lane arrives: TCP keeps the order.
    last_arrival: [[Instant; 2]; 2],
}

impl Pipe {
    /// A fresh pipe from `nodes[0]`, that dialled, to `nodes[1]`.
    pub fn new(nodes: [usize; 2], links: [LinkId; 2], latency: Duration) -> Self {
        Self {
            nodes,
            links,
            latency,
            carries: true,
            up: [false; 2],
            busy_until: [Instant::ZERO; 2],
            last_arrival: [[Instant::ZERO; 2]; 2],
        }
    }

    /// Puts a frame of `bytes` on the wire at `now` from `end`: when it has left, and when it arrives.
    pub fn schedule(
        &mut self,
        end: End,
        lane: Lane,
        bytes: usize,
        rate_bytes_per_s: u64,
        now: Instant,
    ) -> (Instant, Instant) {
        let wire_us = (bytes as u64).saturating_mul(1_000_000) / rate_bytes_per_s.max(1);
        let start = self.busy_until[end].max(now);
        let left = start + Duration::from_micros(wire_us);
        self.busy_until[end] = left;
        let lane = usize::from(lane == Lane::Data);
        let arrives = (left + self.latency).max(self.last_arrival[end][lane]);
        self.last_arrival[end][lane] = arrives;
        (left, arrives)
    }
}
