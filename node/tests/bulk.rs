//! Bulk lanes between two nodes' links, directly and through a box in the middle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/links.rs"]
mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use multiaddr::{Multiaddr, Protocol};
use node::links::Input;
use overlay::address::{Address, AddressSet, Place};
use overlay::id::NodeId;
use overlay::io::{Lane, LinkId};
use overlay::wire::packet::{Header, Kind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use common::{HANG, Node, connect, dial_each_other, let_run};

const PAYLOAD_BYTES: usize = 5000;
/// Of these frames a link wants a bulk lane long before the last.
const MANY: u32 = 400;
/// Of these, a good part waits in the lane when nobody reads.
const STALLED: u32 = 6000;
/// Room for data of a new link.
const FIRST_ROOM_BYTES: usize = 512 * 1024;

/// A routed packet with session data that has this number.
fn numbered(number: u32) -> Vec<u8> {
    let place = |seq| Place { addresses: AddressSet::single(Address::root()), seq };
    let ids = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
    let mut payload = vec![5; PAYLOAD_BYTES];
    payload.extend(number.to_be_bytes());
    Header::new(Kind::Data, ids[0], place(1), ids[1], place(2), 9).with_payload(&payload)
}

fn number_of(frame: &[u8]) -> u32 {
    assert_eq!(frame.len(), numbered(0).len());
    u32::from_be_bytes(*frame.last_chunk().unwrap())
}

/// Sends these frames, a few each time something happens, and returns the numbers that arrive, until it is the last one.
async fn carry(from: &mut Node, link: LinkId, to: &mut Node, numbers: std::ops::Range<u32>) -> Vec<u32> {
    let last = numbers.end - 1;
    let mut numbers = numbers;
    let mut arrived = Vec::new();
    let carrying = async {
        while arrived.last() != Some(&last) {
            numbers.by_ref().take(5).for_each(|number| from.send(link, Lane::Data, &numbered(number)));
            let (mut of_from, mut of_to) = (Vec::new(), Vec::new());
            tokio::select! {
                () = from.links.next(&mut of_from) => {}
                () = to.links.next(&mut of_to) => {}
            }
            arrived.extend(of_to.iter().filter_map(|input| match input {
                Input::Frame { lane: Lane::Data, bytes, .. } => Some(number_of(bytes)),
                _ => None,
            }));
            from.waiting.extend(of_from);
            to.waiting.extend(of_to);
        }
    };
    tokio::time::timeout(HANG, carrying).await.expect("hangs");
    arrived
}

/// Carries frames until both ends have their bulk lane; returns the next number.
async fn until_bulk(a: &mut Node, a_link: LinkId, b: &mut Node, b_link: LinkId, first: u32) -> u32 {
    let mut next = first;
    let coming = async {
        while !(a.links.is_bulk(a_link) && b.links.is_bulk(b_link)) {
            carry(a, a_link, b, next..next + 20).await;
            next += 20;
            // After a failure it has to wait a while.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG, coming).await.expect("no bulk lane");
    next
}

/// All the room for data that was ever given.
fn room_of(node: &Node, wanted: LinkId) -> usize {
    let room = node.waiting.iter().map(|input| match input {
        Input::Room { link, lane: Lane::Data, bytes } if *link == wanted => *bytes,
        _ => 0,
    });
    room.sum()
}

fn link_is_down(node: &Node) -> bool {
    node.waiting.iter().any(|input| matches!(input, Input::Down { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_carries_much_gets_a_lane_and_nothing_changes_its_order() {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let address = b.address().await;
    let (a_link, b_link, _) = connect(&mut a, &mut b, address).await;
    assert_eq!(carry(&mut a, a_link, &mut b, 0..10).await, Vec::from_iter(0..10));
    let_run(&mut a, &mut b).await;
    assert!(!a.links.is_bulk(a_link) && !b.links.is_bulk(b_link), "not for so little");
    assert_eq!(carry(&mut a, a_link, &mut b, 0..MANY).await, Vec::from_iter(0..MANY));
    until_bulk(&mut a, a_link, &mut b, b_link, MANY).await;
    // The other way, and what is sealed wholly, or no packet at all.
    assert_eq!(carry(&mut b, b_link, &mut a, 0..MANY).await, Vec::from_iter(0..MANY));
    a.waiting.clear();
    for frame in [vec![0xff; Lane::Data.max_frame_bytes()], vec![0x20], Vec::new()] {
        b.send(b_link, Lane::Data, &frame);
        assert_eq!(a.frame().await, (Lane::Data, frame));
    }
    assert!(a.links.is_bulk(a_link) && b.links.is_bulk(b_link));
}

/// Who accepted the link cannot dial the lane, but can ask for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sends_much_gets_the_lane() {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let address = b.address().await;
    let (a_link, b_link, _) = connect(&mut a, &mut b, address).await;
    until_bulk(&mut b, b_link, &mut a, a_link, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_two_simultaneous_links_has_its_lane() {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let (of_a, of_b) = dial_each_other(&mut a, &mut b).await;
    for (a_link, _, _, dialled) in &of_a {
        let (b_link, ..) = of_b.iter().find(|(.., b_dialled)| b_dialled != dialled).unwrap();
        until_bulk(&mut a, *a_link, &mut b, *b_link, 0).await;
    }
    assert!(of_a.iter().all(|(link, ..)| a.links.is_bulk(*link)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_wants_none_has_none() {
    for (mut a, mut b) in [(Node::start(1), Node::without_bulk(2)), (Node::without_bulk(1), Node::start(2))] {
        let address = b.address().await;
        let (a_link, b_link, _) = connect(&mut a, &mut b, address).await;
        assert_eq!(carry(&mut a, a_link, &mut b, 0..MANY).await, Vec::from_iter(0..MANY));
        assert_eq!(carry(&mut b, b_link, &mut a, 0..MANY).await, Vec::from_iter(0..MANY));
        assert!(!a.links.is_bulk(a_link) && !b.links.is_bulk(b_link));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_lane_cannot_come_through_the_link_carries_on() {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let through = Middlebox::before(&b.address().await, 1).await;
    let (a_link, b_link, _) = connect(&mut a, &mut b, through.address.clone()).await;
    assert_eq!(carry(&mut a, a_link, &mut b, 0..MANY).await, Vec::from_iter(0..MANY));
    assert!(through.refused() > 0, "it was tried");
    assert!(!a.links.is_bulk(a_link) && !b.links.is_bulk(b_link));
    assert!(!link_is_down(&a) && !link_is_down(&b));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_lane_falls_back_and_is_tried_again() {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let through = Middlebox::before(&b.address().await, usize::MAX).await;
    let (a_link, b_link, _) = connect(&mut a, &mut b, through.address.clone()).await;
    let mut next = until_bulk(&mut a, a_link, &mut b, b_link, 0).await;
    // More than the kernels take: much of it is never written.
    through.stall(1);
    (next..next + STALLED).for_each(|number| a.send(a_link, Lane::Data, &numbered(number)));
    next += STALLED;
    let_run(&mut a, &mut b).await;
    through.cut(1);
    // What was on the way is lost, the last of many is not.
    let mut arrived = Vec::new();
    let going_on = async {
        while arrived.is_empty() || b.links.is_bulk(b_link) || a.links.is_bulk(a_link) {
            a.send(a_link, Lane::Data, &numbered(next));
            next += 1;
            let_run(&mut a, &mut b).await;
            arrived.extend(b.waiting.drain(..).filter(|input| matches!(input, Input::Frame { .. })));
        }
    };
    tokio::time::timeout(HANG, going_on).await.expect("hangs");
    let next = until_bulk(&mut a, a_link, &mut b, b_link, next).await;
    assert!(!link_is_down(&a) && !link_is_down(&b));
    // What was lost has its room back, or the link would run dry in time.
    let given = FIRST_ROOM_BYTES + next as usize * numbered(0).len();
    let settling = async {
        while room_of(&a, a_link) < given {
            let_run(&mut a, &mut b).await;
        }
    };
    tokio::time::timeout(HANG, settling).await.expect("room is lost");
    assert_eq!(room_of(&a, a_link), given);
}

/// A change on the way is noticed in the sealed part by the lane, in the open part by the session (not here).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_byte_ends_the_lane_and_not_the_link() {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let through = Middlebox::before(&b.address().await, usize::MAX).await;
    let (a_link, b_link, _) = connect(&mut a, &mut b, through.address.clone()).await;
    until_bulk(&mut a, a_link, &mut b, b_link, 0).await;
    through.inject(1, &[0; 64]);
    b.waiting.clear();
    let ending = async {
        while b.links.is_bulk(b_link) {
            a.send(a_link, Lane::Data, &numbered(7));
            let_run(&mut a, &mut b).await;
        }
    };
    tokio::time::timeout(HANG, ending).await.expect("hangs");
    assert!(!link_is_down(&a) && !link_is_down(&b));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_dropped_without_a_word() {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let address = b.address().await;
    let through = Middlebox::before(&address, usize::MAX).await;
    let (a_link, b_link, _) = connect(&mut a, &mut b, through.address.clone()).await;
    until_bulk(&mut a, a_link, &mut b, b_link, 0).await;
    let seen = through.knock(1);
    assert_eq!((seen.len(), seen.first()), (49, Some(&0)));
    let mut forged = seen.clone();
    forged[48] ^= 1;
    // Nonsense, what was seen on the way once more, the same with another proof, and one who says nothing further.
    for knock in [vec![0; 49], seen, forged, vec![0; 1]] {
        let mut stranger = TcpStream::connect(socket_of(&address)).await.unwrap();
        stranger.write_all(&knock).await.unwrap();
        let mut answer = Vec::new();
        let run_a = async {
            loop {
                a.next().await;
            }
        };
        let run_b = async {
            loop {
                b.next().await;
            }
        };
        tokio::select! {
            end = tokio::time::timeout(HANG, stranger.read_to_end(&mut answer)) => drop(end.expect("still open")),
            () = run_a => {}
            () = run_b => {}
        }
        assert!(answer.is_empty(), "{answer:?}");
    }
    assert!(a.links.is_bulk(a_link) && b.links.is_bulk(b_link), "nothing of it touches the lane");
    carry(&mut a, a_link, &mut b, 0..3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flight_mode_silences_the_lane_and_a_new_one_comes_from_the_new_address() {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let through = Middlebox::before(&b.address().await, usize::MAX).await;
    let (a_link, b_link, _) = connect(&mut a, &mut b, through.address.clone()).await;
    let next = until_bulk(&mut a, a_link, &mut b, b_link, 0).await;
    assert_eq!(a.links.network_down(), [a_link]);
    b.send(b_link, Lane::Data, &numbered(next));
    let_run(&mut a, &mut b).await;
    assert_eq!(through.ended(), [false, false], "neither FIN nor RST, on the link or the lane");
    assert!(b.links.is_bulk(b_link) && !link_is_down(&b));
    assert!(!a.links.is_bulk(a_link));

    a.waiting.clear();
    a.links.network_up(Some("127.0.1.9".parse().unwrap())).unwrap();
    let (a_link, b_link, _) = connect(&mut a, &mut b, through.address.clone()).await;
    until_bulk(&mut a, a_link, &mut b, b_link, next).await;
    let from = through.from();
    assert_eq!(from[2..].iter().map(|from| from.ip().to_string()).collect::<Vec<_>>(), ["127.0.1.9"; 2]);
}

/// Passes connections on to one address.
struct Middlebox {
    address: Multiaddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    passed: Vec<Passed>,
    refused: usize,
}

struct Passed {
    from: SocketAddr,
    /// The first bytes from there.
    first: Vec<u8>,
    /// To be put between.
    injected: Vec<u8>,
    stalled: bool,
    ended: bool,
    task: AbortHandle,
}

impl Middlebox {
    /// Lets the first `most` connections through.
    async fn before(target: &Multiaddr, most: usize) -> Self {
        let target = socket_of(target);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let address = format!("/ip4/{}/tcp/{}", address.ip(), address.port()).parse().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((near, from)) = listener.accept().await {
                let number = shared.lock().unwrap().passed.len();
                if number >= most {
                    shared.lock().unwrap().refused += 1;
                    continue;
                }
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let task = tokio::spawn(pass(near, far, Arc::clone(&shared), number)).abort_handle();
                let passed =
                    Passed { from, first: Vec::new(), injected: Vec::new(), stalled: false, ended: false, task };
                shared.lock().unwrap().passed.push(passed);
            }
        });
        Self { address, state }
    }

    fn cut(&self, number: usize) {
        self.state.lock().unwrap().passed[number].task.abort();
    }

    /// Reads nothing more from who dialled.
    fn stall(&self, number: usize) {
        self.state.lock().unwrap().passed[number].stalled = true;
    }

    fn inject(&self, number: usize, bytes: &[u8]) {
        self.state.lock().unwrap().passed[number].injected = bytes.to_vec();
    }

    /// What whoever dialled said before it got an answer, if that was a bulk lane.
    fn knock(&self, number: usize) -> Vec<u8> {
        self.state.lock().unwrap().passed[number].first.clone()
    }

    fn refused(&self) -> usize {
        self.state.lock().unwrap().refused
    }

    fn ended(&self) -> Vec<bool> {
        self.state.lock().unwrap().passed.iter().map(|passed| passed.ended).collect()
    }

    fn from(&self) -> Vec<SocketAddr> {
        self.state.lock().unwrap().passed.iter().map(|passed| passed.from).collect()
    }
}

async fn pass(mut near: TcpStream, mut far: TcpStream, state: Arc<Mutex<State>>, number: usize) {
    let (mut from_near, mut from_far) = (vec![0; 4096], vec![0; 4096]);
    loop {
        let done = tokio::select! {
            read = near.read(&mut from_near) => match read {
                Ok(length @ 1..) => {
                    if state.lock().unwrap().passed.get(number).is_some_and(|passed| passed.stalled) {
                        std::future::pending::<()>().await;
                    }
                    let injected = note(&state, number, &from_near[..length]);
                    far.write_all(&injected).await.and(far.write_all(&from_near[..length]).await)
                }
                _ => break,
            },
            read = far.read(&mut from_far) => match read {
                Ok(length @ 1..) => near.write_all(&from_far[..length]).await,
                _ => break,
            },
        };
        if done.is_err() {
            break;
        }
    }
    state.lock().unwrap().passed[number].ended = true;
}

/// Keeps the first bytes, and takes what is to be put before these.
fn note(state: &Mutex<State>, number: usize, bytes: &[u8]) -> Vec<u8> {
    let mut state = state.lock().unwrap();
    let Some(passed) = state.passed.get_mut(number) else { return Vec::new() };
    if passed.first.is_empty() {
        passed.first = bytes.to_vec();
    }
    std::mem::take(&mut passed.injected)
}

fn socket_of(address: &Multiaddr) -> SocketAddr {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => SocketAddr::new(ip.into(), port),
        other => panic!("{other:?}"),
    }
}
