//! The words of exposures: a service's name, where it is, and `PEER/NAME`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::exit::{Code, Fault};

/// Longest service name, in bytes.
pub const MAX_SERVICE_NAME_BYTES: usize = 64;
/// Longest host in `HOST:PORT`, in bytes (RFC 1035, 2.3.4).
const MAX_HOST_BYTES: usize = 255;
/// What is before the path of a unix socket.
const UNIX: &str = "unix:";
/// What is before a place where a peer may have a port, see [`super::reverse`].
pub const LISTEN: &str = "listen:";
/// Longest path of a unix socket, in bytes (unix(7)).
const MAX_UNIX_PATH_BYTES: usize = 107;

/// The name of a service: 1 to 64 of letters, digits, `.`, `_` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

/// `HOST:PORT` of a local TCP service, whose host is resolved at each connection; `unix:/PATH` of a socket; or `listen:HOST:PORT`, where a peer may
/// have a port that leads to him.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Forward(String);

/// `PEER/NAME`: a service of a node, which is a petname, a claimed name or a node id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    /// Whose.
    pub peer: String,
    /// Which service.
    pub service: ServiceName,
}

impl ServiceName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Forward {
    /// `HOST:PORT` or `unix:/PATH`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a place where a peer may have a port.
    pub fn is_place(&self) -> bool {
        self.0.starts_with(LISTEN)
    }

    /// Whether a service can be there: not at port 0, which is for listening alone, where the system picks one.
    ///
    /// # Errors
    /// [`Code::Usage`].
    pub fn check_service(&self) -> Result<(), Fault> {
        if self.unix().is_none() && !self.is_place() && self.0.ends_with(":0") {
            let line = format!("no service listens at port 0 ({self}); say which one it is");
            return Err(Fault::new(Code::Usage, line));
        }
        Ok(())
    }

    /// The path of a unix socket, if it is one.
    pub fn unix(&self) -> Option<&Path> {
        unix_path(&self.0)
    }
}

/// The path in `unix:/PATH`; none for `HOST:PORT`.
pub fn unix_path(forward: &str) -> Option<&Path> {
    forward.strip_prefix(UNIX).map(Path::new)
}

impl FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=MAX_SERVICE_NAME_BYTES).contains(&text.len()) && text.chars().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{text:?} is not a service name: use 1 to 64 letters, digits, '.', '_' or '-'"))
        }
    }
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(UNIX) {
            let legal = path.starts_with('/') && !path.ends_with('/') && !path.contains(char::is_control);
            return if legal && path.len() <= MAX_UNIX_PATH_BYTES {
                Ok(Self(text.to_owned()))
            } else {
                Err(format!("{text:?} is not unix:/PATH of at most {MAX_UNIX_PATH_BYTES} bytes"))
            };
        }
        if let Some(place) = text.strip_prefix(LISTEN) {
            let whole =
                |place: Self| if place.unix().is_none() && !place.0.starts_with(LISTEN) { Ok(()) } else { Err(()) };
            return match place.parse::<Self>().map_err(drop).and_then(whole) {
                Ok(()) => Ok(Self(text.to_owned())),
                Err(()) => Err(format!("{text:?} is not listen:HOST:PORT, as in listen:127.0.0.1:8080")),
            };
        }
        let bad = || format!("{text:?} is not HOST:PORT, as in 127.0.0.1:22 or [::1]:80, nor unix:/PATH");
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        port.parse::<u16>().map_err(|_| bad())?;
        let plain = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        let legal =
            (1..=MAX_HOST_BYTES).contains(&host.len()) && host.chars().all(|c| c.is_ascii_graphic() && c != '/');
        if plain && legal { Ok(Self(text.to_owned())) } else { Err(bad()) }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not PEER/NAME, as in alice/ssh");
        let (peer, service) = text.split_once('/').ok_or_else(bad)?;
        let legal = (1..=128).contains(&peer.len()) && peer.chars().all(|c| c.is_ascii_graphic());
        if legal { Ok(Self { peer: peer.to_owned(), service: service.parse()? }) } else { Err(bad()) }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.peer, self.service)
    }
}

macro_rules! text_form {
    ($($word:ty),*) => {$(
        impl TryFrom<String> for $word {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
        impl From<$word> for String {
            fn from(word: $word) -> Self {
                word.to_string()
            }
        }
    )*};
}
text_form!(ServiceName, Forward, Target);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for good in
            ["127.0.0.1:22", "[::1]:80", "localhost:0", "db.example:5432", "unix:/run/db.sock", "listen:[::1]:0"]
        {
            assert!(good.parse::<Forward>().is_ok(), "{good}");
        }
        for bad in ["", ":22", "127.0.0.1", "h:70000", "::1:80", "a b:1", "h:x", "a/b:1", "unix:", "unix:x", "unix:/a/"]
        {
            assert!(bad.parse::<Forward>().is_err(), "{bad}");
        }
        for bad in ["listen:", "listen:8080", "listen:unix:/a", "listen:listen:127.0.0.1:1"] {
            assert!(bad.parse::<Forward>().unwrap_err().contains("listen:HOST:PORT"), "{bad}");
        }
        assert!(format!("unix:/{}", "x".repeat(107)).parse::<Forward>().is_err());
        assert_eq!("unix:/x".parse::<Forward>().unwrap().unix(), Some(Path::new("/x")));
        let target: Target = "alice/ssh".parse().unwrap();
        assert_eq!((target.peer.as_str(), target.service.as_str()), ("alice", "ssh"));
        for bad in ["alice", "/ssh", "alice/", "alice/a/b", "al ice/ssh", ""] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
        assert!("x".repeat(65).parse::<ServiceName>().is_err());
    }
}
