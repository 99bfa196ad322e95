//! `muses up`: a node in the foreground.

use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, FromArgMatches as _, ValueEnum};
use multiaddr::{Multiaddr, Protocol};
use overlay::overlay::KEY_GENESIS;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::check::check;
use super::console::Console;
use super::join::{self, Joins};
use super::lines::Lines;
use super::place::{CONFIG_VARIABLE, config_file};
use super::reload::Reloads;
use super::run::{blamed, without_empty};
use super::supervisor;
use crate::config::{Config, SocksGuard, check_name, parse_address};
use crate::control::server::Server;
use crate::control::verbs::{Desk, Typed, naming};
use crate::exit::{Code, Fault};
use crate::folder::open_folder;
use crate::identity::{self, Keys};
use crate::invite::Invite;
use crate::local::exposures::{self, Exposures};
use crate::local::invites::Grants;
use crate::local::kept::{self, KeptPorts};
use crate::local::listen::check_free;
use crate::local::service::Forward;
use crate::local::{invites, listen, socks};
use crate::machine::raise_descriptors;
use crate::store::{DiskStore, STATE_FILE, Store, belongs_to};
use crate::upnp::Upnp;
use crate::words::count;
use crate::{clock, dashboard, driver, lan, stack};

/// Where a node listens unless told otherwise.
pub(super) const DEFAULT_PORT: u16 = 4741;
/// All addresses of this machine, of either family.
const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
/// A node works in one thread. Loop, sockets and applications hand each packet on; between two threads each of these steps wakes one that
/// sleeps, which costs more than the second brings: a download over one link took 2.9 CPU seconds per GB with two threads, 2.4 with one.
const THREADS: usize = 1;
/// Announcing the leave and the last write to disk take less; after this the node ends anyway.
const STOP_TIMEOUT: Duration = Duration::from_millis(2500);

/// The answer to `down` is written within this time after the loop's end.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// What is logged unless RUST_LOG says otherwise. Yamux warns of every connection that the other side closed first, netlink of every
/// kernel that is newer than it, and of every answer that a node did not wait for because it ends.
const DEFAULT_LOG: &str = "warn,yamux=error,netlink_packet_route=error,netlink_proto=error";

/// The flags of `muses up`; they win over the environment, and that over the configuration file.
#[derive(Args, PartialEq, Debug)]
pub(super) struct Up {
    /// The configuration [default: config.toml in the data folder; without --data-dir also $XDG_CONFIG_HOME/muses/config.toml, and as root /etc/muses/config.toml]
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, hide_env_values = true)]
    pub(super) config: Option<PathBuf>,
    /// Where to listen for neighbours, may be repeated [default: TCP port 4741 on all addresses]
    #[arg(long, value_name = "MULTIADDR", value_delimiter = ',', env = "MUSES_LISTEN", hide_env_values = true, value_parser = parse_address)]
    pub(super) listen: Vec<Multiaddr>,
    /// An invite, or a bootstrap peer's address, /ip4/../tcp/../p2p/..; may be repeated; - reads it from stdin
    #[arg(long, value_name = "INVITE|MULTIADDR")]
    pub(super) join: Vec<String>,
    /// Found a closed overlay: only who comes with an invite of yours becomes a member, nobody else gets a link
    #[arg(long, conflicts_with = "join")]
    pub(super) closed: bool,
    /// The name to claim in the overlay, 1 to 32 of a-z, 0-9 and -; the folder remembers it until `muses name claim` says another
    #[arg(long, value_parser = checked_name, env = "MUSES_NAME", hide_env_values = true)]
    pub(super) name: Option<String>,
    /// Be a leaf: pass nothing on for others and keep no records (for phones and metered links)
    #[arg(long)]
    pub(super) leaf: bool,
    /// Serve SOCKS5 for programs on this machine, which then reach PEER.muses and SERVICE.PEER.muses
    #[arg(long, value_name = "HOST:PORT", env = "MUSES_SOCKS", hide_env_values = true)]
    pub(super) socks: Option<Forward>,
    /// What programs have to show at the SOCKS5 proxy: that they are of your user, or the password in socks.token of the data folder
    #[arg(long, value_enum, value_name = "GUARD")]
    pub(super) socks_guard: Option<SocksGuard>,
    /// Serve a page about this node to its owner's browser, on loopback [default: 127.0.0.1:7070]; see `muses dashboard`
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = dashboard::DEFAULT_ADDRESS, env = "MUSES_DASHBOARD", hide_env_values = true)]
    pub(super) dashboard: Option<Forward>,
    /// Serve figures for Prometheus at /metrics
    #[arg(long, value_name = "HOST:PORT", env = "MUSES_METRICS", hide_env_values = true)]
    pub(super) metrics: Option<Forward>,
    /// The unix socket of the testnet that this node is a part of: the dashboard's page gets a menu, and gives its orders there
    #[arg(long, value_name = "PATH", hide = true)]
    pub(super) testnet: Option<PathBuf>,
    /// Neither announce this node on the local network, nor look there for its overlay when it has no neighbour
    #[arg(long)]
    pub(super) no_mdns: bool,
    /// Do not ask the router to forward the port (UPnP)
    #[arg(long)]
    pub(super) no_upnp: bool,
    /// How to write the log on stderr; what is in it says RUST_LOG [default: warn]
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
}

impl Up {
    /// What `muses up` without a flag takes from the environment.
    ///
    /// # Errors
    /// A variable that says nothing sensible.
    pub(super) fn from_environment() -> Result<Self, Fault> {
        let typed = without_empty(Self::augment_args(clap::Command::new("up"))).try_get_matches_from(["up"]);
        let up = typed.and_then(|matches| Self::from_arg_matches(&matches));
        up.map_err(|error| {
            let line = super::usage_line(&error, "muses").unwrap_or_else(|| error.to_string());
            Fault::new(Code::Usage, line + &blamed(&error, &[]))
        })
    }

    /// Puts what was said here in place of what `config` says. How to get into an overlay is another matter.
    pub(super) fn apply(&self, config: &mut Config) {
        let said = |flag: &Option<Forward>, file: &mut Option<Forward>| *file = flag.clone().or(file.take());
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        config.overlay.closed |= self.closed;
        config.name = self.name.clone().or(config.name.take());
        config.leaf |= self.leaf;
        config.links.mdns &= !self.no_mdns;
        config.links.upnp &= !self.no_upnp;
        config.socks_guard = self.socks_guard.or(config.socks_guard);
        said(&self.socks, &mut config.socks);
        said(&self.dashboard, &mut config.dashboard);
        said(&self.metrics, &mut config.metrics);
    }
}

/// How log lines look.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Runs a node on `data_dir` until it is told to stop.
pub(super) fn run(up: Up, data_dir: PathBuf) -> Result<(), Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.map_err(|error| Fault::new(Code::Failed, format!("cannot start: {error}")))?;
    let log = start_log(up.log_format);
    let result = start(up, data_dir, &runtime, log.clone());
    runtime.block_on(log.flush());
    runtime.shutdown_background();
    result
}

fn start(up: Up, data_dir: PathBuf, runtime: &Runtime, log: Lines) -> Result<(), Fault> {
    // Before anything is written: a bad invite changes nothing.
    let mut joins = Joins::read(&up.join)?;
    let expired = joins.take_expired(clock::now().wall);
    if let Some(fault) = expired.clone()
        && !data_dir.join(STATE_FILE).exists()
    {
        return Err(fault);
    }
    let _lock = open_folder(&data_dir)?;
    let mut config = Config::load(config_file(up.config.as_deref(), &data_dir)?.as_deref())?;
    let reloads = Reloads::new(up.config.clone(), data_dir.clone(), config.clone());
    let joining = !joins.is_empty();
    if up.closed && joining {
        return Err(Fault::new(Code::Usage, "--closed is for founding an overlay, not for joining one"));
    }
    let invite = joins.apply(&mut config)?;
    up.apply(&mut config);
    if up.socks_guard.is_some() && config.socks.is_none() {
        return Err(Fault::new(
            Code::Usage,
            "--socks-guard guards the SOCKS5 proxy, and there is none; add --socks HOST:PORT",
        ));
    }
    check(&config)?;
    config.listen = listen_addresses(&config.listen, &log)?;
    raise_descriptors();
    let keys = Keys::open(&data_dir)?;
    let store: Arc<dyn Store> = Arc::new(DiskStore::open(&data_dir)?);
    let lines = Lines::stdout();
    let entry = Entry { joining, invite, expired, name: up.name, testnet: up.testnet, log };
    runtime.block_on(async {
        let result = serve(&data_dir, config, reloads, entry, keys, store, lines.clone()).await;
        lines.flush().await;
        result
    })
}

/// What the command line alone says.
struct Entry {
    /// Whether it says how to get into an overlay.
    joining: bool,
    invite: Option<Invite>,
    /// Why an invite that was typed is left out.
    expired: Option<Fault>,
    name: Option<String>,
    testnet: Option<PathBuf>,
    log: Lines,
}

async fn serve(
    data_dir: &Path,
    mut config: Config,
    reloads: Reloads,
    entry: Entry,
    keys: Keys,
    store: Arc<dyn Store>,
    lines: Lines,
) -> Result<(), Fault> {
    // Before anything that is announced to others, so that a node that cannot be talked to does not start.
    let server = Server::bind(data_dir)?;
    let socks = match &config.socks {
        Some(at) => {
            let (listener, address) = listen::bind(at).await?;
            Some((listener, address, socks::Guard::open(config.socks_guard, address, data_dir)?))
        }
        None => None,
    };
    let page = match &config.dashboard {
        Some(at) => Some(dashboard::Bound::new(at, data_dir).await?.of_testnet(entry.testnet)),
        None => None,
    };
    let metrics = match &config.metrics {
        Some(at) => Some(listen::bind(at).await?),
        None => None,
    };
    let cannot_watch = |error: io::Error| Fault::new(Code::Failed, format!("cannot watch for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_watch)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_watch)?;
    let hangup = signal(SignalKind::hangup()).map_err(cannot_watch)?;

    let mut snapshot = store.load()?;
    let is_outside = !snapshot.contains_key(KEY_GENESIS);
    match entry.expired {
        Some(fault) if is_outside => return Err(fault),
        Some(fault) => {
            entry.log.say(&format!("muses: {fault}; this node is in an overlay already, and goes on in that"))
        }
        None => {}
    }
    join::check_unfinished(&mut snapshot, is_outside && config.join.is_empty(), data_dir)?;
    if snapshot.is_empty() && !keys.fresh && !entry.joining {
        entry.log.say(&format!(
            "muses: there are keys in {}, but nothing else: a new overlay is founded; back into an old one: muses join INVITE",
            data_dir.display()
        ));
    }
    let identity = keys.identity();
    belongs_to(store.as_ref(), &mut snapshot, identity.id())?;
    let exposures = Exposures::open(Arc::clone(&store), snapshot.remove(exposures::STORE_KEY), &config)?;
    let claimed = snapshot.remove(naming::STORE_KEY).and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    let said_name = config.name.clone();
    config.name = config.name.or(claimed);
    let in_force = config.to_json();
    let desk_store = Arc::clone(&store);
    let grants = Grants::open(Arc::clone(&store), snapshot.remove(invites::STORE_KEY))?;
    let kept_ports = KeptPorts::open(Arc::clone(&store), snapshot.remove(kept::STORE_KEY))?;
    let typed = Typed { exposures, grants, kept_ports };
    // A leaf takes nobody in, and among friends nobody else is wanted.
    let takes_in = !config.leaf && config.links.only.is_empty();
    let console = Console::new(identity.id(), takes_in, config.petnames.clone(), lines.clone());
    console.introduce(data_dir, keys.fresh);
    let seed =
        identity::random().map_err(|error| Fault::new(Code::Failed, format!("the system has no entropy: {error}")))?;
    let announced = config.links.mdns && takes_in;
    // A leaf takes nobody in.
    let forwarded = config.links.upnp && !config.leaf;
    let node = identity.id();
    let stack_config =
        stack::Config { enrolment: entry.invite.as_ref().and_then(Invite::enrolment), ..config.to_stack() };
    let stack = stack::Stack::new(stack_config, identity, keys.session, *seed, clock::now())
        .map_err(|line| Fault::new(Code::Usage, line))?;
    let ways = config.join.clone();
    let setup =
        driver::Setup { stack, secret: keys.seed, listen: config.listen, bulk: config.links.bulk, store, snapshot };
    let driver::Started { handle, incoming, console: facts } = driver::spawn(setup)?;
    if let Some(name) = &entry.name {
        // Only now: a start that was refused changes nothing.
        desk_store.put(naming::STORE_KEY, name.as_bytes())?;
    }
    if entry.joining && is_outside {
        desk_store.put(join::STORE_KEY, &[1])?;
    }
    let guests = handle.subscribe();
    let place = data_dir.to_owned();
    let desk = Desk::open(handle.clone(), typed, desk_store, in_force, place, said_name).await?;
    let desk = Arc::new(desk);
    if let Some((listener, address, guard)) = socks {
        console.offer_socks(address, &guard, data_dir);
        desk.serve_socks(listener, address, guard);
    }
    if let Some(page) = page {
        console.offer_dashboard(data_dir);
        desk.serve_dashboard(page);
    }
    if let Some((listener, address)) = metrics {
        console.offer_metrics(address);
        desk.serve_metrics(listener, address);
    }
    let serving = tokio::spawn(server.run(Arc::clone(&desk)));
    if announced {
        tokio::spawn(lan::announce(handle.clone(), node));
    }
    if config.links.mdns {
        tokio::spawn(lan::meet(handle.clone()));
    }
    let upnp = forwarded.then(|| Upnp::keep(handle.clone()));
    tokio::spawn(Arc::clone(&desk).receive(incoming));
    tokio::spawn(Arc::clone(&desk).admit_guests(guests));
    tokio::spawn(Arc::clone(&desk).watch_folder());
    tokio::spawn(Arc::clone(&desk).retry_kept_ports());
    if let Some((inviter, grant)) = entry.invite.and_then(|invite| Some((invite.inviter, invite.grant?)))
        && !grant.services.is_empty()
    {
        tokio::spawn(join::use_grant(handle.clone(), inviter, grant.secret, lines, data_dir.to_owned()));
    }

    supervisor::ready();
    let mut refused = None;
    let asked = tokio::select! {
        ended = console.follow(handle.clone(), facts, entry.joining, &ways) => {
            refused = ended;
            // The loop has ended: after `down`, which is answered only then, or by a defect.
            refused.is_some() || tokio::time::timeout(ANSWER_TIME, desk.ended()).await.is_ok()
        }
        () = desk.ended() => true,
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
        () = reloads.follow(hangup, &desk, &console) => true,
    };
    supervisor::stopping();
    console.say("leaving");
    let taking_back = async {
        if let Some(upnp) = upnp {
            upnp.end().await;
        }
    };
    tokio::select! {
        (stopped, ()) = futures::future::join(tokio::time::timeout(STOP_TIMEOUT, handle.stop()), taking_back) => {
            if stopped.is_err() {
                tracing::warn!("the node did not stop in time");
            }
        }
        // Whoever asks twice does not want to wait.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    serving.abort();
    // The socket's file goes with the task.
    let _ = serving.await;
    if !asked {
        return Err(Fault::new(
            Code::Failed,
            "the node ended by itself, which is a defect; please report what is above",
        ));
    }
    console.say("stopped");
    refused.map_or(Ok(()), Err)
}

/// Where a node listens unless told otherwise.
pub(super) fn default_listen() -> Vec<Multiaddr> {
    ANY.into_iter().map(|ip| tcp(ip, DEFAULT_PORT)).collect()
}

/// Where to listen: as told, or at the default port, or at a free one when that is taken by another node on this machine.
fn listen_addresses(told: &[Multiaddr], log: &Lines) -> Result<Vec<Multiaddr>, Fault> {
    if !told.is_empty() {
        told.iter().try_for_each(check_free)?;
        return Ok(told.to_vec());
    }
    let has_ipv6 = TcpListener::bind((ANY[1], 0)).is_ok();
    let taken = check_free(&tcp(ANY[0], DEFAULT_PORT)).is_err()
        || (has_ipv6 && check_free(&tcp(ANY[1], DEFAULT_PORT)).is_err());
    if taken {
        log.say(&format!("muses: TCP port {DEFAULT_PORT} is in use; listening at a free port (choose one: --listen)"));
    }
    let port = if taken { 0 } else { DEFAULT_PORT };
    Ok(ANY.into_iter().filter(|ip| ip.is_ipv4() || has_ipv6).map(|ip| tcp(ip, port)).collect())
}

fn tcp(ip: IpAddr, port: u16) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Tcp(port))
}

fn left_out(lost: u64) -> String {
    format!("{} left out: they came faster than they were read", count(lost, "line"))
}

/// Begins to log on stderr, by a thread of its own: who reads it slowly, or not at all, does not hold up the node.
fn start_log(format: LogFormat) -> Lines {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = Lines::stderr(match format {
        LogFormat::Text => |lost| format!(" WARN {}", left_out(lost)),
        LogFormat::Json => |lost| {
            serde_json::json!({ "level": "WARN", "fields": { "message": left_out(lost) }, "target": "muses" })
                .to_string()
        },
    });
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone()).with_ansi(colour);
    // The harness runs many nodes, each in its own process; a second start in one process keeps the first log.
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    lines
}

fn checked_name(text: &str) -> Result<String, String> {
    check_name(text).map(|_| text.to_owned())
}

impl From<driver::StartError> for Fault {
    fn from(error: driver::StartError) -> Self {
        use crate::links::StartError as Links;
        let code = match &error {
            driver::StartError::Stack(_) | driver::StartError::Links(Links::Identity) => Code::State,
            driver::StartError::Links(Links::Listen { .. }) => Code::PortInUse,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_listen_address_is_found_even_beside_reuse_port() {
        let log = Lines::stdout();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp(IpAddr::from([127, 0, 0, 1]), taken.local_addr().unwrap().port());
        assert_eq!(listen_addresses(&[address], &log).unwrap_err().code, Code::PortInUse as u8);
        let udp: Multiaddr = "/ip4/127.0.0.1/udp/1".parse().unwrap();
        assert_eq!(listen_addresses(&[udp], &log).unwrap_err().code, Code::Usage as u8);
        assert!(!listen_addresses(&[], &log).unwrap().is_empty());
    }
}
