//! `muses config`: the file, and what is in force.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::ask::json_line;
use super::out::print;
use super::place::{config_file, flag, own_config};
use super::{check, up};
use crate::advice;
use crate::config::{Config, TEMPLATE};
use crate::control::client::Client;
use crate::control::wire::Request;
use crate::exit::{Code, Fault};
use crate::folder::make_folder;

/// What can be done with it.
#[derive(Subcommand, Debug)]
pub(super) enum Verb {
    /// Write a file with all keys as comments; an existing file is left alone
    #[command(after_help = "Example:\n  muses config init")]
    Init {
        /// Where [default: config.toml in the data folder]
        file: Option<PathBuf>,
    },
    /// Print what is in force: in the running node, or what `muses up` would use
    #[command(after_help = "Example:\n  muses config show")]
    Show {
        /// Another file than `muses up` would read; never asks a running node
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say whether a file is right, and where it is not
    #[command(after_help = "Example:\n  muses config check")]
    Check {
        /// Which [default: the one that `muses up` would read]
        file: Option<PathBuf>,
    },
}

pub(super) fn run(verb: Verb, data_dir: &Path, json: bool) -> Result<(), Fault> {
    match verb {
        Verb::Init { file } => init(&file.unwrap_or_else(|| own_config(data_dir)), json),
        Verb::Check { file } => {
            let file = config_file(file.as_deref(), data_dir)?;
            check::check(&Config::load(file.as_deref())?)?;
            let text = match &file {
                Some(file) => format!("{} is right\n", file.display()),
                None => format!(
                    "there is no configuration, and none is needed; one to begin with: muses config init{}\n",
                    flag(data_dir)
                ),
            };
            say(json!({ "file": file }), &text, json)
        }
        Verb::Show { config } => show(config.as_deref(), data_dir, json),
    }
}

fn init(file: &Path, json: bool) -> Result<(), Fault> {
    let failed = |error: io::Error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            let there = if file.exists() {
                "is there already and was left alone; see what it says: muses config show"
            } else {
                "is a link that leads nowhere; remove it, or choose another place: muses config init FILE"
            };
            return Fault::new(Code::Usage, format!("{} {there}", file.display()));
        }
        let try_this = advice::after(&error, "choose another place: muses config init FILE");
        let code = if advice::is_full(&error) { Code::Failed } else { Code::Usage };
        Fault::new(code, format!("cannot write {}: {error}; {try_this}", file.display()))
    };
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        make_folder(folder).map_err(failed)?;
    }
    let mut new = fs::OpenOptions::new().write(true).create_new(true).open(file).map_err(failed)?;
    if let Err(error) = new.write_all(TEMPLATE.as_bytes()).and_then(|()| new.sync_all()) {
        // On a full disk there is a part of it, which the next try would leave alone.
        let _ = fs::remove_file(file);
        return Err(failed(error));
    }
    say(json!({ "file": file }), &format!("wrote {}; every key in it is a comment\n", file.display()), json)
}

fn show(file: Option<&Path>, data_dir: &Path, json: bool) -> Result<(), Fault> {
    let running = match file {
        Some(_) => None,
        None => match Client::connect(data_dir) {
            // Another user's node runs with what only that one may read.
            Err(fault) if fault.code == Code::State as u8 => return Err(fault),
            connected => connected.ok(),
        },
    };
    let (config, header) = match running {
        Some(mut node) => (node.ask(&Request::Config {})?, "# in force in the running node"),
        None => {
            let said = up::Up::from_environment()?;
            let mut config = Config::load(config_file(file, data_dir)?.as_deref())?;
            said.apply(&mut config);
            if config.listen.is_empty() {
                config.listen = up::default_listen();
            }
            (config.to_json(), "# no node runs; this is what `muses up` would use")
        }
    };
    let table: toml::Table = serde_json::from_value(config.clone())
        .map_err(|error| Fault::new(Code::Failed, format!("the node answers in another form ({error})")))?;
    say(json!({ "config": config }), &format!("{header}\n{table}"), json)
}

fn say(data: Value, text: &str, json: bool) -> Result<(), Fault> {
    print(if json { json_line(Ok(data)) } else { text.to_owned() })
}
