//! Secrets of this machine's user in files of the data folder: what a program has to show that is to be let in.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::exit::{Code, Fault};
use crate::identity;

/// Random bytes of a token; it is written as twice as many hexadecimal digits.
pub const TOKEN_BYTES: usize = 32;
const TOKEN_CHARS: usize = 2 * TOKEN_BYTES;

/// The token in the file at `path`, which is made when it is missing; `whose` is for the error's line.
///
/// # Errors
/// A file that cannot be read or written, that others may read, or that holds no token.
pub fn open(path: &Path, whose: &str) -> Result<Zeroizing<String>, Fault> {
    let failed = |error: io::Error| {
        Fault::new(Code::State, format!("the {whose} {}: {error}; check its owner and mode", path.display()))
    };
    match File::open(path) {
        Ok(file) => read(path, whose, file).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

/// Takes the same time wherever the two differ.
pub fn same(ours: &[u8], theirs: &[u8]) -> bool {
    ours.ct_eq(theirs).into()
}

/// The bytes as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8; TOKEN_BYTES]) -> Zeroizing<String> {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    // With room for all of it, so that no unwiped part stays behind.
    let mut text = Zeroizing::new(String::with_capacity(TOKEN_CHARS));
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    text
}

fn read(path: &Path, whose: &str, file: File) -> io::Result<Result<Zeroizing<String>, Fault>> {
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let line = format!("the {whose} {0} is open to other users (mode {mode:o}); remove it", path.display());
        return Ok(Err(Fault::new(Code::State, line)));
    }
    let mut token = Zeroizing::new(String::with_capacity(TOKEN_CHARS + 1));
    let read = file.take(TOKEN_CHARS as u64 + 1).read_to_string(&mut token);
    if read.is_err() || token.len() != TOKEN_CHARS || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let line = format!("{} is no token; remove it, and the next start makes a new one", path.display());
        return Ok(Err(Fault::new(Code::State, line)));
    }
    Ok(Ok(token))
}

fn make(path: &Path) -> io::Result<Zeroizing<String>> {
    let token = hexadecimal(&*identity::random()?);
    identity::write(path, token.as_bytes())?;
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let (first, again) = (open(&path, "token").unwrap(), open(&path, "token").unwrap());
        assert_eq!((first.as_str(), first.len()), (again.as_str(), 64));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(*open(&folder.path().join("other"), "token").unwrap(), *first);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(open(&path, "token").err().unwrap().message.contains("other users"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for spoilt in [&b""[..], b"abc", &[b'x'; 64], &[b'a'; 65], &[0xff; 64]] {
            fs::write(&path, spoilt).unwrap();
            assert!(open(&path, "token").err().unwrap().message.contains("no token"));
        }
    }
}
