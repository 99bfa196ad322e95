//! The command `muses`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Parser, Subcommand};

use crate::exit::EXIT_CODES_HELP;
use crate::local::invites::MAX_USES;
use crate::local::service::{Forward, ServiceName, Target};

mod ask;
mod check;
mod configure;
mod console;
mod files;
mod join;
mod lines;
mod out;
mod pages;
mod place;
mod reload;
mod run;
mod show;
mod supervisor;
mod up;

pub use run::{main, usage_line};

/// How long an invite is good if nobody says anything else: one of `muses invite`, and the one that `muses up` prints.
const INVITE_LIFETIME: &str = "7d";

/// TCP connections that survive anything, by name, without a server.
#[derive(Parser, Debug)]
#[command(name = "muses", version, after_help = EXIT_CODES_HELP, propagate_version = true)]
struct Cli {
    /// The node's folder: keys, state and control socket [default: $XDG_STATE_HOME/muses or ~/.local/state/muses]
    #[arg(long, global = true, value_name = "DIR", env = "MUSES_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,
    /// Print the node's reply as one line of JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run a node in the foreground: found an overlay, join one, or go on with the one it is in
    #[command(after_help = "Example:\n  muses up --name alice", arg(no_json()))]
    Up(up::Up),
    /// Join an overlay by an invite or a bootstrap peer's address, or the one on this local network; then the same as `muses up --join ...`. A node that runs already takes an invite of its overlay without an interruption
    #[command(after_help = "Example:\n  muses join muses1...", arg(no_json()), mut_arg("closed", |flag| flag.hide(true)))]
    Join {
        /// The invite, or the address /ip4/../tcp/../p2p/..; - reads it from stdin; without it the local network is searched (mDNS)
        #[arg(value_name = "INVITE|MULTIADDR")]
        way: Option<String>,
        #[command(flatten)]
        up: up::Up,
    },
    /// Write an invite: one string that brings somebody into this overlay, and to services if you say so
    #[command(after_help = "Example:\n  muses invite --for 1h --allow ssh")]
    Invite {
        /// How long it is good: 30m, 12h, 7d
        #[arg(long = "for", value_name = "SPAN", value_parser = crate::span::parse, default_value = INVITE_LIFETIME)]
        lifetime_s: u64,
        /// Services that whoever comes with it may use from then on
        #[arg(long = "allow", value_name = "SERVICE", num_args = 1.., value_delimiter = ',')]
        services: Vec<ServiceName>,
        /// How many nodes may have these services by it, or become members of a closed overlay
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_USES)))]
        uses: u32,
        /// In a closed overlay: whoever comes with it may invite others (for its founder)
        #[arg(long)]
        inviter: bool,
        /// Show it as a QR code even if stdout is no terminal
        #[arg(long)]
        qr: bool,
    },
    /// The invites with a secret that have not expired, and who has come with them
    #[command(after_help = "Example:\n  muses invites")]
    Invites,
    /// Take back the secret of an invite: it opens nothing any more; who came with it already keeps what he got
    #[command(after_help = "Example:\n  muses uninvite 1a2b3c4d")]
    Uninvite {
        /// Its id, as `muses invites` lists it, or the invite itself; - reads it from stdin
        #[arg(value_name = "ID|INVITE")]
        invite: String,
    },
    /// Offer a local TCP service by name
    #[command(after_help = "Example:\n  muses expose ssh 127.0.0.1:22 --allow alice")]
    Expose {
        /// The service's name
        service: ServiceName,
        /// Where it listens, HOST:PORT or unix:/PATH; or listen:HOST:PORT, a port here that leads to whoever may have it, see `muses reverse`
        #[arg(value_name = "HOST:PORT|unix:/PATH|listen:HOST:PORT")]
        forward: Forward,
        /// Who may use it: node ids, petnames, claimed names, or `anyone`; without it nobody
        #[arg(long, value_name = "WHO", num_args = 1.., value_delimiter = ',')]
        allow: Vec<String>,
    },
    /// No longer offer a service
    #[command(after_help = "Example:\n  muses unexpose ssh")]
    Unexpose {
        /// The service's name
        service: ServiceName,
    },
    /// Make a local port a peer's service, until the node ends, or for good with --keep
    #[command(after_help = "Example:\n  muses connect alice/ssh --listen 127.0.0.1:2222")]
    Connect {
        /// PEER/NAME, where PEER is a petname, a claimed name or a node id
        target: Target,
        /// Where to listen: HOST:PORT, where port 0 picks a free one, or unix:/PATH for a socket that only you can open
        #[arg(long, value_name = "HOST:PORT|unix:/PATH")]
        listen: Forward,
        /// Serve programs of your user alone, not those of others on this machine (a unix socket does so anyway)
        #[arg(long)]
        only_me: bool,
        /// Make it anew at each start of the node, until `muses disconnect`
        #[arg(long)]
        keep: bool,
    },
    /// Close a local port that `muses connect` made; connections through it go on
    #[command(after_help = "Example:\n  muses disconnect 127.0.0.1:2222")]
    Disconnect {
        /// Where it listens, HOST:PORT or unix:/PATH; or PEER/NAME for all that lead there
        #[arg(value_name = "HOST:PORT|PEER/NAME")]
        what: String,
    },
    /// End the session with a peer and every connection in it, at once; its next connection is reset, then it may come back if allowed. Or end the connections to one service alone
    #[command(after_help = "Example:\n  muses cut alice")]
    Cut {
        /// Petname, claimed name or node id; or PEER/NAME, for the connections to this service, its or yours, and no others
        #[arg(value_name = "PEER|PEER/NAME")]
        what: String,
    },
    /// Have a port at a peer's lead to a local service as long as this runs, as ssh -R does; there: muses expose NAME listen:HOST:PORT --allow YOU
    #[command(after_help = "Example:\n  muses reverse alice/door 127.0.0.1:8080")]
    Reverse {
        /// PEER/NAME, where NAME is a place to listen
        target: Target,
        /// Where the local service is, HOST:PORT or unix:/PATH
        #[arg(value_name = "HOST:PORT|unix:/PATH")]
        forward: Forward,
    },
    /// Connect stdin and stdout to a peer's service (for `ssh -o ProxyCommand='muses pipe alice/ssh' alice`)
    #[command(after_help = "Example:\n  muses pipe alice/ssh", arg(no_json()))]
    Pipe {
        /// PEER/NAME
        target: Target,
    },
    /// Send files to a peer who runs `muses receive`; what broke off goes on where it was
    #[command(after_help = "Example:\n  muses send big.iso alice")]
    Send(files::send::Send),
    /// Take files from others, and check that they are whole
    #[command(after_help = "Example:\n  muses receive --from alice")]
    Receive(files::receive::Receive),
    /// What this node is and does
    #[command(after_help = "Example:\n  muses status")]
    Status,
    /// Its direct neighbours
    #[command(after_help = "Example:\n  muses peers")]
    Peers,
    /// Its sessions and the connections in them
    #[command(after_help = "Example:\n  muses sessions")]
    Sessions,
    /// Who and where a peer is
    #[command(after_help = "Example:\n  muses lookup alice")]
    Lookup {
        /// Petname, claimed name or node id
        name: String,
    },
    /// What a peer lets this node use
    #[command(after_help = "Example:\n  muses services alice")]
    Services {
        /// Petname, claimed name or node id
        name: String,
    },
    /// One echo through the overlay
    #[command(after_help = "Example:\n  muses ping alice")]
    Ping {
        /// Petname, claimed name or node id
        name: String,
    },
    /// The relays on the way to a peer
    #[command(after_help = "Example:\n  muses trace alice")]
    Trace {
        /// Petname, claimed name or node id
        name: String,
    },
    /// Find the layer that fails: link, address, record, path, handshake or service
    #[command(after_help = "Example:\n  muses doctor alice/ssh")]
    Doctor {
        /// The peer, or PEER/NAME, that cannot be reached; none examines this node alone
        #[arg(value_name = "PEER|PEER/NAME")]
        target: Option<String>,
    },
    /// The URL of this node's dashboard, with its token: for its owner alone
    #[command(after_help = "Example:\n  muses dashboard")]
    Dashboard {
        /// Open it in a browser, too
        #[arg(long)]
        open: bool,
    },
    /// Names: claim one, pin one, list them
    #[command(subcommand, after_help = "Example:\n  muses name list")]
    Name(NameVerb),
    /// Keys: show them, change the session key, revoke an identity
    #[command(subcommand, after_help = "Example:\n  muses key show")]
    Key(KeyVerb),
    /// The configuration file
    #[command(subcommand, after_help = "Example:\n  muses config show")]
    Config(configure::Verb),
    /// Flight mode
    #[command(subcommand, after_help = "Example:\n  muses network up")]
    Network(Network),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  muses completions bash")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page in roff, or write the pages of all verbs into a folder
    #[command(after_help = "Example:\n  muses man")]
    Man {
        /// The folder
        folder: Option<PathBuf>,
    },
    /// End the node, which tells its neighbours; its folder stays in the overlay, and the next `muses up` goes on there
    #[command(after_help = "Example:\n  muses down")]
    Down,
}

/// `--json` for a verb that refuses it: understood, so that the refusal is an object, and not in the verb's help.
fn no_json() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).global(true).hide(true)
}

#[derive(Subcommand, Debug)]
enum NameVerb {
    /// Claim a name for this node, now and after each restart at which --name, MUSES_NAME and the configuration say none
    #[command(after_help = "Example:\n  muses name claim bob")]
    Claim {
        /// 1 to 32 of a-z, 0-9 and -
        name: String,
    },
    /// Let a name mean a node, whomever it meant before
    #[command(after_help = "Example:\n  muses name pin alice 12D3KooW...")]
    Pin {
        /// The name
        name: String,
        /// The node's id
        node: String,
    },
    /// Forget whom a name means; its next use pins it anew
    #[command(after_help = "Example:\n  muses name unpin alice")]
    Unpin {
        /// The name
        name: String,
    },
    /// The names that this node knows by itself: its own, petnames, pinned ones
    #[command(after_help = "Example:\n  muses name list")]
    List,
}

#[derive(Subcommand, Debug)]
enum KeyVerb {
    /// This node's keys, as others know them
    #[command(after_help = "Example:\n  muses key show")]
    Show,
    /// Change the session key; the identity stays, and sessions and connections go on
    #[command(after_help = "Example:\n  muses key rotate")]
    Rotate,
    /// Make a recovery key: one string, to be kept off this machine, that can revoke this identity when its key is lost or stolen
    #[command(after_help = "Example:\n  muses key recovery")]
    Recovery,
    /// End this node's identity for ever: all nodes that hear of it end its sessions and refuse it; the node stops
    #[command(after_help = "Example:\n  muses key revoke 12D3KooW...")]
    Revoke {
        /// This node's id, so that it is not done by mistake
        node: String,
    },
    /// End an identity by its recovery key, from any node of its overlay
    #[command(after_help = "Example:\n  muses key recover musesr1...")]
    Recover {
        /// The recovery key; - reads it from stdin, which keeps it out of the list of processes
        key: String,
    },
}

#[derive(Subcommand, Debug)]
enum Network {
    /// No byte leaves or enters; connections stay open and silent
    #[command(after_help = "Example:\n  muses network down")]
    Down,
    /// Be back
    #[command(after_help = "Example:\n  muses network up")]
    Up {
        /// The only local address to use from now on
        #[arg(long, value_name = "ADDR")]
        bind: Option<IpAddr>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_one_line_with_what_to_type_and_a_question_is_none() {
        let line = |typed: &str| usage_line(&parse(typed).unwrap_err(), "muses");
        let says = |typed: &str, parts: &[&str]| {
            let line = line(typed).unwrap();
            assert!(!line.contains('\n') && parts.iter().all(|part| line.contains(part)), "{line}");
        };
        says("upp", &["unrecognized subcommand 'upp'; did you mean up?; ", "muses"]);
        says("up --nmae alice", &["unexpected argument '--nmae' found; did you mean --name?"]);
        says("completions bsh", &["did you mean bash?"]);
        for typed in ["upp", "up --nmae alice", "completions bsh", "connect --only-you", "cut -x"] {
            assert!(!line(typed).unwrap_or_default().contains("tip:"), "{typed}");
        }
        says("connect", &["<TARGET>", "; muses connect"]);
        says(
            "expose --allow bob web 127.0.0.1:80",
            &["<SERVICE>", "--allow takes all words that follow it: put it last"],
        );
        assert!(!line("expose web").unwrap().contains("put it last"));
        says("invite --for 0d", &["not a length of time", "see muses --help"]);
        says("up --log-format yaml", &["possible values: text, json"]);
        says("up --listen [::]:4741", &["write it as /ip6/::/tcp/4741"]);
        says("up --listen 4741", &["no multiaddr like /ip4/0.0.0.0/tcp/4741"]);
        assert_eq!((line("--help"), line("help up"), line("--version"), line("")), (None, None, None, None));
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("muses").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_lines_of_the_documentation_parse() {
        for line in [
            "up",
            "up --data-dir /tmp/a --config c.toml --listen /ip4/127.0.0.1/tcp/0 --listen /ip6/::1/tcp/0 --name alice",
            "up --join /ip4/127.0.0.1/tcp/4741/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X --log-format json",
            "join muses1xyz --name bob --data-dir /tmp/b",
            "join - --leaf",
            "up --closed --name alice",
            "invite --inviter --uses 2",
            "join",
            "join --name bob --no-mdns",
            "up --no-upnp",
            "invite",
            "invite --for 12h --allow web,ssh --uses 3 --qr --json",
            "expose ssh 127.0.0.1:22 --allow bob carol --data-dir /tmp/a",
            "expose ssh 127.0.0.1:22 --allow bob,carol --allow anyone",
            "--data-dir /tmp/a connect alice/ssh --listen 127.0.0.1:0 --json",
            "connect alice/ssh --listen 127.0.0.1:2222 --only-me --keep",
            "up --socks 127.0.0.1:7080 --socks-guard token",
            "reverse alice/door 127.0.0.1:3000",
            "expose door listen:127.0.0.1:8080 --allow bob",
            "pipe alice/ssh --data-dir /tmp/a",
            "send big.iso alice --data-dir /tmp/a",
            "send a b c bob --quiet --json",
            "receive --from alice",
            "receive --dir /tmp --from alice,bob --from anyone --keep --force -q",
            "status --json",
            "network down",
            "network up --bind 127.0.0.3 --data-dir d",
            "trace alice",
            "services alice --json",
            "invites",
            "uninvite 1a2b3c4d",
            "disconnect 127.0.0.1:2222",
            "expose db unix:/run/postgresql/.s.PGSQL.5432 --allow bob",
            "connect alice/db --listen unix:/tmp/db.sock",
            "cut bob",
            "cut bob/ssh",
            "doctor",
            "doctor alice/ssh --json",
            "name claim alice",
            "name pin alice 12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",
            "name unpin alice",
            "name list",
            "key show",
            "key rotate",
            "key recovery --json",
            "key revoke 12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",
            "key recover -",
            "config init",
            "config show --config c.toml",
            "config check c.toml",
            "completions bash",
            "man",
            "up --dashboard --metrics 127.0.0.1:9464",
            "up --dashboard 127.0.0.1:0 --name alice",
            "dashboard --open",
            "down",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
        let Verb::Expose { allow, .. } = parse("expose ssh h:22 --allow bob,carol --allow anyone").unwrap().verb else {
            panic!("another verb");
        };
        assert_eq!(allow, ["bob", "carol", "anyone"]);
    }

    #[test]
    fn mistakes_are_usage_errors() {
        for line in [
            "",
            "fly",
            "expose ssh",
            "expose a/b h:1",
            "expose ssh nowhere",
            "connect alice --listen h:1",
            "connect alice/ssh",
            "up --listen nonsense",
            "up --socks 127.0.0.1:1 --socks-guard none",
            "up --closed --join /ip4/1.2.3.4/tcp/1",
            "send big.iso",
            "receive --from",
            "connect alice/ssh --listen unix:here",
            "invite --for 7",
            "up --name Alice",
            "network",
            "key revoke",
            "network up --bind home",
            "ping",
            "status extra",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(parse("--help").unwrap_err().exit_code(), 0);
        assert!(parse("--help").unwrap_err().to_string().contains("6  no node runs"));
    }
}
