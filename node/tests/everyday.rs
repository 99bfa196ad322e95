//! What people do to a running node beside opening connections: close a port, cut a session, deal with names, look for a fault.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use common::{
    Node, PATIENCE, alice_and_bob, dead_port, foreground, greeter, is_refusal, muses, pattern, stderr, until,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[test]
fn a_local_port_is_closed_and_its_connections_go_on() {
    let (alice, bob) = alice_and_bob();
    alice.json(&format!("expose echo {} --allow anyone", echo_service()));
    let connect = || bob.json("connect alice/echo --listen 127.0.0.1:0")["listen"].as_str().unwrap().to_owned();
    let first = connect();
    let mut open = dial(&first);
    assert_eq!(exchange(&mut open, b"before"), *b"before");
    let own = bob.muses("connect bob/echo --listen 127.0.0.1:0");
    assert_eq!(own.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&own.stderr).contains("bob: this is the node itself"), "{own:?}");
    assert_eq!(bob.json(&format!("disconnect {first}"))["closed"][0], first.as_str());
    assert!(TcpStream::connect(&first).is_err(), "the port is still open");
    assert_eq!(exchange(&mut open, b"behind"), *b"behind");
    let (second, third) = (connect(), connect());
    let closed = bob.json("disconnect alice/echo")["closed"].as_array().unwrap().len();
    assert_eq!(closed, 2, "{second}, {third}");
    assert_eq!(bob.json("status")["connects"].as_array().unwrap().len(), 0);
    let nothing = bob.muses("disconnect 127.0.0.1:1");
    assert_eq!((nothing.status.code(), stderr(&nothing).lines().count()), (Some(2), 1), "{}", stderr(&nothing));
}

#[test]
fn a_peer_says_what_one_may_use_and_nothing_else() {
    let (alice, bob) = alice_and_bob();
    let service = greeter(b"x");
    for offer in
        [format!("web {service} --allow anyone"), format!("ssh {service} --allow bob"), format!("mine {service}")]
    {
        alice.json(&format!("expose {offer}"));
    }
    alice.json("expose door listen:127.0.0.1:0 --allow bob");
    let offered = |node: &Node| {
        let services = node.json("services alice")["services"].as_array().unwrap().clone();
        let row = |row: &Value| (row["service"].as_str().unwrap().to_owned(), row["listen"].as_bool().unwrap());
        services.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(offered(&bob), [("door".into(), true), ("ssh".into(), false), ("web".into(), false)]);
    let carol = Node::join(&alice.invite(), &["--name", "carol"]);
    carol.json_when("lookup alice", |found| found["node"].is_string());
    assert_eq!(offered(&carol), [("web".into(), false)], "a stranger");
    let shown = String::from_utf8(bob.muses("services alice").stdout).unwrap();
    let flag = format!(" --data-dir {}\n", bob.folder.path().display());
    assert!(shown.contains(&format!("muses connect alice/web --listen HOST:PORT{flag}")), "{shown}");
    assert!(
        shown.contains(&format!("muses reverse alice/door HOST:PORT{flag}")) && shown.lines().count() == 3,
        "{shown}"
    );
    assert_eq!(alice.json("services bob")["services"], serde_json::json!([]));
    assert!(
        String::from_utf8(alice.muses("services bob").stdout).unwrap().starts_with("bob offers nothing to this node")
    );
    is_refusal(&alice.muses("services alice"), 2, &["the node itself", "muses status"]);
    assert_eq!(bob.muses("services nobody").status.code(), Some(3));
}

#[test]
fn a_port_of_the_node_itself_is_not_said_to_be_another_programs() {
    let (alice, bob) = alice_and_bob();
    alice.json(&format!("expose echo {} --allow bob", echo_service()));
    let status = bob.json("status");
    let link = status["listen"][0].as_str().unwrap().split('/').nth(4).unwrap().to_owned();
    for (at, what) in [
        (status["socks"].as_str().unwrap().to_owned(), "SOCKS5"),
        (status["dashboard"].as_str().unwrap().to_owned(), "dashboard"),
        (status["metrics"].as_str().unwrap().to_owned(), "metrics"),
        (format!("127.0.0.1:{link}"), "links"),
    ] {
        let refused = bob.muses(&format!("connect alice/echo --listen {at}"));
        is_refusal(&refused, 9, &["this node serves", what]);
    }
}

#[test]
fn whoever_an_expose_leaves_out_is_named() {
    let (alice, bob) = alice_and_bob();
    let (service, id) = (echo_service(), bob.json("status")["node"].as_str().unwrap().to_owned());
    let text = |line: String| String::from_utf8(alice.muses(&line).stdout).unwrap();
    assert!(!text(format!("expose echo {service} --allow bob")).contains("no longer"));
    let said = text(format!("expose echo {service} --allow {}", alice.json("status")["node"].as_str().unwrap()));
    assert!(said.contains("no longer") && said.contains("muses cut PEER/echo") && said.contains(&id), "{said}");
    let said = text("unexpose echo".to_owned());
    assert!(said.contains("connections that are open go on"), "{said}");
}

#[test]
fn unix_sockets_stand_where_ports_do() {
    let (alice, bob) = alice_and_bob();
    let folder = tempfile::tempdir().unwrap();
    let [service, local] = ["service", "local"].map(|name| folder.path().join(name));
    let listener = UnixListener::bind(&service).unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut bytes = Vec::new();
            let _ = socket.read_to_end(&mut bytes);
            let _ = socket.write_all(&bytes);
        }
    });
    alice.json(&format!("expose echo unix:{} --allow bob", service.display()));
    let connect = format!("connect alice/echo --listen unix:{}", local.display());
    // One that nobody serves is no obstacle.
    drop(UnixListener::bind(&local).unwrap());
    assert_eq!(bob.json(&connect)["listen"], format!("unix:{}", local.display()));
    assert_eq!(fs::metadata(&local).unwrap().permissions().mode() & 0o777, 0o600);
    let content = pattern(1_000_000);
    let mut socket = UnixStream::connect(&local).unwrap();
    std::thread::scope(|scope| {
        let mut reading = socket.try_clone().unwrap();
        let back = scope.spawn(move || {
            let mut bytes = Vec::new();
            reading.read_to_end(&mut bytes).unwrap();
            bytes
        });
        socket.write_all(&content).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        assert!(back.join().unwrap() == content, "the bytes differ");
    });
    let taken = bob.muses(&connect);
    assert_eq!((taken.status.code(), stderr(&taken).lines().count()), (Some(9), 1), "{}", stderr(&taken));
    assert_eq!(bob.json(&format!("disconnect unix:{}", local.display()))["closed"].as_array().unwrap().len(), 1);
    assert!(!local.exists());
    fs::write(&local, b"a file").unwrap();
    let file = bob.muses(&connect);
    assert_eq!((file.status.code(), fs::read(&local).unwrap()), (Some(9), b"a file".to_vec()), "{}", stderr(&file));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something was left behind");
}

#[test]
fn a_session_is_cut_at_once_and_comes_back_only_if_allowed() {
    let (alice, bob) = alice_and_bob();
    alice.json(&format!("expose echo {} --allow bob", echo_service()));
    let local = bob.json("connect alice/echo --listen 127.0.0.1:0")["listen"].as_str().unwrap().to_owned();
    let mut open = dial(&local);
    assert_eq!(exchange(&mut open, b"before"), *b"before");
    let id = |node: &Node| node.json("status")["node"].clone();
    for (node, peer, name, whose) in [(&alice, &bob, "bob", "here"), (&bob, &alice, "alice", "peer")] {
        let sessions = node.json("sessions");
        let (session, stream) = (&sessions[0], &sessions[0]["streams"][0]);
        assert_eq!((&session["peer"], &session["name"]), (&id(peer), &name.into()), "{sessions}");
        assert_eq!((&stream["service"], &stream["offered_by"]), (&"echo".into(), &whose.into()), "{sessions}");
    }
    let said = String::from_utf8(alice.muses("sessions").stdout).unwrap();
    assert!(said.contains("  bob\n") && said.contains("echo of this node: 6 bytes sent, 6 received"), "{said}");
    let cut = alice.json("cut bob");
    assert_eq!((&cut["streams"], &cut["node"]), (&1.into(), &bob.json("status")["node"]));
    assert!(alice.json("sessions").as_array().unwrap().is_empty(), "the session is still there");
    // A reset, not an end: the application does not take what it has for all there is.
    let told = open.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(told, Err(ErrorKind::ConnectionReset));
    let again = alice.muses("cut bob");
    assert_eq!((again.status.code(), stderr(&again).lines().count()), (Some(2), 1), "{}", stderr(&again));

    // Bob's node learns with his next connection that there is no session; then it makes a new one, as he is still allowed.
    until("bob is back", || {
        let mut socket = dial(&local);
        socket.write_all(b"back").and_then(|()| socket.read_exact(&mut [0; 4])).is_ok()
    });
    alice.json("unexpose echo");
    let again = alice.muses("unexpose echo");
    assert_eq!((again.status.code(), stderr(&again).lines().count()), (Some(2), 1), "{}", stderr(&again));
    assert!(stderr(&again).contains("no service echo is offered"), "{}", stderr(&again));
    alice.json("cut bob");
    until("bob is refused", || bob.muses("pipe alice/echo").status.code() == Some(4));
}

#[test]
fn the_connections_to_one_service_are_cut_and_no_others() {
    let (alice, bob) = alice_and_bob();
    let dialled = |service: &str| {
        alice.json(&format!("expose {service} {} --allow bob", echo_service()));
        let local = bob.json(&format!("connect alice/{service} --listen 127.0.0.1:0"))["listen"].clone();
        let mut socket = dial(local.as_str().unwrap());
        assert_eq!(exchange(&mut socket, b"before"), *b"before");
        socket
    };
    let (mut first, mut second, mut third) = (dialled("first"), dialled("second"), dialled("third"));
    assert_eq!(alice.json("cut bob/first")["streams"], 1);
    let told = |socket: &mut TcpStream| socket.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(told(&mut first), Err(ErrorKind::ConnectionReset));
    // By whoever uses it, too.
    let said = bob.muses("cut alice/second");
    assert_eq!(stderr(&said), "");
    assert!(String::from_utf8(said.stdout).unwrap().contains("1 connection to second with alice ended"));
    assert_eq!(told(&mut second), Err(ErrorKind::ConnectionReset));
    assert_eq!(exchange(&mut third, b"later!"), *b"later!");
    let again = alice.muses("cut bob/first");
    assert_eq!((again.status.code(), stderr(&again).lines().count()), (Some(2), 1), "{}", stderr(&again));
}

#[test]
fn names_are_claimed_pinned_and_forgotten() {
    let (mut alice, bob) = alice_and_bob();
    let id = |node: &Node| node.json("status")["node"].as_str().unwrap().to_owned();
    // Known to Bob since he looked Alice up.
    let pinned = |name: &str| {
        let names = bob.json("name list");
        let row = names.as_array().unwrap().iter().find(|row| row["name"] == name && row["kind"] == "pin");
        row.map(|row| row["node"].as_str().unwrap().to_owned())
    };
    assert_eq!(pinned("alice"), Some(id(&alice)));
    bob.json(&format!("name pin alice {}", id(&bob)));
    assert_eq!(pinned("alice"), Some(id(&bob)));
    assert_eq!(bob.json("lookup alice")["node"], id(&bob).as_str(), "what is pinned holds");
    let gone = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
    bob.json(&format!("name pin alice {gone}"));
    let changed = bob.muses("lookup alice");
    assert_eq!(changed.status.code(), Some(4), "another holder than the pinned one: {}", stderr(&changed));
    assert!(stderr(&changed).contains("muses name unpin"), "{}", stderr(&changed));
    bob.json("name unpin alice");
    assert_eq!(bob.json("lookup alice")["node"], id(&alice).as_str());

    let taken = alice.muses("name claim bob");
    assert_eq!(taken.status.code(), Some(4), "{}", stderr(&taken));
    assert!(stderr(&taken).contains(&id(&bob)) && stderr(&taken).lines().count() == 1);
    assert_eq!(alice.json("status")["name"], "alice");
    let claimed = alice.json("name claim alicia");
    assert_eq!((&claimed["node"], &claimed["next_start"]), (&id(&alice).into(), &"alice".into()));
    assert_eq!(bob.json("lookup alicia")["node"], id(&alice).as_str());
    alice.json("down");
    alice.wait();
    alice.restart(&[]);
    assert_eq!(alice.json("status")["name"], "alicia", "claimed by hand, kept over a restart");
    alice.json("down");
    alice.wait();
    alice.restart(&["--name", "alice"]);
    assert_eq!(alice.json("status")["name"], "alice", "what the command line says counts at each start");
    for (line, code) in [("name claim Not.A.Name", 2), ("name pin alice nonsense", 2), ("name unpin nobody", 2)] {
        let output = bob.muses(line);
        assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(code), 1), "{}", stderr(&output));
    }
}

#[test]
fn the_doctor_names_the_layer_that_fails() {
    let (mut alice, bob) = alice_and_bob();
    alice.json(&format!("expose web {} --allow bob", greeter(b"hello")));
    alice.json(&format!("expose dead {} --allow bob", dead_port()));
    let failing = |node: &Node, line: &str| {
        let output = node.muses(&format!("{line} --json"));
        let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
        let failed = reply["data"]["failed"].as_str().map(str::to_owned);
        assert_eq!(output.status.code() == Some(0), failed.is_none(), "{reply}");
        (failed, output.status.code().unwrap())
    };
    let layer = |layer: &str, code| (Some(layer.to_owned()), code);
    assert_eq!(failing(&bob, "doctor"), (None, 0));
    assert_eq!(failing(&bob, "doctor alice/web"), (None, 0));
    let text = String::from_utf8(bob.muses("doctor alice/web").stdout).unwrap();
    let layers: Vec<_> = text.lines().map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect();
    assert_eq!(layers, ["link", "address", "record", "path", "handshake", "service"], "{text}");
    assert_eq!(failing(&bob, "doctor nobody"), layer("record", 3));
    assert_eq!(failing(&bob, "doctor bob"), (None, 0), "between a node and itself nothing fails");
    assert_eq!(failing(&bob, "doctor bob/nothing"), layer("service", 4));
    assert_eq!(failing(&alice, "doctor alice/web"), (None, 0));
    for line in ["ping bob", "trace bob"] {
        let output = bob.muses(line);
        assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(2), 1), "{}", stderr(&output));
        assert!(
            stderr(&output).contains("bob: this is the node itself, and no way leads there"),
            "{}",
            stderr(&output)
        );
    }
    assert_eq!(failing(&bob, "doctor alice/nothing"), layer("service", 4));
    assert_eq!(failing(&bob, "doctor alice/dead"), layer("service", 4));
    alice.process.kill().unwrap();
    alice.wait();
    until("the dead peer's path fails", || failing(&bob, "doctor alice").0.is_some_and(|layer| layer != "service"));
    bob.json("network down");
    until("no link", || failing(&bob, "doctor alice") == layer("link", 3));
    let asked = bob.muses("ping nobody");
    assert_eq!((asked.status.code(), stderr(&asked).lines().count()), (Some(3), 1), "{}", stderr(&asked));
    assert!(stderr(&asked).contains("flight mode"), "{}", stderr(&asked));
    assert!(bob.json("status")["warning"].as_str().is_some_and(|line| line.contains("flight mode")));
    let nobody = tempfile::tempdir().unwrap();
    assert_eq!(muses(nobody.path(), "doctor").status.code(), Some(6));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let node = Node::start(&[]);
    let id = node.json("status")["node"].as_str().unwrap().to_owned();
    let lines = [
        ("expose ssh 127.0.0.1:0".to_owned(), "port 0"),
        (format!("reverse {id}/door 127.0.0.1:0"), "port 0"),
        (format!("receive --from {id}"), "sends itself nothing"),
        (format!("send /proc/self/status {id}"), "while it is read"),
        ("invite --uses 5000".to_owned(), "1..=1000"),
    ];
    for (line, says) in lines {
        let said = node.muses(&line);
        assert_eq!((said.status.code(), stderr(&said).lines().count()), (Some(2), 1), "{line}: {}", stderr(&said));
        assert!(stderr(&said).contains(says), "{line}: {}", stderr(&said));
    }
}

/// A leaf gives nobody a place, and the only friend is one.
#[test]
fn the_doctor_names_the_address_of_a_node_that_nobody_takes_in() {
    let alice = Node::start(&[]);
    let leaf = Node::start(&["--leaf", "--join", &alice.invite()]);
    let folder = tempfile::tempdir().unwrap();
    let id = leaf.json("status")["node"].clone();
    fs::write(folder.path().join("config.toml"), format!("[links]\nonly = [{id}]\n")).unwrap();
    let process = foreground(folder.path(), "up", &["--join", &leaf.invite()]).spawn().unwrap();
    let node = Node { process, folder };
    node.json_when("peers", |peers| peers.as_array().is_some_and(|peers| !peers.is_empty()));
    let examined = node.muses("doctor --json");
    let found: Value = serde_json::from_slice(&examined.stdout).unwrap();
    assert_eq!((&found["data"]["failed"], examined.status.code()), (&"address".into(), Some(3)), "{found}");
}

/// All its threads: on a busy machine some go on for a while.
fn stand_still(node: &Node) {
    let pid = Pid::from_child(&node.process);
    kill_process(pid, Signal::STOP).unwrap();
    let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
    let stopped = |task: fs::DirEntry| {
        // One that has ended has no state.
        fs::read_to_string(task.path().join("stat")).map_or(true, |stat| stat.contains(") T "))
    };
    until("all stand still", || fs::read_dir(&tasks).unwrap().all(|task| stopped(task.unwrap())));
}

fn go_on(node: &Node) {
    kill_process(Pid::from_child(&node.process), Signal::CONT).unwrap();
}

/// Her record is there, and nothing answers where it says that she is.
#[test]
fn the_doctor_names_the_path_to_a_node_that_stands_still() {
    let carol = Node::start(&["--name", "carol"]);
    let [alice, bob] = ["alice", "bob"].map(|name| Node::start(&["--name", name, "--join", &carol.invite()]));
    bob.json_when("lookup alice", |found| found["node"].is_string());
    bob.json_when("doctor alice", |found| found["failed"].is_null());
    stand_still(&alice);
    let output = bob.muses("doctor alice --json");
    go_on(&alice);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["data"]["failed"], output.status.code()), (&"path".into(), Some(3)), "{found}");
}

/// Who would keep it stands still: that is no refusal, and it can be claimed again.
#[test]
fn a_claim_that_nobody_confirms_ends_in_time() {
    let (alice, bob) = alice_and_bob();
    stand_still(&alice);
    let output = bob.muses("name claim robert");
    let line = stderr(&output);
    assert_eq!((output.status.code(), line.lines().count()), (Some(5), 1), "{line}");
    assert!(line.contains("nobody has confirmed the name robert"), "{line}");
    go_on(&alice);
    until("it is confirmed", || bob.muses("name claim robert").status.success());
}

#[test]
fn who_joins_where_nobody_is_is_told() {
    let nobody = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
    let dead = dead_port();
    let way = format!("/ip4/127.0.0.1/tcp/{}/p2p/{nobody}", dead.port());
    let mut node = Node::join(&way, &[]);
    let said = BufReader::new(node.process.stdout.take().unwrap()).lines();
    let line = said.map_while(Result::ok).find(|line| line.contains("nobody has let this node in")).unwrap();
    assert!(line.contains(&way) && line.contains("goes on trying"), "{line}");
}

#[test]
fn a_log_for_programs_is_an_object_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = foreground(folder.path(), "up", &["--log-format", "json"]);
    let process = command.env("RUST_LOG", "info").stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut node = Node { process, folder };
    until("the node answers", || node.muses("status").status.success());
    fs::write(node.folder.path().join("config.toml"), "lisen = []\n").unwrap();
    let pid = Pid::from_child(&node.process);
    kill_process(pid, Signal::HUP).unwrap();
    let lines = || fs::read_to_string(&log).unwrap();
    until("the mistake is logged", || lines().contains("did you mean listen?"));
    node.json("down");
    node.wait();
    for line in lines().lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        let texts = ["timestamp", "level", "target"].map(|key| object[key].is_string());
        assert!(texts == [true; 3] && object["fields"].is_object(), "{line}");
    }
    assert!(lines().contains("\"level\":\"WARN\""), "{}", lines());
}

#[test]
fn a_log_on_a_terminal_has_colours_unless_they_are_unwanted() {
    for (unwanted, coloured) in [("", true), ("1", false)] {
        let folder = tempfile::tempdir().unwrap();
        let (program, place) = (env!("CARGO_BIN_EXE_muses"), folder.path().display());
        let words = format!("{program} up --listen /ip4/127.0.0.1/tcp/0 --no-mdns --no-upnp --data-dir {place}");
        let mut command = Command::new("script");
        command.args(["-qec", &words, "/dev/null"]).env("RUST_LOG", "debug").env("NO_COLOR", unwanted);
        let Ok(process) = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() else {
            println!("skipped: no terminal, for `script` is not installed");
            return;
        };
        // Its output is read meanwhile, or it would stand still.
        let reading = std::thread::spawn(|| process.wait_with_output().unwrap());
        until("the node answers", || muses(folder.path(), "status").status.success());
        assert_eq!(muses(folder.path(), "down").status.code(), Some(0));
        let screen = reading.join().unwrap();
        let screen = String::from_utf8_lossy(&screen.stdout);
        assert!(screen.contains("DEBUG"), "{screen}");
        assert_eq!(screen.contains("\u{1b}["), coloured, "{screen}");
    }
}

/// A service that says back what it hears.
fn echo_service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || std::io::copy(&mut &socket, &mut &socket));
        }
    });
    address
}

fn dial(address: &str) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn exchange(socket: &mut TcpStream, said: &[u8; 6]) -> [u8; 6] {
    let mut heard = [0; 6];
    socket.write_all(said).unwrap();
    socket.read_exact(&mut heard).unwrap();
    heard
}
