//! Where a node keeps its things, and where its configuration is, unless the command line says.

use std::path::{Path, PathBuf};

/// The configuration of the machine's own node.
const MACHINE_CONFIG: &str = "/etc/muses/config.toml";
const FILE: &str = "config.toml";
/// Names the configuration where no flag does.
pub(super) const CONFIG_VARIABLE: &str = "MUSES_CONFIG";

/// The configuration in a node's own folder.
pub(super) fn own_config(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// `muses` in the folder of this variable, or else in that folder of the home directory.
fn xdg(variable: &str, in_home: &str) -> Option<PathBuf> {
    // XDG Base Directory Specification: a relative path there is to be ignored.
    let told = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home =
        || std::env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(in_home));
    told.or_else(home).map(|folder| folder.join("muses"))
}

/// The folder of this user's node.
pub(super) fn default_data_dir() -> Option<PathBuf> {
    xdg("XDG_STATE_HOME", ".local/state")
}

/// Where the configuration of the node in `data_dir` may be, the best place first. A node with a folder of its own has its own; what is
/// good for the user's node need not be for another one beside it.
fn places(data_dir: &Path) -> Vec<PathBuf> {
    let mut places = vec![own_config(data_dir)];
    if default_data_dir().as_deref() == Some(data_dir) {
        places.extend(xdg("XDG_CONFIG_HOME", ".config").map(|folder| folder.join(FILE)));
        if rustix::process::geteuid().is_root() {
            places.push(MACHINE_CONFIG.into());
        }
    }
    places
}

/// The configuration file: the one that was said, by a flag or in the environment, or the first that there is.
pub(super) fn config_file(said: Option<&Path>, data_dir: &Path) -> Option<PathBuf> {
    let said = said.map(Path::to_owned).or_else(|| std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
    said.or_else(|| places(data_dir).into_iter().find(|place| place.exists()))
}
