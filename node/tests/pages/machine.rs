//! A server as docs/how-to/server.md has it set up, in a folder: the package is built by its script around the program under test and
//! unpacked, the unit runs, the compose file's containers are processes. Nothing is fetched, and nothing of the machine is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::page::{Step, is_installed};
use super::service::Service;
use super::street::Street;
use crate::common::{help, output, stderr, until};

const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const MUSES: &str = env!("CARGO_BIN_EXE_muses");
/// Most relays of the compose file that are started, however many the page asks for: a test's machine is small.
const MAX_RELAYS: usize = 3;

pub struct Machine {
    street: Street,
    /// What stands for `/`.
    root: tempfile::TempDir,
    /// The unit that runs.
    service: Option<Service>,
}

impl Machine {
    pub fn new() -> Self {
        Self { street: Street::default(), root: tempfile::tempdir().unwrap(), service: None }
    }

    pub fn take(&mut self, step: &Step) {
        let command = step.command.as_str();
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["cargo", "install", ..] => println!("skipped: {command}: it fetches and builds a program"),
            ["packaging/debian/build"] => self.build(),
            ["sudo", "apt", "install", "./target/debian/muses_*.deb"] => self.install(),
            ["sudo", "systemctl", "enable", "--now", "muses"] => self.start(),
            ["sudo", "muses", ..] => self.ask(step),
            ["docker", "build", "-f", file, "-t", "muses", "."] => {
                println!("skipped: {command}: it fetches images");
                assert!(Path::new(TREE).join(file).exists());
            }
            ["docker", "compose", "-f", file, "up", "--scale", scale] => self.compose(file, scale),
            ["curl", ..] if can_serve() => self.street.take(step),
            ["curl", ..] => println!("skipped: {command}"),
            _ => panic!("who types `{command}`?"),
        }
    }

    /// Where the script puts what cargo makes.
    fn target(&self) -> PathBuf {
        self.root.path().join("target")
    }

    /// The script, with the program under test in the place of a release build.
    fn build(&mut self) {
        let cargo = self.street.home("alice").folder.path().join("bin/cargo");
        let real = env!("CARGO");
        let deb = if is_installed("cargo-deb") {
            format!("exec {real} \"$@\"")
        } else {
            "echo skipped: cargo-deb is not installed".to_owned()
        };
        let release = self.target().join("release");
        fs::create_dir_all(&release).unwrap();
        let copy = if is_installed("strip") { "strip -o" } else { "install -T" };
        let (from, to) = if copy == "strip -o" {
            (format!("{}/muses", release.display()), MUSES.to_owned())
        } else {
            (MUSES.to_owned(), format!("{}/muses", release.display()))
        };
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in\n'build --locked --release -p node') {copy} {from} {to};;\n\
             'deb '*) {deb};;\n*) exec {real} \"$@\";;\nesac\n"
        );
        fs::write(&cargo, script).unwrap();
        Command::new("chmod").arg("755").arg(&cargo).status().unwrap();
        let line = format!("cd '{TREE}' && CARGO_TARGET_DIR='{}' packaging/debian/build", self.target().display());
        let built = output(&mut self.street.home("alice").shell(&line, Path::new("/")));
        let said = String::from_utf8_lossy(&built.stdout).into_owned();
        assert!(built.status.success(), "{said}{}", stderr(&built));
        said.lines().filter(|line| line.starts_with("skipped")).for_each(|line| println!("{line}"));
    }

    /// What the package puts onto a machine is put below the root, and is what the page says.
    fn install(&self) {
        let root = self.root.path();
        let packages = fs::read_dir(self.target().join("debian")).map(|found| found.flatten().collect::<Vec<_>>());
        if let Some(package) = packages.unwrap_or_default().first() {
            unpack(&package.path(), root);
        } else {
            copy_assets(&self.target(), root);
        }
        assert!(Command::new(root.join("usr/bin/muses")).arg("--version").output().unwrap().status.success());
        for verb in help::verbs() {
            let page = root.join(format!("usr/share/man/man1/muses-{}.1.gz", verb.replace(' ', "-")));
            assert!(page.exists(), "{}", page.display());
        }
        for path in [
            "bash-completion/completions/muses",
            "zsh/vendor-completions/_muses",
            "fish/vendor_completions.d/muses.fish",
        ] {
            assert!(root.join("usr/share").join(path).exists(), "{path}");
        }
        let config = root.join("etc/muses/config.toml");
        let checked = Command::new(MUSES).args(["config", "check"]).arg(&config).output().unwrap();
        assert!(checked.status.success(), "{}", stderr(&checked));
        let text = fs::read_to_string(&config).unwrap();
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "a key is set:\n{text}");
        // The machine of the tests is not everybody's.
        fs::write(&config, format!("listen = [\"/ip4/127.0.0.1/tcp/0\"]\n{text}")).unwrap();
        for scope in ["system", "user"] {
            assert!(root.join("usr/lib/systemd").join(scope).join("muses.service").exists(), "{scope}");
        }
    }

    fn start(&mut self) {
        let service = Service::of_machine(self.root.path());
        service.enable();
        let alice = self.street.home("alice");
        self.service = Some(service.start(|command| alice.shell(command, Path::new("/"))));
    }

    /// Somebody who is root here already.
    fn ask(&mut self, step: &Step) {
        let command = step.command.trim_start_matches("sudo ");
        let command = command.replace(" /var/", &format!(" {}/var/", self.root.path().display()));
        self.street.take(&Step { command, ..step.clone() });
    }

    /// Each service of the file that is a node, as a process with a home of its own.
    fn compose(&mut self, file: &str, scale: &str) {
        if !can_serve() {
            println!("skipped: {file}, for python3 or curl is not installed");
            return;
        }
        let text = fs::read_to_string(Path::new(TREE).join(file)).unwrap();
        println!("of the relays only {MAX_RELAYS} are started");
        let relays: usize = scale.strip_prefix("relay=").unwrap().parse().unwrap();
        let mut founder = String::new();
        for (service, command) in commands(&text) {
            let instances = if service == "relay" { relays.min(MAX_RELAYS) } else { 1 };
            for instance in 0..instances {
                let who = format!("{service}-{instance}");
                let command = command.replace("/dns4/founder/tcp/4741", &founder).replace("0.0.0.0:", "127.0.0.1:");
                let command = command.replace("/etc/muses/config.toml", &self.config(file, &service));
                self.type_in(&who, &format!("muses {command}"));
            }
            if service == "founder" {
                founder = self.way_to("founder-0");
            }
        }
        assert!(!founder.is_empty(), "no founder comes before the others");
        until("alice is found", || {
            let mut lookup = self.street.home("bob-0").shell("muses lookup alice", Path::new("/"));
            output(&mut lookup).status.success()
        });
    }

    fn type_in(&mut self, who: &str, command: &str) {
        self.street.take(&Step { who: who.to_owned(), command: command.to_owned(), shown: Vec::new() });
    }

    /// The configuration that is mounted for a service of this compose file; its web server is another one, at another port.
    fn config(&mut self, file: &str, service: &str) -> String {
        let path = Path::new(TREE).join(file).with_file_name(format!("{service}.toml"));
        let Ok(text) = fs::read_to_string(path) else { return String::new() };
        self.type_in(service, "python3 -m http.server 8000 --bind 127.0.0.1 &");
        let text = text.replace("127.0.0.1:80\"", &format!("127.0.0.1:{}\"", self.street.ports["8000"]));
        let mounted = self.root.path().join(format!("{service}.toml"));
        fs::write(&mounted, format!("listen = [\"/ip4/127.0.0.1/tcp/0\"]\n{text}")).unwrap();
        mounted.display().to_string()
    }

    /// The address at which others join.
    fn way_to(&mut self, who: &str) -> String {
        let status = output(&mut self.street.home(who).shell("muses status --json", Path::new("/")));
        let reply: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        let listen = reply["data"]["listen"][0].as_str().unwrap();
        listen.split("/p2p/").next().unwrap().to_owned()
    }
}

fn can_serve() -> bool {
    is_installed("python3") && is_installed("curl")
}

/// Services and what they run, in order: `command: [up, --name, founder]` below `  founder:`.
fn commands(compose: &str) -> Vec<(String, String)> {
    let (mut service, mut found) = ("", Vec::new());
    for line in compose.lines() {
        if let Some(name) =
            line.strip_prefix("  ").and_then(|line| line.strip_suffix(':')).filter(|name| !name.contains(' '))
        {
            service = name;
        } else if let Some(list) = line.trim().strip_prefix("command: [").and_then(|line| line.strip_suffix(']')) {
            let words: Vec<&str> = list.split(", ").map(|word| word.trim_matches('"')).collect();
            found.push((service.to_owned(), words.join(" ")));
        }
    }
    found
}

/// What the package has, without what it would run.
fn unpack(package: &Path, root: &Path) {
    let unpacked = Command::new("dpkg-deb").arg("--extract").arg(package).arg(root).output().unwrap();
    assert!(unpacked.status.success(), "{}", stderr(&unpacked));
    if is_installed("apt-get") {
        let tried = Command::new("apt-get").args(["install", "--simulate", "--quiet"]).arg(package).output().unwrap();
        assert!(tried.status.success(), "{}", stderr(&tried));
    }
}

/// The same from the list that cargo-deb goes by, where that is not installed.
fn copy_assets(target: &Path, root: &Path) {
    let node = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Value = toml::from_str(&fs::read_to_string(node.join("Cargo.toml")).unwrap()).unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let mut assets: Vec<(PathBuf, String)> = Vec::new();
    for asset in deb["assets"].as_array().unwrap() {
        let (from, to) = (asset[0].as_str().unwrap(), asset[1].as_str().unwrap());
        let from = from.strip_prefix("target/").map_or_else(|| node.join(from), |made| target.join(made));
        assets.push((from, to.to_owned()));
    }
    let units = deb["systemd-units"]["unit-scripts"].as_str().unwrap();
    assets.push((node.join(units).join("muses.service"), "usr/lib/systemd/system/".to_owned()));
    for (from, to) in assets {
        let all = from.ends_with("*");
        let files = if all { files_in(from.parent().unwrap()) } else { vec![from] };
        assert!(!files.is_empty());
        for file in files {
            let mut to = root.join(&to);
            if to.display().to_string().ends_with('/') {
                to.push(file.file_name().unwrap());
            }
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&file, &to).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect()
}
