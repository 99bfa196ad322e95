//! Where a node keeps its things, and where its configuration is, unless the command line says.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::advice::quoted;
use crate::exit::{Code, Fault};

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
///
/// # Errors
/// [`Code::Usage`] when nobody knows whether there is one: a node without what it says could be open where a closed one is meant.
pub(super) fn config_file(said: Option<&Path>, data_dir: &Path) -> Result<Option<PathBuf>, Fault> {
    let said = said
        .map(Path::to_owned)
        .or_else(|| std::env::var_os(CONFIG_VARIABLE).filter(|said| !said.is_empty()).map(PathBuf::from));
    if said.is_some() {
        return Ok(said);
    }
    for place in places(data_dir) {
        match is_there(&place) {
            Ok(false) => {}
            Ok(true) => return Ok(Some(place)),
            Err(error) => {
                let line = format!(
                    "cannot see whether there is a configuration {}: {error}; mend that, or say which one to use: --config FILE",
                    place.display()
                );
                return Err(Fault::new(Code::Usage, line));
            }
        }
    }
    Ok(None)
}

/// Whether something has this name, if it leads nowhere, too. It has not when its folder, or one above, certainly has no such name in it.
fn is_there(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let nearest = path.ancestors().skip(1).find(|above| above.symlink_metadata().is_ok());
            match nearest.filter(|folder| !folder.exists()) {
                Some(folder) => Err(io::Error::new(
                    ErrorKind::NotADirectory,
                    format!("{} is a link, and no folder is there", folder.display()),
                )),
                None => Ok(false),
            }
        }
        Err(error) => Err(error),
    }
}

/// What a command for the node in `data_dir` needs to find it: nothing where it looks anyway.
pub(super) fn flag(data_dir: &Path) -> String {
    if default_data_dir().as_deref() == Some(data_dir) {
        return String::new();
    }
    format!(" --data-dir {}", quoted(data_dir))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_certainly_missing_is_missing() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(FILE);
        assert_eq!(config_file(None, home.path()), Ok(None));
        assert_eq!(config_file(None, &home.path().join("no/such/folder")), Ok(None));
        symlink("/nonexist/closed.toml", &file).unwrap();
        assert_eq!(config_file(None, home.path()), Ok(Some(file.clone())), "what it says cannot be read, and matters");
        fs::remove_file(&file).unwrap();
        let link = home.path().join("link");
        symlink("/nonexist", &link).unwrap();
        fs::write(&file, "").unwrap();
        for folder in [&link, &file] {
            let fault = config_file(None, folder).unwrap_err();
            assert_eq!(fault.code, Code::Usage as u8);
            assert!(fault.message.contains("cannot see whether") && fault.message.contains("--config"), "{fault}");
        }
    }
}
