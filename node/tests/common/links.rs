//! A node's links alone, without the stack above.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::VecDeque;
use std::time::Duration;

use multiaddr::Multiaddr;
use node::links::{Input, Links};
use overlay::id::{Identity, NodeId};
use overlay::io::{Lane, LinkId, Transmit};
use zeroize::Zeroizing;

/// Far beyond what anything here takes: a limit for a hang, not a measurement.
pub const HANG: Duration = Duration::from_secs(30);

pub struct Node {
    pub links: Links,
    pub waiting: VecDeque<Input>,
    pub id: NodeId,
}

impl Node {
    pub fn start(seed: u8) -> Self {
        Self::listening_on(seed, "/ip4/127.0.0.1/tcp/0")
    }

    pub fn listening_on(seed: u8, listen: &str) -> Self {
        Self::with(seed, listen, true)
    }

    /// One that wants no bulk lanes.
    pub fn without_bulk(seed: u8) -> Self {
        Self::with(seed, "/ip4/127.0.0.1/tcp/0", false)
    }

    fn with(seed: u8, listen: &str, bulk: bool) -> Self {
        let links = Links::start(Zeroizing::new([seed; 32]), vec![listen.parse().unwrap()], bulk).unwrap();
        Self { links, waiting: Default::default(), id: Identity::from_secret(&[seed; 32]).id() }
    }

    pub async fn next(&mut self) -> Input {
        loop {
            if let Some(input) = self.waiting.pop_front() {
                return input;
            }
            let mut inputs = Vec::new();
            self.links.next(&mut inputs).await;
            self.waiting.extend(inputs);
        }
    }

    /// The first input that `wanted` picks; others are dropped.
    pub async fn until<R>(&mut self, mut wanted: impl FnMut(Input) -> Option<R>) -> R {
        tokio::time::timeout(HANG, async {
            loop {
                if let Some(found) = wanted(self.next().await) {
                    return found;
                }
            }
        })
        .await
        .expect("hangs")
    }

    pub async fn address(&mut self) -> Multiaddr {
        self.until(|input| match input {
            Input::Listening(addresses) => addresses.first().cloned(),
            _ => None,
        })
        .await
    }

    /// The next link: which, to whom, the address at its other end, and whether this node dialled.
    pub async fn up(&mut self) -> Up {
        self.until(|input| match input {
            Input::Up { link, peer, remote, initiator } => Some((link, peer, remote, initiator)),
            _ => None,
        })
        .await
    }

    pub async fn down(&mut self, wanted: LinkId) {
        self.until(|input| matches!(input, Input::Down { link } if link == wanted).then_some(())).await;
    }

    pub async fn frame(&mut self) -> (Lane, Vec<u8>) {
        self.until(|input| match input {
            Input::Frame { lane, bytes, .. } => Some((lane, bytes)),
            _ => None,
        })
        .await
    }

    pub fn send(&mut self, link: LinkId, lane: Lane, bytes: &[u8]) {
        self.links.transmit(Transmit { link, lane, bytes: bytes.to_vec() });
    }
}

/// Dials from `a` to `b` and returns both ends.
pub async fn connect(a: &mut Node, b: &mut Node, address: Multiaddr) -> (LinkId, LinkId, Multiaddr) {
    a.links.dial(address.clone());
    let ((a_link, peer, dialled, initiator), (b_link, _, remote, accepted)) = tokio::join!(a.up(), b.up());
    assert_eq!((peer, dialled, initiator, accepted), (b.id, address, true, false));
    (a_link, b_link, remote)
}

/// What [`Node::up`] tells of a link.
pub type Up = (LinkId, NodeId, Multiaddr, bool);

/// Both dial each other at once; returns each one's ends of the two links that this makes.
pub async fn dial_each_other(a: &mut Node, b: &mut Node) -> ([Up; 2], [Up; 2]) {
    let (a_listens, b_listens) = (a.address().await, b.address().await);
    a.links.dial(b_listens);
    b.links.dial(a_listens);
    tokio::join!(async { [a.up().await, a.up().await] }, async { [b.up().await, b.up().await] })
}

/// Lets both nodes do all that they can for a while; what happens is kept.
pub async fn let_run(a: &mut Node, b: &mut Node) {
    for _ in 0..20 {
        let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
        let tick = Duration::from_millis(10);
        let _ = tokio::join!(
            tokio::time::timeout(tick, a.links.next(&mut of_a)),
            tokio::time::timeout(tick, b.links.next(&mut of_b))
        );
        a.waiting.extend(of_a);
        b.waiting.extend(of_b);
    }
}
