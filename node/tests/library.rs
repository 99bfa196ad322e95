//! The library: streams without a local port, MobiSocket's verbs, and the examples.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use multiaddr::Multiaddr;
use node::config::Config;
use node::stack::Failure;
use node::{MobileStream, Node, Update, Who};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[path = "../examples/download.rs"]
mod download;
#[path = "../examples/echo.rs"]
mod echo;

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A limit for what hangs, not a measurement.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap()
}

async fn node_at(ip: &str, join: Option<Multiaddr>) -> Node {
    // Relays only: what a stream does on a move is not to hang on a direct link.
    let config = Config::parse("[links]\ndirect = 'never'\n", "test".as_ref()).unwrap();
    let builder = Node::builder().config(config).listen(format!("/ip4/{ip}/tcp/0").parse().unwrap());
    let node = join.into_iter().fold(builder, node::Builder::join).start().await.unwrap();
    in_time(node.joined()).await.unwrap();
    node
}

/// A relay, and two that have joined through it.
async fn three() -> [Node; 3] {
    let relay = node_at("127.0.0.1", None).await;
    let way = relay.addresses().await.unwrap().remove(0);
    let (alice, bob) = (node_at("127.0.1.1", Some(way.clone())).await, node_at("127.0.2.1", Some(way)).await);
    [relay, alice, bob]
}

/// Both ends of a stream from Bob to Alice.
async fn stream(alice: &Node, bob: &Node) -> (MobileStream, MobileStream) {
    let mut offer = alice.offer("talk", [Who::Anyone]).await.unwrap();
    let server = alice.id().to_string();
    let (opened, accepted) = in_time(async { tokio::join!(bob.open(&server, "talk"), offer.accept()) }).await;
    (accepted.unwrap(), opened.unwrap())
}

async fn say(from: &mut MobileStream, to: &mut MobileStream, word: &[u8; 4]) {
    in_time(from.write_all(word)).await.unwrap();
    let mut heard = [0; 4];
    in_time(to.read_exact(&mut heard)).await.unwrap();
    assert_eq!(heard, *word);
}

#[tokio::test]
async fn who_waits_for_a_place_hears_of_the_end() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let way = format!("/ip4/127.0.0.1/tcp/{}", nobody.port()).parse().unwrap();
    let node = Node::builder().listen("/ip4/127.0.0.1/tcp/0".parse().unwrap()).join(way).start().await.unwrap();
    let waiting = node.clone();
    let mut joined = tokio::spawn(async move { waiting.joined().await });
    let early = tokio::time::timeout(Duration::from_millis(200), &mut joined).await;
    assert!(early.is_err(), "{early:?}");
    node.stop().await;
    assert!(in_time(joined).await.unwrap().is_err());
    assert!(in_time(node.joined()).await.is_err(), "nor afterwards");
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_direction_ends_on_its_own() {
    let [_relay, alice, bob] = three().await;
    let (mut at_alice, mut at_bob) = stream(&alice, &bob).await;
    assert_eq!((at_alice.peer(), at_bob.peer()), (bob.id(), alice.id()));
    say(&mut at_alice, &mut at_bob, b"ping").await;
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    let sending = big.clone();
    let upload = tokio::spawn(async move {
        at_bob.write_all(&sending).await.unwrap();
        at_bob.shutdown().await.unwrap();
        assert_eq!(at_bob.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        let mut rest = String::new();
        at_bob.read_to_string(&mut rest).await.unwrap();
        rest
    });
    let mut received = Vec::new();
    in_time(at_alice.read_to_end(&mut received)).await.unwrap();
    assert!(received == big);
    at_alice.write_all(b"the other direction still works").await.unwrap();
    at_alice.shutdown().await.unwrap();
    drop(at_alice);
    assert_eq!(in_time(upload).await.unwrap(), "the other direction still works");
}

/// Bob knows how much comes, and looks for the end only after his own has arrived.
#[tokio::test]
async fn an_end_that_is_read_late_is_an_end() {
    let [_relay, alice, bob] = three().await;
    let (mut at_alice, mut at_bob) = stream(&alice, &bob).await;
    say(&mut at_alice, &mut at_bob, b"ping").await;
    at_alice.shutdown().await.unwrap();
    at_bob.shutdown().await.unwrap();
    assert_eq!(in_time(at_alice.read(&mut [0])).await.unwrap(), 0);
    // Both ends are over by then.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..2 {
        assert_eq!(in_time(at_bob.read(&mut [0])).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_torn_stream_is_no_end_and_refusals_have_their_kinds() {
    let [_relay, alice, bob] = three().await;
    let (at_alice, mut at_bob) = stream(&alice, &bob).await;
    drop(at_alice);
    assert_eq!(in_time(at_bob.read(&mut [0; 1])).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let server = alice.id().to_string();
    let kind = |opened: std::io::Result<MobileStream>| opened.err().unwrap().kind();
    assert_eq!(kind(in_time(bob.open(&server, "talk")).await), ErrorKind::ConnectionRefused, "its offer was dropped");
    assert_eq!(kind(in_time(bob.open("nobody", "talk")).await), ErrorKind::NotFound);
    assert_eq!(kind(bob.open(&server, "no/name").await), ErrorKind::InvalidInput);
    assert_eq!(kind(bob.open(&bob.id().to_string(), "talk").await), ErrorKind::InvalidInput);
    let friends = alice.offer("friends", [Who::Node(alice.id())]).await.unwrap();
    assert_eq!(kind(in_time(bob.open(&server, "friends")).await), ErrorKind::ConnectionRefused, "he is none");
    assert_eq!(alice.offer("friends", []).await.err().unwrap().kind(), ErrorKind::AlreadyExists);
    drop(friends);
    let (_mine, mut theirs) = stream(&alice, &bob).await;
    bob.stop().await;
    assert_eq!(theirs.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(kind(bob.open(&server, "talk").await), ErrorKind::NotConnected);
}

#[tokio::test]
async fn a_stream_that_was_not_made_mobile_is_reset_by_a_move_at_both_ends() {
    let [_relay, alice, bob] = three().await;
    let (mut at_alice, mut at_bob) = stream(&alice, &bob).await;
    // One end alone cannot keep it.
    at_alice.activate_mobility().await.unwrap();
    say(&mut at_alice, &mut at_bob, b"ping").await;
    at_bob.update_address(Update::Source(ip("127.0.2.2"))).await.unwrap();
    for end in [&mut at_bob, &mut at_alice] {
        let error = in_time(end.read(&mut [0; 1])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    let why = at_bob.write_all(b"ping").await.unwrap_err();
    let why = why.get_ref().and_then(|why| why.downcast_ref::<Failure>()).copied();
    assert_eq!(why, Some(Failure::Moved));
    assert!(at_bob.activate_mobility().await.is_err(), "too late");
}

#[tokio::test]
async fn a_mobile_stream_goes_on_after_moves_of_either_and_both_ends() {
    let [_relay, alice, bob] = three().await;
    let (mut at_alice, mut at_bob) = stream(&alice, &bob).await;
    for end in [&at_alice, &at_bob] {
        end.activate_mobility().await.unwrap();
    }
    at_bob.update_address(Update::Source(ip("127.0.2.2"))).await.unwrap();
    say(&mut at_bob, &mut at_alice, b"one.").await;
    at_alice.update_address(Update::Source(ip("127.0.1.2"))).await.unwrap();
    say(&mut at_bob, &mut at_alice, b"two.").await;
    bob.handle().network_down().await.unwrap();
    alice.handle().network_down().await.unwrap();
    at_alice.update_address(Update::Source(ip("127.0.1.3"))).await.unwrap();
    at_bob.update_address(Update::Source(ip("127.0.2.3"))).await.unwrap();
    for end in [&at_alice, &at_bob] {
        end.reset_timers().await.unwrap();
    }
    say(&mut at_alice, &mut at_bob, b"both").await;
    let nowhere = at_bob.update_address(Update::Source(ip("192.0.2.1"))).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::AddrNotAvailable);
    at_bob.update_address(Update::Source(ip("127.0.2.1"))).await.unwrap();
    say(&mut at_bob, &mut at_alice, b"end.").await;
}

#[tokio::test]
async fn a_stream_is_copied_to_another_interface_and_nothing_is_resumed() {
    let [relay, alice, bob] = three().await;
    let (mut at_alice, mut at_bob) = stream(&alice, &bob).await;
    say(&mut at_bob, &mut at_alice, b"from").await;
    let resumes = || async { bob.handle().with(|stack, now| stack.status(now).counters.resumes).await.unwrap() };
    let before = resumes().await;
    // Not made mobile: it never notices.
    at_bob.copy_to_interface(ip("127.0.2.2")).await.unwrap();
    say(&mut at_bob, &mut at_alice, b"here").await;
    say(&mut at_alice, &mut at_bob, b"back").await;
    assert_eq!(resumes().await, before);
    let remotes = || async { relay.handle().with(|stack, now| stack.peers(now)).await.unwrap() };
    let remotes: Vec<String> = remotes().await.into_iter().map(|peer| peer.remote).collect();
    assert!(remotes.iter().any(|remote| remote.contains("127.0.2.2")), "{remotes:?}");
    assert!(!remotes.iter().any(|remote| remote.contains("127.0.2.1/")), "{remotes:?}");
    let nowhere = at_bob.copy_to_interface(ip("192.0.2.1")).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::AddrNotAvailable);
    say(&mut at_bob, &mut at_alice, b"stay").await;
}

#[tokio::test]
async fn the_peers_new_address_leads_to_a_direct_link() {
    let [_relay, alice, bob] = three().await;
    let (mut at_alice, mut at_bob) = stream(&alice, &bob).await;
    let (address, peer) = (alice.addresses().await.unwrap().remove(0), alice.id().to_string());
    at_bob.update_address(Update::Destination(address)).await.unwrap();
    let linked = || bob.handle().with(|stack, now| stack.peers(now));
    in_time(async {
        while !linked().await.unwrap().iter().any(|neighbour| neighbour.node == peer) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    say(&mut at_bob, &mut at_alice, b"near").await;
}

#[tokio::test]
async fn a_node_with_a_folder_is_the_same_again_and_alone_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let start = || Node::builder().data_dir(folder.path()).listen("/ip4/127.0.0.1/tcp/0".parse().unwrap()).start();
    let node = start().await.unwrap();
    let id = node.id();
    assert_eq!(start().await.err().unwrap().code, node::exit::Code::AlreadyRunning as u8);
    node.stop().await;
    drop(node);
    let again = in_time(async {
        loop {
            // The lock goes with the loop's last task.
            if let Ok(node) = start().await {
                break node;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(again.await.id(), id);
    let bad = Node::builder().name("Not.A.Name").start().await.err().unwrap();
    assert_eq!(bad.code, node::exit::Code::Usage as u8);
}

#[tokio::test]
async fn the_echo_example_talks_through_a_move() {
    let [_relay, alice, bob] = three().await;
    tokio::spawn(echo::serve(alice.offer(echo::SERVICE, [Who::Anyone]).await.unwrap()));
    let mut lines = in_time(echo::Lines::open(&bob, &alice.id().to_string())).await.unwrap();
    assert_eq!(in_time(lines.exchange("before")).await.unwrap(), "before");
    bob.handle().network_down().await.unwrap();
    bob.handle().network_up(Some(ip("127.0.2.2"))).await.unwrap();
    assert_eq!(in_time(lines.exchange("after")).await.unwrap(), "after");
}

#[tokio::test]
async fn the_download_example_is_exact_through_moves_of_both_ends() {
    let [_relay, alice, bob] = three().await;
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    std::fs::write(&from, &bytes).unwrap();
    let offer = alice.offer(download::SERVICE, [Who::Anyone]).await.unwrap();
    let path = from.clone();
    tokio::spawn(async move { download::serve(offer, &path).await });
    let (path, server, node) = (to.clone(), alice.id().to_string(), bob.clone());
    let fetching = tokio::spawn(async move { download::fetch(&node, &server, &path).await });
    let has = |wanted: u64| {
        let to = to.clone();
        async move {
            while !std::fs::metadata(&to).is_ok_and(|file| file.len() > wanted) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    in_time(has(1_000_000)).await;
    bob.handle().network_up(Some(ip("127.0.2.2"))).await.unwrap();
    in_time(has(8_000_000)).await;
    alice.handle().network_up(Some(ip("127.0.1.2"))).await.unwrap();
    assert_eq!(in_time(fetching).await.unwrap().unwrap(), 20_000_000);
    assert!(std::fs::read(&to).unwrap() == bytes);
}
