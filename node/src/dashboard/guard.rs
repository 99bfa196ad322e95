//! Who may use the dashboard: the token and what is derived from it, `Host`, `Origin`.

use std::net::IpAddr;
use std::path::Path;

use hkdf::Hkdf;
use hyper::header::{COOKIE, HOST, HeaderMap, ORIGIN};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::exit::Fault;
use crate::token::{self, TOKEN_BYTES, hexadecimal};

/// The file of the token in the data folder; it is kept over restarts, and whoever removes it before a start gets a new one.
pub const TOKEN_FILE: &str = "dashboard.token";

/// The token and what it is exchanged for.
pub struct Guard {
    token: Zeroizing<String>,
    cookie: Zeroizing<String>,
    key: Zeroizing<String>,
}

impl Guard {
    /// With the token in `data_dir`, which is made when it is missing.
    ///
    /// # Errors
    /// A file that cannot be read or written, that others may read, or that holds no token.
    pub fn open(data_dir: &Path) -> Result<Self, Fault> {
        Ok(Self::of(token::open(&data_dir.join(TOKEN_FILE), "dashboard's token")?))
    }

    fn of(token: Zeroizing<String>) -> Self {
        let derived = |label: &[u8]| {
            let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
            // Never longer than 255 hashes, which is the only error there is.
            let _ = Hkdf::<Sha256>::new(Some(b"muses dashboard"), token.as_bytes()).expand(label, bytes.as_mut_slice());
            hexadecimal(&bytes)
        };
        Self { cookie: derived(b"cookie"), key: derived(b"key"), token }
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Cookie and key for whoever has the token.
    pub fn exchange(&self, token: &str) -> Option<(&str, &str)> {
        same(&self.token, token).then_some((&self.cookie, &self.key))
    }

    /// Whether both were given out here.
    pub fn knows(&self, cookie: &str, key: &str) -> bool {
        same(&self.cookie, cookie) & same(&self.key, key)
    }
}

fn same(ours: &str, theirs: &str) -> bool {
    token::same(ours.as_bytes(), theirs.as_bytes())
}

/// Whether a request can come from this machine's own page: `changes` when it is one that changes something.
///
/// # Errors
/// Why not, for the answer.
pub fn same_site(headers: &HeaderMap, changes: bool) -> Result<(), &'static str> {
    let text = |value: &hyper::header::HeaderValue| value.to_str().ok().map(str::to_owned);
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(text), hosts.next()) else { return Err("one Host is needed") };
    if !is_loopback(&host) {
        return Err("the dashboard answers to loopback addresses and localhost only");
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next().map(text), origins.next()) {
        (None, None) if changes => return Err("an Origin is needed"),
        (None, None) => {}
        (Some(Some(origin)), None) if origin.strip_prefix("http://") == Some(&host) => {}
        _ => return Err("another Origin"),
    }
    match headers.get("sec-fetch-site").map(text) {
        None => Ok(()),
        Some(Some(site)) if site == "same-origin" || (site == "none" && !changes) => Ok(()),
        // A link on a foreign page leads to the page, which shows nothing without its key.
        Some(_) if !changes && is_navigation(headers) => Ok(()),
        Some(_) => Err("a request of another site"),
    }
}

fn is_navigation(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
}

/// `HOST` or `HOST:PORT` that is an address of loopback or `localhost`. The port is free, so that `ssh -L` may choose one.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name, port),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_is_one = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let own = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    own && port_is_one
}

/// The value of the cookie `name`.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_the_token_is_exchanged_and_both_halves_are_needed() {
        let guard = Guard::of(Zeroizing::new("a".repeat(64)));
        let other = Guard::of(Zeroizing::new("b".repeat(64)));
        for wrong in ["", "a", &"a".repeat(65), other.token(), &guard.cookie, &guard.key] {
            assert!(guard.exchange(wrong).is_none());
        }
        let (cookie, key) = guard.exchange(&"a".repeat(64)).unwrap();
        assert!(guard.knows(cookie, key));
        for (cookie, key) in [(cookie, ""), ("", key), (key, cookie), (cookie, cookie), (&other.cookie, &other.key)] {
            assert!(!guard.knows(cookie, key));
        }
    }

    #[test]
    fn only_loopback_hosts_and_their_own_origin_pass() {
        for host in ["127.0.0.1:7070", "localhost:7070", "LOCALHOST", "[::1]:7070", "127.9.9.9", "[::1]"] {
            assert_eq!(same_site(&headers(&[("host", host)]), false), Ok(()), "{host}");
            let origin = format!("http://{host}");
            assert_eq!(same_site(&headers(&[("host", host), ("origin", &origin)]), true), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:7070",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]:1",
            "localhost:x",
            "",
            "[::1",
        ] {
            assert!(same_site(&headers(&[("host", host)]), false).is_err(), "{host}");
        }
        let host = ("host", "127.0.0.1:7070");
        assert!(same_site(&headers(&[]), false).is_err());
        assert!(same_site(&headers(&[host]), true).is_err(), "a change needs an origin");
        for origin in [
            "null",
            "http://127.0.0.1:7071",
            "https://127.0.0.1:7070",
            "http://localhost:7070",
            "http://evil.example",
            "",
        ] {
            assert!(same_site(&headers(&[host, ("origin", origin)]), false).is_err(), "{origin}");
        }
        let cross = ("sec-fetch-site", "cross-site");
        assert!(same_site(&headers(&[host, cross]), false).is_err());
        assert!(same_site(&headers(&[host, ("sec-fetch-site", "same-site")]), false).is_err(), "another port");
        assert!(same_site(&headers(&[host, cross, ("sec-fetch-mode", "navigate")]), false).is_ok());
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let headers = headers(&[("cookie", "xmuses-1=no; muses-1=yes; muses-10=no")]);
        assert_eq!((cookie(&headers, "muses-1"), cookie(&headers, "muses-2")), (Some("yes"), None));
    }
}
