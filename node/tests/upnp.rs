//! A router that forwards ports by UPnP, in a network namespace beside the node's: it is found, asked, told again, and freed at the end.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
#[path = "common/namespaces.rs"]
mod namespaces;

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

use common::{Node, until};
use namespaces::Namespaces;

/// Where the router and the node are in their network, see `Namespaces`.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 78, 1, 2);
const NODE: &str = "10.78.1.1";
/// Where nobody is.
const NOBODY: &str = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWGALSavFeznypf57MbRwpvyBHc7Nm8SMVr72ugJsJURCJ";
/// What is searched for, each by a packet of its own.
const SEARCHES: usize = 3;
/// A rule: the first description has no end.
const ENDLESS: &str = "endless";

#[test]
fn the_port_is_forwarded_told_to_others_and_taken_back_at_the_end() {
    let Some(lab) = Namespaces::new() else { return };
    let router = Router::start(&lab, "203.0.113.7", &[]);
    let mut alice = lab.node("alice", "up", &["--name", "alice"]);
    listens_at(&alice, "/ip4/203.0.113.7/tcp/4741");
    let add = format!("add 4741 to {NODE}:4741 for 3600 s");
    assert!(router.asked().iter().all(|line| *line == add), "{:?}", router.asked());
    let invite = alice.json("invite");
    let first = (&invite["addresses"][0], &invite["reach"]);
    assert_eq!(first, (&"/ip4/203.0.113.7/tcp/4741".into(), &"world".into()), "{invite}");

    alice.json("network down");
    assert_eq!(alice.json("status")["listen"], serde_json::json!([]));
    alice.json("network up");
    listens_at(&alice, "/ip4/203.0.113.7/tcp/4741");
    alice.json("down");
    alice.wait();
    let mut asked = router.asked();
    assert_eq!(asked.pop().as_deref(), Some("delete 4741"));
    // More than once, as addresses came and went.
    assert!(asked.iter().all(|line| *line == add), "{asked:?}");
}

#[test]
fn a_router_with_rules_of_its_own_is_given_in_to() {
    let Some(lab) = Namespaces::new() else { return };
    let router = Router::start(&lab, "203.0.113.7", &["taken 4741"]);
    let alice = lab.node("alice", "up", &[]);
    let listen =
        alice.json_when("status", |status| status["listen"].to_string().contains("203.0.113.7"))["listen"].to_string();
    let other = router.asked()[1].split(' ').nth(1).unwrap().to_owned();
    assert!(
        other != "4741" && listen.contains(&format!("/ip4/203.0.113.7/tcp/{other}/")),
        "{listen} {:?}",
        router.asked()
    );
    drop((alice, router));

    let Some(lab) = Namespaces::new() else { return };
    let router = Router::start(&lab, "203.0.113.7", &["permanent"]);
    let mut alice = lab.node("alice", "up", &[]);
    listens_at(&alice, "/ip4/203.0.113.7/tcp/4741");
    alice.json("down");
    alice.wait();
    let asked = ["for 3600 s", "for 0 s"].map(|lease| format!("add 4741 to {NODE}:4741 {lease}"));
    let seen = router.asked();
    assert!(seen.starts_with(&asked) && seen.last().is_some_and(|line| line == "delete 4741"), "{seen:?}");
}

#[test]
fn nothing_is_asked_where_that_is_of_no_use_or_not_wanted() {
    let Some(lab) = Namespaces::new() else { return };
    let router = Router::start(&lab, "192.168.0.2", &[]);
    let nodes = [
        lab.node("alice", "up", &["--no-upnp"]),
        lab.node("alice", "up", &["--listen", "/ip4/127.0.0.1/tcp/0"]),
        lab.node("alice", "up", &["--leaf", "--join", NOBODY, "--listen", "/ip4/0.0.0.0/tcp/0"]),
    ];
    for node in &nodes {
        node.json_when("status", |status| status["listen"][0].is_string());
    }
    assert_eq!(router.searches(), 0);
    let behind_two = lab.node("alice", "up", &["--listen", "/ip4/0.0.0.0/tcp/4742"]);
    until("the router is asked where it is", || router.asked_for_its_address());
    behind_two.json_when("status", |status| status["address"].is_string());
    assert!(router.asked().is_empty(), "it is behind another one, so it could only forward from there");
    assert_eq!(router.searches(), SEARCHES, "that of the one node");
}

#[test]
fn an_answer_that_leads_elsewhere_or_has_no_end_is_passed_over() {
    let Some(lab) = Namespaces::new() else { return };
    let elsewhere = lab.inside("alice", || TcpListener::bind("0.0.0.0:0").unwrap());
    elsewhere.set_nonblocking(true).unwrap();
    let leads = format!("leads http://{NODE}:{}/root.xml", elsewhere.local_addr().unwrap().port());
    let router = Router::start(&lab, "203.0.113.7", &[&leads, ENDLESS]);
    let alice = lab.node("alice", "up", &[]);
    listens_at(&alice, "/ip4/203.0.113.7/tcp/4741");
    assert!(router.without_end(), "it was read, as far as that went");
    assert_eq!(elsewhere.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

fn listens_at(node: &Node, address: &str) {
    let wanted = format!("{address}/p2p/");
    node.json_when("status", |status| {
        status["listen"].as_array().unwrap().iter().any(|listen| listen.as_str().unwrap().starts_with(&wanted))
    });
}

/// An Internet Gateway Device in Bob's namespace, as far as a client sees.
struct Router(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    outside: String,
    rules: Vec<String>,
    searches: usize,
    asked_for_its_address: bool,
    /// Whether a description that has no end was read.
    without_end: bool,
    asked: Vec<String>,
}

impl Router {
    /// `rules`: `taken PORT`, `permanent`, `leads URL` (by another answer before each), `endless`.
    fn start(lab: &Namespaces, outside: &str, rules: &[&str]) -> Self {
        lab.bob_joins(1);
        let (search, web) = lab.inside("bob", || {
            let search = UdpSocket::bind("0.0.0.0:1900").unwrap();
            search.join_multicast_v4(&Ipv4Addr::new(239, 255, 255, 250), &ROUTER).unwrap();
            (search, TcpListener::bind((ROUTER, 0)).unwrap())
        });
        let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
        let seen = Arc::new(Mutex::new(Seen { outside: outside.to_owned(), rules, ..Seen::default() }));
        let router = Self(Arc::clone(&seen));
        let address = web.local_addr().unwrap();
        let found = Arc::clone(&seen);
        std::thread::spawn(move || answer_searches(&search, address, &found));
        std::thread::spawn(move || {
            for socket in web.incoming().flatten() {
                serve(socket, &seen);
            }
        });
        router
    }

    fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    fn searches(&self) -> usize {
        self.0.lock().unwrap().searches
    }

    fn without_end(&self) -> bool {
        self.0.lock().unwrap().without_end
    }

    fn asked_for_its_address(&self) -> bool {
        self.0.lock().unwrap().asked_for_its_address
    }
}

fn answer_searches(socket: &UdpSocket, web: SocketAddr, seen: &Mutex<Seen>) {
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if buffer[..length].starts_with(b"M-SEARCH * HTTP/1.1\r\n") {
            let mut locations = vec![format!("http://{web}/root.xml")];
            {
                let mut seen = seen.lock().unwrap();
                seen.searches += 1;
                locations
                    .splice(..0, seen.rules.iter().filter_map(|rule| rule.strip_prefix("leads ")).map(str::to_owned));
            }
            for location in locations {
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=60\r\nEXT:\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLOCATION: {location}\r\n\r\n"
                );
                let _ = socket.send_to(answer.as_bytes(), from);
            }
        }
    }
}

/// Until the other side has had enough.
fn write_without_end(mut socket: TcpStream) {
    let start = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nConnection: close\r\n\r\n<root><device>";
    let mut going_on = socket.write_all(start.as_bytes());
    while going_on.is_ok() {
        going_on = socket.write_all("<device></device>".repeat(1000).as_bytes());
    }
}

/// One request, one answer.
fn serve(mut socket: TcpStream, seen: &Mutex<Seen>) {
    let mut from = BufReader::new(socket.try_clone().unwrap());
    let (mut head, mut line) = (String::new(), String::new());
    while from.read_line(&mut line).is_ok_and(|length| length > 0) && !line.trim().is_empty() {
        head.push_str(&line.to_lowercase());
        line.clear();
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    from.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    if head.contains("/root.xml") && seen.lock().unwrap().ends_no_more() {
        write_without_end(socket);
        return;
    }
    let answer = match head.split_whitespace().nth(1) {
        Some("/root.xml") => DEVICE.to_owned(),
        Some("/scpd.xml") => actions(),
        _ => seen.lock().unwrap().act(&body),
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    );
    let _ = socket.write_all((head + &answer).as_bytes());
}

impl Seen {
    /// Whether this is the description that has no end.
    fn ends_no_more(&mut self) -> bool {
        let first = !self.without_end && self.rules.iter().any(|rule| rule == ENDLESS);
        self.without_end |= first;
        first
    }

    fn act(&mut self, body: &str) -> String {
        let field = |name: &str| {
            let after = body.split_once(&format!("<{name}>")).map(|(_, after)| after);
            after.and_then(|after| after.split_once('<')).map(|(value, _)| value.to_owned()).unwrap_or_default()
        };
        let port = field("NewExternalPort");
        if body.contains("GetExternalIPAddress") {
            self.asked_for_its_address = true;
            let ip = format!("<NewExternalIPAddress>{}</NewExternalIPAddress>", self.outside);
            return envelope(&format!(
                "<u:GetExternalIPAddressResponse {SERVICE}>{ip}</u:GetExternalIPAddressResponse>"
            ));
        }
        if body.contains("DeletePortMapping") {
            self.asked.push(format!("delete {port}"));
            return envelope(&format!("<u:DeletePortMappingResponse {SERVICE}></u:DeletePortMappingResponse>"));
        }
        assert!(
            body.contains("AddPortMapping") && field("NewProtocol") == "TCP" && field("NewRemoteHost").is_empty(),
            "{body}"
        );
        let lease = field("NewLeaseDuration");
        self.asked.push(format!(
            "add {port} to {}:{} for {lease} s",
            field("NewInternalClient"),
            field("NewInternalPort")
        ));
        if self.rules.contains(&format!("taken {port}")) {
            return fault(718, "ConflictInMappingEntry");
        }
        if lease != "0" && self.rules.contains(&"permanent".to_owned()) {
            return fault(725, "OnlyPermanentLeasesSupported");
        }
        envelope(&format!("<u:AddPortMappingResponse {SERVICE}></u:AddPortMappingResponse>"))
    }
}

const SERVICE: &str = "xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\"";

const DEVICE: &str = r#"<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<SCPDURL>/scpd.xml</SCPDURL><controlURL>/control</controlURL></service></serviceList>
</device></deviceList></device></deviceList></device></root>"#;

fn actions() -> String {
    let action = |name: &str, fields: &[&str]| {
        let argument = |field: &&str| format!("<argument><name>{field}</name><direction>in</direction></argument>");
        let arguments: String = fields.iter().map(argument).collect();
        format!("<action><name>{name}</name><argumentList>{arguments}</argumentList></action>")
    };
    let add = [
        "NewRemoteHost",
        "NewExternalPort",
        "NewProtocol",
        "NewInternalPort",
        "NewInternalClient",
        "NewEnabled",
        "NewPortMappingDescription",
        "NewLeaseDuration",
    ];
    let list =
        [action("AddPortMapping", &add), action("DeletePortMapping", &add[..3]), action("GetExternalIPAddress", &[])];
    let namespace = "xmlns=\"urn:schemas-upnp-org:service-1-0\"";
    format!("<?xml version=\"1.0\"?><scpd {namespace}><actionList>{}</actionList></scpd>", list.concat())
}

fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn fault(code: u16, what: &str) -> String {
    envelope(&format!(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>{code}</errorCode><errorDescription>{what}</errorDescription></UPnPError></detail></s:Fault>"
    ))
}
