//! What to try when the system refuses something: the same cause has the same cure, whatever was tried.

use std::io::{Error, ErrorKind};
use std::path::Path;

/// Whether there is no room for what is to be written: nothing that was typed is wrong then.
pub(crate) fn is_full(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// What helps against `error`; `otherwise` where its cause says nothing about that.
pub(crate) fn after<'a>(error: &Error, otherwise: &'a str) -> &'a str {
    match error.kind() {
        _ if is_full(error) => "make room on that disk, then try again",
        ErrorKind::ReadOnlyFilesystem => "that file system is read-only; choose a place on another one",
        _ => otherwise,
    }
}

/// `path` as one word of a command line, to be pasted into a shell.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_into_a_shell_is_one_word() {
        for (path, word) in
            [("/tmp/a-b.c", "/tmp/a-b.c"), ("my dir", "'my dir'"), ("it's", r"'it'\''s'"), ("$HOME", "'$HOME'")]
        {
            assert_eq!(quoted(Path::new(path)), word);
        }
    }

    #[test]
    fn a_full_disk_needs_room_and_what_is_unknown_what_the_caller_says() {
        assert!(after(&ErrorKind::StorageFull.into(), "x").contains("make room"));
        assert_eq!(after(&ErrorKind::NotFound.into(), "x"), "x");
    }
}
