//! A unit of packaging/ as a service manager treats it. The machine's own one is left alone: units are enabled by systemctl in a folder,
//! and started from here, by the command that they name.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::page::is_installed;
use crate::common::{PATIENCE, until};

const PACKAGED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/systemd");

pub struct Service {
    /// What stands for `/`.
    root: PathBuf,
    /// `system` or `user`.
    scope: &'static str,
    /// Who wants it, once it is enabled.
    target: &'static str,
    process: Option<Child>,
    /// Where the node tells how it is, as long as it runs.
    manager: Option<UnixDatagram>,
}

impl Service {
    /// The unit of one user's node, put where the package puts it.
    pub fn of_user(root: &Path) -> Self {
        let folder = root.join("usr/lib/systemd/user");
        fs::create_dir_all(&folder).unwrap();
        fs::copy(format!("{PACKAGED}/user/muses.service"), folder.join("muses.service")).unwrap();
        Self { root: root.to_owned(), scope: "user", target: "default.target", process: None, manager: None }
    }

    /// The unit of the machine's node, as it was installed there.
    pub fn of_machine(root: &Path) -> Self {
        Self { root: root.to_owned(), scope: "system", target: "multi-user.target", process: None, manager: None }
    }

    fn is_wanted(&self) -> bool {
        let wants = format!("etc/systemd/{}/{}.wants/muses.service", self.scope, self.target);
        fs::symlink_metadata(self.root.join(wants)).is_ok()
    }

    /// `systemctl enable`.
    pub fn enable(&self) {
        if !is_installed("systemctl") {
            println!("skipped: systemctl enable, for it is not installed");
            return;
        }
        assert!(!self.is_wanted(), "it is enabled by itself");
        let mut systemctl = Command::new("systemctl");
        systemctl.arg("--quiet").arg("--root").arg(&self.root);
        if self.scope == "user" {
            systemctl.arg("--global");
        }
        assert!(systemctl.args(["enable", "muses"]).status().unwrap().success());
        assert!(self.is_wanted(), "nobody wants it at the start");
    }

    /// `systemctl start`: back when it says that it is ready. Of the machine only its folders are there.
    pub fn start(mut self, shell: impl Fn(&str) -> Command) -> Self {
        let unit = self.root.join("usr/lib/systemd").join(self.scope).join("muses.service");
        let unit = fs::read_to_string(unit).unwrap();
        assert!(unit.lines().any(|line| line == "Type=notify"));
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/")).unwrap();
        let state = self.root.join("var/lib/muses");
        fs::create_dir_all(&state).unwrap();
        let line = line.replace("${STATE_DIRECTORY}", &state.display().to_string());
        let line = line.replace(" /etc/", &format!(" {}/etc/", self.root.display()));
        let socket = self.root.join("notify");
        let _ = fs::remove_file(&socket);
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut node = shell(&format!("exec {line}"));
        self.process =
            Some(node.env("NOTIFY_SOCKET", &socket).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        let mut datagram = [0; 256];
        let length = manager.recv(&mut datagram).unwrap();
        assert_eq!(String::from_utf8_lossy(&datagram[..length]).trim(), "READY=1");
        self.manager = Some(manager);
        self
    }

    /// `systemctl stop`.
    pub fn stop(mut self) {
        let process = self.process.as_mut().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(process), rustix::process::Signal::TERM)
            .unwrap();
        until("the service ends", || process.try_wait().unwrap().is_some());
        assert!(process.wait().unwrap().success());
        self.process = None;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
