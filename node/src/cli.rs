//! The command `muses`.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::control::wire::Request;
use crate::exit::{Code, EXIT_CODES_HELP, Fault};
use crate::local::service::{Forward, ServiceName, Target};

mod ask;
mod console;
mod join;
mod show;
mod span;
mod up;

/// TCP connections that survive anything, by name, without a server.
#[derive(Parser, Debug)]
#[command(name = "muses", version, after_help = EXIT_CODES_HELP, propagate_version = true)]
struct Cli {
    /// The node's folder: keys, state and control socket [default: $XDG_STATE_HOME/muses or ~/.local/state/muses]
    #[arg(long, global = true, value_name = "DIR")]
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
    Up(up::Up),
    /// Join an overlay by an invite or a bootstrap peer's address; the same as `muses up --join ...`
    Join {
        /// The invite, or the address /ip4/../tcp/../p2p/..; - reads it from stdin
        #[arg(value_name = "INVITE|MULTIADDR")]
        way: String,
        #[command(flatten)]
        up: up::Up,
    },
    /// Write an invite: one string that brings somebody into this overlay, and to services if you say so
    Invite {
        /// How long it is good: 30m, 12h, 7d
        #[arg(long = "for", value_name = "SPAN", value_parser = span::parse, default_value = "7d")]
        lifetime_s: u64,
        /// Services that whoever comes with it may use from then on
        #[arg(long = "allow", value_name = "SERVICE", num_args = 1.., value_delimiter = ',')]
        services: Vec<ServiceName>,
        /// How many nodes may have these services by it
        #[arg(long, value_name = "N", default_value_t = 1, requires = "services")]
        uses: u32,
        /// Show it as a QR code even if stdout is no terminal
        #[arg(long)]
        qr: bool,
    },
    /// Offer a local TCP service by name
    Expose {
        /// The service's name
        service: ServiceName,
        /// Where it listens, HOST:PORT
        forward: Forward,
        /// Who may use it: node ids, petnames, claimed names, or `anyone`; without it nobody but this node
        #[arg(long, value_name = "WHO", num_args = 1.., value_delimiter = ',')]
        allow: Vec<String>,
    },
    /// No longer offer a service
    Unexpose {
        /// The service's name
        service: ServiceName,
    },
    /// Make a local port a peer's service; it lives until the node ends
    Connect {
        /// PEER/NAME, where PEER is a petname, a claimed name or a node id
        target: Target,
        /// Where to listen, HOST:PORT; port 0 picks a free one
        #[arg(long, value_name = "HOST:PORT")]
        listen: Forward,
    },
    /// Connect stdin and stdout to a peer's service (for `ssh -o ProxyCommand='muses pipe alice/ssh' alice`)
    Pipe {
        /// PEER/NAME
        target: Target,
    },
    /// What this node is and does
    Status,
    /// Its direct neighbours
    Peers,
    /// Its sessions and the connections in them
    Sessions,
    /// Who and where a peer is
    Lookup {
        /// Petname, claimed name or node id
        name: String,
    },
    /// One echo through the overlay
    Ping {
        /// Petname, claimed name or node id
        name: String,
    },
    /// The relays on the way to a peer
    Trace {
        /// Petname, claimed name or node id
        name: String,
    },
    /// Flight mode
    #[command(subcommand)]
    Network(Network),
    /// Leave the overlay and end the node
    Down,
}

#[derive(Subcommand, Debug)]
enum Network {
    /// No byte leaves or enters; connections stay open and silent
    Down,
    /// Be back
    Up {
        /// The only local address to use from now on
        #[arg(long, value_name = "ADDR")]
        bind: Option<IpAddr>,
    },
}

/// Runs the command line `args`, program name first, and says how it ended. Errors are one line on stderr.
pub fn main(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(Code::Usage as u8).into();
        }
    };
    let json = cli.json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            if json {
                let _ = std::io::stdout().write_all(ask::json_line(Err(fault.clone())).as_bytes());
            }
            let _ = writeln!(std::io::stderr(), "muses: {fault}");
            fault.code.into()
        }
    }
}

fn run(cli: Cli) -> Result<(), Fault> {
    let data_dir = cli.data_dir.or_else(default_data_dir).ok_or_else(|| {
        Fault::new(Code::Usage, "neither XDG_STATE_HOME nor HOME is set; say where with --data-dir DIR")
    })?;
    let request = match cli.verb {
        Verb::Up(_) | Verb::Join { .. } if cli.json => {
            return Err(Fault::new(Code::Usage, "a node in the foreground has no --json; see --log-format json"));
        }
        Verb::Up(up) => return up::run(up, data_dir),
        Verb::Join { way, mut up } => {
            up.join.push(way);
            return up::run(up, data_dir);
        }
        Verb::Invite { lifetime_s, services, uses, qr } => {
            let request = Request::Invite { lifetime_s, services, uses };
            return ask::invite(&data_dir, &request, cli.json, qr);
        }
        Verb::Pipe { target } => return ask::pipe(&data_dir, target),
        Verb::Expose { service, forward, allow } => Request::Expose { service, forward, allow },
        Verb::Unexpose { service } => Request::Unexpose { service },
        Verb::Connect { target, listen } => Request::Connect { target, listen },
        Verb::Status => Request::Status {},
        Verb::Peers => Request::Peers {},
        Verb::Sessions => Request::Sessions {},
        Verb::Lookup { name } => Request::Lookup { peer: name },
        Verb::Ping { name } => Request::Ping { peer: name },
        Verb::Trace { name } => Request::Trace { peer: name },
        Verb::Network(Network::Down) => Request::NetworkDown {},
        Verb::Network(Network::Up { bind }) => Request::NetworkUp { bind },
        Verb::Down => Request::Down {},
    };
    ask::verb(&data_dir, &request, cli.json)
}

fn default_data_dir() -> Option<PathBuf> {
    // XDG Base Directory Specification: a relative path there is to be ignored.
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || {
        std::env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".local/state"))
    };
    state.or_else(home).map(|state| state.join("muses"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "invite",
            "invite --for 12h --allow web,ssh --uses 3 --qr --json",
            "expose ssh 127.0.0.1:22 --allow bob carol --data-dir /tmp/a",
            "expose ssh 127.0.0.1:22 --allow bob,carol --allow anyone",
            "--data-dir /tmp/a connect alice/ssh --listen 127.0.0.1:0 --json",
            "pipe alice/ssh --data-dir /tmp/a",
            "status --json",
            "network down",
            "network up --bind 127.0.0.3 --data-dir d",
            "trace alice",
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
            "join",
            "invite --for 7",
            "invite --uses 2",
            "up --name Alice",
            "network",
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
