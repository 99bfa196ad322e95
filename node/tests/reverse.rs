//! Ports at a peer's that lead back: for those who may have them, as long as they stay, and nowhere else.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{Node, PATIENCE, alice_and_bob, greeter, stderr, until};
use serde_json::Value;

#[test]
fn a_port_leads_back_across_an_outage_until_its_command_ends() {
    let (alice, bob) = alice_and_bob();
    alice.json("expose door listen:127.0.0.1:0 --allow bob");
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut command, made) = reverse(&bob, &format!("alice/door {}", service.local_addr().unwrap()));
    assert_eq!(made["node"], alice.json("status")["node"]);
    let port: SocketAddr = made["listen"].as_str().unwrap().parse().unwrap();
    let mut program = connect(port);
    let mut served = service.accept().unwrap().0;
    served.set_read_timeout(Some(PATIENCE)).unwrap();
    echo(&mut program, &mut served);

    bob.json("network down");
    program.write_all(b"x").unwrap();
    bob.json("network up");
    let mut byte = [0];
    served.read_exact(&mut byte).unwrap();
    echo(&mut program, &mut served);
    let mut second = connect(port);
    echo(&mut second, &mut service.accept().unwrap().0);

    command.kill().unwrap();
    command.wait().unwrap();
    until("the port is closed", || TcpStream::connect(port).is_err());
    echo(&mut program, &mut served);
    let listed = bob.json("status")["services"].clone();
    assert_eq!(listed, serde_json::json!([]), "what is internal is not listed");
}

#[test]
fn a_port_leads_back_to_a_unix_socket() {
    let (alice, bob) = alice_and_bob();
    alice.json("expose door listen:127.0.0.1:0 --allow bob");
    let path = bob.folder.path().join("service");
    let service = UnixListener::bind(&path).unwrap();
    let (mut command, made) = reverse(&bob, &format!("alice/door unix:{}", path.display()));
    let mut program = connect(made["listen"].as_str().unwrap().parse().unwrap());
    program.write_all(b"there").unwrap();
    let mut served = service.accept().unwrap().0;
    served.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = [0; 5];
    served.read_exact(&mut heard).unwrap();
    served.write_all(b"again").unwrap();
    drop(served);
    let mut back = Vec::new();
    program.read_to_end(&mut back).unwrap();
    assert_eq!((&heard, back.as_slice()), (b"there", b"again".as_slice()));
    command.kill().unwrap();
    command.wait().unwrap();
}

#[test]
fn nobody_has_a_port_whom_it_was_not_given_to() {
    let (alice, bob) = alice_and_bob();
    let web = greeter(b"web");
    alice.json("expose mine listen:127.0.0.1:0");
    alice.json(&format!("expose web {web} --allow bob"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    alice.json(&format!("expose taken listen:{} --allow bob", taken.local_addr().unwrap()));
    for (place, says) in [
        ("alice/mine", "does not offer"),
        ("alice/nothing", "does not offer"),
        ("alice/web", "muses expose NAME listen:HOST:PORT"),
        ("alice/taken", "another program uses this port"),
    ] {
        let output = bob.muses(&format!("reverse {place} {web}"));
        let line = stderr(&output);
        assert_eq!((output.status.code(), line.lines().count()), (Some(4), 1), "{place}: {line}");
        assert!(line.contains(says), "{place}: {line}");
    }
    for line in ["reverse alice/web listen:127.0.0.1:0", "connect alice/web --listen listen:127.0.0.1:0"] {
        assert_eq!(bob.muses(line).status.code(), Some(2), "{line}");
    }
}

/// The first line is on stdout when the port goes; the second one says that it went.
#[test]
fn a_port_that_goes_ends_its_command_with_an_error() {
    let (alice, bob) = alice_and_bob();
    alice.json("expose door listen:127.0.0.1:0 --allow bob");
    let (mut command, mut said, made) = reverse_and_listen(&bob, &format!("alice/door {}", greeter(b"web")));
    alice.json("cut bob");
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let reply: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&reply["status"], &reply["code"]), (&"error".into(), &1.into()), "{reply}");
    assert!(reply["message"].as_str().unwrap().starts_with("alice/door: the port is closed"), "{reply}");
    line.clear();
    assert_eq!((said.read_line(&mut line).unwrap(), command.wait().unwrap().code()), (0, Some(1)), "{line}");
    // The two ends of a cut hear of it one after the other.
    until("the port is closed", || TcpStream::connect(made["listen"].as_str().unwrap()).is_err());
}

/// The command, which stays, and what it printed.
fn reverse(node: &Node, words: &str) -> (Child, Value) {
    let (process, _, made) = reverse_and_listen(node, words);
    (process, made)
}

/// The same, and what more it prints.
fn reverse_and_listen(node: &Node, words: &str) -> (Child, BufReader<ChildStdout>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
    command.arg("--data-dir").arg(node.folder.path()).arg("reverse").args(words.split_whitespace()).arg("--json");
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(process.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let reply: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(reply["status"], "ok", "{reply}");
    (process, stdout, reply["data"].clone())
}

fn connect(port: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(port).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Bytes go both ways.
fn echo(one: &mut TcpStream, other: &mut TcpStream) {
    let mut heard = [0; 4];
    one.write_all(b"ping").unwrap();
    other.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
    other.write_all(b"pong").unwrap();
    one.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"pong");
}
