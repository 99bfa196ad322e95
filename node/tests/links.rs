//! Two nodes' links on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/links.rs"]
mod common;

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::core::transport::{DialOpts, PortUse, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, StreamMuxer as _};
use libp2p::identity::Keypair;
use libp2p::{noise, tcp, yamux};
use multiaddr::{Multiaddr, Protocol};
use node::links::Input;
use overlay::io::{CloseReason, Lane};

use common::{Node, connect, dial_each_other, let_run};

fn ip_of(address: &Multiaddr) -> String {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_go_both_ways_on_both_lanes_and_give_room() {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let address = b.address().await;
    let (a_link, b_link, _) = connect(&mut a, &mut b, address).await;
    let longest = vec![0x19; Lane::Data.max_frame_bytes()];
    a.send(a_link, Lane::Control, b"");
    a.send(a_link, Lane::Control, b"hello");
    assert_eq!(b.frame().await, (Lane::Control, Vec::new()));
    assert_eq!(b.frame().await, (Lane::Control, b"hello".to_vec()));
    b.send(b_link, Lane::Data, &longest);
    assert_eq!(a.frame().await, (Lane::Data, longest.clone()));
    let room = b.until(|input| match input {
        Input::Room { lane: Lane::Data, bytes, .. } if bytes == longest.len() => Some(bytes),
        _ => None,
    });
    room.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_is_too_long_is_never_sent_and_a_goodbye_gets_through() {
    let (mut a, mut b) = (Node::start(3), Node::start(4));
    let address = b.address().await;
    let (a_link, b_link, _) = connect(&mut a, &mut b, address).await;
    a.send(a_link, Lane::Control, &vec![0; Lane::Control.max_frame_bytes() + 1]);
    a.send(a_link, Lane::Control, b"goodbye");
    tokio::select! {
        _ = async { loop { a.next().await; } } => {}
        frame = b.frame() => assert_eq!(frame, (Lane::Control, b"goodbye".to_vec())),
    }
    assert!(a.links.close(a_link, CloseReason::Leaving));
    assert!(!a.links.close(a_link, CloseReason::Leaving));
    tokio::select! {
        _ = async { loop { a.next().await; } } => {}
        () = b.down(b_link) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_dial_names_what_was_dialled() {
    let (mut a, mut b) = (Node::start(5), Node::start(6));
    let listens = b.address().await;
    let stranger = libp2p::PeerId::random();
    let wrong_id: Multiaddr = format!("{listens}/p2p/{stranger}").parse().unwrap();
    for address in ["/ip4/127.0.0.1/tcp/1".parse().unwrap(), "/ip4/127.0.0.1/udp/1".parse().unwrap(), wrong_id] {
        a.links.dial(address.clone());
        let failed = a.until(|input| match input {
            Input::DialFailed { address } => Some(address),
            _ => None,
        });
        let run_b = async {
            loop {
                b.next().await;
            }
        };
        tokio::select! {
            failed = failed => assert_eq!(failed, address),
            () = run_b => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flight_mode_is_silence_and_the_return_may_be_from_elsewhere() {
    let (mut a, mut b) = (Node::start(7), Node::start(8));
    let (a_listens, b_listens) = (a.address().await, b.address().await);
    let (a_link, b_link, remote) = connect(&mut a, &mut b, b_listens.clone()).await;
    assert_eq!(ip_of(&remote), "127.0.0.1");

    assert_eq!(a.links.network_down(), [a_link]);
    a.links.dial(b_listens.clone());
    b.send(b_link, Lane::Control, b"into the void");
    let_run(&mut a, &mut b).await;
    assert!(
        !b.waiting.iter().any(|input| matches!(input, Input::Down { .. })),
        "the neighbour sees neither EOF nor RST"
    );
    assert!(a.waiting.iter().any(|input| matches!(input, Input::DialFailed { address } if *address == b_listens)));
    assert!(!a.waiting.iter().any(|input| matches!(input, Input::Frame { .. } | Input::Down { .. })));
    assert!(a.links.listening().is_empty());

    a.waiting.clear();
    a.links.network_up(Some("127.0.1.9".parse().unwrap())).unwrap();
    let listens = a.address().await;
    assert_eq!(listens.to_string(), a_listens.to_string().replace("127.0.0.1", "127.0.1.9"), "the same port");
    a.until(|input| matches!(input, Input::AddressChanged).then_some(())).await;
    let (_, _, remote) = connect(&mut a, &mut b, b_listens).await;
    assert_eq!(ip_of(&remote), "127.0.1.9");
    // The old address is closed, the new one open.
    b.links.dial(a_listens.clone());
    b.until(|input| matches!(input, Input::DialFailed { address } if address == a_listens).then_some(())).await;
    connect(&mut b, &mut a, listens).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_not_ours_leaves_the_network_as_it_is() {
    let mut a = Node::start(9);
    let listens = a.address().await;
    assert!(a.links.network_up(Some("192.0.2.1".parse().unwrap())).is_err());
    assert!(a.links.network_is_up() && a.links.listening() == [listens.clone()]);
    a.links.network_down();
    assert!(a.links.network_up(Some("192.0.2.1".parse().unwrap())).is_err());
    assert!(a.links.listening().is_empty());
    a.waiting.clear();
    a.links.network_up(None).unwrap();
    a.until(|input| matches!(input, Input::Listening(addresses) if addresses == [listens.clone()]).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_leaves_the_network_as_it_is() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let taken = std::net::TcpListener::bind(("127.0.0.9", port)).unwrap();
    let mut a = Node::listening_on(30, &format!("/ip4/127.0.0.1/tcp/{port}"));
    let mut b = Node::start(31);
    let (listens, address) = (a.address().await, b.address().await);
    let (a_link, ..) = connect(&mut a, &mut b, address).await;
    let there = Some("127.0.0.9".parse().unwrap());
    let line = a.links.network_up(there).unwrap_err();
    assert!(line.contains("127.0.0.9") && !line.contains('\n'), "{line}");
    assert!(a.links.network_is_up() && a.links.listening() == [listens.clone()]);
    a.send(a_link, Lane::Control, b"\xffstill here");
    assert_eq!(b.frame().await, (Lane::Control, b"\xffstill here".to_vec()));
    b.links.dial(listens);
    tokio::join!(a.up(), b.up());
    // In flight mode it goes on.
    a.links.network_down();
    assert!(a.links.network_up(there).is_err());
    assert!(!a.links.network_is_up() && a.links.listening().is_empty());
    drop(taken);
    a.waiting.clear();
    a.links.network_up(there).unwrap();
    assert_eq!(a.address().await.to_string(), format!("/ip4/127.0.0.9/tcp/{port}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_make_two_links() {
    let (mut a, mut b) = (Node::start(10), Node::start(11));
    let (of_a, of_b) = dial_each_other(&mut a, &mut b).await;
    for ends in [of_a, of_b] {
        let dialled = ends.map(|(.., dialled)| dialled);
        assert!(dialled.contains(&true) && dialled.contains(&false));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_that_vanishes_takes_its_link_down() {
    let (mut a, mut b) = (Node::start(12), Node::start(13));
    let address = b.address().await;
    let (a_link, _, _) = connect(&mut a, &mut b, address).await;
    b.links.end().await;
    a.down(a_link).await;
}

/// Whichever lane, or the connection, the other end sees ending first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_link_is_always_told() {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let address = b.address().await;
    for round in 0..100_u8 {
        let (a_link, b_link, _) = connect(&mut a, &mut b, address.clone()).await;
        a.send(a_link, Lane::Control, &[round]);
        assert!(a.links.close(a_link, CloseReason::Replaced));
        let a_runs = async {
            loop {
                a.next().await;
            }
        };
        tokio::select! {
            () = b.down(b_link) => {}
            () = a_runs => {}
        }
    }
}

/// libp2p keeps a connection as long as somebody holds a stream of it. Who opens one lane and then falls silent, as a mover may, is not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_link_is_given_up() {
    let mut b = Node::start(30);
    let address = b.address().await;
    let noise = noise::Config::new(&Keypair::generate_ed25519()).unwrap();
    let transport = tcp::tokio::Transport::default().upgrade(Version::V1);
    let mut transport = transport.authenticate(noise).multiplex(yamux::Config::default()).boxed();
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let visit = async {
        let (_, mut muxer) = transport.dial(address, options).unwrap().await.unwrap();
        let mut stream = poll_fn(|cx| Pin::new(&mut muxer).poll_outbound(cx)).await.unwrap();
        let mut answer = [0; 38];
        let asking = async {
            stream.write_all(b"\x13/multistream/1.0.0\n\x11/cloak/control/1\n").await.unwrap();
            stream.flush().await.unwrap();
            stream.read_exact(&mut answer).await.unwrap();
            pending::<()>().await;
        };
        let ended = poll_fn(|cx| Pin::new(&mut muxer).poll(cx).map(|event| event.is_err()));
        tokio::select! {
            () = asking => {}
            is_over = ended => assert!(is_over, "the connection goes on"),
        }
        assert!(answer.ends_with(b"\x11/cloak/control/1\n"), "the lane was not taken: {answer:?}");
    };
    let end = async {
        tokio::select! {
            () = visit => {}
            _ = async { loop { b.next().await; } } => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(60), end).await.expect("the connection is kept");
}

/// The dialling end writes while it does not know yet whether the other one speaks the protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_is_sent_at_once_on_a_new_link_arrives() {
    const LINKS: usize = 100;
    const FRAMES: usize = 40;
    let (mut a, mut b) = (Node::start(30), Node::start(31));
    let address = b.address().await;
    for _ in 0..LINKS {
        let (a_link, _, _) = connect(&mut a, &mut b, address.clone()).await;
        for _ in 0..FRAMES {
            a.send(a_link, Lane::Data, &[0x19; 16 * 1024]);
        }
        let all = async {
            for _ in 0..FRAMES {
                b.frame().await;
            }
        };
        tokio::select! {
            _ = async { loop { a.next().await; } } => {}
            () = all => {}
        }
        a.links.close(a_link, CloseReason::Leaving);
        b.waiting.clear();
    }
}
