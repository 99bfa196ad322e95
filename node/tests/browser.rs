//! The dashboard in headless Chromium, against twelve real nodes. Skips itself where there is no Chromium or no Node.js.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "common/chromium.rs"]
mod chromium;
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use common::{Node, PATIENCE, foreground, until};
use node::identity::Keys;
use serde_json::json;

/// Who links to whom, in the order in which they start. Bob has two ways to Alice.
const LINKS: [(&str, &[&str]); 12] = [
    ("r1", &["r2", "r4", "r6", "alice"]),
    ("r2", &["r1", "r3", "r8"]),
    ("r3", &["r2", "bob"]),
    ("r4", &["r1", "r5", "r9"]),
    ("r5", &["r4", "bob"]),
    ("r6", &["r1", "r7"]),
    ("r7", &["r6", "r10"]),
    ("r8", &["r2"]),
    ("r9", &["r4"]),
    ("r10", &["r7"]),
    ("alice", &["r1"]),
    ("bob", &["r3", "r5"]),
];
/// What the download sends each [`PAUSE`].
const PIECE_BYTES: usize = 40_000;
const PAUSE: Duration = Duration::from_millis(50);

#[test]
fn the_dashboard_in_a_browser() {
    let Some(chromium) = chromium::chromium() else { return };
    let axe = chromium::axe();
    let nodes = overlay();
    let (alice, bob) = (&nodes["alice"], &nodes["bob"]);
    download(alice, bob);
    let relays: BTreeMap<&str, u32> = nodes.iter().map(|(name, node)| (*name, node.process.id())).collect();
    let task = json!({
        "url": bob.json("dashboard")["url"],
        "chromium": chromium,
        "axe": axe,
        "pictures": std::env::var("MUSES_PICTURES").ok(),
        "page": std::env::var("MUSES_PAGE").ok(),
        "relays": relays,
    });
    let status = Command::new("node").arg(chromium::script("run.mjs")).arg(task.to_string()).status().unwrap();
    assert!(status.success(), "see above");
}

fn overlay() -> BTreeMap<&'static str, Node> {
    let folders: BTreeMap<&str, tempfile::TempDir> =
        LINKS.iter().map(|(name, _)| (*name, tempfile::tempdir().unwrap())).collect();
    let id = |name: &str| Keys::open(folders[name].path()).unwrap().identity().id().to_string();
    let ids: BTreeMap<&str, String> = LINKS.iter().map(|(name, _)| (*name, id(name))).collect();
    for (name, friends) in LINKS {
        let only: Vec<&String> = friends.iter().map(|friend| &ids[friend]).collect();
        fs::write(folders[name].path().join("config.toml"), format!("[links]\nonly = {only:?}\n")).unwrap();
    }
    let mut nodes: BTreeMap<&str, Node> = BTreeMap::new();
    let mut folders = folders;
    for (name, friends) in LINKS {
        let folder = folders.remove(name).unwrap();
        let joins: Vec<String> = friends.iter().filter_map(|friend| Some(nodes.get(friend)?.invite())).collect();
        let mut args = vec!["--name", name];
        joins.iter().for_each(|join| args.extend(["--join", join]));
        if name == "bob" {
            args.extend(["--dashboard", "127.0.0.1:0"]);
        }
        let process = foreground(folder.path(), "up", &args).spawn().unwrap();
        let node = Node { process, folder };
        until(name, || node.muses("status").status.success());
        node.json_when("status", |status| status["address"].is_string());
        nodes.insert(name, node);
    }
    for (name, _) in LINKS {
        nodes["bob"].json_when(&format!("lookup {name}"), |found| found["node"].is_string());
    }
    nodes
}

/// Bob downloads from Alice without an end, a moderate amount each second.
fn download(alice: &Node, bob: &Node) {
    alice.json(&format!("expose web {} --allow bob", source()));
    let port = bob.json("connect alice/web --listen 127.0.0.1:0")["listen"].as_str().unwrap().to_owned();
    let mut socket = TcpStream::connect(port).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.read_exact(&mut [0; PIECE_BYTES]).unwrap();
    std::thread::spawn(move || {
        socket.set_read_timeout(None).unwrap();
        let mut buffer = vec![0; PIECE_BYTES];
        while socket.read(&mut buffer).is_ok_and(|length| length > 0) {}
    });
}

fn source() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // Not even, so that the curve is no line.
                for pieces in [1, 2, 3, 2, 4, 3, 1, 1, 2].into_iter().cycle() {
                    for _ in 0..20 {
                        if socket.write_all(&vec![7; PIECE_BYTES * pieces]).is_err() {
                            return;
                        }
                        std::thread::sleep(PAUSE);
                    }
                }
            });
        }
    });
    address
}
