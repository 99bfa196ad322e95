//! What goes to stdout: all of it, or the command has failed.

use std::io::{self, Write as _};

use crate::advice;
use crate::exit::{Code, Fault};

/// A reader that has gone (`muses status | head -1`) is no fault; a disk that is full is one.
pub(super) fn print(text: impl AsRef<[u8]>) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let try_this = advice::after(&error, "send it somewhere else");
            Err(Fault::new(Code::Failed, format!("cannot write to stdout: {error}; {try_this}")))
        }
        _ => Ok(()),
    }
}
