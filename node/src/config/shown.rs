//! A configuration as a file would have it: for `muses config show`, and to tell two apart.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use overlay::id::NodeId;
use toml::Value;

use super::{Config, LimitsTable, LinksTable, OverlayTable, ServiceTable, SocksGuard};
use crate::local::service::ServiceName;
use crate::stack::Direct;

/// Tables whose keys people choose.
const NAMED: [&str; 2] = ["petnames", "services"];
/// What a running node takes over when it reads its configuration again, beside `limits`.
const RELOADED: [&str; 3] = ["links.direct", "petnames", "services"];

impl Config {
    /// The keys and values of this configuration, as a file would have them; what is empty is left out.
    pub fn to_toml(&self) -> toml::Table {
        // Taken apart without a rest, so that a new key is not forgotten here.
        let Self {
            listen,
            join,
            name,
            leaf,
            socks,
            socks_guard,
            dashboard,
            metrics,
            overlay,
            links,
            limits,
            petnames,
            services,
        } = self;
        let mut table = toml::Table::new();
        let mut put = |key: &str, value: Option<Value>| _ = value.and_then(|value| table.insert(key.to_owned(), value));
        put("listen", list(listen));
        put("join", list(join));
        put("name", name.clone().map(Value::String));
        put("leaf", leaf.then_some(Value::Boolean(true)));
        put("socks", socks.as_ref().map(|socks| socks.to_string().into()));
        let guard = |guard: &SocksGuard| match guard {
            SocksGuard::Uid => "uid".into(),
            SocksGuard::Token => "token".into(),
        };
        put("socks_guard", socks_guard.as_ref().map(guard));
        put("dashboard", dashboard.as_ref().map(|dashboard| dashboard.to_string().into()));
        put("metrics", metrics.as_ref().map(|metrics| metrics.to_string().into()));
        let overlay = overlay.to_toml();
        put("overlay", (!overlay.is_empty()).then(|| overlay.into()));
        put("links", Some(links.to_toml().into()));
        let limits = limits.to_toml();
        put("limits", (!limits.is_empty()).then(|| limits.into()));
        let petname = |(name, id): (&String, &NodeId)| (name.clone(), id.to_string().into());
        let petnames: toml::Table = petnames.iter().map(petname).collect();
        put("petnames", (!petnames.is_empty()).then(|| petnames.into()));
        let service = |(name, service): (&ServiceName, &ServiceTable)| (name.to_string(), service.to_toml().into());
        let services: toml::Table = services.iter().map(service).collect();
        put("services", (!services.is_empty()).then(|| services.into()));
        table
    }

    /// The keys in which this configuration and `other` differ, as `links.direct`, with tables of names as one key; in order. First those that a
    /// running node takes over, then the others.
    pub fn differences(&self, other: &Self) -> (Vec<String>, Vec<String>) {
        let (ours, theirs) = (flat(self.to_toml()), flat(other.to_toml()));
        let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        let differing = keys.into_iter().filter(|key| ours.get(*key) != theirs.get(*key)).cloned();
        differing.partition(|key| RELOADED.contains(&key.as_str()) || key.starts_with("limits."))
    }

    /// The same for `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        // Every value of the table is text, a list, a number or a flag: JSON has them all.
        serde_json::to_value(self.to_toml()).unwrap_or_default()
    }
}

impl OverlayTable {
    fn to_toml(&self) -> toml::Table {
        let Self { id, closed } = self;
        let id = id.map(|id| ("id".to_owned(), id.to_string().into()));
        let closed = closed.then(|| ("closed".to_owned(), Value::Boolean(true)));
        id.into_iter().chain(closed).collect()
    }
}

impl LinksTable {
    fn to_toml(&self) -> toml::Table {
        let Self { only, direct, bulk, mdns, upnp } = self;
        let direct = match direct {
            Direct::Auto => "auto",
            Direct::Never => "never",
        };
        let flag = |key: &str, value: bool| (key.to_owned(), Value::Boolean(value));
        let set = [("direct".to_owned(), direct.into()), flag("bulk", *bulk), flag("mdns", *mdns), flag("upnp", *upnp)];
        set.into_iter().chain(list(only).map(|only| ("only".to_owned(), only))).collect()
    }
}

impl LimitsTable {
    fn to_toml(self) -> toml::Table {
        let Self { sessions, streams_per_session } = self;
        let set = [("sessions", sessions), ("streams_per_session", streams_per_session)];
        let number = |limit: NonZeroUsize| Value::Integer(i64::try_from(limit.get()).unwrap_or(i64::MAX));
        set.into_iter().filter_map(|(key, limit)| Some((key.to_owned(), number(limit?)))).collect()
    }
}

impl ServiceTable {
    fn to_toml(&self) -> toml::Table {
        let Self { forward, allow } = self;
        let allow = list(allow).unwrap_or_else(|| Value::Array(Vec::new()));
        toml::Table::from_iter([("forward".to_owned(), forward.to_string().into()), ("allow".to_owned(), allow)])
    }
}

/// The values by dotted key; `petnames` and `services`, whose keys people choose, are one value each.
fn flat(table: toml::Table) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !NAMED.contains(&key.as_str()) => {
                flat.extend(inner.into_iter().map(|(inner, value)| (format!("{key}.{inner}"), value)));
            }
            value => _ = flat.insert(key, value),
        }
    }
    flat
}

/// The items as text; none for none.
fn list(items: &[impl ToString]) -> Option<Value> {
    let items: Vec<Value> = items.iter().map(|item| Value::String(item.to_string())).collect();
    (!items.is_empty()).then_some(Value::Array(items))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn differences_tell_what_a_running_node_takes_over() {
        let keys = |before, after| parse(before).differences(&parse(after));
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(keys("leaf = true", "leaf = true"), (vec![], vec![]));
        let (before, after) = (
            "leaf = true\n[services.web]\nforward = 'h:1'\n[limits]\nsessions = 5",
            "name = 'x'\n[services.web]\nforward = 'h:1'\nallow = ['anyone']\n[links]\ndirect = 'never'\nbulk = false",
        );
        let taken_over = words(&["limits.sessions", "links.direct", "services"]);
        assert_eq!(keys(before, after), (taken_over, words(&["leaf", "links.bulk", "name"])));
    }

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("config.toml")).unwrap()
    }
}
