//! A process of our own that helps to measure: it is told things by lines, and says JSON objects, one a line.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::process::{NodeProcess, own_binary};
use crate::wait::{Result, Trouble, io, until};

/// The process; ends when it is dropped.
pub struct Helper<Word> {
    name: &'static str,
    child: Child,
    words: Receiver<Word>,
}

impl<Word: DeserializeOwned + Send + 'static> Helper<Word> {
    /// Our binary under the subcommand `name`, beside a node whose id and address it is told first. Call it on the main thread, as
    /// [`NodeProcess::start`].
    ///
    /// # Errors
    /// When it does not start.
    pub fn beside(node: &NodeProcess, name: &'static str, arguments: &[impl AsRef<OsStr>]) -> Result<Self> {
        let at = node.status()?.listen.into_iter().next().ok_or_else(|| Trouble::new("the node listens nowhere"))?;
        let mut command = Command::new(own_binary()?);
        command.arg(name).arg(&node.id).arg(at).args(arguments);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let child = child.map_err(io(format!("starting {name}")))?;
        let (words_in, words) = channel();
        let mut helper = Self { name, child, words };
        if let Some(stdout) = helper.child.stdout.take() {
            std::thread::spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(std::io::Result::ok);
                lines.filter_map(|line| serde_json::from_str(&line).ok()).try_for_each(|word| words_in.send(word))
            });
        }
        Ok(helper)
    }

    /// Tells it to do the next thing.
    ///
    /// # Errors
    /// When it does not listen any more.
    pub fn go(&mut self) -> Result<()> {
        let stdin = self.child.stdin.as_mut().ok_or_else(|| Trouble::new(format!("{} does not listen", self.name)))?;
        stdin.write_all(b"go\n").map_err(io(self.name))
    }

    /// Waits until it says something that is wanted.
    ///
    /// # Errors
    /// When that is not so within `limit`, or the process ends.
    pub fn wait<T>(&mut self, what: &str, limit: Duration, wanted: impl Fn(Word) -> Option<T>) -> Result<T> {
        until(what, limit, || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Trouble::new(format!("{} has ended ({status})", self.name)));
            }
            Ok(self.words.try_iter().find_map(&wanted))
        })
    }
}

impl<Word> Drop for Helper<Word> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
