//! The SOCKS5 port of a real node: whom a host and port mean, and what is answered when they mean nobody.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use common::{Node, PATIENCE, alice_and_bob, dead_port, greeter, muses, stderr};

/// RFC 1928, section 6.
const GENERAL_FAILURE: u8 = 1;
const NOT_ALLOWED: u8 = 2;
const HOST_UNREACHABLE: u8 = 4;
const REFUSED: u8 = 5;
const COMMAND_NOT_SUPPORTED: u8 = 7;
const ADDRESS_TYPE_NOT_SUPPORTED: u8 = 8;

#[test]
fn hosts_and_ports_lead_to_services_or_have_their_code() {
    let (alice, bob) = alice_and_bob();
    let (web, wiki, mine) = (greeter(b"web"), greeter(b"wiki"), greeter(b"mine"));
    alice.json(&format!("expose web {web} --allow bob"));
    alice.json(&format!("expose wiki {wiki} --allow anyone"));
    alice.json(&format!("expose mine {mine}"));
    alice.json(&format!("expose dead {} --allow anyone", dead_port()));
    let socks: SocketAddr = bob.json("status")["socks"].as_str().unwrap().parse().unwrap();
    let found = bob.json("lookup alice");
    let (id, host) = (found["node"].as_str().unwrap(), found["host"].as_str().unwrap());

    for (host, port, said) in [
        ("alice.muses", 80, "web"),
        ("Alice.Muses.", 80, "web"),
        ("alice.muses", wiki.port(), "wiki"),
        ("wiki.alice.muses", 1, "wiki"),
        (format!("{id}.muses").as_str(), 80, "web"),
        (host, wiki.port(), "wiki"),
        (format!("web.{host}").as_str(), 9, "web"),
    ] {
        let mut socket = connect(socks, host, port).unwrap_or_else(|code| panic!("{host}:{port}: reply {code}"));
        let mut heard = String::new();
        socket.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, said, "{host}:{port}");
    }
    for (host, port, code) in [
        ("nobody.muses", 80, HOST_UNREACHABLE),
        ("..muses", 80, HOST_UNREACHABLE),
        ("alice.muses", 443, NOT_ALLOWED),
        ("alice.muses", mine.port(), NOT_ALLOWED),
        ("mine.alice.muses", 80, NOT_ALLOWED),
        ("nothing.alice.muses", 80, NOT_ALLOWED),
        ("bob.muses", 80, NOT_ALLOWED),
        ("example.com", 80, NOT_ALLOWED),
        ("dead.alice.muses", 80, REFUSED),
    ] {
        assert_eq!(connect(socks, host, port).err(), Some(code), "{host}:{port}");
    }
    let by_address = b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50";
    assert_eq!(ask(socks, by_address).err(), Some(ADDRESS_TYPE_NOT_SUPPORTED));
    for command in [2, 3] {
        let request = [b"\x05\x01\x00\x05".as_slice(), &[command], b"\x00\x03\x0balice.muses\x00\x50"].concat();
        assert_eq!(ask(socks, &request).err(), Some(COMMAND_NOT_SUPPORTED), "{command}");
    }
    assert!(ask(socks, b"GET / HTTP/1.1\r\n\r\n").is_err(), "no SOCKS, no reply");
}

#[test]
fn it_is_off_unless_asked_for_and_a_taken_port_stops_the_start() {
    let node = Node::start(&[]);
    assert!(node.json("status")["socks"].is_null());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = muses(folder.path(), &format!("up --listen /ip4/127.0.0.1/tcp/0 --socks {address}"));
    assert_eq!(output.status.code(), Some(9), "{}", stderr(&output));
    assert!(stderr(&output).contains(&address.to_string()) && stderr(&output).lines().count() == 1);
}

/// A connection to `host`:`port`, or the code of the reply.
fn connect(socks: SocketAddr, host: &str, port: u16) -> Result<TcpStream, u8> {
    let length = [u8::try_from(host.len()).unwrap()];
    let request = [b"\x05\x01\x00\x05\x01\x00\x03", length.as_slice(), host.as_bytes(), &port.to_be_bytes()];
    ask(socks, &request.concat())
}

fn ask(socks: SocketAddr, request: &[u8]) -> Result<TcpStream, u8> {
    let mut socket = TcpStream::connect(socks).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(request).unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).map_err(|_| GENERAL_FAILURE)?;
    assert_eq!(answer[..3], [5, 0, 5]);
    if answer[3] == 0 { Ok(socket) } else { Err(answer[3]) }
}
