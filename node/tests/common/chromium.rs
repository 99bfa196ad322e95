//! What tests in a browser need.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;

const CHROMIUMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The name of Chromium's program. None, with a printed reason, where there is none or no Node.js to drive it.
pub fn chromium() -> Option<&'static str> {
    let found = |program: &&str| Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    let Some(chromium) = CHROMIUMS.into_iter().find(found) else {
        println!("skipped: no Chromium (apt-get install chromium)");
        return None;
    };
    if !found(&"node") {
        println!("skipped: no Node.js (apt-get install nodejs)");
        return None;
    }
    Some(chromium)
}

/// The file of axe-core (MPL-2.0), which tests use when somebody says where it is.
pub fn axe() -> Option<String> {
    let axe = std::env::var("MUSES_AXE").ok();
    let how = if axe.is_some() { "axe-core and own checks" } else { "own checks; no axe-core at MUSES_AXE" };
    println!("accessibility: {how}");
    axe
}

/// A script that Node.js runs.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(name)
}
