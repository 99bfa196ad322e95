//! What is typed is done, by this process or by the node that runs.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _};

use super::{Cli, KeyVerb, NameVerb, Network, Verb, ask, configure, files, join, pages, place, up};
use crate::control::wire::Request;
use crate::exit::{Code, Fault};
use crate::folder::is_running;

/// Runs the command line `args`, program name first, and says how it ended. Errors are one line on stderr.
pub fn main(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let typed = without_empty(Cli::command()).try_get_matches_from(&args);
    let cli = match typed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let Some(line) = usage_line(&error, &program_of(&args)) else {
                let _ = error.print();
                return u8::try_from(error.exit_code()).unwrap_or(Code::Usage as u8).into();
            };
            let line = line + &blamed(&error, &args);
            return complain(&Fault::new(Code::Usage, line), args.iter().any(|arg| arg == "--json"));
        }
    };
    let (json, data_dir) = (cli.json, cli.data_dir.clone());
    run(cli).unwrap_or_else(|fault| complain(&with_folder(fault, data_dir.as_deref()), json))
}

/// Verbs that an error hints at are for the node itself; others, as `muses expose` and `muses receive`, may be for its peer.
const FOR_THIS_NODE: [&str; 7] = [
    "muses network up",
    "muses status",
    "muses peers",
    "muses invites",
    "muses disconnect",
    "muses name unpin",
    "muses doctor",
];

/// Hints of a node are commands without its folder: who asks one that is elsewhere than usual is told what they need to find it.
fn with_folder(fault: Fault, data_dir: Option<&Path>) -> Fault {
    let flag = data_dir.map(place::flag).unwrap_or_default();
    let is_whole = fault.message.contains("--data-dir") || std::env::var_os("MUSES_DATA_DIR").is_some();
    let hints = FOR_THIS_NODE.iter().any(|verb| fault.message.contains(verb));
    if flag.is_empty() || is_whole || !hints {
        return fault;
    }
    Fault { message: format!("{} (here with{flag})", fault.message), ..fault }
}

/// An empty variable of the environment says nothing; to a flag that takes its word from there it would be an empty one.
pub(super) fn without_empty(command: Command) -> Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let deaf = |arg: Arg| if arg.get_env().is_some_and(is_empty) { arg.env(Resettable::Reset) } else { arg };
    command.mut_args(deaf).mut_subcommands(without_empty)
}

/// Which variable says what is wrong with a flag that is none of `typed`.
pub(super) fn blamed(error: &clap::Error, typed: &[OsString]) -> String {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else { return String::new() };
    let flag = shown.split([' ', '=']).next().unwrap_or_default();
    if typed.iter().any(|word| word.as_encoded_bytes().starts_with(flag.as_bytes())) {
        return String::new();
    }
    let command = Cli::command();
    let args = command.get_arguments().chain(command.get_subcommands().flat_map(Command::get_arguments));
    let meant = args.filter(|arg| arg.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long)));
    let variable = meant.filter_map(Arg::get_env).find(|name| std::env::var_os(name).is_some());
    variable.map(|name| format!("; the variable {} says so", name.display())).unwrap_or_default()
}

fn complain(fault: &Fault, json: bool) -> ExitCode {
    if json {
        let _ = std::io::stdout().write_all(ask::json_line(Err(fault.clone())).as_bytes());
    }
    let _ = writeln!(std::io::stderr(), "muses: {}", printable(&fault.message));
    fault.code.into()
}

/// What was typed may have been pasted: it is not to do something to the terminal that its mistake is shown on.
fn printable(line: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    line.chars().map(shown).collect()
}

/// `muses VERB`, if a verb was typed: its help says more than that of the whole.
fn program_of(args: &[OsString]) -> String {
    let command = Cli::command();
    let verb = args.iter().skip(1).filter_map(|arg| arg.to_str()).find(|arg| command.find_subcommand(arg).is_some());
    verb.map_or_else(|| "muses".to_owned(), |verb| format!("muses {verb}"))
}

/// What is wrong with a command line of `program` and how it goes, in one line; none for what is no mistake, but a question for help.
pub fn usage_line(error: &clap::Error, program: &str) -> Option<String> {
    let text = error.to_string();
    let rest = text.strip_prefix("error: ")?;
    let remnant = |line: &str| line.is_empty() || line.starts_with("For more information") || line.starts_with("tip:");
    let lines = rest.lines().map(str::trim).filter(|line| !remnant(line));
    let (usage, what): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("Usage:"));
    let usage = usage.first().map(|usage| usage.trim_start_matches("Usage: ").to_owned());
    let usage = usage.unwrap_or_else(|| format!("see {program} --help"));
    let meant = meant(error).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
    // The usage shows this only where it was typed.
    let swallowed = error.kind() == ErrorKind::MissingRequiredArgument && usage.contains("--allow");
    let hint = if swallowed { "; --allow takes all words that follow it: put it last" } else { "" };
    Some(format!("{}{meant}; {usage}{hint}", what.join(" ")))
}

/// What is most like a word that is none of the command's.
fn meant(error: &clap::Error) -> Option<String> {
    let suggestions = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    match suggestions.into_iter().find_map(|kind| error.get(kind))? {
        ContextValue::String(word) => Some(word.clone()),
        // The last is the most like it.
        ContextValue::Strings(words) => words.last().cloned(),
        _ => None,
    }
}

fn run(cli: Cli) -> Result<ExitCode, Fault> {
    let data_dir = cli.data_dir.or_else(place::default_data_dir).ok_or_else(|| {
        Fault::new(Code::Usage, "neither XDG_STATE_HOME nor HOME is set; say where with --data-dir DIR")
    })?;
    let json = cli.json;
    let done = |result: Result<(), Fault>| result.map(|()| ExitCode::SUCCESS);
    let request = match cli.verb {
        Verb::Up(_) | Verb::Join { .. } if json => {
            return Err(Fault::new(Code::Usage, "a node in the foreground has no --json; see --log-format json"));
        }
        Verb::Join { way, mut up } => {
            up.join.extend(way);
            if !up.join.is_empty() && is_running(&data_dir) {
                return done(ask::join(&data_dir, up));
            }
            if up.join.is_empty() {
                up.join = join::search()?;
            }
            return done(up::run(up, data_dir));
        }
        Verb::Up(up) => return done(up::run(up, data_dir)),
        Verb::Invite { lifetime_s, services, uses, inviter, qr } => {
            let request = Request::Invite { lifetime_s, services, uses, may_invite: inviter };
            return done(ask::invite(&data_dir, &request, json, qr));
        }
        Verb::Invites => Request::Invites {},
        Verb::Uninvite { invite } => {
            Request::Uninvite { invite: if invite == "-" { join::first_line()? } else { invite } }
        }
        Verb::Pipe { .. } if json => {
            return Err(Fault::new(Code::Usage, "`muses pipe` has no --json: its stdout is the stream"));
        }
        Verb::Send(args) => return done(files::send::run(args, &data_dir, json)),
        Verb::Receive(args) => return done(files::receive::run(args, &data_dir, json)),
        Verb::Config(verb) => return done(configure::run(verb, &data_dir, json)),
        Verb::Completions { shell } => return done(pages::completions(shell, json)),
        Verb::Man { folder } => return done(pages::man(folder.as_deref(), json)),
        Verb::Doctor { target } => return ask::doctor(&data_dir, target, json),
        Verb::Pipe { target } => return done(ask::pipe(&data_dir, target)),
        Verb::Reverse { target, forward } => return ask::reverse(&data_dir, target, forward, json),
        Verb::Dashboard { open } => return done(ask::dashboard(&data_dir, json, open)),
        Verb::Expose { service, forward, allow } => Request::Expose { service, forward, allow },
        Verb::Unexpose { service } => Request::Unexpose { service },
        Verb::Connect { target, listen, only_me, keep } => Request::Connect { target, listen, only_me, keep },
        Verb::Disconnect { what } => Request::Disconnect { what },
        Verb::Cut { what } => {
            let (peer, service) = ask::peer_or_service(&what)?;
            Request::Cut { peer, service }
        }
        Verb::Name(NameVerb::Claim { name }) => Request::NameClaim { name },
        Verb::Name(NameVerb::Pin { name, node }) => Request::NamePin { name, node },
        Verb::Name(NameVerb::Unpin { name }) => Request::NameUnpin { name },
        Verb::Name(NameVerb::List) => Request::NameList {},
        Verb::Key(KeyVerb::Show) => Request::KeyShow {},
        Verb::Key(KeyVerb::Rotate) => Request::KeyRotate {},
        Verb::Key(KeyVerb::Recovery) => Request::KeyRecovery {},
        Verb::Key(KeyVerb::Revoke { node }) => Request::KeyRevoke { node },
        Verb::Key(KeyVerb::Recover { key }) => {
            Request::KeyRecover { key: if key == "-" { join::first_line()? } else { key } }
        }
        Verb::Status => Request::Status {},
        Verb::Peers => Request::Peers {},
        Verb::Sessions => Request::Sessions {},
        Verb::Lookup { name } => Request::Lookup { peer: name },
        Verb::Services { name } => Request::Services { peer: name },
        Verb::Ping { name } => Request::Ping { peer: name },
        Verb::Trace { name } => Request::Trace { peer: name },
        Verb::Network(Network::Down) => Request::NetworkDown {},
        Verb::Network(Network::Up { bind }) => Request::NetworkUp { bind },
        Verb::Down => Request::Down {},
    };
    done(ask::verb(&data_dir, &request, json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_leads_to_the_help_of_its_verb() {
        let of = |line: &str| program_of(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of("muses --data-dir d invite --for 0d"), "muses invite");
        assert_eq!((of("muses upp"), of("muses")), ("muses".to_owned(), "muses".to_owned()));
    }

    #[test]
    fn a_hint_for_this_node_says_where_it_is() {
        let said = |hint: &str| with_folder(Fault::new(Code::Failed, hint), Some(Path::new("/tmp/b ob"))).message;
        assert_eq!(
            said("end that with: muses network up"),
            "end that with: muses network up (here with --data-dir '/tmp/b ob')"
        );
        for whole in ["rename it there: muses receive --force", "the disk is full", "muses status --data-dir /x"] {
            assert_eq!(said(whole), whole);
        }
        assert_eq!(with_folder(Fault::new(Code::Failed, "muses status"), None).message, "muses status");
    }

    #[test]
    fn what_was_typed_does_nothing_to_the_terminal() {
        assert_eq!(printable("a \u{1b}[31mb\u{7}\n\u{9b}é"), "a \\u{1b}[31mb\\u{7}\\n\\u{9b}é");
    }
}
