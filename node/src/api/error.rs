//! Failures as `std::io::Error`s, the way that sockets tell theirs.

use std::io::{self, ErrorKind};

use crate::driver::{Error, Stopped};
use crate::stack::Failure;

pub(super) fn to_io(error: Error) -> io::Error {
    match error {
        Error::Failed(why) => failed(why),
        Error::Stopped(why) => stopped(why),
    }
}

pub(super) fn failed(why: Failure) -> io::Error {
    let kind = match why {
        Failure::UnknownPeer => ErrorKind::NotFound,
        Failure::Unreachable | Failure::Alone | Failure::Clock => ErrorKind::HostUnreachable,
        Failure::FlightMode => ErrorKind::NetworkDown,
        Failure::Refused | Failure::ServiceDown | Failure::Place => ErrorKind::ConnectionRefused,
        Failure::NameChanged | Failure::Revoked => ErrorKind::PermissionDenied,
        Failure::Myself => ErrorKind::InvalidInput,
        Failure::Timeout | Failure::Silent => ErrorKind::TimedOut,
        Failure::Cut => ErrorKind::ConnectionAborted,
        Failure::Restarted | Failure::Reset | Failure::Moved | Failure::PeerMoved => ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, why)
}

pub(super) fn stopped(why: Stopped) -> io::Error {
    io::Error::new(ErrorKind::NotConnected, why)
}

pub(super) fn invalid(line: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, line)
}
