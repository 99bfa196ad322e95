//! The dashboard's door and interface, over real sockets.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, channel};

use common::http::{self, Reply};
use common::schema::{compare, documented};
use common::{Node, alice_and_bob, greeter, muses, stderr, until};
use serde_json::Value;

/// A page that is open: its headers.
struct Page {
    address: String,
    origin: String,
    cookie: String,
    key: String,
}

impl Page {
    fn open(node: &Node) -> Self {
        let (address, token) = url(node);
        let origin = format!("http://{address}");
        let body = format!("{{\"token\":\"{token}\"}}");
        let reply = http::request(
            &address,
            "POST",
            "/api/login",
            &[("Host", &address), ("Origin", &origin), ("Content-Type", "application/json")],
            &body,
        );
        assert_eq!(reply.status, 200, "{}", reply.body);
        let cookie = reply.header("set-cookie");
        for part in ["HttpOnly", "SameSite=Strict", "Path=/api/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Self { address, origin, cookie, key: reply.json()["key"].as_str().unwrap().to_owned() }
    }

    fn headers(&self) -> BTreeMap<&str, &str> {
        BTreeMap::from([
            ("Host", self.address.as_str()),
            ("Origin", &self.origin),
            ("Cookie", &self.cookie),
            ("X-Muses-Key", &self.key),
            ("Content-Type", "application/json"),
        ])
    }

    fn with<'a>(
        &'a self,
        method: &str,
        path: &str,
        body: &str,
        change: impl FnOnce(&mut BTreeMap<&'a str, &'a str>),
    ) -> Reply {
        let mut headers = self.headers();
        change(&mut headers);
        let headers: Vec<(&str, &str)> = headers.into_iter().collect();
        http::request(&self.address, method, path, &headers, body)
    }

    fn get(&self, path: &str) -> Reply {
        self.with("GET", path, "", |_| ())
    }

    fn post(&self, path: &str, body: &str) -> Reply {
        self.with("POST", path, body, |_| ())
    }

    fn follow(&self) -> BufReader<TcpStream> {
        let mut socket = http::connect(&self.address);
        let headers: Vec<(&str, &str)> = self.headers().into_iter().collect();
        http::send(&mut socket, "GET", "/api/feed", &headers, "");
        BufReader::new(socket)
    }
}

/// Address and token of the node's dashboard.
fn url(node: &Node) -> (String, String) {
    let url = node.json("dashboard")["url"].as_str().unwrap().to_owned();
    let (address, token) = url.strip_prefix("http://").unwrap().split_once("/#").unwrap();
    (address.to_owned(), token.to_owned())
}

fn node() -> Node {
    Node::start(&["--name", "alice", "--dashboard", "127.0.0.1:0"])
}

/// The next message of a feed.
fn message(feed: &mut BufReader<TcpStream>) -> (String, Value) {
    let mut event = String::new();
    loop {
        let mut line = String::new();
        assert_ne!(feed.read_line(&mut line).unwrap(), 0, "the feed ended");
        if let Some(name) = line.strip_prefix("event: ") {
            event = name.trim_end().to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            return (event, serde_json::from_str(data).unwrap());
        }
    }
}

fn message_when(feed: &mut BufReader<TcpStream>, wanted: impl Fn(&str, &Value) -> bool) -> Value {
    let mut found = None;
    until("the message", || {
        let (event, data) = message(feed);
        found = wanted(&event, &data).then_some(data);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn nobody_gets_in_without_cookie_and_key_host_and_origin() {
    let (node, other) = (node(), node());
    let page = Page::open(&node);
    let foreign = Page::open(&other);
    assert_eq!(page.get("/api/state").status, 200);
    let get = |change: &dyn Fn(&mut BTreeMap<&str, &str>)| {
        page.with("GET", "/api/state", "", |headers| change(headers)).status
    };
    assert_eq!(get(&|headers| _ = headers.remove("Cookie")), 401);
    assert_eq!(get(&|headers| _ = headers.remove("X-Muses-Key")), 401);
    let spoilt = page.cookie.replace(|digit: char| digit.is_ascii_digit(), "a");
    let foreign_cookie =
        page.cookie.split('=').next().unwrap().to_owned() + "=" + foreign.cookie.split('=').nth(1).unwrap();
    for cookie in [spoilt.as_str(), "muses=1", "", &foreign_cookie, &foreign.cookie] {
        assert_eq!(page.with("GET", "/api/state", "", |headers| _ = headers.insert("Cookie", cookie)).status, 401);
    }
    assert_eq!(
        page.with("GET", "/api/state", "", |headers| _ = headers.insert("X-Muses-Key", &foreign.key)).status,
        401
    );
    for host in ["evil.example", "evil.example:7070", "10.0.0.1", ""] {
        let reply = page.with("GET", "/", "", |headers| _ = headers.insert("Host", host));
        assert_eq!(reply.status, 403, "{host}");
    }
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1", &foreign.origin] {
        let read = page.with("GET", "/api/state", "", |headers| _ = headers.insert("Origin", origin));
        assert_eq!(read.status, 403, "{origin}");
        let post = page.with("POST", "/api/network", "{\"up\":false}", |headers| _ = headers.insert("Origin", origin));
        assert_eq!(post.status, 403, "{origin}");
    }
    let post = |name| page.with("POST", "/api/network", "{\"up\":false}", |headers| _ = headers.remove(name)).status;
    assert_eq!((post("Origin"), post("Cookie"), post("X-Muses-Key"), post("Content-Type")), (403, 401, 401, 415));
    assert_eq!(
        page.with("GET", "/api/state", "", |headers| _ = headers.insert("Sec-Fetch-Site", "same-site")).status,
        403
    );
    assert_eq!(page.get("/api/state").json()["network_up"], true, "nothing of that did anything");
}

#[test]
fn another_token_opens_nothing() {
    let (node, other) = (node(), node());
    let ((address, token), (_, foreign)) = (url(&node), url(&other));
    let origin = format!("http://{address}");
    let headers = [("Host", address.as_str()), ("Origin", &origin), ("Content-Type", "application/json")];
    for wrong in [foreign.as_str(), "", &token[1..], &format!("{token}0"), &token.to_uppercase()] {
        let reply = http::request(&address, "POST", "/api/login", &headers, &format!("{{\"token\":\"{wrong}\"}}"));
        assert_eq!((reply.status, reply.header("set-cookie")), (401, ""), "{}", reply.body);
    }
    let long = format!("{{\"token\":\"{}\"}}", "a".repeat(5000));
    for (body, status) in [("", 400), ("{}", 400), ("{\"token\":1}", 400), (long.as_str(), 413)] {
        assert_eq!(http::request(&address, "POST", "/api/login", &headers, body).status, status, "{body}");
    }
    let file = node.folder.path().join("dashboard.token");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), token);
}

#[test]
fn the_page_is_whole_and_loads_nothing_from_elsewhere() {
    let node = node();
    let (address, _) = url(&node);
    let get = |path: &str| http::request(&address, "GET", path, &[("Host", &address)], "");
    let html = get("/");
    assert_eq!((html.status, html.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = html.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part) && !policy.contains("unsafe"), "{policy}");
    }
    assert_eq!((html.header("x-content-type-options"), html.header("cache-control")), ("nosniff", "no-store"));
    assert!(!html.body.contains(" style=") && !html.body.contains(" onclick="));
    // Everything that is named is there, and what it names, too.
    let mut waiting = vec!["/".to_owned()];
    let mut seen = BTreeMap::new();
    while let Some(path) = waiting.pop() {
        if seen.contains_key(&path) {
            continue;
        }
        let reply = get(&path);
        assert_eq!(reply.status, 200, "{path}");
        let body = reply.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!body.contains("http://") && !body.contains("https://"), "{path} names another server");
        let quoted =
            body.split('"').filter(|text| text.ends_with(".js") || text.ends_with(".css") || text.ends_with(".svg"));
        waiting.extend(quoted.map(|name| format!("/{}", name.trim_start_matches("./").trim_start_matches('/'))));
        seen.insert(path, ());
    }
    assert!(seen.len() >= 10, "{seen:?}");
    assert_eq!((get("/nothing").status, get("/../main.js").status, get("/api/nothing").status), (404, 404, 401));
    assert_eq!(http::request(&address, "PUT", "/", &[("Host", &address)], "").status, 405);
}

#[test]
fn the_page_does_what_its_owner_wants() {
    let (alice, bob) = alice_and_bob();
    alice.json(&format!("expose hello {} --allow bob", greeter(b"hello")));
    assert_eq!(bob.muses("pipe alice/hello").stdout, b"hello");
    let page = Page::open(&bob);
    let alice_id = alice.json("status")["node"].as_str().unwrap().to_owned();
    assert_eq!(page.post("/api/network", "{\"up\":false}").status, 200);
    bob.json_when("status", |status| status["links"] == 0);
    assert_eq!(page.get("/api/state").json()["network_up"], false);
    assert_eq!(page.post("/api/network", "{\"up\":true}").status, 200);
    bob.json_when("status", |status| status["links"] == 1);
    assert_eq!(bob.json("sessions").as_array().unwrap().len(), 1);
    let cut = page.post("/api/cut", &format!("{{\"peer\":\"{alice_id}\"}}"));
    assert_eq!((cut.status, &cut.json()["node"]), (200, &alice_id.as_str().into()));
    assert_eq!(bob.json("sessions").as_array().unwrap().len(), 0);
    let again = page.post("/api/cut", &format!("{{\"peer\":\"{alice_id}\"}}"));
    assert_eq!(again.status, 409, "{}", again.body);
    assert!(again.json()["message"].as_str().unwrap().contains("no session"));
    for body in ["{\"peer\":\"alice\"}", "{\"peer\":\"alice\",\"x\":1}", "[]", "{\"peer\":\"\\u0000\"}"] {
        assert_eq!(page.post("/api/cut", body).status, 400, "{body}");
    }
    assert_eq!((page.get("/api/path?peer=bob").status, page.get("/api/path").status), (400, 400));
    assert_eq!((page.get("/api/network").status, page.post("/api/state", "{}").status), (405, 405));
}

#[test]
fn the_feed_tells_what_happens_and_is_bounded() {
    let node = node();
    let page = Page::open(&node);
    let mut feed = page.follow();
    let (status, headers) = http::head(&mut feed);
    assert_eq!(status, 200);
    assert!(headers.contains(&("content-type".to_owned(), "text/event-stream".to_owned())), "{headers:?}");
    let (first, history) = message(&mut feed);
    assert_eq!((first.as_str(), history["samples"].is_array()), ("history", true));
    message_when(&mut feed, |event, data| event == "state" && data["network_up"] == true);
    message_when(&mut feed, |event, data| event == "sample" && data["received_bytes_per_s"] == 0);
    node.json("network down");
    message_when(&mut feed, |event, data| event == "state" && data["network_up"] == false);
    // Whoever comes later is told what was.
    let others: Vec<_> = (0..7).map(|_| page.follow()).collect();
    for mut other in others.iter().map(|other| BufReader::new(other.get_ref().try_clone().unwrap())) {
        assert_eq!(http::head(&mut other).0, 200);
        assert_eq!(message(&mut other).0, "history");
    }
    assert_eq!(page.get("/api/feed").status, 503, "more than eight");
    drop(others);
    until("a place is free again", || {
        let mut late = page.follow();
        http::head(&mut late).0 == 200
    });
    assert_eq!(node.muses("down").status.code(), Some(0));
}

#[test]
fn the_interface_is_as_documented() {
    let documented = documented("dashboard.md");
    let (alice, bob) = alice_and_bob();
    alice.json(&format!("expose hello {} --allow bob", greeter(b"hello")));
    let page = Page::open(&bob);
    let mut feed = page.follow();
    assert_eq!(bob.muses("pipe alice/hello").stdout, b"hello");
    let alice_id = alice.json("status")["node"].as_str().unwrap().to_owned();
    let mut said = BTreeMap::from([
        ("GET /api/state", page.get("/api/state").json()),
        ("GET /api/path", page.get(&format!("/api/path?peer={alice_id}")).json()),
        ("POST /api/network", page.post("/api/network", "{\"up\":true}").json()),
        ("GET /api/scenario", page.get("/api/scenario").json()),
        ("POST /api/scenario", testnets_page_says()),
        ("POST /api/cut", page.post("/api/cut", &format!("{{\"peer\":\"{alice_id}\"}}")).json()),
        ("errors", page.post("/api/cut", "{}").json()),
    ]);
    let (address, token) = url(&bob);
    let headers = [("Host", address.as_str()), ("Origin", &page.origin), ("Content-Type", "application/json")];
    let login = http::request(&address, "POST", "/api/login", &headers, &format!("{{\"token\":\"{token}\"}}"));
    said.insert("POST /api/login", login.json());
    for event in ["history", "sample", "fact", "state"] {
        if event == "fact" {
            bob.json("network down");
            bob.json("network up");
        }
        said.insert(event, message_when(&mut feed, |name, _| name == event));
    }
    assert_eq!(said.keys().copied().collect::<Vec<_>>(), documented.keys().map(String::as_str).collect::<Vec<_>>());
    for (what, data) in said {
        let complaints = compare(&data, &documented[what]);
        assert!(complaints.is_empty(), "{what}: {complaints:#?}\n{data}");
    }
}

/// What a testnet answers to an order, as in [`orders_go_to_the_testnet_and_to_nobody_else`].
const TESTNET: &str = r#"{"status":"ok","data":{"said":"n1 is away","parted":false,"nodes":[{"name":"n1","node":"x","network":"away"}]}}"#;

/// A node of a testnet, which answers with each of `answers` in turn; what it was asked.
fn node_of_a_testnet(answers: Vec<&'static str>) -> (Node, Receiver<String>) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("orders.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let node = Node::start(&["--dashboard", "127.0.0.1:0", "--testnet", socket.to_str().unwrap()]);
    let (sender, orders) = channel();
    std::thread::spawn(move || {
        let _folder = folder;
        for answer in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&socket).read_line(&mut line).unwrap();
            sender.send(line).unwrap();
            socket.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
    });
    (node, orders)
}

fn testnets_page_says() -> Value {
    let (node, _orders) = node_of_a_testnet(vec![TESTNET]);
    Page::open(&node).post("/api/scenario", "{\"order\":\"away\",\"node\":\"n1\"}").json()
}

#[test]
fn orders_go_to_the_testnet_and_to_nobody_else() {
    let refusal = r#"{"status":"error","code":1,"message":"there is no node n9"}"#;
    let (node, orders) = node_of_a_testnet(vec![TESTNET, TESTNET, refusal, "nonsense"]);
    let page = Page::open(&node);
    let order = "{\"order\":\"away\",\n\"node\":\"n1\"}";
    // Nobody without cookie, key and Origin orders anything.
    for (name, status) in [("Cookie", 401), ("X-Muses-Key", 401), ("Origin", 403), ("Content-Type", 415)] {
        let reply = page.with("POST", "/api/scenario", order, |headers| _ = headers.remove(name));
        assert_eq!(reply.status, status, "{name}: {}", reply.body);
    }
    for name in ["Cookie", "X-Muses-Key"] {
        assert_eq!(page.with("GET", "/api/scenario", "", |headers| _ = headers.remove(name)).status, 401, "{name}");
    }
    for (name, foreign) in [("Origin", "http://evil.example"), ("Origin", "null"), ("Host", "evil.example")] {
        for (method, body) in [("GET", ""), ("POST", order)] {
            let reply = page.with(method, "/api/scenario", body, |headers| _ = headers.insert(name, foreign));
            assert_eq!(reply.status, 403, "{method} {name}: {foreign}: {}", reply.body);
        }
    }
    assert_eq!(
        (page.post("/api/scenario", "{").status, page.with("PUT", "/api/scenario", order, |_| ()).status),
        (400, 405)
    );
    assert!(orders.try_recv().is_err(), "nothing of that came there");

    assert_eq!(page.get("/api/scenario").json()["nodes"][0]["network"], "away");
    assert_eq!(page.post("/api/scenario", order).json()["said"], "n1 is away");
    let refused = page.post("/api/scenario", order);
    assert_eq!((refused.status, refused.json()["message"].as_str()), (409, Some("there is no node n9")));
    let asked: Vec<Value> = orders.try_iter().map(|line| serde_json::from_str(&line).unwrap()).collect();
    let away = serde_json::json!({"order": "away", "node": "n1"});
    assert_eq!(asked, [serde_json::json!({"order": "nodes"}), away.clone(), away]);
    for _ in ["nonsense", "nobody"] {
        let reply = page.post("/api/scenario", order);
        assert!(reply.status == 409 && reply.body.contains("the testnet does not answer"), "{}", reply.body);
    }

    let alone = self::node();
    let ordinary = Page::open(&alone);
    assert_eq!(
        (ordinary.get("/api/scenario").json(), ordinary.post("/api/scenario", order).status),
        (Value::Null, 404)
    );
}

#[test]
fn what_is_not_on_loopback_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7070"] {
        let output = muses(folder.path(), &format!("up --listen /ip4/127.0.0.1/tcp/0 --dashboard {address}"));
        assert_eq!(output.status.code(), Some(2), "{address}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("use 127.0.0.1:PORT") && stderr(&output).lines().count() == 1,
            "{}",
            stderr(&output)
        );
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!("up --listen /ip4/127.0.0.1/tcp/0 --dashboard {}", taken.local_addr().unwrap());
    assert_eq!(muses(folder.path(), &line).status.code(), Some(9));
    let without = Node::start(&[]);
    let output = without.muses("dashboard");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("muses up --dashboard"), "{}", stderr(&output));
    assert_eq!(without.json("status")["dashboard"], Value::Null);
}
