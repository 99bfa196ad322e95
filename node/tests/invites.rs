//! Invites between real nodes: in, into services, and not in.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Node, PATIENCE, foreground, greeter, is_refusal, muses, stderr};
use node::invite::Invite;
use node::store::{DiskStore, STATE_FILE, Store as _};
use overlay::id::OverlayId;

#[test]
fn an_invite_is_all_that_somebody_needs() {
    let alice = Node::start(&["--name", "alice"]);
    alice.json_when("status", |status| status["listen"][0].is_string() && status["address"].is_string());
    let written = alice.json("invite --for 1h");
    let invite = written["invite"].as_str().unwrap();
    assert_eq!(written["reach"], "machine", "{written}");
    assert!(written["addresses"][0].as_str().unwrap().starts_with("/ip4/127.0.0.1/tcp/"), "{written}");
    let status = alice.json("status");
    assert_eq!((&written["overlay"], &written["node"]), (&status["overlay"], &status["node"]));

    let bob = Node::join(invite, &[]);
    let carol = Node::start(&["--join", &invite.to_uppercase()]);
    let mut dave = foreground(carol.folder.path().join("dave").as_path(), "join", &["-"]);
    let mut dave = dave.stdin(Stdio::piped()).spawn().unwrap();
    writeln!(dave.stdin.take().unwrap(), "{invite}").unwrap();
    for node in [&bob, &carol] {
        let joined = node.json_when("status", |status| status["address"].is_string());
        assert_eq!(joined["overlay"], status["overlay"]);
    }
    line_with(dave.stdout.take().unwrap(), "joined the overlay");
    dave.kill().unwrap();
    dave.wait().unwrap();
}

#[test]
fn a_grant_opens_services_to_as_many_as_it_says() {
    let alice = Node::start(&["--name", "alice"]);
    alice.json_when("status", |status| status["listen"][0].is_string() && status["address"].is_string());
    alice.json(&format!("expose web {}", greeter(b"hello")));
    let unknown = alice.muses("invite --allow wiki");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("muses expose wiki"), "{}", stderr(&unknown));
    let written = alice.json("invite --allow web");
    let invite = written["invite"].as_str().unwrap();

    let mut bob = Node::join(invite, &[]);
    line_with(bob.process.stdout.take().unwrap(), "the invite opened web");
    let target = format!("{}/web", written["node"].as_str().unwrap());
    let local = bob.json(&format!("connect {target} --listen 127.0.0.1:0"))["listen"].as_str().unwrap().to_owned();
    let mut socket = TcpStream::connect(local.parse::<SocketAddr>().unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut heard = String::new();
    socket.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello");

    // Who comes again has what he has, and not what was taken back.
    let again = |bob: &mut Node| {
        bob.json("down");
        bob.wait();
        let mut command = foreground(bob.folder.path(), "join", &[]);
        bob.process = command.arg("--").arg(invite).spawn().unwrap();
        bob.process.stdout.take().unwrap()
    };
    line_with(again(&mut bob), "the invite opened web");
    alice.json(&format!("expose web {}", greeter(b"hello")));
    line_with(again(&mut bob), "the invite opened nothing");
    assert_eq!(alice.json("status")["offers"][0]["allow"], serde_json::json!([]));

    let mut late = Node::join(invite, &[]);
    line_with(
        late.process.stdout.take().unwrap(),
        "the invite opened no service: the invite's services were given away",
    );
    assert_eq!(alice.json("status")["services"].as_array().unwrap().len(), 1, "what is internal is not listed");
}

#[test]
fn an_invite_that_was_taken_back_opens_nothing_and_who_came_before_stays() {
    let alice = Node::start(&["--name", "alice"]);
    alice.json_when("status", |status| status["listen"][0].is_string() && status["address"].is_string());
    alice.json(&format!("expose web {}", greeter(b"hello")));
    let plain = alice.json("invite")["invite"].as_str().unwrap().to_owned();
    is_refusal(&alice.muses(&format!("uninvite {plain}")), 2, &["no secret"]);
    is_refusal(&alice.muses("uninvite 00000000"), 2, &["\"00000000\" is not open here", "muses invites"]);
    let written = alice.json("invite --allow web --uses 2");
    let invite = written["invite"].as_str().unwrap();
    assert_eq!(alice.json("invites")[0]["id"], written["id"]);
    // What is no invite is not shown: it may be one with a letter too many.
    for wrong in [format!("{invite}x"), "1a2b3c4d5".to_owned()] {
        let refused = alice.muses(&format!("uninvite {wrong}"));
        is_refusal(&refused, 2, &["invite"]);
        assert!(!stderr(&refused).contains(&wrong), "{}", stderr(&refused));
    }

    let mut bob = Node::join(invite, &[]);
    line_with(bob.process.stdout.take().unwrap(), "the invite opened web");
    let guest = bob.json("status")["node"].clone();
    let open = alice.json("invites");
    assert_eq!((&open[0]["guests"][0], &open[0]["uses_left"]), (&guest, &1.into()), "{open}");

    let said = typed(alice.folder.path(), "uninvite -", invite);
    assert!(said.contains(&format!("keeps what he got: {}", guest.as_str().unwrap())), "{said}");
    assert!(said.contains("still leads into this open overlay"), "{said}");
    is_refusal(&alice.muses(&format!("uninvite {invite}")), 2, &["this invite is not open here"]);
    assert_eq!(alice.json("invites"), serde_json::json!([]));
    let mut late = Node::join(invite, &[]);
    line_with(late.process.stdout.take().unwrap(), "the invite opened no service");
    let allowed = alice.json("status")["offers"][0]["allow"].clone();
    assert_eq!((&allowed[0]["node"], allowed.as_array().unwrap().len()), (&guest, 1), "{allowed}");
    assert_eq!(bob.json(&format!("services {}", written["node"].as_str().unwrap()))["services"][0]["service"], "web");
}

#[test]
fn a_node_that_runs_takes_an_invite_of_its_overlay() {
    let (alice, mut bob) = common::alice_and_bob();
    alice.json(&format!("expose wiki {}", greeter(b"hello")));
    let invite = alice.json("invite --allow wiki")["invite"].as_str().unwrap().to_owned();
    let plain = alice.json("invite")["invite"].as_str().unwrap().to_owned();
    let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    alice.json(&format!("expose long {} --allow bob", service.local_addr().unwrap()));
    let at = bob.json("connect alice/long --listen 127.0.0.1:0")["listen"].as_str().unwrap().to_owned();
    let mut open = TcpStream::connect(at).unwrap();
    let mut accepted = service.accept().unwrap().0;

    let said = typed(bob.folder.path(), "join -", &invite);
    assert!(said.starts_with("the invite opened wiki; for instance: muses connect 12D3"), "{said}");
    let listed = bob.json("services alice");
    assert!(listed["services"].as_array().unwrap().iter().any(|row| row["service"] == "wiki"), "{listed}");
    assert_eq!(typed(bob.folder.path(), "join -", &invite), said, "who comes again has what he has");
    assert!(typed(bob.folder.path(), "join -", &plain).contains("opens nothing more"));
    let address = bob.json("status")["listen"][0].as_str().unwrap().to_owned();
    assert!(String::from_utf8(bob.muses(&format!("join {address}")).stdout).unwrap().contains("knows this address"));
    open.write_all(b"still").unwrap();
    let mut heard = [0; 5];
    accepted.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still");

    let other = Node::start(&[]);
    other.json_when("status", |status| status["address"].is_string());
    is_refusal(&other.muses(&format!("join {invite}")), 8, &["another one", "--data-dir"]);
    is_refusal(&alice.muses(&format!("join {invite}")), 2, &["own"]);
    is_refusal(&bob.muses(&format!("join --leaf {plain}")), 7, &["without them"]);
    let id = alice.json("invites")[0]["id"].as_str().unwrap().to_owned();
    alice.json(&format!("uninvite {id}"));
    is_refusal(&bob.muses(&format!("join {invite}")), 4, &["invite"]);
    assert!(bob.process.try_wait().unwrap().is_none());
}

#[test]
fn a_member_types_an_invite_that_has_expired_and_goes_on() {
    let alice = Node::start(&["--name", "alice"]);
    alice.json_when("status", |status| status["listen"][0].is_string() && status["address"].is_string());
    let text = alice.json("invite")["invite"].as_str().unwrap().to_owned();
    let good: Invite = text.parse().unwrap();
    let expired = Invite { expires_unix_s: 1_000_000_000, ..good }.to_text().unwrap();
    let mut bob = Node::join(&text, &[]);
    bob.json_when("status", |status| status["address"].is_string());
    bob.json("down");
    bob.wait();
    bob.restart(&["--join", &expired]);
    let status = bob.json_when("status", |status| status["address"].is_string());
    assert_eq!(status["overlay"], alice.json("status")["overlay"]);
}

#[test]
fn an_invite_of_a_leaf_says_for_whom_it_is() {
    let (alice, _bob) = common::alice_and_bob();
    let leaf = Node::join(&alice.invite(), &["--leaf"]);
    leaf.json_when("status", |status| status["address"].is_string());
    assert_eq!(alice.json("invite")["takes_in"], true);
    let said = String::from_utf8(leaf.muses("invite --qr").stdout).unwrap();
    assert!(said.contains("caution: nobody gets into the overlay through this node"), "{said}");
}

/// What a verb says to a line on its stdin.
fn typed(folder: &Path, verb: &str, line: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muses"));
    command.arg("--data-dir").arg(folder).args(verb.split(' ')).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    writeln!(process.stdin.take().unwrap(), "{line}").unwrap();
    let mut said = String::new();
    process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    process.wait().unwrap();
    said
}

#[test]
fn a_bad_invite_is_one_line_and_changes_nothing() {
    let alice = Node::start(&[]);
    alice.json_when("status", |status| status["listen"][0].is_string() && status["address"].is_string());
    let text = alice.json("invite")["invite"].as_str().unwrap().to_owned();
    let good: Invite = text.parse().unwrap();
    let expired = Invite { expires_unix_s: 1_000_000_000, ..good.clone() }.to_text().unwrap();
    let foreign = Invite { overlay: OverlayId::of_genesis(b"another"), ..good }.to_text().unwrap();

    let nobody = tempfile::tempdir().unwrap();
    let folder = nobody.path().join("fresh");
    for (way, code, part) in [
        (&text[..text.len() - 1], 2, "copy it again"),
        ("muses", 2, "starts with muses1"),
        (&expired, 4, "expired"),
        ("/ip4/nowhere", 2, "multiaddr"),
    ] {
        for line in [format!("join {way}"), format!("up --join {way}")] {
            let output = muses(&folder, &line);
            assert_eq!(output.status.code(), Some(code), "{line}: {}", stderr(&output));
            assert!(stderr(&output).contains(part) && stderr(&output).lines().count() == 1, "{}", stderr(&output));
            assert!(!folder.exists(), "{line} made a folder");
        }
    }

    let mut bob = Node::join(&text, &[]);
    bob.json_when("status", |status| status["address"].is_string());
    bob.json("down");
    bob.wait();
    let before = files(bob.folder.path());
    let output = bob.muses(&format!("join {foreign} --name robert --listen /ip4/127.0.0.1/tcp/0"));
    assert_eq!(output.status.code(), Some(8), "{}", stderr(&output));
    let line = stderr(&output);
    let words = ["this data folder belongs to the overlay", "join that one with another data folder"];
    assert!(words.iter().all(|word| line.contains(word)) && line.lines().count() == 1, "{line}");
    assert!(before == files(bob.folder.path()), "something on disk changed");
}

#[test]
fn the_qr_code_says_the_invite() {
    let alice = Node::start(&[]);
    alice.json_when("status", |status| status["listen"][0].is_string() && status["address"].is_string());
    let output = alice.muses("invite --qr");
    let text = String::from_utf8(output.stdout).unwrap();
    let invite = text.lines().next().unwrap();
    // Two modules for each character; what is printed is light.
    let rows: Vec<Vec<char>> =
        text.lines().filter(|line| line.contains(['█', '▀', '▄'])).map(|line| line.chars().collect()).collect();
    let light = |x: usize, y: usize| match rows.get(y / 2).and_then(|row| row.get(x)) {
        Some('█') => true,
        Some('▀') => y.is_multiple_of(2),
        Some('▄') => !y.is_multiple_of(2),
        _ => false,
    };
    // A camera sees several pixels for each module.
    const SCALE: usize = 4;
    let size = rows[0].len() * SCALE;
    let shade = |x, y| if light(x / SCALE, y / SCALE) { 255 } else { 0 };
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(size, size, shade);
    let (_, content) = image.detect_grids().remove(0).decode().unwrap();
    assert_eq!(content.to_lowercase(), invite);
    // To a program goes the invite alone, and to a terminal the code, too.
    let alone = alice.muses("invite");
    let (line, about) = (String::from_utf8(alone.stdout.clone()).unwrap(), stderr(&alone));
    assert!(line.starts_with("muses1") && line.lines().count() == 1, "{line}");
    assert!(about.starts_with("good for 7 days") && about.contains("muses join muses1"), "{about}");
    let words = format!("{} --data-dir {} invite", env!("CARGO_BIN_EXE_muses"), alice.folder.path().display());
    let terminal = Command::new("script").args(["-qec", &words, "/dev/null"]).output();
    match terminal {
        Ok(output) => assert!(String::from_utf8(output.stdout).unwrap().contains('█'), "no code on a terminal"),
        Err(error) => eprintln!("skipped: no terminal, for `script` is not installed ({error})"),
    }
}

/// Reads until a line contains `part`.
fn line_with(from: impl std::io::Read + Send + 'static, part: &str) {
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|line: &String| line.contains(part)) {
        seen.push(lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with {part:?} in {seen:#?}")));
    }
}

/// All that a node keeps, by path; the lock's file names the latest process.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    // A store is looked through when it is opened, which leaves a mark in its file.
    let mut files: BTreeMap<_, _> = if folder.join(STATE_FILE).exists() {
        let stored = DiskStore::open(folder).unwrap().load().unwrap();
        stored.into_iter().map(|(key, value)| (key, value.to_vec())).collect()
    } else {
        BTreeMap::new()
    };
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name != "lock" && name != STATE_FILE) {
            files.insert(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
    files
}
