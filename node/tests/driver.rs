//! The driver's loop, through its handle.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use multiaddr::Multiaddr;
use node::clock;
use node::driver::{self, Handle, Setup, StartError, Started, Stopped};
use node::stack::{Config, Stack};
use node::store::Nowhere;
use overlay::id::Identity;
use overlay::io::Snapshot;
use zeroize::Zeroizing;

fn setup(seed: u8, listen: &str) -> Setup {
    let config = Config::default();
    let identity = Identity::from_secret(&[seed; 32]);
    let stack = Stack::new(config, identity, [seed; 32], [seed; 32], clock::now()).unwrap();
    Setup {
        stack,
        secret: Zeroizing::new([seed; 32]),
        listen: vec![listen.parse().unwrap()],
        bulk: true,
        store: Arc::new(Nowhere),
        snapshot: Snapshot::new(),
    }
}

async fn listening(handle: &Handle) -> Vec<Multiaddr> {
    loop {
        let addresses = handle.listening().await.unwrap();
        if !addresses.is_empty() {
            return addresses;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_runs_moves_and_stops() {
    let Started { handle, .. } = driver::spawn(setup(1, "/ip4/127.0.0.1/tcp/0")).unwrap();
    let listens = listening(&handle).await;
    assert_eq!(handle.with(|stack, now| stack.status(now).sessions).await, Ok(0));

    handle.network_down().await.unwrap();
    assert!(handle.listening().await.unwrap().is_empty());
    assert!(handle.network_up(Some("192.0.2.1".parse().unwrap())).await.is_err(), "not our address");
    assert!(handle.listening().await.unwrap().is_empty());
    handle.network_up(Some("127.0.1.7".parse().unwrap())).await.unwrap();
    let moved = listening(&handle).await.first().unwrap().to_string();
    assert_eq!(moved, listens.first().unwrap().to_string().replace("127.0.0.1", "127.0.1.7"));

    let clone = handle.clone();
    handle.stop().await;
    assert_eq!(clone.with(|_, _| ()).await, Err(Stopped));
    assert!(clone.network_up(None).await.is_err());
    assert!(clone.start_open("bob".into(), "web".into(), 0).await.is_err());
    clone.stop().await;
}

#[tokio::test]
async fn an_address_that_is_not_ours_is_named() {
    let failure = driver::spawn(setup(2, "/ip4/192.0.2.1/tcp/0")).err().unwrap();
    assert!(matches!(failure, StartError::Links(_)));
    assert!(failure.to_string().contains("/ip4/192.0.2.1/tcp/0"), "{failure}");
}
