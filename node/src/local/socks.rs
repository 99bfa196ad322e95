//! A SOCKS5 proxy for programs that are not made for this: `curl --proxy socks5h://127.0.0.1:7080 http://alice.muses/`.
//!
//! It leads to services of peers and nowhere else. A connection through it survives what any connection here survives.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use zeroize::Zeroizing;

use super::callers::Callers;
use super::listen::{Port, check_mine};
use super::pipe;
use crate::config::SocksGuard;
use crate::driver::{Conn, Error, Handle};
use crate::exit::Fault;
use crate::stack::Failure;
use crate::token;

pub mod name;
pub mod protocol;

use protocol::{Host, NoRequest, Reply};

/// The file of the proxy's password in the data folder; it is kept over restarts.
pub const TOKEN_FILE: &str = "socks.token";
/// How long a program may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take to accept. Longer than a handshake with losses, shorter than programs wait for a proxy.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// What a program has to show.
#[derive(Clone)]
pub enum Guard {
    /// Nothing: whoever can connect is served.
    Open,
    /// That it is one of this node's own user.
    Uid,
    /// The password in the file [`TOKEN_FILE`] of the data folder.
    Token(Arc<Zeroizing<String>>),
}

impl Guard {
    /// As the configuration says, for a proxy at `address`.
    ///
    /// # Errors
    /// An address at which one's own programs cannot be told from others; a token that cannot be read, or that others can.
    pub fn open(wanted: Option<SocksGuard>, address: SocketAddr, data_dir: &Path) -> Result<Self, Fault> {
        Ok(match wanted {
            None => Self::Open,
            Some(SocksGuard::Uid) => {
                check_mine(address)?;
                Self::Uid
            }
            Some(SocksGuard::Token) => Self::Token(Arc::new(token::open(&data_dir.join(TOKEN_FILE), "proxy's token")?)),
        })
    }
}

/// Serves programs at `listener` as long as the port is kept.
pub fn run(handle: Handle, listener: TcpListener, guard: Guard) -> Port {
    Port::open(listener, "socks".to_owned(), move |socket, from| serve(handle.clone(), socket, from, guard.clone()))
}

async fn serve(handle: Handle, mut socket: TcpStream, from: SocketAddr, guard: Guard) {
    let _ = socket.set_nodelay(true);
    let callers = if matches!(guard, Guard::Uid) { Callers::OnlyMe } else { Callers::Anybody };
    if !callers.admit(&socket).await {
        let _ = socket.set_zero_linger();
        return;
    }
    let password = match &guard {
        Guard::Token(token) => Some(token.as_str()),
        Guard::Open | Guard::Uid => None,
    };
    let request = match tokio::time::timeout(REQUEST_TIMEOUT, protocol::read_request(&mut socket, password)).await {
        Ok(Ok(request)) => request,
        Ok(Err(NoRequest::Io(error))) => return tracing::debug!("socks: {error}"),
        Ok(Err(why)) => return tracing::info!("socks: {why}"),
        Err(_) => return tracing::debug!("socks: a program did not say what it wants"),
    };
    let what = format!("socks to {:?}, port {}", request.host, request.port);
    match open(&handle, request, from.port()).await {
        Ok(conn) => {
            if protocol::reply(&mut socket, Reply::Succeeded).await.is_ok() {
                pipe::splice(conn, socket, &what).await;
            }
        }
        Err((reply, why)) => {
            // The program sees a number at best.
            tracing::warn!("{what}: {why}");
            let _ = protocol::reply(&mut socket, reply).await;
        }
    }
}

async fn open(handle: &Handle, request: protocol::Request, port: u16) -> Result<Conn, (Reply, String)> {
    let Host::Name(host) = request.host else {
        let why = "names only; let the proxy resolve them (curl: socks5h://, Firefox: proxy DNS)";
        return Err((Reply::AddressTypeNotSupported, why.to_owned()));
    };
    let (peer, service) = name::target(&host, request.port)
        .map_err(|reply| (reply, format!("not PEER{0} or SERVICE.PEER{0}", name::SUFFIX)))?;
    match tokio::time::timeout(OPEN_TIMEOUT, handle.open(peer, service, port)).await {
        Ok(Ok(conn)) => Ok(conn),
        Ok(Err(Error::Failed(failure))) => Err((reply_to(failure), failure.to_string())),
        Ok(Err(Error::Stopped(stopped))) => Err((Reply::GeneralFailure, stopped.to_string())),
        Err(_) => Err((Reply::TimedOut, Failure::Timeout.to_string())),
    }
}

/// The code of RFC 1928 that is nearest to the failure.
fn reply_to(failure: Failure) -> Reply {
    match failure {
        Failure::UnknownPeer | Failure::Unreachable | Failure::FlightMode | Failure::Alone | Failure::Clock => {
            Reply::HostUnreachable
        }
        Failure::Refused | Failure::Place | Failure::NameChanged | Failure::Revoked | Failure::Myself => {
            Reply::NotAllowed
        }
        Failure::ServiceDown => Reply::ConnectionRefused,
        Failure::Timeout => Reply::TimedOut,
        Failure::Restarted | Failure::Reset | Failure::Cut | Failure::Moved | Failure::PeerMoved | Failure::Silent => {
            Reply::GeneralFailure
        }
    }
}
