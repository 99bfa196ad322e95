//! Real node processes: started from our own binary, asked through their control sockets, ended in any case.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use node::stack::{PeerStatus, Resolved, SessionStatus, Status};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::wait::{Result, Trouble, io, until};

/// The hidden subcommand under which our binary is a node.
pub const NODE_PROCESS: &str = "node-process";

/// A verb that takes longer than this has failed.
const VERB_LIMIT: Duration = Duration::from_secs(20);
/// A node has this long for a clean stop (it announces its leave), then it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// One running node.
pub struct NodeProcess {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its folder.
    pub data_dir: PathBuf,
    /// Its standard output and error.
    pub log: PathBuf,
    child: Child,
}

/// What a process is started with.
pub struct Launch<'a> {
    /// The program and its first words, up to where the node's own arguments begin.
    pub command: Command,
    /// The node's name.
    pub name: &'a str,
    /// Its id, from the key in its folder.
    pub id: String,
    /// Its folder.
    pub data_dir: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
    /// Multiaddrs to listen at.
    pub listen: &'a [String],
    /// Multiaddrs of bootstrap peers.
    pub joins: &'a [String],
    /// More arguments.
    pub flags: &'a [String],
}

/// Our own binary, which is also the nodes'.
///
/// # Errors
/// When the system does not say where it is.
pub fn own_binary() -> Result<PathBuf> {
    std::env::current_exe().map_err(io("our own binary"))
}

/// To be called first thing in a node process: it dies with the harness, however that ends.
pub fn die_with_parent() {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
}

impl NodeProcess {
    /// Starts a node. Call it on the main thread: the parent-death signal follows the thread, not the process.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(launch: Launch<'_>) -> Result<Self> {
        let Launch { mut command, name, id, data_dir, log, listen, joins, flags } = launch;
        let out = File::create(&log).map_err(io(log.display()))?;
        let err = out.try_clone().map_err(io(log.display()))?;
        command.arg("up").arg("--data-dir").arg(&data_dir).arg("--name").arg(name);
        listen.iter().for_each(|address| _ = command.arg("--listen").arg(address));
        joins.iter().for_each(|address| _ = command.arg("--join").arg(address));
        command.args(flags);
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "info");
        }
        // A group of its own: Ctrl-C reaches the harness only, which then stops the nodes in order.
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).spawn();
        let child = child.map_err(io(format!("starting node {name}")))?;
        Ok(Self { name: name.into(), id, data_dir, log, child })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails when the process has ended.
    ///
    /// # Errors
    /// It has ended; the trouble names its log.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Trouble::new(format!("node {} has ended ({status})", self.name)).see(&self.log)),
            Err(error) => Err(Trouble::new(format!("node {}: {error}", self.name)).see(&self.log)),
        }
    }

    /// Waits until the node answers and is part of the overlay.
    ///
    /// # Errors
    /// When that takes longer than `limit`, or the process ends.
    pub fn wait_joined(&mut self, limit: Duration) -> Result<Status> {
        let log = self.log.clone();
        let what = format!("node {} to be part of the overlay", self.name);
        until(&what, limit, || {
            self.must_run()?;
            Ok(self.status().ok().filter(|status| status.address.is_some() && !status.listen.is_empty()))
        })
        .map_err(|trouble| trouble.see(&log))
    }

    /// `muses status`.
    ///
    /// # Errors
    /// See [`NodeProcess::ask`].
    pub fn status(&self) -> Result<Status> {
        self.ask(json!({"verb": "status"}))
    }

    /// `muses peers`.
    ///
    /// # Errors
    /// See [`NodeProcess::ask`].
    pub fn peers(&self) -> Result<Vec<PeerStatus>> {
        self.ask(json!({"verb": "peers"}))
    }

    /// The session with the node of this id, if there is one.
    ///
    /// # Errors
    /// See [`NodeProcess::ask`].
    pub fn session(&self, peer_id: &str) -> Result<Option<SessionStatus>> {
        let sessions: Vec<SessionStatus> = self.ask(json!({"verb": "sessions"}))?;
        Ok(sessions.into_iter().find(|session| session.peer == peer_id))
    }

    /// `muses lookup`.
    ///
    /// # Errors
    /// See [`NodeProcess::ask`].
    pub fn lookup(&self, name: &str) -> Result<Resolved> {
        self.ask(json!({"verb": "lookup", "peer": name}))
    }

    /// One verb on a connection of its own.
    ///
    /// # Errors
    /// What the node answered, or why it did not; the trouble names its log.
    pub fn ask<T: DeserializeOwned>(&self, request: Value) -> Result<T> {
        let verb = request.get("verb").and_then(Value::as_str).unwrap_or("?").to_owned();
        let trouble = |why: String| Trouble::new(format!("node {}, {verb}: {why}", self.name)).see(&self.log);
        let data =
            exchange(&self.data_dir.join("control.sock"), &request).map_err(|error| trouble(error.to_string()))?;
        match data.get("status").and_then(Value::as_str) {
            Some("ok") => serde_json::from_value(data.get("data").cloned().unwrap_or_default())
                .map_err(|error| trouble(format!("unexpected answer: {error}"))),
            _ => Err(trouble(data.get("message").and_then(Value::as_str).unwrap_or("unexpected answer").into())),
        }
    }

    /// Asks the process to end; does not wait.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends the process at once, as a crash does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.ask_to_end();
        let limit = Instant::now() + STOP_LIMIT;
        while Instant::now() < limit {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }
}

fn exchange(socket: &Path, request: &Value) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(VERB_LIMIT))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn stand_in(dir: &Path) -> NodeProcess {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let (data_dir, log) = (dir.to_path_buf(), dir.join("log"));
        NodeProcess { name: "n".into(), id: "id".into(), data_dir, log, child }
    }

    #[test]
    fn a_verb_is_one_json_line_each_way() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let server = std::thread::spawn(move || {
            let mut lines = Vec::new();
            for answer in
                ["{\"status\":\"ok\",\"data\":[]}\n", "{\"status\":\"error\",\"code\":3,\"message\":\"no\"}\n"]
            {
                let mut stream = listener.accept().unwrap().0;
                let mut line = String::new();
                BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                lines.push(line);
            }
            lines
        });
        let node = stand_in(dir.path());
        assert!(node.peers().unwrap().is_empty());
        let refused = node.lookup("x").unwrap_err().to_string();
        assert!(refused.starts_with("node n, lookup: no\n") && refused.contains("log"), "{refused}");
        assert_eq!(server.join().unwrap(), ["{\"verb\":\"peers\"}\n", "{\"peer\":\"x\",\"verb\":\"lookup\"}\n"]);
    }

    #[test]
    fn a_dropped_node_is_a_dead_node() {
        let dir = tempfile::tempdir().unwrap();
        let mut node = stand_in(dir.path());
        node.must_run().unwrap();
        let pid = node.pid();
        drop(node);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
