//! One person's shell.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::service::Service;
use super::street::shows;
use crate::common::{output, stderr, until};

pub struct Home {
    pub folder: tempfile::TempDir,
    /// What was exported.
    exported: BTreeMap<String, String>,
    /// What it runs in the background: nodes, servers, downloads.
    background: Vec<Child>,
    /// The person's node as a service of the system.
    service: Option<Service>,
}

impl Home {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["work", "bin", "tmp"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let exported = [("XDG_STATE_HOME", folder.path().to_owned()), ("TMPDIR", folder.path().join("tmp"))];
        let exported = exported.map(|(name, path)| (name.to_owned(), path.display().to_string())).into();
        let home = Self { folder, exported, background: Vec::new(), service: None };
        home.stay_on_loopback();
        home
    }

    /// The folder in which commands run.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// The machine of the tests is not everybody's.
    fn stay_on_loopback(&self) {
        let data_dir = Path::new(&self.exported["XDG_STATE_HOME"]).join("muses");
        fs::create_dir_all(&data_dir).unwrap();
        fs::write(data_dir.join("config.toml"), "listen = [\"/ip4/127.0.0.1/tcp/0\"]\n").unwrap();
    }

    pub fn shell(&self, command: &str, alice: &Path) -> Command {
        let muses = Path::new(env!("CARGO_BIN_EXE_muses")).parent().unwrap();
        let mut path = vec![self.folder.path().join("bin"), muses.to_owned()];
        path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let mut shell = Command::new("bash");
        shell.args(["-c", command]).current_dir(self.work()).envs(&self.exported);
        shell.env("HOME", self.folder.path()).env("ALICE", alice).env("PATH", env::join_paths(path).unwrap());
        shell
    }

    /// What the command says; one in the background, as soon as it shows what it should.
    pub fn obey(&mut self, command: &str, alice: &Path, shown: &[String]) -> String {
        if command == "wait" {
            self.wait();
            return String::new();
        }
        if let Some(assignment) = command.strip_prefix("export ") {
            return self.export(assignment, alice);
        }
        if let Some(words) = command.strip_prefix("systemctl --user ") {
            return self.tell_service(words, alice);
        }
        let stays = ["muses up", "muses join", "muses reverse"].iter().any(|verb| command.starts_with(verb));
        if stays || command.ends_with(" &") {
            return self.start(command, alice, shown);
        }
        let done = output(&mut self.shell(command, alice));
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{command}: {said}{}", stderr(&done));
        said
    }

    fn export(&mut self, assignment: &str, alice: &Path) -> String {
        let (name, value) = assignment.split_once('=').unwrap();
        let value = output(&mut self.shell(&format!("printf %s {value}"), alice));
        self.exported.insert(name.to_owned(), String::from_utf8(value.stdout).unwrap());
        self.stay_on_loopback();
        String::new()
    }

    fn start(&mut self, command: &str, alice: &Path, shown: &[String]) -> String {
        let log = self.folder.path().join(format!("log-{}", self.background.len()));
        let file = File::create(&log).unwrap();
        let mut shell = self.shell(&format!("exec {}", command.trim_end_matches(" &")), alice);
        let shell = shell.stdin(Stdio::null()).stderr(file.try_clone().unwrap()).stdout(file).process_group(0);
        self.background.push(shell.spawn().unwrap());
        let said = || fs::read_to_string(&log).unwrap_or_default();
        if !shown.is_empty() {
            until(command, || shows(&said(), shown));
        }
        if command.starts_with("muses up") || command.starts_with("muses join") {
            if command.contains("--name ") {
                // From then on others find it.
                until(command, || said().contains("is this node's"));
            } else if !command.contains("--data-dir") {
                self.wait_for_a_place(alice);
            }
        } else if let Some(port) = command.split("http.server ").nth(1).and_then(|rest| rest.split(' ').next()) {
            until(command, || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok());
        }
        said()
    }

    fn wait_for_a_place(&self, alice: &Path) {
        until("a place in the overlay", || {
            let status = output(&mut self.shell("muses status --json", alice));
            let reply: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
            reply["data"]["address"].is_string()
        });
    }

    /// The shell's `wait`: for what ends by itself. That is the youngest; nodes and servers do not.
    fn wait(&mut self) {
        let mut youngest = self.background.pop().unwrap();
        until("the end of what runs in the background", || youngest.try_wait().unwrap().is_some());
        assert!(youngest.wait().unwrap().success());
    }

    fn tell_service(&mut self, words: &str, alice: &Path) -> String {
        match words {
            "enable --now muses" => {
                let service = Service::of_user(&self.folder.path().join("root"));
                service.enable();
                self.service = Some(service.start(|command| self.shell(command, alice)));
                self.wait_for_a_place(alice);
            }
            "stop muses" => self.service.take().unwrap().stop(),
            _ => panic!("who does `systemctl --user {words}`?"),
        }
        String::new()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for process in &mut self.background {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
