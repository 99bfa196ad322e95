//! Mistakes in a configuration file: where the first one is, and what it is in people's words.

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::Config;

/// From how much likeness on (Jaro and Winkler, 0 to 1) a key is taken for a misspelling of another.
const MIN_ALIKE: f64 = 0.8;

/// What is wrong, and at which byte.
pub(super) struct Mistake {
    pub(super) at: Option<usize>,
    pub(super) what: String,
}

/// The configuration in `text`, or the first mistake in it. Serde tells one only, and not the first in the file: so each key is read by itself.
pub(super) fn read(text: &str) -> Result<Config, Mistake> {
    let document = DeTable::parse(text).map_err(|error| Mistake::of(&error, None))?;
    let mut mistakes: Vec<Mistake> = parts(document.get_ref())
        .into_iter()
        .filter_map(|part| Config::deserialize(Deserializer::from(part)).err())
        .map(|error| Mistake::of(&error, Some(document.get_ref())))
        .collect();
    if mistakes.is_empty() {
        let config = Config::deserialize(Deserializer::from(document.clone()));
        let config = config.map_err(|error| Mistake::of(&error, Some(document.get_ref())))?;
        mistakes = strangers(&config, document.get_ref());
        if mistakes.is_empty() {
            return Ok(config);
        }
    }
    mistakes.sort_by_key(|mistake| mistake.at);
    // A table that should not be there is one mistake, however many keys it has.
    mistakes.dedup_by_key(|mistake| mistake.at);
    let all = mistakes.len();
    let mut first = mistakes.swap_remove(0);
    if all > 1 {
        first.what = format!("{} (the first of {all} mistakes)", first.what);
    }
    Err(first)
}

/// A document for each key, or for each key in a table.
fn parts<'a>(document: &DeTable<'a>) -> Vec<Spanned<DeTable<'a>>> {
    let mut parts = Vec::new();
    for (key, value) in document {
        let part = |value| Spanned::new(key.span(), DeTable::from_iter([(key.clone(), value)]));
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => {
                let alone = |(name, value): (&Spanned<_>, &Spanned<_>)| {
                    let table = DeTable::from_iter([(name.clone(), value.clone())]);
                    part(Spanned::new(name.span(), DeValue::Table(table)))
                };
                parts.extend(inner.iter().map(alone));
            }
            _ => parts.push(part(value.clone())),
        }
    }
    parts
}

/// Services that are offered to whom nobody knows.
fn strangers(config: &Config, document: &DeTable<'_>) -> Vec<Mistake> {
    let stranger = |(name, service): (&_, &super::ServiceTable)| {
        let why = config.who(&service.allow).err()?;
        let path = format!("services.{name}.allow");
        Some(Mistake { at: place_of(document, &path), what: format!("{path}: {why}") })
    };
    config.services.iter().filter_map(stranger).collect()
}

impl Mistake {
    fn of(error: &Error, document: Option<&DeTable<'_>>) -> Self {
        let at = error.span().map(|span| span.start);
        let path = document.zip(at).and_then(|(document, at)| path_at(document, at));
        Self { at, what: in_words(path.as_deref(), &error.message().replace('\n', " ")) }
    }
}

/// The key, as `links.direct`, that is at this byte, or whose value is.
fn path_at(table: &DeTable<'_>, at: usize) -> Option<String> {
    let found = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        let name = key.get_ref();
        let inner = value.get_ref().as_table().and_then(|inner| path_at(inner, at));
        let here = || (key.span().contains(&at) || value.span().contains(&at)).then(|| name.to_string());
        inner.map(|inner| format!("{name}.{inner}")).or_else(here)
    };
    table.iter().find_map(found)
}

/// Where the key of this path is.
fn place_of(table: &DeTable<'_>, path: &str) -> Option<usize> {
    let found = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        let rest = path.strip_prefix(key.get_ref().as_ref())?;
        match rest.strip_prefix('.') {
            Some(rest) => place_of(value.get_ref().as_table()?, rest),
            None => rest.is_empty().then(|| key.span().start),
        }
    };
    table.iter().find_map(found)
}

/// Serde's message without the words of programs.
fn in_words(path: Option<&str>, message: &str) -> String {
    let key = path.map(|path| path.rsplit('.').next().unwrap_or(path));
    let about = |what: String| match (path, key) {
        (Some(path), Some(key)) if !what.contains(key) => format!("{path}: {what}"),
        _ => what,
    };
    let expected = message.split_once(", expected ");
    if let Some((found, wanted)) = expected
        && let Some(found) = found.strip_prefix("invalid type: ").or_else(|| found.strip_prefix("invalid value: "))
    {
        let path = path.map(|path| format!("{path}: ")).unwrap_or_default();
        return format!("{path}{} is wanted, not {}", kind(wanted), value(found));
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let first = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    if message.starts_with("unknown field ") {
        let meant = meant(first, &known)
            .map_or_else(|| format!("here there are: {}", known.join(", ")), |key| format!("did you mean {key}?"));
        return format!("unknown key {first}; {meant}");
    }
    if message.starts_with("unknown variant ") {
        return about(format!("{} is wanted, not {first:?}", known.join(" or ")));
    }
    if message.starts_with("missing field ") {
        return match path {
            Some(path) => format!("{path}: the key {first} is missing"),
            None => format!("the key {first} is missing"),
        };
    }
    about(message.to_owned())
}

/// What serde says that it expected.
fn kind(wanted: &str) -> &str {
    match wanted {
        "a sequence" => "a list in [ ]",
        "a string" => "a text in quotes",
        "a boolean" => "true or false",
        "a map" => "a table",
        _ if wanted.ends_with("usize") => "a whole number from 1 on",
        _ if wanted.starts_with("struct ") => "a table",
        other => other,
    }
}

/// What serde says that it found: ``integer `0` ``, `string "x"`, `map`.
fn value(found: &str) -> String {
    match found {
        "map" => return "a table".to_owned(),
        "sequence" => return "a list".to_owned(),
        _ => {}
    }
    let kinds = [("integer ", ""), ("floating point ", ""), ("boolean ", ""), ("string ", "the text ")];
    let shown = kinds.iter().find_map(|(kind, word)| found.strip_prefix(kind).map(|value| format!("{word}{value}")));
    // Integers that are too long for 64 bits come with the name of a type.
    shown.unwrap_or_else(|| found.to_owned()).replace('`', "").replace(" as i128", "").replace(" as u128", "")
}

/// The key that is most like an unknown one, if any is like it.
fn meant<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = known.iter().map(|key| (strsim::jaro_winkler(unknown, key), *key));
    let alike = alike.filter(|(alike, _)| *alike > MIN_ALIKE);
    alike.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mistakes_are_told_in_peoples_words() {
        for (text, line) in [
            ("socks = 7080", ":1: socks: a text in quotes is wanted, not 7080"),
            ("listen = 'x'", ":1: listen: a list in [ ] is wanted, not the text \"x\""),
            ("\nleaf = 'yes'", ":2: leaf: true or false is wanted, not the text \"yes\""),
            ("links = 3", ":1: links: a table is wanted, not 3"),
            ("[limits]\nsessions = 0", ":2: limits.sessions: a whole number from 1 on is wanted, not 0"),
            ("[limits]\nsessions = -1", ":2: limits.sessions: a whole number from 1 on is wanted, not -1"),
            ("socks_guard = 'none'", ":1: socks_guard: uid or token is wanted, not \"none\""),
            ("[overlay]\nx = 1", ":2: unknown key x; here there are: id, closed"),
            (
                "[services.ssh]\nforward = 'h:1'\nallow = 'bob'",
                ":3: services.ssh.allow: a list in [ ] is wanted, not the text \"bob\"",
            ),
            (
                "[services.ssh]\nforward = 'h:1'\nallow = ['bob']",
                ":3: services.ssh.allow: \"bob\" is no node id and no petname of this file; claimed names are for `muses expose`",
            ),
        ] {
            assert_eq!(told(text), format!("config.toml{line}"));
        }
        assert!(told("[services.ssh]\nallow = []").contains("services.ssh: the key forward is missing"));
    }

    #[test]
    fn of_several_the_first_in_the_file_is_told() {
        let text = "socks = 7080\n[links]\nupnp = 1\nbulk = 2\n[limits]\nsessions = 0\n";
        assert_eq!(told(text), "config.toml:1: socks: a text in quotes is wanted, not 7080 (the first of 4 mistakes)");
        let text = "[linkss]\nupnp = true\nbulk = true\n";
        assert_eq!(told(text).split_once("; ").unwrap(), ("config.toml:1: unknown key linkss", "did you mean links?"));
        let text = "[links]\nupnp = 1\nbulk = 2\n[limits]\nsessions = 3\n";
        assert!(told(text).starts_with("config.toml:2: links.upnp: "), "{}", told(text));
    }

    fn told(text: &str) -> String {
        Config::parse(text, Path::new("config.toml")).unwrap_err().to_string()
    }
}
