//! How a verb ends: one line for a person, one number for a script.

use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::identity::KeyError;
use crate::stack::Failure;
use crate::store::StoreError;

/// The exit codes of `muses`, also the `code` of an error reply on the control socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// Anything without a code of its own, such as a connection that was reset.
    Failed = 1,
    /// The command line, the configuration or a request was wrong.
    Usage = 2,
    /// No such peer, no way to it, or it does not answer; or its clock and ours are days apart, which sessions mind and an echo does not.
    Unreachable = 3,
    /// The peer does not offer the service to us, or nothing answers behind it; an invite has expired, the overlay is closed, or an identity was revoked.
    Refused = 4,
    /// A node that is asked, this one or another, has not ended what it was to do in time.
    Timeout = 5,
    /// No node runs on this data folder.
    NotRunning = 6,
    /// Another node, or another `muses receive`, runs on this data folder.
    AlreadyRunning = 7,
    /// Keys or stored state cannot be used, are another user's, or belong to another overlay.
    State = 8,
    /// An address to listen at is in use or not ours.
    PortInUse = 9,
}

/// What `muses --help` says about [`Code`].
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  done
  1  failed otherwise, for instance a connection that was reset
  2  wrong command line, configuration or request
  3  unreachable: no such peer, no way to it, it does not answer, or (where a session is needed, not for ping) clocks that are days apart
  4  refused: the peer does not offer the service to you, nothing answers behind it, an invite has expired, or an overlay is closed
  5  what was begun did not end in time
  6  no node runs on this --data-dir
  7  another node, or another `muses receive`, runs on this --data-dir already
  8  keys or stored state cannot be used, are another user's, or belong to another overlay than the one to join
  9  a port or address to listen at is in use or cannot be used";

/// Why a verb did not work: what, why and what to try, in one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// For scripts.
    pub code: u8,
    /// For people.
    pub message: String,
}

impl Fault {
    /// A fault with this line.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code as u8, message: message.into() }
    }

    /// The same, with `what` was tried before the line.
    pub fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        let code = match failure {
            Failure::UnknownPeer | Failure::Unreachable | Failure::FlightMode | Failure::Alone | Failure::Clock => {
                Code::Unreachable
            }
            Failure::Refused | Failure::ServiceDown | Failure::Place | Failure::NameChanged | Failure::Revoked => {
                Code::Refused
            }
            Failure::Timeout | Failure::Silent => Code::Timeout,
            Failure::Myself => Code::Usage,
            _ => Code::Failed,
        };
        Self::new(code, failure.to_string())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::new(Code::State, error.to_string())
    }
}

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Self {
        Self::new(Code::State, error.to_string())
    }
}

impl From<ConfigError> for Fault {
    fn from(error: ConfigError) -> Self {
        Self::new(Code::Usage, error.to_string())
    }
}
