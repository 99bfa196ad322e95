//! What packages install: units and configurations that this very program takes.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{PATIENCE, foreground, muses, output, stderr, until};

/// Files for packages.
fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

#[test]
fn a_service_manager_is_told_when_the_node_is_ready_and_when_it_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut datagram = [0; 256];
        let length = manager.recv(&mut datagram).unwrap();
        String::from_utf8_lossy(&datagram[..length]).trim().to_owned()
    };
    let data_dir = folder.path().join("node");
    let mut node = foreground(&data_dir, "up", &[]).env("NOTIFY_SOCKET", folder.path().join("notify")).spawn().unwrap();
    assert_eq!(heard(), "READY=1");
    assert!(muses(&data_dir, "status").status.success(), "what is ready answers");
    assert!(muses(&data_dir, "down").status.success());
    assert_eq!(heard(), "STOPPING=1");
    assert!(node.wait().unwrap().success());
}

#[test]
fn units_are_sound() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: systemd-analyze is not installed");
        return;
    }
    for unit in ["systemd/muses.service", "systemd/user/muses.service"] {
        let text = fs::read_to_string(packaging().join(unit)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("muses.service");
        // The manual page is installed by the package, as the program is.
        let here =
            text.replace("/usr/bin/muses", env!("CARGO_BIN_EXE_muses")).replace("Documentation=man:muses(1)\n", "");
        fs::write(&path, here).unwrap();
        let found = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
        assert!(found.status.success() && found.stderr.is_empty(), "{unit}: {}", stderr(&found));
    }
}

/// docs/how-to/server.md has the figure; other versions of systemd may count a little differently.
#[test]
fn the_system_unit_is_hardened() {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=yes", "--no-pager"]).arg(packaging().join("systemd/muses.service"));
    let Some(found) = analyze.output().ok().filter(|found| found.status.success()) else {
        println!("skipped: no systemd-analyze that judges units offline");
        return;
    };
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    let level = said.split("exposure level for muses.service: ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(level.parse::<f32>().unwrap() <= 2.0, "{level}");
}

#[test]
fn manifests_are_sound() {
    let mut kustomize = Command::new("kubectl");
    let Ok(made) = kustomize.arg("kustomize").arg(packaging().join("kubernetes")).output() else {
        println!("skipped: kubectl is not installed");
        return;
    };
    assert!(made.status.success(), "{}", stderr(&made));
    let made = String::from_utf8_lossy(&made.stdout).into_owned();
    let nodes = ["founder", "relay", "alice", "bob"];
    assert!(nodes.iter().all(|name| made.contains(&format!("  name: {name}\n"))), "{made}");
    // What they run, this very program takes: flags come before the help is asked for.
    let lists = made.split("args:\n").skip(1);
    let lines = lists.map(|rest| rest.lines().map_while(|line| line.trim().strip_prefix("- ")).collect::<Vec<_>>());
    let lines: Vec<String> = lines.map(|words| words.join(" ")).collect();
    assert_eq!(lines.len(), nodes.len(), "{made}");
    for line in lines {
        let said = muses(Path::new("/nowhere"), &format!("{line} --help"));
        assert!(said.status.success(), "{line}: {}", stderr(&said));
    }
}

/// An orchestrator makes a volume's folder, with root as its owner or open to anybody, which a node refuses for its keys: it makes one below.
#[test]
fn containers_keep_their_keys_below_volumes() {
    let image = fs::read_to_string(packaging().join("docker/Dockerfile")).unwrap();
    let line = |start: &str| image.lines().find_map(|line| line.strip_prefix(start)).unwrap().to_owned();
    let (data_dir, volume) = (PathBuf::from(line("ENV MUSES_DATA_DIR=")), PathBuf::from(line("VOLUME ")));
    assert_eq!(data_dir.parent(), Some(volume.as_path()));
    let place = tempfile::tempdir().unwrap();
    let mounted = place.path().join("volume");
    fs::create_dir(&mounted).unwrap();
    fs::set_permissions(&mounted, fs::Permissions::from_mode(0o2777)).unwrap();
    assert_eq!(output(&mut foreground(&mounted, "up", &[])).status.code(), Some(8), "as it is, it is refused");
    let data_dir_there = mounted.join(data_dir.file_name().unwrap());
    let mut node = foreground(&data_dir_there, "up", &[]).spawn().unwrap();
    let mut said = BufReader::new(node.stdout.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    assert!(first.contains("a new identity"), "{first}");
    until("it answers", || muses(&data_dir_there, "down").status.success());
    assert!(node.wait().unwrap().success());
    for file in [
        "docker/compose.yaml",
        "kubernetes/founder.yaml",
        "kubernetes/relay.yaml",
        "kubernetes/alice.yaml",
        "kubernetes/bob.yaml",
    ] {
        let text = fs::read_to_string(packaging().join(file)).unwrap();
        assert!(text.contains(volume.to_str().unwrap()) && !text.contains(data_dir.to_str().unwrap()), "{file}");
    }
}

#[test]
fn configurations_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    let configurations: Vec<PathBuf> = ["docker", "kubernetes"]
        .iter()
        .flat_map(|kind| fs::read_dir(packaging().join(kind)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert!(!configurations.is_empty());
    for path in configurations {
        let checked = muses(folder.path(), &format!("config check {}", path.display()));
        assert!(checked.status.success(), "{}: {}", path.display(), stderr(&checked));
    }
}
