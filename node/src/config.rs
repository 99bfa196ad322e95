//! The configuration file, TOML; every key is optional and the environment and flags of `muses up` win over it.
//!
//! `config/template.toml` has every key with its meaning; what a configuration says again, and how two differ, is in `config/shown.rs`;
//! what is wrong with a file, in `config/mistakes.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use multiaddr::Multiaddr;
use overlay::id::{NodeId, OverlayId};
use overlay::record::Name;
use serde::{Deserialize, Deserializer};

use crate::local::service::{Forward, ServiceName};
use crate::reach::multiaddr_of;
use crate::stack::{Direct, Who};

mod mistakes;
mod shown;

/// A file with all keys as comments, for `muses config init`.
pub const TEMPLATE: &str = include_str!("config/template.toml");

/// Whom a list of who may use a service names when everybody may.
pub(crate) const EVERYBODY: &str = "anyone";
/// No configuration is longer, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What the file said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen; empty means the default.
    #[serde(default, deserialize_with = "addresses")]
    pub listen: Vec<Multiaddr>,
    /// Bootstrap addresses.
    #[serde(default, deserialize_with = "addresses")]
    pub join: Vec<Multiaddr>,
    /// The name to claim.
    #[serde(default, deserialize_with = "checked_name")]
    pub name: Option<String>,
    /// Carry nothing for others.
    #[serde(default)]
    pub leaf: bool,
    /// Where to serve SOCKS5, if at all.
    #[serde(default)]
    pub socks: Option<Forward>,
    /// What programs have to show there.
    #[serde(default)]
    pub socks_guard: Option<SocksGuard>,
    /// Where to serve the dashboard, if at all.
    #[serde(default)]
    pub dashboard: Option<Forward>,
    /// Where to serve metrics, if at all.
    #[serde(default)]
    pub metrics: Option<Forward>,
    /// Which overlay.
    #[serde(default)]
    pub overlay: OverlayTable,
    /// Which neighbours.
    #[serde(default)]
    pub links: LinksTable,
    /// How much of everything.
    #[serde(default)]
    pub limits: LimitsTable,
    /// The user's names for nodes.
    #[serde(default, deserialize_with = "petnames")]
    pub petnames: BTreeMap<String, NodeId>,
    /// Services offered from the start.
    #[serde(default)]
    pub services: BTreeMap<ServiceName, ServiceTable>,
}

/// What programs have to show at the SOCKS proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SocksGuard {
    /// That they are of the user as whom the node runs.
    Uid,
    /// The password in `socks.token` of the data folder.
    Token,
}

/// `[overlay]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlayTable {
    /// The only overlay to join.
    #[serde(default, deserialize_with = "overlay_id")]
    pub id: Option<OverlayId>,
    /// Whether an overlay that is founded is closed.
    #[serde(default)]
    pub closed: bool,
}

/// `[links]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinksTable {
    /// Friend-to-friend mode: node ids or multiaddr prefixes; empty means everybody.
    #[serde(deserialize_with = "friends")]
    pub only: Vec<String>,
    /// Direct links to the peers of connections.
    pub direct: Direct,
    /// Whether links may have bulk lanes, see [`crate::links::bulk`].
    pub bulk: bool,
    /// Whether the node is announced on the local network, and looks there for its overlay when it has no neighbour, see [`crate::lan`].
    pub mdns: bool,
    /// Whether the router is asked to forward the port, see [`crate::upnp`].
    pub upnp: bool,
}

impl Default for LinksTable {
    fn default() -> Self {
        Self { only: Vec::new(), direct: Direct::default(), bulk: true, mdns: true, upnp: true }
    }
}

/// `[limits]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsTable {
    /// Most sessions.
    pub sessions: Option<NonZeroUsize>,
    /// Most connections in one session at the same time.
    pub streams_per_session: Option<NonZeroUsize>,
}

/// `[services.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceTable {
    /// `HOST:PORT` of the local service.
    pub forward: Forward,
    /// Who may use it.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by `--config` could not be read.
    #[error("cannot read the configuration {}: {source}; {}", .path.display(), readable(source))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what the module's documentation describes.
    #[error("{}{line}: {what}", .path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// `:LINE`, when known.
        line: String,
        /// What is wrong, in one line.
        what: String,
    },
}

impl Config {
    /// The configuration in `file`, or the default without one.
    ///
    /// # Errors
    /// [`ConfigError`], one line that names the key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = file else { return Ok(Self::default()) };
        let text = text_of(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// The configuration in `text`; `path` is for the error's line.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        mistakes::read(text).map_err(|mistake| {
            let line = mistake.at.and_then(|at| text.get(..at)).map(|before| before.matches('\n').count() + 1);
            let line = line.map(|line| format!(":{line}")).unwrap_or_default();
            ConfigError::Invalid { path: path.to_owned(), line, what: mistake.what }
        })
    }

    /// What of this the stack is made of.
    pub fn to_stack(&self) -> crate::stack::Config {
        crate::stack::Config {
            petnames: self.petnames.clone(),
            name: self.name.clone(),
            joins: self.join.clone(),
            only: self.links.only.clone(),
            overlay: self.overlay.id,
            closed: self.overlay.closed,
            // A file names nobody who would take this node in: an invite does.
            enrolment: None,
            leaf: self.leaf,
            direct: self.links.direct,
            max_sessions: self.limits.sessions,
            max_streams_per_session: self.limits.streams_per_session,
            fast_aes: crate::machine::has_fast_aes(),
        }
    }

    /// The nodes meant by an `allow` list: ids, petnames or `anyone`.
    ///
    /// # Errors
    /// A line about the first that is none of these.
    pub fn who(&self, allow: &[String]) -> Result<Vec<Who>, String> {
        let resolve = |text: &String| match (text.as_str(), self.petnames.get(text)) {
            (EVERYBODY, _) => Ok(Who::Anyone),
            (_, Some(id)) => Ok(Who::Node(*id)),
            (_, None) => text.parse().map(Who::Node).map_err(|_| {
                format!("{text:?} is no node id and no petname of this file; claimed names are for `muses expose`")
            }),
        };
        allow.iter().map(resolve).collect()
    }
}

fn readable(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "check the spelling, or write one: muses config init FILE",
        _ => "check what it is, its owner and mode",
    }
}

/// Not more than a file of settings can have: it may be anything that can be read.
fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| match (error.kind(), fs::read_link(path)) {
        (io::ErrorKind::NotFound, Ok(target)) => {
            io::Error::other(format!("it is a link to {}, and no file is there", target.display()))
        }
        _ => error,
    })?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 1 MiB, so no configuration"));
    }
    Ok(text)
}

/// `text` as a name that a node may claim, or a petname.
///
/// # Errors
/// The rule, as one line.
pub fn check_name(text: &str) -> Result<Name, String> {
    if text == EVERYBODY {
        return Err(format!("{text:?} means everybody in a list of who may use a service, and can be nobody's name"));
    }
    text.parse()
        .map_err(|_| format!("{text:?} is not a name: use 1 to 32 of a-z, 0-9 and -, which is neither first nor last"))
}

/// `text` as an address of links.
///
/// # Errors
/// How such an address is written.
pub fn parse_address(text: &str) -> Result<Multiaddr, String> {
    text.parse().map_err(|_| match text.parse::<SocketAddr>() {
        Ok(at) => format!("write it as {}", multiaddr_of(at)),
        Err(_) => "no multiaddr like /ip4/0.0.0.0/tcp/4741".to_owned(),
    })
}

fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Multiaddr>, D::Error> {
    let parse = |text: String| parse_address(&text).map_err(|why| serde::de::Error::custom(format!("{text:?}: {why}")));
    Vec::<String>::deserialize(from)?.into_iter().map(parse).collect()
}

fn checked_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(from)?;
    name.iter().try_for_each(|name| check_name(name).map(drop)).map_err(serde::de::Error::custom)?;
    Ok(name)
}

fn overlay_id<'de, D: Deserializer<'de>>(from: D) -> Result<Option<OverlayId>, D::Error> {
    let parse = |text: String| text.parse().map_err(|error| serde::de::Error::custom(format!("{text:?} is {error}")));
    Option::<String>::deserialize(from)?.map(parse).transpose()
}

fn petnames<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, NodeId>, D::Error> {
    let parse = |(name, text): (String, String)| {
        check_name(&name).map_err(serde::de::Error::custom)?;
        let id =
            text.parse().map_err(|error| serde::de::Error::custom(format!("petname {name}: {text:?} is {error}")))?;
        Ok((name, id))
    };
    BTreeMap::<String, String>::deserialize(from)?.into_iter().map(parse).collect()
}

fn friends<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let only = Vec::<String>::deserialize(from)?;
    match only.iter().find(|text| text.parse::<NodeId>().is_err() && text.parse::<Multiaddr>().is_err()) {
        Some(bad) => Err(serde::de::Error::custom(format!("links.only: {bad:?} is neither a node id nor a multiaddr"))),
        None => Ok(only),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("config.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_understood() {
        let id = overlay::id::Identity::from_secret(&[1; 32]).id();
        let overlay = OverlayId::of_genesis(b"x");
        let config = parse(&format!(
            "listen = ['/ip4/127.0.0.1/tcp/4741']\njoin = ['/ip4/1.2.3.4/tcp/1/p2p/{id}']\nname = 'alice'\nsocks = '[::1]:7080'\n[overlay]\nid = '{overlay}'\n\
             [links]\nonly = ['{id}', '/ip4/127.0.0.2']\nbulk = false\n[petnames]\nbob = '{id}'\n[limits]\nsessions = 20000\n\
             [services.ssh]\nforward = '127.0.0.1:22'\nallow = ['bob', 'anyone']\n[services.web]\nforward = '[::1]:80'\n"
        ))
        .unwrap();
        assert_eq!(config.overlay.id, Some(overlay));
        assert_eq!(config.socks, Some("[::1]:7080".parse().unwrap()));
        assert_eq!(config.petnames["bob"], id);
        assert_eq!(config.links.only.len(), 2);
        assert!(!config.links.bulk && parse("").unwrap().links.bulk && parse("[links]\n").unwrap().links.bulk);
        assert_eq!(config.limits.sessions.map(NonZeroUsize::get), Some(20_000));
        let ssh = &config.services[&"ssh".parse().unwrap()];
        assert_eq!(config.who(&ssh.allow), Ok(vec![Who::Node(id), Who::Anyone]));
        assert_eq!(config.services.len(), 2);
    }

    #[test]
    fn mistakes_are_one_line_that_names_key_and_place() {
        let line = parse("name = 'alice'\nlisten_on = []\n").unwrap_err();
        assert!(line.ends_with("; did you mean listen?"), "{line}");
        assert!(line.starts_with("config.toml:2: ") && line.contains("listen_on") && !line.contains('\n'), "{line}");
        for (text, part) in [
            ("[links]\nonlly = []", "onlly"),
            ("[links]\nonly = ['bob']", "bob"),
            ("[limits]\nstreams_per_session = 0", "from 1 on"),
            ("name = 'Not A Name'", "a-z"),
            ("listen = ['nonsense']", "config.toml:1: listen: \"nonsense\": no multiaddr"),
            ("listen = ['0.0.0.0:4741']", "write it as /ip4/0.0.0.0/tcp/4741"),
            ("join = ['[::1]:4741']", "write it as /ip6/::1/tcp/4741"),
            ("[petnames]\nbob = 'x'", "petname bob"),
            ("[overlay]\nid = 'x'", "overlay id"),
            ("[services.ssh]\nforward = 'nowhere'", "HOST:PORT"),
            ("[services.'a/b']\nforward = 'h:1'", "a/b"),
            ("[services.ssh]\nforward = 'h:1'\nallow = ['bob']", "services.ssh.allow"),
            ("socks = 7080", "config.toml:1"),
            ("name = ", "config.toml:1"),
        ] {
            let line = parse(text).unwrap_err();
            assert!(line.contains(part) && !line.contains('\n'), "{text}: {line}");
        }
    }

    #[test]
    fn the_template_says_nothing_and_its_examples_say_everything() {
        assert_eq!(parse(TEMPLATE).unwrap().to_toml(), Config::default().to_toml());
        let example =
            |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned();
        let examples: Vec<String> = TEMPLATE.lines().map(example).collect();
        let config = parse(&examples.join("\n")).unwrap();
        let table = config.to_toml();
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "dashboard",
                "join",
                "leaf",
                "limits",
                "links",
                "listen",
                "metrics",
                "name",
                "overlay",
                "petnames",
                "services",
                "socks",
                "socks_guard"
            ]
        );
        let of = |table: &str| config.to_json()[table].as_object().unwrap().len();
        assert_eq!((of("links"), of("overlay"), of("petnames"), of("services")), (5, 2, 1, 1));
        assert_ne!(table["links"], Config::default().to_toml()["links"], "an example is not the default");
        // And what is shown is a configuration again, the same one.
        let again = parse(&table.to_string()).unwrap();
        assert_eq!(again.to_toml(), table);
        assert_eq!(again.to_json()["services"]["ssh"]["allow"][0], "bob");
    }

    #[test]
    fn a_missing_file_matters_only_when_it_was_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        assert!(Config::load(None).unwrap().name.is_none());
        assert!(Config::load(Some(&file)).is_err());
        fs::write(&file, "name = 'carol'").unwrap();
        assert_eq!(Config::load(Some(&file)).unwrap().name.as_deref(), Some("carol"));
    }
}
