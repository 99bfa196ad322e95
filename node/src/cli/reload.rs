//! SIGHUP: the node reads its configuration again, or ends with its terminal.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use tokio::signal::unix::Signal;

use super::console::Console;
use super::place::config_file;
use crate::config::Config;
use crate::control::verbs::Desk;
use crate::exit::Fault;

/// Where the configuration is, and what of it is in force.
pub(super) struct Reloads {
    file: Option<PathBuf>,
    data_dir: PathBuf,
    in_force: Config,
    /// The node was started from a terminal.
    attached: bool,
}

impl Reloads {
    /// `config` is what the file says, without the command line, which stays in force.
    pub(super) fn new(file: Option<PathBuf>, data_dir: PathBuf, config: Config) -> Self {
        Self { file, data_dir, in_force: config, attached: has_terminal() }
    }

    /// Reloads at each signal. Returns when the terminal has hung up, which sends the same signal.
    pub(super) async fn follow(mut self, mut hangup: Signal, desk: &Desk, console: &Console) {
        while hangup.recv().await.is_some() {
            if self.attached && !has_terminal() {
                return;
            }
            if let Err(fault) = self.reload(desk, console).await {
                tracing::warn!("the configuration is not reloaded, the one before stays in force: {fault}");
            }
        }
    }

    async fn reload(&mut self, desk: &Desk, console: &Console) -> Result<(), Fault> {
        let next = Config::load(config_file(self.file.as_deref(), &self.data_dir)?.as_deref())?;
        let (taken_over, waiting) = desk.reload(&self.in_force, &next).await?;
        if !waiting.is_empty() {
            tracing::warn!("changed in the configuration, but not before the next start: {}", waiting.join(", "));
        }
        let what = if taken_over.is_empty() { "nothing new".to_owned() } else { taken_over.join(", ") };
        console.rename(&next.petnames);
        console.say(&format!("configuration reloaded: {what}"));
        self.in_force.petnames = next.petnames;
        self.in_force.services = next.services;
        self.in_force.limits = next.limits;
        self.in_force.links.direct = next.links.direct;
        Ok(())
    }
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}
