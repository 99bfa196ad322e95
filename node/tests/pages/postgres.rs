//! PostgreSQL as it is: a server of the test's own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::page::is_installed;
use crate::common::{output, stderr, until};

/// As whom it runs when this test is root, which PostgreSQL refuses to be.
const NOBODY: u32 = 65_534;

pub struct Postgres {
    pub port: u16,
    server: Child,
    _folder: tempfile::TempDir,
}

impl Postgres {
    /// With this user and an empty database of his; None, with a printed reason, where it is not installed.
    pub fn start(user: &str, database: &str) -> Option<Self> {
        let Some(programs) = programs().filter(|_| is_installed("psql") && is_installed("setpriv")) else {
            println!("skipped: PostgreSQL or setpriv is not installed (apt-get install postgresql)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        if rustix::process::geteuid().is_root() {
            for path in [folder.path(), &data] {
                chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut initdb = unprivileged(&programs.join("initdb"));
        initdb.current_dir(&data).args(["--username", user, "--auth", "trust", "--no-sync", "--pgdata"]).arg(&data);
        let made = output(&mut initdb);
        assert!(made.status.success(), "{}", stderr(&made));
        let mut server = unprivileged(&programs.join("postgres"));
        server.current_dir(&data).arg("-D").arg(&data).arg("-k").arg(folder.path()).args(["-h", "127.0.0.1", "-F"]);
        server.args(["-p", &port.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self { port, server: server.spawn().unwrap(), _folder: folder };
        let create = format!("create database {database}");
        until("the database is there", || {
            let mut psql = Command::new("psql");
            psql.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", user, "-c", &create, "postgres"]);
            output(&mut psql).status.success()
        });
        Some(server)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A fast shutdown, so that its workers end, too.
        let id = rustix::process::Pid::from_child(&self.server);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::INT);
        let _ = self.server.wait();
    }
}

/// Where Debian has the server's programs, of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|version| version.path().join("bin"));
    versions.filter(|folder| folder.join("initdb").exists()).max()
}

fn unprivileged(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"]).arg(program);
    command
}
