//! Requests and replies.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::exit::{Code, Fault};
use crate::local::service::{Forward, ServiceName, Target};

/// Longest line that is read, in bytes, without its end.
pub const MAX_LINE_BYTES: usize = 64 * 1024;
/// Most entries in an `allow` list.
pub const MAX_ALLOWED: usize = 256;

/// What a person or program asks of a running node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What the node is and does; the answer is a `stack::Status` with the fields `offers`, a list of [`Exposed`], `connects`, `kept`, `socks`, `dashboard` and `metrics` added.
    Status {},
    /// Neighbours; a list of `stack::PeerStatus`.
    Peers {},
    /// Sessions; a list of `stack::SessionStatus`.
    Sessions {},
    /// Who and where a peer is; a `stack::Resolved` with the field `host` added, its name for SOCKS.
    Lookup {
        /// Petname, claimed name or id.
        peer: String,
    },
    /// One echo: `{"hops":4,"rtt_us":8123}`.
    Ping {
        /// Petname, claimed name or id.
        peer: String,
    },
    /// The way there: `[{"node":"12D3...","address":"/3/0"}]`.
    Trace {
        /// Petname, claimed name or id.
        peer: String,
    },
    /// What a peer lets this node use: `{"node":"12D3...","services":[{"service":"web","listen":false}]}`.
    Services {
        /// Petname, claimed name or id.
        peer: String,
    },
    /// Offers a local service; the answer is an [`Exposed`].
    Expose {
        /// Its name.
        service: ServiceName,
        /// Where it is.
        forward: Forward,
        /// Ids, petnames, claimed names or `anyone`.
        #[serde(default)]
        allow: Vec<String>,
    },
    /// No longer offers a service.
    Unexpose {
        /// Its name.
        service: ServiceName,
    },
    /// Listens locally for a peer's service: `{"listen":"127.0.0.1:2222"}`.
    Connect {
        /// Which service of whom.
        target: Target,
        /// `HOST:PORT`; port 0 picks a free one.
        listen: Forward,
        /// Only for programs of the user as whom the node runs.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        only_me: bool,
        /// Again after each start of the node, until `disconnect`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keep: bool,
    },
    /// Closes local ports that `connect` made, for good if they were kept; connections through them go on: `{"closed":["127.0.0.1:2222"]}`.
    Disconnect {
        /// The address of one, or a target, `PEER/NAME`, for all that lead to it.
        what: String,
    },
    /// Ends the session with a peer and every connection in it, or the connections to one service alone: `{"node":"12D3...","streams":2}`.
    Cut {
        /// Petname, claimed name or id.
        peer: String,
        /// Only those to this service, of whichever side.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<ServiceName>,
    },
    /// Claims a name for this node: `{"name":"alice","node":"12D3..."}`.
    NameClaim {
        /// Which.
        name: String,
    },
    /// Lets a name mean a node, whomever it meant before: `{"name":"alice","node":"12D3..."}`.
    NamePin {
        /// The name.
        name: String,
        /// The node's id.
        node: String,
    },
    /// Forgets whom a name means.
    NameUnpin {
        /// The name.
        name: String,
    },
    /// The names that this node knows by itself; a list of `stack::NameStatus`.
    NameList {},
    /// The keys of this node; the answer is a `stack::KeyStatus`.
    KeyShow {},
    /// Changes the session key; the answer is as to `key-show`.
    KeyRotate {},
    /// Makes a recovery key: `{"node":"12D3...","recovery":"musesr1..."}`.
    KeyRecovery {},
    /// Revokes this node's identity for ever: `{"node":"12D3..."}`.
    KeyRevoke {
        /// This node's id, once more.
        node: String,
    },
    /// Revokes the identity that a recovery key belongs to: `{"node":"12D3..."}`.
    KeyRecover {
        /// The recovery key.
        key: String,
    },
    /// The configuration in force; the keys are those of the file.
    Config {},
    /// Which layer fails, on this node or on the way to a peer; the answer is a [`Diagnosis`].
    Doctor {
        /// Petname, claimed name or id; none for this node alone.
        #[serde(default)]
        peer: Option<String>,
        /// A service of that peer.
        #[serde(default)]
        service: Option<ServiceName>,
    },
    /// Writes an invite; the answer is an [`Invitation`].
    Invite {
        /// How long it is good, in seconds.
        lifetime_s: u64,
        /// Which services whoever comes with it may use from then on.
        #[serde(default)]
        services: Vec<ServiceName>,
        /// How many nodes may have these services by it, or membership in a closed overlay, at least 1.
        uses: u32,
        /// In a closed overlay: whoever comes with it may invite others.
        #[serde(default)]
        may_invite: bool,
    },
    /// Another way to this overlay, or an invite of one of its members to services; for a node that is in it: `{"node":"12D3...","services":["web"]}`,
    /// the inviter, and null for an address that names nobody.
    Join {
        /// `INVITE` or `MULTIADDR`.
        way: String,
    },
    /// The invites with a secret that have not expired; a list of [`OpenInvite`].
    Invites {},
    /// Takes back an invite with a secret: the answer is an [`OpenInvite`], as it was.
    Uninvite {
        /// Its id, or the invite itself.
        invite: String,
    },
    /// Turns this connection into a raw stream to a peer's service: `{"pipe":7}`.
    Pipe {
        /// Which service of whom.
        target: Target,
    },
    /// Turns this connection into a raw stream to the `receive` on a peer: `{"pipe":7}`.
    Send {
        /// Petname, claimed name or id.
        peer: String,
    },
    /// Takes files as long as this connection is open: `{"allow":[...]}` like that of [`Exposed`]. Then an [`Arrival`] follows, as a reply of its
    /// own, for each sender who comes.
    Receive {
        /// Ids, petnames, claimed names or `anyone`.
        from: Vec<String>,
    },
    /// Turns this connection into the raw stream of a sender: `{"pipe":7}`.
    Take {
        /// From the [`Arrival`].
        transfer: u64,
    },
    /// Has a port at a peer's lead to a local service as long as this connection is open: `{"node":"12D3...","listen":"127.0.0.1:8080","forward":"..."}`.
    Reverse {
        /// Which port of whom: a service there that is a place to listen.
        target: Target,
        /// The local service.
        forward: Forward,
    },
    /// How the pipe of this number ended; waits a little for that: `{"ended":true}`, or false to ask again.
    PipeEnd {
        /// From the reply to `pipe`.
        pipe: u64,
    },
    /// Flight mode: no byte leaves or enters, sockets stay open and silent.
    NetworkDown {},
    /// Ends flight mode.
    NetworkUp {
        /// The only local address to use from now on.
        #[serde(default)]
        bind: Option<IpAddr>,
    },
    /// From now on links only with these nodes, with everybody if there is none; links that there are stay until they break. For harnesses that
    /// part an overlay; people write `links.only` into the configuration.
    LinksOnly {
        /// Their ids.
        only: Vec<String>,
    },
    /// Where the dashboard is: `{"url":"http://127.0.0.1:7070/#..."}`.
    Dashboard {},
    /// Leaves the overlay and ends the node.
    Down {},
}

/// The answer to `expose`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exposed {
    /// Its name.
    pub service: ServiceName,
    /// Where it is.
    pub forward: Forward,
    /// Who may use it, with names resolved.
    pub allow: Vec<Allowed>,
}

/// One entry of an `allow` list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Allowed {
    /// As typed, or what it is called here.
    pub name: String,
    /// The id it stands for; none for `anyone`.
    pub node: Option<String>,
}

/// A sender has come.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Arrival {
    /// The number for `take`, which must follow soon.
    pub transfer: u64,
    /// Who it is, an id.
    pub node: String,
}

/// The answer to `invite`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// What to send to the guest.
    pub invite: String,
    /// The overlay that it leads to.
    pub overlay: String,
    /// The inviter's id: this node's.
    pub node: String,
    /// Its id at the inviter, for `uninvite`; none when it opens nothing.
    #[serde(default)]
    pub id: Option<String>,
    /// Until when it is good, in seconds since the Unix epoch.
    pub expires_unix_s: u64,
    /// The multiaddrs in it, those that reach farthest first.
    pub addresses: Vec<String>,
    /// From where the first of them can be reached: `world`, `network` or `machine`.
    pub reach: String,
    /// The services that it opens.
    pub services: Vec<ServiceName>,
    /// To how many nodes it opens them, or a closed overlay; none when it opens nothing.
    pub uses: Option<u32>,
    /// What it makes its holder in a closed overlay, `member` or `inviter`; none in an open one.
    #[serde(default)]
    pub admits: Option<String>,
    /// Whether others get into the overlay through this node.
    pub takes_in: bool,
    /// How many neighbours were asked to dial this node.
    #[serde(default)]
    pub asked: usize,
    /// What they found: first the addresses in the invite, then others at which they see this node.
    #[serde(default)]
    pub trials: Vec<Trial>,
}

/// An invite with a secret that has not expired.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OpenInvite {
    /// Tells it apart from others, and opens nothing.
    pub id: String,
    /// Until when it is good, in seconds since the Unix epoch.
    pub expires_unix_s: u64,
    /// For how many more nodes.
    pub uses_left: u32,
    /// The services that it opens.
    pub services: Vec<ServiceName>,
    /// What it makes its holder in a closed overlay, `member` or `inviter`; none in an open one.
    pub admits: Option<String>,
    /// Who has come with it, by name or id.
    pub guests: Vec<String>,
}

/// Whether this node is reached at one address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// A multiaddr.
    pub address: String,
    /// How it went.
    pub outcome: Outcome,
    /// Who dialled, an id; none when nobody did.
    pub by: Option<String>,
}

/// How a dial went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// This node answered there.
    Reached,
    /// It did not.
    Failed,
    /// No neighbour sees this node there, so none dialled.
    Untested,
}

/// The answer to `doctor`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Diagnosis {
    /// What was examined, the nearest layer first; the one that fails is the last.
    pub checks: Vec<Check>,
    /// The layer that fails, if one does.
    pub failed: Option<String>,
    /// The exit code that goes with it; 0 when none fails.
    pub code: u8,
}

/// One layer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Check {
    /// `store` (only when it fails), `link`, `address`, `record`, `path`, `handshake` or `service`.
    pub layer: String,
    /// Whether it works.
    pub ok: bool,
    /// What was found, or what is wrong and what to try.
    pub detail: String,
}

/// One line back.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Reply {
    /// It worked.
    Ok {
        /// What there is to tell; null when nothing.
        data: Value,
    },
    /// It did not.
    Error {
        /// The exit code for it.
        code: u8,
        /// What, why and what to try.
        message: String,
    },
}

impl Request {
    /// The request in one line.
    ///
    /// # Errors
    /// A [`Fault`] with [`Code::Usage`] for anything else than a known verb with its fields.
    pub fn parse(line: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(line).map_err(|error| Fault::new(Code::Usage, format!("not a request: {error}")))
    }
}

impl Reply {
    /// The reply as a line, with its end.
    pub fn to_line(&self) -> String {
        let text = serde_json::to_string(self);
        // Only a map with keys that are no text cannot be written, and no reply has one.
        text.unwrap_or_else(|_| r#"{"status":"error","code":1,"message":"the reply cannot be written"}"#.to_owned())
            + "\n"
    }
}

impl From<Result<Value, Fault>> for Reply {
    fn from(result: Result<Value, Fault>) -> Self {
        match result {
            Ok(data) => Self::Ok { data },
            Err(Fault { code, message }) => Self::Error { code, message },
        }
    }
}

impl From<Reply> for Result<Value, Fault> {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Ok { data } => Ok(data),
            Reply::Error { code, message } => Err(Fault { code, message }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_a_stable_form() {
        for (request, line) in [
            (Request::Status {}, r#"{"verb":"status"}"#),
            (Request::NetworkUp { bind: Some([127, 0, 0, 2].into()) }, r#"{"verb":"network-up","bind":"127.0.0.2"}"#),
            (Request::Ping { peer: "alice".into() }, r#"{"verb":"ping","peer":"alice"}"#),
            (
                Request::Connect {
                    target: "alice/ssh".parse().unwrap(),
                    listen: "127.0.0.1:0".parse().unwrap(),
                    only_me: false,
                    keep: false,
                },
                r#"{"verb":"connect","target":"alice/ssh","listen":"127.0.0.1:0"}"#,
            ),
            (
                Request::Connect {
                    target: "a/b".parse().unwrap(),
                    listen: "127.0.0.1:0".parse().unwrap(),
                    only_me: true,
                    keep: true,
                },
                r#"{"verb":"connect","target":"a/b","listen":"127.0.0.1:0","only_me":true,"keep":true}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
            assert_eq!(Request::parse(line.as_bytes()), Ok(request));
        }
    }

    #[test]
    fn anything_else_is_a_usage_fault_in_one_line() {
        for line in [
            "",
            "{",
            "null",
            "[]",
            "{}",
            r#"{"verb":"fly"}"#,
            r#"{"verb":"ping"}"#,
            r#"{"verb":"status","x":1}"#,
            r#"{"verb":"expose","service":"a/b","forward":"h:1"}"#,
            r#"{"verb":"network-up","bind":"home"}"#,
            "\u{0}\u{1}",
        ] {
            let fault = Request::parse(line.as_bytes()).unwrap_err();
            assert_eq!(fault.code, Code::Usage as u8, "{line}");
            assert!(!fault.message.contains('\n'));
        }
        assert!(Request::parse(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn replies_are_the_documented_envelope() {
        let ok = Reply::from(Ok(serde_json::json!({"hops": 3})));
        assert_eq!(ok.to_line(), "{\"status\":\"ok\",\"data\":{\"hops\":3}}\n");
        let error = Reply::from(Err(Fault::new(Code::Refused, "no")));
        assert_eq!(error.to_line(), "{\"status\":\"error\",\"code\":4,\"message\":\"no\"}\n");
    }
}
