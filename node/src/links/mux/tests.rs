//! A neighbour that writes Yamux by hand.

use std::future::poll_fn;
use std::time::Duration;

use futures::AsyncReadExt as _;
use libp2p::tcp::tokio::TcpStream as Socket;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Limits for a hang, not measurements.
const HANG: Duration = Duration::from_secs(60);
const DATA: u8 = 0;
const WINDOW: u8 = 1;
const PING: u8 = 2;
const GO_AWAY: u8 = 3;
const SYN: u16 = 1;
const ACK: u16 = 2;

async fn pair() -> (Muxer<Socket>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hostile = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    (Muxer::new(Socket(ours), Mode::Server), hostile)
}

/// The header of a frame; its last field is a length, a window's growth or a ping's number.
fn header(kind: u8, flags: u16, stream: u32, last: u32) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend(last.to_be_bytes());
    bytes
}

/// Reads what the neighbour sends on all streams, as fast as it can, until the connection ends.
async fn read_all(mut muxer: Muxer<Socket>) {
    let mut streams = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    poll_fn(|cx| {
        loop {
            match Pin::new(&mut muxer).poll_inbound(cx) {
                Poll::Ready(Ok(stream)) => streams.push(stream),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        for stream in &mut streams {
            while let Poll::Ready(Ok(1..)) = Pin::new(&mut *stream).poll_read(cx, &mut buffer) {}
        }
        Poll::Pending
    })
    .await;
}

/// A neighbour's window is what he may have this node keep.
#[tokio::test]
async fn who_answers_pings_late_may_not_have_more_and_more_kept() {
    const ALL: u64 = 64 * 1024 * 1024;
    let (muxer, mut hostile) = pair().await;
    let reading = tokio::spawn(read_all(muxer));
    let flood = async {
        hostile.write_all(&header(DATA, SYN, 1, 0)).await.unwrap();
        let (mut window, mut largest, mut sent, mut pinged) = (DEFAULT_CREDIT, 0, 0, false);
        while sent < ALL {
            // Nothing is sent before the first ping has its late answer.
            if pinged && window > 0 {
                let length = window.min(64 * 1024);
                hostile.write_all(&header(DATA, 0, 1, length)).await.unwrap();
                hostile.write_all(&vec![0; length as usize]).await.unwrap();
                window -= length;
                sent += u64::from(length);
                continue;
            }
            let mut told = [0; 12];
            hostile.read_exact(&mut told).await.unwrap();
            let last = u32::from_be_bytes(told[8..].try_into().unwrap());
            match told[1] {
                WINDOW => window += last,
                PING => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    hostile.write_all(&header(PING, ACK, 0, last)).await.unwrap();
                    pinged = true;
                }
                kind => panic!("frame {kind}"),
            }
            largest = largest.max(window);
        }
        largest
    };
    let largest = tokio::time::timeout(HANG, flood).await.unwrap() as usize;
    let most = MAX_UNREAD_BYTES - (MAX_STREAMS - 1) * DEFAULT_CREDIT as usize;
    assert!(largest <= most, "{largest} bytes in one stream, {most} are meant to be possible");
    reading.abort();
}

#[tokio::test]
async fn a_stream_too_many_does_not_open() {
    let (mut muxer, mut hostile) = pair().await;
    let hostile = async {
        for stream in 0..=u32::try_from(MAX_STREAMS).unwrap() {
            hostile.write_all(&header(DATA, SYN, 2 * stream + 1, 0)).await.unwrap();
        }
        let mut told = [0; 12];
        while told[1] != GO_AWAY {
            hostile.read_exact(&mut told).await.unwrap();
        }
    };
    let mut opened = Vec::new();
    let accept = async {
        loop {
            opened.push(poll_fn(|cx| Pin::new(&mut muxer).poll_inbound(cx)).await.unwrap());
        }
    };
    let told = async {
        tokio::select! {
            () = hostile => {}
            () = accept => {}
        }
    };
    tokio::time::timeout(HANG, told).await.unwrap();
    assert_eq!(opened.len(), MAX_STREAMS);
}

/// As libp2p's own, and with it.
#[tokio::test]
async fn speaks_with_yamux_of_libp2p() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    let mut muxer = Muxer::new(Socket(ours), Mode::Server);
    let mut theirs = libp2p::yamux::Config::default().upgrade_outbound(Socket(theirs), "/yamux/1.0.0").await.unwrap();
    let said = async {
        let mut stream = poll_fn(|cx| Pin::new(&mut theirs).poll_outbound(cx)).await.unwrap();
        let work = poll_fn(|cx| Pin::new(&mut theirs).poll(cx));
        let write = async {
            futures::AsyncWriteExt::write_all(&mut stream, b"hello").await.unwrap();
            futures::AsyncWriteExt::close(&mut stream).await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = work => panic!("the connection ended"),
            () = write => {}
        }
    };
    let heard = async {
        let mut stream = poll_fn(|cx| Pin::new(&mut muxer).poll_inbound(cx)).await.unwrap();
        let mut heard = Vec::new();
        tokio::select! {
            _ = poll_fn(|cx| Pin::new(&mut muxer).poll(cx)) => panic!("the connection ended"),
            read = stream.read_to_end(&mut heard) => read.unwrap(),
        };
        heard
    };
    let both = async {
        tokio::select! {
            () = said => Vec::new(),
            heard = heard => heard,
        }
    };
    assert_eq!(tokio::time::timeout(HANG, both).await.unwrap(), b"hello");
}
