//! The dashboard: a page on loopback that shows what this node knows, live, and does a few things for its owner.
//!
//! It is off unless asked for, and listens on loopback addresses only. Other users of the machine reach loopback, too, and so do web pages that
//! the owner visits. Against both:
//!
//! - The **token**, 32 random bytes in a 0600 file of the data folder. `muses dashboard` prints the URL with it in the fragment, which no
//!   browser sends; the page exchanges it by `POST /api/login` for two values that are derived from it: a cookie (HttpOnly, SameSite=Strict) and a
//!   key that the page keeps in its origin's session storage and sends in a header. Every other `/api` request needs both. The cookie
//!   alone would not do: browsers send cookies of one host to all its ports, so another user's web server on this machine may come to see it.
//! - **Host** has to name a loopback address or `localhost`: a foreign name that was made to resolve to loopback (DNS rebinding) is refused.
//! - **Origin**, when there is one, has to be this very server, and there has to be one for all that changes something; likewise `Sec-Fetch-Site`.
//! - The Content-Security-Policy allows scripts and styles of this server alone, none inline, and no frame around it.
//!
//! docs/reference/dashboard.md describes the interface.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use hyper::{Method, Request, StatusCode};
use overlay::id::NodeId;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::Semaphore;

use crate::control::verbs::Desk;
use crate::control::wire::Request as Verb;
use crate::driver::Handle;
use crate::exit::{Code, Fault};
use crate::local::listen::{self, Port};
use crate::local::service::Forward;
use crate::web::{self, Answer};

mod assets;
mod feed;
pub mod guard;
mod scenario;

use feed::Feed;
use guard::Guard;
use scenario::Testnet;

/// Questions to the overlay or the testnet that are under way at once; more are answered with 503.
const MAX_QUESTIONS: usize = 4;
/// Where it is unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7070";

/// A dashboard that is served.
pub struct Dashboard {
    address: SocketAddr,
    guard: Arc<Guard>,
    _port: Port,
}

/// Where a dashboard will be; nobody is answered yet.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    guard: Guard,
    testnet: Option<Testnet>,
}

/// What [`Bound::new`] refuses whatever this machine's state is.
///
/// # Errors
/// [`Code::Usage`] for an address that others reach.
pub fn check(at: &Forward) -> Result<(), Fault> {
    listen::check(at)?;
    let address: Result<SocketAddr, _> = at.as_str().parse();
    if address.is_ok_and(|address| !address.ip().is_loopback()) { Err(for_this_machine(at)) } else { Ok(()) }
}

fn for_this_machine(at: &Forward) -> Fault {
    let line = format!(
        "the dashboard is for this machine alone and does not listen at {}; use 127.0.0.1:PORT, and `ssh -L` from elsewhere",
        at.as_str()
    );
    Fault::new(Code::Usage, line)
}

impl Bound {
    /// Takes `at`, which has to be on loopback, and reads the token in `data_dir` or makes it.
    ///
    /// # Errors
    /// An address that others reach or that is taken; a token that cannot be read, or that others can.
    pub async fn new(at: &Forward, data_dir: &Path) -> Result<Self, Fault> {
        let resolved = lookup_host(at.as_str()).await.map_err(|error| {
            Fault::new(Code::Usage, format!("--dashboard {}: {error}; use 127.0.0.1:PORT", at.as_str()))
        })?;
        let addresses: Vec<SocketAddr> = resolved.collect();
        if addresses.is_empty() || addresses.iter().any(|address| !address.ip().is_loopback()) {
            return Err(for_this_machine(at));
        }
        let guard = Guard::open(data_dir)?;
        let (listener, address) = listen::bind(at).await?;
        Ok(Self { listener, address, guard, testnet: None })
    }

    /// The same for a node of the testnet that takes orders at the unix socket `socket`: whoever may use the page may give them.
    #[must_use]
    pub fn of_testnet(mut self, socket: Option<PathBuf>) -> Self {
        self.testnet = socket.map(Testnet);
        self
    }

    /// Serves it for the node behind `handle`; what the page asks for `desk` does.
    pub fn serve(self, desk: &Arc<Desk>, handle: &Handle) -> Dashboard {
        let Self { listener, address, guard, testnet } = self;
        let guard = Arc::new(guard);
        let desk = Arc::downgrade(desk);
        let site = Arc::new(Site {
            handle: handle.clone(),
            guard: Arc::clone(&guard),
            testnet,
            feed: Feed::start(handle.clone()),
            questions: Semaphore::new(MAX_QUESTIONS),
            cookie: format!("muses-{}", address.port()),
        });
        let port = web::serve(listener, "the dashboard", move |request| {
            let (site, desk) = (Arc::clone(&site), desk.upgrade());
            async move {
                let answer = match desk {
                    Some(desk) => site.answer(request, &desk).await,
                    None => web::text(StatusCode::SERVICE_UNAVAILABLE, "the node ends\n"),
                };
                with_policy(answer)
            }
        });
        Dashboard { address, guard, _port: port }
    }
}

impl Dashboard {
    /// Where it is.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to open in a browser: whoever has it may do what the page does.
    pub fn url(&self) -> String {
        format!("http://{}/#{}", self.address, self.guard.token())
    }
}

struct Site {
    handle: Handle,
    guard: Arc<Guard>,
    testnet: Option<Testnet>,
    feed: Arc<Feed>,
    questions: Semaphore,
    /// The cookie's name: browsers do not keep those of two ports apart by themselves.
    cookie: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    up: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    peer: NodeIdText,
}

/// A node id as text: names are not resolved for the page.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct NodeIdText(NodeId);

impl TryFrom<String> for NodeIdText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| "not a node id".to_owned())
    }
}

impl Site {
    async fn answer(&self, request: Request<Incoming>, desk: &Desk) -> Answer {
        let changes = request.method() == Method::POST;
        if let Err(why) = guard::same_site(request.headers(), changes) {
            return error(StatusCode::FORBIDDEN, why);
        }
        let path = request.uri().path().to_owned();
        if !path.starts_with("/api/") {
            return match (request.method(), assets::find(&path)) {
                (&(Method::GET | Method::HEAD), Some((kind, bytes))) => web::whole(StatusCode::OK, kind, bytes),
                (_, Some(_)) => not_allowed("GET, HEAD"),
                (_, None) => error(StatusCode::NOT_FOUND, "there is no such page"),
            };
        }
        if path == "/api/login" {
            return if changes { self.log_in(request).await } else { not_allowed("POST") };
        }
        if !self.is_known(request.headers()) {
            return error(StatusCode::UNAUTHORIZED, "open the URL that `muses dashboard` prints");
        }
        match (request.method().as_str(), path.as_str()) {
            ("GET", "/api/state") => match self.feed.state(&self.handle).await {
                Ok(state) => web::whole(StatusCode::OK, JSON, state.to_string()),
                Err(stopped) => error(StatusCode::SERVICE_UNAVAILABLE, &stopped.to_string()),
            },
            ("GET", "/api/feed") => self.feed.subscribe(),
            ("GET", "/api/path") => self.path(request.uri().query().unwrap_or_default(), desk).await,
            ("POST", "/api/network") => match parse::<Network>(request).await {
                Ok(Network { up: true }) => outcome(desk.answer(Verb::NetworkUp { bind: None }).await),
                Ok(Network { up: false }) => outcome(desk.answer(Verb::NetworkDown {}).await),
                Err(answer) => answer,
            },
            ("POST", "/api/cut") => match parse::<Cut>(request).await {
                Ok(Cut { peer }) => outcome(desk.answer(Verb::Cut { peer: peer.0.to_string(), service: None }).await),
                Err(answer) => answer,
            },
            ("GET" | "POST", "/api/scenario") => self.scenario(request).await,
            (_, "/api/state" | "/api/feed" | "/api/path") => not_allowed("GET"),
            (_, "/api/scenario") => not_allowed("GET, POST"),
            (_, "/api/network" | "/api/cut") => not_allowed("POST"),
            _ => error(StatusCode::NOT_FOUND, "there is no such resource"),
        }
    }

    fn is_known(&self, headers: &HeaderMap) -> bool {
        let cookie = guard::cookie(headers, &self.cookie).unwrap_or_default();
        let key = headers.get("x-muses-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
        self.guard.knows(cookie, key)
    }

    async fn log_in(&self, request: Request<Incoming>) -> Answer {
        let login: Login = match parse(request).await {
            Ok(login) => login,
            Err(answer) => return answer,
        };
        let Some((cookie, key)) = self.guard.exchange(&login.token) else {
            return error(
                StatusCode::UNAUTHORIZED,
                "another token is in force; open the URL that `muses dashboard` prints",
            );
        };
        let mut answer = json(StatusCode::OK, &json!({ "key": key }));
        let cookie = format!("{}={cookie}; Path=/api/; HttpOnly; SameSite=Strict", self.cookie);
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            answer.headers_mut().insert(SET_COOKIE, cookie);
        }
        answer
    }

    /// Who runs in the testnet, null where this node belongs to none; or an order to it.
    async fn scenario(&self, request: Request<Incoming>) -> Answer {
        let order = match *request.method() {
            Method::POST => match parse::<Value>(request).await {
                Ok(order) => Some(order),
                Err(answer) => return answer,
            },
            _ => None,
        };
        let Some(testnet) = &self.testnet else {
            return match order {
                Some(_) => error(StatusCode::NOT_FOUND, "this node is part of no testnet"),
                None => json(StatusCode::OK, &Value::Null),
            };
        };
        let Ok(_place) = self.questions.try_acquire() else {
            return error(StatusCode::SERVICE_UNAVAILABLE, "too many questions at once");
        };
        outcome(testnet.ask(&order.unwrap_or_else(|| json!({"order": "nodes"}))).await)
    }

    /// `peer=ID`: the relays on the way there.
    async fn path(&self, query: &str, desk: &Desk) -> Answer {
        let peer = query.strip_prefix("peer=").and_then(|id| id.parse::<NodeId>().ok());
        let Some(peer) = peer else { return error(StatusCode::BAD_REQUEST, "peer has to be a node id") };
        let Ok(_place) = self.questions.try_acquire() else {
            return error(StatusCode::SERVICE_UNAVAILABLE, "too many questions at once");
        };
        outcome(desk.answer(Verb::Trace { peer: peer.to_string() }).await)
    }
}

const JSON: &str = "application/json";

/// The body, which has to be JSON and to say so: a form of a foreign page cannot.
async fn parse<T: for<'de> Deserialize<'de>>(request: Request<Incoming>) -> Result<T, Answer> {
    let kind = request.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some(JSON) {
        return Err(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body has to be application/json"));
    }
    let body = web::body_of(request).await?;
    serde_json::from_slice(&body).map_err(|why| error(StatusCode::BAD_REQUEST, &format!("not understood: {why}")))
}

fn outcome(result: Result<Value, Fault>) -> Answer {
    match result {
        Ok(data) => json(StatusCode::OK, &data),
        Err(fault) => error(StatusCode::CONFLICT, &fault.message),
    }
}

fn json(status: StatusCode, data: &Value) -> Answer {
    web::whole(status, JSON, data.to_string())
}

/// `{"message":...}`: one line, as `muses` would print it.
fn error(status: StatusCode, message: &str) -> Answer {
    json(status, &json!({ "message": message }))
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "not by this method");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

const POLICY: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
];

fn with_policy(mut answer: Answer) -> Answer {
    for (name, value) in POLICY {
        answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}
